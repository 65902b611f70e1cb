"""Request traces: when each request came and how long it was.

Three formats are read, plain or gzipped, told apart by their first line: the Azure LLM inference CSV
(`TIMESTAMP,ContextTokens,GeneratedTokens`), Mooncake JSON lines (`timestamp` in ms, `input_length`, `output_length`,
`hash_ids`), and a CSV with `arrival_s,input_tokens,output_tokens`. A CSV without an arrival column gives lengths only.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, nearest
from perfmodel.arrays import Array

if TYPE_CHECKING:
    import pandas as pd

Whole = NDArray[np.int64]

#: Longest prompt or output that is taken for real, in tokens; the longest context served by any released model is
#: 10 million (Llama 4 Scout), and a typing error is likelier than that. `longest=` raises it.
LONGEST = 4_000_000

#: Tokens a hash block of the Mooncake traces (kvcache-ai/Mooncake, FAST25-release/traces).
MOONCAKE_BLOCK = 512

#: Column names understood: first the arrival in seconds (or a date), then prompt and output tokens.
COLUMNS = {
    "arrival": ("arrival_s", "TIMESTAMP"),
    "input": ("input_tokens", "ContextTokens", "num_prefill_tokens"),
    "output": ("output_tokens", "GeneratedTokens", "num_decode_tokens"),
}


@dataclass(frozen=True)
class Trace:
    """R requests in order of arrival.

    arrival: (R,) seconds from the first request, NaN where the file had lengths only. input, output: (R,) tokens.
    blocks, offsets: hashes of the prompt's blocks of `block_tokens` tokens; those of request r are
    `blocks[offsets[r]:offsets[r + 1]]`; both empty where the trace has none.
    """

    arrival: Array
    input: Whole
    output: Whole
    blocks: Whole = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    offsets: Whole = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    block_tokens: int = 0
    name: str = ""
    source: str = ""

    def __len__(self) -> int:
        return len(self.input)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last arrival."""
        return float(self.arrival[-1] - self.arrival[0])

    @property
    def rate(self) -> float:
        """Mean requests a second; NaN without arrivals or when all come at once."""
        span = self.duration
        return (len(self) - 1) / span if span > 0 else float("nan")

    @property
    def cv(self) -> float:
        """Coefficient of variation of the gaps between arrivals (1: Poisson); NaN without gaps."""
        gaps = np.diff(self.arrival)
        return float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else float("nan")

    def take(self, rows: NDArray[np.intp] | slice) -> Trace:
        """The requests `rows`, with their blocks, in that order."""
        index = np.arange(len(self))[rows]
        if not len(self.offsets):
            return replace(self, arrival=self.arrival[index], input=self.input[index], output=self.output[index])
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        inner = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        blocks = self.blocks[np.repeat(self.offsets[:-1][index], counts) + inner]
        return replace(
            self,
            arrival=self.arrival[index],
            input=self.input[index],
            output=self.output[index],
            blocks=blocks,
            offsets=offsets,
        )

    def at_rate(self, rate: float) -> Trace:
        """The same requests with time stretched so that they come at `rate` requests/s on average."""
        if not (np.isfinite(rate) and rate > 0):
            raise InputError(f"trace rate {rate:g} requests/s is impossible; give more than 0")
        if not np.isfinite(self.rate):
            raise InputError(f"trace {self.name or 'given'} has no arrivals to stretch; give one with arrival_s")
        return replace(self, arrival=(self.arrival - self.arrival[0]) * (self.rate / rate))

    def reused_tokens(self) -> Whole:
        """(R,) prompt tokens that an endless prefix cache would hold: leading blocks seen in earlier requests."""
        if not len(self.offsets):
            return np.zeros(len(self), dtype=np.int64)
        counts = np.diff(self.offsets)
        owner = np.repeat(np.arange(len(self)), counts)
        _, first, back = np.unique(self.blocks, return_index=True, return_inverse=True)
        seen = owner[first][back] < owner
        place = np.arange(len(self.blocks)) - np.repeat(self.offsets[:-1], counts)
        leading = counts.copy()
        np.minimum.at(leading, owner[~seen], place[~seen])
        return np.minimum(leading * self.block_tokens, self.input).astype(np.int64)

    def to_csv(self, path: str | Path) -> None:
        """Write `arrival_s,input_tokens,output_tokens`; blocks are not kept."""
        table = np.column_stack([self.arrival, self.input, self.output])
        np.savetxt(
            path,
            table,
            delimiter=",",
            header="arrival_s,input_tokens,output_tokens",
            comments="",
            fmt=("%.7f", "%d", "%d"),
        )


