"""Budget device memory: weights, activations and reserve, and how many sequences' KV caches fit in the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import NAN, Array, Mask
from perfmodel.deployment import Sharding, adapter_bytes
from perfmodel.engines import Engine
from perfmodel.hardware import Hardware
from perfmodel.memory.kv_cache import sequence_bytes
from perfmodel.memory.pages import paged_bytes
from perfmodel.memory.weights import adapters_held, weights_in_host, weights_per_device
from perfmodel.unit_factors import GB

#: Bytes of activations per token and value of the widest layer: input, normed input, both up-projections and product in
#: 16 bit, of which half live at once.
_ACTIVATION_BYTES = 5.0
#: Bytes of a logit (fp32).
_LOGIT_BYTES = 4.0
#: Sequences whose logits exist at once in a step of engines that do not warm up their sampler; assumed.
_LOGIT_ROWS = 256.0


@dataclass(frozen=True)
class HostMemory:
    """Hold the bytes in one device's share of host memory, (N,).

    capacity: NaN where unknown, in which case it limits nothing. fixed: weights and adapters. sequence: per sequence.
    """

    capacity: Array
    fixed: Array
    sequence: Array

    def sequences(self) -> Array:
        """Return the sequences per rank whose host part fits; infinite where nothing limits them. (N,)"""
        with np.errstate(divide="ignore", invalid="ignore"):
            spare = np.floor((self.capacity - self.fixed) / self.sequence)
            fit = np.where(self.sequence > 0, spare, np.where(self.fixed > self.capacity, 0.0, np.inf))
        return np.where(np.isnan(self.capacity), np.inf, np.maximum(fit, 0.0))


@dataclass(frozen=True)
class Memory:
    """Hold the bytes on the fullest device of each candidate, (N,).

    capacity: rated. usable: what the engine allows itself of it (gpu_memory_utilization).
    weights, adapters (low-rank, resident), activations, reserve: what is taken whatever runs.
    sampler: what warming up the sampler at start takes beyond the activations, and is kept from the KV cache for good.
    kv_capacity: bytes left for KV caches and recurrent states. sequence: bytes per sequence of the mean length.
    held: tokens of such a sequence, in whole KV blocks. kv_tokens: tokens that the KV caches of a replica hold, where
    sequences are that long; in whole blocks of each rank of attention data parallelism.
    seqs: sequences that fit on one replica at the mean length (NaN where the device's capacity is unknown).
    host: what lies in the device's share of host memory.
    """

    capacity: Array
    usable: Array
    weights: Array
    adapters: Array
    activations: Array
    sampler: Array
    reserve: Array
    kv_capacity: Array
    sequence: Array
    held: Array
    kv_tokens: Array
    seqs: Array
    host: HostMemory

    @property
    def fits(self) -> Mask:
        """Return True where at least one sequence fits together with the weights. (N,)"""
        return self.seqs >= 1.0

    def max_sequences(self) -> Array:
        """Return the most sequences per replica that fit. (N,)

        Infinite where none fits, so that the estimate of a deployment that is too small shows what it would do.
        """
        return np.where(self.fits, self.seqs, np.inf)

    def used(self, running: Array) -> Array:
        """Return the bytes in use per device with `running` sequences on the replica. (N,)"""
        held = running / np.maximum(self.seqs, 1.0)
        fixed = self.weights + self.adapters + self.activations + self.sampler + self.reserve
        return fixed + np.where(self.fits, held * self.kv_capacity, self.sequence)

    def reasons(self) -> np.ndarray:
        """Explain why each candidate does not fit, empty where it does. (N,) of text"""
        out = np.full(len(self.capacity), "", dtype=object)
        rows = np.flatnonzero(~self.fits)
        host = self.host.capacity, self.host.fixed, self.host.sequence
        taken = self.weights, self.adapters, self.activations, self.sampler, self.reserve
        figures = np.stack([self.capacity, self.usable, *taken, self.kv_capacity, self.sequence, *host], axis=1)[rows]
        texts: dict[bytes, str] = {}  # many candidates of a search fail with the same figures
        for row, key in zip(rows.tolist(), map(bytes, figures), strict=True):
            out[row] = texts[key] if key in texts else texts.setdefault(key, self.reason(row))
        return out

    def reason(self, row: int) -> str:
        """Explain why candidate `row` does not fit, in GB; empty when it does."""
        if self.fits[row]:
            return ""
        if np.isnan(self.usable[row]):
            return "the device's memory capacity is not known"
        if self.host.fixed[row] + self.host.sequence[row] > self.host.capacity[row]:
            return self._host_reason(row)
        weights, adapters, usable = (x[row] / GB for x in (self.weights, self.adapters, self.usable))
        beside = (self.activations + self.sampler + self.reserve)[row] / GB
        held = f" + adapters {adapters:.1f} GB" if adapters else ""
        sampler = f", sampler warm-up {self.sampler[row] / GB:.1f} GB" if self.sampler[row] else ""
        text = f"weights {weights:.1f} GB{held} + activations{sampler} and reserve {beside:.1f} GB"
        if weights + adapters + beside >= usable:
            return f"{text} exceed the {usable:.1f} GB usable of {self.capacity[row] / GB:.0f} GB per device"
        return (
            f"{text} leave {self.kv_capacity[row] / GB:.2f} GB of {usable:.1f} GB, "
            f"less than one sequence's KV cache of {self.sequence[row] / GB:.2f} GB"
        )

    def _host_reason(self, row: int) -> str:
        """Explain why the host memory of candidate `row` is too small; empty where it is not."""
        fixed, each, available = (x[row] / GB for x in (self.host.fixed, self.host.sequence, self.host.capacity))
        needed = f"{fixed:.1f} GB of weights and {each:.2f} GB per sequence"
        return f"{needed} exceed {available:.1f} GB of host memory per device"


def activation_bytes(sharding: Sharding, tokens: Array, logits: Array) -> Array:
    """Return the peak bytes of activations of a step on one device. (N,)

    tokens: tokens of the step. logits: rows of float32 logits, which are counted as well.
    """
    model = sharding.model
    width = np.full_like(sharding.tp, float(model.hidden) * 2.0)
    for block in model.blocks:
        if block.mlp:
            inner = block.mlp.intermediate * (block.mlp.top_k if block.mlp.experts else 1.0)
            width = np.maximum(width, model.hidden + inner / sharding.tp)
    return np.asarray(tokens * width * _ACTIVATION_BYTES + logits * model.vocab / sharding.tp * _LOGIT_BYTES)


def sampler_rows_bytes(sharding: Sharding, hardware: Hardware, engine: Engine, rows: Array) -> Array:
    """Return the bytes that sampling `rows` rows at start takes on one device, (N,); 0 where the engine does not.

    Every tensor-parallel rank samples the whole vocabulary.
    """
    each = np.array([engine.sampler_bytes(device.kind) for device in hardware.devices])[hardware.index]
    return np.asarray(each * rows * sharding.model.vocab)


def memory_budget(
    sharding: Sharding,
    hardware: Hardware,
    engine: Engine,
    *,
    fraction: Array,
    tokens: Array,
    max_num_seqs: Array,
    context: Array,
) -> Memory:
    """Compute memory and sequences that fit, by the engine's memory rule, reserve, sampler and KV pages; all (N,).

    fraction: gpu_memory_utilization: of the whole device (rules `total`, `static`), or of what weights and activations
    leave (rule `free`). tokens: max_num_batched_tokens, per step. max_num_seqs: sequences running at once per replica,
    infinite without a limit. context: mean tokens of a running sequence.
    """
    weights, adapters = weights_per_device(sharding), adapters_held(sharding)
    activations, sampler = _profiled(sharding, hardware, engine, tokens, max_num_seqs)
    reserve = _reserve(sharding, engine)
    usable = hardware.memory if engine.memory_rule == "free" else hardware.memory * fraction
    beside = np.zeros_like(activations) if engine.memory_rule == "static" else activations + sampler
    left = (usable - weights - adapters - beside - reserve) * (fraction if engine.memory_rule == "free" else 1.0)
    sequence, host = _sequence(sharding, engine, held := held_tokens(engine, context))
    kv_capacity, tokens_per_rank, seqs = _kv_capacity(left, sequence, host, held, _block(engine))
    return Memory(
        capacity=hardware.memory,
        usable=usable,
        weights=weights,
        adapters=adapters,
        activations=activations,
        sampler=sampler,
        reserve=reserve,
        kv_capacity=kv_capacity,
        sequence=sequence,
        held=held,
        kv_tokens=tokens_per_rank * sharding.dp,
        seqs=seqs * sharding.dp,
        host=host,
    )


def _reserve(sharding: Sharding, engine: Engine) -> Array:
    """Return the bytes of each device that `engine` keeps free, more where a replica has several devices. (N,)"""
    several = sharding.group * sharding.pp * sharding.cp > 1
    return np.asarray(np.fmax(engine.reserve_bytes, 0.0) + np.where(several, engine.reserve_parallel, 0.0))


def _profiled(
    sharding: Sharding, hardware: Hardware, engine: Engine, tokens: Array, max_num_seqs: Array
) -> tuple[Array, Array]:
    """Return (activations of a step, what sampling at start takes beyond them), bytes on one device, (N,) each.

    The two do not exist at once, so the larger one counts. Arguments are those of `memory_budget`.
    """
    tokens = tokens / sharding.dp
    sampled = sampler_rows_bytes(sharding, hardware, engine, np.minimum(max_num_seqs / sharding.dp, tokens))
    logits = np.where(sampled > 0, 0.0, np.minimum(tokens, _LOGIT_ROWS))
    activations = activation_bytes(sharding, tokens, logits)
    return activations, np.where(sampled > 0, np.maximum(sampled - activations, 0.0), 0.0)


def _block(engine: Engine) -> float:
    """Return the tokens of a KV block of the engine; 1 where it has none."""
    return float(np.fmax(engine.kv_block, 1.0))


def held_tokens(engine: Engine, context: Array) -> Array:
    """Return the tokens for which a sequence of `context` tokens takes KV capacity: in whole KV blocks. (N,)"""
    block = _block(engine)
    return np.asarray(np.ceil(context / block) * block if block > 1 else context)


def _sequence(sharding: Sharding, engine: Engine, held: Array) -> tuple[Array, HostMemory]:
    """Return (bytes of a sequence on the device, its host memory) that takes `held` tokens of KV capacity, (N,)."""
    sequence = paged_bytes(sharding, engine, held, 1.0 - sharding.hosted("kv")) + _draft_bytes(sharding, held)
    if sharding.host is None:
        zero = np.zeros_like(sharding.tp)
        return sequence, HostMemory(capacity=np.full_like(sharding.tp, NAN), fixed=zero, sequence=zero)
    waiting = 0.0 if sharding.adapters is None else sharding.adapters.count - sharding.adapters.held
    return sequence, HostMemory(
        capacity=sharding.host.memory,
        fixed=weights_in_host(sharding) + waiting * adapter_bytes(sharding),
        sequence=sequence_bytes(sharding, held) + _draft_bytes(sharding, held) - sequence,
    )


def _draft_bytes(sharding: Sharding, held: Array) -> Array | float:
    """Return the bytes of KV cache that the drafter keeps of a sequence of `held` tokens, (N,); 0 without drafts."""
    if sharding.drafter is None or sharding.drafts is None:
        return 0.0
    return np.where(sharding.drafts > 0, sequence_bytes(sharding.drafter, held), 0.0)


def _kv_capacity(
    kv_capacity: Array, sequence: Array, host: HostMemory, held: Array, block: float
) -> tuple[Array, Array, Array]:
    """Return (bytes of KV capacity of the device, tokens, sequences per rank), fewer where host memory is the limit.

    The tokens are whole blocks, and the sequences those that these blocks hold.

    Args:
        kv_capacity: bytes left for KV caches, (N,).
        sequence: bytes of one sequence on the device, (N,).
        host: host memory, which may hold a part of each sequence.
        held: tokens of a sequence, (N,).
        block: tokens of a KV block.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        tokens = np.where(
            sequence > 0, np.maximum(kv_capacity, 0.0) / sequence * held, np.where(kv_capacity > 0, np.inf, 0.0)
        )
    tokens = np.floor(tokens / block) * block if block > 1 else tokens
    seqs, behind = np.floor(tokens / held), host.sequences()
    limited = behind < seqs
    kv_capacity = np.where(limited, np.where(np.isfinite(behind), behind, 0.0) * sequence, kv_capacity)
    return kv_capacity, np.where(limited, behind * held, tokens), np.minimum(seqs, behind)
