"""Place weights, experts and KV cache in host memory, and compute the time to reach them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hwdb import InputError
from perfmodel import equations as eq
from perfmodel.arrays import Array, Index
from perfmodel.deployment.columns import Deployments
from perfmodel.dtypes import FORMAT_CODE, FORMAT_NAMES
from perfmodel.hardware import EXPERTS_HAND_OVER, Where, host_link_bandwidth
from perfmodel.models import ModelSpec

_BY_CPU = ", or name the host's CPU (flag --host-cpu, host in a scenario)"
#: Key of a missing quantity -> (what it is, where a user can give it), for error messages.
_UNKNOWN = {
    "host_link_gbs": ("rate at which copies from its host arrive", " in a scenario, or the flag --host-link-gbs"),
    "host_memory_gbs": ("memory bandwidth of its host", f" in a scenario{_BY_CPU}"),
    "host_tflops": ("arithmetic of its host", f" in a scenario{_BY_CPU}"),
}
#: Formats of experts for which there are kernels on matrix units of CPUs: AMX multiplies INT8 and 16 bits, and narrower
#: integers are widened to them; FP8 runs on vector units (kvcache-ai/ktransformers kt-kernel/README.md @95009ea,
#: methods AMXINT4, AMXINT8, RAWINT4, BF16 and FP8).
_MATRIX_FORMATS = ("bf16", "fp16", "int8", "w8a16", "int4", "int4_g32", "w4a8")
_BY_MATRIX = np.isin(np.arange(len(FORMAT_NAMES)), [FORMAT_CODE[f] for f in _MATRIX_FORMATS])


class HostHabits(NamedTuple):
    """Hold what an engine does with what lies in host memory.

    copied_first: an operator starts when its operands have been copied to the device; otherwise its kernel reads them
    over the link itself. matrix_experts: where the host computes, experts run on its matrix units, and batches of any
    size stay there; otherwise they run on vector units, and batches for which streaming is faster are streamed.
    hand_over: seconds per layer for which device and host wait for each other around the experts of the host.
    """

    copied_first: bool = False
    matrix_experts: bool = False
    hand_over: float = EXPERTS_HAND_OVER


@dataclass(frozen=True)
class Hosted:
    """Describe what lies in host memory behind each device, (N,).

    weights, experts, kv: shares (0 to 1) of the layers' weights without routed experts, of the routed experts, and of
    the KV cache. link, bandwidth: bytes/s over the host link and of host memory. memory: bytes. flops, matrix_flops:
    FLOP/s of the vector and the matrix units of the host. where: whether the device streams its operands or the host
    computes. prefetch: whether streaming overlaps. habits: what the engine does with them.
    """

    weights: Array
    experts: Array
    kv: Array
    link: Array
    memory: Array
    bandwidth: Array
    flops: Array
    matrix_flops: Array
    where: Where
    prefetch: bool
    habits: HostHabits

    def take(self, rows: Index) -> Hosted:
        """Return the candidates at positions `rows`."""
        columns = ("weights", "experts", "kv", "link", "memory", "bandwidth", "flops", "matrix_flops")
        return replace(self, **{c: getattr(self, c)[rows] for c in columns})

    def time(self, moved: Array | float, flop: Array | float, *, experts: Index | None = None) -> Array:
        """Return the seconds of work whose operands all lie in host memory. moved: bytes; flop: FLOP.

        experts: storage formats of the experts of a layer, before and after which the device works; None for others.

        Streaming is limited by the link or by host memory. Where the host may compute, the faster of the two ways
        counts, unless the engine keeps experts on the host whatever the batch (`HostHabits`).
        """
        streamed = np.asarray(moved) / np.fmin(self.link, self.bandwidth)
        if self.where == "stream":
            return streamed
        if experts is None:
            return np.fmin(streamed, eq.least_time(flop, moved, peak=self.flops, bandwidth=self.bandwidth))
        if not self.habits.matrix_experts:
            computed = eq.least_time(flop, moved, peak=self.flops, bandwidth=self.bandwidth)
            return np.fmin(streamed, computed + self.habits.hand_over)
        peak = np.where(_BY_MATRIX[experts], np.fmax(self.flops, self.matrix_flops), self.flops)
        return eq.least_time(flop, moved, peak=peak, bandwidth=self.bandwidth) + self.habits.hand_over


def hosted(deployments: Deployments, habits: HostHabits = HostHabits()) -> Hosted | None:
    """Describe what `deployments` keep in host memory; None where that is nothing. habits: of the engine.

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
        **parts,
        link=link,
        memory=memory,
        bandwidth=bandwidth,
        flops=flops,
        matrix_flops=np.full_like(link, host.matrix_flops),
        where=host.where,
        prefetch=host.prefetch,
        habits=habits,
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
