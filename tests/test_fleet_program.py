"""The fleet program against a published example, brute force, and its own promises."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from scipy.optimize import linprog

from hwdb import InputError
from search import FleetInfeasible, FleetProblem, Inventory, Option, fleet_plan


def melange() -> FleetProblem:
    """The example input of Melange (arXiv:2404.14527): four buckets, 30 requests/s, A10G and A100."""
    return FleetProblem(
        options=(Option("A10G", "a10g", 1, 1.01, 150.0), Option("A100-80GB", "a100-sxm-80gb", 1, 3.67, 400.0)),
        classes=("short-short", "short-long", "long-short", "long-long"),
        rate=30.0 * np.array([[0.2, 0.1, 0.5, 0.2]]),
        throughput=np.array([[2.0, 1.0, 5.0, 2.0], [20.0, 20.0, 40.0, 20.0]]),
    )


def melange_binary_optimum(problem: FleetProblem) -> float:
    """Least cost when each class goes to one option whole, by enumeration (slice factor 1)."""
    best = np.inf
    price = np.array([o.usd_per_hour for o in problem.options])
    for assignment in product(range(len(problem.options)), repeat=len(problem.classes)):
        load = np.zeros(len(problem.options))
        for c, o in enumerate(assignment):
            load[o] += problem.rate[0, c] / problem.throughput[o, c]
        best = min(best, float(price @ np.ceil(load - 1e-9)))
    return best


def can_serve(problem: FleetProblem, replicas: np.ndarray) -> bool:
    """Whether `replicas` (O,) carry the demand of period 0: a linear program over shares, by SciPy."""
    options, classes = problem.throughput.shape
    speed = np.nan_to_num(problem.throughput)
    serves = speed > 0
    cost = np.where(serves, problem.rate[0] / np.where(serves, speed, 1.0), 0.0)
    load = np.zeros((options, options * classes))
    served = np.zeros((classes, options * classes))
    for o, c in product(range(options), range(classes)):
        load[o, o * classes + c] = cost[o, c]
        served[c, o * classes + c] = 1.0
    bounds = [(0.0, 1.0 if serves[o, c] else 0.0) for o, c in product(range(options), range(classes))]
    answer = linprog(np.zeros(options * classes), load, replicas + 1e-9, served, np.ones(classes), bounds)
    return bool(answer.status == 0)


def within_limits(problem: FleetProblem, replicas: np.ndarray) -> bool:
    inventory, options = problem.inventory, problem.options
    for device, stock in inventory.stock.items():
        if sum(n * o.devices for n, o in zip(replicas, options, strict=True) if o.device == device) > stock:
            return False
    return (
        float(replicas @ np.array([o.power for o in options])) <= inventory.power
        and float(replicas @ np.array([o.usd_per_hour for o in options])) <= inventory.budget
    )


def losses(problem: FleetProblem) -> list[np.ndarray]:
    size = len(problem.options)
    out = [np.zeros(size)]
    if problem.inventory.spare_nodes:
        for lost in combinations_with_replacement(range(size), problem.inventory.spare_nodes):
            out.append(np.bincount(lost, minlength=size) * np.array([o.replicas_per_node for o in problem.options]))
    return out


def brute_force(problem: FleetProblem, most: int) -> float:
    """Least cost over all replica vectors up to `most` each; infinite when none serves."""
    price = np.array([o.usd_per_hour for o in problem.options])
    vectors = sorted(product(range(most + 1), repeat=len(price)), key=lambda v: float(price @ np.array(v)))
    for vector in vectors:
        replicas = np.array(vector, dtype=float)
        if within_limits(problem, replicas) and all(
            can_serve(problem, np.maximum(replicas - lost, 0.0)) for lost in losses(problem)
        ):
            return float(price @ replicas)
    return float("inf")


def random_problem(seed: int) -> FleetProblem:
    rng = np.random.default_rng(seed)
    options = tuple(
        Option(
            f"o{i}",
            f"d{i}",
            int(rng.integers(1, 4)),
            float(rng.uniform(1, 10)),
            float(rng.uniform(200, 3000)),
            replicas_per_node=float(rng.integers(1, 3)),
        )
        for i in range(3)
    )
    throughput = rng.uniform(0.5, 4.0, (3, 3))
    throughput[rng.random((3, 3)) < 0.2] = np.nan
    throughput[0] = np.nan_to_num(throughput[0], nan=1.0)
    limits = Inventory(
        stock={"d0": float(rng.integers(2, 13)), "d1": float(rng.integers(1, 9))},
        power=float(rng.uniform(4e3, 2e4)),
        spare_nodes=int(seed % 3 == 0),
    )
    return FleetProblem(options, ("a", "b", "c"), rng.uniform(0.2, 2.5, (1, 3)), throughput, inventory=limits)


@pytest.mark.parametrize("solver", ["highs", "cbc"])
def test_melange_example_is_met_or_bettered(solver: str) -> None:
    """One A100 and one A10G carry it exactly: 1.125 A100s of load, of which the cheapest eighth moves to one A10G."""
    problem = melange()
    plan = fleet_plan(problem, solver=solver)
    assert melange_binary_optimum(problem) == pytest.approx(6.70)
    assert plan.usd_per_hour == pytest.approx(3.67 + 1.01)
    assert plan.usd_per_hour == pytest.approx(brute_force(problem, 12))
    assert plan.gap <= 1e-5
    assert plan.replicas[:, 0].tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(10))
def test_random_instances_agree_with_brute_force(seed: int) -> None:
    problem = random_problem(seed)
    expected = brute_force(problem, 9)
    if np.isinf(expected):
        with pytest.raises(FleetInfeasible):
            fleet_plan(problem)
        return
    plan = fleet_plan(problem)
    assert plan.usd_per_hour == pytest.approx(expected, rel=1e-6)
    assert plan.gap <= 1e-5


def test_random_instances_cover_both_outcomes_and_redundancy() -> None:
    """The comparison above would prove little if all ten were infeasible, or none had to survive a failure."""
    outcomes = [np.isfinite(brute_force(random_problem(s), 9)) for s in range(10)]
    assert 4 <= sum(outcomes) <= 9
    assert any(ok and random_problem(s).inventory.spare_nodes for s, ok in enumerate(outcomes))


def test_shares_sum_to_one_and_no_replica_is_overloaded() -> None:
    plan = fleet_plan(random_problem(1)) if np.isfinite(brute_force(random_problem(1), 9)) else fleet_plan(melange())
    assert plan.shares.sum(0) == pytest.approx(1.0)
    assert np.nanmax(plan.utilisation()) <= 1 + 1e-6
    assert not plan.shares[~plan.problem.serves()].any()


def test_a_binding_limit_reports_the_saving_of_lifting_it() -> None:
    free = fleet_plan(melange())
    stock = Inventory(stock={"a100-sxm-80gb": 0})
    plan = fleet_plan(replace(melange(), inventory=stock))
    assert plan.devices == {"a10g": 12.0}
    assert [b.name for b in plan.binding] == ["stock[a100-sxm-80gb]"]
    assert plan.binding[0].saving == pytest.approx(12 * 1.01 - free.usd_per_hour)


def test_a_limit_that_changes_nothing_does_not_bind() -> None:
    exact = Inventory(stock={"a10g": 1, "a100-sxm-80gb": 1}, power=550.0)
    assert fleet_plan(replace(melange(), inventory=exact)).binding == ()


def test_infeasible_names_each_limit_alone_and_by_how_much() -> None:
    tight = Inventory(stock={"a10g": 2, "a100-sxm-80gb": 0})
    with pytest.raises(FleetInfeasible) as caught:
        fleet_plan(replace(melange(), inventory=tight))
    told = [r.limits for r in caught.value.relaxations]
    assert {"stock[a10g]": (2.0, 12.0)} in told
    assert {"stock[a100-sxm-80gb]": (0.0, 1.0)} in told
    assert "raise the stock of a10g from 2 to 12 devices" in str(caught.value)
    demand = next(r["demand"] for r in told if "demand" in r)
    assert demand[1] == pytest.approx(2 / 12, rel=1e-4)  # two A10Gs carry two twelfths of the load


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Inventory(power=500.0), "raise the power limit from 0.5 to 0.55 kW"),
        (Inventory(budget=4.0), "raise the budget from 4 to 4.68 USD/h"),
        (Inventory(nodes=1.0), "raise the number of nodes from 1 to 2"),
        (Inventory(stock={"a10g": 1, "a100-sxm-80gb": 0}, power=100.0), " and "),
    ],
)
def test_every_kind_of_limit_is_named(limits: Inventory, words: str) -> None:
    with pytest.raises(FleetInfeasible, match=r"(?s)no fleet meets") as caught:
        fleet_plan(replace(melange(), inventory=limits))
    assert words in str(caught.value)


def test_relaxing_as_told_is_enough() -> None:
    for seed in range(10):
        problem = random_problem(seed)
        try:
            fleet_plan(problem)
        except FleetInfeasible as problem_said:
            for relaxation in problem_said.relaxations:
                assert fleet_plan(_relaxed(problem, relaxation.limits)).usd_per_hour > 0


def _relaxed(problem: FleetProblem, limits) -> FleetProblem:  # type: ignore[no-untyped-def]
    stock, inventory = dict(problem.inventory.stock), problem.inventory
    for name, (_, needed) in limits.items():
        if name == "demand":
            problem = replace(problem, rate=problem.rate * needed * (1 - 1e-6))
        elif name.startswith("stock["):
            stock[name[6:-1]] = needed
        else:
            inventory = replace(inventory, **{name: needed * (1 + 1e-9)})
    return replace(problem, inventory=replace(inventory, stock=stock))


def test_a_class_that_no_option_serves_is_named() -> None:
    problem = melange()
    dead = problem.throughput.copy()
    dead[:, 3] = np.nan
    with pytest.raises(FleetInfeasible, match="'long-long'"):
        fleet_plan(replace(problem, throughput=dead))


def test_losing_a_node_costs_what_it_must() -> None:
    """One option, load 1.5, two replicas a node: 2 replicas serve, 4 are needed so that any node may fail."""
    problem = FleetProblem(
        (Option("o", "d", 4, 10.0, replicas_per_node=2),), ("c",), np.array([[3.0]]), np.array([[2.0]])
    )
    assert fleet_plan(problem).replicas.tolist() == [[2]]
    assert fleet_plan(replace(problem, inventory=Inventory(spare_nodes=1))).replicas.tolist() == [[4]]
    assert fleet_plan(replace(problem, inventory=Inventory(spare_nodes=2))).replicas.tolist() == [[6]]


def test_devices_paid_by_the_node_cost_whole_nodes_and_replicas_share_them() -> None:
    """Three half-node replicas take two nodes; a cheaper option on the same device shares the second node."""
    options = (Option("half", "d", 4, 5.0, nodes=0.5), Option("quarter", "d", 2, 2.5, nodes=0.25))
    problem = FleetProblem(
        options, ("c",), np.array([[2.6]]), np.array([[1.0], [0.2]]), inventory=Inventory(node_usd_per_hour={"d": 10.0})
    )
    plan = fleet_plan(problem)
    assert plan.usd_per_hour == pytest.approx(20.0)
    assert sum(r["usd_per_hour"] for r in plan.rows()) == pytest.approx(20.0)
    with pytest.raises(FleetInfeasible, match="raise the budget from 15 to 20 USD/h"):
        fleet_plan(replace(problem, inventory=replace(problem.inventory, budget=15.0)))
    with pytest.raises(FleetInfeasible, match="raise the number of nodes from 1 to 2"):
        fleet_plan(replace(problem, inventory=replace(problem.inventory, nodes=1.0)))


def test_periods_stand_at_the_peak_or_follow_demand() -> None:
    problem = FleetProblem(
        (Option("o", "d", 1, 2.0),), ("c",), np.array([[1.0], [5.0]]), np.array([[1.0]]), hours=np.array([18.0, 6.0])
    )
    assert fleet_plan(problem).usd_per_hour == pytest.approx(10.0)
    follows = fleet_plan(replace(problem, elastic=True))
    assert follows.replicas.tolist() == [[1, 5]]
    assert follows.usd_per_hour == pytest.approx((18 * 2 + 6 * 10) / 24)


def test_several_models_share_one_stock() -> None:
    """Two models, one device type: each option serves its own model's class, the stock counts both."""
    options = (Option("small", "d", 1, 1.0), Option("large", "d", 4, 4.0))
    throughput = np.array([[2.0, 0.0], [0.0, 1.0]])
    problem = FleetProblem(options, ("small/chat", "large/chat"), np.array([[3.0, 1.5]]), throughput)
    assert fleet_plan(problem).devices == {"d": 10.0}
    with pytest.raises(FleetInfeasible, match="from 9 to 10 devices"):
        fleet_plan(replace(problem, inventory=Inventory(stock={"d": 9})))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"throughput": np.ones((3, 4))}, r"throughput is \(3, 4\)"),
        ({"rate": np.ones((2, 4))}, r"rate is \(2, 4\)"),
        ({"rate": np.array([[1.0, np.nan, 1.0, 1.0]])}, "every rate must be"),
        ({"hours": np.zeros(1)}, "longer than 0 hours"),
        ({"options": (Option("x", "d", 1, float("nan")), Option("y", "d", 1, 1.0))}, "no price for x"),
        (
            {"options": (Option("x", "d", 1, 1.0), Option("y", "d", 1, 1.0)), "inventory": Inventory(power=9.0)},
            "power of .* is not known",
        ),
    ],
)
def test_contradictory_input_is_refused(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fleet_plan(replace(melange(), **change))


def test_rows_are_flat_and_add_up() -> None:
    plan = fleet_plan(melange())
    assert sum(r["usd_per_hour"] for r in plan.rows()) == pytest.approx(plan.usd_per_hour)
    assert sum(r["request_rate_rps"] for r in plan.share_rows()) == pytest.approx(30.0)
    assert plan.binding_rows() == []
    assert all(not isinstance(v, dict | list) for r in [*plan.rows(), *plan.share_rows()] for v in r.values())
