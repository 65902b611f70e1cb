"""Low-rank adapters: what they add to a step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import INTERMEDIATE_BYTES, VALUE_BYTES, Sharding, adapter_bytes, sites
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step, local_tokens, on, prompt_ranks


def adapting(sharding: Sharding, step: Step) -> Iterator[Demand]:
    """Shrink and expand of each site, and the clearing of the float32 values between them (vLLM's kernels).

    They read the A and B of each adapter in the batch once, whatever number of sequences uses it, and each token
    multiplies with its own adapter only: narrow products, bound by what they move and by their launches.
    """
    adapters = sharding.adapters
    if adapters is None:
        return
    tokens = local_tokens(sharding, step)
    prompts = np.where(np.asarray(step.prefill_tokens) > 0, step.prefill_seqs, 0.0)
    seqs = prompts / prompt_ranks(sharding, step) + np.asarray(step.decode_seqs, float) / sharding.dp
    kinds = adapters.distinct(seqs)
    rank, present = float(adapters.rank), tokens > 0
    for site in sites(sharding, adapters):
        inner = rank * site.slices  # values a token between the two kernels
        a, b = inner * site.inputs, rank * site.outputs
        between, rows = tokens * inner * INTERMEDIATE_BYTES, tokens * VALUE_BYTES
        # an expand adds to its output: it reads and writes it
        for name, weights, moved in (
            ("clear", np.zeros_like(sharding.tp), between),
            ("shrink", a, between + rows * site.inputs),
            ("expand", b, between + rows * 2.0 * site.outputs),
        ):
            yield Demand(
                name=f"lora_{name}_{site.name}",
                family="elementwise",
                flop=2.0 * tokens * weights,
                moved=kinds * weights * VALUE_BYTES + moved,
                count=on(present, site.layers),
                compute=sharding.sixteen,
            )


def swapped(sharding: Sharding, step: Step) -> Array:
    """Bytes of adapters that a pass has to fetch from the host: those of requests that begin in it and are not held.

    Prompts that come in chunks begin once: a chunk whose tokens have `before` others ahead of them on average is one of
    1 + 2 before / chunk. What the prefix cache serves is no chunk.
    """
    if sharding.adapters is None or not sharding.adapters.missing:
        return np.zeros_like(sharding.tp)
    tokens = np.asarray(step.prefill_tokens, float)
    prompts = np.where(tokens > 0, np.asarray(step.prefill_seqs, float), 0.0)
    chunk = tokens / np.maximum(prompts, 1e-9)
    before = np.maximum(np.asarray(step.prefill_context, float) - step.prefill_hit, 0.0)
    begun = prompts * chunk / np.maximum(chunk + 2.0 * before, 1e-9)
    return begun / prompt_ranks(sharding, step) * sharding.adapters.missing * adapter_bytes(sharding)
