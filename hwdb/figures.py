"""Read tables of hardware files: the values of any TOML table, and figures.

A figure is a numeric quantity with its unit, kind and source, such as the memory bandwidth of a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from hwdb.errors import nearest
from hwdb.record import KINDS, Record
from hwdb.tomlfile import Table, parse_values, read_text
from hwdb.units import EXAMPLES, UNITS, nearest_unit

#: Dimensions of quantities that are never 0: what lacks a memory, a link or an arithmetic unit leaves it out.
ABOVE_ZERO = ("bytes", "bytes/s", "operations/s", "hertz")
_FIELDS = ("value", "unit", "kind", "source", "note", "chosen", "alternatives")


class FigureTable(Table):
    """One table of a device, node or price file.

    Its numbers are in units of the file ("3.35e12 B/s"), so that larger ones than elsewhere are taken for real.
    `sources` holds the table `[sources]` of the file: short names -> publications, pages or repositories.
    """

    largest = 1e30

    def __init__(
        self,
        values: Mapping[str, Any],
        file: str,
        text: str = "",
        path: tuple[str | int, ...] = (),
        former: Mapping[str, str] | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(values, file, text, path, former)
        self.sources: Mapping[str, str] = self._read_sources() if sources is None else sources

    def _child(self, values: Mapping[str, Any], *steps: str | int) -> Self:
        """Return the table that holds `values`.

        `steps` are the keys and list positions that lead to it from this table.
        """
        return type(self)(values, self.file, self._text, (*self.path, *steps), self.former, self.sources)

    def _read_sources(self) -> Mapping[str, str]:
        """Read the table `[sources]`: short name -> publication."""
        sources = self.get("sources", {})
        if not isinstance(sources, dict) or not all(isinstance(s, str) and s.strip() for s in sources.values()):
            reason = 'write a table of short name = "publication, page or repository"'
            raise self.error("sources", f"{sources!r} does not name publications; {reason}")
        return sources

    def on_top_of(self, base: FigureTable) -> FigureTable:
        """Return this file with what it leaves out taken from `base`, the file that its key `like` names.

        `like` is dropped. Tables are merged one level deep, so that a figure is replaced as a whole. Messages name
        this file.
        """
        merged = dict(base.values)
        for key, value in self.values.items():
            inherited = merged.get(key)
            if isinstance(value, dict) and isinstance(inherited, dict):
                value = {**inherited, **value}
            merged[key] = value
        merged.pop("like", None)
        return FigureTable(merged, self.file, self._text)

    def stated(self) -> set[str]:
        """Return the dotted names ("memory.bandwidth") of the numeric quantities that this file itself gives."""
        groups = {group: table for group, table in self.values.items() if isinstance(table, dict)}
        return {f"{group}.{key}" for group, table in groups.items() for key in table}

    def source(self, key: str = "source") -> str:
        """Return the publication under `key`.

        A short name of the table `[sources]` is replaced by what it stands for; any other text is returned as it is.
        """
        text = self.text(key)
        if text in self.sources:
            return self.sources[text]
        if not any(mark in text.strip() for mark in " /:"):
            near = nearest(text, self.sources, 1)
            hint = f"did you mean {near[0]!r}?" if near else f'add {text} = "publication or page" under [sources]'
            raise self.error(key, f"{text!r} is not defined under [sources]; {hint}")
        return text

    def figure(self, key: str, dimension: str) -> Record | None:
        """Read the numeric quantity under `key`, whose unit has to measure `dimension` ("bytes/s").

        None where the file leaves it out.
        """
        content = self.get(key, None)
        if content is None:
            return None
        if not isinstance(content, dict):
            raise self.error(key, f"{content!r} states no source; write {key} = {_example(dimension)}")
        return self._child(content, key).record(dimension)

    def record(self, dimension: str) -> Record:
        """Read this table as one numeric quantity: value, unit (of `dimension`, "bytes/s"), kind, source and notes."""
        self.done(also=_FIELDS)
        value = self._number_or_text("value")
        chosen = self._number_or_text("chosen") if "chosen" in self else None
        if isinstance(value, str) and chosen is None:
            raise self.error("value", f"{value!r} is a text; add chosen = <the number to use>")
        if isinstance(chosen, str):
            raise self.error("chosen", f"{chosen!r} is not a number; write the number to use")
        unit = self._unit(dimension)
        if dimension in ABOVE_ZERO and value == 0:
            raise self.error("value", f"0 {unit} is impossible; give the true number, or leave it out if unknown")
        return Record(
            value=value,
            unit=unit,
            kind=self.text("kind", choices=KINDS),
            source=self.source(),
            note=self.text("note", ""),
            chosen=chosen,
            alternatives=self._alternatives(dimension),
        )

    def _unit(self, dimension: str) -> str:
        """Read the unit of this quantity; `InputError` where it does not measure `dimension`."""
        unit = self.text("unit")
        if unit not in UNITS or UNITS[unit][0] != dimension:
            meant = nearest_unit(unit, dimension)
            raise self.error("unit", f"{unit!r} does not measure {dimension}; did you mean {meant!r}?")
        return unit

    def _alternatives(self, dimension: str) -> tuple[Record, ...]:
        """Read the values that other sources print for this quantity."""
        others = self.get("alternatives", [])
        if not isinstance(others, list) or not all(isinstance(other, dict) for other in others):
            raise self.error("alternatives", f"{others!r} is not a list of figures; write [{_example(dimension)}]")
        return tuple(self._child(other, "alternatives", i).record(dimension) for i, other in enumerate(others))

    def _number_or_text(self, key: str) -> float | str:
        """Read a number of at least 0 as it is written (an integer stays an integer), or a text."""
        value: float | str = self.get(key)
        if isinstance(value, str):
            return self.text(key)
        self.number(key, least=0.0)
        return value


def _example(dimension: str) -> str:
    """Return a unit that measures `dimension`, as an example for messages."""
    return f'{{ value = 1, unit = "{EXAMPLES[dimension]}", kind = "rated", source = "..." }}'


def read_hardware_file(path: Path) -> FigureTable:
    """Read the top table of a device, node or price file; `InputError` when it cannot be read or parsed."""
    text = read_text(path, "hardware file")
    return FigureTable(parse_values(text, str(path)), str(path), text)
