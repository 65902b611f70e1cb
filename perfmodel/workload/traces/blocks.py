"""Check the hashed blocks of a trace against the lengths of its prompts, and find how many tokens a block holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwdb import InputError
from perfmodel.workload.traces.parsed import Parsed
from perfmodel.workload.traces.trace import Whole

#: Tokens per block that are tried where the counts contradict the format. chosen: what engines and traces use.
SIZES = tuple(2**n for n in range(13))


def with_block_size(parsed: Parsed, path: str, asked: int) -> Parsed:
    """Return the trace with as many tokens a block as the counts of its blocks show.

    A prompt of L tokens has ceil(L / tokens) blocks. asked: tokens a block that the user states, 0 without. Raises
    `InputError` with line, count and length where no size, or not the stated one, explains the counts.
    """
    trace = parsed.trace
    if not len(trace.offsets):
        if asked:
            raise InputError(f"{path}: block_tokens is given, but the trace has no hashes of blocks; leave it out")
        return parsed
    counts = np.diff(trace.offsets)
    size = asked or trace.block_tokens
    wrong = _contradicting(counts, trace.input, size)
    if not len(wrong):
        return replace(parsed, trace=replace(trace, block_tokens=size))
    row = int(wrong[0])
    told = f"{counts[row]} hash_ids for a prompt of {trace.input[row]} tokens, where blocks of {size} tokens need"
    told = f"{parsed.place(path, row)}: {told} {-(-trace.input[row] // size)} ({len(wrong)} of {len(counts)} such)"
    fitting = [] if asked else [s for s in SIZES if not len(_contradicting(counts, trace.input, s))]
    if len(fitting) != 1:
        known = (
            f"; blocks of {' or '.join(map(str, fitting))} tokens fit all" if fitting else "; no block size fits all"
        )
        raise InputError(f"{told}{known}; state block_tokens in [workload], or correct the lengths")
    remark = (
        f"hash_ids are taken as blocks of {fitting[0]} tokens, not {size}: only that fits the lengths of the prompts"
    )
    remarks = (*parsed.remarks, remark)
    return replace(parsed, trace=replace(trace, block_tokens=fitting[0]), remarks=remarks)


def _contradicting(counts: Whole, tokens: Whole, size: int) -> Whole:
    """Return the rows whose number of blocks is not that of such a prompt; prompts without hashes are no evidence."""
    rows: Whole = np.flatnonzero((counts > 0) & (counts != -(-tokens // size)))
    return rows
