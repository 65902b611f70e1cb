"""Formulate a fleet as an integer program, in PuLP. Each constraint is one function, which states its inequality.

Sets: options o, request classes c, periods t of the day, failures f (the first is none; with spare nodes there is one
for every way to lose them), devices d that are paid by the node.

Data: rate[t,c] requests/s; throughput[o,c] requests/s of one replica within the SLO; usd_per_hour[o], devices[o],
power[o], nodes[o] of a replica; node_usd_per_hour[d]; lost[o,f] replicas of o that failure f takes; hours[t].

Variables: replicas[o,t], whole, the same in all periods unless the fleet is elastic; share[o,c,t,f] in [0, 1], the part
of class c that option o serves; housed[d,t], whole nodes; alive[o,t,f] >= 0, replicas left; gone[o,t,f] in {0, 1}, 1
where none is left.

==============  ================================================================================================
objective       minimise sum_t hours[t] cost[t] / sum_t hours[t], the mean USD per hour; where replicas are free, the
                fewest devices among the fleets of this cost
serve[c,t,f]    every request of a class is served
load[o,t,f]     the replicas alive keep the SLO
alive[o,t,f]    a failure takes its replicas
gone[o,t,f]     but no more than there are
house[d,t]      replicas share whole nodes
stock[d]        devices on hand; likewise `power`, `budget` and `nodes`
==============  ================================================================================================

Load is linear: a replica that spends a share s of its time on class c serves s * throughput[o,c] of it. That holds for
engines that batch classes together as long as neither phase of one class slows the other's below its SLO; the simulator
is the check. Classes are not sliced: continuous shares reach the optima of Melange (Griggs et al. 2024,
arXiv:2404.14527), whose slices go to one option each, or better them, with far fewer integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perfmodel.arrays import NAN, Array, Index
from search.fleet.limits import INTEGRALITY_TOLERANCE, failures, limits, max_replicas, prices, with_nodes
from search.fleet.problem import FleetProblem

#: Weight of power against one device where fleets cost the same. chosen: it only decides between equal numbers.
POWER_WEIGHT = 1e-2
#: Shares below this are rounding noise of the solver.
SHARE_TOLERANCE = 1e-9
#: Variables and expressions of PuLP, which ships no types.
Expression = Any


@dataclass
class Program:
    """A PuLP problem with its variables by index, and what the solver reported.

    most: (O,) replicas that no optimum exceeds. replicas[o,t], share[o,c,t] (without failures), housed[d,t]: variables.
    excess: by name, the variable by which an elastic limit may be exceeded. bound: lower bound on the objective, NaN
    before solving.
    """

    problem: FleetProblem
    linear: Any
    most: Index
    replicas: dict[tuple[int, int], Expression] = field(default_factory=dict)
    share: dict[tuple[int, int, int], Expression] = field(default_factory=dict)
    housed: dict[tuple[int, int], Expression] = field(default_factory=dict)
    excess: dict[str, Expression] = field(default_factory=dict)
    bound: float = NAN
    solver: str = ""

    def solved_replicas(self) -> Index:
        """Return the replicas of the solution, (O, P); the solver's floats are rounded, never truncated."""
        options, periods = range(len(self.problem.options)), range(self.problem.periods)
        return np.rint([[self.replicas[o, t].varValue for t in periods] for o in options]).astype(np.intp)

    def solved_shares(self) -> Array:
        """Return the shares of the solution, (O, C, P), without rounding noise; they sum to 1 over options."""
        problem = self.problem
        out = np.zeros((len(problem.options), len(problem.classes), problem.periods))
        for index, variable in self.share.items():
            out[index] = max(variable.varValue or 0.0, 0.0)
        out[out < SHARE_TOLERANCE] = 0.0
        return np.asarray(out / out.sum(0, keepdims=True))

    def solved_units(self) -> Array:
        """Return the units of the solution, (O + W, P): replicas, then whole nodes of devices that are paid by the
        node.
        """
        return with_nodes(self.problem, self.solved_replicas())

    def cost(self) -> float:
        """Return USD per hour of the rounded replicas, as the mean over periods, weighted by their hours."""
        hours = self.problem.hours
        return float((prices(self.problem) @ self.solved_units()) @ hours / hours.sum())

    def used(self, limit: str) -> float:
        """Return how much of the limit called `limit` the fullest period takes, in the unit of the limit."""
        return float((limits(self.problem)[limit][1] @ self.solved_units()).max())

    def raised(self) -> dict[str, tuple[float, float]]:
        """Return the elastic limits that the solution exceeds: name -> (given, needed).

        `demand` counts down from 1: the part of every class that is served.
        """
        out = {}
        for name, variable in self.excess.items():
            amount = variable.varValue or 0.0
            if name == "demand":
                out[name] = (1.0, 1.0 - amount)
            elif amount > INTEGRALITY_TOLERANCE:
                out[name] = (limits(self.problem)[name][0], self.used(name))
        return out


