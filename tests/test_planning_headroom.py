"""What a plan and a fleet leave free of their capacity, and how sure they are: the advice that they print holds."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hwdb import Infeasible
from hwdb.tomlfile import Table
from perfmodel.costs import Roofline
from search.fleet import plan_fleet
from search.output import headline, reachable_confidence
from search.planning import Plan, greatest_confidence, plan, tariff_of
from search.scenario import MOST_USED, Scenario
from search.scenario.rankings import MOST_SERVED, RANKINGS
from search.scenario.scenario import read_scenario
from search.whatif import changes

TEXT = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
{lengths}
{load}
[slo]
ttft_ms_p90 = {ttft}
tpot_ms_p90 = {tpot}
[hardware]
{hardware}
usd_per_hour = {{ h100-sxm = 2.5, l40s = 0.8 }}
[search]
tp = {tp}
pp = 1
modes = {modes}
[limits]
{limits}
[site]
gco2_per_kwh = 400
[objective]
rank_by = "{rank_by}"
"""
DEFAULTS: dict[str, object] = {
    "lengths": "input_tokens = 1000\noutput_tokens = 200",
    "load": "request_rate_rps = 20",
    "ttft": 500,
    "tpot": 30,
    "hardware": 'devices = ["h100-sxm", "l40s"]',
    "tp": [1, 2],
    "modes": '["colocated"]',
    "limits": "",
    "rank_by": "usd_per_hour",
}


def scenario(folder: Path | None = None, **changed: object) -> Scenario:
    text = TEXT.format(**(DEFAULTS | changed))
    return read_scenario(Table(tomllib.loads(text), "scenario.toml"), folder or Path())


def planned(**changed: object) -> Plan:
    return plan(scenario(**changed), costs=Roofline())


@pytest.mark.parametrize("seed", range(20))
def test_no_more_of_the_capacity_is_used_than_allowed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    most = float(rng.choice([0.5, 0.65, 0.9, 1.0])) if seed % 2 else MOST_USED
    found = planned(
        lengths=f"input_tokens = {rng.integers(100, 4000)}\noutput_tokens = {rng.integers(20, 500)}",
        load=f"request_rate_rps = {rng.uniform(1, 120):.2f}",
        ttft=int(rng.integers(400, 2000)),
        tpot=int(rng.integers(30, 90)),
        modes='["disaggregated"]' if seed % 5 == 4 else '["colocated"]',
        limits=f"utilisation = {most}" if seed % 2 else "",
    )
    for row in found.rows(2):
        assert row["utilisation"] <= most * 1.005
        assert row["greatest_request_rate_rps"] >= row["request_rate_rps"] / most * 0.995
    assert f"{most:.0%} of its capacity".replace("%", " %") in headline(found)


def test_the_usual_headroom_gives_way_to_the_stock_and_a_stated_one_does_not() -> None:
    rate = planned(load="request_rate_rps = 100", tp=1, hardware='devices = ["h100-sxm"]', limits="utilisation = 1.0")
    most = rate.row(rate.best)["greatest_request_rate_rps"] / rate.row(rate.best)["replicas"]
    tight = {
        "load": f"request_rate_rps = {0.95 * most:.3f}",
        "tp": 1,
        "hardware": 'devices = ["h100-sxm"]\nstock = { h100-sxm = 1 }',
    }
    found = planned(**tight)
    assert found.row(found.best)["utilisation"] > MOST_USED
    assert "because nothing on offer keeps to the usual 80 %" in headline(found)
    stated = planned(**tight, limits="utilisation = 0.8")
    assert not stated.feasible
    assert "only beyond 80 % of their capacity (utilisation in [limits])" in stated.message


def test_a_closed_loop_has_no_rate_that_could_grow() -> None:
    limits = [planned(load="concurrency = 64", limits=f"utilisation = {u}").columns for u in (0.5, 1.0)]
    assert np.array_equal(limits[0]["replicas"], limits[1]["replicas"])


@pytest.mark.parametrize("rate", [5, 40])
def test_a_fleet_keeps_the_same_headroom_and_says_how_sure_it_is(rate: float) -> None:
    asked = scenario(load=f"request_rate_rps = {rate}", hardware='devices = ["l40s"]', tp=1, ttft=2000, tpot=60)
    row, single = plan_fleet(asked, costs=Roofline()).rows()[0], plan(asked, costs=Roofline()).rows(1)[0]
    assert row["utilisation_percent"] <= 80.001
    assert row["slo_chance"] == pytest.approx(single["slo_chance"], rel=1e-6)
    full = replace(asked, limits=replace(asked.limits, utilisation=1.0, utilisation_stated=True))
    assert plan_fleet(full, costs=Roofline()).rows()[0]["replicas"] <= row["replicas"]


def test_a_fleet_without_a_choice_uses_more_and_says_so() -> None:
    asked = scenario(load="request_rate_rps = 40", hardware='devices = ["l40s"]', tp=1, ttft=2000, tpot=60)
    fleet = partial(plan_fleet, costs=Roofline())
    full = fleet(replace(asked, limits=replace(asked.limits, utilisation=1.0, utilisation_stated=True)))
    short = replace(asked, offer=replace(asked.offer, stock={"l40s": full.devices["l40s"]}))
    if fleet(asked).devices == full.devices:
        pytest.skip("the full capacity needs as many")
    found = fleet(short)
    assert any("keeps to 80 % of its capacity" in text for text in found.problem.remarks)
    stated = replace(short, limits=replace(short.limits, utilisation_stated=True))
    with pytest.raises(Infeasible):
        fleet(stated)


