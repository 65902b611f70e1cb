"""Compute the time to hand a request over between pools: its KV cache crosses the network."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.estimates.estimator import Prepared
from perfmodel.hardware import Hardware, group_link
from perfmodel.memory import sequence_bytes
from perfmodel.workload import Load

#: Seconds a request spends between the pools besides the transfer of its KV cache: the router, the other engine's front
#: end and scheduler, the connector's handshake. A round value: published runs at low concurrency take 0.02 to 0.2 s
#: longer than prompt, cache and one front end, whatever the prompt's length.
HAND_OVER = 0.1


def transfer_time(front: Prepared, back: Prepared, demand: Load) -> Array:
    """Return the seconds to hand a prompt over, (C, N); NaN where a device's network is not known.

    It is the fixed time `HAND_OVER` plus the time of the KV cache on the network: each device of either worker moves
    the share that it holds, at the rate of the slower end. Layers can leave as soon as they are computed, which would
    hide most of it (Splitwise, arXiv:2311.18677, sec. 4.3); engines do not do so by default, so it counts in full.

    Args:
        front, back: a prefill worker and a decode worker.
        demand: prompt lengths.
    """
    held = np.maximum(sequence_bytes(front.sharding, demand.input), sequence_bytes(back.sharding, demand.input))
    bandwidth, latency = between(front.hardware, back.hardware)
    return held / bandwidth + latency + HAND_OVER


def between(front: Hardware, back: Hardware) -> tuple[Array, Array]:
    """Return (bytes/s per device, latency in s) of the network between two kinds of device: the slower end's.

    (N,) each
    """
    ends = [group_link(end, end.peers + 1.0) for end in (front, back)]
    return np.minimum(ends[0].bandwidth, ends[1].bandwidth), np.maximum(ends[0].latency, ends[1].latency)
