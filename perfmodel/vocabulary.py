"""Shared names: operator families, what a time rests on (basis), what limits it (bound), former spellings."""

from __future__ import annotations

#: Operator families, with the shape keys of each. Cost models keep tables, efficiencies and residuals by family.
FAMILIES = (
    "gemm",  # shape: m, n, k, weight (format code), act (compute code)
    "grouped_gemm",  # shape: tokens, hidden, inter, experts, top_k, ep, tp, weight, act, layout (MoE layer on a device)
    "attention_prefill",  # shape: batch, query, context, heads, kv_heads, head_dim, window, kv_bytes
    "attention_decode",  # shape: batch, context, heads, kv_heads, head_dim, window, kv_bytes
    "mla_prefill",  # shape: batch, query, context, heads, kv_bytes
    "mla_decode",  # shape: batch, context, heads, kv_bytes
    "recurrent_prefill",  # shape: batch, query, heads, key_dim, value_dim
    "recurrent_decode",  # shape: batch, heads, key_dim, value_dim
    "elementwise",  # shape: none, moved bytes only
    "all_reduce",  # shape: group
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "p2p",
)


#: Basis of an estimate, best first; its code is its place. A sum is as good as its worst significant term.
BASES = ("measured", "interpolated", "extrapolated", "calibrated", "roofline", "unknown")
BASIS_CODE = {name: code for code, name in enumerate(BASES)}

#: What limits the time of an operator; its code is its place.
BOUNDS = ("compute", "memory", "link", "launch")
COMPUTE_BOUND, MEMORY_BOUND, LINK_BOUND, LAUNCH_BOUND = range(len(BOUNDS))

#: What a device does in a step, as its power depends on it: FLOP by the width of the operands, bytes to and from its
#: memory, bytes that its collectives are called with.
WORK = ("flop_16", "flop_8", "flop_4", "moved", "sent")
MOVED, SENT = WORK.index("moved"), WORK.index("sent")

#: Family of the kernels that send tokens to their experts and back (DeepEP), which a formula prices and no table.
EXPERT_ALL_TO_ALL = "expert_all_to_all"
#: Family of prefill attention over the cache entries that an indexer picks, or that compression left; a formula prices
#: it and no table.
PICKED_PREFILL = "picked_prefill"
#: Routing of experts over expert-parallel ranks that have an equal share of the work each, with tokens sorted by
#: expert; the same in DeepGEMM's masked layout, which the low-latency kernels of DeepEP fill.
EVEN, EVEN_MASKED = "even", "even_masked"
#: Ways in which tokens lie before the products of experts, by the shape key `layout`: "" as in tables of skewed loads.
LAYOUTS = ("", EVEN, EVEN_MASKED)
#: Before the shape keys of what a rank of even load does by itself.
RANK_ALONE = "rank_"
#: Families that communicate.
LINK_FAMILIES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p", EXPERT_ALL_TO_ALL)


#: Former spellings of keys, columns and flags, still read for one release -> the present spelling.
FORMER_NAMES = {
    "max_batched_tokens": "max_num_batched_tokens",
    "max_seqs": "max_num_seqs",
    "max_tokens": "max_num_batched_tokens",
    "memory_fraction": "gpu_memory_utilization",
    "rate_rps": "request_rate_rps",
    "sp": "cp",
    "token_budget": "max_num_batched_tokens",
}
