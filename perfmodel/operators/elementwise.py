"""Demands of norms, activations, embedding and LM head."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.models import Mixer, Mlp
from perfmodel.operators.communication import collective
from perfmodel.operators.demand import Demand
from perfmodel.operators.gemm import gemm
from perfmodel.operators.step import Step, on, prompt_ranks


def elementwise(
    sharding: Sharding, mixers: dict[Mixer, int], mlps: dict[Mlp, int], norms: int, local: Array
) -> Iterator[Demand]:
    """Norms with residual, activations, rotary embedding and KV writes, routing: each reads and writes its rows."""
    hidden = sharding.model.hidden
    present = local > 0
    zero = np.zeros_like(local)

    def pointwise(name: str, values: Array | float, count: float) -> Demand:
        return Demand(name, "elementwise", zero, local * values * 2.0, on(present, count), sharding.sixteen)

    yield pointwise("norm", 4.0 * hidden, norms + 1)
    streams = sharding.model.streams
    if streams > 1:
        # manifold-constrained hyper-connections (arXiv:2512.24880) around both parts of a layer: before a part the
        # streams are read for their weights, which Sinkhorn's iterations balance, and for their sum; after it all are
        # read and written. Counts as measured on B200 and H200 (aiconfigurator-core 0.12.0, mhc_module)
        sites = 2.0 * sharding.model.layers
        yield pointwise("stream_weights", (2.0 * streams + 1.0) / 3.0 * hidden, 3.0 * sites)
        yield pointwise("stream_update", (2.0 * streams + 1.0) * hidden, sites)
    for mixer, count in mixers.items():
        rows = (mixer.heads * mixer.head_dim + mixer.kv_values) / sharding.tp
        yield pointwise(f"rope_{mixer.kind}", 2.0 * rows, count)
    for mlp, count in mlps.items():
        if mlp.experts:
            rows = np.asarray(2.0 * mlp.top_k * hidden + 2.0 * mlp.experts)
            yield pointwise("routing", rows, 2.0 * count)
        else:
            yield pointwise("activation", 3.0 * np.ceil(mlp.intermediate / sharding.tp), count)


def lm_head(sharding: Sharding, step: Step, local: Array) -> Iterator[Demand]:
    """Embedding look-up, LM head on one row a sequence, sampling."""
    model = sharding.model
    seqs = np.where(np.asarray(step.prefill_tokens) > 0, step.prefill_seqs, 0.0)
    rows = seqs / prompt_ranks(sharding, step) + np.multiply(step.decode_seqs, step.decode_tokens) / sharding.dp
    rows = np.minimum(np.maximum(rows, np.minimum(1.0, local)), np.maximum(local, 0.0))
    once = on(local > 0, 1.0)
    vocabulary = np.ceil(model.vocab / sharding.tp)
    zero = np.zeros_like(local)
    yield Demand("embedding", "elementwise", zero, local * model.hidden * 4.0, once, sharding.sixteen)
    yield gemm(sharding, "lm_head", "lm_head", rows, vocabulary, np.full_like(sharding.tp, model.hidden), once)
    yield Demand("sampling", "elementwise", zero, rows * model.vocab * 8.0, once, sharding.sixteen)
    gathered = rows * model.vocab * 2.0
    yield collective("logits_gather", "all_gather", gathered, sharding.tp, on((sharding.tp > 1) & (local > 0), 1.0))
