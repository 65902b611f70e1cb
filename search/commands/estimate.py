"""One deployment asked about by flags: from names and numbers with units to a flat row of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import expm1, isfinite
from typing import Any

import numpy as np

from hwdb import Device, Hwdb, InputError, UnknownName
from perfmodel import Engine, ModelSpec, Objective, Slo, Workload, deployments, engine, estimate, explain, model, recipe
from perfmodel.costs import remarks_of
from perfmodel.deployment import Deployments
from perfmodel.dtypes import COMPUTE, COMPUTE_CODE, FORMAT_CODE, FORMAT_NAMES, storage
from perfmodel.engines import Recipe, instead
from perfmodel.estimates import Estimates, Term, chances, check
from perfmodel.hardware import Host, figures_of
from perfmodel.models import Adapters
from perfmodel.workload import STATISTICS
from search.planning import tariff, term_row
from search.scenario import Limits
from search.space import refuse_impossible

NAN = float("nan")
#: What the terminal shows, by section; JSON and CSV hold every column.
SHEET: Mapping[str, Sequence[str]] = {
    "Deployment": ("model", "device", "devices", "layout", "weights", "kv", "engine"),
    "Load": ("load", "isl", "osl", "running"),
    "Latency": ("ttft_ms", "ttft_ms_p99", "tpot_ms", "itl_ms_p99", "e2e_ms", "e2e_ms_p99", "slo_chance"),
    "Throughput": ("request_rate_rps", "output_tok_s", "total_tok_s"),
    "Memory": ("fits", "memory_gb_per_device", "memory_capacity_gb", "most_running", "reason"),
    "Power and cost": (
        "power_w_per_device",
        "energy_j_per_output_token",
        "usd_per_hour",
        "usd_per_million_tokens",
        "price",
    ),
    "Trust": ("basis", "remark"),
}


@dataclass(frozen=True)
class Single:
    """One deployment (a batch of one), the load on it and the engine that serves it, set up by `recipe` if any."""

    model: ModelSpec
    workload: Workload
    deployments: Deployments
    engine: Engine
    recipe: Recipe | None = field(default=None, kw_only=True)

    @property
    def estimates(self) -> Estimates:
        """What it takes; (1,) columns."""
        return estimate(self.model, self.workload, self.deployments, engine=self.engine)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Where the time of its prefill pass and of its decode pass goes."""
        return explain(self.model, self.workload, self.deployments, engine=self.engine)

    @property
    def devices(self) -> dict[str, float]:
        """Devices by name."""
        one = self.deployments
        return {one.devices[0].name: float(one.devices_per_replica[0] * one.replicas[0])}

    @property
    def cards(self) -> tuple[Device, ...]:
        """The kinds of device in it."""
        return (self.deployments.devices[0],)

    @property
    def layout(self) -> dict[str, Any]:
        """How it is laid out, in numbers and in words."""
        degrees = {k: int(getattr(self.deployments, k)[0]) for k in ("tp", "pp", "ep", "dp", "cp", "replicas")}
        return {**degrees, "layout": layout_words(self.deployments)}


def layout_words(one: Deployments) -> str:
    """The degrees above 1 of a deployment (a batch of one), what lies in host memory, and its adapters."""
    degrees = {k: int(getattr(one, k)[0]) for k in ("tp", "pp", "ep", "dp", "cp", "replicas")}
    away = {k: float(getattr(one, f"host_{k}")[0]) for k in ("weights", "experts", "kv")}
    spread = " ".join(f"{k}{v}" for k, v in degrees.items() if v > 1) or "one device"
    beside = [f"{share:.0%} of {what} in host memory" for what, share in away.items() if share]
    lora = one.adapters
    beside += [f"{lora.count} adapter{'s' if lora.count > 1 else ''} of rank {lora.rank}"] if lora else []
    return ", ".join([spread, *beside])


