"""Keep the records of a run: date, licence, and which points a file already has."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hwdb import outfile
from perfmodel.profiler import grid
from perfmodel.profiles.importers import plain

#: Value of the column `licence` in measured rows: whoever measured decides.
LICENCE = "own measurement"


def today() -> str:
    """Return today's date in UTC, ISO 8601."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def done(path: Path) -> set[tuple[object, ...]]:
    """Return the identities (`grid.key`) of the points that a file already has. An incomplete last line is deleted
    first."""
    if not path.exists() or path.stat().st_size == 0:
        return set()
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with outfile.replaced(path) as file:
            file.write_bytes(content[: content.rfind(b"\n") + 1])
    return grid.keys(plain.read(path)) if path.stat().st_size else set()
