"""Compute how latencies are spread over the requests of one class: their lengths, their waits, the prompts they meet.

Requests of a class differ in length where `isl_dist` says so. A class is then split into J parts of equal lengths, each
with percentiles of its own, and its percentile is that of their mixture. Short answers spread most: whatever delays a
request once, after its first token, is shared by few tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Index, Interpolation, Mask
from perfmodel.estimates.columns.groups import Latency, RequestClasses, TokenShape, WaitShape
from perfmodel.estimates.latency_percentiles import percentiles
from perfmodel.serving import PACE_AT, PACE_LENGTHS, PACE_STARTS, TINY
from perfmodel.workload import RANKS, output_quantile, survival, uncut

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
#: Answers have whole tokens: those of fewer than this many have one, and no time per token after the first.
_ONE_TOKEN = 1.5
#: Least share of requests that are delayed once.
_LEAST_SHARE = 0.01
#: Most requests of a class whose answers have one token. Chosen: so that some are left to have a time per token.
_MOST_OF_ONE = 0.999


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

    def take(self, rows: Index) -> Spread:
        """Return those of some deployments, (R,)."""

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
    mean = usual + np.sum(_WEIGHTS[:, None, None] * (_means(found, _several(found)) - usual), axis=0)
    return np.where(found.classes.output_cv > 0.0, mean, usual)


def tpot(found: Spread, statistic: str) -> Array:
    """Return a percentile of TPOT within each class, seconds, (C, N). statistic: a key of `workload.RANKS`."""
    outputs = _several(found)
    slow = _mixture(_tpot(found, outputs).at, statistic, normal=True)
    rows = np.flatnonzero(_differs_by_start(found))
    if len(rows):
        part = found.take(rows)
        weights = (_WEIGHTS if len(outputs) > 1 else np.ones(1)) / len(PACE_STARTS)
        several = np.tile(weights, len(PACE_STARTS))
        laws = _paced(part, outputs[..., rows])
        slow[..., rows] = _mixture(
            lambda rank: np.concatenate([law.at(rank) for law in laws]), statistic, several, normal=True
        )
    return np.minimum(slow, _slowest(found))


def e2e(found: Spread, statistic: str) -> Array:
    """Return a percentile of end-to-end latency within each class, seconds, (C, N).

    Waits and times per token are taken to be independent: what both are above their means adds up as deviations do. But
    where all requests queue at the start, a prompt that is computed later is delayed by fewer behind it, and decodes
    while the batch empties: what is lost after the first token was won before it, and none ends after the last.
    statistic: a key of `workload.RANKS`.
    """
    outputs = _outputs(found)
    later = np.maximum(outputs - 1.0, 0.0)
    means = _means(found, outputs)
    queued = _all_at_start(found)
    won, drawn = np.where(queued, later * _settling(found, outputs)[0], 0.0), np.where(queued, 0.0, 1.0)
    apart = np.where(queued, means * _within_parts(found), 0.0)  # what else differs between them is small
    pace = _tpot(found, outputs, drawn)

    def at(rank: str) -> Array:
        with np.errstate(invalid="ignore"):
            first = found.quantile("ttft", rank) - found.latency.ttft
            first = first - np.minimum(won, np.maximum(first, 0.0))
            parts = first, later * (pace.at(rank) - means), percentiles.normal_part(apart, rank)
            squares = sum(part * np.abs(part) for part in parts)
            whole = found.latency.ttft + later * means + np.sign(squares) * np.sqrt(np.abs(squares))
        return np.where(np.isfinite(found.latency.ttft), whole, found.latency.ttft)

    # the end is that of prompts of mean length: a longer one ends no sooner than with its first token
    end = np.fmax(found.waits.end, found.quantile("ttft", statistic))
    return np.fmin(_mixture(at, statistic), np.where(queued, end, np.nan))


def _all_at_start(found: Spread) -> Mask:
    """Return whether all requests of the run queue at its start, (N,): then the wait for that backlog is all."""
    return np.isfinite(found.waits.end)


def itl(found: Spread, statistic: str) -> Array:
    """Return a percentile of the gaps between tokens, seconds, (C, N). statistic: a key of `workload.RANKS`.

    Prompts differ from class to class, and within a class as `prompt_spread` says.
    """
    time = found.latency
    gap, usual = time.tpot * time.tokens_per_step, time.step * time.tokens_per_step
    longer = found.mean(time.itl_tail - usual)
    gaps = percentiles.Gaps(
        mean=gap,
        step=usual + 0.0 * time.tpot,
        tail=time.itl_tail,
        # a prompt of several steps adds to each of them what its chunk does
        each=np.minimum(found.mean(time.interference), np.maximum(longer, 0.0)),
        most=time.itl_most,
        uneven=percentiles.unevenness(time.interference, found.mean) * np.exp(found.classes.prompt_spread**2 / 2.0),
    )
    return percentiles.itl_percentile(gaps, statistic)


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
    return _longer(found, 1.0, 0.0)


def _within_parts(found: Spread) -> Array:
    """Return the standard deviation of the output tokens within each part of a class, (J, C, N).

    Derived: lengths are even between two edges, whose distance is that from middle to middle.
    """
    outputs = _outputs(found)
    if len(outputs) == 1:
        return np.zeros_like(outputs)
    steps = np.diff(outputs, axis=0)
    width = np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2.0, steps[-1:]])
    return np.asarray(width / np.sqrt(12.0))


def _several(found: Spread) -> Array:
    """Return what `_outputs` does, of the requests whose answers have more than one token."""
    if not _varies(found):
        return _longer(found, 2.0, 0.0)
    classes = found.classes
    before, spread = uncut(classes.output, classes.output_cv, classes.output_max)
    none = 1.0 - survival(before, spread, np.array(_ONE_TOKEN))
    return _longer(found, 2.0, np.minimum(none, _MOST_OF_ONE))


def _longer(found: Spread, least: float, below: Array | float) -> Array:
    """Return the output tokens of each part of the requests that are above a share `below` of all, (J, C, N).

    least: fewest tokens of these.
    """
    classes = found.classes
    mean = classes.output[None]
    if not _varies(found):
        return mean
    ranks = below + (1.0 - below) * _MIDDLES[:, None, None]
    tokens = output_quantile(mean, classes.output_cv, ranks, classes.output_max)
    return np.where(classes.output_cv > 0.0, np.maximum(tokens, least), mean)


def _settling(found: Spread, outputs: Array) -> tuple[Array, Array]:
    """Return mean and deviation of what a single delay after the first token adds to requests, seconds per token.

    (J, C, N) each. Derived: the delay of a share s of the requests is uniform from 0 to 2 / s times its mean over all.
    Per token of an answer that is a uniform number up to a, of which `settling_most`, a share t of a, is the most that
    counts: its mean is t a (1 - t / 2), that of its square (t a)^2 (1 - 2 t / 3).
    """
    shape = found.tokens
    share = np.clip(shape.settling_share, _LEAST_SHARE, 1.0)
    most = 2.0 * shape.settling / share / np.maximum(outputs - 1.0, 1.0)
    counted = np.minimum(most, shape.settling_most)
    part = counted / np.maximum(most, TINY)
    mean = share * counted * (1.0 - part / 2.0)
    square = share * np.square(counted) * (1.0 - 2.0 * part / 3.0)
    return mean, np.sqrt(np.maximum(square - np.square(mean), 0.0))


def _means(found: Spread, outputs: Array) -> Array:
    """Return the mean TPOT of requests of so many output tokens, seconds, (J, C, N)."""
    time = found.latency
    usual = np.minimum(_settling(found, found.classes.output[None])[0], np.maximum(time.tpot - time.step, 0.0))
    mean = (time.tpot - usual) * _pace(found, outputs) + _settling(found, outputs)[0]
    return np.asarray(np.minimum(mean, _slowest(found)))


def _slowest(found: Spread) -> Array:
    """Return the time per token of a request whose every gap is as long as prompts make it, seconds, (C, N)."""
    time = found.latency
    return np.asarray(np.maximum(time.tpot, time.step + found.tokens.settling_most))


def _pace(found: Spread, outputs: Array) -> Array:
    """Return the time per token of requests of so many output tokens over that of all tokens of their class, (J, C, N).

    Without settling; the mean over when they began. 1 where a class has one length, or the load is steady.
    """
    shape, out = found.tokens, np.ones_like(outputs)
    rows = np.flatnonzero(np.any(shape.pace != 1.0, axis=0) | _differs_by_start(found))
    if not len(rows):
        return out
    later = np.maximum(found.mean(np.maximum(found.classes.output - 1.0, 0.0)), 1.0)[rows]
    curve, lengths = Interpolation(np.array(PACE_AT)[:, None], shape.pace[:, rows]), _outputs(found)[..., rows]
    mean, paces = found.mean(found.classes.output)[rows], shape.pace_by_start[..., rows]
    own, every = (
        curve.at(np.maximum(tokens - 1.0, 0.0) / later)[0] * _by_start(paces, tokens, mean).mean(axis=0)
        for tokens in (outputs[..., rows], lengths)
    )
    weights = (_WEIGHTS[:, None, None] if len(lengths) > 1 else 1.0) * np.maximum(lengths - 1.0, TINY)
    usual = np.sum(weights * every, axis=0) / np.sum(weights, axis=0)
    out[..., rows] = np.where(found.classes.output_cv[..., rows] == 0.0, 1.0, own / usual)
    return out


def _differs_by_start(found: Spread) -> Mask:
    """Return where times per token differ by when a request began in the run, (N,)."""
    return np.asarray(np.any(found.tokens.pace_by_start != 1.0, axis=(0, 1)))


def _by_start(paces: Array, outputs: Array, mean: Array) -> Array:
    """Return the time per token of requests by when they began and of so many tokens, over that of all, (S, J, C, N).

    A short answer has the time of the part of the run that it falls into, a long one the mean of many. paces: as
    `TokenShape.pace_by_start`, (S, L, N). outputs: tokens, (J, C, N); mean: those of all requests, (N,).
    """
    lengths = np.log(PACE_LENGTHS)
    place = np.log(np.maximum(outputs, 1.0) / np.maximum(mean, 1.0))
    left = np.clip(np.searchsorted(lengths, place) - 1, 0, len(lengths) - 2)
    part = np.clip((place - lengths[left]) / (lengths[left + 1] - lengths[left]), 0.0, 1.0)
    rows = np.arange(outputs.shape[-1])
    return np.asarray(paces[:, left, rows] * (1.0 - part) + paces[:, left + 1, rows] * part)


def _paced(found: Spread, outputs: Array) -> list[_Skewed]:
    """Return how TPOT of requests of so many output tokens is distributed, by when they began, (J, C, N) each.

    What is left of the drift of all is that within such a part.
    """
    shape = found.tokens
    usual = shape.pace_by_start[:, list(PACE_LENGTHS).index(1.0)]  # those of mean answers
    started = usual.std(axis=0) / np.maximum(usual.mean(axis=0), TINY)
    drift = np.sqrt(np.maximum(np.square(shape.drift) - np.square(started), 0.0))
    paces = _by_start(shape.pace_by_start, outputs, found.mean(found.classes.output))
    paces = paces / np.maximum(paces.mean(axis=0), TINY)
    return [_tpot(found, outputs, pace=pace, drift=drift) for pace in paces]


class _Skewed(NamedTuple):
    """How a quantity is distributed that is nearly normal: its mean, standard deviation, skewness, least value."""

    mean: Array
    deviation: Array
    skew: Array
    least: Array

    def at(self, statistic: str) -> Array:
        """Return a percentile, in the shape of the mean. statistic: a key of `workload.RANKS`."""
        found = percentiles.skewed_percentile(self.mean, self.deviation, self.skew, statistic)
        return np.asarray(np.maximum(found, self.least))


def _tpot(
    found: Spread, outputs: Array, drawn: Array | float = 1.0, *, pace: Array | float = 1.0, drift: Array | None = None
) -> _Skewed:
    """Return how TPOT of requests of so many output tokens is distributed, seconds, (J, C, N).

    drawn: part of the deviations of the single delay and by drift that counts, (N,). pace: their mean time per token
    over that of all, (J, C, N). drift: in place of `TokenShape.drift`, (N,).
    """
    time, shape = found.latency, found.tokens
    mean, later = _means(found, outputs) * pace, np.maximum(outputs - 1.0, 1.0)
    # a gap lies between steps, each of which may bring several tokens at once
    lost = np.where(_all_at_start(found), _settling(found, found.classes.output[None])[0][0], 0.0)  # counted once
    gap, usual = (time.tpot - lost) * time.tokens_per_step, time.step * time.tokens_per_step
    interrupted = percentiles.interrupted_share(gap, usual, time.itl_tail)
    steps = np.maximum(later / time.tokens_per_step, 1.0)
    uneven = percentiles.unevenness(time.interference, found.mean)
    longer = np.maximum(time.itl_tail - usual, 0.0) / time.tokens_per_step
    met = shape.gain * percentiles.tpot_deviation(interrupted, longer, steps=steps, unevenness=uneven)
    once = _settling(found, outputs)[1] * drawn
    drift = (shape.drift if drift is None else drift) * time.tpot * drawn
    deviation = np.sqrt(np.square(met) + np.square(once) + np.square(drift))
    # a Poisson number of delays has the skewness 1 / sqrt(mean number)
    skew = np.minimum(uneven / np.sqrt(np.maximum(interrupted * steps, TINY)), _MOST_SKEW)
    skew = skew * (met / np.maximum(deviation, TINY)) ** 3
    # no request is faster than one that meets no prompt
    return _Skewed(mean, deviation, skew, np.minimum(mean, time.step))


def _mixture(at: Callable[[str], Array], statistic: str, weights: Array = _WEIGHTS, *, normal: bool = False) -> Array:
    """Return a percentile of each class, (C, N), from those of its parts.

    at: the latter by statistic, (J, C, N). weights: shares of the parts, (J,). normal: whether the parts are
    distributed as a normal law is.
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
        kind = {"below": percentiles.NORMAL_BELOW_MEDIAN} if normal else {}
        out[mixed] = percentiles.mixed(known, weights[:, None], own, RANKS[statistic], halvings=_HALVINGS, **kind)
    return out
