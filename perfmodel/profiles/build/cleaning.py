"""What is wrong with published operator tables and can be put right by physics alone, before they become profiles.

Nothing here looks at serving runs. Rows are those of one device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfmodel.profiles.importers import Rows

#: Seconds a smallest GEMM takes at most on any device that was measured (Arc B60: 33 us).
HOST_FLOOR = 40e-6
#: A GEMM of so few rows and so small a matrix is all launch and latency.
_SMALL_ROWS, _SMALL_MATRIX = 8, 2.0**24


def host_bound(table: Rows) -> NDArray[np.bool_]:
    """GEMM rows of number formats whose smallest kernels take over `HOST_FLOOR`: the host was timed, not the kernel.

    vLLM 0.24's block-scaled fp8 GEMMs show 58 to 430 us whatever their size on every device, where the same kernels
    take 4 to 7 us under SGLang and TensorRT-LLM. (R,)
    """
    out = np.zeros(len(table), bool)
    for mine in _formats(table):
        out |= mine & (floor(table, mine) > HOST_FLOOR)
    return out


def misrouted(table: Rows) -> NDArray[np.bool_]:
    """Expert rows whose "balanced" routing over EP ranks in fact sends the measured rank up to ep times its share. (R,)

    Their times fall by half from 1 to 64 ranks, and by as much again from 64 to 128 and to 256, where a rank holds
    fewer experts than a token picks: every token picks the measured rank's own experts first.
    """
    return np.asarray((table["skew"] == 0.0) & (table["ep"] > 1))


def floor(table: Rows, mine: NDArray[np.bool_]) -> float:
    """Seconds of the fastest tenth of the smallest GEMMs among rows `mine`; NaN without any."""
    small = mine & (table["m"] <= _SMALL_ROWS) & (table["n"] * table["k"] <= _SMALL_MATRIX)
    return float(np.quantile(table["time"][small], 0.1)) if small.any() else np.nan


def without_extra(table: Rows) -> Rows:
    """GEMM rows of several frameworks, less what a framework's table holds beyond the kernel.

    A table that times the quantisation of activations as kernels of their own adds a constant to every call: the
    smallest fp8 GEMMs of TensorRT-LLM take 13 us on every device where SGLang and vLLM show 5, and their bf16 ones 3
    everywhere. Engines fuse that step into the norm or activation before (TensorRT-LLM's RESIDUAL_RMS_NORM_QUANT_FP8
    and _NVFP4), so the difference of floors to the fastest framework of the same device and number format comes off.
    """
    extra, frameworks = np.zeros(len(table)), _frameworks(table)
    for mine in _formats(table):
        floors = {f: floor(table, mine & (frameworks == f)) for f in np.unique(frameworks[mine]).tolist()}
        known = [v for v in floors.values() if v == v]
        for name, value in floors.items():
            if value == value:
                extra[mine & (frameworks == name)] = value - min(known)
    return table.replace(time=np.maximum(table["time"] - extra, 0.25 * table["time"]))


def padded(table: Rows) -> Rows:
    """GEMM rows whose time is at most that of any GEMM of more rows with the same matrix and software.

    A GEMM of m rows can be computed as one of m' > m rows padded with zeros, as engines pad batches to captured sizes;
    what takes longer than that is a hiccup of the measurement or a kernel that nobody would choose. In some tables
    every eighth point is more than a fifth too long.
    """
    labels = (_frameworks(table), table["weight"].astype(str), table["act"].astype(str))
    codes = [np.unique(c, return_inverse=True)[1].reshape(-1) for c in labels]
    keys = np.column_stack([*codes, table["n"], table["k"]])
    _, site = np.unique(keys, axis=0, return_inverse=True)
    order = np.lexsort((-table["m"], site.reshape(-1)))
    time, group = np.log(table["time"][order]), site.reshape(-1)[order]
    # falling offsets a site keep its running minimum from reaching into the next one
    drop = 2.0 * (np.ptp(time) + 1.0) if len(time) else 0.0
    least = np.minimum.accumulate(time - group * drop) + group * drop
    out = np.empty(len(table))
    out[order] = np.exp(least)
    return table.replace(time=out)


def _frameworks(table: Rows) -> NDArray[np.str_]:
    return np.array([str(s).partition(" ")[0] for s in table["software"]])


def _formats(table: Rows) -> list[NDArray[np.bool_]]:
    labels = np.char.add(np.char.add(table["weight"].astype(str), "|"), table["act"].astype(str))
    return [labels == label for label in np.unique(labels)]
