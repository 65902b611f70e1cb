"""Collect every equation of the model once, with its unit, its source and an example.

SI in, SI out. Every function broadcasts over arrays. Sizes are counts (tokens, heads, values); arguments that end in
`_bytes` are bytes per value; times are seconds. The operators, the bounds of the measured tables and the checks of
imported measurements all call these functions, so each formula stands in one place. This package imports nothing of
`perfmodel` but `arrays`.
"""

from __future__ import annotations

from perfmodel.equations.attention import (
    DEEPSEEK_MLA,
    MlaSizes,
    attention_bytes,
    attention_flop,
    causal_pairs,
    chunked_pairs,
    indexer_bytes,
    indexer_flop,
    keys_read,
    mla_bytes,
    mla_flop,
    mla_prefill_bytes,
)
from perfmodel.equations.expert_traffic import places_reached, scattered_time
from perfmodel.equations.experts import (
    busiest_share,
    experts_touched,
    grouped_gemm_bytes,
    grouped_gemm_flop,
    popular_experts_touched,
    rank_chance,
)
from perfmodel.equations.gemm import SIXTEEN_BIT, elementwise_bytes, gemm_bytes, gemm_flop
from perfmodel.equations.network import all_to_all_time, collective_bytes, exchange_time, one_shot_time, tree_time
from perfmodel.equations.normal import normal_chance, normal_deviate, normal_excess
from perfmodel.equations.queues import all_busy, burst_wait, peakedness, queue_wait, split_cv
from perfmodel.equations.recurrent import recurrent_bytes, recurrent_flop
from perfmodel.equations.roofline import least_time
from perfmodel.equations.speculation import MOST_DRAFTS, acceptance_of, chain_chance, tokens_per_step

__all__ = [
    "DEEPSEEK_MLA",
    "MOST_DRAFTS",
    "SIXTEEN_BIT",
    "MlaSizes",
    "acceptance_of",
    "all_busy",
    "all_to_all_time",
    "attention_bytes",
    "attention_flop",
    "burst_wait",
    "busiest_share",
    "causal_pairs",
    "chain_chance",
    "chunked_pairs",
    "collective_bytes",
    "elementwise_bytes",
    "exchange_time",
    "experts_touched",
    "gemm_bytes",
    "gemm_flop",
    "grouped_gemm_bytes",
    "grouped_gemm_flop",
    "indexer_bytes",
    "indexer_flop",
    "keys_read",
    "least_time",
    "mla_bytes",
    "mla_flop",
    "mla_prefill_bytes",
    "normal_chance",
    "normal_deviate",
    "normal_excess",
    "one_shot_time",
    "peakedness",
    "places_reached",
    "popular_experts_touched",
    "queue_wait",
    "rank_chance",
    "recurrent_bytes",
    "recurrent_flop",
    "scattered_time",
    "split_cv",
    "tokens_per_step",
    "tree_time",
]
