"""Count where the tokens of a device go on their way to routed experts, and compute the time of the two ways there."""

from __future__ import annotations

import math

import numpy as np

from perfmodel.arrays import Array

#: Largest share of the places that one pick may take, so that the logarithm of the rest stays finite.
_ALMOST_ALL = 1.0 - 1e-12


def places_reached(places: Array | float, top_k: float, groups: int = 0, top_groups: int = 0) -> Array:
    """Return how many of equally large places (nodes, devices) hold any of a token's experts, on average.

    Experts lie on places in order. A token picks experts at random, with node-limited routing at random among the
    experts of `top_groups` of `groups` groups.

    Parameters
    ----------
    places : array or float
        Nodes or devices that the experts are spread over, count.
    top_k : float
        Experts per token, count.
    groups, top_groups : int
        Groups of experts, and groups that the experts of a token lie in, counts; 0: no groups.

    Returns
    -------
    Array
        Places, from 1 to the smaller of `places` and `top_k`.

    References
    ----------
    Derived: places less those that every pick misses. Node-limited routing: DeepSeek-V3, arXiv:2412.19437, sec. 2.1.2;
    how many of the groups in a place are among the picked ones is hypergeometric.

    Examples
    --------
    >>> round(float(places_reached(2.0, 2.0)), 6), round(float(places_reached(8.0, 8.0, 8, 4)), 3)
    (1.5, 3.6)
    """
    places = np.asarray(np.maximum(np.asarray(places, float), 1.0))
    if not 0 < top_groups < groups:
        return _reached(places, top_k)
    wide = _reached(np.maximum(places * top_groups / groups, 1.0), top_k)
    missed = [_missed(held, top_k, groups, top_groups) for held in range(groups + 1)]
    narrow = places * (1.0 - np.interp(groups / places, np.arange(groups + 1.0), missed))
    return np.asarray(np.where(places >= groups, wide, narrow))


def _reached(places: Array, top_k: float) -> Array:
    """Return how many of `places` (N,) any of `top_k` random picks falls on, on average, (N,)."""
    return np.asarray(places * -np.expm1(top_k * np.log1p(-np.minimum(1.0 / places, _ALMOST_ALL))))


def _missed(held: int, top_k: float, groups: int, top_groups: int) -> float:
    """Return the chance that no pick falls on a place with `held` groups; other arguments as in `places_reached`."""
    ways = [math.comb(held, n) * math.comb(groups - held, top_groups - n) for n in range(top_groups + 1)]
    none = [(1.0 - n / top_groups) ** top_k for n in range(top_groups + 1)]
    return float(sum(w * m for w, m in zip(ways, none, strict=True)) / math.comb(groups, top_groups))


def scattered_time(
    far: Array | float,
    near: Array | float,
    net_bandwidth: Array | float,
    link_bandwidth: Array | float,
    latency: Array | float,
) -> Array:
    """Return the time to scatter rows over two kinds of link that carry their parts side by side.

    Parameters
    ----------
    far, near : array or float
        Bytes that a device sends to other nodes, and over the links of its node, bytes.
    net_bandwidth, link_bandwidth : array or float
        Rates of a device over the network and over the links of its node, bytes/s per direction.
    latency : array or float
        Seconds of a call that sends nothing.

    Returns
    -------
    Array
        Seconds: the latency and the longer of the two transfers.

    References
    ----------
    DeepEP (deepseek-ai/DeepEP README.md @0297fc8): forwarding over NVLink is pipelined with RDMA.

    Examples
    --------
    >>> round(float(scattered_time(1e6, 2e6, 50e9, 400e9, 20e-6)) * 1e6, 6)
    40.0
    """
    over_net = np.where(np.asarray(far) > 0, np.asarray(far) / net_bandwidth, 0.0)
    over_links = np.where(np.asarray(near) > 0, np.asarray(near) / link_bandwidth, 0.0)
    return np.asarray(latency + np.maximum(over_net, over_links))
