"""The report as Markdown, JSON and CSV, and its charts as figures: the same content as the page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import cli
import search
from hwdb import InputError, outfile
from perfmodel.costs import Roofline
from search.report import FORMS
from search.report.plan_page import answer
from search.whatif import as_planned

TEXT = """
title = "Small | *odd* <b>title</b>"
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 1000
output_tokens = 200
request_rate_rps = 5
[slo]
ttft_ms_p90 = 500
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1, 2]
pp = 1
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("forms") / "small.toml"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def plan(path: Path) -> search.Plan:
    return search.plan(search.load_scenario(path), costs=Roofline())


@pytest.fixture(autouse=True)
def _one_what_if(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "what_if", lambda plan, *_: [{**as_planned(plan), "what_if": "a | b"}])


def test_what_can_only_be_done_on_screen_is_neither_in_text_nor_on_paper(plan: search.Plan) -> None:
    page, text = search.render_report(plan), search.render_report(plan, form="md")
    for words in ("Click a heading to sort.", "Move SLOs, load, prices"):
        assert f'<span class="on-screen">{words}' in page
        assert words not in text
    assert ".on-screen { display: none; }" in page.partition("@media print {")[2].partition("</style>")[0]


def test_markdown_has_what_the_page_has_and_its_marks_are_escaped(plan: search.Plan) -> None:
    text = search.render_report(plan, form="md")
    assert search.headline(plan).split(":")[0] in text
    assert "# Small \\| \\*odd\\* \\<b\\>title" in text
    assert "| a \\| b |" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 4
    for table in tables:
        bars = {line.replace("\\|", "").count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(bars) == 1, table


def test_json_and_csv_have_the_rows_of_the_page(plan: search.Plan) -> None:
    content = json.loads(search.render_report(plan, form="json"))
    by_id = {section["id"]: section for section in content["sections"]}
    best = plan.rows(1)[0]
    row = by_id["candidates"]["tables"][0]["rows"][0]
    assert row["candidate"] == best["candidate"]
    assert row["usd_per_hour"] == best["usd_per_hour"]
    assert content["headline"] == search.headline(plan)
    lines = list(csv.DictReader(io.StringIO(search.render_report(plan, form="csv"))))
    tables = sum(len(t["rows"]) for s in content["sections"] for t in s["tables"])
    assert len(lines) == tables
    assert next(r for r in lines if r["section"] == "candidates")["candidate"] == best["candidate"]


def test_the_ending_of_the_file_or_the_flag_says_the_form(path: Path, tmp_path: Path) -> None:
    made = tmp_path / "r.md"
    assert cli.main(["report", str(path), "-o", str(made)]) == 0
    assert made.read_text().startswith("# Small")
    assert cli.main(["report", str(path), "-o", str(tmp_path / "r.docx")]) == 2
    assert not (tmp_path / "r.docx").exists()
    assert cli.main(["report", str(path), "--format", "docx"]) == 2
    with pytest.raises(InputError, match="html, md, json, csv"):
        search.render_report(None, form="docx")  # type: ignore[arg-type]
    assert set(FORMS) == {"html", "md", "json", "csv"}


def test_charts_are_figures(plan: search.Plan, path: Path) -> None:
    found = search.figures(plan)
    assert {"front-ttft_ms", "front-tpot_ms", "time", "memory"} <= set(found)
    assert found["memory"].data
    grid = search.try_changes(path, {}, "site.pue=1:2:3")
    drawn = search.figures(grid)
    assert list(drawn["power_w"].data[0].x) == [1, 1.5, 2]
    assert drawn["power_w"].data[0].y[2] == pytest.approx(2 * drawn["power_w"].data[0].y[0])
    with pytest.raises(InputError, match="a grid of numbers"):
        search.figures(search.try_changes(path, {"site.pue": 2}))


def test_an_output_is_checked_once_before_the_plan(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named pipe or a network folder is asked once; the file's own writing checks it again when it is done."""
    checked: list[str] = []

    def planned(*_: object, **__: object) -> None:
        raise InputError("enough")

    monkeypatch.setattr(outfile, "check", lambda output, *_: checked.append(str(output)))
    monkeypatch.setattr("search.commands.report.plan_of", planned)
    monkeypatch.chdir(tmp_path)
    for output, given in (("page.md", ["-o", "page.md"]), ("report.html", [])):
        checked.clear()
        assert cli.main(["report", str(path), *given]) == 2
        assert checked == [output]
