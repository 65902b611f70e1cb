"""Say what went wrong with a request: the place, the value and the way out, as JSON and without a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hwdb import nearest

#: Characters of a message and of a value that are shown.
LONGEST, LONGEST_VALUE = 2000, 120
SCHEMA = "see the schema of the operation"
#: Place at the begin of a message of `InputError`, and the value that it quotes.
_PLACE, _VALUE = re.compile(r"([\w.\[\], -]{1,80}): "), re.compile(r"'([^']+)'")
#: Parts of the place of an error of pydantic that name a type in place of a field.
_TYPES = re.compile(r"^(?:float|int|str|bool|none|constrained|function|dict\[|list\[|nullable)")


@dataclass(frozen=True)
class Outcome:
    """The answer to a request. status: of HTTP. text: JSON."""

    status: int
    text: str

    @property
    def content(self) -> Any:
        """Return the answer as plain data."""
        return json.loads(self.text)


def problem(status: int, message: str, *, place: str = "", value: Any = None, way_out: str = "") -> Outcome:
    """Return the outcome of a request that was not answered. way_out: "" for what follows "; " in the message."""
    way_out = way_out or message.partition("; ")[2]
    text = message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} [...] {message[-LONGEST // 2 :]}"
    shown = repr(value)[:LONGEST_VALUE] if value is not None else ""
    return Outcome(status, json.dumps({"error": {"message": text, "place": place, "value": shown, "way_out": way_out}}))


def of_error(message: str) -> Outcome:
    """Return the outcome of an input that is not possible. message: `PLACE: what is wrong; way out`."""
    place, value = _PLACE.match(message), _VALUE.search(message)
    _, _, way_out = message.partition("; ")
    where, what = place[1] if place else "", value[1] if value else None
    return problem(422, message, place=where, value=what, way_out=way_out or SCHEMA)


def of_schema(errors: Sequence[Any], fields: Iterable[str] = ()) -> Outcome:
    """Return the outcome of a request that its schema does not allow. errors: those of pydantic.

    fields: those of the operation. An unknown one is told first, with the nearest: it explains a missing one.
    """
    errors = sorted(errors, key=lambda error: error["type"] != "extra_forbidden")
    first = errors[0]
    invalid = first["type"] == "json_invalid"
    parts = [str(part) for part in first["loc"] if part not in ("body", "query")]
    place = "" if invalid else ".".join(part for part in parts if not _TYPES.match(part))
    message = f"{place or 'request'}: {first['msg']}"
    known = {"extra_forbidden": "leave the field out", "missing": "add the field", "json_invalid": "send JSON"}
    way_out = known.get(first["type"], SCHEMA)
    near = nearest(place, fields) if first["type"] == "extra_forbidden" else []
    way_out = f"{way_out}, or is {' or '.join(map(repr, near))} meant?" if near else way_out
    value = None if first["type"] in ("missing", "json_invalid") else first.get("input")
    return problem(422, f"{message}; {way_out}", place=place, value=value, way_out=way_out)


def busy() -> Outcome:
    """Return the outcome of a request that found no worker in time."""
    return problem(503, "all workers are busy; try again in a minute, or start the server with more --processes")


def too_long(seconds: float) -> Outcome:
    """Return the outcome of a request whose answer took too long."""
    less = "ask for less (fewer devices, values in [search], or points of a grid)"
    way_out = f"{less}, or start the server with a higher --timeout-s"
    return problem(504, f"the answer took longer than {seconds:g} s; {way_out}", way_out=way_out)


def gone() -> Outcome:
    """Return the outcome of a request whose worker ended: too little memory, or a defect of perfmodel."""
    way_out = "ask for less; if that does not help, report the request where you got perfmodel from"
    return problem(500, f"the worker ended, for want of memory or by a defect of perfmodel; {way_out}", way_out=way_out)


def too_large(most: int) -> Outcome:
    """Return the outcome of a request with too many bytes."""
    text = f"the request has more than {most:,} bytes; send less, or start the server with a higher --most-mb"
    return problem(413, text)
