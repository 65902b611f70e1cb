"""The page that sets the closed form beside the simulator: its tables say what small frames say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import closed_form as page
from hwdb import InputError

ROOT = Path(__file__).resolve().parents[1]


def row(kind: str, level: float, ratio: float, **more: object) -> dict[str, object]:
    """A scenario whose estimates are all `ratio` times the simulation."""
    found = dict.fromkeys(page.COMPARED, 100.0 * ratio)
    return {
        "deployment": "model on device, vllm",
        "kind": kind,
        "level": level,
        "alike": True,
        "input_tokens": 1000.0,
        "output_tokens": 100.0,
        "kv_share": 0.3,
        **found,
        **{f"simulated_{m}": 100.0 for m in page.COMPARED},
        **{f"{m}_ratio": ratio for m in page.COMPARED},
        **more,
    }


def test_there_are_two_hundred_scenarios_and_every_one_stands_in_every_table() -> None:
    base = page.Workload.from_lengths(100, 10, concurrency=128)
    loads = page.loads(base, 5.0)
    assert len(page.DEPLOYMENTS) * len(page.LENGTHS) * len(loads) == 200
    frame = pd.DataFrame(
        [
            row(kind, level, 1.0, input_tokens=tokens, kv_share=share, deployment=f"x, {engine}")
            for kind, level, _ in loads
            for tokens in (256.0, 1376.0, 4000.0)
            for share in (0.1, 0.5, 0.9)
            for engine in ("vllm", "sglang", "trtllm", "vllm-v0")
        ]
    )
    for lines in page.REGIMES.values():
        assert (np.sum([which(frame) for _, which in lines], axis=0) == 1).all()


def test_a_line_shows_bias_and_the_range_of_eighty_in_a_hundred() -> None:
    frame = pd.DataFrame([row("offline", 200, r) for r in np.linspace(0.9, 1.3, 11)])
    assert "| offline, 200 requests | 11 | +10 %, 0.94 to 1.26 |" in page.table(frame, "arrivals", page.METRICS)


def test_the_worst_scenario_stands_first_with_the_metric_that_differs() -> None:
    rows = [row("open", 0.9, 1.1), row("closed", 8, 1.0, ttft_ms=300.0, ttft_ms_ratio=3.0)]
    first = page.worst(pd.DataFrame(rows)).splitlines()[2]
    assert "closed 8" in first
    assert "ttft_ms | 300 | 100" in first


def test_tables_go_between_the_marks_and_nowhere_else() -> None:
    begin, end = page.MARKS
    made = page.placed(f"above\n{begin}\nold\n{end}\nbelow", "new\n")
    assert made == f"above\n{begin}\n\nnew\n\n{end}\nbelow"
    with pytest.raises(InputError, match="put them where tables shall stand"):
        page.placed("a page without marks", "new")


def test_the_page_has_tables() -> None:
    text = (ROOT / "docs" / "closed-form.md").read_text(encoding="utf-8")
    assert all(mark in text for mark in page.MARKS)
    for name, lines in page.REGIMES.items():
        assert f"| {name} |" in text
        assert all(f"| {title} |" in text for title, _ in lines)


def test_both_answers_of_a_scenario_are_of_the_same_load() -> None:
    first = next(s for s in page.scenarios() if s.kind == "closed" and s.level == 8)
    found = page.compared(first)
    assert found["output_tok_s_ratio"] == pytest.approx(1.0, rel=0.05)
    assert found["e2e_ms_ratio"] == pytest.approx(1.0, rel=0.05)
    assert 0 < found["kv_share"] < 1
