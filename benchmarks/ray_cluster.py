"""A Ray cluster of two nodes with one CPU each on this machine, whose workers and nodes can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Seconds until a node is taken to be up, the head first.
UP_S = (20, 15)
#: What the command line of a worker that runs a task begins with.
AT_WORK = b"ray::_call_with"


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs: its address, and the processes of both nodes."""

    address: str
    head: subprocess.Popen[bytes]
    second: subprocess.Popen[bytes]

    def kill_worker(self) -> bool:
        """Kill one worker that runs a task; return whether there was one."""
        for pid in (*_session(self.second.pid), *_session(self.head.pid)):
            try:
                at_work = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(AT_WORK)
            except OSError:
                continue
            if at_work:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def lose_node(self) -> None:
        """End the second node with all that runs on it."""
        end(self.second)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start the cluster, and end it with all its processes."""
    program = shutil.which("ray") or str(Path(sys.executable).parent / "ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    common = ["--num-cpus", "1", "--object-store-memory", "100000000", "--block"]

    def node(*words: str) -> subprocess.Popen[bytes]:
        quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([program, "start", *words, *common], env=environment, start_new_session=True, **quietly)  # type: ignore[call-overload,no-any-return]

    head = node("--head", "--port", str(port), "--include-dashboard=false")
    time.sleep(UP_S[0])
    second = node("--address", address)
    time.sleep(UP_S[1])
    try:
        yield Cluster(address, head, second)
    finally:
        for one in (second, head):
            end(one)


def end(node: subprocess.Popen[bytes]) -> None:
    """End a node of the cluster with all processes of its session."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in _session(node.pid):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
        time.sleep(2)
    node.wait()


def _session(leader: int) -> list[int]:
    """Return the processes of the session that `leader` began, and those below them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found.append(int(folder.name))
    children = {int(f.name): _parent(f) for f in Path("/proc").glob("[0-9]*")}
    while more := [pid for pid, parent in children.items() if parent in found and pid not in found]:
        found += more
    return found


def _parent(folder: Path) -> int:
    """Return the parent of a process; 0 where it has ended."""
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