def workload_of(
    isl: float,
    osl: float,
    *,
    concurrency: float | None = None,
    request_rate_rps: float | None = None,
    batch: float | None = None,
    n_requests: float | None = None,
    prefix_hit: float = 0.0,
) -> Workload:
    """The workload that flags describe: at most one of the loads; without one, a single stream.

    Raises `InputError` for two loads, and for numbers that cannot be.
    """
    loads = {"concurrency": concurrency, "rate-rps": request_rate_rps, "batch": batch, "n-requests": n_requests}
    given = {name: value for name, value in loads.items() if value is not None}
    if len(given) > 1:
        raise InputError(f"--{' and --'.join(given)} exclude each other; give one load")
    lengths = {"input_tokens": isl, "output_tokens": osl, "prefix_hit": prefix_hit}
    if request_rate_rps is not None:
        return Workload.from_lengths(**lengths, rate=request_rate_rps)
    if n_requests is not None:
        return Workload.from_lengths(**lengths, n_requests=n_requests)
    if batch is not None:
        return Workload.from_lengths(**lengths, arrival="static", concurrency=batch)
    if concurrency is not None:
        return Workload.from_lengths(**lengths, concurrency=concurrency)
    return Workload.from_lengths(**lengths, arrival="single", concurrency=1)


def single(
    model_name: str,
    device: str,
    workload: Workload,
    *,
    hwdb: Hwdb,
    engine_name: str = "vllm",
    engine_version: str = "",
    weights: str = "",
    activations: str = "",
    kv: str = "",
    host: Host | None = None,
    adapters: Adapters | None = None,
    published: bool = False,
    **layout: float | None,
) -> Single:
    """The deployment that flags describe. layout: degrees, limits and shares, as `perfmodel.deployments` names them.

    published: settings left open are those of the published recipe for this model, engine, device and weights; raises
    `InputError` where there is none.
    """
    if activations and activations not in COMPUTE_CODE:
        raise UnknownName("compute type", activations, COMPUTE, f"({', '.join(COMPUTE)})")
    given: dict[str, Any] = {name: value for name, value in layout.items() if value is not None}
    given |= {"kv": FORMAT_CODE[storage(kv).name]} if kv else {}
    card, spec, runs = hwdb.device(device), model(model_name), engine(engine_name, engine_version)
    weight = FORMAT_CODE[storage(weights).name] if weights else -1
    found = recipe(spec, runs, card, weights) if published else None
    if published and found is None:
        raise InputError(
            f"--recipe: none is published for {model_name} with {weights or 'its own'} weights on {device} under "
            f"{runs.title}; {instead(spec, runs)}; leave the flag out for the engine's defaults"
        )
    if found is not None:
        runs = found.tuned(runs, card)
        given = found.columns(float(np.max(workload.input_tokens)), given.get("dp", 1.0)) | given
    columns = deployments(
        [card],
        weight=weight,
        act=COMPUTE_CODE[activations] if activations else -1,
        host=host,
        adapters=adapters,
        **given,
    )
    check(columns)
    refuse_impossible(spec, columns)
    return Single(spec, workload, columns, runs, recipe=found)


def terms_of(asked: Single) -> list[dict[str, Any]]:
    """Operator by operator: a row each term of the prefill pass and of the decode pass."""
    return [{**term_row(t), "spread_percent": 100.0 * expm1(t.spread)} for t in asked.terms]


def adapters_of(
    rank: int | None, count: int | None, resident: int | None, zipf: float | None, targets: str = ""
) -> Adapters | None:
    """The adapters that flags describe, None without any. targets: layers, separated by commas. Raises `InputError`
    for adapters without a rank."""
    given = {"count": count, "resident": resident, "zipf": zipf}
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    known |= {"targets": tuple(targets.split(","))} if targets else {}
    if rank is None:
        if known:
            raise InputError(f"--lora-{next(iter(known))} needs --lora-rank; give the adapters' rank")
        return None
    return Adapters(rank, **known)


def host_of(
    hwdb: Hwdb,
    *,
    cpu: str = "",
    sockets: float = 1.0,
    link_gbs: float | None = None,
    memory_gb: float | None = None,
    compute: bool = False,
    prefetch: bool = False,
) -> Host:
    """The host behind each device that flags describe; what is not given is what hwdb says of the device.

    Raises `InputError` for figures that are none, by their flags.
    """
    for flag, value in (("host-sockets", sockets), ("host-link-gbs", link_gbs), ("host-memory-gb", memory_gb)):
        if value is not None and not (isfinite(value) and value > 0):
            raise InputError(f"--{flag} {value:g} is impossible; give more than 0")
    if sockets != 1.0 and not cpu:
        raise InputError("--host-sockets is of a CPU; name it with --host-cpu")
    figures = figures_of(hwdb.device(cpu), sockets) if cpu else {}
    figures |= {"link": link_gbs * 1e9} if link_gbs is not None else {}
    figures |= {"memory": memory_gb * 1e9} if memory_gb is not None else {}
    return Host(**figures, where="compute" if compute else "stream", prefetch=prefetch)


