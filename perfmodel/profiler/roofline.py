"""Compute the measured points of a profile for a roofline plot: intensity (FLOP per byte) and rate (FLOP/s)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import UnknownName
from perfmodel.arrays import Array
from perfmodel.profiler.listing import places
from perfmodel.profiles import FAMILY, Measured, bound, store

#: Most points per table; larger tables are thinned evenly. Chosen: keeps the HTML page small.
MOST_POINTS = 400


def _gemm(site: Array, axis: Array) -> dict[str, Array]:
    return {"n": site[0], "k": site[1], "m": axis[0]}


def _experts(site: Array, axis: Array) -> dict[str, Array]:
    hidden, inter, experts, top_k, ep = site
    one = np.ones_like(hidden)
    shape = {"hidden": hidden, "inter": inter, "experts": experts, "top_k": top_k, "ep": ep, "tp": one}
    return {**shape, "tokens": axis[0]}


def _heads(site: Array, axis: Array, length: str) -> dict[str, Array]:
    group, shared, size, window = site
    shape = {"heads": group * shared, "kv_heads": shared, "head_dim": size, "window": window}
    return {**shape, "batch": axis[0] / shared, length: axis[1]}


def _prefill(site: Array, axis: Array) -> dict[str, Array]:
    return {**_heads(site, axis, "query"), "context": np.zeros_like(axis[0])}


def _decode(site: Array, axis: Array) -> dict[str, Array]:
    return _heads(site, axis, "context")


#: Family -> function from table coordinates to shape columns; the inverse of `families.FAMILY[...].locate`.
SHAPES: dict[str, Callable[[Array, Array], dict[str, Array]]] = {
    "gemm": _gemm,
    "grouped_gemm": _experts,
    "attention_prefill": _prefill,
    "attention_decode": _decode,
    "mla_prefill": lambda site, axis: {
        "heads": site[0],
        "batch": axis[0],
        "query": axis[1],
        "context": np.zeros_like(axis[0]),
    },
    "mla_decode": lambda site, axis: {"heads": site[0], "batch": axis[0], "context": axis[1]},
}


def shapes(family: str, item: Measured) -> tuple[dict[str, Array], Array]:
    """Return shape columns (R,) and ln(utilisation) (R,) of the measured cells of a table, at most `MOST_POINTS`.

    Raises `UnknownName` for a family without arithmetic, which has no arithmetic intensity.
    """
    if family not in SHAPES:
        raise UnknownName("family with arithmetic", family, SHAPES)
    cells = np.argwhere(item.table.known)
    cells = cells[:: max(1, -(-len(cells) // MOST_POINTS))]
    site = np.exp(item.table.sites[cells[:, 0]]).T
    axis = np.array([np.exp(grid[cells[:, 1 + number]]) for number, grid in enumerate(item.table.axes)])
    return SHAPES[family](site, axis), item.table.values[tuple(cells.T)].astype(float)


def measured_points(device: str, folders: Sequence[Path | str] = ()) -> list[dict[str, Any]]:
    """Return one row per measured cell: family, framework, formats, flop_per_byte, tflops, latency_us.

    FLOP and bytes are the least that the operator needs, so a kernel that recomputes or rereads appears at a lower
    rate. folders: the folders of --hwdb. Raises `UnknownName` if `device` has no profile.
    """
    profile = store.load(device, places(folders))
    if profile is None:
        raise UnknownName("profile", device, store.names(places(folders)))
    out = []
    for family in profile.families():
        if family not in SHAPES:
            continue
        for framework in profile.frameworks(family):
            for item in profile.tables(family, framework):
                out += _points(family, framework, item)
    return out


def _points(family: str, framework: str, item: Measured) -> list[dict[str, Any]]:
    """Return the rows of one table; see `measured_points`."""
    shape, value = shapes(family, item)
    work = FAMILY[family].work(shape, item.variant.formats())
    least, _ = bound(FAMILY[family], shape, item.variant, item.reference)
    time = least / np.exp(value)
    rate, intensity = np.asarray(work.flop) / time, np.asarray(work.flop) / np.asarray(work.moved)
    common = {"family": family, "framework": framework, "formats": item.variant.key}
    return [
        {**common, "flop_per_byte": float(i), "tflops": float(r) / 1e12, "latency_us": float(t) * 1e6}
        for i, r, t in zip(intensity, rate, time, strict=True)
        if np.isfinite(i) and np.isfinite(r)
    ]
