"""Measure collectives between the GPUs of this machine, or between processes over gloo, with torch.distributed.

There is one process per rank; rank 0 writes the rows. `message_bytes` is defined as in
`perfmodel.costs.rooflines.collectives`: the vector on each device for all-reduce, the full vector for all-gather and
reduce-scatter, the bytes that one device sends for all-to-all and p2p.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from perfmodel.profiler import grid
from perfmodel.profiler.grid import Point, point
from perfmodel.profiler.record import LICENCE, done, today
from perfmodel.profiler.timing import Effort
from perfmodel.profiles.importers import COLLECTIVES, plain

FP32_BYTES = 4
#: Message sizes, bytes, of each grid.
MESSAGES = {"small": (2**12, 2**18, 2**22), "full": tuple(2**p for p in range(10, 31))}


@dataclass(frozen=True)
class Setting:
    """Hold the settings that every rank receives.

    path: CSV to append to. device, software: names in the rows. group: number of ranks. transport: "nccl" (also RCCL)
    or "gloo". meet: file through which the ranks find each other. effort: repeats per point.
    """

    path: str
    device: str
    software: str
    group: int
    transport: str
    meet: str
    effort: Effort


def groups(devices: int) -> tuple[int, ...]:
    """Return the group sizes to measure on a machine with `devices` GPUs: powers of two, and all of them.

    >>> groups(6)
    (2, 4, 6)
    """
    return tuple(sorted({2**p for p in range(1, devices.bit_length()) if 2**p <= devices} | {devices} - {0, 1}))


def measure(
    path: Path, *, device: str, group: int, size: str = "full", transport: str = "nccl", effort: Effort | None = None
) -> int:
    """Measure every collective among `group` ranks and append the rows to `path`; returns the number of points.

    Points that `path` already has are skipped, and so are collectives that the transport does not support. Needs torch,
    and `group` GPUs for "nccl".

    Args:
        path: CSV to append to.
        device: device name in the rows.
        group: number of ranks.
        size: grid of message sizes, a key of `MESSAGES`.
        transport: "nccl" (also RCCL) or "gloo".
        effort: repeats per point.
    """
    import torch
    import torch.multiprocessing as multiprocessing

    software = f"{transport} {_version(torch) if transport == 'nccl' else torch.__version__}"
    every = [point(f, message_bytes=m, group=group, act="fp32") for f in COLLECTIVES for m in MESSAGES[size]]
    known = done(path)
    todo = [p for p in every if grid.key(p, device, software) not in known]
    if todo:
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(
                path=str(path),
                device=device,
                software=software,
                group=group,
                transport=transport,
                meet=f"{folder}/meet",
                effort=effort or Effort(),
            )
            multiprocessing.spawn(_rank, args=(setting, todo), nprocs=group)
    return len(todo)


def _version(torch: Any) -> str:
    """Return the version of NCCL or RCCL."""
    found = torch.cuda.nccl.version()
    return ".".join(str(part) for part in found) if isinstance(found, tuple) else str(found)


def _rank(rank: int, setting: Setting, todo: Sequence[Point]) -> None:
    """Measure the points `todo` in the process of one rank; on rank 0, also append the rows to the CSV."""
    import torch
    import torch.distributed as distributed

    gpu = setting.transport == "nccl"
    where = torch.device(f"cuda:{rank}" if gpu else "cpu")
    if gpu:
        torch.cuda.set_device(where)
    meet = f"file://{setting.meet}"
    distributed.init_process_group(setting.transport, init_method=meet, rank=rank, world_size=setting.group)
    missing: set[str] = set()
    for item in todo:
        if item.family in missing:
            continue
        call = _call(distributed, torch, item, where, rank)
        try:
            time = _median(call, setting.effort, torch.cuda.synchronize if gpu else _nothing, distributed.barrier)
        except (RuntimeError, NotImplementedError):  # unsupported collective: raised on every rank alike
            missing.add(item.family)
            continue
        if rank == 0:
            row = item.row(
                device=setting.device,
                software=setting.software,
                time=time,
                power=float("nan"),
                source=f"perfmodel profile run {today()}",
                licence=LICENCE,
            )
            plain.write(row, Path(setting.path), append=True)
    distributed.destroy_process_group()


def _nothing() -> None:
    """Return at once, since on a processor a call returns when it is done."""


def _median(
    call: Callable[[], object], effort: Effort, wait: Callable[[], object], barrier: Callable[[], object]
) -> float:
    """Return the median seconds of a call that all ranks make together. Every rank makes the same number of calls.

    wait: returns when the device is idle. barrier: returns when all ranks have reached it.
    """
    times = []
    for number in range(effort.warmup + effort.repeats):
        barrier()
        wait()
        start = perf_counter()
        call()
        wait()
        if number >= effort.warmup:
            times.append(perf_counter() - start)
    return statistics.median(times)


def _call(distributed: Any, torch: Any, item: Point, where: Any, rank: int) -> Callable[[], object]:
    """Return the collective call of a point on this rank. Vectors are fp32 and divisible by the group.

    where: the torch device that holds the vectors.
    """
    group = item["group"]
    count = max(group, item["message_bytes"] // FP32_BYTES // group * group)
    whole = torch.ones(count, device=where)
    part = torch.ones(count // group, device=where)
    other = torch.empty_like(whole)
    # torch 2.13 renamed two functions and warns about the former names
    scatter = getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
    gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
    calls: dict[str, Callable[[], object]] = {
        "all_reduce": lambda: distributed.all_reduce(whole),
        "all_gather": lambda: gather(whole, part),
        "reduce_scatter": lambda: scatter(part, whole),
        "all_to_all": lambda: distributed.all_to_all_single(other, whole),
        "p2p": lambda: _pass_on(distributed, whole, other, rank),
    }
    return calls[item.family]


def _pass_on(distributed: Any, whole: Any, other: Any, rank: int) -> None:
    """Send `whole` from rank 0 to rank 1, which receives it in `other`; other ranks do nothing."""
    if rank == 0:
        distributed.send(whole, 1)
    elif rank == 1:
        distributed.recv(other, 0)
