"""Request traces: when each request arrived and how long it was.

Formats are read by modules of their own (`mooncake`, `csv_trace`), listed in `formats.READERS`.
"""

from __future__ import annotations

from perfmodel.workload.traces.formats import LONGEST, READERS, read_trace
from perfmodel.workload.traces.parsed import Parsed, Reader
from perfmodel.workload.traces.trace import Trace, Whole

__all__ = ["LONGEST", "READERS", "Parsed", "Reader", "Trace", "Whole", "read_trace"]
