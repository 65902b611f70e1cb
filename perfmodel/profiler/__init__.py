"""Profiler: measures operators on the machine it runs on, and turns the measurements into a device profile.

Front door: `profile_machine` (measure and append rows to a CSV), `fit` (rows to a device file and a profile),
`list_rows` and `show_rows` (list the existing profiles).
"""

from __future__ import annotations

from perfmodel.profiler.backends.choose import BACKENDS, available, backend
from perfmodel.profiler.backends.protocol import Backend
from perfmodel.profiler.fit import Fit, fit, gigabytes, measured_ceilings
from perfmodel.profiler.grid import GRIDS, Point, point
from perfmodel.profiler.listing import SHOWN, list_rows, show_rows
from perfmodel.profiler.machine import Machine, machine
from perfmodel.profiler.roofline import measured_points
from perfmodel.profiler.run import MachineChoice, Run, everything, measure, profile_machine
from perfmodel.profiler.timing import Effort

__all__ = [
    "BACKENDS",
    "GRIDS",
    "SHOWN",
    "Backend",
    "Effort",
    "Fit",
    "Machine",
    "MachineChoice",
    "Point",
    "Run",
    "available",
    "backend",
    "everything",
    "fit",
    "gigabytes",
    "list_rows",
    "machine",
    "measure",
    "measured_ceilings",
    "measured_points",
    "point",
    "profile_machine",
    "show_rows",
]
