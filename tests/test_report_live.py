"""The controls of the report answer as the tool does, or say that they do not."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from benchmarks.live_report import compared, page_answers
from perfmodel.arrays import Array
from perfmodel.costs import Roofline
from search.planning import Plan
from search.report import live_data
from search.report.live_controls import live_pools
from search.report.live_controls.live_data import loads_of_page
from search.report.plan_page import answer
from search.report.plan_page.load_curves import GROWTH_OF_PAIRS, grown, growth_rows
from search.report.plan_page.sections import reading_notes
from search.whatif import load_changes, what_if
from search.whatif.edits import read_edits
from search.whatif.replanning import planned_again
from search.whatif.scenario_file import ScenarioFile

TEXT = """
title = "<b>Small</b>"
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 1000
output_tokens = 200
{load}
[slo]
ttft_ms_p90 = 500
tpot_ms = 30
[hardware]
devices = ["h100-sxm", "l40s"]
usd_per_hour = {{ h100-sxm = 2.5, l40s = 0.8 }}
[search]
tp = [1, 2]
pp = 1
{modes}
[limits]
{limits}
"""


BOTH = 'modes = ["colocated", "disaggregated"]'


def written(folder: Path, load: str = "request_rate_rps = 20", limits: str = "", modes: str = "") -> Path:
    path = folder / "small.toml"
    path.write_text(TEXT.format(load=load, limits=limits, modes=modes), encoding="utf-8")
    return path


def planned(path: Path) -> Plan:
    return search.plan(search.load_scenario(path), costs=Roofline())


@pytest.fixture(autouse=True)
def _without_what_ifs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of what-ifs is not what is looked at here, and takes most of the time of a page."""
    monkeypatch.setattr(answer, "what_if", lambda *_: [])
    monkeypatch.setattr(answer, "replay_section", lambda *_: None)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "limits", "modes", "least"),
    [
        ("request_rate_rps = 20", "spare_nodes = 1", "", 9),
        ("request_rate_rps = 20", "usd_per_hour = 20\npower_kw = 12", "", 9),
        ("concurrency = 40", "", "", 9),
        ("request_rate_rps = 20\ncv = 4", "", "", 9),
        ("request_rate_rps = 30\ncv = 2", "confidence = 0.6", BOTH, 9),
        ("request_rate_rps = 40", "confidence = 0.6", BOTH, 9),
        ("request_rate_rps = 40", "spare_nodes = 1\npower_kw = 30", 'modes = ["disaggregated"]', 9),
    ],
)
def test_the_page_answers_as_the_tool_or_says_that_it_does_not(
    load: str, limits: str, modes: str, least: int, tmp_path: Path
) -> None:
    path = written(tmp_path, load, limits, modes)
    plan = planned(path)
    found = compared(path, plan, search.render_report(plan), count=10, seed=3)
    assert sum(one.equal for one in found) >= least
    assert all(one.equal or one.doubted for one in found), [a for a in found if not a.equal]
    assert sum(one.equal and one.doubted for one in found) <= 3  # marks are for answers that may be wrong: few
    assert sum(bool(one.changes) for one in found) >= 6


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the script of the page with Node.js")
def test_as_planned_the_page_has_the_replicas_of_the_plan(tmp_path: Path) -> None:
    """What is counted again from the table may differ where a latency hardly rises with the load."""
    plan = planned(written(tmp_path))
    data = live_data(plan)
    expected = {}
    for layout in data["layouts"]:
        layout["planned"]["replicas"] += 3  # no number that the table leads to
        if layout["planned"]["qualifies"]:
            expected[layout["name"]] = layout["planned"]["replicas"]
    script = Path(search.__file__).parent / "report/templates/live_model.js"
    code = (
        f"const page = require({json.dumps(str(script))}), data = {json.dumps(data).replace('NaN', 'null')};"
        "const found = page.solve(data, page.plannedState(data)).rows;"
        "console.log(JSON.stringify(found.map((row) => [data.layouts[row.layout].name, row.replicas])));"
    )
    done = subprocess.run(["node", "-"], input=code, capture_output=True, text=True, check=True)
    assert len(expected) > 1
    assert dict(json.loads(done.stdout)) == expected


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_knows_the_chance_that_all_bounds_hold_together(tmp_path: Path) -> None:
    path = written(tmp_path)
    plan = planned(path)
    asked: list[dict[str, Any]] = [
        {"limits": [150.0, 11.0], "confidence": 0.4},
        {"limits": [700.0, 40.0], "load": 31.0},
    ]
    for one in page_answers(search.render_report(plan), asked):
        edits = re.findall(r"--set (\S+)", one["command"])
        made = planned_again(plan, ScenarioFile(path).changed(read_edits(edits))[0])
        assert one["best"] == made.name(made.best)
        assert one["chance"] == pytest.approx(float(made.columns["slo_chance"][made.best]), abs=0.01)


