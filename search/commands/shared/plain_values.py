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

#: Spellings of numbers that Python and pydantic read alike.
_SPELLINGS = {
    int: re.compile(r"-?(0|[1-9][0-9]{0,14})"),
    float: re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?"),
}
#: Stands for a value that is left to Typer.
OTHER = object()


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
