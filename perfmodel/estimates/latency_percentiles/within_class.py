"""Compute how latencies are spread over the requests of one class: their lengths, their waits, the prompts they meet.

Requests of a class differ in length where `isl_dist` says so. A class is then split into J parts of equal lengths, each
with percentiles of its own, and its percentile is that of their mixture. Short answers spread most: whatever delays a
request once, after its first token, is shared by few tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.estimates.columns.groups import Latency, RequestClasses, TokenShape, WaitShape
from perfmodel.estimates.latency_percentiles import percentiles
from perfmodel.serving import PACE_LENGTHS, PACE_STARTS, TINY
from perfmodel.workload import RANKS, output_quantile

#: Shares of requests, by rising length, between which the parts of a class lie. Chosen: narrow at both ends, since
#: short answers rule the 99th percentile of TPOT and long ones that of end-to-end latency; twice as many parts move no
#: percentile by 1 %.
_EDGES = np.array([0.0, 0.004, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.96, 0.985, 0.995, 1.0])
_WEIGHTS = np.diff(_EDGES)
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2.0
#: The same by rising length of prompts. Chosen: each of the ranks is in the middle of a part, whose requests may all
#: have the same time.
_PROMPT_EDGES = np.array([0.0, 0.05, 0.15, 0.27, 0.4, 0.6, 0.72, 0.8, 0.87, 0.93, 0.97, 0.985, 0.995, 1.0])
_PROMPT_WEIGHTS = np.diff(_PROMPT_EDGES)
_PROMPT_MIDDLES = (_PROMPT_EDGES[1:] + _PROMPT_EDGES[:-1]) / 2.0


#: Halvings of the bracket of a percentile within a class: its parts differ by a factor of 100, and it ends within 1e-5.
_HALVINGS = 24
#: Most skewness of the delays by prompts. Chosen: that of a Poisson number of mean 1/4.
_MOST_SKEW = 2.0


class Spread(Protocol):
    """Declare what the spread within classes needs of an estimate; `perfmodel.Estimates` provides it."""

    @property
    def latency(self) -> Latency:
        """Return the mean times of a request."""

    @property
    def waits(self) -> WaitShape:
        """Return how waits are distributed."""

    @property
    def tokens(self) -> TokenShape:
        """Return how times per token differ between requests."""

    @property
    def classes(self) -> RequestClasses:
        """Return the request classes."""

    def mean(self, values: Array) -> Array:
        """Return the mean over classes of `values` (C, N), (N,)."""

    def quantile(self, metric: str, statistic: str) -> Array:
        """Return a latency in seconds within each class, (C, N)."""


#: Parts of a class that differ by less, relative, are the same. Chosen: above rounding.
_SAME = 1e-12


def ttft(found: Spread, statistic: str) -> Array:
    """Return a percentile of TTFT within each class, seconds, (C, N). statistic: a key of `workload.RANKS`.

    Derived: a prompt of x times the mean length takes (x - 1) times longer by what as many more tokens take, and none
    less than a decode step.
    """
    time, classes = found.latency, found.classes
    parts = [time.prefill]
    if np.any(classes.prompt_spread > 0.0):
        lengths = np.exp(eq.normal_deviate(_PROMPT_MIDDLES)[:, None] * classes.prompt_spread)
        lengths = lengths / np.sum(_PROMPT_WEIGHTS[:, None] * lengths, axis=0)
        grows, least = time.growth * np.minimum(time.interference, time.prefill), np.minimum(time.step, time.prefill)
        parts = [np.maximum(time.prefill + (x - 1.0) * grows, least) for x in lengths]
    own = np.stack(parts) + time.front_end

    def at(rank: str) -> Array:
        return np.asarray(own + percentiles.wait_percentile(time.wait, found.waits, rank))

    return _mixture(at, statistic, _PROMPT_WEIGHTS)


def tpot_mean(found: Spread) -> Array:
    """Return the mean over requests of their time per output token, seconds, (C, N).

    It is above the time per token of a request of mean length where requests are delayed once, however short.
    """
    if not _varies(found):
        return found.latency.tpot
    usual = found.latency.tpot
    mean = usual + np.sum(_WEIGHTS[:, None, None] * (_means(found, _outputs(found)) - usual), axis=0)
    return np.where(found.classes.output_cv > 0.0, mean, usual)


def tpot(found: Spread, statistic: str) -> Array:
    """Return a percentile of TPOT within each class, seconds, (C, N). statistic: a key of `workload.RANKS`."""
    outputs, time = _outputs(found), found.latency
    slow = _mixture(lambda rank: _tpot(found, outputs, rank), statistic)
    paced = np.any(found.tokens.pace != 1.0, axis=(0, 1))
    if paced.any():
        weights = (_WEIGHTS if len(outputs) > 1 else np.ones(1)) / len(PACE_STARTS)
        by_start = _mixture(lambda rank: _paced(found, outputs, rank), statistic, np.tile(weights, len(PACE_STARTS)))
        slow = np.where(paced, by_start, slow)
    # none is slower than one whose every gap is as long as prompts make it
    return np.minimum(slow, np.maximum(time.tpot, time.step + found.tokens.settling_most))


def e2e(found: Spread, statistic: str) -> Array:
    """Return a percentile of end-to-end latency within each class, seconds, (C, N).

    Waits and times per token are taken to be independent: what both are above their means adds up as deviations do.
    statistic: a key of `workload.RANKS`.
    """
    outputs = _outputs(found)
    later = np.maximum(outputs - 1.0, 0.0)
    means = _means(found, outputs)

    def at(rank: str) -> Array:
        with np.errstate(invalid="ignore"):
            parts = found.quantile("ttft", rank) - found.latency.ttft, later * (_tpot(found, outputs, rank) - means)
            squares = sum(part * np.abs(part) for part in parts)
            whole = found.latency.ttft + later * means + np.sign(squares) * np.sqrt(np.abs(squares))
        return np.where(np.isfinite(found.latency.ttft), whole, found.latency.ttft)

    return _mixture(at, statistic)


def output_tokens(classes: RequestClasses, statistic: str) -> Array:
    """Return a percentile of the output tokens of the requests of each class, (C, N); statistic: of `RANKS`."""
    rank = np.array(RANKS[statistic])
    tokens = output_quantile(classes.output, classes.output_cv, rank, classes.output_max)
    return np.where(classes.output_cv > 0.0, np.maximum(tokens, 1.0), classes.output)


def _varies(found: Spread) -> bool:
    """Return whether answers within a class differ in length."""
    return bool(np.any(found.classes.output_cv > 0.0))


def _outputs(found: Spread) -> Array:
    """Return the output tokens of each part of a class, (J, C, N); one part, the mean, where lengths are equal."""
    classes = found.classes
    mean = classes.output[None]
    if not _varies(found):
        return mean
    ranks = _MIDDLES[:, None, None]
    tokens = output_quantile(mean, classes.output_cv, ranks, classes.output_max)
    return np.where(classes.output_cv > 0.0, np.maximum(tokens, 1.0), mean)


def _settling(found: Spread, outputs: Array) -> Array:
    """Return the seconds per output token that a single delay after the first token adds to requests, (J, C, N)."""
    shape = found.tokens
    return np.asarray(np.minimum(shape.settling / np.maximum(outputs - 1.0, 1.0), shape.settling_most))


def _means(found: Spread, outputs: Array) -> Array:
    """Return the mean TPOT of requests of so many output tokens, seconds, (J, C, N)."""
    time = found.latency
    usual = np.minimum(_settling(found, found.classes.output[None]), np.maximum(time.tpot - time.step, 0.0))
    return np.asarray(time.tpot + _settling(found, outputs) - usual)


def _paced(found: Spread, outputs: Array, statistic: str) -> Array:
    """Return a percentile of TPOT of requests by when they began and of so many output tokens, seconds, (S J, C, N).

    A short answer has the time per token of the part of the run that it falls into, a long one the mean of many. What
    is left of the drift of all is that within such a part.
    """
    shape, lengths = found.tokens, np.log(PACE_LENGTHS)
    place = np.log(np.maximum(outputs, 1.0) / np.maximum(found.mean(found.classes.output), 1.0))
    left = np.clip(np.searchsorted(lengths, place) - 1, 0, len(lengths) - 2)
    part = np.clip((place - lengths[left]) / (lengths[left + 1] - lengths[left]), 0.0, 1.0)
    rows = np.arange(outputs.shape[-1])
    usual = shape.pace[:, int(np.argmin(np.abs(lengths)))]  # those of mean answers
    started = usual.std(axis=0) / np.maximum(usual.mean(axis=0), TINY)
    drift = np.sqrt(np.maximum(np.square(shape.drift) - np.square(started), 0.0))
    paces = [one[left, rows] * (1.0 - part) + one[left + 1, rows] * part for one in shape.pace]
    return np.concatenate([_tpot(found, outputs, statistic, pace, drift) for pace in paces])


def _tpot(
    found: Spread, outputs: Array, statistic: str, pace: Array | float = 1.0, drift: Array | None = None
) -> Array:
    """Return a percentile of TPOT of requests of so many output tokens, seconds, (J, C, N).

    pace: their mean time per token over that of all, (J, C, N). drift: in place of `TokenShape.drift`, (N,).
    """
    time, shape = found.latency, found.tokens
    mean, later = _means(found, outputs) * pace, np.maximum(outputs - 1.0, 1.0)
    # a gap lies between steps, each of which may bring several tokens at once
    gap, usual = time.tpot * time.tokens_per_step, time.step * time.tokens_per_step
    interrupted = percentiles.interrupted_share(gap, usual, time.itl_tail)
    steps = np.maximum(later / time.tokens_per_step, 1.0)
    uneven = percentiles.unevenness(time.interference, found.mean)
    longer = np.maximum(time.itl_tail - usual, 0.0) / time.tokens_per_step
    met = shape.gain * percentiles.tpot_deviation(interrupted, longer, steps=steps, unevenness=uneven)
    # uniform from none to twice the mean over a share s of the requests: its variance is (4 / (3 s) - 1) mean^2
    once = _settling(found, outputs) * np.sqrt(4.0 / (3.0 * np.clip(shape.settling_share, 0.01, 1.0)) - 1.0)
    deviation = np.sqrt(
        np.square(met) + np.square(once) + np.square((shape.drift if drift is None else drift) * time.tpot)
    )
    # a Poisson number of delays has the skewness 1 / sqrt(mean number)
    skew = np.minimum(uneven / np.sqrt(np.maximum(interrupted * steps, TINY)), _MOST_SKEW)
    skew = skew * (met / np.maximum(deviation, TINY)) ** 3
    # no request is faster than one that meets no prompt
    return np.maximum(percentiles.skewed_percentile(mean, deviation, skew, statistic), np.minimum(mean, time.step))


def _mixture(at: Callable[[str], Array], statistic: str, weights: Array = _WEIGHTS) -> Array:
    """Return a percentile of each class, (C, N), from those of its parts.

    at: the latter by statistic, (J, C, N). weights: shares of the parts, (J,).
    """
    own = at(statistic)
    if len(own) == 1:
        return np.asarray(own[0])
    with np.errstate(invalid="ignore"):  # endless queues
        alike = np.ptp(own, axis=0) <= _SAME * np.abs(own[0])  # exact, whatever else is asked beside it
    out: Array = own[0].copy()
    mixed = ~alike & np.isfinite(out)
    if mixed.any():
        parts = [own if rank == statistic else at(rank) for rank in RANKS]
        own, *known = (np.compress(mixed.ravel(), p.reshape(len(p), -1), axis=1) for p in (own, *parts))
        out[mixed] = percentiles.mixed(known, weights[:, None], own, RANKS[statistic], _HALVINGS)
    return out
