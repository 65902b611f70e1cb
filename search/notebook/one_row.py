"""Draw one deployment: where its time goes, its operators under the limits of the device, its latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Device, InputError
from perfmodel import Estimates
from perfmodel.estimates import Term, overall
from perfmodel.simulator import frame
from perfmodel.unit_factors import MS_PER_S
from perfmodel.workload import METRICS, RANKS
from search.output import operator_group
from search.report import charts

if TYPE_CHECKING:
    from perfmodel.simulator import Simulation
    from search.report import Figure

#: Kinds of chart of one deployment.
OF_ONE = ("waterfall", "roofline", "latency")
#: Horizontal parts of a chart with two panels, shares of its width.
LEFT, RIGHT = [0.0, 0.46], [0.54, 1.0]
#: Part of a latency below which it is not drawn as a bar of its own. Chosen: thinner than a line.
LEAST_PART = 0.002
#: Compute types whose peaks are drawn, where the device has them.
PEAKS = ("bf16", "fp16", "fp8", "fp4", "int8")
#: Points of the limits of a device, and how far they reach beyond the operators.
ROOF_POINTS, MARGIN = 60, 3.0
#: Points along a measured distribution.
CDF_POINTS = 200


@dataclass(frozen=True)
class Row:
    """One deployment of a sweep or a plan: its name, its estimate (a batch of one), operators and devices."""

    name: str
    found: Estimates
    terms: Sequence[Term]
    devices: Sequence[Device]


def of_one(kind: str, row: Row, replayed: Simulation | None = None) -> Figure:
    """Draw a deployment as a chart of one of `OF_ONE`. replayed: a replay of its load, for latency."""
    if kind == "latency":
        return latencies(row, replayed)
    return waterfall(row) if kind == "waterfall" else roofline(row)


def waterfall(row: Row) -> Figure:
    """Draw what adds up to the mean TTFT and to the mean TPOT: waits, groups of operators, what is hidden."""
    panels = [("TTFT", "x", LEFT, _of_ttft(row)), ("TPOT", "x2", RIGHT, _of_tpot(row))]
    data = [_fall(name, axis, parts) for name, axis, _, parts in panels]
    layout: Figure = {"meta": {"title": f"Where the time goes: {row.name}"}, "height": charts.SCATTER_HEIGHT}
    for name, axis, domain, parts in panels:
        number = axis.removeprefix("x")
        total = sum(parts.values())
        layout[f"xaxis{number}"] = {"domain": domain, "automargin": True, "anchor": f"y{number}"}
        title = f"{name} {total:.3g} ms: parts, ms"
        layout[f"yaxis{number}"] = {"title": {"text": title}, "anchor": axis, "automargin": True}
    return {"data": data, "layout": layout | {"showlegend": False}}


def _fall(name: str, axis: str, parts: dict[str, float]) -> Figure:
    """Return the bars of one latency. axis: the x axis of its panel."""
    shown = {k: v for k, v in parts.items() if abs(v) > LEAST_PART * sum(parts.values())}
    return {
        "type": "waterfall",
        "x": [*shown, name],
        "y": [*shown.values(), sum(parts.values())],
        "measure": ["relative"] * len(shown) + ["total"],
        "xaxis": axis,
        "yaxis": axis.replace("x", "y"),
        "increasing": {"marker": {"color": charts.PALETTE[2]}},
        "decreasing": {"marker": {"color": charts.PALETTE[1]}},
        "totals": {"marker": {"color": charts.PALETTE[0]}},
        "hovertemplate": "%{x}: %{y:.4g} ms<extra></extra>",
    }


def _groups(terms: Sequence[Term], phase: str) -> dict[str, float]:
    """Return the ms of each group of operators of a phase."""
    found: dict[str, float] = {}
    for term in (t for t in terms if t.phase == phase):
        name = operator_group(term.family).replace("_", " ")
        found[name] = found.get(name, 0.0) + term.time * MS_PER_S
    return found


def _of_ttft(row: Row) -> dict[str, float]:
    """Return what adds up to the mean TTFT, in ms."""
    time, mean = row.found.latency, row.found.mean
    wait, front, ttft = (float(mean(v)[0]) * MS_PER_S for v in (time.wait, time.front_end, time.ttft))
    groups = _groups(row.terms, "prefill")
    rest = ttft - wait - front - sum(groups.values())
    return {"wait": wait, "front end": front, **groups, "other steps": rest}


def _of_tpot(row: Row) -> dict[str, float]:
    """Return what adds up to the mean TPOT, in ms."""
    groups = _groups(row.terms, "decode")
    tpot = float(row.found.mean(row.found.tpot)[0]) * MS_PER_S
    return {**groups, "prefills between": tpot - sum(groups.values())}


def roofline(row: Row) -> Figure:
    """Draw what the operators achieve by arithmetic intensity, under the peaks and the memory bandwidth of the device.

    Raises `InputError` where no operator computes anything.
    """
    terms = [t for t in row.terms if t.flop > 0 and t.moved > 0 and t.time > 0]
    if not terms:
        raise InputError(f"plot: roofline: {row.name} has no operator with arithmetic")
    intensity = np.array([t.flop / t.moved for t in terms])
    data = _roofs(row.devices[0], float(intensity.min()), float(intensity.max()))
    for colour, phase in zip(charts.PALETTE, ("prefill", "decode"), strict=False):
        own = [(t, x) for t, x in zip(terms, intensity.tolist(), strict=True) if t.phase == phase]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": phase,
                "x": [x for _, x in own],
                "y": [t.flop / t.time / 1e12 for t, _ in own],
                "text": [f"{t.operator}, {100.0 * t.share:.1f} % of {phase}, {t.bound}" for t, _ in own],
                "marker": {"color": colour, "size": [8 + 30 * max(t.share, 0.0) for t, _ in own], "opacity": 0.75},
                "hovertemplate": "%{text}<br>%{x:.3g} FLOP/B, %{y:.3g} TFLOP/s<extra></extra>",
            }
        )
    axes = {
        "xaxis": {"type": "log", "title": {"text": "arithmetic intensity, FLOP per byte"}, "automargin": True},
        "yaxis": {"type": "log", "title": {"text": "achieved per device, TFLOP/s"}, "automargin": True},
    }
    title = {"title": f"Operators under the limits of {row.devices[0].title}: {row.name}"}
    return {"data": data, "layout": {"meta": title, "height": charts.SCATTER_HEIGHT, **axes}}


def _roofs(device: Device, low: float, high: float) -> list[Figure]:
    """Return the lines of the limits of a device. low, high: intensities of the operators."""
    line = np.geomspace(low / MARGIN, high * MARGIN, ROOF_POINTS)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"limit, {dtype}",
            "x": line.tolist(),
            "y": (np.minimum(device.peak(dtype), line * device.bandwidth) / 1e12).tolist(),
            "line": {"width": 1, "color": charts.GREY},
            "hovertemplate": f"{dtype} limit: " + "%{y:.3g} TFLOP/s<extra></extra>",
        }
        for dtype in PEAKS
        if device.peak(dtype) == device.peak(dtype)
    ]


def latencies(row: Row, replayed: Simulation | None = None) -> Figure:
    """Draw how many requests stay below a latency: the percentiles of the estimate, and the requests of a replay."""
    data = []
    for colour, metric in zip(charts.PALETTE, METRICS, strict=False):
        points = {s: float(overall(row.found, metric, s)[0]) * MS_PER_S for s in RANKS}
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{metric.upper()}, estimate",
                "x": list(points.values()),
                "y": [100.0 * RANKS[s] for s in points],
                "text": list(points),
                "line": {"color": colour, "dash": "dot"},
                "hovertemplate": metric.upper() + " %{text}: %{x:.4g} ms<extra></extra>",
            }
        )
        data += [_replayed(replayed, metric, colour)] if replayed is not None and metric != "itl" else []
    axes = {
        "xaxis": {"type": "log", "title": {"text": "ms"}, "automargin": True},
        "yaxis": {"title": {"text": "requests that take at most as long, %"}, "range": [0, 101]},
    }
    meta = {"meta": {"title": f"Latencies: {row.name}"}, "height": charts.SCATTER_HEIGHT}
    return {"data": data, "layout": {**meta, **axes}}


def _replayed(replayed: Simulation, metric: str, colour: str) -> Figure:
    """Return the distribution of one latency over the requests of a replay."""
    seen: Any = np.sort(frame(replayed)[f"{metric}_ms"].dropna().to_numpy())
    at = np.unique(np.linspace(0, max(len(seen) - 1, 0), CDF_POINTS).astype(int))[: len(seen)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{metric.upper()}, replayed",
        "x": seen[at].tolist(),
        "y": (100.0 * (at + 1) / max(len(seen), 1)).tolist(),
        "line": {"color": colour},
        "hovertemplate": metric.upper() + ": %{y:.0f} % take at most %{x:.4g} ms<extra></extra>",
    }
