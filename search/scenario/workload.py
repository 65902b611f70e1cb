"""Read the `[workload]` and `[slo]` tables of a scenario, and those of each request class of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from hwdb import InputError, nearest
from hwdb.tomlfile import Table
from perfmodel import Objective, Slo, Workload
from perfmodel.arrays import NAN
from perfmodel.workload import ARRIVALS, LONGEST, SLO_KEYS, Histogram, Trace, histogram, read_histogram, read_trace

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

#: Keys that say how long requests are; a table holds exactly one of them.
LENGTHS = ("dataset", "histogram", "trace", "input_tokens")
#: Keys that say how requests arrive -> field of `Workload`; a table holds at most one of them.
LOADS = {"request_rate_rps": "rate", "concurrency": "concurrency", "n_requests": "n_requests"}
#: Number of input and output classes that a trace is cut into, where `classes` does not say.
DEFAULT_CLASSES = (8, 4)
#: Allowed distance of the sum of shares from 1. chosen: rounding of shares written with seven digits.
SHARE_SUM_TOLERANCE = 1e-6
#: Coefficient of variation of the gaps between arrivals of a Poisson process.
POISSON_CV = 1.0
#: Keys of a `[workload]` table.
WORKLOAD_KEYS = (
    *LENGTHS,
    "output_tokens",
    "share",
    "prefix_hit",
    "prefix_cache",
    *LOADS,
    "arrival",
    "cv",
    "isl_dist",
    "classes",
    "sort",
    "longest_tokens",
)


@dataclass(frozen=True)
class Request:
    """A workload, and the trace file that it came from.

    trace: None where the workload does not come from a trace. sort: True where an unsorted trace is sorted by arrival.
    longest: tokens above which a length in the trace is taken for an error. closed: True where the scenario asks for a
    closed loop by name.
    """

    workload: Workload
    trace: Path | None = None
    sort: bool = False
    longest: int = LONGEST
    closed: bool = False

    def read_trace(self) -> Trace:
        """Read the trace, rescaled to the workload's rate; raise `InputError` when the scenario names no trace."""
        if self.trace is None:
            raise InputError('the scenario\'s [workload] names no trace; add trace = "file.csv" to replay one')
        trace = _read_once(self.trace, self.trace.stat().st_mtime_ns, sort=self.sort, longest=self.longest)
        rate = self.workload.rate
        return trace.at_rate(rate) if rate == rate and trace.rate == trace.rate else trace


@lru_cache(maxsize=1)
def _read_once(path: Path, changed: int, *, sort: bool, longest: int) -> Trace:  # noqa: ARG001 - part of the key
    """Read a trace; the last one is kept, since lengths, contexts and replays read the same file.

    changed: when the file last changed, so that a changed one is read again.
    """
    return read_trace(path, sort=sort, longest=longest)


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
    """Read the whole numbers of 1 or more at `key`; empty when the key is absent."""
    values = table.numbers(key, (), least=1)
    wrong = next((v for v in values if v != int(v)), None)
    if wrong is not None:
        raise table.error(key, f"{wrong:g} is not a whole number; give whole numbers of 1 or more")
    return tuple(int(v) for v in values)


def file_of(table: Table, key: str, folder: Path) -> Path:
    """Return the path of the file that `key` names; it is relative to `folder`, that of the scenario."""
    path = folder / Path(table.text(key)).expanduser()
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else [])
        hint = f"did you mean {near[0]!r}?" if near else "give a path relative to the scenario file"
        raise table.error(key, f"no file {str(path)!r}; {hint}")
    return path


def read_request(table: Table, folder: Path, *, load: bool = True) -> Request:
    """Read the workload that a table describes.

    load: False where the table has no rate of this form, as for a fleet class; the workload then has 1 request/s.
    """
    given = [k for k in LENGTHS if k in table]
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "nothing says how long requests are"
        raise table.error(given[1] if given else "", f"{found}; give exactly one of {', '.join(LENGTHS)}")
    sort, longest = table.flag("sort", False), table.whole("longest_tokens", LONGEST, least=1)
    trace = file_of(table, "trace", folder) if given == ["trace"] else None
    shape, timing = _lengths(table, folder, trace, sort, longest)
    numbers = _load(table, timing) if load else {"rate": 1.0}
    workload = relay(table, given[0], Workload.from_histogram, shape, **numbers)
    if "isl_dist" in table:
        workload = relay(table, "isl_dist", workload.at, isl_dist=table.text("isl_dist"))
    closed = table.text("arrival", "") == "closed" if load else False
    return Request(_with_hits(table, workload), trace, sort, longest, closed)


