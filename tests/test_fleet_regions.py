"""Regions of a fleet: what they change of price, carbon, stock and latency, from the scenario to the routes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import cli
from hwdb import InputError
from perfmodel import Slo
from search import FleetInfeasible, FleetPlan, load_scenario, plan_fleet
from search.fleet import routing_json, routing_rows, verified
from search.fleet.options.regions import shorter

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
REGIONS = """\
[[fleet.region]]
name = "east"
price_factor = 1.5
gco2_per_kwh = 400
latency_ms = { west = 80 }
EAST
[[fleet.region]]
name = "west"
gco2_per_kwh = 50
usd_per_hour = { l4 = 2.0 }
WEST
"""
STATED = """\
MORE
[fleet]
[[fleet.class]]
name = "chat"
region = "east"
request_rate_rps = 4
slo = { ttft_ms = BOUND }
[[fleet.option]]
name = "small"
device = "l4"
region = ["east", "west"]
throughput_rps = [1]
power_w = 100
OPTION
"""


def planned(folder: Path, bound: float = 500, **rest: str) -> FleetPlan:
    """Plan four replicas that cost 1.5 x 1 USD in the east and 2 USD in the west; rest: what is added where."""
    text = STATED.replace("MORE", rest.get("more", "[hardware]\nusd_per_hour = { l4 = 1.0 }")) + REGIONS
    for place in ("OPTION", "EAST", "WEST"):
        text = text.replace(place, rest.get(place.lower(), ""))
    path = folder / "regions.toml"
    path.write_text(text.replace("BOUND", str(bound)), encoding="utf-8")
    return plan_fleet(load_scenario(path))


def used(found: FleetPlan) -> dict[str, int]:
    """Return the replicas in use by region."""
    return {o.region: int(n[0]) for o, n in zip(found.problem.options, found.replicas, strict=True) if n[0]}


def test_price_carbon_and_stock_of_a_region_decide(tmp_path: Path) -> None:
    cheap = planned(tmp_path)
    assert (used(cheap), cheap.usd_per_hour) == ({"east": 4}, pytest.approx(4 * 1.5))
    short = planned(tmp_path, east="stock = { l4 = 1 }")
    assert (used(short), short.usd_per_hour) == ({"east": 1, "west": 3}, pytest.approx(1.5 + 3 * 2.0))
    green = planned(tmp_path, more='[objective]\nrank_by = "carbon"\n[hardware]\nusd_per_hour = { l4 = 1.0 }')
    assert used(green) == {"west": 4}
    assert green.value == pytest.approx(4 * 0.1 * 50)
    own = planned(tmp_path, option="usd_per_hour = 3.0")
    assert (used(own), own.usd_per_hour) == ({"west": 4}, pytest.approx(12.0))  # 4.5 USD in the east


def test_stock_of_all_regions_and_of_one_are_named_where_they_are_too_small(tmp_path: Path) -> None:
    with pytest.raises(FleetInfeasible, match=re.escape("raise the stock of l4 from 3 to 4 devices")):
        planned(tmp_path, more="[hardware]\nusd_per_hour = { l4 = 1.0 }\nstock = { l4 = 3 }")
    with pytest.raises(FleetInfeasible, match=re.escape("raise the stock of l4 @ west from 1 to 3 devices")):
        planned(tmp_path, east="stock = { l4 = 1 }", west="stock = { l4 = 1 }")


def test_carbon_of_the_account_is_that_of_the_regions(tmp_path: Path) -> None:
    found = planned(tmp_path, east="stock = { l4 = 1 }")
    from search.fleet import account

    grams = 0.1 * (1 * 400 + 3 * 50)
    assert account(found)["fleet_gco2_per_request"] == pytest.approx(grams / (4 * 3600))
    assert found.site.carbon.endswith("50 gCO2e per kWh, given by the user in region west")
    path = tmp_path / "regions.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("power_w = 100\n", ""), encoding="utf-8")
    assert np.isnan(account(plan_fleet(load_scenario(path)))["fleet_gco2_per_request"])  # of unknown watts


def test_a_network_that_takes_up_the_bound_leaves_a_region_out(tmp_path: Path) -> None:
    found = planned(tmp_path, bound=80, east="stock = { l4 = 9 }")
    assert used(found) == {"east": 4}
    assert any("region west serves no request of chat" in text for text in found.problem.remarks)
    with pytest.raises(FleetInfeasible, match="takes up its bound"):
        planned(tmp_path, bound=80, east="stock = { l4 = 3 }")


def test_routes_say_where_each_backend_stands_and_how_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(tmp_path, east="stock = { l4 = 1 }")
    rows = routing_rows(found)
    assert [(r["region"], r["network_ms"], r["share_percent"]) for r in rows] == [("east", 0, 25), ("west", 80, 75)]
    marks = json.loads(routing_json(found))["items"][0]["metadata"]["annotations"]
    assert marks["perfmodel/regions"] == "small-east: east, small-west: west"
    assert {(r["device"], r["region"]) for r in found.rows()} == {("l4", "east"), ("l4", "west")}
    assert cli.main(["fleet", str(tmp_path / "regions.toml")]) == 0
    assert "l4 @ west" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('region = ["east", "west"]', 'region = "north"', "no [[fleet.region]] is called 'north'"),
        ('region = "east"', 'region = "north"', "no [[fleet.region]] is called 'north'; add one; known: east, west"),
        ("{ west = 80 }", "{ north = 80 }", "no [[fleet.region]] is called 'north'"),
        ('name = "west"', 'name = "east"', "two of [[fleet.region]] are called 'east'"),
        ("gco2_per_kwh = 50", "", "carbon needs [site] or each region electricity_grid"),
        ("OPTION", '[[fleet.supply]]\ndevice = "l4"\nprice_kind = "spot"\nusd_per_hour = 1', "but on l4 @ east"),
    ],
)
def test_contradictions_are_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    text = STATED.replace("MORE", '[objective]\nrank_by = "carbon"\n[site]\ngco2_per_kwh = 9') + REGIONS
    text = re.sub("OPTION|EAST|WEST|BOUND", lambda m: {"BOUND": "500"}.get(m[0], ""), text.replace(old, new, 1))
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace("[site]\ngco2_per_kwh = 9", "") if "needs" in told else text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(told)):
        plan_fleet(load_scenario(path))


def test_a_missing_distance_is_asked_for(tmp_path: Path) -> None:
    text = STATED.replace("MORE", "").replace("BOUND", "500").replace("OPTION", "") + REGIONS
    path = tmp_path / "far.toml"
    path.write_text(re.sub("latency_ms.*|EAST|WEST", "", text), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape("how far 'east' is from 'west'; add latency_ms = { east = 80 }")):
        load_scenario(path)


def test_modelled_options_keep_bounds_that_the_network_has_shortened(tmp_path: Path) -> None:
    """The east serves as much as its users allow, the west as much as a bound allows that is 80 ms shorter."""
    text = STATED.replace("throughput_rps = [1]\npower_w = 100", "tp = 1").replace("OPTION", "") + REGIONS
    text = text.replace("MORE", "[hardware]\nusd_per_hour = { l4 = 1.0 }").replace("EAST", "stock = { l4 = 1 }")
    lengths = f'model = "{MODEL}"\ninput_tokens = 400\noutput_tokens = 60'
    path = tmp_path / "modelled.toml"

    def found(bound: float) -> FleetPlan:
        """Plan with another bound on the mean TTFT, ms."""
        asked = text.replace("BOUND", str(bound)).replace("WEST", "")
        path.write_text(asked.replace("request_rate", f"{lengths}\nrequest_rate"), encoding="utf-8")
        return plan_fleet(load_scenario(path))

    near, shorter_bound = found(400), found(320)
    east, west = near.problem.throughput[:, 0]
    assert west < 0.95 * east
    assert west == pytest.approx(shorter_bound.problem.throughput[0, 0], rel=1e-3)
    assert (near.slo_chance[near.replicas > 0] > 0.5).all()  # type: ignore[index]
    rows = {r["option"]: r for r in verified(near)}
    assert len(rows) == 2
    for row in rows.values():
        assert row["limit_ms"] == pytest.approx(400.0)
        assert row["simulated_ms"] > 80 or "west" not in row["option"]


def test_a_bound_is_shorter_by_the_round_trip_and_tpot_is_not() -> None:
    slo = Slo.of(ttft_ms_p90=300, tpot_ms=40, e2e_ms=2000)
    less = shorter(slo, 0.1)
    assert less is not None
    assert [o.limit for o in less.objectives] == pytest.approx([0.2, 0.04, 1.9])
    assert shorter(slo, 0.3) is None
    assert shorter(slo, 0.0) is slo
    assert np.isinf(less.limit("itl"))
