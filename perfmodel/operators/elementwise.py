"""List norms, activations, routing, embedding and LM head: mostly kernels that only read and write rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.models import Mixer, Mlp
from perfmodel.operators.communication import collective
from perfmodel.operators.demand import Demand
from perfmodel.operators.gemm import gemm
from perfmodel.operators.step import Step, decode_tokens, on, prompt_ranks, prompt_seqs

#: Rows of the hidden width that a norm with residual touches: input and residual in, sum and normed row out.
NORM_ROWS = 4.0
#: Values per inner value of a gated activation: gate and up in, product out.
ACTIVATION_VALUES = 3.0
#: Passes over a row that is read and written once.
READ_AND_WRITE = 2.0
#: Kernels that spread tokens to experts and collect their outputs, per layer.
ROUTING_KERNELS = 2.0
#: Hyper-connections per layer (one around the mixer, one around the MLP), and kernels of each that weigh the streams.
STREAM_SITES, STREAM_WEIGHT_KERNELS = 2.0, 3.0
#: Bytes of a logit that sampling works on (fp32).
LOGIT_BYTES = 4.0


def elementwise(
    sharding: Sharding, mixers: dict[Mixer, int], mlps: dict[Mlp, int], norms: int, local: Array
) -> Iterator[Demand]:
    """List norms with residual, rotary embedding and KV writes, activations and routing.

    Each of them reads and writes its rows once.

    Args:
        sharding: degrees of parallelism of the candidates, (N,).
        mixers: how many layers have each token mixer.
        mlps: how many layers have each MLP.
        norms: norms of all layers; the final norm is added.
        local: tokens of the busiest device, (C, N) or (N,).
    """
    hidden = sharding.model.hidden
    yield pointwise(sharding, "norm", local, NORM_ROWS * hidden, norms + 1)
    yield from _streams(sharding, local)
    for mixer, count in mixers.items():
        rows = (mixer.heads * mixer.head_dim + mixer.kv_values) / sharding.tp
        yield pointwise(sharding, f"rope_{mixer.kind}", local, READ_AND_WRITE * rows, count)
    for mlp, count in mlps.items():
        if mlp.experts:
            values = READ_AND_WRITE * (mlp.top_k * hidden + mlp.experts)
            yield pointwise(sharding, "routing", local, values, ROUTING_KERNELS * count)
        else:
            inner = np.ceil(mlp.intermediate / sharding.tp)
            yield pointwise(sharding, "activation", local, ACTIVATION_VALUES * inner, count)


def _streams(sharding: Sharding, local: Array) -> Iterator[Demand]:
    """List the kernels of manifold-constrained hyper-connections (arXiv:2512.24880) around both parts of a layer.

    Before a part, the residual streams are read for their weights, which Sinkhorn's iterations balance, and for their
    weighted sum; after it, all of them are read and written. Counts as measured on B200 and H200 (aiconfigurator-core
    0.12.0, mhc_module).
    """
    streams = sharding.model.streams
    if streams > 1:
        values = (2.0 * streams + 1.0) * sharding.model.hidden  # every stream in and out, and the part's row
        sites = STREAM_SITES * sharding.model.layers
        weights = (2.0 * streams + 1.0) / STREAM_WEIGHT_KERNELS * sharding.model.hidden
        yield pointwise(sharding, "stream_weights", local, weights, STREAM_WEIGHT_KERNELS * sites)
        yield pointwise(sharding, "stream_update", local, values, sites)


def pointwise(
    sharding: Sharding, name: str, rows: Array, values: Array | float, count: Array | float, width: float = SIXTEEN_BIT
) -> Demand:
    """Describe a kernel that moves `values` values of `width` bytes per row, called `count` times per step."""
    return Demand(
        name=name,
        family="elementwise",
        flop=np.zeros_like(rows),
        moved=eq.elementwise_bytes(rows, values, width),
        count=on(rows > 0, count),
        compute=sharding.sixteen,
    )


def lm_head(sharding: Sharding, step: Step, local: Array) -> Iterator[Demand]:
    """List the embedding look-up, the LM head and sampling.

    The LM head runs on the last row of each sequence (all rows of verified drafts).

    local: tokens of the busiest device, (C, N) or (N,).
    """
    model = sharding.model
    rows = prompt_seqs(step) / prompt_ranks(sharding, step) + decode_tokens(sharding, step)
    rows = np.minimum(np.maximum(rows, np.minimum(1.0, local)), np.maximum(local, 0.0))
    once = on(local > 0, 1.0)
    vocabulary = np.ceil(model.vocab / sharding.tp)
    yield pointwise(sharding, "embedding", local, READ_AND_WRITE * model.hidden, 1.0)
    yield gemm(sharding, "lm_head", "lm_head", rows, vocabulary, np.full_like(sharding.tp, model.hidden), once)
    yield pointwise(sharding, "sampling", rows, READ_AND_WRITE * model.vocab, 1.0, LOGIT_BYTES)
    gathered = eq.elementwise_bytes(rows, model.vocab)
    yield collective("logits_gather", "all_gather", gathered, sharding.tp, on((sharding.tp > 1) & (local > 0), 1.0))
