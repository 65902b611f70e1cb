"""Read what electricity grids emit per kWh: the shipped yearly means, and the hours of a file of the user's."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hwdb.csvfile import check_fields, with_commas
from hwdb.errors import InputError, UnknownName
from hwdb.tomlfile import read_text, read_toml

_TABLE = Path(__file__).parent / "names" / "grids.toml"
HOURS_PER_DAY = 24
#: Columns of a file of hours; `region` may be absent.
HOUR, INTENSITY, REGION = "hour", "gco2_per_kwh", "region"
#: Largest intensity that is read, g/kWh. Chosen: coal emits about 1000; more is taken for another unit.
MOST_GCO2_PER_KWH = 3000.0


@dataclass(frozen=True)
class Grid:
    """One electricity grid. gco2_per_kwh: grams of CO2 equivalent per kWh, mean of the `year`. source: publication."""

    name: str
    title: str
    gco2_per_kwh: float
    year: int
    source: str

    @property
    def words(self) -> str:
        """Return intensity, place, year and source in words."""
        return f"{self.gco2_per_kwh:g} gCO2e per kWh, {self.title}, mean of {self.year} ({self.source})"


@cache
def grids() -> Mapping[str, Grid]:
    """Return the known grids by name."""
    top = read_toml(_TABLE, "table of grids")
    sources = top.table("sources")
    return {
        entry.text("name"): Grid(
            name=entry.text("name"),
            title=entry.text("title"),
            gco2_per_kwh=entry.number("gco2_per_kwh", least=0.0),
            year=entry.whole("year", least=2000),
            source=sources.text(entry.text("source")),
        )
        for entry in top.tables("grid")
    }


@cache
def _codes() -> Mapping[str, str]:
    """Return the codes of countries (ISO 3166-1) with the names of their grids."""
    codes = read_toml(_TABLE, "table of grids").table("codes")
    return {code: codes.text(code) for code in codes.values}


def grid(name: str) -> Grid:
    """Return the grid called `name`, or of the country with that code; `UnknownName` where there is none.

    >>> grid("norway").gco2_per_kwh, grid("CH").name
    (30.0, 'switzerland')
    """
    known = grids()
    wanted = name.strip().lower().replace(" ", "-")
    wanted = _codes().get(wanted, wanted)
    if wanted not in known:
        raise UnknownName("grid", name, known, "(perfmodel hw list --grids lists them; or give gco2_per_kwh)")
    return known[wanted]


def read_grid_hours(path: str | Path, region: str = "") -> tuple[float, ...]:
    """Read a CSV with the columns `hour` and `gco2_per_kwh`; return the mean intensity of each hour of the day, (24,).

    hour: counted from 0 (of a day or on through a year), or a date and time such as 2025-01-31T14:00. region: where the
    file has a column `region`, the one that counts. Raises `InputError` for a file that leaves an hour of the day out.
    """
    name = str(path)
    text = with_commas(read_text(path, "table of grid intensities"), name)
    check_fields(text, name)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    named = {key.strip() for key in rows[0]} if rows else set()
    missing = [column for column in (HOUR, INTENSITY) if column not in named]
    if missing:
        raise InputError(f"{name}: column {missing[0]!r} is missing; give a CSV with {HOUR},{INTENSITY}")
    rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items()} for row in rows]
    rows = _of_region(rows, name, region) if REGION in named else rows
    found: dict[int, list[float]] = {}
    for number, row in enumerate(rows, 2):
        found.setdefault(_hour(row[HOUR], f"{name}, row {number}"), []).append(_intensity(row[INTENSITY], name, number))
    absent = [h for h in range(HOURS_PER_DAY) if h not in found]
    if absent:
        raise InputError(f"{name}: hour {absent[0]} of the day is missing; give all 24 hours, 0 to 23")
    return tuple(math.fsum(found[h]) / len(found[h]) for h in range(HOURS_PER_DAY))


def _of_region(rows: list[dict[str, str]], name: str, region: str) -> list[dict[str, str]]:
    """Return the rows of one region; `InputError` where several are in the file and none of them is named."""
    regions = list(dict.fromkeys(row[REGION] for row in rows))
    if not region and len(regions) > 1:
        raise InputError(
            f"{name}: the file has {len(regions)} regions; name one with electricity_grid: {', '.join(regions[:5])}"
        )
    if region and region not in regions:
        raise UnknownName("region", region, regions, f"in {name}")
    return [row for row in rows if row[REGION] == (region or regions[0])]


def _hour(text: str, place: str) -> int:
    """Return the hour of the day that a number of hours, or a date and time, is in."""
    clock = text.replace("T", " ").partition(" ")[2].partition(":")[0] if "-" in text[1:] else text
    try:
        value = float(clock)
    except ValueError:
        value = -1.0
    if not (math.isfinite(value) and value >= 0.0):
        raise InputError(f"{place}: hour {text!r} is no hour; give a number from 0, or 2025-01-31T14:00")
    return int(value) % HOURS_PER_DAY


def _intensity(text: str, name: str, number: int) -> float:
    """Return the grams per kWh that a field holds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= MOST_GCO2_PER_KWH:
        raise InputError(
            f"{name}, row {number}: {INTENSITY} {text!r} is impossible; give grams per kWh, 0 to {MOST_GCO2_PER_KWH:g}"
        )
    return value
