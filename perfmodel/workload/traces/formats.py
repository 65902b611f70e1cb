"""Find the format of a trace by its content and read it. A new format is one module and one line in `READERS`."""

from __future__ import annotations

from pathlib import Path

from hwdb import infile
from perfmodel.workload.traces import (
    aiperf,
    azure,
    bailian,
    burstgpt,
    csv_trace,
    guidellm,
    json_rows,
    mooncake,
    sharegpt,
    vllm_bench,
)
from perfmodel.workload.traces.check import Asked, checked
from perfmodel.workload.traces.content import content_of
from perfmodel.workload.traces.trace import Trace

#: Longest prompt or output that is taken for real, in tokens; `longest=` of `read_trace` raises it. The longest context
#: of a released model is 10 million (Llama 4 Scout), but a number that large is more often a typing error.
LONGEST = 4_000_000


#: The first reader that recognises a file reads it; the last ones take every table and all other JSON.
READERS = (
    vllm_bench.READER,
    guidellm.READER,
    sharegpt.READER,
    bailian.READER,
    aiperf.READER,
    mooncake.READER,
    json_rows.READER,
    burstgpt.READER,
    azure.READER,
    csv_trace.READER,
)


def read_trace(
    path: str | Path, *, sort: bool = False, longest: int = LONGEST, time_unit: str = "", block_tokens: int = 0
) -> Trace:
    """Read the trace in the file at `path`, plain or gzipped, in any of the formats of `READERS`.

    Args:
        path: the file.
        sort: put requests that are out of order into order of arrival. Without it the first one is an error, because an
            unsorted file usually means columns mixed up or files joined.
        longest: tokens above which a length is refused.
        time_unit: unit of the times, "s", "ms", "us" or "ns"; by default that of the format, or what the times show.
        block_tokens: tokens per hashed block; by default those of the format, or what the lengths show.

    Raises:
        InputError: names file, line, field, value and way out.
    """
    text = infile.read_table_text(path, "trace", "give the path of an existing CSV, JSON or JSONL file")
    content = content_of(text, str(path))
    reader = next(r for r in READERS if r.recognises(content))
    asked = Asked(sort=sort, longest=longest, time_unit=time_unit, block_tokens=block_tokens)
    return checked(reader.read(content), str(path), asked)
