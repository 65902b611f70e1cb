"""Demands of linear attention and state-space layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel import equations as eq
from perfmodel.deployment import Sharding
from perfmodel.models import Mixer
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step, on, prefill_shape


def recurrence(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """Prefill and decode kernels of linear-attention and state-space mixers."""
    heads = np.ceil(mixer.heads / sharding.tp)
    keys = np.ceil(mixer.kv_heads / np.minimum(sharding.tp, mixer.kv_heads)) * mixer.head_dim
    state = heads * mixer.head_dim * mixer.value_dim
    width = 2.0 * keys + 2.0 * heads * mixer.value_dim
    shape: dict[str, Any] = {"heads": heads, "key_dim": float(mixer.head_dim), "value_dim": float(mixer.value_dim)}
    batch, query, _, active = prefill_shape(sharding, step)
    yield Demand(
        name=f"{mixer.kind}_prefill",
        family="recurrent_prefill",
        flop=eq.recurrent_flop(batch * query, heads, mixer.head_dim, mixer.value_dim),
        moved=batch * (query * width * 2.0 + 2.0 * state * 4.0),
        count=on(active, count),
        compute=sharding.sixteen,
        shape={"batch": batch, "query": query, **shape},
    )
    decoding = np.asarray(step.decode_seqs, float) / sharding.dp
    yield Demand(
        name=f"{mixer.kind}_decode",
        family="recurrent_decode",
        flop=eq.recurrent_flop(decoding * step.decode_tokens, heads, mixer.head_dim, mixer.value_dim),
        moved=decoding * (step.decode_tokens * width * 2.0 + 2.0 * state * 4.0),
        count=on(decoding > 0, count),
        compute=sharding.sixteen,
        shape={"batch": decoding, **shape},
    )
