"""List the benchmark runs that could be taken on a device, and how much of the cost's variance each would explain.

A run is one replica of a configuration under one load: a single client, closed loops up to twice what the plan has in
flight, or arrivals at the plan's rate. The derivatives of its measured values by the factors of the system tell by how
much it reduces the variance of the factors, before it is taken (`perfmodel.user_calibration.after_run`). The dependence
of the cost on the factors comes from the planned draws, by ridge regression of the logarithm of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.arrays import Array
from perfmodel.cases import predict
from perfmodel.engines import PARTS, Adjustment, Engine, adjustment_on

if TYPE_CHECKING:
    from hwdb import Device
    from search.planning.plan_making.ranked_plan import Plan

#: (device, engine family) -> log factors of its parts, (P,).
Draw = Mapping[tuple[str, str], Array]
#: What a benchmark client measures. Power is metered apart, and not counted on.
MEASURED = {"ttft_ms": "ttft", "tpot_ms": "tpot", "output_tok_s": "throughput"}
#: Logarithm by which a part is slowed for its derivative. Chosen: large against rounding.
STEP = 0.1
#: Closed loops, as shares of the plan's requests in flight. Chosen: from idle batches to beyond what is planned.
LOADS = (0.25, 1.0, 2.0)
#: Variance of a draw's log cost that factors do not explain, over that of a factor at its spread. Chosen: costs move in
#: whole replicas.
RIDGE = 1.0


@dataclass(frozen=True)
class Run:
    """Describes one run. row: the configuration, a flat row. usd_per_hour: of its one replica.

    concurrency: clients of a closed loop, NaN where requests arrive at `rate` per second.
    """

    row: Mapping[str, Any]
    usd_per_hour: float
    concurrency: float
    rate: float

    @property
    def load(self) -> str:
        """Return the load in words."""
        if np.isfinite(self.concurrency):
            return f"{self.concurrency:.0f} client{'' if self.concurrency == 1 else 's'}"
        return f"{self.rate:.3g} requests/s"


def known_of(engine: Engine, device: Device) -> tuple[Array, Array]:
    """Return (middle, spread) of the log factors of an engine on a device, (P,): own runs, else published systems."""
    from perfmodel.user_calibration import priors

    own = adjustment_on(device, engine.adjustments)
    if own is None:
        return np.zeros(len(PARTS)), priors().factors
    spreads = dict(zip(PARTS, priors().factors, strict=True)) | dict(own.spreads)
    return np.log([own.factor(part) for part in PARTS]), np.array([spreads[part] for part in PARTS])


def told_by(
    found: Plan,
    device: str,
    rows: Sequence[Mapping[str, Any]],
    lengths: Sequence[float],
    drawn: Sequence[Draw],
    costs: Mapping[tuple[tuple[str, ...], str], Array],
) -> Iterator[tuple[Run, float]]:
    """Yield each run on a device, and the share of the variance of its log cost that the run tells.

    rows: configurations there. lengths: mean input and output tokens. costs: (devices, engine) -> (draws,) USD per h;
    those of the device alone count, or of pools that use it.
    """
    from perfmodel.user_calibration import after_run, priors

    engine = found.scenario.engine
    mine = [cost for (devices, name), cost in costs.items() if device in devices and name == engine.name]
    if not mine:
        return
    cost = costs.get(((device,), engine.name), mine[0])
    middle, spread = known_of(engine, found.scenario.hardware().device(device))
    gradient = _gradient(np.array([one[device, engine.family] for one in drawn]), middle, spread, np.log(cost))
    runs = [run for row in rows for run in _runs_of(row)]
    slopes = _slopes(found, device, runs, lengths, middle)
    noise = np.array([priors().noise[kind] for kind in MEASURED.values()])
    before = gradient @ np.diag(np.square(spread)) @ gradient
    for run, slope in zip(runs, slopes, strict=True):
        good = np.isfinite(slope).all(axis=1)
        left = after_run(np.diag(np.square(spread)), slope[good], noise[good])
        yield run, float(np.clip(1.0 - gradient @ left @ gradient / before, 0.0, 1.0)) if before > 0 else 0.0


def _gradient(factors: Array, middle: Array, spread: Array, log_cost: Array) -> Array:
    """Return the derivative of the log cost by log factor, (P,), from (draws, P) factors and (draws,) costs."""
    scaled = (factors - middle) / spread
    centred = log_cost - log_cost.mean()
    inner = scaled @ scaled.T + RIDGE * np.eye(len(scaled))
    return np.asarray(scaled.T @ np.linalg.solve(inner, centred) / spread)


def _runs_of(row: Mapping[str, Any]) -> Iterator[Run]:
    """Yield the runs of one replica of a configuration."""
    usd = float(row["usd_per_hour"]) / max(float(row["replicas"]), 1.0)
    in_flight = max(float(row["concurrency_per_replica"]), 1.0)
    for clients in dict.fromkeys([1.0, *(max(round(share * in_flight), 1) for share in LOADS)]):
        yield Run(row, usd, float(clients), float("nan"))
    yield Run(row, usd, float("nan"), float(row["request_rate_rps_per_replica"]))


def _slopes(found: Plan, device: str, runs: Sequence[Run], lengths: Sequence[float], middle: Array) -> Array:
    """Return (runs, metrics, P) derivatives of the logarithms of what runs would measure by log factor."""
    import pandas as pd

    scenario = found.scenario
    family, database = scenario.engine.family, scenario.hardware()
    table = pd.DataFrame([_case(found, device, run, lengths) for run in runs])

    def answers(point: Array) -> Array:
        factors = tuple(zip(PARTS, np.exp(point).tolist(), strict=True))
        said = predict(table, hwdb=database, adjustments=(Adjustment(device, family, factors),))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(said[list(MEASURED)].to_numpy(float)))

    base = answers(middle)
    return np.stack([(answers(middle + STEP * unit) - base) / STEP for unit in np.eye(len(PARTS))], axis=-1)


def _case(found: Plan, device: str, run: Run, lengths: Sequence[float]) -> dict[str, str]:
    """Return a run as a row of a table of cases."""
    row, scenario = run.row, found.scenario
    closed = np.isfinite(run.concurrency)
    degrees = {"tp": "tp", "pp": "pp", "ep": "ep", "dp_attention": "dp", "cp": "cp"}
    return {
        "model": scenario.model,
        "device": device,
        "engine": scenario.engine.family,
        "n_devices": f"{float(row['devices_per_replica']):.0f}",
        "weight_dtype": str(row["weight"]),
        "kv_dtype": str(row["kv"]),
        **{column: f"{float(row[name]):.0f}" for column, name in degrees.items() if float(row[name]) > 1},
        "tp": f"{float(row['tp']):.0f}",
        "isl": f"{lengths[0]:.0f}",
        "osl": f"{max(lengths[1], 1.0):.0f}",
        "mode": "closed" if closed else "open",
        "concurrency": f"{run.concurrency:.0f}" if closed else "",
        "request_rate_rps": "" if closed else f"{run.rate:.6g}",
    }
