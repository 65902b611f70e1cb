"""Length histograms: a trace reduced to C classes of requests, which keep its mean tokens exactly.

The shipped ones are in `perfmodel/workload/lengths/`. A histogram of your own is a CSV with the columns
`input_tokens,output_tokens,share` and optionally `prefix_hit`; lines that start with `#` before the header describe it
(`# source: ...`, `# request_rate_rps: 5.5`, `# peak_rate_rps: 7.5 over 300 s`).
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwdb import InputError, infile, outfile
from hwdb.csvfile import with_commas
from perfmodel.arrays import NAN, Array, Index
from perfmodel.workload.traces import Peak, Trace, Whole, peak_of

FOLDER = Path(__file__).parent / "lengths"

#: Quantiles that bound the 8 input and the 4 output classes of `Histogram.from_trace`. Chosen: finer towards the tail,
#: because the few long requests decide memory and percentiles.
INPUT_QUANTILES = (0.0, 0.2, 0.4, 0.6, 0.75, 0.87, 0.95, 0.99, 1.0)
OUTPUT_QUANTILES = (0.0, 0.4, 0.7, 0.9, 1.0)
#: Note of a file that has the peak of its load.
PEAK_NOTE = "peak_rate_rps"
#: Coefficient of variation of the gaps between Poisson arrivals.
POISSON_CV = 1.0
#: Most length classes. Chosen: hundreds of times what a length distribution needs, and still answered in seconds.
MOST_CLASSES = 4096
REQUIRED = ("input_tokens", "output_tokens", "share")
COLUMNS = (*REQUIRED, "prefix_hit")
#: (least, most) value of a column; tokens have `TOKEN_RANGE`.
SHARE_RANGES = {"share": (0.0, 1.0), "prefix_hit": (0.0, 1.0)}
#: Chosen: far above any model's context, so that only slips are refused.
TOKEN_RANGE = (1.0, 1e9)
#: Largest number of requests, and of requests per second, that a comment may state. Chosen: more is an error.
MOST_NOTED = 1e15
#: How far shares may sum from 1 in a file. Chosen: they are written with a few digits.
SHARE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Histogram:
    """C classes of requests.

    input_tokens, output_tokens: (C,) mean tokens per request of each class. share: (C,) share of all requests.
    prefix_hit: (C,) share of a class's prompt tokens that an infinite prefix cache holds (an upper bound).
    requests: how many requests the histogram was made from. rate: their mean arrival rate in requests/s, NaN where
    unknown. peak: the busiest time of the load, None where it is steady or not known. name, source, licence: what it
    is called and where its data came from. isl_dist: how lengths spread within a class, as in `Workload`. output_max:
    tokens at which outputs are cut, infinite where nothing cuts them. output_cv, prompt_tail: as in `Workload`.
    """

    input_tokens: Array
    output_tokens: Array
    share: Array
    prefix_hit: Array
    requests: int = 0
    rate: float = NAN
    name: str = ""
    source: str = ""
    licence: str = ""
    isl_dist: str = ""
    output_max: float = math.inf
    output_cv: float = NAN
    prompt_tail: float = NAN
    peak: Peak | None = None

    def __len__(self) -> int:
        return len(self.share)

    @classmethod
    def from_trace(cls, trace: Trace, classes: tuple[int, int] = (8, 4)) -> Histogram:
        """Sort the requests of `trace` into classes: by quantiles of prompt length, then of output length within each.

        classes: most classes by prompt length, and by output length within each. Every class has the mean lengths of
        its requests, so mean prompt, output and reused tokens are those of the trace. Requests of equal length stay in
        one class. Raises `InputError` for more than `MOST_CLASSES` classes.
        """
        if not 0 < classes[0] * classes[1] <= MOST_CLASSES:
            wrong = f"{classes[0]:g} x {classes[1]:g} classes are too many"
            raise InputError(f"{wrong}; give two numbers from 1 whose product is at most {MOST_CLASSES}")
        input_edges = _edges(INPUT_QUANTILES, classes[0])
        output_edges = _edges(OUTPUT_QUANTILES, classes[1])
        group = _split(trace.input, input_edges)
        code = np.zeros(len(trace), dtype=np.int64)
        for g in np.unique(group):
            inside = group == g
            code[inside] = g * (classes[1] + 1) + _split(trace.output[inside], output_edges)
        _, index, counts = np.unique(code, return_inverse=True, return_counts=True)
        totals = [np.bincount(index, weights=v) for v in (trace.input, trace.output, trace.reused_tokens())]
        return cls(
            input_tokens=totals[0] / counts,
            output_tokens=totals[1] / counts,
            share=counts / len(trace),
            prefix_hit=totals[2] / totals[0],
            requests=len(trace),
            rate=trace.rate,
            name=trace.name,
            source=trace.source,
            peak=peak_of(trace),
        )

    def write(self, path: str | Path) -> None:
        """Write the CSV that `read_histogram` reads, headed by name, source and licence."""
        lines = [
            f"# name: {self.name}",
            f"# source: {self.source}",
            f"# licence: {self.licence}",
            f"# requests: {self.requests}",
            f"# request_rate_rps: {self.rate:.6g}",
            *([f"# {PEAK_NOTE}: {self.peak.rate:.6g} over {self.peak.window:g} s"] if self.peak is not None else []),
            "input_tokens,output_tokens,share,prefix_hit",
        ]
        columns = zip(self.input_tokens, self.output_tokens, self.share, self.prefix_hit, strict=True)
        lines += [",".join(f"{float(v):.15g}" for v in row) for row in columns]
        outfile.write_text(path, "\n".join(lines) + "\n")


def _edges(quantiles: tuple[float, ...], count: int) -> Array:
    """Return the quantiles that bound `count` classes, (count + 1,): those given where their number fits, else
    interpolated.
    """
    given = np.array(quantiles)
    edges: Array = np.interp(np.linspace(0, 1, count + 1), np.linspace(0, 1, len(given)), given)
    return edges


def _split(values: Whole, quantiles: Array) -> Index:
    """Return the class of each value, (R,), by quantiles of all of them; equal values share a class."""
    inner = np.unique(np.quantile(values, quantiles[1:-1], method="lower"))
    return np.searchsorted(inner, values, side="right")


def read_histogram(path: str | Path) -> Histogram:
    """Read the histogram in the CSV at `path`; `InputError` names line, column and value of what is wrong."""
    lines = _lines(path)
    notes = dict(_note(line) for line in lines if line.startswith("#"))
    body = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    try:
        rows = [(n, [v.strip() for v in next(csv.reader([line]))]) for n, line in body]
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV table ({error}); give a CSV with {','.join(REQUIRED)}") from None
    if len(rows) > MOST_CLASSES + 1:
        raise InputError(f"{path}: {len(rows) - 1} length classes are too many; give at most {MOST_CLASSES}")
    if len(rows) < 2:
        raise InputError(f"{path}: the histogram holds no class; give a header and at least one line")
    columns = _columns(str(path), rows)
    share = columns["share"]
    if not abs(share.sum() - 1) < SHARE_TOLERANCE:
        raise InputError(f"{path}: the column share sums to {share.sum():g}; make it sum to 1")
    return Histogram(
        input_tokens=columns["input_tokens"],
        output_tokens=columns["output_tokens"],
        share=share / share.sum(),
        prefix_hit=columns.get("prefix_hit", np.zeros(len(share))),
        requests=int(_noted(notes, "requests", "0", path)),
        rate=_noted(notes, "request_rate_rps", "nan", path),
        peak=_peak(str(path), notes),
        name=notes.get("name", Path(path).stem),
        source=notes.get("source", str(path)),
        licence=notes.get("licence", ""),
    )


def _peak(path: str, notes: dict[str, str]) -> Peak | None:
    """Read the note `# peak_rate_rps: 7.5 over 300 s` of a histogram; None without it. Its gaps count as random.

    path: what messages call the file. notes: the notes by name.
    """
    if PEAK_NOTE not in notes:
        return None
    try:
        rate, window = (float(v) for v in notes[PEAK_NOTE].removesuffix("s").split("over"))
        mean = float(notes["request_rate_rps"])
    except (ValueError, KeyError):
        rate, window, mean = NAN, NAN, NAN
    if not (np.isfinite([rate, window, mean]).all() and min(rate, window, mean) > 0 and rate >= mean):
        text = f"{PEAK_NOTE} {notes[PEAK_NOTE]!r} is no peak above request_rate_rps"
        raise InputError(f"{path}: {text}; write it as in # {PEAK_NOTE}: 7.5 over 300 s")
    return Peak(rate=rate, mean=mean, window=window, start=NAN, cv=POISSON_CV)


def _lines(path: str | Path) -> list[str]:
    """Return the lines of the file; raise `InputError` where it cannot be read."""
    remedy = f"give an existing CSV with {','.join(REQUIRED)}"
    lines = infile.read_table_text(path, "histogram", remedy, infile.MOST_CONFIG).splitlines()
    notes = {n: line for n, line in enumerate(lines) if line.startswith("#")}
    body = "\n".join("" if n in notes else line for n, line in enumerate(lines))
    return [notes.get(n, line) for n, line in enumerate(with_commas(body, str(path)).splitlines())]


def _note(line: str) -> tuple[str, str]:
    """Split a line `# key: value` into (key, value)."""
    key, _, value = line.lstrip("# ").partition(":")
    return key.strip(), value.strip()


def _noted(notes: dict[str, str], key: str, default: str, path: str | Path) -> float:
    """Return the number that the comment `# key: number` gives, NaN where it says nan; `InputError` for anything else.

    notes: the comments by key. default: what counts where there is no such comment.
    """
    text = notes.get(key, default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    unknown = math.isnan(value) and math.isnan(float(default))
    if not (unknown or 0 <= value <= MOST_NOTED):
        raise InputError(f"{path}: the comment {key} says {text[:40]!r}, which is no number; correct or remove it")
    return value


def _columns(path: str, rows: list[tuple[int, list[str]]]) -> dict[str, Array]:
    """Return the columns of the CSV by name, (C,) numbers each.

    path: what messages call the file. rows: (line number, fields) of the header and of every class.
    """
    header = rows[0][1]
    for name in REQUIRED:
        if name not in header:
            raise InputError(f"{path}, line {rows[0][0]}: no column {name} among {', '.join(header)}; add it")
    columns: dict[str, Array] = {}
    for place, name in enumerate(header):
        if name in columns:
            raise InputError(f"{path}, line {rows[0][0]}: column {name!r} appears twice; remove one")
        if name not in COLUMNS:
            raise InputError(
                f"{path}, line {rows[0][0]}: unknown column {name!r}; the columns are input_tokens, "
                "output_tokens, share and prefix_hit"
            )
        columns[name] = np.array([_cell(f"{path}, line {n}", row, place, header) for n, row in rows[1:]])
    return columns


def _cell(where: str, row: list[str], place: int, header: list[str]) -> float:
    """Return the number in field `place` of a row; raise `InputError` where it is none.

    where: what messages call the line. header: names of the fields.
    """
    if len(row) != len(header):
        raise InputError(f"{where}: {len(row)} fields where the header has {len(header)}; give each its value")
    least, most = SHARE_RANGES.get(header[place], TOKEN_RANGE)
    try:
        value = float(row[place])
    except ValueError:
        value = NAN
    if not least <= value <= most:
        wrong = f"{header[place]} {row[place]!r} is not a number from {least:g} to {most:g}"
        raise InputError(f"{where}: {wrong}; correct it")
    return value
