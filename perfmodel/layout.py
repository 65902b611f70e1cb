"""What each candidate stores and multiplies in: formats and shards by part of the model, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.demand import Array
from perfmodel.deployment import Deployments
from perfmodel.dtypes import COMPUTE_BYTES, COMPUTE_CODE, FORMAT_BYTES, FORMAT_CODE, FORMAT_COMPUTE, storage
from perfmodel.models.spec import Mixer, ModelSpec

Codes = NDArray[np.intp]
_EXPERT_ONLY = FORMAT_CODE["mxfp4"]
_SIXTEEN = FORMAT_CODE["bf16"]


@dataclass(frozen=True)
class Layout:
    """Columns (N,) that operators and memory share.

    weight, compute: by part, storage-format and compute-type codes; kv_bytes: bytes a KV value. experts_tp: devices
    that split each expert; group: devices of a replica's layer (tp * dp).
    """

    model: ModelSpec
    tp: Array
    pp: Array
    ep: Array
    dp: Array
    sp: Array
    weight: dict[str, Codes]
    compute: dict[str, Codes]
    kv_bytes: Array

    @property
    def group(self) -> Array:
        """Devices that share a layer. (N,)"""
        return self.tp * self.dp

    @property
    def experts_tp(self) -> Array:
        """Devices that split each routed expert. (N,)"""
        return np.maximum(self.group / self.ep, 1.0)

    def weight_bytes(self, part: str) -> Array:
        """Bytes a stored weight of `part` takes. (N,)"""
        return FORMAT_BYTES[self.weight[part]]

    def act_bytes(self, part: str) -> Array:
        """Bytes an activation takes on the way into a GEMM of `part`. (N,)"""
        return COMPUTE_BYTES[self.compute[part]]

    def kv_shards(self, mixer: Mixer) -> Array:
        """Devices that hold different KV heads of a layer; MLA's latent is replicated. (N,)"""
        return np.ones_like(self.tp) if mixer.kind == "mla" else np.minimum(self.tp, mixer.kv_heads)


def part_format(model: ModelSpec, part: str) -> str:
    """Storage format of a part as published."""
    return model.formats.get(part, model.formats["default"])


def layout(model: ModelSpec, deployments: Deployments) -> Layout:
    """Resolve formats and shards of `model` under each of the deployments."""
    asked = deployments.weight
    weight, compute = {}, {}
    for part in ("attention", "mlp", "experts", "shared", "router", "embedding", "lm_head"):
        own = FORMAT_CODE[storage(part_format(model, part)).name]
        kept = part in model.keep
        chosen = np.where(asked < 0, own, _SIXTEEN if kept else asked)
        # MXFP4 checkpoints quantise the routed experts only (gpt-oss model card, arXiv:2508.10925)
        if model.experts and part != "experts":
            chosen = np.where(asked == _EXPERT_ONLY, _SIXTEEN, chosen)
        weight[part] = chosen
        compute[part] = _compute(chosen, deployments.act)
    kv = np.where(deployments.kv < 0, _SIXTEEN, deployments.kv)
    return Layout(
        model=model, tp=deployments.tp, pp=deployments.pp, ep=deployments.ep, dp=deployments.dp, sp=deployments.sp,
        weight=weight, compute=compute, kv_bytes=FORMAT_BYTES[kv],
    )  # fmt: skip


def _compute(weight: Codes, act: Codes) -> Codes:
    """Compute type of a GEMM: the weights' own where activations are quantised alike, else 16 bit.

    Narrow activations need narrow weights, so an `act` wider than the weights' own type wins (weight-only), and a
    narrower one has no effect on 16-bit weights.
    """
    own = FORMAT_COMPUTE[weight]
    sixteen = COMPUTE_CODE["bf16"]
    by_weight = np.where(own < 0, sixteen, own)
    given = np.where(act < 0, by_weight, act)
    wider = COMPUTE_BYTES[given] >= COMPUTE_BYTES[by_weight]
    narrow_weights = FORMAT_BYTES[weight] <= COMPUTE_BYTES[given] * 1.2
    return np.where(wider | narrow_weights, given, by_weight)
