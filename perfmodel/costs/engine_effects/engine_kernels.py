"""Price kernels that only one engine has: multiplications whose arithmetic depends on how weights are stored.

SGLang multiplies on CPUs by kernels that read weights once per few tokens. llama.cpp unpacks blocks of quantised
weights while it multiplies them. On CPU cores, formats that look values up in tables take several times the work of
plain ones, so decoding in 2 bits is compute-bound; on GPUs, prefill runs at a fraction of what 16-bit libraries
reach. The rates, with sources, are in `own_kernels.toml`; the roofline prices what is not listed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb import Device
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import NAN, Array
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.measured_tables.profiled import demand_shape
from perfmodel.dtypes import FORMAT_BYTES, FORMAT_NAMES
from perfmodel.hardware import Hardware, efficiency_of, roofline_spread
from perfmodel.operators import Demand
from perfmodel.vocabulary import BASIS_CODE, COMPUTE_BOUND, LAUNCH_BOUND, LINK_FAMILIES, MEMORY_BOUND

TABLE = Path(__file__).with_name("own_kernels.toml")
#: Most tokens that share one unpacked weight. Between one token and this many the rate goes over from that of single
#: tokens to that of prompts (assumed: a tile of the kernels).
TILE = 8.0
#: Operators that a recurrent layer counts as where time passes between them. Derived from the 1,151 dispatches of a
#: token of Qwen3.5-9B on Metal (git.kokoham.com/sleepy/llama.cpp BENCHMARKS.md, 2026-04): 17 for each of 32 layers as
#: in a plain one, and 25 more in the 24 recurrent ones, at 1.9 for each operator here.
RECURRENT_OPERATORS = 13.0
_RECURRENT = ("recurrent_prefill", "recurrent_decode")
_GEMM = ("gemm", "grouped_gemm")
_ATTENTION = ("attention_prefill", "attention_decode", "mla_prefill", "mla_decode")
#: Fields of `KernelRate`, and of `Rates` by format.
_SHARES = ("prompt", "single", "column")
#: Figures of an entry that need a source each.
_FIGURES = ("attention", "undotted", "experts", "stream", "rows_per_read", "between_us")
_MICROSECOND = 1e-6
#: Rates of a device that kernel rates may be relative to: fp32 of the vector units, 16-bit of the matrix units.
_YARDSTICKS = ("vector", "tensor")


@dataclass(frozen=True)
class KernelRate:
    """Holds the rates of multiplications for some formats of weights, as shares of a rate of the device (`yardstick`).

    prompt: where many tokens use each weight. single: where one token does. column: of each of up to `TILE` tokens that
    use a weight, NaN where they share all work. archs: beginnings of the architectures that it is for; () for all.
    """

    formats: tuple[str, ...]
    yardstick: str
    prompt: float
    single: float
    column: float
    archs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """Holds one `[[engine]]` of `own_kernels.toml`, whose head explains it: engine names, kinds of device, shares."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    vendor: str
    arch: str
    attention: float
    undotted: float
    experts: float
    experts_single: float
    experts_stream: float
    stream: float
    rows_per_read: float
    between: float
    kernels: tuple[KernelRate, ...]

    def holds(self, engine: str, device: Device) -> bool:
        """Return whether the entry is for `engine` on devices of the kind, vendor and architecture of `device`."""
        made = self.vendor in ("", device.vendor) and device.arch.startswith(self.arch)
        return made and engine in self.names and device.kind in self.kinds


@dataclass(frozen=True)
class Rates:
    """Holds what an engine's kernels reach on a device, in FLOP/s, NaN where unknown.

    prompt, single, column: (formats,) by format code, as of `KernelRate`. attention: of prefill and decode attention.
    experts, experts_single, experts_stream: shares of the rates of prompts and single tokens and of the memory
    bandwidth that are left to experts. stream: share of the rated memory bandwidth that weights are read at.
    rows_per_read: tokens that use a weight each time that it is read. between: seconds that pass between two operators,
    0 where none are known.
    """

    prompt: Array
    single: Array
    column: Array
    attention: float
    experts: float
    experts_single: float
    experts_stream: float
    stream: float
    rows_per_read: float
    between: float


#: Entry that is used where the table has none for an engine and device.
_UNKNOWN = Entry(
    names=(),
    kinds=(),
    vendor="",
    arch="",
    attention=NAN,
    undotted=1.0,
    experts=1.0,
    experts_single=1.0,
    experts_stream=1.0,
    stream=NAN,
    rows_per_read=np.inf,
    between=0.0,
    kernels=(),
)


@cache
def _entries() -> tuple[Entry, ...]:
    """Read all entries of `own_kernels.toml`, in its order."""
    top = read_toml(TABLE, "table of engines' own kernels")
    named = top.table("groups")
    groups = {name: named.texts(name) for name in named.keys()}  # noqa: SIM118 - no mapping
    return tuple(_entry(table, groups) for table in top.tables("engine"))


