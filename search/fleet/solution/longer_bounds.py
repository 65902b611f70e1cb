"""Find by how much a bound of an SLO has to be longer until a fleet is possible: options are modelled again with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Slo
from perfmodel.unit_factors import MS_PER_S
from search.fleet.integer_program.deadline import Deadline
from search.fleet.integer_program.program import Ask
from search.fleet.integer_program.relax import Relaxation
from search.fleet.integer_program.solve import Effort, Solver
from search.fleet.problem_data.limits import served_by_none
from search.fleet.problem_data.problem import FleetProblem, checked

if TYPE_CHECKING:
    from search.scenario import FleetSpec, Scenario

#: Factors on a bound that are tried: even steps of the logarithm up to `MOST`. Chosen: a bound that is 2 % longer than
#: needed is near enough, and one that is 16 times as long is that of another service.
STEP, MOST = 1.02, 16.0
FACTORS = (1.0, *STEP ** np.arange(1, np.floor(np.log(MOST) / np.log(STEP)) + 1), MOST)
#: Share of the time that is left for the search, and the gap at which any fleet will do.
SEARCH_TIME, ANY_GAP = 0.5, 1.0
#: Significant digits of a longer bound.
DIGITS = 4

#: Builds the input of the program of a scenario.
Made = Callable[["Scenario"], FleetProblem]
#: Factors of bounds, by the positions of the class and of the bound in its SLO.
Longer = dict[tuple[int, int], float]


def longer_bounds(
    scenario: Scenario, made: Made, due: float, solver: Solver | None
) -> tuple[tuple[Relaxation, ...], bool]:
    """Find the bounds of SLOs that make a fleet possible if they are longer: each alone, else several together.

    made: builds the input of the program. due: when the answer is due, in seconds of `time.monotonic`. Returns (the
    changes, whether the time was over before all were known). There are none without `[fleet]`, and none where every
    throughput is stated.
    """
    fleet, clock = scenario.fleet, Deadline(due).part(SEARCH_TIME)
    if fleet is None or all(o.throughput is not None for o in fleet.options):
        return (), False
    effort = Effort(solver, clock, ANY_GAP)

    def possible(longer: Longer) -> bool:
        """Return whether a fleet is possible with longer bounds."""
        problem = checked(made(replace(scenario, fleet=_with(fleet, longer))))
        plain = replace(problem, objective="cost")
        return not served_by_none(problem) and effort.tried(plain, Ask()) is not None

    every = [(c, b) for c, one in enumerate(fleet.classes) for b in range(len(one.slo.objectives))]
    found = [one for bound in every if (one := _least(possible, {}, [bound], clock))]
    if not found and (together := _least(possible, {}, every, clock)):
        for bound in every:
            others = {k: f for k, f in together.items() if k != bound}
            together = _least(possible, others, [bound], clock, together[bound]) or together
        found = [together]
    return tuple(_told(fleet, longer) for longer in found), clock.over


def _least(
    possible: Callable[[Longer], bool],
    others: Longer,
    bounds: Sequence[tuple[int, int]],
    clock: Deadline,
    known: float = np.inf,
) -> Longer | None:
    """Return the least factor on some bounds with which a fleet is possible, beside those of others.

    known: a factor that is known to be enough. None where there is none, and where none is known in time.
    """
    factors = [f for f in FACTORS if f <= known]

    def longer(position: int) -> Longer:
        """Return the factors of all bounds with one of `factors` on these."""
        return {**others, **dict.fromkeys(bounds, factors[position])}

    if clock.over or not (known <= factors[-1] or possible(longer(-1))):
        return None
    low, high = -1, len(factors) - 1
    while high - low > 1 and not clock.over:
        middle = (low + high) // 2
        low, high = (low, middle) if possible(longer(middle)) else (middle, high)
    return longer(high)


def _with(fleet: FleetSpec, longer: Longer) -> FleetSpec:
    """Return a fleet with longer bounds."""
    classes = list(fleet.classes)
    for (c, b), factor in longer.items():
        objectives = list(classes[c].slo.objectives)
        objectives[b] = replace(objectives[b], limit=_longer(objectives[b].limit, factor))
        classes[c] = replace(classes[c], slo=Slo(tuple(objectives)))
    return replace(fleet, classes=tuple(classes))


def _longer(seconds: float, factor: float) -> float:
    """Return a bound that is longer by a factor at least, and has few digits.

    >>> _longer(0.3, 1.02**7)
    0.3447
    """
    if factor == 1.0:
        return seconds
    value = seconds * factor
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(value)))
    return float(np.ceil(value * scale) / scale)


def _told(fleet: FleetSpec, longer: Longer) -> Relaxation:
    """Return the change that makes some bounds longer, in milliseconds; factors of 1 change nothing."""
    bounds = {(c, b): fleet.classes[c].slo.objectives[b] for (c, b), factor in longer.items() if factor > 1.0}
    return Relaxation(
        {
            f"slo[{one.key} of {fleet.classes[c].name}]": (
                one.limit * MS_PER_S,
                _longer(one.limit, longer[c, b]) * MS_PER_S,
            )
            for (c, b), one in bounds.items()
        }
    )
