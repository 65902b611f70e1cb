"""Constraints on serving: in every case, what is left of the replicas serves every request class.

Each is one function, which states its inequality. The cases are those of `search.fleet.problem_data.cases`.
"""

from __future__ import annotations

import numpy as np

from search.fleet.integer_program.variables import Expression, Program
from search.fleet.problem_data.cases import FAILURES, Case
from search.fleet.problem_data.limits import spot_up

#: Shares of a group, by option and class.
Shares = dict[tuple[int, int], Expression]


def add_case(program: Program, case: Case, number: int, t: int) -> None:
    """Add the constraints of one case in period t. number: of the case.

    The normal case has shares, which say where the requests go. So has every case of several classes. In the others,
    shares would say nothing, and one constraint is enough; likewise in failures that are known by worths.
    """
    if case.kind != "normal" and len(case.classes) == 1:
        add_capacity(program, case, (number, t))
        return
    if case.kind in FAILURES and program.ask.worths is not None:
        for row in range(len(program.ask.worths)):
            add_capacity(program, case, (number, t), row)
        return
    share = add_shares(program, case, (number, t))
    for c in case.classes:
        add_serve(program, share, case, (c, number, t))
    for o in case.options:
        for part, classes in enumerate(program.problem.loads(o)):
            add_load(program, {(i, c): v for (i, c), v in share.items() if c in classes}, case, (o, number, t), part)


def add_shares(program: Program, case: Case, index: tuple[int, int]) -> Shares:
    """Add the variables share[o,c,t,f] in [0, 1] of one case and period; returns them by (o, c). index: (f, t).

    Only options that can serve the class get one.
    """
    number, t = index
    most = 1 if program.most_served == 1.0 else None
    share = {
        (o, c): program.linear.add_variable(f"share_{o}_{c}_{t}_{number}", 0, most)
        for o in case.options
        for c in case.classes
        if case.throughput[o, c] > 0
    }
    if case.kind == "normal":
        program.share.update({(o, c, t): v for (o, c), v in share.items()})
    return share


def wanted(program: Program, case: Case) -> Expression:
    """Return the part of each class that has to be served in a case.

    It is 1, or the factor `served` where the most traffic is asked for; with elastic demand, less the part that goes
    unserved; in a world that may be missed, at least 0 where missed[w] is 1.
    """
    part = program.served - program.excess.get("demand", 0)
    return part - program.most_served * program.missed[case.world] if case.kind == "chance" else part


def add_serve(program: Program, share: Shares, case: Case, index: tuple[int, int, int]) -> None:
    """Add the constraint serve[c,t,f]: sum_o share[o,c,t,f] = 1 (see `wanted`); of a draw, >=.

    share: variables by (o, c) of this t and f. index: (c, f, t).
    """
    import pulp

    c, number, t = index
    served, part = pulp.lpSum([v for (_, i), v in share.items() if i == c]), wanted(program, case)
    name = f"serve_{c}_{t}_{number}"
    program.linear += (served >= part, name) if case.kind == "chance" else (served == part, name)


def add_load(program: Program, share: Shares, case: Case, index: tuple[int, int, int], part: int = 0) -> None:
    """Add the constraint load[o,t,f]: sum_c rate[t,c] share[o,c,t,f] / throughput[o,c] <= alive[o,t,f].

    Where a replica serves several models, load[o,m,t,f] does so for the classes of each model m by itself.
    share: variables by (o, c) of this t and f. index: (o, f, t). part: number of the model.
    """
    import pulp

    problem, (o, number, t) = program.problem, index
    load = [float(problem.rate[t, c] / case.throughput[o, c]) * v for (i, c), v in share.items() if i == o]
    program.linear += (pulp.lpSum(load) <= alive(program, case, o, t), f"load_{o}_{t}_{number}_{part}")


