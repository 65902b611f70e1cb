"""The reader of every TOML file: checked values, and errors that name file, line, key, value and way out.

A `Table` hands out values key by key and remembers which keys were asked for. `done` then refuses the other keys and
offers the nearest known one. Nothing here knows what the keys mean; `hwdb.figures` adds numbers with their source.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from hwdb import infile, kept_toml
from hwdb.errors import InputError, UnknownKey, nearest
from hwdb.tomllines import line_of

#: Default of a getter that means: the key has to be there.
REQUIRED: Any = object()
#: Bits of a whole number in TOML (https://toml.io/en/v1.0.0#integer).
WHOLE_BITS = 64
_TOO_WIDE = f"the whole number has more than {WHOLE_BITS} bits; give a smaller one, or write it as 1e30"
#: Quotation marks that word processors write in place of straight ones; characters of a line that a message shows.
_CURLED, _SHOWN = "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb", 40
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


def read_toml(path: str | Path, what: str = "file", former: Mapping[str, str] | None = None) -> Table:
    """Read the top table of the TOML file at `path`; `InputError` when it cannot be read or parsed.

    Args:
        path: the file.
        what: what messages call the file ("scenario", "engine file").
        former: former names of keys -> present names. Both are accepted.
    """
    return parse_toml(read_text(path, what), str(path), former)


def read_text(path: str | Path, what: str = "file") -> str:
    """Return the text of a file that should hold TOML; `InputError` when it cannot be read."""
    return infile.read_text(path, what, "give the path of an existing TOML file").replace("\r\n", "\n")


def quoted(text: str) -> str:
    """Return a text as TOML writes it; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_way_out(text: str, problem: str) -> str:
    """Return what to do about a text that is not TOML, whose `problem` names its line as `tomllib` does."""
    found = re.search(r"at line (\d+)", problem)
    lines = text.splitlines()
    line = lines[int(found[1]) - 1] if found and int(found[1]) <= len(lines) else ""
    if any(sign in line for sign in _CURLED):
        return f"write straight quotation marks in {line.strip()[:_SHOWN]!r}, as an editor for programs does"
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("{") or first.endswith(":"):
        return "JSON and YAML are not read; write TOML: a [table] on a line, below it KEY = VALUE (https://toml.io)"
    return "see https://toml.io for the syntax"


def parse_toml(text: str, file: str = "<text>", former: Mapping[str, str] | None = None) -> Table:
    """Return the top table of TOML `text`; `file` is what messages call it."""
    return Table(parse_values(text, file), file, text, former=former)


def parse_values(text: str, file: str) -> dict[str, Any]:
    """Return keys and values of TOML `text`, unchecked; `InputError` when it is not TOML."""
    kept = kept_toml.values(text, file)
    if kept is not None:
        return kept
    try:
        values = tomllib.loads(text)
        wrong = _beyond_whole(values, ())
    except RecursionError:
        raise InputError(f"{file}: not TOML: nested too deeply; see https://toml.io for the syntax") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: not TOML: {error}; {_toml_way_out(text, str(error))}") from None
    except ValueError:  # a whole number of more digits than Python converts
        number = text.count("\n", 0, _longest_digits(text)) + 1
        raise InputError(f"{file}, line {number}: {_TOO_WIDE}") from None
    if wrong is not None:
        *path, key = wrong
        raise Table({}, file, text, tuple(path)).error(str(key), _TOO_WIDE)
    kept_toml.keep(text, file, values)
    return values


def _longest_digits(text: str) -> int:
    """Return where the longest row of digits begins in a text that has one."""
    return max(re.finditer(r"[0-9_]+", text), key=lambda found: len(found.group())).start()


def _beyond_whole(value: Any, path: tuple[str | int, ...]) -> tuple[str | int, ...] | None:
    """Return where a whole number stands that does not fit into the bits TOML gives it; None where all do.

    path: keys and list positions that lead to `value`.
    """
    if isinstance(value, dict):
        items: Iterable[tuple[str | int, Any]] = value.items()
    elif isinstance(value, list):
        if not any(isinstance(item, dict | list) for item in value):
            return path if any(isinstance(item, int) and not _fits(item) for item in value) else None
        items = enumerate(value)
    else:
        return path if isinstance(value, int) and not _fits(value) else None
    for key, item in items:
        if isinstance(item, dict | list | int):
            found = _beyond_whole(item, (*path, key))
            if found is not None:
                return found
    return None


