"""Run many simulations: one by one, in processes of this machine, or on a Ray cluster, behind one interface.

An executor starts workers that hold a function and what its calls share; the workers take tasks and give results back
as they finish. A worker that dies loses the task that it had, which is given to another one.
"""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from hwdb import InputError, UnknownName

#: Takes what all calls share, and a task; returns its result. It is found by its name on every worker.
Work = Callable[[Any, Any], Any]
#: Names of the executors.
EXECUTORS = ("serial", "processes", "ray")
#: Times in a row that workers may die without any task being finished. Chosen: chance does not do that three times.
MOST_DEATHS = 3
#: Seconds that the head of a Ray cluster may take to answer.
ANSWER_S = 10.0


class Workers(Protocol):
    """Workers that were started for one function."""

    #: Workers that died so far; their tasks were given to others.
    lost: int

    def run(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (position among `tasks`, result), each as soon as it is known, in any order."""
        ...

    def close(self) -> None:
        """Stop the workers."""
        ...


class Executor(Protocol):
    """Interface of what runs tasks."""

    @property
    def name(self) -> str:
        """Return its name, as the command line spells it."""
        ...

    def start(self, work: Work, shared: Any) -> Workers:
        """Start workers that call `work(shared, task)`; `shared` is sent to each worker once."""
        ...


def executor_of(name: str = "serial", *, jobs: int = 1, address: str = "") -> Executor:
    """Return the executor of a name. jobs: worker processes of this machine. address: of a Ray cluster, HOST:PORT."""
    if name not in EXECUTORS:
        raise UnknownName("executor", name, EXECUTORS)
    if name == "ray":
        return RayCluster(address)
    if address:
        raise InputError(f"--address {address} is of a Ray cluster; add --executor ray, or leave it out")
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; give 1 or more")
    return Processes(jobs) if name == "processes" or jobs > 1 else Serial()


@dataclass(frozen=True)
class Serial:
    """Run tasks one by one in this process."""

    name: str = "serial"

    def start(self, work: Work, shared: Any) -> Workers:
        """Return a worker that is this process."""
        return _Alone(work, shared)


@dataclass
class _Alone:
    """This process as a worker."""

    work: Work
    shared: Any
    lost: int = 0

    def run(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield results in the order of the tasks."""
        for at, task in enumerate(tasks):
            yield at, self.work(self.shared, task)

    def close(self) -> None:
        """Do nothing: this process goes on."""


@dataclass(frozen=True)
class Processes:
    """Run tasks in `jobs` processes of this machine."""

    jobs: int
    name: str = "processes"

    def start(self, work: Work, shared: Any) -> Workers:
        """Return the processes; each starts with its first task."""
        return _Pool(self.jobs, (work, shared))


class _Pool:
    """Processes of this machine; a new pool takes the place of one that lost a process."""

    def __init__(self, jobs: int, held: tuple[Work, Any]) -> None:
        """Start no process yet. held: the function, and what its calls share."""
        self.lost = 0
        self._jobs, self._held = jobs, held
        self._pool: ProcessPoolExecutor | None = None

    def run(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (position, result) as they finish; tasks that a dead process leaves open run again."""
        left, deaths = dict(enumerate(tasks)), 0
        while left:
            try:
                for at, result in self._pass(left):
                    del left[at]
                    deaths = 0
                    yield at, result
            except BrokenProcessPool:
                self.lost, deaths = self.lost + 1, deaths + 1
                self.close()
                _refuse_deaths(deaths)

    def _pass(self, left: dict[int, Any]) -> Iterator[tuple[int, Any]]:
        """Give all open tasks to the pool, and yield what finishes; raise `BrokenProcessPool` where a process dies."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork would copy the threads of numerical libraries
            self._pool = ProcessPoolExecutor(self._jobs, context, initializer=_hold, initargs=(self._held,))
        open_: dict[Future[Any], int] = {self._pool.submit(_call, task): at for at, task in left.items()}
        while open_:
            done, _ = wait(open_, return_when=FIRST_COMPLETED)
            broken = [f for f in done if isinstance(f.exception(), BrokenProcessPool)]
            for future in done:
                at = open_.pop(future)
                if future not in broken:
                    yield at, future.result()
            if broken:
                broken[0].result()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _refuse_deaths(deaths: int) -> None:
    """Raise `InputError` where workers died too often in a row."""
    if deaths >= MOST_DEATHS:
        raise InputError(
            f"workers died {deaths} times and finished nothing in between, so the task itself ends them (memory?); "
            "give fewer jobs or requests"
        )


#: The function of this worker process, and what its calls share.
_HELD: list[tuple[Work, Any]] = []


def _hold(held: tuple[Work, Any]) -> None:
    """Keep the function and what its calls share in this worker process."""
    _HELD[:] = [held]


def _call(task: Any) -> Any:
    """Run one task in this worker process."""
    return _call_with(_HELD[0], task)


@dataclass(frozen=True)
class RayCluster:
    """Run tasks on a Ray cluster, one per CPU that it offers; perfmodel has to be installed on its nodes.

    address: HOST:PORT of the head of the cluster, `auto` for the one that runs on this machine.
    """

    address: str
    name: str = "ray"

    def start(self, work: Work, shared: Any) -> Workers:
        """Connect to the cluster; raise `InputError` where Ray is not installed, or nothing answers."""
        try:
            import ray
        except ImportError:
            raise InputError("--executor ray needs Ray; install perfmodel[ray]") from None
        if not self.address:
            raise InputError("--executor ray needs a cluster; give --address HOST:PORT, or --address auto")
        try:
            _answers(self.address)
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (OSError, RuntimeError, ValueError) as error:
            said = str(error).strip().partition("\n")[0]
            raise InputError(
                f"--address {self.address}: no Ray cluster answers ({said}); start one: ray start --head"
            ) from None
        return _Cluster(ray, (work, shared))


def _answers(address: str) -> None:
    """Raise `OSError` where nothing listens at HOST:PORT, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()


class _Cluster:
    """The workers of a Ray cluster. Ray starts a new process for one that died; the task is sent again from here."""

    def __init__(self, ray: Any, held: tuple[Work, Any]) -> None:
        """Send what all calls share to the cluster. ray: the module."""
        self.lost = 0
        self._ray, self._held = ray, ray.put(held)
        self._remote = ray.remote(max_retries=0, num_cpus=1)(_call_with)

    def run(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (position, result) as they finish; the tasks of workers and nodes that die are sent again."""
        errors, deaths = self._ray.exceptions, 0
        died = (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError, errors.OutOfMemoryError)
        open_ = {self._remote.remote(self._held, task): at for at, task in enumerate(tasks)}
        while open_:
            (done, *_), _ = self._ray.wait(list(open_), num_returns=1)
            at = open_.pop(done)
            try:
                result = self._ray.get(done)
            except died:
                self.lost, deaths = self.lost + 1, deaths + 1
                _refuse_deaths(deaths)
                open_[self._remote.remote(self._held, tasks[at])] = at
                continue
            deaths = 0
            yield at, result

    def close(self) -> None:
        """Leave the cluster, which goes on."""
        self._ray.shutdown()


def _call_with(held: tuple[Work, Any], task: Any) -> Any:
    """Run one task on this worker. held: the function, and what its calls share."""
    work, shared = held
    return work(shared, task)
