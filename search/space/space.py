"""Define the search space: the product of its axes, with candidates as columns. Nothing here loops over candidates.

A candidate is a number in [0, size) that unravels to one value per axis. Legality rules are masks over columns. Each
rule has a name, a reason in words, and a count of the candidates that it removed after the earlier rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwdb import Device, InputError
from perfmodel import Deployments, ModelSpec
from perfmodel.arrays import NAN, Array, Index, Mask
from perfmodel.deployment import CP_METHODS, ExpertRouting, HandOver, Speculation
from perfmodel.dtypes import COMPUTE, FORMAT_NAMES
from perfmodel.hardware import Host
from perfmodel.models import Adapters
from search.space.rules import RULES, Columns, Rule, RuleContext, first_row, idle_watts

#: Most combinations of the values on all axes. Chosen: about 20 s, and 1 GB of memory.
MOST_CANDIDATES = 4_000_000
#: Value of `ep` that spreads the experts over all devices that share a layer: ep = tp x dp.
WHOLE_GROUP = float("inf")
#: Axes of a space, in the order in which the number of a candidate unravels.
AXES = (
    "device",
    "tp",
    "pp",
    "ep",
    "dp",
    "cp",
    "kvp",
    "max_num_batched_tokens",
    "max_num_seqs",
    "power_cap",
    "weight",
    "act",
    "kv",
    "cp_method",
    "host_weights",
    "host_experts",
    "host_kv",
    "drafts",
)
#: Axes that hold positions or codes rather than amounts.
CODE_AXES = ("device", "weight", "act", "kv", "cp_method")
#: Names of the codes of an axis.
_NAMES = {"weight": FORMAT_NAMES, "kv": FORMAT_NAMES, "act": COMPUTE, "cp_method": CP_METHODS}
#: Axes that are degrees of parallelism.
DEGREE_AXES = ("tp", "pp", "ep", "dp", "cp", "kvp")
#: Degrees that the search tries of its own accord. dp reaches the groups of 32 that published deployments of large
#: mixtures decode with (DeepSeek-V3, arXiv:2412.19437, sec. 3.4; LMSYS, 2025-05-05).
OWN_DP = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
#: Degrees of expert parallelism between none and the whole group.
PART_GROUPS = (2.0, 4.0, 8.0)
#: Largest dp that is tried together with a pipeline where nobody lists degrees. Chosen: one node.
MAX_OWN_DP_IN_PIPELINE = 8.0
#: Reasons that a message gives when no candidate is left. Chosen: what a reader takes in.
REASONS_TOLD = 3


@dataclass(frozen=True)
class SearchSpace:
    """The product of axes for one model on some device types.

    devices: the types on offer. tp, pp, ep, dp, cp, kvp: degrees of parallelism to try; `WHOLE_GROUP` in ep means tp x
    dp. max_num_batched_tokens, max_num_seqs: tokens per step and running sequences to try, as the engine's flags count
    them, NaN for the engine's own. power_cap: power limits per device to try, W, NaN for the device's own. weight, act,
    kv: codes of formats and compute types to try, -1 for the model's own. cp_method: codes of ways to exchange keys.
    host_weights, host_experts, host_kv: shares in host memory to try, 0 to 1. host: the host behind each device.
    adapters: LoRA adapters that requests use, the same for every candidate. hand_over: how KV cache moves between
    pools. routing: settings of expert parallelism. drafts: draft tokens per step to try, 0 for none. speculation: who
    drafts, and how many drafts are accepted. stock: devices on hand by name; a device that is absent has no
    limit. domain: devices that share a node's fast links, by name; a device that is absent has as many as its own link
    connects. runs: axis (weight, kv) -> codes of the formats that each device runs; an axis that is absent has no such
    bound. vendors: of the devices that the engine runs on, empty for any. pads_shards: whether the engine pads shards
    of quantised weights. encoder_data_parallel: whether every device runs the whole vision encoder. pinned: axes that
    the user set; the message names them when no candidate is left. own_range: axes whose values are the search's own;
    combinations that rarely pay are then left out (`_worth_trying`).
    """

    model: ModelSpec
    devices: tuple[Device, ...]
    tp: tuple[float, ...] = (1, 2, 4, 8)
    pp: tuple[float, ...] = (1, 2, 4, 8)
    ep: tuple[float, ...] = (1, WHOLE_GROUP)
    dp: tuple[float, ...] = (1, 2, 4, 8)
    cp: tuple[float, ...] = (1,)
    kvp: tuple[float, ...] = (1,)
    max_num_batched_tokens: tuple[float, ...] = (NAN,)
    max_num_seqs: tuple[float, ...] = (NAN,)
    power_cap: tuple[float, ...] = (NAN,)
    weight: tuple[int, ...] = (-1,)
    act: tuple[int, ...] = (-1,)
    kv: tuple[int, ...] = (-1,)
    cp_method: tuple[int, ...] = (0,)
    host_weights: tuple[float, ...] = (0.0,)
    host_experts: tuple[float, ...] = (0.0,)
    host_kv: tuple[float, ...] = (0.0,)
    drafts: tuple[float, ...] = (0.0,)
    host: Host = field(default_factory=Host)
    adapters: Adapters | None = None
    hand_over: HandOver = field(default_factory=HandOver)
    routing: ExpertRouting = field(default_factory=ExpertRouting)
    speculation: Speculation = field(default_factory=Speculation)
    stock: Mapping[str, float] = field(default_factory=dict)
    domain: Mapping[str, float] = field(default_factory=dict)
    pinned: frozenset[str] = frozenset()
    pads_shards: bool = False
    runs: Mapping[str, tuple[frozenset[int], ...]] = field(default_factory=dict)
    vendors: tuple[str, ...] = ()
    encoder_data_parallel: bool = False
    own_range: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raise `InputError` where no hardware is on offer, an axis is empty, a degree is no whole number from 1, or
        there are too many candidates.
        """
        if not self.devices:
            raise InputError("search: no hardware on offer; name at least one device or node")
        for axis in AXES[1:]:
            values = getattr(self, axis)
            if not values:
                raise InputError(f"search: axis {axis} is empty; give it at least one value")
            bad = [v for v in values if axis in DEGREE_AXES and not _is_degree(v)]
            if bad:
                raise InputError(f"search: {axis} = {bad[0]:g} is no degree of parallelism; give whole numbers from 1")
        if self.size > MOST_CANDIDATES:
            longest = max(AXES[1:], key=lambda axis: len(getattr(self, axis)))
            raise InputError(
                f"search: {self.size:,} combinations are more than the {MOST_CANDIDATES:,} that can be tried; "
                f"give fewer values per axis ({longest} has {len(getattr(self, longest)):,})"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the number of values on each axis, in the order of `AXES`."""
        return (len(self.devices), *(len(getattr(self, axis)) for axis in AXES[1:]))

    @property
    def size(self) -> int:
        """Return the number of candidates before any rule."""
        return math.prod(self.shape)

    def columns(self, index: Index) -> dict[str, Array]:
        """Return the values of the candidates `index` (N,), one column (N,) per axis.

        `ep` has `WHOLE_GROUP` replaced by tp x dp; `ep_requested` keeps it.
        """
        picks = np.unravel_index(index, self.shape)
        out: dict[str, Any] = {"device": picks[0]}
        for axis, pick in zip(AXES[1:], picks[1:], strict=True):
            out[axis] = np.asarray(getattr(self, axis))[pick]
        out["ep_requested"] = np.asarray(out["ep"], dtype=float)
        whole_group = np.isinf(out["ep_requested"])
        out["ep"] = np.where(whole_group, out["tp"] * out["dp"], out["ep"]).astype(float)
        return out

    def deployments(self, index: Index) -> Deployments:
        """Return the candidates `index` (N,) as deployments of one replica each.

        `device` of a deployment is a position in `self.devices`.
        """
        columns: dict[str, Any] = self.columns(index)
        columns.pop("ep_requested")
        typed = {a: np.asarray(c, dtype=np.intp if a in CODE_AXES else float) for a, c in columns.items()}
        return Deployments(
            devices=self.devices,
            replicas=np.ones(len(index)),
            host=self.host,
            adapters=self.adapters,
            hand_over=self.hand_over,
            routing=self.routing,
            speculation=self.speculation,
            **typed,
        )

    @property
    def rule_context(self) -> RuleContext:
        """Return what the rules read besides the candidates: the model, and nodes, network and stock by device type."""
        domain = [self.domain.get(d.name, float(d.link.peers or 1)) for d in self.devices]
        return RuleContext(
            model=self.model,
            names=tuple(d.name for d in self.devices),
            domain=np.maximum(np.array(domain, dtype=float), 1.0),
            network=np.array([d.net.bandwidth for d in self.devices]),
            stock=np.array([self.stock.get(d.name, np.inf) for d in self.devices], dtype=float),
            pads_shards=self.pads_shards,
            runs=self.runs,
            engine_runs=np.array([not self.vendors or d.vendor in self.vendors for d in self.devices], dtype=bool),
            vendors=self.vendors,
            idle=np.ones(0) if np.isnan(self.power_cap).all() else idle_watts(self.devices),
            encoder_data_parallel=self.encoder_data_parallel,
            redundant=self.routing.redundant,
        )

    def legal(self) -> Legal:
        """Apply every rule; return the candidates that pass all, with the count that each rule removed.

        Raises:
            InputError: no candidate is left; the message gives the numbers of the rules that removed most.
        """
        context = self.rule_context
        index = np.arange(self.size)
        removed: dict[str, int] = {}
        example: dict[str, str] = {}
        refused: dict[str, str] = {}
        for rule in RULES:
            columns: Columns = self.columns(index)
            keep = np.broadcast_to(rule.allows(context, columns), index.shape)
            removed[rule.name] = int((~keep).sum())
            if removed[rule.name]:
                example[rule.name] = rule.says(context, first_row(columns, ~keep))
                refused |= _without(context, rule, columns, keep)
            index = index[keep]
        index = index[self._worth_trying(self.columns(index), context.domain)] if self.own_range else index
        if not len(index):
            raise InputError(self._nothing_left(removed, example))
        return Legal(space=self, index=index, removed=removed, example=example, refused=refused)

    def _worth_trying(self, columns: Columns, domain: Array) -> Mask:
        """Return True for combinations of the search's own degrees that are worth their time, (N,).

        Expert parallelism over a part of a group pays, if at all, inside a node and without a pipeline: it saves
        traffic that is cheap there. Wide attention data parallelism takes the place of a pipeline.
        """
        out = np.ones(len(columns["tp"]), dtype=bool)
        group, asked = columns["tp"] * columns["dp"], columns["ep_requested"]
        if "ep" in self.own_range:
            part = np.isfinite(asked) & (asked > 1)
            inside = (columns["pp"] == 1) & (group <= domain[np.asarray(columns["device"], dtype=np.intp)])
            out &= ~part | (inside & (asked < group))
        if "dp" in self.own_range:
            out &= (columns["dp"] <= MAX_OWN_DP_IN_PIPELINE) | (columns["pp"] == 1)
        return np.asarray(out, dtype=bool)

    def _nothing_left(self, removed: Mapping[str, int], example: Mapping[str, str]) -> str:
        """Say that no candidate is legal, which axes the user set, and which rules removed most, with examples."""
        by_count = sorted((n for n in removed if removed[n] and n != "same"), key=lambda n: -removed[n])
        reasons = "; ".join(example[n] for n in by_count[:REASONS_TOLD])
        pinned = [f"{a} = {', '.join(_words(a, v) for v in getattr(self, a))}" for a in AXES[1:] if a in self.pinned]
        given = f" with {', '.join(pinned)}" if pinned else ""
        return f"no deployment of {self.model.name}{given} is possible: {reasons}"


def _words(axis: str, value: float) -> str:
    """Return a value of an axis as a scenario spells it: formats by their names, amounts as numbers."""
    names = _NAMES.get(axis, ())
    return (names[int(value)] if value >= 0 else "the model's own") if names else f"{value:g}"


def _without(context: RuleContext, rule: Rule, columns: Columns, keep: Mask) -> dict[str, str]:
    """Return the devices of which a rule leaves no candidate, each with what the rule says of one. keep: (N,)."""
    devices = np.asarray(columns["device"], dtype=np.intp)
    gone = set(devices[~keep].tolist()) - set(devices[keep].tolist())
    return {context.names[at]: rule.says(context, first_row(columns, devices == at)) for at in sorted(gone)}


def _is_degree(value: float) -> bool:
    """Return True for a whole number of 1 or more, and for `WHOLE_GROUP`."""
    return value >= 1 and (value == WHOLE_GROUP or value == int(value))


@dataclass(frozen=True)
class Legal:
    """The legal candidates of a space.

    index: (N,) their numbers in the space. removed: rule name -> number of candidates that it removed. example: rule
    name -> one candidate that it removed, in words. refused: device of which no candidate is left -> why its last ones
    are not legal.
    """

    space: SearchSpace
    index: Index
    removed: Mapping[str, int]
    example: Mapping[str, str]
    refused: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.index)

    def deployments(self, rows: Index | slice = slice(None)) -> Deployments:
        """Return the legal candidates at positions `rows` of `index` as deployments of one replica each."""
        return self.space.deployments(self.index[rows])

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat record per rule that removed anything: its name, how many it removed, and an example."""
        return [{"rule": n, "removed": c, "example": self.example.get(n, "")} for n, c in self.removed.items() if c]
