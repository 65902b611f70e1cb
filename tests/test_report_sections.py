"""The report and the what-ifs: they say what the plan says, and a browser draws them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli
import search
from hwdb import Infeasible
from search.output import headline, odds_note, step_time_rows
from search.planning.plan_analysis.explained import terms_of
from search.planning.plan_making.ranked_plan import Plan
from search.report import charts
from search.report.live_controls.live_data import loads_of_page
from search.report.live_controls.replica_loads import planned_load
from search.report.plan_page.load_curves import growth_rows, load_costs
from search.report.plan_page.plan_charts import lower_left_front
from search.report.plan_page.replay_section import LEAST_REPLAYED, MOST_REPLAYED, _count
from search.whatif import SAME, as_planned, changes, constraints, what_if

SCENARIO = """
title = "Two <cards>"
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 500
output_tokens = 100
request_rate_rps = 8
[slo]
ttft_ms_p90 = 1000
tpot_ms = 40
[hardware]
devices = ["h100-sxm", "l40s"]
usd_per_hour = { h100-sxm = 2.0, l40s = 0.8 }
[search]
tp = [1, 2]
pp = [1]
weight = ["bf16", "fp8"]
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenario as a file."""
    file = tmp_path_factory.mktemp("report") / "cards.toml"
    file.write_text(SCENARIO, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def plan(path: Path) -> Plan:
    """Its plan."""
    return search.plan(search.load_scenario(path), command="perfmodel report cards.toml")


@pytest.fixture(scope="module")
def tried(plan: Plan) -> dict[str, dict[str, object]]:
    """Its what-ifs by name."""
    return {str(row["what_if"]): row for row in what_if(plan)}


@pytest.fixture(scope="module")
def html(plan: Plan) -> str:
    """Its page."""
    return search.render_report(plan)


def test_headline_states_devices_cost_power_and_chance(plan: Plan) -> None:
    text, row = headline(plan), plan.row(plan.best)
    assert text.startswith(f"Take {row['devices']} x ")
    assert f"${row['usd_per_hour']:.2f} per hour" in text
    assert "kW" in text
    assert "sure that this plan keeps all SLOs" in text


def test_time_rows_sum_to_the_step(plan: Plan) -> None:
    for row in step_time_rows(terms_of(plan)):
        shares = [v for k, v in row.items() if k.endswith("_percent")]
        assert sum(shares) == pytest.approx(100.0)


def test_a_price_rise_of_all_costs_as_much_more(plan: Plan, tried: dict[str, dict[str, float]]) -> None:
    today = plan.columns["usd_per_hour"][plan.best]
    dearer = tried["its price + 20 %"]
    assert dearer["usd_per_hour"] <= 1.2 * today * (1 + 1e-9)  # at worst the same hardware for 20 % more
    assert dearer["usd_per_hour"] >= today


def test_cheaper_hardware_is_never_left_for_dearer(tried: dict[str, dict[str, float]]) -> None:
    assert tried["its price - 20 %"]["change_percent"] == pytest.approx(-20.0, abs=0.5)


def test_changes_are_against_the_plan_as_it_is(plan: Plan, tried: dict[str, dict[str, object]]) -> None:
    planned, best = as_planned(plan), plan.row(plan.best)
    for name in ("usd_per_hour", "devices", "power_w", "slo_chance"):
        assert planned[name] == best[name]
    assert {"SLO ÷ 2", "only h100-sxm", "price of h100-sxm - 20 %", "fp8 KV cache"} <= set(tried)
    for row in tried.values():
        if row["usd_per_hour"] == row["usd_per_hour"]:
            assert row["devices_change"] == row["devices"] - planned["devices"]
            for name, change in (("usd_per_hour", "change_percent"), ("power_w", "power_change_percent")):
                assert row[change] == pytest.approx(100.0 * (row[name] / planned[name] - 1.0), abs=1e-9)
    assert tried["only h100-sxm"]["usd_per_hour"] >= planned["usd_per_hour"]


def test_steps_that_were_priced_before_change_no_figure(plan: Plan, tried: dict[str, dict[str, object]]) -> None:
    for change in changes(plan):
        if change.name in ("SLO ÷ 2", "load × 2", "inputs × 2", "fp8 KV cache"):
            fresh = search.plan(change.make(plan.scenario))
            assert tried[change.name]["usd_per_hour"] == float(fresh.columns["usd_per_hour"][fresh.best])
            assert tried[change.name]["power_w"] == float(fresh.columns["power_w"][fresh.best])


def test_plans_that_are_made_together_are_those_made_alone(plan: Plan, tried: dict[str, dict[str, object]]) -> None:
    for change in [*changes(plan), *constraints(plan)][::4]:
        alone = what_if(plan, tried=[change])[0]
        both = what_if(plan, tried=[change, *changes(plan)[3:5]])[0]
        assert {k: str(v) for k, v in both.items()} == {k: str(v) for k, v in alone.items()}
        assert change.name not in tried or str(tried[change.name]) == str(alone)


def test_without_a_constraint_nothing_costs_more(plan: Plan) -> None:
    rows = what_if(plan, tried=constraints(plan))
    assert {"without TTFT p90 ≤ 1000 ms", "replicas used in full"} <= {row["what_if"] for row in rows}
    assert all(row["change_percent"] <= 1e-9 for row in rows)


def test_the_page_answers_three_questions_and_names_the_next(plan: Plan, html: str) -> None:
    row = plan.row(plan.best)
    for question in ("What would you buy?", "What would change your mind?", "What does it cost to be sure?"):
        assert question in html
    assert f"run as {row['candidate']}, for ${row['usd_per_hour']:.2f} per hour" in html
    assert 'id="why"' in html
    for section in ("load", "replay", "confidence", "constraints", "inputs", "winners"):
        assert f'<section id="{section}"' in html
    assert re.search(r'role="img" aria-label="Points: Cost against time to first token[^"]{40,}"', html)
    assert re.search(r"minutes of it, (paid by the node and )?with its start, cost about \$[0-9]", html)


def test_the_curve_of_the_cost_holds_the_plan(plan: Plan) -> None:
    table = loads_of_page(plan)
    assert table is not None
    costs = load_costs(plan, table, np.array([planned_load(plan)]))
    best = costs.cheapest(0)
    assert best is not None
    assert costs.usd[best, 0] == pytest.approx(plan.columns["usd_per_hour"][plan.best])
    wanted = plan.columns["replicas"][table.rows]
    close = np.abs(costs.replicas[:, 0] - wanted) <= np.maximum(1.0, 0.02 * wanted)
    assert close[plan.qualifies[table.rows]].all()
    rows = growth_rows(plan, table)
    usd = [row["usd_per_hour"] for row in rows]
    assert usd == sorted(usd)


def test_more_load_costs_more_and_may_break_what_stands(tried: dict[str, dict[str, float]]) -> None:
    assert tried["load × 2"]["change_percent"] >= 0.0
    assert tried["load ÷ 2"]["change_percent"] <= 0.0
    assert tried["load × 2"]["chance_if_nothing_changes"] <= tried["load ÷ 2"]["chance_if_nothing_changes"]


def test_tighter_bounds_never_cost_less(tried: dict[str, dict[str, float]]) -> None:
    assert tried["SLO 20 % tighter"]["change_percent"] >= -1e-9
    assert tried["SLO 20 % looser"]["change_percent"] <= 1e-9
    chances = [tried[f"SLO 20 % {word}"]["chance_if_nothing_changes"] for word in ("tighter", "looser")]
    assert chances[0] < chances[1]


def test_without_the_winner_another_device_answers(plan: Plan, tried: dict[str, dict[str, object]]) -> None:
    winner = plan.row(plan.best)["device"]
    answer = str(tried[f"without {winner}"]["answer"])
    assert winner not in answer
    assert {"h100-sxm", "l40s"} - {winner} == {d for d in ("h100-sxm", "l40s") if d in answer}


def test_each_change_changes_one_thing(plan: Plan) -> None:
    names = [c.name for c in changes(plan)]
    assert len(set(names)) == len(names)
    for change in changes(plan):
        other = change.make(plan.scenario)
        parts = [f for f in other.__dataclass_fields__ if getattr(other, f) is not getattr(plan.scenario, f)]
        assert len(parts) == 1, change.name


def test_the_page_says_what_the_plan_says(plan: Plan, html: str) -> None:
    assert "Two &lt;cards&gt;" in html
    assert "perfmodel report cards.toml" in html
    assert plan.manifest.hardware_sha256 in html
    for row in plan.rows(5, 0):
        assert row["candidate"] in html


def test_the_page_says_how_often_the_recommendation_is_the_better_choice(plan: Plan, html: str) -> None:
    (odds,) = odds_note(plan.rows(60, 5))
    assert re.search(r"rank 1, the recommendation, is the better choice than rank 2 in \d+ of 100", odds)
    assert f'<p class="odds">{odds}</p>' in html


def test_charts_hold_the_plan(plan: Plan, html: str) -> None:
    held = json.loads(re.search(r'id="charts">(.*?)</script>', html, re.S).group(1))  # type: ignore[union-attr]
    drawn = sum(len(d["x"]) for d in held["front-tpot_ms"]["data"] if d.get("mode") == "markers") - 1
    assert drawn == int(plan.qualifies.sum())
    for phase in range(2):
        assert sum(d["x"][phase] for d in held["time"]["data"]) == pytest.approx(100.0)
    memory = sum(d["x"][0] for d in held["memory"]["data"])
    assert memory == pytest.approx(plan.columns["memory_gb_per_device"][plan.best])


def test_the_front_holds_what_nothing_beats() -> None:
    x, y = np.array([1.0, 2.0, 3.0, 1.5, 2.0]), np.array([9.0, 5.0, 6.0, 9.5, 5.5])
    front = lower_left_front(x, y)
    assert (front.x, front.y) == ([1.0, 2.0], [9.0, 5.0])


def test_an_impossible_request_makes_a_page_that_says_why(plan: Plan) -> None:
    slo = replace(plan.scenario.slo, objectives=tuple(replace(o, limit=1e-6) for o in plan.scenario.slo.objectives))
    none = search.plan(replace(plan.scenario, slo=slo))
    html = search.render_report(none)
    assert "nothing meets the request" in html
    assert "answer none" in html
    with pytest.raises(Infeasible):
        what_if(none)


def test_without_prices_and_bounds_the_page_speaks_of_energy(tmp_path: Path) -> None:
    text = SCENARIO.split("[slo]")[0].replace("request_rate_rps = 8", "concurrency = 8")
    file = tmp_path / "bare.toml"
    file.write_text(text + '[hardware]\ndevices = ["a30", "mi210"]\n[search]\ntp = [1]\npp = [1]\n', encoding="utf-8")
    found = search.plan(search.load_scenario(file))
    assert np.isnan(found.columns["usd_per_hour"]).all()
    html = search.render_report(found)
    assert "Energy against time to first token" in html
    shown = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert "nan" not in shown
    assert "sure %" not in shown.lower()


def test_narrow_axes_start_at_zero_and_wide_ones_are_logarithmic() -> None:
    assert charts.axis_scale([1.0, 2.0]) == {"rangemode": "tozero"}
    assert charts.axis_scale([1.0, 200.0])["type"] == "log"


@pytest.mark.browser
@pytest.mark.slow
def test_the_command_writes_a_page_that_a_browser_draws(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert cli.main(["report", str(path), "-o", str(page)]) == 0
    assert "Take " in capsys.readouterr().out
    assert page.stat().st_size < 3e6
    found = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    assert found, "no chromium: install it, or run pytest -m 'not browser'"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'own'}",
        "--virtual-time-budget=10000",
        "--window-size=1280,3000",
    ]
    command = [found, *flags, f"--screenshot={tmp_path / 'shot.png'}", "--dump-dom", page.as_uri()]
    document = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert 'data-drawn="yes"' in document
    assert document.count('class="main-svg"') >= 6
    assert "the tables hold the same figures" not in document.split("<script>")[0]
    shot = tmp_path / "shot.png"
    assert shot.exists()
    assert shot.stat().st_size > 50_000  # an empty page compresses to a few kilobytes


def test_growth_has_the_answers_of_whole_plans(plan: Plan, tried: dict[str, dict[str, Any]]) -> None:
    loads = loads_of_page(plan)
    assert loads is not None
    rows = {row["load_times"]: row for row in growth_rows(plan, loads, list(tried.values()))}
    assert rows[1.0]["candidate"] == plan.name(plan.best)
    for times, change in ((0.5, "load ÷ 2"), (2.0, "load × 2")):
        answer = tried[change]["answer"]
        assert rows[times]["candidate"] == (plan.name(plan.best) if answer == SAME else answer)
        assert rows[times]["usd_per_hour"] == tried[change]["usd_per_hour"]


def test_a_replay_outlasts_the_longest_answers(plan: Plan) -> None:
    few = _count(plan)
    work = replace(plan.scorer.target.workload, output_tokens=100.0 * plan.scorer.target.workload.output_tokens)
    target = replace(plan.scorer.target, workload=work)
    longer = replace(plan, scorer=replace(plan.scorer, target=target))
    assert few == LEAST_REPLAYED
    assert few < _count(longer) <= MOST_REPLAYED
