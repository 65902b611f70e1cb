"""Read the `[workload]` and `[slo]` tables of a scenario, and those of each request class of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from hwdb import InputError, infile, nearest
from hwdb.tomlfile import Table
from perfmodel import Objective, Slo, Workload
from perfmodel.arrays import NAN
from perfmodel.workload import (
    ARRIVALS,
    MOST_CLASSES,
    SLO_KEYS,
    Histogram,
    Peak,
    Period,
    Trace,
    histogram,
    read_histogram,
    slo_keys_like,
)
from search.scenario.load_shape import (
    BY_HOUR,
    POISSON_CV,
    UNKNOWN,
    Timing,
    sized_for_peak,
    stated_by_hour,
    timing_of_histogram,
    timing_of_trace,
)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

#: Keys that say how long requests are; a table holds exactly one of them.
LENGTHS = ("dataset", "histogram", "trace", "input_tokens")
#: Keys that say how a trace is read.
TOLD = ("sort", "longest_tokens", "time_unit", "block_tokens")
#: Keys that say how requests arrive -> field of `Workload`; a table holds at most one of them.
LOADS = {"request_rate_rps": "rate", "concurrency": "concurrency", "n_requests": "n_requests"}
#: Loads that may state the requests of the run beside them, as n_requests; without, the run has no end.
OF_A_RUN = ("request_rate_rps", "concurrency")
#: Number of input and output classes that a trace is cut into, where `classes` does not say.
DEFAULT_CLASSES = (8, 4)
#: Allowed distance of the sum of shares from 1. Chosen: rounding of shares written with seven digits.
SHARE_SUM_TOLERANCE = 1e-6
#: Keys of a `[[fleet.class]]` table that say how long its requests are and how they arrive.
CLASS_KEYS = (
    *LENGTHS,
    "output_tokens",
    "share",
    "prefix_hit",
    "prefix_cache",
    BY_HOUR,
    "cv",
    "isl_dist",
    "classes",
    "sort",
    "longest_tokens",
    "time_unit",
    "block_tokens",
)
#: Keys of a `[workload]` table.
WORKLOAD_KEYS = (*CLASS_KEYS, *LOADS, "arrival", "size_for")


@dataclass(frozen=True)
class Request:
    """A workload, and the trace file that it came from.

    trace: None where the workload does not come from a trace. told: what the scenario says of the trace, as arguments
    of `read_trace`. remarks: what the reader of the trace assumed or left out. closed: True where the scenario asks for
    a closed loop by name. peak: the busiest time of the load, in requests/s of this workload; None where the load is
    steady, or its shape is not known. for_peak: True where the rate of the workload is that of the peak. periods: the
    load over time; () where it is steady or not known. rate: requests/s that the source of the lengths shows, at its
    peak where it has one; NaN where it shows none. load_remark: what became of a rate that the source shows and the
    scenario does not state; "" otherwise.
    """

    workload: Workload
    trace: Path | None = None
    told: tuple[tuple[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()
    closed: bool = False
    peak: Peak | None = None
    for_peak: bool = False
    periods: tuple[Period, ...] = ()
    rate: float = NAN
    load_remark: str = ""

    @property
    def mean_rate(self) -> float:
        """Return the mean rate of the load in requests/s, NaN where it has none."""
        return self.workload.rate / (self.peak.ratio if self.peak is not None and self.for_peak else 1.0)

    def read_trace(self) -> Trace:
        """Read the trace, rescaled to the mean rate of the load; raise `InputError` where the scenario names none."""
        if self.trace is None:
            raise InputError('the scenario\'s [workload] names no trace; add trace = "file.csv" to replay one')
        trace = _read_once(self.trace, self.trace.stat().st_mtime_ns, self.told)
        rate = self.mean_rate
        return trace.at_rate(rate) if rate == rate and trace.rate == trace.rate else trace


@lru_cache(maxsize=1)
def _read_once(path: Path, changed: int, told: tuple[tuple[str, Any], ...]) -> Trace:  # noqa: ARG001 - part of the key
    """Read a trace; the last one is kept, since lengths, contexts and replays read the same file.

    changed: when the file last changed, so that a changed one is read again. told: arguments of `read_trace`.
    """
    from perfmodel.workload import read_trace

    return read_trace(path, **dict(told))


def _told(table: Table) -> tuple[tuple[str, Any], ...]:
    """Read what a table says of its trace, as arguments of `read_trace`."""
    if not any(key in table for key in ("trace", *TOLD)):
        return ()  # the readers of traces are not loaded
    from perfmodel.workload import LONGEST, TIME_UNITS

    idle = next((k for k in ("time_unit", "block_tokens") if k in table and "trace" not in table), "")
    if idle:
        raise table.error(idle, "only goes with a trace; leave it out")
    return (
        ("sort", table.flag("sort", False)),
        ("longest", table.whole("longest_tokens", LONGEST, least=1)),
        ("time_unit", table.text("time_unit", "", choices=TIME_UNITS)),
        ("block_tokens", table.whole("block_tokens", 0, least=1)),
    )


def relay(
    table: Table, key: str, call: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """Call `call` and return its result; an `InputError` that it raises gets the place of `key` before its message.

    table, key: where the scenario file gives the value that `call` checks.
    """
    try:
        return call(*arguments, **named)
    except InputError as error:
        raise table.error(key, str(error)) from None


def wholes(table: Table, key: str) -> tuple[int, ...]:
    """Read the whole numbers of 1 or more at `key`, each once; empty when the key is absent."""
    values = table.numbers(key, (), least=1)
    wrong = next((v for v in values if v != int(v)), None)
    if wrong is not None:
        raise table.error(key, f"{wrong:g} is not a whole number; give whole numbers of 1 or more")
    return tuple(dict.fromkeys(int(v) for v in values))


def file_of(table: Table, key: str, folder: Path) -> Path:
    """Return the path of the file that `key` names; it is relative to `folder`, that of the scenario."""
    path = folder / infile.expanded(table.text(key))
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else [])
        hint = f"did you mean {near[0]!r}?" if near else "give a path relative to the scenario file"
        raise table.error(key, f"no file {str(path)!r}; {hint}")
    return path


def _refuse_other_names(table: Table, *, any_key: bool) -> None:
    """Raise `InputError` where a table has a length under the name of a flag, or any unknown key if `any_key`."""
    flag = next((key for key in ("isl", "input_len", "prompt_tokens") if key in table), None)
    if flag:
        raise table.error(flag, "no key of a scenario; lengths are called input_tokens and output_tokens")
    if any_key:
        table.done(also=WORKLOAD_KEYS)


def read_request(table: Table, folder: Path, *, load: bool = True, fills: bool = False) -> Request:
    """Read the workload that a table describes.

    load: False for a fleet class, whose load may change over the day; the workload then has 1 request/s. fills: True
    where the hardware is loaded as far as it goes unless the table states a load.
    """
    given = [k for k in LENGTHS if k in table]
    if len(given) != 1:
        _refuse_other_names(table, any_key=load and not given)
        found = f"{' and '.join(given)} are given" if given else "nothing says how long requests are"
        raise table.error(given[1] if given else "", f"{found}; give exactly one of {', '.join(LENGTHS)}")
    told = _told(table)
    path = file_of(table, "trace", folder) if given == ["trace"] else None
    trace = relay(table, "trace", _read_once, path, path.stat().st_mtime_ns, told) if path is not None else None
    shape, timing = _lengths(table, folder, trace)
    timing = stated_by_hour(table) if BY_HOUR in table else timing
    shown, stated = timing, any(k in table for k in (*LOADS, BY_HOUR))
    if fills and load and not stated and not any(k in table for k in ("arrival", "size_for")):
        timing = UNKNOWN
    for_peak = load and sized_for_peak(table, timing, stated=any(k in table for k in LOADS))
    numbers = _load(table, timing, for_peak=for_peak) if load else _of_one_request(table, timing)
    workload = relay(table, given[0], Workload.from_histogram, shape, **numbers)
    if "isl_dist" in table:
        workload = relay(table, "isl_dist", workload.at, isl_dist=table.text("isl_dist"))
    closed = table.text("arrival", "") == "closed" if load else False
    if load:
        ratio = timing.peak.ratio if timing.peak is not None and for_peak else 1.0
        timing = timing.at_mean(workload.rate / ratio) if workload.arrival == "open" else Timing()
    return Request(
        workload=_with_hits(table, workload),
        trace=path,
        told=told,
        remarks=trace.remarks if trace is not None else (),
        closed=closed,
        peak=timing.peak,
        for_peak=for_peak and workload.arrival == "open",
        periods=timing.periods,
        rate=timing.rate if timing.peak is None else timing.peak.rate,
        load_remark="" if stated or not load else _of_own_rate(shown, given[0], taken=workload.arrival == "open"),
    )


def _of_own_rate(shown: Timing, source: str, *, taken: bool) -> str:
    """Say what became of the rate that the source of the lengths shows; "" where it shows none.

    Nor where a trace of the user's own is served as it is. shown: when its requests arrive. source: key of the scenario
    that names it. taken: whether the rate is the load.
    """
    if shown.rate != shown.rate or (taken and source == "trace"):
        return ""
    rate, source = f"{shown.rate:.3g}", source.replace("dataset", "data set")
    if taken:
        return f"The load is that of the {source}, {rate} requests/s: give yours with request_rate_rps in [workload]"
    text = f"The {source} has {rate} requests/s, which is not taken as the load: the ranking asks for the most traffic"
    return f"{text}; request_rate_rps = {rate} in [workload] plans for it"


def _lengths(table: Table, folder: Path, trace: Trace | None) -> tuple[Histogram, Timing]:
    """Read how long requests are, from the one source that the table names.

    trace: the one that it names, None without. Returns (length classes, when requests arrive as far as is known).
    """
    if "classes" in table and trace is None:
        raise table.error("classes", "only a trace is cut into classes; leave it out")
    idle = [k for k in ("output_tokens", "share") if k in table and "input_tokens" not in table]
    if idle:
        raise table.error(idle[0], "only goes with input_tokens; the named source brings its own, leave this out")
    if "dataset" in table:
        shape = relay(table, "dataset", histogram, table.text("dataset"))
        return shape, timing_of_histogram(shape)
    if "histogram" in table:
        shape = relay(table, "histogram", read_histogram, file_of(table, "histogram", folder))
        return shape, timing_of_histogram(shape)
    if trace is not None:
        parts = table.numbers("classes", DEFAULT_CLASSES, least=1)
        if len(parts) != 2:
            raise table.error("classes", f"{list(parts)} is not two numbers; give classes for input and output: [8, 4]")
        cut = relay(table, "classes", Histogram.from_trace, trace, (int(parts[0]), int(parts[1])))
        return cut, timing_of_trace(trace)
    return _stated_classes(table), UNKNOWN


def _stated_classes(table: Table) -> Histogram:
    """Read length classes that the scenario lists: two numbers, or lists of equal length with their shares."""
    columns = [np.array(table.numbers(k, least=1)) for k in ("input_tokens", "output_tokens")]
    count = max(len(c) for c in columns)
    if count > MOST_CLASSES:
        raise table.error("input_tokens", f"{count} length classes are too many; give at most {MOST_CLASSES}")
    for key, column in zip(("input_tokens", "output_tokens"), columns, strict=True):
        if len(column) not in (1, count):
            raise table.error(key, f"{len(column)} lengths beside {count}; give one for all classes or one each")
    share = np.array(table.numbers("share", [1 / count] * count, least=0))
    if len(share) != count:
        raise table.error("share", f"{len(share)} shares for {count} classes; give one each")
    if abs(share.sum() - 1) > SHARE_SUM_TOLERANCE:
        raise table.error("share", f"the shares sum to {share.sum():g}; make them sum to 1")
    prompt, output = (np.broadcast_to(c, (count,)).astype(float) for c in columns)
    return Histogram(prompt, output, share=share, prefix_hit=np.zeros(count), name=table.file, source=table.file)


def _load(table: Table, timing: Timing, *, for_peak: bool) -> dict[str, Any]:
    """Read how requests arrive, as arguments of `Workload`: from the table, else as `timing` shows, else none.

    for_peak: True for the load at its peak. A rate that the table states is then its mean.
    """
    given = [k for k in (*LOADS, BY_HOUR) if k in table]
    of_a_run = "n_requests" in given and given[0] in OF_A_RUN
    if len(given) > 1 + of_a_run:
        raise table.error(given[1], f"{' and '.join(given)} contradict each other; give one")
    numbers: dict[str, Any] = {LOADS[k]: table.number(k, above=0) for k in given if k in LOADS}
    arrival = table.text("arrival", "", choices=ARRIVALS)
    if not numbers and arrival in ("", "open") and timing.rate == timing.rate:
        numbers["rate"] = timing.rate
    if for_peak and "rate" in numbers and timing.peak is not None:
        numbers["rate"] = numbers["rate"] * timing.peak.ratio if given[:1] == ["request_rate_rps"] else timing.peak.rate
    if arrival == "open" and "rate" not in numbers:
        raise table.error("arrival", 'arrival = "open" needs request_rate_rps; add it')
    if arrival == "offline" and "n_requests" not in numbers:
        raise table.error("arrival", 'arrival = "offline" needs n_requests; add it')
    cv = _cv(timing, for_peak=for_peak) if "rate" in numbers else POISSON_CV
    numbers["cv"] = table.number("cv", cv, least=0)
    return {**numbers, "arrival": arrival or None}


def _of_one_request(table: Table, timing: Timing) -> dict[str, Any]:
    """Return the load of a fleet class as arguments of `Workload`: 1 request/s, with the gaps that its rate goes with.

    A stated rate goes with those of the whole trace, as in `[workload]`; the rate of an hour with those of the hour.
    """
    return {"rate": 1.0, "cv": table.number("cv", _cv(timing, for_peak=not any(k in table for k in LOADS)), least=0)}


def _cv(timing: Timing, *, for_peak: bool) -> float:
    """Return the coefficient of variation of the gaps between arrivals, that of the peak where it is asked for.

    The gaps of an unsteady load vary more over the whole trace than at any time of it.
    """
    cv = timing.peak.cv if for_peak and timing.peak is not None else timing.cv
    return cv if cv == cv else POISSON_CV


def _with_hits(table: Table, workload: Workload) -> Workload:
    """Return the workload with the prefix hits (cached share of a prompt) that the table gives.

    Without them it keeps the source's own, unless `prefix_cache = false`.
    """
    cached = table.flag("prefix_cache", True)
    if "prefix_hit" in table:
        hits = table.numbers("prefix_hit", least=0)
        if max(hits) > 1:
            raise table.error("prefix_hit", f"{max(hits):g} is not a share; give the cached share of a prompt, 0 to 1")
        return relay(table, "prefix_hit", workload.at, prefix_hit=np.array(hits))
    return workload if cached else workload.at(prefix_hit=np.zeros(1))


def read_slo(table: Table) -> Slo:
    """Read the bounds of an `[slo]` table in milliseconds: `ttft_ms_p90 = 500`, `tpot_ms = 50` (the mean)."""
    bounds = []
    for key in table.keys():  # noqa: SIM118 - a Table is no mapping
        if key not in SLO_KEYS:
            near = slo_keys_like(key)
            hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
            raise table.error(key, f"unknown SLO {key!r}; {hint or 'write for example ttft_ms_p90 or tpot_ms'}")
        bounds.append(Objective.from_key(key, table.number(key, above=0, unit="milliseconds")))
    return Slo(tuple(bounds))
