"""Options of `estimate` for LoRA adapters and for what is kept in host memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import Hwdb, InputError
from search.options.words import COUNT, NAME, SHARE

if TYPE_CHECKING:
    from perfmodel.hardware import Host
    from perfmodel.models import Adapters


@dataclass(frozen=True)
class LoraOptions:
    """The low-rank adapters that requests use."""

    section: ClassVar[str] = "LoRA adapters"

    lora_rank: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Rank of the adapters (default: no adapters).")
    ] = None
    lora_count: Annotated[int | None, typer.Option(metavar=COUNT, help="Adapters in use (default: 1).")] = None
    lora_resident: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Slots for adapters in device memory (default: one each).")
    ] = None
    lora_zipf: Annotated[
        float | None,
        typer.Option(metavar="EXPONENT", help="Zipf exponent of their popularity (default: 0, all alike)."),
    ] = None
    lora_targets: Annotated[
        str, typer.Option(metavar="LIST", help="Layers with adapters (default: q,k,v,o,gate,up,down).")
    ] = ""

    def adapters(self) -> Adapters | None:
        """Return the adapters; None without any. Raises `InputError` where the rank is missing."""
        from perfmodel.models import Adapters

        settings = {"count": self.lora_count, "resident": self.lora_resident, "zipf": self.lora_zipf}
        given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
        given |= {"targets": tuple(self.lora_targets.split(","))} if self.lora_targets else {}
        if self.lora_rank is not None:
            return Adapters(rank=self.lora_rank, **given)
        if given:
            raise InputError(f"--lora-{next(iter(given))} needs --lora-rank; give the adapters' rank")
        return None


@dataclass(frozen=True)
class HostOptions:
    """What is kept in host memory, and the host behind each device."""

    section: ClassVar[str] = "Host memory offload"

    host_weights: Annotated[
        float, typer.Option(metavar=SHARE, help="Share of the layers' weights kept in host memory, 0 to 1.")
    ] = 0.0
    host_experts: Annotated[
        float, typer.Option(metavar=SHARE, help="Share of the routed experts kept in host memory, 0 to 1.")
    ] = 0.0
    host_kv: Annotated[
        float, typer.Option(metavar=SHARE, help="Share of the KV cache kept in host memory, 0 to 1.")
    ] = 0.0
    host_link_gbs: Annotated[
        float | None,
        typer.Option(metavar="GB/S", help="Rate of copies from host memory, GB/s per device (default: the device's)."),
    ] = None
    host_memory_gb: Annotated[
        float | None, typer.Option(metavar="GB", help="Host memory, GB per device (default: the device's).")
    ] = None
    host_cpu: Annotated[
        str, typer.Option(metavar=NAME, help="CPU of the host, as `hw list` names it (default: the device's).")
    ] = ""
    host_sockets: Annotated[float, typer.Option(metavar=COUNT, help="Sockets of the CPU per device.")] = 1.0
    host_compute: Annotated[
        bool, typer.Option("--host-compute", help="The CPU computes with what is in host memory.")
    ] = False
    host_prefetch: Annotated[
        bool, typer.Option("--host-prefetch", help="Copies from host memory overlap the device's work.")
    ] = False

    def columns(self) -> dict[str, float]:
        """Return the given shares (0 to 1) in host memory, by the names of the columns of a deployment."""
        return {name: getattr(self, name) for name in ("host_weights", "host_experts", "host_kv")}

    def host(self, hwdb: Hwdb) -> Host:
        """Return the host behind each device. Quantities without an option are those of the device in `hwdb`.

        Raises `InputError` for impossible values, with the name of the option.
        """
        from perfmodel.hardware import Host, host_figures

        for name in ("host_sockets", "host_link_gbs", "host_memory_gb"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise InputError(f"--{name.replace('_', '-')} {value:g} is impossible; give more than 0")
        if self.host_sockets != HostOptions.host_sockets and not self.host_cpu:
            raise InputError("--host-sockets needs --host-cpu; name the CPU")
        figures = host_figures(hwdb.device(self.host_cpu), self.host_sockets) if self.host_cpu else {}
        figures |= {"link": self.host_link_gbs * 1e9} if self.host_link_gbs is not None else {}
        figures |= {"memory": self.host_memory_gb * 1e9} if self.host_memory_gb is not None else {}
        return Host(**figures, where="compute" if self.host_compute else "stream", prefetch=self.host_prefetch)
