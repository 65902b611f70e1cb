"""Launch floor: operators that the host launches one by one take at least the time of a launch.

Engines replay decode steps from captured graphs where a device's software can. Where it cannot, the device idles
between short kernels. `Engine.host_launches` says on devices of which vendors an engine launches so, and how long it
takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel.costs.cost import Adjusted, Cost, Served
from perfmodel.engines import Engine
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.vocabulary import LAUNCH_BOUND


@dataclass(frozen=True)
class LaunchFloor(Adjusted):
    """Cost model that raises the times of `model` to at least the time of one launch by the host of `engine`."""

    engine: Engine

    def over(  # see `Adjusted`
        self,
        inner: Cost,
        demand: Demand,  # noqa: ARG002
        hardware: Hardware,
        served: Served | None = None,  # noqa: ARG002
    ) -> Cost:
        """Return the time of one call on each row of `hardware`; basis and spread are those of `model`."""
        floor = np.array([self.engine.host_launch(d.vendor) for d in hardware.devices])[hardware.index]
        if not floor.any():
            return inner
        waits = inner.time < floor
        bound = np.where(waits, LAUNCH_BOUND, inner.bound).astype(np.int8)
        return replace(inner, time=np.where(waits, floor, inner.time), bound=bound)
