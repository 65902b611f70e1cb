"""Read Mooncake traces: JSON lines with `timestamp` in ms, `input_length`, `output_length` and, optionally, `hash_ids`.

Published by kvcache-ai/Mooncake (FAST25-release/traces). `hash_ids` name the prompt's KV blocks of 512 tokens: requests
that share leading hashes share a prefix.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel.workload.traces.parsed import Parsed, Reader, stem, whole_tokens
from perfmodel.workload.traces.trace import Trace

#: Tokens per hashed block (kvcache-ai/Mooncake, FAST25-release/traces).
BLOCK_TOKENS = 512
#: Fields that every line must have.
FIELDS = ("timestamp", "input_length", "output_length")
#: Hashes are kept as signed 64-bit numbers.
_HASH_LIMIT = 2**63
#: Characters of a bad line that a message shows.
_SHOWN = 40
_MS_PER_S = 1e3


def read_mooncake(text: io.TextIOBase, path: str) -> Parsed:
    """Read the trace in Mooncake's JSON lines; `path` is what messages call it."""
    rows: list[tuple[float, ...]] = []
    blocks: list[int] = []
    counts: list[int] = []
    lines: list[int] = []
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        record = _record(line, path, number)
        rows.append(tuple(record[field] for field in FIELDS))
        hashes = record.get("hash_ids", [])
        blocks.extend(hashes)
        counts.append(len(hashes))
        lines.append(number)
    table, places = np.array(rows, dtype=float), np.array(lines, dtype=np.int64)
    prompt, output = (whole_tokens(table[:, i], FIELDS[i], path, places) for i in (1, 2))
    made = Trace(arrival=table[:, 0] / _MS_PER_S, input=prompt, output=output, name=stem(path), source=path)
    if blocks:
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        made = replace(made, blocks=np.array(blocks, dtype=np.int64), offsets=offsets, block_tokens=BLOCK_TOKENS)
    return Parsed(trace=made, lines=places)


def _record(line: str, path: str, number: int) -> dict[str, Any]:
    """Parse one line into a request; raise `InputError` that names line, field and value of what is wrong.

    number: line number in the file.
    """
    place = f"{path}, line {number}"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, or a number of more digits than Python converts
        raise InputError(f"{place}: not JSON; write one object per line") from None
    if not isinstance(record, dict):
        raise InputError(f"{place}: {line.strip()[:_SHOWN]!r} is not an object; write one object per line")
    for field in FIELDS:
        if field not in record:
            raise InputError(
                f"{place}: {field!r} is missing; a Mooncake line has timestamp (ms), input_length and output_length"
            )
        value = record[field]
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_HASH_LIMIT < value < _HASH_LIMIT:
            raise InputError(f"{place}: {field} {repr(value)[:_SHOWN]} is not a finite number of 64 bits; correct it")
    hashes = record.get("hash_ids", [])
    if not isinstance(hashes, list) or not all(type(h) is int and abs(h) < _HASH_LIMIT for h in hashes):
        raise InputError(f"{place}: hash_ids is not a list of whole numbers; leave it out or correct it")
    return record


def _starts_object(first_line: str) -> bool:
    """True where the first line opens a JSON object."""
    return first_line.startswith("{")


READER = Reader(name="Mooncake JSON lines", recognises=_starts_object, read=read_mooncake)
