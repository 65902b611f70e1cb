"""Request traces: when each request arrived and how long it was.

Formats are read by modules of their own (`mooncake`, `csv_trace`), listed in `formats.READERS`.
"""

from __future__ import annotations

from perfmodel.workload.traces.daily import SECONDS_PER_HOUR, Peak, Period, hours_of_day, peak_of, periods_of
from perfmodel.workload.traces.formats import LONGEST, READERS, read_trace
from perfmodel.workload.traces.parsed import Parsed, Reader
from perfmodel.workload.traces.trace import Trace, Whole

__all__ = [
    "LONGEST",
    "READERS",
    "SECONDS_PER_HOUR",
    "Parsed",
    "Peak",
    "Period",
    "Reader",
    "Trace",
    "Whole",
    "hours_of_day",
    "peak_of",
    "periods_of",
    "read_trace",
]
