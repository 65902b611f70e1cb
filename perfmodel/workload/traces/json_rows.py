"""Read traces in JSON of no known format: objects with the names of columns that a CSV may have, one per request.

The figures may stand in objects within: logs of gateways and results of the Batch API of OpenAI have them in `usage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel.workload.traces.columns import roles_of
from perfmodel.workload.traces.content import Content
from perfmodel.workload.traces.parsed import Parsed, Reader
from perfmodel.workload.traces.rows import Table, parsed_of

#: What is read, for the message on a file that is none of it.
KNOWN = (
    "read are JSON lines or a list of objects with input_tokens and output_tokens (and arrival_s), Mooncake, Bailian "
    "and AIPerf lines, ShareGPT conversations, and results of vllm bench serve --save-detailed and guidellm"
)


def read_json_rows(content: Content) -> Parsed:
    """Read objects whose keys name tokens and times as the columns of a CSV do."""
    found = [(number, _flat(record)) for number, record in content.records()]
    names = list(dict.fromkeys(key for _, record in found for key in record))
    try:
        roles = roles_of(names[:_MOST_KEYS], content.path, f"{content.word} 1")
    except InputError as error:
        raise InputError(f"{error}; {KNOWN}") from None
    used = [n for n in (roles.input, roles.output, roles.arrival, roles.total, roles.ids) if n]
    for name in used:
        absent = next((number for number, record in found if name not in record), None)
        if absent is not None:
            raise InputError(f"{content.path}, {content.word} {absent}: {name!r} is missing; give it or drop the line")
    cells = {name: [record[name] for _, record in found] for name in used}
    lines = np.array([number for number, _ in found], dtype=np.int64)
    return parsed_of(Table(cells, lines, content.path, content.word), roles, kind="JSON")


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the keys of the objects within it beside its own, which come first."""
    if not any(isinstance(value, dict) for value in record.values()):
        return dict(record)
    out: dict[str, Any] = {}
    for key, value in _within(record, _DEEPEST):
        out.setdefault(key, value)
    return out


def _within(record: Mapping[str, Any], deep: int) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a record, then those of the objects within it, so many levels deep."""
    yield from record.items()
    for value in record.values():
        if isinstance(value, dict) and deep:
            yield from _within(value, deep - 1)


#: Levels of objects that are looked into: `response.body.usage` of OpenAI's Batch API has three.
_DEEPEST = 3
#: Keys that are looked at. Chosen: far more than requests have.
_MOST_KEYS = 200

READER = Reader(name="JSON rows", recognises=lambda c: c.kind != "table", read=read_json_rows)
