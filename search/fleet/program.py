"""The integer program of a fleet, in PuLP.

Sets: options o, request classes c, periods p, failures f (f = none, and with spare nodes every way to lose
them).

Data: rate[p,c] requests/s; throughput[o,c] requests/s of one replica at the SLO; usd_per_hour[o], devices[o],
power[o], nodes[o] of a replica; lost[o,f] replicas of o that failure f takes; hours[p].

Variables: replicas[o,p] whole, one for all p unless elastic; share[o,c,p,f] in [0, 1]; alive[o,p,f] >= 0.

Where a device d is paid by the node, housed[d,p] counts its nodes and usd_per_hour[o] is 0 for options on it.

Minimise   sum_p hours[p] (sum_o usd_per_hour[o] replicas[o,p] + sum_d node_usd[d] housed[d,p]) / sum_p hours[p]

=============  ===============================================================================================
serve[c,p,f]   sum_o share[o,c,p,f] = 1                                    every request is served somewhere
load[o,p,f]    sum_c rate[p,c] share[o,c,p,f] / throughput[o,c] <= alive[o,p,f]     each replica keeps the SLO
alive[o,p,f]   alive[o,p,f] <= max(replicas[o,p] - lost[o,f], 0)                what a failure leaves standing
housed[d,p]    sum over o on d of nodes[o] replicas[o,p] <= housed[d,p]             replicas share whole nodes
stock[d]       sum over o on d of devices[o] replicas[o,p] <= stock[d]
power          sum_o power[o] replicas[o,p] <= power limit
budget         the sum that is minimised, in each p <= budget
nodes          sum_o nodes[o] replicas[o,p], or housed[d,p] where paid by the node <= nodes
=============  ===============================================================================================

Load is linear: a replica that spends a share s of its time on class c serves s * throughput[o,c] of it. That
holds for engines that batch classes together as long as neither phase of one class slows the other's below
its SLO; the simulator is the check. Classes are not sliced: continuous shares reach the optima of Melange
(Griggs et al. 2024, arXiv:2404.14527), whose slices go to one option each, or better them, with far fewer
integers.

max(., 0) in alive takes one binary an option, period and failure: gone[o,p,f] = 1 means nothing is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.problem import FleetProblem

Solver = Literal["highs", "cbc"]

#: Answers of a solver closer than this to a whole number are that number; its own integrality tolerance is
#: 1e-6.
WHOLE = 1e-5


@dataclass
class Program:
    """A PuLP problem with its variables by index, and what the solver said of it."""

    problem: FleetProblem
    linear: Any
    count: dict[tuple[int, int], Any]
    share: dict[tuple[int, int, int], Any]
    housed: dict[tuple[int, int], Any] = field(default_factory=dict)
    excess: dict[str, Any] = field(default_factory=dict)
    bound: float = float("nan")
    solver: str = ""

    def replicas(self) -> NDArray[np.intp]:
        """(O, P) whole replicas; solver floats are rounded, never cut off."""
        shape = (len(self.problem.options), self.problem.periods)
        return np.rint([[self.count[o, p].varValue for p in range(shape[1])] for o in range(shape[0])]).astype(np.intp)

    def shares(self) -> Array:
        """(O, C, P) shares, rounding noise removed and summing to 1 over options."""
        p = self.problem
        out = np.zeros((len(p.options), len(p.classes), p.periods))
        for index, variable in self.share.items():
            out[index] = max(variable.varValue or 0.0, 0.0)
        out[out < 1e-9] = 0.0
        return out / out.sum(0, keepdims=True)

    def units(self) -> Array:
        """(O + W, P) replicas, then the nodes that house them where devices are paid by the node."""
        return with_nodes(self.problem, self.replicas())

    def cost(self) -> float:
        """USD an hour of the rounded replicas, mean over periods."""
        return float((prices(self.problem) @ self.units()) @ self.problem.hours / self.problem.hours.sum())

    def used(self, limit: str) -> float:
        """How much of a limit the fullest period takes."""
        return float((limits(self.problem)[limit][1] @ self.units()).max())

    def raised(self) -> dict[str, tuple[float, float]]:
        """Elastic limits that had to give, as name -> (asked, needed). `demand` counts down from 1."""
        out = {}
        for name, variable in self.excess.items():
            amount = variable.varValue or 0.0
            if name == "demand":
                out[name] = (1.0, 1.0 - amount)
            elif amount > WHOLE:
                out[name] = (limits(self.problem)[name][0], self.used(name))
        return out


def with_nodes(problem: FleetProblem, replicas: NDArray[np.intp]) -> Array:
    """(O + W, P) replicas, and whole nodes of each device that is paid by the node."""
    taken = [np.array([o.nodes if o.device == d else 0.0 for o in problem.options]) @ replicas for d in problem.by_node]
    return np.concatenate([replicas, *[np.ceil(t - WHOLE)[None] for t in taken]]).astype(float)


def prices(problem: FleetProblem) -> Array:
    """(O + W,) USD an hour of a replica (0 where its node is paid), and of a node."""
    by_node = problem.by_node
    replica = [0.0 if o.device in by_node else o.usd_per_hour for o in problem.options]
    return np.array([*replica, *[problem.inventory.node_usd_per_hour[d] for d in by_node]])


def limits(problem: FleetProblem) -> dict[str, tuple[float, Array]]:
    """Every finite limit: name -> (bound, (O + W,) what a replica, or a node paid for, takes of it)."""
    options, inventory, by_node = problem.options, problem.inventory, problem.by_node
    none = [0.0] * len(by_node)
    out: dict[str, tuple[float, Array]] = {}
    for device, stock in inventory.stock.items():
        taken = np.array([o.devices if o.device == device else 0.0 for o in options] + none)
        if np.isfinite(stock) and taken.any():
            out[f"stock[{device}]"] = (float(stock), taken)
    nodes = [0.0 if o.device in by_node else o.nodes for o in options]
    beside: Mapping[str, tuple[float, Any]] = {
        "power": (inventory.power, [o.power for o in options] + none),
        "budget": (inventory.budget, prices(problem)),
        "nodes": (inventory.nodes, nodes + [1.0] * len(by_node)),
    }
    out.update({name: (float(b), np.array(w)) for name, (b, w) in beside.items() if np.isfinite(b)})
    return out


def served_by_none(problem: FleetProblem) -> list[int]:
    """Classes with demand that no option can serve."""
    wanted = problem.rate.max(axis=0) > 0
    return [int(c) for c in np.nonzero(wanted & ~problem.serves().any(axis=0))[0]]


def failures(problem: FleetProblem) -> list[Array]:
    """(O,) replicas lost in each failure that the fleet must survive; the first is none at all."""
    options = range(len(problem.options))
    out = [np.zeros(len(problem.options))]
    if problem.inventory.spare_nodes:
        for nodes in combinations_with_replacement(options, problem.inventory.spare_nodes):
            lost = np.zeros(len(problem.options))
            for o in nodes:
                lost[o] += np.ceil(problem.options[o].replicas_per_node)
            out.append(lost)
    return out


def most(problem: FleetProblem) -> NDArray[np.intp]:
    """(O,) replicas that no optimum exceeds: all traffic that an option can serve, plus what failures take.

    An option alone needs at most ceil(its load); rounding each class up by itself is never less.
    """
    speed = np.where(problem.serves(), problem.throughput, np.inf)
    alone = np.ceil((problem.rate.max(axis=0) / speed).sum(axis=1) + WHOLE)
    return (alone + np.max(failures(problem), axis=0)).astype(np.intp)


def formulate(
    problem: FleetProblem, elastic: frozenset[str] = frozenset(), without: frozenset[str] = frozenset()
) -> Program:
    """The program of `problem` (checked), touching nothing else.

    elastic: limits that may be exceeded; the objective is then the sum of relative excesses instead of the
    cost. `demand` among them lets the same part of every class go unserved. without: limits left out.
    """
    import pulp

    linear = pulp.LpProblem("fleet", pulp.LpMinimize)
    top = most(problem)
    count: dict[tuple[int, int], Any] = {}
    for o in range(len(problem.options)):
        for p in range(problem.periods):
            first = p == 0 or problem.elastic
            count[o, p] = (
                linear.add_variable(f"replicas_{o}_{p}", 0, int(top[o]), pulp.LpInteger) if first else count[o, 0]
            )
    excess = {n: linear.add_variable(f"excess_{i}", 0, 1 if n == "demand" else None) for i, n in enumerate(elastic)}
    program = Program(problem=problem, linear=linear, count=count, share={}, excess=excess)
    _house(program)
    _objective(program)
    for f, lost in enumerate(failures(problem)):
        _serve(program, f, lost, top)
    for name, (bound, taken) in limits(problem).items():
        if name not in without:
            _limit(program, name, bound, taken)
    return program


def _house(program: Program) -> None:
    """housed: whole nodes for the replicas of each device that is paid by the node."""
    import pulp

    p = program.problem
    for w, device in enumerate(p.by_node):
        for t in range(p.periods):
            if t and not p.elastic:
                program.housed[w, t] = program.housed[w, 0]
                continue
            housed = program.linear.add_variable(f"housed_{w}_{t}", 0, None, pulp.LpInteger)
            held = [o.nodes * program.count[i, t] for i, o in enumerate(p.options) if o.device == device]
            program.linear += (pulp.lpSum(held) <= housed, f"housed_{w}_{t}_holds")
            program.housed[w, t] = housed


def _taken(program: Program, weights: Array, t: int) -> Any:
    """Sum over replicas and nodes of what each takes, in period t."""
    import pulp

    p = program.problem
    units = [program.count[o, t] for o in range(len(p.options))] + [program.housed[w, t] for w in range(len(p.by_node))]
    return pulp.lpSum([float(weight) * unit for weight, unit in zip(weights, units, strict=True) if weight])


def _objective(program: Program) -> None:
    """Cost, or the relative excess over elastic limits."""
    import pulp

    p, bounds = program.problem, limits(program.problem)
    if program.excess:
        terms = [v * (1.0 / max(bounds[n][0] if n in bounds else 1.0, 1.0)) for n, v in program.excess.items()]
    else:
        weight = p.hours / p.hours.sum()
        terms = [_taken(program, prices(p) * weight[t], t) for t in range(p.periods)]
    program.linear += pulp.lpSum(terms)


def _serve(program: Program, f: int, lost: Array, top: NDArray[np.intp]) -> None:
    """serve, load and alive of failure f."""
    import pulp

    p, linear = program.problem, program.linear
    for t in range(p.periods):
        share = {
            (o, c): linear.add_variable(f"share_{o}_{c}_{t}_{f}", 0, 1)
            for o, c in zip(*np.nonzero(p.serves()), strict=True)
        }
        if f == 0:
            program.share.update({(o, c, t): v for (o, c), v in share.items()})
        unserved = program.excess.get("demand", 0)
        for c in np.nonzero(p.serves().any(axis=0))[0]:
            whole = pulp.lpSum([share[o, c] for o in range(len(p.options)) if (o, c) in share])
            linear += (whole + unserved == 1, f"serve_{c}_{t}_{f}")
        for o in range(len(p.options)):
            load = pulp.lpSum([float(p.rate[t, c] / p.throughput[o, c]) * v for (i, c), v in share.items() if i == o])
            linear += (load <= _alive(program, (o, t, f), lost[o], int(top[o])), f"load_{o}_{t}_{f}")


def _alive(program: Program, index: tuple[int, int, int], lost: float, top: int) -> Any:
    """Replicas left of an option: max(replicas - lost, 0)."""
    import pulp

    o, t, f = index
    replicas = program.count[o, t]
    if not lost:
        return replicas
    alive = program.linear.add_variable(f"alive_{o}_{t}_{f}", 0, top)
    gone = program.linear.add_variable(f"gone_{o}_{t}_{f}", 0, 1, pulp.LpInteger)
    program.linear += (alive <= replicas - lost + lost * gone, f"alive_{o}_{t}_{f}")
    program.linear += (alive <= top * (1 - gone), f"gone_{o}_{t}_{f}")
    return alive


def _limit(program: Program, name: str, bound: float, taken: Array) -> None:
    """One limit, in every period where replicas may differ; elastic if its excess is a variable."""
    p = program.problem
    allowed = bound + program.excess[name] if name in program.excess else bound
    for t in range(p.periods if p.elastic else 1):
        total = _taken(program, taken, t)
        program.linear += (total <= allowed, f"{name.replace('[', '_').replace(']', '')}_{t}")


def run_solver(program: Program, solver: Solver, time_limit: float, gap: float) -> bool:
    """Solve in place; False when proven infeasible. Raises `Infeasible` when time ran out before any answer.

    HiGHS reports its own bound. CBC does not through PuLP: proven optimal within `gap`, or the relaxation's
    value.
    """
    import pulp

    linear = program.linear
    linear.solve(_solver(solver, time_limit, gap))
    program.solver = solver
    if linear.sol_status in (pulp.LpSolutionInfeasible, pulp.LpSolutionUnbounded):
        return False
    if linear.sol_status == pulp.LpSolutionNoSolutionFound:
        raise Infeasible(f"fleet: {solver} found no answer within {time_limit:g} s; allow more time or fewer options")
    value = float(pulp.value(linear.objective) or 0.0)
    if solver == "highs":
        program.bound = float(linear.solverModel.getInfo().mip_dual_bound)
    elif linear.sol_status == pulp.LpSolutionOptimal:
        program.bound = value * (1 - gap)
    else:
        program.bound = float("-inf")
    return True


def _solver(name: Solver, time_limit: float, gap: float) -> Any:
    """The PuLP solver called `name`; one thread, so that answers repeat."""
    import pulp

    if name == "highs":
        return pulp.HiGHS(msg=False, gapRel=gap, timeLimit=time_limit, threads=1)
    from pulp.apis.coin_api import pulp_cbc_path

    bundled = pulp.COIN_CMD(path=pulp_cbc_path, msg=False, gapRel=gap, timeLimit=time_limit, threads=1)
    return bundled if bundled.available() else pulp.COIN_CMD(msg=False, gapRel=gap, timeLimit=time_limit, threads=1)


def available_solver() -> Solver:
    """HiGHS where it is installed, else CBC."""
    import pulp

    return "highs" if pulp.HiGHS(msg=False).available() else "cbc"
