"""Length histograms: a trace boiled down to C classes of requests, keeping its mean tokens exactly.

The shipped ones lie in `perfmodel/workload/lengths/`; a histogram of your own is a CSV with `input_tokens,output_tokens,share`
(and `prefix_hit` if wanted), lines starting with `#` before it saying what it is (`# source: ...`).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.workload.traces import Trace, Whole

FOLDER = Path(__file__).parent / "lengths"

#: Quantiles at which the 8 input and 4 output classes of `Histogram.from_trace` part: finer towards the tail, because
#: the few long requests decide memory and percentiles.
INPUT_QUANTILES = (0.0, 0.2, 0.4, 0.6, 0.75, 0.87, 0.95, 0.99, 1.0)
OUTPUT_QUANTILES = (0.0, 0.4, 0.7, 0.9, 1.0)


@dataclass(frozen=True)
class Histogram:
    """C classes: mean input_tokens, output_tokens, share of requests and prefix_hit of each, all (C,).

    prefix_hit: share of a class's prompt tokens that an endless prefix cache holds (an upper bound).
    requests: how many the histogram was made from; rate: their mean a second (NaN when unknown).
    """

    input_tokens: Array
    output_tokens: Array
    share: Array
    prefix_hit: Array
    requests: int = 0
    rate: float = float("nan")
    name: str = ""
    source: str = ""
    licence: str = ""

    def __len__(self) -> int:
        return len(self.share)

    @classmethod
    def from_trace(cls, trace: Trace, classes: tuple[int, int] = (8, 4)) -> Histogram:
        """Classes of `trace`: input quantiles, then output quantiles inside each, at most `classes` of them.

        Each class carries the mean of its requests, so mean input, output and reused tokens are those of the trace.
        Requests of equal length stay in one class.
        """
        first = _edges(INPUT_QUANTILES, classes[0])
        second = _edges(OUTPUT_QUANTILES, classes[1])
        group = _parted(trace.input, first)
        code = np.zeros(len(trace), dtype=np.int64)
        for g in np.unique(group):
            inside = group == g
            code[inside] = g * (classes[1] + 1) + _parted(trace.output[inside], second)
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
        )

    def write(self, path: str | Path) -> None:
        """Write the CSV that `read_histogram` reads, with name, source and licence in front."""
        lines = [
            f"# name: {self.name}",
            f"# source: {self.source}",
            f"# licence: {self.licence}",
            f"# requests: {self.requests}",
            f"# request_rate_rps: {self.rate:.6g}",
            "input_tokens,output_tokens,share,prefix_hit",
        ]
        columns = zip(self.input_tokens, self.output_tokens, self.share, self.prefix_hit, strict=True)
        lines += [",".join(f"{float(v):.15g}" for v in row) for row in columns]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _edges(quantiles: tuple[float, ...], count: int) -> Array:
    """`count` + 1 quantiles that follow the given shape: its own when the count fits, else interpolated."""
    given = np.array(quantiles)
    return np.interp(np.linspace(0, 1, count + 1), np.linspace(0, 1, len(given)), given)


def _parted(values: Whole, quantiles: Array) -> NDArray[np.intp]:
    inner = np.unique(np.quantile(values, quantiles[1:-1], method="lower"))
    return np.searchsorted(inner, values, side="right")


def read_histogram(path: str | Path) -> Histogram:
    """The histogram in the CSV at `path`; `InputError` names line, column and value of what is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such histogram; give an existing CSV with input_tokens,output_tokens,share"
        ) from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError):
        raise InputError(f"{path}: cannot be read as text; give a CSV with input_tokens,output_tokens,share") from None
    lines = text.splitlines()
    notes = dict(_note(line) for line in lines if line.startswith("#"))
    body = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    rows = [(n, [v.strip() for v in next(csv.reader([line]))]) for n, line in body]
    if len(rows) < 2:
        raise InputError(f"{path}: the histogram holds no class; give a header and at least one line")
    columns = _columns(str(path), rows)
    share = columns["share"]
    if not abs(share.sum() - 1) < 1e-3:
        raise InputError(f"{path}: the column share sums to {share.sum():g}; make it sum to 1")
    return Histogram(
        input_tokens=columns["input_tokens"],
        output_tokens=columns["output_tokens"],
        share=share / share.sum(),
        prefix_hit=columns.get("prefix_hit", np.zeros(len(share))),
        requests=int(notes.get("requests", "0")),
        rate=float(notes.get("request_rate_rps", "nan")),
        name=notes.get("name", Path(path).stem),
        source=notes.get("source", str(path)),
        licence=notes.get("licence", ""),
    )


def _note(line: str) -> tuple[str, str]:
    key, _, value = line.lstrip("# ").partition(":")
    return key.strip(), value.strip()


def _columns(path: str, rows: list[tuple[int, list[str]]]) -> dict[str, Array]:
    header = rows[0][1]
    for name in ("input_tokens", "output_tokens", "share"):
        if name not in header:
            raise InputError(f"{path}, line {rows[0][0]}: no column {name} among {', '.join(header)}; add it")
    columns: dict[str, Array] = {}
    for place, name in enumerate(header):
        if name not in ("input_tokens", "output_tokens", "share", "prefix_hit"):
            raise InputError(
                f"{path}, line {rows[0][0]}: unknown column {name!r}; the columns are input_tokens, "
                "output_tokens, share and prefix_hit"
            )
        columns[name] = np.array([_cell(path, n, row, place, name, len(header)) for n, row in rows[1:]])
    return columns


def _cell(path: str, number: int, row: list[str], place: int, name: str, width: int) -> float:
    if len(row) != width:
        raise InputError(f"{path}, line {number}: {len(row)} fields where the header has {width}; give each its value")
    least, most = {"share": (0.0, 1.0), "prefix_hit": (0.0, 1.0)}.get(name, (1.0, 1e9))
    try:
        value = float(row[place])
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise InputError(
            f"{path}, line {number}: {name} {row[place]!r} is not a number from {least:g} to {most:g}; mend it"
        )
    return value
