"""Choose the points to measure: shapes of transformer layers on logarithmic grids, of which there is a small and a full
one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from hwdb import UnknownName
from perfmodel.arrays import Array
from perfmodel.profiles.importers import SHAPES, Rows, rows_of

#: Names of the grids; each of the following constants has an entry per grid.
GRIDS = ("small", "full")
#: (n, k) of projections in models of 1 to 70 billion parameters: QKV, output, gate and up, down, vocabulary.
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
#: Rows m of a GEMM: tokens per step.
TOKENS = {"small": (1, 8, 64, 256), "full": tuple(2**p for p in range(15))}
#: Bytes that element-wise operators move, from launch-bound sizes to sizes far larger than any cache.
MOVED = {"small": (2**12, 2**17, 2**22, 2**26), "full": tuple(2**p for p in range(12, 32, 2))}
#: (heads, kv_heads, head_dim).
HEADS = {"small": ((8, 2, 64),), "full": ((32, 8, 128), (32, 32, 128), (8, 1, 128), (64, 8, 128), (32, 8, 64))}
#: Prompt lengths in tokens; batch sizes in sequences; decode contexts in tokens.
PROMPTS = {"small": (128, 512), "full": (128, 512, 2048, 8192, 32768)}
BATCHES = {"small": (1, 4), "full": (1, 4, 16, 64, 256)}
CONTEXTS = {"small": (256, 1024), "full": (256, 1024, 4096, 16384, 65536)}
#: Largest decode attention, in bytes of keys and values, and largest prefill attention, in query-key pairs times heads
#: (64 heads over 32768 tokens). Chosen: limits the memory and time of a point.
MOST_CACHE, MOST_PAIRS = 8e9, 64.0 * 32768.0**2
#: Bytes of a 16-bit key and value.
KEY_VALUE_BYTES = 4.0


@dataclass(frozen=True)
class Point:
    """Describe one point to measure: a canonical row without its time and power.

    shape: (name, value) of each shape column of the family. cost: FLOP, or bytes for operators without arithmetic;
    orders points roughly by time.
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
        """Return the canonical row of a measurement. time: s. power: W, NaN if not measured."""
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
    """Make a point of a family; `shape` has a value for each of the family's shape columns (`window` may be left out).

    >>> point("gemm", m=8, n=16, k=32, weight="bf16", act="bf16").cost
    8192.0
    """
    shape.setdefault("window", 0)
    keys = tuple((key, float(shape[key])) for key in SHAPES[family])
    return Point(family=family, shape=keys, weight=weight, act=act, kv=kv, kernel=kernel, cost=_cost(family, shape))


def _cost(family: str, s: dict[str, float]) -> float:
    """Return the FLOP of a point, or the bytes that it moves if its family has no arithmetic."""
    if family == "gemm":
        return 2.0 * s["m"] * s["n"] * s["k"]
    if family == "attention_prefill":
        return 4.0 * s["batch"] * s["heads"] * s["head_dim"] * s["query"] * (s["query"] + s["context"])
    if family == "attention_decode":
        return 4.0 * s["batch"] * s["context"] * s["heads"] * s["head_dim"]
    return s.get("moved_bytes", s.get("message_bytes", 0.0))


def gemms(grid: str, formats: tuple[tuple[str, str], ...]) -> Iterator[Point]:
    """Yield the GEMMs of every (n, k) at every token count, for each (weight format, compute type)."""
    for (weight, act), (n, k), m in product(formats, SITES[grid], TOKENS[grid]):
        yield point("gemm", m=m, n=n, k=k, weight=weight, act=act)


def attentions(grid: str, formats: tuple[str, ...]) -> Iterator[Point]:
    """Yield causal prefill attention without cached context, and decode attention, for each KV-cache format."""
    for kv, (heads, shared, size) in product(formats, HEADS[grid]):
        common: dict[str, Any] = {"heads": heads, "kv_heads": shared, "head_dim": size, "act": kv, "kv": kv}
        for batch, query in product(BATCHES[grid], PROMPTS[grid]):
            if heads * batch * query**2 <= MOST_PAIRS:
                yield point("attention_prefill", batch=batch, query=query, context=0, **common)
        for batch, context in product(BATCHES[grid], CONTEXTS[grid]):
            if KEY_VALUE_BYTES * batch * context * shared * size <= MOST_CACHE:
                yield point("attention_decode", batch=batch, context=context, **common)


def streams(grid: str, kernels: tuple[str, ...], act: str) -> Iterator[Point]:
    """Yield the element-wise operators of every kernel at every size; `act` is their compute type."""
    for kernel, moved in product(kernels, MOVED[grid]):
        yield point("elementwise", kernel, moved_bytes=moved, act=act)


def points(
    grid: str, formats: tuple[tuple[str, str], ...], caches: tuple[str, ...], kernels: tuple[str, ...], stream: str
) -> list[Point]:
    """Return all points of a grid, in an order that is random but always the same.

    So a run that is stopped early has measured a sample of the whole grid.

    Args:
        grid: a name in `GRIDS`.
        formats: (weight format, compute type) pairs of GEMMs.
        caches: KV-cache formats of attention.
        kernels: element-wise kernels.
        stream: compute type of the element-wise kernels.
    """
    if grid not in GRIDS:
        raise UnknownName("grid", grid, GRIDS)
    every = [*gemms(grid, formats), *attentions(grid, caches), *streams(grid, kernels, stream)]
    random.Random(0).shuffle(every)
    return every


def key(point: Point, device: str, software: str) -> tuple[object, ...]:
    """Return the identity of a measurement: device, software, kernel, family, formats, shape."""
    names = (point.kernel, point.family, point.weight, point.act, point.kv)
    return (device, software, *names, *(v for _, v in point.shape))


def keys(table: Rows) -> set[tuple[object, ...]]:
    """Return the identities (see `key`) of measured rows."""
    found = set()
    for family in sorted(set(table["family"])):
        part = table.family(family)
        columns: list[Array] = [part[name] for name in SHAPES[family]]
        for index in range(len(part)):
            names = (part[n][index] for n in ("device", "software", "kernel", "family", "weight", "act", "kv"))
            found.add((*names, *(float(values[index]) for values in columns)))
    return found
