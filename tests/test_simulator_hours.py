"""A simulated day by the hour, and what a simulated plan costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cli
import search
from perfmodel.costs import Roofline
from search.planning import hourly, verify

SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
{workload}
[slo]
ttft_ms_p90 = 1500
tpot_ms_p90 = 40
[hardware]
devices = ["h100-sxm"]
usd_per_hour = {{ h100-sxm = 3.0 }}
[search]
tp = [1]
pp = 1
[objective]
rank_by = "{rank_by}"
"""


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    """A scenario with a trace of a little more than three hours, the second of which is busy."""
    rng = np.random.default_rng(5)
    arrived = np.sort(
        np.concatenate([rng.uniform(0, 3 * 3600, 60), rng.uniform(3600, 7200, 240), [0.0, 3 * 3600 + 60]])
    )
    rows = [f"{t:.2f},{rng.integers(50, 900)},{rng.integers(5, 60)}" for t in arrived]
    (tmp_path / "t.csv").write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]))
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.format(workload='trace = "t.csv"', rank_by="usd_per_hour"))
    return path


def test_a_trace_is_shown_by_the_hour_and_a_plan_by_its_cost(traced: Path) -> None:
    plan = search.plan(search.load_scenario(traced), costs=Roofline())
    row, number, found = verify.simulated(plan, 1)
    hours = hourly.hour_rows(plan, number, found)
    assert [h["start_h"] for h in hours] == [0, 1, 2]
    assert sum(h["requests"] for h in hours) == row["requests"] == 302
    tokens = found.traffic.output_tokens[found.issued - found.issued.min() < 3600].sum()
    assert hours[0]["output_tok_s"] == pytest.approx(tokens / 3600)
    assert hours[1]["request_rate_rps"] > 3 * hours[0]["request_rate_rps"]
    usd = plan.columns["usd_per_hour"][number]
    assert row["usd_per_hour"] == usd
    assert row["usd_per_million_tokens"] == pytest.approx(usd / 3600 / row["output_tok_s"] * 1e6)
    for hour in hours:
        assert hour["usd_per_million_tokens"] == pytest.approx(usd / 3600 / hour["output_tok_s"] * 1e6)
        assert 0 <= hour["slo_attainment"] <= 1
        assert hour["ttft_ms_p90"] > 0
        assert hour["tpot_ms_p90"] > 0


def test_the_screen_has_cost_and_hours(traced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", str(traced)]) == 0
    said = capsys.readouterr().out
    assert "Cost of the whole plan" in said
    assert "By the hour of arrival" in said


def test_rates_that_are_stated_by_the_hour_are_simulated_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    workload = "input_tokens = 200\noutput_tokens = 20\nrate_by_hour = [1, 4, 1, 0]"
    path.write_text(SCENARIO.format(workload=workload, rank_by="usd_per_hour"))
    plan = search.plan(search.load_scenario(path), costs=Roofline())
    rows = hourly.simulated_hours(plan, plan.best, verify.Settings(count=300))
    assert [r["request_rate_rps"] for r in rows] == [1, 4, 1, 0]
    assert rows[0]["ttft_ms_p90"] == rows[2]["ttft_ms_p90"] <= rows[1]["ttft_ms_p90"]
    assert rows[1]["requests"] == 4 * 3600


def test_the_most_traffic_of_a_trace_is_replayed_at_the_rate_of_the_plan(traced: Path) -> None:
    text = traced.read_text().replace('"usd_per_hour"', '"request_rate_rps"')
    traced.write_text(text.replace("[search]", "stock = { h100-sxm = 1 }\n[search]"))
    plan = search.plan(search.load_scenario(traced), costs=Roofline())
    drawn = verify.requests(plan, plan.best)
    span = float(drawn.arrival.max() - drawn.arrival.min())
    assert len(drawn) / span == pytest.approx(plan.columns["request_rate_rps"][plan.best], rel=0.02)


def test_a_part_of_a_trace_says_so(traced: Path) -> None:
    plan = search.plan(search.load_scenario(traced), costs=Roofline())
    row, _, found = verify.simulated(plan, 1, verify.Settings(count=40))
    rate = 40 / found.issued.max()
    assert f"only the first 40 of 302 requests of the trace were replayed, which come at {rate:.3g}" in row["remark"]
    assert "--requests 302 replays all" in row["remark"]
    whole, _, _ = verify.simulated(plan, 1)
    assert "only the first" not in whole["remark"]
