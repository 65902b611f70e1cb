"""Parse JSON with numbers that can be computed with: whole numbers of 64 bits, and no NaN or infinity."""

from __future__ import annotations

import json
import math
from typing import Any

#: Characters of a number that a message shows.
_SHOWN = 24


def parse(text: str) -> Any:
    """Return the value of a JSON text.

    Raises `json.JSONDecodeError` for a text that is not JSON, and `ValueError` with a sentence for a number that is
    too large or not finite.
    """
    return _DECODER.decode(text)


def _whole(digits: str) -> int:
    """Return a whole number; `ValueError` beyond 64 bits."""
    if len(digits) < len(str(2**63)) or (len(digits) <= len(str(-(2**63))) and -(2**63) <= int(digits) < 2**63):
        return int(digits)
    raise ValueError(f"the number {digits[:_SHOWN]}... of {len(digits)} characters is too large")


def _real(digits: str) -> float:
    """Return a number; `ValueError` where it is too large for a float."""
    if math.isinf(value := float(digits)):
        raise ValueError(f"the number {digits[:_SHOWN]} is too large")
    return value


def _refuse(name: str) -> float:
    """Raise `ValueError` for NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_real, parse_constant=_refuse)
