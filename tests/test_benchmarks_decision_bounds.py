"""Bounds of decisions: perfect levels mend what is off alike, and a second run decides nearly as the first."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.decision_bounds import LEVELS, NEAR, bounds, levelled, near_limit, repeated
from benchmarks.decisions import bounds_section
from perfmodel.fitting import decisions, summary

USERS = (1, 2, 4, 8, 16, 32, 64, 128)


@pytest.fixture(scope="module")
def cases() -> pd.DataFrame:
    """Runs of two engines on one device."""
    rows = [
        {"case_id": f"{engine}-{users}", "engine": engine, "group": f"lab|{engine}", "concurrency": str(users)}
        for engine in ("vllm", "sglang")
        for users in USERS
    ]
    same = {"dataset": "lab", "model": "m", "device": "d", "n_devices": "1", "isl": "500", "osl": "100"}
    return pd.DataFrame(rows).assign(mode="closed", **same)


def measured(cases: pd.DataFrame) -> pd.DataFrame:
    """TPOT grows with concurrency, slower under one engine; throughput follows by Little's law."""
    users = cases.concurrency.astype(float)
    tpot = (5.0 + users) * np.where(cases.engine == "vllm", 1.0, 0.9)
    return pd.DataFrame({"case_id": cases.case_id, "tpot_ms": tpot, "total_tok_s": 6e3 * users / tpot})


def told(table: pd.DataFrame) -> pd.DataFrame:
    return table.melt(id_vars="case_id", var_name="metric", value_name="value")


def test_a_perfect_level_mends_what_is_off_alike(cases: pd.DataFrame) -> None:
    right = measured(cases)
    off = np.where(cases.engine == "vllm", 1.6, 0.5)
    wrong = right.assign(tpot_ms=right.tpot_ms * off, total_tok_s=right.total_tok_s / off)
    mended = levelled(cases, wrong, told(right), ("engine",))
    np.testing.assert_allclose(mended.tpot_ms, right.tpot_ms, rtol=1e-9)
    np.testing.assert_allclose(mended.total_tok_s, right.total_tok_s, rtol=1e-9)
    shared = levelled(cases, wrong, told(right), ("device",))
    assert not np.allclose(shared.tpot_ms, right.tpot_ms, rtol=0.1), "one level does not mend two"
    before = summary(decisions(cases, wrong, told(right)))
    after = summary(decisions(cases, mended, told(right)))
    assert before["within_5"] < 1.0 == after["within_5"]


def test_a_level_without_measurement_stays(cases: pd.DataFrame) -> None:
    right = measured(cases)
    truth = told(right[cases.engine == "vllm"])
    kept = levelled(cases, right.assign(tpot_ms=2.0 * right.tpot_ms), truth, ("engine",))
    other = (cases.engine == "sglang").to_numpy()
    np.testing.assert_allclose(kept.tpot_ms[other], 2.0 * right.tpot_ms[other], rtol=1e-12)
    np.testing.assert_allclose(kept.tpot_ms[~other], right.tpot_ms[~other], rtol=1e-12)


def test_a_second_run_scatters_as_told_and_keeps_littles_law(cases: pd.DataFrame) -> None:
    right = measured(cases)
    draws = [repeated(cases, told(right), 0.1, seed) for seed in range(200)]
    off = np.log(np.concatenate([d.tpot_ms.to_numpy() / right.tpot_ms.to_numpy() for d in draws]))
    assert abs(off.std() - 0.1) < 0.005
    product = draws[0].tpot_ms * draws[0].total_tok_s
    np.testing.assert_allclose(product, right.tpot_ms * right.total_tok_s, rtol=1e-12)
    without = repeated(cases, told(right), 0.0, 1)
    np.testing.assert_allclose(without.tpot_ms, right.tpot_ms, rtol=1e-12)


def test_the_best_near_the_limit_is_counted(cases: pd.DataFrame) -> None:
    right = measured(cases)
    made = decisions(cases, right, told(right))
    tpot = right.set_index("case_id").tpot_ms
    by_hand = [tpot[best] >= NEAR * limit for best, limit in zip(made.best, made.limit_ms, strict=True)]
    assert near_limit(made, told(right)) == np.mean(by_hand)


def test_the_section_has_a_line_per_bound(cases: pd.DataFrame) -> None:
    right = measured(cases)
    made = bounds(cases, right, told(right), None)
    sections = bounds_section(made, told(right))["sections"]
    assert isinstance(sections, list)
    text = "".join(section["table"] for section in sections)
    assert all(f"| lab; {title} | 100.0 % | 100.0 % | - |" in text for title in ("perfmodel", *LEVELS))
    assert text.count("| lab; a second run") == len(made) - len(LEVELS) - 1
