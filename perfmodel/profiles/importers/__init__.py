"""Importers: what other tools measured, as canonical rows (`rows.Rows`), strictly checked.

Front door: `importers()`, `read_rows(kind, path, ...)`.
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
    """An import format: module that reads it, what to give it, whether the file itself names the device."""

    name: str
    module: str
    reads: str
    names_device: bool


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
    """The formats that can be imported: name and what it reads, one row each."""
    return [{"format": kind.name, "reads": kind.reads} for kind in KINDS.values()]


def read_rows(
    kind: str, path: str | Path, *, device: str = "", licence: str = "", look_up: Callable[[str], Device] | None = None
) -> Checked:
    """Read `path` in format `kind` and check it.

    device: hwdb name of what was measured; needed where the format does not name it, overrides it where it does.
    licence: licence to note where the file has none. look_up: hwdb's device look-up, None to skip physical bounds.
    Raises `InputError` for an unreadable file, `UnknownName` for an unknown format.
    """
    if kind not in KINDS:
        raise UnknownName("import format", kind, KINDS)
    place = Path(path)
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
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
    """Read and check as `read_rows` does, and write the good rows as plain CSV at `output`."""
    from perfmodel.profiles.importers import plain

    checked = read_rows(kind, path, device=device, licence=licence, look_up=look_up)
    plain.write(checked.rows, output)
    return checked