def add_capacity(program: Program, case: Case, index: tuple[int, int], row: int = 0) -> None:
    """Add the constraint capacity[t,f]: sum_o throughput[o,c] alive[o,t,f] >= rate[t,c], c the only class of a group.

    It is what is left of `serve` and `load` without the shares. The failures of a group differ only in what they take,
    so that one constraint holds for the worst of them (see `add_worst`). index: (f, t). row: of the worths of requests,
    by which several classes are one.
    """
    import pulp

    number, t = index
    each, name = served_of(program, case, t, row), f"{t}_{number}_{row}"
    if each is None:
        return
    if case.kind in FAILURES:
        lost = (
            add_nodes(program, case, each, (t, name))
            if case.nodes > 1
            else [each[o] * (program.replicas[o, t] - alive(program, case, o, t)) for o in each if case.touches(o)]
        )
        program.linear += (pulp.lpSum(lost) <= add_worst(program, case, each, (t, row)), f"capacity_{name}")
    else:
        served = pulp.lpSum([each[o] * alive(program, case, o, t) for o in each])
        program.linear += (served >= wanted(program, case), f"capacity_{name}")


def served_of(program: Program, case: Case, t: int, row: int) -> dict[int, float] | None:
    """Return what a replica of each option serves of the only class of a group, as a part of its rate.

    Of several classes it is a part of the worth of all requests, of what a replica may serve of most worth. row: of the
    worths. Options that serve nothing are left out. None for a group without requests.
    """
    problem, rows, classes = program.problem, list(case.options), list(case.classes)
    known = program.ask.worths
    worths = np.ones(len(problem.classes)) if len(classes) == 1 or known is None else known[row]
    asked = float(worths[classes] @ problem.rate[t, classes])
    if not asked:
        return None
    worth = np.zeros(len(problem.classes))
    worth[classes] = worths[classes] / asked
    speed = case.throughput * worth
    value = {o: sum(float(speed[o, at].max(initial=0.0)) for at in problem.loads(o)) for o in rows}
    return {o: v for o, v in value.items() if v > 0}


def add_nodes(program: Program, case: Case, each: dict[int, float], index: tuple[int, str]) -> list[Expression]:
    """Add the constraint node[o,j,t,f] and return the terms of what the worst failure of k nodes takes of a class.

    With the variables node >= 0 and beyond[o,j] >= 0, j = 1 to k: node + beyond[o,j] >= throughput[o,c] / rate[t,c]
    (alive after j - 1 nodes of o - alive after j). Their sum k node + sum_oj beyond[o,j] is at least the sum of any k
    of the right sides, and at best that of the greatest k (linear programming duality), so that no choice of nodes
    needs a constraint of its own. each: throughput over rate by option. index: t, and the name of t, f.
    """
    linear, (t, name) = program.linear, index
    node = linear.add_variable(f"node_{name}", 0)
    terms = [case.nodes * node]
    for o, n in case.lost.items():
        left = program.replicas[o, t]
        for j in range(1, case.nodes + 1) if each.get(o) else ():
            beyond = linear.add_variable(f"beyond_{name}_{o}_{j}", 0)
            taken = 1 - add_gone(program, (o, t), j) if n == 1 else left - add_alive(program, (o, t), j * n)
            left = left - taken
            linear += (node + beyond >= each[o] * taken, f"node_{name}_{o}_{j}")
            terms.append(beyond)
    return terms


def add_gone(program: Program, index: tuple[int, int], number: int) -> Expression:
    """Add and return gone[o,t,j] in {0, 1}, which is 1 only where option o has fewer than j replicas.

    Constraint gone[o,t,j]: replicas[o,t] <= most[o] - (most[o] - j + 1) gone[o,t,j]. index: (o, t). number: j.
    """
    import pulp

    o, t = index
    key = (o, t if program.problem.elastic else 0, -float(number))  # below 0: not one of `add_alive`
    if key not in program.alive:
        most, name = int(program.most[o]), f"{o}_{t}_fewer_than_{number}"
        gone = program.linear.add_variable(f"gone_{name}", 0, 1, pulp.LpInteger)
        program.linear += (program.replicas[o, t] <= most - (most - number + 1) * gone, f"gone_{name}")
        program.alive[key] = gone
    return program.alive[key]


