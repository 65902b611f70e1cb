"""The page of a fleet: it says what the fleet says, in every form; pictures say what they need."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cli
import search
from benchmarks.live_report import BROWSERS
from benchmarks.report_pages import PHONE, looked_at, near, totals_of_fleet
from hwdb import InputError
from search.fleet import FleetPlan, alternative_rows, latency_rows, plan_fleet
from search.output import percent
from search.report import page_of_fleet, render_fleet_report, write_pictures
from search.report.chart_drawing import images
from search.report.chart_drawing.charts import Points, Titles
from search.report.chart_drawing.curve_charts import Limits, Parts, distribution, kinds_of_bars, lines, waterfall
from search.report.chart_drawing.descriptions import described

TEXT = """
title = "Two <classes>"
[limits]
nodes = 3
[fleet]
hours = [16, 8]
[[fleet.class]]
name = "chat <b>"
request_rate_rps = [2, 9]
[[fleet.class]]
name = "code"
request_rate_rps = [1, 4]
[[fleet.option]]
name = "small"
device = "l40s"
usd_per_hour = 1
throughput_rps = { "chat <b>" = 3, code = 1 }
[[fleet.option]]
name = "large"
device = "h100-sxm"
usd_per_hour = 4
throughput_rps = { "chat <b>" = 9, code = 8 }
"""

MODELLED = """
[limits]
utilisation = 0.95
[fleet]
[[fleet.class]]
name = "chat"
model = "meta-llama/Llama-3.1-8B-Instruct"
input_tokens = 800
output_tokens = 150
request_rate_rps = 40
slo = { ttft_ms_p95 = 900, tpot_ms = 30 }
[[fleet.option]]
device = "h100-sxm"
tp = 1
[[fleet.option]]
device = "l40s"
tp = [1, 2]
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fleet") / "two.toml"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def fleet(path: Path) -> FleetPlan:
    return plan_fleet(search.load_scenario(path))


def test_the_page_holds_the_rows_of_the_fleet(fleet: FleetPlan, path: Path) -> None:
    content = json.loads(render_fleet_report(fleet, "json", str(path), "Two <classes>"))
    tables = {table["id"]: table["rows"] for section in content["sections"] for table in section["tables"]}
    assert [r["usd_per_hour"] for r in tables["options"]] == [r["usd_per_hour"] for r in fleet.rows()]
    assert len(tables["shares"]) == len(fleet.share_rows())
    assert {r["limit"] for r in tables.get("binding", [])} == {r["limit"] for r in fleet.binding_rows()}
    cost = content["charts"]["hours-cost"]["data"]
    assert sum(trace["y"][0] for trace in cost) == pytest.approx(tables["by-the-hour"][0]["usd_per_hour"])
    for share in zip(*(trace["y"] for trace in content["charts"]["shares"]["data"]), strict=True):
        assert sum(share) == pytest.approx(100.0)
    rows = list(csv.DictReader(io.StringIO(render_fleet_report(fleet, "csv", str(path)))))
    assert len(rows) == sum(len(t) for t in tables.values())


def test_names_are_escaped_and_the_scenario_stands_on_the_page(fleet: FleetPlan, path: Path) -> None:
    page = page_of_fleet(fleet, str(path), "Two <classes>")
    html = render_fleet_report(fleet, "html", str(path), "Two <classes>")
    assert "chat &lt;b&gt;" in html
    assert "<b>" not in html.split("<script")[0]
    assert "Two &lt;classes&gt;" in html
    assert "request_rate_rps = [2, 9]" in html
    assert all(re.search(rf'id="chart-{name}" role="img" aria-label="[^"]+', html) for name in page.charts)
    with pytest.raises(InputError, match="html, md, json, csv"):
        render_fleet_report(fleet, "docx")


