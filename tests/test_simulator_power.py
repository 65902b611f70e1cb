"""Power over time of a simulation: the closed form's watts, energy kept, phases in order, files, limits."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from hwdb import InputError
from perfmodel import simulator
from perfmodel.simulator import Simulation

#: How far the simulator's mean watts may lie from the closed form's. Chosen: rates of the two differ by some percent.
CLOSE = 0.04


@cache
def simulated(model: str, device: str, rate: float, tokens: int, cap: float = float("nan")) -> tuple[float, Simulation]:
    """Return (mean watts of the closed form, the simulation) of one replica under an open load, or 16 clients at 0."""
    load = (
        pm.Workload.from_lengths(tokens, 100, rate=rate, arrival="open")
        if rate
        else pm.Workload.from_lengths(tokens, 100, concurrency=16)
    )
    layout = pm.deployments([hwdb.device(device)], power_cap=cap)
    spec = pm.model(model)
    found = pm.simulate(spec, layout, load, count=200, seed=3)
    if rate:  # the closed form at the rate that was drawn
        load = load.at(rate=(len(found.traffic) - 1) / float(np.ptp(found.issued)))
    return float(pm.estimate(spec, load, layout).power[0]), found


def eight(rate: float = 3.0, cap: float = float("nan")) -> Simulation:
    return simulated("meta-llama/Llama-3.1-8B", "h100-sxm", rate, 600, cap)[1]


@pytest.mark.parametrize(
    ("model", "device", "rate", "tokens"),
    [
        ("meta-llama/Llama-3.1-8B", "h100-sxm", 3.0, 600),
        ("meta-llama/Llama-3.1-8B", "h100-sxm", 0.5, 3000),
        ("meta-llama/Llama-3.1-8B", "h100-sxm", 0.0, 4000),
    ],
)
def test_mean_watts_are_those_of_the_closed_form(model: str, device: str, rate: float, tokens: int) -> None:
    expected, found = simulated(model, device, rate, tokens)
    whole = simulator.window(found, whole=bool(rate))
    watts = simulator.power_summary(found, whole)["power_w_per_device"]
    assert watts == pytest.approx(expected, rel=CLOSE)


def test_phases_sum_to_the_whole() -> None:
    row = simulator.summary(eight())
    shares = {p: row[f"{p}_time_share"] for p in simulator.PHASES}
    assert sum(shares.values()) == pytest.approx(1.0)
    parts = [share * row[f"{p}_power_w_per_device"] for p, share in shares.items() if share]
    assert sum(parts) == pytest.approx(row["power_w_per_device"])
    ready = eight().pools[0].power
    assert ready is not None
    assert row["idle_power_w_per_device"] == pytest.approx(ready.ready)
    assert row["idle_power_w_per_device"] < row["decode_power_w_per_device"] < row["mixed_power_w_per_device"]
    assert row["power_w_per_device"] <= row["power_w_per_device_p99"] <= row["power_w_per_device_peak"] <= ready.limit
    assert row["power_w_per_device_lo"] < row["power_w_per_device"] < row["power_w_per_device_hi"]


def test_energy_of_requests_and_tokens_is_that_of_the_devices() -> None:
    found = eight()
    seen, row = simulator.window(found), simulator.summary(found)
    joules = row["devices_power_w"] * seen.span
    assert row["energy_j_per_request"] * seen.counted.sum() == pytest.approx(joules)
    assert row["energy_j_per_output_token"] * found.traffic.output_tokens[seen.counted].sum() == pytest.approx(joules)


@pytest.mark.parametrize("interval", [0.0, 0.05, 1.0, 1e4])
def test_the_series_holds_the_energy_of_the_run(interval: float) -> None:
    found, whole = eight(), simulator.window(eight(), whole=True)
    series = simulator.power_series(found, interval)
    row = simulator.power_summary(found, whole)
    length = interval if 0 < interval < whole.span else whole.span / len(np.unique(series["time_s"]))
    covered = length * len(series["time_s"])
    assert float(series["power_w_per_device"].mean()) * covered == pytest.approx(
        row["devices_power_w"] * whole.span, rel=0.01 + length / whole.span * (0 < interval < whole.span)
    )
    assert np.allclose(sum(series[f"{p}_time_share"] for p in simulator.PHASES), 1.0)


def test_two_pools_draw_their_own_watts() -> None:
    layout = pm.deployments([hwdb.device("h100-sxm")])
    load = pm.Workload.from_lengths(1500, 150, rate=3.0, arrival="open")
    found = pm.simulate(pm.model("meta-llama/Llama-3.1-8B"), layout, load, prefill=layout, count=200)
    row = simulator.summary(found)
    both = (row["prefill_pool_power_w_per_device"] + row["decode_pool_power_w_per_device"]) / 2
    assert both == pytest.approx(row["power_w_per_device"])
    assert row["mixed_time_share"] == 0.0
    assert row["prefill_power_w_per_device"] > row["decode_power_w_per_device"]
    assert len({*simulator.power_series(found)["pool"]}) == 2


def test_a_limit_is_kept_in_every_step() -> None:
    cap = 400.0
    row, free = simulator.summary(eight(cap=cap)), simulator.summary(eight())
    assert row["power_w_per_device_peak"] <= cap + 1e-9
    assert row["power_w_per_device"] < free["power_w_per_device"]
    assert row["tpot_ms"] >= free["tpot_ms"]


def test_static_batches_keep_the_power_of_finished_slots() -> None:
    layout = pm.deployments([hwdb.device("h100-sxm")])
    load = pm.Workload.from_lengths(300, 100, concurrency=8, arrival="static")
    found = pm.simulate(pm.model("meta-llama/Llama-3.1-8B"), layout, load, policy=simulator.Policy(batching="static"))
    assert simulator.summary(found)["decode_power_w_per_device"] > 120.0


def test_unknown_watts_stay_unknown(tmp_path: Path) -> None:
    pool = simulator.Pool(simulator.StepTable.affine(0.01), simulator.Policy(), 1e5)
    found = simulator.run(simulator.traffic([10] * 5, [3] * 5), pool)
    assert simulator.power_summary(found) == {}
    with pytest.raises(InputError, match="no power is known"):
        simulator.write_power(found, tmp_path / "w.csv")


@pytest.mark.parametrize("interval", [-1.0, float("nan"), 1e-9])
def test_intervals_that_mean_nothing_are_refused(interval: float) -> None:
    with pytest.raises(InputError, match="interval"):
        simulator.power_series(eight(), interval)


def test_files_hold_the_series(tmp_path: Path) -> None:
    found = eight()
    simulator.write_power(found, tmp_path / "w.csv", 1.0)
    simulator.write_power(found, tmp_path / "w.json", 1.0)
    rows = list(csv.DictReader((tmp_path / "w.csv").read_text().splitlines()))
    as_json = json.loads((tmp_path / "w.json").read_text())
    assert len(rows) == len(as_json) > 10
    assert float(rows[3]["power_w_per_device"]) == pytest.approx(as_json[3]["power_w_per_device"])
    counters = [e for e in simulator.trace_events(found) if e["name"] == "W per device"]
    assert len(counters) == len(found.runs)
