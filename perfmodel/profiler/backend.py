"""What the profiler needs of a numerical library on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hwdb import InputError, UnknownName
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


BACKENDS = ("numpy", "torch-cpu", "torch-gpu")


def available() -> list[str]:
    """Backends that can run here."""
    from importlib.util import find_spec

    found = ["numpy"]
    if find_spec("torch") is not None:
        import torch

        found.append("torch-cpu")
        if torch.cuda.is_available():
            found.append("torch-gpu")
    return found


def backend(name: str = "", index: int = 0, threads: int = 0) -> Backend:
    """The backend called `name`; "" takes the best there is. index: which GPU. threads: of a processor, 0 for all.

    Raises `UnknownName` for another name, `InputError` where its library or device is missing.
    """
    have: Sequence[str] = available()
    chosen = name or have[-1]
    if chosen not in BACKENDS:
        raise UnknownName("profiler backend", chosen, BACKENDS)
    if chosen not in have:
        need = "a GPU that torch can use" if chosen == "torch-gpu" and "torch-cpu" in have else "torch"
        raise InputError(f"profiler backend {chosen!r} needs {need}; here are: {', '.join(have)}")
    if chosen == "numpy":
        from perfmodel.profiler.numpy_backend import NumpyBackend

        return NumpyBackend(threads)
    from perfmodel.profiler.torch_backend import TorchBackend

    return TorchBackend(f"cuda:{index}" if chosen == "torch-gpu" else "cpu", threads)
