"""Bytes of weights per device."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment.adapters import adapter_bytes
from perfmodel.deployment.sharding import Layout


def weights_per_device(lay: Layout) -> Array:
    """Bytes of weights on the fullest device, what lies in host memory left out. (N,)"""
    model = lay.model
    table = model.vocab * model.hidden / lay.tp
    embedding, head = table * lay.weight_bytes("embedding"), table * lay.weight_bytes("lm_head")
    # the embedding sits on the first stage, the LM head on the last
    ends = np.where(lay.pp > 1, np.maximum(embedding, head), embedding + (0.0 if model.tied else head))
    other = model.weight_bytes()["other"]
    layers = _layers(lay, 1.0 - lay.hosted("weights"), 1.0 - lay.hosted("experts"))
    return layers + ends + other / lay.tp / lay.pp


def weights_in_host(lay: Layout) -> Array:
    """Bytes of weights in host memory behind the fullest device: of layers only, as engines offload them. (N,)"""
    return _layers(lay, lay.hosted("weights"), lay.hosted("experts"))


def _layers(lay: Layout, kept: Array | float, experts: Array | float) -> Array:
    """Bytes of the layers of the fullest stage on one device, of which shares are kept.

    Stages hold ceil(layers / PP) layers. Attention data parallelism replicates the dense parts and spreads routed
    experts over all its devices.
    """
    model = lay.model
    layers = np.zeros_like(lay.tp)
    for block in model.blocks:
        per_layer = np.zeros_like(lay.tp)
        kv_heads = block.mixer.kv_heads if block.mixer else 1
        for p in block.projections(model.hidden):
            cut = {"column": lay.tp, "row": lay.tp, "kv": np.minimum(lay.tp, kv_heads)}.get(p.shard, 1.0)
            per_layer = per_layer + p.parameters / cut * lay.weight_bytes(p.part, p.gemm) * kept
        if block.mlp and block.mlp.experts:
            routed = block.mlp.experts * block.mlp.expert_parameters(model.hidden)
            spread = np.maximum(lay.group, lay.ep)
            per_layer = per_layer + routed / spread * lay.weight_bytes("experts") * experts
        layers = layers + block.count * per_layer
    stage = np.ceil(model.layers / lay.pp) / model.layers
    return layers * stage


def adapters_held(lay: Layout) -> Array:
    """Bytes of the low-rank adapters that one device holds. (N,)"""
    return np.zeros_like(lay.tp) if lay.adapters is None else lay.adapters.held * adapter_bytes(lay)
