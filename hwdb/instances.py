"""Read the types of cloud instances: which device, how many of them, over which network (`names/instances.toml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hwdb.devicefile import Device
from hwdb.links import NAN
from hwdb.nodefile import Node
from hwdb.record import Record
from hwdb.tomlfile import Table, read_toml

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
