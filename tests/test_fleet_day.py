"""A fleet over the day: each hour costs the least and is what a plan of it says; idle devices are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwdb import InputError
from perfmodel.costs import Roofline
from search import FleetPlan, FleetProblem, Inventory, Option, fleet_plan, load_scenario, plan, plan_fleet
from search.fleet import hour_rows
from search.fleet.integer_program.periods import busiest
from search.output import fleet_rows, print_fleet

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
DAY = """\
title = "chat"
[model]
name = "{model}"
[workload]
input_tokens = 1000
output_tokens = 200
{load}
[slo]
ttft_ms_p95 = 800
tpot_ms = 40
[hardware]
devices = {devices}
{hardware}
[search]
tp = {tp}
pp = 1
"""


def scenario(folder: Path, load: str, *, devices: str = '["h100-sxm"]', hardware: str = "", tp: str = "1") -> Path:
    path = folder / "day.toml"
    path.write_text(DAY.format(model=MODEL, load=load, devices=devices, hardware=hardware, tp=tp), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rates() -> list[float]:
    """Requests/s of six hours."""
    return [2, 60, 9, 45, 0, 31]


@pytest.mark.parametrize("device", ["h100-sxm", "l40s", "a100-sxm-80gb"])
def test_each_hour_of_a_fleet_is_what_a_plan_of_that_hour_finds(
    device: str, rates: list[float], tmp_path: Path
) -> None:
    load = f"rate_by_hour = {rates}"
    fleet = plan_fleet(load_scenario(scenario(tmp_path, load, devices=f'["{device}"]')), costs=Roofline())
    rows = hour_rows(fleet)
    assert [r["request_rate_rps"] for r in rows] == rates
    for rate, row in zip(rates, rows, strict=True):
        if not rate:
            assert (row["replicas"], row["usd_per_hour"], row["power_w"]) == (0, 0, 0)
            continue
        path = scenario(tmp_path, f"request_rate_rps = {rate}", devices=f'["{device}"]')
        single = plan(load_scenario(path), costs=Roofline()).rows(1)[0]
        for name in ("replicas", "devices", "usd_per_hour", "power_w"):
            assert row[name] == pytest.approx(single[name], rel=1e-9), (rate, name)
    whole = plan(load_scenario(scenario(tmp_path, load, devices=f'["{device}"]')), costs=Roofline()).rows(1)[0]
    assert fleet.static is not None
    assert fleet.static.usd_per_hour == pytest.approx(whole["usd_per_hour"])
    assert whole["request_rate_rps"] == pytest.approx(max(rates))
    assert fleet.usd_per_hour == pytest.approx(float(np.mean([r["usd_per_hour"] for r in rows])))


def test_replicas_in_whole_nodes_cost_and_draw_what_a_plan_says(tmp_path: Path) -> None:
    hardware = 'nodes = ["dgx-h100"]'
    for rate in (3, 170):
        path = scenario(tmp_path, f"request_rate_rps = {rate}", hardware=hardware, tp="[1, 2]")
        found = load_scenario(path)
        fleet, single = plan_fleet(found, costs=Roofline()), plan(found, costs=Roofline()).rows(1)[0]
        row = fleet.rows()[0]
        for name in ("replicas", "devices", "nodes", "usd_per_hour", "power_w"):
            assert row[name] == pytest.approx(single[name], rel=1e-9), (rate, name)


# -- the program over many periods ----------------------------------------------------------------------------------


def random_problem(seed: int, periods: int = 5) -> FleetProblem:
    rng = np.random.default_rng(seed)
    options = tuple(Option(f"o{i}", f"d{i}", 1.0, float(rng.uniform(1, 9)), 100.0) for i in range(3))
    return FleetProblem(
        options=options,
        classes=("a", "b"),
        rate=rng.uniform(0.0, 8.0, (periods, 2)),
        throughput=rng.uniform(0.5, 4.0, (3, 2)),
        hours=rng.uniform(1.0, 6.0, periods),
        inventory=Inventory(spare_nodes=int(seed % 4 == 0)),
    )


@pytest.mark.parametrize("seed", range(20))
def test_periods_solved_apart_cost_what_they_cost_alone(seed: int) -> None:
    problem = random_problem(seed)
    changing, static = fleet_plan(replace(problem, elastic=True)), fleet_plan(problem)
    alone = [
        fleet_plan(replace(problem, rate=problem.rate[[t]], hours=np.ones(1))).usd_per_hour
        for t in range(problem.periods)
    ]
    assert changing.usd_per_hour == pytest.approx(float(np.average(alone, weights=problem.hours)))
    assert changing.bound <= changing.usd_per_hour + 1e-9
    assert changing.usd_per_hour <= static.usd_per_hour + 1e-9
    for found in (changing, static):
        assert np.nanmax(found.utilisation()) <= 1 + 1e-6
        np.testing.assert_allclose(found.shares.sum(0), 1.0)
    assert (static.replicas == static.replicas[:, :1]).all()


def test_busiest_periods_stand_for_all() -> None:
    rate = np.random.default_rng(0).integers(0, 5, (40, 2)).astype(float)
    kept, stands = busiest(rate)
    assert len(kept) < 10
    assert (rate[kept][stands] >= rate).all()


def test_free_replicas_are_not_left_idle() -> None:
    options = tuple(Option(f"o{i}", "own", 2.0, 0.0, 300.0) for i in range(2))
    problem = FleetProblem(
        options, ("a",), np.array([[5.0]]), np.array([[2.0], [1.0]]), inventory=Inventory({"own": 40})
    )
    found = fleet_plan(problem)
    assert found.replicas[:, 0].tolist() == [3, 0] or found.replicas.sum() == 3
    assert found.usd_per_hour == 0


# -- what is shown --------------------------------------------------------------------------------------------------

TWO_MODELS = f"""\
[hardware]
devices = ["a100-sxm-80gb", "h100-sxm"]
stock = {{{{ a100-sxm-80gb = 16, h100-sxm = 8 }}}}
{{hardware}}
[fleet]
{{fleet}}
[[fleet.class]]
name = "large"
model = "Qwen/Qwen3-32B"
input_tokens = 800
output_tokens = 200
{{large}}
slo = {{{{ tpot_ms = 60 }}}}
[[fleet.class]]
name = "small"
model = "{MODEL}"
input_tokens = 800
output_tokens = 200
request_rate_rps = 4
slo = {{{{ tpot_ms = 40 }}}}
[[fleet.option]]
device = "h100-sxm"
tp = 1
"""


def two_models(folder: Path, *, large: str = "request_rate_rps = 3", fleet: str = "", hardware: str = "") -> Path:
    path = folder / "two.toml"
    path.write_text(TWO_MODELS.format(large=large, fleet=fleet, hardware=hardware), encoding="utf-8")
    return path


def planned(path: Path) -> tuple[FleetPlan, list[dict[str, Any]]]:
    """The fleet of a scenario, and the rows that the command writes as JSON."""
    found = plan_fleet(load_scenario(path), costs=Roofline())
    return found, fleet_rows(found)


def test_rows_name_model_and_classes_and_idle_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, rows = planned(two_models(tmp_path, hardware="usd_per_hour = { a100-sxm-80gb = 0.5 }"))
    assert {(r["model"], r["serves"]) for r in rows} == {("Qwen/Qwen3-32B", "large"), (MODEL, "small")}
    used = sum(r["devices"] for r in rows)
    words = f"16 of 16 a100-sxm-80gb (0.896 kW while switched on, $8.00 per hour at your price), {8 - used:g} of 8 h100"
    assert words in rows[0]["remark"]
    assert all(r["replicas"] > 0 and r["usd_per_hour"] > 0 for r in rows)
    print_fleet(found)
    text = " ".join(capsys.readouterr().out.split())
    assert words in text
    assert "Serves" in text
    assert "By the hour" not in text


def test_classes_by_the_hour_join_classes_with_one_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, rows = planned(two_models(tmp_path, large="rate_by_hour = [1, 6, 14]"))
    assert [r["request_rate_rps"] for r in rows if r["serves"] == "large"] == [1, 6, 14]
    assert [r["request_rate_rps"] for r in rows if r["serves"] == "small"] == [4, 4, 4]
    print_fleet(found)
    assert "By the hour" in capsys.readouterr().out
    _, fixed = planned(two_models(tmp_path, large="rate_by_hour = [1, 6, 14]", fleet="elastic = false"))
    large = [r for r in fixed if r["serves"] == "large"]
    assert len({r["replicas"] for r in large}) == 1
    assert [r["replicas_needed"] for r in large] == [r["replicas"] for r in rows if r["serves"] == "large"]


def test_a_class_takes_its_load_from_a_trace(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    counts = np.repeat([1.0, 3.0, 6.0], 60)
    times = np.concatenate([np.sort(rng.uniform(m, m + 1, rng.poisson(60 * r))) * 60 for m, r in enumerate(counts)])
    lines = ["arrival_s,input_tokens,output_tokens", *(f"{t:.3f},800,200" for t in times)]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    text = two_models(tmp_path, large='trace = "t.csv"').read_text(encoding="utf-8")
    path = tmp_path / "two.toml"
    path.write_text(text.replace("input_tokens = 800\noutput_tokens = 200\ntrace", "trace"), encoding="utf-8")
    spec = load_scenario(path).fleet
    assert spec is not None
    np.testing.assert_allclose(spec.classes[0].rate, [1, 3, 6], rtol=0.06)
    assert spec.classes[1].rate == (4, 4, 4)
    np.testing.assert_allclose(spec.hours, 1.0, rtol=0.01)


@pytest.mark.parametrize(
    ("large", "fleet", "told"),
    [
        ("", "", "nothing says how many requests arrive"),
        ("rate_by_hour = [1, 2]\nrequest_rate_rps = 1", "", "contradict"),
        ("rate_by_hour = [1, 2]", "hours = [3, 4]", "hours"),
        ("request_rate_rps = [1, 2]", "", "2 rates for 1 periods"),
        ("request_rate_rps = 1\nconcurrency = 4", "", "unknown key 'concurrency'"),
    ],
)
def test_mistakes_of_a_class_are_named(large: str, fleet: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        load_scenario(two_models(tmp_path, large=large, fleet=fleet))
