"""The learner of `benchmarks.learned_residuals`: finds a level that features tell, and none that they do not tell."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.learned_residuals import left_out, middle, sources_of

RNG = np.random.default_rng(0)
GROUPS, RUNS = 40, 10


def _rows(ratio: np.ndarray) -> pd.DataFrame:
    """Return values of GROUPS groups of RUNS runs whose log of measured over predicted is `ratio`, (V,)."""
    group = np.repeat(np.arange(GROUPS), RUNS)
    source = np.where(group % 2 == 0, "even", "odd")
    return pd.DataFrame(
        {"case_id": np.arange(len(ratio)), "group": group, "ratio": ratio, "dataset": source, "mode": "open"}
    ).assign(metric="tpot_ms")


def test_middle_weighs_groups_equally():
    rows = pd.DataFrame({"group": ["a", "a", "a", "b", "c"], "ratio": np.log([1.0, 1.0, 1.0, 2.0, 4.0])})
    # Errors of the groups: 0, 1 - 1/2, 1 - 1/4.
    assert middle(rows) == pytest.approx(0.5)
    assert middle(rows, rows.ratio.to_numpy()) == pytest.approx(0.0)


def test_a_level_that_a_feature_tells_is_found_in_groups_left_out():
    pytest.importorskip("sklearn")
    far = np.repeat(np.arange(GROUPS) % 2 == 1, RUNS)
    rows = _rows(np.where(far, np.log(1.5), 0.0) + 0.02 * RNG.standard_normal(GROUPS * RUNS))
    rows["expected"] = left_out(rows, pd.DataFrame({"far": far.astype(float)}))
    assert middle(rows[far]) == pytest.approx(1.0 / 3.0, abs=0.02)
    assert middle(rows, rows.expected.to_numpy()) < 0.03
    lines = sources_of(rows)
    assert lines["tpot_ms: odd, open"]["measured/predicted"] == "1.50"
    assert lines["tpot_ms: even, open"]["the learner expects"] == "1.00"


def test_levels_that_no_feature_tells_are_not_explained():
    pytest.importorskip("sklearn")
    rows = _rows(np.repeat(0.3 * RNG.standard_normal(GROUPS), RUNS))
    expected = left_out(rows, pd.DataFrame({"noise": RNG.standard_normal(GROUPS * RUNS)}))
    assert middle(rows, expected) > 0.8 * middle(rows)
