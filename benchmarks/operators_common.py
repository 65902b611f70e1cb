"""What the operator benchmarks share: measured cells of tables as demands, and error figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import hwdb
from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.costs import Cost, CostModel
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Measured, bound, shape_at, store

#: Cells of a table that are looked at.
SAMPLE = 2000


@dataclass(frozen=True)
class Cells:
    """Measured cells of a table: the demand that asks for them, and the measured seconds (R,)."""

    demand: Demand
    time: Array


def measured_cells(item: Measured, family: str, sample: int = SAMPLE, seed: int = 0) -> Cells:
    """A random sample of the measured cells of a table, as a demand of so many candidates."""
    table, kind = item.table, FAMILY[family]
    cells = np.argwhere(table.known)
    cells = cells[np.random.default_rng(seed).permutation(len(cells))[:sample]]
    axis = np.stack([a[cells[:, 1 + i]] for i, a in enumerate(table.axes)], axis=1)
    shape = shape_at(kind, table.sites[cells[:, 0]], axis)
    least, _ = bound(kind, shape, item.variant, item.reference)
    time = least * np.exp(-table.values[tuple(cells.T)].astype(float))
    return Cells(demand(family, shape, item), time)


def demand(family: str, shape: dict[str, Array], item: Measured) -> Demand:
    """The demand of `shape` in the formats of a table."""
    variant = item.variant
    work = FAMILY[family].work(shape, variant.formats())
    act = COMPUTE_CODE[variant.act or "bf16"]
    keys: dict[str, Array | float] = dict(shape)
    if family in ("gemm", "grouped_gemm"):
        keys |= {"weight": float(FORMAT_CODE[variant.stored]), "act": float(act)}
    elif variant.stored:
        keys["kv_bytes"] = variant.formats().stored
    message = shape.get("message_bytes", 0.0)
    rows = len(next(iter(shape.values())))
    flop, moved = (np.broadcast_to(np.asarray(v, float), (rows,)) for v in (work.flop, work.moved))
    if family == "elementwise":
        moved = shape["moved_bytes"]
    return Demand(family, family, flop, moved, np.ones(rows), act, message, keys)


def priced(model: CostModel, device: Device, cells: Cells) -> Cost:
    """What `model` says of the cells on `device`."""
    return model.cost(cells.demand, one_device(device, len(cells.time)))


def one_device(device: Device, rows: int) -> Hardware:
    """`rows` candidates on one device."""
    return hardware_of([device], np.zeros(rows, np.intp))


def tables(device: str) -> list[tuple[str, str, Measured]]:
    """(family, framework, table) of everything measured on a device."""
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


def error(residual: Array, share: float) -> float:
    """Quantile of |predicted/measured - 1|; NaN of nothing."""
    return float(np.quantile(np.abs(np.expm1(residual)), share)) if len(residual) else float("nan")


def device(name: str) -> Device:
    """hwdb's device."""
    return hwdb.device(name)
