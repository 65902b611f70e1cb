"""Measures the machine it runs on, and turns what it measured into a profile.

Front door: `measure` (points to rows), `fit` (rows to a profile and a device file), `listing` (what there is).
"""

from __future__ import annotations

from perfmodel.profiler.backends.choose import BACKENDS, available, backend
from perfmodel.profiler.backends.protocol import Backend
from perfmodel.profiler.fit import Fit, fit, gigabytes, measured_ceilings
from perfmodel.profiler.grid import GRIDS, Point, point
from perfmodel.profiler.listing import SHOWN, list_rows, show_rows
from perfmodel.profiler.machine import Machine, machine
from perfmodel.profiler.roofline import measured_points
from perfmodel.profiler.run import Run, everything, measure, profile_machine
from perfmodel.profiler.timing import Effort

__all__ = [
    "BACKENDS",
    "GRIDS",
    "SHOWN",
    "Backend",
    "Effort",
    "Fit",
    "Machine",
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
