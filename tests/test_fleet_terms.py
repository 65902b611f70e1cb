"""The terms of a fleet in a scenario: supplies, starts, risks, worlds and objectives, from the file to the rows."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cli
from hwdb import InputError, load
from perfmodel import deployments, engine, model
from perfmodel.costs import Roofline
from perfmodel.estimates import start_up
from search import FleetInfeasible, FleetPlan, FleetProblem, Inventory, Option, fleet_plan, load_scenario, plan_fleet
from search.fleet import growth_rows, limit_rows, marginal_value_rows, slo_worth_rows, supply_rows
from search.fleet.decomposition import split as split_periods
from search.fleet.options.terms import draws
from search.output import fleet_headline
from search.scenario import Growth, Supply

DAY = """\
[fleet]
hours = [8, 8, 8]
elastic = true
{fleet}
[[fleet.class]]
name = "chat"
request_rate_rps = [2, 9, 5]
[[fleet.option]]
name = "big"
device = "h100-sxm"
throughput_rps = [3]
usd_per_hour = 3
power_w = 900
{option}
[[fleet.option]]
name = "small"
device = "l4"
throughput_rps = [1]
usd_per_hour = 1.2
power_w = 100
{more}
"""


def planned(folder: Path, fleet: str = "", option: str = "", more: str = "") -> FleetPlan:
    path = folder / "fleet.toml"
    path.write_text(DAY.format(fleet=fleet, option=option, more=more), encoding="utf-8")
    return plan_fleet(load_scenario(path))


def supply(device: str, kind: str, usd: float, rest: str = "") -> str:
    return f'[[fleet.supply]]\ndevice = "{device}"\nprice_kind = "{kind}"\nusd_per_hour = {usd}\n{rest}\n'


def test_reserved_devices_carry_the_base_and_rented_ones_the_peak(tmp_path: Path) -> None:
    """1, 3 and 2 big replicas: one is reserved at 2 USD, the second at 3 x 16 / 24 = 2 as well, the third rented."""
    more = supply("h100-sxm", "reserved", 2.0) + supply("h100-sxm", "on_demand", 3.2) + supply("l4", "on_demand", 2.0)
    found = planned(tmp_path, more=more)
    assert found.replicas.tolist() == [[1, 3, 2], [0, 0, 0]]
    assert found.usd_per_hour == pytest.approx(2 * 2.0 + 3.2 / 3)
    rows = supply_rows(found.problem, found.held)
    assert [(r["price_kind"], r["period"], r["held"]) for r in rows if r["price_kind"] == "on_demand"] == [
        ("on_demand", 2, 1.0)
    ]
    assert {r["held"] for r in rows if r["price_kind"] == "reserved"} == {2.0}
    total = sum(r["usd_per_hour"] * r["hours"] for r in rows) / 24
    assert total == pytest.approx(found.usd_per_hour)
    assert float(found.hourly().sum(axis=0) @ found.problem.hours) / 24 == pytest.approx(found.usd_per_hour)


def test_a_spot_device_is_used_as_far_as_its_loss_is_covered(tmp_path: Path) -> None:
    """Half of the spot replicas may go at once: n on spot alone serve 9 requests/s with n - n / 2 >= 3."""
    more = supply("h100-sxm", "spot", 0.4, "lost_share = 0.5") + supply("h100-sxm", "on_demand", 3.0)
    found = planned(tmp_path, more=more + supply("l4", "on_demand", 5.0))
    assert found.spot[0].tolist() == [2, 6, 4]
    assert found.replicas[0].tolist() == [2, 6, 4]
    gone = planned(tmp_path, more=more.replace("0.5", "1") + supply("l4", "on_demand", 5.0))
    assert (gone.replicas[0] - gone.spot[0]).tolist() == [1, 3, 2]


def test_start_up_is_paid_and_a_long_stay_keeps_replicas(tmp_path: Path) -> None:
    free = planned(tmp_path)
    slow = planned(tmp_path, option="start_up_s = 3600")
    assert slow.usd_per_hour > free.usd_per_hour
    stays = planned(tmp_path, option="min_stay_h = 24")
    assert len(set(stays.replicas[0].tolist())) == 1
    fixed = planned(tmp_path, option="fixed = true")
    assert fixed.usd_per_hour == pytest.approx(stays.usd_per_hour)
    assert free.usd_per_hour < fixed.usd_per_hour


MODELLED = """\
[engine]
name = "{engine}"
[fleet]
hours = [12, 12]
elastic = true
[[fleet.class]]
name = "chat"
model = "meta-llama/Llama-3.1-8B-Instruct"
input_tokens = 200
output_tokens = 50
request_rate_rps = [2, 300]
[[fleet.option]]
device = "h100-sxm"
tp = [1]
usd_per_hour = 3
{option}
"""


def test_a_start_that_is_not_stated_is_modelled_and_paid(tmp_path: Path) -> None:
    """Each start costs the rent of a cold start of the same deployment, in one of 24 hours."""

    def found(option: str = "", engine_name: str = "vllm") -> FleetPlan:
        path = tmp_path / "start.toml"
        path.write_text(MODELLED.format(option=option, engine=engine_name), encoding="utf-8")
        return plan_fleet(load_scenario(path), costs=Roofline())

    default, free, stated = found(), found("start_up_s = 0"), found("start_up_s = 7200")
    one = deployments([load().device("h100-sxm")], tp=[1])
    cold = float(start_up(model("meta-llama/Llama-3.1-8B-Instruct"), one, engine("vllm")).cold[0])
    assert [r["start_up_s"] for r in default.rows()] == pytest.approx([cold, cold])
    assert [f.rows()[0]["start_up_basis"] for f in (default, stated)] == ["modelled", "stated"]
    more = int(default.replicas[0].max() - default.replicas[0].min())
    assert more >= 1
    assert default.usd_per_hour - free.usd_per_hour == pytest.approx(more * 3 * cold / 3600 / 24)
    assert any("starts of replicas are modelled" in text for text in default.problem.remarks)
    unknown = found(engine_name="sglang")
    assert {(r["start_up_s"], r["start_up_basis"]) for r in unknown.rows()} == {(0.0, "unknown, counted as 0")}


def test_keeping_what_is_there_saves_the_move(tmp_path: Path) -> None:
    """A month of small replicas saves less than the move to them costs."""
    assert planned(tmp_path, fleet="horizon_h = 24", option="current = 3").replicas[0].max() == 3
    dear = planned(tmp_path, fleet="horizon_h = 24", option="migration_usd = 500\ncurrent = 1")
    assert dear.replicas[0].max() == 1


def test_a_long_output_is_a_case_to_survive(tmp_path: Path) -> None:
    case = '[[fleet.case]]\nname = "long"\noutput_factor = 8\n'
    plain, abused = planned(tmp_path), planned(tmp_path, more=case)
    assert (np.array([3, 1]) @ abused.replicas >= 8 * np.array([2, 9, 5]) - 1e-9).all()
    assert abused.usd_per_hour > 6 * plain.usd_per_hour
    with pytest.raises(FleetInfeasible, match="lower output_factor of the case long from 8 to 4;"):
        planned(tmp_path, more=case + "[hardware]\nstock = { h100-sxm = 9, l4 = 9 }\n")  # 36 against 9 x factor


def test_worlds_ask_for_more_than_the_middle(tmp_path: Path) -> None:
    even, sure = (
        planned(tmp_path, fleet=f"worlds = 40\nthroughput_spread = 0.2\nworlds_kept = {k}") for k in (0.5, 0.95)
    )
    assert planned(tmp_path).usd_per_hour <= even.usd_per_hour < sure.usd_per_hour
    factor = np.array([w.throughput[:, 0] for w in sure.problem.worlds])
    kept = ((factor @ sure.replicas) >= sure.problem.rate[:, 0] - 1e-6).all(axis=1)
    assert kept.mean() >= 0.95


def test_draws_have_the_spread_and_share_half_of_it() -> None:
    options = (Option("x", "a", 1, 1.0), Option("y", "b", 1, 1.0), Option("z", "a", 1, 1.0))
    problem = FleetProblem(options, ("c",), np.ones((1, 1)), np.ones((3, 1)))
    logs = np.log([w.throughput[:, 0] for w in draws(problem, np.full(3, 0.3), 4000, 1)])
    assert logs.std(axis=0) == pytest.approx(0.3, rel=0.05)
    together = np.corrcoef(logs.T)
    assert together[0, 1] == pytest.approx(0.5, abs=0.05)
    assert together[0, 2] == pytest.approx(0.75, abs=0.05)
    assert draws(problem, np.zeros(3), 10, 1) == ()


@pytest.mark.parametrize(
    ("rank", "least"),
    [("power_w", lambda f: f.problem.objective == "power"), ("carbon", lambda f: f.problem.objective == "carbon")],
)
def test_a_ranking_is_what_the_fleet_is_planned_for(rank: str, least, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    more = f'[objective]\nrank_by = "{rank}"\n[site]\ngco2_per_kwh = 300\n'
    found = planned(tmp_path, more=more)
    assert least(found)
    assert found.replicas.tolist() == [[0, 0, 0], [2, 9, 5]]  # 100 W a request/s against 300 W


def test_the_most_traffic_within_stock_is_a_factor_on_all_rates(tmp_path: Path) -> None:
    limits = '[objective]\nrank_by = "request_rate_rps"\n[hardware]\nstock = { h100-sxm = 5, l4 = 3 }\n'
    found = planned(tmp_path, more=limits)
    assert found.served == pytest.approx(18 / 9, rel=1e-5)
    assert found.problem.rate[:, 0] == pytest.approx([4, 18, 10], rel=1e-5)
    with pytest.raises(InputError, match="nothing limits option 'big'"):
        planned(tmp_path, more='[objective]\nrank_by = "request_rate_rps"\n')


def test_what_one_more_of_each_limit_is_worth() -> None:
    options = (Option("cheap", "a", 1, 1.0, 100.0), Option("dear", "b", 1, 9.0, 90.0))
    problem = FleetProblem(
        options, ("x",), np.array([[6.0]]), np.ones((2, 1)), inventory=Inventory(stock={"a": 4, "b": 9})
    )
    rows = marginal_value_rows(fleet_plan(problem))
    assert [(r["limit"], r["step"], r["step_unit"], r["gain_unit"]) for r in rows] == [
        ("stock[a]", 1.0, "devices", "USD/h"),
        ("stock[b]", 1.0, "devices", "USD/h"),
    ]
    assert [r["gain"] for r in rows] == pytest.approx([8.0, 0.0])
    most = replace(problem, objective="traffic", inventory=Inventory(stock={"a": 4, "b": 3}, budget=100.0))
    assert {r["limit"]: r["gain"] for r in marginal_value_rows(fleet_plan(most))} == pytest.approx(
        {"stock[a]": 1 / 7, "stock[b]": 1 / 7, "budget": 0.0}
    )


def test_what_a_limit_is_worth_is_measured_from_the_fleet_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two limits are two solutions: the fleet itself is not solved again."""
    options = (Option("cheap", "a", 1, 1.0, 100.0), Option("dear", "b", 1, 9.0, 90.0))
    problem = FleetProblem(
        options, ("x",), np.array([[6.0]]), np.ones((2, 1)), inventory=Inventory(stock={"a": 4, "b": 9})
    )
    found, asked = fleet_plan(problem), []
    marginal_values = importlib.import_module("search.fleet.results.marginal_values")
    monkeypatch.setattr(marginal_values, "fleet_plan", lambda other: asked.append(other) or fleet_plan(other))
    assert [r["gain"] for r in marginal_values.marginal_value_rows(found)] == pytest.approx([8.0, 0.0])
    assert [other.inventory.stock for other in asked] == [{"a": 5, "b": 9}, {"a": 4, "b": 10}]


