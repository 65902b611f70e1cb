"""Draw the charts of the report as Plotly figures in plain data: {"data": [...], "layout": {...}}.

The page adds the colours of text and axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figure = dict[str, Any]

#: Colours that colour-blind readers tell apart (after Okabe and Ito 2008), chosen to read on light and dark background.
PALETTE = ("#0f8a73", "#e08214", "#4c78a8", "#cc5a71", "#b8a000", "#7b61a8", "#56b4e9", "#8a8d91")
#: Shapes of points, so that groups are told apart without their colours.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "pentagon", "cross")
GREY, RED, WHITE = "#8a8d91", "#d62f4b", "#fff"
#: Axes are logarithmic where their values span more than this factor: one decade.
DECADE = 10.0
#: Space around a chart for axes and labels, pixels.
MARGIN = {"l": 64, "r": 18, "t": 10, "b": 48}
#: Heights of charts, pixels: of most, of scatter plots, the least of a bar chart.
HEIGHT, SCATTER_HEIGHT, LEAST_HEIGHT = 300, 400, 180
#: Height of a bar chart, pixels: for its axis, and per bar.
BARS_BASE, RANGED_BAR, TORNADO_BAR, TIGHT_BAR = 70, 34, 30, 27.2


@dataclass(frozen=True)
class Points:
    """Points of a scatter plot. x, y: coordinates; labels: text of each point; one entry per point."""

    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Titles:
    """Title of a chart and of its axes (with their units)."""

    title: str
    x: str
    y: str = ""


@dataclass(frozen=True)
class Limits:
    """Values that are not to be passed, as dashed lines. x, y: on an axis. marks: (x, y, text) of points to name."""

    x: Sequence[float] = ()
    y: Sequence[float] = ()
    marks: Sequence[tuple[float, float, str]] = ()


def layout_of(title: str, **more: Any) -> Figure:
    """Return the layout that all charts have in common, with `more` added."""
    base: Figure = {
        "meta": {"title": title},
        "margin": MARGIN,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        "height": HEIGHT,
    }
    return base | more


def axis(title: str, **more: Any) -> Figure:
    """Return an axis with a title, with `more` added."""
    return {"title": {"text": title}, "automargin": True} | more


def axis_scale(values: Sequence[float]) -> Figure:
    """Return the scale of an axis: logarithmic where the values span more than a decade, linear from zero otherwise."""
    positive = [v for v in values if v > 0]
    if positive and max(positive) > DECADE * min(positive):
        return {"type": "log", "dtick": "D2"}
    return {"rangemode": "tozero"}


def limit_lines(limits: Limits) -> list[Figure]:
    """Return the dashed lines at limits, across the whole chart."""
    line = {"width": 2, "dash": "dash", "color": RED}
    up = [{"type": "line", "x0": v, "x1": v, "yref": "paper", "y0": 0, "y1": 1, "line": line} for v in limits.x]
    across = [{"type": "line", "y0": v, "y1": v, "xref": "paper", "x0": 0, "x1": 1, "line": line} for v in limits.y]
    return [*up, *across]


def height_of(bars: int, each: float = RANGED_BAR) -> int:
    """Return the height of a chart of so many horizontal bars, pixels. each: of a bar."""
    return max(LEAST_HEIGHT, BARS_BASE + int(each * bars))


def of_bars(titles: Titles, x: Mapping[str, Any] | None = None, **more: Any) -> Figure:
    """Return the layout of horizontal bars, the first on top, with `more` added. x: of the axis of their values."""
    axes = {"xaxis": axis(titles.x, **(x or {})), "yaxis": axis("", autorange="reversed")}
    return layout_of(titles.title, **more, **axes)


def scatter(
    groups: Mapping[str, Points], front: Points, chosen: Points, titles: Titles, *, shapes: Sequence[Figure] = ()
) -> Figure:
    """Draw candidates as points, one colour and one symbol per group; `front` as a dotted line.

    `chosen` (at most one point) as a star. shapes: lines of limits.
    """
    data = [_dots(name, points, titles, i) for i, (name, points) in enumerate(groups.items())]
    data += [_front_line(front), *([_star(chosen)] if chosen.x else [])]
    x = axis(titles.x, **axis_scale([v for points in groups.values() for v in points.x]))
    y = axis(titles.y, **axis_scale([v for points in groups.values() for v in points.y]))
    layout = layout_of(titles.title, xaxis=x, yaxis=y, height=SCATTER_HEIGHT, shapes=list(shapes))
    return {"data": data, "layout": layout}


def _dots(name: str, points: Points, titles: Titles, group: int) -> Figure:
    """Return the points of one group as a trace; its number gives it a colour and a symbol."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(points.x),
        "y": list(points.y),
        "text": list(points.labels),
        "marker": {
            "size": 8,
            "opacity": 0.75,
            "color": PALETTE[group % len(PALETTE)],
            "symbol": SYMBOLS[group % len(SYMBOLS)],
        },
        "hovertemplate": "%{text}<br>" + titles.x + ": %{x:.3g}<br>" + titles.y + ": %{y:.3g}<extra></extra>",
    }


