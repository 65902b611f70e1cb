"""Read lines of JSON with `input_length`, `output_length`, `timestamp` and `hash_ids`, which several formats share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN
from perfmodel.workload.traces.content import LARGEST, Content, number_of
from perfmodel.workload.traces.parsed import Clock, Parsed, stem, whole_tokens, with_article
from perfmodel.workload.traces.trace import Trace

TIME = "timestamp"
LENGTHS = ("input_length", "output_length")


@dataclass(frozen=True)
class Layout:
    """What a format of such lines says. kind: its name. unit: of `timestamp`. block_tokens: tokens a hashed block.

    has: what a line must have, for messages. ids: name of the id of a request, "" without. odd_blocks: share of prompts
    whose number of blocks may contradict their length.
    """

    kind: str
    unit: str
    block_tokens: int
    has: str
    ids: str = ""
    odd_blocks: float = 0.0


@dataclass
class _Columns:
    """The columns of a file as lists, one value per request."""

    times: list[float] = field(default_factory=list)
    tokens: list[list[float]] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)


def read_hashed(content: Content, layout: Layout, *, timed: bool = True) -> Parsed:
    """Read such lines. timed: True where every line must have a time; without times the trace has lengths only."""
    found = _Columns()
    for number, record in content.records():
        place = f"{content.path}, {content.word} {number}"
        for name in ((TIME,) if timed else ()) + LENGTHS:
            if name not in record:
                raise InputError(f"{place}: {name!r} is missing; {with_article(layout.kind)} line has {layout.has}")
        found.times.append(number_of(record[TIME], place, TIME) if timed else NAN)
        found.tokens.append([number_of(record[n], place, n) for n in LENGTHS])
        hashes = hashes_of(record, place)
        found.blocks.extend(hashes)
        found.counts.append(len(hashes))
        found.lines.append(number)
        if layout.ids:
            found.ids.append(record.get(layout.ids))
    return _parsed(found, content, layout)


def hashes_of(record: dict[str, Any], place: str) -> list[int]:
    """Return the hashes of the blocks of a prompt, [] where the record has none."""
    hashes = record.get("hash_ids") or []
    if not isinstance(hashes, list) or not all(type(h) is int and abs(h) < LARGEST for h in hashes):
        raise InputError(f"{place}: hash_ids is not a list of whole numbers; leave it out or correct it")
    return hashes


def _parsed(found: _Columns, content: Content, layout: Layout) -> Parsed:
    """Return the trace in the columns of a file."""
    lines, path = np.array(found.lines, dtype=np.int64), content.path
    table = np.array(found.tokens, dtype=float).reshape(-1, 2)
    prompt, output = (whole_tokens(table[:, i], LENGTHS[i], path, lines, content.word) for i in (0, 1))
    made = Trace(arrival=np.array(found.times), input=prompt, output=output, name=stem(path), source=path)
    if found.blocks:
        offsets = np.concatenate([[0], np.cumsum(found.counts)]).astype(np.int64)
        blocks = np.array(found.blocks, dtype=np.int64)
        made = replace(made, blocks=blocks, offsets=offsets, block_tokens=layout.block_tokens)
    clock = Clock(TIME, layout.unit, stated=False, kind=layout.kind)
    ids = (layout.ids, np.array(found.ids, dtype=object)) if layout.ids and None not in found.ids else None
    return Parsed(made, lines, word=content.word, clock=clock, ids=ids, odd_blocks=layout.odd_blocks)
