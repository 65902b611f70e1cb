"""Constraints on money and supply: whole nodes, where devices come from, commitments, moves, limits.

Each is one function, which states its inequality.
"""

from __future__ import annotations

from perfmodel.arrays import Array
from search.fleet.integer_program.variables import WHILE_STARTING, WITH_UNSPENT, Expression, Program
from search.fleet.problem_data.limits import mean_limits, spot_options, taken_of


def add_house(program: Program) -> None:
    """Add the variables housed[d,t], whole nodes, and the constraint house[d,t].

    house[d,t]: sum over options o on d of nodes[o] replicas[o,t] <= housed[d,t].
    """
    import pulp

    problem = program.problem
    for d, device in enumerate(problem.by_node):
        nodes = problem.nodes_on(device)
        for t in range(problem.periods):
            if t and not problem.elastic:
                program.housed[d, t] = program.housed[d, 0]
                continue
            housed = program.linear.add_variable(f"housed_{d}_{t}", 0, None, pulp.LpInteger)
            held = [float(n) * program.replicas[o, t] for o, n in enumerate(nodes) if n]
            program.linear += (pulp.lpSum(held) <= housed, f"house_{d}_{t}")
            program.housed[d, t] = housed


def add_supplies(program: Program) -> None:
    """Add the variables held[k,t], devices (or nodes) that supply k rents out, between `least` and no end.

    Those of a reserved supply are whole and the same in all periods; those of the others differ in an elastic fleet.
    """
    import pulp

    problem = program.problem
    for k, supply in enumerate(problem.inventory.supplies):
        whole = pulp.LpInteger if supply.kind == "reserved" or supply.device in problem.by_node else pulp.LpContinuous
        for t in range(problem.periods):
            if t and (supply.kind == "reserved" or not problem.elastic):
                program.held[k, t] = program.held[k, 0]
                continue
            program.held[k, t] = program.linear.add_variable(f"held_{k}_{t}", float(supply.least), None, whole)
        if supply.least_spend:
            add_commitment(program, k)
    for device in dict.fromkeys(s.device for s in problem.inventory.supplies):
        for t in range(problem.periods if problem.elastic else 1):
            add_source(program, device, t)


def add_source(program: Program, device: str, t: int) -> None:
    """Add the constraints spot[d,t] and source[d,t] of one device and period, with the variables spot[o,t], whole.

    spot[d,t]: sum over options o on d of devices[o,d] spot[o,t] <= held[k,t] of its spot supply k; spot[o,t] <=
    replicas[o,t].
    source[d,t]: sum_o devices[o,d] replicas[o,t] <= sum of held[k,t] over all supplies k of d.
    """
    import pulp

    problem, each = program.problem, taken_of(program.problem, device)
    kinds = {s.kind: k for k, s in enumerate(problem.inventory.supplies) if s.device == device}
    if "spot" in kinds:
        taken = []
        for o in (o for o in spot_options(problem) if problem.options[o].device == device):
            name = f"spot_{o}_{t}"
            spot = program.linear.add_variable(name, 0, int(program.most_spot[o]), pulp.LpInteger)
            program.linear += (spot <= program.replicas[o, t], f"on_{name}")
            taken.append(float(each[o]) * spot)
            for s in range(t, t + 1 if problem.elastic else problem.periods):
                program.spot[o, s] = spot
        program.linear += (pulp.lpSum(taken) <= program.held[kinds["spot"], t], f"spot_of_{kinds['spot']}_{t}")
    used = [float(n) * program.replicas[o, t] for o, n in enumerate(each) if n]
    steady = [program.held[k, t] for kind, k in kinds.items() if kind != "spot"]
    lent = [float(each[o]) * program.spot[o, t] for o, n in enumerate(each) if n and (o, t) in program.spot]
    program.linear += (pulp.lpSum(used) <= pulp.lpSum(steady) + pulp.lpSum(lent), f"source_{min(kinds.values())}_{t}")


def add_commitment(program: Program, k: int) -> None:
    """Add unspent[k] >= 0, USD per hour that are paid for nothing, and the constraint commitment[k].

    commitment[k]: sum_t hours[t] usd_per_hour[k] held[k,t] / sum_t hours[t] + unspent[k] >= least_spend[k].
    """
    import pulp

    problem, supply = program.problem, program.problem.inventory.supplies[k]
    share = problem.hours / problem.hours.sum()
    unspent = program.linear.add_variable(f"unspent_{k}", 0)
    paid = [float(w) * supply.usd_per_hour * program.held[k, t] for t, w in enumerate(share)]
    program.linear += (pulp.lpSum(paid) + unspent >= supply.least_spend, f"commitment_{k}")
    program.unspent[k] = unspent


def add_moves(program: Program) -> None:
    """Add moved[o] >= 0 where a new replica costs, and the constraint keep[o,t].

    keep[o,t]: moved[o] >= replicas[o,t] - current[o].
    """
    problem = program.problem
    for o, option in enumerate(problem.options):
        if not option.migration_usd:
            continue
        moved = program.linear.add_variable(f"moved_{o}", 0)
        for t in range(problem.periods if problem.elastic else 1):
            program.linear += (moved >= program.replicas[o, t] - option.current, f"keep_{o}_{t}")
        program.moved[o] = moved


def add_limit(program: Program, name: str, limit: tuple[float, Array], number: int) -> None:
    """Add the constraint of one limit, in every period t in which replicas may differ.

    An elastic limit may be exceeded by its variable in `excess`. Stock and power also count replicas while they start.
    limit: bound, and what each unit takes of it. number: of the limit, which the constraint is named by.

    stock[d]: sum over options o on d of devices[o,d] replicas[o,t] <= stock[d], d in a region or in all of them.
    power: sum_o power[o] replicas[o,t] <= power limit.
    budget: sum over units of their price + sum over supplies k of unspent[k] <= budget.
    nodes: sum_o nodes[o] replicas[o,t] + sum_d housed[d,t] <= nodes, o over options that are not paid by the node.
    supply[k]: held[k,t] <= most[k].
    """
    import pulp

    problem, (bound, each) = program.problem, limit
    allowed = bound + program.excess[name] if name in program.excess else bound
    for t in range(problem.periods if problem.elastic else 1):
        terms = program.taken(each, t)
        if name.split("[")[0] in WHILE_STARTING:
            terms += _starting(program, each, t)
        if name in WITH_UNSPENT:
            terms += list(program.unspent.values())
        program.linear += (pulp.lpSum(terms) <= allowed, f"limit_{number}_{t}")


def _starting(program: Program, each: Array, t: int) -> list[Expression]:
    """Return what the replicas that start during period t take of a limit. each: (O + W + K,) per unit."""
    return [float(each[o]) * v for (o, s), terms in program.starting.items() if s == t and each[o] for v in terms]


def add_mean_limit(program: Program, name: str) -> None:
    """Add the constraint of one limit on the mean over the periods.

    mean_budget: money <= mean budget, start-ups and moves included. carbon: carbon <= carbon limit.
    """
    bound, quantity = mean_limits(program.problem)[name]
    program.linear += (program.total(quantity) <= bound + program.excess.get(name, 0), f"limit_{name}")
