"""Rows to a terminal, to JSON or to CSV. The only module that knows what output looks like; it computes nothing.

A row is a flat mapping of column name to text, number or truth; the unit stands at the end of the column name. JSON is
an array of such objects, one a row; unknown (NaN) becomes null in JSON and empty in CSV.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from hwdb import InputError

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
Form = Literal["table", "json", "csv"]

#: Last words of a column name that are units, as they are printed in a heading.
UNITS = {
    "ms": "ms",
    "us": "µs",
    "s": "s",
    "w": "W",
    "kw": "kW",
    "gb": "GB",
    "mb": "MB",
    "kb": "KB",
    "tflops": "TFLOP/s",
    "tops": "TOP/s",
    "usd": "$",
    "percent": "%",
    "rps": "req/s",
    "kg": "kg",
    "j": "J",
    "flop": "FLOP",
}
#: Endings of several words.
ENDINGS = {
    "_usd_per_hour": " $/h",
    "_usd_per_million_tokens": " $/M output tokens",
    "_tok_s": " tok/s",
    "_gb_s": " GB/s",
    "_usd_per_million_total_tokens": " $/M tokens",
    "_tb_s": " TB/s",
    "_req_s": " req/s",
    "_per_hour": "/h",
    "_flop_per_byte": " FLOP/B",
    "_gb_per_device": " GB/device",
    "_w_per_device": " W/device",
    "_per_s": "/s",
    "_j_per_output_token": " J/output token",
    "_j_per_token": " J/output token",
    "_tok_s_per_device": " tok/s/device",
    "_gco2_per_million_tokens": " gCO2/M output tokens",
}
DTYPES = {"bf16", "fp16", "fp32", "fp64", "tf32", "fp8", "fp4", "int8", "int4"}
ACRONYMS = {"isl", "osl", "ttft", "tpot", "itl", "e2e", "tp", "pp", "ep", "dp", "cp", "kv", "slo", "gpu", "l2", "tdp"}
#: Columns whose text may be broken over lines, and the least width they get.
PROSE = ("reason", "source", "note", "title", "answer", "price", "remark", "value")
PROSE_WIDTH = 24
SECONDS_BEFORE_A_BAR = 1.0
#: Characters a line may have where output goes to a file or pipe and COLUMNS is not set.
WIDE = 200


def form(as_json: bool, as_csv: bool) -> Form:
    """The output form that the flags ask for; `InputError` when they ask for two."""
    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other; give one of them")
    return "json" if as_json else "csv" if as_csv else "table"


def heading(column: str) -> str:
    """A column name as a heading.

    >>> heading("ttft_ms_p99"), heading("cost_usd_per_hour"), heading("model")
    ('TTFT p99 ms', 'Cost $/h', 'Model')
    """
    if "-" in column:  # the name of a device or a model
        return column
    if f"_{column}" in ENDINGS:
        return ENDINGS[f"_{column}"].strip()
    for ending, unit in ENDINGS.items():
        if column.endswith(ending):
            return _words(column.removesuffix(ending).split("_")) + unit
    words = column.split("_")
    units = [w for w in words[1:] if w in UNITS]
    names = [w for i, w in enumerate(words) if i == 0 or w not in UNITS]
    return " ".join([_words(names), *(UNITS[u] for u in units)])


def _words(names: Sequence[str]) -> str:
    shown = [n.upper() if n in ACRONYMS else n for n in names]
    keep = shown[0].isupper() or shown[0] in DTYPES
    return " ".join([shown[0] if keep else shown[0].capitalize(), *shown[1:]])


def number(value: Any) -> str:
    """A value as people read it: three significant digits, thousands apart, a dash for unknown.

    >>> number(1234567.0), number(0.01234), number(float("nan")), number(True), number(12)
    ('1,234,567', '0.0123', '–', 'yes', '12')
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if type(value).__name__ in ("bool", "bool_"):
        return "yes" if value else "no"
    real = float(value)
    if math.isnan(real):
        return "–"
    if math.isinf(real):
        return "∞" if real > 0 else "-∞"
    if real == int(real) and abs(real) < 1e15:
        return f"{int(real):,}"
    if abs(real) >= 100:
        return f"{real:,.0f}"
    if abs(real) < 1e-3:
        return f"{real:.2e}"
    digits = 2 - math.floor(math.log10(abs(real)))
    return f"{real:.{max(0, digits)}f}"


