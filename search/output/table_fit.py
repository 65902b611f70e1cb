"""Fit a table into the width of a terminal: choose its columns, the form of its texts, and the lines of its headings.

No cell and no word of a heading is broken. What does not fit is left out, the least important first, and `Fit` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from search.output.headings import heading
from search.output.row_export import columns_of
from search.output.value_format import Row, is_known, with_range
from search.output.wrapping import narrowest, wrapped

#: Characters between two columns of a table, and at its left edge.
COLUMN_GAP, TABLE_EDGE = 2, 1
#: Most lines of a heading. Chosen: as many as our longest heading has words.
MOST_HEADING_LINES = 6
#: Widest cell of a column, by the column and the form of its texts.
Widths = dict[tuple[str, bool, bool, bool], int]
#: Words for the basis of an estimate where the whole word does not fit.
SHORT_BASES = {
    "measured": "meas.",
    "interpolated": "interp.",
    "extrapolated": "extrap.",
    "calibrated": "calib.",
    "roofline": "roof.",
    "unknown": "unk.",
}
#: Column with the number of a row, from 1, where the labels are listed below the table.
NUMBER = "#"


def whole_word(text: str) -> str:
    """Return the word that a table prints shortened: `tp` for `TP4`, `interpolated` for `interp.`; else the text.

    >>> whole_word("TP4"), whole_word("interp."), whole_word("ttft_ms")
    ('tp', 'interpolated', 'ttft_ms')
    """
    degree = re.fullmatch(r"(tp|pp|ep|dp|cp|kvp)\d+", text.lower())
    short = {abbreviation: word for word, abbreviation in SHORT_BASES.items()}
    return degree[1] if degree else short.get(text.lower(), text)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a table looks. Columns that are empty in every row are left out.

    title: printed above. columns: to print, in order; all by default. label: the column that names a row; by default
    the first. number: the column that numbers the rows, if any. keep: columns that stay while there is another way.
    drop: columns in the order in which they go, the least important first; by default from the right. short: text ->
    shorter text, used where the full one does not fit; short_note says what the short form means. footnotes: columns of
    long texts, which are listed below the table under numbers. numbered: columns that tell rows apart, which become
    footnotes where they do not fit. below: columns whose text stands in lines of its own under the row. notes: lines
    printed below. headings: column -> heading, where it is not that of the column's name.
    right: columns set to the right although they hold text. without_range: columns printed without their 80 % interval.
    wide: True prints every column, whatever the width of the terminal. brief: True says in few words what is left out.
    blocks: True prints columns that do not fit as further tables below, and leaves none out.
    """

    title: str = ""
    columns: Sequence[str] = ()
    label: str = ""
    number: str = ""
    keep: Sequence[str] = ()
    drop: Sequence[str] = ()
    short: Mapping[str, str] = field(default_factory=dict)
    short_note: str = ""
    footnotes: Sequence[str] = ()
    numbered: Sequence[str] = ()
    below: Sequence[str] = ()
    notes: Sequence[str] = ()
    headings: Mapping[str, str] = field(default_factory=dict)
    right: Sequence[str] = ()
    without_range: Sequence[str] = ()
    wide: bool = False
    brief: bool = False
    blocks: bool = False

    def heading(self, column: str) -> str:
        """Return the heading of a column."""
        return self.headings.get(column) or heading(column)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A table that fits: `columns`, `widths` (None: it does not fit at all) and the form of its texts.

    ranges: with 80 % intervals. bases, labels: True where bases or labels are in their short form. listed: True where
    the labels are listed below, under the number of their row.
    """

    columns: tuple[str, ...]
    widths: tuple[int, ...] | None = None
    ranges: bool = True
    bases: bool = False
    labels: bool = False
    listed: bool = False

    def cell(self, row: Row, column: str, layout: Layout, label: str) -> str:
        """Return the text of a row in a column, on one line."""
        text = with_range(row if self.ranges else {column: row.get(column)}, column)
        if column == "basis" and self.bases:
            text = SHORT_BASES.get(text, text)
        elif column == label and self.labels:
            text = layout.short.get(text, text)
        return " ".join(text.split())


def known_columns(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return the columns in which at least one row has a value to print."""
    return [c for c in columns if any(is_known(row.get(c)) for row in rows)]


