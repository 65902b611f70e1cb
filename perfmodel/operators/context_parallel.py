"""List what devices exchange that split the positions of sequences: context parallelism and KV parallelism.

Prefill under context parallelism (cp): each of cp tensor-parallel groups holds an equal, balanced part of a prompt and
of its cached keys. All ways of bringing queries and keys together are listed;
`perfmodel.costs.step_costs.context_parallel` keeps the one that the candidate uses and hides it behind the attention
that runs meanwhile. Source: Context Parallelism for Scalable Million-Token Inference, arXiv:2411.01783, sec. 3.

Decode: each device attends to its positions, and the partial outputs are combined (Flash-Decoding across devices;
Mnemosyne, arXiv:2409.17264, sec. 4.3; Helix, arXiv:2507.07120, sec. 3; vLLM's decode context parallelism).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.models import Mixer
from perfmodel.operators import exchange
from perfmodel.operators.attention import heads_of
from perfmodel.operators.communication import collective
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step, decode_seqs, on, prefill_shape

#: Bytes of memory traffic per value when a partial output is merged into the sum in 32 bit. Derived from
#: zhuzilin/ring-flash-attention, README (2025), 8,192 tokens on each device, 32 heads of 128: forward passes take
#: 2.3 ms (8 x H800) and 4.8 ms (8 x A100) longer than attention alone, over 7 merges at 0.8 of the memory bandwidth.
MERGE_BYTES = 28.0


def exchanges(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List the exchanges of `count` attention layers of one kind; nothing where no positions are split."""
    if np.any(sharding.cp > 1):
        yield from _prefill(sharding, mixer, count, step)
        yield from _decode(sharding, mixer, count, step)
    if np.any(sharding.kvp > 1):
        yield from _within_group(sharding, mixer, count, step)


def _span(sharding: Sharding) -> Array:
    """Return the devices among which the ranks of context parallelism lie, (N,): they decide which link is used."""
    return np.asarray(sharding.group * sharding.cp)


def _cached_values(sharding: Sharding, mixer: Mixer, ways: Array) -> Array:
    """Return the bytes of a token's keys and values on one of `ways` devices that split the heads, (N,)."""
    return np.asarray(mixer.kv_values * sharding.kv_bytes / mixer.kv_shards(ways))


def _prefill(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List the ways of exchanging in prefill, each as if it were the one in use."""
    prompts = prefill_shape(sharding, step)
    heads, _ = heads_of(mixer, sharding.tp)
    present = (sharding.cp > 1) & prompts.active
    rounds = on(present, count) * (sharding.cp - 1.0)
    # one rank holds 1/cp of each sequence: `batch` counts that part
    held = prompts.batch * eq.keys_read(prompts.query, prompts.context, mixer.window)
    keys = held * _cached_values(sharding, mixer, sharding.tp)
    rows = prompts.batch * prompts.query * heads * SIXTEEN_BIT
    span, one = _span(sharding), np.ones_like(sharding.cp)
    apart = sharding.cp, span
    every = (
        _among(exchange.RING_KV, "p2p", keys, (span, span), rounds),
        _among(exchange.RING_Q, "p2p", rows * mixer.head_dim, (span, span), rounds),
        _among(exchange.GATHER_KV, "all_gather", keys * sharding.cp, apart, on(present, count) * one),
        _among(exchange.RETURN, "all_to_all", rows * mixer.value_dim * sharding.cp, apart, on(present, count) * one),
    )
    yield from (replace(demand, tag=mixer) for demand in every)
    none = np.zeros_like(rows)
    merged = rows / SIXTEEN_BIT * mixer.value_dim * MERGE_BYTES
    yield Demand(
        exchange.MERGE, "elementwise", flop=none, moved=merged, count=rounds, compute=sharding.sixteen, tag=mixer
    )


def _decode(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List the ways of combining partial outputs in decode: a sum over devices, or queries that go round."""
    seqs = decode_seqs(sharding, step) * step.decode_tokens
    heads, _ = heads_of(mixer, sharding.attention_tp)
    present = on((sharding.cp > 1) & (seqs > 0), count)
    rows = seqs * heads * SIXTEEN_BIT
    span, apart = _span(sharding), (sharding.cp, _span(sharding))
    each = rows * mixer.head_dim / sharding.cp
    every = (
        _among(exchange.COMBINE, "all_reduce", rows * mixer.value_dim, apart, present),
        _among(exchange.DECODE_RING_Q, "p2p", each, (span, span), present * (sharding.cp - 1.0)),
        _among(exchange.DECODE_RETURN, "all_to_all", rows * mixer.value_dim, apart, present),
    )
    yield from (replace(demand, tag=mixer) for demand in every)


def _within_group(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List what KV parallelism exchanges within a tensor-parallel group.

    In decode, devices gather the queries of the heads that they share, and scatter the sum of their partial outputs. A
    prefill behind cached tokens gathers the keys of those.
    """
    seqs, prompts = decode_seqs(sharding, step) * step.decode_tokens, prefill_shape(sharding, step)
    heads, _ = heads_of(mixer, sharding.attention_tp)
    present = on((sharding.kvp > 1) & (seqs > 0), count)
    rows = seqs * heads * SIXTEEN_BIT
    cached = prompts.batch * prompts.context * _cached_values(sharding, mixer, sharding.attention_tp)
    behind = on((sharding.kvp > 1) & prompts.active & (prompts.context > 0), count)
    yield collective("kv_gather_queries", "all_gather", rows * mixer.head_dim, sharding.kvp, present)
    yield collective("kv_combine", "reduce_scatter", rows * mixer.value_dim, sharding.kvp, present)
    yield collective("kv_gather_context", "all_gather", np.asarray(cached), sharding.kvp, behind)


def _among(name: str, family: str, message: Array, ranks: tuple[Array, Array], count: Array) -> Demand:
    """Describe a collective among ranks that lie apart: (how many take part, devices among which they lie)."""
    group, span = ranks
    plain = collective(name, family, np.asarray(message), group, count)
    return replace(plain, shape={"group": group, "span": span})
