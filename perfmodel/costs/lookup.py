"""From a demand to table coordinates: which variant of which table prices it, and the time it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.dtypes import COMPUTE, FALLBACK, FORMAT_NAMES, FORMATS
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Family, Measured, Profile, Variant, bound, shape_at
from perfmodel.vocabulary import BASIS_CODE

#: Largest |log2| between the bits of a stored format and of the table that stands in for it.
NEAREST_BITS = 0.6
#: Price, in the same unit, of taking another framework's table before another format's.
_FRAMEWORK_STEP = 0.05
_SAME_BITS = 0.02
#: A kernel under this share of its bound, and shorter than this many seconds, is launch-bound.
LAUNCH_SHARE, LAUNCH_TIME = 0.15, 20e-6
LAUNCH = 3
#: Calls of up to this many times the shortest count as short.
SHORT = 1.2
_INTERPOLATED = BASIS_CODE["interpolated"]
_EXTRAPOLATED = BASIS_CODE["extrapolated"]


@dataclass(frozen=True)
class Choice:
    """A table and how well its formats fit: `wanted` is the variant asked for, `worst` the best basis it may claim,
    `gap` the distance of the formats."""

    measured: Measured
    wanted: Variant
    worst: int
    gap: float = 0.0

    @property
    def priced(self) -> Variant:
        """What the table's utilisation is applied to: the stored format asked for, multiplied as it was measured."""
        own = self.measured.variant
        return Variant(self.wanted.stored or own.stored, own.act, own.routing)


@dataclass(frozen=True)
class TablePrice:
    """time: s a call. basis: codes. bound: 0 compute, 1 memory, 2 link, 3 launch. least: s by the bound alone."""

    time: Array
    basis: NDArray[np.int8]
    bound: NDArray[np.int8]
    least: Array


def effective(act: str, device: Device) -> str:
    """The compute type a device really uses for `act`: the first of its fall-backs that it has a rate for."""
    return next((t for t in (act, *FALLBACK[act]) if device.peak(t) == device.peak(t)), act)


def distance(have: Variant, want: Variant) -> float:
    """How far a table's formats are from those asked for: 0 the same, inf not usable.

    >>> distance(Variant("int4", "bf16"), Variant("int4", "fp16"))
    0.0
    >>> distance(Variant("fp8", "fp8"), Variant("bf16", "bf16"))
    inf
    """
    if have.act and want.act and _sixteen(have.act) != _sixteen(want.act):
        return float("inf")
    routing = 0.0
    if have.routing != want.routing:
        routing = 0.1 if have.routing not in ("", "0") and want.routing not in ("", "0") else 0.3
    if not have.stored or not want.stored or _sixteen(have.stored) == _sixteen(want.stored):
        return routing
    gap = abs(float(np.log2(FORMATS[have.stored].bytes / FORMATS[want.stored].bytes)))
    return gap + _SAME_BITS + routing if gap <= NEAREST_BITS else float("inf")


def _sixteen(name: str) -> str:
    return "bf16" if name == "fp16" else name


def choose(profile: Profile, family: str, want: Variant, framework: str) -> Choice | None:
    """The table of `profile` that fits best: formats first, then the framework; None where none is usable."""
    best, least = None, float("inf")
    for rank, name in enumerate(profile.frameworks(family, framework)):
        for item in profile.tables(family, name):
            gap = distance(item.variant, want)
            if gap + rank * _FRAMEWORK_STEP < least:
                least = gap + rank * _FRAMEWORK_STEP
                worst = 0 if gap == 0 else (_INTERPOLATED if gap < 0.2 else _EXTRAPOLATED)
                best = Choice(item, want, worst, gap)
    return best


