"""Find what each column of a table of requests holds, by its name in any of the spellings in use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hwdb import InputError, nearest

#: What a column holds -> names in use for it, the best known first; case, blanks and signs do not matter.
LENGTHS = {
    "input": (
        *("input_tokens", "ContextTokens", "num_prefill_tokens", "prompt_tokens", "Request tokens", "input_length"),
        *("prompt_length", "input_len", "prompt_len", "num_prompt_tokens", "num_input_tokens", "n_prompt_tokens"),
        *("n_input_tokens", "isl", "prefill_tokens", "input_sequence_length", "input_toks", "prompt_toks"),
        *("prompt_size", "tokens_prompt", "prompt_token_count", "input_token_count"),
    ),
    "output": (
        *("output_tokens", "GeneratedTokens", "num_decode_tokens", "completion_tokens", "Response tokens"),
        *("output_length", "response_length", "output_len", "generated_tokens", "num_output_tokens"),
        *("num_completion_tokens", "num_generated_tokens", "n_output_tokens", "generation_tokens", "osl"),
        *("decode_tokens", "output_sequence_length", "completion_length", "generation_length", "output_toks"),
        *("token_size", "tokens_completion", "candidates_token_count", "output_token_count", "completion_toks"),
    ),
}
#: Names of a column of times, without their unit.
TIMES = (
    *("arrival", "TIMESTAMP", "arrival_time", "arrived_at", "arrival_timestamp", "time", "ts", "start", "start_time"),
    *("request_time", "request_start_time", "request_timestamp", "sent_at", "created_at", "submit_time", "datetime"),
    "created",
)
#: Names of a column that holds input and output tokens together.
TOTALS = ("total_tokens", "num_total_tokens")
#: Names of a column that differs from request to request.
IDS = ("request_id", "req_id", "id", "chat_id", "request_uuid", "uuid")
#: Spellings of a unit at the end of a name.
UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "usec", "usecs", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nsecs", "nanos", "nanosecond", "nanoseconds"), "ns"),
}
#: Words between a name of times and its unit, as in "time in ms" and "start_unix_ms".
FILLERS = ("in", "unix", "epoch")


@dataclass(frozen=True)
class Roles:
    """Names of the columns of a table by what they hold; "" where there is none.

    unit: of the times, where the name of their column states it, else "".
    """

    input: str
    output: str
    arrival: str = ""
    unit: str = ""
    total: str = ""
    ids: str = ""


def roles_of(fields: Sequence[str], path: str, place: str = "line 1") -> Roles:
    """Return what the columns hold; raise `InputError` with the names found where lengths are missing or named twice.

    path, place: what messages call the file and the place where it names its columns.
    """
    plain = {name: _plain(name) for name in fields}
    lengths = {part: _one(part, names, plain, f"{path}, {place}") for part, names in LENGTHS.items()}
    for part, name in lengths.items():
        if not name:
            raise InputError(_missing(f"{path}, {place}", part, fields))
    times = [(name, _time_unit(name)) for name in fields]
    arrival, unit = next(((n, u) for n, u in times if u is not None), ("", ""))
    several = [n for n, u in times if u is not None]
    if len(several) > 1:
        arrival, unit = _best_time(several)
    return Roles(**lengths, arrival=arrival, unit=unit or "", total=_first(TOTALS, plain), ids=_first(IDS, plain))


def _plain(name: str) -> str:
    """Return a name without case, blanks and signs."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _first(names: Sequence[str], plain: dict[str, str]) -> str:
    """Return the first column that has one of the names, in the order of the names; "" where none has."""
    return next((column for n in names for column, text in plain.items() if text == _plain(n)), "")


def _one(part: str, names: Sequence[str], plain: dict[str, str], place: str) -> str:
    """Return the column that holds `part`, "" where none does; raise `InputError` where several might."""
    known = {_plain(n) for n in names}
    found = [column for column, text in plain.items() if text in known]
    if len(found) > 1:
        sentence = f"{' and '.join(repr(f) for f in found)} may each be the {part} tokens"
        raise InputError(f"{place}: {sentence}; keep one, or rename the other")
    return found[0] if found else ""


def _missing(place: str, part: str, columns: Sequence[str]) -> str:
    """Return the message for a table without a column of `part` tokens; it offers a column whose name is close."""
    near = nearest(LENGTHS[part][0], list(columns), 1)
    hint = f"; is {near[0]!r} meant?" if near else ""
    return (
        f"{place}: no column for {part} tokens among {', '.join(columns) or 'none'}; "
        f"name it {' or '.join(LENGTHS[part][:4])}{hint}"
    )


def _time_unit(name: str) -> str | None:
    """Return the unit that the name of a column of times states, "" where it states none; None for other columns."""
    words = [w for w in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) if w]
    unit = UNITS.get(words[-1], "") if len(words) > 1 else ""
    if unit:
        words = words[:-1]
    while len(words) > 1 and words[-1] in FILLERS:
        words = words[:-1]
    return unit if "".join(words) in {_plain(t) for t in TIMES} else None


def _best_time(names: Sequence[str]) -> tuple[str, str]:
    """Return (column, unit) of the arrival among several columns of times: in the order of `TIMES`, units stated first.

    A start is not an arrival, so the names that say arrival come first.
    """
    order = {_plain(t): n for n, t in enumerate(TIMES)}

    def rank(name: str) -> tuple[bool, int]:
        unit = _time_unit(name) or ""
        bare = _plain(name)
        shown = next((n for text, n in order.items() if bare.startswith(text)), len(order))
        return ("arriv" not in bare, shown if unit else shown + len(order))

    best = min(names, key=rank)
    return best, _time_unit(best) or ""
