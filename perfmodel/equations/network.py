"""Compute bytes and times of collectives between devices.

`message` is counted as in `perfmodel.costs.rooflines.collectives`: the vector that each device holds for all-reduce,
the full vector for all-gather and reduce-scatter, what one device sends in all for all-to-all.
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array


def collective_bytes(message: Array | float, group: Array | float, passes: Array | float) -> Array:
    """Return the bytes that one device sends over its link in a collective: (g - 1)/g of the message per pass.

    Parameters
    ----------
    message : array or float
        Size of the message, bytes.
    group : array or float
        Devices that take part (g), count.
    passes : array or float
        2 for all-reduce (reduce-scatter, then all-gather), 1 for the others, count.

    Returns
    -------
    Array
        Bytes per device and direction.

    References
    ----------
    Thakur et al., IJHPCA 19(1), 2005.

    Examples
    --------
    >>> float(collective_bytes(8.0, 4.0, 2.0))
    12.0
    """
    group = np.maximum(np.asarray(group, float), 1.0)
    return np.asarray(passes * (group - 1.0) / group * np.asarray(message, float))


def exchange_time(
    message: Array | float,
    group: Array | float,
    bandwidth: Array | float,
    latency: Array | float,
    hops: Array | float,
    passes: Array | float,
) -> Array:
    """Return the time to gather or scatter a vector in pieces of 1/g: a device's links carry (g - 1)/g of it per pass.

    Parameters
    ----------
    message, group : array or float
        Size of the whole vector, bytes, and devices that take part (g), count.
    bandwidth, latency : array or float
        Rate of a device's links, bytes/s per direction, and latency of a hop, seconds.
    hops : array or float
        Latencies per pass: g - 1 round a ring, sides less one along a torus (rings by dimension), 1 where all devices
        are linked, count.
    passes : array or float
        2 for all-reduce (reduce-scatter, then all-gather: "two-shot" in one hop each), 1 for all-gather and
        reduce-scatter, count.

    Returns
    -------
    Array
        Seconds; 0 for a group of one.

    References
    ----------
    Chan et al., Concurrency and Computation 19(13), 2007, sec. 6-7.

    Examples
    --------
    >>> round(float(exchange_time(100e6, 8.0, 100e9, 1e-6, 7.0, 2.0)) * 1e6, 6)
    1764.0
    """
    group = np.asarray(group, float)
    share = np.maximum(group - 1.0, 0.0) / np.maximum(group, 1.0)
    return np.where(group > 1, passes * (hops * latency + share * np.asarray(message) / bandwidth), 0.0)


def tree_time(
    message: Array | float,
    group: Array | float,
    bandwidth: Array | float,
    latency: Array | float,
    passes: Array | float,
) -> Array:
    """Return the time of a pipelined double binary tree: log2(g) hops per pass; a byte crosses a link once per pass.

    Parameters
    ----------
    message : array or float
        Size of the vector that each device holds, bytes.
    group : array or float
        Devices that take part (g), count.
    bandwidth, latency : array or float
        Rate of a device's links, bytes/s per direction, and latency of a hop, seconds.
    passes : array or float
        2 for all-reduce (up the tree, then down), count.

    Returns
    -------
    Array
        Seconds; 0 for a group of one.

    References
    ----------
    Sanders et al., Parallel Computing 35(12), 2009; NCCL 2.4.

    Examples
    --------
    >>> round(float(tree_time(100e6, 8.0, 100e9, 1e-6, 2.0)) * 1e6, 6)
    2006.0
    """
    group = np.asarray(group, float)
    hops = passes * np.log2(np.maximum(group, 1.0))
    return np.where(group > 1, hops * latency + passes * np.asarray(message) / bandwidth, 0.0)


def one_shot_time(
    message: Array | float, group: Array | float, bandwidth: Array | float, latency: Array | float
) -> Array:
    """Return the time of a one-shot all-reduce on fully linked devices: each reads all g - 1 others at once, in a hop.

    Parameters
    ----------
    message : array or float
        Size of the vector that each device holds, bytes; it arrives g - 1 times at each device.
    group : array or float
        Devices that take part (g), count.
    bandwidth, latency : array or float
        Rate of a device's links, bytes/s per direction, and latency of a hop, seconds.

    Returns
    -------
    Array
        Seconds; 0 for a group of one.

    References
    ----------
    Custom all-reduce kernels of vLLM and TensorRT-LLM.

    Examples
    --------
    >>> round(float(one_shot_time(1e6, 8.0, 100e9, 1e-6)) * 1e6, 6)
    71.0
    """
    group = np.asarray(group, float)
    return np.where(group > 1, latency + (group - 1.0) * np.asarray(message) / bandwidth, 0.0)


def all_to_all_time(
    message: Array | float,
    group: Array | float,
    bandwidth: Array | float,
    latency: Array | float,
    distance: Array | float = 1.0,
) -> Array:
    """Return the time of an all-to-all: each device keeps 1/g of what it sends in all, and the rest crosses its links.

    Parameters
    ----------
    message : array or float
        What one device sends in all, its own share included, bytes.
    group : array or float
        Devices that take part (g), count.
    bandwidth, latency : array or float
        Rate of a device's links, bytes/s per direction, and latency of a hop, seconds.
    distance : array or float
        Links that a byte crosses on average, count; all bytes share the links' bandwidth.

    Returns
    -------
    Array
        Seconds; 0 for a group of one.

    References
    ----------
    Thakur et al., IJHPCA 19(1), 2005.

    Examples
    --------
    >>> round(float(all_to_all_time(8e6, 8.0, 100e9, 1e-6)) * 1e6, 6)
    73.0
    """
    group = np.asarray(group, float)
    crossing = distance * np.maximum(group - 1.0, 0.0) / np.maximum(group, 1.0) * np.asarray(message)
    return np.where(group > 1, latency * np.log2(np.maximum(group, 2.0)) + crossing / bandwidth, 0.0)
