"""Measured cases replayed: rows of every mode, pools too; a file is gone on with until something changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import simulated_cases
from hwdb import load
from perfmodel.cases.prediction import predict

COLUMNS = (
    "case_id",
    *simulated_cases.LAYOUT,
    "isl",
    "osl",
    "isl_dist",
    "batch",
    "concurrency",
    "request_rate_rps",
    "n_requests",
    "spec_decode",
    "prefix_hit",
    "prefill_batch",
    "decode_batch",
    "trace",
)
BASE = dict.fromkeys(COLUMNS, "") | {
    "model": "meta-llama/Llama-3.1-8B",
    "device": "h100-sxm",
    "n_devices": "1",
    "engine": "vllm",
    "tp": "1",
    "isl": "512",
    "osl": "64",
    "isl_dist": "fixed",
}
ROWS = [
    {"case_id": "static", "mode": "static", "batch": "4"},
    {"case_id": "closed", "mode": "closed", "concurrency": "8", "isl_dist": "uniform:0.8-1.0"},
    {"case_id": "open", "mode": "open", "request_rate_rps": "2", "n_requests": "200", "isl_dist": "trace"},
    {"case_id": "offline", "mode": "offline", "n_requests": "50"},
    {
        "case_id": "pools",
        "mode": "closed",
        "concurrency": "8",
        "n_devices": "3",
        "tp": "",
        "prefill_workers": "1",
        "prefill_tp": "1",
        "decode_workers": "2",
        "decode_tp": "1",
    },
    {"case_id": "unknown", "mode": "closed", "concurrency": "8", "device": "abacus"},
]


@pytest.fixture(scope="module")
def cases() -> pd.DataFrame:
    """One case a mode."""
    return pd.DataFrame([{**BASE, **row} for row in ROWS])


@pytest.fixture(scope="module")
def found(cases: pd.DataFrame) -> pd.DataFrame:
    """Their simulated figures."""
    return pd.DataFrame(simulated_cases.answers(cases, load())).set_index("case_id")


def test_every_row_is_answered_or_says_why(cases: pd.DataFrame, found: pd.DataFrame) -> None:
    assert set(found.index) == set(cases.case_id)
    assert "unknown device" in found.error["unknown"]
    served = found.drop(index="unknown")
    assert (served.error == "").all()
    assert (served[["ttft_ms", "tpot_ms", "output_tok_s"]] > 0).all(axis=None)


def test_the_simulator_and_the_closed_form_see_the_same_deployment(cases: pd.DataFrame, found: pd.DataFrame) -> None:
    expected = predict(cases).set_index("case_id")
    for case in ("static", "closed", "open", "pools"):
        assert found.tpot_ms[case] == pytest.approx(expected.tpot_ms[case], rel=0.25), case


def test_tokens_in_and_out_add_up(found: pd.DataFrame) -> None:
    assert found.total_tok_s["closed"] == pytest.approx(found.output_tok_s["closed"] * (1 + 512 / 64))


@pytest.mark.parametrize("how", ["fixed", "uniform:0.8-1.0", "trace"])
def test_lengths_have_the_mean_that_the_case_gives(how: str) -> None:
    drawn = simulated_cases.lengths(700.0, 0.6, 20_000, how, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(700.0, rel=0.02)
    assert (how == "fixed") == (drawn.std() == 0)


def test_natural_lengths_spread_as_the_estimate_takes_them_to() -> None:
    generator = np.random.default_rng(1)
    prompts = simulated_cases.lengths(700.0, 0.6, 20_000, "trace", generator)
    assert np.log(prompts).std() == pytest.approx(0.6, rel=0.03)
    answers = simulated_cases.answer_lengths(300.0, 1.1, np.inf, 20_000, "trace", generator)
    assert answers.mean() == pytest.approx(300.0, rel=0.02)
    assert answers.std() / answers.mean() == pytest.approx(1.1, rel=0.04)
    cut = simulated_cases.answer_lengths(300.0, 1.1, 500.0, 20_000, "trace", generator)
    assert cut.max() == 500
    assert simulated_cases.answer_lengths(300.0, 1.1, np.inf, 9, "fixed", generator).tolist() == [300.0] * 9


def test_layouts_come_whole_and_shuffled_the_same_way(cases: pd.DataFrame) -> None:
    first, second = (simulated_cases.units(cases) for _ in range(2))
    assert [p.case_id.tolist() for p in first] == [p.case_id.tolist() for p in second]
    assert sorted(c for p in first for c in p.case_id) == sorted(cases.case_id)


def test_the_source_that_heads_the_page_comes_first(cases: pd.DataFrame) -> None:
    sources = np.where(cases.case_id == "pools", "aiconfigurator_silicon", "lab")
    assert simulated_cases.units(cases.assign(dataset=sources))[0].case_id.tolist() == ["pools"]


def test_a_replay_goes_on_where_it_stopped_and_begins_anew_after_a_change(
    cases: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def finished(parts: list[pd.DataFrame], jobs: int, deadline: float) -> object:
        for part in parts:
            asked.extend(part.case_id)
            yield [{"case_id": c, "tpot_ms": 1.0} for c in part.case_id]

    monkeypatch.setattr(simulated_cases, "_finished", finished)
    monkeypatch.setattr(simulated_cases, "made_with", lambda: "today")
    path = tmp_path / "simulated.csv"
    assert simulated_cases.replay(cases.head(2), path) == 2
    assert simulated_cases.replay(cases, path) == 6
    assert sorted(asked) == sorted(cases.case_id)
    assert "6 of 6 rows" in capsys.readouterr().out
    monkeypatch.setattr(simulated_cases, "made_with", lambda: "tomorrow")
    assert simulated_cases.replay(cases.head(3), path) == 3
    assert set(pd.read_csv(path).made_with) == {"tomorrow"}


def test_no_time_leaves_the_rest_for_later(cases: pd.DataFrame, tmp_path: Path) -> None:
    assert simulated_cases.replay(cases, tmp_path / "simulated.csv", minutes=0.0, jobs=1) == 0
