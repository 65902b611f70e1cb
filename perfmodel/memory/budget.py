"""What lies in a device's memory, and how many sequences fit beside the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Sharding, adapter_bytes
from perfmodel.engines import Engine
from perfmodel.hardware import Hardware
from perfmodel.memory.kv_cache import sequence_bytes
from perfmodel.memory.weights import adapters_held, weights_in_host, weights_per_device

#: Bytes of activations a token and value of the widest layer: input, normed input, both up-projections and product in
#: 16 bit, of which half live at once.
_ACTIVATION_BYTES = 5.0
_LOGIT_BYTES = 4.0
GB = 1e9


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest device of each candidate, (N,); `room` is what KV caches and states may take.

    capacity: rated. usable: what the engine allows itself. seqs: sequences that fit on one replica at the mean
    length (NaN where the device's capacity is unknown). sequence: bytes a device a sequence. adapters: low-rank
    adapters held. Of a device's share of host memory: host_capacity (NaN where unknown, which bounds nothing),
    host_fixed: weights and adapters in it, host_sequence: bytes a sequence.
    """

    capacity: Array
    usable: Array
    weights: Array
    activations: Array
    reserve: Array
    sequence: Array
    room: Array
    seqs: Array
    adapters: Array
    host_capacity: Array
    host_fixed: Array
    host_sequence: Array

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
        fixed = self.weights + self.adapters + self.activations + self.reserve
        return fixed + np.where(self.fits, held * self.room, self.sequence)

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
        weights, adapters, beside, usable = (
            self.weights[row] / GB,
            self.adapters[row] / GB,
            (self.activations + self.reserve)[row] / GB,
            self.usable[row] / GB,
        )
        if usable != usable:
            return "the device's memory capacity is not known"
        if self.host_fixed[row] + self.host_sequence[row] > self.host_capacity[row]:
            return self._host_reason(row)
        held = f" + adapters {adapters:.1f} GB" if adapters else ""
        text = f"weights {weights:.1f} GB{held} + activations and reserve {beside:.1f} GB"
        if weights + adapters + beside >= usable:
            return f"{text} exceed the {usable:.1f} GB usable of {self.capacity[row] / GB:.0f} GB a device"
        return (
            f"{text} leave {self.room[row] / GB:.2f} GB of {usable:.1f} GB, "
            f"less than one sequence's KV cache of {self.sequence[row] / GB:.2f} GB"
        )

    def _host_reason(self, row: int) -> str:
        fixed, each = self.host_fixed[row] / GB, self.host_sequence[row] / GB
        room = self.host_capacity[row] / GB
        return f"{fixed:.1f} GB of weights and {each:.2f} GB a sequence exceed {room:.1f} GB of host memory a device"


def activation_bytes(sharding: Sharding, tokens: Array, logits: Array) -> Array:
    """Peak activations of a pass of `tokens`, and float32 logits of `logits` rows. (N,)"""
    model = sharding.model
    width = np.full_like(sharding.tp, float(model.hidden) * 2.0)
    for block in model.blocks:
        if block.mlp:
            inner = block.mlp.intermediate * (block.mlp.top_k if block.mlp.experts else 1.0)
            width = np.maximum(width, model.hidden + inner / sharding.tp)
    return tokens * width * _ACTIVATION_BYTES + logits * model.vocab / sharding.tp * _LOGIT_BYTES


def memory_budget(
    sharding: Sharding, hardware: Hardware, engine: Engine, *, fraction: Array, tokens: Array, context: Array
) -> Memory:
    """Memory of each candidate: `fraction` of the device usable, `tokens` a step, sequences of mean length `context`.

    fraction follows the engine's rule: of the whole device (`total`, `static`), or of what weights and activations
    leave (`free`). All (N,).
    """
    weights, adapters = weights_per_device(sharding), adapters_held(sharding)
    activations = activation_bytes(sharding, tokens / sharding.dp, np.minimum(tokens, 256.0) / sharding.dp)
    reserve = np.full_like(weights, np.nan_to_num(engine.reserve_bytes))
    if engine.memory_rule == "free":
        room = (hardware.memory - weights - adapters - activations - reserve) * fraction
        usable = hardware.memory
    else:
        usable = hardware.memory * fraction
        beside = activations if engine.memory_rule == "total" else np.zeros_like(activations)
        room = usable - weights - adapters - beside - reserve
    block = np.nan_to_num(engine.kv_block, nan=1.0)
    held = np.ceil(context / max(block, 1.0)) * max(block, 1.0) if block > 1 else context
    sequence = sequence_bytes(sharding, held, 1.0 - sharding.hosted("kv"))
    space, fixed, each = _host(sharding, sequence_bytes(sharding, held) - sequence)
    with np.errstate(divide="ignore", invalid="ignore"):
        seqs = np.where(sequence > 0, np.floor(np.maximum(room, 0.0) / sequence), np.where(room > 0, np.inf, 0.0))
        behind = np.where(each > 0, np.floor((space - fixed) / each), np.where(fixed > space, 0.0, np.inf))
    behind = np.where(np.isnan(space), np.inf, np.maximum(behind, 0.0))
    room = np.where(behind < seqs, np.where(np.isfinite(behind), behind, 0.0) * sequence, room)
    return Memory(
        hardware.memory,
        usable,
        weights,
        activations,
        reserve,
        sequence,
        room,
        np.minimum(seqs, behind) * sharding.dp,
        adapters,
        space,
        fixed,
        each,
    )


def _host(sharding: Sharding, sequence: Array) -> tuple[Array, Array, Array]:
    """(capacity, bytes of weights and adapters, bytes a sequence) of a device's share of host memory. (N,)"""
    if sharding.host is None:
        return np.full_like(sharding.tp, np.nan), np.zeros_like(sharding.tp), np.zeros_like(sharding.tp)
    waiting = 0.0 if sharding.adapters is None else sharding.adapters.count - sharding.adapters.held
    return sharding.host.memory, weights_in_host(sharding) + waiting * adapter_bytes(sharding), sequence
