"""The page of decisions: who measures what they predict decides right, and a roofline does not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.decisions import main
from perfmodel import predict
from perfmodel.fitting import decisions, summary

CASES = pd.DataFrame(
    [
        {
            "case_id": f"{device}-{tp}-{users}",
            "dataset": "lab",
            "group": f"lab|{device}|{tp}",
            "split": "test",
            "trust": "A",
            "twin_in_train": "0",
            "spec_decode": "",
            "model": "meta-llama/Llama-3.1-8B",
            "device": device,
            "n_devices": str(tp),
            "tp": str(tp),
            "engine": "vllm",
            "mode": "closed",
            "isl": "500",
            "osl": "100",
            "concurrency": str(users),
        }
        for device in ("h100-sxm", "l40s")
        for tp in (1, 2)
        for users in (1, 8, 32, 128)
    ]
)
METRICS = ["tpot_ms", "ttft_ms", "total_tok_s"]


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    """Measurements that are what the tool predicts."""
    return predict(CASES).melt(id_vars="case_id", value_vars=METRICS, var_name="metric", value_name="value")


def test_the_page_scores_predictions_beside_the_roofline(tmp_path: Path, truth: pd.DataFrame) -> None:
    for name, table in (("cases", CASES), ("truth", truth)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "prices.json").write_text('{"h100-sxm": 2.5, "l40s": 1.0}')
    arguments = [str(tmp_path / "cases.csv"), str(tmp_path / "truth.csv"), "-o", str(tmp_path / "page.md")]
    assert main([*arguments, "--prices", str(tmp_path / "prices.json")]) == 0
    text = (tmp_path / "page.md").read_text()
    mine = [line for line in text.splitlines() if line.startswith("| lab; perfmodel |")]
    right = [
        "| lab; perfmodel | 8 | 0.0 % | 100.0 % | 100.0 % | 100.0 % | 0.0 % | - |",
        "| lab; perfmodel | 4 | 0.0 % | 100.0 % | 100.0 % | 100.0 % | 0.0 % | 100.0 % |",
    ]
    assert mine == right * 3  # limits on TPOT, on TTFT, on both
    assert text.count("| lab; roofline |") == 6
    assert text.index("## Limits on TTFT, across devices") < text.index("## Limits on TPOT and TTFT together")
    assert "Nowhere" in text


def test_a_summary_counts_by_hand(truth: pd.DataFrame) -> None:
    told = predict(CASES)
    made = decisions(CASES, told.assign(tpot_ms=0.1 * told.tpot_ms), truth)  # so every limit seems to be kept
    found = summary(made)
    kept = made.limit_kept.sum()
    assert found["decisions"] == len(made) == 8
    assert found["limit_kept"] == kept / 8
    assert found["within_5"] == (made.limit_kept & (made.regret <= 0.05)).sum() / 8 <= found["within_10"]
    assert found["limit_kept"] == 0.0, "the most throughput has the highest TPOT, above every limit"
    assert found["no_pick"] == 0.0


@pytest.mark.parametrize("limits", ["ttft", "both"])
def test_a_limit_on_the_first_token_judges_the_first_token(truth: pd.DataFrame, limits: str) -> None:
    told = predict(CASES)
    blind = told.assign(ttft_ms=1e-3 * told.ttft_ms)  # so every limit on TTFT seems to be kept
    seen, made = decisions(CASES, told, truth, limits=limits), decisions(CASES, blind, truth, limits=limits)
    assert seen.limit_kept.all()
    assert made.ttft_limit_ms.notna().all()
    assert made.limit_ms.notna().all() == (limits == "both")
    assert not made.limit_kept.all()
    without = truth[truth.metric != "ttft_ms"]
    assert decisions(CASES, told, without, limits=limits).empty  # nobody measured TTFT
