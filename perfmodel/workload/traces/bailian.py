"""Read Bailian traces: JSON lines as Mooncake's with `chat_id`, `timestamp` in seconds, and 16 tokens a hashed block.

Published by alibaba-edu/qwen-bailian-usagetraces-anon (README); ai-dynamo/aiperf pull 723 reads it by a loader of its
own for the same reasons.
"""

from __future__ import annotations

from perfmodel.workload.traces.content import Content
from perfmodel.workload.traces.hashed_lines import LENGTHS, TIME, Layout, read_hashed
from perfmodel.workload.traces.parsed import Parsed, Reader

#: Share of prompts whose blocks may contradict their length. Chosen: hashes of a few may cover text that the length
#: does not count; of Mooncake's published traces none does (16,024 requests).
ODD_BLOCKS = 0.1
LAYOUT = Layout(
    kind="Bailian",
    unit="s",
    block_tokens=16,
    has=f"{TIME} (seconds), {LENGTHS[0]} and {LENGTHS[1]}",
    ids="chat_id",
    odd_blocks=ODD_BLOCKS,
)


def read_bailian(content: Content) -> Parsed:
    """Read a Bailian trace."""
    return read_hashed(content, LAYOUT)


def _recognises(content: Content) -> bool:
    """True where the first record links chats and has a length."""
    return content.kind != "table" and content.has("chat_id", LENGTHS[0])


READER = Reader(name="Bailian", recognises=_recognises, read=read_bailian)
