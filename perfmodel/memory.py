"""What lies in a device's memory, and how many sequences fit beside the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.demand import Array
from perfmodel.dtypes import storage
from perfmodel.enginefile import Engine
from perfmodel.hardware import Hardware
from perfmodel.layout import Layout
from perfmodel.models import index_bytes

#: Bytes of activations a token and value of the widest layer: input, normed input, both up-projections and product in
#: 16 bit, of which half live at once.
_ACTIVATION_BYTES = 5.0
_LOGIT_BYTES = 4.0
GB = 1e9


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest device of each candidate, (N,); `room` is what KV caches and states may take.

    capacity: rated. usable: what the engine allows itself. seqs: sequences that fit on one replica at the mean
    length (NaN where the device's capacity is unknown). sequence: bytes a device a sequence.
    """

    capacity: Array
    usable: Array
    weights: Array
    activations: Array
    reserve: Array
    sequence: Array
    room: Array
    seqs: Array

    @property
    def fits(self) -> np.ndarray:
        """Whether the weights leave room for at least one sequence. (N,)"""
        return self.seqs >= 1.0

    def room_for(self) -> Array:
        """Sequences to reckon with: what fits; where nothing fits, as many as are asked for, as if it did. (N,)"""
        return np.where(self.fits, self.seqs, np.inf)

    def used(self, running: Array) -> Array:
        """Bytes a device with `running` sequences on the replica. (N,)"""
        held = running / np.maximum(self.seqs, 1.0)
        return self.weights + self.activations + self.reserve + np.where(self.fits, held * self.room, self.sequence)

    def reasons(self) -> np.ndarray:
        """Why each candidate does not fit, empty where it does. (N,) of text"""
        out = np.full(len(self.capacity), "", dtype=object)
        for row in np.flatnonzero(~self.fits).tolist():
            out[row] = self.reason(row)
        return out

    def reason(self, row: int) -> str:
        """Why candidate `row` does not fit, in GB; empty when it does."""
        if self.fits[row]:
            return ""
        weights, beside, usable = (
            self.weights[row] / GB,
            (self.activations + self.reserve)[row] / GB,
            self.usable[row] / GB,
        )
        if usable != usable:
            return "the device's memory capacity is not known"
        text = f"weights {weights:.1f} GB + activations and reserve {beside:.1f} GB"
        if weights + beside >= usable:
            return f"{text} exceed the {usable:.1f} GB usable of {self.capacity[row] / GB:.0f} GB a device"
        return (
            f"{text} leave {self.room[row] / GB:.2f} GB of {usable:.1f} GB, "
            f"less than one sequence's KV cache of {self.sequence[row] / GB:.2f} GB"
        )


def weights_per_device(lay: Layout) -> Array:
    """Bytes of weights on the fullest device. (N,)

    Stages hold ceil(layers / PP) layers; the embedding and the LM head sit on the first and the last. Attention data
    parallelism replicates the dense parts and spreads routed experts over all its devices.
    """
    model = lay.model
    layers = np.zeros_like(lay.tp)
    for block in model.blocks:
        per_layer = np.zeros_like(lay.tp)
        kv_heads = block.mixer.kv_heads if block.mixer else 1
        for p in block.projections(model.hidden):
            cut = {"column": lay.tp, "row": lay.tp, "kv": np.minimum(lay.tp, kv_heads)}.get(p.shard, 1.0)
            per_layer = per_layer + p.parameters / cut * lay.weight_bytes(p.part, p.gemm)
        if block.mlp and block.mlp.experts:
            routed = block.mlp.experts * block.mlp.expert_parameters(model.hidden)
            spread = np.maximum(lay.group, lay.ep)
            per_layer = per_layer + routed / spread * lay.weight_bytes("experts")
        layers = layers + block.count * per_layer
    stage = np.ceil(model.layers / lay.pp) / model.layers
    table = model.vocab * model.hidden / lay.tp
    embedding, head = table * lay.weight_bytes("embedding"), table * lay.weight_bytes("lm_head")
    ends = np.where(lay.pp > 1, np.maximum(embedding, head), embedding + (0.0 if model.tied else head))
    other = model.weight_bytes()["other"]
    return layers * stage + ends + other / lay.tp / lay.pp


def sequence_bytes(lay: Layout, context: Array | float) -> Array:
    """KV cache and recurrent state of one sequence of `context` tokens on one device. (C, N) or (N,)"""
    context = np.asarray(context, float)
    total = np.zeros(np.broadcast_shapes(context.shape, lay.tp.shape))
    state = storage(lay.model.state_format).bytes
    for block in lay.model.blocks:
        mixer = block.mixer
        if mixer is None:
            continue
        shards = np.ones_like(lay.tp) if mixer.kind == "mla" else np.minimum(lay.tp, max(mixer.kv_heads, 1))
        index = context / max(mixer.compress, 1) * index_bytes(mixer, lay.kv_bytes)
        cached = mixer.stored(context) * mixer.kv_values * lay.kv_bytes / shards + index
        recurrent = (mixer.recurrent_values * state + mixer.conv_values * 2.0) / lay.tp
        total = total + block.count * (cached + recurrent)
    return total * np.ceil(lay.model.layers / lay.pp) / lay.model.layers / lay.sp


def activation_bytes(lay: Layout, tokens: Array, logits: Array) -> Array:
    """Peak activations of a pass of `tokens`, and float32 logits of `logits` rows. (N,)"""
    model = lay.model
    width = np.full_like(lay.tp, float(model.hidden) * 2.0)
    for block in model.blocks:
        if block.mlp:
            inner = block.mlp.intermediate * (block.mlp.top_k if block.mlp.experts else 1.0)
            width = np.maximum(width, model.hidden + inner / lay.tp)
    return tokens * width * _ACTIVATION_BYTES + logits * model.vocab / lay.tp * _LOGIT_BYTES


def memory(
    lay: Layout, hardware: Hardware, engine: Engine, *, fraction: Array, tokens: Array, context: Array
) -> Memory:
    """Memory of each candidate: `fraction` of the device usable, `tokens` a step, sequences of mean length `context`.

    fraction follows the engine's rule: of the whole device (`total`, `static`), or of what weights and activations
    leave (`free`). All (N,).
    """
    weights = weights_per_device(lay)
    activations = activation_bytes(lay, tokens / lay.dp, np.minimum(tokens, 256.0) / lay.dp)
    reserve = np.full_like(weights, np.nan_to_num(engine.reserve_bytes))
    if engine.memory_rule == "free":
        room = (hardware.memory - weights - activations - reserve) * fraction
        usable = hardware.memory
    else:
        usable = hardware.memory * fraction
        beside = activations if engine.memory_rule == "total" else np.zeros_like(activations)
        room = usable - weights - beside - reserve
    block = np.nan_to_num(engine.kv_block, nan=1.0)
    held = np.ceil(context / max(block, 1.0)) * max(block, 1.0) if block > 1 else context
    sequence = sequence_bytes(lay, held)
    seqs = np.floor(np.maximum(room, 0.0) / sequence) * lay.dp
    return Memory(hardware.memory, usable, weights, activations, reserve, sequence, room, seqs)
