"""Determine the number formats and shards of each candidate, by part of the model, as columns (N,)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from perfmodel.arrays import Array, Index, Mask, different
from perfmodel.deployment.columns import Deployments
from perfmodel.deployment.offload import Hosted, HostHabits, check_experts, hosted
from perfmodel.deployment.routing import ExpertRouting
from perfmodel.deployment.speculation import check_drafts
from perfmodel.dtypes import (
    COMPUTE_BYTES,
    COMPUTE_CODE,
    FORMAT_BYTES,
    FORMAT_CODE,
    FORMAT_COMPUTE,
    FORMAT_NAMES,
    storage,
)
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.models import Adapters, ModelSpec, check_rank, leaves_mtp_out

_SIXTEEN, _EIGHT = COMPUTE_CODE["bf16"], COMPUTE_CODE["fp8"]
_MXFP4 = FORMAT_CODE["mxfp4"]
_FOUR_BIT_FLOAT = np.isin(FORMAT_NAMES, ("fp4", "mxfp4"))
_LEAVES_MTP_OUT = np.array([leaves_mtp_out(name) for name in FORMAT_NAMES])
#: Weights of at most this many times the bytes of an activation count as no wider than it. Chosen: above what scales
#: add to a format (12.5 % to NVFP4 and int4_g32, 6 % to q8_0; see `perfmodel.dtypes`), below the next width.
SCALES_ALLOWANCE = 1.2

#: Columns of a sharding, (N,) each.
COLUMNS = ("tp", "pp", "ep", "dp", "cp", "kvp", "cp_method", "asked", "act", "kv_bytes", "narrow", "library")


@dataclass(frozen=True)
class Sharding:
    """Describe how the candidates split and store one model, (N,); operators and memory both use it.

    tp, pp, ep, dp, cp, kvp: degrees of tensor, pipeline, expert, attention-data, context and KV parallelism. cp_method:
    code of how context parallelism exchanges keys (`perfmodel.deployment.CP_METHODS`). asked, act: weight-format and
    compute-type codes asked for, -1 for the model's own. kv_bytes: bytes per KV value. narrow: whether the device
    multiplies 4-bit floats. MXFP4 weights then meet 8-bit activations where none are asked for (TensorRT-LLM and
    FlashInfer run gpt-oss as w4a8 on Blackwell); elsewhere kernels unpack weights of 4-bit floats to 16 bits, whatever
    activations are asked for (vLLM marlin_utils.py: with 8-bit ones they were slower on Hopper and are refused).
    library: whether a library's collectives take tokens to their experts, where nothing else is asked for. host: what
    lies in host memory, None where nothing does. adapters: low-rank adapters, None without. routing: settings of expert
    parallelism. drafts: draft tokens per sequence and step, (N,), None without speculative decoding. drafter: the same
    of the model that drafts, None where none does. draft_method: how, one of `METHODS`, "" without.
    """

    model: ModelSpec
    tp: Array
    pp: Array
    ep: Array
    dp: Array
    cp: Array
    kvp: Array
    cp_method: Index
    asked: Index
    act: Index
    kv_bytes: Array
    narrow: Mask
    library: Mask
    host: Hosted | None = None
    adapters: Adapters | None = None
    routing: ExpertRouting = field(default_factory=ExpertRouting)
    drafts: Array | None = None
    drafter: Sharding | None = None
    draft_method: str = ""
    _formats: dict[tuple[str, str], Index] = field(default_factory=dict, repr=False, compare=False)
    _computes: dict[tuple[str, str], Index] = field(default_factory=dict, repr=False, compare=False)
    _columns: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def columns(self) -> dict[str, Array | Index | Mask]:
        """Return the columns that tell the candidates apart, by name, (N,) each; not what lies in host memory."""
        return {c: getattr(self, c) for c in COLUMNS}

    def take(self, rows: Index) -> Sharding:
        """Return the candidates at positions `rows`."""
        columns: dict[str, Any] = {c: v[rows] for c, v in self.columns.items()}
        columns["host"] = None if self.host is None else self.host.take(rows)
        columns["drafts"] = None if self.drafts is None else self.drafts[rows]
        columns["drafter"] = None if self.drafter is None else self.drafter.take(rows)
        return replace(self, **_unknown(), **columns)

    def remembered(self, name: str, compute: Callable[[], Array]) -> Array:
        """Return a column that follows from the sharding alone, by its name; `compute` is called for it once."""
        if name not in self._columns:
            self._columns[name] = compute()
        return self._columns[name]

    @property
    def group(self) -> Array:
        """Return the number of devices that share a layer. (N,)"""
        return self.tp * self.dp

    @property
    def is_parallel(self) -> Mask:
        """Return where a replica has more than one device, pipeline stages included. (N,)"""
        return np.asarray(self.group * self.pp > 1)

    @property
    def attention_tp(self) -> Array:
        """Return the number of devices that split the heads of attention in decode: the others split positions. (N,)"""
        return np.maximum(self.tp / self.kvp, 1.0)

    @property
    def experts_tp(self) -> Array:
        """Return the number of devices that split each routed expert. (N,)"""
        return np.maximum(self.group / self.ep, 1.0)

    @cached_property
    def _stored(self) -> tuple[list[ModelSpec], Index]:
        """Return the model in each format that is asked for, and which of these each candidate has, (N,)."""
        first, where = different(self.asked)
        codes = self.asked[first].tolist()
        return [self.model if c < 0 else self.model.with_weights(FORMAT_NAMES[c]) for c in codes], where

    def weight(self, part: str, gemm: str = "") -> Index:
        """Return the storage-format codes of the matrix `gemm` of a `part` of the model. (N,)"""
        key = (part, gemm)
        if key not in self._formats:
            specs, where = self._stored
            each = np.array([FORMAT_CODE[s.format_of(part, gemm).name] for s in specs], dtype=np.intp)
            self._formats[key] = each[where]
        return self._formats[key]

    def output_split(self, shard: str, kv_heads: int) -> Array:
        """Return the number of devices that split the outputs of a matrix. (N,)

        shard: how TP shards it (`perfmodel.models.Projection`): column by TP; kv by TP up to the KV heads, with copies
        beyond; row and replicated not at all.
        """
        ways = {"column": self.tp, "kv": np.minimum(self.tp, kv_heads)}
        return ways.get(shard, np.ones_like(self.tp))

    def weight_bytes(self, part: str, gemm: str = "") -> Array:
        """Return the bytes per stored weight of the matrix `gemm` of a `part` of the model. (N,)"""
        return FORMAT_BYTES[self.weight(part, gemm)]

    def compute(self, part: str, gemm: str = "") -> Index:
        """Return the compute-type codes of the GEMMs with weights of `part`. (N,)"""
        key = (part, gemm)
        if key not in self._computes:
            weight = self.weight(part, gemm)
            act = np.where(self.narrow & (weight == _MXFP4) & (self.act < 0), _EIGHT, self.act)
            unpacked = ~self.narrow & _FOUR_BIT_FLOAT[weight] & (act >= 0) & (COMPUTE_BYTES[act] < SIXTEEN_BIT)
            self._computes[key] = _compute(weight, np.where(unpacked, _SIXTEEN, act))
        return self._computes[key]

    @cached_property
    def sixteen(self) -> Index:
        """Return the compute-type codes of what is never quantised (bf16): attention products, norms, routing. (N,)"""
        return np.full(self.tp.shape, _SIXTEEN)

    def hosted(self, what: str) -> Array | float:
        """Return the share (0 to 1) of `what` (weights, experts or kv) that lies in host memory. (N,)"""
        return 0.0 if self.host is None else np.asarray(getattr(self.host, what))


def _unknown() -> dict[str, Any]:
    """Return the fields of a sharding of which nothing was computed yet."""
    return {"_formats": {}, "_computes": {}, "_columns": {}}


def shard(
    model: ModelSpec,
    deployments: Deployments,
    library: bool = False,
    gguf: bool = False,
    habits: HostHabits = HostHabits(),
) -> Sharding:
    """Determine the formats and shards of `model` under each of the deployments.

    library: whether the engine's default reaches experts on other nodes by a library's collectives. gguf: whether the
    engine reads files of llama.cpp (`ModelSpec.in_gguf`). habits: what it does with what lies in host memory.

    Raises:
        InputError: adapters whose rank exceeds the model's width or that target layers it lacks; shares in host memory
            outside 0 to 1, or of experts where it has none; a host of which a needed quantity is unknown.
    """
    check_experts(deployments, model)
    if deployments.adapters is not None:
        check_rank(deployments.adapters, model)
    own_kv = FORMAT_CODE[storage(model.kv_format).name]
    kv = np.where(deployments.kv < 0, own_kv, deployments.kv)
    whole = Sharding(
        model=model.in_gguf() if gguf else model,
        tp=deployments.tp,
        pp=deployments.pp,
        ep=deployments.ep,
        dp=deployments.dp,
        cp=deployments.cp,
        kvp=deployments.kvp,
        cp_method=deployments.cp_method,
        asked=deployments.weight,
        act=deployments.act,
        kv_bytes=FORMAT_BYTES[kv],
        narrow=np.array([np.isfinite(d.peak("fp4")) for d in deployments.devices])[deployments.device],
        library=library & (deployments.ep > np.array([d.link.peers for d in deployments.devices])[deployments.device]),
        host=hosted(deployments, habits),
        adapters=deployments.adapters,
        routing=deployments.routing,
    )
    return _with_drafter(whole, deployments) if np.any(deployments.drafts > 0) else whole


def _with_drafter(sharding: Sharding, deployments: Deployments) -> Sharding:
    """Return the sharding with drafts, and with the model that drafts.

    That runs on the devices of the last pipeline stage, split as the model is. Weights of an MTP layer have the format
    that is asked for, or 16 bit where a checkpoint in that format leaves the layer out; a head or a draft model keeps
    its own.
    """
    check_drafts(deployments.drafts, deployments.speculation)
    model = deployments.speculation.drafter(sharding.model)
    if model is None:
        return replace(sharding, drafts=deployments.drafts, draft_method=deployments.speculation.method, **_unknown())
    own = np.full_like(sharding.asked, -1)
    if deployments.speculation.method == "mtp":
        own = np.where((sharding.asked >= 0) & _LEAVES_MTP_OUT[sharding.asked], FORMAT_CODE["bf16"], sharding.asked)
    one = np.ones_like(sharding.pp)
    drafter = replace(
        sharding,
        model=model,
        pp=one,
        kvp=one,
        asked=own,
        act=np.full_like(own, -1),
        host=None,
        adapters=None,
        **_unknown(),
    )
    method = deployments.speculation.method
    return replace(sharding, drafts=deployments.drafts, drafter=drafter, draft_method=method, **_unknown())


def _compute(weight: Index, act: Index) -> Index:
    """Return the compute-type codes of GEMMs: what the weight format asks for, or `act` if it is set and possible.

    (N,)

    An `act` at least as wide as the format's own type is used (weight-only kernels). A narrower `act` is used only
    where the weights are as narrow, so it has no effect on 16-bit weights.
    """
    own = FORMAT_COMPUTE[weight]
    by_weight = np.where(own < 0, _SIXTEEN, own)
    given = np.where(act < 0, by_weight, act)
    wider = COMPUTE_BYTES[given] >= COMPUTE_BYTES[by_weight]
    narrow_weights = FORMAT_BYTES[weight] <= COMPUTE_BYTES[given] * SCALES_ALLOWANCE
    return np.where(wider | narrow_weights, given, by_weight)
