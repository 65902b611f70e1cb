"""Draw curves, waterfalls and shares of a limit as Plotly figures in plain data, from rows or columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from search.report.chart_drawing.charts import (
    GREY,
    PALETTE,
    RED,
    TIGHT_BAR,
    Figure,
    Limits,
    Points,
    Titles,
    axis,
    axis_scale,
    height_of,
    layout_of,
    limit_lines,
    of_bars,
)

#: Kinds of dashes, so that lines are told apart without their colours.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
#: Patterns of bars, for the same reason.
PATTERNS = ("", "/", ".", "x", "-")
#: Shares of the values that a drawn distribution ends at, and points on its curve. Chosen: leaves out the last outlier.
LAST_SHARE, CURVE_POINTS = 0.999, 160
#: Most letters of the name of a bar, so that bars keep room on a phone.
MOST_LETTERS = 34


@dataclass(frozen=True)
class Style:
    """How lines are drawn. steps: as stairs. log: (x, y), of an axis. zero: y begins at 0. percent: it ends at 100."""

    steps: bool = False
    log: tuple[bool, bool] = (False, False)
    zero: bool = True
    percent: bool = False


def lines(
    series: Mapping[str, Points], titles: Titles, limits: Limits | None = None, style: Style | None = None
) -> Figure:
    """Draw one line per name, each with a colour and a dash of its own."""
    limits, style = limits or Limits(), style or Style()
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": list(points.x),
            "y": list(points.y),
            "text": list(points.labels),
            "line": {
                "width": 2,
                "color": PALETTE[i % len(PALETTE)],
                "dash": DASHES[i % len(DASHES)],
                "shape": "hv" if style.steps else "linear",
            },
            "hovertemplate": ("%{text}<br>" if points.labels else "")
            + "%{x:.4g}: %{y:.4g}<extra>%{fullData.name}</extra>",
            "showlegend": len(series) > 1,
        }
        for i, (name, points) in enumerate(series.items())
    ]
    if limits.marks:
        data.append(_marks(limits.marks))
    x, y = ({"type": "log", "dtick": "D2"} if log else {} for log in style.log)
    more = {"range": [0, 100]} if style.percent else {"rangemode": "tozero"} if style.zero and not style.log[1] else {}
    axes = {"xaxis": axis(titles.x, **x), "yaxis": axis(titles.y, **y, **more)}
    return {"data": data, "layout": layout_of(titles.title, **axes, shapes=limit_lines(limits))}


def _marks(marks: Sequence[tuple[float, float, str]]) -> Figure:
    """Return points that are named when the reader points at them."""
    x, y, text = zip(*marks, strict=True)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "change of the answer",
        "x": list(x),
        "y": list(y),
        "text": list(text),
        "marker": {"symbol": "diamond", "size": 11, "color": RED, "line": {"width": 1, "color": "#fff"}},
        "hovertemplate": "%{text}<extra></extra>",
    }


def distribution(values: Array, weights: Array | None = None) -> Points:
    """Return the share of values (any shape), percent, at or below each of some `CURVE_POINTS` of them."""
    known = np.isfinite(values)
    order = np.argsort(values[known])
    ordered = values[known][order]
    by = np.ones(len(ordered)) if weights is None else np.broadcast_to(weights, values.shape)[known][order]
    total = np.cumsum(by) / by.sum() if len(ordered) else by
    at = np.searchsorted(total, np.linspace(0.0, LAST_SHARE, CURVE_POINTS)).clip(0, max(len(ordered) - 1, 0))
    return Points(ordered[at].tolist(), (100.0 * total[at]).tolist()) if len(ordered) else Points([], [])


@dataclass(frozen=True)
class Parts:
    """Bars one below the other. names: of the bars; values: their lengths; kinds: what decides their colour."""

    names: Sequence[str]
    values: Sequence[float]
    kinds: Sequence[str] = field(default_factory=tuple)


def waterfall(parts: Parts, titles: Titles) -> Figure:
    """Draw what a total is made of: each bar begins where the one before ends, and the last is the total."""
    names = [*(short(n) for n in parts.names), "total"]
    bar: Figure = {
        "type": "waterfall",
        "orientation": "h",
        "y": names,
        "x": [*parts.values, 0.0],
        "measure": [*["relative"] * len(parts.values), "total"],
        "increasing": {"marker": {"color": PALETTE[2]}},
        "decreasing": {"marker": {"color": PALETTE[0]}},
        "totals": {"marker": {"color": PALETTE[1]}},
        "connector": {"line": {"width": 1, "color": GREY}},
        "hovertemplate": "%{y}: %{delta:.4g}<extra></extra>",
        "showlegend": False,
    }
    return {"data": [bar], "layout": of_bars(titles, height=height_of(len(names), TIGHT_BAR))}


def kinds_of_bars(parts: Parts, titles: Titles, *, most: float | None = None) -> Figure:
    """Draw horizontal bars with one colour per kind, and a legend. most: where the axis ends; None: as needed."""
    data: list[Figure] = []
    for i, kind in enumerate(dict.fromkeys(parts.kinds)):
        own = [j for j, k in enumerate(parts.kinds) if k == kind]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": kind,
                "y": [short(parts.names[j]) for j in own],
                "x": [parts.values[j] for j in own],
                "marker": _filled(i),
                "hovertemplate": "%{y}: %{x:.3g}<extra>%{fullData.name}</extra>",
                "showlegend": True,
            }
        )
    layout = of_bars(
        titles, {} if most is None else {"range": [0, most]}, height=height_of(len(parts.names), TIGHT_BAR)
    )
    layout["yaxis"] |= {"categoryorder": "array", "categoryarray": [short(n) for n in parts.names]}
    return {"data": data, "layout": layout}


def columns_over(
    x: Sequence[Any], series: Mapping[str, Sequence[float]], titles: Titles, *, stacked: bool = True
) -> Figure:
    """Draw upright bars over `x`, one colour per name in `series` (one value per x), stacked or side by side."""
    data: list[Figure] = [
        {
            "type": "bar",
            "name": name,
            "x": list(x),
            "y": list(values),
            "marker": _filled(i),
            "hovertemplate": "%{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
            "showlegend": len(series) > 1,
        }
        for i, (name, values) in enumerate(series.items())
    ]
    axes = {"xaxis": axis(titles.x, type="category"), "yaxis": axis(titles.y, rangemode="tozero")}
    return {"data": data, "layout": layout_of(titles.title, barmode="stack" if stacked else "group", **axes)}


def _filled(group: int) -> Figure:
    """Return how the bars of a group are filled: its number gives it a colour and a pattern."""
    pattern = {"shape": PATTERNS[group % len(PATTERNS)]}
    return {"color": PALETTE[group % len(PALETTE)], "pattern": pattern}


def short(name: str) -> str:
    """Return a name that leaves room for its bar."""
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"


__all__ = [
    "Limits",
    "Parts",
    "Style",
    "axis_scale",
    "columns_over",
    "distribution",
    "kinds_of_bars",
    "limit_lines",
    "lines",
    "short",
    "waterfall",
]
