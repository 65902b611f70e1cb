"""A device: what one accelerator, or one CPU socket, can do. Facts only, each with its source."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwdb.errors import UnknownName
from hwdb.record import Record
from hwdb.table import Table

#: Arithmetic types with a peak, all dense. fp16 and bf16 accumulate in fp32.
PEAKS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")
DEVICE_KINDS = ("gpu", "cpu", "tpu", "npu", "rdu", "lpu", "soc")
TOPOLOGIES = ("switch", "mesh", "ring", "torus", "pcie", "none")
NAN = float("nan")

#: figure -> dimension, by table of the device file
FIGURES: dict[str, dict[str, str]] = {
    "peak": dict.fromkeys(PEAKS, "operations/s"),
    "memory": {"capacity": "bytes", "bandwidth": "bytes/s", "l2": "bytes"},
    "power": {"tdp": "watts", "idle": "watts"},
    "host": {"bandwidth": "bytes/s", "memory": "bytes", "memory_bandwidth": "bytes/s"},
    "chip": {"cores": "count", "clock": "hertz"},
    "measured": {
        **{f"gemm.{t}": "operations/s" for t in PEAKS},
        **{f"power.{t}": "watts" for t in ("gemm", "prefill_attention", "decode_attention", "context")},
        "memory_bandwidth": "bytes/s",
    },
}
LINK_FIGURES = {"bandwidth": "bytes/s", "latency": "seconds"}


@dataclass(frozen=True)
class Link:
    """How devices reach one another.

    bandwidth: B/s in one direction, all of a device's ports together. latency: s a message and hop.
    topology: "switch" (any pair at full bandwidth), "mesh" (a pair gets bandwidth / (peers - 1)), "ring",
    "torus", "pcie" (through the host), "none". peers: devices in the fast domain. name: the maker's word.
    """

    bandwidth: float = NAN
    latency: float = NAN
    topology: str = "none"
    peers: int = 1
    name: str = ""


@dataclass(frozen=True)
class Device:
    """One accelerator or CPU socket. Equal and hashed by name and content.

    Quantities are SI and NaN where unknown. `records` holds every figure with its provenance, by its dotted
    name ("peak.bf16", "memory.bandwidth", "power.idle", "link.latency", "measured.gemm.bf16").
    `origin` is the file it was read from: profiles are looked for beside it. `base` is the device that it varies: the
    one its file is `like`, or the one of the same name that its file replaces; None for a device of its own.
    """

    name: str
    title: str = field(compare=False)
    vendor: str = field(compare=False)
    arch: str = field(compare=False)
    kind: str = field(compare=False)
    records: Mapping[str, Record] = field(compare=False, repr=False)
    link: Link = field(default=Link(), compare=False)
    net: Link = field(default=Link(), compare=False)
    year: int | None = field(default=None, compare=False)
    memory_type: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    origin: Path | None = field(default=None, compare=False, repr=False)
    base: Device | None = field(default=None, compare=False, repr=False)
    digest: str = field(init=False, repr=False)
    _si: Mapping[str, float] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        records = dict(sorted(self.records.items()))
        content: tuple[Any, ...] = (self.title, self.arch, self.kind, sorted(records.items()), self.link, self.net)
        content += () if self.base is None else (self.base.name, self.base.digest)
        object.__setattr__(self, "records", MappingProxyType(records))
        object.__setattr__(self, "_si", {key: record.si for key, record in records.items()})
        object.__setattr__(self, "digest", hashlib.sha256(repr(content).encode()).hexdigest()[:16])

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.name, self.title, self.vendor, self.arch, self.kind, dict(self.records))
        return Device, (*fields, self.link, self.net, self.year, self.memory_type, self.notes, self.origin, self.base)

    @property
    def lineage(self) -> tuple[Device, ...]:
        """The device, the one it varies, the one which that varies, and so on, while kind, vendor and make agree."""
        base = self.base
        if base is None or (self.kind, self.vendor, self.make) != (base.kind, base.vendor, base.make):
            return (self,)
        return (self, *base.lineage)

    @property
    def make(self) -> str:
        """The family of chips: the first word of the architecture."""
        return self.arch.split(" ", 1)[0]

    def si(self, figure: str) -> float:
        """The figure called `figure` ("memory.l2"), in SI; NaN where the database does not have it."""
        return self._si.get(figure, NAN)

    def peak(self, dtype: str) -> float:
        """Dense peak in FLOP/s of an arithmetic type; NaN where the device has no such units."""
        if dtype not in PEAKS:
            raise UnknownName("arithmetic type", dtype, PEAKS)
        return self.si(f"peak.{dtype}")

    def ridge(self, dtype: str) -> float:
        """FLOP a byte above which the device is bound by arithmetic: peak of `dtype` over memory bandwidth.

        NaN where either is unknown. The ridge point of Williams et al. 2009, doi:10.1145/1498765.1498785.
        """
        return self.peak(dtype) / self.bandwidth

    def measured(self, key: str) -> float:
        """A measured ceiling in SI ("gemm.bf16", "memory_bandwidth"); NaN where nobody measured it."""
        if key not in FIGURES["measured"]:
            raise UnknownName("measured figure", key, FIGURES["measured"])
        return self.si(f"measured.{key}")

    @property
    def memory(self) -> float:
        """Capacity of device memory, bytes."""
        return self.si("memory.capacity")

    @property
    def bandwidth(self) -> float:
        """Rated bandwidth of device memory, B/s."""
        return self.si("memory.bandwidth")

    @property
    def l2(self) -> float:
        """Last-level cache on the chip, bytes."""
        return self.si("memory.l2")

    @property
    def tdp(self) -> float:
        """Rated power limit, W."""
        return self.si("power.tdp")

    @property
    def idle(self) -> float:
        """Power while idle, W."""
        return self.si("power.idle")

    def remarks(self) -> list[str]:
        """What looks odd in the figures, though it may be true, and what moved with a stated figure: one sentence each,
        for a reader to judge."""
        found = []
        for narrow, wide, most in (("fp8", "bf16", 2.1), ("int8", "fp16", 4.2), ("fp4", "bf16", 8.2)):
            ratio = self.peak(narrow) / self.peak(wide)
            if ratio > most:
                found.append(f"{self.name}: peak.{narrow} is {ratio:.3g} x peak.{wide}: a rate with sparsity?")
        for dtype in PEAKS:
            if self.measured(f"gemm.{dtype}") > 1.1 * self.peak(dtype):
                found.append(f"{self.name}: measured.gemm.{dtype} is above peak.{dtype}")
        if self.measured("memory_bandwidth") > 1.02 * self.bandwidth:
            found.append(f"{self.name}: measured.memory_bandwidth is above memory.bandwidth")
        if self.idle > 0.5 * self.tdp:
            found.append(f"{self.name}: power.idle is above half of power.tdp")
        return [*found, *self._moved()]

    def _moved(self) -> list[str]:
        """Measured ceilings that moved with a rated figure which the device's file states."""
        if self.base is None:
            return []
        pairs = ((rated, ceiling, self.base.records.get(ceiling)) for rated, ceiling in CEILINGS.items())
        return [
            f"{self.name}: {self.records[ceiling].note}"
            for rated, ceiling, before in pairs
            if before is not None
            and self.records.get(ceiling) not in (None, before)
            and _moves(rated, self, self.base)
            and self.records[ceiling] == _scaled(before, rated, self, self.base)
        ]


