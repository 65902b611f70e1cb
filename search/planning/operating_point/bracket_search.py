"""Bracketing search for many candidates at once: the least number, or the greatest load, that passes a test.

Each round evaluates only the candidates whose bracket is still too wide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Index, Mask

#: Share by which a value may miss a whole number and count as it. Chosen: far above rounding, far below a grid step.
_ROUNDING = 1e-9
#: Largest number of replicas that is tried. Chosen: above it, a float no longer holds every whole number twice over.
MOST_COUNTED = 2.0**51
#: Called with rows (M,) and a value (M,) for each: True where the SLO is kept there. A row may occur several times.
Test = Callable[[Index, Array], Mask]
#: Called as `Test`: by how much each fails, (M,); at most 0 where it passes, NaN counts as failed.
Margin = Callable[[Index, Array], Array]
#: Values of all candidates together on the grid of the first round. Chosen: a fine grid for few candidates.
VALUES_OF_GRID = 2048
#: Estimates per later round, about. Chosen: so many take as long as the round itself.
ESTIMATES_PER_ROUND = 128
#: Values of a row that are tried first, from the end of the grid where the turn is expected. Chosen: mostly enough.
TRIED_FIRST = 3
#: Least values tried inside the bracket in the first round. Chosen: shows where a test turns more than once.
FIRST_ROUND_VALUES = 6
#: Most values tried inside a bracket in one round. Chosen: narrows it 16-fold.
MAX_VALUES_PER_ROUND = 15
#: Estimates that are asked for at once where a round needs no more. Chosen: they take as long as the call itself.
TOGETHER = 1024
#: Values of one round of `greatest` after the first, about, and least and most pairs of a row among them, around the
#: value that is expected. Chosen: more of them take as long as one more round.
VALUES_AROUND, PAIRS = 640, (1, 6)
#: Distance of the outermost pair from the expected value, as a share of the bracket: after a round whose values were
#: near the root, and otherwise. Chosen: the error of the expected value is mostly smaller.
CLOSE, WIDE = 0.2, 0.35
#: Share of a bracket by which the innermost pair is apart where the outermost is `WIDE`. Chosen: as `WIDE`.
WITHIN_WIDE = 0.02
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


def greatest(margin: Margin, low: Array, high: Array, *, whole: bool = False) -> Array:
    """Find the greatest value from `low` to `high` that passes `margin`, (N,); NaN where none does.

    A curve through the margins that are nearest to the turn on both sides says where it is expected, on a logarithmic
    axis of values. Values on both sides of it are tried next; where the turn is not between them, the bracket is cut
    evenly.

    Args:
        margin: passes up to some value, fails from there on; several values of a row are tried per call. Where it
            passes again further up, the last turn that the first, coarse round shows is the one that counts.
        low, high: (N,) ends of the bracket, above 0. Values are tried on a grid between them, whose steps are at most
            `RATE_TOLERANCE`, relative: a row gets the same result whatever rows are searched with it.
        whole: the greatest whole number is asked for: the search of a row ends where that is known.

    >>> float(greatest(lambda rows, v: v / 2.5 - 1.0, np.array([0.01]), np.array([100.0]))[0].round(2))
    2.5
    """
    grid = _Grid.between(low, high)
    brackets = _Brackets.whole(grid.last)
    out, apart = np.full(len(low), np.nan), np.full(len(low), WIDE)
    rows, first = np.arange(len(low)), True
    while len(rows):
        steps = grid.coarse(rows) if first else brackets.expected(rows, apart[rows])
        points = grid.value(rows, steps[::-1])
        found = _margins(margin, rows, points, ahead=TRIED_FIRST if points.size > TOGETHER else len(points))[::-1]
        fails, passes = brackets.narrowed(rows, steps, found)
        if first:  # the ends were tried too: some rows fail everywhere, some pass at the upper end
            rows, fails = rows[passes], fails[passes]
        else:
            farther = np.where(apart[rows] == CLOSE, WIDE, np.inf)
            apart[rows] = np.where((fails & passes) | np.isinf(apart[rows]), CLOSE, farther)
        out[rows] = grid.value(rows, brackets.passes[rows])
        rows, first = rows[fails] if first else rows, False
        unsettled = brackets.fails[rows] - brackets.passes[rows] > 1.0
        if whole:
            unsettled &= _whole(grid.value(rows, brackets.fails[rows])) > _whole(out[rows])
        rows = rows[unsettled]
    return _whole(out) if whole else out


def _whole(values: Array) -> Array:
    """Return the greatest whole numbers up to `values`; a grid reaches whole numbers but for rounding."""
    return np.floor(values * (1.0 + _ROUNDING))


@dataclass(frozen=True)
class _Grid:
    """Hold the values that a search may try in N rows: low * exp(span * step / last), where steps are 0 to last."""

    low: Array
    span: Array
    last: Array

    @classmethod
    def between(cls, low: Array, high: Array) -> _Grid:
        """Return the grid from `low` to `high`, (N,), whose steps are at most `RATE_TOLERANCE`, relative."""
        span = np.log(high / low)
        return cls(low, span, np.maximum(np.ceil(span / np.log1p(RATE_TOLERANCE)), 1.0))

    def coarse(self, rows: Index) -> Array:
        """Return the steps of the first round of some rows, (VALUES, rows), both ends included."""
        return np.rint(self.last[rows] * np.linspace(0.0, 1.0, FIRST_ROUND_VALUES + 2)[:, None])

    def value(self, rows: Index, steps: Array) -> Array:
        """Return the values at some steps of some rows."""
        return np.asarray(self.low[rows] * np.exp(self.span[rows] * steps / self.last[rows]))


@dataclass(frozen=True)
class _Brackets:
    """Hold the brackets of N rows.

    passes, fails: (N,) the greatest step that passes, the least that fails. steps, margins: (4, N) steps whose margins
    are known, ascending: two up to `passes` and two from `fails` on; NaN where there is none.
    """

    passes: Array
    fails: Array
    steps: Array
    margins: Array

    @classmethod
    def whole(cls, last: Array) -> _Brackets:
        """Return the brackets from step 0 to step `last`, (N,), of which no margin is known."""
        unknown = np.full((2, 4, len(last)), np.nan)
        return cls(np.zeros(len(last)), last.copy(), unknown[0], unknown[1])

    def expected(self, rows: Index, apart: Array) -> Array:
        """Return the steps to try in the brackets of `rows`, ascending, (K, n).

        apart: (n,) share of the bracket between the turn that is expected and the outermost steps; infinite where the
        bracket is cut evenly.
        """
        pairs = int(np.clip(VALUES_AROUND // (2 * len(rows)), *PAIRS))
        bottom, top = self.passes[rows], self.fails[rows]
        width = top - bottom
        even = bottom + width * np.arange(1, 2 * pairs + 1)[:, None] / (2 * pairs + 1)
        turn = _turn(self.steps[:, rows], self.margins[:, rows])
        outermost, innermost = np.minimum(apart, 1.0) * width, np.where(apart == WIDE, WITHIN_WIDE * width, 0.0)
        sides = _apart(np.maximum(outermost, innermost), innermost, pairs)
        steps = np.where(np.isfinite(turn) & np.isfinite(apart), turn + sides, even)
        steps = np.where(np.arange(2 * pairs)[:, None] < pairs, np.floor(steps), np.ceil(steps))
        return np.asarray(np.clip(steps, bottom + 1.0, top - 1.0))

    def narrowed(self, rows: Index, steps: Array, found: Array) -> tuple[Mask, Mask]:
        """Narrow the brackets of `rows` by the margins `found` at `steps`, (K, n) each, NaN where one is not known.

        Returns for each row whether a step failed, and whether one passed, (n,) each.
        """
        passed = found <= 0.0
        lifted = np.asarray(passed.any(axis=0))
        most = np.where(lifted, np.where(passed, steps, -np.inf).max(axis=0), self.passes[rows])
        least = np.where(passed | (steps <= most), np.inf, steps).min(axis=0)
        lowered = np.asarray(np.isfinite(least))
        least = np.minimum(least, self.fails[rows])
        every = np.concatenate([self.steps[:, rows], steps])
        margins = np.concatenate([self.margins[:, rows], found])
        self.steps[:, rows], self.margins[:, rows] = _nearest(every, margins, most, least)
        self.passes[rows], self.fails[rows] = most, least
        return lowered, lifted


def _nearest(steps: Array, margins: Array, most: Array, least: Array) -> tuple[Array, Array]:
    """Return the four steps whose margins are known, and these margins, as `_Brackets` holds them, (4, n) each.

    steps, margins: (M, n), in any order, NaN where not known. most, least: (n,) ends of the brackets.
    """
    column, known = np.arange(steps.shape[1]), np.isfinite(margins)
    below, above = np.where(known, steps, -np.inf), np.where(known, steps, np.inf)
    picked = np.empty((4, len(column)), dtype=np.intp)
    picked[1] = np.argmax(np.where(below <= most, below, -np.inf), axis=0)
    picked[0] = np.argmax(np.where(below < most, below, -np.inf), axis=0)
    picked[2] = np.argmin(np.where(above >= least, above, np.inf), axis=0)
    picked[3] = np.argmin(np.where(above > least, above, np.inf), axis=0)
    found, value = steps[picked, column], np.where(known, margins, np.nan)[picked, column]
    there = np.stack([found[0] < most, found[1] == most, found[2] == least, found[3] > least])
    return np.where(there, found, np.nan), np.where(there, value, np.nan)


def _apart(outermost: Array, innermost: Array, pairs: int) -> Array:
    """Return the distances of `pairs` pairs of steps from the one that is expected, ascending, (2 pairs, n).

    They grow by one factor, from the innermost distance, (n,), or one step beside it where that is 0, to the outermost.
    """
    least = np.maximum(innermost, 1.0)
    exact = innermost[:, None].T == 0.0
    turns = np.arange(pairs)[:, None] - exact  # -1 stands for the step itself
    growth = np.maximum(outermost, least) / least
    far = least * growth ** (np.maximum(turns, 0) / np.maximum(pairs - 1 - exact, 1))
    far = np.where(turns < 0, 0.0, far)
    return np.concatenate([-far[::-1], far])


def _turn(steps: Array, margins: Array) -> Array:
    """Return where the margin is expected to be 0, (n,): by a curve through all four steps, three or two; else NaN.

    Inverse interpolation (Lagrange): the step as a polynomial of the margin, where margins rise with the steps.
    steps, margins: (4, n), as `_Brackets` holds them.
    """
    out = np.full(steps.shape[1], np.nan)
    for some in (slice(1, 3), slice(0, 3), slice(1, 4), slice(0, 4)):
        x, y = steps[some], margins[some]
        rising = (np.diff(y, axis=0) > 0).all(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = _inverse(x, y)
        out = np.where(rising & (at > steps[1]) & (at < steps[2]), at, out)
    return out


def _inverse(x: Array, y: Array) -> Array:
    """Return the value at y = 0 of the polynomial of y through the points (y, x), (K, n) each."""
    total = np.zeros(x.shape[1])
    for i in range(len(x)):
        others = np.delete(y, i, axis=0)
        total += x[i] * np.prod(others / (others - y[i]), axis=0)
    return total


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
