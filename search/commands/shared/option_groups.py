"""Group the options of a command in dataclasses: one field per option, one dataclass per section of the help.

A command declares a parameter per dataclass. `grouped` shows Typer one parameter per field instead, and gives the
command the dataclasses, filled in.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_type_hints

from typer.models import OptionInfo

from search.options import check_number

P = ParamSpec("P")
R = TypeVar("R")


def grouped(command: Callable[P, R]) -> Callable[..., R]:
    """Return `command` with a flat signature: each parameter that is a dataclass becomes one parameter per field."""
    declared = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def flat(**given: Any) -> R:
        for name, value in given.items():
            check_number(name, value)
        filled = {}
        for name, parameter in declared.items():
            group = parameter.annotation
            is_group = is_dataclass(group)
            filled[name] = group(**{f.name: given[f.name] for f in fields(group)}) if is_group else given[name]
        return command(**filled)  # type: ignore[call-arg]

    shown = [p for parameter in declared.values() for p in _flattened(parameter)]
    flat.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in shown}
    return flat


def _flattened(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """Yield the parameter itself, or one keyword parameter per field where it is a group of options."""
    group = parameter.annotation
    if not is_dataclass(group):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    annotations = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=_in_section(annotations[field.name], getattr(group, "section", None)),
        )


def _default(field: Field[Any]) -> Any:
    """Return the default of a dataclass field in the form that a function signature needs."""
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _in_section(annotation: Any, section: str | None) -> Any:
    """Return the annotation with its option placed in `section` of the help, unless the option names its section."""
    kind, *extras = get_args(annotation)
    for i, extra in enumerate(extras):
        if isinstance(extra, OptionInfo) and extra.rich_help_panel is None:
            extras[i] = copy(extra)
            extras[i].rich_help_panel = section
    return Annotated[kind, *extras]
