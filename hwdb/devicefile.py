"""Read devices: what one accelerator, or one CPU socket, can do. Facts only, each with its source."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwdb.errors import UnknownName
from hwdb.figures import FigureTable
from hwdb.links import NAN, Link, read_link
from hwdb.record import Record, rebuilt

#: Arithmetic types with a peak, all dense. fp16 and bf16 accumulate in fp32.
PEAKS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")
DEVICE_KINDS = ("gpu", "cpu", "tpu", "npu", "rdu", "lpu", "soc")
#: figure -> dimension, by table of the device file
FIGURES: dict[str, dict[str, str]] = {
    "peak": dict.fromkeys(PEAKS, "operations/s"),
    "memory": {"capacity": "bytes", "bandwidth": "bytes/s", "l2": "bytes"},
    "power": {"tdp": "watts", "idle": "watts"},
    "host": {"bandwidth": "bytes/s", "memory": "bytes", "memory_bandwidth": "bytes/s", "launch_speed": "count"},
    "chip": {"cores": "count", "clock": "hertz"},
    "measured": {
        **{f"gemm.{t}": "operations/s" for t in PEAKS},
        **{f"power.{t}": "watts" for t in ("gemm", "prefill_attention", "decode_attention", "context")},
        "memory_bandwidth": "bytes/s",
    },
}
#: rated figure -> the measured ceiling that is a share of it
CEILINGS = {"memory.bandwidth": "measured.memory_bandwidth", **{f"peak.{t}": f"measured.gemm.{t}" for t in PEAKS}}
#: Relative difference up to which two figures count as the same: sources round to three or four digits.
SAME = 1e-3
#: Figures without which no estimate can be made.
_REQUIRED = (("memory", "capacity"), ("memory", "bandwidth"))
#: Years of launch outside this range are taken for typing errors.
_FIRST_YEAR, _LAST_YEAR = 1990, 2100

#: (narrow type, wide type, largest ratio of their dense peaks that is not remarked). Half the bits double the rate.
#: GeForce cards also halve fp16 and bf16 when they accumulate in fp32, which makes int8 4 times fp16 and fp4 8 times
#: bf16. A higher ratio looks like a rate with 2:4 sparsity. Chosen: 2.5 to 5 % above those ratios, for rounded figures.
_DENSE_RATIOS = (("fp8", "bf16", 2.1), ("int8", "fp16", 4.2), ("fp4", "bf16", 8.2))
#: Measured over rated figure above which the two are remarked. Chosen: GEMMs may run up to 10 % above a peak that is
#: stated at a base clock; memory has no such boost, so only rounding is allowed for.
_MOST_OF_PEAK, _MOST_OF_BANDWIDTH = 1.1, 1.02
#: Idle power over power limit above which it is remarked. Chosen: the built-in devices idle at 3 to 20 %
#: of their limit.
_MOST_IDLE = 0.5
#: The line of a file that states the architecture; quotes of texts over several lines, in which it would mean nothing.
_ARCH_LINE = re.compile(r'^arch = "([^"\\\n]*)"$', re.MULTILINE)
_SEVERAL_LINES = ('"""', "'''")