@pytest.mark.browser
@pytest.mark.slow
def test_what_the_page_cannot_know_it_says(tmp_path: Path) -> None:
    plan = planned(written(tmp_path, "concurrency = 40", modes=BOTH))
    page = search.render_report(plan)
    asked: list[dict[str, Any]] = [
        {},
        {"load": 30},
        {"limits": [400.0, 30.0]},
        {"offered": [True, False]},
        {"offered": [False, False]},
    ]
    answers = page_answers(page, asked)
    assert answers[0]["best"] == plan.name(plan.best)
    assert answers[0]["usd"] == pytest.approx(float(plan.columns["usd_per_hour"][plan.best]))
    assert [bool(a["doubts"]) for a in answers[:4]] == [False, True, True, True]
    assert "--set workload.concurrency=30" in answers[1]["command"]
    assert "--set hardware.devices=h100-sxm" in answers[3]["command"]
    assert answers[4]["best"] is None
    assert "<b>Small" not in page


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_sizes_pairs_of_pools(tmp_path: Path) -> None:
    """Both pools have as many workers as the plan gives them under another load, with the same chance."""
    path = written(tmp_path, "request_rate_rps = 30", "confidence = 0.7", 'modes = ["disaggregated"]')
    plan = planned(path)
    answers = page_answers(search.render_report(plan), [{"load": 30.0 * times} for times in (0.3, 1.0, 3.7)])
    names = set()
    for one in answers:
        made = planned_again(
            plan, ScenarioFile(path).changed(read_edits(re.findall(r"--set (\S+)", one["command"])))[0]
        )
        best = made.best
        assert one["best"] == made.name(best)
        assert one["chance"] == pytest.approx(float(made.columns["slo_chance"][best]), abs=1e-3)
        assert not one["doubts"]
        names.add(one["best"])
    assert len(names) == 3


@pytest.mark.browser
@pytest.mark.slow
def test_a_price_of_the_reader_makes_tokens_of_an_unpriced_device_dear(tmp_path: Path) -> None:
    """Of replicas that the page does not count, dollars per million tokens follow from the price that is given."""
    path = tmp_path / "unpriced.toml"
    text = TEXT.format(load="n_requests = 500", limits="", modes="").replace('"l40s"', '"h200-nvl"')
    text = text.replace("l40s = 0.8", "").replace("h100-sxm = 2.5,", "h100-sxm = 2.5")
    path.write_text(text + '\n[objective]\nrank_by = "usd_per_million_tokens"\n', encoding="utf-8")
    plan = planned(path)
    assert np.isnan(plan.scorer.tariff.usd_per_hour[1])
    for one in page_answers(search.render_report(plan), [{"prices": [2.5, 90.0]}, {"prices": [2.5, 0.01]}]):
        edits = re.findall(r"--set (\S+)", one["command"])
        made = planned_again(plan, ScenarioFile(path).changed(read_edits(edits))[0])
        assert one["best"] == made.name(made.best)


@pytest.mark.browser
@pytest.mark.slow
def test_a_plan_that_fills_the_hardware_is_ranked_again_at_other_prices(tmp_path: Path) -> None:
    path = written(tmp_path, load="", limits="devices = 6")
    plan = planned(path)
    first, cheap = page_answers(search.render_report(plan), [{}, {"prices": [0.1, 0.8]}])
    assert first["best"] == plan.name(plan.best)
    assert first["doubts"] == 0
    found = search.try_changes(path, ["hardware.usd_per_hour.h100-sxm=0.1"]).trials[0].plan
    assert found is not None
    assert cheap["best"] == found.name(found.best)
    assert "request_rate_rps" not in cheap["command"]


