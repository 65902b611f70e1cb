"""Importers: read the measurements of other tools as canonical rows (`rows.Rows`), and validate them.

Front door: `importers()` lists the formats; `read_rows(kind, path, ...)` reads one.
"""

from __future__ import annotations

from perfmodel.profiles.importers import plain
from perfmodel.profiles.importers.checks import Checked, Quarantined, check
from perfmodel.profiles.importers.rows import COLLECTIVES, COLUMNS, SHAPES, Rows, concat, rows_of

__all__ = [
    "COLLECTIVES",
    "COLUMNS",
    "KINDS",
    "SHAPES",
    "Checked",
    "Kind",
    "Quarantined",
    "Rows",
    "check",
    "concat",
    "import_rows",
    "importers",
    "plain",
    "read_rows",
    "rows_of",
]


import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hwdb import Device, InputError, UnknownName


@dataclass(frozen=True)
class Kind:
    """Describe an import format.

    name: as given by the user. module: the module of this package that reads it. reads: what file or folder it takes,
    for people. names_device: True if the file itself names the device that was measured.
    """

    name: str
    module: str
    reads: str
    names_device: bool


#: Import formats by name.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("csv", "plain", "plain CSV of canonical rows (docs/profiling.md)", True),
        Kind("aiconfigurator", "aiconfigurator", "aiconfigurator-core or AISimulate tree (folder or parquet)", True),
        Kind("vidur", "vidur", "Vidur mlp, attention, all_reduce or send_recv CSV", False),
        Kind("nccl-tests", "nccl", "nccl-tests or rccl-tests text output", False),
        Kind("llama-bench", "llama_bench", "llama-bench -o json or jsonl", True),
    )
}


def importers() -> list[dict[str, str]]:
    """List the import formats, one row each: name, and what file or folder it reads."""
    return [{"format": kind.name, "reads": kind.reads} for kind in KINDS.values()]


def read_rows(
    kind: str, path: str | Path, *, device: str = "", licence: str = "", look_up: Callable[[str], Device] | None = None
) -> Checked:
    """Read `path` in format `kind`, and validate its rows.

    Args:
        kind: a name in `KINDS`.
        path: file or folder to read.
        device: hwdb name of the measured device. Required if the format does not name it; else it overrides the name.
        licence: licence of the rows, where the file does not state one.
        look_up: function from an hwdb name to the device; None skips the check against physical bounds.

    Raises `InputError` for an unreadable file, `UnknownName` for an unknown format.
    """
    if kind not in KINDS:
        raise UnknownName("import format", kind, KINDS)
    place = Path(path)
    if not place.exists():
        raise InputError(f"{place}: no such file or folder; give the path of measured rows")
    if not device and not KINDS[kind].names_device:
        raise InputError(f"{place}: {kind} files do not name the device; say which with --device NAME")
    reader = importlib.import_module(f"{__name__}.{KINDS[kind].module}")
    table: Rows = reader.read(place, device=device, licence=licence)
    return check(table, look_up, place=str(place))


def import_rows(
    kind: str,
    path: str | Path,
    output: Path,
    *,
    device: str = "",
    licence: str = "",
    look_up: Callable[[str], Device] | None = None,
) -> Checked:
    """Read and validate `path` as `read_rows` does, and write the valid rows to `output` as plain CSV."""
    from perfmodel.profiles.importers import plain

    checked = read_rows(kind, path, device=device, licence=licence, look_up=look_up)
    plain.write(checked.rows, output)
    return checked
