"""Shapes of operators at the coordinates of a table."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.profiles.families import Family, Shape, causal_length


def uncached(shape: Shape) -> Shape:
    """Return the prefill without cached tokens at the table coordinates of a prefill; see `causal_length`."""
    batch, length = causal_length(shape)
    return {**shape, "batch": batch, "query": length, "context": 0.0}


def shape_at(family: Family, site: Array, axis: Array) -> dict[str, Array]:
    """Return a shape that lies at the given table coordinates of `family` (a right inverse of `locate`).

    site: (R, d) and axis: (R, a), logarithms of d site and a axis coordinates. Several shapes may have the same
    coordinates; the result, shape key -> (R,), is one of them.
    """
    named = dict(zip((*family.site, *family.axis), np.exp(np.concatenate([site, axis], axis=1)).T, strict=True))
    one = np.ones(len(site))
    if family.name == "grouped_gemm":
        return {**named, "inter": named["inter_local"], "tp": one}
    if family.name.startswith("attention"):
        heads = named["group"] * named["kv_heads"]
        batch = named["batch_kv_heads"] / named["kv_heads"]
        return {**named, "heads": heads, "batch": batch, **_stretch(family, named)}
    if family.name == "mla_prefill":
        return {**named, **_stretch(family, named)}
    return named


def _stretch(family: Family, named: dict[str, Array]) -> dict[str, Array]:
    """Return query and context (R,) of an attention shape, from its coordinates by name; nothing is cached before a
    prefill."""
    if family.name.endswith("decode"):
        return {"context": named["context"]}
    return {"query": named["length"], "context": np.zeros_like(named["length"])}
