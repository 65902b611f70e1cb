"""The `[engine]` table of a scenario: the serving engine, and the settings that the scenario changes."""

from __future__ import annotations

from pathlib import Path

from hwdb.tomlfile import Table
from perfmodel import Engine, engine
from perfmodel.engines import ways
from search.scenario.workload import relay

#: Engine settings that are switches, true or false.
SWITCHES = ("chunked_prefill", "prefix_cache", "graph_capture", "overlap_scheduling")
#: Engine settings that are shares, above 0 and at most 1.
SHARES = ("gpu_memory_utilization", "overlap_share")
#: Every engine setting that a scenario may change.
ENGINE_KEYS = (*SWITCHES, *SHARES, "overlap")
DEFAULT_ENGINE = "vllm"


def read_engine(table: Table, folder: Path) -> Engine:
    """The `[engine]` table; the path of an engine file is relative to `folder`."""
    name = table.text("name", DEFAULT_ENGINE)
    if name.endswith(".toml"):
        name = str(folder / name)
    found: Engine = relay(table, "name", engine, name, table.text("version", ""))
    changes = {key: _setting(table, key) for key in ENGINE_KEYS if key in table}
    table.done(also=ENGINE_KEYS)
    if changes:
        found = found.changed(**changes)
    if "overlap_share" in changes and found.overlap == "none":
        raise table.error("overlap_share", f"nothing overlaps; add overlap, one of {', '.join(ways()[1:])}")
    return found


def _setting(table: Table, key: str) -> float | bool | str:
    if key in SHARES:
        return table.number(key, above=0, most=1)
    return table.flag(key) if key in SWITCHES else table.text(key, choices=ways())