def test_ten_more_milliseconds_are_worth_what_a_longer_bound_saves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = MODELLED.format(option="", engine="vllm").replace("[2, 300]", "[40, 300]")
    bound = "slo = {{ tpot_ms = {0} }}\n[[fleet.option]]"
    path, other = tmp_path / "now.toml", tmp_path / "longer.toml"
    path.write_text(text.replace("[[fleet.option]]", bound.format(12)), encoding="utf-8")
    other.write_text(text.replace("[[fleet.option]]", bound.format(22)), encoding="utf-8")
    now, longer = (plan_fleet(load_scenario(p)) for p in (path, other))
    (row,) = slo_worth_rows(now, load_scenario(path))
    assert (row["limit"], row["step"], row["step_unit"], row["gain_unit"]) == ("slo", 0.01, "s", "USD/h")
    assert row["gain"] == pytest.approx(now.usd_per_hour - longer.usd_per_hour)
    assert row["gain"] > 0.5
    assert cli.main(["fleet", str(path), "--rows", "worth", "--json"]) == 0
    (printed,) = json.loads(capsys.readouterr().out)
    assert printed["gain"] == pytest.approx(row["gain"])
    stated = tmp_path / "fleet.toml"
    stated.write_text(DAY.format(fleet="", option="", more=""), encoding="utf-8")
    assert slo_worth_rows(plan_fleet(load_scenario(stated)), load_scenario(stated)) == []


