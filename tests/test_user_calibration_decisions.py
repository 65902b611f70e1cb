"""What one run is worth on published groups: picks and regret by hand, groups judged on other runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perfmodel.engines import PARTS
from perfmodel.user_calibration.calibration_gain import errors_after_calibration, summary
from perfmodel.user_calibration.decisions import Alternatives, decided, decisions
from perfmodel.user_calibration.decisions import _picks as picks
from perfmodel.user_calibration.fit import Priors
from perfmodel.user_calibration.published import Values, answers
from perfmodel.user_calibration.rows import KINDS

P = len(PARTS)
KNOWN = Priors(np.full(P, 0.2), dict.fromkeys(KINDS.values(), 0.05))


def test_picks_and_regret_by_hand() -> None:
    """TPOT 10 to 50 ms, tokens/s 1 to 5; the tool thinks that the 40 ms one takes 20: it breaks the lower limits."""
    measured = np.array([[10.0, 1.0], [20.0, 2.0], [30.0, 3.0], [40.0, 4.0], [50.0, 5.0]])
    said = np.array([[10.0, 1.0], [20.0, 2.0], [30.0, 3.0], [20.0, 4.0], [50.0, 5.0]])
    names = np.array(list("abcde"), object)
    here = Alternatives(names, names, names, np.ones(5), measured, said, np.zeros((5, 2, P)))
    rows = list(picks(here, said))
    assert [row["kept"] for row in rows] == [True, False, False, True]  # limits 18, 26, 34, 42
    assert rows[0]["regret"] == pytest.approx(0.0)
    assert rows[3]["regret"] == pytest.approx(0.0)
    costly = Alternatives(names, names, names, np.array([1.0, 1, 1, 8, 1]), measured, measured, here.slope)
    assert [row["regret"] for row in picks(costly, measured)] == pytest.approx([0.0] * 4)


def published(offset: float) -> tuple[Values, dict[str, pd.DataFrame], pd.DataFrame]:
    """Two groups of eight runs whose memory is slower by `offset` (log) than the model says; nothing else differs."""
    n = np.arange(16)
    cases = pd.DataFrame({"case_id": [f"c{i:02d}" for i in n], "group": np.where(n < 8, "g", "h")})
    cases = cases.assign(split="train", mode="closed", device="h100-sxm", engine="vllm", trust="A", spec_decode="")
    cases = cases.assign(
        dataset="d", model=cases.group, isl=100.0, osl=100.0, n_devices=1.0, concurrency=2.0 ** (n % 8)
    )
    tpot, rate = 10.0 + 5.0 * (n % 8), 100.0 * (1.0 + n % 8)
    first = cases.assign(tpot_ms=tpot, total_tok_s=rate, ttft_ms=50.0)
    answered = {"": first, **dict.fromkeys(PARTS, first)}
    slow = np.exp(0.15)
    answered["memory"] = first.assign(tpot_ms=tpot * slow, total_tok_s=rate / slow)
    truth = pd.concat(
        [
            pd.DataFrame({"case_id": cases.case_id, "metric": "tpot_ms", "value": tpot * np.exp(offset)}),
            pd.DataFrame({"case_id": cases.case_id, "metric": "total_tok_s", "value": rate * np.exp(-offset)}),
        ]
    )
    frame = truth.merge(cases[["case_id", "group", "split", "mode", "device", "engine"]], on="case_id")
    kind = np.where(frame.metric == "tpot_ms", "tpot", "throughput").astype(object)
    sign = np.where(kind == "tpot", 1.0, -1.0)
    slope = sign[:, None] * np.eye(P)[[PARTS.index("memory")]]
    run = np.unique(frame.case_id.to_numpy(object), return_inverse=True)[1]
    return Values(frame, sign * offset, slope, kind, run), answered, truth


def test_groups_with_a_factor_of_their_own_are_predicted_better() -> None:
    values, _, _ = published(0.2)
    table = summary(errors_after_calibration(values, KNOWN, runs=(1, 2)))
    assert set(table.by) == {"random", "next"}
    assert (table.median_before > 17).all()
    assert (table.median_after < table.median_before / 2).all()
    assert (table.groups_worse == 0).all()
    two = table[table.runs == 2].median_after
    assert (two.to_numpy() < 2.0).all()


def test_one_run_mends_decisions_that_a_slow_memory_spoils() -> None:
    values, answered, truth = published(0.2)
    table = decided(decisions(truth, answered, values, KNOWN, {}))
    for run in ("random", "next"):
        mine = table[table.run == run].set_index("when")
        kept, near = mine["kept"].to_dict(), mine["within_5"].to_dict()
        assert kept["after"] == 100.0 > kept["before"]
        assert near["after"] == 100.0


def test_predictions_are_the_same_whether_they_were_kept_or_made(tmp_path: Path) -> None:
    cases, kept = tmp_path / "cases.csv", tmp_path / "kept"
    cases.write_text(
        "case_id,model,device,n_devices,mode,concurrency,isl,osl\n"
        "a,meta-llama/Llama-3.1-8B,h100-sxm,1,closed,4,512,64\n"
        "b,meta-llama/Llama-3.1-8B,h100-sxm,1,offline,,512,64\n"
    )
    kept.mkdir()
    made, read = answers(cases, kept), answers(cases, kept)
    assert made.keys() == read.keys()
    for part, frame in made.items():
        pd.testing.assert_frame_equal(frame, read[part])
    assert made[""].concurrency.dtype == float
    assert (made["memory"].tpot_ms > made[""].tpot_ms).any()
