"""Shapes of operators at the coordinates of a table."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.profiles.families import Family, Shape, causal_length


def held_in_length(shape: Shape, longest: Array | float) -> Shape:
    """Return the prefill within a table's `longest` length whose utilisation stands for that of a longer prefill.

    Whole prompts keep their number and get shorter. New tokens behind cached ones count as part of a prompt
    (`causal_length`); they keep query rows times keys, since kernels with few rows divide the keys of a long context
    among the idle parts of a device (split-KV: Flash-Decoding, PyTorch blog, 2023-10-12; FlashInfer, arXiv:2501.01005,
    sec. 3.3). A prompt that is not longer stays as it is.
    """
    batch, length = causal_length(shape)
    held = np.minimum(length, longest)
    part = np.maximum(batch, np.minimum(batch * np.square(length / held), 1.0))
    return {**shape, "batch": part, "query": held, "context": 0.0}


def shape_at(family: Family, site: Array, axis: Array) -> dict[str, Array]:
    """Return a shape that lies at the given table coordinates of `family` (a right inverse of `locate`).

    site: (..., d) and axis: (..., a), logarithms of d site and a axis coordinates, whose leading axes broadcast against
    each other. Several shapes may have the same coordinates; the result, by shape key, is one of them.
    """
    return shape_of(family, np.exp(site), np.exp(axis))


def shape_of(family: Family, site: Array, axis: Array) -> dict[str, Array]:
    """Return what `shape_at` does at coordinates that are no logarithms."""
    columns = (*np.moveaxis(site, -1, 0), *np.moveaxis(axis, -1, 0))
    named = dict(zip((*family.site, *family.axis), columns, strict=True))
    one = np.ones(site.shape[:-1])
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
    """Return query and context of an attention shape, from its coordinates by name; nothing is cached before a
    prefill."""
    if family.name.endswith("decode"):
        return {"context": named["context"]}
    return {"query": named["length"], "context": np.zeros_like(named["length"])}
