"""Read AIPerf sessions: JSON lines with `session_id`, `input_length`, `output_length` and `delay` (ms after an answer).

The format is Mooncake's with sessions (ai-dynamo/aiperf, MooncakeTrace in src/aiperf/dataset/loader/models.py): each
later turn waits for the answer before it, and for its `delay`. `input_length` is what the turn adds, since AIPerf sends
the earlier turns again (ai-dynamo/dynamo, benchmarks/router/README.md); files with whole prompts exist too. The lengths
tell which it is: whole prompts are never shorter than the prompt and the answer before them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN, Array
from perfmodel.workload.traces.blocks import with_block_size
from perfmodel.workload.traces.content import Content, number_of
from perfmodel.workload.traces.conversations import Turns, blocks_of
from perfmodel.workload.traces.hashed_lines import LENGTHS, TIME, Layout, read_hashed
from perfmodel.workload.traces.mooncake import LAYOUT as MOONCAKE
from perfmodel.workload.traces.parsed import Parsed, Reader
from perfmodel.workload.traces.trace import Whole

SESSION, DELAY = "session_id", "delay"
LAYOUT = Layout(
    kind="AIPerf",
    unit="ms",
    block_tokens=MOONCAKE.block_tokens,
    has=f"{SESSION}, {LENGTHS[0]}, {LENGTHS[1]} and, if known, {TIME} and {DELAY} (ms)",
)
#: Shares of later turns that are long enough to hold the turn before: of whole prompts, and of added ones. Chosen: a
#: client may cut old turns now and then, and an added text is sometimes longer than all before it.
WHOLE_FROM, ADDED_TO = 0.95, 0.5


def read_aiperf(content: Content) -> Parsed:
    """Read AIPerf sessions; without a time for each session the trace has lengths only."""
    parsed = read_hashed(content, LAYOUT, timed=False)
    records = [record for _, record in content.records()]
    names = [str(r.get(SESSION)) for r in records]
    if None in (r.get(SESSION) for r in records):
        row = next(n for n, r in enumerate(records) if r.get(SESSION) is None)
        raise InputError(f"{parsed.place(content.path, row)}: {SESSION!r} is missing; an AIPerf line has {LAYOUT.has}")
    _, session = np.unique(names, return_inverse=True)
    turns = Turns(session.astype(np.int64), parsed.trace.input, parsed.trace.output)
    parsed = _with_history(parsed, turns, content.path)
    times, remark = _times(content, turns.before())
    trace = replace(parsed.trace, arrival=times)
    return replace(parsed, trace=trace, unordered=True, remarks=(*parsed.remarks, remark))


def _with_history(parsed: Parsed, turns: Turns, path: str) -> Parsed:
    """Return the trace with whole prompts: as in the file, or with all turns before, as its lengths show."""
    before = turns.before()
    later = np.flatnonzero(before >= 0)
    if not len(later):
        return parsed
    holds = turns.new[later] >= turns.new[before[later]] + turns.output[before[later]]
    share = float(holds.mean())
    evidence = f"of {len(later)} later turns {int(holds.sum())} are long enough to hold the turn before"
    if share >= WHOLE_FROM:
        return replace(parsed, remarks=(f"{LENGTHS[0]} is taken as the whole prompt of a turn: {evidence}",))
    if share > ADDED_TO:
        row = int(later[~holds][0])
        text = (
            f"unclear whether {LENGTHS[0]} is the whole prompt of a turn or what it adds: {evidence}, this one is not"
        )
        raise InputError(f"{parsed.place(path, row)}: {text}; write the whole prompt of every turn")
    parsed = with_block_size(parsed, path, 0)
    prompts, old = turns.prompts(), parsed.trace
    made = replace(old, input=prompts)
    if len(old.offsets):
        own = [old.blocks[a:b] for a, b in zip(old.offsets[:-1], old.offsets[1:], strict=True)]
        blocks, offsets = blocks_of(turns, prompts, own, old.block_tokens)
        made = replace(made, blocks=blocks, offsets=offsets)
    text = f"{LENGTHS[0]} is taken as what a turn adds, after all turns before: {evidence}"
    return replace(parsed, trace=made, remarks=(*parsed.remarks, text))


def _times(content: Content, before: Whole) -> tuple[Array, str]:
    """Return (times of arrival in ms, NaN where some session has none; a remark on them).

    before: (R,) row of the turn before, -1 for a first turn. A later turn without a time of its own comes its delay
    after the turn before.
    """
    times = np.full(len(before), NAN)
    for row, (number, record) in enumerate(content.records()):
        place = f"{content.path}, {content.word} {number}"
        delay = number_of(record[DELAY], place, DELAY) if record.get(DELAY) is not None else 0.0
        if delay < 0:
            raise InputError(f"{place}: {DELAY} {delay:g} ms is negative; give 0 or more")
        if record.get(TIME) is not None:
            times[row] = number_of(record[TIME], place, TIME)
        elif before[row] >= 0:
            times[row] = times[before[row]] + delay
    if np.isnan(times).any():
        text = "the sessions have no times of arrival, so that only lengths are read"
        return np.full(len(before), NAN), f"{text}: give request_rate_rps or concurrency in [workload]"
    return times, "turns without a time come their delay after the turn before, without the time of its answer"


def _recognises(content: Content) -> bool:
    """True where the first record belongs to a session and has a length."""
    return content.kind != "table" and content.has(SESSION) and any(n in content.fields for n in LENGTHS)


READER = Reader(name="AIPerf sessions", recognises=_recognises, read=read_aiperf)
