"""Write plain values as TOML text: numbers, texts, lists and tables, which `hwdb.tomlfile` reads again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hwdb.errors import InputError
from hwdb.tomlfile import quoted

#: Most nested tables that are written. Chosen: scenarios have three.
DEEPEST = 20


def as_toml(values: Mapping[str, Any], where: str) -> str:
    """Return an object as TOML text, a section per table at its top; `InputError` for values that TOML does not have.

    where: what messages call the object.

    >>> print(as_toml({"slo": {"ttft_ms": 500}, "title": "Chat"}, "scenario"), end="")
    title = "Chat"
    <BLANKLINE>
    [slo]
    ttft_ms = 500
    """
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in values.items() if key not in tables}
    sections = [f"\n[{_key(str(key))}]\n{_lines(table, f'{where}.{key}', 2)}" for key, table in tables.items()]
    return (_lines(plain, where, 1) + "".join(sections)).lstrip("\n")


def _lines(values: Mapping[str, Any], where: str, depth: int) -> str:
    """Return one line per key. depth: of the values."""
    return "".join(f"{_key(str(key))} = {_value(v, f'{where}.{key}', depth)}\n" for key, v in values.items())


def _key(key: str) -> str:
    """Return a key as TOML writes it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)


def _value(value: Any, where: str, depth: int) -> str:
    """Return a value as TOML writes it. depth: of the table that it is in."""
    if depth > DEEPEST:
        raise InputError(f"{where}: nested more than {DEEPEST} deep; give the tables of a scenario")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        inside = (f"{_key(str(k))} = {_value(v, f'{where}.{k}', depth + 1)}" for k, v in value.items())
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v, where, depth + 1) for v in value) + "]"
    raise InputError(f"{where}: null is no value; leave the key out")
