"""Measure a grid of points and append each to a CSV at once, so that a stopped run can be continued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter

from perfmodel.arrays import NAN
from perfmodel.profiler import card, grid, timing
from perfmodel.profiler.backends.choose import backend
from perfmodel.profiler.backends.protocol import Backend, NotHere
from perfmodel.profiler.grid import Point
from perfmodel.profiler.machine import machine, stay_on
from perfmodel.profiler.record import LICENCE, done, today
from perfmodel.profiles.importers import plain

#: Seconds of the power measurement of each point on a GPU. Chosen: several updates of the energy counter.
GPU_POWER_SECONDS = 0.3


@dataclass(frozen=True)
class MachineChoice:
    """Choose which part of this machine to measure, and with which library.

    backend: a name in `BACKENDS`, "" for the best available. gpu: index of the GPU. threads: threads of a processor, 0
    for all. socket: restrict the process to this socket, None for all. collectives: also time collectives between all
    GPUs.
    """

    backend: str = ""
    gpu: int = 0
    threads: int = 0
    socket: int | None = None
    collectives: bool = False


@dataclass(frozen=True)
class Run:
    """Hold the result of a run.

    measured: points timed in this run. known: points that the file already had. left: points that the time budget did
    not allow. refused: reason -> number of points that cannot run here. scatter: median over points of the relative
    interquartile range of the repeats (a few percent on a quiet machine). seconds: wall time of the run.
    """

    path: Path
    device: str
    software: str
    measured: int
    known: int
    left: int
    refused: dict[str, int] = field(default_factory=dict)
    scatter: float = NAN
    seconds: float = 0.0

    def rows(self) -> list[dict[str, object]]:
        """Return the result as one flat row."""
        why = "; ".join(f"{reason} ({count})" for reason, count in self.refused.items())
        return [
            {
                "file": str(self.path),
                "device": self.device,
                "software": self.software,
                "measured": self.measured,
                "already_there": self.known,
                "left": self.left,
                "not_possible": sum(self.refused.values()),
                "why_not_possible": why,
                "scatter_percent": round(100.0 * self.scatter, 2),
                "wall_s": round(self.seconds, 3),
            }
        ]


def everything(backend: Backend, size: str) -> list[Point]:
    """Return all points of the grid `size` (a name in `grid.GRIDS`) whose formats and kernels the backend supports."""
    can = backend.abilities
    return grid.points(size, can.gemms, can.caches, can.kernels, can.stream)


def measure(
    backend: Backend,
    points: Sequence[Point],
    path: Path,
    *,
    device: str,
    effort: timing.Effort | None = None,
    budget: float = float("inf"),
    progress: Callable[[float, float], None] | None = None,
) -> Run:
    """Time `points` on `backend` and append them to the plain CSV at `path`. Points that the file has are skipped.

    device: name in the rows. budget: seconds after which no further point is started. progress: called with (points
    done, points in total). Raises `InputError` if the file is no plain CSV or has rows of another machine.
    """
    start, known = perf_counter(), done(path)
    card.write(card.make(backend, machine(), today()), path)
    effort = effort or timing.Effort(watts=GPU_POWER_SECONDS if backend.kind == "gpu" else 0.0)
    todo = [p for p in points if grid.key(p, device, backend.software) not in known]
    refused, scatter = Counter[str](), list[float]()
    for position, point in enumerate(todo):
        if perf_counter() - start > budget:
            break
        if progress:
            progress(position, len(todo))
        try:
            scatter.append(_measure_point(backend, point, path, device, effort))
        except NotHere as reason:
            refused[str(reason)] += 1
    return Run(
        path=path,
        device=device,
        software=backend.software,
        measured=len(scatter),
        known=len(points) - len(todo),
        left=len(todo) - len(scatter) - refused.total(),
        refused=dict(refused),
        scatter=median(scatter or [NAN]),
        seconds=perf_counter() - start,
    )


def profile_machine(
    path: Path,
    *,
    device: str = "",
    choice: MachineChoice = MachineChoice(),
    size: str = "small",
    budget: float | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> Run:
    """Measure the grid `size` on this machine; implements `perfmodel profile run`.

    path: CSV to append to. device: device name in the rows, "" to derive it from the machine's title. choice: what to
    measure. budget: seconds after which no further point is started, None for no limit. progress: see `measure`.
    Raises the errors of `measure`, `backend` and `stay_on`.
    """
    if choice.socket is not None:
        stay_on(choice.socket)
    chosen = backend(choice.backend, choice.gpu, choice.threads)
    name = device or replace(machine(), title=chosen.title).slug
    run = measure(chosen, everything(chosen, size), path, device=name, budget=budget or float("inf"), progress=progress)
    if choice.collectives and chosen.kind == "gpu":
        import torch

        from perfmodel.profiler import collectives

        for group in collectives.groups(torch.cuda.device_count()):
            run = replace(run, measured=run.measured + collectives.measure(path, device=name, group=group, size=size))
    return run


def _measure_point(backend: Backend, point: Point, path: Path, device: str, effort: timing.Effort) -> float:
    """Measure one point and append it to the CSV at `path`; return the scatter of its repeats (`timing.Timed`)."""
    call = backend.prepare(point)
    found = timing.timed(call, effort, backend.flush, backend.stopwatch)
    watts = timing.watts(call, effort, backend.meter, backend.wait)
    source = f"perfmodel profile run {today()}"
    row = point.row(
        device=device, software=backend.software, time=found.median, power=watts, source=source, licence=LICENCE
    )
    plain.write(row, path, append=True)
    return found.scatter
