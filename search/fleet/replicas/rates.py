"""Find the greatest request rate of many layouts within their SLOs, with as few estimates as possible.

The latencies rise with the rate. So the search knows how far a rate is from the limit, and the next two rates that it
tries lie close to where the limit is expected. It ends on the same grid of rates as a plan does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from perfmodel import Estimates
from perfmodel.arrays import Array, Index, Mask
from search.planning import LEAST_LOAD, OVER_SATURATED, RATE_TOLERANCE, SATURATING_RATE

#: Rates that are tried first, as shares of what a saturated replica serves: of every layout, and of those that keep
#: the first. Chosen.
FIRST_TRIED, THEN_TRIED = 0.5, (0.8, 0.97)
#: Share of the least rate known to be missed that is tried next, beside an idle replica, where none is kept so far.
LESS = 0.5
#: Distances from the expected limit of the rates that are tried on both sides of it, as shares of the bracket: the
#: first for many rows, all for few. Chosen: the bracket then shrinks 16-fold or more where the limit is between them.
MARGINS = (1 / 32, 1 / 256, 1 / 8)
#: Rows up to which twice and thrice as many rates are tried in a round. Chosen: a call of the estimator takes as long
#: as some 50 rows.
FEW = (24, 12)
#: Part of the bracket that a round must leave at most; otherwise the next round tries its thirds.
SLOW = 0.5
#: Relative rounding error of a price that is a multiple of another.
ROUNDING = 1e-9
#: Most layouts of one option that are compared with each other while they are searched.
MOST_COMPARED = 400


class Loaded(Protocol):
    """R layouts that can be estimated at any rate."""

    def estimates(self, rows: Index, rates: Array) -> Estimates:
        """Estimate the layouts at `rows` (M,), each at its rate (M,) in requests/s."""

    def ratio(self, estimates: Estimates, rows: Index) -> Array:
        """Return the worst ratio of a latency to its limit, (M,); at most 1 where the SLO is kept."""


@dataclass(frozen=True)
class Rivals:
    """L layouts under C classes of one model, of which only those that no other one beats are wanted.

    option: (L,) layouts of the same option are rivals. weights: (L, K) what a replica costs and takes: price, devices;
    NaN where it is not known yet. copies: whether several replicas of a layout count against one of another.
    """

    option: Index
    weights: Array
    copies: bool = True

    def beaten(self, low: Array, high: Array, least: float = 1.0) -> Mask:
        """Return the layouts that a rival beats for certain, (L,).

        n replicas of the rival are no dearer and no larger than one of the layout, and faster in every class. So they
        can take its place in any fleet. low, high: (C, L) rates that a layout keeps, and that it misses. least: n.
        """
        out = np.zeros(len(self.option), dtype=bool)
        for number in np.unique(self.option):
            here = np.nonzero(self.option == number)[0]
            if len(here) <= MOST_COMPARED:
                count = copies_within(self.weights[here], self.copies)  # [rival, layout]
                faster = np.all(count * low[:, here][:, :, None] >= high[:, here][:, None, :], axis=0)
                out[here] = np.any((count >= least) & faster, axis=0)
        return out


def copies_within(weights: Array, several: bool = True) -> Array:
    """Return how many replicas of each layout weigh no more than one of each other layout, (L, L) [first, second].

    weights: (L, K). several: False for one at most.

    >>> copies_within(np.array([[1.0, 1.0], [2.5, 2.0]])).tolist()
    [[1.0, 2.0], [0.0, 1.0]]
    """
    first, second = weights[:, None], weights[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        fitting = np.where((first == 0) & (second >= 0), np.inf, second / first)
    most = np.floor(np.min(fitting, axis=2) * (1.0 + ROUNDING))
    return np.asarray(np.minimum(np.nan_to_num(most, nan=0.0, posinf=1.0), np.inf if several else 1.0))


@dataclass
class _Brackets:
    """Where the limits of R rows lie, on a grid of rates.

    low, last: rate of step 0, number of steps. span: of log rates. kept, missed: (R,) greatest step known to be kept,
    least known to be missed. at_kept, at_missed: (R,) log ratios there. slow: the last round left most of it.
    """

    low: Array
    span: Array
    last: Array
    kept: Array
    missed: Array
    at_kept: Array
    at_missed: Array
    slow: Mask

    def rate(self, rows: Index, steps: Array) -> Array:
        """Return the rates of some steps of the given rows, requests/s."""
        return np.asarray(self.low[rows] * np.exp(self.span[rows] * steps / self.last[rows]))

    def step(self, rows: Index, share: float) -> Array:
        """Return the step of each row at a share of what its saturated replica serves, (M,)."""
        return np.asarray(np.rint(np.log(share / LEAST_LOAD) / self.span[rows] * self.last[rows]))

    def next_steps(self, rows: Index) -> Array:
        """Choose steps to try between the ends of each row, (K, M): around where the limit is expected."""
        low, high = self.kept[rows], self.missed[rows]
        width, below, above = high - low, self.at_kept[rows], self.at_missed[rows]
        known = np.isfinite(below) & np.isfinite(above) & (above > below) & ~self.slow[rows]
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = low + width * np.where(known, -below / (above - below), 0.5)
        pairs = 1 + sum(len(rows) <= few for few in FEW)
        margins = np.array(MARGINS[:pairs])[:, None] * width
        even = (np.arange(pairs)[:, None] + 0.5) / (2 * pairs + 1) * width
        half = np.where(known, np.maximum(margins, 0.5), even)
        tried = np.concatenate([np.floor(middle - half), np.ceil(middle + half)])
        fewer = high + np.log(LESS) / self.span[rows] * self.last[rows]
        tried = np.where(low < 0, np.stack([np.zeros(len(rows)), fewer] * pairs), tried)
        fresh = (high > self.last[rows]) & (low <= self.step(rows, FIRST_TRIED))
        tried = np.where(fresh, np.stack([self.step(rows, share) for share in THEN_TRIED] * pairs), tried)
        return np.asarray(np.clip(np.rint(tried), low + 1.0, high - 1.0))

    def learn(self, rows: Index, steps: Array, ratio: Array) -> None:
        """Narrow the brackets of the given rows. steps, ratio: (K, M), what was tried and found there."""
        before = self.missed[rows] - self.kept[rows]
        with np.errstate(divide="ignore"):  # a ratio of 0: nothing of the limit is used
            logs = np.log(ratio)
        for step, found in zip(steps, logs, strict=True):
            better = (found <= 0) & (step >= self.kept[rows])
            self.kept[rows[better]], self.at_kept[rows[better]] = step[better], found[better]
        for step, found in zip(steps, logs, strict=True):
            worse = (found > 0) & (step <= self.missed[rows]) & (step > self.kept[rows])
            self.missed[rows[worse]], self.at_missed[rows[worse]] = step[worse], found[worse]
        self.slow[rows] = self.missed[rows] - self.kept[rows] > SLOW * before


def greatest_rates(batch: Loaded, count: int, rivals: Rivals | None = None) -> tuple[Array, Mask]:
    """Find the greatest request rate that each of the `count` rows of `batch` keeps, requests/s, (count,).

    Returns (the rates, True where they are found and not only rates that are kept), (count,) each. The rate is 0 where
    even an idle replica misses the SLO, or where the memory does not suffice. rivals: of rows class by class; those
    that are beaten for certain are searched no further.
    """
    saturated = batch.estimates(np.arange(count), np.full(count, SATURATING_RATE))
    ceiling = np.where(saturated.fits, saturated.request_rate, np.nan)
    low = ceiling * LEAST_LOAD
    span = np.full(count, np.log(OVER_SATURATED / LEAST_LOAD))
    last = np.ceil(span / np.log1p(RATE_TOLERANCE))
    nowhere = np.full(count, -1.0)
    ends = (nowhere.copy(), np.where(saturated.fits, last + 1.0, 0.0), nowhere * np.inf, nowhere * -np.inf)
    found = _Brackets(low, span, last, *ends, slow=np.zeros(count, dtype=bool))
    rows = np.nonzero(saturated.fits)[0]
    steps = found.step(rows, FIRST_TRIED)[None]
    while len(rows):
        at = np.tile(rows, len(steps))
        ratio = batch.ratio(batch.estimates(at, found.rate(at, steps.ravel())), at)
        found.learn(rows, steps, ratio.reshape(steps.shape))
        rows = _undecided(found, rows, rivals)
        steps = found.next_steps(rows)
    kept = found.kept >= 0
    settled = ~kept | (found.missed - found.kept <= 1.0)
    return np.where(kept, found.rate(np.arange(count), np.maximum(found.kept, 0.0)), 0.0), settled


def _undecided(found: _Brackets, rows: Index, rivals: Rivals | None) -> Index:
    """Return the rows whose limit is still unknown, without those of layouts that are beaten for certain."""
    rows = rows[found.missed[rows] - found.kept[rows] > 1.0]
    if rivals is None or not len(rows):
        return rows
    every = np.arange(len(found.kept))
    shape = (-1, len(rivals.option))
    low = np.where(found.kept >= 0, found.rate(every, np.maximum(found.kept, 0.0)), 0.0).reshape(shape)
    high = np.where(found.missed > 0, np.nan_to_num(found.rate(every, found.missed)), 0.0).reshape(shape)
    beaten = rivals.beaten(low, high)
    return rows[~beaten[rows % len(rivals.option)]]
