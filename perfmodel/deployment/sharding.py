"""What each candidate stores and multiplies in: formats and shards by part of the model, as columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Mask
from perfmodel.deployment.columns import Deployments
from perfmodel.deployment.offload import Hosted, check_experts, hosted
from perfmodel.dtypes import (
    COMPUTE_BYTES,
    COMPUTE_CODE,
    FORMAT_BYTES,
    FORMAT_CODE,
    FORMAT_COMPUTE,
    FORMAT_NAMES,
    storage,
)
from perfmodel.models import Adapters, ModelSpec, check_rank

Codes = NDArray[np.intp]
_SIXTEEN, _EIGHT = COMPUTE_CODE["bf16"], COMPUTE_CODE["fp8"]
_MXFP4 = FORMAT_CODE["mxfp4"]


@dataclass(frozen=True)
class Sharding:
    """Columns (N,) that operators and memory share.

    tp, pp, ep, dp, cp: degrees. asked, act: weight format and compute type asked for, -1 the model's own.
    kv_bytes: bytes a KV value. narrow: whether the device multiplies 4-bit floats, so that MXFP4 weights meet 8-bit
    activations (TensorRT-LLM and FlashInfer run gpt-oss as w4a8 on Blackwell) where none are asked for. host: what lies
    in host memory, None where nothing does. adapters: low-rank adapters, None without.
    """

    model: ModelSpec
    tp: Array
    pp: Array
    ep: Array
    dp: Array
    cp: Array
    asked: Codes
    act: Codes
    kv_bytes: Array
    narrow: Mask
    host: Hosted | None = None
    adapters: Adapters | None = None
    _formats: dict[tuple[str, str], Codes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def group(self) -> Array:
        """Devices that share a layer. (N,)"""
        return self.tp * self.dp

    @property
    def experts_tp(self) -> Array:
        """Devices that split each routed expert. (N,)"""
        return np.maximum(self.group / self.ep, 1.0)

    def weight(self, part: str, gemm: str = "") -> Codes:
        """Storage-format codes of a matrix of `part`. (N,)"""
        key = (part, gemm)
        if key not in self._formats:
            codes, where = np.unique(self.asked, return_inverse=True)
            specs = [self.model if c < 0 else self.model.with_weights(FORMAT_NAMES[c]) for c in codes]
            each = np.array([FORMAT_CODE[s.format_of(part, gemm).name] for s in specs], dtype=np.intp)
            self._formats[key] = each[where]
        return self._formats[key]

    def weight_bytes(self, part: str, gemm: str = "") -> Array:
        """Bytes a stored weight takes. (N,)"""
        return FORMAT_BYTES[self.weight(part, gemm)]

    def compute(self, part: str, gemm: str = "") -> Codes:
        """Compute-type codes of GEMMs with weights of `part`. (N,)"""
        weight = self.weight(part, gemm)
        act = np.where(self.narrow & (weight == _MXFP4) & (self.act < 0), _EIGHT, self.act)
        return _compute(weight, act)

    @property
    def sixteen(self) -> Codes:
        """Compute type of what is never quantised: attention products, norms, routing. (N,)"""
        return np.full(self.tp.shape, _SIXTEEN)

    def hosted(self, what: str) -> Array | float:
        """Share of `what` (weights, experts, kv) that lies in host memory. (N,)"""
        return 0.0 if self.host is None else np.asarray(getattr(self.host, what))


def shard(model: ModelSpec, deployments: Deployments) -> Sharding:
    """Resolve formats and shards of `model` under each of the deployments.

    `InputError` for adapters of a rank beyond the model's width or on layers it has not, shares in host memory that are
    none or of experts it has not, and a host of which too little is known.
    """
    check_experts(deployments, model)
    if deployments.adapters is not None:
        check_rank(deployments.adapters, model)
    own_kv = FORMAT_CODE[storage(model.kv_format).name]
    kv = np.where(deployments.kv < 0, own_kv, deployments.kv)
    return Sharding(
        model=model,
        tp=deployments.tp,
        pp=deployments.pp,
        ep=deployments.ep,
        dp=deployments.dp,
        cp=deployments.cp,
        asked=deployments.weight,
        act=deployments.act,
        kv_bytes=FORMAT_BYTES[kv],
        narrow=np.array([np.isfinite(d.peak("fp4")) for d in deployments.devices])[deployments.device],
        host=hosted(deployments),
        adapters=deployments.adapters,
    )


def _compute(weight: Codes, act: Codes) -> Codes:
    """Compute type of a GEMM: the weights' own where activations are quantised alike, else 16 bit.

    Narrow activations need narrow weights, so an `act` wider than the weights' own type wins (weight-only), and a
    narrower one has no effect on 16-bit weights.
    """
    own = FORMAT_COMPUTE[weight]
    by_weight = np.where(own < 0, _SIXTEEN, own)
    given = np.where(act < 0, by_weight, act)
    wider = COMPUTE_BYTES[given] >= COMPUTE_BYTES[by_weight]
    narrow_weights = FORMAT_BYTES[weight] <= COMPUTE_BYTES[given] * 1.2
    return np.where(wider | narrow_weights, given, by_weight)
