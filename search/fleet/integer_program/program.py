"""Formulate a fleet as an integer program, in PuLP. Each constraint is one function, which states its inequality.

Sets: options o, request classes c, periods t of the day, cases f (the first is normal running; there is one for every
failure, every loss of spot devices and every world), device types d, supplies k of devices, worlds w.

Data: rate[t,c] requests/s; throughput[o,c] requests/s of one replica within the SLO; usd_per_hour[o], devices[o,d],
power[o], nodes[o,d] of a replica; node_usd_per_hour[d]; lost[o,f] replicas of o that failure f takes; hours[t].

Variables: replicas[o,t], whole, the same in all periods unless the fleet is elastic; share[o,c,t,f] in [0, 1], the part
of class c that option o serves; housed[d,t], whole nodes; held[k,t], devices that are rented; spot[o,t], replicas on
spot devices; started[o,t] and moved[o], replicas that are new; alive[o,t,f] >= 0, replicas left; gone[o,t,f] in {0, 1},
1 where none is left; missed[w] in {0, 1}, 1 where a world is not served.

==============  ================================================================================================
objective       minimise sum_t hours[t] cost[t] / sum_t hours[t], the mean USD per hour; or the power, the carbon or the
                devices; or maximise the factor on all demand that is served. Among fleets of equal value: the least
                cost, then the fewest devices, then the least power
serve[c,t,f]    every request of a class is served (`serving_constraints`)
load[o,t,f]     the replicas alive keep the SLO; load[o,m,t,f] where a replica serves several models m
capacity[t,f]   both in one, for a class that shares no option with another, or for given worths of requests
node[o,j,t,f]   of which the worst choice of several nodes fails
alive[o,t,f]    a failure takes its replicas
gone[o,t,f]     but no more than there are
level[k,g,t]    tighter: the worst failure of a group is at one of a few levels (`levels`)
chance          no more worlds are missed than may be
house[d,t]      replicas share whole nodes (`supply_constraints`)
source[d,t]     every device comes from a supply
spot[d,t]       replicas on spot devices, some of which may be lost at once
commitment[k]   what is promised to a supply is paid
keep[o,t]       replicas beyond those in use today are moves
stock[d]        devices on hand; likewise `power`, `budget`, `nodes`, `supply[k]`; on means `mean_budget`, `carbon`
start[o,t]      replicas that serve from period t on have started before (`timing_constraints`)
stay[o,t]       and stay their least time
==============  ================================================================================================

Load is linear: a replica that spends a share s of its time on class c serves s * throughput[o,c] of it. That holds for
engines that batch classes together as long as neither phase of one class slows the other's below its SLO; the simulator
is the check. Classes are not sliced: continuous shares reach the optima of Melange (Griggs et al. 2024,
arXiv:2404.14527), whose slices go to one option each, or better them, with far fewer integers.
"""

from __future__ import annotations

import numpy as np

from search.fleet.integer_program.levels import add_levels
from search.fleet.integer_program.periods import deciding
from search.fleet.integer_program.serving_constraints import add_case, add_chance
from search.fleet.integer_program.supply_constraints import (
    add_house,
    add_limit,
    add_mean_limit,
    add_moves,
    add_supplies,
)
from search.fleet.integer_program.timing_constraints import add_replicas, add_starts
from search.fleet.integer_program.variables import Ask, Program
from search.fleet.problem_data.cases import cases
from search.fleet.problem_data.limits import bounds, limits, max_replicas, mean_limits, most_spot, most_steady
from search.fleet.problem_data.problem import FleetProblem

__all__ = ["Ask", "Program", "formulate"]


def formulate(problem: FleetProblem, ask: Ask | None = None) -> Program:
    """Write the integer program of a checked `problem`. ask: what is minimised, and what is left out or relaxed."""
    import pulp

    ask = ask or Ask(objective=problem.objective)
    program = Program(
        problem=problem,
        linear=pulp.LpProblem("fleet", pulp.LpMinimize),
        most=max_replicas(problem),
        most_steady=most_steady(problem),
        most_spot=most_spot(problem),
        ask=ask,
    )
    add_replicas(program)
    for i, name in enumerate(sorted(ask.elastic)):
        most, whole = (1 if name == "demand" else None), pulp.LpInteger if name == "chance" else pulp.LpContinuous
        program.excess[name] = program.linear.add_variable(f"excess_{i}", 0, most, whole)
    add_served(program)
    add_house(program)
    add_supplies(program)
    add_starts(program)
    add_moves(program)
    add_chance(program)
    add_objective(program)
    for number, case in enumerate(cases(problem, ask.without, by_worth=ask.worths is not None)):
        for t in range(problem.periods) if case.kind == "normal" else deciding(problem, case.classes):
            add_case(program, case, number, t)
    add_levels(program)
    for number, (name, limit) in enumerate(limits(problem).items()):
        if name not in ask.without:
            add_limit(program, name, limit, number)
    for name in mean_limits(problem):
        if name not in ask.without:
            add_mean_limit(program, name)
    return program


def add_served(program: Program) -> None:
    """Add the variable served >= 0, the factor on the demand of all classes, where the most traffic is asked for."""
    problem = program.problem
    if problem.objective != "traffic":
        return
    able = (np.where(problem.serves(), problem.throughput, 0.0) * program.most[:, None]).sum(axis=0)
    peak = problem.rate.max(axis=0)
    program.most_served = float((able[peak > 0] / peak[peak > 0]).min()) if peak.any() else 0.0
    program.served = program.linear.add_variable("served", 0, program.most_served)


def add_objective(program: Program) -> None:
    """Add the objective, and a constraint for every quantity that has to stay within a value.

    With elastic limits, minimise the sum of excess / max(bound, 1) instead.
    """
    import pulp

    known, ask = bounds(program.problem), program.ask
    if program.excess:
        program.linear += pulp.lpSum([v * (1.0 / max(known.get(n, 1.0), 1.0)) for n, v in program.excess.items()])
    else:
        program.linear += program.total(ask.objective or program.problem.objective)
    for i, (quantity, most) in enumerate(ask.within.items()):
        program.linear += (program.total(quantity) <= most, f"within_{i}")
