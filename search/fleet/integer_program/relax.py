"""Say why no fleet is possible: the least changes of limits, cases or demand that make one possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hwdb import Infeasible
from search.fleet.integer_program.variables import Ask, Program
from search.fleet.problem_data.limits import bounds
from search.fleet.problem_data.problem import FleetProblem

#: Limits in words, and the units in which messages give them.
WORDS = {
    "power": "the power limit",
    "budget": "the budget",
    "mean_budget": "the budget of the month, as a mean per hour,",
    "carbon": "the carbon limit",
    "nodes": "the number of nodes",
    "spare_nodes": "spare_nodes",
    "spare_domains": "spare_domains",
    "chance": "worlds_kept",
    "spot": "lost_share of spot devices",
    "stay": "min_stay_h",
    "start": "start_up_s",
}
UNITS = {"power": " W", "budget": " USD/h", "mean_budget": " USD/h", "carbon": " g CO2e/h"}
#: Names that count no devices and have no unit.
PLAIN = ("nodes", "spare_nodes", "spare_domains", "chance", "spot", "stay", "start")

#: Writes and solves a program; None where it has no solution.
Solve = Callable[[FleetProblem, Ask], Program | None]


@dataclass(frozen=True)
class Relaxation:
    """One change that makes an infeasible fleet problem feasible. limits: those to change, as name -> (from, to)."""

    limits: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        def phrase(name: str, before: float, after: float) -> str:
            if name == "demand":
                return f"lower the demand to {100.0 * after:.1f} % of what is asked"
            if name.startswith("world["):
                return f"leave out the case {name.removeprefix('world[').removesuffix(']')!r}"
            change = "lower" if after < before else "raise"
            return f"{change} {describe(name)} from {before:,.6g} to {after:,.6g}{unit(name)}"

        return " and ".join(phrase(n, *change) for n, change in self.limits.items())


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
    for prefix, words in (
        ("stock[", "the stock of "),
        ("supply[", "the supply of "),
        ("spare[", "the spare nodes of "),
    ):
        if limit.startswith(prefix):
            return words + limit.removeprefix(prefix).removesuffix("]")
    return WORDS.get(limit, limit)


def unit(limit: str) -> str:
    """Return the unit in which a message gives the limit called `limit`, with a leading space; "" for numbers."""
    return UNITS.get(limit, "" if limit in PLAIN or limit.startswith("spare[") else " devices")


def relaxations(problem: FleetProblem, solve: Solve) -> tuple[Relaxation, ...]:
    """Find the least changes that make a problem feasible.

    Each limit alone, and each kind of case alone; else all limits together; then less demand.
    """

    def least(names: frozenset[str]) -> Relaxation | None:
        """Find the least excess of the limits `names` that makes the problem feasible; None where no excess does."""
        found = solve(problem, Ask(elastic=names)) if names else None
        return Relaxation(found.raised()) if found is not None else None

    known = list(bounds(problem)) + (["chance"] if any(not w.must for w in problem.worlds) else [])
    found = [r for r in (least(frozenset({name})) for name in known) if r is not None]
    found += [
        Relaxation(change)
        for ways in _eased(problem)
        if (change := next((c for c, p in ways if solve(p, Ask()) is not None), None)) is not None
    ]
    if not found:
        together = least(frozenset(bounds(problem)))
        found = [together] if together is not None else []
    less_demand = least(frozenset({"demand"})) if problem.objective != "traffic" else None
    return (*found, *([less_demand] if less_demand is not None else []))


#: Ways to ease one constraint, the least change first: what changes, and the problem that it leaves.
Ways = Iterator[tuple[dict[str, tuple[float, float]], FleetProblem]]


def _eased(problem: FleetProblem) -> Iterator[Ways]:
    """Yield, for each constraint that is no limit, the ways to ease it."""
    inventory = problem.inventory
    for name in ("spare_nodes", "spare_domains"):
        now = getattr(inventory, name)
        yield (
            ({name: (now, n)}, replace(problem, inventory=_with(inventory, {name: n}))) for n in range(now - 1, -1, -1)
        )
    for pool, now in inventory.spare.items():
        yield (
            (
                {f"spare[{pool}]": (now, n)},
                replace(problem, inventory=replace(inventory, spare={**inventory.spare, pool: n})),
            )
            for n in range(now - 1, -1, -1)
        )
    yield _without_spot(problem)
    for world in problem.worlds:
        if world.must:
            rest = tuple(w for w in problem.worlds if w is not world)
            yield iter([({f"world[{world.name}]": (1, 0)}, replace(problem, worlds=rest))])
    for name, attribute in (("stay", "min_stay_h"), ("start", "start_up_h")):
        longest = max((getattr(o, attribute) for o in problem.options), default=0.0)
        if longest and problem.elastic and problem.periods > 1:
            free = tuple(_with(o, {attribute: 0.0}) for o in problem.options)
            yield iter([({name: (longest, 0.0)}, replace(problem, options=free))])


def _with(what: Any, changes: dict[str, Any]) -> Any:
    """Return an option or inventory with some fields changed, which are known by name."""
    return replace(what, **changes)


def _without_spot(problem: FleetProblem) -> Ways:
    """Yield the problem without any loss of spot devices, where there is one."""
    spot = [s.lost_share for s in problem.inventory.supplies if s.kind == "spot" and s.lost_share]
    if spot:
        kept = tuple(replace(s, lost_share=0.0) for s in problem.inventory.supplies)
        yield {"spot": (max(spot), 0.0)}, replace(problem, inventory=replace(problem.inventory, supplies=kept))