def _entry(table: Table, groups: Mapping[str, tuple[str, ...]]) -> Entry:
    """Read one `[[engine]]`; `InputError` for a share without source. groups: formats by the name of their group."""
    made = Entry(
        names=table.texts("names"),
        kinds=table.texts("kinds"),
        vendor=table.text("vendor", ""),
        arch=table.text("arch", ""),
        attention=table.number("attention", NAN, above=0),
        undotted=table.number("undotted", 1.0, above=0),
        experts=table.number("experts", 1.0, above=0),
        experts_single=table.number("experts_single", table.number("experts", 1.0, above=0), above=0),
        experts_stream=table.number("experts_stream", 1.0, above=0),
        stream=table.number("stream", NAN, above=0),
        rows_per_read=table.number("rows_per_read", np.inf, above=0),
        between=table.number("between_us", 0.0, least=0) * _MICROSECOND,
        kernels=tuple(_kernel(k, groups) for k in table.tables("kernel")),
    )
    for figure in _FIGURES:
        if figure in table:
            table.text(f"{figure}_source")
    table.done()
    return made


def _kernel(table: Table, groups: Mapping[str, tuple[str, ...]]) -> KernelRate:
    """Read one `[[engine.kernel]]`: the rates for some formats or groups of them."""
    made = KernelRate(
        formats=tuple(f for name in table.texts("formats") for f in groups.get(name, (name,))),
        yardstick=table.text("of", "vector", choices=_YARDSTICKS),
        prompt=table.number("prompt", above=0),
        single=table.number("single", above=0),
        column=table.number("column", NAN, above=0),
        archs=table.texts("arch", ()),
    )
    table.text("source")
    table.done()
    return made


@cache
def rates(engine: str, device: Device) -> Rates:
    """Return the rates of the kernels of `engine` on `device`, from the first entry for its kind and make."""
    entry = next((e for e in _entries() if e.holds(engine, device)), _UNKNOWN)
    dotted = 1.0 if np.isfinite(device.peak("int8")) else entry.undotted
    prompt, single, column = np.full((3, len(FORMAT_NAMES)), np.nan)
    for kernel in entry.kernels:
        if kernel.archs and not device.arch.startswith(kernel.archs):
            continue
        codes = [c for name in kernel.formats if np.isnan(prompt[c := FORMAT_NAMES.index(name)])]  # the first holds
        top = _yardstick(device, kernel.yardstick) * dotted
        prompt[codes], single[codes], column[codes] = kernel.prompt * top, kernel.single * top, kernel.column * top
    return Rates(
        prompt=prompt,
        single=single,
        column=column,
        attention=entry.attention * _yardstick(device, "vector"),
        experts=entry.experts,
        experts_single=entry.experts_single,
        experts_stream=entry.experts_stream,
        stream=entry.stream,
        rows_per_read=entry.rows_per_read,
        between=entry.between,
    )


def _yardstick(device: Device, of: str) -> float:
    """Return the rate of a device, in FLOP/s, that kernel rates are relative to.

    of: "vector" for the vector units in fp32; "tensor" for 16-bit products with 16-bit sums, that is half of the 8-bit
    rate where a device is slower with wider sums (GeForce).
    """
    if of == "vector":
        return device.peak("fp32")
    return float(np.fmax(device.peak("fp16"), device.peak("int8") / 2.0))


@dataclass(frozen=True)
class EngineKernels:
    """Cost model of the kernels that only `engine` has; times are NaN on devices and for formats without a rate."""

    engine: str

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        shape = demand_shape(demand, hardware)
        time, limit = np.full(shape, np.nan), np.full(shape, MEMORY_BOUND, np.int8)
        if demand.family in (*_GEMM, *_ATTENTION):
            share = efficiency_of(hardware)
            found = [rates(self.engine, d) for d in hardware.devices]
            rate, left = _pace(demand, found, hardware)
            stream = np.array([r.stream for r in found])[hardware.index]
            compute = demand.flop / rate
            rows = np.array([r.rows_per_read for r in found])[hardware.index]
            moving = (demand.moved + _read_again(demand, rows)) / (
                hardware.bandwidth * np.where(np.isnan(stream), share.memory, stream) * left
            )
            known = np.maximum(compute, moving) + share.launch
            time = np.broadcast_to(np.where(np.isnan(rate), np.nan, known), shape)
            limit = np.where(np.broadcast_to(compute > moving, shape), COMPUTE_BOUND, limit).astype(np.int8)
        basis = np.where(np.isnan(time), BASIS_CODE["unknown"], BASIS_CODE["roofline"]).astype(np.int8)
        return Cost(time=time, basis=basis, spread=np.full(shape, roofline_spread()), bound=limit)


