"""Request traces: when each request arrived and how long it was.

Each format is read by a module of its own (`mooncake`, `burstgpt`, `sharegpt`, ...), listed in `formats.READERS`; what
holds for all is checked in `check`, `units` and `blocks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names
from perfmodel.workload.traces.daily import Peak, Period, hours_of_day, peak_of, periods_of
from perfmodel.workload.traces.trace import Trace, Whole

if TYPE_CHECKING:
    from perfmodel.workload.traces.content import Content, content_of
    from perfmodel.workload.traces.formats import LONGEST, READERS, read_trace
    from perfmodel.workload.traces.parsed import Clock, Parsed, Reader
    from perfmodel.workload.traces.units import TIME_UNITS

__all__ = [
    "LONGEST",
    "READERS",
    "TIME_UNITS",
    "Clock",
    "Content",
    "Parsed",
    "Peak",
    "Period",
    "Reader",
    "Trace",
    "Whole",
    "content_of",
    "hours_of_day",
    "peak_of",
    "periods_of",
    "read_trace",
]

#: The readers are loaded where a trace is read.
__getattr__ = lazy_names(
    __name__,
    {
        "content": ["Content", "content_of"],
        "formats": ["LONGEST", "READERS", "read_trace"],
        "parsed": ["Clock", "Parsed", "Reader"],
        "units": ["TIME_UNITS"],
    },
)
