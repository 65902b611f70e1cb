"""Read energy counters: NVML for NVIDIA GPUs, RAPL for processors, where the system permits reading them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perfmodel.arrays import NAN

#: Folder of the RAPL counters.
_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """Hold an energy counter.

    joules: function that returns the energy counted so far, in J, from an arbitrary zero. limit: power limit in W, NaN
    if unknown.
    """

    name: str
    joules: Callable[[], float]
    limit: float = NAN


def nvidia(index: int) -> Meter | None:
    """Open the energy counter of NVIDIA GPU `index` (Volta and later); None if NVML or the counter is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:  # NVML counts in mJ and mW
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        limit = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3
    except pynvml.NVMLError:
        return None
    return Meter("nvml", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, limit)


def processor(root: Path = _RAPL) -> Meter | None:
    """Open the RAPL energy counters of all sockets and sum them; None if they are missing or must not be read.

    Counters wrap around every few minutes to hours; this is corrected with the range that the system reports for the
    counter. root: folder of the counters.
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
    """Read one RAPL counter, corrected for wrap-around."""

    def __init__(self, path: Path, size: float) -> None:
        self._path, self._size = path, size
        self._last, self._wraps = 0.0, 0

    def read(self) -> float:
        """Return the energy counted so far, in J."""
        now = float(self._path.read_text())
        self._wraps += now < self._last
        self._last = now
        # RAPL counts in uJ
        return (now + self._wraps * self._size) * 1e-6
