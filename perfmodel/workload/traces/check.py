"""Check what must hold for a trace of any format: lengths that a model can serve, times in order, nothing twice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.workload.traces.blocks import with_block_size
from perfmodel.workload.traces.content import SHOWN
from perfmodel.workload.traces.parsed import Parsed
from perfmodel.workload.traces.trace import Trace
from perfmodel.workload.traces.units import in_seconds

#: Share of requests that arrive with another one from which whole seconds are told. Chosen: fewer move no mean much.
SHARED_SECONDS = 0.1


@dataclass(frozen=True)
class Asked:
    """What the user states of a trace.

    sort: put requests into order of arrival instead of refusing an unsorted file. longest: tokens above which a length
    is refused. time_unit: unit of its times, "" to find out. block_tokens: tokens a hashed block, 0 to find out.
    """

    sort: bool = False
    longest: int = 0
    time_unit: str = ""
    block_tokens: int = 0


def checked(parsed: Parsed, path: str, asked: Asked) -> Trace:
    """Check a trace and return it in order of arrival, with arrivals counted from the first request, in seconds.

    Failed requests are dropped, with a remark. path: what messages call the file. Raises `InputError` that names line,
    field, value and way out.
    """
    _check_lengths(parsed, path, asked.longest)
    _check_ids(parsed, path)
    parsed = with_block_size(parsed, path, asked.block_tokens)
    _check_start(parsed, path)
    parsed = _answered(parsed, path)
    parsed = in_seconds(parsed, path, asked.time_unit)
    trace = _ordered(parsed, path, asked.sort or parsed.unordered)
    trace = replace(trace, remarks=(*parsed.remarks, *_coarse(trace.arrival)))
    return replace(trace, arrival=trace.arrival - trace.arrival[0])


def _coarse(arrival: Array) -> tuple[str, ...]:
    """Return a remark where arrivals, seconds in order, are in whole seconds that many requests share, else nothing."""
    _, times = np.unique(arrival, return_counts=True)
    together = times[times > 1].sum() / len(arrival)
    if len(times) == 1 or together < SHARED_SECONDS or (arrival != np.floor(arrival)).any():
        return ()
    return (
        f"times are in whole seconds, and {100.0 * together:.0f} % of the requests share theirs (up to {times.max()} "
        "at once): as bursts they wait longer than requests that are spread over the second",
    )


def _check_lengths(parsed: Parsed, path: str, longest: int) -> None:
    """Raise `InputError` for the first prompt without a token, negative output, or length above `longest` tokens."""
    for column, tokens, least in (("input", parsed.trace.input, 1), ("output", parsed.trace.output, 0)):
        short, long = np.flatnonzero(tokens < least), np.flatnonzero(tokens > longest)
        if len(short):
            others = f" ({len(short)} such)" if len(short) > 1 else ""
            wrong = f"{column} of {tokens[short[0]]} tokens{others}; every request needs 1 or more: drop the line"
            raise InputError(f"{parsed.place(path, short[0])}: {wrong}")
        if len(long):
            wrong = f"{column} of {tokens[long[0]]} tokens is above the {longest} taken for real"
            raise InputError(f"{parsed.place(path, long[0])}: {wrong}; correct the line or raise `longest`")


def _check_ids(parsed: Parsed, path: str) -> None:
    """Raise `InputError` where two requests have the same id."""
    if parsed.ids is None:
        return
    name, ids = parsed.ids
    first: dict[str, int] = {}
    for row, one in enumerate(map(str, ids.tolist())):
        if first.setdefault(one, row) != row:
            text = f"{name} {one[:SHOWN]} is that of {parsed.word} {parsed.lines[first[one]]} too"
            raise InputError(f"{parsed.place(path, row)}: {text}; drop the copy, or rename the column if it is no id")


def _check_start(parsed: Parsed, path: str) -> None:
    """Raise `InputError` for a negative time."""
    negative = np.flatnonzero(parsed.trace.arrival < 0)
    if len(negative):
        unit = parsed.clock.unit or "as written"
        wrong = f"arrival {parsed.trace.arrival[negative[0]]:g} {unit} is negative; count from the first request"
        raise InputError(f"{parsed.place(path, negative[0])}: {wrong}")


def _answered(parsed: Parsed, path: str) -> Parsed:
    """Return the requests that have an answer, with a remark on how many have none; `InputError` where none has one."""
    empty = parsed.trace.output < 1
    marked = np.zeros(len(empty), dtype=bool) if parsed.failed is None else parsed.failed
    kept = ~(empty | marked)
    if kept.all():
        return parsed
    if not kept.any():
        wrong = "output of 0 tokens" if empty[0] else "the request failed"
        text = f"{wrong}; every request needs 1 or more, and none of the {len(kept)} in the file has an answer"
        raise InputError(f"{parsed.place(path, 0)}: {text}; give a trace of requests that were served")
    dropped = int((~kept).sum())
    why = [
        f"{int(rows.sum())} {what}"
        for rows, what in ((marked, "failed or cut short"), (empty & ~marked, "without output tokens (failed)"))
        if rows.any()
    ]
    share = 100.0 * dropped / len(kept)
    remark = f"{dropped} of {len(kept)} requests ({share:.2g} %) left out: {' and '.join(why)}"
    trace, lines = parsed.trace.take(np.flatnonzero(kept)), parsed.lines[kept]
    return replace(parsed, trace=trace, lines=lines, failed=None, ids=None, remarks=(*parsed.remarks, remark))


def _ordered(parsed: Parsed, path: str, sort: bool) -> Trace:
    """Return the trace in order of arrival; raise `InputError` where it is not and `sort` is False."""
    trace = parsed.trace
    gaps = np.diff(trace.arrival)
    back: NDArray[np.int64] = np.flatnonzero(gaps < 0)
    if not len(back):
        return trace
    if not sort:
        count = "1 line of the file does" if len(back) == 1 else f"{len(back)} lines of the file do"
        wrong = f"arrives {-gaps[back[0]]:g} s before the line above, as {count}"
        way_out = "sort the file, or set sort = true in [workload] (--sort)"
        raise InputError(f"{parsed.place(path, int(back[0]) + 1)}: {wrong}; {way_out}")
    return trace.take(np.argsort(trace.arrival, kind="stable"))
