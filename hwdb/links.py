"""Read links: how devices of a node reach one another, and how they reach other nodes."""

from __future__ import annotations

from dataclasses import dataclass

from hwdb.figures import FigureTable
from hwdb.record import Record

TOPOLOGIES = ("switch", "mesh", "ring", "torus", "pcie", "none")
#: figure of a link -> dimension
LINK_FIGURES = {"bandwidth": "bytes/s", "latency": "seconds"}
NAN = float("nan")


@dataclass(frozen=True)
class Link:
    """The ports of one device, and the fabric that they lead into.

    Attributes:
        bandwidth: B/s in one direction, all ports of a device together; NaN where unknown.
        latency: seconds per message and hop; NaN where unknown.
        topology: "switch" (any pair at full bandwidth), "mesh" (a pair gets bandwidth / (peers - 1)), "ring", "torus",
            "pcie" (through the host) or "none".
        peers: devices that one fabric joins, this one included.
        name: what the vendor calls the link.
    """

    bandwidth: float = NAN
    latency: float = NAN
    topology: str = "none"
    peers: int = 1
    name: str = ""


def read_link(table: FigureTable, prefix: str, records: dict[str, Record]) -> Link:
    """Read the link of a device or node file.

    Its numeric quantities are added to `records` under `prefix` ("link.bandwidth").
    """
    figures = {key: table.figure(key, dimension) for key, dimension in LINK_FIGURES.items()}
    records |= {f"{prefix}.{key}": record for key, record in figures.items() if record is not None}
    values = {key: NAN if record is None else record.si for key, record in figures.items()}
    link = Link(
        bandwidth=values["bandwidth"],
        latency=values["latency"],
        topology=table.text("topology", choices=TOPOLOGIES) if table.values else "none",
        peers=table.whole("peers", 1, least=1),
        name=table.text("name", ""),
    )
    table.done()
    return link
