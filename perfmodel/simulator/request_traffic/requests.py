"""Requests as they are offered to a deployment: arrival times, lengths, classes, shared prefixes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.workload import uniform_shares

if TYPE_CHECKING:
    from perfmodel.workload import Workload

#: Whole numbers: tokens, counts and identifiers.
Whole = NDArray[np.int64]

#: Tokens per prefix hash of requests drawn from a workload: vLLM's default KV block.
DRAWN_HASH_TOKENS = 16
#: Distance between the first prefix hashes of two classes; more than a prompt has blocks, so that classes never share.
_HASHES_PER_CLASS = 1 << 32
#: Streams of random numbers, so that arrival times and lengths do not depend on each other.
_ARRIVAL_STREAM, _LENGTH_STREAM = 0, 1


@dataclass(frozen=True)
class Prefixes:
    """Holds prefix hashes of R requests; equal leading hashes mean equal beginnings of prompts.

    Attributes:
        offsets: (R + 1,) rising from 0; the hashes of request r are hashes[offsets[r]:offsets[r + 1]].
        hashes: Hashes of all requests, one request after the other. Each stands for a run of prompt tokens and all
            before.
        tokens: Prompt tokens that one hash stands for.
    """

    offsets: Whole
    hashes: Whole
    tokens: int


@dataclass(frozen=True)
class RequestClasses:
    """Which class each of R requests belongs to.

    Attributes:
        names: Names of the classes.
        index: (R,) position in `names`.
    """

    names: tuple[str, ...]
    index: ArrayLike


@dataclass(frozen=True)
class Traffic:
    """Holds R requests in the order of arrival; the function `traffic` makes checked ones.

    Attributes:
        arrival: (R,) s, never falling; NaN where a closed loop decides when a request is sent.
        input_tokens: (R,) prompt tokens, at least 1.
        output_tokens: (R,) output tokens, at least 1.
        kind: (R,) class of each request, an index into `classes`.
        classes: Names of the request classes.
        concurrency: Users of a closed loop. Each waits for the output of its request before it sends the next one, and
            all start at once. 0: arrivals are as given.
        think: Seconds between a completion and the next request of the same user.
        prefixes: Prefix hashes; None: prompts share nothing.
        name: What error messages call the requests.
        source: Workload that the requests were drawn from; None: a trace, or requests as they are.
        seed: Seed of those draws.
    """

    arrival: Array
    input_tokens: Whole
    output_tokens: Whole
    kind: Whole
    classes: tuple[str, ...] = ("all",)
    concurrency: int = 0
    think: float = 0.0
    prefixes: Prefixes | None = None
    name: str = "requests"
    source: Workload | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.input_tokens)

    @property
    def total_tokens(self) -> Whole:
        """Return the prompt and output tokens of each request together. (R,)"""
        return self.input_tokens + self.output_tokens

    @property
    def rate(self) -> float:
        """Return the offered requests per second; NaN if arrivals depend on completions, inf if all come at once."""
        if self.concurrency or len(self) < 2:
            return float("nan")
        span = self.arrival[-1] - self.arrival[0]
        return float((len(self) - 1) / span) if span > 0 else float("inf")

    def scaled(self, rate: float) -> Traffic:
        """Return the same requests at `rate` requests per second: every gap is multiplied by the same factor."""
        factor = self.rate / rate
        if not np.isfinite(factor) or factor <= 0:
            raise InputError(f"{self.name}: cannot set a rate of {rate:g}/s; give two arrivals or more, apart in time")
        source = None if self.source is None else replace(self.source, rate=rate)
        return replace(self, arrival=self.arrival * factor, source=source)

    @property
    def stationary(self) -> bool:
        """Return whether the requests are a sample of a load that goes on for ever.

        They are where they were drawn from a workload that comes at a rate, or from a fixed number of clients, and that
        states no number of requests.
        """
        endless = self.source is not None and self.source.arrival in ("open", "closed", "single")
        return endless and self.source is not None and not np.isfinite(self.source.n_requests)

    @property
    def gap_cv(self) -> float:
        """Return the coefficient of variation of the gaps between arrivals of a stationary load."""
        return 1.0 if self.source is None else self.source.cv

    def longer(self, count: int) -> Traffic:
        """Return `count` requests drawn anew from the workload of a stationary load; the first ones stay the same."""
        if self.source is None:
            raise InputError(f"{self.name}: its requests were not drawn from a workload; there are no more than given")
        return from_workload(self.source, count=count, seed=self.seed)

    def take(self, count: int) -> Traffic:
        """Return the first `count` requests."""
        kept = {f: getattr(self, f)[:count] for f in ("arrival", "input_tokens", "output_tokens", "kind")}
        prefixes = self.prefixes
        if prefixes is not None:
            offsets = prefixes.offsets[: count + 1]
            prefixes = replace(prefixes, offsets=offsets, hashes=prefixes.hashes[: offsets[-1]])
        return replace(self, **kept, prefixes=prefixes)


def traffic(
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    arrival: ArrayLike | None = None,
    concurrency: int = 0,
    think: float = 0.0,
    classes: RequestClasses | None = None,
    prefixes: Prefixes | None = None,
    name: str = "requests",
) -> Traffic:
    """Check and return R requests. Without `arrival` and `concurrency` all arrive at time 0 (offline).

    Args:
        input_tokens, output_tokens: (R,) tokens, or one number for all requests.
        arrival: (R,) s. concurrency, think, prefixes: as in `Traffic`.
        classes: Class of each request; None: one class for all.

    Raises:
        InputError: naming the row of an unsorted, negative or missing value.
    """
    sizes = np.asarray(input_tokens), np.asarray(output_tokens)
    count = max(s.size for s in sizes)
    if count == 0 or 0 in (sizes[0].size, sizes[1].size):
        raise InputError(f"{name}: no requests; give at least one")
    if concurrency < 0 or not think >= 0:
        raise InputError(f"{name}: concurrency {concurrency} and think time {think:g} s must not be negative")
    made = Traffic(
        input_tokens=_checked_lengths(name, "input_tokens", sizes[0], count),
        output_tokens=_checked_lengths(name, "output_tokens", sizes[1], count),
        kind=np.zeros(count, np.int64) if classes is None else _checked_classes(name, classes),
        classes=("all",) if classes is None else tuple(classes.names),
        arrival=_first_arrivals(concurrency, count) if concurrency else _checked_arrivals(name, arrival, count),
        concurrency=min(concurrency, count),
        think=float(think),
        name=name,
    )
    return made if prefixes is None else _with_prefixes(made, prefixes)


def _checked_lengths(name: str, what: str, values: NDArray[Any], count: int) -> Whole:
    """Return lengths as (count,) whole tokens; raise `InputError` where one is wrong. what: name of the column."""
    column = np.broadcast_to(values, (count,)) if values.size == 1 else values
    if column.shape != (count,):
        raise InputError(f"{name}: {what} has {column.size} rows, other columns {count}; give one value per request")
    bad = ~(np.isfinite(column.astype(float)) & (column >= 1))
    if np.any(bad):
        row = int(np.argmax(bad))
        raise InputError(f"{name}: row {row + 1}: {what} is {column[row]}; a request has at least 1 token each way")
    return np.round(column).astype(np.int64)


def _checked_classes(name: str, classes: RequestClasses) -> Whole:
    """Return the class of each request as indices, (R,); raise `InputError` where one is no class."""
    index = np.asarray(classes.index, np.int64)
    if np.any((index < 0) | (index >= len(classes.names))):
        raise InputError(f"{name}: a class index is outside 0 to {len(classes.names) - 1}; give every class a name")
    return index


def _first_arrivals(users: int, count: int) -> Array:
    """Return the arrivals of a closed loop, (count,) s: 0 for the first request of each user, NaN for later ones."""
    return np.where(np.arange(count) < users, 0.0, np.nan)


def _checked_arrivals(name: str, arrival: ArrayLike | None, count: int) -> Array:
    """Return arrivals as (count,) s, all 0 where none are given; raise `InputError` naming the row of a wrong one."""
    if arrival is None:
        return np.zeros(count)
    times = np.asarray(arrival, float)
    if times.shape != (count,):
        raise InputError(f"{name}: arrival has {times.size} rows, other columns {count}; give one time per request")
    bad = ~(np.isfinite(times) & (times >= 0))
    if np.any(bad):
        row = int(np.argmax(bad))
        raise InputError(f"{name}: row {row + 1}: arrival is {times[row]:g} s; give a time of 0 or later")
    falls = np.diff(times) < 0
    if np.any(falls):
        row = int(np.argmax(falls)) + 1
        raise InputError(
            f"{name}: row {row + 1}: arrives at {times[row]:g} s, before the row above ({times[row - 1]:g} s); "
            "sort the trace by arrival"
        )
    return times


def _with_prefixes(made: Traffic, prefixes: Prefixes) -> Traffic:
    """Return the requests with checked prefixes, whose hashes are renumbered from 0 without gaps."""
    offsets, hashes = np.asarray(prefixes.offsets, np.int64), np.asarray(prefixes.hashes, np.int64)
    rises = offsets.shape == (len(made) + 1,) and offsets[0] == 0 and not np.any(np.diff(offsets) < 0)
    if not rises or offsets[-1] != len(hashes):
        raise InputError(f"{made.name}: prefix offsets must rise from 0 to {len(hashes)}, one more than requests")
    if prefixes.tokens < 1:
        raise InputError(f"{made.name}: a prefix hash stands for {prefixes.tokens} tokens; give at least 1")
    _, dense = np.unique(hashes, return_inverse=True)
    checked = Prefixes(offsets=offsets, hashes=dense.astype(np.int64), tokens=int(prefixes.tokens))
    return replace(made, prefixes=checked)


def _generator(seed: int, stream: int) -> np.random.Generator:
    """Return a random number generator for one purpose; `stream` keeps the purposes under one `seed` independent."""
    if seed < 0:
        raise InputError(f"seed is {seed}; give a whole number of 0 or more")
    return np.random.default_rng([seed, stream])


def arrivals(rate: float, count: int, *, seed: int, cv: float = 1.0) -> Array:
    """Draw arrival times (count,) in s of a renewal process at `rate` requests per second.

    Gaps follow a gamma distribution with coefficient of variation `cv` (1: Poisson arrivals, 0: even gaps). The same
    seed gives the same pattern at every rate.
    """
    if not rate > 0:
        raise InputError(f"rate is {rate:g} requests/s; give one above 0")
    generator = _generator(seed, _ARRIVAL_STREAM)
    gaps = np.ones(count) if cv == 0 else generator.gamma(1 / cv**2, cv**2, count)
    return np.cumsum(gaps) / rate


def from_workload(workload: Workload, *, count: int, seed: int) -> Traffic:
    """Draw `count` requests from the classes of `workload`, arriving as it says.

    Every request has the lengths of its class, times a share that is drawn where `isl_dist` is `uniform:LOW-HIGH`. Give
    many classes (a histogram) or a trace where another spread matters; where `isl_dist` is `trace`, `Simulation.notes`
    say so.
    """
    generator = _generator(seed, _LENGTH_STREAM)
    size = max(np.size(workload.input_tokens), np.size(workload.output_tokens), np.size(workload.share))
    share = np.broadcast_to(workload.share, (size,)).astype(float)
    kind = generator.choice(size, count, p=share / share.sum()) if size > 1 else np.zeros(count, np.int64)
    lengths = [np.broadcast_to(v, (size,))[kind] for v in (workload.input_tokens, workload.output_tokens)]
    shares = uniform_shares(workload.isl_dist)
    if shares is not None:  # the lengths of a class are means
        lengths = [v * generator.uniform(*shares, count) / np.mean(shares) for v in lengths]
    lengths = [np.maximum(np.round(v), 1) for v in lengths]
    users = {"closed": workload.concurrency, "single": 1}
    made = traffic(
        lengths[0],
        lengths[1],
        arrival=arrivals(workload.rate, count, seed=seed, cv=workload.cv) if workload.arrival == "open" else None,
        concurrency=int(users.get(workload.arrival, 0)),
        classes=RequestClasses(tuple(f"class {k + 1}" for k in range(size)) if size > 1 else ("all",), kind),
        name=workload.name or "workload",
    )
    made = replace(made, source=workload, seed=seed)
    hit = np.broadcast_to(workload.prefix_hit, (size,))[kind]
    return _with_hits(made, hit) if np.any(hit > 0) else made


def in_blocks(traffic: Traffic, kv_block: int) -> Traffic:
    """Return the requests with prefix hashes of whole KV blocks of `kv_block` tokens, where a workload states its hits.

    Hashes of a trace stay as they are.
    """
    prefixes, stated = traffic.prefixes, traffic.source
    if stated is None or prefixes is None or prefixes.tokens % kv_block == 0:
        return traffic
    hit = np.broadcast_to(stated.prefix_hit, (len(traffic.classes),))[traffic.kind]
    return _with_hits(traffic, hit, math.lcm(DRAWN_HASH_TOKENS, kv_block))


def _with_hits(made: Traffic, hit: Array, tokens: int = DRAWN_HASH_TOKENS) -> Traffic:
    """Return the requests with a prefix that all requests of a class share: a share `hit` (R,) of their prompts, in
    hashes of `tokens` each."""
    shared = (hit * made.input_tokens).astype(np.int64) // tokens
    offsets = np.concatenate([[0], np.cumsum(shared)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], shared)
    hashes = np.repeat(made.kind, shared) * _HASHES_PER_CLASS + within
    return _with_prefixes(made, Prefixes(offsets=offsets, hashes=hashes, tokens=tokens))
