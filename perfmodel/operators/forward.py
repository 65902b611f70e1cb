"""(model, layout, step) -> demands: the only place where a model's work is written down.

A demand is what one device does in one pass of one micro-batch through the whole model; `count` carries the number of
layers, so that equal layers are priced once. Pipeline stages run the same pass one after the other, so the sum over
all layers is the latency of a pass whatever PP is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from perfmodel import equations as eq
from perfmodel.deployment.adapters import adapting
from perfmodel.deployment.sharding import Layout
from perfmodel.dtypes import COMPUTE_BYTES, FORMAT_BYTES
from perfmodel.models import Mixer, Mlp, Projection
from perfmodel.operators.attention import mixing
from perfmodel.operators.demand import Array, Demand
from perfmodel.operators.step import Step, all_tokens, local_tokens, on, prompt_ranks, prompt_tokens

#: Relative excess load of the busiest expert-parallel rank beyond chance; DeepSeek-V3 (arXiv:2412.19437, sec. 3.4.2)
#: keeps 32 redundant experts to even it out, and measured loads still differ by about a fifth.
EXPERT_SKEW = 0.2
#: Expert-parallel ranks beyond which tables' skewed loads stand for no deployment.
WIDE = 8.0


def operators(lay: Layout, step: Step) -> Iterator[Demand]:
    """All demands of one pass of `step`; see the module's docstring."""
    mixers: dict[Mixer, int] = defaultdict(int)
    mlps: dict[Mlp, int] = defaultdict(int)
    norms = 0
    for block in lay.model.blocks:
        norms += block.count * block.norms
        if block.mixer:
            mixers[block.mixer] += block.count
        if block.mlp:
            mlps[block.mlp] += block.count
    local = local_tokens(lay, step)
    yield from _projections(lay, mixers, mlps, local, step)
    for mixer, count in mixers.items():
        yield from mixing(lay, mixer, count, step)
    for mlp, count in mlps.items():
        if mlp.experts:
            yield from _experts(lay, mlp, count, step)
    yield from adapting(lay, step)
    yield from _elementwise(lay, mixers, mlps, norms, local)
    yield from _communication(lay, sum(mixers.values()), mlps, local, all_tokens(lay, step))
    yield from _head(lay, step, local)


# ------------------------------------------------------------------------------------------------ dense projections


def _projections(
    lay: Layout, mixers: dict[Mixer, int], mlps: dict[Mlp, int], local: Array, step: Step
) -> Iterator[Demand]:
    """GEMMs of all layers, fused where they read the same input, equal ones merged across kinds of layer."""
    merged: dict[tuple[str, str, tuple[tuple[Projection, int], ...]], int] = defaultdict(int)
    for mixer, count in mixers.items():
        for name, parts in _by_gemm(mixer.projections(lay.model.hidden)).items():
            if name != "kv_up":
                merged[(name, parts[0].part, tuple((p, mixer.kv_heads) for p in parts))] += count
    for mlp, count in mlps.items():
        for name, parts in _by_gemm(mlp.projections(lay.model.hidden)).items():
            merged[(name, parts[0].part, tuple((p, 1) for p in parts))] += count
    for (name, part, members), count in merged.items():
        m = np.maximum(local, 0.0)
        n, k = _sharded(lay, members)
        yield gemm(lay, name, part, m, n, k, on(local > 0, count))
    for mixer, count in mixers.items():
        if mixer.kind == "mla":
            yield from _latent(lay, mixer, count, step)


def _by_gemm(projections: tuple[Projection, ...]) -> dict[str, list[Projection]]:
    groups: dict[str, list[Projection]] = defaultdict(list)
    for p in projections:
        groups[p.gemm].append(p)
    return groups


def _sharded(lay: Layout, members: tuple[tuple[Projection, int], ...]) -> tuple[Array, Array]:
    """(n, k) of a fused GEMM on one device."""
    n: Array = np.zeros_like(lay.tp)
    for p, kv_heads in members:
        cut = {"column": lay.tp, "kv": np.minimum(lay.tp, kv_heads)}.get(p.shard)
        n = n + (p.n if cut is None else np.ceil(p.n / cut))
    first = members[0][0]
    k = np.ceil(first.k / lay.tp) if first.shard == "row" else np.full_like(lay.tp, first.k)
    return n, k


def gemm(lay: Layout, name: str, part: str, m: Array, n: Array, k: Array, count: Array) -> Demand:
    """Demand of one dense GEMM in the precision of `part`; a rank that takes part has a row at least."""
    m = np.where(m > 0, np.maximum(m, 1.0), m)
    weight, compute = lay.weight(part, name), lay.compute(part, name)
    return Demand(
        name=name,
        family="gemm",
        flop=eq.gemm_flop(m, n, k),
        moved=eq.gemm_bytes(m, n, k, act_bytes=COMPUTE_BYTES[compute], weight_bytes=FORMAT_BYTES[weight]),
        count=count,
        compute=compute,
        shape={"m": m, "n": n, "k": k, "weight": weight, "act": compute},
        hosted=0.0 if part == "lm_head" else lay.hosted("weights"),
        host_bytes=n * k * FORMAT_BYTES[weight],
    )


