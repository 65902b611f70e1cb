"""Facts about hardware: devices, nodes, links, prices. Every number has its source; nothing is modelled or fitted.

>>> device("h100-sxm").bandwidth
3350000000000.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.devicefile import PEAKS, Device
from hwdb.errors import Infeasible, InputError, PerfmodelError, SeveralDevices, UnknownKey, UnknownName, nearest
from hwdb.lazy import lazy_names
from hwdb.links import Link
from hwdb.nodefile import Node
from hwdb.pricefile import PRICE_KINDS, Price
from hwdb.record import Record
from hwdb.store import OWN_HARDWARE, Hwdb, built_in, device, devices, load, node, nodes, prices, user_folder
from hwdb.units import counted, from_si, plain, to_si

if TYPE_CHECKING:
    from hwdb.gridfile import Grid, grid, grids, read_grid_hours

__all__ = [
    "OWN_HARDWARE",
    "PEAKS",
    "PRICE_KINDS",
    "Device",
    "Grid",
    "Hwdb",
    "Infeasible",
    "InputError",
    "Link",
    "Node",
    "PerfmodelError",
    "Price",
    "Record",
    "SeveralDevices",
    "UnknownKey",
    "UnknownName",
    "built_in",
    "counted",
    "device",
    "devices",
    "from_si",
    "grid",
    "grids",
    "load",
    "nearest",
    "node",
    "nodes",
    "plain",
    "prices",
    "read_grid_hours",
    "to_si",
    "user_folder",
]

#: Carbon intensities are read where a site names its grid.
__getattr__ = lazy_names(__name__, {"gridfile": ["Grid", "grid", "grids", "read_grid_hours"]})
