"""Why no fleet is possible: the changes that are named, against brute force over all fleets of small instances."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import cli
from search import FleetInfeasible, FleetProblem, Inventory, Option, fleet_plan
from search.fleet import World
from search.fleet.integer_program.relax import Relaxation, relaxation_rows
from search.scenario import Supply
from tests.test_fleet_brute_force import EPS, base, each_option, judged, with_inventory
from tests.test_fleet_brute_force import instance as drawn

#: Instances of each kind; most replicas of an option that are enumerated, by the number of periods.
EACH, MOST = 14, {1: 12, 2: 5, 3: 5}
#: By how much a solver may exceed a limit.
SOLVER = 2e-6
INF = float("inf")


@dataclass(frozen=True)
class Knob:
    """A constraint of the test's own reading: now its value, at a problem with another one, step the next that differs
    (None: any value between 0 and now may count)."""

    now: float
    at: Callable[[float], FleetProblem]
    values: tuple[float, ...] = ()


def feasible(problem: FleetProblem, beyond: float = EPS) -> bool:
    """Whether a fleet exists. beyond: by how much it may exceed a limit."""
    spot = any(s.kind == "spot" for s in problem.inventory.supplies)
    fleets = judged(problem, 6 if spot else MOST[problem.periods])
    good = fleets.fits & (fleets.served > 0) & (fleets.worlds_missed <= problem.may_miss)
    for bound, used in fleets.usage.values():
        good &= used <= bound + beyond
    return bool(good.any())


def supplies(problem: FleetProblem, field: str, name: str, value: float) -> FleetProblem:
    changed = tuple(
        replace(s, **{field: value}) if s.name == name else s  # type: ignore[arg-type]
        for s in problem.inventory.supplies
    )
    return with_inventory(problem, supplies=changed)


def capped(problem: FleetProblem, field: str, hours: float) -> FleetProblem:
    return each_option(problem, **{field: [min(getattr(o, field), hours) for o in problem.options]})


def knobs(problem: FleetProblem) -> dict[str, Knob]:
    """What may be eased beside the limits, by the name that a message gives it."""
    inventory, out = problem.inventory, dict[str, Knob]()
    for s in inventory.supplies:
        if s.kind == "spot" and s.lost_share:
            name = s.name
            out[f"lost_share[{name}]"] = Knob(
                s.lost_share, lambda v, name=name: supplies(problem, "lost_share", name, v)
            )
        for field, told in (("least", "least"), ("least_spend", "least_usd_per_hour")):
            now = getattr(s, field)
            if now:
                whole = tuple(float(n) for n in range(int(now) - 1, -1, -1)) if field == "least" else ()
                at = lambda v, name=s.name, field=field: supplies(problem, field, name, v)  # noqa: E731
                out[f"{told}[{s.name}]"] = Knob(now, at, whole)
    for w in problem.worlds:
        if w.must and np.isfinite(w.output_factor):

            def shorter(v: float, w: World = w) -> FleetProblem:
                return replace(problem, worlds=(World(w.name, problem.throughput / v, True, v),))

            out[f"output_factor[{w.name}]"] = Knob(w.output_factor - 1.0, lambda v: shorter(v + 1.0))
    if problem.elastic and problem.periods > 1:
        for name, field, scale in (("start", "start_up_h", 3600.0), ("stay", "min_stay_h", 1.0)):
            now = max(getattr(o, field) for o in problem.options)
            if now:
                at = lambda v, field=field, scale=scale: capped(problem, field, v / scale)  # noqa: E731
                out[name] = Knob(now * scale, at)
        if any(o.fixed for o in problem.options):
            out["fixed"] = Knob(1, lambda _: each_option(problem, fixed=[False, False]), (0.0,))
    elif problem.periods > 1:
        out["elastic"] = Knob(1, lambda _: replace(problem, elastic=True), (0.0,))
    return out


KINDS = (
    "spot",
    "start",
    "start_money",
    "stay",
    "fixed",
    "same_all_day",
    "abused",
    "promise",
    "promised_money",
    "one_peak",
)


def instance(kind: str, seed: int) -> FleetProblem:
    """A random instance with tight limits, most of which no fleet satisfies."""
    rng = np.random.default_rng([41, KINDS.index(kind), seed])
    one, day = base(rng, 1), replace(base(rng, 2, 2), elastic=True)
    long = replace(base(rng, 3, 1), elastic=True)
    tight = {f"d{i}": float(rng.integers(0, 4)) for i in range(2)}
    rented = tuple(Supply(f"d{i}", "on_demand", float(rng.uniform(1, 4)), most=tight[f"d{i}"]) for i in range(2))
    spot = Supply("d0", "spot", 0.4, most=4.0, lost_share=float(rng.choice([0.6, 1.0])))
    lease = Supply("d0", "reserved", float(rng.uniform(1, 2)), most=5.0, least=float(rng.integers(1, 5)))
    swing = replace(day, rate=day.rate * np.array([[1.6, 0.2], [0.2, 1.6]]))
    if kind == "spot":
        return with_inventory(one, supplies=(*rented, spot))
    if kind == "start":
        own = replace(swing, throughput=np.diag(rng.uniform(0.6, 1.2, 2)))
        late = each_option(own, start_up_h=[float(rng.uniform(0.5, 3)), 0.5])
        return with_inventory(late, power=peak_of(own) * float(rng.uniform(1.0, 1.1)))
    if kind == "start_money":
        late = each_option(swing, start_up_h=[float(rng.uniform(1, 3)), 1.5])
        cheap = fleet_plan(each_option(swing, start_up_h=[0.0, 0.0])).usd_per_hour
        return with_inventory(late, mean_budget=cheap * float(rng.uniform(1.0, 1.05)))
    if kind == "stay":
        stays = each_option(long, min_stay_h=[float(rng.uniform(3, 18)), float(rng.uniform(3, 18))])
        stays = replace(stays, rate=stays.rate.mean() * np.array([[2.4], [0.3], [1.2]]))
        cheap = fleet_plan(each_option(stays, min_stay_h=[0.0, 0.0])).usd_per_hour
        return with_inventory(stays, mean_budget=cheap * float(rng.uniform(1.0, 1.1)))
    if kind == "fixed":
        cheap = fleet_plan(swing).usd_per_hour
        return with_inventory(each_option(swing, fixed=[True, True]), mean_budget=cheap * float(rng.uniform(0.95, 1.3)))
    if kind == "same_all_day":
        cheap = fleet_plan(swing).usd_per_hour
        return with_inventory(replace(swing, elastic=False), mean_budget=cheap * float(rng.uniform(0.95, 1.3)))
    if kind == "one_peak":
        peak = replace(day, rate=day.rate * np.array([[1.6], [0.2]]), hours=np.array([6.0, 18.0]))
        cheap = fleet_plan(peak).usd_per_hour
        return with_inventory(replace(peak, elastic=False), mean_budget=cheap * float(rng.uniform(0.95, 1.3)))
    if kind == "abused":
        factor = float(rng.uniform(1.5, 4))
        return with_inventory(
            replace(one, worlds=(World("abuse", one.throughput / factor, True, factor),)),
            power=float(rng.uniform(500, 2500)),
        )
    if kind == "promise":
        return with_inventory(one, supplies=(lease, rented[1]), budget=float(rng.uniform(2, 7)))
    spending = replace(lease, least=0.0, least_spend=float(rng.uniform(2, 9)))
    return with_inventory(day, supplies=(spending, rented[1]), mean_budget=float(rng.uniform(3, 9)))


def peak_of(problem: FleetProblem) -> float:
    """Watts of the fullest period of the best fleet."""
    return float((np.array([o.power for o in problem.options]) @ fleet_plan(problem).replicas).max())


def told_of(problem: FleetProblem) -> tuple[Relaxation, ...]:
    with pytest.raises(FleetInfeasible) as told:
        fleet_plan(problem)
    return told.value.relaxations


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_limit_is_eased_as_little_as_a_fleet_needs(kind: str) -> None:
    """At the value that is named a fleet exists, a little above it none does, and no constraint goes unnamed."""
    named = 0
    for seed in range(EACH):
        problem = instance(kind, seed)
        if feasible(problem):
            fleet_plan(problem)  # does not raise
            continue
        said = {n: c for r in told_of(problem) if len(r.limits) == 1 for n, c in r.limits.items()}
        for name, knob in knobs(problem).items():
            shift = 1.0 if name.startswith("output_factor") else 0.0
            if not feasible(knob.at(0.0)):
                assert name not in said, (kind, seed, name)
                continue
            assert name in said, (kind, seed, name, said)
            before, after = said[name]
            named += 1
            assert before == pytest.approx(knob.now + shift)
            assert feasible(knob.at(after - shift), SOLVER), (kind, seed, name, after)
            above = min([v for v in knob.values if v > after], default=after - shift + 1.1e-3 * knob.now)
            counted = bool(knob.values) and above not in knob.values
            assert counted or above >= knob.now or not feasible(knob.at(above)), (kind, seed, name, after)
    assert named >= 2, "too few instances ask for the change"


def test_replicas_may_follow_a_day_that_one_period_dominates() -> None:
    """8 replicas all day; or 8 and 1 of them, each in half of the hours, which takes 4.50 USD per hour."""
    option = Option("o", "l4", 1.0, 1.0)
    day = FleetProblem((option,), ("x",), np.array([[0.7], [8.0]]), np.array([[1.0]]), hours=np.array([12.0, 12.0]))
    for budget, known in ((5.0, True), (4.4, False)):
        said = told_of(with_inventory(day, mean_budget=budget))
        assert any(r.limits == {"elastic": (1, 0)} for r in said) == known
    text = "let the replicas follow the periods (elastic = true)"
    assert text in map(str, told_of(with_inventory(day, mean_budget=5.0)))
    fleet_plan(with_inventory(replace(day, elastic=True), mean_budget=5.0))  # does not raise


def test_a_start_up_to_shorten_is_that_of_every_option() -> None:
    """Two options that start as slowly: shorter starts of one alone do not help, and the message says so."""
    slow = tuple(Option(name, name, 1.0, 1.0, start_up_h=1.0) for name in ("l4", "l40s"))
    day = FleetProblem(
        slow,
        ("x", "y"),
        np.array([[4.0, 1.0], [1.0, 4.0]]),
        np.eye(2),
        hours=np.array([12.0, 12.0]),
        inventory=Inventory(mean_budget=5.2),
        elastic=True,
    )
    told = {n: (r, c) for r in told_of(day) for n, c in r.limits.items()}
    relaxed, (_, after) = told["start"]
    assert str(relaxed).startswith("lower start_up_s of every option from 3,600 to ")
    hours = after / 3600.0
    fleet_plan(replace(day, options=tuple(replace(o, start_up_h=hours) for o in slow)))  # does not raise
    for i in range(2):
        one = tuple(replace(o, start_up_h=hours) if j == i else o for j, o in enumerate(slow))
        with pytest.raises(FleetInfeasible):
            fleet_plan(replace(day, options=one))


def test_changes_are_named_together_where_none_alone_is_enough() -> None:
    """Stock and two spare nodes: neither alone gives a fleet; and two cases that no stock survives."""
    one = Option("o", "l4", 1.0, 1.0)
    short = FleetProblem(
        (one, replace(one, name="p", device="l40s")),
        ("x", "y"),
        np.array([[3.0, 1.0]]),
        np.array([[1.0, 0.0], [0.0, 1.0]]),
        inventory=Inventory(stock={"l4": 2, "l40s": 0}),
    )
    (both,) = told_of(short)
    assert both.limits == {"stock[l4]": (2, 3), "stock[l40s]": (0, 1)}
    assert str(both) == "raise the stock of l40s from 0 to 1 devices and raise the stock of l4 from 2 to 3 devices"
    dead = tuple(World(n, np.array([[0.0], [0.0]]), True) for n in ("first", "second"))
    alone = replace(short, classes=("x",), rate=np.array([[2.0]]), throughput=short.throughput[:, :1], worlds=dead)
    (together,) = told_of(alone)
    assert together.limits == {"case[first]": (1, 0), "case[second]": (1, 0)}
    assert fleet_plan(replace(alone, worlds=())).replicas[0, 0] == 2
    (three,) = told_of(replace(alone, rate=np.array([[3.0]])))
    assert three.limits == {"case[first]": (1, 0), "case[second]": (1, 0), "stock[l4]": (2, 3)}


@pytest.mark.parametrize("seed", range(20))
def test_a_value_in_a_message_is_enough_after_rounding(seed: int) -> None:
    """Limits of drawn sizes: raised to the number in the message, as a scenario would state it, a fleet exists."""
    rng = np.random.default_rng(seed)
    option = Option("o", "l4", 1.0, float(rng.uniform(1, 9)), float(rng.uniform(100, 999)))
    problem = FleetProblem((option,), ("x",), np.array([[float(rng.uniform(5, 900))]]), np.array([[0.7]]))
    whole = fleet_plan(problem).replicas[0, 0]
    limited = with_inventory(problem, power=0.6 * whole * option.power, mean_budget=INF)
    (power, less) = (str(r) for r in told_of(limited))
    kilowatts = float(power.removesuffix(" kW").rpartition(" ")[2].replace(",", ""))
    assert whole * option.power / 1e3 <= kilowatts * (1 + 1e-12) <= whole * option.power / 1e3 * (1 + 2e-5)
    assert fleet_plan(with_inventory(problem, power=kilowatts * 1e3)).replicas[0, 0] == whole
    percent = float(less.removesuffix(" % of what is asked").rpartition(" ")[2])
    fleet_plan(replace(limited, rate=limited.rate * percent / 100.0))
    monthly = with_inventory(problem, mean_budget=0.6 * whole * option.usd_per_hour)
    usd = float(str(told_of(monthly)[0]).removesuffix(" USD per month").rpartition(" ")[2].replace(",", ""))
    assert fleet_plan(with_inventory(problem, mean_budget=usd / 730.0)).replicas[0, 0] == whole


@pytest.mark.parametrize("kind", ["budget", "by_node", "two_spare", "start", "fixed", "together_spare", "region_nodes"])
def test_fleets_of_equal_cost_are_decided_by_devices_then_by_watts(kind: str) -> None:
    """Whole prices and throughputs in halves, so that many fleets cost the same: the least devices, then watts, win."""
    tied = 0
    for seed in (1003, 1005, 1007, 1009, 1011):
        rng = np.random.default_rng(seed)
        problem, most = drawn(kind, seed)
        alike = tuple(
            replace(o, usd_per_hour=float(rng.integers(1, 4)), power=float(rng.choice([100.0, 200.0, 300.0])))
            for o in problem.options
        )
        problem = replace(problem, options=alike, throughput=np.round(np.nan_to_num(problem.throughput) * 2) / 2)
        fleets = judged(problem, most)
        best = fleets.fits & (fleets.served > 0)
        for bound, used in fleets.usage.values():
            best &= used <= bound + EPS
        if not best.any():
            continue
        found = fleet_plan(problem)
        at = int(np.nonzero((fleets.replicas == found.replicas).all(axis=(1, 2)))[0][0])
        best &= fleets.cost <= fleets.cost[best].min() + 1e-6
        tied += int(best.sum() > 1)
        for quantity in ("devices", "watts"):
            amount = fleets.usage[quantity][1]
            assert amount[at] == pytest.approx(amount[best].min(), rel=1e-6), (kind, seed, quantity)
            best &= amount <= amount[best].min() * (1 + 1e-6)
    assert tied


def test_rows_of_relaxations_have_the_values_of_the_message() -> None:
    """Two limits that only help together are two rows of one number, in the units of a scenario."""
    both = Relaxation({"power": (1000.0, 3527.41), "nodes": (1.0, 2.0)})
    rows = relaxation_rows(FleetInfeasible("no fleet", (both, Relaxation({"demand": (1.0, 0.25)}))))
    assert [(r["relaxation"], r["limit"], r["allowed"], r["unit"]) for r in rows] == [
        (1, "power", 1.0, "kW"),
        (1, "nodes", 1.0, ""),
        (2, "demand", 1.0, ""),
    ]
    assert [r["enough"] for r in rows] == pytest.approx([3.52741, 2.0, 0.25])
    assert rows[0]["what_if"] == rows[1]["what_if"] == str(both)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_data_forms_of_a_fleet_that_is_not_possible_have_what_to_change(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[1] / "examples" / "melange-fleet.toml").read_text(encoding="utf-8")
    (tmp_path / "s.toml").write_text(f"{text}\n[limits]\nusd_per_hour = 1\n", encoding="utf-8")
    assert cli.main(["fleet", str(tmp_path / "s.toml"), f"--{form}"]) == 1
    out = capsys.readouterr().out
    rows = json.loads(out) if form == "json" else list(csv.DictReader(io.StringIO(out)))
    assert rows[0]["limit"] == "budget"
    assert float(rows[0]["enough"]) > float(rows[0]["allowed"]) == 1
