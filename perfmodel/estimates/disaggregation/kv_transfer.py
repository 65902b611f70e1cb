"""Compute what it takes to hand requests over between pools: the link of their KV cache, its time and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Mask, clipped
from perfmodel.deployment import Deployments, HandOver
from perfmodel.engines import Engine
from perfmodel.estimates.estimation.estimator import Prepared
from perfmodel.hardware import Hardware, efficiency_of, group_link
from perfmodel.memory import sequence_bytes
from perfmodel.models import ModelSpec
from perfmodel.serving import MAX_UTILISATION
from perfmodel.workload import Load

#: Seconds that a request spends between pools besides the transfer of its KV cache: the router, the other engine's
#: front end and scheduler, the connector's handshake. Between machines a round value: published runs at low concurrency
#: take 0.02 to 0.2 s longer than prompt, cache and one front end, whatever the prompt's length. Within a machine
#: measured: gpt-oss-120b on H100, 4 users, mean TTFT 216 ms with one prefill worker against 177 ms of two replicas, of
#: which half is the queue for the one worker (anyscale/ray-serve-llm-perf-examples prefill_decode/bm_results @04ba8ab,
#: 2025-11); below 30 ms, transfer included, in 95 % of requests (DistServe, arXiv:2401.09670, sec. 6.3).
HAND_OVER, HAND_OVER_IN_NODE = 0.1, 0.02
#: Largest fabric that counts as one machine. Chosen: HGX boards have 8 devices, DGX-2 and Trainium nodes 16; NVL72
#: racks and TPU slices consist of many machines.
NODE_DEVICES = 16.0
#: Share of a network's rate that KV transfers reach, and most B/s of one network port. Measured: 87 GB/s over 4 ports
#: of 200 Gb/s, 190 GB/s over 8 of 400 Gb/s (kvcache-ai/Mooncake README.md, transfer engine, 2025).
NETWORK_SHARE, PORT_MOST = 0.87, 24e9
#: Devices at the two ends of one transfer: each device sends its share to one other.
_PAIR = 2.0


@dataclass(frozen=True)
class Transfer:
    """Describe the hand-over of requests from a prefill pool to a decode pool.

    seconds: of the KV cache on the link, (C, N). sending, receiving: mean seconds per request that a worker of either
    pool is busy with it, (N,). delay: seconds besides, (N,). workers: numbers of prefill and of decode workers, (N,)
    each. layers: of the model. layerwise: whether each layer leaves as soon as it is computed.
    """

    seconds: Array
    sending: Array
    receiving: Array
    delay: Array
    workers: tuple[Array, Array]
    layers: float
    layerwise: bool

    def after(self, prefill: Array) -> Array:
        """Return the seconds from the end of a prefill until the request can be decoded, without queueing. (C, N)

        Derived: with layers sent one by one, the last one leaves when the prefill ends and no earlier than the link is
        free: max(s / L, s - p (L - 1) / L) for a transfer s, a prefill p and L layers (Splitwise, arXiv:2311.18677,
        sec. 4.3).

        prefill: seconds of the prompt's own prefill, (C, N).
        """
        if not self.layerwise:
            return self.seconds + self.delay
        rest = self.seconds - prefill * (self.layers - 1.0) / self.layers
        return np.maximum(self.seconds / self.layers, rest) + self.delay

    def max_rate(self) -> Array:
        """Return the highest requests/s that the links of both pools carry, (N,); infinite without KV cache."""
        with np.errstate(divide="ignore"):
            ends = self.workers[0] / self.sending, self.workers[1] / self.receiving
        return np.asarray(MAX_UTILISATION * np.minimum(*ends))

    @cached_property
    def _ends(self) -> tuple[Array, Array]:
        """Return (mean seconds per request that a worker is busy with it, workers) of both pools, (2, N) each."""
        return np.stack([self.sending, self.receiving]), np.stack(self.workers)

    def wait(self, rate: Array, others: Array | float = np.inf) -> Array:
        """Return the mean seconds that a transfer waits for others on the link of either worker. (N,)

        Derived: transfers of a worker share its link one after another: a queue (M/D/1) at the busier end, since what
        has queued at one end arrives in turn at the other.

        Args:
            rate: requests/s over both pools, (N,).
            others: other requests in the system: no transfer waits for more than these, (N,).
        """
        busy, workers = self._ends
        utilisation = clipped(rate * busy / workers, 0.0, MAX_UTILISATION)
        return np.asarray(np.max(np.minimum(eq.queue_wait(utilisation, busy), others * busy / workers), axis=0))


def transfer(
    ends: tuple[Prepared, Prepared], pools: tuple[Deployments, Deployments], workers: tuple[Array, Array], demand: Load
) -> Transfer:
    """Return the hand-over between N pairs of pools; NaN seconds where the rate of a link is not known.

    Each device of either worker moves the share of the KV cache that it holds, at the rate of the slower end.

    Args:
        ends: a prefill worker and a decode worker, prepared.
        pools, workers: deployment of a worker and numbers of workers, prefill first.
        demand: prompt lengths.
    """
    how = pools[1].hand_over
    hardware = ends[0].hardware, ends[1].hardware
    devices = pools[0].devices_per_replica, pools[1].devices_per_replica
    bandwidth, latency, delay = link_between(hardware, least_group(devices, workers), how)
    if np.isnan(how.bandwidth):
        sharding = ends[0].sharding
        ways = sharding.attention_tp, ends[1].sharding.attention_tp
        bandwidth = np.minimum(bandwidth, cut_bandwidth(ends[0].steps.engine, sharding.model, ways))
    parts = [sequence_bytes(end.sharding, demand.input) / bandwidth for end in ends]
    return Transfer(
        seconds=np.maximum(*parts),
        sending=demand.mean(parts[0]),
        receiving=demand.mean(parts[1]),
        delay=latency + delay,
        workers=workers,
        layers=float(max(ends[0].sharding.model.layers, 1)),
        layerwise=how.layerwise,
    )


def cut_bandwidth(engine: Engine, model: ModelSpec, ways: tuple[Array, Array]) -> Array:
    """Return the most B/s per device at which pages cross that are cut by heads, (N,); infinite where none are.

    ways: devices that split the heads of a prefill worker and of a decode worker, (N,) each. The devices of either end
    that holds more of a request's cache share `Engine.cut_pages`.
    """
    shards = [np.minimum(n, model.kv_heads) for n in ways]
    return np.where(shards[0] != shards[1], engine.cut_pages / np.minimum(*shards), np.inf)


def least_group(devices: tuple[Array, Array], workers: tuple[Array, Array]) -> Array:
    """Return the devices of the least group of whole workers in the ratio of both pools, (N,).

    Pools of several such groups can be placed group by group, each on a node of its own whose prefill workers hand over
    to its decode workers (DistServe, arXiv:2401.09670, sec. 4.2). devices: of a worker; workers: how many; of the
    prefill pool, then of the decode pool, (N,) each.
    """
    counts = [np.rint(np.asarray(n, float)).astype(np.int64) for n in workers]
    whole = np.isclose(counts[0], workers[0]) & np.isclose(counts[1], workers[1])
    groups = np.where(whole, np.gcd(*counts), 1)
    return np.asarray((devices[0] * workers[0] + devices[1] * workers[1]) / groups)


def link_between(hardware: tuple[Hardware, Hardware], devices: Array, how: HandOver) -> tuple[Array, Array, Array]:
    """Return (B/s per device, latency in s, delay in s) of the link that KV cache crosses between two pools, (N,) each.

    The fabric of the node or rack is taken where the devices of both pools, of one kind, are few enough to be on it,
    or where `how` says so; otherwise the network. The slower end counts.

    Args:
        hardware: of the two pools.
        devices: of both pools together, as far as they need to be on one fabric (`least_group`), (N,).
        how: what the user states.
    """
    rows = np.ones(len(devices))
    local = _on_one_fabric(hardware, devices) if how.place == "auto" else rows * (how.place != "network") > 0
    small = np.minimum(hardware[0].peers, hardware[1].peers) <= NODE_DEVICES
    machine = local & (small if how.place == "auto" else how.place == "node")
    found = [reached(end, local) for end in hardware]
    bandwidth = np.minimum(found[0][0], found[1][0]) if np.isnan(how.bandwidth) else rows * how.bandwidth
    latency = np.nan_to_num(np.maximum(found[0][1], found[1][1]))
    delay = np.where(machine, HAND_OVER_IN_NODE, HAND_OVER) if np.isnan(how.delay) else rows * how.delay
    return bandwidth, latency, delay


def _on_one_fabric(hardware: tuple[Hardware, Hardware], devices: Array) -> Mask:
    """Return whether the fabric of one node or rack joins all `devices` (N,) of both pools, which are of one kind."""
    names = [np.array(end.names, dtype=object)[end.index] for end in hardware]
    same = np.asarray(names[0] == names[1], bool)
    return same & (devices <= hardware[0].peers) & np.isfinite(hardware[0].link_bandwidth)


def reached(hardware: Hardware, local: Mask) -> tuple[Array, Array]:
    """Return (B/s per device that transfers reach, latency in s), (N,) each; local: whether on the fabric, (N,).

    Cards on PCIe reach the network through the same bus.
    """
    pair = group_link(hardware, np.full(len(local), _PAIR))
    fabric = pair.bandwidth * efficiency_of(hardware).link
    network = np.minimum(NETWORK_SHARE * hardware.net_bandwidth, PORT_MOST)
    behind_bus = (hardware.topology == "pcie") & (hardware.peers > 1)
    network = np.where(behind_bus, np.minimum(network, fabric), network)
    return np.where(local, fabric, network), np.where(local, pair.latency, hardware.net_latency)
