"""What may be tried: axes, legality rules, and candidates as columns. Nothing here loops over candidates.

A space is the product of its axes; a candidate is a number in [0, size) that unravels to one value an axis. Rules are
masks over columns, each with a name, a sentence, and a count of what it alone removed of what earlier rules left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import Device, InputError
from perfmodel import Deployments, ModelSpec
from perfmodel.hardware import Host
from perfmodel.models import Adapters
from search.space.rules import RULES, Columns, Ground

Index = NDArray[np.intp]

#: As a value of `ep`: experts are spread over all devices that share a layer (TP x attention DP).
WHOLE_GROUP = float("inf")
#: Axes of a space, in the order in which a candidate's number unravels.
AXES = (
    "device",
    "tp",
    "pp",
    "ep",
    "dp",
    "cp",
    "max_num_batched_tokens",
    "max_num_seqs",
    "weight",
    "act",
    "kv",
    "host_weights",
    "host_experts",
    "host_kv",
)
NAN = float("nan")


@dataclass(frozen=True)
class SearchSpace:
    """The product of axes for one model on some devices.

    devices: on offer. tp, pp, ep, dp, cp: degrees to try (`WHOLE_GROUP` in ep follows tp x dp). max_num_batched_tokens, max_num_seqs:
    token budget a step and sequences at once a replica, NaN the engine's own. weight, act, kv: format and compute
    codes, -1 the model's own. host_weights, host_experts, host_kv: shares in host memory, behind `host`. adapters: what
    requests use, the same for all candidates. stock: devices on hand by name, absent means no limit. domain: devices
    that share the fast links of a node, by name; absent means what the device's own link says. pinned: axes the user
    set by hand; they are named when nothing is left.
    """

    model: ModelSpec
    devices: tuple[Device, ...]
    tp: tuple[float, ...] = (1, 2, 4, 8)
    pp: tuple[float, ...] = (1, 2, 4, 8)
    ep: tuple[float, ...] = (1, WHOLE_GROUP)
    dp: tuple[float, ...] = (1, 2, 4, 8)
    cp: tuple[float, ...] = (1,)
    max_num_batched_tokens: tuple[float, ...] = (NAN,)
    max_num_seqs: tuple[float, ...] = (NAN,)
    weight: tuple[int, ...] = (-1,)
    act: tuple[int, ...] = (-1,)
    kv: tuple[int, ...] = (-1,)
    host_weights: tuple[float, ...] = (0.0,)
    host_experts: tuple[float, ...] = (0.0,)
    host_kv: tuple[float, ...] = (0.0,)
    host: Host = field(default_factory=Host)
    adapters: Adapters | None = None
    stock: Mapping[str, float] = field(default_factory=dict)
    domain: Mapping[str, float] = field(default_factory=dict)
    pinned: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.devices:
            raise InputError("search: no hardware on offer; name at least one device or node")
        for axis in AXES[1:]:
            values = getattr(self, axis)
            if not values:
                raise InputError(f"search: axis {axis} is empty; give it at least one value")
            degrees = axis in ("tp", "pp", "ep", "dp", "cp")
            bad = [v for v in values if degrees and not (v >= 1 and (v == WHOLE_GROUP or v == int(v)))]
            if bad:
                raise InputError(f"search: {axis} = {bad[0]:g} is no degree of parallelism; give whole numbers from 1")

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values on each axis, in the order of `AXES`."""
        return (len(self.devices), *(len(getattr(self, axis)) for axis in AXES[1:]))

    @property
    def size(self) -> int:
        """Candidates before any rule."""
        return int(np.prod(self.shape))

    def columns(self, index: Index) -> Columns:
        """Values of the candidates `index` (N,), one column an axis, with `ep` resolved."""
        picks = np.unravel_index(index, self.shape)
        out: dict[str, Any] = {"device": picks[0]}
        for axis, pick in zip(AXES[1:], picks[1:], strict=True):
            out[axis] = np.asarray(getattr(self, axis))[pick]
        out["ep_asked"] = out["ep"]
        out["ep"] = np.where(np.isinf(out["ep"].astype(float)), out["tp"] * out["dp"], out["ep"]).astype(float)
        return out

    def deployments(self, index: Index) -> Deployments:
        """The candidates `index` (N,) as deployments of one replica each; `device` counts this space's devices."""
        columns = self.columns(index)
        columns.pop("ep_asked")
        whole = ("device", "weight", "act", "kv")
        typed = {name: np.asarray(c, dtype=np.intp if name in whole else float) for name, c in columns.items()}
        return Deployments(
            devices=self.devices, replicas=np.ones(len(index)), host=self.host, adapters=self.adapters, **typed
        )

    @property
    def ground(self) -> Ground:
        """What rules need to know of the model and of each device on offer."""
        domain = [self.domain.get(d.name, float(d.link.peers or 1)) for d in self.devices]
        return Ground(
            model=self.model,
            names=tuple(d.name for d in self.devices),
            memory=np.array([d.memory for d in self.devices]),
            domain=np.maximum(np.array(domain, dtype=float), 1.0),
            network=np.array([d.net.bandwidth for d in self.devices]),
            stock=np.array([self.stock.get(d.name, np.inf) for d in self.devices], dtype=float),
        )

    def legal(self) -> Legal:
        """Every candidate that passes every rule, and what each rule removed.

        Raises `InputError` naming the numbers when nothing is left.
        """
        ground = self.ground
        index = np.arange(self.size)
        removed: dict[str, int] = {}
        example: dict[str, str] = {}
        for rule in RULES:
            columns = self.columns(index)
            keep = np.broadcast_to(rule.allows(ground, columns), index.shape)
            removed[rule.name] = int((~keep).sum())
            if removed[rule.name]:
                example[rule.name] = rule.says(ground, {k: v[~keep][0] for k, v in columns.items()})
            index = index[keep]
        if not len(index):
            raise InputError(self._nothing_left(removed, example))
        return Legal(space=self, index=index, removed=removed, example=example)

    def _nothing_left(self, removed: Mapping[str, int], example: Mapping[str, str]) -> str:
        reasons = sorted((n for n in removed if removed[n] and n != "same"), key=lambda n: -removed[n])
        told = "; ".join(example[n] for n in reasons[:3])
        pinned = [f"{a} = {', '.join(f'{v:g}' for v in getattr(self, a))}" for a in AXES[1:] if a in self.pinned]
        asked = f" with {', '.join(pinned)}" if pinned else ""
        return f"no deployment of {self.model.name}{asked} is possible: {told}"


@dataclass(frozen=True)
class Legal:
    """The legal candidates of a space.

    index: (N,) their numbers. removed: candidates each rule took away, by name. example: one case of each in words.
    """

    space: SearchSpace
    index: Index
    removed: Mapping[str, int]
    example: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.index)

    def deployments(self, rows: Index | slice = slice(None)) -> Deployments:
        """Deployments of the given rows of `index`."""
        return self.space.deployments(self.index[rows])

    def rows(self) -> list[dict[str, Any]]:
        """What each rule removed, one flat record each."""
        return [{"rule": n, "removed": c, "example": self.example.get(n, "")} for n, c in self.removed.items() if c]
