"""Which points are measured: shapes of transformer layers on logarithmic grids, a small set and a full one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from hwdb import UnknownName
from perfmodel.arrays import Array
from perfmodel.profiles.importers import SHAPES, Rows, rows_of

GRIDS = ("small", "full")
#: (n, k) of projections met in models of 1 to 70 billion parameters: QKV, output, gate and up, down, vocabulary.
SITES = {
    "small": ((1024, 1024), (2816, 1024), (1024, 2816), (2048, 2048)),
    "full": (
        (1024, 1024),
        (2048, 2048),
        (3072, 2048),
        (11008, 2048),
        (2048, 5504),
        (4096, 4096),
        (6144, 4096),
        (28672, 4096),
        (4096, 14336),
        (8192, 8192),
        (10240, 8192),
        (57344, 8192),
        (8192, 28672),
        (1024, 8192),
        (8192, 1024),
        (128256, 4096),
    ),
}
TOKENS = {"small": (1, 8, 64, 256), "full": tuple(2**p for p in range(15))}
#: Bytes that element-wise operators move: from the launch floor to far beyond any cache.
MOVED = {"small": (2**12, 2**17, 2**22, 2**26), "full": tuple(2**p for p in range(12, 32, 2))}
#: (heads, kv_heads, head_dim).
HEADS = {"small": ((8, 2, 64),), "full": ((32, 8, 128), (32, 32, 128), (8, 1, 128), (64, 8, 128), (32, 8, 64))}
PROMPTS = {"small": (128, 512), "full": (128, 512, 2048, 8192, 32768)}
BATCHES = {"small": (1, 4), "full": (1, 4, 16, 64, 256)}
CONTEXTS = {"small": (256, 1024), "full": (256, 1024, 4096, 16384, 65536)}
#: Most bytes of keys and values, and most query-key pairs times heads, that a point may ask for.
MOST_CACHE, MOST_PAIRS = 8e9, 64.0 * 32768.0**2


@dataclass(frozen=True)
class Point:
    """One thing to measure: a canonical row without its measurement.

    shape: the family's own keys. cost: FLOP plus bytes, a rough order of how long it takes.
    """

    family: str
    shape: tuple[tuple[str, float], ...]
    weight: str = ""
    act: str = ""
    kv: str = ""
    kernel: str = ""
    cost: float = field(default=0.0, compare=False)

    def __getitem__(self, key: str) -> int:
        return int(dict(self.shape)[key])

    def row(self, *, device: str, software: str, time: float, power: float, source: str, licence: str) -> Rows:
        """The canonical row of a measurement: time in s, power in W (NaN where not measured)."""
        return rows_of(
            1,
            device=device,
            software=software,
            kernel=self.kernel,
            family=self.family,
            weight=self.weight,
            act=self.act,
            kv=self.kv,
            time=time,
            power=power,
            source=source,
            licence=licence,
            **dict(self.shape),
        )


def point(family: str, kernel: str = "", *, weight: str = "", act: str = "", kv: str = "", **shape: float) -> Point:
    """A point with its family's keys in the table's order.

    >>> point("gemm", m=8, n=16, k=32, weight="bf16", act="bf16").cost
    8192.0
    """
    shape.setdefault("window", 0)
    keys = tuple((key, float(shape[key])) for key in SHAPES[family])
    return Point(family, keys, weight, act, kv, kernel, _cost(family, shape))


def _cost(family: str, s: dict[str, float]) -> float:
    if family == "gemm":
        return 2.0 * s["m"] * s["n"] * s["k"]
    if family == "attention_prefill":
        return 4.0 * s["batch"] * s["heads"] * s["head_dim"] * s["query"] * (s["query"] + s["context"])
    if family == "attention_decode":
        return 4.0 * s["batch"] * s["context"] * s["heads"] * s["head_dim"]
    return s.get("moved_bytes", s.get("message_bytes", 0.0))


def gemms(grid: str, formats: tuple[tuple[str, str], ...]) -> Iterator[Point]:
    """Every site at every token count, for each (weight format, compute type)."""
    for (weight, act), (n, k), m in product(formats, SITES[grid], TOKENS[grid]):
        yield point("gemm", m=m, n=n, k=k, weight=weight, act=act)


def attentions(grid: str, formats: tuple[str, ...]) -> Iterator[Point]:
    """Causal prefill from nothing and decode over a cache, for each format of keys and values."""
    for kv, (heads, shared, size) in product(formats, HEADS[grid]):
        common: dict[str, Any] = {"heads": heads, "kv_heads": shared, "head_dim": size, "act": kv, "kv": kv}
        for batch, query in product(BATCHES[grid], PROMPTS[grid]):
            if heads * batch * query**2 <= MOST_PAIRS:
                yield point("attention_prefill", batch=batch, query=query, context=0, **common)
        for batch, context in product(BATCHES[grid], CONTEXTS[grid]):
            if 4.0 * batch * context * shared * size <= MOST_CACHE:
                yield point("attention_decode", batch=batch, context=context, **common)


def streams(grid: str, kernels: tuple[str, ...], act: str) -> Iterator[Point]:
    """Element-wise operators of each kind over every size."""
    for kernel, moved in product(kernels, MOVED[grid]):
        yield point("elementwise", kernel, moved_bytes=moved, act=act)


def points(
    grid: str, formats: tuple[tuple[str, str], ...], caches: tuple[str, ...], kernels: tuple[str, ...], stream: str
) -> list[Point]:
    """All points of a grid, shuffled always in the same way, so that a run cut short has seen all of it thinly."""
    if grid not in GRIDS:
        raise UnknownName("grid", grid, GRIDS)
    every = [*gemms(grid, formats), *attentions(grid, caches), *streams(grid, kernels, stream)]
    random.Random(0).shuffle(every)
    return every


def key(point: Point, device: str, software: str) -> tuple[object, ...]:
    """What tells one measurement of this profiler from another."""
    names = (point.kernel, point.family, point.weight, point.act, point.kv)
    return (device, software, *names, *(v for _, v in point.shape))


def keys(table: Rows) -> set[tuple[object, ...]]:
    """The keys of rows that are already there."""
    found = set()
    for family in sorted(set(table["family"])):
        part = table.family(family)
        columns: list[Array] = [part[name] for name in SHAPES[family]]
        for index in range(len(part)):
            names = (part[n][index] for n in ("device", "software", "kernel", "family", "weight", "act", "kv"))
            found.add((*names, *(float(values[index]) for values in columns)))
    return found
