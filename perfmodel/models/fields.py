"""Fields of a `config.json`: values with type and range checked, and errors that name file and field.

TOML files are read by `hwdb.tomlfile.Table`. This reader differs where JSON files of many authors do: the same fact has
several spellings, null counts as missing, and fields that no reader asks for are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwdb import InputError

#: Larger whole numbers are taken for errors in the file: vocabularies have 10^5 entries, contexts 10^7 tokens.
_MOST_COUNT = 1e8
#: Largest magnitude of a number that is computed with; above it products would overflow.
_MOST_NUMBER = 1e300
#: Characters of a value that messages print.
_SHOWN = 80


@dataclass(frozen=True)
class Fields:
    """A mapping read from a file.

    Getters take several spellings of a field; the first one that the file has counts.

    Attributes:
        values: field -> unchecked value.
        place: what messages call the mapping: the file, or the file and a section of it.
    """

    values: Mapping[str, Any]
    place: str

    def stating(self, **values: object) -> Fields:
        """Return these fields with some values set or replaced."""
        return Fields({**self.values, **values}, self.place)

    def with_defaults(self, **values: object) -> Fields:
        """Return these fields, with `values` for those that the file does not have."""
        return Fields({**values, **self.values}, self.place)

    def filled(self, **values: object) -> Fields:
        """Return these fields, with `values` for those that the file does not have or has as null."""
        return Fields({**self.values, **{k: v for k, v in values.items() if not self.has(k)}}, self.place)

    def has(self, key: str) -> bool:
        """Return whether the file has a value for the field (null counts as none)."""
        return self.values.get(key) is not None

    def _find(self, keys: Sequence[str]) -> tuple[str, Any]:
        """Return (spelling, value) of the first spelling that the file has.

        The first spelling and None where it has none.
        """
        for key in keys:
            if self.has(key):
                return key, self.values[key]
        return keys[0], None

    def fail(self, key: str, value: object, want: str) -> InputError:
        """Return the error for a field whose value cannot be used, to be raised by the caller.

        `want` says what is needed.
        """
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
        return InputError(f"{self.place}: {key} = {shown}: {want}")

    def missing(self, *keys: str) -> InputError:
        """Return the error for a field that the file has under none of its spellings, to be raised by the caller."""
        spellings = " (or ".join(keys) + ")" * (len(keys) - 1)
        return InputError(f"{self.place}: {spellings} is missing; add it, this architecture cannot be read without it")

    def number(self, *keys: str, default: float | None = None) -> float:
        """Return the finite number under the first of `keys` that the file has.

        Without a default the field is required.
        """
        key, value = self._find(keys)
        if value is None:
            if default is None:
                raise self.missing(*keys)
            return default
        if not _is_number(value):
            raise self.fail(key, value, "a finite number is needed")
        return float(value)

    def count(self, *keys: str, default: int | None = None, least: int = 1, most: float = _MOST_COUNT) -> int:
        """Return a whole number from `least` to `most` (a default may lie outside).

        Without a default it is required.
        """
        key, value = self._find(keys)
        if value is None:
            if default is None:
                raise self.missing(*keys)
            return default
        if not _is_number(value) or value != int(value) or value < least or value > most:
            raise self.fail(key, value, f"a whole number from {least} to {most:.0f} is needed")
        return int(value)

    def flag(self, *keys: str, default: bool = False) -> bool:
        """Return the truth value under the first of `keys` that the file has."""
        key, value = self._find(keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, value, "true or false is needed")
        return value

    def text(self, key: str, default: str = "") -> str:
        """Return the string under `key`."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.fail(key, value, "a string is needed")
        return value

    def items(self, key: str, length: int = 0) -> list[Any]:
        """Return the list under `key`, of `length` entries where that is given; [] when the file has none."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            raise self.fail(key, value, "a list is needed")
        if length and len(value) != length:
            raise self.fail(key, f"list of {len(value)}", f"one entry for each of {length} layers is needed")
        return list(value)

    def switches(self, key: str, length: int) -> list[bool]:
        """Return the list of zeros and ones under `key`, one for each of `length` layers; [] when the file has none."""
        values = self.items(key, length)
        for value in values:
            if value not in (0, 1) or isinstance(value, float):
                raise self.fail(key, value, "0 or 1 is needed for each layer")
        return [bool(value) for value in values]

    def section(self, key: str) -> Fields | None:
        """Return the nested mapping under `key`, or None when the file has none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.fail(key, value, "a mapping is needed")
        return Fields(value, f"{self.place}: {key}")

    def quotient(self, over: str, under: str, above: int, below: int) -> int:
        """Return `above` / `below`, which are the values of the fields `over` and `under`.

        `InputError` with a remainder.
        """
        if above % below:
            raise InputError(f"{self.place}: {over} = {above} is not a multiple of {under} = {below}")
        return above // below


def _is_number(value: object) -> bool:
    """Return whether a value is a finite number, and small enough to compute with."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < _MOST_NUMBER if isinstance(value, int) else math.isfinite(value)