# -- how sure a plan is, and what it advises ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 3])
def test_the_confidence_that_is_advised_has_a_plan_and_a_higher_one_has_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = planned(
        ttft=int(rng.integers(100, 700)), tpot=int(rng.integers(9, 30)), tp=1, hardware='devices = ["h100-sxm"]'
    )
    if not found.feasible:
        pytest.skip("nothing qualifies at even odds")
    most = greatest_confidence(found, 0.5, 0.95)

    def answered(confidence: float) -> bool:
        limits = replace(found.scenario.limits, confidence=confidence)
        return plan(replace(found.scenario, limits=limits), costs=Roofline()).feasible

    assert answered(most)
    assert most == 0.95 or not answered(most + 0.05)
    advised = re.search(r"confidence = ([\d.]+)", headline(found))
    assert advised is None or float(advised[1]) == min(most, 0.8)


def test_a_plan_that_asks_for_too_much_confidence_names_what_can_be_had() -> None:
    found = planned(limits="confidence = 0.99", tp=1, hardware='devices = ["h100-sxm"]', tpot=12)
    assert not found.feasible
    most = float(re.findall(r"[\d.]+\d", reachable_confidence(found))[-1])
    assert planned(limits=f"confidence = {most}", tp=1, hardware='devices = ["h100-sxm"]', tpot=12).feasible


def test_a_candidate_of_the_same_cost_that_is_surer_is_named() -> None:
    found = planned(hardware='nodes = ["dgx-h100"]', load="request_rate_rps = 1", tp=[1, 2, 4, 8], tpot=16)
    cost, chance, best = found.columns["usd_per_hour"], found.columns["slo_chance"], found.best
    same = found.qualifies & (cost <= cost[best] * 1.01)
    assert chance[best] >= min(chance[same].max(), 0.8) - 0.01
    named = re.search(r"costs the same and is surer", headline(found))
    assert (named is not None) == bool((chance[same] >= chance[best] + 0.05).any())


def test_what_cannot_fit_is_no_near_miss_where_something_qualifies() -> None:
    found = plan(
        replace(
            scenario(load="request_rate_rps = 1", tp=[1, 8], ttft=9000, tpot=200), model="meta-llama/Llama-3.1-70B"
        ),
        costs=Roofline(),
    )
    assert found.feasible
    assert (found.columns["fits"] == 0).any()
    assert not [row for row in found.misses() if "does not fit" in row["reason"]]


# -- the most traffic --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["dataset", "trace", "histogram"])
@pytest.mark.parametrize("rank_by", RANKINGS)
def test_a_ranking_by_what_is_served_takes_no_rate_of_the_source(rank_by: str, source: str, tmp_path: Path) -> None:
    trace = "arrival_s,input_tokens,output_tokens\n" + "".join(f"{2 * i},{100 + i},10\n" for i in range(50))
    (tmp_path / "t.csv").write_text(trace)
    (tmp_path / "h.csv").write_text("# rate_rps: 0.5\ninput_tokens,output_tokens,share\n100,10,1\n")
    value = {"dataset": "azure-conv-2023", "trace": "t.csv", "histogram": "h.csv"}[source]
    asked = {"lengths": f'{source} = "{value}"', "load": "", "rank_by": rank_by}
    request = scenario(tmp_path, **asked).request
    stated = scenario(tmp_path, **(asked | {"load": "request_rate_rps = 3"})).request
    assert request is not None
    assert stated is not None
    assert stated.workload.rate == 3
    assert not stated.load_remark
    if request.load_remark == "" and source == "histogram":
        assert request.workload.arrival == "closed"  # this histogram has no rate
    elif rank_by in MOST_SERVED:
        assert request.workload.arrival == "closed"
        assert "is not taken as the load" in request.load_remark
        assert "request_rate_rps = " in request.load_remark
    else:
        assert request.workload.arrival == "open"
        assert ("request_rate_rps in [workload]" in request.load_remark) is (source != "trace")


def test_the_most_traffic_of_a_data_set_fills_the_stock() -> None:
    found = planned(
        lengths='dataset = "azure-conv-2023"',
        load="",
        hardware='devices = ["h100-sxm"]\nstock = { h100-sxm = 8 }',
        rank_by="request_rate_rps",
    )
    assert found.columns["devices"][found.best] == 8
    assert "80 % of it is" in headline(found)
    assert any("is not taken as the load" in note for note in found.notes)


# -- what-ifs ----------------------------------------------------------------------------------------------------------


def test_a_what_if_on_other_hardware_counts_hosts_where_the_plan_does() -> None:
    for hardware, whole in (('nodes = ["dgx-h100"]', True), ('devices = ["h100-sxm"]', False)):
        found = planned(hardware=hardware, tp=1)
        others = [change for change in changes(found) if change.name.startswith("on ")]
        assert others
        for change in others:
            offer = change.make(found.scenario).offer
            tariff = tariff_of(replace(found.scenario, offer=offer))
            assert bool(tariff.whole[0]) is whole, change.name
            assert bool(np.isfinite(tariff.host_power[0])) is whole, change.name
