"""Refuse scenarios whose requests exceed the context of their model, unless they allow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb import InputError
from perfmodel import ModelSpec, Workload
from perfmodel.estimates import check_context, check_lengths

if TYPE_CHECKING:
    from search.scenario import Scenario

#: How a scenario allows long requests.
ALLOW = "set allow_long_context = true in [model]"


def refuse_long_requests(scenario: Scenario, spec: ModelSpec) -> None:
    """Raise `InputError` where requests of the scenario exceed the context of its model `spec`, and it allows none."""
    work, request = scenario.workload, scenario.request
    if scenario.allow_long_context:
        return
    try:
        if request is not None and request.trace is not None:
            trace = request.read_trace()
            check_lengths(spec, (trace.input + trace.output).astype(float), what=request.trace.name, way_out=ALLOW)
        check_context(spec, work, way_out=ALLOW)
    except InputError as error:
        raise InputError(f"{scenario.path}: [workload]: {error}") from None


def refuse_long_class(scenario: Scenario, name: str, work: Workload, spec: ModelSpec) -> None:
    """Raise `InputError` where the fleet class `name` with lengths `work` exceeds the context of its model `spec`."""
    try:
        check_context(spec, work, allowed=scenario.allow_long_context, way_out=ALLOW)
    except InputError as error:
        raise InputError(f"{scenario.path}: class {name!r}: {error}") from None
