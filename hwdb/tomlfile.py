"""Reading a TOML file that a person wrote: every mistake is named with file, line, key, value and way out.

A `Table` hands out checked values key by key and remembers which keys were asked for; `done` then refuses the rest,
offering the nearest known key. Nothing here knows what the keys mean.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwdb import InputError, nearest

#: Marks "no default: the key must be there".
REQUIRED: Any = object()

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")


def read_toml(path: str | Path, what: str = "file", former: Mapping[str, str] | None = None) -> Table:
    """The top table of the TOML file at `path`; `InputError` when it cannot be read or parsed.

    `former` maps former spellings of keys to the present ones; both are read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such {what}; give the path of an existing TOML file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a {what}; give the path of a TOML file in it") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; check the permissions of the {what}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the {what} as UTF-8 text") from None
    return parse_toml(text, str(path), former)


def parse_toml(text: str, file: str = "<text>", former: Mapping[str, str] | None = None) -> Table:
    """The top table of TOML `text`; `file` is what messages call it."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: not TOML: {error}; see https://toml.io for the syntax") from None
    return Table(values, file, text, former=former)


class Table:
    """One table of a TOML file, with its place in the file.

    `path` is the chain of keys (and list positions) that leads here from the top.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        file: str,
        text: str = "",
        path: tuple[str | int, ...] = (),
        former: Mapping[str, str] | None = None,
    ) -> None:
        self.file = file
        self.path = path
        self.former = former or {}
        self._text = text
        self._asked: list[str] = []
        #: present spelling -> the spelling that the file uses
        self._written = {self.former[key]: key for key in values if key in self.former}
        for present, written in self._written.items():
            if present in values:
                raise self.error(present, f"{written!r} is its former name; give one of the two")
        self.values = {self.former.get(key, key): value for key, value in values.items()}

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def keys(self) -> Iterator[str]:
        """Keys present in the file."""
        return iter(self.values)

    # -- where things are, and what is wrong with them ------------------------------------------------------------

    def line(self, key: str = "") -> int:
        """Line of `key` (or of this table's header), found by scanning the text; 0 when it is not there."""
        return _line_of(self._text, self.path, self._written.get(key, key))

    def place(self, key: str = "") -> str:
        """`file, line 7, [workload] request_rate_rps`: where a message points."""
        number = self.line(key)
        names = ".".join(str(p) for p in self.path if isinstance(p, str))
        ordinal = next((f" #{p + 1}" for p in reversed(self.path) if isinstance(p, int)), "")
        name = " ".join(part for part in (f"[{names}]{ordinal}" if names else "", key) if part)
        return ", ".join(part for part in (self.file, f"line {number}" if number else "", name) if part)

    def error(self, key: str, problem: str) -> InputError:
        """An `InputError` that points at `key`; `problem` says value and way out."""
        return InputError(f"{self.place(key)}: {problem}")

    def done(self, also: Sequence[str] = ()) -> None:
        """Refuse keys nobody asked for, offering the nearest that somebody did."""
        known = [*dict.fromkeys([*self._asked, *also])]
        for key in self.values:
            if key not in known:
                near = nearest(key, known)
                offer = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
                raise self.error(key, f"unknown key {key!r}; {offer or 'known keys: ' + ', '.join(sorted(known))}")

    # -- values ---------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = REQUIRED) -> Any:
        """The raw value of `key`; without a default its absence is an error."""
        self._asked.append(key)
        if key in self.values:
            return self.values[key]
        if default is REQUIRED:
            near = nearest(key, [k for k in self.values if k not in self._asked])
            hint = f"; is {near[0]!r} meant?" if near else ""
            raise self.error("", f"{key!r} is missing; add it{hint}")
        return default

    def text(self, key: str, default: Any = REQUIRED, choices: Sequence[str] = ()) -> str:
        """A string, one of `choices` where given."""
        value = self.get(key, default)
        if value is default and key not in self.values:
            return str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"{value!r} is not a text; write it in quotes")
        if choices and value not in choices:
            near = nearest(value, choices, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise self.error(key, f"unknown value {value!r}; {hint}choose one of {', '.join(choices)}")
        return value

    def number(
        self,
        key: str,
        default: Any = REQUIRED,
        *,
        above: float = -math.inf,
        least: float = -math.inf,
        most: float = math.inf,
        unit: str = "",
    ) -> float:
        """A finite number with `above` < value, `least` <= value <= `most`."""
        value = self.get(key, default)
        if key not in self.values:
            return float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"{value!r} is not a number; write a plain number{unit and ' of ' + unit}")
        self._check_range(key, float(value), above, least, most)
        return float(value)

    def _check_range(self, key: str, value: float, above: float, least: float, most: float) -> None:
        if not math.isfinite(value):
            raise self.error(key, f"{value} is not finite; leave the key out for no limit")
        if not above < value:
            raise self.error(key, f"{value:g} is too small; it must be above {above:g}")
        if not least <= value <= most:
            bound = f"at least {least:g}" if value < least else f"at most {most:g}"
            raise self.error(key, f"{value:g} is out of range; it must be {bound}")

    def whole(self, key: str, default: Any = REQUIRED, *, least: int = 0, most: float = math.inf) -> int:
        """A whole number with `least` <= value <= `most`."""
        value = self.get(key, default)
        if key not in self.values:
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"{value!r} is not a whole number; write it without a decimal point")
        self._check_range(key, float(value), -math.inf, least, most)
        return value

    def flag(self, key: str, default: Any = REQUIRED) -> bool:
        """`true` or `false`."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"{value!r} is not a switch; write true or false")
        return value

    def texts(self, key: str, default: Any = REQUIRED) -> tuple[str, ...]:
        """A list of strings; a single string is a list of one."""
        value = self.get(key, default)
        if key not in self.values:
            return tuple(value)
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not items or not all(isinstance(i, str) and i.strip() for i in items):
            raise self.error(key, f'{value!r} is not a list of texts; write it as ["a", "b"]')
        return tuple(items)

    def numbers(self, key: str, default: Any = REQUIRED, *, least: float = -math.inf) -> tuple[float, ...]:
        """A list of finite numbers, each at least `least`; a single number is a list of one."""
        value = self.get(key, default)
        if key not in self.values:
            return tuple(value)
        items = value if isinstance(value, list) else [value]
        if not items or any(isinstance(i, bool) or not isinstance(i, int | float) for i in items):
            raise self.error(key, f"{value!r} is not a list of numbers; write it as [1, 2, 4]")
        for item in items:
            self._check_range(key, float(item), -math.inf, least, math.inf)
        return tuple(float(i) for i in items)

    def table(self, key: str, default: Any = REQUIRED) -> Table:
        """The table under `key`; an empty one when it is absent and a default is given."""
        value = self.get(key, default)
        if key not in self.values:
            return Table({}, self.file, self._text, (*self.path, key), self.former)
        if not isinstance(value, dict):
            raise self.error(key, f"{value!r} is not a table; write it as [{key}] with keys below")
        return Table(value, self.file, self._text, (*self.path, key), self.former)

    def tables(self, key: str, default: Any = REQUIRED) -> list[Table]:
        """The list of tables under `key` (`[[key]]`)."""
        value = self.get(key, default)
        if key not in self.values:
            return []
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value) or not value:
            raise self.error(key, f"{value!r} is not a list of tables; write each one under [[{key}]]")
        return [Table(v, self.file, self._text, (*self.path, key, i), self.former) for i, v in enumerate(value)]


def _line_of(text: str, path: tuple[str | int, ...], key: str) -> int:
    """Line (from 1) where `key` of the table at `path` stands; its table's header, or 0, when it is not found."""
    here: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    best, wanted = 0, re.compile(rf"""^\s*["']?{re.escape(key)}["']?\s*(=|\.)""") if key else None
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            here = _enter(header.group(1) == "[[", _keys_of(header.group(2)), counts)
            if key and here[: len(path) + 1] == (*path, key):
                return number
            if here == path:
                best = number
        elif wanted and here == path and wanted.match(line):
            return number
        elif path and isinstance(path[-1], str) and here == path[:-1]:
            best = best or (number if re.match(rf"^\s*{re.escape(path[-1])}\s*=", line) else 0)
    return best


def _keys_of(name: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def _enter(listed: bool, names: tuple[str, ...], counts: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """Path of the table that a header opens: positions are filled in for the lists on the way."""
    place: tuple[str | int, ...] = ()
    for depth, name in enumerate(names):
        place = (*place, name)
        if listed and depth == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place
