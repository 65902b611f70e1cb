"""List the inputs of one deployment, and answer what they ask: for programs that give them by name, as options do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from typer.models import ParameterInfo

from hwdb import Hwdb, InputError
from search.options.deployment_options import DeploymentOptions, EngineOptions, PoolOptions
from search.options.expert_options import ExpertOptions
from search.options.memory_options import HostOptions, LoraOptions
from search.options.number_range import check_number
from search.options.site_options import SiteOptions
from search.options.speculation_options import SpeculationOptions
from search.options.workload_options import SloOptions, WorkloadOptions

if TYPE_CHECKING:
    from search.options.from_options import Colocated

#: The groups of inputs, in the order in which they are listed.
GROUPS: tuple[type[Any], ...] = (
    *(DeploymentOptions, WorkloadOptions, EngineOptions, ExpertOptions, SpeculationOptions),
    *(LoraOptions, HostOptions, PoolOptions, SloOptions, SiteOptions),
)
#: Options that are read from what runs on a machine, and so are no inputs by name.
READ = ("from_",)


@dataclass(frozen=True)
class Input:
    """One input: its name, the type of its value without None, its meaning in a sentence, and its default.

    several: whether it is a list of such values.
    """

    name: str
    kind: type[Any]
    meaning: str
    default: Any
    several: bool = False


@dataclass(frozen=True)
class Answered:
    """The answer about one deployment: what it is, its row, and whether it keeps its SLO."""

    asked: Colocated
    row: dict[str, Any]
    keeps_slo: bool


@cache
def inputs() -> tuple[Input, ...]:
    """Return every input of a deployment once, in the order of the groups."""
    found: dict[str, Input] = {}
    for group in GROUPS:
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            if field.name not in READ and field.name not in found:
                found[field.name] = _input(field.name, hints[field.name], field.default)
    return tuple(found.values())


def _input(name: str, annotation: Any, default: Any) -> Input:
    """Return an input as an option declares it."""
    kind, *extras = get_args(annotation)
    meaning = next(extra.help or "" for extra in extras if isinstance(extra, ParameterInfo))
    plain = next((k for k in get_args(kind) if k is not NoneType), kind) if NoneType in get_args(kind) else kind
    if get_args(plain):
        return Input(name, get_args(plain)[0], meaning, default, several=True)
    return Input(name, plain, meaning, default)


def answered(given: Mapping[str, Any], hwdb: Hwdb) -> Answered:
    """Estimate the deployment that inputs describe, as `perfmodel estimate` does. given: name of an input -> value.

    Raises `InputError` for a name that is no input, and where the values are impossible; messages call inputs by the
    flags of the command.
    """
    from search.options.answer_row import estimate_row, keeps_slo
    from search.options.from_options import colocated
    from search.options.two_pools import with_pools

    unknown = next((name for name in given if name not in {one.name for one in inputs()}), None)
    if unknown is not None:
        raise InputError(f"{unknown}: is no input of a deployment; see perfmodel estimate --help")
    for name, value in given.items():
        check_number(name, value)
    of: dict[type[Any], Any] = {g: g(**{f.name: given[f.name] for f in fields(g) if f.name in given}) for g in GROUPS}
    groups: dict[str, Any] = {"experts": of[ExpertOptions], "drafting": of[SpeculationOptions]}
    groups |= {"host": of[HostOptions], "lora": of[LoraOptions], "hwdb": hwdb}
    bounds, confidence = of[SloOptions].bounds(), of[SloOptions].confidence
    placed = colocated(of[DeploymentOptions].complete(), of[WorkloadOptions].workload(), of[EngineOptions], **groups)
    asked = with_pools(placed, of[PoolOptions], hwdb)
    row = estimate_row(asked, hwdb, bounds, of[SiteOptions])
    return Answered(asked, row, keeps_slo(asked, bounds, confidence))
