"""Draw random deployments under random loads, in batches of columns, on devices that have measured tables."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import hwdb
from hwdb import Device, Hwdb
from perfmodel import Deployments, ModelSpec, deployments, model
from perfmodel.arrays import Array
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.estimates import Estimates, estimate_load
from perfmodel.profiles import store
from perfmodel.workload import Load, Workload, load_of

MODELS = (
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-30B-A3B",
    "meta-llama/Llama-3.1-70B",
    "google/gemma-3-27b-it",
)
ENGINES = ("vllm", "sglang", "trtllm", "vllm-v0")
ARRIVALS = ("closed", "open", "offline", "static")
#: Deployments of one batch, and devices that they are on. Chosen: long columns, few tables to read.
BATCH, DEVICES = 500, 2
#: What a "faster" device has more of.
FASTER = 1.3


@dataclass(frozen=True)
class Batch:
    """N random deployments of one model on one engine under one kind of load, and their estimates.

    database: has each device with faster memory, link and arithmetic as well, by suffix. demand: arrivals as a share of
    what 256 clients get, (N,); 0 where requests do not arrive at a rate.
    """

    spec: ModelSpec
    engine: Engine
    load: Load
    rows: Deployments
    database: Hwdb
    base: Estimates
    demand: Array

    def again(self, load: dict[str, Array] | None = None, **rows: Array) -> Estimates:
        """Estimate the deployments with some columns of the load or of the deployments changed."""
        return estimate_load(
            self.spec, replace(self.load, **(load or {})), replace(self.rows, **rows), engine=self.engine
        )

    def on_faster(self, what: str) -> Estimates:
        """Estimate the deployments on devices with more of `what`: memory, link or compute."""
        devices = tuple(self.database.device(f"{d.name}-{what}") for d in self.rows.devices)
        return estimate_load(self.spec, self.load, replace(self.rows, devices=devices), engine=self.engine)

    def describe(self, row: int) -> str:
        """Return the deployment and the load of one row, in one line."""
        d, load = self.rows, self.load
        layout = " ".join(f"{k}{getattr(d, k)[row]:g}" for k in ("tp", "pp", "dp", "ep", "replicas"))
        asked = {"closed": "concurrency", "static": "concurrency", "open": "rate", "offline": "n_requests"}
        budget = f"budget {d.max_num_batched_tokens[row]:g} seqs {d.max_num_seqs[row]:g}"
        lengths = "+".join(f"{i:.0f}/{o:.0f}" for i, o in zip(load.input[:, row], load.output[:, row], strict=True))
        count = getattr(load, asked[load.arrival])[row]
        more = f" n_requests {load.n_requests[row]:g}" if load.arrival == "open" else ""
        return (
            f"{self.spec.name} {d.devices[d.device[row]].name} {self.engine.name} {layout} weight {d.weight[row]} "
            f"{budget} {lengths} hit {load.hit[0, row]:.2f} {load.arrival} {count:g}{more}"
        )


# ------------------------------------------------------------------------------------------------------- the devices


def measured() -> list[str]:
    """Return the names of the devices that have measured tables."""
    return sorted(store.names())


def device_text(figures: dict[str, dict[str, tuple[float, str]]], like: str = "h100-sxm") -> str:
    """Return the text of a device file that is `like` another one but for some figures; unknown figures are left out.

    figures: table of the file -> key -> (value, unit).
    """
    lines = ['type = "device"', f'like = "{like}"']
    for table, stated in figures.items():
        lines.append(f"[{table}]")
        lines += [
            f'"{k}" = {{ value = {v!r}, unit = "{u}", kind = "assumed", source = "what if" }}'
            for k, (v, u) in stated.items()
            if np.isfinite(v)
        ]
    return "\n".join(lines) + "\n"


def database(folder: Path, names: list[str]) -> Hwdb:
    """Write device files for faster variants of the devices `names` into `folder`; return them and the shipped ones."""
    shipped = hwdb.built_in()
    (folder / "devices").mkdir(parents=True, exist_ok=True)
    for name in names:
        device = shipped.device(name)
        peaks = {f.removeprefix("peak."): r for f, r in device.records.items() if f.startswith("peak.")}
        figures = {
            "memory": {"memory": {"bandwidth": (device.bandwidth / 1e9 * FASTER, "GB/s")}},
            "link": {"link": {"bandwidth": (device.link.bandwidth / 1e9 * FASTER, "GB/s")}},
            "compute": {"peak": {t: (device.peak(t) / 1e12 * FASTER, "TFLOP/s") for t in peaks}},
        }
        for what, tables in figures.items():
            (folder / "devices" / f"{name}-{what}.toml").write_text(device_text(tables, like=name))
    return Hwdb((*shipped.folders, folder))


# --------------------------------------------------------------------------------------------------------- the draws


def batches(count: int, seed: int) -> Iterator[Batch]:
    """Draw about `count` random deployments, in batches."""
    draw = np.random.default_rng(seed)
    names = measured()
    with tempfile.TemporaryDirectory() as folder:
        known = database(Path(folder), names)
        for number in range(max(round(count / BATCH), 1)):
            size = min(BATCH, count)
            arrival = ARRIVALS[number % len(ARRIVALS)]
            spec, engine = model(draw.choice(MODELS)), engine_of(draw.choice(ENGINES))
            few = [known.device(str(n)) for n in draw.choice(names, DEVICES, replace=False)]
            rows = _layouts(draw, few, size, spec)
            load, demand = _load(draw, arrival, size), np.zeros(size)
            if arrival == "open":
                load, demand = _with_rate(draw, load, spec, rows, engine)
            yield Batch(spec, engine, load, rows, known, estimate_load(spec, load, rows, engine=engine), demand)


def _layouts(draw: np.random.Generator, devices: list[Device], size: int, spec: ModelSpec) -> Deployments:
    """Draw placements: degrees of parallelism, replicas, formats and limits of the engine."""
    moe = any(b.mlp and b.mlp.experts for b in spec.blocks)
    dp = np.where(draw.random(size) < 0.15, 4.0, 1.0) if moe else np.ones(size)
    tp = draw.choice([1.0, 1.0, 2.0, 4.0, 8.0], size)
    return deployments(
        devices,
        device=draw.integers(0, len(devices), size),
        tp=tp,
        pp=draw.choice([1.0, 1.0, 1.0, 2.0, 4.0], size),
        dp=dp,
        ep=np.where(dp > 1, tp * dp, 1.0),
        replicas=draw.choice([1.0, 1.0, 2.0, 3.0, 4.0, 8.0], size),
        max_num_batched_tokens=draw.choice([np.nan, 512.0, 2048.0, 8192.0, 16384.0], size),
        max_num_seqs=draw.choice([np.nan, np.nan, 16.0, 64.0, 512.0], size),
        weight=draw.choice([-1, FORMAT_CODE[str(draw.choice(["fp8", "int4"]))]], size),
        kv=np.full(size, draw.choice([-1, -1, FORMAT_CODE["fp8"]])),
    )


def _load(draw: np.random.Generator, arrival: str, size: int) -> Load:
    """Draw lengths and numbers of requests, on a logarithmic scale."""
    kinds = int(draw.choice([1, 1, 3]))
    base = load_of(
        Workload.from_lengths(np.full(kinds, 9.0), np.full(kinds, 9.0), arrival=arrival, concurrency=1), size
    )

    def spread(low: float, high: float, shape: tuple[int, ...]) -> Array:
        return np.rint(np.exp(draw.uniform(np.log(low), np.log(high), shape)))

    hit = np.where(draw.random(size) < 0.7, 0.0, draw.uniform(0.0, 0.99, size))
    endless = draw.random(size) < 0.5
    count = spread(1, 4000, (size,))
    return replace(
        base,
        input=spread(8, 60_000, (kinds, size)),
        output=spread(2, 3000, (kinds, size)),
        hit=np.broadcast_to(hit, (kinds, size)).copy(),
        concurrency=spread(1, 1000, (size,)),
        n_requests=np.where(endless & (arrival == "open"), np.nan, count),
        length_cv=draw.choice([0.0, 0.0, 0.5, 1.0], size),
    )


def _with_rate(
    draw: np.random.Generator, load: Load, spec: ModelSpec, rows: Deployments, engine: Engine
) -> tuple[Load, Array]:
    """Draw rates below and above what a deployment can do, which a closed loop of many clients shows.

    Returns the load and the share of that, (N,).
    """
    full = replace(load, arrival="closed", concurrency=np.full_like(load.rate, 256.0), n_requests=load.rate * np.nan)
    most = estimate_load(spec, full, rows, engine=engine).request_rate
    share = np.exp(draw.uniform(np.log(0.02), np.log(1.3), len(most)))
    return replace(load, rate=np.maximum(np.nan_to_num(most, nan=1.0) * share, 1e-4)), share
