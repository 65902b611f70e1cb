"""One self-contained page of HTML: what it holds, and how it is rendered. Knows nothing of plans.

The template, its style and its script stand in `search/templates`. Plotly's script is taken from the installed package,
compressed into the page and unpacked by the browser, so that a page weighs 2 MB and asks nothing of the network.
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

from search.output import Row, heading, plain, with_range

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Chip:
    """A short remark; tone is good, warn, bad or empty."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Fact:
    """A key figure with its unit and one line of context."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """An objective against what is expected: positions in percent of the track, the text beside it, the verdict.

    range: (left, width) of the 80 % interval, or empty where there is none.
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
    """Rows under headings; `wide` columns wrap; `chosen` is the (column, value) of the row to mark."""

    rows: Sequence[Row]
    columns: Sequence[str]
    title: str = ""
    sortable: bool = False
    wide: Sequence[str] = ()
    chosen: tuple[str, Any] | None = None
    id: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page. short: its name in the navigation; charts: names of figures in `Page.charts`."""

    id: str
    title: str
    lead: str
    short: str = ""
    goals: Sequence[Goal] = ()
    charts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    terms: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    command: str = ""


@dataclass(frozen=True)
class Page:
    """Everything on the page, in order. charts: Plotly figures (data and layout) by name."""

    title: str
    question: str
    headline: str
    feasible: bool
    version: str
    chips: Sequence[Chip] = ()
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = ()
    charts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def render(page: Page) -> str:
    """The page as one HTML document that works without a network."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"heading": heading, "numeric": _numeric, "with_range": with_range, "plain": _sort_key}
    return environment.get_template("report.html.j2").render(
        **{name: getattr(page, name) for name in page.__dataclass_fields__ if name not in ("charts", "version")},
        titles={name: figure["layout"]["meta"]["title"] for name, figure in page.charts.items()},
        manifest={"version": page.version},
        css=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8")),
        charts=Markup(_script_json(page.charts)),
        plotly=Markup(_plotly()),
    )


def _script_json(value: Any) -> str:
    """JSON that may stand inside a script element: no `<`, and no NaN, which is not JSON."""
    return json.dumps(_finite(value), ensure_ascii=False).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return plain(value)


@lru_cache(maxsize=1)
def _plotly() -> str:
    """Plotly's script, gzip in base64. The time stamp is fixed, so that the same plan gives the same page."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _numeric(rows: Sequence[Row], column: str) -> bool:
    return not any(isinstance(row.get(column), str) for row in rows)


def _sort_key(value: Any) -> str:
    value = plain(value)
    return "" if value is None else str(value)
