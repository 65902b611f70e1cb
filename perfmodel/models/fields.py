"""Fields of a configuration file, read with their type and range checked; every complaint names file and field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwdb import InputError


@dataclass(frozen=True)
class Fields:
    """A mapping read from `place` (a file, or a file and a section of it).

    The first of several keys that is present counts: architectures spell the same fact differently.
    """

    values: Mapping[str, Any]
    place: str

    def has(self, key: str) -> bool:
        """Whether the field is stated (null counts as not stated)."""
        return self.values.get(key) is not None

    def _find(self, keys: Sequence[str]) -> tuple[str, Any]:
        for key in keys:
            if self.has(key):
                return key, self.values[key]
        return keys[0], None

    def fail(self, key: str, value: object, want: str) -> InputError:
        """The error for a field whose value is of no use."""
        shown = repr(value)
        return InputError(f"{self.place}: {key} = {shown if len(shown) <= 80 else shown[:77] + '...'}: {want}")

    def missing(self, *keys: str) -> InputError:
        """The error for a field that is not there."""
        spellings = " (or ".join(keys) + ")" * (len(keys) - 1)
        return InputError(f"{self.place}: {spellings} is missing; this architecture cannot be read without it")

    def number(self, *keys: str, default: float | None = None) -> float:
        """A finite number."""
        key, value = self._find(keys)
        if value is None:
            if default is None:
                raise self.missing(*keys)
            return default
        if not _is_number(value):
            raise self.fail(key, value, "a finite number is needed")
        return float(value)

    def count(self, *keys: str, default: int | None = None, least: int = 1, most: float = 1e8) -> int:
        """A whole number of at least `least` (a default may lie below it)."""
        key, value = self._find(keys)
        if value is None:
            if default is None:
                raise self.missing(*keys)
            return default
        if not _is_number(value) or value != int(value) or value < least or value > most:
            raise self.fail(key, value, f"a whole number from {least} to {most:.0f} is needed")
        return int(value)

    def flag(self, *keys: str, default: bool = False) -> bool:
        """True or false."""
        key, value = self._find(keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, value, "true or false is needed")
        return value

    def text(self, key: str, default: str = "") -> str:
        """A string."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.fail(key, value, "a string is needed")
        return value

    def items(self, key: str, length: int = 0) -> list[Any]:
        """A list, of `length` entries where given; empty when not stated."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            raise self.fail(key, value, "a list is needed")
        if length and len(value) != length:
            raise self.fail(key, f"list of {len(value)}", f"one entry for each of {length} layers is needed")
        return list(value)

    def switches(self, key: str, length: int) -> list[bool]:
        """A list of zeros and ones, one for each of `length` layers; empty when not stated."""
        values = self.items(key, length)
        for value in values:
            if value not in (0, 1) or isinstance(value, float):
                raise self.fail(key, value, "0 or 1 is needed for each layer")
        return [bool(value) for value in values]

    def section(self, key: str) -> Fields | None:
        """A nested mapping, or None when not stated."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.fail(key, value, "a mapping is needed")
        return Fields(value, f"{self.place}: {key}")

    def quotient(self, over: str, under: str, above: int, below: int) -> int:
        """`above` / `below`, where the one must divide the other."""
        if above % below:
            raise InputError(f"{self.place}: {over} = {above} is not a multiple of {under} = {below}")
        return above // below


def _is_number(value: object) -> bool:
    """Whether a value is a finite number, and small enough to compute with."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 if isinstance(value, int) else math.isfinite(value)
