"""Low-rank adapters (LoRA, arXiv:2106.09685) that share one base model: which there are, and who is in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.demand import Array
from perfmodel.models import ModelSpec

#: Linear layers an adapter may target, as checkpoints name them (q_proj, ...).
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
#: Largest batch that the expected number of distinct adapters is tabulated for.
_MOST = 1 << 17


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
        return float(popularity(self.count, self.zipf)[self.held :].sum())

    def distinct(self, seqs: Array) -> Array:
        """Expected number of distinct adapters among `seqs` sequences, at most those held. Shape of `seqs`."""
        sizes, expected = _table(self.count, self.zipf)
        return np.minimum(np.interp(np.asarray(seqs, float), sizes, expected), self.held)


@lru_cache(maxsize=64)
def popularity(count: int, zipf: float) -> Array:
    """Share of requests for each of `count` adapters, most popular first; sums to 1. (A,)"""
    weight = np.arange(1.0, count + 1.0) ** -zipf
    return weight / weight.sum()


def distinct_drawn(shares: Array, draws: Array) -> Array:
    """Expected number of distinct kinds among `draws` independent draws: the sum over kinds of 1 - (1 - p)^draws, each
    the chance that its kind turns up (linearity of expectation). Shape of `draws`.

    >>> distinct_drawn(np.full(4, 0.25), np.array([1.0, 2.0])).round(9).tolist()
    [1.0, 1.75]
    """
    with np.errstate(divide="ignore"):  # a kind that is always drawn has no chance of being missed
        missed = np.log1p(-np.asarray(shares, float))
    return np.array([-np.expm1(n * missed).sum() if n > 0 else 0.0 for n in np.ravel(draws)]).reshape(np.shape(draws))


@lru_cache(maxsize=64)
def _table(count: int, zipf: float) -> tuple[Array, Array]:
    """(batch sizes, expected distinct adapters): every size up to 256, then 64 an octave."""
    sizes = np.concatenate([np.arange(257.0), 256.0 * 2.0 ** (np.arange(1.0, 64.0 * np.log2(_MOST / 256) + 1) / 64.0)])
    return sizes, distinct_drawn(popularity(count, zipf), sizes)


def check_rank(adapters: Adapters, model: ModelSpec) -> None:
    """Raise `InputError` for a rank that is no low rank in `model`."""
    if adapters.rank > model.hidden:
        raise InputError(
            f"adapters: rank {adapters.rank} exceeds the width {model.hidden} of {model.name}; give a lower one"
        )
