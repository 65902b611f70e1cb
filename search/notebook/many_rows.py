"""Draw the rows of a sweep: a figure over another, cost against latency, power over the load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError, nearest, plain
from search.output import heading
from search.report import charts
from search.searchers import pareto

if TYPE_CHECKING:
    import pandas as pd

    from search.report import Figure

#: Most lines of a chart. Chosen: more colours are not told apart.
MOST_LINES = 24
#: Arguments that a line may run over, the most telling first.
OVER = (
    *("request_rate_rps", "concurrency", "batch", "isl", "osl", "prefix_hit", "power_cap_w", "max_num_seqs"),
    *("max_num_batched_tokens", "replicas", "tp", "pp", "ep", "dp", "cp"),
)
SERVED, COST, ENERGY = "output_tok_s_per_device", "usd_per_million_tokens", "energy_j_per_output_token"


def column(frame: pd.DataFrame, name: str, what: str) -> Any:
    """Return a column of numbers; `InputError` where there is none. what: the argument that names it."""
    if name not in frame.columns:
        near = nearest(name, list(frame.columns)) or ["ttft_ms", SERVED]
        raise InputError(f"plot: {what} {name!r} is no column; did you mean {' or '.join(near)}?")
    if frame[name].dtype.kind not in "fiub":
        raise InputError(f"plot: {what} {name!r} holds words; give a column of numbers, such as {SERVED}")
    return frame[name].to_numpy(float)


def over_load(frame: pd.DataFrame, differ: Sequence[str], x: str = "", y: str = "") -> Figure:
    """Draw the column `y` over the column `x`, one line per value of the others that differ.

    differ: columns that say what a row is, and differ between rows. A line runs over `x` where it is one of them, else
    over the load or another number. Rows that do not fit are left out.
    """
    along = next((name for name in OVER if name in differ), "")
    x = x or along
    if not x:
        raise InputError("plot: sweep: no number differs between rows; give a list, such as concurrency=[1, 8, 64]")
    y = y or SERVED
    column(frame, x, "x"), column(frame, y, "y")
    usable = frame[frame["fits"].astype(bool)]
    along = x if x in differ else along
    others = [name for name in differ if name != along]
    if along:
        usable = usable.sort_values(along)
    data = [_line(rows, name, (x, y), i) for i, (name, rows) in enumerate(_lines(usable, others))]
    axes = {"xaxis": {**_axis(x), **_scale(usable[x].to_numpy(float))}, "yaxis": {**_axis(y), "rangemode": "tozero"}}
    meta = {"meta": {"title": f"{heading(y)} over {heading(x)}"}, "height": charts.SCATTER_HEIGHT}
    return {"data": data, "layout": {**meta, **axes}}


def _lines(frame: pd.DataFrame, others: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Return (name, rows) of each line: the rows that are equal in the columns `others`."""
    if not others:
        return [("", frame)]
    found = []
    for values, rows in frame.groupby(list(others), sort=False, dropna=False):
        each: list[tuple[str, Any]] = list(zip(others, values, strict=True))
        texts = [v if isinstance(v, str) else f"{o} {plain(v)}" for o, v in each]
        found.append((", ".join(texts), rows))
    if len(found) > MOST_LINES:
        raise InputError(f"plot: sweep: {len(found)} lines are too many; give x and fewer values, at most {MOST_LINES}")
    return found


def _line(rows: pd.DataFrame, name: str, axes: tuple[str, str], place: int) -> Figure:
    """Return one line. axes: columns of x and y."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": rows[axes[0]].to_numpy(float).tolist(),
        "y": rows[axes[1]].to_numpy(float).tolist(),
        "line": {
            "color": charts.PALETTE[place % len(charts.PALETTE)],
            "dash": ("solid", "dash", "dot")[place // len(charts.PALETTE) % 3],
        },
        "showlegend": bool(name),
        "hovertemplate": f"{name}<br>{heading(axes[0])} " + "%{x:.4g}: %{y:.4g}<extra></extra>",
    }


def _axis(name: str) -> Figure:
    """Return an axis with the heading of a column."""
    return {"title": {"text": heading(name)}, "automargin": True}


def _scale(values: Any) -> Figure:
    """Return the scale of an axis: logarithmic where its values span more than a decade."""
    above = values[np.isfinite(values) & (values > 0)]
    wide = len(above) == len(values) and len(above) and above.max() > charts.DECADE * above.min()
    return {"type": "log"} if wide else {}


def front(frame: pd.DataFrame, names: Sequence[str], x: str = "", y: str = "") -> Figure:
    """Draw cost (energy where no price is known) against latency, one colour per device, with their front.

    names: what each row is called. x, y: columns; less is better in both. Rows that do not fit or are saturated are
    left out.
    """
    usable = (frame["fits"] & ~frame["saturated"]).to_numpy(bool)
    priced = np.isfinite(frame[COST].to_numpy(float)[usable]).any()
    x, y = x or (COST if priced else ENERGY), y or "tpot_ms"
    across, up = column(frame, x, "x"), column(frame, y, "y")
    kept = usable & np.isfinite(across) & np.isfinite(up)
    if not kept.any():
        raise InputError(f"plot: front: no row fits and has {x} and {y}; try more devices or a smaller load")
    devices = frame["device"].to_numpy()
    groups = {}
    for device in dict.fromkeys(devices[kept]):
        rows = np.flatnonzero(kept & (devices == device))
        groups[str(device)] = charts.Points(across[rows].tolist(), up[rows].tolist(), [names[i] for i in rows.tolist()])
    best = np.flatnonzero(kept)[pareto([across[kept], up[kept]], largest=[False, False])]
    best = best[np.argsort(across[best])]
    edge = charts.Points(across[best].tolist(), up[best].tolist())
    titles = charts.Titles(f"{heading(y)} against {heading(x)}", x=heading(x), y=heading(y))
    return charts.scatter(groups, front=edge, chosen=charts.Points([], []), titles=titles)
