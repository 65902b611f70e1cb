"""Refuse scenarios whose requests exceed the context of their model, unless they allow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError
from perfmodel import ModelSpec, Workload
from perfmodel.estimates import check_context, check_lengths

if TYPE_CHECKING:
    from search.scenario import Scenario

#: How a scenario allows long requests.
ALLOW = "set allow_long_context = true in [model]"
#: Share of the context from which the length classes of a trace may hide longer requests, whose exact lengths then
#: count. chosen: a class of the longest 1 % of prompts spans less than this.
_CLASS_SPAN = 0.1


def refuse_long_requests(scenario: Scenario, spec: ModelSpec) -> None:
    """Raise `InputError` where requests of the scenario exceed the context of its model `spec`, and it allows none."""
    work, request = scenario.workload, scenario.request
    longest = float(np.max(work.input_tokens + work.output_tokens))
    if scenario.allow_long_context or not 0 < spec.max_context * _CLASS_SPAN < longest:
        return
    try:
        if request is not None and request.trace is not None:
            trace = request.read_trace()
            check_lengths(spec, trace.input + trace.output, what=request.trace.name, way_out=ALLOW)
        check_context(spec, work, way_out=ALLOW)
    except InputError as error:
        raise InputError(f"{scenario.path}: [workload]: {error}") from None


def refuse_long_class(scenario: Scenario, name: str, work: Workload, spec: ModelSpec) -> None:
    """Raise `InputError` where the fleet class `name` with lengths `work` exceeds the context of its model `spec`."""
    try:
        check_context(spec, work, allowed=scenario.allow_long_context, way_out=ALLOW)
    except InputError as error:
        raise InputError(f"{scenario.path}: class {name!r}: {error}") from None
