"""Print the ways to pay for a candidate of a plan side by side, and say where they break even."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from perfmodel.unit_factors import MONTHS_PER_YEAR
from search.output.row_printer import print_rows
from search.output.table_fit import Layout
from search.output.terminal import print_text
from search.output.value_format import is_known, money, number, percent

if TYPE_CHECKING:
    from search.planning import PaymentRow, Plan

#: Column that is said in a sentence below the table.
IN_WORDS = "api_break_even_rps"
#: Columns that go first where the table is narrow, and those that stay.
LESS_IMPORTANT = ("cached_usd_per_million", "usd_per_hour", "input_usd_per_million", "output_usd_per_million")
KEPT = ("way", "usd_per_month", "api_break_even_utilisation", "own_break_even_utilisation", "own_pay_back_months")


def print_ways(plan: Plan, number_of: int, rows: Sequence[PaymentRow], *, wide: bool = False) -> None:
    """Print the ways to pay for candidate `number_of` of a plan. rows: of `ways_to_pay`, the cheapest first."""
    print_text(ways_headline(plan, number_of, rows), bold=True)
    print_text("")
    columns = [c for c in rows[0] if c != IN_WORDS and any(is_known(row.get(c)) for row in rows)]
    notes = [
        *break_evens(rows, plan.scenario.money.ownership.life_years * MONTHS_PER_YEAR),
        "Input and cached tokens pay for the share of prefill in the time of the devices, output tokens for the rest.",
    ]
    layout = Layout(columns=columns, keep=KEPT, drop=LESS_IMPORTANT, footnotes=("price",), notes=notes, wide=wide)
    print_rows(rows, layout=layout)


def ways_headline(plan: Plan, number_of: int, rows: Sequence[PaymentRow]) -> str:
    """Say which candidate is paid for, how much of it is used, and which way costs least."""
    used, best = plan.scenario.money.utilisation, rows[0]
    rate = float(plan.columns["request_rate_rps"][number_of]) * used
    cost = f"${money(best['usd_per_month'])} per month, ${money(best['usd_per_request'])} per request"
    return (
        f"{plan.name(number_of)} at a utilisation of {percent(used)} ({number(rate)} requests/s on average): "
        f"{best['way']} costs least, {cost}."
    )


def break_evens(rows: Sequence[PaymentRow], life_months: float) -> Iterator[str]:
    """Yield a sentence per break-even that is known. life_months: of owned devices."""
    for row in rows:
        even = row["api_break_even_utilisation"]
        if is_known(even):
            yield f"{_sentence(row['way'])} {_from(even, row['api_break_even_rps'], 'the API')}."
    for row in rows:
        even, months = row["own_break_even_utilisation"], row["own_pay_back_months"]
        stopped = f"{row['way']} that stops with the load"
        parts = [_from(even, math.nan, stopped)] if is_known(even) else []
        parts += [_paid_back(row["way"], months, life_months)] if is_known(months) else []
        if parts:
            yield f"Own {'; '.join(parts)}."


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _from(utilisation: float, rate: float, other: str) -> str:
    """Say from which utilisation on something costs less than `other`. rate: requests/s there, NaN to leave it out."""
    if math.isinf(utilisation):
        return f"never costs less than {other}"
    if utilisation > 1.0:
        return f"does not cost less than {other}, even at full use"
    at = "" if math.isnan(rate) else f" ({number(rate)} requests/s on average)"
    return f"costs less than {other} from a utilisation of {percent(utilisation)}{at} on"


def _paid_back(way: str, months: float, life: float) -> str:
    """Say after how many months the capital is paid back by what renting in all hours would cost."""
    if math.isinf(months) or months > life:
        return f"against {way} in all hours it does not pay itself back within its life of {number(life)} months"
    return f"against {way} in all hours it has paid itself back after {number(months)} months"
