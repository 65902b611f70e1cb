"""List the work of low-rank adapters (LoRA), and count the bytes of adapters that a step fetches from the host."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.deployment import INTERMEDIATE_BYTES, VALUE_BYTES, Sharding, adapter_bytes, sites
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import LEAST_SEQUENCES, Step, decode_seqs, local_tokens, on, prompt_ranks, prompt_seqs

#: Least tokens of a chunk, so that an absent prompt divides by no zero.
_LEAST_TOKENS = 1e-9


def adapting(sharding: Sharding, step: Step) -> Iterator[Demand]:
    """List the kernels of low-rank adapters (as in vLLM) for each GEMM that carries adapters.

    They are shrink, expand, and the clearing of the float32 values between them. The kernels read the A and B of each
    adapter in the batch once, however many sequences use it. Each token multiplies with its own adapter only: narrow
    products, bound by the bytes they move and by their launches.
    """
    adapters = sharding.adapters
    if adapters is None:
        return
    tokens = local_tokens(sharding, step)
    seqs = prompt_seqs(step) / prompt_ranks(sharding, step) + decode_seqs(sharding, step)
    distinct = adapters.drawn(seqs)
    rank, present = float(adapters.rank), tokens > 0
    for site in sites(sharding, adapters):
        inner = rank * site.slices  # values per token between the two kernels
        between = eq.elementwise_bytes(tokens, inner, INTERMEDIATE_BYTES)
        # an expand adds to its output, so it reads and writes it
        for name, weights, moved in (
            ("clear", np.zeros_like(sharding.tp), between),
            ("shrink", inner * site.inputs, between + eq.elementwise_bytes(tokens, site.inputs, VALUE_BYTES)),
            ("expand", rank * site.outputs, between + eq.elementwise_bytes(tokens, 2.0 * site.outputs, VALUE_BYTES)),
        ):
            yield Demand(
                name=f"lora_{name}_{site.name}",
                family="elementwise",
                flop=eq.gemm_flop(tokens, weights, 1.0),
                moved=distinct * weights * VALUE_BYTES + moved,
                count=on(present, site.layers),
                compute=sharding.sixteen,
            )


def adapter_bytes_fetched(sharding: Sharding, step: Step) -> Array:
    """Return the bytes of adapters that a step fetches from the host. (C, N)

    These are the adapters of prompts that begin in the step, where they are not resident on the device. A prompt that
    comes in chunks begins once. A chunk whose tokens have `before` others ahead of them on average is one of 1 + 2
    before / chunk. Tokens that the prefix cache supplies make no chunk.
    """
    if sharding.adapters is None or not sharding.adapters.missing:
        return np.zeros_like(sharding.tp)
    prompts = prompt_seqs(step)
    chunk = np.asarray(step.prefill_tokens, float) / np.maximum(prompts, LEAST_SEQUENCES)
    before = np.maximum(np.asarray(step.prefill_context, float) - step.prefill_hit, 0.0)
    begun = prompts * chunk / np.maximum(chunk + 2.0 * before, _LEAST_TOKENS)
    return np.asarray(begun / prompt_ranks(sharding, step) * sharding.adapters.missing * adapter_bytes(sharding))
