"""Charts and tables of notebooks: their figures are those of the frame, and errors name the argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from hwdb import InputError
from search.notebook import PlanView, Sweep

SMALL = """
title = "<b>small</b>"
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 500
output_tokens = 50
request_rate_rps = 4
[slo]
ttft_ms_p95 = 500
[hardware]
devices = ["h100-sxm", "l40s"]
[search]
tp = [1]
pp = 1
"""


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """Return a sweep of two devices over three loads."""
    return search.sweep("llama-3.1-8b", ["h100-sxm", "l40s"], concurrency=[1, 8, 32], osl=64)


@pytest.fixture(scope="module")
def plan() -> PlanView:
    """Return the plan of a small scenario, given as text."""
    return search.plan(SMALL)


def test_lines_have_the_figures_of_the_frame(sweep: Sweep) -> None:
    frame, drawn = sweep.frame(), sweep.plot("sweep", y="tpot_ms")
    assert [line.name for line in drawn.data] == ["h100-sxm", "l40s"]
    for line in drawn.data:
        own = frame[frame.device == line.name]
        assert list(line.x) == [1, 8, 32]
        assert list(line.y) == own.tpot_ms.tolist()
    assert drawn.layout.title.text == "TPOT ms over Concurrency"
    assert sweep.plot("power").data[0].y[0] == frame.power_w_per_device[0]


def test_lines_over_an_answer_run_along_the_load(sweep: Sweep) -> None:
    line = sweep.plot("sweep", x="tpot_ms").data[0]
    assert list(line.x) == sweep.frame().tpot_ms[:3].tolist()


def test_nothing_is_better_than_the_front(sweep: Sweep) -> None:
    drawn = sweep.plot("front")
    points = np.array([(x, y) for group in drawn.data[:2] for x, y in zip(group.x, group.y, strict=True)])
    front = next(trace for trace in drawn.data if trace.name == "Pareto front")
    for x, y in zip(front.x, front.y, strict=True):
        assert not ((points < (x, y)).all(axis=1)).any()
    assert len(points) == len(sweep)


def test_a_waterfall_ends_at_ttft_and_tpot(sweep: Sweep) -> None:
    drawn, frame = sweep.plot("waterfall", row=2), sweep.frame()
    for fall, total in zip(drawn.data, (frame.ttft_ms[2], frame.tpot_ms[2]), strict=True):
        assert fall.y[-1] == pytest.approx(total)
        assert sum(fall.y[:-1]) == pytest.approx(total, rel=0.02)


def test_operators_stay_under_the_roof(sweep: Sweep) -> None:
    drawn = sweep.plot("roofline", row=0)
    roof = next(trace for trace in drawn.data if trace.name == "limit, bf16")
    for trace in (t for t in drawn.data if t.mode == "markers"):
        assert (np.array(trace.y) <= np.interp(trace.x, roof.x, roof.y) * 1.01).all()


def test_percentiles_rise_and_a_replay_is_drawn(sweep: Sweep) -> None:
    drawn = sweep.plot("latency", row=1, requests=20)
    assert [t.name for t in drawn.data if "replayed" in t.name] == ["TTFT, replayed", "TPOT, replayed", "E2E, replayed"]
    for trace in drawn.data:
        assert (np.diff(trace.x) >= 0).all()
        assert 0 < min(trace.y) <= max(trace.y) <= 100


def test_a_notebook_shows_a_table(sweep: Sweep) -> None:
    shown = sweep._repr_html_()
    assert shown.count("<tr") == len(sweep) + 1
    assert "usd_per_million_tokens" in shown
    assert repr(sweep) == "Sweep of 6 rows over device, concurrency"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "frnt"}, "kind 'frnt' is unknown; did you mean 'front'"),
    ({"x": "tpot"}, "x 'tpot' is no column; did you mean tpot_ms"),
    ({"y": "device"}, "y 'device' holds words"),
    ({"kind": "waterfall", "row": 6}, "row 6 does not exist; give a whole number from 0 to 5"),
    ({"kind": "roofline", "row": -1}, "row -1 does not exist"),
    ({"kind": "latency", "row": "a"}, "row 'a' does not exist"),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[said for _, said in WRONG])
def test_errors_of_plot_name_the_argument(sweep: Sweep, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        sweep.plot(**given)


def test_a_plan_has_a_table_charts_and_operators(plan: PlanView) -> None:
    frame = plan.frame()
    assert {"device", "tp", "weight", "kv", "usd_per_hour", "ttft_ms", "power_w"} <= {*frame}
    assert plan.explain().time_us.sum() > 0
    for kind in ("front", "front-tpot", "devices", "memory", "waterfall", "roofline", "latency"):
        drawn = plan.plot(kind)
        assert drawn.data, kind
        assert drawn.layout.title.text, kind
    assert plan.plot("power", requests=20).data[0].y
    assert "&lt;b&gt;" not in repr(plan)
    assert "<b>small</b>" not in plan._repr_html_()
    with pytest.raises(InputError, match="kind 'fronts' is unknown"):
        plan.plot("fronts")
    with pytest.raises(InputError, match="number 99 is no candidate"):
        plan.explain(99)
    mistaken: list[Any] = [-1, "20", 2.5, True]
    for wrong in mistaken:
        with pytest.raises(InputError, match=r"requests is .*give a whole number of 0 or more"):
            plan.plot("power", requests=wrong)


def test_a_plan_of_a_mapping_is_that_of_the_text(plan: PlanView) -> None:
    tables = {
        "model": {"name": "meta-llama/Llama-3.1-8B"},
        "workload": {"input_tokens": 500, "output_tokens": 50, "request_rate_rps": 4},
        "slo": {"ttft_ms_p95": 500},
        "hardware": {"devices": ["h100-sxm", "l40s"]},
        "search": {"tp": [1], "pp": 1},
    }
    assert search.plan(tables).frame().usd_per_hour.tolist() == plan.frame().usd_per_hour.tolist()
    with pytest.raises(InputError, match="scenario 3 is no scenario"):
        search.plan(3)


def test_a_plan_that_nothing_meets_says_so() -> None:
    found = search.plan(SMALL.replace("ttft_ms_p95 = 500", "ttft_ms_p95 = 0.5"))
    assert "nothing meets the request" in found._repr_html_()
    assert "nothing meets the request" in repr(found)


FLEET = """
title = "<i>two</i>"
[fleet]
hours = [16, 8]
[[fleet.class]]
name = "chat"
model = "meta-llama/Llama-3.1-8B"
input_tokens = 500
output_tokens = 50
request_rate_rps = [3, 9]
slo = { ttft_ms_p95 = 900 }
[[fleet.class]]
name = "mail <b>"
model = "meta-llama/Llama-3.1-70B"
input_tokens = 500
output_tokens = 50
request_rate_rps = [1, 4]
[[fleet.option]]
device = "l40s"
tp = 1
models = ["meta-llama/Llama-3.1-8B"]
[[fleet.option]]
name = "stated"
device = "h100-sxm"
usd_per_hour = 4
throughput_rps = { "mail <b>" = 3 }
"""


def test_a_fleet_has_a_table_charts_and_operators() -> None:
    fleet = search.plan_fleet(FLEET)
    frame, cost = fleet.frame(), fleet.plot()
    over_the_day = [sum(line.y[t] for line in cost.data) for t in (0, 1)]
    assert fleet.scaled is not None
    assert over_the_day == pytest.approx(fleet.scaled.hourly().sum(axis=0).tolist())
    for kind in ("used", "sure", "shares", "rate", "replicas", "power"):
        assert fleet.plot(kind).layout.title.text
    terms = fleet.explain()
    assert set(terms.phase) == {"prefill", "decode"}
    assert terms.groupby("phase").share_percent.sum().tolist() == pytest.approx([100.0, 100.0])
    assert fleet.latency()["class"].tolist() == ["chat"]
    assert fleet.alternatives().usd_per_hour.iloc[0] == fleet.usd_per_hour
    shown = fleet._repr_html_()
    assert "mail &lt;b&gt;" in shown
    assert f"{frame.usd_per_hour.iloc[0]:.4g}" in shown
    for wrong, said in (
        (lambda: fleet.plot("cots"), "did you mean 'cost'"),
        (lambda: fleet.plot("limits"), "nothing to show for this fleet"),
        (lambda: fleet.explain("stated"), "option 'stated' has no operators"),
        (lambda: fleet.explain("l40s"), "option 'l40s' is not in use"),
        (lambda: search.plan_fleet(3), "plan_fleet: scenario 3 is no scenario"),
    ):
        with pytest.raises(InputError, match=said):
            wrong()


def test_what_ifs_have_charts(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    grid = search.try_changes(path, grid="workload.request_rate_rps=2,40")
    line = grid.plot().data[0]
    assert (list(line.x), list(line.y)) == ([2, 40], [t.plan.row(t.plan.best)["usd_per_hour"] for t in grid.trials])
    one = search.try_changes(path, ["workload.input_tokens*=2"])
    assert "input_tokens" in one._repr_html_()
    assert one.plot("power_w").layout.title.text.startswith("Power W")
    with pytest.raises(InputError, match="kind 'watts' is unknown"):
        one.plot("watts")


def test_a_study_has_a_table_and_charts(plan: PlanView) -> None:
    budget = search.Budget(trials=4, requests=30, batch=4)
    found = search.tune(plan, vary=["max_num_batched_tokens=512,2048"], budget=budget)
    front = found.plot()
    frame = found.frame()
    drawn = sorted(x for group in front.data for x in group.x or ())
    able = frame[(frame.state == "complete") & frame.meets_slo]
    assert set(drawn) >= set(able.usd_per_hour)
    assert len(found.plot("trials").data[0].x) == len(able)
    assert "usd_per_hour" in found._repr_html_()
    with pytest.raises(InputError, match="kind 'fronts' is unknown"):
        found.plot("fronts")


def test_estimates_show_their_main_columns(sweep: Sweep) -> None:
    found = sweep.parts[0].estimates
    shown = found._repr_html_()
    assert "6 rows" in shown
    assert f"{found.frame().tpot_ms[0]:.4g}" in shown
