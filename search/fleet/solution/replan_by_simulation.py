"""Simulate a fleet, and plan it again with lower throughputs until every SLO is kept or the rounds are used up.

If an option misses a bound in simulation, its load is simulated on more and more replicas. (More replicas, and not
fewer requests, because replicas share bursts.) This gives the greatest load per replica that keeps all bounds. The
throughput of the option is lowered to it, and the program is solved again. A fleet that passes is not reduced again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Infeasible, InputError
from perfmodel.arrays import Array
from search.fleet.accounting.fleet import FleetPlan
from search.fleet.checks.busiest import Mix, busiest_mixes
from search.fleet.checks.mix import slowed, tightened
from search.fleet.checks.verify import simulated_rows, verified
from search.fleet.options.regions import stock_left
from search.fleet.replicas.modelled import Modelled
from search.fleet.solution.day import over_the_day
from search.fleet.solution.from_scenario import with_load
from search.searchers import Progress

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Times that a fleet is planned again at most. Chosen: one or two are usual.
MOST_ROUNDS = 3
#: Loads per replica, relative to that of the fleet, for which replicas are added where it misses a bound. Chosen: about
#: the grid that plans are read at; an option that keeps its bounds at none of them counts with half of the last.
SHARES = (0.95, 0.9, 0.8, 0.7, 0.55, 0.4, 0.25, 0.18)


@dataclass(frozen=True)
class SimulatedFleet:
    """A fleet, the rows of its simulation, and how often it was planned again. told: what was lowered, or why not."""

    fleet: FleetPlan
    rows: list[dict[str, Any]]
    rounds: int = 0
    told: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Return whether every bound is kept in simulation."""
        return all(row["kept"] for row in self.rows)


def passing(
    found: FleetPlan, scenario: Scenario, *, seed: int = 0, rounds: int = MOST_ROUNDS, progress: Progress | None = None
) -> SimulatedFleet:
    """Return the fleet whose simulation keeps every bound, with its rows, or the last one that was tried.

    found: as planned for `scenario`. rounds: times that it is planned again at most. Raises `InputError` where no
    option is modelled.
    """
    if found.modelled is None:
        raise InputError("no option of this fleet is modelled: stated throughputs cannot be simulated")
    now, told = SimulatedFleet(found, verified(found, seed=seed, progress=progress)), list[str]()
    while not now.kept and now.rounds < rounds:
        factor = served_shares(now.fleet, found.modelled, now.rows, seed)
        told += _lowered(now.fleet, factor)
        try:
            fleet = _again(now.fleet, found.modelled, factor, scenario)
        except Infeasible as error:
            return replace(now, told=(*told, f"no fleet that would pass is within the limits: {error}"))
        now = SimulatedFleet(fleet, verified(fleet, seed=seed, progress=progress), now.rounds + 1)
    return replace(now, told=tuple(told))


def served_shares(found: FleetPlan, modelled: Modelled, rows: list[dict[str, Any]], seed: int) -> Array:
    """Return what the simulation of each option serves over what the program counts on, (O,); 1 where it passes.

    rows: of `verified`.
    """
    out, busy = np.ones(len(found.problem.options)), np.nan_to_num(found.utilisation())
    missed = {(row["option"], row["model"]) for row in rows if not row["kept"]}
    for mix in busiest_mixes(found, modelled):
        if (found.problem.options[mix.option].name, mix.served.model) in missed:
            share = _kept_share(found, modelled, mix, seed)
            out[mix.option] = min(out[mix.option], share * busy[mix.option, mix.period])
    return out


def _kept_share(found: FleetPlan, modelled: Modelled, mix: Mix, seed: int) -> float:
    """Return the greatest load per replica, relative to that of a mix, at which its simulation keeps every bound."""
    count = int(found.replicas[mix.option, mix.period])
    for replicas in dict.fromkeys(int(np.ceil(count / share)) for share in SHARES):
        if all(row["kept"] for row in simulated_rows(found, modelled, mix, seed, replicas - count)):
            return count / replicas
    return SHARES[-1] / 2.0


def _lowered(found: FleetPlan, factor: Array) -> list[str]:
    """Say how much of its throughput each option counts with."""
    return [
        f"{o.name} counts with {100 * part:.0f} % of its throughput, which is what its simulation served"
        for o, part in zip(found.problem.options, factor.tolist(), strict=True)
        if part < 1.0
    ]


def _again(found: FleetPlan, modelled: Modelled, factor: Array, scenario: Scenario) -> FleetPlan:
    """Plan the fleet with the throughput of each option times its factor, (O,), as it was planned before."""
    asked = replace(found.problem, rate=found.problem.rate / found.served)
    fleet, told = tightened(
        slowed(asked, factor), modelled, lambda problem: over_the_day(problem, None, scaled=found.options_stay)
    )
    fleet = with_load(fleet, modelled)
    return replace(
        fleet,
        problem=replace(fleet.problem, remarks=(*fleet.problem.remarks, *told)),
        manifest=found.manifest,
        site=found.site,
        idle=stock_left(fleet.problem, fleet.replicas, scenario),
        modelled=modelled,
        options_stay=found.options_stay,
    )
