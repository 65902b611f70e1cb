"""The least time a measured operator can have taken: what it must compute over the rated peak, what it must move over
the rated bandwidth. Compulsory work only (every input read once, nothing recomputed, balanced experts), so a time below
it is a wrong unit, a wrong shape or data that never left the cache. Not a cost model: see `perfmodel.equations`.
"""

from __future__ import annotations

import numpy as np

from hwdb import Device
from perfmodel import equations
from perfmodel.arrays import Array
from perfmodel.dtypes import ALIASES, FALLBACK, FORMATS
from perfmodel.profiles.importers.rows import COLLECTIVES, Rows, each

#: Working sets below this many times the last-level cache may be served from it, so bandwidth bounds nothing there.
CACHE_MARGIN = 4.0
#: Cache taken where hwdb has none: above that of every device it knows.
UNKNOWN_CACHE = 512e6
#: DeepSeek-V2/V3 latent attention (arXiv:2405.04434): latent + rotary, value and query head sizes.
MLA_LATENT, MLA_ROPE, MLA_QUERY, MLA_VALUE = 512.0, 64.0, 192.0, 128.0


def bytes_of(names: np.ndarray) -> Array:
    """Bytes a value of each format name, NaN where the name is empty or unknown.

    >>> bytes_of(np.array(["bf16", "fp8", ""], dtype=object)).tolist()
    [2.0, 1.0, nan]
    """
    return each(names, _bytes)


def _bytes(name: str) -> float:
    key = ALIASES.get(name.lower(), name.lower())
    return FORMATS[key].bytes if key in FORMATS else np.nan


def pairs(query: Array, context: Array, window: Array) -> Array:
    """Query-key pairs of a causal head, with the table's convention that a window of 0 is none.

    >>> pairs(np.array([4.0]), np.array([2.0]), np.array([0.0])).tolist()
    [18.0]
    """
    return equations.causal_pairs(query, context, np.where(window > 0.0, window, np.inf))


def flop(table: Rows, family: str) -> Array:
    """Compulsory floating-point operations of rows that are all of `family`; 0 where nothing is known to bound it."""
    c = table.columns
    if family == "gemm":
        return equations.gemm_flop(c["m"], c["n"], c["k"])
    if family == "grouped_gemm":  # two projections at least; gated layers have three
        return 4.0 * c["tokens"] * c["top_k"] / c["ep"] * c["hidden"] * c["inter"] / c["tp"]
    if family == "attention_prefill":
        seen = pairs(c["query"], c["context"], c["window"])
        return c["batch"] * equations.attention_flop(seen, c["heads"], c["head_dim"], c["head_dim"])
    if family == "mla_prefill":
        seen = pairs(c["query"], c["context"], np.zeros(len(table)))
        return c["batch"] * equations.attention_flop(seen, c["heads"], MLA_QUERY, MLA_VALUE)
    if family == "mla_decode":
        return c["batch"] * equations.attention_flop(c["context"], c["heads"], MLA_LATENT + MLA_ROPE, MLA_LATENT)
    return np.zeros(len(table))


def moved(table: Rows, family: str) -> Array:
    """Compulsory bytes to and from memory of rows that are all of `family`; 0 where unknown formats hide them."""
    c = table.columns
    weight, act, cache = (np.nan_to_num(bytes_of(c[name])) for name in ("weight", "act", "kv"))
    if family == "gemm":
        return equations.gemm_bytes(c["m"], c["n"], c["k"], act_bytes=act, weight_bytes=weight, out_bytes=act)
    if family == "grouped_gemm":
        experts = np.maximum(1.0, np.minimum(c["experts"], c["top_k"]) / c["ep"])
        return 2.0 * experts * c["hidden"] * c["inter"] / c["tp"] * weight
    if family in ("attention_prefill", "attention_decode"):
        seen = c["context"] + (c["query"] if family == "attention_prefill" else 0.0)
        seen = np.where(c["window"] > 0.0, np.minimum(seen, c["window"]), seen)
        return 2.0 * c["batch"] * seen * c["kv_heads"] * c["head_dim"] * cache
    if family == "mla_decode":
        return c["batch"] * c["context"] * (MLA_LATENT + MLA_ROPE) * cache
    if family in ("elementwise", "model_decode"):
        return c["moved_bytes"].copy()
    return np.zeros(len(table))


def peak(device: Device, act: np.ndarray) -> Array:
    """Rated FLOP/s of each row's compute type, or of the type that stands in for it; NaN where there is none."""

    def rate(name: str) -> float:
        key = ALIASES.get(name, name)
        chain = (key, *FALLBACK[key]) if key in FALLBACK else ()
        return next((r for r in map(device.peak, chain) if r == r), np.nan)

    return each(act, rate)


def bound(table: Rows, device: Device) -> Array:
    """Least possible seconds (R,) of each row on `device`; 0 where nothing bounds it.

    Collectives: the message crosses the device's link once but for the share that stays at home, which even in-switch
    reduction must pay.
    """
    out = np.zeros(len(table))
    for family in sorted(set(table["family"])):
        mask = table["family"] == family
        part = table.take(mask)
        if family in COLLECTIVES:
            out[mask] = _link_bound(part, device)
            continue
        compute = flop(part, family) / peak(device, part["act"])
        size = moved(part, family)
        cache = device.l2 if device.l2 == device.l2 else UNKNOWN_CACHE
        memory = np.where(size > CACHE_MARGIN * cache, size / device.bandwidth, 0.0)
        out[mask] = np.fmax(np.nan_to_num(compute), np.nan_to_num(memory))
    return out


def _link_bound(table: Rows, device: Device) -> Array:
    group, message = table["group"], table["message_bytes"]
    remote = np.where(table["family"] == "p2p", 1.0, (group - 1.0) / group)
    inside = group <= np.nan_to_num(device.link.peers, nan=0.0)
    return np.nan_to_num(np.where(inside, remote * message / device.link.bandwidth, 0.0))
