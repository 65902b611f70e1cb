"""Answer requests in processes of their own, each with a limit on time and memory, so that none harms the server."""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdb import Infeasible, InputError
from search.fleet import FleetInfeasible, relaxation_rows
from search.output import without_nan
from search.service.answers import OPERATIONS
from search.service.bounds import Bounds
from search.service.guard import Guard, roots
from search.service.problems import Outcome, busy, gone, of_error, too_long

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from search.service.bodies import Body

#: Seconds that a worker may take to start. Chosen: ten times what it takes.
STARTING = 60.0
READY = "ready"


def answered(name: str, body: Body, bounds: Bounds) -> Outcome:
    """Answer one request in this process.

    An input that is not possible is an outcome with the message; a scenario that nothing meets is an answer.
    """
    try:
        content = without_nan(OPERATIONS[name].run(body, bounds))
    except Infeasible as error:
        ways = relaxation_rows(error) if isinstance(error, FleetInfeasible) else []
        content = {"feasible": False, "headline": str(error), "rows": without_nan(ways)}
    except InputError as error:
        return of_error(str(error))
    except OSError as error:  # a name that the system takes for no path, such as one of 5,000 letters
        return of_error(f"request: a name in it is no name of a file ({error.strerror}); give a shorter one")
    return Outcome(200, json.dumps(content, allow_nan=False))


def _serve(pipe: Connection, bounds: Bounds, folder: str) -> None:
    """Answer the requests of a pipe until it is closed: the whole life of a worker. folder: for its files."""
    os.dup2(2, 1)  # what libraries print must not reach whoever speaks over our stdout
    sys.stdout = sys.stderr
    _limit_memory(bounds.memory)
    os.chdir(folder)
    tempfile.tempdir = folder  # the shared one has files of others
    Guard(roots((*bounds.folders, Path(folder)))).install()
    pipe.send(READY)
    while True:
        try:
            name, given = pipe.recv()
        except EOFError:
            return
        found = answered(name, OPERATIONS[name].body.model_validate(given), bounds)
        pipe.send((found.status, found.text))


def _limit_memory(most: int) -> None:
    """Let this process take at most so many bytes, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@contextmanager
def _interrupts_kept_off() -> Iterator[None]:
    """Let processes that start meanwhile not see Ctrl+C, which a terminal sends to all: the server ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """A process that answers requests one after another, and its folder, which goes with it however it ends."""

    def __init__(self, bounds: Bounds) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.folder = tempfile.TemporaryDirectory(prefix="perfmodel-worker-", ignore_cleanup_errors=True)
        self.process = context.Process(target=_serve, args=(theirs, bounds, self.folder.name), daemon=True)
        with _interrupts_kept_off():
            self.process.start()
        theirs.close()
        self.ready = False

    def ask(self, name: str, given: Any, seconds: float) -> Outcome | None:
        """Return the outcome of a request, or None where the worker has to be replaced: too slow, or dead."""
        if not self.ready:
            if not self.pipe.poll(STARTING) or self.pipe.recv() != READY:
                raise EOFError
            self.ready = True
        self.pipe.send((name, given))
        return Outcome(*self.pipe.recv()) if self.pipe.poll(seconds) else None

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.folder.cleanup()


@dataclass
class Workers:
    """A few workers, and the requests that wait for them. bounds: of each request."""

    bounds: Bounds
    _idle: queue.Queue[_Worker] = field(init=False)
    _waiting: threading.BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self._idle = queue.Queue()
        for _ in range(self.bounds.workers):
            self._idle.put(_Worker(self.bounds))
        self._waiting = threading.BoundedSemaphore(self.bounds.workers + self.bounds.waiting)

    def answer(self, name: str, body: Body) -> Outcome:
        """Answer a request in one of the workers; blocks until then, or until its time is up."""
        if not self._waiting.acquire(blocking=False):
            return busy()
        try:
            worker = self._idle.get(timeout=self.bounds.seconds)
        except queue.Empty:
            self._waiting.release()
            return busy()
        outcome: Outcome | None = None
        problem = too_long(self.bounds.seconds)
        try:
            outcome = worker.ask(name, body.model_dump(), self.bounds.seconds)
        except (EOFError, OSError):
            problem = gone()
        finally:
            if outcome is None:
                worker.stop()
                worker = _Worker(self.bounds)
            self._idle.put(worker)
            self._waiting.release()
        return outcome or problem

    def close(self) -> None:
        """End all workers."""
        while True:
            try:
                self._idle.get_nowait().stop()
            except queue.Empty:
                return
