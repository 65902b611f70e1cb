"""Make the table of kernel watts of `perfmodel.power` from measured kernels, and judge it on shapes left out.

The input is a folder of tables with a line per kernel that ran back to back: `device`, `op_name`, `latency` (ms),
`power` and `power_limit` (W), and its sizes, as AIConfigurator kept them (Apache-2.0). Kernels are described by the
same functions as those of `perfmodel op`. Readings of short kernels, and of those far below both peaks, which wait for
their host, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError, outfile
from hwdb import load as load_hwdb
from perfmodel.arrays import NAN, Array
from perfmodel.fitting.interval_fit import COVERAGE
from perfmodel.fitting.measured import fold_of
from perfmodel.hardware import hardware_of
from perfmodel.operators import Demand, attention_alone, gemm_alone
from perfmodel.power import chip, near

if TYPE_CHECKING:
    import pandas as pd

#: The table that `perfmodel.power` reads.
KERNELS = Path(__file__).resolve().parents[1] / "power" / "kernels.csv"
#: Seconds below which a meter that averages over milliseconds cannot be trusted; share of the nearer peak below which
#: a kernel waits for its host. The first is what the makers of the tables say of nvidia-smi, the second is chosen.
SHORTEST, LEAST_PEAK = 100e-6, 0.1
FOLDS = 5
#: Fewest kernels of a table. Chosen: a cell in each of some ten places.
_FEWEST = 200
#: Names of devices and of operand formats in the tables -> ours, and bits.
_DEVICES = {"NVIDIA H200": "h200-sxm", "NVIDIA B200": "b200-sxm", "NVIDIA GB200": "gb200"}
_FORMATS = {"bfloat16": ("bf16", 16), "fp8": ("fp8", 8), "fp8_block": ("fp8", 8), "nvfp4": ("nvfp4", 4)}
_ATTENTION = {"context_attention": "attention_prefill", "generation_attention": "attention_decode"}


@dataclass(frozen=True)
class KernelFit:
    """Hold measured kernels, and what the others say of each: `rows` with `out`, by shapes left out, and `cells`.

    borrowed: log half-width by family where another device of the architecture stands in.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame
    borrowed: dict[str, float]

    def lines(self) -> list[str]:
        """Return a summary as text: errors on shapes left out, in %."""
        off = (self.rows.out / self.rows.share - 1.0).dropna()
        parts = [("all", off), *((str(name), part) for name, part in off.groupby(self.rows.family))]
        return [
            f"{name}, shapes left out: {len(part)} kernels: median {100 * part.abs().median():.1f} %, "
            f"p90 {100 * part.abs().quantile(0.9):.1f} %, bias {100 * part.median():+.1f} %"
            for name, part in parts
        ]


def kernel_rows(folder: Path) -> pd.DataFrame:
    """Return a line per measured kernel: device, family, width (bits), site (sizes of its layer), flop, moved, time (s)
    and share (of the power limit). Readings that cannot be trusted are left out.
    """
    import pandas as pd

    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise InputError(f"{folder}: no *.parquet tables of kernels; give the folder that holds them")
    parts = [part for path in paths for part in _described(pd.read_parquet(path))]
    if not parts:
        raise InputError(f"{folder}: no table has GEMM or attention kernels with watts of a known device")
    rows = pd.concat(parts, ignore_index=True)
    return rows[(rows.time > SHORTEST) & (rows.peak_share > LEAST_PEAK)].reset_index(drop=True)


