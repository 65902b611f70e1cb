"""Correct published operator tables before they become profiles.

Every correction follows from how kernels work; none is fitted to serving benchmarks. All rows are of one device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Mask
from perfmodel.profiles.importers import Rows

#: Time of the smallest GEMM, s, above which the host was timed. Measured: the slowest device (Arc B60) takes 33 us.
HOST_FLOOR = 40e-6
#: Most rows, and most weights, of a GEMM whose time is launch overhead and latency only. Chosen.
_SMALL_ROWS, _SMALL_MATRIX = 8, 2.0**24
#: Quantile of the times of small GEMMs that counts as their least time. Chosen: ignores single outliers.
_FLOOR_QUANTILE = 0.1
#: Least share of a time that a correction leaves. Chosen: a correction never removes most of a measurement.
_LEAST_SHARE = 0.25


def host_bound(table: Rows) -> Mask:
    """Mark the GEMM rows whose number format was timed on the host instead of on the device, as a mask (R,).

    These are the formats whose smallest GEMMs take longer than `HOST_FLOOR`. Example: block-scaled fp8 GEMMs of vLLM
    0.24 take 58 to 430 us at every size on every device; the same kernels take 4 to 7 us under SGLang and TensorRT-LLM.
    """
    out = np.zeros(len(table), bool)
    for mine in _formats(table):
        out |= mine & (floor(table, mine) > HOST_FLOOR)
    return out


def misrouted(table: Rows) -> Mask:
    """Mark the expert rows whose "balanced" routing gives the measured rank up to `ep` times its share of the work, as
    a mask (R,).

    `ep` is the number of expert-parallel ranks. Evidence: times fall by half from 1 to 64 ranks, and by as much again
    from 64 to 128 and to 256 ranks, where a rank holds fewer experts than a token selects. So every token selects the
    experts of the measured rank first.
    """
    return np.asarray((table["skew"] == 0.0) & (table["ep"] > 1))


def floor(table: Rows, mine: Mask) -> float:
    """Return the tenth percentile, in s, of the times of the smallest GEMMs among the rows that the mask `mine` (R,)
    selects; NaN if there are none."""
    small = mine & (table["m"] <= _SMALL_ROWS) & (table["n"] * table["k"] <= _SMALL_MATRIX)
    return float(np.quantile(table["time"][small], _FLOOR_QUANTILE)) if small.any() else np.nan


def without_extra(table: Rows) -> Rows:
    """Subtract the time of separate activation-quantisation kernels from GEMM rows of several frameworks.

    Some tables time the quantisation of activations as a separate kernel, which adds a constant to every call. Example:
    the smallest fp8 GEMMs of TensorRT-LLM take 13 us on every device, those of SGLang and vLLM 5 us; bf16 GEMMs take 3
    us everywhere. Serving engines fuse quantisation into the preceding norm or activation (TensorRT-LLM:
    RESIDUAL_RMS_NORM_QUANT_FP8 and _NVFP4). So from each framework's times this subtracts the difference between its
    least time and that of the fastest framework in the same number format.
    """
    extra, frameworks = np.zeros(len(table)), _frameworks(table)
    for mine in _formats(table):
        floors = {f: floor(table, mine & (frameworks == f)) for f in np.unique(frameworks[mine]).tolist()}
        known = [v for v in floors.values() if v == v]
        for name, value in floors.items():
            if value == value:
                extra[mine & (frameworks == name)] = value - min(known)
    return table.replace(time=np.maximum(table["time"] - extra, _LEAST_SHARE * table["time"]))


def padded(table: Rows) -> Rows:
    """Limit each GEMM's time to that of any GEMM of more rows with the same matrix, format and framework.

    A GEMM of m rows can be computed as one of m' > m rows padded with zeros, as engines pad batches to captured sizes.
    A longer time is a measurement error or a kernel that an engine would not select. In some tables every eighth point
    is over 20 % too long.
    """
    labels = (_frameworks(table), table["weight"].astype(str), table["act"].astype(str))
    codes = [np.unique(c, return_inverse=True)[1].reshape(-1) for c in labels]
    keys = np.column_stack([*codes, table["n"], table["k"]])
    _, site = np.unique(keys, axis=0, return_inverse=True)
    order = np.lexsort((-table["m"], site.reshape(-1)))
    time, group = np.log(table["time"][order]), site.reshape(-1)[order]
    # each site is shifted below the one before it, so that a running minimum starts afresh at every site
    drop = 2.0 * (np.ptp(time) + 1.0) if len(time) else 0.0
    least = np.minimum.accumulate(time - group * drop) + group * drop
    out = np.empty(len(table))
    out[order] = np.exp(least)
    return table.replace(time=out)


def _frameworks(table: Rows) -> NDArray[np.str_]:
    """Return the framework (R,) of each row: the first word of its software."""
    return np.array([str(s).partition(" ")[0] for s in table["software"]])


def _formats(table: Rows) -> list[Mask]:
    """Return one mask (R,) per number format (weight and activation) in the table."""
    labels = np.char.add(np.char.add(table["weight"].astype(str), "|"), table["act"].astype(str))
    return [labels == label for label in np.unique(labels)]
