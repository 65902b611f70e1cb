"""Write a simulation to files: rows per request, power over time, or a trace that Perfetto and Chrome open."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import InputError, outfile
from perfmodel.simulator.measurement.device_power import watts_of_runs
from perfmodel.simulator.measurement.metrics import frame
from perfmodel.simulator.measurement.power_use import power_series
from perfmodel.simulator.simulation import Simulation, run_durations

#: Most events in a trace; later ones are left out. Chosen: viewers slow down before.
MOST_EVENTS = 200_000
#: Shares of the events that runs and requests may take, so that both fit: a run has 4 events and a request 6.
_EVENTS_PER_RUN, _EVENTS_PER_REQUEST = 8, 12
_US = 1e6  # microseconds per second


def write_requests(simulation: Simulation, path: str | Path) -> None:
    """Write one row per request as CSV or, where the name ends in `.parquet`, as Parquet (needs pyarrow)."""
    table, path = frame(simulation), Path(path)
    if path.suffix != ".parquet":
        outfile.write_text(path, table.to_csv(index=False, lineterminator="\n"))
        return
    try:
        with outfile.replaced(path) as file:
            table.to_parquet(file, index=False)
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow; install perfmodel[parquet], or name a .csv file") from None


def write_power(simulation: Simulation, path: str | Path, interval: float = 0.0) -> None:
    """Write `power_series` as CSV or, where the name ends in `.json`, as a list of JSON rows.

    interval: s; 0 for a few hundred intervals. Raises `InputError` where the watts of the devices are not known.
    """
    import pandas as pd

    table, path = pd.DataFrame(power_series(simulation, interval)), Path(path)
    if not len(table) or table["power_w_per_device"].isna().all():
        raise InputError(f"{path}: no power is known of these devices, so there is nothing to write; give their tdp")
    if path.suffix == ".json":
        outfile.write_text(path, table.to_json(orient="records") + "\n")
        return
    outfile.write_text(path, table.to_csv(index=False, lineterminator="\n"))


def trace_events(simulation: Simulation, most: int = MOST_EVENTS) -> list[dict[str, Any]]:
    """Return events of the Trace Event Format, times in us.

    Each replica is a process, with its runs of steps and counters of KV blocks, waiting and running requests. Each
    request is a queue, a prefill and a decode phase. Of more than about `most` events, the earliest are returned.
    """
    names = [f"{p.name} {k + 1}" for p in simulation.pools for k in range(p.replicas)]
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": i, "args": {"name": name}} for i, name in enumerate(names)
    ]
    runs = simulation.runs[: most // _EVENTS_PER_RUN]
    watts = watts_of_runs(simulation)[: len(runs)]
    for run, duration, drawn in zip(runs, run_durations(runs), watts, strict=True):
        events.extend(_run_events(run, float(duration), float(drawn)))
    for r in np.flatnonzero(simulation.served)[: most // _EVENTS_PER_REQUEST]:
        events.extend(_request_events(simulation, int(r)))
    return events


def _run_events(run: Any, duration: float, watts: float) -> list[dict[str, Any]]:
    """Return the events of one run of steps of a replica: its span, and counters at its begin.

    duration: s. watts: of a device; NaN unknown, and then not among the counters.
    """
    steps, pid, begin, span = int(run["steps"]), int(run["replica"]), _US * float(run["start"]), _US * duration
    prompt, active = int(run["prompt"]), int(run["active"])
    kind = "mixed" if prompt and active else "prefill" if prompt else "decode"
    args = {"steps": steps, "prompt_tokens": prompt, "decoding": active}
    power = [{"ph": "C", "name": "W per device", "pid": pid, "ts": begin, "args": {"drawn": round(watts, 1)}}]
    return [
        *(power if math.isfinite(watts) else []),
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
    """Return the events of request `r`: its queue, prefill and decode phases."""
    times = [float(t[r]) for t in (simulation.issued, simulation.admitted, simulation.first, simulation.finish)]
    events: list[dict[str, Any]] = []
    for name, begin, end in zip(("queue", "prefill", "decode"), times[:-1], times[1:], strict=True):
        place = simulation.replica[r] if name == "decode" else simulation.prefiller[r]
        common = {"cat": "request", "name": name, "id": r, "pid": int(place), "tid": 1}
        events += [{"ph": "b", "ts": _US * begin, **common}, {"ph": "e", "ts": _US * end, **common}]
    return events


def write_trace(simulation: Simulation, path: str | Path, most: int = MOST_EVENTS) -> None:
    """Write at most about `most` events of `trace_events` as JSON for ui.perfetto.dev or chrome://tracing."""
    events = trace_events(simulation, most)
    outfile.write_text(path, json.dumps({"displayTimeUnit": "ms", "traceEvents": events}))
