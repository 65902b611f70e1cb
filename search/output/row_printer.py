"""Print rows to the terminal: as a table, as a sheet of one row, as JSON or as CSV.

A row maps column names to text, numbers or booleans; the unit stands at the end of the column's name.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TextIO

from search.output.headings import heading
from search.output.row_export import shown_on, to_json, write_csv
from search.output.table_fit import (
    COLUMN_GAP,
    NUMBER,
    SHORT_BASES,
    TABLE_EDGE,
    Fit,
    Layout,
    column_blocks,
    fitted,
    heading_lines,
    total_width,
    wanted_columns,
)
from search.output.terminal import page_on, print_lines
from search.output.value_format import Row, is_known, with_range
from search.output.wrapping import wrapped

if TYPE_CHECKING:
    from rich.console import Console

    from search.output.terminal import Plain

Form = Literal["table", "json", "csv"]

#: Indent of texts below a row, and of the names in a sheet.
INDENT = "  "
#: Widest name in a sheet that the values are aligned to, characters.
SHEET_NAME_WIDTH = 34
#: Least width of the numbers of rows in a list of labels, characters.
LEAST_NUMBER_WIDTH = 4
RANGES = "80 % ranges"
#: Said of a table that leaves something out.
LEFT_OUT = "Not shown: {}; --wide shows them, --csv and --json have every column."
LEFT_OUT_BRIEFLY = "Not shown: {} (--wide)."
WORDS_NOTE = "perfmodel explain WORD explains a heading."


def print_rows(
    rows: Sequence[Row], form: Form = "table", layout: Layout | None = None, *, stream: TextIO | None = None
) -> None:
    """Print rows to `stream` (stdout by default) in the given form; JSON and CSV have every column.

    `layout` says how a table looks; JSON and CSV ignore it.
    """
    out = sys.stdout if stream is None else stream
    if form == "json":
        print(shown_on(out, to_json(rows)), file=out)
    elif form == "csv":
        write_csv(rows, out)
    else:
        _print_table(rows, layout or Layout(), page_on(out))


def print_sheet(
    row: Row,
    sections: Mapping[str, Sequence[str]],
    *,
    notes: Sequence[str] = (),
    wide: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Print one row in detail: by section, one column per line, with its 80 % interval.

    notes: lines printed below. wide: also print the columns that no section names.
    """
    page = page_on(sys.stdout if stream is None else stream)
    named = {c for columns in sections.values() for c in columns}
    others = [c for c in row if c not in named and not c.endswith(("_lo", "_hi"))] if wide else []
    for name, columns in {**sections, "Other figures": others}.items():
        known = [(heading(c), with_range(row, c)) for c in columns if is_known(row.get(c))]
        if known:
            print_lines(page, [name], "bold cyan")
            print_lines(page, _sheet_lines(known, page.width))
    for note in notes:
        print_lines(page, wrapped(note, page.width))


