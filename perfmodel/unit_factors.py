"""Factors between units, for what enters and leaves the program; inside, all quantities are SI."""

from __future__ import annotations

MS_PER_S, US_PER_S = 1e3, 1e6
SECONDS_PER_MINUTE, SECONDS_PER_HOUR = 60.0, 3600.0
HOURS_PER_DAY = 24
MONTHS_PER_YEAR = 12.0
WATTS_PER_KW = 1e3
GRAMS_PER_KG = 1e3
#: Bytes.
GB = 1e9
TOKENS_PER_MILLION = 1e6
#: Percent of a whole.
PERCENT = 100.0