def test_limits_of_a_split_day_are_those_of_the_whole_program(monkeypatch: pytest.MonkeyPatch) -> None:
    options = (Option("cheap", "a", 1.0, 1.0, 100.0), Option("dear", "b", 1.0, 5.0, 100.0))
    supplies = tuple(Supply(d, k, p) for d, k, p in (("a", "reserved", 1.0), ("b", "on_demand", 5.0)))
    problem = FleetProblem(
        options,
        ("x",),
        np.array([[6.0], [3.0]]),
        np.ones((2, 1)),
        hours=np.array([12.0, 12.0]),
        inventory=Inventory(supplies=supplies, stock={"a": 4.0, "b": 9.0}),
        elastic=True,
    )
    whole = {r["limit"]: r["saving_usd_per_hour"] for r in limit_rows(fleet_plan(problem))}
    assert whole == pytest.approx({"stock[a]": 4 + 0.5 * 2 * 5 - 6})
    monkeypatch.setattr(split_periods, "LARGE", 1)
    found = fleet_plan(problem)
    assert found.binding == ()
    assert {r["limit"]: r["saving_usd_per_hour"] for r in limit_rows(found)} == pytest.approx(whole)


def test_a_large_day_is_split_within_its_bound() -> None:
    """Reserved devices join 12 periods of 40 options; the fleet that is found and its bound are those of the whole."""
    random = np.random.default_rng(4)
    options = tuple(Option(f"o{i}", f"d{i % 4}", 1.0, 1.0, 100.0) for i in range(40))
    speed = np.zeros((40, 10))
    for c in range(10):
        speed[4 * c : 4 * c + 4, c] = random.uniform(0.5, 2.0, 4)
    rate = random.uniform(6, 12, (12, 10))
    kinds = (("on_demand", 1.0), ("reserved", 0.6))
    supplies = tuple(Supply(f"d{d}", k, p * (1 + d)) for d in range(4) for k, p in kinds)
    inventory = Inventory(stock={f"d{d}": 90.0 for d in range(4)}, supplies=supplies)
    problem = FleetProblem(
        options, tuple("abcdefghij"), rate, speed, hours=np.full(12, 2.0), inventory=inventory, elastic=True
    )
    found = fleet_plan(problem, gap=0.02)
    assert found.gap < 0.05
    assert found.bound <= found.usd_per_hour
    for t in range(12):
        served = np.array([speed[:, c] @ found.replicas[:, t] for c in range(10)])
        assert (served >= rate[t] - 1e-6).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"more": supply("h100-sxm", "owned", 0.1)}, "say how many devices are owned"),
        ({"more": supply("a100", "on_demand", 1.0)}, "no option stands on a100"),
        ({"more": supply("h100-sxm", "on_demand", 1.0, "lost_share = 0.5")}, "only devices of price_kind"),
        ({"more": '[[fleet.supply]]\ndevice = "h100-sxm"\nprice_kind = "reserved"\n'}, "has no such price"),
        ({"more": supply("h100-sxm", "spot", 1.0) * 2}, "is supplied twice"),
        ({"fleet": "spare = { a100 = 1 }"}, "no option stands on or in 'a100'"),
        ({"option": "availability = 0"}, "above 0"),
        ({"more": '[objective]\nrank_by = "carbon"\n'}, "carbon needs"),
    ],
)
def test_terms_that_contradict_themselves_are_refused(change: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        planned(tmp_path, **change)


SHORT = """\
model = "Qwen/Qwen3-8B"
[engine]
name = "vllm"
[fleet]
[[fleet.class]]
name = "chat"
request_rate_rps = 2
input_tokens = 500
output_tokens = 100
[fleet.class.slo]
ttft_ms_p95 = 2000
tpot_ms = 80
[[fleet.option]]
device = "h100-sxm"
tp = [1]
[[fleet.option]]
device = "l40s"
tp = [{tp}]
[hardware]
stock = {{ {stock} }}
usd_per_hour = {{ h100-sxm = 2.5, l40s = 0.8 }}
"""


def test_a_modelled_option_that_is_not_in_stock_is_left_out(tmp_path: Path) -> None:
    """The others serve without it, and a remark says so. Where they are short too, the stock to raise is named."""
    path = tmp_path / "fleet.toml"

    def found(stock: str, tp: int = 1) -> FleetPlan:
        path.write_text(SHORT.format(stock=stock, tp=tp), encoding="utf-8")
        return plan_fleet(load_scenario(path))

    for stock, tp in (("l40s = 0", 1), ("l40s = 1", 2)):
        fleet = found(stock, tp)
        assert set(fleet.devices) == {"h100-sxm"} or not fleet.devices.get("l40s", 0)
        text = f"option 'l40s' is left out: a replica takes {tp} l40s, of which {stock[-1]} are on hand"
        assert text in fleet.problem.remarks
    assert not any("left out" in text for text in found("l40s = 9").problem.remarks)
    with pytest.raises(FleetInfeasible, match=r"raise the stock of h100-sxm from 0 to \d"):
        found("l40s = 0, h100-sxm = 0")
    with pytest.raises(InputError, match="no deployment of"):  # 3 does not divide the heads, whatever the stock
        found("l40s = 0", 3)


def test_a_replica_on_two_device_types_takes_both(tmp_path: Path) -> None:
    pair = '[[fleet.option]]\nname = "pair"\ndevice = "pair"\ndevices_of = { h100-sxm = 1, l4 = 2 }\n'
    pair += "throughput_rps = [9]\nusd_per_hour = 4\n"
    found = planned(tmp_path, more=pair + "[hardware]\nstock = { h100-sxm = 9, l4 = 2 }\n")
    assert found.replicas[2].max() == 1
    assert found.devices["l4"] <= 2


@pytest.mark.parametrize("seed", range(20))
def test_a_split_day_is_served_where_whole_replicas_take_more_than_the_linear_program_reserves(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates below one replica: the linear program reserves parts of devices. The whole program says what is least."""
    random = np.random.default_rng(seed)
    models = int(random.integers(2, 5))
    options = tuple(Option(f"o{i}", "d", 1.0, 1.0, model=f"m{i}") for i in range(models))
    kinds = [Supply("d", "reserved", 1.0), *([Supply("d", "owned", 0.2, most=1.0)] if seed % 2 else [])]
    problem = FleetProblem(
        options,
        tuple("abcd"[:models]),
        random.uniform(0.1, 0.9, (2, models)),
        np.eye(models),
        hours=np.array([12.0, 12.0]),
        inventory=Inventory(supplies=tuple(kinds)),
        elastic=True,
    )
    whole = fleet_plan(problem)
    monkeypatch.setattr(split_periods, "LARGE", 1)
    found = fleet_plan(problem)
    assert found.bound <= whole.usd_per_hour + 1e-6
    assert found.usd_per_hour == pytest.approx(models - 0.8 * (seed % 2))
    assert whole.usd_per_hour == pytest.approx(found.usd_per_hour)


def test_a_period_without_a_fleet_in_time_has_the_bound_of_the_linear_program() -> None:
    """The bound of the linear program is below the least cost, and above none."""
    options = (Option("a", "d", 1.0, 1.0), Option("b", "e", 1.0, 3.0))
    problem = FleetProblem(options, ("x",), np.array([[2.5]]), np.array([[1.0], [2.0]]))
    assert split_periods.relaxed(problem) == pytest.approx(2.5)
    assert fleet_plan(problem).usd_per_hour == 3.0
    assert split_periods.relaxed(replace(problem, inventory=Inventory(nodes=1.0))) == np.inf


def test_a_budget_is_not_split() -> None:
    option = tuple(Option(f"o{i}", "d", 1.0, 1.0) for i in range(split_periods.LARGE))
    day = FleetProblem(
        option,
        ("x",),
        np.ones((2, 1)),
        np.ones((len(option), 1)),
        hours=np.ones(2),
        inventory=Inventory(supplies=(Supply("d", "reserved", 1.0),)),
        elastic=True,
    )
    assert split_periods.splits(day)
    assert not split_periods.splits(replace(day, inventory=replace(day.inventory, budget=1.0)))


@pytest.mark.parametrize("seed", range(20))
def test_a_replica_on_several_devices_is_free_only_as_often_as_it_is_on_hand(seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = {"a": float(random.integers(1, 4)), "b": float(random.integers(1, 3))}
    mixed = Option(
        "mixed", "a + b", sum(parts.values()), 2.0, parts=parts, part_nodes=dict.fromkeys(parts, 1.0), nodes=2.0
    )
    stock = {"a": 8 * parts["a"], "b": 99.0}
    problem = FleetProblem(
        (mixed,), ("x",), np.array([[3.0]]), np.ones((1, 1)), inventory=Inventory(stock=stock, spare={"a": seed % 2})
    )
    rows = growth_rows(fleet_plan(problem), Growth((4 / 3, 7 / 4, 2.0), quantiles=(0.5,)))
    assert [r["buy_devices"] for r in rows] == [0.0, mixed.devices, 3 * mixed.devices, 0.0]
    assert "stock of a" in rows[-1]["remark"]
    assert "on hand" not in rows[-1]["remark"]


def test_a_purchase_takes_only_the_devices_that_the_supplies_still_have() -> None:
    supplies = (Supply("a", "owned", 0.1, most=2.0), Supply("a", "on_demand", 5.0, most=2.0))
    option = Option("one", "a", 1.0, 5.0)
    problem = FleetProblem(
        (option,), ("x",), np.array([[2.0]]), np.ones((1, 1)), inventory=Inventory(supplies=supplies)
    )
    rows = growth_rows(fleet_plan(problem), Growth((2.0, 1.5), quantiles=(0.5,)))
    assert [r["buy_devices"] for r in rows] == [0.0, 2.0, 0.0]
    assert "remark" in rows[-1]
    assert np.isnan(rows[-1]["usd_per_hour"])


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("cost", "proven least cost"),
        ("power", "proven least power"),
        ("devices", "proven least number of devices"),
        ("traffic", "serves 2.00 x the demand, 4.00 requests/s; proven the most traffic"),
    ],
)
def test_the_headline_says_what_the_fleet_is_best_in(objective: str, told: str) -> None:
    problem = FleetProblem(
        (Option("one", "a", 1.0, 5.0, 100.0),),
        ("x",),
        np.array([[2.0]]),
        np.ones((1, 1)),
        inventory=Inventory(stock={"a": 4}),
        objective=objective,
    )
    assert told in fleet_headline(fleet_plan(problem))


def test_the_command_prints_one_table_and_bounds_the_effort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(
        '[objective]\nrank_by = "ttft_ms"\n[hardware]\nstock = { l4 = 9 }\n'
        '[[fleet.class]]\nname = "x"\nrequest_rate_rps = 2\n'
        '[[fleet.option]]\ndevice = "l4"\nusd_per_hour = 1\nthroughput_rps = [0.5]\n',
        encoding="utf-8",
    )
    assert cli.main(["fleet", str(path), "--rows", "worth", "--time-limit", "5", "--gap", "1"]) == 0
    assert "stock[l4]" in (out := capsys.readouterr().out)
    assert "per hour; proven" not in out
    assert cli.main(["fleet", str(path), "--rows", "supply"]) == 0
    assert "no rows of supply" in capsys.readouterr().out
    assert cli.main(["fleet", str(path)]) == 0
    assert "rank_by = 'ttft_ms' plays no part" in " ".join(capsys.readouterr().out.split())
    for wrong in (["--gap", "101"], ["--time-limit", "0"], ["--verify", "--rows", "worth"], ["--verify"]):
        assert cli.main(["fleet", str(path), *wrong]) == 2
        assert not capsys.readouterr().out


SPELLED = """\
[hardware]
stock = {{ "{name}" = 4 }}
[fleet]
{fleet}
[[fleet.class]]
name = "chat"
request_rate_rps = 6
[[fleet.option]]
name = "big"
device = "{other}"
throughput_rps = [3]
usd_per_hour = 3
{option}
"""


@pytest.mark.parametrize("name", ["H100 SXM", "h100-sxm"])
@pytest.mark.parametrize("other", ["H100 SXM", "h100-sxm"])
def test_stock_spare_nodes_and_parts_mean_a_device_in_any_spelling(tmp_path: Path, name: str, other: str) -> None:
    def of(fleet: str = "", option: str = "") -> FleetPlan:
        path = tmp_path / "spelled.toml"
        path.write_text(SPELLED.format(name=name, other=other, fleet=fleet, option=option), encoding="utf-8")
        return plan_fleet(load_scenario(path))

    assert of().problem.inventory.stock == {"h100-sxm": 4.0}
    assert of(f'spare = {{ "{name}" = 1 }}').replicas.sum() == 1 + of().replicas.sum()
    with pytest.raises(FleetInfeasible, match="raise the stock of h100-sxm from 4 to 10 devices"):
        of(option="devices = 5")
    with pytest.raises(FleetInfeasible, match="raise the stock of h100-sxm from 4 to 10 devices"):
        of(option=f'devices_of = {{ "{name}" = 5 }}')
    with pytest.raises(InputError, match="h100-sxm is given twice"):
        of('spare = { "H100 SXM" = 1, h100-sxm = 1 }')


def test_the_way_out_stands_before_how_names_were_read(tmp_path: Path) -> None:
    path = tmp_path / "spelled.toml"
    path.write_text(SPELLED.format(name="H100 SXM", other="H100 SXM", fleet="", option="devices = 5"), encoding="utf-8")
    with pytest.raises(FleetInfeasible, match=r"within the limits: raise .* to 10 devices \(.*H100 SXM: h100-sxm"):
        plan_fleet(load_scenario(path))
