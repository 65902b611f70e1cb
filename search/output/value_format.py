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
#: Amounts of less than this are printed as "< 0.000001": no printed column counts in so coarse a unit.
LEAST_PRINTED = 1e-6
#: Whole numbers up to here are exact in a float (2**53 is about 9e15) and printed digit by digit.
EXACT_WHOLE_BELOW = 1e15
#: Smallest amount that is printed with two decimals: one cent.
CENT = 0.01
#: Columns whose values are numbers but no amounts.
ORDINALS = ("year", "rank", "period")
#: Columns of shares (0 to 1) that tables print as percentages; their headings end in "%".
SHARES = ("utilisation", "headroom", "api_break_even_utilisation", "own_break_even_utilisation")
#: Ends of the columns that hold rated figures of devices, which are facts and no estimates.
RATED = ("_gb_s", "_tflops", "_flop_per_byte", "_mb", "memory_gb", "value")
#: Probabilities outside these bounds are printed as "< 1 %" and "> 99 %".
LEAST_CHANCE, GREATEST_CHANCE = 0.01, 0.99


def number(value: Any) -> str:
    """Write a value as people read it: three significant digits, commas between thousands, a dash for unknown.

    Whole numbers are counts and keep every digit.

    >>> number(1234567.0), number(1452.4), number(0.000595), number(float("nan")), number(True), number(12)
    ('1,234,567', '1,450', '0.000595', '–', 'yes', '12')
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
    if abs(real) < LEAST_PRINTED:
        return f"{'< ' if real > 0 else '> -'}{LEAST_PRINTED:f}"
    decimals = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(real)))
    return f"{round(real, decimals):,.{max(0, decimals)}f}"


def rated(value: Any) -> str:
    """Write a figure of a data sheet: every digit before the point, three significant digits below 100.

    >>> rated(1638.4), rated(85.899), rated("switch")
    ('1,638', '85.9', 'switch')
    """
    if is_known(value) and not isinstance(value, str) and math.isfinite(value) and abs(value) >= NO_DECIMALS_FROM:
        return f"{value:,.0f}"
    return number(value)


def text_of(column: str, value: Any) -> str:
    """Write the value of a column: years and ranks without commas, shares as percentages, dollars with cents.

    >>> text_of("year", 2023), text_of("slo_chance", 0.934), text_of("cost_usd_per_hour", 4.5)
    ('2023', '93', '4.50')
    >>> text_of("headroom", 19.0)
    '1,900'
    """
    words = column.split("_")
    if not is_known(value) or isinstance(value, str):
        return number(value)
    if column in ORDINALS:
        return f"{value:.0f}"
    if column in SHARES:
        return f"{100.0 * value:,.0f}" if math.isfinite(value) else number(value)
    if "chance" in words:
        return percent(value).removesuffix(" %")
    if "usd" in words:
        return money(value)
    return rated(value) if column.endswith(RATED) else number(value)


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
    value = text_of(column, row.get(column))
    if low is None or high is None or not math.isfinite(low) or math.isnan(high):
        return value
    return f"{value} ({text_of(column, low)}–{text_of(column, high)})"


def json_value(value: Any) -> Any:
    """Return a value as JSON and CSV store it: a plain Python type, None for NaN and for infinity."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def without_nan(value: Any) -> Any:
    """Return `value`, a nest of mappings and lists, with NaN and infinity replaced by None."""
    if isinstance(value, Mapping):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return json_value(value)
