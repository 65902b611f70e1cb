"""Describe the machine that this process runs on: processor, cores, sockets, cache and memory, as far as Linux reports
them."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from perfmodel.arrays import NAN

_CPU = Path("/sys/devices/system/cpu")
_SUFFIX = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class Machine:
    """Describe the host.

    title: name of the processor. cores: number of logical processors that this process may run on. sockets: numbers of
    these processors, grouped by socket. cache: bytes of last-level cache of one socket. memory: bytes of main memory.
    NaN where unknown.
    """

    title: str
    cores: int
    sockets: tuple[tuple[int, ...], ...]
    cache: float
    memory: float

    @property
    def slug(self) -> str:
        """Return a device name derived from the title.

        >>> Machine("AMD EPYC 7B13 64-Core Processor", 2, ((0, 1),), 32e6, 8e9).slug
        'amd-epyc-7b13-64-core-processor'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "this-machine"


def _read(path: Path) -> str:
    """Read the text of a file; "" if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def size(text: str) -> float:
    """Convert a size in the notation of sysfs to bytes; NaN for any other text.

    >>> size("32768K"), size("1M")
    (33554432.0, 1048576.0)
    """
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    return float(found.group(1)) * _SUFFIX.get(found.group(2), 1) if found else NAN


def processors() -> tuple[int, ...]:
    """Return the numbers of the logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _sockets(usable: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Group the numbers of the usable logical processors by socket."""
    by_socket: dict[str, list[int]] = {}
    for number in usable:
        package = _read(_CPU / f"cpu{number}" / "topology" / "physical_package_id") or "0"
        by_socket.setdefault(package, []).append(number)
    return tuple(tuple(members) for members in by_socket.values())


def _cache(number: int) -> float:
    """Return the bytes of the last-level cache of logical processor `number`; NaN if unknown."""
    levels = [
        (int(_read(index / "level") or 0), size(_read(index / "size")))
        for index in sorted((_CPU / f"cpu{number}" / "cache").glob("index*"))
        if _read(index / "type") != "Instruction"
    ]
    return max(levels)[1] if levels else NAN


def _title() -> str:
    """Return the name of the processor, from Linux on x86, from Linux on boards with a device tree, or from Python."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "this machine"


def machine() -> Machine:
    """Describe this machine, as this process may use it."""
    usable = processors()
    memory = NAN
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return Machine(_title(), len(usable), _sockets(usable), _cache(usable[0]), memory)


def stay_on(socket: int) -> None:
    """Restrict this process to one socket, so that memory of another socket is not measured.

    Call it before a numerical library starts its threads. Raises `InputError` for a socket that does not exist.
    """
    from hwdb import InputError

    every = _sockets(processors())
    if not 0 <= socket < len(every):
        raise InputError(f"socket {socket}: this machine has {len(every)} sockets, numbered from 0")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, every[socket])
