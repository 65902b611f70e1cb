"""List the existing profiles and their held-out errors, as flat rows for tables, JSON and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwdb import InputError, UnknownName
from perfmodel.arrays import NAN
from perfmodel.profiles import store

#: Columns of `show_rows` that a terminal shows; JSON and CSV have all columns.
SHOWN = (
    "family",
    "framework",
    "formats",
    "rows",
    "sites",
    "points_median_percent",
    "points_p90_percent",
    "sites_median_percent",
    "octave_median_percent",
    "source",
)
Row = dict[str, Any]


def places(folders: Sequence[Path | str]) -> list[Path]:
    """Return the profile folders inside the folders of --hwdb."""
    return [p for p in (Path(f) / "profiles" for f in folders) if p.is_dir()]


def list_rows(folders: Sequence[Path | str] = ()) -> list[Row]:
    """Return one row per device and family: frameworks, formats, number of measured rows, held-out errors.

    folders: the folders of --hwdb; their profiles come before the built-in ones. An error is the mean over frameworks,
    weighted by rows; NaN if nothing was held out.
    """
    where = places(folders)
    out = []
    for device in store.names(where):
        by_family: dict[str, list[Mapping[str, Any]]] = {}
        for table in _tables(device, where):
            by_family.setdefault(str(table["family"]), []).append(table)
        out += [_family_row(device, family, tables) for family, tables in sorted(by_family.items())]
    return out


def show_rows(device: str, folders: Sequence[Path | str] = ()) -> list[Row]:
    """Return one row per table of `device`: coverage, source, held-out errors.

    folders: the folders of --hwdb. Raises `UnknownName` if there is no profile of that name.
    """
    where = places(folders)
    if device not in store.names(where):
        hint = "(perfmodel profile list shows the devices that have one; others use calibrated or roofline times)"
        raise UnknownName("profile", device, store.names(where), hint)
    return [_table_row(device, table) for table in _tables(device, where)]


def _tables(device: str, where: Sequence[Path]) -> list[Mapping[str, Any]]:
    """Return the entries of a device's run.toml; [] without a profile. Raises `InputError` if run.toml lists no
    tables."""
    profile = store.load(device, where)
    if profile is None:
        return []
    tables = profile.run.get("table", [])
    if not isinstance(tables, list) or not all("family" in t and "file" in t for t in tables):
        raise InputError(f"run.toml of profile {device!r} lists no tables; build the profile again")
    return tables


def _mean(tables: Sequence[Mapping[str, Any]], key: str) -> float:
    """Return the held-out error `key` in percent: mean over tables, weighted by rows; NaN if no table has it."""
    known = [(float(t["held_out"][key]), float(t.get("rows", 1))) for t in tables if key in t.get("held_out", {})]
    total = sum(weight for _, weight in known)
    return round(100.0 * sum(value * weight for value, weight in known) / total, 3) if total else NAN


def _errors(tables: Sequence[Mapping[str, Any]]) -> Row:
    """Return the columns of held-out errors, in percent."""
    return {
        "points_median_percent": _mean(tables, "points_median"),
        "points_p90_percent": _mean(tables, "points_p90"),
        "sites_median_percent": _mean(tables, "sites_median"),
        "octave_median_percent": _mean(tables, "octave_median"),
    }


def _joined(tables: Sequence[Mapping[str, Any]], key: str) -> str:
    """Join the different values of `key` in the tables by "; "."""
    return "; ".join(sorted({str(t.get(key, "")) for t in tables} - {""}))


def _family_row(device: str, family: str, tables: Sequence[Mapping[str, Any]]) -> Row:
    formats = sorted({str(v) for t in tables for v in t.get("variants", []) if v})
    return {
        "device": device,
        "family": family,
        "frameworks": ", ".join(sorted({str(t.get("framework", "")) for t in tables})),
        "formats": " ".join(formats),
        "rows": sum(int(t.get("rows", 0)) for t in tables),
        "sites": sum(int(t.get("sites", 0)) for t in tables),
        **_errors(tables),
        "licence": _joined(tables, "licence"),
    }


def _table_row(device: str, table: Mapping[str, Any]) -> Row:
    return {
        "device": device,
        "family": table["family"],
        "framework": table.get("framework", ""),
        "formats": " ".join(str(v) for v in table.get("variants", [])),
        "rows": int(table.get("rows", 0)),
        "left_out": int(table.get("left_out", 0)),
        "sites": int(table.get("sites", 0)),
        **_errors([table]),
        "software": table.get("software", ""),
        "kernel": table.get("kernel", ""),
        "source": table.get("source", ""),
        "licence": table.get("licence", ""),
        "date": table.get("date", ""),
    }
