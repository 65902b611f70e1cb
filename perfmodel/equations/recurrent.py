"""Count the work of linear attention and state-space layers."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.equations.gemm import SIXTEEN_BIT

#: FLOP per state value and token: decay, outer-product update, delta read, output read; a multiply and an add each.
FLOP_PER_STATE_VALUE = 8.0
#: Bytes of a state value in a kernel: fp32.
STATE_BYTES = 4.0


def recurrent_flop(
    tokens: Array | float, heads: Array | float, key_dim: Array | float, value_dim: Array | float
) -> Array:
    """Return FLOP of a gated delta rule or a state-space scan on states of (key_dim, value_dim) per head.

    Parameters
    ----------
    tokens : array or float
        Tokens of all sequences together, count.
    heads : array or float
        Value heads, each with a state of its own, count.
    key_dim, value_dim : array or float
        Size of a key (or state) and of a value, counts.

    Returns
    -------
    Array
        FLOP of one layer: about 8 per state value and token.

    References
    ----------
    Gated DeltaNet, arXiv:2412.06464; Mamba-2, arXiv:2405.21060.

    Examples
    --------
    >>> float(recurrent_flop(10.0, 2.0, 4.0, 4.0))
    2560.0
    """
    return np.asarray(FLOP_PER_STATE_VALUE * tokens * heads * key_dim * value_dim)


def recurrent_bytes(
    sequences: Array | float,
    query: Array | float,
    heads: Array | float,
    key_heads: Array | float,
    key_dim: Array | float,
    value_dim: Array | float,
) -> Array:
    """Return bytes moved by a recurrent layer: states read and written once per sequence, rows of each token in 16 bit.

    Parameters
    ----------
    sequences, query : array or float
        Sequences, and tokens per sequence, counts.
    heads, key_heads : array or float
        Value heads, and heads that queries and keys have (fewer where several value heads share one), counts.
    key_dim, value_dim : array or float
        Size of a key (or state) and of a value, counts.

    Returns
    -------
    Array
        Bytes of one layer. Per token: query and key of each key head, value and output of each value head.

    References
    ----------
    Derived: compulsory traffic of the recurrences in arXiv:2412.06464 and arXiv:2405.21060.

    Examples
    --------
    >>> float(recurrent_bytes(1.0, 1.0, 2.0, 1.0, 4.0, 4.0))
    304.0
    """
    states = sequences * heads * key_dim * value_dim * (2.0 * STATE_BYTES)
    row = 2.0 * key_heads * key_dim + 2.0 * heads * value_dim
    return np.asarray(states + sequences * query * row * SIXTEEN_BIT)
