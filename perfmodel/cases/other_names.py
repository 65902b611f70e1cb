"""Tell the columns of a table that mean an input and are not read, because they bear another name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from perfmodel.cases.table import columns
from perfmodel.cases.write import OUTPUT

#: Column -> names under which flags, scenarios and launch commands have the same setting.
_ELSEWHERE = {
    "device": ("gpu", "gpu_type", "accelerator"),
    "n_devices": ("devices", "gpus", "num_gpus", "n_gpus"),
    "weight_dtype": ("weights", "weight", "quantization", "dtype"),
    "act_dtype": ("activations", "act"),
    "kv_dtype": ("kv", "kv_cache_dtype"),
    "request_rate_rps": ("request_rate", "rate", "rps", "qps"),
    "concurrency": ("max_concurrency", "clients"),
    "batch": ("batch_size",),
    "n_requests": ("num_prompts", "num_requests"),
    "isl": ("input_tokens", "input_len", "input_length", "prompt_tokens"),
    "osl": ("output_tokens", "output_len", "output_length", "completion_tokens"),
    "prefix_hit": ("prefix_hit_rate", "cache_hit"),
    "spec_decode": ("speculation",),
    "tp": ("tensor_parallel", "tensor_parallel_size", "tp_size"),
    "pp": ("pipeline_parallel", "pipeline_parallel_size", "pp_size"),
    "ep": ("expert_parallel", "expert_parallel_size", "ep_size"),
    "dp_attention": ("dp", "dp_size", "data_parallel_size"),
    "cp": ("context_parallel",),
}
#: Likeness of two names from which one is a slip of the other. Chosen: one letter of seven.
_ALIKE = 0.86


def unread_columns(names: Iterable[str]) -> dict[str, str]:
    """Return column of a table -> the input column that it seems to mean, where the table has not got that one.

    >>> unread_columns(["model", "device", "weights", "concurency", "note", "ttft_ms"])
    {'weights': 'weight_dtype', 'concurency': 'concurrency'}
    """
    own = {str(name).strip() for name in names}
    known = [name for name, _, _ in columns()]
    meant = {other: name for name, others in _ELSEWHERE.items() for other in others}
    found = {}
    for name in (str(name).strip() for name in names):
        if name in known or name in OUTPUT:
            continue
        near = get_close_matches(name.lower(), known, 1, _ALIKE)
        column = meant.get(name.lower()) or (near[0] if near else "")
        if column and column not in own:
            found[name] = column
    return found
