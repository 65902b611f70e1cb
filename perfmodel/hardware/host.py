"""The host behind each device: its memory, the link to it, and the arithmetic of its CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hwdb import Device, InputError
from perfmodel.arrays import NAN
from perfmodel.hardware.efficiency import device_efficiency

#: `stream`: what lies in host memory is copied to the device for each step. `compute`: the CPU computes with it.
Where = Literal["stream", "compute"]
WHERE: tuple[str, ...] = get_args(Where)

#: Share of a link's rated bandwidth that large copies reach: 25 GB/s of PCIe 4.0's 31.5 (FlexGen's and DeepSpeed's
#: planning figure), 55 of PCIe 5.0's 63, 375 to 420 of NVLink-C2C's 450 GB/s (arXiv:2408.11556).
LINK_SHARE = 0.85

#: Seconds per layer for which device and host wait for each other where the host computes the experts between two parts
#: of a layer on the device: copies both ways, and threads that start. Derived from what four published runs take beyond
#: their bytes: 0.43 and 0.52 ms (DeepSeek-V3, one and two Xeon Gold 6454S, kvcache-ai/ktransformers
#: doc/en/DeepseekR1_V3_tutorial.md @95009ea), 0.28 and 0.53 ms (Qwen3-30B-A3B and DeepSeek-Coder-V2-Lite, i9-10900X,
#: AlexsJones/llmfit pulls 755 and 778); chosen at the low end, because some of it is memory slower than assumed.
EXPERTS_HAND_OVER = 0.3e-3
#: Power of the number of sockets with which a host's rates grow: experts on two sockets decode 1.40 times and prefill
#: 1.53 times as fast as on one (the same tutorial).
SOCKETS_POWER = 0.6
#: Share of the peak of vector units that experts of prompts reach: 500 tokens of DeepSeek-V3, 20.4 TFLOP of experts, in
#: 9.2 s on 32 cores of 4.5 TFLOP/s (the same tutorial, v0.2).
VECTOR_SHARE = 0.49
#: Share of the 16-bit peak of matrix units (AMX) that experts of prompts reach, in formats of integers and 16 bits.
#: Derived from 347 tokens per second of Qwen3-235B-A22B with experts in INT8 (kvcache-ai/ktransformers doc/en/AMX.md
#: @95009ea; prompt of 1,024 tokens and two Xeon Gold 6454S assumed): 29 TFLOP of experts in 2.5 s beside the device's
#: part. The kernels alone reach 0.15 in 16 bits and 0.24 in INT8 (same page): experts see few tokens each, unevenly.
MATRIX_SHARE = 0.053


@dataclass(frozen=True)
class Host:
    """The host behind each device. Quantities are per device: its share of the host.

    NaN: the value that hwdb gives for the device.

    Attributes:
        link: B/s that copies from host memory reach.
        memory: bytes of host memory.
        bandwidth: B/s of host memory.
        flops: FLOP/s of the CPU's vector units.
        matrix_flops: FLOP/s of its matrix units, for engines that compute experts with them; NaN for none.
        where: whether the device streams what lies in host memory, or the CPU computes with it.
        prefetch: whether copies overlap with the device's own work (with `stream` only).
    """

    link: float = NAN
    memory: float = NAN
    bandwidth: float = NAN
    flops: float = NAN
    matrix_flops: float = NAN
    where: Where = "stream"
    prefetch: bool = False

    def __post_init__(self) -> None:
        for name in ("link", "memory", "bandwidth", "flops", "matrix_flops"):
            value = getattr(self, name)
            if not math.isnan(value) and not (math.isfinite(value) and value > 0):
                raise InputError(f"offload: {name} {value:g} is impossible; give more than 0")
        if self.where not in WHERE:
            raise InputError(f"offload: where {self.where!r} is unknown; choose one of {', '.join(WHERE)}")
        if self.prefetch and self.where == "compute":
            raise InputError(
                "offload: prefetch is for streaming, and here the host computes; leave out one of the two (flags "
                '--host-prefetch and --host-compute; in a scenario prefetch and where = "compute")'
            )


def host_link_bandwidth(device: Device) -> float:
    """Return the B/s that copies between a device and its host reach; NaN where the link is not known."""
    rated = device.si("host.bandwidth")
    if math.isnan(rated) and device.link.topology == "pcie":
        rated = device.link.bandwidth
    return rated * LINK_SHARE


def host_figures(cpu: Device, sockets: float = 1.0) -> dict[str, float]:
    """Return memory, bandwidth and FLOP/s per device of a host, by the names of the fields of `Host`.

    cpu: the CPU. sockets: number of its sockets per device.

    Bandwidth and FLOP/s are the shares of the rated values that a CPU reaches. What lies in host memory is mostly
    quantised, and most engines compute it there by vector units (`VECTOR_SHARE`; AMX has 32 times the peak, but
    llama.cpp's AMX kernels leave mixtures of experts out). The rate of matrix units (`MATRIX_SHARE`) counts under
    engines with kernels for them. `InputError` where `cpu` is no CPU.
    """
    if cpu.kind != "cpu":
        raise InputError(f"{cpu.name} is no CPU but a {cpu.kind}; name the CPU of the host, such as xeon-8592p")
    faster = min(sockets, sockets**SOCKETS_POWER)  # devices that share a socket have no more than it together
    return {
        "memory": cpu.memory * sockets,
        "bandwidth": cpu.bandwidth * device_efficiency(cpu).memory * faster,
        "flops": cpu.peak("fp32") * VECTOR_SHARE * faster,
        "matrix_flops": cpu.peak("bf16") * MATRIX_SHARE * faster,
    }