def _sheet_lines(known: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Return (name, value) pairs as lines in two columns.

    A long value goes on below its start; one with a word that is too long for its column stands below its name.
    """
    column = min(SHEET_NAME_WIDTH, width // 2)
    room = width - column - 2 * len(INDENT)
    lines = []
    for name, value in known:
        names, values = wrapped(name, column), wrapped(value, room) or [""]
        if max(map(len, value.split()), default=0) > room:
            lines += [f"{INDENT}{line}" for line in names]
            lines += [f"{INDENT * 2}{line}" for line in wrapped(value, width - 2 * len(INDENT))]
            continue
        height = max(len(names), len(values))
        cells = [texts + [""] * (height - len(texts)) for texts in (names, values)]
        lines += [f"{INDENT}{n:<{column}}{INDENT}{v}" for n, v in zip(*cells, strict=True)]
    return lines


def _print_table(rows: Sequence[Row], layout: Layout, page: Console | Plain) -> None:
    """Print rows as a table that fits the terminal, then what it leaves out and the notes."""
    width = page.width
    if layout.title:
        print_lines(page, wrapped(layout.title, width), "bold")
    if not rows:
        return
    if layout.blocks and not layout.wide:
        *first, last = column_blocks(rows, layout, width)
        for columns in first:
            _print_table(rows, replace(layout, title="", blocks=False, notes=(), columns=columns), page)
        layout = replace(layout, columns=last)
    shown, notes = _with_footnotes(_prepared(rows, layout), layout)
    fit = fitted(shown, layout, width)
    lost = [c for c in layout.numbered if c in wanted_columns(shown, layout) and c not in fit.columns]
    if lost:
        layout = replace(layout, footnotes=(*layout.footnotes, *lost), keep=(*layout.keep, *lost), numbered=())
        shown, notes = _with_footnotes(_prepared(rows, layout), layout)
        fit = fitted(shown, layout, width)
    label = layout.label or wanted_columns(shown, layout)[0]
    right = {c for c in fit.columns if c in layout.right or not any(isinstance(row.get(c), str) for row in shown)}
    print_lines(page, _head(fit, right, layout), "bold")
    print_lines(page, [" " * TABLE_EDGE + "─" * (total_width(fit.widths or ()) - TABLE_EDGE)])
    for row in shown:
        print_lines(page, [_line([fit.cell(row, c, layout, label) for c in fit.columns], fit, right)])
        print_lines(page, _below(row, fit, layout, label, width))
    print_lines(page, ["", *_listed(shown, fit, layout, label, width)])
    said = [*_omissions(shown, fit, layout, label), *layout.notes, *notes]
    print_lines(page, [line for note in said for line in wrapped(note, width, INDENT)])
    print_lines(page, [""] if said else [])


def _prepared(rows: Sequence[Row], layout: Layout) -> list[dict[str, Any]]:
    """Return the rows without the intervals that the layout leaves out, each with its number."""
    dropped = tuple(f"{c}{end}" for c in layout.without_range for end in ("_lo", "_hi"))
    return [{**{c: v for c, v in row.items() if c not in dropped}, NUMBER: i} for i, row in enumerate(rows, 1)]


def _with_footnotes(rows: Sequence[dict[str, Any]], layout: Layout) -> tuple[list[dict[str, Any]], list[str]]:
    """Replace the long texts of `layout.footnotes` by numbers; return the rows and the numbered texts.

    A column whose text is the same in all rows becomes one line below the table.
    """
    notes, out = [], [dict(row) for row in rows]
    numbers: dict[str, int] = {}
    for column in layout.footnotes:
        texts = [str(row.get(column) or "") for row in rows]
        if len(set(texts)) == 1:
            notes += [f"{layout.heading(column)}: {texts[0]}"] if texts[0] else []
        for row, text in zip(out, texts, strict=True):
            several = text and len(set(texts)) > 1
            row[column] = f"[{numbers.setdefault(text, len(numbers) + 1)}]" if several else ""
    return out, [*notes, *(f"[{n}] {text}" for text, n in numbers.items())]


def _head(fit: Fit, right: Collection[str], layout: Layout) -> list[str]:
    """Return the lines of the headings. right: columns that are set to the right."""
    return [_line(cells, fit, right) for cells in heading_lines(fit.columns, fit.widths or (), layout)]


def _line(cells: Sequence[str], fit: Fit, right: Collection[str]) -> str:
    """Return cells as one line; those of the columns `right` stand to the right."""
    placed = [
        f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
        for cell, column, width in zip(cells, fit.columns, fit.widths or (), strict=True)
    ]
    return " " * TABLE_EDGE + (" " * COLUMN_GAP).join(placed)


def _below(row: Row, fit: Fit, layout: Layout, label: str, width: int) -> list[str]:
    """Return the lines under a row: its texts of `layout.below`, and its label where that has no column."""
    labels = [label] if fit.listed and layout.below else []
    texts = [str(row.get(c)) for c in (*labels, *layout.below) if is_known(row.get(c))]
    return [f"{INDENT * 2}{line}" for text in texts for line in wrapped(text, width - 2 * len(INDENT), INDENT)]


def _listed(rows: Sequence[Row], fit: Fit, layout: Layout, label: str, width: int) -> list[str]:
    """Return the labels under the numbers of their rows, where the table has no room for them."""
    if not fit.listed or layout.below:
        return []
    number = layout.number or NUMBER
    numbers = [str(row[number]) for row in rows]
    start = max(LEAST_NUMBER_WIDTH, *map(len, numbers))
    indent = " " * start + INDENT
    lines = [f"{layout.heading(label)} by {layout.heading(number).lower()}:"]
    for row, name in zip(rows, numbers, strict=True):
        first, *rest = wrapped(str(row[label]), width - len(indent), INDENT)
        lines += [f"{name:>{start}}{INDENT}{first}", *(f"{indent}{line}" for line in rest)]
    return [*lines, ""]


def _omissions(rows: Sequence[Row], fit: Fit, layout: Layout, label: str) -> list[str]:
    """Say what short words mean, and which columns and ranges are left out."""
    bases = dict.fromkeys(str(row["basis"]) for row in rows) if fit.bases and "basis" in fit.columns else {}
    short = ", ".join(f"{SHORT_BASES[b]} {b}" for b in bases if b in SHORT_BASES)
    lines = [f"Basis: {short}."] if short else []
    lines += [layout.short_note] if fit.labels and layout.short_note else []
    gone = [c for c in wanted_columns(rows, layout) if c not in fit.columns and c != label]
    has_ranges = any(f"{c}_lo" in row for row in rows for c in fit.columns)
    missing = [*([RANGES] if has_ranges and not fit.ranges else []), *map(layout.heading, gone)]
    left_out = LEFT_OUT_BRIEFLY if layout.brief else f"{LEFT_OUT} {WORDS_NOTE}"
    return [*lines, *([left_out.format(", ".join(missing))] if missing else [])]
