"""Hosts by load, power supplies, rows of servers under a budget, and the command that says how many fit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import cli
import hwdb
from hwdb import InputError
from perfmodel import power

SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 600
output_tokens = 60
request_rate_rps = {rate}
[slo]
tpot_ms = 40
[hardware]
{hardware}
[search]
tp = [1]
pp = [1]
weight = ["bf16"]
{more}
"""


def test_a_full_h100_node_draws_what_was_measured() -> None:
    """8 x H100 HGX: 8.48 kW at most, of 10.2 kW rated (arXiv:2412.08602)."""
    host = power.host_of(hwdb.node("dgx-h100"))
    assert 8 * 700 + host.loaded == pytest.approx(8480, rel=0.01)
    assert 8 * 700 + host.most == pytest.approx(10200)
    assert 0 < host.idle < host.loaded


@pytest.mark.parametrize("name", ["dgx-h100", "dgx-a100-80gb", "mi300x-8way", "desktop-rtx-4090", "gb200-nvl72"])
def test_hosts_rise_with_their_devices_and_never_beyond_their_nameplate(name: str) -> None:
    node = hwdb.node(name)
    host, limit = power.host_of(node), node.count * hwdb.device(node.device).tdp
    watts = power.host_watts(np.linspace(0.0, 2 * limit, 9), limit, host.loaded, host.idle)
    assert np.all(np.diff(watts) >= 0)
    assert watts[0] == pytest.approx(host.idle)
    assert watts[-1] == pytest.approx(host.loaded)
    assert host.loaded <= host.most
    assert host.slope(limit) * limit == pytest.approx(host.loaded - host.idle)


def test_devices_of_unknown_limit_count_as_busy() -> None:
    assert power.host_watts(np.array([100.0]), np.array([np.nan]), 500.0, 200.0) == pytest.approx(500.0)


def test_supplies_are_those_of_80_plus_and_worse_ones_lose_more() -> None:
    wall = np.array([2000.0, 5000.0, 9000.0])
    found = {level: power.through_supplies(wall, 10_000.0, level) for level in power.SUPPLIES}
    np.testing.assert_allclose(found["titanium"], wall)
    order = [found[level] for level in ("titanium", "platinum", "gold", "silver", "bronze")]
    assert all(np.all(b > a) for a, b in itertools.pairwise(order))
    # at half of their load: 96 % against 94 %
    assert power.through_supplies(10_000.0, 10_000.0, "platinum") == pytest.approx(10_000 * 0.96 / 0.94)
    with pytest.raises(InputError, match="titanium"):
        power.through_supplies(1.0, 1.0, "lead")


@pytest.mark.parametrize("seed", range(20))
def test_risk_of_a_row_is_that_of_random_draws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = power.ServerPower(rng.uniform(2000, 5000, 40), rng.uniform(10, 900, 40))
    servers = int(rng.integers(2, 60))
    at = rng.integers(0, 40, 4000)
    drawn = rng.normal(one.mean[at] * servers, one.spread[at] * np.sqrt(servers))
    budget = float(np.quantile(drawn, rng.uniform(0.3, 0.95)))
    assert one.risk(servers, budget) == pytest.approx(float(np.mean(drawn > budget)), abs=0.04)
    risk = float(rng.uniform(0.001, 0.3))
    most = one.most_servers(budget, risk)
    assert one.risk(most, budget) <= risk < one.risk(most + 1, budget)
    assert one.risk(servers, one.quantile(servers, 0.9)) == pytest.approx(0.1, abs=1e-3)


def test_what_servers_share_stays_and_what_is_their_own_averages_out() -> None:
    rng = np.random.default_rng(1)
    shared = 3000.0 + 500.0 * np.sin(np.arange(7200) / 600.0)
    watts = shared + rng.normal(0.0, 300.0, (8, 7200))
    one = power.server_power(watts, 1.0, stationary=False)
    assert float(np.std(one.mean)) == pytest.approx(500.0 / np.sqrt(2), rel=0.1)
    assert float(one.spread.mean()) == pytest.approx(300.0, rel=0.05)
    flat = power.server_power(watts, 1.0, stationary=True)
    assert len(flat.mean) == 1
    assert float(flat.spread[0]) == pytest.approx(float(watts.std()))


