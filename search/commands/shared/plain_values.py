"""Convert plain values of options without pydantic, which Typer loads for any value: that takes a tenth of a second.

Texts, switches, paths, and numbers in their usual spelling are converted here, to what Typer makes of them. Everything
else, also every value that is refused, goes to Typer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

import typer

from perfmodel.unit_factors import PERCENT, SECONDS_PER_HOUR, SECONDS_PER_MINUTE

#: Spellings of numbers that Python and pydantic read alike.
_SPELLINGS = {
    int: re.compile(r"-?(0|[1-9][0-9]{0,14})"),
    float: re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?"),
}
#: Stands for a value that is left to Typer.
OTHER = object()
#: A number with a letter for its thousands or millions ("128k"), and digits in groups of three ("128,000").
_WITH_LETTER, _IN_GROUPS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?([kKmM])"), re.compile(r"[1-9]\d{0,2}(?:,\d{3}){1,4}")
#: Several numbers, where one is asked for.
_LIST = re.compile(r"[\d.]+(?:[,;] ?[\d.]+)+")
#: A range of numbers, and the options whose numbers are means of lengths.
_RANGE = re.compile(r"[\d.]+ ?(?:-|\u2013|\.\.|:|to) ?[\d.]+")
_LENGTHS = ("isl", "osl")
#: A number with its unit, or with a sign of money.
_WITH_UNIT = re.compile(r"[$€£]? ?(\d+(?:\.\d+)?) ?([a-zA-Zµμ%$€£/][a-zA-Zµμ%$€£/]{0,11})?")
#: Units that one option may be written in: what they measure, and how many of its unit of the SI one is.
_UNITS = {
    **{unit: ("time", factor) for unit, factor in (("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("sec", 1.0))},
    **{
        unit: ("time", factor)
        for unit, factor in (("min", SECONDS_PER_MINUTE), ("h", SECONDS_PER_HOUR), ("hours", SECONDS_PER_HOUR))
    },
    **{unit: ("power", factor) for unit, factor in (("w", 1.0), ("kw", 1e3), ("mw", 1e6))},
    **{f"{letter}b": ("bytes", 1e3**power) for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": ("bytes", 1024.0**power) for power, letter in enumerate("kmgt", 1)},
    **dict.fromkeys(("rps", "qps", "/s", "/sec", "req/s"), ("rate", 1.0)),
    **dict.fromkeys(("rpm", "qpm", "/m", "/min", "req/min"), ("rate", 1.0 / SECONDS_PER_MINUTE)),
    **dict.fromkeys(("rph", "/h", "/hour", "req/h"), ("rate", 1.0 / SECONDS_PER_HOUR)),
}
#: How a unit at the end of the name of an option is written in a sentence, where otherwise.
_WRITTEN = {"kw": "kW", "w": "W", "gb": "GB", "rps": "requests per second"}
#: Letter -> powers of 1,000, or of 1,024, that it stands for.
_POWERS = {"k": 1, "m": 2}


def converted(kind: Any, value: Any, info: Any) -> Any:
    """Return a value as `kind`, or `OTHER` where that is left to Typer.

    kind: type of the option, of `info` (`typer.models.ParameterInfo`), that says what is allowed.
    """
    if info.parser is not None or info.clamp:
        return OTHER
    if get_origin(kind) is list and isinstance(value, list | tuple):
        found = [converted(get_args(kind)[0], one, info) for one in value]
        return OTHER if any(one is OTHER for one in found) else found
    if kind in (str, bool):
        return value if type(value) is kind else OTHER
    if kind is Path:
        return _path(value, info)
    if kind not in _SPELLINGS:
        return OTHER
    if isinstance(value, str) and _SPELLINGS[kind].fullmatch(value):
        value = kind(value)
    if type(value) is not kind:
        return OTHER
    allowed = (info.min is None or value >= info.min) and (info.max is None or value <= info.max)
    return value if allowed else OTHER


def meant_number(text: str, option: str = "", *, whole: bool = False) -> str:
    """Return what to write in place of a number in another spelling; "" where nothing better is known.

    option: name of the option, whose last word may be its unit. whole: whether it takes whole numbers alone.

    >>> meant_number("128k"), meant_number("4.5k"), meant_number("2,048")
    ('write 128000, or 131072 where k stands for 1,024', 'write 4500', 'write 2048 without a comma')
    >>> meant_number("1,2,4")
    'one number is taken here; a table of cases (perfmodel predict) and search.sweep in Python take several'
    >>> meant_number("0.5 s", "ttft_ms"), meant_number("300W", "row_budget_kw"), meant_number("$2.5", "usd_per_hour")
    ('write 500, in ms', 'write 0.3, in kW', 'write 2.5 alone')
    >>> meant_number("600rpm", "request_rate_rps"), meant_number("100-200", "isl")
    ('write 10, in requests per second', 'one number is taken here, the mean: --isl-dist has the spread of lengths')
    """
    lettered = _WITH_LETTER.fullmatch(text.strip())
    if lettered:
        power = _POWERS[letter := lettered[2].lower()]
        thousands, binary = (float(lettered[1]) * base**power for base in (1000, 1024))
        other = f", or {binary:.0f} where {letter} stands for {1024**power:,}" if "." not in lettered[1] else ""
        return f"write {thousands:.10g}{other}"
    if _IN_GROUPS.fullmatch(text.strip()):
        return f"write {text.strip().replace(',', '')} without a comma"
    with_unit = _WITH_UNIT.fullmatch(text.strip())
    if with_unit and not text.strip().replace(".", "", 1).isdigit():
        return _in_unit(option.rpartition("_")[2], with_unit[1], with_unit[2] or "")
    if _LIST.fullmatch(text.strip()):
        return "one number is taken here; a table of cases (perfmodel predict) and search.sweep in Python take several"
    if _RANGE.fullmatch(text.strip()):
        spread = ", the mean: --isl-dist has the spread of lengths" if option in _LENGTHS else ""
        return f"one number is taken here{spread}"
    try:
        number_given = float(text)
        return "give a whole number" if whole and not number_given.is_integer() else ""
    except (ValueError, OverflowError):
        return "give a whole number in digits" if whole else "give digits, with a point before decimals"


def _in_unit(unit: str, number: str, written: str) -> str:
    """Return what to write in place of `number` with the unit `written`, for an option in `unit`; "" for no unit."""
    if written == "%":
        return f"write {float(number) / PERCENT:.10g} for a share, {number} where percent are asked for"
    own, said, of_option = _UNITS.get(unit), _UNITS.get(written.lower()), _WRITTEN.get(unit, unit)
    if own and said and own[0] == said[0]:
        return f"write {float(number) * said[1] / own[1]:.10g}, in {of_option}"
    if own and written:
        return f"{written!r} is no unit that is known here; give a number in {of_option}"
    return f"write {number} alone" + (f", in {of_option}" if own else "")


def _path(value: Any, info: Any) -> Any:
    """Return a text as a path, or `OTHER` where Typer would change, check or refuse it."""
    changed = info.resolve_path or info.allow_dash or info.path_type is not None
    checked = info.exists or info.writable or not (info.file_okay and info.dir_okay)
    if changed or checked or type(value) is not str or "\0" in value:
        return OTHER
    unreadable = info.readable and os.path.exists(value) and not os.access(value, os.R_OK)
    return OTHER if unreadable else Path(value)


class _Conversion:
    """Converts the values of one option; in place of Typer's own, which is made where it is needed."""

    def __init__(self, made: Callable[[], Any], kind: Any, info: Any) -> None:
        """made: makes Typer's conversion. kind, info: as for `converted`."""
        self._made, self._kind, self._info = made, kind, info

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value as the option has it; errors are Typer's."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        found = OTHER if several and isinstance(value, str) else converted(self._kind, value, self._info)
        name = str(getattr(param, "name", "") or "")
        better = (
            meant_number(value, name, whole=self._kind is int)
            if found is OTHER and self._kind in _SPELLINGS and isinstance(value, str)
            else ""
        )
        if better:
            raise typer.BadParameter(f"{value!r} is no number in the usual spelling; {better}", ctx=ctx, param=param)
        return self._made().coerce(value, param=param, ctx=ctx) if found is OTHER else found


def without_pydantic(parameters: list[Any]) -> list[Any]:
    """Let parameters of Typer convert plain values as said above, and return them.

    Nothing changes of those that have no conversion as Typer 0.29 makes it.
    """
    for parameter in parameters:
        made, descriptor = getattr(parameter, "get_runtime_param", None), getattr(parameter, "type_descriptor", None)
        if made is not None and descriptor is not None and "get_runtime_param" not in vars(parameter):
            quick = _Conversion(made, descriptor.annotation, descriptor.parameter_info)
            parameter.get_runtime_param = partial(_same, quick)
    return parameters


def _same(quick: _Conversion) -> _Conversion:
    """Return the conversion of a parameter."""
    return quick
