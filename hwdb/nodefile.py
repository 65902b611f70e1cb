"""Read nodes: a host with several equal devices, and the links between them and to other nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hwdb.figures import FigureTable
from hwdb.links import NAN, Link, read_link
from hwdb.record import Record, rebuilt

#: figure of `[host]` of a node -> dimension
HOST_FIGURES = {"power": "watts", "idle": "watts", "memory": "bytes", "total_power": "watts"}


@dataclass(frozen=True)
class Node:
    """A server, or a rack whose devices share one fabric. Quantities are in SI, and NaN where unknown.

    Attributes:
        device: name of the device that it holds.
        count: devices per node.
        sockets: CPU sockets per node.
        link: between devices of the node. net: out of the node, per device.
        host: name of the host.
        records: every numeric quantity of the file with its source, by dotted name ("host.power", "link.bandwidth").
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

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return rebuilt(self)

    def si(self, figure: str) -> float:
        """Return the numeric quantity called `figure` ("host.power") in SI units; NaN where unknown."""
        record = self.records.get(figure)
        return NAN if record is None else record.si

    @property
    def host_power(self) -> float:
        """Largest power of everything but the devices (CPUs, memory, switches, fans), W."""
        return self.si("host.power")

    @property
    def idle(self) -> float:
        """Power of everything but the devices while idle, W."""
        return self.si("host.idle")

    @property
    def total_power(self) -> float:
        """Rated power of the whole node, devices included, W."""
        return self.si("host.total_power")


def read_node(name: str, table: FigureTable) -> Node:
    """Return the node that a file describes. `table` is the top table of the file.

    Raises `InputError` where the file is malformed.
    """
    table.text("type", "node", choices=("node",))
    host = table.table("host", None)
    figures = {f"host.{key}": host.figure(key, dimension) for key, dimension in HOST_FIGURES.items()}
    records = {key: record for key, record in figures.items() if record is not None}
    host_name = host.text("name", "")
    host.done()
    link, net = (read_link(table.table(key, None), key, records) for key in ("link", "net"))
    node = Node(
        name=name,
        title=table.text("title"),
        device=table.text("device"),
        count=table.whole("count", least=1),
        records=records,
        sockets=table.whole("sockets", 1, least=1),
        link=link,
        net=net,
        host=host_name,
        notes=table.texts("notes", ()),
    )
    table.done()
    return node
