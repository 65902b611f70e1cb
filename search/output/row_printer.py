"""Print rows to the terminal: as a table, as a sheet of one row, as JSON or as CSV.

A row maps column names to text, numbers or booleans; the unit stands at the end of the column's name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Literal, TextIO

from search.output.headings import heading
from search.output.row_export import columns_of, to_json, write_csv
from search.output.terminal import console_on
from search.output.value_format import Row, is_known, with_range

if TYPE_CHECKING:
    from rich.table import Table

Form = Literal["table", "json", "csv"]

#: Columns whose text may be broken over several lines.
PROSE = ("reason", "source", "note", "title", "answer", "price", "remark", "value", "meaning")
#: Width that a prose column gets at least, in characters.
PROSE_WIDTH = 24
#: Characters between two columns of a table, and around them all, as rich draws `SIMPLE_HEAD` with a padding of 1.
COLUMN_GAP, TABLE_EDGE = 2, 1
#: Width of the names in a sheet, in characters.
SHEET_NAME_WIDTH = 28
RANGES_LEFT_OUT = "The table is too wide for the 80 % ranges; --json and --csv have them."


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a table looks. Columns that are empty in every row are left out.

    title: printed above. columns: to print, in order; all by default. notes: lines printed below. without_range:
    columns that are printed without their 80 % interval.
    """

    title: str = ""
    columns: Sequence[str] = ()
    notes: Sequence[str] = ()
    without_range: Sequence[str] = ()


def print_rows(
    rows: Sequence[Row], form: Form = "table", layout: Layout | None = None, *, stream: TextIO | None = None
) -> None:
    """Print rows to `stream` (stdout by default) in the given form; JSON and CSV have every column.

    `layout` says how a table looks; JSON and CSV ignore it.
    """
    out = sys.stdout if stream is None else stream
    if form == "json":
        print(to_json(rows), file=out)
    elif form == "csv":
        write_csv(rows, out)
    else:
        _print_table(rows, layout or Layout(), out)


def print_sheet(row: Row, sections: Mapping[str, Sequence[str]], *, stream: TextIO | None = None) -> None:
    """Print one row in detail: by section, one column per line, with its 80 % interval."""
    from rich.table import Table
    from rich.text import Text

    console = console_on(sys.stdout if stream is None else stream)
    for name, columns in sections.items():
        known = [(heading(c), with_range(row, c)) for c in columns if is_known(row.get(c))]
        if known:
            console.print(Text(name, style="bold cyan"))
            table = Table.grid(padding=(0, 2))
            table.add_column(min_width=SHEET_NAME_WIDTH)
            for label, value in known:
                table.add_row(Text(f"  {label}"), Text(value))
            console.print(table)


def known_columns(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return the columns in which at least one row has a value to print."""
    return [c for c in columns if any(is_known(row.get(c)) for row in rows)]


def _print_table(rows: Sequence[Row], layout: Layout, out: TextIO) -> None:
    """Print rows as a table; the 80 % intervals are left out where they make it wider than the terminal."""
    from rich.text import Text

    console = console_on(out)
    dropped = tuple(f"{c}_" for c in layout.without_range)
    shown = [{c: v for c, v in row.items() if not c.startswith(dropped)} for row in rows]
    columns = known_columns(shown, layout.columns or columns_of(shown))
    cells = [[with_range(row, c) for c in columns] for row in shown]
    notes = list(layout.notes)
    has_ranges = any(f"{c}_lo" in row for row in shown for c in columns)
    if has_ranges and _total_width(_column_widths(columns, cells)) > console.width:
        cells = [[with_range({c: row.get(c)}, c) for c in columns] for row in shown]
        notes.append(RANGES_LEFT_OUT)
    table = _empty_table(layout.title, shown, columns, _fitting_widths(columns, cells, console.width))
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
    for note in notes:
        console.print(Text(note))


def _empty_table(title: str, rows: Sequence[Row], columns: Sequence[str], widths: Sequence[int]) -> Table:
    """Return a rich table with its headings and no rows; columns of numbers are set to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column, width in zip(columns, widths or repeat(None), strict=False):
        numeric = all(not isinstance(row.get(column), str) for row in rows)
        table.add_column(
            Text(heading(column)),
            justify="right" if numeric else "left",
            overflow="fold",
            width=None if column in PROSE else width,
        )
    return table


def _fitting_widths(columns: Sequence[str], cells: Sequence[Sequence[str]], available: int) -> list[int]:
    """Return the widest column widths that fit into `available` characters.

    Tried in turn: headings on one line, headings broken between words. Where neither fits, none is set.
    """
    for unbroken in (True, False):
        widths = _column_widths(columns, cells, unbroken_headings=unbroken)
        if _total_width(widths) <= available:
            return widths
    return []


def _column_widths(
    columns: Sequence[str], cells: Sequence[Sequence[str]], *, unbroken_headings: bool = False
) -> list[int]:
    """Return the characters that each column needs to break no cell (except prose) and no word of its heading."""
    longest_cells = [max([len(line[i]) for line in cells], default=0) for i in range(len(columns))]
    widths = []
    for column, longest in zip(columns, longest_cells, strict=True):
        words = [heading(column)] if unbroken_headings else heading(column).split()
        cell = min(longest, PROSE_WIDTH) if column in PROSE else longest
        widths.append(max(cell, *(len(w) for w in words)))
    return widths


def _total_width(widths: Sequence[int]) -> int:
    """Return the characters that a table with columns of these widths takes, borders included."""
    return sum(widths) + COLUMN_GAP * len(widths) + TABLE_EDGE
