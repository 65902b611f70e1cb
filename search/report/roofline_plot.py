"""A roofline of measured points: what each operator reached, under the roofs of the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import Device, InputError

#: Colours that stay apart for the colour-blind (Okabe & Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TYPES = ("fp32", "bf16", "fp16", "fp8", "int8", "fp4")


def figure(device: Device, points: Sequence[Mapping[str, Any]]) -> Any:
    """A Plotly figure: points by family, roofs from the device's rated peaks and bandwidth.

    points: rows of `perfmodel.profiler.roofline.measured_points`. Raises `InputError` if there are none.
    """
    import plotly.graph_objects as go

    if not points:
        raise InputError(f"profile of {device.name} has no measured point with arithmetic to plot")
    plot = go.Figure()
    x = np.array([p["flop_per_byte"] for p in points])
    low, high = max(x.min() / 2.0, 1e-3), max(x.max(), 1.0) * 2.0
    for dtype in TYPES:
        peak = device.peak(dtype)
        if peak == peak:
            line = np.geomspace(low, high, 100)
            roof = np.minimum(peak, line * device.bandwidth) / 1e12
            plot.add_scatter(
                x=line,
                y=roof,
                mode="lines",
                name=f"roof {dtype}",
                line={"width": 1, "color": "#888888"},
                hovertemplate=f"{dtype}: {peak / 1e12:.4g} TFLOP/s<extra></extra>",
            )
    for colour, family in zip(_cycle(COLOURS), sorted({p["family"] for p in points}), strict=False):
        mine = [p for p in points if p["family"] == family]
        plot.add_scattergl(
            x=[p["flop_per_byte"] for p in mine],
            y=[p["tflops"] for p in mine],
            mode="markers",
            name=family,
            marker={"size": 4, "color": colour, "opacity": 0.6},
            text=[f"{p['framework']} {p['formats']}, {p['latency_us']:.4g} us" for p in mine],
            hovertemplate="%{x:.3g} FLOP/B, %{y:.4g} TFLOP/s<br>%{text}<extra>" + family + "</extra>",
        )
    plot.update_xaxes(type="log", title="arithmetic intensity, FLOP/B")
    plot.update_yaxes(type="log", title="reached, TFLOP/s")
    plot.update_layout(title=f"Measured operators of {device.title}", template="plotly_white")
    return plot


def _cycle(colours: Sequence[str]) -> Any:
    from itertools import cycle

    return cycle(colours)


def write(device: Device, points: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write the figure as one self-contained page that needs no network; returns the path."""
    try:
        figure(device, points).write_html(path, include_plotlyjs=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    return path
