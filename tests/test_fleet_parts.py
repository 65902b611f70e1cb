"""Large fleets solved by parts: bounds, columns, and fleets that serve everything, against the whole program."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from search import FleetProblem, Inventory, Option, fleet_plan
from search.fleet import World, greatest_growth, limit_rows, marginal_value_rows
from search.fleet.accounting.bills import cheapest_held
from search.fleet.decomposition import split
from search.fleet.decomposition.columns import Parts
from search.fleet.decomposition.coupling import coupling, parts_of
from search.fleet.decomposition.fitting import Fitting
from search.fleet.decomposition.knapsack import cheap_columns, simple
from search.fleet.integer_program.deadline import Deadline
from search.fleet.problem_data.limits import limits, with_nodes
from search.fleet.problem_data.problem import checked
from search.fleet.solution import plan
from search.scenario import Supply


def day(seed: int, *, classes: int = 1, spare: int = 1, spot: bool = True) -> FleetProblem:
    """Two models on four devices over three periods, with stock, power, spare nodes and three price kinds."""
    rng = np.random.default_rng(seed)
    price, models = rng.uniform(1, 5, 4), 2
    options = tuple(
        Option(f"m{m} on d{d}", f"d{d}", 1.0, 9.0, 100.0 * price[d], model=f"m{m}")
        for m in range(models)
        for d in range(4)
    )
    speed = np.kron(np.eye(models), np.ones((4, classes))) * np.tile(price, models)[:, None]
    speed = speed * np.exp(rng.normal(0, 0.4, speed.shape))
    rate = rng.uniform(3, 12, (3, models * classes)) / classes
    supplies = [Supply(f"d{d}", "on_demand", p) for d, p in enumerate(price)]
    supplies += [Supply(f"d{d}", "reserved", 0.6 * p) for d, p in enumerate(price)]
    supplies += [Supply(f"d{d}", "spot", 0.4 * p, lost_share=0.5, most=4.0) for d, p in enumerate(price)] * spot
    stock = {f"d{d}": float(rng.integers(6, 12)) for d in range(3)}
    inventory = Inventory(stock=stock, power=9000.0, spare_nodes=spare, supplies=tuple(supplies))
    names = tuple(f"m{m} class {c}" for m in range(models) for c in range(classes))
    return checked(
        FleetProblem(options, names, rate, speed, hours=np.array([6.0, 10.0, 8.0]), inventory=inventory, elastic=True)
    )


def serves(problem: FleetProblem, replicas: np.ndarray, spot: np.ndarray) -> bool:
    """Whether the replicas of every period carry its demand in every case."""
    for t in range(problem.periods):
        alone = replace(problem, elastic=False).at_periods(np.array([t]), problem.rate[[t]], np.ones(1))
        if greatest_growth(alone, replicas[:, t], spot[:, t]) < 1.0 - 1e-6:
            return False
    return True


@pytest.mark.parametrize("seed", range(6))
def test_a_fleet_by_parts_serves_everything_within_its_limits_and_its_bound_holds(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = day(seed, classes=1 + (seed == 1), spare=seed % 3, spot=seed != 4)
    whole = fleet_plan(problem, gap=0.01, time_limit=4.0)
    monkeypatch.setattr(split, "LARGE", 1)
    monkeypatch.setattr(plan, "WHOLE", 0)
    assert split.splits(problem)
    found = fleet_plan(problem, gap=0.03, time_limit=4.0)
    assert found.bound <= whole.usd_per_hour * (1 + 1e-6)
    assert found.usd_per_hour >= whole.bound * (1 - 1e-6)
    assert found.gap == pytest.approx(1.0 - found.bound / found.usd_per_hour)
    assert found.bound > 0.5 * whole.bound
    assert serves(problem, found.replicas, found.spot)
    units = np.concatenate([with_nodes(problem, found.replicas), found.held])
    for bound, each in limits(problem).values():
        assert (each @ units <= bound + 1e-6).all()
    assert found.shares.sum(axis=0) == pytest.approx(1.0)
    assert np.nanmax(found.utilisation()) <= 1 + 1e-6
    assert (found.spot <= found.replicas).all()


@pytest.mark.parametrize("seed", range(4))
def test_any_prices_of_the_rows_bound_the_cost_from_below(seed: int) -> None:
    problem, rng = day(seed), np.random.default_rng(seed)
    whole = fleet_plan(problem, gap=0.01, time_limit=4.0)
    join = coupling(problem)
    parts = Parts(join, parts_of(problem), "highs")
    prices = np.array([s.usd_per_hour for s in problem.inventory.supplies]).max()
    dual = join.within_prices(
        rng.uniform(0, prices / 4, (len(join.names), 3)) * (rng.random((len(join.names), 3)) < 0.6)
    )
    bound, columns = parts.priced(dual, 1e-6, Deadline.of(60.0))
    assert bound <= whole.usd_per_hour * (1 + 1e-6)
    assert len(columns) == len(parts.parts)
    # the whole fleet, cut into parts, costs at these prices no less than the parts at their best
    usd, lent = join.usd(dual)
    own = float((usd * whole.replicas).sum() + (lent * whole.spot).sum())
    best = sum(
        float(usd[list(p.options), p.slot] @ c.replicas + lent[list(p.options), p.slot] @ c.spot)
        for p, c in zip(parts.parts, columns, strict=True)
    )
    assert best <= own * (1 + 1e-5)


def test_a_supply_without_end_is_never_worth_more_than_it_costs() -> None:
    join = coupling(day(0))
    dual = join.within_prices(np.full((len(join.names), 3), 50.0))
    for k, supply in enumerate(join.problem.inventory.supplies):
        worth = -(join.held[:, k] @ dual)
        if supply.kind == "reserved":
            assert worth.sum() <= supply.usd_per_hour * (1 + 1e-9)
        elif np.isinf(supply.most):
            assert (worth <= supply.usd_per_hour * join.weight * (1 + 1e-9)).all()


@pytest.mark.parametrize("seed", range(4))
def test_quick_columns_survive_every_case_and_are_near_the_cheapest(seed: int) -> None:
    problem = day(seed, spare=1 + seed % 2)
    join = coupling(problem)
    parts = Parts(join, parts_of(problem), "highs")
    dual = join.within_prices(np.tile(np.linspace(0.2, 0.6, len(join.names))[:, None], (1, 3)))
    usd, lent = join.usd(dual)
    _, exact = parts.priced(dual, 1e-6, Deadline.of(60.0))
    quick = cheap_columns(parts, dual)
    assert {c.part for c in quick} == set(range(len(parts.parts)))
    ratios = []
    for column in quick:
        part = parts.parts[column.part]
        rows = list(part.options)
        replicas, spot = np.zeros(len(problem.options), dtype=int), np.zeros(len(problem.options))
        replicas[rows], spot[rows] = column.replicas.astype(int), column.spot
        only = problem.without_throughput(~np.isin(np.arange(len(problem.classes)), part.classes)[None])
        alone = replace(
            only, elastic=False, rate=only.rate * np.isin(np.arange(len(problem.classes)), part.classes)[None]
        )
        alone = alone.at_periods(np.array([part.slot]), alone.rate[[part.slot]], np.ones(1))
        assert greatest_growth(alone, replicas, spot) >= 1.0 - 1e-6
        cost = usd[rows, part.slot] @ column.replicas + lent[rows, part.slot] @ column.spot
        best = exact[column.part]
        ratios.append(cost / (usd[rows, part.slot] @ best.replicas + lent[rows, part.slot] @ best.spot))
    assert min(ratios) >= 1.0 - 1e-5
    assert np.median(ratios) <= 1.06


def test_parts_of_worlds_and_several_classes_are_left_to_the_solver() -> None:
    problem = day(0)
    assert simple(problem, parts_of(problem)[0])
    assert not simple(day(0, classes=2), parts_of(day(0, classes=2))[0])
    abused = replace(problem, worlds=(World("abuse", problem.throughput / 2, must=True),))
    assert not simple(abused, parts_of(abused)[0])


@pytest.mark.parametrize("seed", range(8))
def test_what_supplies_hold_is_the_cheapest_of_all_ways(seed: int) -> None:
    rng = np.random.default_rng(seed)
    need = {"d": rng.integers(0, 5, 2).astype(float)}
    supplies = (
        Supply("d", "on_demand", float(rng.uniform(1, 3))),
        Supply("d", "reserved", float(rng.uniform(0.3, 2)), most=3.0),
        Supply("d", "owned", 0.1, most=float(rng.integers(0, 3))),
    )
    weight = np.array([0.25, 0.75])
    best = np.inf
    for level, *own in product(range(4), range(3), range(3)):
        owned = np.minimum(np.array(own), supplies[2].most)
        lacking = np.maximum(need["d"] - level - owned, 0.0)
        usd = level * supplies[1].usd_per_hour + weight @ (owned * 0.1 + lacking * supplies[0].usd_per_hour)
        best = min(best, float(usd))
    held = cheapest_held(supplies, need, {}, weight)
    assert np.array([s.usd_per_hour for s in supplies]) @ held @ weight == pytest.approx(best)
    assert (held.sum(axis=0) >= need["d"] - 1e-9).all()


def test_parts_that_exceed_a_stock_together_are_made_to_fit() -> None:
    """Two models want the same two devices of which only one model can have both; the other one takes the dear ones."""
    options = tuple(Option(f"m{m} on d{d}", f"d{d}", 1.0, (1.0, 3.0)[d]) for m in range(2) for d in range(2))
    speed = np.kron(np.eye(2), np.ones((2, 1))).astype(np.float64)
    problem = checked(
        FleetProblem(
            options,
            ("x", "y"),
            np.full((2, 2), 2.0),
            speed,
            hours=np.ones(2),
            inventory=Inventory(stock={"d0": 2.0}),
            elastic=True,
        )
    )
    join = coupling(problem)
    parts = Parts(join, parts_of(problem), "highs")
    free = np.zeros((len(join.names), 2))
    _, columns = parts.priced(free, 1e-6, Deadline.of(60.0))
    fitting = Fitting(parts)
    assert not fitting.fits(columns)
    found = fitting.fitted(columns, free, Deadline.of(60.0))
    assert found is not None
    assert fitting.fits(found)
    assert fitting.cost(found) == pytest.approx(2 * 1.0 + 2 * 3.0)


def test_what_is_not_known_in_time_is_told_as_unknown() -> None:
    option = Option("one", "a", 1.0, 5.0)
    problem = FleetProblem((option,), ("x",), np.array([[2.0]]), np.ones((1, 1)), inventory=Inventory(stock={"a": 4.0}))
    found = fleet_plan(problem)
    assert marginal_value_rows(found)[0]["gain"] == 0.0
    late = replace(found, problem=replace(found.problem, due=time.monotonic() - 1.0))
    assert np.isnan(marginal_value_rows(late)[0]["gain"])
    assert fleet_plan(late.problem).usd_per_hour == 10.0  # a small program has its second in any case


@pytest.mark.parametrize("owned", [1.0, 2.0, 3.0])
def test_a_part_made_cheaper_knows_how_many_owned_devices_there_are(
    owned: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owned devices are too few for all; the rest is cheapest on spot devices, of which half may go."""
    supplies = (
        Supply("a", "on_demand", 4.0),
        Supply("a", "spot", 1.5, lost_share=0.5, most=4.0),
        Supply("a", "owned", 0.1, most=owned),
    )
    option = Option("one", "a", 1.0, 4.0)
    problem = checked(
        FleetProblem(
            (option,),
            ("x",),
            np.array([[3.0], [2.0]]),
            np.ones((1, 1)),
            hours=np.ones(2),
            inventory=Inventory(supplies=supplies),
            elastic=True,
        )
    )
    whole = fleet_plan(problem)
    monkeypatch.setattr(split, "splits", lambda _: True)
    monkeypatch.setattr(plan, "splits", lambda _: True)
    monkeypatch.setattr(plan, "WHOLE", 0)
    found = fleet_plan(problem, time_limit=2.0)
    assert found.usd_per_hour == pytest.approx(whole.usd_per_hour)


def test_rows_of_limits_without_time_are_told_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.fleet.results.marginal_values.splits", lambda _: True)
    option = Option("one", "a", 1.0, 5.0)
    problem = FleetProblem((option,), ("x",), np.array([[2.0]]), np.ones((1, 1)), inventory=Inventory(stock={"a": 2.0}))
    late = fleet_plan(problem)
    late = replace(late, problem=replace(late.problem, due=time.monotonic() - 1.0))
    assert np.isnan([r["saving_usd_per_hour"] for r in limit_rows(late)]).all()
    assert len(limit_rows(late)) == 1
