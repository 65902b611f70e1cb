"""Parts of a fleet: bounds without a program, mixes and choices of columns, against enumeration and the solver."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hwdb import Infeasible
from search.fleet import fleet_plan
from search.fleet.decomposition import split
from search.fleet.decomposition.choice import level_of, support
from search.fleet.decomposition.columns import Column, Parts
from search.fleet.decomposition.cost_bounds import floor, losses, value
from search.fleet.decomposition.coupling import coupling, parts_of
from search.fleet.decomposition.fitting import Fitting
from search.fleet.decomposition.knapsack import cheap_columns
from search.fleet.decomposition.master import cheapest_mix
from search.fleet.integer_program.deadline import Deadline
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.solution import plan
from tests.test_fleet_parts import day


def prices(problem: FleetProblem, seed: int) -> tuple[Parts, np.ndarray]:
    """The parts of a problem, and prices of the rows that no supply without end forbids."""
    join, rng = coupling(problem), np.random.default_rng(seed)
    dual = rng.uniform(0.1, 1.0, (len(join.names), problem.periods))
    return Parts(join, parts_of(problem), "highs"), join.within_prices(dual)


@pytest.mark.parametrize("seed", range(9))
def test_a_floor_is_below_the_least_cost_of_each_part_and_near_it(seed: int) -> None:
    problem = day(seed, classes=1 + seed % 2, spare=seed % 3, spot=seed != 4)
    parts, dual = prices(problem, seed)
    floors, near = parts.floors(dual), []
    for number, part in enumerate(parts.parts):
        exact, _ = parts._solved(number, dual, 1e-7, 60.0)
        exact *= parts.join.weight[part.slot]
        assert floors[number] <= exact * (1 + 1e-6)
        near.append(floors[number] / exact)
    assert np.mean(near) >= 0.6


@pytest.mark.parametrize("seed", range(6))
def test_any_worths_of_requests_give_a_floor(seed: int) -> None:
    problem, rng = day(seed, classes=2, spare=1 + seed % 2), np.random.default_rng(seed)
    parts, dual = prices(problem, seed)
    usd, lent = parts.join.usd(dual)
    for number, part in enumerate(parts.parts[:3]):
        exact, _ = parts._solved(number, dual, 1e-7, 60.0)
        lost, rows = losses(problem, part), list(part.options)
        rate = problem.rate[part.slot, list(part.classes)]
        own = usd[rows, part.slot], (usd + lent)[rows, part.slot]
        best = floor(lost, value(lost, rate, own), rate, *own)
        for _ in range(20):
            found = floor(lost, rng.uniform(0, 1, 2), rate, *own)
            assert found <= exact * parts.join.weight[part.slot] * (1 + 1e-6)
            assert found <= best * 1.5


def test_a_floor_counts_the_worst_failure_and_the_loss_of_spot_devices() -> None:
    """One option that serves 1 of a rate of 3: four replicas with a spare node; on spot, six of which half may go."""
    lost = losses(day(0), parts_of(day(0))[0])
    one = type(lost)(np.ones((1, 1)), [[np.array([0])]], np.array([1.0]), np.array([0.5]))
    dear, cheap = np.array([10.0]), np.array([0.1])
    rate = np.array([3.0])
    assert floor(one, np.ones(1), rate, dear, dear) == pytest.approx(40.0)
    assert floor(one, np.ones(1), rate, dear, cheap) == pytest.approx(0.6, abs=0.02)
    firm = type(lost)(np.ones((1, 1)), [[np.array([0])]], np.zeros(1), np.full(1, np.nan))
    assert floor(firm, np.ones(1), rate, dear, cheap) == pytest.approx(30.0)
    assert floor(firm, np.ones(1), np.zeros(1), dear, cheap) == 0.0
    assert np.isinf(
        floor(type(lost)(np.zeros((1, 1)), one.together, one.failing, one.lost_share), rate, rate, dear, dear)
    )


def some_columns(problem: FleetProblem, seed: int) -> tuple[Parts, np.ndarray, list[Column]]:
    """Quick columns at three prices: a few for each part."""
    parts, dual = prices(problem, seed)
    pool = {c.key: c for k in range(3) for c in cheap_columns(parts, prices(problem, seed + k)[1])}
    return parts, dual, list(pool.values())


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_of_columns_is_the_cheapest_of_all(seed: int) -> None:
    problem = day(seed, spare=1, spot=seed % 2 == 0)
    parts, dual, pool = some_columns(problem, seed)
    fitting = Fitting(parts)
    level = {f"d{d}": float(d) for d in range(4)}
    best = []
    for slot in range(problem.periods):
        own = [[c for c in pool if c.part == n] for n, p in enumerate(parts.parts) if p.slot == slot]
        ways = [list(way) for way in product(*own)]
        used = [np.sum([parts.usage(c) for c in way], axis=0) for way in ways]
        usd = [fitting._slot_usd(w, u, level) for w, u in zip(ways, used, strict=True) if (u <= fitting.room).all()]
        best.append(min(usd, default=np.inf))
    found = fitting.chosen(pool, [], level, dual, Deadline.of(60.0))
    if np.isinf(best).any():
        assert found is None
        return
    assert found is not None
    assert fitting.fits(found)
    for slot, least in enumerate(best):
        mine = [c for c in found if parts.parts[c.part].slot == slot]
        used = np.sum([parts.usage(c) for c in mine], axis=0)
        assert fitting._slot_usd(mine, used, level) == pytest.approx(least, rel=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_a_mix_costs_no_more_than_a_choice_and_its_prices_bound_both(seed: int) -> None:
    problem = day(seed)
    parts, dual, pool = some_columns(problem, seed)
    fitting = Fitting(parts)
    mix = cheapest_mix(parts, pool, dual, 60.0)
    for _ in range(8):
        assert mix is not None
        dual = parts.join.within_prices(mix.dual)
        mix = cheapest_mix(parts, pool, dual, 60.0)
    assert mix is not None
    ranked = parts.ranked(pool, dual)
    bound = sum(some[0][0] for some in ranked.values()) - parts.join.worth(dual)
    assert bound <= mix.usd * (1 + 1e-6)
    found = fitting.chosen(pool, [], mix.level, dual, Deadline.of(60.0))
    if found is not None:
        assert bound <= fitting.cost(found) * (1 + 1e-6)
        held = level_of(problem.inventory.supplies, fitting.held(found))
        again = fitting.chosen(pool, found, held, dual, Deadline.of(60.0))
        assert again is not None
        assert fitting.cost(again) <= fitting.cost(found) * (1 + 1e-3)


def test_parts_are_solved_with_the_options_of_their_cheapest_columns() -> None:
    problem = day(3)
    parts, dual, pool = some_columns(problem, 3)
    few = support(parts, pool, dual, [])
    numbers = [n for n, p in enumerate(parts.parts) if p.slot == 0]
    few[numbers[0]] = set(sorted(few[numbers[0]])[:1])
    found = parts.within(numbers, dual, parts.join.capacity, None, (1e-4, 20.0), (), few)
    assert found is not None
    for column in found:
        part = parts.parts[column.part]
        assert set(np.array(part.options)[column.replicas > 0].tolist()) <= few[column.part]
        assert column.replicas.shape == column.spot.shape == (len(part.options),)
        assert column.shares.sum(axis=0) == pytest.approx(1.0)


def quiet(seed: int) -> FleetProblem:
    """A fleet whose first period has no traffic."""
    problem = day(seed, classes=1, spare=0, spot=False)
    rate = problem.rate.copy()
    rate[0] = 0.0
    return replace(problem, rate=rate)


@pytest.mark.parametrize("seed", range(4))
def test_a_period_without_traffic_is_a_part_like_others(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LARGE", "LARGE_PERIOD"):
        monkeypatch.setattr(split, name, 1)
    monkeypatch.setattr(plan, "WHOLE", 0)
    problem = quiet(seed)
    assert split.splits(problem)
    found = fleet_plan(problem, time_limit=5.0)
    np.testing.assert_allclose(found.shares.sum(axis=0), 1.0, atol=1e-6)
    monkeypatch.setattr(split, "LARGE", 10**9)
    assert found.value >= fleet_plan(problem, time_limit=5.0, gap=1e-6).value * (1 - 1e-5)


def test_parts_that_were_not_made_to_fit_are_solved_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_fits(*_: object) -> None:
        raise Infeasible("no parts stay within the limits together")

    problem = quiet(1)
    whole = fleet_plan(problem, time_limit=5.0, gap=1e-6)
    for name in ("LARGE", "LARGE_PERIOD"):
        monkeypatch.setattr(split, name, 1)
    monkeypatch.setattr(plan, "split", none_fits)
    assert fleet_plan(problem, time_limit=5.0, gap=1e-6).value == pytest.approx(whole.value, rel=1e-5)
    monkeypatch.setattr(plan, "WHOLE", 0)
    with pytest.raises(Infeasible, match="together"):
        fleet_plan(problem, time_limit=5.0)
