"""Find good fleets of parts of one class quickly, by dynamic programming: columns, not proofs.

A part of one class is a covering problem: the throughputs of its replicas have to sum to the rate plus the worst loss.
One case is solved per option k, with a failure of k as the worst loss. Then only options whose failure takes no more
are used, and only so many spot replicas that their withdrawal takes no more. Further cases have losses of spot replicas
that are greater than any failure.

The cheapest steady and the cheapest spot replicas for every amount of throughput come from a table (Bellman 1957; the
multiples of an option in powers of two). The column is the cheapest sum of both over all cases. Amounts are rounded to
a grid; where a column then serves too little, the cheapest replicas are added. It may not be the optimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Index, Mask
from search.fleet.decomposition.columns import Column, Parts
from search.fleet.decomposition.coupling import Part
from search.fleet.problem_data.limits import most_lost, spot_options, spot_up
from search.fleet.problem_data.problem import FleetProblem

#: Cells of the grid of amounts, for the largest amount. Chosen: finer ones find hardly cheaper columns.
CELLS = 600
#: Options of a part that are looked at: those with the cheapest requests.
MOST_OPTIONS = 9
#: Columns of a part that are kept, and how much dearer than the best.
KEPT, WITHIN = 2, 0.03
#: Factor from one loss of spot replicas to the next that is looked at, and the greatest part of them that is lost.
MORE, MOST_LOST = 1.2, 0.75
#: Amount below which nothing is lacking, relative to the rate.
ROUNDING = 1e-9


def simple(problem: FleetProblem, part: Part) -> bool:
    """Return whether a part is the covering problem of this module."""
    rows = list(part.options)
    up = all(problem.options[o].availability == 1.0 for o in rows) and bool((spot_up(problem)[rows] == 1.0).all())
    return len(part.classes) == 1 and up and not problem.worlds and not problem.inventory.spare_domains


def cheap_columns(parts: Parts, dual: Array) -> list[Column]:
    """Return good columns of every simple part at prices `dual` (R, S)."""
    steady, lent = parts.join.usd(dual)
    of_group: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for number, part in enumerate(parts.parts):
        if simple(parts.join.problem, part):
            of_group.setdefault((part.options, part.classes), []).append(number)
    found: list[Column] = []
    for (options, _), numbers in of_group.items():
        rows = np.array(options)
        slots = [parts.parts[n].slot for n in numbers]
        group = _group(parts.join.problem, [parts.parts[n] for n in numbers])
        usd = steady[rows][:, slots], (steady + lent)[rows][:, slots]
        found += group.columns(numbers, *usd)
    return found


def _group(problem: FleetProblem, parts: Sequence[Part]) -> _Group:
    """Return the group of some parts that differ in their slots only."""
    rows, c = np.array(parts[0].options), parts[0].classes[0]
    speed = np.nan_to_num(problem.throughput[rows, c])
    shares = {s.device: s.lost_share for s in problem.inventory.supplies if s.kind == "spot"}
    lost_share = np.array([shares.get(problem.options[o].device, 1.0) for o in rows])
    rate = np.array([problem.rate[list(p.periods), c].max() for p in parts])
    periods = max(len(p.periods) for p in parts)
    device = np.unique([problem.options[o].device for o in rows], return_inverse=True)[1]
    fails, on_spot = most_lost(problem)[rows] * speed, np.isin(rows, spot_options(problem))
    return _Group(speed, fails, lost_share, device, on_spot, rate, periods)


@dataclass(frozen=True)
class _Group:
    """A group of N options and one class in S slots.

    speed: (N,) requests/s. fails: (N,) of them that the worst failure of an option takes. lost_share: (N,) of spot
    replicas. device: (N,) number of the device type. on_spot: (N,) whether there are any spot replicas. rate: (S,)
    requests/s. periods: of a slot.
    """

    speed: Array
    fails: Array
    lost_share: Array
    device: Index
    on_spot: Mask
    rate: Array
    periods: int

    def columns(self, numbers: Sequence[int], steady: Array, spot: Array) -> list[Column]:
        """Return the columns of the parts `numbers` (S,). steady, spot: (N, S) USD per hour of a replica."""
        ways: list[list[tuple[float, Array, Array]]] = [[] for _ in numbers]
        best = np.full(len(numbers), np.inf)
        for x, y in self._ways(steady, spot):
            least = (steady * (x - y) + spot * y).sum(axis=0)
            for s in np.nonzero(least <= best * (1.0 + WITHIN))[0].tolist():
                replicas, lent = x[:, s], y[:, s]
                full = self._mended(replicas, lent, float(self.rate[s]), steady[:, s])
                usd = float(steady[:, s] @ (full - lent) + spot[:, s] @ lent)
                ways[s].append((usd, full, lent))
                best[s] = min(best[s], usd)
        out: list[Column] = []
        for number, some in zip(numbers, ways, strict=True):
            kept: dict[tuple[bytes, bytes], Column] = {}
            ordered = sorted(some, key=lambda way: way[0])
            for usd, full, lent in ordered:
                if usd <= ordered[0][0] * (1.0 + WITHIN) and len(kept) < KEPT:
                    column = Column(number, full, lent, self._shares(full))
                    kept.setdefault(column.key[1:], column)
            out += kept.values()
        return out

    def _shares(self, replicas: Array) -> Array:
        """Return shares in proportion to the throughputs of the replicas, (N, 1, K).

        No replicas serve a class without traffic: one option that could is named then.
        """
        able = self.speed * (replicas if np.any(replicas) else np.arange(len(replicas)) == np.argmax(self.speed > 0))
        return np.repeat((able / max(float(able.sum()), ROUNDING))[:, None, None], self.periods, axis=2)

    def _mended(self, replicas: Array, lent: Array, rate: float, usd: Array) -> Array:
        """Return replicas that serve the rate after every failure: with more of the cheapest that help, (N,) each."""
        out = replicas.copy()
        loss = float(np.max(np.bincount(self.device, self.lost_share * self.speed * lent), initial=0.0))
        while True:
            worst = max(float(np.max(self.fails * (out > 0), initial=0.0)), loss)
            lacking = rate + worst - float(self.speed @ out)
            if lacking <= ROUNDING * max(rate, ROUNDING):
                return out
            able = (self.speed > 0) & ((self.fails <= worst) | (not out.any()))
            each = np.ceil(lacking / np.where(able, self.speed, 1.0) - ROUNDING)
            best = int(np.argmin(np.where(able, each * usd, np.inf)))
            out[best] += max(each[best], 1.0)

    def _ways(self, steady: Array, spot: Array) -> Iterator[tuple[Array, Array]]:
        """Yield (replicas, those of them on spot devices), (N, S) each, for each option that may fail the worst."""
        able = np.nonzero(self.speed > 0)[0]
        each = np.minimum(steady, np.where(self.on_spot[:, None], spot, np.inf))[able] / self.speed[able, None]
        near = (each / np.maximum(each.min(axis=0), np.finfo(float).tiny)).min(axis=1)
        kept = able[np.argsort(near, kind="stable")[:MOST_OPTIONS]]
        kept = kept[np.argsort(self.fails[kept], kind="stable")]
        least = self.fails[kept]
        most = max(least.max(), self._most_loss(kept, steady, spot))
        step = float(self.rate.max() + most) / CELLS
        if step <= 0:
            return
        cells = self.speed / step
        table, allowed = _Table.empty(len(self.rate)), 0
        for worst in _losses(least, most, self._least_loss(kept)):
            while allowed < len(kept) and least[allowed] <= worst:
                o = int(kept[allowed])
                table.add(o, float(cells[o]), steady[o], int(np.ceil(CELLS / cells[o])))
                allowed += 1
            yield self._way(table, (worst, step), kept[:allowed], steady, spot)

    def _most_loss(self, kept: Index, steady: Array, spot: Array) -> float:
        """Return the greatest loss of spot replicas that is looked at, requests/s: one option serves all."""
        lent = kept[self.on_spot[kept] & (spot[kept] < steady[kept]).any(axis=1)]
        if not len(lent):
            return 0.0
        part = np.minimum(self.lost_share[lent], MOST_LOST)
        return float(self.rate.max() * (part / (1.0 - part)).max())

    def _least_loss(self, kept: Index) -> float:
        """Return the least loss above 0 of one spot replica, requests/s; inf for none."""
        lost = (self.lost_share * self.speed)[kept[self.on_spot[kept]]]
        return float(np.min(lost[lost > 0], initial=np.inf))

    def _way(
        self, table: _Table, loss: tuple[float, float], kept: Index, steady: Array, spot: Array
    ) -> tuple[Array, Array]:
        """Return (replicas, those on spot devices), (N, S) each, that survive a loss at the least cost.

        table: of steady replicas. loss: requests/s, and those of a cell. kept: options on spot. steady, spot: prices.
        """
        worst, step = loss
        cells = self.speed / step
        lent = _Table.empty(len(self.rate))
        for o in kept:
            most = worst / max(float(self.lost_share[o] * self.speed[o]), ROUNDING) if self.on_spot[o] else 0.0
            most = min(np.floor(most + ROUNDING), np.ceil(CELLS / cells[o]))
            if most and (spot[o] < steady[o]).any():
                lent.add(int(o), float(cells[o]), spot[o], int(most))
        wanted = np.minimum(np.ceil((self.rate + worst) / step), CELLS).astype(np.intp)
        return _best(table, lent, wanted, self.speed)


def _losses(fails: Array, most: float, least: float) -> list[float]:
    """Return the losses that are looked at, rising: those of the failures (N,), and steps of `MORE` between and beyond.

    After no loss comes the `least` of one spot replica.

    >>> _losses(np.array([1.0, 1.0, 1.3]), 1.5, 0.4)
    [1.0, 1.2, 1.3, 1.5]
    >>> _losses(np.array([0.0]), 1.3, 1.0)
    [0.0, 1.0, 1.2, 1.3]
    """
    out = [float(fails[0])]
    ends = sorted({*fails.tolist(), most})
    for end in ends:
        if not out[-1] and least < end:
            out.append(least)
        while out[-1] and out[-1] * MORE < end:
            out.append(out[-1] * MORE)
        if end > out[-1]:
            out.append(float(end))
    return out


@dataclass
class _Table:
    """The least cost of every amount or more, (S, CELLS + 1), and how it came about.

    stages: (option, cells of all, number of replicas, (S, CELLS + 1) whether they are taken).
    """

    usd: Array
    stages: list[tuple[int, int, int, Mask]]

    @classmethod
    def empty(cls, slots: int) -> _Table:
        """Return the table of no options: nothing costs nothing."""
        usd = np.full((slots, CELLS + 1), np.inf)
        usd[:, 0] = 0.0
        return cls(usd, [])

    def add(self, option: int, cells: float, usd: Array, most: int) -> None:
        """Allow up to `most` replicas of an option of so many cells each. usd: (S,) of one.

        Each stage takes a power of two of them or none, so that rounding takes less than a cell for each power.
        """
        number = 1
        while most > 0:
            number = min(number, most)
            shift = min(round(number * cells), CELLS)
            moved = np.empty_like(self.usd)
            moved[:, :shift], moved[:, shift:] = self.usd[:, :1], self.usd[:, : CELLS + 1 - shift]
            moved += number * usd[:, None]
            better = moved < self.usd
            self.usd = np.where(better, moved, self.usd)
            self.stages.append((option, shift, number, better))
            most, number = most - number, number * 2

    def counts(self, at: Index, options: int) -> Array:
        """Return the replicas behind the amounts `at` (S,), in cells: (N, S)."""
        out, rows, at = np.zeros((options, len(at))), np.arange(len(at)), at.copy()
        for option, cells, number, taken in reversed(self.stages):
            here = taken[rows, at]
            out[option, here] += number
            at = np.where(here, np.maximum(at - cells, 0), at)
        return out


def _best(steady: _Table, lent: _Table, wanted: Index, speed: Array) -> tuple[Array, Array]:
    """Return (replicas, those on spot devices), (N, S) each, of the least cost for the amounts `wanted` (S,)."""
    at = np.zeros(len(wanted), dtype=np.intp)
    for s, amount in enumerate(wanted.tolist()):
        at[s] = int(np.argmin(lent.usd[s, : amount + 1] + steady.usd[s, amount::-1]))
    spot = lent.counts(at, len(speed))
    return steady.counts(wanted - at, len(speed)) + spot, spot
