"""Count the work of dense matrix products and of elementwise kernels."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array

#: Bytes of a bf16 or fp16 value: what GEMMs write and what attention, norms and routing read.
SIXTEEN_BIT = 2.0


def gemm_flop(m: Array | float, n: Array | float, k: Array | float) -> Array:
    """Return FLOP of C(m, n) = A(m, k) B(k, n): one multiply and one add per term.

    Parameters
    ----------
    m, n, k : array or float
        Rows of A, columns of B and the summed dimension, counts.

    Returns
    -------
    Array
        FLOP of one product.

    References
    ----------
    Golub & Van Loan, Matrix Computations, 4th ed., 2013, chapter 1.

    Examples
    --------
    >>> float(gemm_flop(2.0, 3.0, 4.0))
    48.0
    """
    return np.asarray(2.0 * m * n * k)


def gemm_bytes(
    m: Array | float,
    n: Array | float,
    k: Array | float,
    *,
    act_bytes: Array | float,
    weight_bytes: Array | float,
    out_bytes: Array | float = SIXTEEN_BIT,
) -> Array:
    """Return the least bytes that C(m, n) = A(m, k) B(k, n) moves to and from device memory: each matrix once.

    Parameters
    ----------
    m, n, k : array or float
        Rows of A, columns of B and the summed dimension, counts.
    act_bytes, weight_bytes, out_bytes : array or float
        Bytes per value of A (activations), B (weights) and C (results; 16 bit also where A is narrower).

    Returns
    -------
    Array
        Bytes of one product.

    References
    ----------
    Compulsory traffic: Williams et al., CACM 52(4), 2009, doi:10.1145/1498765.1498785.

    Examples
    --------
    >>> float(gemm_bytes(2.0, 3.0, 4.0, act_bytes=1.0, weight_bytes=1.0))
    32.0
    """
    return np.asarray(m * k * act_bytes + k * n * weight_bytes + m * n * out_bytes)


def elementwise_bytes(rows: Array | float, values: Array | float, value_bytes: Array | float = SIXTEEN_BIT) -> Array:
    """Return the bytes that a kernel without reuse moves: every value that it reads or writes, once.

    Parameters
    ----------
    rows : array or float
        Rows (tokens) that the kernel handles, count.
    values : array or float
        Values per row that it reads plus values per row that it writes, count.
    value_bytes : array or float
        Bytes per value.

    Returns
    -------
    Array
        Bytes of one call.

    References
    ----------
    Compulsory traffic: Williams et al., CACM 52(4), 2009, doi:10.1145/1498765.1498785.

    Examples
    --------
    >>> float(elementwise_bytes(8.0, 2 * 4096.0))
    131072.0
    """
    return np.asarray(rows * values * value_bytes)
