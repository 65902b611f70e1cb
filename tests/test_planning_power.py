"""What the power of a plan counts, and what a limit on it bounds."""

from __future__ import annotations

import math
import random
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import cli
import hwdb
from hwdb import InputError
from hwdb.tomlfile import Table
from perfmodel import deployments
from perfmodel.costs import Roofline
from perfmodel.power import SUPPLIES, constants, energy_kwh, host_of, host_watts, through_supplies
from search import Plan, load_scenario, plan
from search.output import headline, power_note
from search.planning import dearest, rated_columns, tariff
from search.planning.operating_point.replica_limits import Bounds
from search.scenario import Limits, Money, Site
from search.scenario.scenario import read_scenario

TEXT = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 500
output_tokens = 100
{load}
[slo]
ttft_ms_p90 = 1000
tpot_ms = 30
[hardware]
{hardware}
[search]
tp = [1]
pp = [1]
{modes}
[site]
pue = {pue}
[limits]
{limits}
"""


@cache
def planned(hardware: str, limits: str = "", *, pue: float = 1.0, rate: float = 0.0, pools: bool = False) -> Plan:
    load, modes = f"request_rate_rps = {rate}" if rate else "", 'modes = ["disaggregated"]' if pools else ""
    text = TEXT.format(hardware=hardware, limits=limits, pue=pue, load=load, modes=modes)
    return plan(read_scenario(Table(tomllib.loads(text), "scenario.toml"), Path()), costs=Roofline())


POOLS = ("prefill", "decode")
BY_NODE, BY_DEVICE = 'nodes = ["dgx-h100"]', 'devices = ["h100-sxm"]'


@pytest.mark.parametrize(("hardware", "pools"), [(BY_NODE, True), (BY_DEVICE, False)])
def test_rated_power_is_that_of_all_devices_and_of_the_hosts_that_are_counted(hardware: str, pools: bool) -> None:
    found = planned(hardware, pue=1.25, rate=20, pools=pools)
    host = hwdb.node("dgx-h100").host_power if hardware == BY_NODE else 0.0
    for row in found.rows():
        rated = row["devices_billed"] * hwdb.device("h100-sxm").tdp + row["nodes"] * host  # idle ones of a node too
        assert row["rated_power_kw"] == pytest.approx(1.25 * rated / 1e3)
        hosts = 1.25 * row["nodes"] * host / 1e3 if host else math.nan  # no host is counted: unknown, not 0
        assert row["host_power_kw"] == pytest.approx(hosts, nan_ok=True)
        assert row["rated_power_kw"] >= row["power_w"] / 1e3 * 0.999


def test_the_screen_says_what_is_counted() -> None:
    for hardware, words in ((BY_NODE, "4.60 kW per dgx-h100"), (BY_DEVICE, "no host is counted for h100-sxm")):
        found = planned(hardware, rate=20)
        said = power_note(found, found.rows())
        assert words in said
        assert "limit" not in said
    limited = planned(BY_NODE, "power_kw = 40", rate=20.0)
    said = power_note(limited, limited.rows())
    assert "The limit of 40 kW bounds the mean draw, not the rated power" in said
    assert f"{limited.row(limited.best)['rated_power_kw']:.3g} kW for rank 1" in said
    mixed = planned(f'{BY_NODE}\ndevices = ["l40s"]', rate=20)
    said = power_note(mixed, mixed.rows())
    assert "per dgx-h100" in said
    assert "no host is counted for l40s" in said
    assert "PUE of 1.20" in power_note(planned(BY_NODE, pue=1.2, rate=20), mixed.rows())


@pytest.mark.parametrize("seed", range(20))
def test_as_many_replicas_as_the_rated_power_allows_and_no_more(seed: int) -> None:
    """Random devices, nodes, sizes and limits, against adding one replica after the other; no load is needed for it."""
    draw = random.Random(seed)
    node = draw.choice(hwdb.nodes())
    named = (node.name,) if draw.random() < 0.5 else ()
    prices = tariff(hwdb.load(), (node.device,), named, "on_demand", {})
    pue, kilowatts, tp = draw.choice([1.0, 1.3]), draw.uniform(2, 90), float(draw.choice([1, 2, 4, 8]))
    limits = Limits(power=kilowatts * 1e3, power_basis="rated")
    bounds = Bounds(limits=limits, stock=np.array([np.inf]), tariff=prices, site=Site(pue=pue))
    one = deployments(list(prices.devices), tp=tp)

    def rated(replicas: float) -> float:
        bill = prices.bill((one.device, one.devices_per_replica, np.array([replicas])))
        return float(rated_columns(bill, Site(pue=pue))["rated_power_kw"][0])

    most = float(bounds.most(one, lambda rows, _: np.full(len(rows), np.nan))[0])
    if np.isnan(rated(1.0)):
        assert most == np.inf
        return
    assert most < 1 or rated(most) <= kilowatts * (1 + 1e-6)
    assert rated(most + 1.0) > kilowatts


def test_a_plan_is_filled_up_to_the_rated_power() -> None:
    limit = 'power_kw = 29\npower_basis = "rated"\n[objective]\nrank_by = "output_tok_s"'
    for pools in (False, True):
        found = planned(BY_DEVICE, limit, pools=pools)
        figures = found.columns["rated_power_kw"]
        assert (figures[found.qualifies] <= 29 * (1 + 1e-6)).all()
        # no further H100 fits, or decode worker with the prefill workers that it takes
        prefill, decode = (found.columns[f"{pool}_workers"][found.best] if pools else 0.0 for pool in POOLS)
        assert figures[found.best] > 29 - 0.7 * (1 + (np.ceil(prefill / decode) if pools else 0))
        assert "the limit is 29 kW of rated power" in headline(found)


def test_a_sized_plan_beyond_the_rated_power_says_so() -> None:
    found = planned(BY_DEVICE, 'power_kw = 0.5\npower_basis = "rated"', rate=20)
    assert not found.feasible
    assert "kW rated power, allowed are 0.5" in found.message
    assert planned(BY_DEVICE, "power_kw = 0.65", rate=5).feasible
    assert not planned(BY_DEVICE, 'power_kw = 0.65\npower_basis = "rated"', rate=5).feasible


def test_a_fleet_and_another_word_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="power_basis"):
        planned(BY_NODE, 'power_basis = "peak"')
    fleet = '[hardware]\ndevices = ["h100-sxm"]\n[limits]\npower_kw = 9\npower_basis = "rated"\n'
    fleet += '[[fleet.class]]\nname = "a"\nrequest_rate_rps = 1\n[[fleet.option]]\nname = "o"\n'
    fleet += 'device = "h100-sxm"\nthroughput_rps = [2]\nusd_per_hour = 1\n'
    path = tmp_path / "fleet.toml"
    path.write_text(fleet, encoding="utf-8")
    with pytest.raises(InputError, match="power of fleet options is their mean draw"):
        load_scenario(path)


@pytest.mark.parametrize(("flags", "rated"), [((), "0.7"), (("--node", "dgx-h100"), "10.2")])  # 8 devices and a host
def test_an_estimate_says_whether_its_power_has_a_host(
    flags: tuple[str, ...], rated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm", *flags]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("--node NAME adds their host" in said) is (not flags)
    assert f"Rated power kW {rated}" in said


def test_a_node_that_holds_other_devices_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm", "--node", "dgx-a100-80gb"]
    assert cli.main(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--node dgx-a100-80gb holds a100-sxm-80gb, and h100-sxm is in use; nodes with h100-sxm: dgx-h100" in said


def test_a_search_tries_power_limits_and_provisions_for_them() -> None:
    text = TEXT.format(
        hardware=BY_DEVICE, limits="", pue=1.0, load="request_rate_rps = 40", modes="power_cap_w = [400, 900]"
    )
    found = plan(read_scenario(Table(tomllib.loads(text), "scenario.toml"), Path()), costs=Roofline())
    caps, device = found.layouts.power_cap, hwdb.device("h100-sxm")
    assert sorted(caps) == [400, 900]
    each = found.columns["rated_power_kw"] * 1e3 / found.columns["devices"]
    np.testing.assert_allclose(each, np.minimum(caps, device.tdp))
    assert (found.columns["power_w_per_device"] <= each * (1 + 1e-9)).all()
    assert (found.columns["output_tok_s_per_device"] > 0).all()


@pytest.mark.parametrize("psu", ["", "bronze", "gold"])
def test_hosts_and_supplies_draw_in_hours_without_load_what_waiting_devices_ask_of_them(psu: str) -> None:
    node, device, used = hwdb.node("dgx-h100"), hwdb.device("h100-sxm"), 0.25
    site = "1.2\ngco2_per_kwh = 400" + (f'\npsu = "{psu}"' if psu else "")
    money = f"[money]\nutilisation = {used}"
    text = TEXT.format(hardware=BY_NODE, limits=money, pue=site, load="request_rate_rps = 20", modes="")
    row = plan(read_scenario(Table(tomllib.loads(text), "s.toml"), Path()), costs=Roofline()).rows(1, 0)[0]
    assert row["nodes"] == 1
    waiting = row["devices"] * constants().ready * device.tdp + (8 - row["devices"]) * device.idle
    host = host_of(node)
    wall = waiting + host_watts(np.array(waiting), np.array(8 * device.tdp), np.array(host.loaded), np.array(host.idle))
    wall = through_supplies(wall, 8 * device.tdp + host.most, psu) if psu else wall
    mean = used * row["power_w"] + (1 - used) * 1.2 * float(wall)
    assert row["co2_kg_per_month"] == pytest.approx(mean / 1e3 * 730 * 0.4)
    assert row["gco2_per_request"] == pytest.approx(mean / 1e3 * 400 / (3600 * 20 * used))


@pytest.mark.parametrize("node", ["dgx-h100", "dgx-a100-80gb", "hgx-b300"])
def test_no_load_costs_more_than_a_budget_counts(node: str) -> None:
    device = hwdb.node(node).device
    site = Site(pue=1.3, usd_per_kwh=0.2)
    for psu in ("", *SUPPLIES):
        offer = tariff(hwdb.load(), (device,), (node,), "on_demand", {}, supply=psu, money=Money(bought={device: 3e4}))
        pool = np.array([0]), np.array([8.0]), np.array([2.0])
        bill = offer.bill(pool)
        drawn = offer.wall(np.linspace(0.1, 1.0, 10) * bill["rated_w"], bill) * site.pue
        at_load = bill["usd_per_hour"] + energy_kwh(drawn, 1.0) * site.usd_per_kwh
        assert np.all(at_load <= dearest(offer, site, pool) * (1.0 + 1e-9))
