"""Settings of expert parallelism: how tokens reach their experts, and how evenly the experts' load is spread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.arrays import NAN, Array
from perfmodel.models import ModelSpec

#: Ways in which tokens reach their experts on other devices. collective: all-to-alls of a library (NCCL). normal: two
#: levels, over the network once for each node that holds any of a token's experts and over the node's links from there
#: (DeepEP's normal kernels). low_latency: once for each expert, straight to its device (DeepEP's low-latency kernels,
#: which a captured graph can hold). auto: collective within a node of at most `WIDE_EP_RANKS` ranks; beyond, normal for
#: steps with prompts and low_latency for the others (SGLang --deepep-mode auto).
ALL_TO_ALLS = ("auto", "collective", "normal", "low_latency")
#: Whether experts are placed by load (EPLB). auto: as published deployments are, whose loads differ by `EXPERT_SKEW`.
BALANCERS = ("auto", "on", "off")
#: Expert-parallel ranks beyond which skewed loads describe no deployment: engines then balance them.
WIDE_EP_RANKS = 8.0
#: Relative excess load of the busiest expert-parallel rank beyond chance; DeepSeek-V3 (arXiv:2412.19437, sec. 3.4.2)
#: keeps 32 redundant experts to even it out, and measured loads still differ by about a fifth.
EXPERT_SKEW = 0.2
#: Popularity of the most over that of the least popular expert, with logarithms spread evenly. Chosen: with it the
#: busiest of 8, 32 and 64 ranks has 1.4, 2.4 and 3.4 times the mean load; aiconfigurator-core 0.12.0 measured 1.5, 2.6
#: and 3.1 (wide-EP experts on H100 and H200, times of the load with exponent 1.01 over those of an even load).
POPULARITY_SPAN = 1000.0
#: Random placements whose busiest rank is averaged (chosen: the mean is then exact to 2 %), and their seed.
_PLACEMENTS, _SEED = 64, 0


@dataclass(frozen=True)
class ExpertRouting:
    """Hold the settings of expert parallelism; the defaults are those of published deployments.

    all_to_all: one of `ALL_TO_ALLS`. balancer: one of `BALANCERS`. redundant: copies of popular experts in all, which
    take memory and need a balancer. imbalance: load of the busiest rank over the mean load, 1 or more; NaN: by
    the balancer.
    """

    all_to_all: str = "auto"
    balancer: str = "auto"
    redundant: int = 0
    imbalance: float = NAN

    def __post_init__(self) -> None:
        """Raise `InputError` for settings that no engine can have."""
        if self.all_to_all not in ALL_TO_ALLS:
            raise UnknownName("all-to-all", self.all_to_all, ALL_TO_ALLS, f"({', '.join(ALL_TO_ALLS)})")
        if self.balancer not in BALANCERS:
            raise UnknownName("expert balancer", self.balancer, BALANCERS, f"({', '.join(BALANCERS)})")
        if self.redundant < 0:
            raise InputError(f"{self.redundant} redundant experts are too few; give 0 or more")
        if self.redundant and self.balancer == "off":
            raise InputError(
                f"{self.redundant} redundant experts need a balancer that places them; turn it on, or leave them out"
            )
        if not (math.isnan(self.imbalance) or 1.0 <= self.imbalance < math.inf):
            raise InputError(
                f"an expert imbalance of {self.imbalance:g} is impossible; give the load of the busiest rank over the "
                "mean load, 1 or more"
            )

    @property
    def stated(self) -> bool:
        """Return whether anything says how the load is spread, so that skewed tables do not describe it."""
        return self.balancer != "auto" or self.redundant > 0 or not math.isnan(self.imbalance)

    def slots(self, experts: float) -> float:
        """Return the experts that devices hold in all, copies included; experts: different ones."""
        return experts + float(self.redundant)

    def skew(self, experts: int, ranks: Array) -> Array:
        """Return the relative excess load of the busiest of `ranks` ranks beyond chance by the balancer, (N,)."""
        ranks = np.asarray(ranks, float)
        if not self.stated:
            return np.full(ranks.shape, EXPERT_SKEW)
        balanced = self.balancer != "off"
        degrees, which = np.unique(ranks, return_inverse=True)
        loads = [_busiest(experts, int(r), self.redundant, balanced) for r in degrees.tolist()]
        drift = 1.0 + EXPERT_SKEW if balanced else 1.0
        return np.asarray(np.array(loads)[which].reshape(ranks.shape) * drift - 1.0)


def check_routing(model: ModelSpec, routing: ExpertRouting) -> None:
    """Raise `InputError` for settings of expert parallelism that say nothing about `model`, which has no experts."""
    if not model.experts and (routing.stated or routing.all_to_all != "auto"):
        raise InputError(f"{model.name} has no routed experts; leave the settings of expert parallelism out")


@lru_cache(maxsize=1024)
def _busiest(experts: int, ranks: int, redundant: int, balanced: bool) -> float:
    """Return the load of the busiest rank over the mean load, for experts whose popularity spans `POPULARITY_SPAN`.

    balanced: whether copies of popular experts and the placement even the loads out, as EPLB does; otherwise experts
    lie on ranks at random.
    """
    popular = POPULARITY_SPAN ** ((np.arange(experts) + 0.5) / experts)
    popular /= popular.sum() / ranks
    if ranks <= 1:
        return 1.0
    if balanced:
        return _packed(popular, ranks, redundant)
    generator = np.random.default_rng(_SEED)
    rank = (np.arange(experts) * ranks) // experts
    found = [np.bincount(rank, generator.permutation(popular), ranks).max() for _ in range(_PLACEMENTS)]
    return float(np.mean(found))


def _packed(popular: Array, ranks: int, redundant: int) -> float:
    """Return the busiest rank's load after copying and placing experts greedily, as DeepSeek's EPLB does.

    The expert with the most load per copy gets the next copy; copies go, heaviest first, to the least loaded rank with
    a free slot (deepseek-ai/EPLB eplb.py, replicate_experts and balanced_packing). popular: (E,) loads, whose sum is
    `ranks`.
    """
    copies = np.ones(len(popular))
    for _ in range(redundant):
        copies[np.argmax(popular / copies)] += 1.0
    pieces = np.sort(np.repeat(popular / copies, copies.astype(int)))[::-1]
    room, load = np.full(ranks, math.ceil(len(pieces) / ranks)), np.zeros(ranks)
    for piece in pieces.tolist():
        place = int(np.argmin(np.where(room > 0, load, np.inf)))
        load[place] += piece
        room[place] -= 1
    return float(load.max())
