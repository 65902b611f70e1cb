"""Requests as they are offered: when, how long, of which class, with which shared prefixes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwdb import InputError
from perfmodel.arrays import Array

if TYPE_CHECKING:
    from perfmodel.workload import Workload

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Traffic:
    """R requests in the order of arrival.

    arrival: (R,) s, never falling; NaN where a closed loop decides. input_tokens, output_tokens: (R,), at least 1.
    kind: (R,) index into `classes`. concurrency: users that each wait for an answer before they ask again, all starting
    at once; 0: arrivals are as given. think: s between an answer and the user's next request. hashes: prefix hashes,
    request r's being hashes[first[r]:first[r + 1]], each standing for `hash_tokens` tokens and all before them.
    """

    arrival: Array
    input_tokens: Whole
    output_tokens: Whole
    kind: Whole
    classes: tuple[str, ...] = ("all",)
    concurrency: int = 0
    think: float = 0.0
    first: Whole = field(default_factory=lambda: np.zeros(1, np.int64))
    hashes: Whole = field(default_factory=lambda: np.zeros(0, np.int64))
    hash_tokens: int = 0
    name: str = "requests"

    def __len__(self) -> int:
        return len(self.input_tokens)

    @property
    def rate(self) -> float:
        """Offered requests/s; NaN where arrivals depend on answers, inf where all come at once."""
        if self.concurrency or len(self) < 2:
            return float("nan")
        span = self.arrival[-1] - self.arrival[0]
        return float((len(self) - 1) / span) if span > 0 else float("inf")

    def scaled(self, rate: float) -> Traffic:
        """The same requests at `rate` requests/s, all gaps stretched alike."""
        factor = self.rate / rate
        if not np.isfinite(factor) or factor <= 0:
            raise InputError(f"{self.name}: cannot set a rate of {rate:g}/s; give two arrivals or more, apart in time")
        return replace(self, arrival=self.arrival * factor)

    def take(self, count: int) -> Traffic:
        """The first `count` requests."""
        kept = {f: getattr(self, f)[:count] for f in ("arrival", "input_tokens", "output_tokens", "kind")}
        first = self.first[: count + 1] if self.hash_tokens else self.first
        return replace(self, **kept, first=first, hashes=self.hashes[: first[-1]])


def traffic(
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    arrival: ArrayLike | None = None,
    concurrency: int = 0,
    think: float = 0.0,
    kind: ArrayLike | None = None,
    classes: tuple[str, ...] = ("all",),
    prefixes: tuple[ArrayLike, ArrayLike] | None = None,
    hash_tokens: int = 0,
    name: str = "requests",
) -> Traffic:
    """Checked requests. Without `arrival` and `concurrency` all arrive at time 0 (offline).

    prefixes: (first, hashes) as in `Traffic`. `InputError` names the row of an unsorted, negative or missing value.
    """
    sizes = np.asarray(input_tokens), np.asarray(output_tokens)
    count = max(s.size for s in sizes)
    if count == 0 or 0 in (sizes[0].size, sizes[1].size):
        raise InputError(f"{name}: no requests; give at least one")
    lengths = [_whole(name, what, s, count) for what, s in zip(("input_tokens", "output_tokens"), sizes, strict=True)]
    kinds = np.zeros(count, np.int64) if kind is None else np.asarray(kind, np.int64)
    if np.any((kinds < 0) | (kinds >= len(classes))):
        raise InputError(f"{name}: a class index is outside 0 to {len(classes) - 1}; list every class in `classes`")
    if concurrency < 0 or not think >= 0:
        raise InputError(f"{name}: concurrency {concurrency} and think time {think:g} s must not be negative")
    if concurrency:
        times = np.where(np.arange(count) < concurrency, 0.0, np.nan)
    else:
        times = np.zeros(count) if arrival is None else _times(name, arrival, count)
    made = Traffic(
        arrival=times,
        input_tokens=lengths[0],
        output_tokens=lengths[1],
        kind=kinds,
        classes=tuple(classes),
        concurrency=min(concurrency, count),
        think=float(think),
        name=name,
    )
    return made if prefixes is None else _with_prefixes(made, prefixes, hash_tokens)


def _whole(name: str, what: str, values: NDArray[Any], count: int) -> Whole:
    column = np.broadcast_to(values, (count,)) if values.size == 1 else values
    if column.shape != (count,):
        raise InputError(f"{name}: {what} has {column.size} rows, other columns {count}; give one value a request")
    bad = ~(np.isfinite(column.astype(float)) & (column >= 1))
    if np.any(bad):
        row = int(np.argmax(bad))
        raise InputError(f"{name}: row {row + 1}: {what} is {column[row]}; a request has at least 1 token each way")
    return np.round(column).astype(np.int64)


def _times(name: str, arrival: ArrayLike, count: int) -> Array:
    times = np.asarray(arrival, float)
    if times.shape != (count,):
        raise InputError(f"{name}: arrival has {times.size} rows, other columns {count}; give one time a request")
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


def _with_prefixes(made: Traffic, prefixes: tuple[ArrayLike, ArrayLike], hash_tokens: int) -> Traffic:
    first, hashes = (np.asarray(p, np.int64) for p in prefixes)
    if first.shape != (len(made) + 1,) or first[0] != 0 or first[-1] != len(hashes) or np.any(np.diff(first) < 0):
        raise InputError(f"{made.name}: prefix offsets must rise from 0 to {len(hashes)}, one more than requests")
    if hash_tokens < 1:
        raise InputError(f"{made.name}: prefix hashes need `hash_tokens`, the tokens each stands for")
    _, dense = np.unique(hashes, return_inverse=True)
    return replace(made, first=first, hashes=dense.astype(np.int64), hash_tokens=int(hash_tokens))


def _generator(seed: int, stream: int) -> np.random.Generator:
    """Random numbers of one purpose, told apart by `stream`."""
    if seed < 0:
        raise InputError(f"seed is {seed}; give a whole number of 0 or more")
    return np.random.default_rng([seed, stream])


def arrivals(rate: float, count: int, *, seed: int, cv: float = 1.0) -> Array:
    """Times (count,) of a renewal process at `rate` requests/s with gamma gaps of coefficient of variation `cv`
    (1: Poisson, 0: even). The same seed gives the same pattern at every rate."""
    if not rate > 0:
        raise InputError(f"rate is {rate:g} requests/s; give one above 0")
    generator = _generator(seed, 0)
    gaps = np.ones(count) if cv == 0 else generator.gamma(1 / cv**2, cv**2, count)
    return np.cumsum(gaps) / rate


def from_workload(workload: Workload, *, count: int, seed: int) -> Traffic:
    """`count` requests drawn from the classes of `workload`, arriving as it says. Lengths are the classes' own: give
    many classes (a histogram) or a trace where their spread matters."""
    generator = _generator(seed, 1)
    size = max(np.size(workload.input_tokens), np.size(workload.output_tokens), np.size(workload.share))
    share = np.broadcast_to(workload.share, (size,)).astype(float)
    kind = generator.choice(size, count, p=share / share.sum()) if size > 1 else np.zeros(count, np.int64)
    lengths = [np.broadcast_to(v, (size,))[kind] for v in (workload.input_tokens, workload.output_tokens)]
    lengths = [np.maximum(np.round(v), 1) for v in lengths]
    concurrency, times = 0, None
    if workload.arrival == "open":
        times = arrivals(workload.rate, count, seed=seed, cv=workload.cv)
    elif workload.arrival in ("closed", "single"):
        concurrency = int(workload.concurrency) if workload.arrival == "closed" else 1
    made = traffic(
        lengths[0],
        lengths[1],
        arrival=times,
        concurrency=concurrency,
        kind=kind,
        name=workload.name or "workload",
        classes=tuple(f"class {k + 1}" for k in range(size)) if size > 1 else ("all",),
    )
    hit = np.broadcast_to(workload.prefix_hit, (size,))[kind]
    return _with_hits(made, hit) if np.any(hit > 0) else made


def _with_hits(made: Traffic, hit: Array, hash_tokens: int = 16) -> Traffic:
    """Give every request of a class the same first `hit` share of its prompt."""
    shared = (hit * made.input_tokens).astype(np.int64) // hash_tokens
    first = np.concatenate([[0], np.cumsum(shared)])
    within = np.arange(first[-1]) - np.repeat(first[:-1], shared)
    return _with_prefixes(made, (first, np.repeat(made.kind, shared) * (1 << 32) + within), hash_tokens)