@dataclass(frozen=True)
class Device:
    """One accelerator or CPU socket, as its file describes it. Two devices are equal if their names and contents are.

    Quantities are in SI, and NaN where unknown.

    Attributes:
        records: every numeric quantity of the file with its source, by dotted name ("peak.bf16",
            "memory.bandwidth", "power.idle", "link.latency", "measured.gemm.bf16").
        origin: the file it was read from; profiles are looked for in the same folder.
        base: the device that this one varies: the one that its file is `like`, or the one of the same name that its
            file replaces. None for a device of its own.
        digest: hash of the content.
        reading: what another spelling of the name was taken for, "" where the name itself was given.
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
    reading: str = field(default="", compare=False, repr=False)
    digest: str = field(init=False, repr=False)
    _si: Mapping[str, float] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        records = dict(sorted(self.records.items()))
        words = self.title, self.vendor, self.arch, self.kind, self.memory_type
        content: tuple[object, ...] = (*words, sorted(records.items()), self.link, self.net)
        content += () if self.base is None else (self.base.name, self.base.digest)
        object.__setattr__(self, "records", MappingProxyType(records))
        object.__setattr__(self, "_si", {key: record.si for key, record in records.items()})
        object.__setattr__(self, "digest", hashlib.sha256(repr(content).encode()).hexdigest()[:16])

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return rebuilt(self)

    @property
    def lineage(self) -> tuple[Device, ...]:
        """Return this device, its base, the base of that, and so on.

        It ends before the first one of another kind, vendor or chip family.
        """
        base = self.base
        if base is None or (self.kind, self.vendor, self.make) != (base.kind, base.vendor, base.make):
            return (self,)
        return (self, *base.lineage)

    @property
    def make(self) -> str:
        """Name of the chip family: the first word of the architecture."""
        return make_of(self.arch)

    def si(self, figure: str) -> float:
        """Return the numeric quantity called `figure` ("memory.l2") in SI units.

        NaN where the device file does not give it.
        """
        return self._si.get(figure, NAN)

    def peak(self, dtype: str) -> float:
        """Return the dense peak rate of an arithmetic type ("bf16"), FLOP/s; NaN where the device has no such units."""
        if dtype not in PEAKS:
            raise UnknownName("arithmetic type", dtype, PEAKS)
        return self.si(f"peak.{dtype}")

    def ridge(self, dtype: str) -> float:
        """Return the ridge point: the FLOP per byte above which the device is bound by arithmetic.

        It is the peak of `dtype` over memory bandwidth; NaN where either is unknown. See Williams et al. 2009,
        doi:10.1145/1498765.1498785.
        """
        return self.peak(dtype) / self.bandwidth

    def measured(self, key: str) -> float:
        """Return a measured maximum in SI ("gemm.bf16", "memory_bandwidth"); NaN where nobody measured it."""
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

    @property
    def launch_speed(self) -> float:
        """Kernels that hosts of this device launch per second from Python, over those of hosts of A100 nodes."""
        return self.si("host.launch_speed")

    def remarks(self) -> list[str]:
        """Return one sentence for each numeric quantity of the device file that a reader should check.

        [] where none stands out. Reported are numbers that contradict one another (a rate that looks like one with
        sparsity, a measurement above the rated value), and measured maxima that were scaled because the file
        gives another rated quantity.
        """
        return [f"{self.name}: {remark}" for remark in (*_contradictions(self), *_scaled_ceilings(self))]


def make_of(arch: str) -> str:
    """Return the chip family of an architecture: its first word.

    >>> make_of("Hopper sm_90")
    'Hopper'
    """
    return arch.split(" ", 1)[0]


def arch_in(text: str) -> str:
    """Return the architecture that the text of a device file states in a plain line; "" where none is found so.

    It stands above the first table. Reading all of a file takes ten times as long, and most devices of a database are
    of another family than the one that is looked for.

    >>> arch_in('title = "H100"\\narch = "Hopper sm_90"\\n[memory]\\n')
    'Hopper sm_90'
    """
    top = f"\n{text}".partition("\n[")[0]
    found = _ARCH_LINE.search(top)
    return found[1] if found and not any(quotes in top for quotes in _SEVERAL_LINES) else ""


def _contradictions(device: Device) -> Iterator[str]:
    """Yield one sentence for each two numbers of a device file that contradict one another.

    A rate whose note says that it is dense is taken at its word (Trainium3: 8 bits at 3.75 times 16 bits).
    """
    for narrow, wide, most in _DENSE_RATIOS:
        ratio = device.peak(narrow) / device.peak(wide)
        if ratio > most and "dense" not in device.records[f"peak.{narrow}"].note:
            yield f"peak.{narrow} is {ratio:.3g} x peak.{wide}: is it a rate with sparsity?"
    for dtype in PEAKS:
        if device.measured(f"gemm.{dtype}") > _MOST_OF_PEAK * device.peak(dtype):
            yield f"measured.gemm.{dtype} is above peak.{dtype}"
    if device.measured("memory_bandwidth") > _MOST_OF_BANDWIDTH * device.bandwidth:
        yield "measured.memory_bandwidth is above memory.bandwidth"
    if device.idle > _MOST_IDLE * device.tdp:
        yield "power.idle is above half of power.tdp"


def _scaled_ceilings(device: Device) -> Iterator[str]:
    """Yield one sentence for each measured maximum that `varied` scaled instead of reading it from the file."""
    if device.base is None:
        return
    for rated, ceiling in CEILINGS.items():
        before, now = device.base.records.get(ceiling), device.records.get(ceiling)
        if before is None or now is None or now == before or not _differ(rated, device, device.base):
            continue
        if now == _scaled(before, rated, device, device.base):
            yield now.note


def same(one: float, other: float) -> bool:
    """Return whether two quantities in SI agree within the relative tolerance `SAME`, or are both unknown (NaN)."""
    return math.isclose(one, other, rel_tol=SAME) or (math.isnan(one) and math.isnan(other))


def varied(device: Device, base: Device, stated: Iterable[str]) -> Device:
    """Return `device` as a variant of `base`.

    `stated` are the quantities that the file of `device` gives itself, by dotted name ("memory.bandwidth").

    A measured maximum that the file does not give is scaled with its rated quantity: the device keeps the share of
    the rated value that was measured on `base`.
    """
    records = dict(device.records)
    for rated, ceiling in CEILINGS.items():
        inherited = base.records.get(ceiling)
        if inherited is not None and ceiling not in stated and ceiling in records:
            differ = _differ(rated, device, base)
            records[ceiling] = _scaled(inherited, rated, device, base) if differ else inherited
    return replace(device, records=records, base=base)


def _differ(rated: str, device: Device, base: Device) -> bool:
    """Return whether both devices have the rated quantity `rated` (a dotted name) and their values differ."""
    return base.si(rated) > 0 and device.si(rated) > 0 and not same(device.si(rated), base.si(rated))


def _scaled(ceiling: Record, rated: str, device: Device, base: Device) -> Record:
    """Return a measured maximum of `base`, scaled by the ratio of the rated quantities of `device` and `base`.

    ceiling: the measured maximum. rated: dotted name of the rated quantity that it is a share of.
    """
    now, before = device.records[rated], base.records[rated]
    ratio = device.si(rated) / base.si(rated)
    note = (
        f"{CEILINGS[rated]} is scaled by {ratio:.4g}, because {rated} is {now.number:g} {now.unit} "
        f"in place of {before.number:g} {before.unit} ({base.name})"
    )
    return Record(value=ceiling.number * ratio, unit=ceiling.unit, kind="derived", source=ceiling.source, note=note)


def read_device(name: str, table: FigureTable) -> Device:
    """Return the device that a file describes. `table` is the top table of the file.

    Raises `InputError` where the file is malformed.
    """
    table.text("type", "device", choices=("device",))
    records: dict[str, Record] = {}
    for group in FIGURES:
        records |= _read_group(table.table(group, None), group)
    link, net = (read_link(table.table(key, None), key, records) for key in ("link", "net"))
    device = Device(
        name=name,
        title=table.text("title"),
        vendor=table.text("vendor"),
        arch=table.text("arch"),
        kind=table.text("kind", choices=DEVICE_KINDS),
        records=records,
        link=link,
        net=net,
        year=table.whole("year", 0, least=_FIRST_YEAR, most=_LAST_YEAR) or None,
        memory_type=table.text("memory_type", ""),
        notes=table.texts("notes", ()),
        origin=Path(table.file),
    )
    table.done()
    for group, key in _REQUIRED:
        if f"{group}.{key}" not in records:
            raise table.table(group, None).error(key, "is missing; add it, without it no estimate can be made")
    if device.idle >= device.tdp:
        text = f"{device.tdp:g} W is no power limit: the device draws {device.idle:g} W idle; give more"
        raise table.table("power", None).error("tdp", text)
    return device


def _read_group(table: FigureTable, group: str) -> dict[str, Record]:
    """Read the numeric quantities of one table ("memory") of a device file, by dotted name ("memory.bandwidth")."""
    found = {key: table.figure(key, dimension) for key, dimension in FIGURES[group].items()}
    table.done()
    for key, record in found.items():
        if group == "peak" and record and record.kind == "rated" and "with sparsity" in record.note.lower():
            raise table.error(key, f"{record.value} is with sparsity; peaks are dense, give the rate without sparsity")
    return {f"{group}.{key}": record for key, record in found.items() if record is not None}
