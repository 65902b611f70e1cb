"""Chances of several bounds together, draws that estimates share, and the odds of the best candidate of a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from perfmodel.estimates import CAUSES, Estimates, Place, chances, drawn, joint_chance, overall
from perfmodel.workload import Objective, Slo
from search.output.plan_sentences import odds_note
from search.planning import Plan, plan
from search.scenario import load_scenario

MODEL = pm.model("meta-llama/Llama-3.1-8B")
FIGURES = [
    ("ttft", "p90"),
    ("tpot", "mean"),
    ("tpot", "p99"),
    ("e2e", "p99"),
    ("throughput", "mean"),
    ("power", "mean"),
]
SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 1000
output_tokens = 200
request_rate_rps = 6
[slo]
ttft_ms_p90 = 200
tpot_ms = 14
[hardware]
devices = ["h100-sxm", "a100-sxm-80gb"]
usd_per_hour = { h100-sxm = 3.0, a100-sxm-80gb = 1.6 }
[search]
tp = [1, 2]
weight = ["bf16"]
"""


@pytest.fixture(scope="module")
def found() -> Estimates:
    shelf = [hwdb.device(name) for name in ("h100-sxm", "a100-sxm-80gb")]
    layouts = pm.deployments(shelf, device=[0, 0, 1], tp=[1, 2, 1])
    return pm.estimate(MODEL, pm.Workload.from_lengths(1024, 256, rate=6.0), layouts)


@pytest.fixture(scope="module")
def places() -> list[Place]:
    return [Place(d, "vllm", f"{d} {n}") for d, n in (("h100-sxm", 1), ("h100-sxm", 2), ("a100-sxm-80gb", 1))]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = Path(tmp_path_factory.mktemp("odds")) / "odds.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return plan(load_scenario(path))


def bounds(*factors: float) -> list[tuple[str, str, float]]:
    return [(metric, statistic, f) for (metric, statistic), f in zip(FIGURES, factors, strict=False)]


@pytest.mark.parametrize("seed", range(20))
def test_the_joint_chance_is_that_of_common_draws(found: Estimates, places: list[Place], seed: int) -> None:
    """Two to four bounds at random: within what 2,500 draws scatter, and between the bounds of any joint chance."""
    random = np.random.default_rng(seed)
    chosen = random.choice(4, random.integers(2, 5), replace=False)
    figures = [FIGURES[n] for n in chosen]
    middle = {f: float(overall(found, *f)[0]) for f in figures}
    slo = Slo(tuple(Objective(m, s, middle[m, s] * random.uniform(0.7, 2.0)) for m, s in figures))
    joint, alone = joint_chance(found, slo), chances(found, slo)
    assert (joint <= alone.min(axis=0) + 1e-12).all()
    assert (joint >= np.maximum(alone.sum(axis=0) - len(alone) + 1, 0) - 1e-12).all()
    errors = drawn(found, figures, places).errors
    kept = np.all(
        [
            np.log(overall(found, o.metric, o.statistic))[:, None] + errors[o.metric, o.statistic] <= np.log(o.limit)
            for o in slo.objectives
        ],
        axis=0,
    )
    assert joint == pytest.approx(kept.mean(axis=1), abs=0.05)


def test_one_bound_has_its_own_chance_and_none_is_certain(found: Estimates) -> None:
    slo = Slo((Objective("ttft", "p90", 0.1),))
    assert joint_chance(found, slo) == pytest.approx(chances(found, slo)[0])
    assert (joint_chance(found, Slo(())) == 1.0).all()


@pytest.mark.parametrize(("metric", "statistic"), FIGURES)
def test_draws_are_as_wide_as_the_range(found: Estimates, places: list[Place], metric: str, statistic: str) -> None:
    errors = drawn(found, [(metric, statistic)], places).errors[metric, statistic]
    inside = np.abs(errors) <= found.half_width(metric, statistic)[:, None]
    assert inside.mean(axis=1) == pytest.approx(0.8, abs=0.03)


def test_layouts_of_one_device_err_together_more_than_those_of_two(found: Estimates, places: list[Place]) -> None:
    errors = drawn(found, [("tpot", "mean")], places).errors["tpot", "mean"]
    related = np.corrcoef(errors)
    assert related[0, 1] > 0.2
    assert related[0, 1] > related[0, 2] + 0.15


def test_draws_do_not_depend_on_who_else_is_asked(found: Estimates, places: list[Place]) -> None:
    alone = drawn(found.take([2]), [("ttft", "p90")], places[2:]).errors["ttft", "p90"][0]
    assert alone == pytest.approx(drawn(found, FIGURES, places).errors["ttft", "p90"][2])


def test_a_plan_gives_the_odds_of_its_winner_against_every_row(planned: Plan) -> None:
    rows = planned.rows(10, 2)
    best, *others = rows
    assert np.isnan(best["best_beats_chance"])
    assert best["odds_hang_on"] == ""
    assert len(others) >= 2
    for row in others:
        assert 0.0 <= row["best_beats_chance"] <= 1.0
        if 0.05 < row["best_beats_chance"] < 0.95:
            assert "%" in row["odds_hang_on"]
    note = odds_note(rows)[0]
    assert f"in {100 * rows[1]['best_beats_chance']:.0f} of 100 draws" in note
    assert odds_note(rows[:1]) == []


def test_odds_are_those_of_the_chances_where_cost_decides(planned: Plan) -> None:
    """The winner is cheaper: it wins where it keeps the SLOs, loses where only the other does, and ties with cost."""
    rows = planned.rows(10)
    for row in rows[1:]:
        most = rows[0]["slo_chance"] + (1.0 - row["slo_chance"])
        assert rows[0]["slo_chance"] - 0.03 <= row["best_beats_chance"] <= min(most, 1.0) + 0.03


def test_the_odds_of_a_bound_that_all_keep_are_those_of_cost(planned: Plan) -> None:
    loose = replace(planned.scenario, slo=Slo((Objective("ttft", "mean", 100.0),)))
    rows = plan(loose).rows(5)
    assert all(row["best_beats_chance"] in (0.5, 1.0) for row in rows[1:])
    assert all(row["odds_hang_on"] == "" for row in rows[1:])


def test_causes_are_named_in_words() -> None:
    from search.planning.ranking.odds import _WORDS

    assert set(_WORDS) == set(CAUSES)
