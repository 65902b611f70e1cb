"""Rows, words and tables for a terminal."""

from __future__ import annotations

from search.output import rows, tables, words
from search.output.tables import Row, heading, money, number, percent, plain, with_range
from search.output.words import columns, group, headline, in_kilowatts, question, tally, time_rows

__all__ = [
    "Row",
    "columns",
    "group",
    "heading",
    "headline",
    "in_kilowatts",
    "money",
    "number",
    "percent",
    "plain",
    "question",
    "rows",
    "tables",
    "tally",
    "time_rows",
    "with_range",
    "words",
]
