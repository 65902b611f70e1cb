"""Charts of the report, as Plotly figures in plain data: {"data": [...], "layout": {...}}. The page adds colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Figure = dict[str, Any]

#: Okabe and Ito's colours (2008), which colour-blind readers tell apart, ordered to read on light and dark paper.
PALETTE = ("#0f8a73", "#e08214", "#4c78a8", "#cc5a71", "#b8a000", "#7b61a8", "#56b4e9", "#8a8d91")
DECADE = 10.0
MARGIN = {"l": 64, "r": 18, "t": 10, "b": 48}


def _layout(title: str, **more: Any) -> Figure:
    base: Figure = {
        "meta": {"title": title},
        "margin": MARGIN,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        "height": 300,
    }
    return base | more


def _axis(title: str, **more: Any) -> Figure:
    return {"title": {"text": title}, "automargin": True} | more


def _span(values: Sequence[float]) -> Figure:
    """An axis that suits the values: logarithmic where they span more than a decade, from zero otherwise."""
    known = [v for v in values if v > 0]
    if known and max(known) > DECADE * min(known):
        return {"type": "log", "dtick": "D2"}
    return {"rangemode": "tozero"}


def scatter(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[str]]],
    front: tuple[Sequence[float], Sequence[float]],
    chosen: tuple[float, float] | None,
    *,
    title: str,
    x: str,
    y: str,
) -> Figure:
    """Candidates by group as (x, y, label), the front as a line, the chosen one as a star."""
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": list(xs),
            "y": list(ys),
            "text": list(labels),
            "marker": {"size": 7, "opacity": 0.75, "color": PALETTE[i % len(PALETTE)]},
            "hovertemplate": "%{text}<br>" + x + ": %{x:.3g}<br>" + y + ": %{y:.3g}<extra></extra>",
        }
        for i, (name, (xs, ys, labels)) in enumerate(groups.items())
    ]
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto front",
            "x": list(front[0]),
            "y": list(front[1]),
            "line": {"width": 1.5, "dash": "dot", "color": "#8a8d91"},
            "hoverinfo": "skip",
        }
    )
    if chosen is not None:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "chosen",
                "x": [chosen[0]],
                "y": [chosen[1]],
                "marker": {"symbol": "star", "size": 16, "color": "#d62f4b", "line": {"width": 1, "color": "#fff"}},
                "hovertemplate": "chosen<extra></extra>",
            }
        )
    spans = [
        _span(value)
        for value in ([v for g in groups.values() for v in g[0]], [v for g in groups.values() for v in g[1]])
    ]
    return {"data": data, "layout": _layout(title, xaxis=_axis(x, **spans[0]), yaxis=_axis(y, **spans[1]), height=400)}


def stacked(
    bars: Sequence[str], parts: Mapping[str, Sequence[float]], *, title: str, x: str, limit: float | None = None
) -> Figure:
    """Horizontal bars, one each of `bars`, made of `parts`; `limit` draws a line (what a device holds)."""
    data: list[Figure] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(bars),
            "x": list(values),
            "marker": {"color": PALETTE[i % len(PALETTE)]},
            "hovertemplate": name + ": %{x:.3g}<extra>%{y}</extra>",
        }
        for i, (name, values) in enumerate(parts.items())
    ]
    layout = _layout(title, barmode="stack", xaxis=_axis(x), yaxis=_axis("", autorange="reversed"), bargap=0.35)
    if limit is not None:
        line = {"width": 2, "dash": "dash", "color": "#d62f4b"}
        layout["shapes"] = [{"type": "line", "x0": limit, "x1": limit, "yref": "paper", "y0": 0, "y1": 1, "line": line}]
    return {"data": data, "layout": layout}


def ranged_bars(
    names: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    title: str,
    x: str,
    chosen: str = "",
) -> Figure:
    """Horizontal bars with their intervals; the chosen one stands out."""
    colours = [PALETTE[0] if n == chosen else PALETTE[2] for n in names]
    above = [h - v for h, v in zip(high, values, strict=True)]
    below = [v - lo for lo, v in zip(low, values, strict=True)]
    whiskers = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": "#8a8d91"}
    bar: Figure = {
        "type": "bar",
        "orientation": "h",
        "y": list(names),
        "x": list(values),
        "marker": {"color": colours},
        "error_x": whiskers,
        "hovertemplate": "%{y}: %{x:.3g}<extra></extra>",
        "showlegend": False,
    }
    height = max(180, 70 + 34 * len(names))
    layout = _layout(title, xaxis=_axis(x), yaxis=_axis("", autorange="reversed"), height=height, bargap=0.4)
    return {"data": [bar], "layout": layout}


def tornado(names: Sequence[str], change: Sequence[float], *, title: str, x: str) -> Figure:
    """Change in percent, what moves most at the top: rises one colour, falls the other."""
    order = sorted(range(len(names)), key=lambda i: -abs(change[i]))
    moved = [change[i] for i in order]
    bar: Figure = {
        "type": "bar",
        "orientation": "h",
        "y": [names[i] for i in order],
        "x": moved,
        "showlegend": False,
        "marker": {"color": [PALETTE[3] if c > 0 else PALETTE[0] for c in moved]},
        "texttemplate": "%{x:+.0f} %",
        "hovertemplate": "%{y}: %{x:+.1f} %<extra></extra>",
    }
    height = max(180, 70 + 30 * len(names))
    layout = _layout(title, xaxis=_axis(x, zeroline=True), yaxis=_axis("", autorange="reversed"), height=height)
    return {"data": [bar], "layout": layout}
