"""Compute the roofline: the least time that work can take."""

from __future__ import annotations

from functools import reduce

import numpy as np

from perfmodel.arrays import Array


def least_time(
    flop: Array | float = 0.0,
    moved: Array | float = 0.0,
    linked: Array | float = 0.0,
    *,
    peak: Array | float = np.inf,
    bandwidth: Array | float = np.inf,
    link_bandwidth: Array | float = np.inf,
) -> Array:
    """Return the least seconds of a kernel: the slowest of computing, moving and sending, which may overlap fully.

    Parameters
    ----------
    flop : array or float
        Arithmetic, FLOP.
    moved : array or float
        Traffic of device memory, bytes.
    linked : array or float
        Traffic over the device's link to other devices, bytes per direction.
    peak, bandwidth, link_bandwidth : array or float
        Rates: FLOP/s; bytes/s of device memory; bytes/s per direction of the link. An unknown rate (NaN) makes the
        answer NaN; leave out what does not limit.

    Returns
    -------
    Array
        Seconds.

    References
    ----------
    Williams, Waterman & Patterson, Roofline, CACM 52(4), 2009, doi:10.1145/1498765.1498785.

    Examples
    --------
    >>> float(least_time(2e12, 1e9, peak=1e15, bandwidth=1e12)), float(least_time(linked=4e9, link_bandwidth=2e9))
    (0.002, 2.0)
    """
    parts = ((flop, peak), (moved, bandwidth), (linked, link_bandwidth))
    times = [np.asarray(work) / rate for work, rate in parts if rate is not np.inf]  # what is left out takes none
    return np.asarray(reduce(np.maximum, times) if times else 0.0)
