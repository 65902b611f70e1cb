"""The parts of a report page, and how they become one self-contained HTML document. Knows nothing of plans.

Template, style sheet and script are in `search/report/templates`. The script of Plotly comes from the installed
package. It is compressed into the page and unpacked by the browser: a page has about 2 MB and loads nothing from the
network.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from search.output import Row, heading, json_value, with_range, without_nan
from search.report.chart_drawing.descriptions import described

#: Fields of a page that the template gets in another form.
_PACKED = ("charts", "version", "live")
_TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class Chip:
    """A short remark under the headline. tone: its colour, one of good, warn, bad or empty (neutral)."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Fact:
    """A key number of the plan with its unit, and one line of context below it."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """One objective of the SLO as a horizontal bar: the estimate against the limit.

    middle, limit: positions of the estimate and of the limit, in percent of the bar's length. range: (left, width) of
    the 80 % interval, in percent; empty where there is none. says: estimate and limit in words. verdict: the
    probability that the objective holds. tone: colour of the verdict, as in `Chip`.
    """

    name: str
    middle: float
    limit: float
    says: str
    verdict: str
    tone: str
    range: tuple[float, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    sortable: a click on a heading sorts. wide: columns whose text wraps. Chosen: (column, value) of the row to mark.
    id: of the HTML element.
    """

    rows: Sequence[Row]
    columns: Sequence[str]
    title: str = ""
    sortable: bool = False
    wide: Sequence[str] = ()
    chosen: tuple[str, Any] | None = None
    id: str = ""


@dataclass(frozen=True)
class Answer:
    """A question of the reader, and the answer as paragraphs, then points."""

    question: str
    says: Sequence[str]
    points: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page. Empty fields are not shown.

    id: of the HTML element. short: its name in the navigation (default: the title). lead: the sentence under the title.
    on_screen: what follows it where the page can be worked with; left out on paper and in text.
    live: whether the controls stand here. answers: to questions.
    goals: bars of objectives. charts: names of figures in `Page.charts`. terms: (name, value) pairs. command: shown as
    code.
    """

    id: str
    title: str
    lead: str
    short: str = ""
    on_screen: str = ""
    answers: Sequence[Answer] = ()
    goals: Sequence[Goal] = ()
    charts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    terms: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    command: str = ""
    live: bool = False


@dataclass(frozen=True)
class Page:
    """Everything on the page, in order.

    summary: the recommendation in two sentences, "" where there is none.
    feasible: whether there is a recommendation (else the headline says why not). version: of perfmodel. charts: Plotly
    figures (data and layout) by name. odds: how often the recommendation is the better choice, in sentences. live: what
    the controls compute with (`live_data`); {} for none.
    """

    title: str
    question: str
    headline: str
    feasible: bool
    version: str
    summary: str = ""
    chips: Sequence[Chip] = ()
    odds: Sequence[str] = ()
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = ()
    charts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    live: Mapping[str, Any] = field(default_factory=dict)


def render(page: Page) -> str:
    """Return the page as one HTML document that needs no network."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"heading": heading, "numeric": _is_numeric, "with_range": with_range, "sort_key": _sort_key}
    return environment.get_template("report.html.j2").render(
        **{name: getattr(page, name) for name in page.__dataclass_fields__ if name not in _PACKED},
        titles={name: figure["layout"]["meta"]["title"] for name, figure in page.charts.items()},
        descriptions={name: described(figure) for name, figure in page.charts.items()},
        manifest={"version": page.version},
        css=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup("\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in _scripts(page))),
        live=Markup(_script_json(page.live)) if page.live else "",
        charts=Markup(_script_json(page.charts)),
        plotly=Markup(_plotly()),
    )


def _scripts(page: Page) -> list[str]:
    """Return the files of the page's scripts, in their order."""
    return ["live_model.js", "live_pools.js", "report.js", "live.js"] if page.live else ["report.js"]


def _script_json(value: Any) -> str:
    """Return JSON for a script element. `<` is escaped (it could end the element).

    NaN (not valid JSON) becomes null.
    """
    return json.dumps(without_nan(value), ensure_ascii=False).replace("<", "\\u003c")


@lru_cache(maxsize=1)
def _plotly() -> str:
    """Return Plotly's script, compressed with gzip, in base64.

    The time stamp of the compressed data is fixed: the same plan gives the same page.
    """
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _is_numeric(rows: Sequence[Row], column: str) -> bool:
    """Return whether no row has text in `column`."""
    return not any(isinstance(row.get(column), str) for row in rows)


def _sort_key(value: Any) -> str:
    """Return the text by which the script of the page sorts a cell; "" for unknown values."""
    value = json_value(value)
    return "" if value is None else str(value)
