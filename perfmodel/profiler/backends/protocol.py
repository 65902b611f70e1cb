"""What a backend of the profiler provides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from perfmodel.profiler.grid import Point
from perfmodel.profiler.power import Meter

Call = Callable[[], object]


class NotHere(Exception):
    """This point cannot be measured on this device: too large, or no kernel for it. The run counts it and goes on."""


@dataclass(frozen=True)
class Abilities:
    """What a backend can run. gemms: (weight format, compute type); caches: formats of keys and values;
    kernels: names of element-wise operators; stream: compute type they are written in."""

    gemms: tuple[tuple[str, str], ...]
    caches: tuple[str, ...]
    kernels: tuple[str, ...]
    stream: str


class Backend(Protocol):
    """A library on a device. title: the device in words; kind: as in hwdb; software: library and version."""

    title: str
    kind: str
    vendor: str
    software: str
    memory: float
    abilities: Abilities
    meter: Meter | None

    def prepare(self, point: Point) -> Call:
        """Allocate inputs and return the call to time; `NotHere` where it cannot run."""
        ...

    def flush(self) -> None:
        """Push everything out of the caches."""
        ...

    def stopwatch(self, call: Call) -> float:
        """Seconds one call takes."""
        ...

    def wait(self) -> None:
        """Return when the device has nothing left to do."""
        ...
