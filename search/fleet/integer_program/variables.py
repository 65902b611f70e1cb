"""Hold a fleet program: its PuLP problem, its variables by index, and what the solver found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perfmodel.arrays import NAN, Array, Index
from search.fleet.problem_data.limits import INTEGRALITY_TOLERANCE, bounds, limits, mean_limits, with_nodes
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.problem_data.quantities import Numbers, weights

#: Shares below this are rounding noise of the solver.
SHARE_TOLERANCE = 1e-9
#: Variables and expressions of PuLP, which ships no types.
Expression = Any
#: Limits on a period that count replicas while they start, too.
WHILE_STARTING = ("stock", "power")
#: Limits on a period that count what is paid to supplies for nothing, which is the same in every period.
WITH_UNSPENT = ("budget",)


@dataclass(frozen=True)
class Ask:
    """What is asked of a program.

    objective: the quantity that is minimised ("" for the problem's own). elastic: limits that may be exceeded; the
    objective is then the sum of the relative excesses. `demand` among them lets the same part of every class go
    unserved, `chance` more worlds. without: limits, and kinds of cases and of constraints over time, that are left out.
    within: quantity -> most of it. worths: (W, C) of a request of each class, by which the failures of classes that
    share replicas are known (`search.fleet.decomposition.benders_cuts`); None for shares in every failure.
    """

    objective: str = ""
    elastic: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    within: Mapping[str, float] = field(default_factory=dict)
    worths: Array | None = None


@dataclass
class Program:
    """A PuLP problem with its variables by index, and what the solver reported.

    most, most_steady, most_spot: (O,) replicas that no optimum exceeds: in all, beside those on spot devices, on them.
    replicas[o,t], share[o,c,t] (of the normal case), housed[d,t],
    held[k,t], spot[o,t], started[o,t], moved[o], worst[g,t] (and number of the worths),
    alive[o,t,lost], missed[w]: variables. served: factor on the demand, a
    number or a variable. excess: by name, the variable by which an elastic limit may be exceeded. bound: lower
    bound on the objective, NaN before solving. basis: of the variables and the
    constraints of its linear program, by name, when that was solved last.
    """

    problem: FleetProblem
    linear: Any
    most: Index
    most_steady: Index
    most_spot: Index
    ask: Ask = field(default_factory=Ask)
    replicas: dict[tuple[int, int], Expression] = field(default_factory=dict)
    share: dict[tuple[int, int, int], Expression] = field(default_factory=dict)
    housed: dict[tuple[int, int], Expression] = field(default_factory=dict)
    held: dict[tuple[int, int], Expression] = field(default_factory=dict)
    spot: dict[tuple[int, int], Expression] = field(default_factory=dict)
    started: dict[tuple[int, int], Expression] = field(default_factory=dict)
    starting: dict[tuple[int, int], list[Expression]] = field(default_factory=dict)
    moved: dict[int, Expression] = field(default_factory=dict)
    unspent: dict[int, Expression] = field(default_factory=dict)
    worst: dict[tuple[int, int, int], Expression] = field(default_factory=dict)
    alive: dict[tuple[int, int, float], Expression] = field(default_factory=dict)
    missed: dict[int, Expression] = field(default_factory=dict)
    served: Expression = 1.0
    most_served: float = 1.0
    excess: dict[str, Expression] = field(default_factory=dict)
    bound: float = NAN
    solver: str = ""
    basis: tuple[dict[str, Any], dict[str, Any]] | None = None

    def units(self, t: int) -> list[Expression]:
        """Return the units of period t: replicas[o,t], then housed[d,t], then held[k,t]."""
        problem = self.problem
        found = [self.replicas[o, t] for o in range(len(problem.options))]
        found += [self.housed[d, t] for d in range(len(problem.by_node))]
        return found + [self.held[k, t] for k in range(len(problem.inventory.supplies))]

    def taken(self, each: Array, t: int) -> list[Expression]:
        """Return the terms weight x number of the units of period t. each: (O + W + K,) weights."""
        return [float(weight) * unit for weight, unit in zip(each, self.units(t), strict=True) if weight]

    def total(self, quantity: str) -> Expression:
        """Return the expression of a quantity of `problem_data.quantities`, or of `traffic`, as less is better."""
        import pulp

        if quantity == "traffic":
            return -1.0 * self.served
        each = weights(self.problem, quantity)
        terms = [term for t in range(self.problem.periods) for term in self.taken(each.units[:, t], t)]
        terms += [float(each.started[o]) * v for (o, _), v in self.started.items() if each.started[o]]
        terms += [float(each.moved[o]) * v for o, v in self.moved.items()]
        if quantity in ("money", "cost"):
            terms += list(self.unspent.values())
        return pulp.lpSum(terms)

    def solved_replicas(self) -> Index:
        """Return the replicas of the solution, (O, P); the solver's floats are rounded, never truncated."""
        options, periods = range(len(self.problem.options)), range(self.problem.periods)
        return np.rint([[self.replicas[o, t].varValue or 0.0 for t in periods] for o in options]).astype(np.intp)

    def solved_shares(self) -> Array:
        """Return the shares of the solution, (O, C, P), without rounding noise; they sum to 1 over options."""
        problem = self.problem
        out = np.zeros((len(problem.options), len(problem.classes), problem.periods))
        for index, variable in self.share.items():
            out[index] = max(variable.varValue or 0.0, 0.0)
        out[out < SHARE_TOLERANCE] = 0.0
        total = out.sum(0, keepdims=True)
        return np.asarray(np.divide(out, total, out=np.zeros_like(out), where=total > 0))

    def solved(self) -> Numbers:
        """Return the solution in whole numbers, with what follows from the replicas computed from them."""
        problem, replicas = self.problem, self.solved_replicas()
        periods = range(problem.periods)
        spot = np.zeros(replicas.shape)
        for (o, t), variable in self.spot.items():
            spot[o, t] = np.rint(variable.varValue or 0.0)
        held = np.array(
            [[_whole(self.held[k, t].varValue) for t in periods] for k in range(len(problem.inventory.supplies))]
        )
        units = np.concatenate([with_nodes(problem, replicas), held.reshape(-1, problem.periods)])
        starts = np.maximum(replicas - np.roll(replicas, 1, axis=1), 0).astype(float)
        current = np.array([o.current for o in problem.options])
        moved = np.maximum(replicas.max(axis=1) - current, 0).astype(float)
        served = self.served if isinstance(self.served, float) else float(self.served.varValue or 0.0)
        return Numbers(replicas, spot, units, starts, moved, served)

    def solved_units(self) -> Array:
        """Return the units of the solution, (O + W + K, P): replicas, whole nodes, devices held of each supply."""
        return self.solved().units

    def amount(self, quantity: str) -> float:
        """Return a quantity of the rounded solution: `traffic` as the factor that is served, times -1."""
        numbers = self.solved()
        if quantity == "traffic":
            return -numbers.served
        unspent = self.solved_unspent() if quantity in ("money", "cost") else 0.0
        return weights(self.problem, quantity).of(numbers) + unspent

    def solved_unspent(self) -> float:
        """Return USD per hour that the solution pays to supplies for nothing, because it is promised."""
        return float(sum(v.varValue or 0.0 for v in self.unspent.values()))

    def cost(self) -> float:
        """Return USD per hour of the rounded replicas, as the mean over periods, weighted by their hours."""
        return self.amount("money")

    def used(self, limit: str) -> float:
        """Return how much of the limit called `limit` the fullest period takes, or the mean of all, in its unit."""
        means = mean_limits(self.problem)
        if limit in means:
            return self.amount(means[limit][1])
        each = limits(self.problem)[limit][1]
        units = self.solved_units()
        if limit.split("[")[0] in WHILE_STARTING:
            for (o, t), terms in self.starting.items():
                units[o, t] += sum(np.rint(v.varValue or 0.0) for v in terms)
        beside = self.solved_unspent() if limit in WITH_UNSPENT else 0.0
        return float((np.where(each[:, None] != 0, each[:, None] * units, 0.0)).sum(axis=0).max()) + beside

    def raised(self) -> dict[str, tuple[float, float]]:
        """Return the elastic limits that the solution exceeds: name -> (given, needed).

        `demand` counts down from 1: the part of every class that is served. `chance` is the share of worlds kept.
        """
        out = {}
        for name, variable in self.excess.items():
            amount = variable.varValue or 0.0
            if name == "demand":
                out[name] = (1.0, 1.0 - amount)
            elif name == "chance" and amount > INTEGRALITY_TOLERANCE:
                draws = sum(not w.must for w in self.problem.worlds)
                missed = self.problem.may_miss + np.rint(amount)
                out[name] = (self.problem.worlds_kept, 1.0 - float(missed) / draws)
            elif amount > INTEGRALITY_TOLERANCE:
                out[name] = (bounds(self.problem)[name], self.used(name))
        return out


def _whole(value: float | None) -> float:
    """Return the whole number that a solver's value stands for, or the value where it is none."""
    amount = float(value or 0.0)
    return float(round(amount)) if abs(amount - round(amount)) < INTEGRALITY_TOLERANCE else amount
