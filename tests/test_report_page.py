"""The page as such: whole, offline, safe to open, and drawn by a real browser."""

from __future__ import annotations

import base64
import gzip
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import plotly.graph_objects as go
import pytest

from search.report import charts
from search.report.chart_drawing.charts import Points, Ranges, Titles
from search.report.page_parts.html_page import Chip, Fact, Goal, Page, Section, Table, render

ROWS = [{"name": "a<b>", "tpot_ms": 12.5, "fits": True}, {"name": "second", "tpot_ms": float("nan"), "fits": False}]
FIGURES = {
    "front": charts.scatter(
        {"h100": Points([1.0, 2.0], [30.0, 20.0], ["one", "</script>"])},
        front=Points([1, 2], [30, 20]),
        chosen=Points([1.0], [30.0]),
        titles=Titles("Front", x="cost", y="TPOT"),
    ),
    "time": charts.stacked(["decode"], {"gemm": [60.0], "attention": [40.0]}, Titles("Time", x="%"), limit=80.0),
    "cost": charts.ranged_bars(Ranges(["h100"], [1.0], [0.5], [2.0]), Titles("Cost", x="$"), chosen="h100"),
    "whatif": charts.tornado(["rate", "price"], [20.0, float("nan")], Titles("What if", x="%")),
}


@pytest.fixture(scope="module")
def page() -> str:
    """A page with one of everything."""
    section = Section(
        id="all",
        title="All & everything",
        lead="A lead.",
        charts=list(FIGURES),
        command="perfmodel report x.toml",
        goals=[Goal("TTFT", 50, 77, "312 ms", "96 %", "good", (40, 20))],
        terms=[("version", "0.1.0")],
        notes=["note"],
        tables=[Table(ROWS, ["name", "tpot_ms", "fits"], sortable=True, chosen=("name", "a<b>"), id="candidates")],
    )
    return render(
        Page(
            title="Test",
            question="What?",
            headline="Rent <8> H100.",
            feasible=True,
            version="0.1.0",
            chips=[Chip("fine", "good")],
            facts=[Fact("Cost", "$1", "an hour", "a note")],
            sections=[section],
            charts=FIGURES,
        )
    )


class Outline(html.parser.HTMLParser):
    """Open elements, to see that each is closed, and every address that the page names."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_asks_nothing_of_the_network(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert not outline.open
    assert all(address.startswith("#") for address in outline.addresses)
    assert "@import" not in page
    assert "url(" not in page


def test_text_is_escaped(page: str) -> None:
    assert "Rent &lt;8&gt; H100." in page
    assert "a&lt;b&gt;" in page
    assert "</script>" not in re.search(r'id="charts">(.*?)</script>', page, re.S).group(1)  # type: ignore[union-attr]


def test_charts_are_json_with_null_for_unknown(page: str) -> None:
    held = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.S).group(1))  # type: ignore[union-attr]
    assert held["whatif"]["data"][0]["x"] == [20.0, None]


def test_plotly_is_packed_into_the_page(page: str) -> None:
    packed = re.search(r'id="plotly">(.*?)</script>', page, re.S).group(1)  # type: ignore[union-attr]
    assert b"Plotly" in gzip.decompress(base64.b64decode(packed))
    assert len(page) < 2.5e6


@pytest.mark.parametrize("name", FIGURES)
def test_charts_are_figures_that_plotly_accepts(name: str) -> None:
    go.Figure(FIGURES[name])


def test_biggest_change_stands_on_top() -> None:
    figure = charts.tornado(["small", "big", "down"], [1.0, 50.0, -20.0], Titles("", x=""))
    assert figure["data"][0]["y"] == ["+50 %  big", "-20 %  down", "+1 %  small"]


def test_the_same_page_twice(page: str) -> None:
    assert render(Page("t", "q", "h", True, "1")) == render(Page("t", "q", "h", True, "1"))


def browser() -> str:
    """The Chromium at hand; `make test` leaves browser tests out where there is none."""
    found = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    assert found, "no chromium: install it, or run pytest -m 'not browser'"
    return found


def in_browser(path: Path, folder: Path, *flags: str) -> str:
    """The page's document after its scripts have run."""
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--no-sandbox", f"--user-data-dir={folder}"]
    command = [browser(), "--headless", *quiet, "--virtual-time-budget=10000", *flags, "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_draws_every_chart(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    document = in_browser(path, tmp_path / "profile", "--host-resolver-rules=MAP * ~NOTFOUND")
    assert 'data-drawn="yes"' in document
    assert document.count('class="main-svg"') >= len(FIGURES)


@pytest.mark.browser
@pytest.mark.slow
def test_a_click_sorts_and_unknown_stays_last(page: str, tmp_path: Path) -> None:
    click = "<script>document.querySelectorAll('#candidates th')[1].click()</script></body>"
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", click), encoding="utf-8")
    document = in_browser(path, tmp_path / "profile")
    body = document[document.index("<tbody>", document.index('id="candidates"')) :]
    assert body.index("12.5") < body.index("second")
    assert 'aria-sort="ascending"' in document
