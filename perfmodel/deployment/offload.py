"""What lies in host memory behind each device, and how fast it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from hwdb import Device, InputError
from perfmodel.hardware.efficiency import FIGURES, shares
from perfmodel.models import ModelSpec
from perfmodel.operators.demand import Array

if TYPE_CHECKING:
    from perfmodel.deployment.deployments import Deployments

NAN = float("nan")
Where = Literal["stream", "compute"]
WHERE: tuple[str, ...] = get_args(Where)
#: Share of a link's rated bandwidth that large copies reach: 25 GB/s of PCIe 4.0's 31.5 (FlexGen's and DeepSpeed's
#: planning figure), 55 of PCIe 5.0's 63, 375 to 420 of NVLink-C2C's 450 GB/s (arXiv:2408.11556).
LINK_SHARE = 0.85

_BY_CPU = ", or name the host's CPU (flag --host-cpu, host in a scenario)"
#: What a figure that is missing is, by the key that states it, and who states it.
_UNKNOWN = {
    "host_link_gbs": ("rate at which copies from its host arrive", " in a scenario, or the flag --host-link-gbs"),
    "host_memory_gbs": ("memory bandwidth of its host", f" in a scenario{_BY_CPU}"),
    "host_tflops": ("arithmetic of its host", f" in a scenario{_BY_CPU}"),
}


@dataclass(frozen=True)
class Host:
    """What stands behind each device. Figures are a device's share of its host; NaN: what hwdb says of the device.

    link: B/s that copies from host memory reach. memory: bytes. bandwidth: B/s of host memory. flops: FLOP/s of the
    host. where: `stream` or `compute`; prefetch: whether streaming goes on beside the device's work.
    """

    link: float = NAN
    memory: float = NAN
    bandwidth: float = NAN
    flops: float = NAN
    where: Where = "stream"
    prefetch: bool = False

    def __post_init__(self) -> None:
        for name in ("link", "memory", "bandwidth", "flops"):
            value = getattr(self, name)
            if value == value and not (np.isfinite(value) and value > 0):
                raise InputError(f"offload: {name} {value:g} is impossible; give more than 0")
        if self.where not in WHERE:
            raise InputError(f"offload: where {self.where!r} is unknown; choose one of {', '.join(WHERE)}")
        if self.prefetch and self.where == "compute":
            raise InputError(
                "offload: prefetch is for streaming, and here the host computes; leave out one of the two (flags "
                '--host-prefetch and --host-compute; in a scenario prefetch and where = "compute")'
            )


@dataclass(frozen=True)
class Hosted:
    """Columns (N,) of what lies in host memory. weights: share of all layers' weights but the routed experts'; experts:
    of those; kv: of the KV cache. link, memory, bandwidth, flops: as in `Host`."""

    weights: Array
    experts: Array
    kv: Array
    link: Array
    memory: Array
    bandwidth: Array
    flops: Array
    where: Where
    prefetch: bool

    def time(self, moved: Array | float, flop: Array | float) -> Array:
        """Seconds that work of so many bytes and FLOP takes, all of it in host memory."""
        streamed = np.asarray(moved) / np.fmin(self.link, self.bandwidth)
        if self.where == "stream":
            return streamed
        return np.fmin(streamed, np.maximum(moved / self.bandwidth, flop / self.flops))


def link_of(device: Device) -> float:
    """B/s that copies between a device and its host reach; NaN where the link is not known."""
    rated = device.si("host.bandwidth")
    if rated != rated and device.link.topology == "pcie":
        rated = device.link.bandwidth
    return rated * LINK_SHARE


def hosted(deployments: Deployments) -> Hosted | None:
    """What `deployments` keep in host memory; None where that is nothing.

    `InputError` for shares that are none, and where a needed figure of the host is not known.
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
    link = _figure(deployments, host.link, [link_of(d) for d in deployments.devices])
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
    """Raise `InputError` where a share of the experts is to lie in host memory and `model` has none."""
    share = np.max(deployments.host_experts, initial=0.0)
    if share > 0 and not model.experts:
        raise InputError(
            f"host_experts {share:g}: {model.name} has no routed experts; give the share of its weights "
            "(flag --host-weights, weights in a scenario)"
        )


def _figure(deployments: Deployments, given: float, known: list[float]) -> Array:
    return np.full(len(deployments), given) if given == given else np.array(known)[deployments.device]


def figures_of(cpu: Device, sockets: float = 1.0) -> dict[str, float]:
    """Memory, memory bandwidth and FLOP/s, as `Host` takes them, of so many sockets of `cpu` behind each device.

    Bandwidth and FLOP/s are what its kind reaches of the rated figures. `InputError` where `cpu` is no CPU.
    """
    if cpu.kind != "cpu":
        raise InputError(f"{cpu.name} is no CPU but a {cpu.kind}; name the CPU of the host, such as xeon-8592p")
    reached = dict(zip(FIGURES, shares(cpu), strict=True))
    bandwidth, flops = cpu.bandwidth * reached["memory"], cpu.peak("bf16") * reached["gemm"]
    known = {"memory": cpu.memory, "bandwidth": bandwidth, "flops": flops}
    return {name: value * sockets for name, value in known.items()}
