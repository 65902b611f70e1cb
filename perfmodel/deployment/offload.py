"""Place weights, experts and KV cache in host memory, and compute the time to reach them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hwdb import InputError
from perfmodel import equations as eq
from perfmodel.arrays import Array, Index
from perfmodel.deployment.columns import Deployments
from perfmodel.hardware import EXPERTS_HAND_OVER, Where, host_link_bandwidth
from perfmodel.models import ModelSpec

_BY_CPU = ", or name the host's CPU (flag --host-cpu, host in a scenario)"
#: Key of a missing quantity -> (what it is, where a user can give it), for error messages.
_UNKNOWN = {
    "host_link_gbs": ("rate at which copies from its host arrive", " in a scenario, or the flag --host-link-gbs"),
    "host_memory_gbs": ("memory bandwidth of its host", f" in a scenario{_BY_CPU}"),
    "host_tflops": ("arithmetic of its host", f" in a scenario{_BY_CPU}"),
}


@dataclass(frozen=True)
class Hosted:
    """Describe what lies in host memory behind each device, (N,).

    weights, experts, kv: shares (0 to 1) of the layers' weights without routed experts, of the routed experts, and of
    the KV cache. link, bandwidth: bytes/s over the host link and of host memory. memory: bytes. flops: FLOP/s of the
    host. where: whether the device streams its operands or the host computes. prefetch: whether streaming overlaps.
    """

    weights: Array
    experts: Array
    kv: Array
    link: Array
    memory: Array
    bandwidth: Array
    flops: Array
    where: Where
    prefetch: bool

    def take(self, rows: Index) -> Hosted:
        """Return the candidates at positions `rows`."""
        columns = ("weights", "experts", "kv", "link", "memory", "bandwidth", "flops")
        return replace(self, **{c: getattr(self, c)[rows] for c in columns})

    def time(self, moved: Array | float, flop: Array | float, *, experts: bool = False) -> Array:
        """Return the seconds of work whose operands all lie in host memory. moved: bytes; flop: FLOP.

        experts: whether it is the experts of a layer, before and after which the device works.

        Streaming is limited by the link or by host memory. Where the host may compute, the faster of the two ways
        counts.
        """
        streamed = np.asarray(moved) / np.fmin(self.link, self.bandwidth)
        if self.where == "stream":
            return streamed
        computed = eq.least_time(flop, moved, peak=self.flops, bandwidth=self.bandwidth)
        return np.fmin(streamed, computed + (EXPERTS_HAND_OVER if experts else 0.0))


def hosted(deployments: Deployments) -> Hosted | None:
    """Describe what `deployments` keep in host memory; None where that is nothing.

    Raises:
        InputError: a share outside 0 to 1, or a needed quantity of the host (such as its bandwidth) that is not known.
    """
    parts = {name: getattr(deployments, f"host_{name}") for name in ("weights", "experts", "kv")}
    for name, share in parts.items():
        bad = ~((share >= 0) & (share <= 1))
        if bad.any():
            raise InputError(f"host_{name} {share[bad][0]:g} is no share; give 0 (none) to 1 (all in host memory)")
    fetching = deployments.adapters is not None and deployments.adapters.missing > 0
    used = np.any([share > 0 for share in parts.values()], axis=0) | fetching
    if not used.any():
        return None
    host = deployments.host
    link = _figure(deployments, host.link, [host_link_bandwidth(d) for d in deployments.devices])
    bandwidth = _figure(deployments, host.bandwidth, [d.si("host.memory_bandwidth") for d in deployments.devices])
    flops = np.full_like(link, host.flops)
    needed = {"host_link_gbs": link}
    if host.where == "compute":
        needed |= {"host_memory_gbs": bandwidth, "host_tflops": flops}
    for key, figure in needed.items():
        unknown = used & np.isnan(figure)
        if unknown.any():
            name = deployments.devices[int(deployments.device[unknown][0])].name
            what, otherwise = _UNKNOWN[key]
            raise InputError(f"{name}: the {what} is not known; give {key}{otherwise}")
    memory = _figure(deployments, host.memory, [d.si("host.memory") for d in deployments.devices])
    return Hosted(
        **parts, link=link, memory=memory, bandwidth=bandwidth, flops=flops, where=host.where, prefetch=host.prefetch
    )


def check_experts(deployments: Deployments, model: ModelSpec) -> None:
    """Raise `InputError` where routed experts are to lie in host memory and `model` has none."""
    share = np.max(deployments.host_experts, initial=0.0)
    if share > 0 and not model.experts:
        raise InputError(
            f"host_experts {share:g}: {model.name} has no routed experts; give the share of its weights "
            "(flag --host-weights, weights in a scenario)"
        )


def _figure(deployments: Deployments, given: float, known: list[float]) -> Array:
    """Return a quantity of the host, (N,): `given`, or where that is NaN the value `known` of each device."""
    return np.full(len(deployments), given) if not np.isnan(given) else np.array(known)[deployments.device]