def slo_of(ttft_ms: float | None, tpot_ms: float | None, e2e_ms: float | None, statistic: str = "mean") -> Slo:
    """Bounds in milliseconds on the mean or a percentile; what is None is not bounded. Raises `InputError`."""
    if statistic not in STATISTICS:
        raise UnknownName("statistic", statistic, STATISTICS, f"({', '.join(STATISTICS)})")
    bounds = {"ttft": ttft_ms, "tpot": tpot_ms, "e2e": e2e_ms}
    for metric, limit in bounds.items():
        if limit is not None and not limit > 0:
            raise InputError(f"--{metric}-ms {limit:g} is no bound; give milliseconds above 0")
    return Slo(tuple(Objective(m, statistic, limit / 1e3) for m, limit in bounds.items() if limit is not None))


def row_of(asked: Single, hwdb: Hwdb, slo: Slo) -> dict[str, Any]:
    """Everything about one deployment in a flat row: what was asked, then what it takes."""
    found = asked.estimates
    return {
        **_asked(asked),
        "devices": float(found.devices[0]),
        "running": float(found.running[0]),
        **{name: values[0] for name, values in found.columns().items()},
        "memory_capacity_gb": float(found.memory_use.capacity[0]) / 1e9,
        "most_running": float(found.memory_use.max_running[0]),
        "reason": found.reason(0),
        **_cost(hwdb, asked.devices, float(found.output_rate[0])),
        "slo_chance": float(chances(found, slo).min()) if slo.objectives else NAN,
        "remark": "; ".join(told for told in (_remark(found), *remarks_of(asked.cards)) if told),
    }


def kept(row: Mapping[str, Any], slo: Slo) -> bool:
    """Whether the deployment of `row` (see `row_of`) fits and is at least as likely to keep `slo` as to miss it, as a
    plan asks by default; an empty one is kept by whatever is asked."""
    return not slo.objectives or bool(row["fits"] and row["slo_chance"] >= Limits.confidence)


def _remark(found: Estimates) -> str:
    if np.isnan(found.request_rate[0]):
        return "a figure of this hardware is not known (the network between pools?); `perfmodel hw show` lists them"
    return "the load exceeds what this serves: queues grow without end" if found.saturated[0] else ""


def _asked(asked: Single) -> dict[str, Any]:
    columns, load = asked.deployments, asked.workload
    loads = {"closed": "concurrency", "static": "concurrency", "open": "rate", "offline": "n_requests"}
    number = getattr(load, loads[load.arrival]) if load.arrival in loads else 1.0
    unit = {"closed": "at once", "static": "in a batch", "open": "requests/s", "offline": "requests"}
    return {
        "model": asked.model.name,
        "device": columns.devices[0].name,
        **asked.layout,
        "weights": FORMAT_NAMES[columns.weight[0]] if columns.weight[0] >= 0 else asked.model.formats["default"],
        "kv": FORMAT_NAMES[columns.kv[0]] if columns.kv[0] >= 0 else asked.model.kv_format,
        "engine": asked.engine.name,
        "load": f"{number:g} {unit[load.arrival]}" if load.arrival in unit else "one stream",
        "isl": float(load.input_tokens @ load.share),
        "osl": float(load.output_tokens @ load.share),
    }


def _cost(hwdb: Hwdb, devices: Mapping[str, float], output_rate: float) -> dict[str, Any]:
    offer = tariff(hwdb, tuple(devices), (), "on_demand", {})
    hourly = sum(float(price) * count for price, count in zip(offer.usd_per_hour, devices.values(), strict=True))
    return {
        "usd_per_hour": hourly,
        "usd_per_million_tokens": hourly / 3600.0 / output_rate * 1e6 if output_rate else NAN,
        "price": "; ".join(dict.fromkeys(offer.price)),
    }
