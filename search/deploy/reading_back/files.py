"""Read the configuration file of an engine that has one: what it sets, and keys that the engine does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.deploy.engine_settings.parsers import Release
from search.deploy.engine_settings.templates import Template
from search.deploy.launch_commands.arguments import take
from search.deploy.reading_back.reading import Understood, near

#: Stands for a key that a file does not have; null is a value.
_ABSENT = object()
#: Keys of TensorRT-LLM's file that are flags too -> setting.
_SAME = {
    "tensor_parallel_size": "total_tp",
    "pipeline_parallel_size": "pp",
    "context_parallel_size": "cp",
    "moe_expert_parallel_size": "ep",
    "max_batch_size": "max_num_seqs",
    "max_num_tokens": "max_num_batched_tokens",
    "max_seq_len": "max_model_len",
    "enable_chunked_prefill": "chunked_prefill",
}


def read_keys(found: Understood, how: Template, held: Mapping[str, Any], release: Release | None) -> None:
    """Add what the content of a configuration file says to `found`."""
    for setting, key in how.keys.items():
        value = taken(held, key, _ABSENT)
        if value is _ABSENT:
            continue
        found.values[setting] = value is not None if setting == "graph_capture" else value
    if how.engine == "trtllm":
        _read_trtllm(found, how, held, release)
    for key, why in how.uncounted.items():
        if not key.startswith("-") and taken(held, key) not in (None, False, 0):
            found.uncounted.append(f"{key} ({why})")


def taken(held: Mapping[str, Any], key: str, otherwise: Any = None) -> Any:
    """Return the value under a dotted key; `otherwise` where there is none."""
    try:
        return take(held, key)
    except (KeyError, ValueError, TypeError):
        return otherwise


def _read_trtllm(found: Understood, how: Template, held: Mapping[str, Any], release: Release | None) -> None:
    """Add the keys of TensorRT-LLM's file that are flags too, and name those that are not known."""
    cache = taken(held, how.keys["kv"])
    formats = {theirs: ours for ours, theirs in how.formats.items()}
    if isinstance(cache, str) and cache != "auto":
        found.values["kv"] = formats.get(cache, cache)
    elif cache is not None:
        found.values.pop("kv", None)
    for key, setting in _SAME.items():
        if key not in held:
            continue
        if found.values.get(setting, held[key]) != held[key]:
            text = f"the flag says {found.values[setting]}, {key} of the file {held[key]}, which counts"
            found.conflicts.append(f"{setting}: {text}")
        found.values[setting] = held[key]
    caches = held.get("kv_cache_config")
    if isinstance(caches, Mapping) and "free_gpu_memory_fraction" in caches:
        found.values["gpu_memory_utilization"] = caches["free_gpu_memory_fraction"]
    known = release.sections.get("config", frozenset()) if release else frozenset()
    found.unknown += _unknown_keys(held, known) if known else []


def _unknown_keys(held: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    """Return sentences for keys that the engine's configuration does not have, in nested parts too.

    known: dotted names of the fields; a name with others below it is closed, one without is anything.
    """
    told = []
    for key, value in held.items():
        if key not in known:
            told.append(f"{key!r} is no known key of the file of --config{near(str(key), known)}")
            continue
        below = frozenset(name.removeprefix(f"{key}.") for name in known if name.startswith(f"{key}."))
        told += _unknown_keys(value, below) if below and isinstance(value, Mapping) else []
    return told
