"""Estimate every combination of lists of models, devices, degrees, formats and loads in one call, as one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.sweeps.axes import ARGUMENTS, LENGTHS, LOADS, MOST_ROWS, PLACED, WORDS
    from search.sweeps.part import Part
    from search.sweeps.table import SweepTable, sweep_table

__all__ = ["ARGUMENTS", "LENGTHS", "LOADS", "MOST_ROWS", "PLACED", "WORDS", "Part", "SweepTable", "sweep_table"]

__getattr__ = lazy_names(
    __name__,
    {
        "axes": ["ARGUMENTS", "LENGTHS", "LOADS", "MOST_ROWS", "PLACED", "WORDS"],
        "part": ["Part"],
        "table": ["SweepTable", "sweep_table"],
    },
)
