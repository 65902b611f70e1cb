"""What a profile says of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from perfmodel.profiler import grid
from perfmodel.profiles.importers import plain

#: Licence noted in measured rows: the measurer's own to give.
LICENCE = "own measurement"


def today() -> str:
    """The day, UTC, as ISO 8601."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def done(path: Path) -> set[tuple[object, ...]]:
    """Keys of the points a file already holds; a last line that was cut off is taken out of the file first."""
    if not path.exists() or path.stat().st_size == 0:
        return set()
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        path.write_bytes(content[: content.rfind(b"\n") + 1])
    return grid.keys(plain.read(path)) if path.stat().st_size else set()
