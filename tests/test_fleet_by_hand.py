"""Fleets whose costs, limits and rows are counted by hand, and days that are planned hour by hour by brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwdb
from hwdb import Infeasible, InputError
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.workload import Workload, load_of
from search import FleetInfeasible, FleetPlan, FleetProblem, Inventory, Option, fleet_plan, load_scenario, plan_fleet
from search.fleet import Binding, formulate, hour_rows, is_a_day
from search.fleet.accounting.idle import idle_devices
from search.fleet.checks.operating import mixed_load
from search.fleet.integer_program.periods import busiest
from search.fleet.problem_data.limits import failures, limits, max_replicas, prices, served_by_none, with_nodes
from search.fleet.replicas.layout_set import rate_and_watts
from search.fleet.solution.day import over_the_day
from search.fleet.solution.from_scenario import fleet_problem, priced
from search.planning import Target, tariff_of

# -------------------------------------------------------------------------------- what a fleet shows


def shown(**changes: object) -> FleetPlan:
    """A fleet of three options for two classes over three periods; the last option is not used."""
    options = (
        Option("pair", "a", 2.0, 5.0, 700.0, nodes=0.25, model="m"),
        Option("whole", "b", 8.0, 40.0, 6000.0, nodes=1.0),
        Option("spare", "a", 1.0, 3.0, np.nan, nodes=0.125),
    )
    problem = FleetProblem(
        options=options,
        classes=("chat", "code"),
        rate=np.array([[4.0, 2.0], [8.0, 0.0], [2.0, 6.0]]),
        throughput=np.array([[2.0, 0.0], [8.0, 4.0], [1.0, np.nan]]),
        hours=np.array([10.0, 6.0, 8.0]),
    )
    shares = np.zeros((3, 2, 3))
    shares[0, 0], shares[1, 0] = [0.75, 1.0, 0.0], [0.25, 0.0, 1.0]
    shares[1, 1] = 1.0
    replicas = np.array([[2, 5, 0], [1, 0, 2], [0, 0, 0]])
    plan = FleetPlan(problem, replicas, shares, 50.0, 50.0, 0.0, (), "highs")
    return replace(plan, **changes)  # type: ignore[arg-type]


def test_rows_of_a_fleet_by_hand() -> None:
    rows = shown().rows()
    assert [(r["option"], r["period"]) for r in rows] == [("pair", 1), ("pair", 2), ("whole", 1), ("whole", 3)]
    wanted: list[dict[str, Any]] = [
        {
            "serves": "75 % of chat",
            "start_h": 0.0,
            "hours": 10.0,
            "request_rate_rps": 3.0,
            "replicas": 2,
            "devices": 4.0,
            "nodes": 1.0,
            "usd_per_hour": 10.0,
            "power_w": 1400.0,
            "utilisation_percent": 75.0,
        },
        {
            "serves": "chat",
            "start_h": 10.0,
            "hours": 6.0,
            "request_rate_rps": 8.0,
            "replicas": 5,
            "devices": 10.0,
            "nodes": 2.0,
            "usd_per_hour": 25.0,
            "power_w": 3500.0,
            "utilisation_percent": 80.0,
        },
        {
            "serves": "25 % of chat, code",
            "start_h": 0.0,
            "request_rate_rps": 3.0,
            "replicas": 1,
            "devices": 8.0,
            "nodes": 1.0,
            "usd_per_hour": 40.0,
            "power_w": 6000.0,
            "utilisation_percent": 62.5,
        },
        {
            "serves": "chat, code",
            "start_h": 16.0,
            "hours": 8.0,
            "request_rate_rps": 8.0,
            "replicas": 2,
            "nodes": 2.0,
            "usd_per_hour": 80.0,
            "power_w": 12000.0,
            "utilisation_percent": 87.5,
        },
    ]
    for row, expected in zip(rows, wanted, strict=True):
        assert {k: row[k] for k in expected} == pytest.approx(expected), row["option"]
    assert [r["model"] for r in rows] == ["m", "m", "", ""]
    assert not any("remark" in r or "replicas_needed" in r for r in rows)
    other = shown(problem=replace(shown().problem, remarks=("one", "two")), scaled=shown(replicas=np.full((3, 3), 7)))
    assert {(r["remark"], r["replicas_needed"]) for r in other.rows()} == {("one; two", 7)}


def test_totals_of_a_fleet_by_hand() -> None:
    plan = shown()
    assert plan.devices == {"a": 10.0, "b": 16.0}
    assert plan.power == 12_000.0
    assert plan.watts.tolist() == [[1400.0, 3500.0, 0.0], [6000.0, 0.0, 12_000.0], [0.0, 0.0, 0.0]]
    assert shown(power_at_load=np.array([[1.0, 2, 3], [4, 5, 6], [0, 0, 0]])).power == 9.0
    used = shown(replicas=np.ones((3, 3), dtype=int))
    assert np.isnan(used.power)  # an option in use whose power is unknown
    busy = plan.utilisation()
    assert np.isnan(busy[2]).all()
    assert busy[0].tolist()[:2] == [0.75, 0.8]
    rows = plan.share_rows()
    assert len(rows) == 7
    assert rows[0] == {
        "class": "chat",
        "option": "pair",
        "region": "",
        "network_ms": 0.0,
        "period": 1,
        "share_percent": 75.0,
        "request_rate_rps": 3.0,
        "throughput_rps_per_replica": 2.0,
    }
    bound = shown(binding=(Binding("power", 10.0, 9.0, 2.0),)).binding_rows()
    assert bound == [{"limit": "power", "allowed": 10.0, "used": 9.0, "saving_usd_per_hour": 2.0}]


def test_a_bill_by_the_node_is_split_by_what_replicas_take() -> None:
    problem = replace(shown().problem, inventory=Inventory(node_usd_per_hour={"a": 24.0}))
    plan = shown(problem=problem, replicas=np.array([[3, 5, 0], [1, 0, 2], [2, 0, 0]]))
    hourly = plan.hourly()
    # a quarter of a node each and an eighth each: one node, then two; none where nothing runs
    assert hourly[0].tolist() == pytest.approx([18.0, 48.0, 0.0])
    assert hourly[2].tolist() == pytest.approx([6.0, 0.0, 0.0])
    assert hourly[1].tolist() == [40.0, 0.0, 80.0]
    assert np.isnan(shown(problem=replace(problem, counts_devices=True)).hourly()).all()
    assert with_nodes(problem, plan.replicas)[3].tolist() == [1.0, 2.0, 0.0]
    assert prices(problem).tolist() == [0.0, 40.0, 0.0, 24.0]
    assert prices(shown().problem).tolist() == [5.0, 40.0, 3.0]


def test_the_hours_of_a_day_by_hand() -> None:
    rows = hour_rows(shown())
    assert [r["start_h"] for r in rows] == [0.0, 10.0, 16.0]
    assert [r["request_rate_rps"] for r in rows] == [6.0, 8.0, 8.0]
    assert [r["replicas"] for r in rows] == [3, 5, 2]
    assert [r["devices"] for r in rows] == [12.0, 10.0, 16.0]
    assert [r["option"] for r in rows] == ["2 x pair + 1 x whole", "5 x pair", "2 x whole"]
    assert [r["usd_per_hour"] for r in rows] == [50.0, 25.0, 80.0]
    assert [r["power_w"] for r in rows] == [7400.0, 3500.0, 12_000.0]
    assert [r["period"] for r in rows] == [1, 2, 3]
    assert [r["hours"] for r in rows] == [10.0, 6.0, 8.0]
    needed = shown(replicas=np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]]))
    assert [r["replicas"] for r in hour_rows(shown(scaled=needed))] == [1, 1, 1]
    for hours, day in ((24.0, True), (24.4, True), (23.6, True), (25.0, False), (23.0, False)):
        assert is_a_day(replace(shown().problem, hours=np.array([hours]))) is day


# -------------------------------------------------------------------------------- limits and failures


def test_every_finite_limit_counts_what_a_unit_takes() -> None:
    inventory = Inventory(
        stock={"a": 9.0, "b": np.inf, "c": 4.0}, power=9e3, budget=70.0, nodes=6.0, node_usd_per_hour={"a": 24.0}
    )
    problem = replace(shown().problem, inventory=inventory)
    found = {name: (bound, taken.tolist()) for name, (bound, taken) in limits(problem).items()}
    assert found["stock[a]"] == (9.0, [2.0, 0.0, 1.0, 0.0])
    assert found["budget"] == (70.0, [0.0, 40.0, 0.0, 24.0])
    assert found["nodes"] == (6.0, [0.0, 1.0, 0.0, 1.0])
    bound, taken = limits(problem)["power"]
    assert bound == 9e3
    np.testing.assert_array_equal(taken, [700.0, 6000.0, np.nan, 0.0])
    assert set(found) == {"stock[a]", "power", "budget", "nodes"}  # no device of type c is on offer
    assert limits(shown().problem) == {}


def test_a_node_takes_all_replicas_that_stand_on_it() -> None:
    options = (Option("x", "a", 1.0, 1.0, replicas_per_node=2.5), Option("y", "b", 1.0, 1.0))
    problem = FleetProblem(options, ("c",), np.array([[7.0]]), np.array([[2.0], [3.0]]))
    assert [f.tolist() for f in failures(problem)] == [[0.0, 0.0]]
    one, two = (replace(problem, inventory=Inventory(spare_nodes=n)) for n in (1, 2))
    assert [f.tolist() for f in failures(one)] == [[0.0, 0.0], [3.0, 0.0], [0.0, 1.0]]
    assert [f.tolist() for f in failures(two)] == [[0.0, 0.0], [6.0, 0.0], [3.0, 1.0], [0.0, 2.0]]
    assert max_replicas(problem).tolist() == [4, 3]
    assert max_replicas(two).tolist() == [10, 5]


def test_no_optimum_needs_more_replicas_than_serve_everything_at_the_peak() -> None:
    options = (Option("x", "a", 1.0, 1.0), Option("y", "b", 1.0, 1.0))
    problem = FleetProblem(
        options, ("c", "d"), np.array([[4.0, 1.0], [2.0, 6.0]]), np.array([[2.0, 3.0], [0.0, 1.0]]), hours=np.ones(2)
    )
    assert max_replicas(problem).tolist() == [4 + 1, 6 + 1]  # a whole load is rounded up in case it is just above
    assert served_by_none(problem) == []
    assert served_by_none(replace(problem, throughput=np.array([[2.0, 0.0], [3.0, np.nan]]))) == [1]
    idle = replace(problem, rate=np.zeros((2, 2)), throughput=np.zeros((2, 2)))
    assert served_by_none(idle) == []


@pytest.mark.parametrize("per_node", [1, 2, 3, 5])
@pytest.mark.parametrize("spare", [1, 2])
def test_replicas_left_after_the_loss_of_nodes_carry_the_load(per_node: int, spare: int) -> None:
    problem = FleetProblem(
        (Option("o", "d", 4, 10.0, replicas_per_node=per_node),),
        ("c",),
        np.array([[7.0]]),
        np.array([[2.0]]),
        inventory=Inventory(spare_nodes=spare),
    )
    found = fleet_plan(problem)
    replicas = 0
    while 2.0 * (replicas - per_node * spare) < 7.0:
        replicas += 1
    assert found.replicas.tolist() == [[replicas]]
    assert found.usd_per_hour == pytest.approx(10.0 * replicas)


def test_a_failure_of_one_option_is_carried_by_another() -> None:
    options = (Option("big", "a", 8, 8.0, replicas_per_node=1), Option("small", "b", 1, 1.2, replicas_per_node=1))
    problem = FleetProblem(options, ("c",), np.array([[10.0]]), np.array([[10.0], [1.0]]))
    assert fleet_plan(problem).usd_per_hour == pytest.approx(8.0)
    spare = replace(problem, inventory=Inventory(spare_nodes=1))
    costs = [
        8.0 * n + 1.2 * m
        for n, m in product(range(5), range(25))
        if min(10.0 * max(n - 1, 0) + m, 10.0 * n + max(m - 1, 0)) >= 10.0
    ]
    assert fleet_plan(spare).usd_per_hour == pytest.approx(min(costs))


# -------------------------------------------------------------------------------- the optimum


def test_whole_nodes_are_taken_where_they_are_cheapest_by_enumeration() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        options = (
            Option("h", "d", 4, 5.0, 100.0, nodes=0.5),
            Option("q", "d", 2, 2.5, 60.0, nodes=0.25),
            Option("e", "e", 1, float(rng.uniform(1, 4)), 50.0),
        )
        speed, rate = rng.uniform(0.5, 3.0, 3), float(rng.uniform(2, 8))
        problem = FleetProblem(
            options,
            ("c",),
            np.array([[rate]]),
            speed[:, None],
            inventory=Inventory(node_usd_per_hour={"d": 9.0}, nodes=6.0),
        )
        costs = [
            9.0 * np.ceil(h / 2 + q / 4) + options[2].usd_per_hour * e
            for h, q, e in product(range(7), range(13), range(7))
            if h * speed[0] + q * speed[1] + e * speed[2] >= rate and np.ceil(h / 2 + q / 4) + e <= 6
        ]
        if not costs:
            with pytest.raises(FleetInfeasible):
                fleet_plan(problem)
            continue
        found = fleet_plan(problem)
        assert found.usd_per_hour == pytest.approx(min(costs), rel=1e-6)
        assert sum(r["usd_per_hour"] for r in found.rows()) == pytest.approx(min(costs), rel=1e-6)


def test_limits_that_bind_state_what_they_cost_the_costliest_first() -> None:
    options = (
        Option("cheap", "a", 1, 1.0, 100.0),
        Option("lean", "b", 1, 3.0, 30.0),
        Option("dear", "c", 1, 9.0, 90.0),
    )
    problem = FleetProblem(options, ("x",), np.array([[6.0]]), np.ones((3, 1)))
    tight = replace(problem, inventory=Inventory(stock={"a": 4, "b": 1}, power=600.0, budget=100.0))
    found = fleet_plan(tight)
    assert found.replicas[:, 0].tolist() == [4, 1, 1]
    # six cheap ones cost 6; four cheap and two lean ones 10; the fleet 16
    assert [(b.name, b.limit, b.used) for b in found.binding] == [("stock[a]", 4.0, 4.0), ("stock[b]", 1.0, 1.0)]
    assert [b.saving for b in found.binding] == pytest.approx([10.0, 6.0])


def test_a_fleet_may_change_its_options_over_the_day_or_follow_with_the_same_ones() -> None:
    options = (Option("big", "a", 8, 8.0, 10.0), Option("small", "b", 1, 1.2, 5.0))
    rates, hours, speed = [10.0, 1.0, 4.0], np.array([6.0, 12.0, 6.0]), [10.0, 1.0]
    problem = FleetProblem(options, ("c",), np.array(rates)[:, None], np.array(speed)[:, None], hours=hours)

    def hour(rate: float, used: tuple[int, ...]) -> float:
        counts = [range(12) if o in used else range(1) for o in (0, 1)]
        able = [8.0 * n + 1.2 * m for n, m in product(*counts) if 10.0 * n + m >= rate]
        return min(able)

    def mean(used: tuple[int, ...]) -> float:
        return float(np.average([hour(r, used) for r in rates], weights=hours))

    following = over_the_day(replace(problem, elastic=True), None, scaled=False)
    assert following.usd_per_hour == pytest.approx(mean((0, 1)))
    assert following.static is not None
    assert following.static.usd_per_hour == pytest.approx(hour(10.0, (0, 1)))
    fixed = over_the_day(problem, None, scaled=False)
    assert fixed.usd_per_hour == pytest.approx(8.0)
    assert fixed.scaled is not None
    assert fixed.scaled.usd_per_hour == pytest.approx(mean((0,)))
    # one option all day: the small one follows the load so much better that it is the cheapest
    scaled = over_the_day(problem, None, scaled=True)
    assert scaled.usd_per_hour == pytest.approx(min(mean((0,)), mean((1,))))
    assert scaled.replicas.tolist() == [[0, 0, 0], [10, 1, 4]]
    assert scaled.static is not None
    assert scaled.static.usd_per_hour == pytest.approx(8.0)
    single = over_the_day(replace(problem, rate=problem.rate[:1], hours=hours[:1]), None, scaled=True)
    assert (single.static, single.scaled) == (None, None)


def test_the_option_that_is_cheapest_alone_may_be_out_of_stock() -> None:
    options = (Option("big", "a", 8, 8.0, 10.0), Option("small", "b", 1, 1.2, 5.0))
    problem = FleetProblem(
        options,
        ("c",),
        np.array([[10.0], [1.0]]),
        np.array([[10.0], [1.0]]),
        hours=np.array([6.0, 18.0]),
        inventory=Inventory(stock={"b": 9}),
    )
    found = over_the_day(problem, None, scaled=True)
    assert found.replicas.tolist() == [[1, 1], [0, 0]]
    none = replace(problem, inventory=Inventory(stock={"b": 9, "a": 7}))
    with pytest.raises(Infeasible):
        over_the_day(replace(none, elastic=True), None, scaled=False)


def test_an_elastic_limit_is_raised_by_no_more_than_is_missing() -> None:
    options = (Option("x", "a", 2, 3.0, 100.0),)
    problem = FleetProblem(
        options,
        ("c",),
        np.array([[7.0]]),
        np.array([[2.0]]),
        inventory=Inventory(stock={"a": 4}, power=250.0, budget=9.0, nodes=2.0),
    )
    with pytest.raises(FleetInfeasible) as caught:
        fleet_plan(problem)
    told = {name: change for r in caught.value.relaxations for name, change in r.limits.items()}
    assert {k: v for k, v in told.items() if k != "demand"} == {
        "stock[a]": (4.0, 8.0),
        "power": (250.0, 400.0),
        "budget": (9.0, 12.0),
        "nodes": (2.0, 4.0),
    }
    assert told["demand"] == pytest.approx((1.0, 4 / 7))
    for words in (
        "the stock of a from 4 to 8 devices",
        "the power limit from 0.25 to 0.4 kW",
        "the budget from 9 to 12 U",
        "the number of nodes from 2 to 4",
        "lower the demand to 57.1 %",
    ):
        assert words in str(caught.value)


def test_the_program_is_as_large_as_its_sets() -> None:
    options = (Option("x", "a", 2, 3.0, 100.0, nodes=0.5), Option("y", "b", 1, 1.0, 10.0))
    problem = FleetProblem(
        options,
        ("c", "d"),
        np.ones((3, 2)),
        np.array([[2.0, 0.0], [1.0, 1.0]]),
        hours=np.ones(3),
        inventory=Inventory(stock={"a": 40}, spare_nodes=1, node_usd_per_hour={"a": 9.0}),
    )
    for elastic, periods in ((False, 1), (True, 3)):
        found = formulate(replace(problem, elastic=elastic))
        names = list(found.linear.constraintsDict()) if hasattr(found.linear, "constraintsDict") else None
        assert len(set(map(id, found.replicas.values()))) == 2 * periods
        assert len(set(map(id, found.housed.values()))) == periods
        assert len(found.share) == 3 * 3
        assert names is None or len([n for n in names if n.startswith("stock")]) == periods


def test_free_devices_are_taken_as_few_as_serve_and_by_power_where_equal() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        size, speed = rng.integers(1, 9, 3), rng.uniform(0.5, 6.0, 3)
        options = tuple(Option(f"o{i}", "own", float(size[i]), 0.0, 300.0) for i in range(3))
        rate = float(rng.uniform(5, 15))
        problem = FleetProblem(options, ("a", "b"), np.array([[rate, 0.0]]), np.stack([speed, speed], axis=1))
        fewest = min(
            int(np.dot(counts, size)) for counts in product(range(16), repeat=3) if np.dot(counts, speed) >= rate - 1e-9
        )
        assert fleet_plan(problem).devices == {"own": fewest}, seed
    alike = (Option("hot", "own", 2.0, 0.0, 900.0), Option("cool", "own", 2.0, 0.0, 300.0))
    found = fleet_plan(FleetProblem(alike, ("a",), np.array([[5.0]]), np.ones((2, 1))))
    assert found.replicas[:, 0].tolist() == [0, 5]


def test_one_option_serves_a_class_where_a_mix_is_no_better() -> None:
    options = (Option("x", "a", 1.0, 1.0, 10.0), Option("y", "b", 1.0, 1.0, 10.0))
    problem = FleetProblem(options, ("c",), np.array([[6.0]]), np.ones((2, 1)))
    assert sorted(fleet_plan(problem).replicas[:, 0].tolist()) == [0, 6]
    mixed = replace(problem, inventory=Inventory(stock={"a": 4, "b": 4}))
    assert fleet_plan(mixed).replicas.sum() == 6


def test_periods_that_another_covers_need_no_solution_of_their_own() -> None:
    kept, stands = busiest(np.array([[3.0, 1.0], [3.0, 1.0], [1.0, 1.0], [0.0, 5.0], [3.0, 1.0]]))
    assert kept.tolist() == [0, 3]
    assert stands.tolist()[:3] == [0, 0, 0]
    assert stands.tolist()[3:] == [1, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": np.array([[4.0, -1.0]] * 3)}, "every rate"),
        ({"rate": np.array([[4.0, np.inf]] * 3)}, "every rate"),
        ({"hours": np.array([1.0, np.inf, 1.0])}, "longer than 0 hours"),
        ({"hours": np.array([1.0, -1.0, 1.0])}, "longer than 0 hours"),
        ({"options": tuple(replace(o, usd_per_hour=-1.0) for o in shown().problem.options)}, "no price"),
        ({"inventory": Inventory(power=1e9)}, "power of .* is not known"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fleet_plan(replace(shown().problem, **change))
    free = replace(shown().problem, options=tuple(replace(o, usd_per_hour=0.0) for o in shown().problem.options))
    assert fleet_plan(free).usd_per_hour == 0.0


def test_bounds_and_gaps_prove_the_cost() -> None:
    problem = replace(shown().problem, elastic=True)
    found = fleet_plan(problem)
    assert found.usd_per_hour * (1 - 1e-5) <= found.bound <= found.usd_per_hour * (1 + 1e-12)
    assert 0.0 <= found.gap < 1e-5
    nothing = fleet_plan(replace(problem, rate=np.zeros((3, 2))))
    assert (nothing.usd_per_hour, nothing.gap, nothing.power) == (0.0, 0.0, 0.0)
    assert nothing.replicas.sum() == 0
    by_cbc = fleet_plan(problem, solver="cbc")
    assert by_cbc.solver == "cbc"
    assert by_cbc.usd_per_hour == pytest.approx(found.usd_per_hour, rel=1e-6)
    assert by_cbc.bound <= by_cbc.usd_per_hour


def test_what_a_limit_costs_over_a_day_is_the_mean_over_its_hours() -> None:
    options = (Option("cheap", "a", 1, 1.0, 100.0), Option("dear", "c", 1, 9.0, 90.0))
    problem = FleetProblem(
        options,
        ("x",),
        np.array([[6.0], [2.0], [5.0]]),
        np.ones((2, 1)),
        elastic=True,
        hours=np.array([6.0, 12.0, 6.0]),
        inventory=Inventory(stock={"a": 4}),
    )
    found = fleet_plan(problem)
    assert found.replicas.tolist() == [[4, 2, 4], [2, 0, 1]]
    # two dear ones for a quarter of the day and one for another, 8 USD more than a cheap one each
    assert [(b.name, b.limit, b.used) for b in found.binding] == [("stock[a]", 4.0, 4.0)]
    assert found.binding[0].saving == pytest.approx((2 * 8 + 1 * 8) / 4)
    assert found.usd_per_hour == pytest.approx((22 * 6 + 2 * 12 + 13 * 6) / 24)


# -------------------------------------------------------------------------------- prices, idle devices


def test_options_without_a_price_are_left_out_or_devices_are_counted() -> None:
    known, unknown = Option("k", "a", 2.0, 3.0), Option("u", "b", 4.0, np.nan)
    problem = FleetProblem((known, unknown), ("c",), np.array([[3.0]]), np.array([[1.0], [4.0]]), remarks=("kept",))
    left = priced(problem)
    assert [o.name for o in left.options] == ["k"]
    assert left.throughput.tolist() == [[1.0]]
    assert left.remarks[0] == "kept"
    assert "no price is known for b" in left.remarks[1]
    assert not left.counts_devices
    needed = replace(problem, throughput=np.array([[0.0], [4.0]]), inventory=Inventory(node_usd_per_hour={"a": 8.0}))
    counted = priced(needed)
    assert [o.usd_per_hour for o in counted.options] == [2.0, 4.0]
    assert counted.counts_devices
    assert counted.inventory.node_usd_per_hour == {}
    plan = fleet_plan(counted)
    assert plan.replicas.tolist() == [[0], [1]]
    assert np.isnan([plan.usd_per_hour, plan.bound]).all()
    assert plan.binding == ()
    with pytest.raises(InputError, match="a budget is set"):
        priced(replace(needed, inventory=Inventory(budget=9.0)))
    assert priced(left) is left


def test_idle_devices_are_those_on_hand_that_nothing_uses() -> None:
    used, own = {"h100-sxm": 6.0, "mine": 2.0}, {"h100-sxm": 2.5}
    inventory = Inventory(stock={"h100-sxm": 8, "mine": 2, "l4": np.inf, "a100-sxm-80gb": 4, "other": 3})
    found = {i.device: i for i in idle_devices(used, inventory, hwdb.load(), own)}
    assert list(found) == ["h100-sxm", "a100-sxm-80gb", "other"]
    card = found["h100-sxm"]
    assert (card.devices, card.on_hand, card.usd_per_hour) == (2.0, 8, 5.0)
    assert 2 * 30.0 < card.power < 2 * 300.0
    assert np.isnan([found["a100-sxm-80gb"].usd_per_hour, found["other"].power]).all()


# -------------------------------------------------------------------------------- scenarios


STATED = """\
[hardware]
{hardware}
[fleet]
{fleet}
[[fleet.class]]
name = "chat"
{chat}
[[fleet.class]]
name = "code"
request_rate_rps = 3
[[fleet.option]]
name = "rented"
device = "h100-sxm"
devices = 4
throughput_rps = [2, 1]
power_w = 3000
[[fleet.option]]
name = "own"
device = "my card"
devices = 2
usd_per_hour = 3
throughput_rps = {{ chat = 1 }}
power_w = 900
"""


def stated(folder: Path, *, hardware: str = "", fleet: str = "", chat: str = "request_rate_rps = 5") -> Path:
    path = folder / "stated.toml"
    path.write_text(STATED.format(hardware=hardware, fleet=fleet, chat=chat), encoding="utf-8")
    return path


def test_stated_options_become_those_of_the_program(tmp_path: Path) -> None:
    problem, dates = fleet_problem(load_scenario(stated(tmp_path)))
    rented, own = problem.options
    each = problem.options[0].usd_per_hour / 4
    assert 1.0 < each < 10.0
    assert len(dates) == 1
    assert (rented.devices, rented.power, rented.replicas_per_node) == (4.0, 3000.0, 1.0)
    assert (own.devices, own.usd_per_hour, own.nodes, own.replicas_per_node) == (2.0, 3.0, 1.0, 1.0)
    assert problem.throughput.tolist() == [[2.0, 1.0], [1.0, 0.0]]
    assert problem.rate.tolist() == [[5.0, 3.0]]
    assert problem.inventory.node_usd_per_hour == {}


def test_devices_in_nodes_are_paid_by_the_node(tmp_path: Path) -> None:
    path = stated(tmp_path, hardware='devices = ["h100-sxm"]\nnodes = ["dgx-h100"]')
    problem, _ = fleet_problem(load_scenario(path))
    rented = problem.options[0]
    assert (rented.nodes, rented.replicas_per_node) == (0.5, 2.0)
    single, _ = fleet_problem(load_scenario(stated(tmp_path)))
    assert set(problem.inventory.node_usd_per_hour) == {"h100-sxm"}
    node = problem.inventory.node_usd_per_hour["h100-sxm"]
    assert node == pytest.approx(rented.usd_per_hour * 2)
    found = plan_fleet(load_scenario(path))
    assert found.usd_per_hour <= node * 2 + 3.0 * 5
    assert found.replicas[0, 0] >= 3
    assert single.inventory.node_usd_per_hour == {}


def test_power_that_is_stated_is_drawn_at_any_load(tmp_path: Path) -> None:
    found = plan_fleet(load_scenario(stated(tmp_path, chat="request_rate_rps = 5")))
    expected = found.replicas[:, 0] * np.array([3000.0, 900.0])
    assert found.power_at_load is not None
    assert found.power_at_load[:, 0].tolist() == expected.tolist()
    assert found.power == expected.sum()


def test_a_load_of_several_classes_is_their_sum() -> None:
    chat = Workload(input_tokens=100.0, output_tokens=10.0, arrival="open", rate=1.0)
    code = Workload(input_tokens=900.0, output_tokens=50.0, arrival="open", rate=1.0)
    load = mixed_load([chat, code], np.array([[3.0, 0.0], [1.0, 2.0]]))
    assert np.asarray(load.rate).tolist() == [4.0, 2.0]
    assert load.mean(load.input).tolist() == pytest.approx([(3 * 100 + 900) / 4, 900.0])
    assert load.mean(load.output).tolist() == pytest.approx([(3 * 10 + 50) / 4, 50.0])
    assert load.share.sum(axis=0).tolist() == pytest.approx([1.0, 1.0])
    assert np.asarray(load.cv).tolist() == pytest.approx([1.0, 1.0])


def test_the_rate_of_a_layout_is_the_greatest_within_the_target(tmp_path: Path) -> None:
    (tmp_path / "slow.toml").write_text(SLOW, encoding="utf-8")
    scenario = load_scenario(tmp_path / "slow.toml")
    spec = scenario.model
    target = Target(
        model=scenario.model_called(spec) if isinstance(spec, str) else spec,
        workload=scenario.workload.at(arrival="open", rate=1.0),
        slo=scenario.slo,
        engine=scenario.engine,
        confidence=0.5,
        costs=Roofline(),
    )
    layouts = deployments(
        [hwdb.device("l4"), hwdb.device("h100-sxm"), hwdb.device("l4")],
        device=np.array([1, 0, 1]),
        tp=np.array([1, 1, 2]),
    )
    rate, watts = rate_and_watts(target, layouts)
    assert 0.0 < rate[0] < rate[2]
    assert rate[0] < 1.0
    assert (rate[1], np.isnan(watts[1])) == (0.0, True)  # an L4 cannot hold the model

    def at(factor: float) -> Any:
        load = replace(load_of(target.workload, 2), rate=rate[[0, 2]] * factor)
        return target.estimates_of(load, layouts.take(np.array([0, 2])))

    np.testing.assert_allclose(at(1.0).power, watts[[0, 2]], rtol=1e-6)
    inside, beyond = at(0.98), at(1.1)
    assert (inside.frame()["tpot_ms"] <= 60.0).all()
    assert not inside.saturated.any()
    assert (beyond.saturated | (beyond.frame()["tpot_ms"] > 60.0).to_numpy()).all()


def test_a_workload_alone_makes_a_fleet_of_one_class(tmp_path: Path) -> None:
    (tmp_path / "slow.toml").write_text(SLOW, encoding="utf-8")
    problem, _ = fleet_problem(load_scenario(tmp_path / "slow.toml"), Roofline())
    assert problem.rate.tolist() == [[0.5]]
    assert problem.hours.tolist() == [1.0]
    assert {o.device for o in problem.options} == {"h100-sxm"}
    for before, after, words in (
        ("request_rate_rps = 0.5", "concurrency = 4", "sized for a rate"),
        ("[slo]", '[engine]\nname = ["vllm", "sglang"]\n[slo]', "one engine"),
    ):
        (tmp_path / "slow.toml").write_text(SLOW.replace(before, after), encoding="utf-8")
        with pytest.raises(InputError, match=words):
            fleet_problem(load_scenario(tmp_path / "slow.toml"), Roofline())


SLOW = """\
title = "long answers"
[model]
name = "Qwen/Qwen3-32B"
[workload]
input_tokens = 2000
output_tokens = 4000
request_rate_rps = 0.5
[slo]
tpot_ms = 60
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1, 2]
pp = 1
"""
MODELLED = """\
[site]
pue = 1.5
[hardware]
devices = ["h100-sxm"]
{hardware}
[fleet]
[[fleet.class]]
name = "chat"
model = "meta-llama/Llama-3.1-8B-Instruct"
input_tokens = 1000
output_tokens = 100
request_rate_rps = {rate}
slo = {{ tpot_ms = 40, ttft_ms = 1000 }}
[[fleet.option]]
device = "h100-sxm"
tp = [1, 2]
{option}
"""


def modelled(folder: Path, *, rate: float = 30.0, hardware: str = "", option: str = "") -> FleetPlan:
    path = folder / "modelled.toml"
    path.write_text(MODELLED.format(rate=rate, hardware=hardware, option=option), encoding="utf-8")
    return plan_fleet(load_scenario(path), costs=Roofline())


def test_what_a_modelled_fleet_costs_and_draws(tmp_path: Path) -> None:
    found = modelled(tmp_path)
    row = found.rows()[0]
    option = next(o for o in found.problem.options if o.name == row["option"])
    assert found.usd_per_hour == pytest.approx(option.usd_per_hour * row["replicas"])
    speed = float(found.problem.throughput[found.problem.options.index(option), 0])
    assert speed * (row["replicas"] - 1) < 30.0 <= speed * row["replicas"]
    # between idle and full load, at the meter of a site with a PUE of 1.5
    most = option.power * row["replicas"]
    assert 0.5 * most < row["power_w"] <= most * (1 + 1e-6)
    assert 1.5 * 60 < option.power / option.devices < 1.5 * 700
    assert row["power_w_lo"] < row["power_w"] < row["power_w_hi"]
    assert 0.0 < row["site_energy_j_per_output_token"] < 1e3
    own = modelled(tmp_path, option="usd_per_hour = 7\npower_w = 1000")
    assert {o.usd_per_hour for o in own.problem.options} == {7.0}
    assert own.rows()[0]["power_w"] == own.rows()[0]["replicas"] * 1000.0
    # hosts: an eighth of one per replica at full load, and the whole one that is switched on; at the site's meter
    hosts = modelled(tmp_path, hardware='nodes = ["dgx-h100"]')
    tariff = tariff_of(load_scenario(tmp_path / "modelled.toml"))
    host, idle, limit = float(tariff.host_loaded[0]), float(tariff.host_idle[0]), 8 * float(tariff.device_limit[0])
    total = sum(r["power_w"] for r in hosts.rows())
    drawn = (total - 1.5 * idle) / (1.0 + (host - idle) / limit)  # of the devices, of which a paid node has some more
    assert 0.9 * row["power_w"] < drawn < 1.6 * row["power_w"]
    for plain, housed in zip(found.problem.options, hosts.problem.options, strict=True):
        share = plain.power / 1.5 / (limit * housed.nodes)  # of the limits of its devices
        assert housed.power == pytest.approx(plain.power + 1.5 * (idle + (host - idle) * share) * housed.nodes)
        assert (housed.nodes, housed.replicas_per_node) == (housed.devices / 8.0, 8.0 / housed.devices)
        assert (plain.nodes, plain.replicas_per_node) == (plain.devices / 8.0, 1.0)
        assert housed.usd_per_hour == plain.usd_per_hour == pytest.approx(plain.devices * 2.4, rel=0.5)
    assert hosts.usd_per_hour == pytest.approx(8 * found.problem.options[0].usd_per_hour)
    assert "1 h100-sxm" in [o.name for o in own.problem.options]
    titled = modelled(tmp_path, option='name = "mine"')
    assert [o.name for o in titled.problem.options] == [f"mine: {o.name}" for o in found.problem.options]
    tiny = modelled(tmp_path, rate=0.001)
    assert tiny.rows()[0]["replicas"] == 1
    assert tiny.rows()[0]["power_w"] < found.rows()[0]["power_w"] / found.rows()[0]["replicas"]
