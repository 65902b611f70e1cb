"""List the kernels that decide what sparse attention sees: scores of an indexer, the choice among them, compression."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel import equations as eq
from perfmodel.deployment import Sharding
from perfmodel.models import Mixer
from perfmodel.operators.demand import Demand
from perfmodel.operators.elementwise import READ_AND_WRITE, pointwise
from perfmodel.operators.step import Step, decode_seqs, local_tokens, on, prefill_shape

#: What the names of these operators begin with.
PICKING = "indexer"
#: Kernels of a layer per step besides scores and choice. Of an indexer: norm, rotation, Hadamard transform, format and
#: cache of its keys and queries. Of a compressor: gates, sums of blocks, norm, rotation, format, cache, window. Of the
#: choice among scores: passes of a radix selection. Measured: aiconfigurator-core 0.12.0 (Apache-2.0), modules of one
#: layer of DeepSeek-V3.2, V4 and GLM-5 on H100 to GB300, less projections and attention, over the time of a kernel of
#: one row: 4 to 8 kernels for an indexer, 7 to 8 for a compressor (SGLang 0.5.14, vLLM 0.24, TensorRT-LLM 1.3 alike),
#: 2 (vLLM), 5 (SGLang) and 15 (TensorRT-LLM) for the choice. What an engine takes beyond is in its factors.
INDEX_KERNELS, COMPRESS_KERNELS, CHOICE_KERNELS = 4.0, 7.0, 4.0
#: Bytes of a score (fp32).
SCORE_BYTES = 4.0


def index_kernels(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List the kernels of `count` layers of a mixer that pick or compress what attention sees; none for others.

    Source: DeepSeek-V3.2-Exp report; MiniMax's indexer scores blocks with its attention, and chooses among few.
    """
    rows = local_tokens(sharding, step)
    if mixer.compress:
        yield pointwise(
            sharding, f"{PICKING}_compress", rows, READ_AND_WRITE * mixer.head_dim, COMPRESS_KERNELS * count
        )
    if mixer.index_heads:
        yield from _scores(sharding, mixer, count, step)
    if mixer.fp8_index:
        values = READ_AND_WRITE * mixer.index_dim * (mixer.index_heads + 1.0)
        yield pointwise(sharding, f"{PICKING}_rows", rows, values, INDEX_KERNELS * count)


def _scores(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List the scoring of an indexer, and the choice of the best: every index head scores every cached key, in fp8."""
    batch, query, context, active = prefill_shape(sharding, step)
    decoding = decode_seqs(sharding, step)
    ratio = max(mixer.compress, 1)
    length = np.asarray(step.decode_context, float) / (sharding.cp * sharding.kvp) / ratio
    pairs = batch * eq.causal_pairs(query, context) / ratio
    seen = (context + query) / ratio
    for phase, scored, keys, most, present in (
        ("prefill", pairs, batch * seen, seen, active),
        ("decode", decoding * length, decoding * length, length, decoding > 0),
    ):
        yield Demand(
            name=f"{PICKING}_{phase}",
            family="elementwise",
            flop=eq.indexer_flop(scored, mixer.index_heads, mixer.index_dim),
            moved=eq.indexer_bytes(scored, keys, mixer.index_dim),
            count=on(present, count),
            compute=sharding.compute("attention"),
        )
        if mixer.fp8_index:
            passes = on(present & (most > mixer.index_topk), CHOICE_KERNELS * count)  # each reads all scores once
            yield pointwise(sharding, f"{PICKING}_choice_{phase}", scored, 1.0, passes, SCORE_BYTES)
