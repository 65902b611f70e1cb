"""Draw the answers of a grid of what-ifs over the values of its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb import InputError
from search.output import heading
from search.report.chart_drawing.charts import HEIGHT, PALETTE, Figure

if TYPE_CHECKING:
    from search.whatif import Trials

#: Figures that are drawn over the values, one chart each.
DRAWN = ("usd_per_hour", "devices", "power_w", "slo_chance", "ttft_ms", "tpot_ms")


def grid_charts(found: Trials) -> dict[str, Figure]:
    """Return a chart per figure of the answer over the values of a grid, one line per value of a second grid.

    Raises `InputError` where there is no grid of numbers.
    """
    rows = [row for row in found.rows() if row["what_if"] != "as planned"]
    if not found.grids or not all(isinstance(row["grid_value"], int | float) for row in rows):
        raise InputError("a chart needs a grid of numbers, such as workload.request_rate_rps=5:80:16")
    lines = list(dict.fromkeys(row.get("second_grid_value") for row in rows))
    return {name: _chart(found, rows, name, lines) for name in DRAWN if any(row[name] == row[name] for row in rows)}


def _chart(found: Trials, rows: list[dict[str, object]], name: str, lines: list[object]) -> Figure:
    """Return the chart of one figure. lines: values of the second grid, [None] without one."""
    data = []
    for i, second in enumerate(lines):
        own = [row for row in rows if row.get("second_grid_value") == second]
        trace = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "" if second is None else f"{found.grids[1]} {second}",
            "x": [row["grid_value"] for row in own],
            "y": [row[name] for row in own],
            "text": [row["answer"] for row in own],
            "line": {"color": PALETTE[i % len(PALETTE)], "shape": "linear"},
            "hovertemplate": "%{x}: %{y:.4g}<br>%{text}<extra></extra>",
            "showlegend": second is not None,
        }
        data.append(trace)
    layout = {
        "meta": {"title": f"{heading(name)} over {found.grids[0]}"},
        "height": HEIGHT,
        "xaxis": {"title": {"text": found.grids[0]}, "automargin": True},
        "yaxis": {"title": {"text": heading(name)}, "automargin": True, "rangemode": "tozero"},
    }
    return {"data": data, "layout": layout}
