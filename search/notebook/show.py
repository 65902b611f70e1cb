"""Turn charts of plain data into Plotly figures with a visible title, which show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hwdb import InputError, nearest

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from search.report import Figure

#: Room above a chart for its title, pixels.
TITLE_ROOM = 60


def shown(chart: Figure) -> go.Figure:
    """Return a chart as a Plotly figure, with the title that a page would put above it."""
    import plotly.graph_objects as go

    layout: dict[str, Any] = dict(chart["layout"])
    title = layout.pop("meta", {}).get("title", "")
    layout["margin"] = {**layout.get("margin", {"l": 64, "r": 18, "b": 48}), "t": TITLE_ROOM}
    legend = layout.get("legend", {})
    return go.Figure({"data": chart["data"], "layout": {**layout, "title": {"text": title}, "legend": legend}})


def checked(kind: str, kinds: Iterable[str]) -> str:
    """Return a kind of chart; `InputError` for one that is not known."""
    known = list(kinds)
    if kind not in known:
        near = nearest(str(kind), known)
        offer = f"did you mean {near[0]!r}? Known are" if near else "give one of"
        raise InputError(f"plot: kind {kind!r} is unknown; {offer} {', '.join(known)}")
    return kind


def table(frame: Any, rows: int) -> str:
    """Return the first `rows` of a frame as an HTML table."""
    more = f"<p>{len(frame) - rows} more rows: .frame()</p>" if len(frame) > rows else ""
    return str(frame.head(rows).to_html(float_format=lambda v: f"{v:.4g}", na_rep="–", border=0)) + more