def formulate(
    problem: FleetProblem,
    elastic: frozenset[str] = frozenset(),
    without: frozenset[str] = frozenset(),
    most_cost: float = NAN,
) -> Program:
    """Write the integer program of a checked `problem`.

    Args:
        problem: options, classes, demand, limits.
        elastic: limits that may be exceeded. The objective is then the sum of the relative excesses instead of the
            cost. `demand` among them lets the same part of every class go unserved.
        without: limits that are left out.
        most_cost: USD per hour, the mean over the periods. The objective is then the number of devices in use, and the
            cost stays within this.
    """
    import pulp

    program = Program(problem=problem, linear=pulp.LpProblem("fleet", pulp.LpMinimize), most=max_replicas(problem))
    add_replicas(program)
    for i, name in enumerate(elastic):
        program.excess[name] = program.linear.add_variable(f"excess_{i}", 0, 1 if name == "demand" else None)
    add_house(program)
    if np.isfinite(most_cost):
        add_least_devices(program, most_cost)
    else:
        add_objective(program)
    for f, lost in enumerate(failures(problem)):
        for t in range(problem.periods):
            share = add_shares(program, t, f)
            for c in np.nonzero(problem.serves().any(axis=0))[0]:
                add_serve(program, share, (int(c), t, f))
            for o in range(len(problem.options)):
                alive = add_alive(program, (o, t, f), lost[o])
                add_load(program, share, alive, (o, t, f))
    for name in limits(problem):
        if name not in without:
            add_limit(program, name)
    return program


def add_replicas(program: Program) -> None:
    """Add the variables replicas[o,t], whole numbers; one for all periods unless the fleet is elastic."""
    import pulp

    problem = program.problem
    for o in range(len(problem.options)):
        for t in range(problem.periods):
            if t and not problem.elastic:
                program.replicas[o, t] = program.replicas[o, 0]
                continue
            name = f"replicas_{o}_{t}"
            program.replicas[o, t] = program.linear.add_variable(name, 0, int(program.most[o]), pulp.LpInteger)


def add_house(program: Program) -> None:
    """Add the variables housed[d,t], whole nodes, and the constraint house[d,t].

    house[d,t]: sum over options o on d of nodes[o] replicas[o,t] <= housed[d,t].
    """
    import pulp

    problem = program.problem
    for d, device in enumerate(problem.by_node):
        for t in range(problem.periods):
            if t and not problem.elastic:
                program.housed[d, t] = program.housed[d, 0]
                continue
            housed = program.linear.add_variable(f"housed_{d}_{t}", 0, None, pulp.LpInteger)
            held = [n.nodes * program.replicas[o, t] for o, n in enumerate(problem.options) if n.device == device]
            program.linear += (pulp.lpSum(held) <= housed, f"house_{d}_{t}")
            program.housed[d, t] = housed


def add_objective(program: Program) -> None:
    """Add the objective: minimise sum_t hours[t] cost[t] / sum_t hours[t], in USD per hour.

    cost[t] = sum_o usd_per_hour[o] replicas[o,t] + sum_d node_usd_per_hour[d] housed[d,t], where usd_per_hour[o] is 0
    for options that are paid by the node. With elastic limits, minimise the sum of excess / max(bound, 1) instead.
    """
    import pulp

    problem, bounds = program.problem, limits(program.problem)
    if program.excess:
        terms = [v * (1.0 / max(bounds[n][0] if n in bounds else 1.0, 1.0)) for n, v in program.excess.items()]
    else:
        weight = problem.hours / problem.hours.sum()
        terms = [_taken(program, prices(problem) * weight[t], t) for t in range(problem.periods)]
    program.linear += pulp.lpSum(terms)


def add_least_devices(program: Program, most_cost: float) -> None:
    """Add the objective: minimise sum_t hours[t] devices[t] / sum_t hours[t], and the constraint cost <= most_cost.

    devices[t] = sum_o devices[o] replicas[o,t], less power first among equals. It chooses among fleets of equal cost,
    where replicas are free: devices that are owned, or that lie in nodes that are paid for anyway.
    """
    import pulp

    problem = program.problem
    weight, nodes = problem.hours / problem.hours.sum(), np.zeros(len(problem.by_node))
    watts = np.nan_to_num([o.power for o in problem.options])
    each = np.array([o.devices for o in problem.options]) + POWER_WEIGHT * watts / max(watts.sum(), 1.0)
    taken = np.concatenate([each, nodes])
    cost = [_taken(program, prices(problem) * weight[t], t) for t in range(problem.periods)]
    program.linear += pulp.lpSum([_taken(program, taken * weight[t], t) for t in range(problem.periods)])
    program.linear += (pulp.lpSum(cost) <= most_cost, "cost")


