"""Read BurstGPT traces: CSV with `Timestamp` in seconds, `Request tokens`, `Response tokens` (HPMLL/BurstGPT).

Failed requests have 0 response tokens (HPMLL/BurstGPT issue 11); the checks drop them.
"""

from __future__ import annotations

from perfmodel.workload.traces.content import Content
from perfmodel.workload.traces.csv_trace import read_table
from perfmodel.workload.traces.parsed import Parsed, Reader

FIELDS = ("Timestamp", "Request tokens", "Response tokens")


def read_burstgpt(content: Content) -> Parsed:
    """Read a BurstGPT trace; `Timestamp` counts seconds from the start of its first day."""
    return read_table(content, kind="BurstGPT", unit="s")


READER = Reader(name="BurstGPT", recognises=lambda c: c.kind == "table" and c.has(*FIELDS), read=read_burstgpt)
