"""Write single values as text for people, and as JSON and CSV store them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

#: Printed for a value that is not known.
UNKNOWN = "–"
#: Numbers are printed with this many significant digits (chosen: estimates are not known better).
SIGNIFICANT_DIGITS = 3
#: From here on a number needs no decimals to show `SIGNIFICANT_DIGITS`.
NO_DECIMALS_FROM = 100.0
#: Below this, numbers are printed in scientific notation.
SCIENTIFIC_BELOW = 1e-3
#: Whole numbers up to here are exact in a float (2**53 is about 9e15) and printed digit by digit.
EXACT_WHOLE_BELOW = 1e15
#: Smallest amount that is printed with two decimals: one cent.
CENT = 0.01
#: Probabilities outside these bounds are printed as "< 1 %" and "> 99 %".
LEAST_CHANCE, GREATEST_CHANCE = 0.01, 0.99


def number(value: Any) -> str:
    """Write a value as people read it: three significant digits, commas between thousands, a dash for unknown.

    >>> number(1234567.0), number(0.01234), number(float("nan")), number(True), number(12)
    ('1,234,567', '0.0123', '–', 'yes', '12')
    """
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if type(value).__name__ in ("bool", "bool_"):
        return "yes" if value else "no"
    real = float(value)
    if math.isnan(real):
        return UNKNOWN
    if math.isinf(real):
        return "∞" if real > 0 else "-∞"
    if real == int(real) and abs(real) < EXACT_WHOLE_BELOW:
        return f"{int(real):,}"
    if abs(real) >= NO_DECIMALS_FROM:
        return f"{real:,.0f}"
    if abs(real) < SCIENTIFIC_BELOW:
        return f"{real:.{SIGNIFICANT_DIGITS - 1}e}"
    decimals = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(real)))
    return f"{real:.{max(0, decimals)}f}"


def is_known(value: Any) -> bool:
    """Return whether a value has something to print: it is neither missing, NaN nor empty text."""
    return number(value) not in (UNKNOWN, "")


def percent(chance: Any) -> str:
    """Write a probability (0 to 1) as a percentage.

    >>> percent(0.934), percent(0.9996), percent(float("nan"))
    ('93 %', '> 99 %', '–')
    """
    if number(chance) == UNKNOWN:
        return UNKNOWN
    if 0.0 < chance < LEAST_CHANCE:
        return "< 1 %"
    if GREATEST_CHANCE < chance < 1.0:
        return "> 99 %"
    return f"{100.0 * chance:.0f} %"


def money(value: Any) -> str:
    """Write dollars: two decimals, three significant digits below one cent, no decimals from 100 dollars on.

    >>> money(0.8), money(19.2), money(1234.5), money(0.00321)
    ('0.80', '19.20', '1,234', '0.00321')
    """
    if value is None or isinstance(value, str) or not math.isfinite(value) or 0.0 < abs(value) < CENT:
        return number(value)
    return f"{value:.2f}" if abs(value) < NO_DECIMALS_FROM else f"{value:,.0f}"


def with_range(row: Row, column: str) -> str:
    """Write a value of a row, followed by its 80 % interval where the row has `<column>_lo` and `<column>_hi`.

    >>> with_range({"ttft_ms": 120.0, "ttft_ms_lo": 100.0, "ttft_ms_hi": 150.0}, "ttft_ms")
    '120 (100–150)'
    """
    low, high = row.get(f"{column}_lo"), row.get(f"{column}_hi")
    words = column.split("_")
    text_of = percent if "chance" in words else money if "usd" in words else number
    value = text_of(row.get(column))
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return value
    return f"{value} ({text_of(low)}–{text_of(high)})"


def json_value(value: Any) -> Any:
    """Return a value as JSON and CSV store it: a plain Python type, None for NaN and for infinity."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
