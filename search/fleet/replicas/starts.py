"""Say how long a replica of an option takes to start: as the scenario states, else by the start-up model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Deployments
from perfmodel.estimates import start_up
from perfmodel.unit_factors import SECONDS_PER_HOUR
from search.fleet.replicas.layout_set import Layouts
from search.scenario import FleetOption, Option

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Where the start-up time of an option comes from.
STATED, MODELLED, UNKNOWN = "stated", "modelled", "unknown, counted as 0"


def start_ups(part: Layouts, option: FleetOption, scenario: Scenario) -> list[tuple[float, str]]:
    """Return (hours from the start of a process until it serves, basis) of each option of the program, (L,).

    They are those of a cold start with the weights on the host (`perfmodel.estimates.start_up`): of a pair the longer
    of both pools, of several models on one replica one after the other. A stated throughput has no start that is known.
    A scenario without `[fleet]` is planned hour by hour as `plan` plans each hour, which counts no starts.
    """
    if scenario.fleet is None:
        return [(0.0, "")] * len(part.options)
    if not np.isnan(option.terms.start_up_h):
        return [(option.terms.start_up_h, STATED)] * len(part.options)

    def seconds(model: str, layout: Deployments) -> float:
        """Return the seconds of one cold start."""
        return float(start_up(scenario.model_called(model), layout, scenario.engine).cold[0])

    if part.shared:
        found = [sum(seconds(t.name, t.layout) for t in one.tenants) for one in part.shared]
    elif part.pairs:
        models = [o.model for o in part.options]
        pools = zip(models, part.pairs, strict=True)
        found = [max(seconds(m, pair.prefill), seconds(m, pair.decode)) for m, pair in pools]
    else:
        found = [seconds(o.model, d) for o, d in zip(part.options, part.placed, strict=False)]
    found += [float("nan")] * (len(part.options) - len(found))
    return [(0.0, UNKNOWN) if np.isnan(s) else (s / SECONDS_PER_HOUR, MODELLED) for s in found]


def told_of_starts(options: Sequence[Option], *, joined: bool) -> tuple[str, ...]:
    """Return a remark on modelled starts where they play a part. joined: whether replicas start during the day."""
    seconds = [SECONDS_PER_HOUR * o.start_up_h for o in options if o.start_up_basis == MODELLED and o.start_up_h]
    if not joined or not seconds:
        return ()
    low, high = min(seconds), max(seconds)
    span = f"{low:.0f} s" if round(low) == round(high) else f"{low:.0f} to {high:.0f} s"
    return (f"starts of replicas are modelled where start_up_s is not stated ({span}, without boot and download)",)