def _latent(lay: Layout, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """MLA's up-projections: prefill expands keys and values; decode absorbs them into per-head products
    (DeepSeek-V2, arXiv:2405.04434, sec. 2.1)."""
    prompt = prompt_tokens(lay, step)
    answers = np.multiply(step.decode_seqs, step.decode_tokens) / lay.dp
    heads = np.ceil(mixer.heads / lay.tp)
    width = heads * (mixer.head_dim - mixer.rope_dim + mixer.value_dim)
    expand = gemm(lay, "kv_up", "attention", prompt, width, np.full_like(lay.tp, mixer.kv_rank), on(prompt > 0, count))
    yield expand
    # two kernels, one for queries and one for values; each takes half of the matrix in the mean
    weights = width / 2.0 * mixer.kv_rank * lay.weight_bytes("attention", "kv_up")
    yield Demand(
        name="absorb",
        family="elementwise",
        flop=eq.gemm_flop(answers, width / 2.0, mixer.kv_rank),
        moved=weights + answers * (width / 2.0 + heads * mixer.kv_rank) * 2.0,
        count=on(answers > 0, 2.0 * count),
        compute=lay.compute("attention"),
        hosted=lay.hosted("weights"),
        host_bytes=weights,
    )


# ------------------------------------------------------------------------------------------------------------ experts


def _experts(lay: Layout, mlp: Mlp, count: int, step: Step) -> Iterator[Demand]:
    """Routed experts on the busiest device: its share of token-expert pairs, and the experts it must read."""
    tokens = all_tokens(lay, step)
    pairs = tokens * mlp.top_k
    imbalance = eq.busiest_share(pairs, lay.ep, EXPERT_SKEW)
    mine = pairs / lay.ep * imbalance
    held = mlp.experts / lay.ep
    touched = np.minimum(eq.experts_touched(mlp.experts, mlp.top_k, tokens) / lay.ep * np.sqrt(imbalance), held)
    inner = np.ceil(mlp.intermediate / lay.experts_tp)
    hidden = float(mlp.latent or lay.model.hidden)
    up = 2.0 if mlp.gated else 1.0
    matrix = (up + 1.0) * hidden * inner
    act = COMPUTE_BYTES[lay.compute("experts")]
    yield Demand(
        name="experts",
        family="grouped_gemm",
        flop=2.0 * mine * matrix,
        moved=touched * matrix * lay.weight_bytes("experts") + mine * (2.0 * hidden + (up + 1.0) * inner) * act,
        count=on(tokens > 0, count),
        compute=lay.compute("experts"),
        shape={
            "hidden": hidden, "inter": float(mlp.intermediate), "tp": lay.experts_tp, "weight": lay.weight("experts"),
            **_rank(lay, mlp, tokens, imbalance),
            "act": lay.compute("experts"),
        },
        hosted=lay.hosted("experts"), host_bytes=touched * matrix * lay.weight_bytes("experts"),
    )  # fmt: skip


def _rank(lay: Layout, mlp: Mlp, tokens: Array, imbalance: Array) -> dict[str, Array]:
    """Tokens, experts, top-k and EP degree that tables know a rank's experts by.

    Tables of wide EP time the rank with most of a skewed load, which redundant experts even out in service
    (DeepSeek-V3, arXiv:2412.19437, sec. 3.4; SGLang's EPLB). Beyond `WIDE` ranks the layer is looked up as what the
    busiest rank does by itself: its own experts, the tokens that pick any of them, and how many each picks.
    """
    wide = lay.ep > WIDE
    met = 1.0 - np.power(1.0 - 1.0 / lay.ep, mlp.top_k)
    return {
        "tokens": np.where(wide, tokens * met * imbalance, tokens),
        "experts": np.where(wide, mlp.experts / lay.ep, float(mlp.experts)),
        "top_k": np.where(wide, mlp.top_k / lay.ep / met, float(mlp.top_k)),
        "ep": np.where(wide, 1.0, lay.ep),
    }


# ------------------------------------------------------------------------------------------- elementwise and the head


def _elementwise(
    lay: Layout, mixers: dict[Mixer, int], mlps: dict[Mlp, int], norms: int, local: Array
) -> Iterator[Demand]:
    """Norms with residual, activations, rotary embedding and KV writes, routing: each reads and writes its rows."""
    hidden = lay.model.hidden
    present = local > 0
    zero = np.zeros_like(local)

    def pointwise(name: str, values: Array | float, count: float) -> Demand:
        return Demand(name, "elementwise", zero, local * values * 2.0, on(present, count), lay.sixteen)

    yield pointwise("norm", 4.0 * hidden, norms + 1)
    streams = lay.model.streams
    if streams > 1:
        # manifold-constrained hyper-connections (arXiv:2512.24880) around both parts of a layer: before a part the
        # streams are read for their weights, which Sinkhorn's iterations balance, and for their sum; after it all are
        # read and written. Counts as measured on B200 and H200 (aiconfigurator-core 0.12.0, mhc_module)
        sites = 2.0 * lay.model.layers
        yield pointwise("stream_weights", (2.0 * streams + 1.0) / 3.0 * hidden, 3.0 * sites)
        yield pointwise("stream_update", (2.0 * streams + 1.0) * hidden, sites)
    for mixer, count in mixers.items():
        rows = (mixer.heads * mixer.head_dim + mixer.kv_values) / lay.tp
        yield pointwise(f"rope_{mixer.kind}", 2.0 * rows, count)
    for mlp, count in mlps.items():
        if mlp.experts:
            rows = np.asarray(2.0 * mlp.top_k * hidden + 2.0 * mlp.experts)
            yield pointwise("routing", rows, 2.0 * count)
        else:
            yield pointwise("activation", 3.0 * np.ceil(mlp.intermediate / lay.tp), count)


def _head(lay: Layout, step: Step, local: Array) -> Iterator[Demand]:
    """Embedding look-up, LM head on one row a sequence, sampling."""
    model = lay.model
    seqs = np.where(np.asarray(step.prefill_tokens) > 0, step.prefill_seqs, 0.0)
    rows = seqs / prompt_ranks(lay, step) + np.multiply(step.decode_seqs, step.decode_tokens) / lay.dp
    rows = np.minimum(np.maximum(rows, np.minimum(1.0, local)), np.maximum(local, 0.0))
    once = on(local > 0, 1.0)
    vocabulary = np.ceil(model.vocab / lay.tp)
    zero = np.zeros_like(local)
    yield Demand("embedding", "elementwise", zero, local * model.hidden * 4.0, once, lay.sixteen)
    yield gemm(lay, "lm_head", "lm_head", rows, vocabulary, np.full_like(lay.tp, model.hidden), once)
    yield Demand("sampling", "elementwise", zero, rows * model.vocab * 8.0, once, lay.sixteen)
    gathered = rows * model.vocab * 2.0
    yield collective("logits_gather", "all_gather", gathered, lay.tp, on((lay.tp > 1) & (local > 0), 1.0))


# ------------------------------------------------------------------------------------------------------ communication


def collective(name: str, family: str, message: Array, group: Array, count: Array) -> Demand:
    """Demand of a collective over `group` devices; `message` as in `perfmodel.costs.collectives`."""
    zero = np.zeros_like(message)
    return Demand(name, family, zero, zero, count, message=message, shape={"group": group})


def _communication(lay: Layout, mixers: int, mlps: dict[Mlp, int], local: Array, everywhere: Array) -> Iterator[Demand]:
    rows, all_rows = local * lay.model.hidden * 2.0, everywhere * lay.model.hidden * 2.0
    split = (lay.tp > 1) & (local > 0)
    yield collective("mixer_all_reduce", "all_reduce", rows, lay.tp, on(split, mixers))
    dense = sum(count for mlp, count in mlps.items() if not mlp.experts)
    routed = {mlp: count for mlp, count in mlps.items() if mlp.experts}
    if dense:
        yield collective("mlp_all_reduce", "all_reduce", rows, lay.tp, on(split, dense))
    spread_out = (lay.dp > 1) & (local > 0)
    for mlp, count in routed.items():
        yield collective("mlp_all_reduce", "all_reduce", rows, lay.tp, on(split & (lay.dp == 1), count))
        # attention data parallelism: tokens travel to the experts and back, by all-to-all where experts are spread
        # over devices (each token to at most min(top_k, ep) of them), else by gathering all ranks' tokens
        reach = np.minimum(float(mlp.top_k), lay.ep * (1.0 - np.power(1.0 - 1.0 / lay.ep, mlp.top_k)))
        scattered = spread_out & (lay.ep > 1)
        send = rows / np.maximum(lay.tp, 1.0) * reach
        narrow = COMPUTE_BYTES[lay.compute("experts")] / 2.0
        yield collective("expert_dispatch", "all_to_all", send * narrow, lay.ep, on(scattered, count))
        yield collective("expert_combine", "all_to_all", send, lay.ep, on(scattered, count))
        gathered = spread_out & (lay.ep <= 1)
        yield collective("token_gather", "all_gather", all_rows, lay.group, on(gathered, count))
        yield collective("token_scatter", "reduce_scatter", all_rows, lay.group, on(gathered, count))
    # neighbouring stages lie a stage's devices apart, so the whole replica decides whether they share a node
    stages = on((lay.pp > 1) & (local > 0), lay.pp - 1.0)
    yield collective("stage_send", "p2p", rows / lay.tp, lay.group * lay.pp, stages)
    ring = (lay.sp > 1) & (local > 0)
    yield collective("sequence_gather", "all_gather", rows * lay.sp, lay.sp, on(ring, mixers))