def _fits(value: int) -> bool:
    """Return whether a whole number fits into a signed number of `WHOLE_BITS` bits."""
    most = 1 << (WHOLE_BITS - 1)
    return -most <= value < most


class Table:
    """One table of a TOML file.

    Attributes:
        values: the keys of the table, by their present names, with their unchecked values.
        file: what messages call the file.
        path: the keys (and positions in lists of tables) that lead to this table from the top.
        former: former names of keys -> present names.
    """

    #: Largest number, and smallest above 0, that is taken for real. Chosen: far beyond any load, price or size, and
    #: near enough that products of several numbers stay finite.
    largest: float = 1e15
    smallest: float = 1e-18

    def __init__(
        self,
        values: Mapping[str, Any],
        file: str,
        text: str = "",
        path: tuple[str | int, ...] = (),
        former: Mapping[str, str] | None = None,
    ) -> None:
        self.values = values
        self.file = file
        self.path = path
        self.former = former or _NO_NAMES
        self._text = text
        self._asked: set[str] = set()
        self._sought: set[str] = set()
        #: present name -> the former name that the file uses
        self._written: Mapping[str, str] = _NO_NAMES
        if self.former:
            self._rename()

    def _rename(self) -> None:
        """Replace former names in `values` by the present ones; refuse a key that is given under both."""
        self._written = {self.former[key]: key for key in self.values if key in self.former}
        for present, written in self._written.items():
            if present in self.values:
                raise self.error(present, f"{written!r} is its former name; give one of the two")
        self.values = {self.former.get(key, key): value for key, value in self.values.items()}

    def _child(self, values: Mapping[str, Any], *steps: str | int) -> Self:
        """Return the table that holds `values`.

        `steps` are the keys and list positions that lead to it from this table.
        """
        return type(self)(values, self.file, self._text, (*self.path, *steps), self.former)

    def __contains__(self, key: str) -> bool:
        self._sought.add(key)
        return key in self.values

    def keys(self) -> Iterator[str]:
        """Yield the keys present in the file."""
        return iter(self.values)

    # -- places and errors ----------------------------------------------------------------------------------------

    def line(self, key: str = "") -> int:
        """Return the line of `key`, or of this table's header where the key is "" or absent.

        0 where neither is found.
        """
        return line_of(self._text, self.path, self._written.get(key, key))

    def place(self, key: str = "") -> str:
        """Return where a message points, such as `chat.toml, line 7, [workload] rate_rps`."""
        number = self.line(key)
        names = ".".join(str(p) for p in self.path if isinstance(p, str))
        ordinal = next((f" #{p + 1}" for p in reversed(self.path) if isinstance(p, int)), "")
        name = " ".join(part for part in (f"[{names}]{ordinal}" if names else "", key) if part)
        return ", ".join(part for part in (self.file, f"line {number}" if number else "", name) if part)

    def error(self, key: str, problem: str) -> InputError:
        """Return the `InputError` that points at `key`, to be raised by the caller.

        `problem` says which value is wrong and what to write instead.
        """
        return InputError(f"{self.place(key)}: {problem}")

    def done(self, also: Sequence[str] = ()) -> None:
        """Refuse keys that nobody asked for; `also` lists keys that are allowed without having been asked for."""
        for key in self.values:
            if key not in self._asked and key not in also:
                raise self._unknown(key, sorted({*self._asked, *self._sought, *also}))

    def _unknown(self, key: str, known: Sequence[str]) -> InputError:
        """Return the `InputError` for a key that nobody asked for, with the nearest of the keys in `known`.

        A key that resembles a former name is taken for its present one.
        """
        former = [old for old, present in self.former.items() if present in known]
        near = list(dict.fromkeys(self.former.get(n, n) for n in nearest(key, [*known, *former])))
        offer = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known keys: {', '.join(known)}"
        problem = f"{self.place(key)}: unknown key {key!r}"
        return UnknownKey(f"{problem}; {offer}", key, problem, near=bool(near))

    # -- values ---------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = REQUIRED) -> Any:
        """Return the unchecked value of `key`. `InputError` where it is absent and no default is given."""
        self._asked.add(key)
        value = self.values.get(key, default)
        if value is REQUIRED:
            near = nearest(key, [k for k in self.values if k not in self._asked])
            hint = f"; is {near[0]!r} meant?" if near else ""
            raise self.error("", f"{key!r} is missing; add it{hint}")
        return value

    def text(self, key: str, default: str = REQUIRED, choices: Sequence[str] = ()) -> str:
        """Return the string under `key`, which may not be blank; with `choices`, it has to be one of these."""
        value = self.get(key, default)
        if key not in self.values:
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
        default: float = REQUIRED,
        *,
        above: float = -math.inf,
        least: float = -math.inf,
        most: float = math.inf,
        unit: str = "",
    ) -> float:
        """Return the finite number under `key`, checked: `above` < number and `least` <= number <= `most`.

        `unit` is named in messages.
        """
        value = self.get(key, default)
        if key not in self.values:
            return float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"{value!r} is not a number; write a plain number{unit and ' of ' + unit}")
        return self._in_range(key, value, above, least, most)

    def ranged(self, key: str, value: float) -> float:
        """Return a number that stands at `key` as a float; `InputError` where it is not finite or out of range."""
        return self._in_range(key, value, -math.inf, -math.inf, math.inf)

    def _in_range(self, key: str, value: float, above: float, least: float, most: float) -> float:
        """Return `value` as a float; `InputError` where it is not finite or outside its range."""
        try:
            number = float(value)
        except OverflowError:
            raise self.error(key, "the number is too large to compute with; give a smaller one") from None
        if not math.isfinite(number):
            hint = "give a number" if math.isnan(number) else "leave the key out for no limit"
            raise self.error(key, f"{value} is not finite; {hint}")
        if not above < number:
            raise self.error(key, f"{number:g} is too small; it must be above {above:g}")
        if abs(number) > self.largest or 0 < abs(number) < self.smallest:
            bound = f"at most {self.largest:g}" if abs(number) > 1 else f"0, or at least {self.smallest:g}"
            raise self.error(key, f"{number:g} is out of range; it must be {bound}")
        if not least <= number <= most:
            bound = f"at least {least:g}" if number < least else f"at most {most:g}"
            raise self.error(key, f"{number:g} is out of range; it must be {bound}")
        return number

    def whole(self, key: str, default: int = REQUIRED, *, least: int = 0, most: float = math.inf) -> int:
        """Return the whole number under `key`: written without a decimal point, and `least` <= number <= `most`."""
        value = self.get(key, default)
        if key not in self.values:
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"{value!r} is not a whole number; write it without a decimal point")
        self._in_range(key, value, -math.inf, least, most)
        return value

    def flag(self, key: str, default: bool = REQUIRED) -> bool:
        """Return the value of `key`, which has to be `true` or `false`."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"{value!r} is not a switch; write true or false")
        return value

    def texts(self, key: str, default: Sequence[str] = REQUIRED) -> tuple[str, ...]:
        """Return the list of strings under `key`, none of them blank; a single string is a list of one."""
        value = self.get(key, default)
        if key not in self.values:
            return tuple(value)
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not items or not all(isinstance(i, str) and i.strip() for i in items):
            raise self.error(key, f'{value!r} is not a list of texts; write it as ["a", "b"]')
        return tuple(items)

    def numbers(self, key: str, default: Sequence[float] = REQUIRED, *, least: float = -math.inf) -> tuple[float, ...]:
        """Return the list of finite numbers under `key`, each at least `least`; a single number is a list of one."""
        value = self.get(key, default)
        if key not in self.values:
            return tuple(value)
        items = value if isinstance(value, list) else [value]
        if not items or any(isinstance(i, bool) or not isinstance(i, int | float) for i in items):
            way_out = "write a plain number, or a list such as [1, 2, 4]"
            raise self.error(key, f"{value!r} is not a number or a list of numbers; {way_out}")
        return tuple(self._in_range(key, item, -math.inf, least, math.inf) for item in items)

    def table(self, key: str, default: object = REQUIRED) -> Self:
        """Return the table under `key`; an empty one when the key is absent and any default is given."""
        value = self.get(key, default)
        if key not in self.values:
            return self._child({}, key)
        if not isinstance(value, dict):
            raise self.error(key, f"{value!r} is not a table; write it as [{key}] with keys below")
        return self._child(value, key)

    def tables(self, key: str, default: object = REQUIRED) -> list[Self]:
        """Return the list of tables under `key` (`[[key]]`); [] when the key is absent and any default is given."""
        value = self.get(key, default)
        if key not in self.values:
            return []
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value) or not value:
            raise self.error(key, f"{value!r} is not a list of tables; write each one under [[{key}]]")
        return [self._child(v, key, i) for i, v in enumerate(value)]
