"""Sandbox of a worker: it may only open files of Python, of perfmodel and of its own temporary folder."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hwdb import InputError, private_folder, user_folder
from perfmodel import cache_folder

#: Events of Python's auditing that name a path as their first argument (docs.python.org/3/library/audit_events.html).
OPENS = frozenset({"open", "os.listdir", "os.scandir"})
#: Events of what no request has any business with.
NEVER = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.bind"})
#: Devices and tables of the system that libraries read: processors, memory, time zones.
SYSTEM = (
    *(
        "/dev/null",
        "/dev/urandom",
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/self/cgroup",
        "/sys/devices/system/cpu",
        "/sys/fs/cgroup",
    ),
    *("/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone"),
)


def roots(folders: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Return the folders that a worker may read: Python, perfmodel, compiled code, and `folders`."""
    here = Path(__file__).resolve().parents[2]
    shipped = [str(here / name) for name in ("hwdb", "perfmodel", "search", "data", "cli.py")]
    paths = [p for key, p in sysconfig.get_paths().items() if key in ("stdlib", "platstdlib", "purelib", "platlib")]
    compiled = (*cache_folder.stated(), *private_folder.of_user())  # of the user's cache, which holds tokens, only ours
    found = (*shipped, *paths, *SYSTEM, *map(str, (*compiled, user_folder(), *folders)))
    return tuple(os.path.realpath(path) for path in found)


def search_path(path: list[str], allowed: tuple[str, ...]) -> list[str]:
    """Return the entries of a module search path that a worker may list: of others, an import would be refused.

    An import lists a folder again whenever something in it has changed. The folder in which perfmodel lies stays: its
    modules are read, and a checkout may be there.
    """
    here = os.path.realpath(Path(__file__).resolve().parents[2])
    real = {entry: os.path.realpath(entry) for entry in path}
    return [e for e in path if real[e] == here or any(real[e] == r or real[e].startswith(r + os.sep) for r in allowed)]


class Guard:
    """A hook of Python's auditing that refuses files outside some folders while `on`.

    A hook cannot be removed, so it is installed once per process, in workers alone.
    """

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        self.listed = os.path.realpath(Path(__file__).resolve().parents[2])
        self.on = False

    def install(self) -> None:
        """Begin to refuse."""
        sys.path[:] = search_path(sys.path, self.allowed)
        sys.addaudithook(self._hook)
        self.on = True

    def _hook(self, event: str, details: tuple[Any, ...]) -> None:
        """Raise `InputError` for an event that is not allowed."""
        if not self.on or (event not in OPENS and event not in NEVER):
            return
        if event in NEVER:
            raise InputError(f"the server starts no program and opens no connection for a request ({event})")
        path = details[0]
        if isinstance(path, int) or path is None:
            return
        place = os.path.realpath(os.fsdecode(path))
        if event == "os.listdir" and place == self.listed:  # by the import of a module of ours
            return
        if not any(place == root or place.startswith(root + os.sep) for root in self.allowed):
            raise InputError(f"{os.path.basename(place)}: the server reads no file of its machine; send its content")