def wanted_columns(rows: Sequence[Row], layout: Layout) -> list[str]:
    """Return the columns that a table should show: those of the layout or all, without empty ones."""
    every = layout.columns or [c for c in columns_of(rows) if c != NUMBER and not c.endswith(("_lo", "_hi"))]
    return [c for c in known_columns(rows, every) if c not in layout.below]


def fitted(rows: Sequence[Row], layout: Layout, width: int) -> Fit:
    """Choose columns and widths with which `rows` fit into `width` characters, losing as little as possible.

    Lost in turn: the 80 % intervals; columns, down to those to keep, with short words for the bases; the long form of
    the labels; the labels in the table, which are then listed below; the remaining columns.
    """
    columns = wanted_columns(rows, layout)
    label = layout.label or columns[0]
    kept = [c for c in columns if c in (label, layout.number) or c in layout.keep]
    going = [c for c in layout.drop if c in columns and c not in kept]
    going += [c for c in reversed(columns) if c not in kept and c not in going]
    known: Widths = {}
    for tried in _forms(tuple(columns), tuple(going), label, layout):
        widths = _widths(rows, tried, layout, label, width, known)
        if widths is not None or layout.wide:
            return replace(tried, widths=widths or _widths(rows, tried, layout, label, None))
    return replace(tried, widths=_widths(rows, tried, layout, label, None))


def column_blocks(rows: Sequence[Row], layout: Layout, width: int) -> list[list[str]]:
    """Return the columns of each table into which `layout.blocks` splits a table; the first column is in each."""
    label, *others = wanted_columns(rows, layout)
    blocks, known = [[label]], Widths()
    for column in others:
        wider = Fit(columns=(*blocks[-1], column), ranges=False)
        if len(blocks[-1]) > 1 and _widths(rows, wider, layout, label, width, known) is None:
            blocks.append([label])
        blocks[-1].append(column)
    return blocks


def _forms(columns: tuple[str, ...], going: tuple[str, ...], label: str, layout: Layout) -> Iterator[Fit]:
    """Yield the forms of a table to try, the fullest first. going: columns in the order in which they are left out."""
    fewer = [tuple(c for c in columns if c not in going[:n]) for n in range(len(going) + 1)]
    yield Fit(columns=columns)
    yield Fit(columns=columns, ranges=False)
    yield from (Fit(columns=chosen, ranges=False, bases=True) for chosen in fewer)
    if layout.short:
        yield from (Fit(columns=chosen, ranges=False, bases=True, labels=True) for chosen in fewer)
    shown: tuple[str, ...] = (NUMBER,)
    for chosen in fewer:
        others = tuple(c for c in chosen if c != label)
        shown = others if layout.number or layout.below else (NUMBER, *others)
        yield Fit(columns=shown, ranges=False, bases=True, listed=True)
    for count in range(len(shown) - 1, 0, -1):
        yield Fit(columns=shown[:count], ranges=False, bases=True, listed=True)


def _widths(
    rows: Sequence[Row], fit: Fit, layout: Layout, label: str, available: int | None, known: Widths | None = None
) -> tuple[int, ...] | None:
    """Return the width of each column with the fewest lines of headings that fit; None where nothing fits.

    available: characters per line, None for any. known: widths that earlier calls have found, by column and form.
    """
    known = {} if known is None else known
    cells = []
    for column in fit.columns:
        form = (column, fit.ranges, fit.bases, fit.labels)
        if form not in known:
            known[form] = max((len(fit.cell(row, column, layout, label)) for row in rows), default=0)
        cells.append(known[form])
    headings = [layout.heading(c).split() for c in fit.columns]
    for lines in range(1, MOST_HEADING_LINES + 1):
        widths = tuple(max(cell, narrowest(words, lines)) for cell, words in zip(cells, headings, strict=True))
        if available is None or total_width(widths) <= available:
            return widths
    return None


def total_width(widths: Sequence[int]) -> int:
    """Return the characters that a table with columns of these widths takes."""
    return sum(widths) + COLUMN_GAP * (len(widths) - 1) + TABLE_EDGE


def heading_lines(columns: Sequence[str], widths: Sequence[int], layout: Layout) -> list[list[str]]:
    """Return the headings as lines of cells; short headings stand in the last lines."""
    broken = [wrapped(layout.heading(c), width) for c, width in zip(columns, widths, strict=True)]
    height = max(map(len, broken))
    return [list(line) for line in zip(*(["" for _ in range(height - len(b))] + b for b in broken), strict=True)]
