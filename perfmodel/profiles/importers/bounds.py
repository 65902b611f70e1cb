"""Compute the least time that a measured operator can have taken, by its compulsory work on the rated device.

Compulsory work means: every input is read once, nothing is recomputed, experts are balanced. A time below this bound
has a wrong unit or a wrong shape, or its data never left the cache. This is a check of measurements and no cost model;
the formulas are those of `perfmodel.equations`, at the least that a row can mean.
"""

from __future__ import annotations

import numpy as np

from hwdb import Device
from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.dtypes import ALIASES, FALLBACK, FORMATS
from perfmodel.profiles.importers.rows import COLLECTIVES, Rows, each

#: Working sets below this many times the last-level cache may be served from it, so bandwidth bounds nothing there.
CACHE_MARGIN = 4.0
#: Bytes of cache assumed where hwdb does not know them: above that of every device it knows.
UNKNOWN_CACHE = 512e6
#: Matrices from the hidden to the inner width that every expert has at least; gated ones have two.
LEAST_UP_MATRICES = 1.0


def bytes_of(names: np.ndarray) -> Array:
    """Return the bytes per value of each format name (R,), NaN where the name is empty or unknown.

    >>> bytes_of(np.array(["bf16", "fp8", ""], dtype=object)).tolist()
    [2.0, 1.0, nan]
    """
    return each(names, _bytes)


def _bytes(name: str) -> float:
    """Return the bytes per value of one format name or alias; NaN if it is unknown."""
    key = ALIASES.get(name.lower(), name.lower())
    return FORMATS[key].bytes if key in FORMATS else np.nan


def pairs(query: Array, context: Array, window: Array) -> Array:
    """Count the query-key pairs of one head under a causal mask, (R,).

    query, context, window: (R,) new tokens, cached tokens, attention window in tokens. As in all measured rows, a
    window of 0 means that there is none.

    >>> pairs(np.array([4.0]), np.array([2.0]), np.array([0.0])).tolist()
    [18.0]
    """
    return eq.causal_pairs(query, context, np.where(window > 0.0, window, np.inf))


def flop(table: Rows, family: str) -> Array:
    """Return the compulsory FLOP (R,) of rows that are all of `family`; 0 for a family whose arithmetic gives no bound
    here."""
    c = table.columns
    if family == "gemm":
        return eq.gemm_flop(c["m"], c["n"], c["k"])
    if family == "grouped_gemm":
        routed = c["tokens"] * c["top_k"] / c["ep"]
        return eq.grouped_gemm_flop(routed, c["hidden"], c["inter"] / c["tp"], LEAST_UP_MATRICES)
    if family == "attention_prefill":
        seen = pairs(c["query"], c["context"], c["window"])
        return eq.attention_flop(c["batch"] * seen, c["heads"], c["head_dim"], c["head_dim"])
    if family == "mla_prefill":
        seen, sizes = pairs(c["query"], c["context"], np.zeros(len(table))), eq.DEEPSEEK_MLA
        return eq.attention_flop(c["batch"] * seen, c["heads"], sizes.key_dim, sizes.value_dim)
    if family == "mla_decode":
        return eq.mla_flop(c["batch"] * c["context"], c["heads"], eq.DEEPSEEK_MLA)
    return np.zeros(len(table))


def moved(table: Rows, family: str) -> Array:
    """Return the compulsory bytes (R,) to and from memory of rows that are all of `family`; bytes in an unknown format
    count 0.

    Rows of experts and attention count weights and cache only: queries, outputs and expert rows (`query` and `pairs` 0)
    may stay in the cache. Of the experts at least those of one token are read.
    """
    c = table.columns
    weight, act, cache = (np.nan_to_num(bytes_of(c[name])) for name in ("weight", "act", "kv"))
    if family == "gemm":
        return eq.gemm_bytes(c["m"], c["n"], c["k"], act_bytes=act, weight_bytes=weight, out_bytes=act)
    if family == "grouped_gemm":
        touched = np.maximum(1.0, np.minimum(c["experts"], c["top_k"]) / c["ep"])
        inner = c["inter"] / c["tp"]
        return eq.grouped_gemm_bytes(
            0.0, touched, c["hidden"], inner, LEAST_UP_MATRICES, act_bytes=act, weight_bytes=weight
        )
    if family in ("attention_prefill", "attention_decode"):
        seen = c["context"] + (c["query"] if family == "attention_prefill" else 0.0)
        seen = np.where(c["window"] > 0.0, np.minimum(seen, c["window"]), seen)
        return eq.attention_bytes(c["batch"], 0.0, seen, c["heads"], c["kv_heads"], 2.0 * c["head_dim"], cache)
    if family == "mla_decode":
        return eq.mla_bytes(c["batch"], 0.0, c["context"], c["heads"], eq.DEEPSEEK_MLA, cache)
    if family in ("elementwise", "model_decode"):
        return np.array(c["moved_bytes"], float)
    return np.zeros(len(table))


def peak(device: Device, act: np.ndarray) -> Array:
    """Return the rated FLOP/s (R,) of each row's compute type, or of the type that the device uses instead; NaN if it
    has none.

    act: (R,) names of compute types.
    """

    def rate(name: str) -> float:
        key = ALIASES.get(name, name)
        chain = (key, *FALLBACK[key]) if key in FALLBACK else ()
        return next((r for r in map(device.peak, chain) if r == r), np.nan)

    return each(act, rate)


def bound(table: Rows, device: Device) -> Array:
    """Return the least possible seconds (R,) of each row on `device`; 0 where nothing bounds it.

    For collectives, the message crosses the device's link once, except the share that stays on the device itself;
    reduction inside the switch does not avoid this either.
    """
    out = np.zeros(len(table))
    for family in sorted(set(table["family"])):
        mask = table["family"] == family
        part = table.take(mask)
        if family in COLLECTIVES:
            out[mask] = _link_bound(part, device)
            continue
        size = moved(part, family)
        cache = UNKNOWN_CACHE if np.isnan(device.l2) else device.l2
        streamed = np.where(size > CACHE_MARGIN * cache, size, 0.0)
        rate = np.nan_to_num(peak(device, part["act"]), nan=np.inf)
        bandwidth = float(np.nan_to_num(device.bandwidth, nan=np.inf))
        out[mask] = eq.least_time(np.nan_to_num(flop(part, family)), streamed, peak=rate, bandwidth=bandwidth)
    return out


def _link_bound(table: Rows, device: Device) -> Array:
    """Return the seconds (R,) that a collective's bytes need on the device's own link; 0 for groups that reach beyond
    it."""
    group, message = table["group"], table["message_bytes"]
    remote = np.where(table["family"] == "p2p", message, eq.collective_bytes(message, group, 1.0))
    inside = group <= np.nan_to_num(device.link.peers, nan=0.0)
    least = eq.least_time(linked=remote, link_bandwidth=device.link.bandwidth)
    return np.nan_to_num(np.where(inside, least, 0.0))
