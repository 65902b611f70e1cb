"""Check the hashed blocks of a trace against the lengths of its prompts, and find how many tokens a block holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwdb import InputError
from perfmodel.workload.traces.parsed import Parsed
from perfmodel.workload.traces.trace import Whole

#: Tokens per block that are tried where the counts contradict the format. Chosen: what engines and traces use.
SIZES = tuple(2**n for n in range(13))


def with_block_size(parsed: Parsed, path: str, asked: int) -> Parsed:
    """Return the trace with as many tokens a block as the counts of its blocks show.

    A prompt of L tokens has ceil(L / tokens) blocks. asked: tokens a block that the user states, 0 without; prompts
    that contradict it, or the format within `odd_blocks`, are counted in a remark. Raises `InputError` with line, count
    and length where the counts fit neither the format nor one other size, or where they fit the stated size nowhere.
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
    text = f"{counts[row]} hash_ids for a prompt of {trace.input[row]} tokens, where blocks of {size} tokens need"
    text = f"{text} {-(-trace.input[row] // size)} ({len(wrong)} of {len(counts)} such)"
    share = len(wrong) / np.count_nonzero(counts)
    if share < 1.0 if asked else share <= parsed.odd_blocks:
        return _sized(parsed, size, f"{parsed.word} {parsed.lines[row]} has {text}")
    misfits = {s: len(_contradicting(counts, trace.input, s)) for s in SIZES}
    fitting = [s for s, count in misfits.items() if not count]
    if len(fitting) == 1 and not asked:
        text = f"hash_ids are taken as blocks of {fitting[0]} tokens, not {size}: only that fits the lengths"
        return _sized(parsed, fitting[0], text)
    near = min(misfits, key=lambda s: misfits[s])
    known = f"blocks of {' or '.join(map(str, fitting or [near]))} tokens fit {'all' if fitting else 'most'}"
    way_out = f"state block_tokens in [workload] ({known}), or correct the lengths"
    raise InputError(f"{parsed.place(path, row)}: {text}; {way_out}")


def _sized(parsed: Parsed, size: int, remark: str) -> Parsed:
    """Return the trace with blocks of `size` tokens and one more remark."""
    return replace(parsed, trace=replace(parsed.trace, block_tokens=size), remarks=(*parsed.remarks, remark))


def _contradicting(counts: Whole, tokens: Whole, size: int) -> Whole:
    """Return the rows whose number of blocks is not that of such a prompt; prompts without hashes are no evidence."""
    rows: Whole = np.flatnonzero((counts > 0) & (counts != -(-tokens // size)))
    return rows