#: rated figure -> the ceiling measured against it
CEILINGS = {"memory.bandwidth": "measured.memory_bandwidth", **{f"peak.{t}": f"measured.gemm.{t}" for t in PEAKS}}
#: Figures of a device and of its base that differ by no more than this (relative) are the same.
SAME = 1e-3


def same(one: float, other: float) -> bool:
    """Whether two figures in SI are the same, or both unknown."""
    return math.isclose(one, other, rel_tol=SAME) or (one != one and other != other)


def varied(device: Device, base: Device, stated: Iterable[str]) -> Device:
    """`device` as a variant of `base` whose file states the figures `stated` (dotted names).

    A measured ceiling that the file does not state moves with its rated figure: the device keeps the share of the
    rated figure that was measured on `base`.
    """
    records = dict(device.records)
    for rated, ceiling in CEILINGS.items():
        inherited = base.records.get(ceiling)
        if inherited is not None and ceiling not in stated and ceiling in records:
            moved = _moves(rated, device, base)
            records[ceiling] = _scaled(inherited, rated, device, base) if moved else inherited
    return replace(device, records=records, base=base)


def _moves(rated: str, device: Device, base: Device) -> bool:
    """Whether both devices have a rated figure and they differ in it."""
    return base.si(rated) > 0 and device.si(rated) > 0 and not same(device.si(rated), base.si(rated))


def _scaled(ceiling: Record, rated: str, device: Device, base: Device) -> Record:
    ratio = device.si(rated) / base.si(rated)
    note = (
        f"{CEILINGS[rated]} is scaled by {ratio:.4g}, because {rated} is {device.records[rated].number:g} "
        f"{device.records[rated].unit} in place of {base.records[rated].number:g} {base.records[rated].unit} "
        f"({base.name})"
    )
    return Record(ceiling.number * ratio, ceiling.unit, "derived", ceiling.source, note)


def read_device(name: str, table: Table) -> Device:
    """The device that a file describes; `InputError` where the file is malformed."""
    table.text("type", "device", among=("device",))
    year = table.get("year")
    if year is not None and (not isinstance(year, int) or not 1990 <= year <= 2100):
        table.fail("year", year, "not a year")
    records: dict[str, Record] = {}
    for group, figures in FIGURES.items():
        records |= _figures(table.table(group), group, figures)
    link, net = (read_link(table.table(key), key, records) for key in ("link", "net"))
    device = Device(
        name=name,
        title=table.text("title"),
        vendor=table.text("vendor"),
        arch=table.text("arch"),
        kind=table.text("kind", among=DEVICE_KINDS),
        records=records,
        link=link,
        net=net,
        year=year,
        memory_type=table.text("memory_type", ""),
        notes=table.texts("notes"),
        origin=table.path,
    )
    table.done()
    for required in ("memory.capacity", "memory.bandwidth"):
        if math.isnan(device.si(required)):
            table.fail(required, None, "is missing; without it no estimate can be made")
    return device


def _figures(table: Table, group: str, figures: Mapping[str, str]) -> dict[str, Record]:
    found = {f"{group}.{key}": table.figure(key, dimension) for key, dimension in figures.items()}
    table.done()
    records = {key: record for key, record in found.items() if record is not None}
    for key, record in records.items():
        if group == "peak" and "with sparsity" in record.note.lower() and record.kind == "rated":
            table.fail(key.removeprefix("peak."), record.value, "peaks are dense; give the rate without sparsity")
    return records


def read_link(table: Table, prefix: str, records: dict[str, Record]) -> Link:
    """The link of a device or node file; its figures are added to `records` under `prefix`."""
    topology = table.text("topology", "none" if not table.keys() else None, among=TOPOLOGIES)
    peers, name = table.whole("peers", 1), table.text("name", "")
    values = {}
    for key, dimension in LINK_FIGURES.items():
        record = table.figure(key, dimension)
        values[key] = NAN if record is None else record.si
        if record is not None:
            records[f"{prefix}.{key}"] = record
    table.done()
    return Link(values["bandwidth"], values["latency"], topology, peers, name)