def test_the_page_holds_the_replicas_of_the_plan_where_it_cannot_count_them(tmp_path: Path) -> None:
    for load, kind in (("request_rate_rps = 20", "open"), ("concurrency = 8", "closed"), ("n_requests = 50", "fixed")):
        data = live_data(planned(written(tmp_path, load)))
        assert data["kind"] == kind
        assert bool(data["layouts"]) is (kind != "fixed")
        assert bool(data["fixed"]) is (kind == "fixed")


def values_of(column: dict[str, Any]) -> Array:
    """The numbers of a column in steps of two bytes."""
    steps = np.frombuffer(base64.b64decode(column["steps"]), "<u2")
    values = np.where(steps > 0, column["low"] + column["step"] * (steps - 1.0), np.nan)
    return np.exp(values) if column.get("log") else values


def test_the_table_of_a_layout_covers_its_load(tmp_path: Path) -> None:
    data = live_data(planned(written(tmp_path)))
    table = {
        name: np.frombuffer(base64.b64decode(column), "<f4") if isinstance(column, str) else values_of(column)
        for name, column in data["table"]["columns"][0].items()
    }
    shape = (len(data["layouts"]), data["table"]["points"])
    assert (np.diff(data["table"]["shares"]) > 0).all()
    assert (np.array(data["table"]["greatest"]) > 0).all()
    kept = np.isfinite(table["bound_0"]).reshape(shape)
    assert kept[:, 0].any()
    assert (np.abs(table["related_0_1"]) <= 1.0).all()
    latency = np.where(kept, table["ttft_ms"].reshape(shape), np.inf)
    assert (latency[:, -1] >= latency[:, 0]).all()


def test_decode_workers_of_the_page_are_those_of_estimates(tmp_path: Path) -> None:
    """Time per token and watts of a decode worker at a load are those beside prefill workers in excess."""
    plan = planned(written(tmp_path, modes=BOTH))
    data = live_data(plan)["pools"]
    table = data["decode_table"]
    tpot = np.frombuffer(base64.b64decode(table["columns"]["tpot"]), "<f4").reshape(-1, table["points"])
    pair = plan.pairs.take(np.array([0]))
    at = [worker["name"] for worker in data["decode"]].index(plan.name(len(plan.layouts)).split(" x ", 2)[2])
    for point in (40, 90, 150):
        rate = np.array([table["greatest"][at] * table["shares"][point]])
        loads = replace(plan.scorer.loads(np.ones(1), pools=True), rate=rate)
        found = plan.scorer.target.estimates_of_pools(
            loads, (pair.prefill, pair.decode), (np.full(1, 4096.0), np.ones(1))
        )
        assert tpot[at, point] == pytest.approx(float(found.mean(found.tpot)[0]), rel=1e-6)


def test_pairs_of_layouts_that_the_page_leaves_out_stand_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_pools, "MOST_IN_ROLE", 2)
    plan = planned(written(tmp_path, modes=BOTH))
    keys = [tuple(pair["key"]) for pair in live_data(plan)["fixed"]]
    listed = [key for key in keys if min(key) >= 0]
    assert len(set(listed)) == len(listed) < len(keys)


def test_the_growth_of_a_plan_with_pools_is_of_whole_plans(tmp_path: Path) -> None:
    plan = planned(written(tmp_path, modes=BOTH))
    loads = loads_of_page(plan)
    assert loads is not None
    made = what_if(plan, tried=load_changes(grown(plan)))
    rows = {row["load_times"]: row for row in growth_rows(plan, loads, made)}
    assert tuple(rows) == GROWTH_OF_PAIRS
    more = planned_again(plan, load_changes((4.0,))[0].make(plan.scenario))
    assert rows[4.0]["candidate"] == more.name(more.best)
    assert rows[4.0]["usd_per_hour"] == float(more.columns["usd_per_hour"][more.best])


def test_columns_that_need_it_are_explained(tmp_path: Path) -> None:
    plan = planned(written(tmp_path, modes=BOTH))
    rows = [{"candidate": "2 x 4 h100-sxm, TP4", "utilisation": 0.6, "usd_per_hour_hi": 3.0}]
    assert reading_notes(plan, [{**rows[0], "utilisation": np.nan}]) == []
    (load,) = reading_notes(plan, rows)
    assert "at most 80 %" in load
    assert any("∞" in note for note in reading_notes(plan, [{**rows[0], "usd_per_hour_hi": np.inf}]))