def add_shares(program: Program, t: int, f: int) -> dict[tuple[int, int], Expression]:
    """Add the variables share[o,c,t,f] in [0, 1] of one period t and failure f; returns them by (o, c).

    Only options that can serve the class get one.
    """
    share = {
        (o, c): program.linear.add_variable(f"share_{o}_{c}_{t}_{f}", 0, 1)
        for o, c in zip(*np.nonzero(program.problem.serves()), strict=True)
    }
    if f == 0:
        program.share.update({(o, c, t): v for (o, c), v in share.items()})
    return share


def add_serve(program: Program, share: dict[tuple[int, int], Expression], index: tuple[int, int, int]) -> None:
    """Add the constraint serve[c,t,f]: sum_o share[o,c,t,f] = 1; with elastic demand, plus the part that goes unserved.

    share: variables by (o, c) of this t and f. index: (c, t, f).
    """
    import pulp

    c, t, f = index
    served = pulp.lpSum([share[o, c] for o in range(len(program.problem.options)) if (o, c) in share])
    program.linear += (served + program.excess.get("demand", 0) == 1, f"serve_{c}_{t}_{f}")


def add_load(
    program: Program, share: dict[tuple[int, int], Expression], alive: Expression, index: tuple[int, int, int]
) -> None:
    """Add the constraint load[o,t,f]: sum_c rate[t,c] share[o,c,t,f] / throughput[o,c] <= alive[o,t,f].

    share: variables by (o, c) of this t and f. alive: replicas that the failure leaves. index: (o, t, f).
    """
    import pulp

    problem, (o, t, f) = program.problem, index
    load = [float(problem.rate[t, c] / problem.throughput[o, c]) * v for (i, c), v in share.items() if i == o]
    program.linear += (pulp.lpSum(load) <= alive, f"load_{o}_{t}_{f}")


def add_alive(program: Program, index: tuple[int, int, int], lost: float) -> Expression:
    """Add and return alive[o,t,f] = max(replicas[o,t] - lost[o,f], 0), the replicas that a failure leaves.

    Constraint alive[o,t,f]: alive[o,t,f] <= replicas[o,t] - lost[o,f] + lost[o,f] gone[o,t,f].
    Constraint gone[o,t,f]: alive[o,t,f] <= most[o] (1 - gone[o,t,f]).
    Without a loss, alive[o,t,f] is replicas[o,t] itself.
    """
    import pulp

    o, t, f = index
    replicas = program.replicas[o, t]
    if not lost:
        return replicas
    most = int(program.most[o])
    alive = program.linear.add_variable(f"alive_{o}_{t}_{f}", 0, most)
    gone = program.linear.add_variable(f"gone_{o}_{t}_{f}", 0, 1, pulp.LpInteger)
    program.linear += (alive <= replicas - lost + lost * gone, f"alive_{o}_{t}_{f}")
    program.linear += (alive <= most * (1 - gone), f"gone_{o}_{t}_{f}")
    return alive


def add_limit(program: Program, name: str) -> None:
    """Add the constraint of one limit, in every period t in which replicas may differ.

    An elastic limit may be exceeded by its variable in `excess`.

    stock[d]: sum over options o on d of devices[o] replicas[o,t] <= stock[d].
    power: sum_o power[o] replicas[o,t] <= power limit.
    budget: cost[t] <= budget, with the cost of the objective.
    nodes: sum_o nodes[o] replicas[o,t] + sum_d housed[d,t] <= nodes, o over options that are not paid by the node.
    """
    problem = program.problem
    bound, taken = limits(problem)[name]
    allowed = bound + program.excess[name] if name in program.excess else bound
    for t in range(problem.periods if problem.elastic else 1):
        program.linear += (_taken(program, taken, t) <= allowed, f"{name.replace('[', '_').replace(']', '')}_{t}")


def _taken(program: Program, weights: Array, t: int) -> Expression:
    """Return the sum over units of weight x number in period t. The units are replicas[o,t], then housed[d,t]."""
    import pulp

    problem = program.problem
    units = [program.replicas[o, t] for o in range(len(problem.options))]
    units += [program.housed[d, t] for d in range(len(problem.by_node))]
    return pulp.lpSum([float(weight) * unit for weight, unit in zip(weights, units, strict=True) if weight])
