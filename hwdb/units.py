"""The table of units: printed unit -> dimension and factor to SI.

Prefixes are decimal (1 GB = 10^9 bytes); binary ones are written KiB, MiB, GiB, TiB. Network rates are printed in bits
(Gb/s) and converted to bytes per second. An integer operation (OP) counts like a FLOP.
"""

from __future__ import annotations

import difflib
import re
from decimal import Decimal
from math import isfinite

from hwdb.errors import InputError

#: Prefix -> factor.
_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


_BITS_PER_BYTE = 8.0
_SECONDS_PER_HOUR = 3600.0
#: Least similarity (difflib, 0 to 1) of a unit that is offered in place of an unknown one.
_LEAST_SIMILARITY = 0.5


def _table() -> dict[str, tuple[str, float]]:
    """Make the table of units: printed unit -> (dimension, factor to SI)."""
    table: dict[str, tuple[str, float]] = {}
    for prefix, factor in {**_DECIMAL, "K": 1e3, **_BINARY}.items():
        table[f"{prefix}B"] = ("bytes", factor)
        table[f"{prefix}B/s"] = ("bytes/s", factor)
    for prefix, factor in _DECIMAL.items():
        table[f"{prefix}b/s"] = ("bytes/s", factor / _BITS_PER_BYTE)
        table[f"{prefix}FLOP/s"] = ("operations/s", factor)
        table[f"{prefix}OP/s"] = ("operations/s", factor)
        table[f"{prefix}W"] = ("watts", factor)
        table[f"{prefix}Hz"] = ("hertz", factor)
    table |= {unit: ("seconds", factor) for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))}
    table |= {"1": ("count", 1.0), "USD/h": ("dollars/s", 1.0 / _SECONDS_PER_HOUR)}
    return table


#: unit as printed -> (dimension, factor to SI)
UNITS = _table()
#: Dimension -> unit that messages suggest.
EXAMPLES = {
    "bytes": "GB",
    "bytes/s": "GB/s",
    "operations/s": "TFLOP/s",
    "watts": "W",
    "hertz": "MHz",
    "seconds": "us",
    "count": "1",
    "dollars/s": "USD/h",
}


def dimension(unit: str) -> str:
    """Return the dimension that `unit` measures; `InputError` for an unknown unit.

    >>> dimension("GB/s")
    'bytes/s'
    """
    return _entry(unit)[0]


def to_si(value: float, unit: str) -> float:
    """Convert `value`, printed in `unit`, to SI.

    >>> to_si(400, "Gb/s") == to_si(50, "GB/s") == 5e10
    True
    """
    return value * _entry(unit)[1]


def from_si(value: float, unit: str) -> float:
    """Convert an SI `value` to `unit`.

    >>> from_si(2**40, "GiB")
    1024.0
    """
    return value / _entry(unit)[1]


def nearest_unit(unit: str, measures: str = "") -> str:
    """Return the unit (of the dimension `measures`, "" for any) most similar to `unit`; case matters, as in GB and Gb.

    >>> nearest_unit("GBps"), nearest_unit("MiB", "bytes/s")
    ('GB/s', 'MiB/s')
    """
    fitting = [known for known, (measured, _) in UNITS.items() if measures in ("", measured)]
    close = difflib.get_close_matches(unit, fitting, n=1, cutoff=_LEAST_SIMILARITY)
    return close[0] if close else EXAMPLES.get(measures, "GB")


def _entry(unit: str) -> tuple[str, float]:
    """Return (dimension, factor to SI) of `unit`; `InputError` for an unknown unit."""
    if unit not in UNITS:
        raise InputError(f"unknown unit {unit!r}; did you mean {nearest_unit(unit)!r}?")
    return UNITS[unit]


def plain(value: float, separator: str = "") -> str:
    """Write a number without an exponent: whole ones with every digit, others with six significant ones.

    separator: what stands between thousands, "," or nothing.

    >>> plain(1e6), plain(1048576.0, ","), plain(0.00001), plain(2.5), plain(float("inf"))
    ('1000000', '1,048,576', '0.00001', '2.5', 'inf')
    """
    if not isfinite(value):
        return f"{value:g}"
    return f"{value:{separator}.0f}" if value == int(value) else f"{Decimal(f'{value:.6g}'):{separator}f}"


def counted(amount: float | str, noun: str) -> str:
    """Write an amount with what it counts, in the singular for one.

    amount: a number, or a number as it is to be shown. noun: in the singular, with what follows it.

    >>> counted(1, "device"), counted(3, "request/s"), counted("1.5", "request in flight"), counted(2, "price")
    ('1 device', '3 requests/s', '1.5 requests in flight', '2 prices')
    """
    text = amount if isinstance(amount, str) else plain(amount, ",")
    return f"{text} {noun if text == '1' else re.sub('^[a-z]+', lambda word: f'{word[0]}s', noun)}"
