"""`tune` finds what only the simulator knows: settings reach the simulator, SLOs and limits bind, commands say so."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli
from hwdb import InputError
from perfmodel import simulator
from perfmodel.costs import Roofline
from perfmodel.workload import Objective, Slo
from search.planning import Plan, plan, verify
from search.scenario import load_scenario
from search.studies import Budget, Storage, Tuned, read_axis, tune
from search.studies.objectives import Aims, aims_of
from search.studies.pruning import standing, survivors

SMALL = str(Path(__file__).resolve().parents[1] / "examples" / "small-4090.toml")
SEQS, BUDGETS = (2, 4, 8, 32), (256, 2048)
VARY = [f"max_num_seqs={','.join(map(str, SEQS))}", f"max_num_batched_tokens={','.join(map(str, BUDGETS))}"]
FIXED = ["more_replicas=0", "router=join_shortest_queue"]
AXES = [read_axis(text) for text in (*VARY, *FIXED)]
REQUESTS = 100


@pytest.fixture(scope="module")
def small() -> Plan:
    """The plan of a small scenario, at roofline costs: their step tables are made in a tenth of the time."""
    return plan(load_scenario(SMALL), costs=Roofline())


@pytest.fixture(scope="module")
def everything(small: Plan) -> Tuned:
    """Every combination, replayed in full."""
    budget = Budget(trials=100, requests=REQUESTS, sampler="exhaustive", short_first=False)
    return tune(small, objectives=["ttft_ms_p99", "output_tok_s"], vary=AXES, budget=budget)


def test_arguments_are_taken_as_the_command_line_has_them(small: Plan, tmp_path: Path) -> None:
    budget = Budget(trials=2, requests=20, batch=2, short_first=False)
    known = tune(small, objectives=["ttft_ms_p99"], vary=AXES, budget=budget)
    place = str(tmp_path / "s.db")
    found = tune(small, objectives="ttft_ms_p99", vary=(*VARY, *FIXED), budget=budget, storage=place)
    assert found.rows == known.rows
    assert Path(place).exists()


def test_a_sentence_on_the_best_of_one_objective_says_what_the_others_pay() -> None:
    """2 % of TTFT at twice the cost is no gain without its price."""
    found = Tuned(Aims(("usd_per_hour", "ttft_ms_p99"), Slo(())), (AXES[0],), (), (), 0, 0)
    start = {"from_plan": True, "state": "complete", "max_num_seqs": 8, "usd_per_hour": 10.0, "ttft_ms_p99": 500.0}
    dear = {**start, "from_plan": False, "max_num_seqs": 4, "usd_per_hour": 20.0, "ttft_ms_p99": 490.0}
    vars(found).update(rows=[start, dear], front=[start, dear])
    (told,) = found.sentences
    assert told.endswith("with max_num_seqs 4 (planned 8); it takes usd_per_hour 20 in place of 10.")
    vars(found).update(front=[{**dear, "usd_per_hour": 9.0}])
    assert not any("it takes" in text for text in found.sentences)


def test_exhaustive_tries_each_combination_once(everything: Tuned) -> None:
    tried = [(row["max_num_batched_tokens"], row["max_num_seqs"]) for row in everything.rows]
    assert sorted(tried) == sorted(product(BUDGETS, SEQS))
    assert everything.counts["replays"] == everything.counts["complete"] == len(SEQS) * len(BUDGETS)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_figures_are_those_of_the_simulator_with_these_settings(small: Plan, everything: Tuned, at: int) -> None:
    row = everything.rows[at]
    number = verify.finalists(small, 1)[0]
    limits = {name: np.full(1, float(row[name])) for name in ("max_num_seqs", "max_num_batched_tokens")}
    drawn = verify.requests(small, number, verify.Settings(count=REQUESTS))
    target = small.scorer.target
    layout = replace(small.deployment(number), **limits)
    pools = simulator.pools_of(target.model, layout, drawn, engine=target.engine, costs=target.costs)
    figures = simulator.summary(simulator.run(drawn, pools, router="join_shortest_queue"), target.slo)
    for name in ("ttft_ms_p99", "output_tok_s", "ttft_ms", "tpot_ms"):
        assert row[name] == pytest.approx(figures[name], rel=0.02), name


def test_front_is_what_no_other_trial_beats(everything: Tuned) -> None:
    able = [row for row in everything.rows if row["meets_slo"]]
    for row in everything.rows:
        beaten = any(
            other["ttft_ms_p99"] <= row["ttft_ms_p99"]
            and other["output_tok_s"] >= row["output_tok_s"]
            and (other["ttft_ms_p99"], other["output_tok_s"]) != (row["ttft_ms_p99"], row["output_tok_s"])
            for other in able
        )
        assert row["front"] == (row["meets_slo"] and not beaten)
    assert {row["trial"] for row in everything.front} <= {row["trial"] for row in everything.rows if row["front"]}


def test_bounds_of_the_slo_are_constraints(everything: Tuned) -> None:
    limits = {"ttft_ms": 1000.0, "tpot_ms": 40.0}
    for row in everything.rows:
        assert row["meets_slo"] == all(row[name] <= limit for name, limit in limits.items())
    assert {row["meets_slo"] for row in everything.rows} == {True, False}, "some keep the SLO and some do not"


def test_replicas_beyond_the_stock_are_no_answer(small: Plan) -> None:
    axes = [read_axis(text) for text in ("more_replicas=-1,0,1", "max_num_seqs=8", *FIXED[1:])]
    axes.append(read_axis("max_num_batched_tokens=2048"))
    found = tune(small, vary=axes, budget=Budget(sampler="exhaustive", requests=40))
    by_more = {row["more_replicas"]: row for row in found.rows}
    assert "leave none" in by_more[-1]["remark"]
    assert not by_more[1]["meets_slo"], "one device is on hand"
    assert by_more[1]["usd_per_hour"] == pytest.approx(2 * by_more[0]["usd_per_hour"])
    assert by_more[0]["meets_slo"]


def test_tune_begins_with_the_plan_and_never_ends_below_it(small: Plan) -> None:
    found = tune(small, objectives=["ttft_ms_p99"], vary=AXES, budget=Budget(trials=6, batch=3, requests=REQUESTS))
    first, (best,) = found.rows[0], found.front
    planned = verify.pools_of(small, verify.finalists(small, 1)[0])[0]
    assert first["from_plan"]
    assert first["max_num_seqs"] == planned.max_num_seqs[0]
    assert best["ttft_ms_p99"] <= first["ttft_ms_p99"]


def test_a_study_that_was_stopped_ends_as_if_it_had_not_been(small: Plan, tmp_path: Path) -> None:
    place = str(tmp_path / "studies.db")
    budget = Budget(trials=6, batch=3, requests=40)
    whole = tune(small, vary=AXES, budget=budget)
    tune(small, vary=AXES, budget=replace(budget, trials=3), storage=Storage(place))
    rest = tune(small, vary=AXES, budget=budget, storage=Storage(place, resume=True))
    assert rest.rows == whole.rows
    assert rest.replays < whole.replays
    with pytest.raises(InputError, match="begun with sampler tpe, seed 0, batch 3, and not tpe, seed 1"):
        tune(small, vary=AXES, budget=replace(budget, seed=1), storage=Storage(place, resume=True))


def test_thresholds_reach_the_prefix_aware_router() -> None:
    loop = {}
    for name, affinity in {"none": None, "own": simulator.Affinity(0.9, 2.0, 1.1)}.items():
        traffic = simulator.traffic([100] * 4, [10] * 4, arrival=[0.0, 0.1, 0.2, 0.3])
        from perfmodel.simulator.event_replay.initial import opening_loop

        loop[name] = opening_loop(traffic, 4, "prefix_aware", 0, affinity or simulator.Affinity())[0]
    fields = ("min_match_share", "uneven_requests", "uneven_ratio")
    assert [loop["none"][f] for f in fields] == [0.3, 64.0, 1.5]
    assert [loop["own"][f] for f in fields] == [0.9, 2.0, 1.1]
    with pytest.raises(InputError, match="min_match_share is 2"):
        simulator.Affinity(2.0)


def test_standing_is_by_layers_and_then_by_what_is_missed() -> None:
    aims = Aims(("ttft_ms", "output_tok_s"), Slo((Objective("tpot", "mean", 0.05),)))

    def figures(ttft: float, rate: float, tpot: float = 10.0) -> dict[str, float]:
        return {"ttft_ms": ttft, "output_tok_s": rate, "tpot_ms": tpot, "overload": 0.0}

    tried = {0: figures(1, 5), 1: figures(2, 9), 2: figures(3, 8), 3: figures(1, 99, 60), 4: figures(1, 99, 55)}
    assert standing(tried, aims) == {0: 0, 1: 0, 2: 1, 4: 2, 3: 3}
    assert survivors(tried, [2, 3, 4], aims) == {2}
    assert survivors(tried, [1, 2, 3], aims) == {1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_num_sequences=4", "unknown setting"),
        ("router=fastest", "give round_robin or"),
        ("chunked_prefill=1", "give true or false"),
        ("admission_headroom=2", "a share from 0 to 1"),
        ("max_num_seqs=0", "whole numbers"),
        ("max_num_seqs=1.5", "whole numbers"),
        ("max_num_seqs", "is no grid"),
    ],
)
def test_values_that_a_setting_cannot_take_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_axis(text)


def test_objectives_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="unknown objective"):
        aims_of(["speed"], Slo())
    with pytest.raises(InputError, match="need an SLO"):
        aims_of(["goodput_rps"], Slo())
    with pytest.raises(InputError, match="too many"):
        aims_of(["ttft_ms", "tpot_ms", "e2e_ms", "itl_ms", "output_tok_s"], Slo())


@pytest.fixture
def planned(small: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command takes the plan that is made already."""
    monkeypatch.setattr("search.commands.tune.plan_of", lambda *_: small)


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """Exit code, JSON where there is some, and stderr of `perfmodel tune`."""
    fixed = [w for text in FIXED for w in ("--vary", text)]
    code = cli.main(["tune", SMALL, "--requests", "40", *fixed, *words])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out.startswith("[") else out, err


@pytest.mark.usefixtures("planned")
def test_command_prints_the_front_and_lists_every_trial(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--trials", "3", "--batch-trials", "3", *(w for text in VARY for w in ("--vary", text)))
    code, rows, _ = called(capsys, *words, "--json")
    assert code == 0
    assert [row["trial"] for row in rows] == [0, 1, 2]
    code, text, _ = called(capsys, *words)
    assert code == 0
    assert "3 trials: " in " ".join(text.split())


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--vary", "max_num_seqs=1"), 1, "none keeps the SLO"),
        (("--vary", "nothing=1"), 2, "unknown setting"),
        (("--objective", "speed"), 2, "unknown objective"),
        (("--sampler", "best"), 2, "unknown sampler"),
        (("--candidates", "1", "--vary", "candidate_rank=2"), 2, "give --candidates 2"),
        (("--executor", "ray"), 2, "ray"),
    ],
)
def test_command_ends_with_the_code_of_what_happened(
    words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = called(capsys, "--trials", "2", "--batch-trials", "2", *words)
    assert found == code
    assert said in " ".join(f"{out} {err}".split())
