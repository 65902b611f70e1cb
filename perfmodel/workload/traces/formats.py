"""Find the format of a trace by its content and read it. A new format is one module and one line in `READERS`."""

from __future__ import annotations

import io
from pathlib import Path

from hwdb import InputError, infile
from perfmodel.workload.traces import csv_trace, mooncake
from perfmodel.workload.traces.check import checked
from perfmodel.workload.traces.trace import Trace

#: Longest prompt or output that is taken for real, in tokens; `longest=` of `read_trace` raises it. The longest context
#: of a released model is 10 million (Llama 4 Scout), but a number that large is more often a typing error.
LONGEST = 4_000_000


#: The first reader that recognises a file reads it; CSV takes what no other does.
READERS = (mooncake.READER, csv_trace.READER)


def read_trace(path: str | Path, *, sort: bool = False, longest: int = LONGEST) -> Trace:
    """Read the trace in the file at `path`, plain or gzipped, in any of the formats of `READERS`.

    Args:
        path: the file.
        sort: put requests that are out of order into order of arrival. Without it the first one is an error, because an
            unsorted file usually means columns mixed up or files joined.
        longest: tokens above which a length is refused.

    Raises:
        InputError: names file, line, field, value and way out.
    """
    text = _open(path)
    first = next((line.lstrip() for line in text if line.strip()), "")
    text.seek(0)
    if not first:
        raise InputError(f"{path}: the trace is empty; give a file with at least one request")
    reader = next(r for r in READERS if r.recognises(first))
    return checked(reader.read(text, str(path)), str(path), sort=sort, longest=longest)


def _open(path: str | Path) -> io.StringIO:
    """Return the text of a file, unpacked where it is gzipped; raise `InputError` where it cannot be read."""
    try:
        return io.StringIO(infile.read_table_text(path, "trace"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such trace; give the path of an existing CSV or JSONL file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a readable file") from None
