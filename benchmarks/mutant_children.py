"""Run a function in a forked process, within limits of CPU time, wall time and memory, and read the lines it writes."""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator

#: Bytes of memory that a process may take; chosen: far more than any test needs.
MOST_BYTES = 8 * 1024**3
#: Wall seconds per second of CPU time after which a process is stopped; chosen for a machine that others use too.
PATIENCE = 12.0
#: Least wall seconds before a process is stopped.
LEAST_PATIENCE = 120.0
Write = Callable[[str], None]


class Stopped(RuntimeError):
    """A process was stopped by a signal, such as that of its limit of CPU time."""


class Late(RuntimeError):
    """A process was stopped because it took too long by the clock; on a busy machine this says nothing about its
    work."""


def lines_of(work: Callable[[Write], None], cpu_seconds: float) -> Iterator[str]:
    """Yield the lines that `work` writes, as they come, from a process of its own; raise `Stopped` where a signal ends
    it, `Late` where that is the clock. The process ends where the reader stops reading.

    work: called with a function that writes a line. cpu_seconds: CPU time after which the process is stopped.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _work(work, writing, cpu_seconds)
    os.close(writing)
    read = False
    try:
        with os.fdopen(reading) as lines:
            for line in lines:
                yield line.rstrip("\n")
        read = True
    finally:
        if not read:
            os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGALRM:
            raise Late
        raise Stopped(signal.Signals(os.WTERMSIG(status)).name)
    if status:
        raise RuntimeError("a process that runs mutants or tests has failed; its error is above")


def _work(work: Callable[[Write], None], writing: int, cpu_seconds: float) -> None:
    """Call `work` within its limits, then end this process without the clean-up of its parent."""
    code = 1
    try:
        seconds = max(round(cpu_seconds), 1)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        for name in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        signal.alarm(round(max(PATIENCE * cpu_seconds, LEAST_PATIENCE)))
        work(lambda line: _write(writing, line))
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _write(target: int, line: str) -> None:
    """Write a line at once."""
    os.write(target, (" ".join(line.split("\n")) + "\n").encode())
