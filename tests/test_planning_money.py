"""What plans cost to own and to rent, what tokens cost by kind, and how far a cost may be off."""

from __future__ import annotations

import json
import random
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli
import hwdb
import perfmodel as pm
from hwdb import InputError
from hwdb.tomlfile import Table, read_toml
from perfmodel.costs import Roofline
from perfmodel.money import Ownership, capital_per_year, least_utilisation, split
from perfmodel.power import constants
from search import Plan, plan
from search.fleet.accounting.account import intensities
from search.planning import ways_to_pay
from search.scenario import Site
from search.scenario.scenario import read_scenario

TEXT = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 1000
output_tokens = 200
prefix_hit = {hit}
request_rate_rps = {rate}
[slo]
tpot_ms = {tpot}
[hardware]
devices = ["h100-sxm"]
usd_per_hour = {{ {rent} }}
[search]
tp = [1]
pp = [1]
modes = ["{mode}"]
[site]
pue = 1.25
{site}
[money]
{money}
"""
#: Share of its power limit that a device draws whose server waits.
READY = constants().ready
OWN = "own_usd_per_device = 35040\nlife_years = 4\nresidual = 0.25\nupkeep = 0.05\nstaff_usd_per_month = 730\n"


@cache
def planned(
    money: str = "",
    site: str = "usd_per_kwh = 0.1\ngco2_per_kwh = 400",
    *,
    rent: str = "",
    rate: float = 40.0,
    hit: float = 0.5,
    tpot: float = 20.0,
    mode: str = "colocated",
) -> Plan:
    text = TEXT.format(money=money, site=site, rent=rent, rate=rate, hit=hit, tpot=tpot, mode=mode)
    return plan(read_scenario(Table(tomllib.loads(text), "scenario.toml"), Path()), costs=Roofline())


def best(**asked: Any) -> dict[str, Any]:
    return planned(**asked).rows(1, 0)[0]


# -- owning ------------------------------------------------------------------------------------------------------------


def test_an_owned_plan_costs_capital_upkeep_electricity_and_staff() -> None:
    row = best(money=OWN)
    capital = 35040 * 0.75 / 4 / 8760  # 0.75 USD/h
    upkeep = 35040 * 0.05 / 8760  # 0.20 USD/h
    assert capital == 0.75
    assert upkeep == pytest.approx(0.2)
    power = row["power_w"] / 1000 * 0.1
    assert row["usd_per_hour"] == pytest.approx(row["devices"] * 0.95 + power + 1.0)
    assert row["usd_per_month"] == pytest.approx(730 * row["usd_per_hour"])
    assert row["price"].startswith("owned")


def test_hours_without_load_are_paid_and_draw_what_waiting_devices_draw() -> None:
    full, half = best(money=OWN), best(money=OWN + "utilisation = 0.5")
    ready = READY * 700.0 * full["devices"] * 1.25
    rested = (full["power_w"] - ready) / 2 / 1000
    assert half["usd_per_hour"] == pytest.approx(full["usd_per_hour"] - rested * 0.1)
    assert half["usd_per_request"] == pytest.approx(half["usd_per_hour"] / 3600 / (40.0 / 2))
    assert half["co2_kg_per_month"] == pytest.approx((full["power_w"] + ready) / 2 / 1000 * 730 * 0.4)


@pytest.mark.parametrize(
    ("terms", "per_year"),
    [
        ({"life_years": 5.0}, 2000.0),
        ({"life_years": 5.0, "residual": 0.1}, 1800.0),
        ({"life_years": 1.0, "interest": 0.1}, 11000.0),
        ({"life_years": 2.0, "interest": 0.1}, 10000 * 0.1 / (1 - 1 / 1.21)),
        ({"life_years": 2.0, "interest": 0.1, "residual": 0.21}, (10000 - 2100 / 1.21) * 0.1 / (1 - 1 / 1.21)),
    ],
)
def test_capital_is_an_annuity(terms: dict[str, float], per_year: float) -> None:
    assert capital_per_year(10000.0, **terms) == pytest.approx(per_year)


def test_hosting_counts_rated_power_and_space() -> None:
    terms = Ownership(life_years=1.0, residual=1.0, hosting_usd_per_kw_month=146.0)
    assert terms.usd_per_hour(1.0, 500.0) == pytest.approx(0.1)
    assert np.isnan(terms.usd_per_hour(1.0))
    space = Ownership(residual=1.0, hosting_usd_per_rack_unit_month=73.0, rack_units_per_device=0.5)
    assert space.usd_per_hour(1.0) == pytest.approx(0.05)


def test_a_stated_rent_comes_before_owning() -> None:
    row = best(money=OWN, rent="h100-sxm = 2.0")
    assert row["usd_per_hour"] == pytest.approx(2.0 * row["devices"])


@pytest.mark.parametrize(
    ("money", "site", "told"),
    [
        ("own_usd_per_device = 1000", "", "usd_per_kwh"),
        ("residual = 0.1", "", "own_usd_per_device"),
        ("own_usd_per_device = 0", "usd_per_kwh = 0", "above 0"),
        ("own_usd_per_device = { h9 = 1 }", "usd_per_kwh = 0", "unknown device"),
        ("utilisation = 0", "", "above 0"),
        ("utilisation = 1.5", "", "at most 1"),
        ("life_years = 99", "", "at most 30"),
        ("own_usd_per_device = 9\nrack_units_per_device = 1", "usd_per_kwh = 0", "hosting_usd_per_rack_unit_month"),
        ("", 'electricity_grid = "narnia"', "unknown grid"),
        ("", 'electricity_grid = "norway"\ngco2_per_kwh = 3', "give one of"),
        ("", 'gco2_by_hour = "nowhere.csv"', "nowhere.csv"),
    ],
)
def test_mistakes_are_told_in_plain_words(money: str, site: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        planned(money=money, site=site)


# -- tokens by kind ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["colocated", "disaggregated"])
@pytest.mark.parametrize("hit", [0.0, 0.6])
def test_tokens_of_all_kinds_add_up_to_the_request(hit: float, mode: str) -> None:
    row = best(hit=hit, mode=mode, rent="h100-sxm = 2.0")
    kinds = {"input": 1000 * (1 - hit), "cached": 1000 * hit, "output": 200.0}
    paid = sum(n * row[f"{kind}_usd_per_million"] for kind, n in kinds.items() if n > 0)
    assert paid / 1e6 == pytest.approx(row["usd_per_request"])
    assert row["usd_per_request"] == pytest.approx(row["usd_per_hour"] / 3600 / row["request_rate_rps"])
    assert np.isnan(row["cached_usd_per_million"]) == (hit == 0.0)
    if hit:
        assert row["cached_usd_per_million"] < row["input_usd_per_million"]


def test_pools_pay_for_their_own_phase() -> None:
    row = best(hit=0.0, mode="disaggregated", rent="h100-sxm = 2.0")
    front = row["prefill_workers"] / row["devices"]
    assert 1000 * row["input_usd_per_million"] / 1e6 == pytest.approx(front * row["usd_per_request"])


def test_the_split_follows_the_share_of_time() -> None:
    one = split(np.array([1.0]), np.array([0.2]), np.array([0.5]), (100.0, 300.0, 50.0))
    assert [float(v[0]) for v in (one.input, one.cached, one.output)] == pytest.approx([1e3, 1e3 / 3, 16e3])


# -- the range of a cost -----------------------------------------------------------------------------------------------


def _asked(seed: int) -> dict[str, Any]:
    """A load and a bound at random, so that 1 to some 30 replicas are needed."""
    rng = random.Random(seed)
    return {"rate": round(10 ** rng.uniform(1.0, 2.6), 1), "tpot": round(10 ** rng.uniform(1.1, 1.6), 1)}


@pytest.mark.parametrize("seed", range(20))
def test_the_range_of_a_cost_holds_it(seed: int) -> None:
    row = planned(rent="h100-sxm = 2.0", hit=0.0, **_asked(seed)).rows(1, 1)[0]
    for column in ("usd_per_hour", "usd_per_million_tokens"):
        assert 0 < row[f"{column}_lo"] <= row[column] <= row[f"{column}_hi"]
    assert row["usd_per_hour_hi"] > row["usd_per_hour"] or row["slo_chance"] > 0.85


@pytest.mark.parametrize("seed", range(3))
def test_the_ends_of_a_cost_are_plans_with_other_confidences(seed: int) -> None:
    found = planned(rent="h100-sxm = 2.0", hit=0.0, **_asked(seed))
    row = found.rows(1, 1)[0]
    for confidence in (0.1, 0.9):
        limits = replace(found.scenario.limits, confidence=confidence, utilisation_stated=True)
        other = plan(replace(found.scenario, limits=limits), costs=Roofline())
        cost = float(other.columns["usd_per_hour"][other.best]) if other.feasible else np.inf
        if confidence == 0.9:
            most = max(cost, row["usd_per_hour"])  # the throughput may be worse than its estimate, too
            replica = row["usd_per_hour"] / row["replicas"]  # there are no parts of one
            assert most - 1e-9 <= row["usd_per_hour_hi"] <= max(1.5 * most, most + replica)
        else:
            assert row["usd_per_hour_lo"] <= min(cost, row["usd_per_hour"]) + 1e-9


def test_a_cost_is_as_unsure_as_the_latency_that_decides_it() -> None:
    row = best(rent="h100-sxm = 2.0", hit=0.0, rate=400.0, tpot=15.0)
    assert row["usd_per_hour_hi"] / row["usd_per_hour_lo"] > 1.3  # beside a factor of 1.04 where the rate alone counts


def test_without_an_slo_the_range_is_that_of_the_throughput() -> None:
    text = TEXT.replace("[slo]\ntpot_ms = {tpot}\n", "")
    filled = text.format(money="", site="", rent="h100-sxm = 2.0", rate=500, hit=0.0, mode="colocated")
    found = plan(read_scenario(Table(tomllib.loads(filled), "scenario.toml"), Path()), costs=Roofline())
    row = found.rows(1, 0)[0]
    assert row["usd_per_hour_lo"] < row["usd_per_hour"] < row["usd_per_hour_hi"]


# -- own, rent, API ----------------------------------------------------------------------------------------------------

API = "api_usd_per_million_input = 0.5\napi_usd_per_million_cached = 0.1\napi_usd_per_million_output = 1.5\n"


def test_break_evens_are_where_the_costs_are_equal() -> None:
    found = planned(money=OWN + API + "utilisation = 0.5")
    rows = {row["way"]: row for row in ways_to_pay(found, found.best)}
    request = (500 * 0.5 + 500 * 0.1 + 200 * 1.5) / 1e6
    assert rows["API"]["usd_per_request"] == pytest.approx(request)
    rent, own = rows["rent on demand"], rows["own"]
    at_api = 3600 * 40.0 * request
    assert rent["api_break_even_utilisation"] * at_api == pytest.approx(rent["usd_per_hour"])
    assert rent["api_break_even_rps"] == pytest.approx(40.0 * rent["api_break_even_utilisation"])
    devices = float(found.columns["devices"][found.best])
    power, ready = float(found.columns["power_w"][found.best]), READY * 700.0 * devices * 1.25
    idle = devices * 0.95 + 1.0 + ready / 1e4
    used = own["api_break_even_utilisation"]
    assert idle + used * (power - ready) / 1e4 == pytest.approx(used * at_api)
    stopped = rent["own_break_even_utilisation"]
    assert idle + stopped * (power - ready) / 1e4 == pytest.approx(stopped * rent["usd_per_hour"])
    saved = rent["usd_per_month"] - (own["usd_per_month"] - devices * 0.75 * 730)
    assert rent["own_pay_back_months"] == pytest.approx(35040 * devices / saved)


def test_what_never_pays_is_infinite() -> None:
    assert least_utilisation(10.0, 5.0, 1.0, 5.0 / 3600) == np.inf
    assert np.isnan(least_utilisation(10.0, np.nan, 1.0, 1.0))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(list(words))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_command_compares_the_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    path.write_text(TEXT.format(money="", site="", rent="h100-sxm = 2.0", rate=20, hit=0.5, tpot=30, mode="colocated"))
    flags = ("--own-usd-per-device", "30000", "--usd-per-kwh", "0.1", "--utilisation", "0.4")
    api = (
        "--api-usd-per-million-input",
        "9",
        "--api-usd-per-million-cached",
        "1",
        "--api-usd-per-million-output",
        "20",
    )
    code, out, _ = run(capsys, "cost", str(path), *flags, *api, "--json")
    rows = json.loads(out)
    assert code == 0
    assert {"own", "rent", "rent on demand", "API"} <= {row["way"] for row in rows}
    assert [r["usd_per_hour"] for r in rows] == sorted(r["usd_per_hour"] for r in rows)
    code, out, _ = run(capsys, "cost", str(path), *flags, *api)
    assert code == 0
    assert "costs less than the API from a utilisation of" in " ".join(out.split())
    code, _, err = run(capsys, "cost", str(path), "--own-usd-per-device", "30000")
    assert code == 2
    assert "give [site] usd_per_kwh (or --usd-per-kwh, where the command has it)" in " ".join(err.split())
    code, _, err = run(capsys, "cost", str(path), "--rank", "999")
    assert code == 2
    assert "candidates qualify" in err


# -- carbon ------------------------------------------------------------------------------------------------------------


def test_grids_are_dated_and_sourced() -> None:
    known = hwdb.grids().values()
    assert all(g.source and g.year >= 2020 and 0 < g.gco2_per_kwh < 1000 for g in known)
    row = best(rent="h100-sxm = 2.0", site='electricity_grid = "us-central1"\nembodied_kg_per_device = 318')
    assert row["co2_kg_per_month"] == pytest.approx(row["power_w"] * 0.730 * 0.41272)
    assert row["gco2_per_request"] == pytest.approx(row["power_w"] / 3.6e6 * 412.72 / 40)
    assert row["embodied_gco2_per_request"] == pytest.approx(318e3 * row["devices"] / (4 * 8760) / 3600 / 40)
    assert "2024" in row["carbon"]


def test_hours_of_a_file_weigh_as_the_fleet_draws(tmp_path: Path) -> None:
    lines = [f"{hour},{100 if hour % 24 < 12 else 500},{region}" for hour in range(48) for region in ("a", "b")]
    path = tmp_path / "grid.csv"
    path.write_text("hour,gco2_per_kwh,region\n" + "\n".join(lines))
    assert hwdb.read_grid_hours(path, "a") == (100.0,) * 12 + (500.0,) * 12
    with pytest.raises(InputError, match="2 regions"):
        hwdb.read_grid_hours(path)
    path.write_text("hour,gco2_per_kwh\n" + "\n".join(f"2025-01-01T{h:02d}:00,{h}" for h in range(24)))
    hours = hwdb.read_grid_hours(path)
    assert hours == tuple(float(h) for h in range(24))
    assert intensities(Site(gco2_hours=hours), np.array([2.0, 21.0, 2.0])).tolist() == [0.5, 12.0, 11.5]
    for text, told in (
        ("hour,gco2\n0,1", "missing"),
        ("hour,gco2_per_kwh\n0,1", "hour 1"),
        ("hour,gco2_per_kwh\nx,1", "no hour"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            hwdb.read_grid_hours(path)


# -- energy ------------------------------------------------------------------------------------------------------------


def joules(**changes: Any) -> list[float]:
    """J per output token of Llama-2-70B, at 16 requests in flight of 512 and 128 tokens on 8 H100, but for changes."""
    work = pm.Workload(
        input_tokens=[changes.pop("isl", 512)], output_tokens=[128], concurrency=changes.pop("concurrency", 16)
    )
    layouts = pm.deployments([hwdb.device("h100-sxm")], **({"tp": [8]} | changes))
    return pm.estimate(pm.model("meta-llama/Llama-2-70b-hf"), work, layouts).energy.tolist()


def test_knobs_change_energy_as_published() -> None:
    """arXiv:2403.20306: batches save energy per token, TP and long prompts cost it, caps have an optimum."""
    by_load = [joules(concurrency=c)[0] for c in (1, 4, 16, 64)]
    assert by_load == sorted(by_load, reverse=True)
    by_tp = joules(tp=[2, 4, 8])
    assert by_tp == sorted(by_tp)
    by_prompt = [joules(isl=n)[0] for n in (128, 512, 2048)]
    assert by_prompt == sorted(by_prompt)
    by_cap = joules(tp=[8] * 6, power_cap=[700, 500, 400, 300, 250, 200])
    assert 0 < int(np.argmin(by_cap)) < 5
    bf16, int4 = (joules(tp=[4], weight=[w])[0] for w in ("bf16", "int4"))
    assert int4 < bf16


def test_energy_is_an_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    path.write_text(TEXT.format(money="", site="", rent="", rate=20, hit=0.5, tpot=30, mode="colocated"))
    code, out, _ = run(capsys, "plan", str(path), "--objective", "energy", "--json")
    used = [r["site_energy_j_per_output_token"] for r in json.loads(out) if r["rank"]]
    assert code == 0
    assert used == sorted(used)
    code, _, err = run(capsys, "plan", str(path), "--objective", "carbon")
    assert code == 2
    assert "electricity_grid" in err


def test_operators_have_watts_and_joules(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "op", "gemm", "1,4096", "4096", "4096", "--device", "rtx-4070", "--dtype", "fp16", "--json"
    )
    small, large = json.loads(out)
    assert code == 0
    for row in (small, large):
        assert row["joules"] == pytest.approx(row["time_us"] * row["operator_w"] * 1e-6)
        assert row["joules_lo"] < row["joules"] < row["joules_hi"]
        assert row["operator_w"] <= 200.0
    assert (small["bound"], large["bound"]) == ("memory", "compute")
    assert small["pj_per_flop"] > 20 * large["pj_per_flop"]
    code, out, _ = run(
        capsys, "op", "gemm", "4096", "4096", "4096", "--device", "rtx-4070", "--power-cap-w", "120", "--json"
    )
    assert code == 0
    assert json.loads(out)[0]["operator_w"] == pytest.approx(120.0)
    code, out, _ = run(capsys, "op", "all-reduce", "1e6", "--device", "h100-sxm", "--group", "8", "--json")
    row = json.loads(out)[0]
    assert row["joules"] == pytest.approx(8 * row["time_us"] * row["operator_w"] * 1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("gemm", "0", "1", "1"), "M '0' is no size"),
        (("gemm", "1", "1.5", "1"), "N '1.5' is no size"),
        (("gemm", "1", "1", "1", "--dtype", "fp7"), "unknown number format"),
        (("attention", "1", "1,2", "8"), "decode"),
        (("all-reduce", "8", "--power-cap-w", "-1"), "impossible"),
    ],
)
def test_impossible_operators_are_refused(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "op", *words, "--device", "h100-sxm")
    assert code == 2
    assert told in " ".join(err.split())


@pytest.mark.parametrize(
    ("typed", "name", "grams"),
    [
        ("CH", "switzerland", 34.8),
        ("uk", "united-kingdom", 237.6),
        ("USA", "united-states", 369.5),
        ("fr", "france", 56),
    ],
)
def test_a_code_of_a_country_is_its_grid(typed: str, name: str, grams: float) -> None:
    found = hwdb.grid(typed)
    assert found.name == name
    assert found.gco2_per_kwh == pytest.approx(grams, rel=0.01)


def test_every_code_leads_to_a_grid() -> None:
    codes = read_toml(Path(hwdb.__file__).parent / "names" / "grids.toml").table("codes")
    assert {hwdb.grid(code).name for code in codes.values} <= set(hwdb.grids())
