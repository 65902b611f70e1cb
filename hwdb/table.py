"""Checked reading of one TOML file: every complaint names the file, the key, the value and the way out."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from hwdb.errors import InputError, nearest
from hwdb.record import KINDS, Record
from hwdb.units import EXAMPLES, UNITS, nearest_unit

_FIELDS = ("value", "unit", "kind", "source", "note", "chosen", "alternatives")


def parse(path: Path) -> dict[str, Any]:
    """The content of a TOML file; `InputError` with file and line if it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


class Table:
    """One table of a file, read key by key; `done` complains of keys that nobody asked for."""

    def __init__(self, path: Path, content: Any, prefix: str = "", sources: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.prefix = prefix
        if not isinstance(content, dict):
            self.prefix = ""
            raise InputError(f"{path}: {prefix.rstrip('.') or 'content'}: {content!r} is not a table")
        self.content = content
        self.asked: set[str] = set()
        self.sources: Mapping[str, str] = sources if sources is not None else self._read_sources()

    def _read_sources(self) -> Mapping[str, str]:
        sources = self.content.get("sources", {})
        self.asked.add("sources")
        if not isinstance(sources, dict) or not all(isinstance(s, str) and s.strip() for s in sources.values()):
            self.fail("sources", sources, 'write a table of short name = "publication, page or repository"')
        return sources

    def fail(self, key: str, value: Any, reason: str) -> NoReturn:
        """Raise an `InputError` that names file, key, value and reason."""
        raise InputError(f"{self.path}: {self.prefix}{key} = {value!r}: {reason}")

    def get(self, key: str) -> Any:
        """The raw value of `key`, or None."""
        self.asked.add(key)
        return self.content.get(key)

    def text(self, key: str, default: str | None = None, among: Iterable[str] = ()) -> str:
        """A text; without `default` it is required; with `among` it is one of these."""
        value = self.get(key)
        if value is None:
            if default is None:
                raise InputError(f'{self.path}: {self.prefix}{key} is missing; write {key} = "..."')
            return default
        if not isinstance(value, str) or not value.strip():
            self.fail(key, value, "not a text")
        choices = tuple(among)
        if choices and value not in choices:
            near = nearest(value, choices, 1)
            self.fail(key, value, f"not one of {', '.join(choices)}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; () where the key is missing."""
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            self.fail(key, value, "not a list of texts")
        return tuple(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number > 0; without `default` it is required."""
        value = self.get(key)
        if value is None:
            if default is None:
                raise InputError(f"{self.path}: {self.prefix}{key} is missing; write {key} = <number>")
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            self.fail(key, value, "not a finite number > 0")
        return float(value)

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number >= 1."""
        value = self.number(key, None if default is None else float(default))
        if value != int(value):
            self.fail(key, value, "not a whole number")
        return int(value)

    def table(self, key: str) -> Table:
        """The table under `key`; an empty one where it is missing."""
        value = self.get(key)
        return Table(self.path, {} if value is None else value, f"{self.prefix}{key}.", self.sources)

    def tables(self, key: str) -> list[Table]:
        """The list of tables under `key`."""
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(key, value, f"not a list of tables; write [[{key}]]")
        return [Table(self.path, v, f"{self.prefix}{key}[{i}].", self.sources) for i, v in enumerate(value)]

    def keys(self) -> list[str]:
        """The keys that the file gives."""
        return list(self.content)

    def done(self) -> None:
        """Complain of the first key that was never asked for."""
        for key in self.content:
            if key not in self.asked:
                near = nearest(key, self.asked, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(self.asked))}"
                raise InputError(f"{self.path}: unknown key {self.prefix}{key}; {hint}")

    def source(self, text: str) -> str:
        """The publication that a short name of `[sources]` stands for, or the text itself when it is one."""
        if text in self.sources:
            return self.sources[text]
        if not any(mark in text.strip() for mark in " /:"):
            near = nearest(text, self.sources, 1)
            hint = f"did you mean {near[0]!r}?" if near else f'add {text} = "publication or page" under [sources]'
            self.fail("source", text, f"no such name under [sources]; {hint}")
        return text

    def figure(self, key: str, dimension: str) -> Record | None:
        """The record under `key`, which must measure `dimension`; None where the file does not give it."""
        content = self.get(key)
        return None if content is None else self._record(key, content, dimension)

    def _record(self, key: str, content: Any, dimension: str) -> Record:
        example = f'{{ value = 1, unit = "{EXAMPLES[dimension]}", kind = "rated", source = "..." }}'
        if not isinstance(content, dict):
            self.fail(key, content, f"a figure needs its provenance; write {key} = {example}")
        table = Table(self.path, content, f"{self.prefix}{key}.", self.sources)
        for name in content:
            if name not in _FIELDS:
                table.asked |= set(_FIELDS)
                table.done()
        unit = table.text("unit")
        if unit not in UNITS or UNITS[unit][0] != dimension:
            meant = nearest_unit(unit, dimension)
            table.fail("unit", unit, f"must measure {dimension}; did you mean {meant!r}?")
        kind = table.text("kind", among=KINDS)
        source = table.source(table.text("source"))
        value, chosen = _number(table, "value"), _number(table, "chosen")
        if value is None:
            raise InputError(f"{self.path}: {self.prefix}{key}.value is missing; write {key} = {example}")
        if isinstance(value, str) and chosen is None:
            table.fail("value", value, "is a text; add chosen = <the number to use>")
        if isinstance(chosen, str):
            table.fail("chosen", chosen, "not a number")
        others = content.get("alternatives", [])
        if not isinstance(others, list):
            table.fail("alternatives", others, "not a list of figures")
        alternatives = tuple(table._record(f"alternatives[{i}]", other, dimension) for i, other in enumerate(others))
        return Record(value, unit, kind, source, table.text("note", ""), chosen, alternatives)


def _number(table: Table, key: str) -> float | str | None:
    value = table.get(key)
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        table.fail(key, value, "not a finite number >= 0")
    return value
