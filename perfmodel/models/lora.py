"""Low-rank adapters (LoRA, arXiv:2106.09685) of one base model: their number, popularity and the layers they adapt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.arrays import Array
from perfmodel.models.layers import Block, Mlp
from perfmodel.models.projections import Projection
from perfmodel.models.spec import ModelSpec

#: Matrices an adapter may target, as checkpoints name them (q_proj, ...).
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
#: Batch sizes for which the expected number of distinct adapters is tabulated: every one up to `_EVERY_BATCH`, then
#: `_PER_OCTAVE` per doubling up to `_MAX_BATCH`. Chosen: the curve between is close to a line at steps of 1.1 %.
_EVERY_BATCH, _PER_OCTAVE, _MAX_BATCH = 256, 64, 1 << 17
#: Popularity ranks that are summed one by one; later ranks are binned, with `_BINS_PER_OCTAVE` bins per doubling.
_EXACT_RANKS, _BINS_PER_OCTAVE = 1024, 64
#: A larger rank or count is taken for a typing error.
_MAX_STATED = 10**12


@dataclass(frozen=True)
class Adapters:
    """Adapters of one base model; `InputError` names an impossible value.

    Attributes:
        rank: rank of every adapter (engines pad to the largest).
        count: adapters that requests choose from.
        resident: slots for adapters in device memory (vLLM's `max_loras`), the others lie in host memory; a batch holds
            no more adapters than there are slots, and requests of other adapters wait. 0: a slot for each adapter.
        zipf: exponent of popularity. The i-th most popular adapter is requested i^-zipf times as often as the
            first; 0: all equally often.
        targets: matrices that are adapted, of `TARGETS`. In a mixture of experts only those of attention are.
    """

    rank: int
    count: int = 1
    resident: int = 0
    zipf: float = 0.0
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("count", 1), ("resident", 0)):
            value = getattr(self, name)
            if value > _MAX_STATED:
                raise InputError(f"adapters: {name} is above {_MAX_STATED:.0e}; give fewer")
            if not (np.isfinite(value) and value == int(value) and value >= least):
                raise InputError(f"adapters: {name} {value:g} is impossible; give a whole number of {least} or more")
        if self.resident > self.count:
            way_out = f"give at most {self.count}, or 0 for all"
            raise InputError(f"adapters: resident {self.resident} exceeds count {self.count}; {way_out}")
        if not (np.isfinite(self.zipf) and self.zipf >= 0):
            raise InputError(f"adapters: zipf {self.zipf:g} is no exponent; give 0 (all equally popular) or more")
        for name in self.targets:
            if name not in TARGETS:
                raise UnknownName("adapter target", name, TARGETS, f"({', '.join(TARGETS)})")
        if not self.targets:
            raise InputError(f"adapters: no targets; name some of {', '.join(TARGETS)}")

    @property
    def held(self) -> int:
        """Adapters in device memory."""
        return self.resident or self.count

    @property
    def missing(self) -> float:
        """Share of requests whose adapter is not in device memory, when the most popular ones are.

        Under independent requests no replacement policy reaches less.
        """
        return _weight(self.held + 1, self.count, self.zipf) / _weight(1, self.count, self.zipf)

    def distinct(self, seqs: Array) -> Array:
        """Return the expected number of distinct adapters among `seqs` sequences, at most `held`. Shape of `seqs`."""
        return np.minimum(self.drawn(seqs), self.held)

    def drawn(self, seqs: Array) -> Array:
        """Return the expected number of distinct adapters among `seqs` requests drawn at random. Shape of `seqs`.

        Where slots limit a batch, its sequences share adapters more often than these; this is then an upper bound.
        """
        sizes, expected = _distinct_by_batch(self.count, self.zipf)
        found: Array = np.interp(np.asarray(seqs, float), sizes, expected)
        return found

    def runnable(self, present: Array) -> Array:
        """Return how many of `present` requests may run at once with the slots that there are. Shape of `present`.

        Engines scan the requests in their order of arrival: each takes a slot for its adapter while there is one, and
        later ones run if theirs holds a slot already (vLLM pull request 15422, 2025-03). Derived: the slots are taken
        after n requests, where n of them have as many distinct adapters as there are slots. Each later request has one
        of these with the probability that n draws have met its adapter.
        """
        present = np.asarray(present, float)
        if self.held >= self.count:
            return present
        sizes, expected = _distinct_by_batch(self.count, self.zipf)
        first = float(np.interp(self.held, expected, sizes))
        known = popularity(self.count, self.zipf)
        with np.errstate(divide="ignore"):  # an adapter that every request uses has been met
            met = -np.expm1(first * np.log1p(-known.shares))
        share = float((known.numbers * known.shares * met).sum())
        return np.where(present > first, first + (present - first) * share, present)


class Popularity(NamedTuple):
    """Adapters in B bins of nearly equal popularity.

    shares: (B,) share of requests per adapter. numbers: (B,) adapters per bin.
    """

    shares: Array
    numbers: Array


@lru_cache(maxsize=64)
def popularity(count: int, zipf: float) -> Popularity:
    """Return how often each of `count` adapters is requested, by bins; shares times numbers sum to 1.

    Beyond `_EXACT_RANKS` an adapter has the mean share of its bin, whose ranks span 1.1 %; sums over adapters are then
    right within 0.1 %.
    """
    head = min(count, _EXACT_RANKS)
    bins = np.ceil(_BINS_PER_OCTAVE * np.log2((count + 1) / (head + 1))) if count > head else 0
    edges = np.unique(np.rint(np.geomspace(head + 1, count + 1, int(bins) + 1)))  # first ranks of the bins
    starts, numbers = edges[:-1], np.diff(edges)
    tail = _integral(starts, edges[1:] - 1.0, zipf) / numbers
    weights = np.concatenate([np.arange(1.0, head + 1.0) ** -zipf, tail])
    sizes = np.concatenate([np.ones(head), numbers])
    return Popularity(shares=weights / _weight(1, count, zipf), numbers=sizes)


def _weight(first: int, last: int, zipf: float) -> float:
    """Sum rank^-zipf over the ranks from `first` to `last`, term by term up to `_EXACT_RANKS`."""
    plain = float((np.arange(float(first), min(last, _EXACT_RANKS) + 1.0) ** -zipf).sum())
    start = max(first, _EXACT_RANKS + 1)
    return plain + (float(_integral(np.array(float(start)), np.array(float(last)), zipf)) if last >= start else 0.0)


def _integral(first: Array, last: Array, zipf: float) -> Array:
    """Approximate the sum of rank^-zipf over the ranks from `first` to `last` by the midpoint rule. Shape of `first`.

    Derived: the integral of x^-zipf from first - 1/2 to last + 1/2; too low by about zipf (zipf + 1) / (24 first^2).
    """
    low, high, power = first - 0.5, last + 0.5, 1.0 - zipf
    log_ratio = np.log(high / low)
    return log_ratio if power == 0 else low**power * np.expm1(power * log_ratio) / power


def distinct_drawn(shares: Array, draws: Array, numbers: Array | float = 1.0) -> Array:
    """Return the expected number of distinct kinds among `draws` independent draws. Shape of `draws`.

    Derived: the sum over kinds of 1 - (1 - p)^draws, each term the chance that its kind turns up (linearity of
    expectation).

    Args:
        shares: (B,) probability of each kind of a bin.
        draws: any shape, number of draws.
        numbers: (B,) kinds per bin.

    >>> distinct_drawn(np.full(4, 0.25), np.array([1.0, 2.0])).round(9).tolist()
    [1.0, 1.75]
    """
    with np.errstate(divide="ignore"):  # a kind that is always drawn has no chance of being missed
        missed = np.log1p(-np.asarray(shares, float))
    found = [-(numbers * np.expm1(n * missed)).sum() if n > 0 else 0.0 for n in np.ravel(draws)]
    return np.array(found).reshape(np.shape(draws))


@lru_cache(maxsize=64)
def _distinct_by_batch(count: int, zipf: float) -> tuple[Array, Array]:
    """Return (batch sizes, expected number of distinct adapters in a batch of each size), for `Adapters.distinct`.

    count: adapters that requests choose from. zipf: exponent of their popularity.
    """
    steps = np.arange(1.0, _PER_OCTAVE * np.log2(_MAX_BATCH / _EVERY_BATCH) + 1.0)
    beyond = _EVERY_BATCH * 2.0 ** (steps / _PER_OCTAVE)
    sizes = np.concatenate([np.arange(_EVERY_BATCH + 1.0), beyond])
    known = popularity(count, zipf)
    return sizes, distinct_drawn(known.shares, sizes, known.numbers)


def check_rank(adapters: Adapters, model: ModelSpec) -> None:
    """Raise `InputError` for a rank above the width of `model`, and for targets that no layer of it carries."""
    if adapters.rank > model.hidden:
        raise InputError(
            f"adapters: rank {adapters.rank} exceeds the width {model.hidden} of {model.name}; give a lower one"
        )
    carry = carried(model)
    if not set(carry) & set(adapters.targets):
        offer = f"give some of {', '.join(carry)}" if carry else "no layer of it carries adapters"
        raise InputError(f"adapters: nothing in {model.name} carries targets {', '.join(adapters.targets)}; {offer}")


def carried(model: ModelSpec) -> tuple[str, ...]:
    """Return the matrices of `TARGETS` that some layer of `model` can adapt.

    Routed experts and latent attention have not all of them.
    """
    found = [(p, block.mlp) for block in model.blocks for p, _ in adaptable(model, block)]
    return tuple(t for t in TARGETS if any(slices(p, mlp, Adapters(1, targets=(t,))) for p, mlp in found))


def adaptable(model: ModelSpec, block: Block) -> list[tuple[Projection, int]]:
    """Return the projections of a block that may carry adapters, each with the number of KV heads that shard it."""
    found: list[tuple[Projection, int]] = []
    if block.mixer:
        found += [(p, block.mixer.kv_heads) for p in block.mixer.projections(model.hidden)]
    if block.mlp and not model.experts:
        found += [(p, 1) for p in block.mlp.projections(model.hidden)]
    return found


#: GEMMs that stand for one target as a whole. In latent attention "q" adapts the up-projection of the queries and "k"
#: the down-projections.
_WHOLE = {"o": "o", "o_down": "o", "down": "down", "q_up": "q", "mla_down": "k", "mixer_in": "q"}


def slices(p: Projection, mlp: Mlp | None, adapters: Adapters) -> list[float]:
    """Return the number of outputs of each targeted matrix in the fused projection `p` of a layer with MLP `mlp`."""
    if p.gemm == "qkv":
        parts = {"q": float(p.n)} if p.shard == "column" else {"k": p.n / 2.0, "v": p.n / 2.0}
    elif p.gemm == "up":
        parts = {"gate": p.n / 2.0, "up": p.n / 2.0} if mlp and mlp.gated else {"up": float(p.n)}
    else:
        parts = {_WHOLE[p.gemm]: float(p.n)} if p.gemm in _WHOLE else {}
    return [n for target, n in parts.items() if target in adapters.targets]
