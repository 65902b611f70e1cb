"""Each equation once, with its source. SI in, SI out; every function broadcasts.

Sizes are counts (tokens, heads, values); `*_bytes` are bytes a value; times are seconds.
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array

Real = Array | float


def gemm_flop(m: Real, n: Real, k: Real) -> Array:
    """FLOP of C(m, n) = A(m, k) B(k, n): a multiply and an add a term.

    >>> float(gemm_flop(2.0, 3.0, 4.0))
    48.0
    """
    return np.asarray(2.0 * m * n * k)


def gemm_bytes(m: Real, n: Real, k: Real, *, act_bytes: Real, weight_bytes: Real, out_bytes: Real = 2.0) -> Array:
    """Least bytes a GEMM moves: each matrix once (cache-oblivious lower bound; Williams et al., CACM 52(4), 2009)."""
    return np.asarray(m * k * act_bytes + k * n * weight_bytes + m * n * out_bytes)


def causal_pairs(query: Real, context: Real, window: Real = np.inf) -> Array:
    """Query-key pairs a causal attention evaluates for `query` new tokens after `context` cached ones.

    Token i (1..query) sees min(context + i, window) keys: with full sight query*context + query(query+1)/2
    (FlashAttention-2, arXiv:2307.08691, counts half of the square); a sliding window caps each term (Mistral 7B,
    arXiv:2310.06825).

    >>> float(causal_pairs(3.0, 2.0)), float(causal_pairs(3.0, 2.0, 4.0))
    (12.0, 11.0)
    """
    query, context, window = np.asarray(query, float), np.asarray(context, float), np.asarray(window, float)
    growing = np.clip(window - context, 0.0, query)
    with np.errstate(invalid="ignore"):
        capped = np.where(query > growing, (query - growing) * np.where(np.isfinite(window), window, 0.0), 0.0)
    return growing * context + growing * (growing + 1.0) / 2.0 + capped


def chunked_pairs(query: Real, context: Real, chunk: Real) -> Array:
    """Query-key pairs where each token sees only its own chunk of the sequence, up to itself (Llama 4's local layers).

    A token at position p (from 0) sees p mod chunk + 1 keys; both counts are whole tokens.

    >>> float(chunked_pairs(3.0, 2.0, 4.0))
    8.0
    """

    def before(length: Real) -> Array:
        rest = np.mod(length, chunk)
        return np.asarray((length - rest) * (chunk + 1.0) / 2.0 + rest * (rest + 1.0) / 2.0)

    return before(np.add(context, query)) - before(context)


def attention_flop(pairs: Real, heads: Real, key_dim: Real, value_dim: Real) -> Array:
    """FLOP of scores and weighted values: 2 d_k + 2 d_v a pair and head (Vaswani et al., arXiv:1706.03762)."""
    return np.asarray(2.0 * pairs * heads * (key_dim + value_dim))


def recurrent_flop(tokens: Real, heads: Real, key_dim: Real, value_dim: Real) -> Array:
    """FLOP of a gated delta rule or SSM scan: decay, outer-product update, delta read, output read on a (d_k, d_v)
    state, about 8 a state value and token (Gated DeltaNet, arXiv:2412.06464; Mamba-2, arXiv:2405.21060)."""
    return np.asarray(8.0 * tokens * heads * key_dim * value_dim)


def experts_touched(experts: Real, top_k: Real, tokens: Real) -> Array:
    """Expected number of distinct experts that `tokens` tokens touch under uniform routing: E (1 - (1 - k/E)^T).

    The complement is the chance that no token picks an expert (coupon-collector argument; MoE-Lightning,
    arXiv:2411.11217). Skewed routing touches fewer.

    >>> round(float(experts_touched(8.0, 2.0, 1.0)), 9)
    2.0
    """
    experts = np.asarray(experts, float)
    share = np.clip(np.asarray(top_k, float) / np.maximum(experts, 1.0), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        return experts * -np.expm1(np.asarray(tokens, float) * np.log1p(-np.minimum(share, 1.0 - 1e-12)))


def busiest_share(pairs: Real, groups: Real, skew: Real = 0.0) -> Array:
    """Load of the busiest of `groups` expert-parallel ranks over the mean load, `pairs` token-expert pairs thrown.

    Balls into bins: mean x = pairs/groups, maximum about x + sqrt(2 x ln groups) (Raab & Steger, RANDOM 1998);
    `skew` adds a relative excess that does not average out (popular experts; DeepSeek-V3, arXiv:2412.19437 sec. 3.4).
    """
    groups = np.maximum(np.asarray(groups, float), 1.0)
    mean = np.maximum(np.asarray(pairs, float) / groups, 1e-9)
    excess = np.sqrt(2.0 * np.log(groups) / mean)
    return np.minimum(1.0 + excess + skew * (groups > 1.0), groups)


def roofline_time(work: Real, peak: Real, moved: Real, bandwidth: Real) -> Array:
    """Seconds a kernel needs at least: the slower of computing and moving (Williams et al., CACM 52(4), 2009)."""
    return np.maximum(np.asarray(work) / peak, np.asarray(moved) / bandwidth)


def exchange_time(message: Real, group: Real, bandwidth: Real, latency: Real, hops: Real, passes: Real) -> Array:
    """Gathering or scattering a vector of `message` bytes in pieces of 1/g: each device's links carry (g-1)/g of it.

    hops: latencies a pass, g-1 round a ring, sides less one along a torus (rings by dimension), 1 where all devices
    are linked (Chan et al., Concurrency and Computation 19(13), 2007, sec. 6-7). passes: 2 for all-reduce
    (reduce-scatter then all-gather: "two-shot" in one hop each), 1 for all-gather, reduce-scatter.
    bandwidth: B/s a direction a device; latency: s a hop.

    >>> round(float(exchange_time(100e6, 8.0, 100e9, 1e-6, 7.0, 2.0)) * 1e6, 6)
    1764.0
    """
    group = np.asarray(group, float)
    share = np.maximum(group - 1.0, 0.0) / np.maximum(group, 1.0)
    return np.where(group > 1, passes * (hops * latency + share * np.asarray(message) / bandwidth), 0.0)


def tree_time(message: Real, group: Real, bandwidth: Real, latency: Real, passes: Real) -> Array:
    """Pipelined double binary tree: log2(g) hops a pass, each byte crosses a link once a pass (Sanders et al.,
    Parallel Computing 35(12), 2009; NCCL 2.4)."""
    group = np.asarray(group, float)
    hops = passes * np.log2(np.maximum(group, 1.0))
    return np.where(group > 1, hops * latency + passes * np.asarray(message) / bandwidth, 0.0)


def one_shot_time(message: Real, group: Real, bandwidth: Real, latency: Real) -> Array:
    """One-shot all-reduce where all devices are linked: each reads all g-1 others at once, one hop (vLLM and
    TensorRT-LLM custom all-reduce; the whole vector arrives g-1 times at one device)."""
    group = np.asarray(group, float)
    return np.where(group > 1, latency + (group - 1.0) * np.asarray(message) / bandwidth, 0.0)


def all_to_all_time(message: Real, group: Real, bandwidth: Real, latency: Real, distance: Real = 1.0) -> Array:
    """All-to-all: each device keeps 1/g of its `message` bytes and sends the rest (Thakur et al., IJHPCA 19(1), 2005).

    distance: links that a byte crosses in the mean; all of them share the links' bandwidth.
    """
    group = np.asarray(group, float)
    crossing = distance * np.maximum(group - 1.0, 0.0) / np.maximum(group, 1.0) * np.asarray(message)
    return np.where(group > 1, latency * np.log2(np.maximum(group, 2.0)) + crossing / bandwidth, 0.0)


def all_busy(utilisation: Real, servers: Real = 1.0) -> Array:
    """Chance that an arrival finds all m servers busy, about rho^(sqrt(2(m+1)) - 1) (Sakasegawa, Ann. Inst. Stat.
    Math. 29, 1977); within 0.06 of Erlang's C formula, exact for one server.

    >>> float(all_busy(0.5))
    0.5
    """
    return np.power(np.asarray(utilisation, float), np.sqrt(2.0 * (np.asarray(servers) + 1.0)) - 1.0)


def queue_wait(
    utilisation: Real, service: Real, arrival_cv: Real = 1.0, service_cv: Real = 0.0, servers: Real = 1.0
) -> Array:
    """Mean wait for one of m equal servers: (c_a^2 + c_s^2)/2 times that of M/M/m, all_busy / (m (1 - rho)) * s
    (Allen & Cunneen; Sakasegawa, Ann. Inst. Stat. Math. 29, 1977). utilisation: of each server.

    One server: Kingman's formula (Proc. Camb. Phil. Soc. 57, 1961), exact for M/G/1 (Pollaczek-Khinchine) at
    arrival_cv 1. Infinite at or above full load.
    """
    rho = np.asarray(utilisation, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        lasting = service * (np.square(arrival_cv) + np.square(service_cv)) / 2.0
        wait = all_busy(rho, servers) / (servers * (1.0 - rho)) * lasting
    return np.where(rho < 1.0, wait, np.inf)
