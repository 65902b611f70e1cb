"""Read the types of cloud instances: which device, how many of them, over which network (`names/instances.toml`)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hwdb.devicefile import Device
from hwdb.errors import InputError
from hwdb.links import NAN
from hwdb.nodefile import Node
from hwdb.record import Record
from hwdb.tomlfile import Table, read_toml

#: Types of AWS ("p5e.48xlarge", "p6-b200.48xlarge") and of Azure ("standard_nd96isr_h100_v5"), in lower case.
_AWS = re.compile(r"[a-z]+\d[a-z\d-]*\.(?:\d*x?large|metal)")
#: The "m" of Azure, for more memory, is part of the family ("standard_nd96amsr_a100_v4": NDm A100 v4); other letters
#: behind the number of cores are not.
_AZURE = re.compile(r"(?:standard_)?(n[cdv])\d+[a-ln-z]*(m?)[a-z]*(?:_ndr)?(?:_([a-z\d]+))?_(v\d)")
_TABLE = Path(__file__).parent / "names" / "instances.toml"


@dataclass(frozen=True)
class Instance:
    """One type of instance. device: its name. count: devices that it holds. source: where these facts come from.

    net_gbps: bandwidth of its network in Gb/s, memory_gib: host memory, NaN where not given. node: the node that
    describes it in full, "" where there is none.
    """

    name: str
    device: str
    count: int
    source: str
    net_gbps: float = NAN
    memory_gib: float = NAN
    node: str = ""

    def as_device(self, device: Device, asked: str) -> Device:
        """Return one device of the instance: `device`, whose reading says what the name `asked` for was taken for.

        A processor has its share of the memory of the instance, since its own file can only state a usual size.
        """
        reading = f"{asked}: {self.count} x {device.name}"
        if device.kind != "cpu" or math.isnan(self.memory_gib):
            return replace(device, reading=reading)
        each = self.memory_gib / self.count
        memory = Record(each, "GiB", "rated", self.source, f"of {self.name}, shared evenly")
        records = {**device.records, "memory.capacity": memory}
        return replace(device, records=records, base=device, reading=f"{reading} with {each:g} GiB each")

    def as_node(self, device: Device, similar: Node | None = None) -> Node:
        """Return the instance as a node of `device`.

        similar: a server with as many of these devices, whose links and host are taken. Without one, the devices are
        linked as the file of the device says, and the power of the host is not known.
        """
        base = similar or Node(
            name=self.name,
            title="",
            device=device.name,
            count=self.count,
            records={},
            link=replace(device.link, peers=min(device.link.peers, self.count)),
            net=device.net,
        )
        records, net = dict(base.records), base.net
        if self.memory_gib == self.memory_gib:
            records["host.memory"] = Record(self.memory_gib, "GiB", "rated", self.source)
        if self.net_gbps == self.net_gbps:
            each = Record(self.net_gbps / self.count, "Gb/s", "rated", self.source, "of the instance, shared evenly")
            records["net.bandwidth"] = each
            net = replace(net, bandwidth=each.si, name=f"network of {self.name}")
        title = f"{self.name} ({self.count} x {device.title})"
        return replace(base, name=self.name, title=title, records=records, net=net)


def instance_called(name: str) -> Instance | None:
    """Return the type of instance of that name, in any case, as SageMaker writes it, or without Azure's first word.

    >>> found = [instance_called(name) for name in ("ml.g6e.12xlarge", "ND96isr_MI300X_v5", "h100-sxm")]
    >>> [one and one.name for one in found]
    ['g6e.12xlarge', 'Standard_ND96isr_MI300X_v5', None]
    """
    plain = name.strip().lower().removeprefix("ml.").replace(" ", "_")
    return instances().get(plain) or instances().get(f"standard_{plain}")


def instance_of_family(name: str) -> Instance | None:
    """Return the only type of instance of a family ("p4d", "ND H100 v5"); None where `name` is no family.

    Raises `InputError` with the types where they differ in the number of devices.
    """
    asked = name.strip().lower().removeprefix("ml.").removeprefix("standard_").replace(" ", "_").replace("-", "_")
    found = [one for key, one in instances().items() if asked and _family(key) == asked]
    sizes = {one.count: one.name for one in reversed(found)}  # the first of each number of devices
    if len(sizes) > 1:
        types = ", ".join(sizes[count] for count in sorted(sizes))
        raise InputError(f"instance {name!r} may mean {types}; give one type")
    return found[0] if found else None


def _family(name: str) -> str:
    """Return the family of a type of instance of AWS or Azure ("p5e", "nd_h100_v5"); "" for other clouds."""
    azure = _AZURE.fullmatch(name)
    if azure:
        series, more_memory, device, version = azure.groups()
        return "_".join(filter(None, (series + more_memory, device, version)))
    return name.partition(".")[0].replace("-", "_") if _AWS.fullmatch(name) else ""


@cache
def instances() -> Mapping[str, Instance]:
    """Return the known types of instances, by their names in lower case."""
    top = read_toml(_TABLE, "types of instances")
    sources = top.table("sources")
    found: dict[str, Instance] = {}
    for entry in top.tables("instance"):
        found |= {one.name.lower(): one for one in _entry(entry, sources)}
    return found


def _entry(entry: Table, sources: Table) -> list[Instance]:
    """Return the instances of one entry."""
    source = sources.text(entry.text("source"))
    node = entry.text("node", "")
    return [
        Instance(
            name=name,
            device=entry.text("device"),
            count=entry.whole("count", least=1),
            source=source,
            net_gbps=entry.number("net_gbps", NAN, above=0),
            memory_gib=entry.number("memory_gib", NAN, above=0),
            node=node,
        )
        for name in entry.texts("names")
    ]
