"""Count the work of attention: query-key pairs, FLOP and bytes, with grouped queries, windows and latents (MLA)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, clipped
from perfmodel.equations.gemm import SIXTEEN_BIT

#: Bytes of an indexer's cached key value (fp8, DeepSeek-V3.2-Exp report) and of a score (assumed: fp32).
_INDEX_KEY_BYTES, _INDEX_SCORE_BYTES = 1.0, 4.0


@dataclass(frozen=True)
class MlaSizes:
    """Hold the sizes of multi-head latent attention, counts (DeepSeek-V2, arXiv:2405.04434, sec. 2.1).

    key_dim, value_dim: query or key (rotary part included) and value of a head, expanded. rank: compressed key and
    value, shared by all heads. rope: decoupled rotary key, shared too.
    """

    key_dim: float
    value_dim: float
    rank: float
    rope: float

    @property
    def latent(self) -> float:
        """Return the number of values that the cache holds per token and layer."""
        return self.rank + self.rope


#: DeepSeek-V2 and V3 (arXiv:2405.04434; arXiv:2412.19437, sec. 4.2): key 128 + 64, value 128, latent 512 + 64.
DEEPSEEK_MLA = MlaSizes(key_dim=192.0, value_dim=128.0, rank=512.0, rope=64.0)


def causal_pairs(query: Array | float, context: Array | float, window: Array | float = np.inf) -> Array:
    """Count query-key pairs of causal attention; token i (1..query) sees min(context + i, window) keys.

    Parameters
    ----------
    query, context : array or float
        New tokens of a sequence, and tokens that are cached before them, counts.
    window : array or float
        Keys that a token may see, itself included (sliding window); infinite for full attention, count.

    Returns
    -------
    Array
        Pairs per head and sequence: query*context + query(query+1)/2 with full sight.

    References
    ----------
    FlashAttention-2, arXiv:2307.08691 (half of the square); Mistral 7B, arXiv:2310.06825 (window).

    Examples
    --------
    >>> float(causal_pairs(3.0, 2.0)), float(causal_pairs(3.0, 2.0, 4.0))
    (12.0, 11.0)
    """
    query, context, window = np.asarray(query, float), np.asarray(context, float), np.asarray(window, float)
    growing = clipped(window - context, 0.0, query)
    with np.errstate(invalid="ignore"):
        capped = np.where(query > growing, (query - growing) * np.where(np.isfinite(window), window, 0.0), 0.0)
    return np.asarray(growing * context + growing * (growing + 1.0) / 2.0 + capped)


def chunked_pairs(query: Array | float, context: Array | float, chunk: Array | float) -> Array:
    """Count query-key pairs where each token sees only its own chunk of the sequence, up to itself.

    A token at position p (from 0) sees p mod chunk + 1 keys; both counts are whole tokens.

    Parameters
    ----------
    query, context : array or float
        New tokens of a sequence, and tokens that are cached before them, counts.
    chunk : array or float
        Length of a chunk, tokens.

    Returns
    -------
    Array
        Pairs per head and sequence.

    References
    ----------
    Llama 4's local layers (transformers, modeling_llama4).

    Examples
    --------
    >>> float(chunked_pairs(3.0, 2.0, 4.0))
    8.0
    """

    def before(length: Array | float) -> Array:
        rest = np.mod(length, chunk)
        return np.asarray((length - rest) * (chunk + 1.0) / 2.0 + rest * (rest + 1.0) / 2.0)

    return np.asarray(before(np.add(context, query)) - before(context))


def keys_read(query: Array | float, context: Array | float, window: Array | float = np.inf) -> Array:
    """Count cached positions that the attention of a prefill reads: all so far, or what any new token's window covers.

    Parameters
    ----------
    query, context : array or float
        New tokens of a sequence, and tokens that are cached before them, counts.
    window : array or float
        Keys that a token may see; infinite for full attention, count.

    Returns
    -------
    Array
        Positions per sequence, new tokens included.

    References
    ----------
    Derived from `causal_pairs`: windows of consecutive tokens overlap but for one key each.

    Examples
    --------
    >>> float(keys_read(3.0, 100.0)), float(keys_read(3.0, 100.0, 8.0))
    (103.0, 11.0)
    """
    return np.asarray(np.minimum(np.add(context, query), np.add(window, query)))


def attention_flop(
    pairs: Array | float, heads: Array | float, key_dim: Array | float, value_dim: Array | float
) -> Array:
    """Return FLOP of attention scores and weighted values: 2 key_dim + 2 value_dim per query-key pair and head.

    Parameters
    ----------
    pairs : array or float
        Query-key pairs, count.
    heads : array or float
        Query heads, count.
    key_dim, value_dim : array or float
        Size of a key and of a value, counts.

    Returns
    -------
    Array
        FLOP of one layer.

    References
    ----------
    Vaswani et al., arXiv:1706.03762, eq. 1.

    Examples
    --------
    >>> float(attention_flop(10.0, 2.0, 4.0, 4.0))
    320.0
    """
    return np.asarray(2.0 * pairs * heads * (key_dim + value_dim))


def attention_bytes(
    sequences: Array | float,
    query: Array | float,
    seen: Array | float,
    heads: Array | float,
    kv_heads: Array | float,
    width: Array | float,
    kv_bytes: Array | float,
) -> Array:
    """Return bytes moved by attention: queries in and outputs out once in 16 bit, each cached key and value once.

    Parameters
    ----------
    sequences, query, seen : array or float
        Sequences; new tokens, and cached positions read, per sequence, counts.
    heads, kv_heads : array or float
        Query heads, and key-value heads (fewer with grouped queries), counts.
    width : array or float
        Values of a key and a value together (key_dim + value_dim), count; also of a query and an output.
    kv_bytes : array or float
        Bytes per cached value.

    Returns
    -------
    Array
        Bytes of one layer.

    References
    ----------
    FlashAttention-2, arXiv:2307.08691 (scores stay on chip); grouped queries: Ainslie et al., arXiv:2305.13245.

    Examples
    --------
    >>> float(attention_bytes(1.0, 1.0, 10.0, 8.0, 2.0, 256.0, 2.0))
    14336.0
    """
    return np.asarray(sequences * width * (seen * kv_heads * kv_bytes + query * heads * SIXTEEN_BIT))


def mla_flop(pairs: Array | float, heads: Array | float, sizes: MlaSizes) -> Array:
    """Return FLOP of latent attention in its absorbed form (decode): scores over the latent, outputs over its rank.

    Parameters
    ----------
    pairs : array or float
        Query-key pairs, count.
    heads : array or float
        Query heads, count.
    sizes : MlaSizes
        Sizes of the latent, counts.

    Returns
    -------
    Array
        FLOP of one layer. A prefill works on expanded heads: `attention_flop` with key_dim and value_dim.

    References
    ----------
    DeepSeek-V2, arXiv:2405.04434, sec. 2.1.2.

    Examples
    --------
    >>> float(mla_flop(1.0, 1.0, DEEPSEEK_MLA))
    2176.0
    """
    return attention_flop(pairs, heads, sizes.latent, sizes.rank)


def mla_bytes(
    sequences: Array | float,
    query: Array | float,
    seen: Array | float,
    heads: Array | float,
    sizes: MlaSizes,
    kv_bytes: Array | float,
) -> Array:
    """Return bytes moved by absorbed latent attention (decode): the latent once for all heads, and each head's rows.

    Parameters
    ----------
    sequences, query, seen : array or float
        Sequences; new tokens, and cached positions read, per sequence, counts.
    heads : array or float
        Query heads, count.
    sizes : MlaSizes
        Sizes of the latent, counts.
    kv_bytes : array or float
        Bytes per cached value.

    Returns
    -------
    Array
        Bytes of one layer. Rows: a query of latent size in, an output of rank size out, in 16 bit.

    References
    ----------
    DeepSeek-V2, arXiv:2405.04434, sec. 2.1.2.

    Examples
    --------
    >>> float(mla_bytes(1.0, 1.0, 10.0, 1.0, DEEPSEEK_MLA, 2.0))
    13696.0
    """
    rows = query * heads * (sizes.latent + sizes.rank) * SIXTEEN_BIT
    return np.asarray(sequences * (seen * sizes.latent * kv_bytes + rows))


def mla_prefill_bytes(
    sequences: Array | float,
    query: Array | float,
    seen: Array | float,
    heads: Array | float,
    sizes: MlaSizes,
    kv_bytes: Array | float | None = None,
) -> Array:
    """Return bytes of latent attention on expanded heads (prefill): queries, outputs, keys and values or their latent.

    Parameters
    ----------
    sequences, query, seen : array or float
        Sequences; new tokens, and positions read, per sequence, counts.
    heads : array or float
        Query heads, count.
    sizes : MlaSizes
        Sizes of the heads and of the latent, counts.
    kv_bytes : array or float, optional
        Bytes per cached value of the latent, read once for all heads. None: the kernel reads keys and values of every
        head, expanded in 16 bit, as kernels that were measured alone do.

    Returns
    -------
    Array
        Bytes of one layer.

    References
    ----------
    DeepSeek-V2, arXiv:2405.04434, sec. 2.1.2.

    Examples
    --------
    >>> float(mla_prefill_bytes(1.0, 1.0, 10.0, 1.0, DEEPSEEK_MLA, 2.0))
    12160.0
    """
    head = (sizes.key_dim + sizes.value_dim) * SIXTEEN_BIT
    read = seen * heads * head if kv_bytes is None else seen * sizes.latent * kv_bytes
    return np.asarray(sequences * (read + query * heads * head))


def indexer_flop(pairs: Array | float, heads: Array | float, key_dim: Array | float) -> Array:
    """Return FLOP of a sparse-attention indexer: one dot product per pair and index head.

    Parameters
    ----------
    pairs : array or float
        Query-key pairs that are scored, count.
    heads, key_dim : array or float
        Index heads, and size of an index key, counts.

    Returns
    -------
    Array
        FLOP of one layer.

    References
    ----------
    DeepSeek-V3.2-Exp report (index score).

    Examples
    --------
    >>> float(indexer_flop(10.0, 2.0, 4.0))
    160.0
    """
    return np.asarray(2.0 * pairs * heads * key_dim)


def indexer_bytes(pairs: Array | float, keys: Array | float, key_dim: Array | float) -> Array:
    """Return bytes moved by a sparse-attention indexer: each cached index key once in fp8, each score once in fp32.

    Parameters
    ----------
    pairs, keys : array or float
        Query-key pairs that are scored, and cached index keys that are read, counts.
    key_dim : array or float
        Size of an index key, count.

    Returns
    -------
    Array
        Bytes of one layer.

    References
    ----------
    DeepSeek-V3.2-Exp report (fp8 index keys).

    Examples
    --------
    >>> float(indexer_bytes(10.0, 5.0, 4.0))
    60.0
    """
    return np.asarray(keys * key_dim * _INDEX_KEY_BYTES + _INDEX_SCORE_BYTES * pairs)
