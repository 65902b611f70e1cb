"""A node: a host with several equal devices, and the links between them and to other nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hwdb.devicefile import NAN, Link, read_link
from hwdb.record import Record
from hwdb.table import Table

_HOST = {"power": "watts", "idle": "watts", "memory": "bytes", "total_power": "watts"}


@dataclass(frozen=True)
class Node:
    """A server, or a rack whose devices share one fast domain. SI; NaN where unknown.

    device: name of the device it holds, `count` of them, over `sockets` CPU sockets.
    link: between devices of the node. net: out of the node, per device. host_power: W that everything but the
    devices draws at most (CPUs, memory, switches, fans). idle: W of the same at rest. total_power: rated W of
    the whole.
    """

    name: str
    title: str = field(compare=False)
    device: str
    count: int
    records: Mapping[str, Record] = field(compare=False, repr=False)
    sockets: int = 1
    link: Link = field(default=Link(), compare=False)
    net: Link = field(default=Link(), compare=False)
    host: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", MappingProxyType(dict(sorted(self.records.items()))))

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.name, self.title, self.device, self.count, dict(self.records), self.sockets)
        return Node, (*fields, self.link, self.net, self.host, self.notes)

    def si(self, figure: str) -> float:
        """The figure called `figure` ("host.power"), in SI; NaN where unknown."""
        record = self.records.get(figure)
        return NAN if record is None else record.si

    @property
    def host_power(self) -> float:
        """Most that everything but the devices draws, W."""
        return self.si("host.power")

    @property
    def idle(self) -> float:
        """Power of the host at rest, without the devices, W."""
        return self.si("host.idle")

    @property
    def total_power(self) -> float:
        """Rated power of the whole node, W."""
        return self.si("host.total_power")


def read_node(name: str, table: Table) -> Node:
    """The node that a file describes; `InputError` where the file is malformed."""
    table.text("type", "node", among=("node",))
    records: dict[str, Record] = {}
    host = table.table("host")
    for key, dimension in _HOST.items():
        record = host.figure(key, dimension)
        if record is not None:
            records[f"host.{key}"] = record
    host_title = host.text("name", "")
    host.done()
    link, net = (read_link(table.table(key), key, records) for key in ("link", "net"))
    node = Node(
        name=name,
        title=table.text("title"),
        device=table.text("device"),
        count=table.whole("count"),
        records=records,
        sockets=table.whole("sockets", 1),
        link=link,
        net=net,
        host=host_title,
        notes=table.texts("notes"),
    )
    table.done()
    return node