def _front_line(front: Points) -> Figure:
    """Return the dotted line through `front`, the points that no other point beats on both axes."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": list(front.x),
        "y": list(front.y),
        "line": {"width": 1.5, "dash": "dot", "color": GREY},
        "hoverinfo": "skip",
    }


def _star(chosen: Points) -> Figure:
    """Return the star that marks the recommended candidate."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "chosen",
        "x": list(chosen.x),
        "y": list(chosen.y),
        "marker": {"symbol": "star", "size": 16, "color": RED, "line": {"width": 1, "color": WHITE}},
        "hovertemplate": "chosen<extra></extra>",
    }


def stacked(
    bars: Sequence[str], parts: Mapping[str, Sequence[float]], titles: Titles, *, limit: float | None = None
) -> Figure:
    """Draw horizontal bars, one per name in `bars`, stacked from `parts` (one value per bar).

    `limit` is a dashed line.
    """
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
    layout = of_bars(titles, barmode="stack", bargap=0.35)
    if limit is not None:
        layout["shapes"] = limit_lines(Limits(x=[limit]))
    return {"data": data, "layout": layout}


@dataclass(frozen=True)
class Ranges:
    """Values with their 80 % intervals; one entry per name."""

    names: Sequence[str]
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def ranged_bars(ranges: Ranges, titles: Titles, *, chosen: str = "") -> Figure:
    """Draw horizontal bars with whiskers for their intervals; the bar named `chosen` has a colour of its own."""
    colours = [PALETTE[0] if n == chosen else PALETTE[2] for n in ranges.names]
    above = [h - v for h, v in zip(ranges.high, ranges.values, strict=True)]
    below = [v - lo for lo, v in zip(ranges.low, ranges.values, strict=True)]
    whiskers = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": GREY}
    bar: Figure = {
        "type": "bar",
        "orientation": "h",
        "y": list(ranges.names),
        "x": list(ranges.values),
        "marker": {"color": colours},
        "error_x": whiskers,
        "hovertemplate": "%{y}: %{x:.3g}<extra></extra>",
        "showlegend": False,
    }
    return {"data": [bar], "layout": of_bars(titles, height=height_of(len(ranges.names)), bargap=0.4)}


def ranked_bars(names: Sequence[str], values: Sequence[float], titles: Titles) -> Figure:
    """Draw horizontal bars of one colour, in the order given."""
    bar: Figure = {
        "type": "bar",
        "orientation": "h",
        "y": list(names),
        "x": list(values),
        "showlegend": False,
        "marker": {"color": PALETTE[2]},
        "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
    }
    layout = of_bars(titles, {"rangemode": "tozero"}, height=height_of(len(names)), bargap=0.4)
    return {"data": [bar], "layout": layout}


def tornado(names: Sequence[str], change: Sequence[float], titles: Titles, *, points: bool = False) -> Figure:
    """Draw changes as bars from zero, the largest on top; what is worse has another colour.

    Each name begins with its change: beside a short bar of a phone there is no room for it.

    points: True for changes of a chance, in points, of which more is better; else they are of a cost, in percent.
    """
    unit = "" if points else " %"
    order = sorted(range(len(names)), key=lambda i: -abs(change[i]))
    ordered = [change[i] for i in order]
    bar: Figure = {
        "type": "bar",
        "orientation": "h",
        "y": [f"{change[i]:+.0f}{unit}  {names[i]}" for i in order],
        "x": ordered,
        "showlegend": False,
        "marker": {"color": [PALETTE[3] if (c < 0) == points else PALETTE[0] for c in ordered]},
        "hovertemplate": "%{y}<extra></extra>",
    }
    x = {"zeroline": True, "nticks": 4, "tickangle": 0}
    return {"data": [bar], "layout": of_bars(titles, x, height=height_of(len(names), TORNADO_BAR))}
