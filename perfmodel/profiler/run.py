"""Measure a grid of points and append each to a CSV, so that a run that was stopped goes on where it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter

from perfmodel.profiler import card, grid, timing
from perfmodel.profiler.backends.choose import backend
from perfmodel.profiler.backends.protocol import Backend, NotHere
from perfmodel.profiler.grid import Point
from perfmodel.profiler.machine import machine, stay_on
from perfmodel.profiler.record import LICENCE, done, today
from perfmodel.profiles.importers import plain


@dataclass(frozen=True)
class Run:
    """What a run did. measured: points timed now; known: points that were already in the file; left: points the time
    budget did not reach; refused: reason -> points that cannot run here. scatter: median over points of how far apart
    the quartiles of the repeats lie, as a share: a quiet machine shows a few percent. seconds: wall time of it all."""

    path: Path
    device: str
    software: str
    measured: int
    known: int
    left: int
    refused: dict[str, int] = field(default_factory=dict)
    scatter: float = float("nan")
    seconds: float = 0.0

    def rows(self) -> list[dict[str, object]]:
        """One flat row, for tables."""
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
    """All points of the grid `size` that the backend claims to run."""
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
    """Time `points` on `backend` and append them to the plain CSV at `path`.

    device: name the rows carry. budget: seconds after which no further point is begun. progress: called with
    (points done, points in all). Points whose key the file already has are skipped. Raises `InputError` if the file
    is no plain CSV or holds rows of another machine.
    """
    start, known = perf_counter(), done(path)
    card.write(card.make(backend, machine(), today()), path)
    effort = effort or timing.Effort(watts=0.3 if backend.kind == "gpu" else 0.0)
    todo = [p for p in points if grid.key(p, device, backend.software) not in known]
    refused: Counter[str] = Counter()
    scatter: list[float] = []
    left = 0
    for position, point in enumerate(todo):
        if perf_counter() - start > budget:
            left = len(todo) - position
            break
        if progress is not None:
            progress(position, len(todo))
        try:
            scatter.append(_one(backend, point, path, device, effort))
        except NotHere as reason:
            refused[str(reason)] += 1
    there = len(points) - len(todo)
    usual = median(scatter) if scatter else float("nan")
    seconds = perf_counter() - start
    return Run(path, device, backend.software, len(scatter), there, left, dict(refused), usual, seconds)


def profile_machine(
    path: Path,
    *,
    device: str = "",
    backend_name: str = "",
    size: str = "small",
    budget: float | None = None,
    index: int = 0,
    threads: int = 0,
    socket: int | None = None,
    between: bool = False,
    progress: Callable[[float, float], None] | None = None,
) -> Run:
    """Measure the whole grid `size` of this machine; the command behind `perfmodel profile run`.

    device: name for the rows, "" for one made of the machine's title. socket: keep to one socket. between: also time
    collectives between all GPUs. budget: s, None for no limit. Raises as `measure`, `backend` and `stay_on` do.
    """
    if socket is not None:
        stay_on(socket)
    chosen = backend(backend_name, index, threads)
    name = device or replace(machine(), title=chosen.title).slug
    run = measure(chosen, everything(chosen, size), path, device=name, budget=budget or float("inf"), progress=progress)
    if between and chosen.kind == "gpu":
        import torch

        from perfmodel.profiler import collectives

        for group in collectives.groups(torch.cuda.device_count()):
            run = replace(run, measured=run.measured + collectives.measure(path, device=name, group=group, size=size))
    return run


def _one(backend: Backend, point: Point, path: Path, device: str, effort: timing.Effort) -> float:
    """Measure one point and append it; how far its repeats scatter."""
    call = backend.prepare(point)
    found = timing.timed(call, effort, backend.flush, backend.stopwatch)
    watts = timing.watts(call, effort, backend.meter, backend.wait)
    source = f"perfmodel profile run {today()}"
    row = point.row(
        device=device, software=backend.software, time=found.median, power=watts, source=source, licence=LICENCE
    )
    plain.write(row, path, append=True)
    return found.scatter