def add_worst(program: Program, case: Case, each: dict[int, float], index: tuple[int, int]) -> Expression:
    """Add and return worst[g,t] >= 0, the part of the only class of group g that its worst failure takes.

    Constraint worst[g,t]: sum_o throughput[o,c] / rate[t,c] replicas[o,t] - worst[g,t] >= 1. each: throughput over rate
    by option. index: t, and the row of the worths.
    """
    import pulp

    (t, row), first = index, case.options[0]
    key, name = (first, t, row), f"worst_{first}_{t}_{row}"
    if key not in program.worst:
        worst = program.linear.add_variable(name, 0)
        whole = pulp.lpSum([part * program.replicas[o, t] for o, part in each.items()])
        program.linear += (whole - worst >= wanted(program, case), name)
        program.worst[key] = worst
    return program.worst[key]


def alive(program: Program, case: Case, o: int, t: int) -> Expression:
    """Return alive[o,t,f], the replicas of option o that a case leaves in period t.

    Where nothing fails: availability[o] replicas[o,t], less the time in which spot replicas start again. Where devices
    on spot are taken back: replicas[o,t] - lost_share spot[o,t] (the constraint `spot`). Where its domain fails: 0.
    """
    replicas = program.replicas[o, t]
    spot = program.spot.get((o, t))
    if case.kind not in FAILURES:
        up = program.problem.options[o].availability
        down = 1.0 - float(spot_up(program.problem)[o]) if spot is not None else 0.0
        return (replicas if up == 1.0 else up * replicas) - (down * spot if spot is not None and down else 0.0)
    if o in case.gone:
        return 0.0
    if o in case.spot_lost and spot is not None:
        return replicas - case.spot_lost[o] * spot
    return add_alive(program, (o, t), case.lost[o]) if o in case.lost else replicas


def add_alive(program: Program, index: tuple[int, int], lost: float) -> Expression:
    """Add and return alive[o,t,f] = max(replicas[o,t] - lost[o,f], 0), the replicas that a failure leaves.

    Constraint alive[o,t,f]: alive[o,t,f] <= replicas[o,t] - lost[o,f] + lost[o,f] gone[o,t,f].
    Constraint gone[o,t,f]: alive[o,t,f] <= most[o] (1 - gone[o,t,f]); replicas on spot devices and others apart.
    Where one replica is lost, alive[o,t,f] = replicas[o,t] - 1 + gone[o,t,f] needs no variable of its own.
    Failures that take the same number share these variables. index: (o, t).
    """
    import pulp

    o, t = index
    key = (o, t if program.problem.elastic else 0, lost)
    if key not in program.alive:
        most, name, replicas = int(program.most[o]), f"{o}_{t}_{lost:g}", program.replicas[o, t]
        gone = program.linear.add_variable(f"gone_{name}", 0, 1, pulp.LpInteger)
        if lost == 1:
            spot, steady = program.spot.get((o, t)), int(program.most_steady[o])
            firm = replicas if spot is None else replicas - spot
            program.linear += (firm <= steady * (1 - gone), f"gone_{name}")
            if spot is not None:
                program.linear += (spot <= int(program.most_spot[o]) * (1 - gone), f"gone_spot_{name}")
            program.alive[key] = replicas - 1 + gone
            return program.alive[key]
        left = program.linear.add_variable(f"alive_{name}", 0, most)
        program.linear += (left <= replicas - lost + lost * gone, f"alive_{name}")
        program.linear += (left <= most * (1 - gone), f"gone_{name}")
        program.alive[key] = left
    return program.alive[key]


def add_chance(program: Program) -> None:
    """Add the variables missed[w] in {0, 1} of the draws, and the constraint chance.

    chance: sum_w missed[w] <= the number of draws that may be missed. A draw that is not missed is served in all
    periods; the nominal throughput always is.
    """
    import pulp

    problem = program.problem
    draws = [w for w, world in enumerate(problem.worlds) if not world.must]
    for w in draws:
        program.missed[w] = program.linear.add_variable(f"missed_{w}", 0, 1, pulp.LpInteger)
    if draws:
        most = problem.may_miss + program.excess.get("chance", 0)
        program.linear += (pulp.lpSum(program.missed.values()) <= most, "chance")
