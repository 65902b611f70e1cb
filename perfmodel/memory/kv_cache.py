"""Count the bytes of KV cache and recurrent state per sequence."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.dtypes import storage
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.models import Mixer, index_bytes


def sequence_bytes(sharding: Sharding, context: Array | float, kept: Array | float = 1.0) -> Array:
    """Return the bytes of KV cache and recurrent state of one sequence on one device, (C, N) or (N,).

    context: tokens of the sequence.

    kept: share of the cache that counts: 1 for all of it, wherever it lies (what a transfer between devices moves).
    KV heads are split by TP up to their number, the latent of MLA is not; layers by PP (the fullest stage counts),
    positions by context parallelism and by KV parallelism (kvp), which takes devices of TP from the heads.
    """
    context = np.asarray(context, float)
    total = np.zeros(np.broadcast_shapes(context.shape, sharding.tp.shape))
    state = storage(sharding.model.state_format).bytes
    for block in sharding.model.blocks:
        mixer = block.mixer
        if mixer is None:
            continue
        shards = cache_shards(sharding, mixer)
        index = context / max(mixer.compress, 1) * index_bytes(mixer, sharding.kv_bytes)
        cached = mixer.stored(context) * mixer.kv_values * sharding.kv_bytes / shards + index / sharding.kvp
        recurrent = (mixer.recurrent_values * state + mixer.conv_values * SIXTEEN_BIT) / sharding.tp
        total = total + block.count * (cached * kept + recurrent)
    return np.asarray(total * np.ceil(sharding.model.layers / sharding.pp) / sharding.model.layers / sharding.cp)


def cache_shards(sharding: Sharding, mixer: Mixer) -> Array:
    """Return the number of devices of a tensor-parallel group that split the KV cache of a layer. (N,)"""
    return np.asarray(mixer.kv_shards(sharding.attention_tp) * sharding.kvp)