def read_trace(path: str | Path, *, sort: bool = False, longest: int = LONGEST) -> Trace:
    """The trace in the file at `path`.

    sort: put requests that are out of order into order of arrival; without it the first one is an error, because an
    unsorted file usually means columns mixed up or files joined. longest: tokens above which a length is refused.
    `InputError` names file, line, field, value and way out.
    """
    text = _open(path)
    start = text.read(1)
    while start and start.isspace():
        start = text.read(1)
    text.seek(0)
    if not start:
        raise InputError(f"{path}: the trace is empty; give a file with at least one request")
    trace, lines = _mooncake(text, str(path)) if start == "{" else _table(text, str(path))
    return _checked(trace, lines, str(path), sort, longest)


def _open(path: str | Path) -> io.TextIOBase:
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such trace; give the path of an existing CSV or JSONL file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a readable file") from None
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise InputError(f"{path}: the gzip file is damaged or cut short; fetch it again") from None
    try:
        return io.StringIO(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; give a CSV or JSONL file") from None


# -- CSV ----------------------------------------------------------------------------------------------------------


def _table(text: io.TextIOBase, path: str) -> tuple[Trace, Whole]:
    import pandas as pd

    try:
        frame = pd.read_csv(text, dtype=str, skip_blank_lines=False, skipinitialspace=True, na_filter=False)
    except pd.errors.ParserError as error:
        raise InputError(
            f"{path}: not a table: {str(error).strip()}; give each line as many fields as the header"
        ) from None
    frame.columns = [str(c).strip() for c in frame.columns]
    blank = (frame == "").all(axis=1).to_numpy()
    lines = np.arange(2, len(frame) + 2)[~blank]
    frame = frame[~blank]
    found = {part: next((n for n in names if n in frame.columns), "") for part, names in COLUMNS.items()}
    for part in ("input", "output"):
        if not found[part]:
            raise InputError(_missing(path, part, list(frame.columns)))
    if not len(frame):
        raise InputError(f"{path}: the trace has a header and no request; give at least one line of data")
    lengths = [_numbers(frame, found[part], path, lines) for part in ("input", "output")]
    arrival = _arrivals(frame, found["arrival"], path, lines)
    prompt, output = (_whole(v, found[p], path, lines) for v, p in zip(lengths, ("input", "output"), strict=True))
    return Trace(arrival, prompt, output, name=_stem(path), source=path), lines.astype(np.int64)


def _missing(path: str, part: str, columns: list[str]) -> str:
    near = nearest(COLUMNS[part][0], columns, 1)
    hint = f"; is {near[0]!r} meant?" if near else ""
    return (
        f"{path}, line 1: no column for {part} tokens among {', '.join(columns)}; "
        f"name it {' or '.join(COLUMNS[part])}{hint}"
    )


def _numbers(frame: pd.DataFrame, column: str, path: str, lines: NDArray[Any]) -> Array:
    import pandas as pd

    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        written = str(frame[column].iloc[bad[0]])
        what = "is empty" if not written.strip() else f"{written!r} is not a finite number"
        raise InputError(f"{path}, line {lines[bad[0]]}: {column} {what}; give a number or drop the line")
    return values


def _arrivals(frame: pd.DataFrame, column: str, path: str, lines: NDArray[Any]) -> Array:
    import pandas as pd

    if not column:
        return np.full(len(frame), np.nan)
    if column != "TIMESTAMP":
        return _numbers(frame, column, path, lines)
    times = pd.to_datetime(frame[column], format="ISO8601", errors="coerce", utc=True)
    bad = np.flatnonzero(times.isna().to_numpy())
    if len(bad):
        written = str(frame[column].iloc[bad[0]])
        raise InputError(
            f"{path}, line {lines[bad[0]]}: TIMESTAMP {written!r} is not a date and time; "
            "write it as 2023-11-16 18:15:46.6805900"
        )
    stamps = times.to_numpy(dtype="datetime64[ns]")
    return (stamps - stamps.min()).astype(np.int64) / 1e9


def _whole(values: Array, column: str, path: str, lines: NDArray[Any]) -> Whole:
    bad = np.flatnonzero((values != np.floor(values)) | (np.abs(values) > 2**62))
    if len(bad):
        raise InputError(f"{path}, line {lines[bad[0]]}: {column} {values[bad[0]]:g} is not a whole number of tokens")
    return values.astype(np.int64)


def _stem(path: str) -> str:
    return Path(path).name.removesuffix(".gz").rsplit(".", 1)[0]


# -- Mooncake -----------------------------------------------------------------------------------------------------


def _mooncake(text: io.TextIOBase, path: str) -> tuple[Trace, Whole]:
    rows: list[tuple[float, float, float]] = []
    blocks: list[int] = []
    counts: list[int] = []
    lines: list[int] = []
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        record = _record(line, path, number)
        rows.append((record["timestamp"], record["input_length"], record["output_length"]))
        hashes = record.get("hash_ids", [])
        blocks.extend(hashes)
        counts.append(len(hashes))
        lines.append(number)
    table, places = np.array(rows, dtype=float), np.array(lines, dtype=np.int64)
    prompt, output = (_whole(table[:, i], n, path, places) for i, n in ((1, "input_length"), (2, "output_length")))
    made = Trace(table[:, 0] / 1e3, prompt, output, name=_stem(path), source=path)
    if blocks:
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        made = replace(made, blocks=np.array(blocks, dtype=np.int64), offsets=offsets, block_tokens=MOONCAKE_BLOCK)
    return made, places


def _record(line: str, path: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        raise InputError(f"{path}, line {number}: not JSON; write one object a line") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}, line {number}: {line.strip()[:40]!r} is not an object; write one object a line")
    for key in ("timestamp", "input_length", "output_length"):
        if key not in record:
            raise InputError(
                f"{path}, line {number}: {key!r} is missing; a Mooncake line has timestamp (ms), "
                "input_length and output_length"
            )
        value = record[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"{path}, line {number}: {key} {value!r} is not a finite number; give a number")
    hashes = record.get("hash_ids", [])
    known = isinstance(hashes, list) and all(type(h) is int and abs(h) < 2**63 for h in hashes)
    if not known:
        raise InputError(f"{path}, line {number}: hash_ids is not a list of whole numbers; leave it out or mend it")
    return record


# -- checks -------------------------------------------------------------------------------------------------------


def _checked(trace: Trace, lines: Whole, path: str, sort: bool, longest: int) -> Trace:
    for column, tokens in (("input", trace.input), ("output", trace.output)):
        low, high = np.flatnonzero(tokens < 1), np.flatnonzero(tokens > longest)
        if len(low):
            wrong = f"{column} of {tokens[low[0]]} tokens; every request needs 1 or more: drop the line"
            raise InputError(f"{path}, line {lines[low[0]]}: {wrong}")
        if len(high):
            wrong = f"{column} of {tokens[high[0]]} tokens is above the {longest} taken for real"
            raise InputError(f"{path}, line {lines[high[0]]}: {wrong}; mend the line or raise `longest`")
    negative = np.flatnonzero(trace.arrival < 0)
    if len(negative):
        wrong = f"arrival {trace.arrival[negative[0]]:g} s is negative; count from the first request"
        raise InputError(f"{path}, line {lines[negative[0]]}: {wrong}")
    gaps = np.diff(trace.arrival)
    back = np.flatnonzero(gaps < 0)
    if len(back) and not sort:
        wrong = f"arrives {-gaps[back[0]]:g} s before the line above, as {len(back)} lines of the file do"
        raise InputError(f"{path}, line {lines[back[0] + 1]}: {wrong}; sort the file or ask for it (--sort)")
    if len(back):
        trace = trace.take(np.argsort(trace.arrival, kind="stable"))
    return replace(trace, arrival=trace.arrival - trace.arrival[0])
