"""Count the bytes of weights per device."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Sharding, adapter_bytes


def weights_per_device(sharding: Sharding) -> Array:
    """Return the bytes of weights on the fullest device, without those in host memory. (N,)"""
    return sharding.remembered("weights", lambda: _weights(sharding))


def _weights(sharding: Sharding) -> Array:
    """Count the bytes of `weights_per_device`."""
    model = sharding.model
    table = model.vocab * model.hidden / sharding.tp
    embedding, head = table * sharding.weight_bytes("embedding"), table * sharding.weight_bytes("lm_head")
    # the embedding sits on the first stage, the LM head on the last
    ends = np.where(sharding.pp > 1, np.maximum(embedding, head), embedding + (0.0 if model.tied else head))
    bytes_of = model.weight_bytes()
    other, encoders = bytes_of["other"], bytes_of.get("encoders", 0.0)
    layers = _layers(sharding, 1.0 - sharding.hosted("weights"), 1.0 - sharding.hosted("experts"))
    split = np.where(
        model.encoder_heads % sharding.tp, 1.0, sharding.tp
    )  # heads that TP does not divide: data parallel
    return layers + ends + other / sharding.tp / sharding.pp + encoders / split + drafter_weights(sharding)


def drafter_weights(sharding: Sharding) -> Array:
    """Return the bytes of the model that drafts tokens, on one device; 0 where there are no drafts. (N,)

    An MTP layer and a head of EAGLE look tokens up in the model's own embedding. An MTP layer has the model's LM head
    too; EAGLE's, too, where its vocabulary is the model's.
    """
    drafter = sharding.drafter
    if drafter is None or sharding.drafts is None:
        return np.zeros_like(sharding.tp)
    own_layers = drafter.model.layers > 1
    head = drafter.model.vocab * drafter.model.hidden / drafter.tp * drafter.weight_bytes("lm_head")
    own_head = head if drafter.model.vocab != sharding.model.vocab else 0.0
    held = weights_per_device(drafter) if own_layers else _layers(drafter, 1.0, 1.0) + own_head
    return np.where(sharding.drafts > 0, held, 0.0)


def weights_in_host(sharding: Sharding) -> Array:
    """Return the bytes of weights in host memory behind the fullest device, (N,).

    Engines offload layers only, not embeddings.
    """
    return _layers(sharding, sharding.hosted("weights"), sharding.hosted("experts"))


def _layers(sharding: Sharding, kept: Array | float, experts: Array | float) -> Array:
    """Return the bytes of the layers of the fullest pipeline stage on one device. (N,)

    kept: share to count of all weights but the routed experts'; experts: share to count of the routed experts' weights.
    Stages hold ceil(layers / PP) layers. Attention data parallelism replicates dense weights and spreads routed experts
    over all its devices; copies of popular experts count too.
    """
    model = sharding.model
    layers = np.zeros_like(sharding.tp)
    for block in model.blocks:
        per_layer = np.zeros_like(sharding.tp)
        kv_heads = block.mixer.kv_heads if block.mixer else 1
        for p in block.projections(model.hidden):
            cut = sharding.tp if p.shard == "row" else sharding.output_split(p.shard, kv_heads)
            per_layer = per_layer + p.parameters / cut * sharding.weight_bytes(p.part, p.gemm) * kept
        if block.mlp and block.mlp.experts:
            slots = sharding.routing.slots(block.mlp.experts)
            routed = slots * block.mlp.expert_parameters(model.hidden)
            spread = np.maximum(sharding.group, sharding.ep)
            per_layer = per_layer + routed / spread * sharding.weight_bytes("experts") * experts
        layers = layers + block.count * per_layer
    stage = np.ceil(model.layers / sharding.pp) / model.layers
    return layers * stage


def adapters_held(sharding: Sharding) -> Array:
    """Return the bytes of the low-rank adapters that are resident on one device. (N,)"""
    return np.zeros_like(sharding.tp) if sharding.adapters is None else sharding.adapters.held * adapter_bytes(sharding)
