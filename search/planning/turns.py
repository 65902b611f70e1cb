"""Find where a condition turns, for many candidates at once: the least number, the greatest load, that passes.

Each round asks only about the candidates that are still undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Index, Mask

#: Largest number of replicas that is tried. Chosen: above it, a float no longer holds every whole number twice over.
MOST_COUNTED = 2.0**51
#: Called with rows (M,) and a value (M,) for each: True where the SLO is kept there. A row may occur several times.
Test = Callable[[Index, Array], Mask]
#: Called as `Test`: by how much each fails, (M,); at most 0 where it passes, NaN counts as failed.
Margin = Callable[[Index, Array], Array]
#: Values of all candidates together on the grid of the first round. chosen: a fine grid for few candidates.
VALUES_OF_GRID = 2048
#: Estimates per later round, about. chosen: so many take as long as the round itself.
ESTIMATES_PER_ROUND = 128
#: Values of a row that are tried first, from the end of the grid where the turn is expected. chosen: mostly enough.
TRIED_FIRST = 3
#: Least values tried inside the bracket in the first round. chosen: shows where a test turns more than once.
FIRST_ROUND_VALUES = 6
#: Most values tried inside a bracket in one round. chosen: narrows it 16-fold.
MAX_VALUES_PER_ROUND = 15
#: Estimates that are asked for at once where a round needs no more. chosen: they take as long as the call itself.
TOGETHER = 1024
#: Least and most values per row of a round of `greatest` after the first: pairs around the value that is expected.
PAIRS = (1, 3)
#: Share of a bracket by which the outermost pair is apart from the value that is expected, and the factor between
#: pairs. chosen: a straight line through the ends of the first bracket errs by less.
APART, CLOSER = 0.2, 4.0
#: Factor by which the pairs draw closer after a round whose pair held the turn. chosen: the error of a straight line
#: falls with the square of the bracket.
AFTER_A_HIT = 3.0
#: Relative width of the bracket at which a rate or concurrency counts as found.
RATE_TOLERANCE = 5e-4


def least_whole(test: Test, cap: Array, sure: Array | float = 1.0) -> Array:
    """Find the least whole number from 1 to `cap` that passes `test`, for each row, (N,); NaN where none does.

    Args:
        test: False up to some number, True from there on; several numbers of a row are tested per call. Where it turns
            False again further up, the first turn that the first, coarse round shows is the one that counts.
        cap: (N,) largest number tried; beyond `MOST_COUNTED` none is.
        sure: (N,) numbers below which the test is False for sure: it is not made there.

    >>> least_whole(lambda rows, n: n >= np.array([3, 1, 9])[rows], np.array([8.0, 8.0, 8.0])).tolist()
    [3.0, 1.0, nan]
    """

    def failed(at: Index, numbers: Array) -> Array:
        return np.where(test(at, numbers), -1.0, 1.0)

    cap = np.minimum(np.floor(np.asarray(cap, dtype=float)), MOST_COUNTED)
    sure = np.broadcast_to(sure, cap.shape)
    low, high = np.zeros(len(cap)), np.full(len(cap), np.nan)  # greatest that fails, least that passes
    rows = np.nonzero(cap >= 1)[0]
    first = True
    while len(rows):
        bottom = np.maximum(low[rows], 1.0)
        top = np.where(np.isnan(high[rows]), cap[rows], high[rows])
        steps = np.linspace(0.0, 1.0, _values_per_row(len(rows), first) + 2)[:, None]
        points = np.rint(bottom * (top / bottom) ** steps)  # (K, n), on a log axis, ends included
        if not first:
            middle = np.floor(0.5 * (bottom + top))
            points = np.clip(points[1:-1], np.minimum(bottom + 1, middle), np.maximum(top - 1, middle))
        passed = _margins(failed, rows, points, points >= sure[rows]) <= 0.0
        least = np.where(passed, points, np.inf).min(axis=0)
        below = np.where(passed | (points >= least), 0.0, points).max(axis=0)
        high[rows] = np.where(np.isfinite(least), least, high[rows])
        low[rows] = np.maximum(low[rows], below)
        rows, first = rows[high[rows] - low[rows] > 1.0], False
    return high


def greatest(margin: Margin, low: Array, high: Array) -> Array:
    """Find the greatest value from `low` to `high` that passes `margin`, (N,); NaN where none does.

    A straight line between the margins at both ends of a bracket says where the turn is expected, on a logarithmic axis
    of values. Values on both sides of it are tried next; where the turn is not between them, the bracket is cut evenly.

    Args:
        margin: passes up to some value, fails from there on; several values of a row are tried per call. Where it
            passes again further up, the last turn that the first, coarse round shows is the one that counts.
        low, high: (N,) ends of the bracket, above 0. Values are tried on a grid between them, whose steps are at most
            `RATE_TOLERANCE`, relative: a row gets the same result whatever rows are searched with it.

    >>> float(greatest(lambda rows, v: v / 2.5 - 1.0, np.array([0.01]), np.array([100.0]))[0].round(2))
    2.5
    """
    span = np.log(high / low)
    last = np.maximum(np.ceil(span / np.log1p(RATE_TOLERANCE)), 1.0)
    ends = _Ends(np.zeros(len(low)), last.copy(), np.full(len(low), np.nan), np.full(len(low), np.nan))
    out, apart = np.full(len(low), np.nan), np.full(len(low), APART)
    rows = np.arange(len(low))
    first = True
    while len(rows):
        steps = (
            np.rint(last[rows] * np.linspace(0.0, 1.0, FIRST_ROUND_VALUES + 2)[:, None])
            if first
            else ends.expected(rows, apart[rows])
        )
        points = low[rows] * np.exp(span[rows] * steps[::-1] / last[rows])
        found = _margins(margin, rows, points, ahead=TRIED_FIRST if points.size > TOGETHER else len(points))[::-1]
        fails, passes = ends.narrowed(rows, steps, found)
        if first:  # the ends were tried too: some rows fail everywhere, some pass at the upper end
            rows, fails = rows[passes], fails[passes]
        else:
            evenly, closer = np.isinf(apart[rows]), apart[rows] / AFTER_A_HIT
            apart[rows] = np.where(evenly, APART, np.where(fails & passes, closer, np.inf))
        out[rows] = low[rows] * np.exp(span[rows] * ends.passes[rows] / last[rows])
        rows = rows[fails] if first else rows
        rows, first = rows[ends.fails[rows] - ends.passes[rows] > 1.0], False
    return out


@dataclass(frozen=True)
class _Ends:
    """Hold the ends of each bracket, (N,): the greatest step that passes, the least that fails, and their margins."""

    passes: Array
    fails: Array
    below: Array
    above: Array

    def expected(self, rows: Index, apart: Array) -> Array:
        """Return the steps to try in the brackets of `rows`, ascending, (K, n).

        apart: (n,) share of the bracket between the turn that is expected and the outermost steps; infinite where the
        bracket is cut evenly.
        """
        pairs = int(np.clip(TOGETHER // (2 * len(rows)), *PAIRS))
        even = np.arange(1, 2 * pairs + 1)[:, None] / (2 * pairs + 1)
        sides = np.concatenate([-(CLOSER ** -np.arange(pairs)), CLOSER ** -np.arange(pairs)[::-1]])[:, None]
        bottom, top = self.passes[rows], self.fails[rows]
        with np.errstate(invalid="ignore"):
            turn = self.below[rows] / (self.below[rows] - self.above[rows])
        shares = np.where(np.isfinite(turn) & np.isfinite(apart), turn + sides * np.minimum(apart, 1.0), even)
        steps = bottom + shares * (top - bottom)
        steps = np.where(np.arange(2 * pairs)[:, None] < pairs, np.floor(steps), np.ceil(steps))
        return np.asarray(np.clip(steps, bottom + 1.0, top - 1.0))

    def narrowed(self, rows: Index, steps: Array, found: Array) -> tuple[Mask, Mask]:
        """Narrow the brackets of `rows` by the margins `found` at `steps`, (K, n) each, NaN where one is not known.

        Returns for each row whether a step failed, and whether one passed, (n,) each.
        """
        passed, column = found <= 0.0, np.arange(len(rows))
        best = np.argmax(np.where(passed, steps, -np.inf), axis=0)
        lifted = passed.any(axis=0)
        most = np.where(lifted, steps[best, column], self.passes[rows])
        self.below[rows] = np.where(lifted, found[best, column], self.below[rows])
        over = np.where(passed | (steps <= most), np.inf, steps)
        worst = np.argmin(over, axis=0)
        lowered = np.asarray(np.isfinite(over.min(axis=0)))
        self.above[rows] = np.where(lowered, found[worst, column], self.above[rows])
        self.fails[rows] = np.where(lowered, np.minimum(over.min(axis=0), self.fails[rows]), self.fails[rows])
        self.passes[rows] = most
        return lowered, np.asarray(lifted)


def _margins(margin: Margin, rows: Index, points: Array, wanted: Mask | bool = True, ahead: int = TRIED_FIRST) -> Array:
    """Return the margins at points (K, n), tried in their order until the first of each row passes, (K, n).

    NaN where a point was not tried, as those after it and one like the point before.

    Args:
        margin: by how much each fails.
        rows: (n,) of the columns.
        wanted: (K, n) False where a point fails for sure.
        ahead: points of each row that are tried together at first.
    """
    wanted = wanted & np.concatenate([np.ones((1, len(rows)), dtype=bool), points[1:] != points[:-1]])
    place, found = np.cumsum(wanted, axis=0), np.full(points.shape, np.nan)
    done = 0
    while True:
        now = wanted & (place > done) & (place <= done + ahead) & ~(found <= 0.0).any(axis=0)
        if not now.any():
            return found
        found[now] = margin(np.broadcast_to(rows, points.shape)[now], points[now])
        done, ahead = done + ahead, 2 * ahead


def _values_per_row(rows: int, first: bool) -> int:
    """Return how many values to try between the ends of a bracket in one round of `rows` candidates.

    first: True in the first round, which tries at least `FIRST_ROUND_VALUES`.
    """
    many, least = (VALUES_OF_GRID, FIRST_ROUND_VALUES) if first else (ESTIMATES_PER_ROUND, 1)
    return int(np.clip(many // max(rows, 1), least, MAX_VALUES_PER_ROUND))
