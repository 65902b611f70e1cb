"""Read Mooncake traces: JSON lines with `timestamp` in ms, `input_length`, `output_length` and, optionally, `hash_ids`.

Published by kvcache-ai/Mooncake (FAST25-release/traces). `hash_ids` name the prompt's KV blocks of 512 tokens: requests
that share leading hashes share a prefix.
"""

from __future__ import annotations

from perfmodel.workload.traces.content import Content
from perfmodel.workload.traces.hashed_lines import LENGTHS, TIME, Layout, read_hashed
from perfmodel.workload.traces.parsed import Parsed, Reader

#: Times in ms and 512 tokens per hashed block (kvcache-ai/Mooncake, FAST25-release/traces).
LAYOUT = Layout(kind="Mooncake", unit="ms", block_tokens=512, has=f"{TIME} (ms), {LENGTHS[0]} and {LENGTHS[1]}")


def read_mooncake(content: Content) -> Parsed:
    """Read a Mooncake trace; without any `timestamp` it has lengths only."""
    timed = content.has(TIME) or any(TIME in record for _, record in content.records())
    return read_hashed(content, LAYOUT, timed=timed)


def _recognises(content: Content) -> bool:
    """True where the first record has at least two of the fields of a Mooncake line."""
    return (
        content.kind != "table"
        and sum(f in content.fields for f in (*LENGTHS, TIME, "hash_ids")) > 1
        and (any(f in content.fields for f in (*LENGTHS, "hash_ids")))
    )


READER = Reader(name="Mooncake", recognises=_recognises, read=read_mooncake)
