"""Compute percentiles of latencies: within a request class, and over all requests of a mix of classes.

Within a class, prefill time is certain. The wait before it is exponential where a queue is steady, and uniform over the
run where it only fills or drains. The prompts of others that fall into a request's decode are Poisson, so TPOT is
nearly normal. A gap between tokens is a decode step, or a longer one where a prompt is prefilled.

The percentile of a mix is a percentile of the mixture distribution, not the mean of the classes' percentiles: once 10 %
of the requests are slow, the 90th percentile is slow, however fast the other requests are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Mask, clipped
from perfmodel.estimates.columns.groups import WaitShape
from perfmodel.serving import TINY, with_backlog
from perfmodel.workload import RANKS, Survival, output_quantile

#: Halvings of the bracket of a wait: it ends within 1e-6 of its longest value.
_WAIT_BISECTIONS = 20
#: Share of gaps with a prompt that stands for all of them. Chosen: the mean number of prompts is then 14.
_MOST_INTERRUPTED = 1.0 - 1e-6
#: Ranks that a normal law is read at. Chosen: it has none at 0 and 1.
_INSIDE = (1e-9, 1.0 - 1e-9)
#: Standard normal deviates of the ranks, to four digits.
_NORMAL_DEVIATE = {"p50": 0.0, "p90": 1.2816, "p95": 1.6449, "p99": 2.3263}


def wait_percentile(wait: Array, shape: WaitShape, statistic: str) -> Array:
    """Return a percentile of the wait before the prefill, seconds, (C, N).

    The parts of a wait are taken to be long for the same requests, so that their percentiles add up: at rank q one that
    is uniform from 0 to twice its mean is 2 q times its mean. Where a backlog is followed on the clock, requests wait
    for it and for a queue by chance (`perfmodel.serving.with_backlog`). What prompts of others add to the prefill
    itself spreads with the wait for a step, and counts beyond its mean: requests that meet none are computed sooner.

    Args:
        wait: mean wait, seconds, (C, N).
        shape: how it is distributed.
        statistic: a key of `workload.RANKS`.
    """
    rank, place = RANKS[statistic], list(RANKS).index(statistic)
    known, planned = shape.by_rank[place], shape.planned
    with np.errstate(invalid="ignore"):
        wait = wait - planned
        even = np.where(shape.uniform_share > 0.0, wait * shape.uniform_share, 0.0)
        rest = np.where(shape.uniform_share < 1.0, wait - even - shape.queued, 0.0)
    # all but those that queue for admission wait for a planned step, and those that queue no less
    planned = planned / np.maximum(1.0 - shape.crowded, TINY)
    queued = shape.queued_by_rank[place]
    queued = np.where(shape.crowded > 0.0, np.maximum(queued - planned, 0.0), queued)
    by_chance = queued + step_wait(np.maximum(rest, 0.0) + shape.beside, shape, rank) - shape.beside
    sooner = np.minimum(by_chance, 0.0)
    late = with_backlog(np.nan_to_num(known), by_chance - sooner) + sooner
    usual = np.where(np.isfinite(known), late, even * 2.0 * rank + by_chance)
    return np.asarray(planned + np.fmin(usual, shape.most_by_rank[place]))


def step_wait(mean: Array, shape: WaitShape, rank: float) -> Array:
    """Return a percentile of the wait for a step that computes the prompt, seconds, (C, N).

    Derived: the share of requests that wait longer than w is the sum over the short waits, share (1 - w / longest),
    plus the share of the long waits times a Weibull survival function, whose mean follows from `mean`. rank: 0 to 1.

    mean: seconds, (C, N).
    """
    alone = output_quantile(
        mean, np.where(shape.long_share > 0.0, shape.long_cv, 1.0), np.array(rank), np.array(np.inf)
    )
    if not np.any(shape.short_shares):
        return alone
    shares, longest = shape.short_shares[:, None], shape.short_longest[:, None]
    long_share = np.maximum(shape.long_share, TINY)
    long_mean = np.maximum(mean - np.sum(shares * longest, axis=0) / 2.0, 0.0) / long_share
    low = np.zeros(np.broadcast_shapes(mean.shape, long_mean.shape))
    last = output_quantile(long_mean, shape.long_cv, np.array(rank), np.array(np.inf))
    high = low + np.maximum(np.max(longest, axis=0), last)
    longer_than = Survival(np.maximum(long_mean, TINY), shape.long_cv)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for _ in range(_WAIT_BISECTIONS):
            middle = 0.5 * (low + high)
            beyond = long_share * longer_than.at(middle)
            for share, most in zip(shares, longest, strict=True):
                beyond = beyond + share * np.maximum(1.0 - middle / np.maximum(most, TINY), 0.0)
            later = beyond > 1.0 - rank
            low, high = np.where(later, middle, low), np.where(later, high, middle)
    return np.where(np.any(shares > 0.0, axis=0), high, alone)


def interrupted_share(tpot: Array, step: Array, tail: Array) -> Array:
    """Return the share of a request's decode steps in which a prompt of another request is prefilled. (C, N)

    Derived: tpot = (1 - share) step + share tail.

    Args:
        tpot: mean time per output token, seconds, (C, N).
        step: gap between tokens without a prompt, seconds, (C, N).
        tail: gap with a prompt, seconds, (C, N).
    """
    return np.clip((tpot - step) / np.maximum(tail - step, TINY), 0.0, 1.0)


class Gaps(NamedTuple):
    """Describe the gaps between tokens, seconds, which broadcast to (C, N).

    mean: over all gaps. step: one without a prompt. tail: one with as many prompts as there usually are then. each:
    what one more prompt of mean length adds. most: the longest gap. uneven: root mean square over mean of what prompts
    add.
    """

    mean: Array
    step: Array
    tail: Array
    each: Array
    most: Array
    uneven: Array


def itl_percentile(gaps: Gaps, statistic: str) -> Array:
    """Return a percentile of gaps between tokens, seconds, (C, N). statistic: a key of `workload.RANKS`.

    Derived: a Poisson number of prompts, m on average, enters a step. Those that prompts stretch are a share
    s = 1 - exp(-m). Their number has the mean e = m / s there, and what they add together has e times the mean of one
    and the variance (m u^2 + m^2) / s - e^2 of its square, u being `uneven`. It is taken to be log-normal. The share is
    known from the mean gap; where that is near `tail` or above it, m follows from what each prompt adds.
    """
    longer, each = gaps.mean - gaps.step, np.maximum(gaps.each, TINY)
    share = np.clip(interrupted_share(gaps.mean, gaps.step, gaps.tail), TINY, _MOST_INTERRUPTED)
    entering = np.maximum(np.minimum(-np.log1p(-share), longer / each), TINY)
    share = -np.expm1(-entering)
    usual = entering / share
    second = (entering * np.square(gaps.uneven) + np.square(entering)) / share
    spread = np.sqrt(np.log(np.maximum(second / np.square(usual), 1.0)))
    beyond = (1.0 - RANKS[statistic]) / share  # of the gaps with prompts
    deviate = eq.normal_deviate(np.clip(1.0 - beyond, *_INSIDE))
    more = usual * np.exp(spread * deviate - np.square(spread) / 2.0) - np.minimum(
        usual, (gaps.tail - gaps.step) / each
    )
    held = (np.maximum(gaps.most, gaps.tail) - gaps.step) / each
    more = np.maximum(more, more * np.clip(held - 1.0, 0.0, 1.0))  # a step that holds no two prompts is full with one
    gap = np.clip(gaps.tail + gaps.each * more, gaps.step, np.maximum(gaps.most, gaps.tail))
    return np.asarray(np.where(beyond < 1.0, gap, gaps.step))


def unevenness(interference: Array, mean: Callable[[Array], Array]) -> Array:
    """Return how unequal the delays by prompts are over the classes: root mean square over mean; 1 if all are alike.

    (N,)

    interference: seconds per prompt by class, (C, N). mean: share-weighted mean over classes, (C, N) -> (N,).
    """
    return np.asarray(np.sqrt(mean(np.square(interference))) / np.maximum(mean(interference), TINY))


def tpot_deviation(interrupted: Array, longer: Array, *, steps: Array, unevenness: Array) -> Array:
    """Return the standard deviation of a request's TPOT, seconds, (C, N).

    Derived: a compound Poisson sum. The number of prompts that a request meets has mean and variance `interrupted` x
    `steps`; the sum of their delays has that number times their mean square as its variance.

    Args:
        interrupted: share of decode steps with a prompt of another request, (C, N).
        longer: what such a step takes longer, seconds, (C, N).
        steps: decode steps of a request, (C, N).
        unevenness: root mean square over mean of prompts' delays, (N,).
    """
    return np.asarray(np.sqrt(interrupted * steps) * longer * np.maximum(unevenness, 1.0) / steps)


def skewed_percentile(mean: Array, deviation: Array, skew: Array | float, statistic: str) -> Array:
    """Return a percentile of a nearly normal quantity by the first term of Cornish and Fisher (1938).

    In the shape of `mean` and `deviation`. skew: its skewness. statistic: a key of `workload.RANKS`.
    """
    normal = _NORMAL_DEVIATE[statistic]
    return np.asarray(mean + (normal + skew * (normal**2 - 1.0) / 6.0) * deviation)


def normal_part(deviation: Array, statistic: str) -> Array:
    """Return what a normal quantity is above its mean at a rank, in the shape of its standard deviation.

    statistic: a key of `workload.RANKS`.
    """
    return np.asarray(_NORMAL_DEVIATE[statistic] * deviation)


class ByClass(Protocol):
    """Declare what percentiles need of an estimate (C classes, N candidates); `perfmodel.Estimates` provides it."""

    @property
    def share(self) -> Array:
        """Return the share of requests of each class, (C, N)."""

    def quantile(self, metric: str, statistic: str) -> Array:
        """Return `metric` at `statistic` within each class, seconds, (C, N)."""

    def mean(self, values: Array) -> Array:
        """Return the mean over classes of `values` (C, N), weighted by their share of requests, (N,)."""


def _survival(rank: float) -> float:
    """Return -ln(1 - rank). On this axis the quantiles of an exponential tail lie on a straight line."""
    return float(-np.log1p(-rank))


_KNOTS = np.array([0.0, *(_survival(r) for r in RANKS.values())])
#: Distance from the median of a class down to its lowest value, in units of p90 - p50. Exact for a constant plus an
#: exponential wait; for a normal distribution it is half a standard deviation below the median.
_BELOW_MEDIAN = _survival(0.5) / (_survival(0.9) - _survival(0.5))
#: The same of a normal distribution, so that the lower half has its mean: 0.798 standard deviations below the median,
#: on a line of which 0.557 lie above the mean; its 90th percentile lies 1.2816 above.
NORMAL_BELOW_MEDIAN = 0.798 / 0.557 / 1.2816
#: Bisection steps: they narrow the gap between the slowest and the fastest class by 2^-40.
_BISECTIONS = 40


def values_at_knots(known: list[Array], below: float = _BELOW_MEDIAN) -> Array:
    """Return latencies at the K ranks of `_KNOTS`, made non-decreasing, seconds, (K, C, ...).

    known: latencies at `workload.RANKS`, seconds, (C, ...) each. below: distance from the median down to the lowest
    value, in units of p90 - p50.
    """
    lowest = np.maximum(known[0] - below * (known[1] - known[0]), 0.0)
    return np.asarray(np.maximum.accumulate(np.stack([np.minimum(lowest, known[0]), *known]), axis=0))


def mixed(
    known: list[Array],
    share: Array,
    own: Array,
    rank: float,
    *,
    halvings: int = _BISECTIONS,
    below: float = _BELOW_MEDIAN,
) -> Array:
    """Return a percentile of a mixture, seconds, by bisection between the lowest and the highest of its parts.

    Args:
        known: latencies of the C parts at `workload.RANKS`, seconds, (C, ...) each.
        share: shares of the parts, which broadcast to (C, ...).
        own: latencies of the parts at the rank that is asked for, seconds, (C, ...).
        rank: that rank, 0 to 1.
        halvings: of the bracket.
        below: as in `values_at_knots`.
    """
    asked = share > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        values = values_at_knots(known, below)
        pieces = _pieces(values)
        low = np.where(asked, own, np.inf).min(axis=0)
        high = np.where(asked, own, -np.inf).max(axis=0)
        for _ in range(halvings):
            middle = 0.5 * (low + high)
            enough = _share_below(pieces, share, middle) >= rank
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(high)


class _Piece(NamedTuple):
    """Holds a piece of the quantile functions of classes, between two knots.

    start, end, width: seconds, (C, ...) each. rises: where the piece is longer than nothing; None for everywhere. most:
    length of the piece that counts at most. depth: of the piece on the axis of `_KNOTS`.
    """

    start: Array
    end: Array
    width: Array
    rises: Mask | None
    most: float
    depth: float


def _pieces(values: Array) -> list[_Piece]:
    """Return the pieces of quantile functions from their values at `_KNOTS`, seconds, (K, C, ...).

    Beyond the last knot the tail is exponential.
    """
    last = len(_KNOTS) - 2
    pieces = []
    for k in range(last + 1):
        width = values[k + 1] - values[k]
        rises = width > 0
        most, depth = np.inf if k == last else 1.0, float(_KNOTS[k + 1] - _KNOTS[k])
        pieces.append(_Piece(values[k], values[k + 1], width, None if rises.all() else rises, most, depth))
    return pieces


def _share_below(pieces: list[_Piece], share: Array, limit: Array) -> Array:
    """Return the share of all requests at or below a limit, (...). To be called where division by 0 is no error.

    Args:
        pieces: of the quantile functions of each class.
        share: share of requests of each class, which broadcasts to (C, ...).
        limit: seconds, (...).
    """
    depth: Array = np.zeros(pieces[0].width.shape)
    for piece in pieces:
        part = (limit - piece.start) / piece.width
        part = clipped(part, 0.0, piece.most)
        if piece.rises is not None:
            part = np.where(piece.rises, part, np.where(limit >= piece.end, piece.most, 0.0))
        depth = depth + piece.depth * part
    # class by class: a sum over an axis adds in an order that depends on how many candidates there are
    return np.asarray(np.add.accumulate(share * -np.expm1(-depth), axis=0)[-1])


def share_within(estimates: ByClass, metric: str, limit: Array) -> Array:
    """Return the share (0 to 1) of all requests whose `metric` is at or below `limit`, seconds. Both (N,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = values_at_knots([estimates.quantile(metric, statistic) for statistic in RANKS])
        return _share_below(_pieces(values), estimates.share, limit)


def overall(estimates: ByClass, metric: str, statistic: str) -> Array:
    """Return a latency over all requests, whatever their class, seconds, (N,).

    metric: ttft, tpot, itl or e2e. statistic: mean, p50, p90, p95 or p99.

    A mean is the share-weighted mean of the classes' means. A percentile of the mixture lies between the lowest and the
    highest of its classes' percentiles and is found there by bisection. NaN where a class is unknown, inf where the
    queue grows without end. Raises `InputError` for an unknown metric or statistic.
    """
    own = estimates.quantile(metric, statistic)
    if statistic not in RANKS:
        return estimates.mean(own)
    if len(own) == 1:
        return np.asarray(own[0])
    known = [own if rank == statistic else estimates.quantile(metric, rank) for rank in RANKS]
    return mixed(known, estimates.share, own, RANKS[statistic])
