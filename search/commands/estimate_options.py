"""The options of `perfmodel estimate`, in groups; each group turns itself into what the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import Hwdb, InputError, UnknownName
from search.commands.options import DataOutputOptions, ModelName

if TYPE_CHECKING:
    from perfmodel.hardware import Host
    from perfmodel.models import Adapters
    from perfmodel.workload import Slo, Workload

#: What the help calls the value of an option.
COUNT, NAME, SHARE, TOKENS, MS = "N", "NAME", "SHARE", "TOKENS", "MS"


@dataclass(frozen=True)
class DeploymentOptions:
    """The model, the device, and how the one is placed on many of the other."""

    section: ClassVar[str] = "Deployment"

    model: ModelName
    device: Annotated[str, typer.Option(metavar=NAME, help="Device, as `hw list` names it.")]
    tp: Annotated[int, typer.Option(metavar=COUNT, help="Tensor parallelism: devices that split each layer.")] = 1
    pp: Annotated[int, typer.Option(metavar=COUNT, help="Pipeline parallelism: stages of layers.")] = 1
    ep: Annotated[int, typer.Option(metavar=COUNT, help="Expert parallelism: devices that split the experts.")] = 1
    dp_attention: Annotated[
        int, typer.Option(metavar=COUNT, help="Attention data parallelism: copies of the attention layers.")
    ] = 1
    cp: Annotated[int, typer.Option(metavar=COUNT, help="Context parallelism of long prompts.")] = 1
    replicas: Annotated[int, typer.Option(metavar=COUNT, help="Equal replicas that share the load.")] = 1
    weights: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format of the weights: bf16, fp8, int4, … (default: the model's).")
    ] = ""
    activations: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format of the arithmetic: bf16, fp8, … (default: from the weights).")
    ] = ""
    kv: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format of the KV cache: bf16, fp8, … (default: the model's).")
    ] = ""

    def columns(self) -> dict[str, Any]:
        """The degrees and formats that are given, as `perfmodel.deployments` names them."""
        from perfmodel.dtypes import COMPUTE, COMPUTE_CODE, FORMAT_CODE, storage

        if self.activations and self.activations not in COMPUTE_CODE:
            raise UnknownName("compute type", self.activations, COMPUTE, f"({', '.join(COMPUTE)})")
        degrees = {name: getattr(self, name) for name in ("tp", "pp", "ep", "cp", "replicas")}
        formats = {"weight": self.weights, "kv": self.kv}
        codes = {name: FORMAT_CODE[storage(value).name] for name, value in formats.items() if value}
        codes |= {"act": COMPUTE_CODE[self.activations]} if self.activations else {}
        return {**degrees, "dp": self.dp_attention, **codes}


@dataclass(frozen=True)
class WorkloadOptions:
    """The requests, and how they arrive."""

    section: ClassVar[str] = "Workload (give one load; default: one request at a time)"

    isl: Annotated[float, typer.Option(metavar=TOKENS, help="Input tokens per request, mean.")] = 1024
    osl: Annotated[float, typer.Option(metavar=TOKENS, help="Output tokens per request, mean.")] = 256
    prefix_hit: Annotated[
        float, typer.Option(metavar=SHARE, help="Share of each prompt found in the prefix cache, 0 to 1.")
    ] = 0.0
    concurrency: Annotated[float | None, typer.Option(metavar=COUNT, help="Load: requests in flight at all times.")] = (
        None
    )
    request_rate_rps: Annotated[
        float | None, typer.Option(metavar="RATE", help="Load: mean requests per second, with Poisson arrivals.")
    ] = None
    batch: Annotated[
        float | None, typer.Option(metavar=COUNT, help="Load: requests of one static batch that starts together.")
    ] = None
    n_requests: Annotated[
        float | None, typer.Option(metavar=COUNT, help="Load: requests that all wait at the start (offline).")
    ] = None

    def workload(self) -> Workload:
        """The workload; raises `InputError` for two loads, and for impossible numbers."""
        from perfmodel.workload import Workload

        loads = {
            "concurrency": self.concurrency,
            "request-rate-rps": self.request_rate_rps,
            "batch": self.batch,
            "n-requests": self.n_requests,
        }
        given = [name for name, value in loads.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"--{' and --'.join(given)} exclude each other; give one load")
        requests = Workload.from_lengths(self.isl, self.osl, prefix_hit=self.prefix_hit)
        if self.request_rate_rps is not None:
            return requests.at(arrival="open", rate=self.request_rate_rps)
        if self.n_requests is not None:
            return requests.at(arrival="offline", n_requests=self.n_requests)
        if self.batch is not None:
            return requests.at(arrival="static", concurrency=self.batch)
        if self.concurrency is not None:
            return requests.at(arrival="closed", concurrency=self.concurrency)
        return requests.at(arrival="single", concurrency=1.0)


@dataclass(frozen=True)
class EngineOptions:
    """The serving engine and its settings."""

    section: ClassVar[str] = "Engine"

    engine: Annotated[
        str, typer.Option(metavar=NAME, help="Serving engine: vllm, sglang, trtllm, …, or a TOML file.")
    ] = "vllm"
    engine_version: Annotated[
        str, typer.Option(metavar="VERSION", help="Version of the engine (default: the latest known).")
    ] = ""
    max_num_batched_tokens: Annotated[
        float | None, typer.Option(metavar=TOKENS, help="Token budget per step (default: the engine's).")
    ] = None
    max_num_seqs: Annotated[
        float | None, typer.Option(metavar=COUNT, help="Running sequences per replica (default: the engine's).")
    ] = None
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Use the settings of published tuned runs where no option is given.")
    ] = False

    def columns(self) -> dict[str, float]:
        """The limits that are given, as `perfmodel.deployments` names them."""
        limits = {"max_num_batched_tokens": self.max_num_batched_tokens, "max_num_seqs": self.max_num_seqs}
        return {name: value for name, value in limits.items() if value is not None}


@dataclass(frozen=True)
class LoraOptions:
    """The low-rank adapters that requests use."""

    section: ClassVar[str] = "LoRA adapters"

    lora_rank: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Rank of the adapters (default: no adapters).")
    ] = None
    lora_count: Annotated[int | None, typer.Option(metavar=COUNT, help="Adapters in use (default: 1).")] = None
    lora_resident: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Adapters held in device memory (default: all).")
    ] = None
    lora_zipf: Annotated[
        float | None,
        typer.Option(metavar="EXPONENT", help="Zipf exponent of their popularity (default: 0, all alike)."),
    ] = None
    lora_targets: Annotated[
        str, typer.Option(metavar="LIST", help="Layers with adapters (default: q,k,v,o,gate,up,down).")
    ] = ""

    def adapters(self) -> Adapters | None:
        """The adapters; None without any. Raises `InputError` where the rank is missing."""
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
        """The shares in host memory, as `perfmodel.deployments` names them."""
        return {name: getattr(self, name) for name in ("host_weights", "host_experts", "host_kv")}

    def host(self, hwdb: Hwdb) -> Host:
        """The host behind each device; figures that are not given are those of the device in `hwdb`.

        Raises `InputError` for impossible figures, by the name of the option.
        """
        from perfmodel.hardware import Host, figures_of

        for name in ("host_sockets", "host_link_gbs", "host_memory_gb"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise InputError(f"--{name.replace('_', '-')} {value:g} is impossible; give more than 0")
        if self.host_sockets != HostOptions.host_sockets and not self.host_cpu:
            raise InputError("--host-sockets needs --host-cpu; name the CPU")
        figures = figures_of(hwdb.device(self.host_cpu), self.host_sockets) if self.host_cpu else {}
        figures |= {"link": self.host_link_gbs * 1e9} if self.host_link_gbs is not None else {}
        figures |= {"memory": self.host_memory_gb * 1e9} if self.host_memory_gb is not None else {}
        return Host(**figures, where="compute" if self.host_compute else "stream", prefetch=self.host_prefetch)


@dataclass(frozen=True)
class PoolOptions:
    """Two pools of workers, one for prefill and one for decode; the deployment options describe a decode worker."""

    section: ClassVar[str] = "Disaggregated prefill and decode"

    prefill_workers: Annotated[int | None, typer.Option(metavar=COUNT, help="Workers of the prefill pool.")] = None
    decode_workers: Annotated[int | None, typer.Option(metavar=COUNT, help="Workers of the decode pool.")] = None
    prefill_device: Annotated[
        str, typer.Option(metavar=NAME, help="Device of the prefill pool (default: --device).")
    ] = ""
    prefill_tp: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Tensor parallelism of a prefill worker (default: --tp).")
    ] = None
    prefill_pp: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Pipeline parallelism of a prefill worker (default: --pp).")
    ] = None
    prefill_ep: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Expert parallelism of a prefill worker (default: --ep).")
    ] = None
    prefill_dp_attention: Annotated[
        int | None,
        typer.Option(metavar=COUNT, help="Attention data parallelism of a prefill worker (default: --dp-attention)."),
    ] = None

    def columns(self) -> dict[str, float]:
        """The degrees of a prefill worker that are given, as `perfmodel.deployments` names them."""
        degrees = {"tp": self.prefill_tp, "pp": self.prefill_pp, "ep": self.prefill_ep, "dp": self.prefill_dp_attention}
        return {name: float(value) for name, value in degrees.items() if value is not None}

    def workers(self) -> tuple[int, int] | None:
        """Workers of the prefill pool and of the decode pool; None where no pool is asked for.

        Raises `InputError` where one of the numbers is missing or below 1.
        """
        numbers = {"prefill-workers": self.prefill_workers, "decode-workers": self.decode_workers}
        if all(n is None for n in numbers.values()):
            self._refuse_lone_options()
            return None
        for name, count in numbers.items():
            if count is None:
                raise InputError(f"--{name} is missing; give 1 or more")
            if count < 1:
                raise InputError(f"--{name} {count} is too few; give 1 or more")
        return int(self.prefill_workers or 0), int(self.decode_workers or 0)

    def _refuse_lone_options(self) -> None:
        """Raise `InputError` for options of a prefill worker without any pools."""
        given = {
            "device": self.prefill_device or None,
            "tp": self.prefill_tp,
            "pp": self.prefill_pp,
            "ep": self.prefill_ep,
            "dp-attention": self.prefill_dp_attention,
        }
        for name, value in given.items():
            if value is not None:
                raise InputError(f"--prefill-{name} needs two pools; give --prefill-workers and --decode-workers")


@dataclass(frozen=True)
class SloOptions:
    """Bounds on latency; with any, the exit code says whether they hold."""

    section: ClassVar[str] = "SLO (exit code 1 where it is missed)"

    ttft_ms: Annotated[
        float | None, typer.Option(metavar=MS, help="Bound on the time to first token, milliseconds.")
    ] = None
    tpot_ms: Annotated[
        float | None, typer.Option(metavar=MS, help="Bound on the time per output token, milliseconds.")
    ] = None
    e2e_ms: Annotated[
        float | None, typer.Option(metavar=MS, help="Bound on the time of a whole request, milliseconds.")
    ] = None
    slo_at: Annotated[
        str, typer.Option(metavar="STATISTIC", help="Statistic that is bounded: mean, p50, p90, p95 or p99.")
    ] = "mean"

    def slo(self) -> Slo:
        """The bounds; those not given do not count. Raises `InputError` for impossible ones."""
        from perfmodel.workload import STATISTICS, Objective, Slo

        if self.slo_at not in STATISTICS:
            raise UnknownName("statistic", self.slo_at, STATISTICS, f"({', '.join(STATISTICS)})")
        bounds = {"ttft": self.ttft_ms, "tpot": self.tpot_ms, "e2e": self.e2e_ms}
        given = {metric: limit for metric, limit in bounds.items() if limit is not None}
        for metric, limit in given.items():
            if not limit > 0:
                raise InputError(f"--{metric}-ms {limit:g} is no bound; give milliseconds above 0")
        return Slo(tuple(Objective(metric, self.slo_at, limit / 1e3) for metric, limit in given.items()))


@dataclass(frozen=True)
class EstimateOutput(DataOutputOptions):
    """The form of the output, and what of the estimate is printed."""

    explain: Annotated[bool, typer.Option("--explain", help="Print the time per operator instead of the estimate.")] = (
        False
    )
