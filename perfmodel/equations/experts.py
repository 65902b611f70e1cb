"""Count the work of routed experts, how many of them a batch touches, and how unevenly ranks are loaded."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array, clipped
from perfmodel.equations.gemm import SIXTEEN_BIT

#: Largest share of the experts that one token picks, so that the logarithm of the rest stays finite.
_ALMOST_ALL = 1.0 - 1e-12
#: Least token-expert pairs per rank, so that an empty step divides by no zero.
_LEAST_PAIRS = 1e-9


def grouped_gemm_flop(pairs: Array | float, hidden: Array | float, inner: Array | float, up: Array | float) -> Array:
    """Return FLOP of the expert MLPs: each token-expert pair goes through `up` matrices up and one down.

    Parameters
    ----------
    pairs : array or float
        Token-expert pairs that the device computes, count.
    hidden, inner : array or float
        Width of the experts' input and output, and their inner width on this device, counts.
    up : array or float
        Matrices from `hidden` to `inner`: 2 for gated experts (gate and up), else 1, count.

    Returns
    -------
    Array
        FLOP of one layer.

    References
    ----------
    Derived: `gemm_flop` of the 1 + up products. Gated MLP: Shazeer, arXiv:2002.05202.

    Examples
    --------
    >>> float(grouped_gemm_flop(10.0, 4.0, 8.0, 2.0))
    1920.0
    """
    return np.asarray((up + 1.0) * (2.0 * pairs * inner * hidden))


def grouped_gemm_bytes(
    pairs: Array | float,
    touched: Array | float,
    hidden: Array | float,
    inner: Array | float,
    up: Array | float,
    *,
    act_bytes: Array | float,
    weight_bytes: Array | float,
    out_bytes: Array | float = SIXTEEN_BIT,
) -> Array:
    """Return bytes moved by the expert MLPs: weights of each touched expert once, rows of products as in `gemm_bytes`.

    Parameters
    ----------
    pairs, touched : array or float
        Token-expert pairs that the device computes, and experts that any of them uses, counts.
    hidden, inner, up : array or float
        Width of input and output, inner width on this device, matrices from `hidden` to `inner` (2 if gated), counts.
    act_bytes, weight_bytes, out_bytes : array or float
        Bytes per value of what products read, of weights, and of what products write (16 bit even from narrow inputs).

    Returns
    -------
    Array
        Bytes of one layer. Per pair, products read hidden + inner values and write up x inner + hidden values.

    References
    ----------
    Derived: `gemm_bytes` of both products; weights of experts that no token picks are not read.

    Examples
    --------
    >>> float(grouped_gemm_bytes(10.0, 2.0, 4.0, 8.0, 2.0, act_bytes=1.0, weight_bytes=1.0))
    712.0
    """
    weights = (up + 1.0) * touched * hidden * inner * weight_bytes
    return np.asarray(weights + pairs * ((hidden + inner) * act_bytes + (up * inner + hidden) * out_bytes))


def experts_touched(experts: Array | float, top_k: Array | float, tokens: Array | float) -> Array:
    """Return the expected number of experts that a batch touches under uniform routing: E (1 - (1 - k/E)^T).

    Parameters
    ----------
    experts, top_k : array or float
        Routed experts of the layer (E), and experts per token (k), counts.
    tokens : array or float
        Tokens of the step (T), count.

    Returns
    -------
    Array
        Experts, count. The complement is the chance that no token picks an expert. Skewed routing touches fewer.

    References
    ----------
    Coupon-collector argument; MoE-Lightning, arXiv:2411.11217.

    Examples
    --------
    >>> round(float(experts_touched(8.0, 2.0, 1.0)), 9)
    2.0
    """
    experts = np.asarray(experts, float)
    share = clipped(np.asarray(top_k, float) / np.maximum(experts, 1.0), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        missed = np.asarray(tokens, float) * np.log1p(-np.minimum(share, _ALMOST_ALL))
        return np.asarray(experts * -np.expm1(missed))


def popular_experts_touched(experts: Array | float, top_k: Array | float, tokens: Array | float) -> Array:
    """Return the expected number of experts that a batch touches where some are more popular: E k T / (E + k (T - 1)).

    Parameters
    ----------
    experts, top_k : array or float
        Routed experts of the layer (E), and experts per token (k), counts.
    tokens : array or float
        Tokens of the step (T), count.

    Returns
    -------
    Array
        Experts, count. The chance with which a token picks an expert is taken as drawn from the beta distribution of
        mean k/E and shape 1, about exponential where k is much less than E: the chance of no pick by T tokens is
        B(1, b + T) / B(1, b) = b / (b + T), with b = E/k - 1.

    References
    ----------
    Beta-binomial law: Skellam 1948, J. R. Stat. Soc. B 10, 257. That routers pick some experts more often, and the same
    ones again: Mixtral, arXiv:2401.04088, section 5.

    Examples
    --------
    >>> popular_experts_touched(8.0, 2.0, np.array([1.0, 4.0])).tolist()
    [2.0, 4.571428571428571]
    """
    experts, tokens = np.asarray(experts, float), np.asarray(tokens, float)
    share = clipped(np.asarray(top_k, float) / np.maximum(experts, 1.0), 0.0, 1.0)
    return np.asarray(experts * share * tokens / (1.0 + share * np.maximum(tokens - 1.0, -_ALMOST_ALL)))


def busiest_share(pairs: Array | float, groups: Array | float, skew: Array | float = 0.0) -> Array:
    """Return the load of the busiest expert-parallel rank over the mean load, when pairs fall on ranks at random.

    Balls into bins: with x pairs per rank on average, the maximum is about x + sqrt(2 x ln groups).

    Parameters
    ----------
    pairs : array or float
        Token-expert pairs of all ranks, count.
    groups : array or float
        Expert-parallel ranks, count.
    skew : array or float
        Relative excess that does not average out (popular experts), ratio.

    Returns
    -------
    Array
        Ratio, from 1 to `groups`.

    References
    ----------
    Raab & Steger, RANDOM 1998; skew: DeepSeek-V3, arXiv:2412.19437, sec. 3.4.

    Examples
    --------
    >>> round(float(busiest_share(4096.0, 8.0)), 4)
    1.0901
    """
    groups = np.maximum(np.asarray(groups, float), 1.0)
    mean = np.maximum(np.asarray(pairs, float) / groups, _LEAST_PAIRS)
    excess = np.sqrt(2.0 * np.log(groups) / mean)
    return np.asarray(np.minimum(1.0 + excess + skew * (groups > 1.0), groups))


def rank_chance(ranks: Array | float, top_k: Array | float) -> Array:
    """Return the probability that a token picks any expert of a given expert-parallel rank: 1 - (1 - 1/ranks)^top_k.

    Parameters
    ----------
    ranks : array or float
        Expert-parallel ranks with equally many experts, count.
    top_k : array or float
        Experts per token, count.

    Returns
    -------
    Array
        Probability.

    References
    ----------
    Derived: independent picks under uniform routing.

    Examples
    --------
    >>> float(rank_chance(2.0, 2.0))
    0.75
    """
    return np.asarray(1.0 - np.power(1.0 - 1.0 / np.asarray(ranks, float), top_k))