def wanted(demand: Demand, routing: str) -> tuple[NDArray[np.intp], dict[int, tuple[str, str, str]]]:
    """(code of each row's formats, code -> (stored, act, routing)); codes broadcast against the demand's shape."""
    act = np.asarray(demand.compute, np.intp)
    shape = demand.shape
    if demand.family in ("gemm", "grouped_gemm"):
        stored = np.asarray(shape["weight"], np.intp)
        act = np.asarray(shape["act"], np.intp)
    elif "kv_bytes" in shape:
        narrow = np.asarray(shape["kv_bytes"], float) <= 1.5
        stored = np.where(narrow, FORMAT_NAMES.index("fp8"), FORMAT_NAMES.index("bf16"))
    else:
        return np.zeros((), np.intp), {0: ("", "", "")}
    codes = stored * len(COMPUTE) + act
    experts = routing if demand.family == "grouped_gemm" else ""
    names = {
        int(code): (FORMAT_NAMES[int(code) // len(COMPUTE)], COMPUTE[int(code) % len(COMPUTE)], experts)
        for code in np.unique(codes)
    }
    return codes, names


def coordinates(demand: Demand) -> Mapping[str, Array | float]:
    """Shape of a demand as the tables' families name it."""
    if demand.family == "elementwise":
        return {"moved_bytes": demand.moved}
    if "group" in demand.shape and "heads" not in demand.shape:
        return {**demand.shape, "message_bytes": demand.message}
    return demand.shape


def take(shape: Mapping[str, Array | float], rows: NDArray[np.bool_] | None, count: int) -> dict[str, Array]:
    """Columns of the candidates in `rows` (N,) (None: all); what does not run over candidates stays as it is."""
    out = {}
    for key, value in shape.items():
        array = np.asarray(value, float)
        whole = rows is None or array.ndim == 0 or array.shape[-1] != count
        out[key] = array if whole else array[..., rows]
    return out


@lru_cache(maxsize=1024)
def least_time(measured: Measured, family: str) -> float:
    """Shortest time of a call in a table, seconds: what a launch costs whatever the size."""
    return float(np.quantile(_cells(measured, family)[0], 0.01))


@lru_cache(maxsize=1024)
def overhead(measured: Measured, family: str) -> float:
    """What the shortest calls of a table take beyond their bound, seconds: what is left of them on a device without
    limits, also where a table holds large shapes only."""
    time, least = _cells(measured, family)
    short = time <= SHORT * least_time(measured, family)
    return float(np.median(np.maximum(time - least, 0.0)[short]))


def _cells(measured: Measured, family: str) -> tuple[Array, Array]:
    """(seconds, seconds by the bound alone) of the measured cells of a table, or of some 20,000 of them; (C,)."""
    table = measured.table
    cells = np.argwhere(table.known)
    if len(cells) > 20000:
        cells = cells[:: len(cells) // 20000]
    axis = np.stack([a[cells[:, 1 + i]] for i, a in enumerate(table.axes)], axis=1)
    shape = shape_at(FAMILY[family], table.sites[cells[:, 0]], axis)
    least, _ = bound(FAMILY[family], shape, measured.variant, measured.reference)
    return least * np.exp(-table.values[tuple(cells.T)]), np.asarray(least)


def _all_rows(choice: Choice, family: Family, shape: Mapping[str, Array]) -> Array:
    """Time of a prompt's attention where nothing is cached: a few rows behind a long context, for which tables hold
    nothing like them, take at most what all rows take. Infinite for other families and where nothing is cached. (N,)"""
    cached = np.asarray(shape.get("context", 0.0), float)
    if "query" not in shape or not family.name.endswith("prefill") or not np.any(cached > 0):
        return np.full((), np.inf)
    whole = {**shape, "query": np.asarray(shape["query"], float) + cached, "context": np.zeros_like(cached)}
    return np.where(cached > 0, price(choice, family, whole).time, np.inf)


def price(choice: Choice, family: Family, shape: Mapping[str, Array]) -> TablePrice:
    """Time of `shape` by the chosen table."""
    item = choice.measured
    site, axis = family.locate(shape)
    value, basis = item.table.read(site, axis, family.growth)
    least, limit = bound(family, shape, choice.priced, item.reference)
    time = least * np.exp(-value)
    outside = basis == _EXTRAPOLATED
    if outside.any():  # held utilisation would let a tiny shape take no time at all
        time = np.where(outside, np.maximum(time, least_time(item, family.name)), time)
        time = np.where(outside, np.minimum(time, _all_rows(choice, family, shape)), time)
    basis = np.maximum(basis, np.int8(max(choice.worst, _INTERPOLATED if item.fitted else 0)))
    small = (least < LAUNCH_SHARE * time) & (time < LAUNCH_TIME)
    return TablePrice(time, basis, np.where(small, LAUNCH, limit).astype(np.int8), least)
