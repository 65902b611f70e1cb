"""A simulation as files: one row a request, or a trace that Perfetto and Chrome open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel.simulator.metrics import frame
from perfmodel.simulator.simulation import Simulation

#: Steps and requests beyond this many are left out of a trace; viewers slow down long before.
MOST_EVENTS = 200_000


def write_requests(simulation: Simulation, path: str | Path) -> None:
    """One row a request as CSV or, where the name ends in `.parquet`, Parquet (needs pyarrow)."""
    table, path = frame(simulation), Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: no such folder; create it first")
    if path.suffix != ".parquet":
        table.to_csv(path, index=False)
        return
    try:
        table.to_parquet(path, index=False)
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow; install perfmodel[parquet], or name a .csv file") from None


def trace_events(simulation: Simulation, most: int = MOST_EVENTS) -> list[dict[str, Any]]:
    """Events of the Trace Event Format, times in us: a process a replica with its runs of steps, counters of KV blocks
    and queue, and each request as queue, prefill and decode. At most about `most` events, the earliest."""
    names = [f"{p.name} {k + 1}" for p in simulation.pools for k in range(p.replicas)]
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": i, "args": {"name": name}} for i, name in enumerate(names)
    ]
    for run in simulation.runs[: most // 6]:
        events.extend(_run_events(run))
    for r in np.flatnonzero(simulation.served)[: most // 12]:
        events.extend(_request_events(simulation, int(r)))
    return events


def _run_events(run: Any) -> list[dict[str, Any]]:
    steps, pid, begin = int(run["steps"]), int(run["replica"]), 1e6 * float(run["start"])
    span = 1e6 * (float(run["step"]) * steps + float(run["slope"]) * 0.5 * steps * (steps - 1))
    prompt, active = int(run["prompt"]), int(run["active"])
    kind = "mixed" if prompt and active else "prefill" if prompt else "decode"
    args = {"steps": steps, "prompt_tokens": prompt, "decoding": active}
    return [
        {"ph": "X", "name": kind, "cat": "step", "pid": pid, "tid": 0, "ts": begin, "dur": span, "args": args},
        {"ph": "C", "name": "KV blocks", "pid": pid, "ts": begin, "args": {"used": int(run["used"])}},
        {
            "ph": "C",
            "name": "requests",
            "pid": pid,
            "ts": begin,
            "args": {"waiting": int(run["waiting"]), "running": int(run["running"])},
        },
    ]


def _request_events(simulation: Simulation, r: int) -> list[dict[str, Any]]:
    times = [float(t[r]) for t in (simulation.issued, simulation.admitted, simulation.first, simulation.finish)]
    events: list[dict[str, Any]] = []
    for name, begin, end in zip(("queue", "prefill", "decode"), times[:-1], times[1:], strict=True):
        place = simulation.replica[r] if name == "decode" else simulation.prefiller[r]
        common = {"cat": "request", "name": name, "id": r, "pid": int(place), "tid": 1}
        events += [{"ph": "b", "ts": 1e6 * begin, **common}, {"ph": "e", "ts": 1e6 * end, **common}]
    return events


def write_trace(simulation: Simulation, path: str | Path, most: int = MOST_EVENTS) -> None:
    """Write `trace_events` as JSON for ui.perfetto.dev or chrome://tracing."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: no such folder; create it first")
    events = trace_events(simulation, most)
    path.write_text(json.dumps({"displayTimeUnit": "ms", "traceEvents": events}), encoding="utf-8")
