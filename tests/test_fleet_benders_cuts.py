"""Failures known by what requests are worth: against shares in every failure, and against enumerated transport."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from search.fleet.decomposition.benders_cuts import (
    add_worths,
    lacking_worths,
    least_served,
    solve_linear_with_cuts,
    solve_with_cuts,
)
from search.fleet.decomposition.knapsack import cheap_columns
from search.fleet.decomposition.split import LEFT_OUT
from search.fleet.integer_program.deadline import Deadline
from search.fleet.integer_program.program import Ask, formulate
from search.fleet.integer_program.solve import linear_bound, run_solver
from search.fleet.problem_data.cases import cases
from search.fleet.problem_data.problem import FleetProblem
from tests.test_fleet_columns import prices
from tests.test_fleet_parts import day


def one_period(seed: int, *, spare: int, spot: bool) -> FleetProblem:
    """One period of three classes per model that share replicas."""
    problem = replace(day(seed, classes=3, spare=spare, spot=spot), elastic=False)
    return problem.at_periods(np.array([0]), problem.rate[[0]], np.ones(1))


def by_worths(problem: FleetProblem) -> float:
    """The least cost, with failures known by worths."""
    program = formulate(problem, Ask(objective="cost", worths=np.zeros((0, len(problem.classes)))))
    assert solve_with_cuts(program, lambda: run_solver(program, "highs", 60.0, 1e-7))
    return program.amount("cost")


@pytest.mark.parametrize(
    ("seed", "spare", "spot"), [(0, 1, True), (1, 1, False), (2, 2, True), (3, 0, True), (4, 2, False)]
)
def test_worths_and_shares_of_every_failure_give_the_same_least_cost(seed: int, spare: int, spot: bool) -> None:
    problem = one_period(seed, spare=spare, spot=spot)
    shared = formulate(problem, Ask(objective="cost"))
    assert run_solver(shared, "highs", 60.0, 1e-7)
    assert by_worths(problem) == pytest.approx(shared.amount("cost"), rel=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_a_worth_is_lacking_exactly_where_a_failure_leaves_too_little(seed: int) -> None:
    problem, rng = one_period(seed, spare=1 + seed % 2, spot=True), np.random.default_rng(seed)
    for _ in range(12):
        replicas = rng.integers(0, 5, len(problem.options)).astype(float)
        spot = np.floor(replicas * rng.random(len(replicas)))
        enough = all(
            carried(problem, case.alive(problem, replicas, spot), case.options, case.classes)
            for case in cases(problem)
            if case.kind != "normal"
        )
        assert (not lacking_worths(problem, 0, replicas, spot)) == enough


def carried(problem: FleetProblem, alive: np.ndarray, options: tuple[int, ...], classes: tuple[int, ...]) -> bool:
    """Whether shares exist that serve every class of a group, as a linear program in the shares."""
    pairs = [(o, c) for o in options for c in classes if problem.throughput[o, c] > 0]
    serve = np.array([[float(c == k) for _, c in pairs] for k in classes])
    load = np.array([[(o == i) * problem.rate[0, c] / problem.throughput[o, c] for o, c in pairs] for i in options])
    solved = linprog(np.zeros(len(pairs)), load, alive[list(options)] + 1e-9, serve, np.ones(len(classes)))
    return bool(solved.status == 0)


def test_the_least_part_that_is_served_is_that_of_the_scarcest_class() -> None:
    """Two replicas serve 1 of each class; three of one class are asked for, which is worth all then."""
    served, worth = least_served(np.ones((1, 2)), [(0, np.ones(2, dtype=bool))], np.array([2.0]), np.array([3.0, 0.0]))
    assert served == pytest.approx(2.0 / 3.0)
    assert worth[0] == pytest.approx(1.0 / 3.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_linear_program_rises_with_worths_and_stays_below_the_least_cost(seed: int) -> None:
    problem = one_period(seed, spare=1, spot=True)
    bounds = []
    for seconds in (0.0, 60.0):
        program = formulate(problem, Ask(objective="cost", without=LEFT_OUT, worths=np.zeros((0, 6))))
        bounds.append(solve_linear_with_cuts(program, "highs", Deadline.of(seconds), 3).bound)
    assert bounds[0] <= bounds[1] * (1 + 1e-9)
    assert bounds[1] <= by_worths(problem) * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_linear_program_that_begins_at_the_last_basis_has_the_same_value_in_fewer_steps(seed: int) -> None:
    """With more worths, and with other costs: beside programs of the same constraints that begin afresh."""
    problem = one_period(seed, spare=1, spot=True)
    ask = Ask(objective="cost", worths=np.zeros((0, len(problem.classes))))
    program, rng = formulate(problem, ask), np.random.default_rng(seed)
    first = linear_bound(program, "highs")
    more = rng.dirichlet(np.ones(len(problem.classes)), 3)
    add_worths(program, more)
    again = linear_bound(program, "highs")
    steps = program.linear.solverModel.getInfo().simplex_iteration_count
    fresh = formulate(problem, replace(ask, worths=more))
    assert again == pytest.approx(linear_bound(fresh, "highs"), rel=1e-9)
    assert again >= first - 1e-9
    assert steps < fresh.linear.solverModel.getInfo().simplex_iteration_count
    assert linear_bound(program, "highs") == pytest.approx(again, rel=1e-9)
    assert program.linear.solverModel.getInfo().simplex_iteration_count == 0


def test_quick_columns_without_spare_nodes_are_near_the_cheapest() -> None:
    """Spot replicas of which half may go make small losses, which are looked at where no node may fail too."""
    ratios = []
    for seed in range(4):
        parts, dual = prices(day(seed, spare=0), seed)
        _, exact = parts.priced(dual, 1e-6, Deadline.of(60.0))
        best = {n: some[0][0] for n, some in parts.ranked(exact, dual).items()}
        quick = {n: some[0][0] for n, some in parts.ranked(cheap_columns(parts, dual), dual).items()}
        ratios += [quick[n] / usd for n, usd in best.items()]
    assert min(ratios) >= 1.0 - 1e-5
    assert np.mean(ratios) <= 1.03
