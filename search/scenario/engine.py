"""Read the `[engine]` table of a scenario: the serving engine, and the settings that the scenario changes."""

from __future__ import annotations

from pathlib import Path

from hwdb.tomlfile import Table
from perfmodel import Engine, engine
from perfmodel.engines import spellings, ways
from search.scenario.workload import relay

#: Engine settings that are switches, true or false.
SWITCHES = (
    "chunked_prefill",
    "prefix_cache",
    "graph_capture",
    "whole_step_graphs",
    "overlap_scheduling",
    "overlap_always",
    "pads_shards",
    "encoder_data_parallel",
    "rank_balance",
)
#: Engine settings that are shares, above 0 and at most 1.
SHARES = ("gpu_memory_utilization", "overlap_share")
#: Engine settings that are whole numbers of 1 or more.
COUNTS = ("max_num_batched_tokens", "max_num_seqs", "graph_seqs", "rank_balance_steps")
#: Every engine setting that a scenario may change.
ENGINE_KEYS = (*SWITCHES, *SHARES, *COUNTS, "overlap")
DEFAULT_ENGINE = "vllm"


def read_engines(table: Table, folder: Path) -> tuple[Engine, ...]:
    """Read the `[engine]` table: one engine, or each of several to compare, with the settings of the table.

    The path of an engine file is relative to `folder`. A setting may also have the name that it has in the engine's own
    command line, such as SGLang's `chunked_prefill_size`.
    """
    names, version = table.texts("name", (DEFAULT_ENGINE,)), table.text("version", "")
    if version and len(names) > 1:
        raise table.error("version", f"{version!r} of which of {len(names)} engines? leave it out, or name one engine")
    paths = [str(folder / name) if name.endswith(".toml") else name for name in dict.fromkeys(names)]
    return tuple(with_settings(relay(table, "name", engine, path, version), table) for path in paths)


def with_settings(found: Engine, table: Table) -> Engine:
    """Return the engine with the settings that a table gives, under their own names or the engine's own words."""
    words = {word: key for word, key in found.own_words if key in ENGINE_KEYS}
    written = {key: key for key in ENGINE_KEYS} | spellings(table, words)
    changes = {key: _setting(table, written[key], key) for key in ENGINE_KEYS if written[key] in table}
    table.done(also=(*ENGINE_KEYS, *words, "name", "version"))
    if changes:
        found = found.configured(**changes)
    idle = [key for key in ("overlap_share", "overlap_always") if changes.get(key) and found.overlap == "none"]
    if idle:
        raise table.error(idle[0], f"nothing overlaps; add overlap, one of {', '.join(ways()[1:])}")
    return found


def _setting(table: Table, written: str, key: str) -> float | bool | str:
    """Read the value of engine setting `key`. written: the name under which the table has it."""
    if key in SHARES:
        return table.number(written, above=0, most=1)
    if key in COUNTS:
        return float(table.whole(written, least=1))
    return table.flag(written) if key in SWITCHES else table.text(written, choices=ways())
