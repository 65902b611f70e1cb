"""Lower bounds on the cost of parts, computed without solving a program: failures count, whole numbers do not.

Prices per request ("worths") turn the classes of a part into one: a replica serves at most a certain worth per second,
and in every case the remaining replicas have to serve the worth of all requests. Suppose that the worst loss (failed
nodes, or spot devices that are taken back) has a worth from `low` to below `high`. Then

- all replicas together serve at least the worth of the requests plus `low`;
- an option whose failure would lose `high` or more has fewer replicas than that takes;
- the same holds for options on spot devices, with the share that may be taken back at once.

The least cost of fractional replicas within these limits is a continuous knapsack (Dantzig 1957). The least cost over
all ranges of the worst loss is a lower bound on the cost of the part, for any worths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Index, Mask
from search.fleet.decomposition.coupling import Part
from search.fleet.problem_data.limits import most_lost, spot_options
from search.fleet.problem_data.problem import FleetProblem

#: Ranges of the worst loss, beside those that begin where one more option may fail. Chosen: more hardly raise a bound.
RANGES = 64
#: Greatest part of spot devices whose loss is told apart: what is lost beyond costs no less.
MOST_LOST = 0.75


@dataclass(frozen=True)
class Losses:
    """What failures and the withdrawal of spot devices may take from a part of N options and C classes.

    speed: (N, C) requests/s of a replica. together: classes whose loads an option adds up, by option. failing: (N,)
    most replicas that a failure of nodes takes. lost_share: (N,) of spot replicas, NaN where there are none.
    """

    speed: Array
    together: list[list[Index]]
    failing: Array
    lost_share: Array

    def worth(self, worths: Array) -> Array:
        """Return what a replica of each option serves at most, (N,). worths: (C,) of a request of each class."""
        each = self.speed * worths
        return np.array([sum(each[o, at].max(initial=0.0) for at in some) for o, some in enumerate(self.together)])


def losses(problem: FleetProblem, part: Part) -> Losses:
    """Return what a part may lose."""
    rows, classes = np.array(part.options), np.array(part.classes)
    shares = {s.device: s.lost_share for s in problem.inventory.supplies if s.kind == "spot"}
    on_spot = set(spot_options(problem))
    together = [[np.nonzero(np.isin(classes, at))[0] for at in problem.loads(int(o))] for o in rows]
    lost = [shares[problem.options[o].device] if o in on_spot else np.nan for o in rows.tolist()]
    speed = np.nan_to_num(problem.throughput[np.ix_(rows, classes)])
    return Losses(speed, together, most_lost(problem)[rows], np.array(lost, dtype=float))


def floor(part: Losses, worths: Array, rate: Array, steady: Array, spot: Array) -> float:
    """Return a bound on the cost of a part, USD per hour; inf where nothing serves it.

    worths: (C,) of a request of each class, any at least 0. rate: (C,) requests/s. steady, spot: (N,) of a replica
    beside spot devices and on them.
    """
    worth, need = part.worth(worths), float(worths @ rate)
    able = worth > 0
    if need <= 0 or not able.any():
        return np.inf if need > 0 else 0.0
    each, fails = worth[able], part.failing[able] * worth[able]
    lost = part.lost_share[able]
    low, high = _ranges(need, fails, lost)
    caps = _caps(each, fails, lost, high)
    ratio = np.concatenate([steady[able] / each, spot[able] / each])
    order = np.argsort(ratio, kind="stable")
    ends = np.minimum(np.cumsum(caps[:, order], axis=1), (need + low)[:, None])
    cost = np.diff(ends, axis=1, prepend=0.0) @ ratio[order]
    return float(np.where(ends[:, -1] < (need + low) * (1.0 - 1e-9), np.inf, cost).min())


def value(part: Losses, rate: Array, own: tuple[Array, Array]) -> Array:
    """Return prices per request of each class ("worths"), (C,), that are likely to give the part a high bound.

    They are the marginal costs of a request in the linear program without failures, in which every replica has its
    lowest price. rate: (C,) requests/s. own: (N,) USD per hour of a replica on other than spot devices, and on spot.
    """
    from scipy.optimize import linprog

    classes = part.speed.shape[1]
    if classes == 1:
        return np.ones(1)
    usd = np.where(np.isnan(part.lost_share), own[0], np.minimum(*own))
    loads = [(o, at) for o, some in enumerate(part.together) for at in some]
    load = np.zeros((len(loads), classes))
    for row, (o, at) in enumerate(loads):
        load[row, at] = part.speed[o, at]
    # the dual of serving every class at the least cost: the greatest worth of all requests at which no replica gains
    count, gain = len(loads), np.zeros((len(usd), len(loads)))
    gain[[o for o, _ in loads], range(count)] = 1.0
    above = value_rows(load)
    matrix = np.vstack([above, np.hstack([np.zeros((len(usd), classes)), gain])])
    limit = np.concatenate([np.zeros(len(above)), usd])
    found = linprog(np.concatenate([-rate, np.zeros(count)]), matrix, limit, bounds=(0.0, None))
    return np.maximum(found.x[:classes], 0.0) if found.x is not None else np.ones(classes)


def value_rows(load: Array) -> Array:
    """Return the rows worth[c] load[l,c] - value[l] <= 0 of a linear program in (worth, value), (pairs, C + L).

    load: (L, C) requests/s that a replica serves of each class, by option and, where it serves several, by model.
    """
    pairs = np.argwhere(load > 0)
    above = np.zeros((len(pairs), load.shape[1] + len(load)))
    above[np.arange(len(pairs)), pairs[:, 1]] = load[tuple(pairs.T)]
    above[np.arange(len(pairs)), load.shape[1] + pairs[:, 0]] = -1.0
    return above


def _ranges(need: float, fails: Array, lost: Array) -> tuple[Array, Array]:
    """Return (low, high) of the ranges of the worst loss, (K,) each, from 0 without end."""
    part = np.minimum(np.nan_to_num(lost), MOST_LOST)
    most = max(float((need * part / (1.0 - part)).max()), float(fails.max()))
    low = np.unique(np.concatenate([[0.0], fails, np.linspace(0.0, most, RANGES + 1)]))
    return low, np.append(low[1:], np.inf)


def _caps(each: Array, fails: Array, lost: Array, high: Array) -> Array:
    """Return what the options may serve, beside spot devices and on them, for each end of a range, (K, 2 N).

    each: (N,) what a replica serves. fails: (N,) what a failure takes. lost: (N,) share of spot replicas. high: (K,).
    """
    end = high[:, None]
    firm: Mask = fails < end
    steady = np.where(firm, np.inf, (np.ceil(end / each) - 1.0) * each)
    with np.errstate(divide="ignore"):
        lent = np.where(lost > 0, (np.ceil(end / (lost * each)) - 1.0) * each, np.inf)
    lent = np.where(np.isnan(lost), 0.0, np.minimum(lent, steady))
    return np.concatenate([steady, lent], axis=1)
