"""Define the interface of a backend: a numerical library on a device that the profiler can time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from perfmodel.profiler.grid import Point
from perfmodel.profiler.power import Meter

#: The call to time.
Call = Callable[[], object]


class NotHere(Exception):
    """Says that a point cannot be measured on this device: it is too large, or there is no kernel. A run counts and
    skips it."""


@dataclass(frozen=True)
class Abilities:
    """List what a backend can run.

    gemms: (weight format, compute type) pairs. caches: KV-cache formats of attention. kernels: names of element-wise
    kernels. stream: compute type of the element-wise kernels.
    """

    gemms: tuple[tuple[str, str], ...]
    caches: tuple[str, ...]
    kernels: tuple[str, ...]
    stream: str


class Backend(Protocol):
    """Run operators of one library on one device.

    title: name of the device. kind: as in hwdb ("cpu", "gpu"). software: library and version. memory: bytes. abilities:
    formats and kernels that it can run. meter: energy counter of the device, None if there is none.
    """

    title: str
    kind: str
    vendor: str
    software: str
    memory: float
    abilities: Abilities
    meter: Meter | None

    def prepare(self, point: Point) -> Call:
        """Allocate the inputs of a point and return the call to time. Raises `NotHere` if it cannot run."""
        ...

    def flush(self) -> None:
        """Empty the caches of the device."""
        ...

    def stopwatch(self, call: Call) -> float:
        """Make one call and return its seconds."""
        ...

    def wait(self) -> None:
        """Return when the device is idle."""
        ...
