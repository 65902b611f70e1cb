"""Check what must hold for a trace of any format: lengths that a model can serve, arrivals in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwdb import InputError
from perfmodel.workload.traces.parsed import Parsed
from perfmodel.workload.traces.trace import Trace


def checked(parsed: Parsed, path: str, *, sort: bool, longest: int) -> Trace:
    """Check a trace and return it in order of arrival, with arrivals counted from the first request.

    path: what messages call the file. sort: put requests into order of arrival instead of refusing an unsorted file.
    longest: tokens above which a length is refused. Raises `InputError` that names line, field, value and way out.
    """
    _check_lengths(parsed, path, longest)
    trace, lines = parsed.trace, parsed.lines
    negative = np.flatnonzero(trace.arrival < 0)
    if len(negative):
        wrong = f"arrival {trace.arrival[negative[0]]:g} s is negative; count from the first request"
        raise InputError(f"{path}, line {lines[negative[0]]}: {wrong}")
    gaps = np.diff(trace.arrival)
    back = np.flatnonzero(gaps < 0)
    if len(back) and not sort:
        wrong = f"arrives {-gaps[back[0]]:g} s before the line above, as {len(back)} lines of the file do"
        raise InputError(f"{path}, line {lines[back[0] + 1]}: {wrong}; sort the file or ask for it (--sort)")
    if len(back):
        trace = trace.take(np.argsort(trace.arrival, kind="stable"))
    return replace(trace, arrival=trace.arrival - trace.arrival[0])


def _check_lengths(parsed: Parsed, path: str, longest: int) -> None:
    """Raise `InputError` for the first prompt or output without a token or with more than `longest` tokens."""
    for column, tokens in (("input", parsed.trace.input), ("output", parsed.trace.output)):
        short, long = np.flatnonzero(tokens < 1), np.flatnonzero(tokens > longest)
        if len(short):
            wrong = f"{column} of {tokens[short[0]]} tokens; every request needs 1 or more: drop the line"
            raise InputError(f"{path}, line {parsed.lines[short[0]]}: {wrong}")
        if len(long):
            wrong = f"{column} of {tokens[long[0]]} tokens is above the {longest} taken for real"
            raise InputError(f"{path}, line {parsed.lines[long[0]]}: {wrong}; correct the line or raise `longest`")
