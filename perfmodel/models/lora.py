"""Low-rank adapters (LoRA, arXiv:2106.09685) that share one base model: which there are, and who is in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.arrays import Array
from perfmodel.models.layers import Block, Mlp, Projection
from perfmodel.models.spec import ModelSpec

#: Linear layers an adapter may target, as checkpoints name them (q_proj, ...).
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
#: Largest batch that the expected number of distinct adapters is tabulated for.
_MOST = 1 << 17
#: The most popular adapters, which are counted one by one; the others stand in bins, so many an octave of their ranks.
_HEAD, _BINS = 1024, 64
#: More adapters than there can be: a slip of the keyboard.
_TOO_MANY = 10**12


@dataclass(frozen=True)
class Adapters:
    """Adapters of one base model.

    rank: of all of them (engines pad to the largest). count: adapters that requests choose from. resident: how many
    device memory holds at once, 0 all; the others wait in host memory. zipf: exponent of their popularity, the i-th
    most popular being asked for i^-zipf times as often as the first; 0: all alike. targets: the layers that carry them,
    of `TARGETS`; in a mixture of experts only attention does. `InputError` names what is impossible.
    """

    rank: int
    count: int = 1
    resident: int = 0
    zipf: float = 0.0
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("count", 1), ("resident", 0)):
            value = getattr(self, name)
            if value > _TOO_MANY:
                raise InputError(f"adapters: {name} is above {_TOO_MANY:.0e}; give fewer")
            if not (np.isfinite(value) and value == int(value) and value >= least):
                raise InputError(f"adapters: {name} {value:g} is impossible; give a whole number of {least} or more")
        if self.resident > self.count:
            raise InputError(
                f"adapters: resident {self.resident} exceeds count {self.count}; there are no more to hold"
            )
        if not (np.isfinite(self.zipf) and self.zipf >= 0):
            raise InputError(f"adapters: zipf {self.zipf:g} is no exponent; give 0 (all alike) or more")
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
        """Share of requests whose adapter is not in device memory, the most popular ones being held: the least any
        replacement policy reaches under independent requests."""
        return _weight(self.held + 1, self.count, self.zipf) / _weight(1, self.count, self.zipf)

    def distinct(self, seqs: Array) -> Array:
        """Expected number of distinct adapters among `seqs` sequences, at most those held. Shape of `seqs`."""
        sizes, expected = _table(self.count, self.zipf)
        return np.minimum(np.interp(np.asarray(seqs, float), sizes, expected), self.held)


class Popularity(NamedTuple):
    """Share of requests for each adapter of a bin of nearly equal ones, and how many it holds. (B,)"""

    shares: Array
    numbers: Array


@lru_cache(maxsize=64)
def popularity(count: int, zipf: float) -> Popularity:
    """How often each of `count` adapters is asked for; shares times numbers sum to 1. Beyond the first 1024 an adapter
    has the mean share of its bin, whose ranks span 1.1 %: what is summed over adapters is then right within 0.1 %."""
    head = min(count, _HEAD)
    bins = np.ceil(_BINS * np.log2((count + 1) / (head + 1))) if count > head else 0
    edges = np.unique(np.rint(np.geomspace(head + 1, count + 1, int(bins) + 1)))  # first ranks of the bins
    starts, numbers = edges[:-1], np.diff(edges)
    tail = _integral(starts, edges[1:] - 1.0, zipf) / numbers
    weights = np.concatenate([np.arange(1.0, head + 1.0) ** -zipf, tail])
    return Popularity(weights / _weight(1, count, zipf), np.concatenate([np.ones(head), numbers]))


def _weight(first: int, last: int, zipf: float) -> float:
    """Sum of rank^-zipf over the ranks from `first` to `last`, term by term as far as `_HEAD`."""
    plain = float((np.arange(float(first), min(last, _HEAD) + 1.0) ** -zipf).sum())
    start = max(first, _HEAD + 1)
    return plain + (float(_integral(np.array(float(start)), np.array(float(last)), zipf)) if last >= start else 0.0)


def _integral(first: Array, last: Array, zipf: float) -> Array:
    """Sum of rank^-zipf from `first` to `last` by the midpoint rule: the integral from first - 1/2 to last + 1/2, too
    low by about zipf (zipf + 1) / (24 first^2). Shape of `first`."""
    low, high, power = first - 0.5, last + 0.5, 1.0 - zipf
    octaves = np.log(high / low)
    return octaves if power == 0 else low**power * np.expm1(power * octaves) / power


def distinct_drawn(shares: Array, draws: Array, numbers: Array | float = 1.0) -> Array:
    """Expected number of distinct kinds among `draws` independent draws: the sum over kinds of 1 - (1 - p)^draws, each
    the chance that its kind turns up (linearity of expectation). numbers: kinds that have each share. Shape of `draws`.

    >>> distinct_drawn(np.full(4, 0.25), np.array([1.0, 2.0])).round(9).tolist()
    [1.0, 1.75]
    """
    with np.errstate(divide="ignore"):  # a kind that is always drawn has no chance of being missed
        missed = np.log1p(-np.asarray(shares, float))
    found = [-(numbers * np.expm1(n * missed)).sum() if n > 0 else 0.0 for n in np.ravel(draws)]
    return np.array(found).reshape(np.shape(draws))


@lru_cache(maxsize=64)
def _table(count: int, zipf: float) -> tuple[Array, Array]:
    """(batch sizes, expected distinct adapters): every size up to 256, then 64 an octave."""
    sizes = np.concatenate([np.arange(257.0), 256.0 * 2.0 ** (np.arange(1.0, 64.0 * np.log2(_MOST / 256) + 1) / 64.0)])
    known = popularity(count, zipf)
    return sizes, distinct_drawn(known.shares, sizes, known.numbers)


def check_rank(adapters: Adapters, model: ModelSpec) -> None:
    """Raise `InputError` for a rank that is no low rank in `model`, and for targets of which it has none."""
    if adapters.rank > model.hidden:
        raise InputError(
            f"adapters: rank {adapters.rank} exceeds the width {model.hidden} of {model.name}; give a lower one"
        )
    carry = carried(model)
    if not set(carry) & set(adapters.targets):
        offer = f"give some of {', '.join(carry)}" if carry else "no layer of it carries adapters"
        raise InputError(f"adapters: nothing in {model.name} carries targets {', '.join(adapters.targets)}; {offer}")


def carried(model: ModelSpec) -> tuple[str, ...]:
    """Targets that some layer of `model` carries; with routed experts and latent attention not all do."""
    found = [(p, block.mlp) for block in model.blocks for p, _ in adaptable(model, block)]
    return tuple(t for t in TARGETS if any(slices(p, mlp, Adapters(1, targets=(t,))) for p, mlp in found))


def adaptable(model: ModelSpec, block: Block) -> list[tuple[Projection, int]]:
    """Projections of a block that may carry adapters, each with the number of KV heads it is sharded by."""
    found: list[tuple[Projection, int]] = []
    if block.mixer:
        found += [(p, block.mixer.kv_heads) for p in block.mixer.projections(model.hidden)]
    if block.mlp and not model.experts:
        found += [(p, 1) for p in block.mlp.projections(model.hidden)]
    return found


#: Matrices that stand for one target as a whole; latent attention: "q" its queries' up-projection, "k" both down ones.
_WHOLE = {"o": "o", "o_down": "o", "down": "down", "q_up": "q", "mla_down": "k", "mixer_in": "q"}


def slices(p: Projection, mlp: Mlp | None, adapters: Adapters) -> list[float]:
    """Outputs of each targeted matrix that `p` is made of."""
    if p.gemm == "qkv":
        parts = {"q": float(p.n)} if p.shard == "column" else {"k": p.n / 2.0, "v": p.n / 2.0}
    elif p.gemm == "up":
        parts = {"gate": p.n / 2.0, "up": p.n / 2.0} if mlp and mlp.gated else {"up": float(p.n)}
    else:
        parts = {_WHOLE[p.gemm]: float(p.n)} if p.gemm in _WHOLE else {}
    return [n for target, n in parts.items() if target in adapters.targets]
