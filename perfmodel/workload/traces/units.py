"""Settle in which unit the times of a trace are written, by evidence: a trace in seconds that is read as milliseconds
would be planned at 1,000 times its rate.

In order of weight: the unit that the user states (`time_unit`), the unit in the name of the column, times since 1970
(whose size shows the unit), and the unit of the format where the rate that follows is one that traces have. Where these
leave two units, or contradict each other, the file is refused with the rates that each unit would give.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN, Array
from perfmodel.workload.traces.parsed import Clock, Parsed, with_article

#: Seconds of each unit of time.
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
#: Units that times may be in.
TIME_UNITS = tuple(SECONDS)
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
#: Requests/s between which a trace lies whose unit nothing states. Chosen: published traces have 0.2 to 60 requests/s
#: (BurstGPT 0.3, Mooncake 3.4, Bailian 5, Azure 2023 2.6 and 5.5, Azure 2024 about 28 and 45).
PLAUSIBLE = (0.01, 100.0)
#: Requests from which a rate is too low to be plausible. Chosen: a few lines by hand may be far apart.
FEW = 20
#: Times, in seconds since 1970, that are dates: 1985 to 2096. No recording lasts so long.
EPOCH = (5e8, 4e9)
#: How to settle a unit.
WAY_OUT = 'state time_unit = "s", "ms", "us" or "ns" in [workload], or name the column with its unit, such as arrival_s'


def in_seconds(parsed: Parsed, path: str, asked: str) -> Parsed:
    """Return the trace with arrivals in seconds, and a remark where the unit had to be found out.

    asked: the unit that the user states, "" without. Raises `InputError` with the evidence where the unit is unclear.
    """
    times, clock = parsed.trace.arrival, parsed.clock
    if asked and asked not in SECONDS:
        raise InputError(f"time_unit {asked!r} is unknown; give one of {', '.join(SECONDS)}")
    if not len(times) or np.isnan(times).all():
        if asked:
            raise InputError(f"{path}: time_unit is given, but the trace has no times; leave it out")
        return parsed
    if asked and clock.stated and clock.unit != asked:
        text = f"time_unit = {asked!r} contradicts {clock.field}, which is in {NAMES[clock.unit]}"
        raise InputError(f"{path}: {text}; leave time_unit out or correct the column")
    unit, remark = (asked, "") if asked else _settled(times, clock, path)
    trace = replace(parsed.trace, arrival=times * SECONDS[unit])
    return replace(parsed, trace=trace, remarks=(*parsed.remarks, *([remark] if remark else [])))


def _settled(times: Array, clock: Clock, path: str) -> tuple[str, str]:
    """Return (unit of the times, remark on how it was found or "")."""
    if clock.stated:
        return clock.unit, ""
    start = float(times.min())
    dated = next((u for u, size in SECONDS.items() if EPOCH[0] <= start * size < EPOCH[1]), "")
    if dated:
        known = dated == clock.unit
        return dated, "" if known else f"{clock.field} is taken as {NAMES[dated]} since 1970, by its size"
    if not clock.unit:
        return _by_rate(times, clock, path)
    _check_format(times, clock, path)
    return clock.unit, ""


def _by_rate(times: Array, clock: Clock, path: str) -> tuple[str, str]:
    """Return the only unit that gives a plausible rate, with a remark; `InputError` where there is none, or several."""
    if not times.max() > times.min():
        return "s", ""
    likely = [u for u in SECONDS if PLAUSIBLE[0] <= _rate(times, u) <= PLAUSIBLE[1]]
    if _decimals(times):
        likely = [u for u in likely if u in ("s", "ms")]
    if len(likely) != 1:
        shown = likely or ["s", "ms"]
        text = f"nothing states the unit of {clock.field}: {_evidence(times, shown)}"
        raise InputError(f"{path}: {text}; {WAY_OUT}")
    unit = likely[0]
    text = (
        f"{clock.field} is taken as {NAMES[unit]}: only they give a rate that traces have ({_rate(times, unit):.3g}/s)"
    )
    return unit, f"{text}, and time_unit in [workload] would state it"


def _check_format(times: Array, clock: Clock, path: str) -> None:
    """Raise `InputError` where times contradict the unit that follows from the format of the trace."""
    rate = _rate(times, clock.unit)
    if rate != rate or len(times) < 3:
        return
    other = [u for u in SECONDS if u != clock.unit and PLAUSIBLE[0] <= _rate(times, u) <= PLAUSIBLE[1]]
    fast, slow = rate > PLAUSIBLE[1], rate < PLAUSIBLE[0] and len(times) >= FEW
    if other and (fast or slow):
        text = f"{clock.field} of {with_article(clock.kind)} trace is in {NAMES[clock.unit]}"
        shown = _evidence(times, [clock.unit, other[0]])
        raise InputError(f"{path}: {text}, but its values contradict that: {shown}; {WAY_OUT}")


def _evidence(times: Array, units: list[str]) -> str:
    """Say what the times would mean in each of the units, and how they are written."""
    first, last = float(times.min()), float(times.max())
    written = "with decimals" if _decimals(times) else "whole numbers"
    means = [
        f"in {NAMES[u]} {_short(_rate(times, u))} requests/s over {_short((last - first) * SECONDS[u])} s"
        for u in units
    ]
    return f"{len(times)} values from {first:.10g} to {last:.10g}, {written}, are {', '.join(means)}"


def _short(value: float) -> str:
    """Write a number with three digits, and without an exponent where it is large."""
    return f"{value:.3g}" if value < 1e3 else f"{value:,.0f}"


def _rate(times: Array, unit: str) -> float:
    """Return the mean requests/s of times in `unit`, NaN where all are equal."""
    span = float(times.max() - times.min()) * SECONDS[unit]
    return (len(times) - 1) / span if span > 0 else NAN


def _decimals(times: Array) -> bool:
    """Return whether any time has decimals."""
    return bool((times != np.floor(times)).any())
