"""Lists the settings of an engine file: key, type, unit, and whether the key may be left out or inherited."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hwdb.tomlfile import Table
from perfmodel.engines.overlap import ways
from perfmodel.engines.spec import GIB, KERNEL_SOURCES
from perfmodel.unit_factors import GB
from perfmodel.vocabulary import FAMILIES

#: Reads the value of one setting: (the file's table, key, the setting's own inline table) -> value in SI units.
Reader = Callable[[Table, str, Table], object]

_YEAR_MONTH = re.compile(r"(\d{4})-(\d{2})")
MICROSECOND, MILLISECOND = 1e-6, 1e-3


@dataclass(frozen=True)
class Setting:
    """Describes one setting of engine files, written there as `key = { value, kind, source, note }`.

    field: attribute of `Engine` that it sets. key: its name in the file. read: reads its value, in SI units. optional:
    the key may be left out, the field then keeps the default of `Engine`. inherited: a file without the key takes it
    from the shipped file of the same name or family, else from `defaults.toml`.
    """

    field: str
    key: str
    read: Reader
    optional: bool = False
    inherited: bool = False


def _number(factor: float = 1.0) -> Reader:
    """Return a reader of a number of 0 or more (nan: unknown), multiplied by `factor` to give SI units."""

    def read(table: Table, key: str, entry: Table) -> float:
        value = entry.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise table.error(key, f"value {value!r} is not a number of 0 or more; write nan for unknown")
        return float(value) * factor

    return read


def _flag(_: Table, __: str, entry: Table) -> bool:
    """Read a setting that is true or false."""
    return entry.flag("value")


def _choice(choices: tuple[str, ...]) -> Reader:
    """Return a reader of a text that has to be one of `choices`."""

    def read(_: Table, __: str, entry: Table) -> str:
        return entry.text("value", choices=choices)

    return read


def _overlap(_: Table, __: str, entry: Table) -> str:
    """Read the name of a way of overlapping communication with computation."""
    return entry.text("value", choices=ways())  # read here: importing this module opens no file


def _text(_: Table, __: str, entry: Table) -> str:
    """Read a setting that is any text."""
    return entry.text("value")


def _names(_: Table, __: str, entry: Table) -> tuple[str, ...]:
    """Read a list of names."""
    return entry.texts("value")


def _families(table: Table, key: str, entry: Table) -> tuple[str, ...]:
    """Read a list of operator families; `InputError` for a name that is none."""
    names = entry.texts("value")
    for name in names:
        _check_family(table, key, name)
    return names


def _check_family(table: Table, key: str, name: str) -> None:
    """Raise `InputError`, naming `key` of `table`, where `name` is no operator family."""
    if name not in FAMILIES:
        raise table.error(key, f"{name!r} is no operator family; known are {', '.join(FAMILIES)}")


def _by_family(table: Table, key: str, entry: Table) -> tuple[tuple[str, float], ...]:
    """Read one number of 0 or more per operator family, as (family, number) pairs."""
    numbers = _by_name()(table, key, entry)
    for name, _ in numbers:
        _check_family(table, key, name)
    return numbers


def _by_name(factor: float = 1.0) -> Callable[[Table, str, Table], tuple[tuple[str, float], ...]]:
    """Return a reader of one number of 0 or more per name (vendor, operator family), multiplied by `factor`."""

    def read(_: Table, __: str, entry: Table) -> tuple[tuple[str, float], ...]:
        inner = entry.table("value")
        return tuple((name, inner.number(name, least=0) * factor) for name in inner.keys())  # noqa: SIM118 - no mapping

    return read


def _month(table: Table, key: str, entry: Table) -> tuple[int, int]:
    """Read a month, written like '2025-03', as (year, month)."""
    found = _YEAR_MONTH.fullmatch(entry.text("value"))
    if not found:
        raise table.error(key, f"{entry.values['value']!r} is not a month; write it like '2025-03'")
    return int(found.group(1)), int(found.group(2))


SETTINGS = (
    Setting("max_num_batched_tokens", "max_num_batched_tokens", _number()),
    Setting("max_num_seqs", "max_num_seqs", _number()),
    Setting("kv_block", "kv_block_tokens", _number()),
    Setting("gpu_memory_utilization", "gpu_memory_utilization", _number()),
    Setting("reserve_bytes", "reserve_gib", _number(GIB)),
    Setting("reserve_parallel", "reserve_parallel_gib", _number(GIB), optional=True, inherited=True),
    Setting("step_host_time", "step_host_us", _number(MICROSECOND)),
    Setting("step_host_per_seq", "step_host_per_seq_us", _number(MICROSECOND)),
    Setting("front_end_token", "front_end_us_per_token", _number(MICROSECOND), optional=True),
    Setting("streaming_token", "streaming_us_per_token", _number(MICROSECOND), optional=True),
    Setting("step_host_per_prompt", "step_host_per_prompt_us", _number(MICROSECOND), optional=True),
    Setting("hands_on_late", "hands_on_late", _flag, optional=True),
    Setting("step_host_parallel", "step_host_parallel_us", _number(MICROSECOND), optional=True),
    Setting("request_time", "request_ms", _number(MILLISECOND)),
    Setting("request_parallel", "request_parallel_ms", _number(MILLISECOND), optional=True),
    Setting("tokenize_time", "tokenize_us_per_token", _number(MICROSECOND), optional=True),
    Setting("micro_batch", "micro_batch", _number(), optional=True),
    Setting("graph_seqs", "graph_seqs", _number(), optional=True),
    Setting("graph_counts_tokens", "graph_counts_tokens", _flag, optional=True, inherited=True),
    Setting("max_num_batched_tokens_floor", "max_num_batched_tokens_floor", _number(), optional=True),
    Setting("launch_time", "launch_us", _number(MICROSECOND), optional=True),
    Setting("eager_launch_time", "eager_launch_us", _number(MICROSECOND), optional=True),
    Setting("synchronised", "synchronised", _number(), optional=True),
    Setting("overlap_share", "overlap_share", _number(), optional=True),
    Setting("chunked_prefill", "chunked_prefill", _flag),
    Setting("prefill_first", "prefill_first", _flag),
    Setting("graph_capture", "graph_capture", _flag),
    Setting("whole_step_graphs", "whole_step_graphs", _flag, optional=True),
    Setting("overlap_scheduling", "overlap_scheduling", _flag),
    Setting("overlap_always", "overlap_always", _flag, optional=True),
    Setting("library_all_to_all", "library_all_to_all", _flag, optional=True),
    Setting("prefix_cache", "prefix_cache", _flag),
    Setting("budget_is_model_length", "budget_is_model_length", _flag, optional=True),
    Setting("rank_balance", "rank_balance", _flag, optional=True),
    Setting("rank_balance_steps", "rank_balance_steps", _number(), optional=True),
    Setting("narrow_cache", "narrow_cache", _flag, optional=True),
    Setting("sampler_warmup", "sampler_warmup_bytes", _by_name(), optional=True, inherited=True),
    Setting("kv_groups", "kv_groups", _flag, optional=True, inherited=True),
    Setting("hybrid_prefix_cache", "hybrid_prefix_cache", _flag, optional=True, inherited=True),
    Setting("preemption", "preemption", _choice(("recompute", "swap", "none"))),
    Setting("batching", "batching", _choice(("continuous", "static"))),
    Setting("admission", "admission", _choice(("grow", "reserve", "contiguous"))),
    Setting("memory_rule", "memory_rule", _choice(("total", "static", "free"))),
    Setting("overlap", "overlap", _overlap, optional=True),
    Setting("pooled_as", "pooled_as", _text, optional=True),
    Setting("fork_of", "fork_of", _text, optional=True),
    Setting("since_month", "since_month", _month, optional=True),
    Setting("admission_watermark", "admission_watermark", _number(), optional=True, inherited=True),
    Setting("admission_headroom", "admission_headroom", _number(), optional=True, inherited=True),
    Setting("pads_shards", "pads_shards", _flag, optional=True, inherited=True),
    Setting("encoder_data_parallel", "encoder_data_parallel", _flag, optional=True, inherited=True),
    Setting("layer_split", "layer_split", _flag, optional=True, inherited=True),
    Setting("whole_batch_decode", "whole_batch_decode", _flag, optional=True, inherited=True),
    Setting("budget_split_over_ranks", "budget_split_over_ranks", _flag, optional=True, inherited=True),
    Setting("quantised_peak_runs", "quantised_peak_runs", _flag, optional=True, inherited=True),
    Setting("kernel_source", "kernel_source", _choice(KERNEL_SOURCES), optional=True, inherited=True),
    Setting("library_kernels", "library_kernels", _families, optional=True, inherited=True),
    Setting("kernel_launches", "kernel_launches", _by_family, optional=True, inherited=True),
    Setting("weight_only_experts", "weight_only_experts", _by_name(), optional=True),
    Setting("integer_experts", "integer_experts_gbs", _by_name(GB), optional=True),
    Setting("reference_experts", "reference_experts_us", _by_name(MICROSECOND), optional=True),
    Setting("native_experts", "native_experts", _names, optional=True),
    Setting("host_copied_first", "host_copied_first", _flag, optional=True, inherited=True),
    Setting("host_matrix_experts", "host_matrix_experts", _flag, optional=True, inherited=True),
    Setting("host_hand_over", "host_hand_over_us", _number(MICROSECOND), optional=True, inherited=True),
    Setting("cut_pages", "cut_pages_gbs", _number(GB), optional=True),
    Setting("draft_host_times", "draft_host_us", _by_name(MICROSECOND), optional=True),
    Setting("host_launches", "host_launch_us", _by_name(MICROSECOND), optional=True, inherited=True),
    Setting("no_graphs", "no_graphs", _names, optional=True),
)
