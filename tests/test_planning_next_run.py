"""The run worth taking: the value of knowing, against sums by hand, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cli
from search import planning
from search.commands.next_run import worth_showing
from search.planning.replanning import next_run
from search.planning.replanning.runs import Run
from search.scenario import load_scenario

SCENARIO = """\
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 1000
output_tokens = 200
request_rate_rps = 30
[slo]
tpot_ms = 40
[hardware]
devices = ["h100-sxm", "l40s"]
[search]
tp = [1]
weight = ["bf16"]
"""


ROW = {"usd_per_hour": 6.0, "replicas": 2.0, "device": "a", "concurrency_per_replica": 8.0}
ROW |= {"request_rate_rps_per_replica": 2.0}
RUN = Run(ROW, 3.0, float("nan"), 2.0)


def worth(
    monkeypatch: pytest.MonkeyPatch, costs: dict[tuple[tuple[str, ...], str], list[float]], told: float = 1.0
) -> next_run.NextRuns:
    """What runs are worth for given costs per draw, where each run tells a share of its device's cost."""
    monkeypatch.setattr(next_run, "_rows", lambda plan: {(d, "vllm"): (plan, [ROW]) for d in ("a", "b")})
    monkeypatch.setattr(next_run, "told_by", lambda *_: iter([(RUN, told)]))
    one = SimpleNamespace(input_tokens=np.array([10.0]), output_tokens=np.array([5.0]), share=np.array([1.0]))
    scenario = SimpleNamespace(workload=one, model="m")
    plan = SimpleNamespace(scenario=scenario, best=0, row=lambda n: ROW)
    return next_run._worth(plan, {k: np.array(v) for k, v in costs.items()}, 20.0, [])  # type: ignore[arg-type]


def test_value_of_knowing_a_device_is_the_sum_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """a costs 2 or 8 (mean 5), b always 6. Knowing a: 2 or 6, mean 4, 1 USD less per hour; knowing b: nothing."""
    found = worth(monkeypatch, {(("a",), "vllm"): [2.0, 8.0], (("b",), "vllm"): [6.0, 6.0]})
    by_device = {run.device: run for run in found.runs}
    assert found.choice == (("a",), "vllm")
    assert found.chance == 0.5
    assert found.regret_usd_per_month == pytest.approx(730.0)
    assert by_device["a"].gain_usd_per_month == pytest.approx(730.0)
    assert by_device["b"].gain_usd_per_month == pytest.approx(0.0)
    assert found.runs[0].device == "a"
    assert by_device["a"].usd == pytest.approx(6.0 / 2 * 20 / 60)
    assert (by_device["a"].pays, by_device["b"].pays) == (True, False)


def test_a_device_without_a_rival_gains_nothing_and_not_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of costs times 0.1 is not their mean times 0.1 to the last bit."""
    for costs in ([0.1, 0.2, 0.30000000000000004], [0.7, 0.1, 0.2], [1.1, 2.3, 5.7]):
        (run,) = worth(monkeypatch, {(("a",), "vllm"): costs}, told=0.3).runs
        assert 0.0 <= run.gain_usd_per_month < 1e-9


def test_a_run_that_tells_a_quarter_of_the_variance_saves_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """a costs 2 or 8, b 6. A quarter of the variance is half the way: 3.5 or 6.5, so that 6 is chosen in the second."""
    found = worth(monkeypatch, {(("a",), "vllm"): [2.0, 8.0], (("b",), "vllm"): [6.0, 6.0]}, told=0.25)
    best = next(run for run in found.runs if run.device == "a")
    assert best.gain_usd_per_month == pytest.approx((5.0 - (3.5 + 6.0) / 2) * 730.0)
    assert best.most_usd_per_month == pytest.approx(730.0)


def test_nothing_pays_where_one_system_is_always_the_cheapest(monkeypatch: pytest.MonkeyPatch) -> None:
    found = worth(monkeypatch, {(("a",), "vllm"): [2.0, 3.0], (("b",), "vllm"): [6.0, 9.0]})
    assert found.chance == 1.0
    assert found.regret_usd_per_month == 0.0
    assert not any(run.pays for run in found.runs)


def test_a_draw_in_which_nothing_qualifies_counts_with_twice_the_dearest() -> None:
    assert next_run._filled(np.array([1.0, np.nan, 3.0])).tolist() == [1.0, 6.0, 3.0]


def test_draws_differ_and_follow_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    scenario = load_scenario(path)
    one, same, other = (next_run.draw_of(scenario, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert list(one) == [("h100-sxm", "vllm"), ("l40s", "vllm")]
    assert all((one[key] == same[key]).all() and (one[key] != other[key]).all() for key in one)


def test_command_names_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    made: list[next_run.NextRuns] = []
    original = planning.next_runs

    def kept(*given: Any, **named: Any) -> next_run.NextRuns:
        made.append(original(*given, **named))
        return made[-1]

    monkeypatch.setattr(planning, "next_runs", kept)
    assert cli.main(["next", str(path), "--draws", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["device"] for row in rows} == {"h100-sxm", "l40s"}
    assert {"1 client"} < {row["load"] for row in rows}
    assert all(0.0 <= row["told_percent"] <= 100.0 for row in rows)
    assert all(row["gain_usd_per_month"] <= row["most_usd_per_month"] + 1e-6 for row in rows)
    assert "--random-input-len 1000" in rows[0]["command"]
    monkeypatch.setattr(planning, "next_runs", lambda *_, **__: made[-1])
    assert cli.main(["next", str(path), "--draws", "2"]) == 0
    assert "of 2 draws (with" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(planning, "next_runs", original)
    path.write_text(SCENARIO.replace("tpot_ms = 40", "tpot_ms = 0.1"), encoding="utf-8")
    assert cli.main(["next", str(path), "--draws", "2"]) == 1


def test_a_terminal_leaves_out_devices_that_no_draw_finds_cheapest() -> None:
    """All that may be the cheapest, or whose run gains, are shown, in their order; the rest up to ten rows."""
    names = [f"d{n}" for n in range(15)]
    rows = [{"device": d, "gain_usd_per_month": 0.0, "cheapest_percent": 0.0} for d in (*names, "d0")]
    rows[12]["cheapest_percent"], rows[14]["gain_usd_per_month"] = 8.0, 5.0
    shown, left = worth_showing(rows)
    assert [row["device"] for row in shown] == [*names[:8], "d12", "d14"]
    assert left == 5
    every = [{**row, "cheapest_percent": 1.0} for row in rows]
    assert [row["device"] for row in worth_showing(every)[0]] == names