def percent(chance: Any) -> str:
    """A probability as people read it.

    >>> percent(0.934), percent(0.9996), percent(float("nan"))
    ('93 %', '> 99 %', '–')
    """
    if number(chance) == "–":
        return "–"
    if 0.0 < chance < 0.01 or 0.99 < chance < 1.0:
        return "< 1 %" if chance < 0.5 else "> 99 %"
    return f"{100.0 * chance:.0f} %"


def money(value: Any) -> str:
    """Dollars as people read them: cents, three digits below a cent, no cents from a hundred on.

    >>> money(0.8), money(19.2), money(1234.5), money(0.00321)
    ('0.80', '19.20', '1,234', '0.00321')
    """
    if value is None or isinstance(value, str) or not math.isfinite(value) or 0.0 < abs(value) < 0.01:
        return number(value)
    return f"{value:.2f}" if abs(value) < 100.0 else f"{value:,.0f}"


def with_range(row: Row, column: str) -> str:
    """A value of a row with its 80 % interval, where the row has one.

    >>> with_range({"ttft_ms": 120.0, "ttft_ms_lo": 100.0, "ttft_ms_hi": 150.0}, "ttft_ms")
    '120 (100–150)'
    """
    low, high = row.get(f"{column}_lo"), row.get(f"{column}_hi")
    words = column.split("_")
    told = percent if "chance" in words else money if "usd" in words else number
    value = told(row.get(column))
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return value
    return f"{value} ({told(low)}–{told(high)})"


def plain(value: Any) -> Any:
    """A value as JSON and CSV hold it: Python's own types, None for what is unknown or without bound."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Every column that a row has, in order of appearance."""
    return list(dict.fromkeys(c for row in rows for c in row))


def to_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON array of flat objects."""
    return json.dumps([{c: plain(v) for c, v in row.items()} for row in rows], indent=1, ensure_ascii=False)


def write_csv(rows: Sequence[Row], stream: TextIO) -> None:
    """The rows as CSV with a heading line."""
    writer = csv.DictWriter(stream, columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({c: plain(v) for c, v in row.items()} for row in rows)


def show(
    rows: Sequence[Row],
    as_form: Form = "table",
    *,
    title: str = "",
    columns: Sequence[str] = (),
    notes: Sequence[str] = (),
    bare: Sequence[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Print rows. A table shows `columns` (default: all) with ranges folded in, but for `bare` ones; JSON and CSV hold
    every column."""
    out = sys.stdout if stream is None else stream
    if as_form == "json":
        print(to_json(rows), file=out)
    elif as_form == "csv":
        write_csv(rows, out)
    else:
        shown = [{c: v for c, v in row.items() if not c.startswith(tuple(f"{b}_" for b in bare))} for row in rows]
        _table(shown, title, columns or columns_of(shown), notes, out)


def deliver(frame: pd.DataFrame, path: Path | None, as_form: Form) -> None:
    """A frame of predictions as CSV or JSON, to `path` or to stdout; how many rows were refused goes to stderr."""
    if as_form == "json":
        text = to_json([{str(c): v for c, v in row.items()} for row in frame.to_dict(orient="records")]) + "\n"
    else:
        text = frame.to_csv(index=False, lineterminator="\n")
    if path is None:
        sys.stdout.write(text)
        return
    write_text(path, text)
    refused = int((frame["error"] != "").sum())
    print(f"{path}: {len(frame) - refused} of {len(frame)} rows answered, {refused} refused", file=sys.stderr)


