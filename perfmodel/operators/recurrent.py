"""List the work of linear-attention and state-space layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel import equations as eq
from perfmodel.deployment import Sharding
from perfmodel.models import Mixer
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step, decode_seqs, on, prefill_shape


def recurrence(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List the prefill and decode kernels of `count` linear-attention or state-space layers; TP splits their heads."""
    heads = np.ceil(mixer.heads / sharding.tp)
    key_heads = np.ceil(mixer.kv_heads / np.minimum(sharding.tp, mixer.kv_heads))
    shape: dict[str, Any] = {"heads": heads, "key_dim": float(mixer.head_dim), "value_dim": float(mixer.value_dim)}
    batch, query, _, active = prefill_shape(sharding, step)
    yield Demand(
        name=f"{mixer.kind}_prefill",
        family="recurrent_prefill",
        flop=eq.recurrent_flop(batch * query, heads, mixer.head_dim, mixer.value_dim),
        moved=eq.recurrent_bytes(batch, query, heads, key_heads, mixer.head_dim, mixer.value_dim),
        count=on(active, count),
        compute=sharding.sixteen,
        shape={"batch": batch, "query": query, **shape},
    )
    seqs = decode_seqs(sharding, step)
    yield Demand(
        name=f"{mixer.kind}_decode",
        family="recurrent_decode",
        flop=eq.recurrent_flop(seqs * step.decode_tokens, heads, mixer.head_dim, mixer.value_dim),
        moved=eq.recurrent_bytes(seqs, step.decode_tokens, heads, key_heads, mixer.head_dim, mixer.value_dim),
        count=on(seqs > 0, count),
        compute=sharding.sixteen,
        shape={"batch": seqs, **shape},
    )
