"""Say why no fleet is possible: the least changes of limits, cases or demand that make one possible."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwdb import Infeasible
from perfmodel.money import HOURS_PER_MONTH
from search.fleet.integer_program.eased import Ease, eases
from search.fleet.integer_program.variables import Ask, Program
from search.fleet.problem_data.limits import bounds
from search.fleet.problem_data.problem import FleetProblem

#: Limits in words, and their units.
WORDS = {
    "power": "the power limit",
    "budget": "the budget",
    "mean_budget": "the budget of the month",
    "carbon": "the carbon limit",
    "nodes": "the number of nodes",
    "spare_nodes": "spare_nodes",
    "spare_domains": "spare_domains",
    "chance": "worlds_kept",
    "stay": "min_stay_h of every option",
    "start": "start_up_s of every option",
}
#: Limits that have a name of their own, such as `stock[h100-sxm]`, in words.
NAMED = {
    "stock": "the stock of ",
    "supply": "the supply of ",
    "spare": "the spare nodes of ",
    "lost_share": "lost_share of ",
    "least": "the least of ",
    "least_usd_per_hour": "least_usd_per_hour of ",
    "output_factor": "output_factor of the case ",
    "slo": "",
}
#: Factor to the unit in which a scenario states a limit, and that unit.
OF_MESSAGES = {
    "power": (1e-3, " kW"),
    "mean_budget": (HOURS_PER_MONTH, " USD per month"),
    "carbon": (HOURS_PER_MONTH * 1e-3, " kg CO2e per month"),
}
UNITS = {"power": " W", "budget": " USD/h", "mean_budget": " USD/h", "carbon": " g CO2e/h", "slo": " ms"}
#: Names that count devices; the others that have no unit count something else.
OF_DEVICES = ("stock", "supply", "least")
#: Changes that have words of their own.
SWITCHES = {
    "fixed": "let the replicas of fixed options follow the periods (fixed = false)",
    "elastic": "let the replicas follow the periods (elastic = true)",
}
#: Significant digits of a value in a message, and decimals of a percentage.
DIGITS, DECIMALS = 6, 1
#: Rounding of a value that stands for a rounder one: 12.000000000001 devices are 12.
NOISE = 1e-9
#: Part of the demand below which less demand is no answer.
LEAST_DEMAND = 1e-3

#: Writes and solves a program; None where it has no solution.
Solve = Callable[[FleetProblem, Ask], Program | None]


@dataclass(frozen=True)
class Relaxation:
    """One change that makes an infeasible fleet problem feasible.

    limits: those to change, as name -> (from, to). of_nodes: those of them that count nodes where others count devices.
    """

    limits: Mapping[str, tuple[float, float]]
    of_nodes: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return " and ".join(_phrase(n, *change, n in self.of_nodes) for n, change in self.limits.items())


def _phrase(name: str, before: float, after: float, of_nodes: bool) -> str:
    """Say in words what changes. The value after it is rounded to the side on which it is still enough.

    of_nodes: whether it counts nodes, not devices.
    """
    if name == "demand":
        return f"lower the demand to {_rounded(100.0 * after, False, DECIMALS):.{DECIMALS}f} % of what is asked"
    if name in SWITCHES:
        return SWITCHES[name]
    if name.startswith("case["):
        return f"leave out the case {name.removeprefix('case[').removesuffix(']')!r}"
    change = "lower" if after < before else "raise"
    before, enough, told = _in_units(name, before, after, of_nodes)
    return f"{change} {describe(name)} from {before:,.{DIGITS}g} to {enough:,.{DIGITS}g}{told}"


def _in_units(name: str, before: float, after: float, of_nodes: bool) -> tuple[float, float, str]:
    """Return (value before, value that is enough, unit with a leading space) of a limit, as a scenario states it."""
    scale, told = OF_MESSAGES.get(name, (1.0, unit(name, of_nodes)))
    before, after = before * scale, after * scale
    decimals = DIGITS - 1 - math.floor(math.log10(abs(after))) if after else 0
    return before, _rounded(after, after > before, decimals), told


def relaxation_rows(error: FleetInfeasible) -> list[dict[str, Any]]:
    """Return one flat row per limit of each relaxation of a fleet that is not possible.

    relaxation: number of the change, from 1; rows of one number belong together. `allowed` and `enough` are in `unit`,
    the unit of a scenario; `enough` of the demand is the share that may stay. `what_if` is the change in words.
    """
    rows = []
    for number, one in enumerate(error.relaxations, start=1):
        for name, change in one.limits.items():
            before, enough, told = _in_units(name, *change, name in one.of_nodes)
            row = {"relaxation": number, "what_if": str(one), "limit": name, "allowed": before, "enough": enough}
            rows.append({**row, "unit": told.strip()})
    return rows


def _rounded(value: float, up: bool, decimals: int) -> float:
    """Return a value rounded up or down to so many decimals, as `round` counts them.

    >>> _rounded(63421.94, True, 1), _rounded(0.66667, False, 2), _rounded(12.0000000000001, True, 4)
    (63422.0, 0.66, 12.0)
    """
    scale = 10.0**decimals
    noise = NOISE * max(abs(value * scale), 1.0)
    return (math.ceil(value * scale - noise) if up else math.floor(value * scale + noise)) / scale


class FleetInfeasible(Infeasible):
    """Raised when no fleet satisfies the limits.

    relaxations: changes, each of which alone makes a fleet possible. remarks: how the scenario was read and what was
    lowered; they follow in brackets.
    """

    def __init__(self, message: str, relaxations: tuple[Relaxation, ...] = (), remarks: tuple[str, ...] = ()) -> None:
        ways, told = "; or ".join(str(r) for r in relaxations), "; ".join(remarks)
        super().__init__(message + (f": {ways}" if ways else "") + (f" ({told})" if told else ""))
        self.message, self.relaxations, self.remarks = message, relaxations, remarks


def describe(limit: str) -> str:
    """Describe a limit in words: `stock[h100-sxm]` is "the stock of h100-sxm"."""
    kind, _, rest = limit.partition("[")
    return NAMED[kind] + rest.removesuffix("]") if rest and kind in NAMED else WORDS.get(limit, limit)


def unit(limit: str, of_nodes: bool = False) -> str:
    """Return the unit of the limit called `limit`, with a leading space; "" for numbers.

    of_nodes: whether the supply is one of whole nodes.
    """
    kind, counted = limit.partition("[")[0], " nodes" if of_nodes else " devices"
    return UNITS.get(kind, counted if kind in OF_DEVICES else "")


def in_nodes(problem: FleetProblem) -> frozenset[str]:
    """Return the names of the limits that count nodes, not devices: those of supplies that are paid by the node."""
    whole = [s.name for s in problem.inventory.supplies if s.device in problem.by_node]
    return frozenset(f"{kind}[{name}]" for name in whole for kind in ("supply", "least"))


def relaxations(problem: FleetProblem, solve: Solve, day: FleetProblem | None = None) -> tuple[Relaxation, ...]:
    """Find the least changes that make a problem feasible.

    Each limit alone, and each other constraint alone; where none is enough, several together, of which none can be
    spared; then less demand. day: the problem of all periods, where `problem` has only the busiest.
    """

    def least(names: frozenset[str]) -> Relaxation | None:
        """Find the least excess of the limits `names` that makes the problem feasible; None where no excess does."""
        found = solve(problem, Ask(elastic=names)) if names else None
        return Relaxation(found.raised(), nodes) if found is not None else None

    nodes = in_nodes(problem)
    known, others = _elastic(problem), eases(problem, day)
    found = [r for r in (least(frozenset({name})) for name in known) if r is not None]
    for ease in others:
        value = ease.greatest(problem, lambda p: solve(p, Ask()) is not None)
        found += [Relaxation({ease.name: (ease.now, value)}, nodes)] if value is not None else []
    if not found:
        found = _together(problem, others, solve)
    less = least(frozenset({"demand"})) if problem.objective != "traffic" else None
    return (*found, *([less] if less is not None and less.limits["demand"][1] >= LEAST_DEMAND else []))


def _elastic(problem: FleetProblem) -> list[str]:
    """List the limits of a problem, and `chance` where worlds may be missed."""
    return list(bounds(problem)) + (["chance"] if any(not w.must for w in problem.worlds) else [])


def _together(problem: FleetProblem, others: Sequence[Ease], solve: Solve) -> list[Relaxation]:
    """Find changes of limits and other constraints that are enough together; [] where there are none.

    Constraints that are no limits stay as they are where the limits and the others are enough. Of those that change,
    each has the greatest value that the changes before it leave; then the limits are exceeded as little as possible.
    """
    ask = Ask(elastic=frozenset(_elastic(problem)))

    def eased(which: Sequence[Ease]) -> FleetProblem:
        """Return the problem with some constraints eased as far as they can be."""
        out = problem
        for ease in which:
            out = ease.whole(out)
        return out

    if solve(eased(others), ask) is None:
        return []
    chosen = list(others)
    for ease in others:
        fewer = [e for e in chosen if e is not ease]
        chosen = fewer if solve(eased(fewer), ask) is not None else chosen
    changes: dict[str, tuple[float, float]] = {}
    kept = eased(chosen)
    for ease in chosen:
        value = ease.greatest(kept, lambda p: solve(p, ask) is not None)
        if value is not None:  # None where the time is over
            kept, changes[ease.name] = ease.at(kept, value), (ease.now, value)
    found = solve(kept, ask)
    return (
        []
        if found is None or len(changes) < len(chosen)
        else [Relaxation({**changes, **found.raised()}, in_nodes(problem))]
    )
