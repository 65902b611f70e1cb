"""Energy counters: NVML for NVIDIA GPUs, RAPL for processors, where the system lets us read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """joules(): energy counted so far, J; only differences mean anything. limit: power limit, W, NaN if unknown."""

    name: str
    joules: Callable[[], float]
    limit: float = float("nan")


def nvidia(index: int) -> Meter | None:
    """The energy counter of an NVIDIA GPU (Volta and later); None where NVML or the counter is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        limit = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3
    except pynvml.NVMLError:
        return None
    return Meter("nvml", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, limit)


def processor(root: Path = _RAPL) -> Meter | None:
    """The RAPL energy counters of all sockets together; None where they are missing or may not be read.

    A counter that wraps (every few minutes to hours) is unwrapped against its stated range.
    """
    zones = [z for z in sorted(root.glob("intel-rapl:*")) if z.name.count(":") == 1]
    try:
        counters = [_Counter(zone / "energy_uj", float((zone / "max_energy_range_uj").read_text())) for zone in zones]
        for counter in counters:
            counter.read()
    except (OSError, ValueError):
        return None
    return Meter("rapl", lambda: sum(counter.read() for counter in counters)) if counters else None


class _Counter:
    """One RAPL counter that never falls."""

    def __init__(self, path: Path, size: float) -> None:
        self._path, self._size = path, size
        self._last, self._wraps = 0.0, 0

    def read(self) -> float:
        """Joules since the first reading's zero."""
        now = float(self._path.read_text())
        self._wraps += now < self._last
        self._last = now
        return (now + self._wraps * self._size) * 1e-6
