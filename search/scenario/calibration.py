"""Read the `[calibration]` table of a scenario: files with what own benchmarks say of own systems."""

from __future__ import annotations

from pathlib import Path

from hwdb.tomlfile import Table
from perfmodel.engines import Adjustment
from search.scenario.workload import relay


def read_calibration(table: Table, folder: Path) -> tuple[Adjustment, ...]:
    """Return the factors that the files of a `[calibration]` table hold; file names are relative to `folder`.

    Raises `InputError` where two files speak of the same system.
    """
    if "file" not in table:
        table.done()
        return ()
    from perfmodel.user_calibration import read_adjustments

    found: dict[tuple[str, str], Adjustment] = {}
    for name in table.texts("file"):
        for one in relay(table, "file", read_adjustments, folder / name):
            if (one.device, one.engine) in found:
                text = f"two files speak of {one.device} under {one.engine}; join them with perfmodel calibrate"
                raise table.error("file", text)
            found[one.device, one.engine] = one
    table.done()
    return tuple(found.values())
