"""Turn measured points of operator tables into demands, so that cost models can be asked for what was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwdb import Device
from perfmodel.arrays import NAN, Array
from perfmodel.costs import Cost, CostModel
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Measured, bound, shape_at, store

#: Cells of a table that are looked at. Chosen: quantiles of the error no longer move.
SAMPLE = 2000


@dataclass(frozen=True)
class Cells:
    """Holds R measured points of an operator table. demand: what was measured, R candidates. time: (R,) measured
    seconds.
    """

    demand: Demand
    time: Array


def measured_cells(item: Measured, family: str, sample: int = SAMPLE, seed: int = 0) -> Cells:
    """Draw a random sample of the measured points of an operator table.

    item: the table. family: family of its operator. sample: most points. seed: of the random choice.
    """
    table, kind = item.table, FAMILY[family]
    cells = np.argwhere(table.known)
    cells = cells[np.random.default_rng(seed).permutation(len(cells))[:sample]]
    axis = np.stack([a[cells[:, 1 + i]] for i, a in enumerate(table.axes)], axis=1)
    shape = shape_at(kind, table.sites[cells[:, 0]], axis)
    least, _ = bound(kind, shape, item.variant, item.reference)
    time = least * np.exp(-table.values[tuple(cells.T)].astype(float))
    return Cells(demand=demand_of(family, shape, item), time=time)


def demand_of(family: str, shape: dict[str, Array], item: Measured) -> Demand:
    """Return the demand (work, bytes, formats) of operators of the given shapes, in the number formats of a table.

    shape: sizes by name, (R,) each.
    """
    variant = item.variant
    work = FAMILY[family].work(shape, variant.formats())
    act = COMPUTE_CODE[variant.act or "bf16"]
    keys: dict[str, Array | float] = dict(shape)
    if family in ("gemm", "grouped_gemm"):
        keys |= {"weight": float(FORMAT_CODE[variant.stored]), "act": float(act)}
    elif variant.stored:
        keys["kv_bytes"] = variant.formats().stored
    rows = len(next(iter(shape.values())))
    flop, moved = (np.broadcast_to(np.asarray(v, float), (rows,)) for v in (work.flop, work.moved))
    return Demand(
        name=family,
        family=family,
        flop=flop,
        moved=shape["moved_bytes"] if family == "elementwise" else moved,
        count=np.ones(rows),
        compute=act,
        message=shape.get("message_bytes", 0.0),
        shape=keys,
    )


def cell_costs(model: CostModel, device: Device, cells: Cells) -> Cost:
    """Return the cost that `model` predicts for each of the measured points `cells` on `device`."""
    return model.cost(cells.demand, one_device(device, len(cells.time)))


def one_device(device: Device, rows: int) -> Hardware:
    """Return the hardware columns of `rows` candidates that are all on one device."""
    return hardware_of([device], np.zeros(rows, np.intp))


def measured_tables(device: str) -> list[tuple[str, str, Measured]]:
    """List (family, framework, table) of every operator table that was measured on a device."""
    profile = store.load(device)
    if profile is None:
        return []
    return [
        (family, framework, item)
        for family in profile.families()
        for framework in profile.frameworks(family)
        for item in profile.tables(family, framework)
        if item.table.known.any()
    ]


def error_quantile(residual: Array, rank: float) -> float:
    """Return the quantile at `rank` (0 to 1) of the relative error |predicted / measured - 1|.

    residual: (R,) ln(predicted / measured). NaN without residuals.
    """
    return float(np.quantile(np.abs(np.expm1(residual)), rank)) if len(residual) else NAN