def test_the_commands_write_the_page_of_a_fleet(path: Path, tmp_path: Path) -> None:
    made = tmp_path / "fleet.md"
    assert cli.main(["report", str(path), "-o", str(made)]) == 0
    assert made.read_text(encoding="utf-8").startswith("# Two")
    assert cli.main(["report", str(path), "--format", "svg", "-o", str(made)]) == 2  # a file, not a folder
    again = tmp_path / "again.html"
    assert cli.main(["fleet", str(path), "--report", str(again)]) == 0
    assert "Two &lt;classes&gt;" in again.read_text(encoding="utf-8")


def test_the_page_answers_its_three_questions(tmp_path: Path) -> None:
    """A modelled fleet: why not the next, each SLO beside its estimate, what a surer fleet costs."""
    path = tmp_path / "modelled.toml"
    path.write_text(MODELLED.replace("900", "150"), encoding="utf-8")
    scenario = search.load_scenario(path)
    found = plan_fleet(scenario)
    page = page_of_fleet(found, scenario=scenario)
    brief, goals = page.sections[0], next(s for s in page.sections if s.id == "objectives").goals
    rows, limits = latency_rows(found), {"TTFT p95": "150 ms", "TPOT mean": "30 ms"}
    assert {g.name.split(": ")[-1]: g.says.split(" of ")[-1] for g in goals} == limits
    assert [g.verdict for g in goals] == [percent(r["slo_bound_chance"]) for r in rows]
    text = " ".join(brief.answers[2].says)
    surer = plan_fleet(replace(scenario, limits=replace(scenario.limits, confidence=0.9)))
    assert f"${surer.usd_per_hour:.2f} per hour" in text
    assert surer.usd_per_hour > found.usd_per_hour
    others = alternative_rows(found)[1:]
    assert [r["what_if"] for r in brief.tables[0].rows] == [r["what_if"] for r in others]
    assert all(
        f"${r['usd_per_hour']:.2f} per hour" in w["why_not"] for r, w in zip(others, brief.tables[0].rows, strict=True)
    )
    assert f"chance of {percent(min(r['slo_chance'] for r in found.rows()))}" in page.summary


def test_what_a_page_shows_and_what_the_tool_says_are_compared() -> None:
    rows = [{"period": p, "usd_per_hour": 9.6, "fleet_usd_per_hour": 19.2, "fleet_power_w": 4700.0} for p in (1, 2)]
    rows = [{**row, "fleet_usd_per_month": 14016.0, "fleet_usd_per_request": 0.0004} for row in rows]
    facts = {"Cost": "$19.20 /h", "Month": "$14,016", "Request": "$0.000400", "Power": "4.70 kW"}
    seen = {"facts": facts, "tables": {"options": [{"$ per hour": "9.60"}, {"$ per hour": "9.60"}]}}
    assert all(near(page, tool) for _, page, tool in totals_of_fleet(seen, rows))
    seen["tables"]["options"][1]["$ per hour"] = "9.70"
    assert [where for where, *both in totals_of_fleet(seen, rows) if not near(*both)] == [
        "options: $ per hour, all rows"
    ]


def test_a_fleet_that_stays_all_day_says_what_following_the_load_would_cost(fleet: FleetPlan) -> None:
    text = render_fleet_report(fleet, "md")
    other = fleet.scaled or fleet.static
    assert other is not None
    assert f"${other.usd_per_hour:.2f} per hour" in text
    assert f"${fleet.usd_per_hour:.2f}" in text