def rows_of(tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str, **fields: str) -> list[dict[str, float]]:
    filled = {"rate": "3", "hardware": 'nodes = ["dgx-h100"]', "more": ""} | fields
    file = tmp_path / "row.toml"
    file.write_text(SCENARIO.format(**filled), encoding="utf-8")
    assert cli.main(["power", str(file), "--requests", "120", "--json", *options]) == 0
    found: list[dict[str, float]] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_counts_servers_and_says_what_caps_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, float]] = []

    @contextmanager
    def watched(label: str) -> Iterator[Callable[[float, float], None]]:
        yield lambda done, total: told.append((done, total)) if label == "replaying" else None

    monkeypatch.setattr("search.output.progress_bar", watched)
    rows = rows_of(tmp_path, capsys, "--row-budget-kw", "102", "--caps", "0.6")
    by_name = {str(r["measure"]): r for r in rows}
    assert by_name["nameplate"]["servers"] == 10
    assert by_name["nameplate"]["server_w"] < by_name["nameplate"]["server_w_peak"]
    order = [by_name[n]["servers"] for n in ("nameplate", "device limits", "highest second", "capping risk")]
    assert order == sorted(order)
    risk, capped = by_name["capping risk"], by_name["all devices capped at 60 %"]
    assert risk["capping_risk"] <= 0.01
    assert risk["row_power_kw"] < risk["row_power_kw_p99"] <= 102 * 1.001
    assert capped["power_cap_w"] == pytest.approx(420)
    assert capped["servers"] >= risk["servers"]
    assert 1.0 <= capped["tpot_ratio"] < capped["ttft_ratio"], "a cap costs prompts more than decodes"
    assert told == [(n, 5) for n in range(3)], "as it is, while capped, one cap; too few sequences run for less"
    held = by_name["capping risk, while capped"]
    assert held["server_w_peak"] * held["servers"] <= 102e3 * 1.001


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--row-budget-kw", "-1"], "row budget"),
        (["--row-budget-kw", "3"], "below one server"),
        (["--row-budget-kw", "100", "--capping-risk", "1"], "capping risk"),
        (["--row-budget-kw", "100", "--caps", "1.5"], "caps are"),
        (["--row-budget-kw", "nan"], "--row-budget-kw"),
        (["--row-budget-kw", "100", "--rank", "99"], "rank 99"),
    ],
)
def test_budgets_that_mean_nothing_are_refused(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "row.toml"
    file.write_text(SCENARIO.format(rate="3", hardware='nodes = ["dgx-h100"]', more=""), encoding="utf-8")
    assert cli.main(["power", str(file), "--requests", "60", *options]) == 2
    assert words in capsys.readouterr().err


def test_supplies_of_a_scenario_raise_the_power_of_its_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watts = []
    for more in ("", '[site]\npsu = "gold"'):
        file = tmp_path / "site.toml"
        file.write_text(SCENARIO.format(rate="3", hardware='nodes = ["dgx-h100"]', more=more), encoding="utf-8")
        assert cli.main(["plan", str(file), "--json"]) == 0
        watts.append(json.loads(capsys.readouterr().out)[0]["power_w"])
    assert 1.02 < watts[1] / watts[0] < 1.1


@pytest.mark.parametrize("table", ["limits", "power", "hardware"])
def test_a_key_of_the_site_in_another_table_says_where_it_belongs(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "misplaced.toml"
    hardware = 'nodes = ["dgx-h100"]' + ("\npue = 1.2" if table == "hardware" else "")
    more = "" if table == "hardware" else f"[{table}]\npue = 1.2"
    file.write_text(SCENARIO.format(rate="3", hardware=hardware, more=more), encoding="utf-8")
    assert cli.main(["plan", str(file)]) == 2
    assert "[site]" in capsys.readouterr().err


def test_a_rack_holds_what_its_nodes_are_rated_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rack.toml"

    def planned(kw: float) -> tuple[int, str, str]:
        more = f"power_cap_w = [700, 400]\n[limits]\nrack_kw = {kw}"
        file.write_text(SCENARIO.format(rate="3", hardware='nodes = ["dgx-h100"]', more=more), encoding="utf-8")
        return cli.main(["plan", str(file), "--json"]), *capsys.readouterr()

    held = {}
    for kw in (22.0, 16.0, 9.0):
        code, out, _ = planned(kw)
        assert code == 0
        held[kw] = {r["power_cap_w"]: r["nodes_per_rack"] for r in json.loads(out) if r["qualifies"]}
    # 10.2 kW by nameplate, and 4.6 kW of host with 8 x 400 W
    assert held == {22.0: {700: 2, 400: 2}, 16.0: {700: 1, 400: 2}, 9.0: {400: 1}}
    code, _, told = planned(7.0)
    assert code == 1
    assert "rack_kw" in told
    assert planned(-1)[0] == 2
