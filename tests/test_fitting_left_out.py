"""Parts of the runs that factors and levels are not fitted on: what they gain there, and how wide ranges must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perfmodel.costs import FACTORS
from perfmodel.estimates import CAUSES, uncertainty
from perfmodel.fitting import error_lines, intervals, left_out_ratios, measured_slopes
from perfmodel.fitting.interval_fit import _shared
from perfmodel.fitting.left_out import changes_left_out, errors
from perfmodel.fitting.pooling import Place, Slopes

MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B", "mistralai/Mistral-7B-v0.1")
#: Log of measured over predicted of all runs of each model: one is 30 % slower than the others.
OFF = (0.0, np.log(1.3), 0.0)


def runs(groups: int = 8, scatter: float = 0.0) -> Slopes:
    """Groups of six runs of each model on one device, limited by memory traffic; the last group are open loops.

    scatter: log ratio by which a group is slow or fast as a whole, by turns.
    """
    rows = pd.DataFrame(
        [
            {"group": f"{model}/{g}", "model": model, "off": off + scatter * (-1) ** g, "opened": g == groups - 1}
            for model, off in zip(MODELS, OFF, strict=True)
            for g in range(groups)
            for _ in range(6)
        ]
    ).assign(device="h100-sxm", metric="tpot_ms", value=1.0, dataset="lab")
    rows["case_id"] = np.arange(len(rows)).astype(str)
    slopes = np.zeros((len(rows), len(FACTORS)))
    slopes[:, FACTORS.index("memory")] = 1.0
    places = {"h100-sxm": Place(start=np.ones(len(FACTORS)))}
    return Slopes(rows=rows, ratios=-rows.off.to_numpy(), slopes=slopes, weight=np.ones(len(rows)), places=places)


def test_a_level_counts_where_other_groups_of_its_model_show_it_and_not_where_none_does() -> None:
    """With groups left out levels explain the slow model; with architectures left out nothing can."""
    measured = {"vllm": runs()}
    error = {
        together: [
            errors(measured, ratios)["TPOT"]
            for ratios in left_out_ratios(measured, together, 4, (np.inf, 1.0)).values()
        ]
        for together in ("group", "architecture")
    }
    assert error["group"][1] < 0.2 * error["group"][0]
    assert error["architecture"][1] == pytest.approx(error["architecture"][0], abs=0.01)


def test_what_is_particular_to_a_group_stays_in_its_error() -> None:
    """Groups that are 10 % slow or fast by turns keep that error when they are left out, whatever levels say."""
    measured = {"vllm": runs(scatter=np.log(1.1))}
    (ratios,) = left_out_ratios(measured, "group", 4, (2.0,)).values()
    assert 0.08 < errors(measured, ratios)["TPOT"] < 0.16


def test_open_loops_are_compared_but_not_fitted_on() -> None:
    """Other open loops change no left-out value of a closed loop, and have left-out values themselves."""
    plain, far = runs(), runs()
    opened = far.rows.opened.to_numpy(bool)
    far.ratios[opened] += 0.5
    (before,), (after,) = (left_out_ratios({"vllm": s}, "group", 4).values() for s in (plain, far))
    assert np.allclose(before["vllm"][~opened], after["vllm"][~opened])
    assert np.allclose(after["vllm"][opened] - before["vllm"][opened], 0.5)


def test_the_table_has_a_line_by_what_is_left_out_and_pull() -> None:
    title, *lines = error_lines({"vllm": runs()}, 3)
    assert " ".join(title.split()) == "left out pull of levels TPOT TPOT p50 tokens/s TTFT TTFT p50"
    assert len(lines) == 16
    assert sum("no levels" in line for line in lines) == 4


def test_left_out_values_of_other_metrics_follow_by_what_they_depend_on() -> None:
    """A p99 that depends on kernels half as much moves half as far; a value of no fitted run is as `unseen` has it."""
    measured = {"vllm": runs()}
    change = changes_left_out(measured, "group", intervals.PARTS).set_index("case_id").change
    rows = pd.DataFrame({"case_id": ["50", "50", "none"], "metric": ["tpot_ms", "tpot_ms_p99", "tpot_ms"]})
    rows = rows.assign(group=["a", "a", "b"], model="m", device="d", engine="e", ratio=[0.1, 0.2, 0.3])
    rows[list(CAUSES)] = 0.0
    rows["memory"] = [1.0, 0.5, 1.0]
    found = intervals.left_out(rows, measured)
    assert abs(change["50"]) > 0.01
    assert found == pytest.approx([0.1 + change["50"], 0.2 + 0.5 * change["50"], 0.3])


def test_slopes_that_were_kept_are_read_again(tmp_path: Path) -> None:
    pd.Series({"vllm": runs(), "sglang": runs()}, dtype=object).to_pickle(tmp_path / "slopes.pkl.gz")
    found = measured_slopes("no such cases.csv", "no such truth.csv", ["vllm"], keep=tmp_path)
    assert list(found) == ["vllm"]


def test_how_well_ranges_hold_is_counted_on_what_they_are_given() -> None:
    """Ratios drawn by the spreads themselves are inside four times of five; twice as wide ones far less often."""
    rows = pd.DataFrame({"figure": "tpot_mean", "kind": "tpot", "class": "table", "arrival": "closed"}, range(4000))
    rows = rows.assign(group=np.arange(4000) // 4, load=0.5, doubt=1.0, power_doubt=1.0)
    rows[list(CAUSES)] = 0.0
    rows["memory"] = 1.0
    known = uncertainty()
    drawn = np.random.default_rng(3).normal(size=4000) * np.hypot(
        known.causes["memory"], known.rest["tpot_mean"]["closed"]
    )
    assert intervals.held(rows, drawn, known).inside == pytest.approx(0.8, abs=0.02)
    assert intervals.held(rows, drawn, known).near == 1
    assert intervals.held(rows, 2.0 * drawn, known).inside == pytest.approx(0.478, abs=0.03)  # |z| < 0.64
    assert intervals.held(rows, 2.0 * drawn, known).near == 0


def test_the_common_share_of_the_rest_is_found_whatever_the_widths() -> None:
    """Half of the rest's variance common to a group gives 0.5, also with some values that are ten times as wide."""
    draw = np.random.default_rng(5).normal
    groups = np.repeat(np.arange(1500), 6)
    rows = pd.DataFrame({"figure": "tpot_mean", "kind": "tpot", "class": "table", "arrival": "closed", "group": groups})
    rows = rows.assign(load=0.5, power_doubt=1.0, doubt=np.where(groups < 20, 10.0, 1.0))
    rows[list(CAUSES)] = 0.0
    known = uncertainty()
    rest = known.rest["tpot_mean"]["closed"] * rows.doubt.to_numpy()
    ratio = rest * np.sqrt(0.5) * (draw(size=1500)[groups] + draw(size=len(rows)))
    assert _shared(rows, ratio, known)["tpot"] == pytest.approx(0.5, abs=0.08)