def _described(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the kernels of a table, a part per format and, for attention, per shape of the heads."""
    if not {"power", "power_limit", "device", "op_name"} <= set(table.columns):
        return
    table = table[(table.power > 0) & table.device.isin(list(_DEVICES))]
    kind = str(table.op_name.iloc[0]) if len(table) else ""
    if kind == "gemm":
        for name, rows in table[table.gemm_dtype.isin(list(_FORMATS))].groupby("gemm_dtype"):
            dtype, width = _FORMATS[str(name)]
            m, n, k = (rows[c].to_numpy(float) for c in ("m", "n", "k"))
            yield _part(rows, gemm_alone(m, n, k, dtype), width, rows.n.astype(str) + "x" + rows.k.astype(str))
    elif kind in _ATTENTION:
        whole = table[(table.window_size == 0) & table.kv_cache_dtype.isin(list(_FORMATS))]
        for _, rows in whole.groupby(["num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype"]):
            heads, kv_heads, head_dim = (int(rows[c].iloc[0]) for c in ("num_heads", "num_key_value_heads", "head_dim"))
            kv, width = _FORMATS[str(rows.kv_cache_dtype.iloc[0])]
            batch, isl, step = (rows[c].to_numpy(float) for c in ("batch_size", "isl", "step"))
            query, context = (isl, step) if kind == "context_attention" else (np.ones_like(isl), isl + step)
            demand = attention_alone(batch, query, context, (heads, kv_heads, head_dim), kv)
            yield _part(rows, demand, width, f"{heads}x{kv_heads}x{head_dim}")


def _part(rows: pd.DataFrame, demand: Demand, width: int, site: pd.Series[str] | str) -> pd.DataFrame:
    """Return kernels that `demand` describes as lines."""
    device = load_hwdb().device(_DEVICES[str(rows.device.iloc[0])])
    hardware = hardware_of([device], np.zeros(1, dtype=np.intp))
    time = rows.latency.to_numpy(float) * 1e-3
    peak = hardware.peak[0, np.broadcast_to(demand.compute, time.shape)]
    nearer = np.fmax(demand.flop / peak, demand.moved / device.bandwidth) / time
    return rows.assign(
        device=device.name,
        family=demand.family,
        width=width,
        site=site,
        flop=demand.flop,
        moved=demand.moved,
        time=time,
        peak_share=nearer,
        share=rows.power / rows.power_limit,
    )[["device", "family", "width", "site", "flop", "moved", "time", "peak_share", "share"]]


def fitted_kernels(folder: Path) -> KernelFit:
    """Make the table of kernel watts, and predict each kernel by a table made without the sizes of its layer."""
    import pandas as pd

    rows = kernel_rows(folder)
    rows = rows.assign(out=NAN, log2_flop=np.log2(rows.flop), log2_bytes=np.log2(rows.moved))
    kept = []
    for _, mine in rows.groupby(["device", "family", "width"]):
        if len(mine) < _FEWEST:
            continue
        fold = mine.site.map(lambda site: fold_of(site, FOLDS))
        for part in range(FOLDS):
            out, rest = mine[fold == part], mine[fold != part]
            if len(out) and len(rest):
                rows.loc[out.index, "out"] = _looked_up(_cells(rest), out)
        off = np.abs(np.log(rows.out[mine.index].to_numpy() / mine.share.to_numpy()))
        names = {name: mine[name].iloc[0] for name in ("device", "family", "width")}
        kept.append(_cells(mine).assign(**names, spread=float(np.nanquantile(off, COVERAGE))))
    return KernelFit(rows, pd.concat(kept, ignore_index=True), _borrowed(rows))


def _cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the median share of kernels by FLOP and bytes, each to a factor of two."""
    place = {name: rows[name].round() for name in ("log2_flop", "log2_bytes")}
    return rows.groupby(list(place.values())).share.median().reset_index()


def _looked_up(cells: pd.DataFrame, rows: pd.DataFrame) -> Array:
    """Return the share of each kernel by a table."""
    axes = ["log2_flop", "log2_bytes"]
    return near(cells[axes].to_numpy(float), cells.share.to_numpy(float), rows[axes].to_numpy(float))


def _borrowed(rows: pd.DataFrame) -> dict[str, float]:
    """Return the log half-width by family where one device stands for another of its architecture, from those here."""
    database, off = load_hwdb(), {}
    for family, mine in rows.groupby("family"):
        found = []
        for one, other in permutations(mine.device.unique(), 2):
            if chip(database.device(one)) != chip(database.device(other)):
                continue
            for width in mine.width.unique():
                source, target = (mine[(mine.device == d) & (mine.width == width)] for d in (one, other))
                if len(source) >= _FEWEST and len(target):
                    found.append(np.abs(np.log(_looked_up(_cells(source), target) / target.share.to_numpy())))
        off[str(family)] = float(np.nanquantile(np.concatenate(found), COVERAGE)) if found else NAN
    return off


def kernels_text(found: KernelFit) -> str:
    """Return the text of `kernels.csv`."""
    lines = [
        "# Watts of kernels over the power limit, the median of those measured, by FLOP and bytes per call (log2).",
        "# Made by perfmodel.fitting kernels from tables of NVIDIA AIConfigurator (Apache-2.0, ai-dynamo/",
        "# aiconfigurator @095f58a), re-gridded. spread: log half-width of the 80 % interval on shapes left out;",
        "# borrowed: the same where another device of the architecture stands in.",
        *(f"# {line}" for line in found.lines()),
        "device,family,width,log2_flop,log2_bytes,share,spread,borrowed",
    ]
    for cell in found.cells.itertuples():
        borrowed = found.borrowed[str(cell.family)]
        lines.append(
            f"{cell.device},{cell.family},{cell.width},{cell.log2_flop:.0f},{cell.log2_bytes:.0f},{cell.share:.3f},"
            f"{cell.spread:.3f},{borrowed:.3f}"
        )
    return "\n".join(lines) + "\n"


def write_kernels(found: KernelFit, path: Path = KERNELS) -> None:
    """Write the table that `perfmodel.power` reads."""
    outfile.write_text(path, kernels_text(found))
