"""Refuse numbers that are too large to compute with."""

from __future__ import annotations

from hwdb import InputError
from hwdb.tomlfile import Table

#: Characters of a number that a message shows.
LONGEST_SHOWN = 24


def check_number(name: str, value: object) -> None:
    """Raise `InputError` for a number that is too large to compute with. name: of the option."""
    if isinstance(value, int | float) and (value > Table.largest or value < -Table.largest):
        shown = repr(value) if len(repr(value)) < LONGEST_SHOWN else f"{repr(value)[:LONGEST_SHOWN]}..."
        raise InputError(f"--{name.replace('_', '-')} {shown} is out of range; give at most {Table.largest:g}")