def test_pictures_say_what_is_missing(fleet: FleetPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charts = page_of_fleet(fleet).charts
    with pytest.raises(InputError, match="png or svg"):
        write_pictures(charts, tmp_path, "gif")
    monkeypatch.setattr(images, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"perfmodel\[images\]"):
        write_pictures(charts, tmp_path, "svg")
    assert all(images.titled(chart)["layout"]["title"]["text"] for chart in charts.values())


def test_charts_are_described_in_words() -> None:
    drawn = lines({"a": Points([1, 2], [3.0, 9.0])}, Titles("Cost", x="load", y="$"), Limits(x=[1.5]))
    assert described(drawn) == "Lines: Cost, $ against load. a: 2 values from 3 to 9. Dashed line at 1.50."
    bars = kinds_of_bars(Parts(["x", "y"], [1.0, 2.0], ["k", "k"]), Titles("Bars", x="%"))
    assert "k: x 1; y 2" in described(bars)
    fall = waterfall(Parts(["first", "second"], [1.0, 2.0]), Titles("Sum", x="ms"))
    assert fall["data"][0]["measure"] == ["relative", "relative", "total"]


def test_a_distribution_rises_to_all_values() -> None:
    points = distribution(np.array([3.0, 1.0, np.nan, 2.0]))
    assert points.x[0] == 1.0
    assert points.x[-1] == 3.0
    assert points.y[-1] == pytest.approx(100.0)
    assert list(points.y) == sorted(points.y)


@pytest.mark.browser
@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium draws the pictures here")
def test_a_picture_has_its_size_and_is_not_blank(tmp_path: Path) -> None:
    """The header of a PNG states its size; its rows, unpacked, have the colour of a bar as well as that of paper."""
    pytest.importorskip("kaleido", reason="pictures need perfmodel[images]")
    parts = Parts(["one", "two"], [1.0, 3.0], ["l40s", "h100-sxm"])
    chart = kinds_of_bars(parts, Titles("Bars", x="%"))
    png, svg = (write_pictures({"bars": chart}, tmp_path, form)[0] for form in ("png", "svg"))
    content = png.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
    assert (width, height) == (images.WIDTH * images.SCALE, images.LEAST_PICTURE_HEIGHT * images.SCALE)
    assert depth == 8
    assert inked(content, width, height, {2: 3, 6: 4}[kind]) > 0.02  # bars, words and lines cover more than a fiftieth
    drawn = svg.read_text(encoding="utf-8")
    assert f'width="{images.WIDTH}"' in drawn
    assert "Bars" in drawn


def inked(content: bytes, width: int, height: int, channels: int) -> float:
    """Return the share of pixels of a PNG that differ from their left or upper neighbour or from white paper.

    The filters of a PNG store differences to neighbours, so a blank picture is zeros after its first row.
    """
    chunks, at = b"", 8
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        chunks += content[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        at += 12 + size
    rows = np.frombuffer(zlib.decompress(chunks), np.uint8).reshape(height, 1 + width * channels)[1:, 1:]
    values = rows.reshape(height - 1, width, channels)[:, 1:, :3]
    return float(((values != 0) & (values != 255)).any(axis=2).mean())


@pytest.mark.browser
@pytest.mark.slow
def test_on_a_phone_nothing_is_cut_and_every_control_works(path: Path, fleet: FleetPlan) -> None:
    seen = looked_at(render_fleet_report(fleet, "html", str(path), "Two <classes>"), PHONE)
    assert seen["found"] == []
    assert seen["charts"] == len(page_of_fleet(fleet).charts)


@pytest.mark.browser
@pytest.mark.slow
def test_on_paper_charts_stand_side_by_side(path: Path, fleet: FleetPlan, tmp_path: Path) -> None:
    """The page takes fewer sheets than with one chart per line."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    page = render_fleet_report(fleet, "html", str(path), "Two classes")
    one_column = page.replace("grid-template-columns: 1fr 1fr;", "grid-template-columns: 1fr;").replace(
        "HALF = 322", "HALF = 676"
    )
    assert one_column != page
    sheets = []
    for number, text in enumerate((page, one_column)):
        source, printed = tmp_path / f"{number}.html", tmp_path / f"{number}.pdf"
        source.write_text(text, encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
        subprocess.run([*command, f"--print-to-pdf={printed}", source.as_uri()], check=True, capture_output=True)
        sheets.append(len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())))
    assert sheets[0] < sheets[1]
