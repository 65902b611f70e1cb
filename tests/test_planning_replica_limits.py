"""Plans without a load fill what is on hand; ties, devices without a price, near misses, headroom, settings of rows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwdb
from hwdb import Infeasible
from perfmodel import deployments
from perfmodel.costs import Roofline
from perfmodel.power import site_power
from search import FleetInfeasible, Plan, load_scenario, plan, plan_fleet
from search.planning.money.prices import tariff
from search.planning.operating_point.replica_limits import Bounds
from search.scenario import RANKINGS, Limits, Site
from search.searchers import ranked

SEEDS = range(20)
SCENARIO = """
[model]
name = "{model}"
[workload]
input_tokens = {input_tokens}
output_tokens = {output_tokens}
{load}
[slo]
{slo}
[hardware]
{hardware}
[limits]
{limits}
[site]
pue = {pue}
gco2_per_kwh = 400
[search]
tp = [1, 2, 4]
pp = [1]
{search}
[objective]
rank_by = "{rank_by}"
"""
DEFAULTS = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "input_tokens": 1000,
    "output_tokens": 200,
    "load": "",
    "slo": "ttft_ms_p95 = 500\ntpot_ms_p95 = 25",
    "hardware": 'devices = ["h100-sxm", "l40s"]\nusd_per_hour = { h100-sxm = 2.5, l40s = 0.8 }',
    "limits": "",
    "pue": 1.0,
    "search": "",
    "rank_by": "request_rate_rps",
}


def answered(folder: Path, *, costs: Any = True, **changes: object) -> Plan:
    """The plan of the scenario with these parts changed."""
    path = folder / "scenario.toml"
    path.write_text(SCENARIO.format(**{**DEFAULTS, **changes}))
    return plan(load_scenario(path), costs=Roofline() if costs else None)


# -- how many replicas the limits allow ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_replicas_allowed_are_those_that_counting_up_finds(seed: int) -> None:
    """Against a count from 1 up, for singly rented devices and whole nodes, each limit present or not."""
    rng = np.random.default_rng(seed)
    nodes = ("dgx-h100",) if seed % 2 else ()
    bill = tariff(hwdb.load(), ("h100-sxm", "l40s"), nodes, "cheapest", {"h100-sxm": 2.5, "l40s": 0.8})

    def some(low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < 0.5 else math.inf

    limits = Limits(usd_per_hour=some(1, 200), power=some(500, 60e3), devices=some(1, 70), nodes=some(1, 9))
    stock = np.array([float(rng.integers(1, 100)), float(rng.integers(1, 100)) if seed % 3 else math.inf])
    d = deployments(list(bill.devices), device=rng.integers(0, 2, 12), tp=2.0 ** rng.integers(0, 5, 12))
    watts, site = rng.uniform(100, 900, 12), Site(pue=float(rng.uniform(1, 1.5)))
    found = Bounds(limits=limits, stock=stock, tariff=bill, site=site).most(d, lambda rows, _: watts[rows])
    for i, size in enumerate(d.devices_per_replica):
        at = d.device[[i]], np.array([size])

        def within(n: int, i: int = i, size: float = size, at: Any = at) -> bool:
            number = np.array([float(n)])
            devices = watts[i] * size * n + bill.idle_watts(*at, number)
            hosts = bill.host_columns(at[0], bill.nodes(*at, number))
            drawn = site_power(bill.wall(devices, hosts), 1.0, 0.0, site.pue)[0]
            return bool(
                size * n <= min(stock[d.device[i]], limits.devices)
                and bill.nodes(*at, number)[0] <= limits.nodes
                and bill.hourly(*at, number)[0] <= limits.usd_per_hour
                and drawn <= limits.power
            )

        allowed = next((n - 1 for n in range(1, 2000) if not within(n)), math.inf)
        assert found[i] == allowed, (i, size)


def random_limits(rng: np.random.Generator, *, whole: bool) -> dict[str, object]:
    """Random hardware and limits, at least one of which binds."""
    stock = f"stock = {{ h100-sxm = {rng.integers(1, 40)}, l40s = {rng.integers(1, 40)} }}"
    kinds = {
        "stock": stock,
        "power_kw": f"power_kw = {rng.uniform(2, 60):.3f}",
        "usd_per_hour": f"usd_per_hour = {rng.uniform(3, 150):.2f}",
        "nodes": f"nodes = {rng.integers(1, 7)}",
        "devices": f"devices = {rng.integers(1, 60)}",
    }
    chosen = rng.choice(list(kinds), size=int(rng.integers(1, 4)), replace=False)
    offer = 'nodes = ["dgx-h100", "l40s-8way-pcie"]' if whole else 'devices = ["h100-sxm", "l40s"]'
    hardware = [offer, "usd_per_hour = { h100-sxm = 2.5, l40s = 0.8 }", *([stock] if "stock" in chosen else [])]
    limits = [kinds[k] for k in chosen if k != "stock"]
    if rng.random() < 0.3:
        limits.append("spare_nodes = 1")
    return {"hardware": "\n".join(hardware), "limits": "\n".join(limits), "pue": f"{rng.uniform(1, 1.6):.2f}"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_without_a_load_takes_every_replica_that_the_limits_allow(seed: int, tmp_path: Path) -> None:
    """One replica more would exceed stock or a limit, and the load leaves what a failing node takes free."""
    rng = np.random.default_rng(seed)
    found = answered(tmp_path, **random_limits(rng, whole=bool(seed % 2)))
    scorer, c = found.scorer, found.columns
    if not found.feasible:
        assert not found.rows()
        return
    alone = scorer.target.workload.at(arrival="open", rate=1.0)
    for number in rng.choice(np.nonzero(found.qualifies)[0], 3):
        one, n = found.layouts.take(np.array([number])), float(c["replicas"][number])
        size, spare = one.devices_per_replica, scorer.spare_replicas(one)[0]
        rate = c["request_rate_rps"][number] / (n - spare)  # of a replica loaded as far as its SLO allows
        kept = replace(scorer.target, workload=alone.at(rate=rate))
        over = replace(scorer.target, workload=alone.at(rate=rate * 1.002))
        assert kept.met_by(kept.estimates(one))[0]
        assert not over.met_by(over.estimates(one))[0]

        def within(replicas: float, one: Any = one, size: Any = size, spare: float = spare, rate: float = rate) -> bool:
            task = replace(scorer.target, workload=alone.at(rate=rate * (replicas - spare)))
            watts = task.estimates(replace(one, replicas=np.array([replicas]))).power
            bill, limits = (one.device, size, np.array([replicas])), scorer.limits
            hosts = scorer.tariff.host_columns(bill[0], scorer.tariff.nodes(*bill))
            drawn = scorer.tariff.wall(watts * size * replicas + scorer.tariff.idle_watts(*bill), hosts)
            return bool(
                size[0] * replicas <= min(scorer.stock[one.device[0]], limits.devices)
                and scorer.tariff.nodes(*bill)[0] <= limits.nodes
                and scorer.tariff.hourly(*bill)[0] <= limits.usd_per_hour
                and site_power(drawn, 1.0, 0.0, scorer.site.pue)[0] <= limits.power
            )

        assert within(n)
        bounded = np.isfinite([*scorer.stock[one.device], *vars(scorer.limits).values()][:5]).any()
        assert not within(n + 1) if bounded else n == 1 + spare


def test_the_most_traffic_on_a_node_counts_the_whole_node(tmp_path: Path) -> None:
    found = answered(
        tmp_path,
        costs=False,
        model="openai/gpt-oss-120b",
        input_tokens=2000,
        output_tokens=500,
        slo="ttft_ms_p95 = 1000\ntpot_ms_p95 = 30",
        hardware='nodes = ["dgx-b200"]\nstock = { b200-sxm = 8 }',
    )
    row = found.rows(1)[0]
    assert row["candidate"] == "8 x 1 b200-sxm"
    assert row["request_rate_rps"] == pytest.approx(150, rel=0.1)
    assert row["request_rate_rps_per_replica"] == pytest.approx(row["request_rate_rps"] / 8)


def test_nothing_that_limits_the_replicas_is_said(tmp_path: Path) -> None:
    row = answered(tmp_path).rows(1)[0]
    assert row["replicas"] == 1
    assert "Nothing limits the number of replicas on" in row["remark"]
    node = answered(tmp_path, hardware='nodes = ["dgx-h100"]').rows(1)[0]
    assert node["nodes"] == 1
    assert node["devices"] == 8
    assert "one node is planned" in node["remark"]
    limited = answered(tmp_path, limits="nodes = 1").rows(1)[0]
    assert "Nothing limits" not in limited.get("remark", "")


@pytest.mark.parametrize("ranking", sorted(RANKINGS))
def test_totals_of_a_filled_plan_agree_under_every_ranking(ranking: str, tmp_path: Path) -> None:
    row = answered(tmp_path, rank_by=ranking, limits="devices = 12").rows(1)[0]
    assert row["request_rate_rps_per_replica"] * row["replicas"] == pytest.approx(row["request_rate_rps"])
    assert row["output_tok_s_per_device"] * row["devices"] == pytest.approx(row["output_tok_s"])
    assert row["output_tok_s"] == pytest.approx(row["request_rate_rps"] * 200)
    assert row["usd_per_million_tokens"] == pytest.approx(row["usd_per_hour"] / row["output_tok_s"] / 3600 * 1e6)
    least = ranking in ("usd_per_hour", "devices", "power_w", "request_rate_rps_per_replica")
    assert row["replicas"] == (1 if least else 12 // row["devices_per_replica"])


# -- headroom -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_greatest_rate_is_where_the_plan_first_breaks_its_slo(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    asked = float(rng.uniform(1, 60))
    found = answered(
        tmp_path,
        load=f"request_rate_rps = {asked:.3f}",
        input_tokens=int(rng.integers(100, 3000)),
        output_tokens=int(rng.integers(20, 400)),
        slo=f"ttft_ms_p95 = {rng.uniform(300, 900):.0f}\ntpot_ms_p95 = {rng.uniform(20, 50):.0f}",
        rank_by="usd_per_hour",
    )
    row, number, target = found.rows(1)[0], found.best, found.scorer.target
    greatest = row["greatest_request_rate_rps"]
    for rate, met in ((greatest * 0.999, True), (greatest * 1.005, False)):
        task = replace(target, workload=target.workload.at(rate=rate))
        assert bool(task.met_by(task.estimates(found.deployment(number)))[0]) == met
    assert row["utilisation"] == pytest.approx(round(asked, 3) / greatest)
    assert row["headroom"] == pytest.approx(1 / row["utilisation"] - 1)
    assert row["utilisation"] <= 1
    little = row["request_rate_rps"] / row["replicas"] * row["e2e_ms"] / 1e3
    assert row["concurrency_per_replica"] == pytest.approx(little)


@pytest.mark.parametrize("load", ["concurrency = 24", "n_requests = 200", "concurrency = 24\narrival = 'static'"])
def test_other_loads_have_headroom_too(load: str, tmp_path: Path) -> None:
    slo = "tpot_ms = 30" if "n_requests" in load else DEFAULTS["slo"]
    row = answered(tmp_path, load=load, slo=slo, rank_by="usd_per_hour").rows(1)[0]
    assert row["greatest_request_rate_rps"] >= row["request_rate_rps"]
    assert 0 < row["utilisation"] <= 1
    assert row["headroom"] >= 0
    assert row["concurrency_per_replica"] > 0


def test_pools_and_misses_have_headroom_and_settings(tmp_path: Path) -> None:
    found = answered(tmp_path, load="request_rate_rps = 20", search='modes = ["disaggregated"]', rank_by="usd_per_hour")
    row = found.rows(1)[0]
    assert row["greatest_request_rate_rps"] >= 20
    assert row["prefill_weight"] == row["weight"] == "bf16"
    assert row["prefill_max_num_batched_tokens"] > 0
    assert row["prefill_concurrency_per_replica"] > 0
    missed = answered(tmp_path, load="request_rate_rps = 500", limits="devices = 2").misses(3)
    assert all(r["utilisation"] > 1 for r in missed)
    assert all(-1 <= r["headroom"] < 0 for r in missed)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("formats", ["", 'weight = ["fp8"]\nkv = ["fp8"]'])
def test_a_row_holds_what_its_launch_flags_say(engine: str, formats: str, tmp_path: Path) -> None:
    search = f'{formats}\n[engine]\nname = "{engine}"'
    row = answered(tmp_path, load="request_rate_rps = 20", search=search, rank_by="usd_per_hour").rows(1)[0]
    assert row["weight"] == row["act"] == ("fp8" if formats else "bf16")
    assert row["kv"] == ("fp8" if formats else "bf16")
    assert row["max_num_seqs"] > 0
    assert row["max_num_batched_tokens"] > 0
    assert 0 < row["gpu_memory_utilization"] <= 1
    assert row["engine"] == engine
    assert row["engine_version"]
    assert {row[k] for k in ("tp", "pp", "ep", "dp", "cp")} <= {1, 2, 4}


# -- ties and unknown prices ----------------------------------------------------------------------------------------


def test_of_plans_that_cost_the_same_the_smallest_wins(tmp_path: Path) -> None:
    found = answered(
        tmp_path,
        costs=False,
        model="Qwen/Qwen3-30B-A3B",
        output_tokens=300,
        load="request_rate_rps = 3",
        slo="tpot_ms_p95 = 40",
        hardware='nodes = ["dgx-h100", "dgx-a100-80gb"]\nstock = { h100-sxm = 8, a100-sxm-80gb = 16 }',
        rank_by="usd_per_hour",
    )
    c, best = found.columns, found.best
    same = found.qualifies & (c["usd_per_hour"] == c["usd_per_hour"][best])
    assert c["devices"][best] == c["devices"][same].min() == 2
    assert c["power_w"][best] == pytest.approx(c["power_w"][same].min(), rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_ties_go_to_what_is_sure_enough_then_fewer_devices_then_less_power(seed: int) -> None:
    """Equal costs go by whole percents of the chance up to 80 %; devices stand for a cost that is not known."""
    rng = np.random.default_rng(seed)
    columns = {
        "usd_per_hour": rng.choice([10.0, 20.0, math.nan], 50) * (1 + rng.uniform(-1e-9, 1e-9, 50)),
        "devices": rng.choice([1.0, 2.0, 4.0], 50),
        "power_w": rng.choice([1000.0, 2000.0], 50) * (1 + rng.uniform(-1e-3, 1e-3, 50)),
        "slo_chance": rng.uniform(0.5, 1, 50),
    }
    rows = [
        (*((round(p), 0.0) if p == p else (math.inf, d)), -min(round(s, 2), 0.8), d, round(w, -2), -round(s, 6))
        for p, d, w, s in zip(*columns.values(), strict=True)
    ]
    order = ranked(columns, "usd_per_hour")
    assert [rows[i] for i in order] == sorted(rows)


@pytest.mark.parametrize("seed", SEEDS)
def test_devices_without_a_price_follow_those_with_one_and_are_named(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    unpriced = list(rng.choice(["mi350x", "h800-sxm"], int(rng.integers(1, 3)), replace=False))
    offered = [*unpriced, *(["h100-sxm"] if seed % 2 else [])]
    names = ", ".join(f'"{name}"' for name in offered)
    found = answered(
        tmp_path,
        model="Qwen/Qwen3-32B",
        input_tokens=int(rng.integers(500, 6000)),
        load=f"request_rate_rps = {rng.integers(1, 8)}",
        slo="ttft_ms_p95 = 3000\ntpot_ms_p95 = 60",
        hardware=f"devices = [{names}]",
        rank_by=str(rng.choice(["usd_per_hour", "usd_per_million_tokens"])),
    )
    (note,) = found.notes
    assert all(name in note for name in unpriced)
    assert "usd_per_hour = {" in note
    c, order = found.columns, found.order[: int(found.qualifies.sum())]
    known = np.isfinite(c["usd_per_hour"][order])
    assert (np.diff(known.astype(int)) <= 0).all()
    assert (np.diff(c["devices"][order[~known]]) >= 0).all()
    assert np.isfinite(c["usd_per_hour"][found.best]) == ("h100-sxm" in offered)
    prices = "usd_per_hour = { " + ", ".join(f"{name} = 3.0" for name in unpriced) + " }"
    priced = answered(tmp_path, model="Qwen/Qwen3-32B", hardware=f"devices = [{names}]\n{prices}", limits="devices = 8")
    assert not priced.notes


FLEET = """
[hardware]
devices = ["mi350x", "{other}"]
{more}
[[fleet.class]]
name = "chat"
model = "meta-llama/Llama-3.1-8B-Instruct"
input_tokens = 1000
output_tokens = 200
request_rate_rps = {rate}
slo = {{ ttft_ms = 500 }}
[[fleet.option]]
name = "amd"
device = "mi350x"
tp = 1
[[fleet.option]]
name = "nvidia"
device = "{other}"
tp = 1
[fleet]
"""


@pytest.mark.parametrize("rate", [5, 40, 300])
def test_fleets_name_devices_without_a_price(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"

    def fleet(other: str, more: str = "") -> Any:
        path.write_text(FLEET.format(other=other, rate=rate, more=more))
        return plan_fleet(load_scenario(path), costs=Roofline())

    mixed = fleet("h100-sxm")
    assert set(mixed.devices) == {"h100-sxm"}
    assert "no price is known for mi350x" in mixed.problem.remarks[0]
    none = fleet("h800-sxm")
    assert math.isnan(none.usd_per_hour)
    assert sum(none.devices.values()) == min(math.ceil(rate / speed - 1e-9) for speed in none.problem.throughput[:, 0])
    assert not fleet("h100-sxm", "usd_per_hour = { mi350x = 3.0 }").problem.remarks
    with pytest.raises(FleetInfeasible, match="no price is known for mi350x"):
        fleet("h100-sxm", "[limits]\nusd_per_hour = 0.1")


# -- near misses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_misses_are_within_stock_and_limits_and_say_one_thing(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    stock, budget = int(rng.integers(2, 10)), float(rng.uniform(4, 20))
    loose = rng.random() < 0.5
    changes: dict[str, object] = {
        "load": f"request_rate_rps = {rng.uniform(1000, 9000):.0f}" if loose else "request_rate_rps = 5",
        "slo": "ttft_ms_p95 = 800\ntpot_ms_p95 = 40" if loose else "ttft_ms_p95 = 4\ntpot_ms_p95 = 30",
        "rank_by": "usd_per_hour",
    }
    if seed % 2:
        changes["hardware"] = f"{DEFAULTS['hardware']}\nstock = {{ h100-sxm = {stock}, l40s = {stock} }}"
    else:
        changes["limits"] = f"usd_per_hour = {budget:.2f}"
    found = answered(tmp_path, **changes)
    assert not found.feasible
    assert not found.rows()
    missed = found.misses(4)
    assert missed
    for row in missed:
        assert row["rank"] is None
        assert not row["qualifies"]
        assert row["reason"]
        assert "inf" not in row["reason"]
        assert "nan" not in row["reason"]
        assert row["devices"] <= stock if seed % 2 else row["usd_per_hour"] <= budget
    with pytest.raises(Infeasible, match="nothing meets the request"):
        assert found.best
    assert missed[0]["candidate"] in found.message


def test_a_plan_shows_misses_apart(tmp_path: Path) -> None:
    found = answered(tmp_path, load="request_rate_rps = 40", limits="devices = 2", rank_by="usd_per_hour")
    assert found.feasible
    assert all(r["qualifies"] for r in found.rows())
    both = found.rows(2, 2)
    assert [r["rank"] for r in both[:2]] in ([1, 2], [1, None])
    assert both[-1]["rank"] is None
    assert all(r["devices"] <= 2 or r["devices_per_replica"] > 2 for r in found.misses())


@pytest.mark.parametrize("rank_by", ["ttft_ms", "tpot_ms", "e2e_ms"])
@pytest.mark.parametrize("hardware", ["", "stock = { h100-sxm = 16, l40s = 3 }"], ids=["any number", "stock"])
def test_a_ranking_by_latency_without_load_or_slo_asks_for_one_request_in_flight(
    tmp_path: Path, rank_by: str, hardware: str
) -> None:
    search = 'modes = ["colocated", "disaggregated"]'
    offer = f"{DEFAULTS['hardware']}\n{hardware}"
    found = answered(tmp_path, slo="", hardware=offer, rank_by=rank_by, search=search)
    asked = answered(tmp_path, slo="", hardware=offer, rank_by=rank_by, search=search, load="concurrency = 1")
    assert found.columns[rank_by][found.best] == pytest.approx(asked.columns[rank_by][asked.best], rel=1e-9)
    assert found.name(found.best) == asked.name(asked.best)
    qualifying = found.order[: int(found.qualifies.sum())]
    least = found.columns[rank_by][qualifying].min()
    assert found.columns[rank_by][found.best] == pytest.approx(least, rel=1e-12)
    assert least < 5000
    assert found.columns["concurrency_per_replica"][qualifying].max() <= 1.0 + 1e-6
    assert {bool(found.disaggregated(int(n))) for n in qualifying} == {False, True}
    assert found.row(found.best)["headroom"] > 1.0  # one request is far from what it serves


@pytest.mark.parametrize("seed", SEEDS)
def test_latency_at_the_least_load_holds_for_any_request(tmp_path: Path, seed: int) -> None:
    """With any lengths, ranking, and list of concurrencies: the least of the list, else one request."""
    rng = np.random.default_rng(seed)
    listed = sorted(rng.integers(2, 60, 3).tolist()) if seed % 3 == 0 else []
    rank_by = ("ttft_ms", "tpot_ms", "e2e_ms")[seed % 3 if seed % 2 else 0]
    lengths = {"input_tokens": int(rng.integers(50, 8000)), "output_tokens": int(rng.integers(2, 900))}
    search = f"concurrency = {listed}" if listed else ""
    found = answered(tmp_path, slo="", rank_by=rank_by, search=search, **lengths)
    asked = answered(tmp_path, slo="", rank_by=rank_by, load=f"concurrency = {min(listed, default=1)}", **lengths)
    row = found.row(found.best)
    assert row["replicas"] == 1
    assert row["concurrency_per_replica"] == min(listed, default=1)
    assert row[rank_by] == pytest.approx(float(asked.columns[rank_by][asked.best]), rel=1e-9)


def test_a_ranking_by_latency_within_an_slo_still_loads_replicas(tmp_path: Path) -> None:
    found = answered(tmp_path, rank_by="ttft_ms", slo="tpot_ms_p95 = 25")
    assert found.row(found.best)["concurrency_per_replica"] > 1


def test_what_costs_many_times_as_much_is_no_near_miss(tmp_path: Path) -> None:
    """An SLO that one kind of device misses by little with hundreds of replicas is no reason to rent these."""
    prices = "usd_per_hour = {{ h100-sxm = 2.5, l40s = {usd} }}"
    hardware = 'devices = ["h100-sxm", "l40s"]\n'
    asked = {"load": "request_rate_rps = 5", "slo": "ttft_ms_p95 = 500\ntpot_ms_p95 = 13", "rank_by": "usd_per_hour"}
    dear, cheap = (answered(tmp_path, hardware=hardware + prices.format(usd=usd), **asked) for usd in (900, 0.1))
    assert dear.misses() == []
    assert [row for row in cheap.misses() if "l40s" in row["candidate"]]
