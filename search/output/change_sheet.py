"""Print two answers side by side, figure by figure, with what changes between them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from search.output.headings import heading
from search.output.row_printer import print_rows
from search.output.table_fit import Layout
from search.output.terminal import page_on, print_text
from search.output.value_format import is_known, money, number, percent, text_of

#: Columns whose change is a difference, in the unit of the column; of others it is a percentage.
COUNTED = (
    *("devices", "nodes", "replicas", "devices_per_replica", "devices_billed", "prefill_workers", "decode_workers"),
    *("tp", "pp", "ep", "dp", "cp", "kvp"),
)
#: Columns that are chances: they differ by percentage points.
CHANCES = ("slo_chance", "chance_if_nothing_changes")
#: Widest text that stands in the table; longer ones stand below it, and so do those for which a terminal is too narrow.
#: chosen: two of them fit beside each other.
WIDEST = 48
#: Width that values have in the table however narrow the terminal is. Chosen: that of numbers.
NARROWEST = 10
#: Columns of blanks around and between the four columns of the table.
BLANKS = 8
#: Least change that is told, percent.
TOLD = 0.05
#: Differences of this size and more are told without decimals.
WHOLE_FROM = 10.0


def print_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], columns: Sequence[str], names: tuple[str, str]
) -> None:
    """Print the values of `columns` in two rows as a table with one line per column. names: of the rows."""
    every = change_rows(before, after, columns)
    widest = _widest(every)
    rows = [row for row in every if max(len(row["before"]), len(row["after"])) <= widest]
    heads = {"figure": "Figure", "before": names[0], "after": names[1], "change": "Change"}
    layout = Layout(
        columns=list(heads), headings=heads, right=("before", "after", "change"), keep=list(heads), wide=True
    )
    print_rows(rows, layout=layout)
    for row in every:
        if row not in rows and row["change"] != "the same":
            print_text(f"{row['figure']}: {row['before']} -> {row['after']}")


def _widest(rows: Sequence[Mapping[str, str]]) -> int:
    """Return how long a value may be so that it stands in the table, beside another, on this terminal."""
    beside = sum(max((len(row[part]) for row in rows), default=0) for part in ("figure", "change"))
    return max(NARROWEST, min(WIDEST, (page_on(sys.stdout).width - beside - BLANKS) // 2))


def change_rows(before: Mapping[str, Any], after: Mapping[str, Any], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row of texts per column that either of two rows knows: figure, before, after, change."""
    return [
        {
            "figure": heading(c),
            "before": text_of(c, before.get(c)),
            "after": text_of(c, after.get(c)),
            "change": change_text(c, before.get(c), after.get(c)),
        }
        for c in columns
        if is_known(before.get(c)) or is_known(after.get(c))
    ]


def change_text(column: str, before: Any, after: Any) -> str:
    """Say how a value changes: `+20 %`, `+4`, `another`, `the same`; a dash where either value is not known.

    >>> change_text("usd_per_hour", 10.0, 12.0), change_text("devices", 8.0, 4.0), change_text("engine", "a", "b")
    ('+20 %', '-4', 'another')
    """
    if not is_known(before) or not is_known(after):
        return number(None)
    if isinstance(before, str) or isinstance(after, str) or isinstance(before, bool):
        return "the same" if before == after else "another"
    if column in CHANCES or column.endswith("_chance"):
        return _signed(100.0 * (after - before), " points")
    if column in COUNTED or not before or not math.isfinite(before):
        return _signed(after - before, "")
    return _signed(100.0 * (after / before - 1.0), " %")


def _signed(value: float, unit: str) -> str:
    """Write a difference with its sign; `the same` for one too small to tell."""
    if abs(value) < TOLD:
        return "the same"
    return f"{'+' if value > 0 else '-'}{_size(value)}{unit}"


def _size(value: float) -> str:
    """Write the size of a difference: without decimals from 10 on."""
    return f"{abs(value):,.0f}" if abs(value) >= WHOLE_FROM else number(abs(value))


def verdict(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Say what becomes of the answer. before, after: rows of what-ifs; `answer` is in words."""
    if not is_known(after.get("devices")):
        return f"{after['answer'][:1].upper()}{after['answer'][1:]}."
    same = after["answer"] in ("the same", before.get("answer"))
    taken = f"{before['answer']} stays the best answer" if same else f"Take {after['answer']}"
    texts = [taken if same or "answer" not in before else f"{taken} in place of {before['answer']}"]
    cost, was = after.get("usd_per_hour"), before.get("usd_per_hour")
    if is_known(cost):
        texts.append(f"${money(cost)} per hour" + (f", {_against(was, cost)}" if is_known(was) else ""))
    chance = after.get("chance_if_nothing_changes")
    if is_known(chance) and not same:
        texts.append(f"left as it is, today's answer would keep the SLOs with a chance of {percent(chance)}")
    return "; ".join(texts) + "."


def _against(before: Any, after: Any) -> str:
    """Compare a cost with what it was: `20 % more than $10.00`."""
    change = 100.0 * (after / before - 1.0) if before else math.nan
    if abs(change) < TOLD:
        return "as before"
    return f"{_size(change)} % {'more' if change > 0 else 'less'} than ${money(before)}"
