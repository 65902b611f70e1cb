"""Draw a roofline plot: FLOP/s that measured operators achieve, by arithmetic intensity, under the device's limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import Device, InputError

#: Colours that colour-blind readers tell apart (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
ROOF_COLOUR = "#888888"
#: Number formats whose roofs are drawn, where the device has a peak for them.
TYPES = ("fp32", "bf16", "fp16", "fp8", "int8", "fp4")
#: Points along a roof.
ROOF_POINTS = 100
#: The plot extends beyond the measured intensities by this factor on either side.
MARGIN_FACTOR = 2.0
#: Least intensity that the plot begins at, and the intensity that it reaches at least, FLOP/B.
LEAST_INTENSITY, REACHED_INTENSITY = 1e-3, 1.0

Point = Mapping[str, Any]


def roofline_figure(device: Device, points: Sequence[Point]) -> Any:
    """Return a Plotly figure: one colour per operator family, roofs from the rated peaks and bandwidth of `device`.

    points: rows of `perfmodel.profiler.measured_points`. Raises `InputError` if there are none.
    """
    import plotly.graph_objects as go

    if not points:
        raise InputError(
            f"profile of {device.name} has no measured point with arithmetic to plot; measure GEMM or attention first"
        )
    plot = go.Figure()
    _add_roofs(plot, device, np.array([p["flop_per_byte"] for p in points]))
    _add_points(plot, points)
    plot.update_xaxes(type="log", title="arithmetic intensity, FLOP/B")
    plot.update_yaxes(type="log", title="achieved, TFLOP/s")
    plot.update_layout(title=f"Measured operators of {device.title}", template="plotly_white")
    return plot


def _add_roofs(plot: Any, device: Device, intensity: np.ndarray) -> None:
    """Draw for each number format the TFLOP/s that peak and memory bandwidth allow.

    intensity: FLOP per byte of the points.
    """
    low = max(intensity.min() / MARGIN_FACTOR, LEAST_INTENSITY)
    high = max(intensity.max(), REACHED_INTENSITY) * MARGIN_FACTOR
    line = np.geomspace(low, high, ROOF_POINTS)
    for dtype in TYPES:
        peak = device.peak(dtype)
        if peak == peak:
            plot.add_scatter(
                x=line,
                y=np.minimum(peak, line * device.bandwidth) / 1e12,
                mode="lines",
                name=f"roof {dtype}",
                line={"width": 1, "color": ROOF_COLOUR},
                hovertemplate=f"{dtype}: {peak / 1e12:.4g} TFLOP/s<extra></extra>",
            )


def _add_points(plot: Any, points: Sequence[Point]) -> None:
    """Draw the measured operators as points, one colour per operator family."""
    for colour, family in zip(cycle(COLOURS), sorted({p["family"] for p in points}), strict=False):
        members = [p for p in points if p["family"] == family]
        plot.add_scattergl(
            x=[p["flop_per_byte"] for p in members],
            y=[p["tflops"] for p in members],
            mode="markers",
            name=family,
            marker={"size": 4, "color": colour, "opacity": 0.6},
            text=[f"{p['framework']} {p['formats']}, {p['latency_us']:.4g} us" for p in members],
            hovertemplate="%{x:.3g} FLOP/B, %{y:.4g} TFLOP/s<br>%{text}<extra>" + family + "</extra>",
        )


def write_roofline(device: Device, points: Sequence[Point], path: Path) -> Path:
    """Write the plot as one HTML page that needs no network; returns `path`. Raises `InputError` if that fails."""
    try:
        roofline_figure(device, points).write_html(path, include_plotlyjs=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give a file in an existing folder") from error
    return path