def write_text(path: Path, text: str) -> None:
    """Write a file, gzipped where its name ends in .gz; `InputError` where that cannot be done."""
    data = text.encode()
    try:
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give a file in an existing folder") from error


def _table(rows: Sequence[Row], title: str, columns: Sequence[str], notes: Sequence[str], out: TextIO) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = _console(out)
    kept = [c for c in columns if any(number(row.get(c)) not in ("–", "") for row in rows)]
    cells = [[with_range(row, c) for c in kept] for row in rows]
    if _total(_widths(kept, cells)) > console.width and any(f"{c}_lo" in row for row in rows for c in kept):
        cells = [[with_range({c: row.get(c)}, c) for c in kept] for row in rows]
        notes = [*notes, "ranges left out for want of width; they are in --json and --csv"]
    widths = next(
        (w for w in (_widths(kept, cells, least=False), _widths(kept, cells)) if _total(w) <= console.width), []
    )
    named = Text(title) if title else None
    table = Table(
        title=named, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for column, width in zip(kept, widths or repeat(None), strict=False):
        numeric = all(not isinstance(row.get(column), str) for row in rows)
        table.add_column(
            Text(heading(column)),
            justify="right" if numeric else "left",
            overflow="fold",
            width=None if column in PROSE else width,
        )
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
    for note in notes:
        console.print(Text(note))


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]], least: bool = True) -> list[int]:
    """Characters that each column needs to break no cell (prose aside) and, at least, no word of its heading."""
    longest = [max([len(line[i]) for line in cells], default=0) for i in range(len(columns))]
    words = [max(len(w) for w in (heading(c).split() if least else [heading(c)])) for c in columns]
    return [max(min(n, PROSE_WIDTH) if c in PROSE else n, w) for c, n, w in zip(columns, longest, words, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * len(widths) + 1


def say(text: str, *, strong: bool = False, stream: TextIO | None = None) -> None:
    """Print a sentence, wrapped to the terminal."""
    from rich.text import Text

    _console(sys.stdout if stream is None else stream).print(Text(text, style="bold" if strong else ""))


def sheet(row: Row, sections: Mapping[str, Sequence[str]], *, title: str = "", stream: TextIO | None = None) -> None:
    """Print one row in detail: the named columns of each section, one a line, with their ranges."""
    from rich.table import Table
    from rich.text import Text

    console = _console(sys.stdout if stream is None else stream)
    if title:
        console.print(Text(title, style="bold"))
    for name, columns in sections.items():
        told = [(heading(c), with_range(row, c)) for c in columns if number(row.get(c)) not in ("–", "")]
        if told:
            console.print(Text(name, style="bold cyan"))
            table = Table.grid(padding=(0, 2))
            table.add_column(min_width=28)
            for label, value in told:
                table.add_row(Text(f"  {label}"), Text(value))
            console.print(table)


def _console(out: TextIO) -> Any:
    from rich.console import Console

    width = None if out.isatty() else shutil.get_terminal_size((WIDE, 50)).columns
    return Console(file=out, width=width, highlight=False, soft_wrap=False)


def _nothing(_done: float, _total: float) -> None:
    """Stand-in for a bar where nobody would see it."""


@contextmanager
def progress(label: str, stream: TextIO | None = None) -> Iterator[Callable[[float, float], None]]:
    """A callback (done, total) that draws a bar on stderr, once work has taken over a second, on a terminal only."""
    from rich.progress import Progress

    out = sys.stderr if stream is None else stream
    if not out.isatty():
        yield _nothing
        return
    bar = Progress(console=_console(out), transient=True)
    started, task = time.monotonic(), bar.add_task(label, total=None, start=True)

    def update(done: float, total: float) -> None:
        if not bar.live.is_started and time.monotonic() - started > SECONDS_BEFORE_A_BAR:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        bar.stop()