@dataclass(frozen=True)
class Between:
    """Cost model that adds to the times of `model` what passes between two operators of `engine` on each device.

    A device that runs kernels one after another idles while it begins the next; `launch_us` of `efficiency.toml` is
    the least of that, in a captured graph. Collectives are left as they are.
    """

    model: CostModel
    engine: str

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; basis and spread are those of `model`."""
        inner = self.model.cost(demand, hardware)
        between = np.array([rates(self.engine, d).between for d in hardware.devices])[hardware.index]
        if demand.family in LINK_FAMILIES or not between.any():
            return inner
        between = between * (RECURRENT_OPERATORS if demand.family in _RECURRENT else 1.0)
        limit = np.where(between > inner.time, LAUNCH_BOUND, inner.bound).astype(np.int8)
        return replace(inner, time=inner.time + between, bound=limit)


@cache
def kinds_with_kernels(engine: str) -> frozenset[str]:
    """Return the kinds of devices on which `engine` has kernels of its own, as `own_kernels.toml` lists them."""
    return frozenset(kind for e in _entries() if engine in e.names for kind in e.kinds)


def _read_again(demand: Demand, rows: Array) -> Array | float:
    """Return the bytes of weights that a call reads beyond once. rows: tokens that use a weight per read, (N,)."""
    shape = demand.shape
    if demand.family == "gemm":
        weights = shape["n"] * shape["k"] * FORMAT_BYTES[np.asarray(shape["weight"], int)]
        return np.asarray(weights * np.maximum(shape["m"] / rows - 1.0, 0.0))
    if demand.family == "grouped_gemm":
        return np.asarray(demand.moved * np.maximum(_tokens_per_expert(demand) / rows - 1.0, 0.0))
    return 0.0


def _tokens_per_expert(demand: Demand) -> Array:
    """Return the tokens that each expert sees on average, at least one."""
    shape = demand.shape
    picks = np.asarray(shape["tokens"], float) * shape["top_k"]
    return np.asarray(np.maximum(picks / shape["experts"], 1.0))


def _pace(demand: Demand, found: list[Rates], hardware: Hardware) -> tuple[Array, Array | float]:
    """Return (FLOP/s, share of the memory bandwidth) that a demand reaches on each row.

    found: rates of each device of `hardware.devices`.
    """
    row, shape = hardware.index, demand.shape
    if demand.family in _ATTENTION:
        return np.array([r.attention for r in found])[row], 1.0
    weight = np.asarray(shape["weight"], int)
    prompt, single, column = (np.array([getattr(r, k) for r in found])[row, weight] for k in _SHARES)
    if demand.family == "gemm":
        return tiled(prompt, single, column, shape["m"]), 1.0
    tokens = _tokens_per_expert(demand)
    shares = ("experts", "experts_single", "experts_stream")
    many, one, stream = (np.array([getattr(r, k) for r in found])[row] for k in shares)
    return tiled(prompt * many, single * one, column * one, tokens), stream


def tiled(prompt: Array | float, single: Array | float, column: Array | float, tokens: Array | float) -> Array:
    """Return FLOP/s where `tokens` use each weight, between `single` (one token) and `prompt` (`TILE` tokens and more).

    Derived: a weight is unpacked once per tile of up to `TILE` tokens, so the times of unpacking and multiplying add.
    Where kernels for single tokens take small batches too, each token up to `TILE` takes its time at the rate `column`,
    and a larger batch takes no less than `TILE` tokens do. Any batch takes at least as long as one token.

    >>> float(tiled(2.0, 0.5, np.nan, 1.0)), float(tiled(2.0, 0.5, np.nan, 8.0)), float(tiled(2.0, 0.5, np.nan, 64.0))
    (0.5, 2.0, 2.0)
    >>> float(tiled(8.0, 8.0, 1.0, 4.0)), float(tiled(8.0, 8.0, 1.0, 16.0)), float(tiled(8.0, 8.0, 1.0, 640.0))
    (1.0, 2.0, 8.0)
    >>> float(tiled(64.0, 1.0, np.nan, 2.0)), float(tiled(64.0, 1.0, np.nan, 32.0))
    (2.0, 32.0)
    >>> float(tiled(64.0, 1.0, np.nan, 0.0))
    1.0
    """
    share = np.clip(tokens, 1.0, TILE)
    unpacking = (TILE / share - 1.0) / (TILE - 1.0)
    shared = 1.0 / (1.0 / prompt + (1.0 / single - 1.0 / prompt) * unpacking)
    return np.asarray(
        np.fmin.reduce(
            np.broadcast_arrays(shared, single * np.maximum(tokens, 1.0), column * np.maximum(tokens / TILE, 1.0))
        )
    )
