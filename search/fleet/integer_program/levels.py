"""Tighten the program of a fleet with spare nodes: one copy of its replicas per level of the worst failure.

The constraints `alive` and `gone` (`serving_constraints`) state a failure by a binary variable with a
large factor (big M), so that the linear relaxation pays for a fraction of a spare replica only. Here the worst failure
of a group of one class is at one of a few levels k. If level k is chosen, no option serves whose failure takes more
than the highest loss of k, and the fleet survives at least the lowest. The relaxation then pays for a whole spare
replica (the convex hull of the union over the levels, Balas 1979). Every fleet satisfies these constraints: they change
the time to the optimum and not the optimum.

Data of one group and period, whose class is c: part[o] = throughput[o,c] / rate[t,c]; fails[o], the part that one
replica of o serves where a failure may take one, 0 otherwise; lowest[k] and highest[k] of fails; lost_share[o] of spot.

Variables: level[k] in {0, 1}, 1 where the worst failure is at level k; steady[o,k] and lent[o,k] >= 0, the replicas of
o beside spot devices and on them, where fails[o] <= highest[k]; worst[k] >= 0, the part that the worst failure takes.

at_level         sum_k level[k] = 1
split[o]         sum_k steady[o,k] = replicas[o,t] - spot[o,t]; sum_k lent[o,k] = spot[o,t]
survive[k]       sum_o part[o] (steady[o,k] + lent[o,k]) >= level[k] + worst[k]
failed[k]        worst[k] >= lowest[k] level[k]
taken_back[o,k]  worst[k] >= lost_share[o] part[o] lent[o,k]
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from search.fleet.integer_program.periods import deciding
from search.fleet.integer_program.variables import Expression, Program
from search.fleet.problem_data.cases import groups
from search.fleet.problem_data.limits import most_lost

#: Options times periods from which a program is tightened. Chosen: smaller ones take less than a second without.
LEAST_SIZE = 100
#: Levels of a group at most. Chosen: the linear program grows with it, and more hardly raise its bound.
MOST_LEVELS = 8


def add_levels(program: Program) -> None:
    """Add the constraints of this module for every group of one class and every period of a large program.

    Programs without spare nodes, and those whose demand is a variable, have none.
    """
    problem, without = program.problem, program.ask.without
    fails = np.asarray(most_lost(problem) > 0, dtype=float)
    whole = isinstance(program.served, float) and "demand" not in program.excess
    if len(problem.options) * problem.periods < LEAST_SIZE or "spare" in without or not (whole and fails.any()):
        return
    for number, (options, classes) in enumerate(groups(problem)):
        for t in deciding(problem, classes):
            rate = float(problem.rate[t, classes[0]])
            if len(classes) == 1 and rate:
                part = np.nan_to_num(problem.throughput[:, classes[0]]) / rate
                _add_group(program, f"{number}_{t}", {o: float(part[o]) for o in options}, (fails, t))


def _add_group(program: Program, name: str, part: dict[int, float], failing: tuple[Array, int]) -> None:
    """Add the levels of one group. part: by option. failing: (O,) whether one replica may fail, and the period t."""
    import pulp

    fails, t = failing
    each = {o: p if fails[o] else 0.0 for o, p in part.items()}
    steady: dict[int, list[Expression]] = {o: [] for o in part}
    lent: dict[int, list[Expression]] = {o: [] for o in part}
    chosen = []
    for k, (lowest, highest) in enumerate(_levels(list(each.values()))):
        level = program.linear.add_variable(f"level_{name}_{k}", 0, 1, pulp.LpInteger)
        worst = program.linear.add_variable(f"level_worst_{name}_{k}", 0)
        served = []
        for o in (o for o in part if each[o] <= highest):
            steady[o].append(program.linear.add_variable(f"level_steady_{name}_{k}_{o}", 0))
            served.append(part[o] * steady[o][-1])
            if (o, t) in program.spot:
                lent[o].append(program.linear.add_variable(f"level_lent_{name}_{k}_{o}", 0))
                served.append(part[o] * lent[o][-1])
                back = _lost_share(program, o) * part[o]
                program.linear += (worst >= back * lent[o][-1], f"taken_back_{name}_{k}_{o}")
        program.linear += (pulp.lpSum(served) >= level + worst, f"survive_{name}_{k}")
        program.linear += (worst >= lowest * level, f"failed_{name}_{k}")
        chosen.append(level)
    program.linear += (pulp.lpSum(chosen) == 1, f"at_level_{name}")
    for o in part:
        spot = program.spot.get((o, t), 0)
        program.linear += (pulp.lpSum(steady[o]) == program.replicas[o, t] - spot, f"split_{name}_{o}")
        if lent[o]:
            program.linear += (pulp.lpSum(lent[o]) == spot, f"split_spot_{name}_{o}")


def _levels(fails: list[float]) -> list[tuple[float, float]]:
    """Return the levels of a worst failure, (lowest, highest) each. fails: what a failure of each option takes.

    >>> _levels([0.5, 0.1, 0.5])
    [(0.1, 0.1), (0.5, 0.5)]
    """
    parts = np.array_split(np.unique(fails), min(MOST_LEVELS, len(set(fails))))
    return [(float(p[0]), float(p[-1])) for p in parts]


def _lost_share(program: Program, option: int) -> float:
    """Return the share of spot replicas of an option that may be taken back, 0 where that case is left out."""
    device = program.problem.options[option].device
    on_spot = (s for s in program.problem.inventory.supplies if s.kind == "spot" and s.device == device)
    return 0.0 if "spot" in program.ask.without else max((s.lost_share for s in on_spot), default=0.0)
