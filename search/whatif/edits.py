"""Read what is to be different: `slo.ttft_ms_p95=300`, `device.h100-sxm.memory.bandwidth*=2`, and grids of values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwdb import InputError, tomlfile
from perfmodel.vocabulary import FORMER_NAMES

#: Key, operator and value. A `*` before `=` multiplies; a space between them makes it part of the key's pattern.
_FORM = re.compile(r"\s*(?P<key>.+?)(?P<operator>(?<=[^.\s])[*/+-]=|\s+[*/+-]=|\s*=)(?P<value>.*)", re.S)
_SEGMENT = re.compile(r'"([^"]*)"|([^."]+)')
#: Most values of a grid. Chosen: some minutes of plans.
MOST_VALUES = 1000
#: Letters that make a part of a key a pattern of shell style.
WILD = frozenset("*?[")
EXAMPLE = "write KEY=VALUE, such as slo.ttft_ms_p95=300, or KEY*=FACTOR"
GRID_EXAMPLE = "write KEY=LOW:HIGH:COUNT, such as workload.request_rate_rps=5:80:16, or KEY=A,B,C"


@dataclass(frozen=True)
class Edit:
    """One thing to be different.

    text: as it was written. path: the parts of the key, `("slo", "ttft_ms_p95")`. operator: `=`, or `*=`, `/=`, `+=`,
    `-=` on the present value. value: what is set, or what it is changed by; None takes the key out. raw: the value as
    it was written.
    """

    text: str
    path: tuple[str, ...]
    operator: str
    value: Any
    raw: str = ""

    @property
    def key(self) -> str:
        """Return the key as it is written."""
        return ".".join(self.path)

    def of(self, present: float) -> float:
        """Return what becomes of the present value of the key."""
        with_it = {"*=": present * self.value, "+=": present + self.value, "-=": present - self.value}
        if self.operator == "/=":
            if not self.value:
                raise InputError(f"{self.text}: nothing is divided by 0; give another number")
            return present / float(self.value)
        return float(with_it.get(self.operator, self.value))


@dataclass(frozen=True)
class Grid:
    """Values that one key takes in turn.

    edits: one per value. levels: the value of each, as a table
    shows it.
    """

    key: str
    edits: tuple[Edit, ...]
    levels: tuple[Any, ...]


def read_edits(given: Sequence[str] | Mapping[str, Any]) -> list[Edit]:
    """Read several changes: texts as `read_edit` takes them, or a mapping from key (`slo.ttft_ms*`) to value."""
    if isinstance(given, str):
        return [read_edit(given)]
    if isinstance(given, Mapping):
        return [_of_pair(str(key), value) for key, value in given.items()]
    return [read_edit(text) for text in given]


def _of_pair(key: str, value: Any) -> Edit:
    """Return the change of a key that Python names: `"KEY"` is set, `"KEY*"`, as in `KEY*=2`, is multiplied."""
    plain = value.item() if hasattr(value, "item") else list(value) if isinstance(value, tuple) else value
    edit = read_edit(f"{key}=0")
    if edit.operator != "=":
        _check_number(replace(edit, value=plain, text=f"{key}={value}"))
    return replace(edit, value=plain, raw=str(value), text=f"{key}={value}")


def read_edit(text: str) -> Edit:
    """Read one change; raises `InputError` for what is none.

    >>> read_edit("slo.ttft_ms_p95=300").value
    300
    >>> read_edit("device.h100-sxm.memory.bandwidth*=2").operator
    '*='
    """
    found = _FORM.fullmatch(text)
    if found is None or "\n" in text:
        raise InputError(f"{text!r} is no change; {EXAMPLE}")
    operator, key, raw = found["operator"].strip(), found["key"].strip(), found["value"].strip()
    edit = Edit(text.strip(), _path(key, text), operator, _value(raw), raw)
    if operator != "=":
        _check_number(edit)
    return edit


def _check_number(edit: Edit) -> None:
    """Raise `InputError` where the value of a change that computes is no number."""
    value = edit.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{edit.text}: {edit.raw or value!r} is not a number; {EXAMPLE}")


def _path(key: str, text: str) -> tuple[str, ...]:
    """Split a dotted key into its parts; a part in quotes may hold dots."""
    parts = tuple((quoted or plain).strip() for quoted, plain in _SEGMENT.findall(key))
    if not parts or not all(parts) or ".." in key or key.startswith(".") or key.endswith("."):
        raise InputError(f"{text!r}: {key!r} is no key; {EXAMPLE}")
    return tuple(FORMER_NAMES.get(part, part) for part in parts)


def _value(raw: str) -> Any:
    """Return the value that a text means: TOML, else a list separated by commas, else the text itself; None for ""."""
    if not raw:
        return None
    try:
        return tomlfile.parse_values(f"value = {raw}", "a value")["value"]
    except InputError:
        pass
    if "," in raw and not set(raw) & set("[]{}\"'"):
        return [_value(part.strip()) for part in raw.split(",") if part.strip()]
    return raw


def read_grid(text: str) -> Grid:
    """Read the values that a key takes in turn: `KEY=LOW:HIGH:COUNT`, evenly spaced, or `KEY=A,B,C`.

    `KEY*=0.5:2:7` multiplies. `:log` after the count spaces them by equal factors.

    >>> read_grid("workload.request_rate_rps=5:20:4").levels
    (5, 10, 15, 20)
    """
    edit = _FORM.fullmatch(text)
    if edit is None or "\n" in text or not edit["value"].strip():
        raise InputError(f"{text!r} is no grid; {GRID_EXAMPLE}")
    head, values = text[: edit.start("value")], _grid_values(edit["value"].strip(), text)
    if len(values) > MOST_VALUES:
        raise InputError(f"{text!r}: {len(values)} values are too many; give at most {MOST_VALUES}")
    edits = tuple(read_edit(f"{head}{_written(v)}") for v in values)
    operator = "" if edits[0].operator == "=" else f" {edits[0].operator}"
    return Grid(f"{edits[0].key}{operator}", edits, tuple(values))


def _grid_values(raw: str, text: str) -> list[Any]:
    """Return the values of a grid. raw: what stands after the operator. text: the whole, for messages."""
    if ":" not in raw:
        value = _value(raw)
        return list(value) if isinstance(value, list) else [value]
    ends, spaced = raw.removesuffix(":log"), raw.endswith(":log")
    parts = ends.split(":")
    try:
        low, high, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        raise InputError(f"{text!r}: {raw!r} is no range; {GRID_EXAMPLE}") from None
    if len(parts) > 3 or not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"{text!r}: {raw!r} is no range; {GRID_EXAMPLE}")
    if not 1 <= count <= MOST_VALUES:
        raise InputError(f"{text!r}: {count} values; give 1 to {MOST_VALUES}")
    if spaced and not (low > 0 and high > 0):
        raise InputError(f"{text!r}: equal factors need ends above 0; leave :log out")
    steps = [i / max(count - 1, 1) for i in range(count)]
    if spaced:
        return [_tidy(low * (high / low) ** s) for s in steps]
    return [_tidy(low + (high - low) * s) for s in steps]


def _tidy(value: float) -> float | int:
    """Return a number without rounding noise, whole where it is whole."""
    rounded = float(f"{value:.10g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def _written(value: Any) -> str:
    """Return a value of a grid as an edit writes it."""
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
