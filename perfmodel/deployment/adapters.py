"""What low-rank adapters hold and cost: sites, bytes, and the demands of a pass.

An adapter adds x A B to the product x W of each matrix it targets; A is (k, rank), B is (rank, n). Engines compute the
additions of a whole batch, adapters mixed, in two grouped kernels a site: shrink and expand (Punica, arXiv:2310.18547,
sec. 4; vLLM's lora_shrink and lora_expand). Tensor parallelism cuts B of column-parallel matrices and A of row-parallel
ones and copies the other of the two, as vLLM does by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from perfmodel.deployment.sharding import Layout
from perfmodel.models import Mlp, Projection
from perfmodel.models.lora import Adapters
from perfmodel.operators.demand import Array, Demand
from perfmodel.operators.step import Step, local_tokens, on, prompt_ranks

#: Bytes of a value of A and B, and of the intermediate between the two kernels (16 and 32 bit).
_VALUE, _BETWEEN = 2.0, 4.0
#: Matrices that stand for one target as a whole; latent attention: "q" its queries' up-projection, "k" both down ones.
_WHOLE = {"o": "o", "o_down": "o", "down": "down", "q_up": "q", "mla_down": "k", "mixer_in": "q"}


class Site(NamedTuple):
    """A GEMM that carries adapters: calls a pass, inputs of A, outputs of all its B together (one device's share),
    matrices side by side."""

    name: str
    layers: int
    inputs: Array
    outputs: Array
    slices: int


def sites(lay: Layout, adapters: Adapters) -> Iterator[Site]:
    """Every GEMM of the model that carries adapters, by layer kind."""
    for block in lay.model.blocks:
        projections: list[tuple[Projection, int]] = []
        if block.mixer:
            projections += [(p, block.mixer.kv_heads) for p in block.mixer.projections(lay.model.hidden)]
        if block.mlp and not lay.model.experts:
            projections += [(p, 1) for p in block.mlp.projections(lay.model.hidden)]
        for name in dict.fromkeys(p.gemm for p, _ in projections):
            parts = [
                (p, heads, n) for p, heads in projections if p.gemm == name for n in _slices(p, block.mlp, adapters)
            ]
            if parts:
                outputs = sum((n / _cut(lay, p.shard, heads) for p, heads, n in parts), np.zeros_like(lay.tp))
                first = parts[0][0]
                inputs = first.k / (lay.tp if first.shard == "row" else np.ones_like(lay.tp))
                yield Site(name, block.count, inputs, outputs, len(parts))


def _slices(p: Projection, mlp: Mlp | None, adapters: Adapters) -> list[float]:
    """Outputs of each targeted matrix that `p` is made of."""
    if p.gemm == "qkv":
        parts = {"q": float(p.n)} if p.shard == "column" else {"k": p.n / 2.0, "v": p.n / 2.0}
    elif p.gemm == "up":
        parts = {"gate": p.n / 2.0, "up": p.n / 2.0} if mlp and mlp.gated else {"up": float(p.n)}
    else:
        parts = {_WHOLE[p.gemm]: float(p.n)} if p.gemm in _WHOLE else {}
    return [n for target, n in parts.items() if target in adapters.targets]


def _cut(lay: Layout, shard: str, kv_heads: int) -> Array:
    """Devices that split the outputs of a matrix."""
    ones = np.ones_like(lay.tp)
    return {"column": lay.tp, "kv": np.minimum(lay.tp, kv_heads)}.get(shard, ones)


def adapter_bytes(lay: Layout) -> Array:
    """Bytes of one adapter on the fullest device. (N,)"""
    if lay.adapters is None:
        return np.zeros_like(lay.tp)
    rank = lay.adapters.rank
    total = sum(
        (s.layers * rank * (s.slices * s.inputs + s.outputs) * _VALUE for s in sites(lay, lay.adapters)),
        np.zeros_like(lay.tp),
    )
    return total * np.ceil(lay.model.layers / lay.pp) / lay.model.layers


def adapting(lay: Layout, step: Step) -> Iterator[Demand]:
    """Shrink and expand of each site, and the clearing of the float32 values between them (vLLM's kernels).

    They read the A and B of each adapter in the batch once, whatever number of sequences uses it, and each token
    multiplies with its own adapter only: narrow products, bound by what they move and by their launches.
    """
    adapters = lay.adapters
    if adapters is None:
        return
    tokens = local_tokens(lay, step)
    prompts = np.where(np.asarray(step.prefill_tokens) > 0, step.prefill_seqs, 0.0)
    seqs = prompts / prompt_ranks(lay, step) + np.asarray(step.decode_seqs, float) / lay.dp
    kinds = adapters.distinct(seqs)
    rank, present = float(adapters.rank), tokens > 0
    for site in sites(lay, adapters):
        inner = rank * site.slices  # values a token between the two kernels
        a, b = inner * site.inputs, rank * site.outputs
        between, rows = tokens * inner * _BETWEEN, tokens * _VALUE
        # an expand adds to its output: it reads and writes it
        for name, weights, moved in (
            ("clear", np.zeros_like(lay.tp), between),
            ("shrink", a, between + rows * site.inputs),
            ("expand", b, between + rows * 2.0 * site.outputs),
        ):
            yield Demand(
                name=f"lora_{name}_{site.name}", family="elementwise", flop=2.0 * tokens * weights,
                moved=kinds * weights * _VALUE + moved, count=on(present, site.layers), compute=lay.sixteen,
            )  # fmt: skip


def swapped(lay: Layout, step: Step) -> Array:
    """Bytes of adapters that a pass has to fetch from the host: those of requests that begin in it and are not held.

    Prompts that come in chunks begin once: a chunk whose tokens have `before` others ahead of them on average is one of
    1 + 2 before / chunk. What the prefix cache serves is no chunk.
    """
    if lay.adapters is None or not lay.adapters.missing:
        return np.zeros_like(lay.tp)
    tokens = np.asarray(step.prefill_tokens, float)
    prompts = np.where(tokens > 0, np.asarray(step.prefill_seqs, float), 0.0)
    chunk = tokens / np.maximum(prompts, 1e-9)
    before = np.maximum(np.asarray(step.prefill_context, float) - step.prefill_hit, 0.0)
    begun = prompts * chunk / np.maximum(chunk + 2.0 * before, 1e-9)
    return begun / prompt_ranks(lay, step) * lay.adapters.missing * adapter_bytes(lay)