def _lengths(
    table: Table, folder: Path, trace: Path | None, sort: bool, longest: int
) -> tuple[Histogram, tuple[float, float]]:
    """Read how long requests are, from the one source that the table names.

    Returns (length classes, (requests/s, coefficient of variation of the gaps between arrivals) that the source shows).
    NaN requests/s where the source shows none.
    """
    if "classes" in table and trace is None:
        raise table.error("classes", "only a trace is cut into classes; leave it out")
    idle = [k for k in ("output_tokens", "share") if k in table and "input_tokens" not in table]
    if idle:
        raise table.error(idle[0], "only goes with input_tokens; the named source brings its own, leave this out")
    if "dataset" in table:
        shape = relay(table, "dataset", histogram, table.text("dataset"))
        return shape, (shape.rate, POISSON_CV)
    if "histogram" in table:
        shape = relay(table, "histogram", read_histogram, file_of(table, "histogram", folder))
        return shape, (shape.rate, POISSON_CV)
    if trace is not None:
        read = relay(table, "trace", _read_once, trace, trace.stat().st_mtime_ns, sort=sort, longest=longest)
        parts = table.numbers("classes", DEFAULT_CLASSES, least=1)
        if len(parts) != 2:
            raise table.error("classes", f"{list(parts)} is not two numbers; give classes for input and output: [8, 4]")
        return Histogram.from_trace(read, (int(parts[0]), int(parts[1]))), (read.rate, read.cv)
    return _stated_classes(table), (NAN, POISSON_CV)


def _stated_classes(table: Table) -> Histogram:
    """Read length classes that the scenario lists: two numbers, or lists of equal length with their shares."""
    columns = [np.array(table.numbers(k, least=1)) for k in ("input_tokens", "output_tokens")]
    count = max(len(c) for c in columns)
    for key, column in zip(("input_tokens", "output_tokens"), columns, strict=True):
        if len(column) not in (1, count):
            raise table.error(key, f"{len(column)} lengths beside {count}; give one for all classes or one each")
    share = np.array(table.numbers("share", [1 / count] * count, least=0))
    if len(share) != count:
        raise table.error("share", f"{len(share)} shares for {count} classes; give one each")
    if abs(share.sum() - 1) > SHARE_SUM_TOLERANCE:
        raise table.error("share", f"the shares sum to {share.sum():g}; make them sum to 1")
    prompt, output = (np.broadcast_to(c, (count,)).astype(float) for c in columns)
    return Histogram(prompt, output, share=share, prefix_hit=np.zeros(count), name="typed", source=table.file)


def _load(table: Table, timing: tuple[float, float]) -> dict[str, Any]:
    """Read how requests arrive, as arguments of `Workload`: from the table, else as the source shows, else none.

    timing: requests/s and coefficient of variation of the gaps between arrivals in the source, NaN unknown.
    """
    given = [k for k in LOADS if k in table]
    if len(given) > 1:
        raise table.error(given[1], f"{' and '.join(given)} contradict each other; give one")
    numbers: dict[str, Any] = {LOADS[k]: table.number(k, above=0) for k in given}
    arrival = table.text("arrival", "", choices=ARRIVALS)
    if not given and arrival in ("", "open") and timing[0] == timing[0]:
        numbers["rate"] = timing[0]
    if arrival == "open" and "rate" not in numbers:
        raise table.error("arrival", 'arrival = "open" needs request_rate_rps; add it')
    if arrival == "offline" and "n_requests" not in numbers:
        raise table.error("arrival", 'arrival = "offline" needs n_requests; add it')
    cv = timing[1] if "rate" in numbers and timing[1] == timing[1] else POISSON_CV
    numbers["cv"] = table.number("cv", cv, least=0)
    return {**numbers, "arrival": arrival or None}


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
            near = nearest(key, SLO_KEYS)
            hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
            raise table.error(key, f"unknown SLO {key!r}; {hint or 'write for example ttft_ms_p90 or tpot_ms'}")
        bounds.append(Objective.from_key(key, table.number(key, above=0, unit="milliseconds")))
    return Slo(tuple(bounds))
