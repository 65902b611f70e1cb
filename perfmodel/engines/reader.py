"""Reading an engine file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from hwdb.tomlfile import Table, read_toml
from perfmodel.engines.overlap import ways
from perfmodel.engines.versions import numbers_in
from perfmodel.vocabulary import FORMER_NAMES

if TYPE_CHECKING:
    pass
from perfmodel.engines.spec import GIB, KINDS, Engine, Fact, Tier

#: Settings of a file: field of Engine -> (key in the file, factor to SI).
_NUMBERS = {
    "max_num_batched_tokens": ("max_num_batched_tokens", 1.0),
    "max_num_seqs": ("max_num_seqs", 1.0),
    "kv_block": ("kv_block_tokens", 1.0),
    "gpu_memory_utilization": ("gpu_memory_utilization", 1.0),
    "reserve_bytes": ("reserve_gib", GIB),
    "step_host_time": ("step_host_us", 1e-6),
    "step_host_per_seq": ("step_host_per_seq_us", 1e-6),
    "step_host_parallel": ("step_host_parallel_us", 1e-6),
    "request_time": ("request_ms", 1e-3),
    "micro_batch": ("micro_batch", 1.0),
    "graph_seqs": ("graph_seqs", 1.0),
    "max_num_batched_tokens_floor": ("max_num_batched_tokens_floor", 1.0),
    "launch_time": ("launch_us", 1e-6),
    "synchronised": ("synchronised", 1.0),
    "overlap_share": ("overlap_share", 1.0),
}


_OPTIONAL = {
    "launch_time",
    "synchronised",
    "micro_batch",
    "graph_seqs",
    "max_num_batched_tokens_floor",
    "step_host_parallel",
    "budget_is_model_length",
    "narrow_cache",
    "overlap",
    "overlap_share",
    "rank_balance",
}


_FLAGS = (
    "chunked_prefill",
    "prefill_first",
    "graph_capture",
    "overlap_scheduling",
    "prefix_cache",
    "budget_is_model_length",
    "rank_balance",
    "narrow_cache",
)


_CHOICES = {
    "preemption": ("recompute", "swap", "none"),
    "batching": ("continuous", "static"),
    "admission": ("grow", "reserve", "contiguous"),
    "memory_rule": ("total", "static", "free"),
    "overlap": ways(),
}


def _fact(table: Table, key: str) -> tuple[Table, Fact]:
    entry = table.table(key)
    value = entry.get("value")
    kind, source = entry.text("kind", choices=KINDS), entry.text("source")
    return entry, Fact(value, kind, source, entry.text("note", ""))


def _tier(table: Table) -> Tier:
    numbers = (
        "max_num_batched_tokens",
        "max_num_batched_tokens_offline",
        "max_num_seqs",
        "max_num_seqs_offline",
        "gpu_memory_utilization",
        "graph_seqs",
    )
    values = [(k, table.number(k, above=0)) for k in numbers if k in table]
    if table.flag("per_device", False):
        values.append(("per_device", 1.0))
    tier = Tier(
        at_least=table.number("at_least_gib", 0.0, least=0) * GIB,
        below=table.number("below_gib", math.inf, above=0) * GIB,
        kinds=table.texts("kinds", ()),
        named=table.texts("named", ()),
        not_named=table.texts("not_named", ()),
        values=tuple(values),
    )
    table.text("source")
    table.done(also=numbers)
    return tier


def load_engine(path: str | Path) -> Engine:
    """The engine that the TOML file at `path` describes; `InputError` names file, line and key of what is wrong."""
    table = read_toml(path, "engine file", FORMER_NAMES)
    facts: dict[str, Fact] = {}
    settings: dict[str, object] = {}
    for name, (key, factor) in _NUMBERS.items():
        if name in _OPTIONAL and key not in table:
            continue
        entry, facts[name] = _fact(table, key)
        value = entry.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise table.error(key, f"value {value!r} is not a number of 0 or more; write nan for unknown")
        settings[name] = float(value) * factor
        entry.done()
    for name in (*_FLAGS, *_CHOICES):
        if name in _OPTIONAL and name not in table:
            continue
        entry, facts[name] = _fact(table, name)
        settings[name] = entry.text("value", choices=_CHOICES[name]) if name in _CHOICES else entry.flag("value")
        entry.done()
    return _assemble(table, settings, facts)


def _assemble(table: Table, settings: dict[str, object], facts: dict[str, Fact]) -> Engine:
    name = table.text("name")
    since = table.text("since", "")
    made = Engine(
        name=name,
        family=table.text("family", name),
        title=table.text("title"),
        era=table.text("era"),
        since=numbers_in(since),
        tiers=tuple(_tier(t) for t in table.tables("tier", ())),
        facts=facts,
        **settings,  # type: ignore[arg-type]
    )
    table.done(also=[*_OPTIONAL, *[k for k, _ in _NUMBERS.values()]])
    for key, share in (("gpu_memory_utilization", made.gpu_memory_utilization), ("overlap_share", made.overlap_share)):
        if not (math.isnan(share) or 0 < share <= 1 or (key == "overlap_share" and share == 0)):
            raise table.error(key, f"value {share:g} is not a share; give it between 0 and 1")
    return made
