"""From a scenario to a ranked plan."""

from __future__ import annotations

from search.planning import verify
from search.planning.explained import memory_of, term_row, terms_of
from search.planning.plan import Plan, deployment_words
from search.planning.planner import plan, space_of, tariff_of
from search.planning.prices import Tariff, tariff
from search.planning.sizing import Asked, greatest, rows_of
from search.planning.whatif import what_if

__all__ = [
    "Asked",
    "Plan",
    "Tariff",
    "deployment_words",
    "greatest",
    "memory_of",
    "plan",
    "rows_of",
    "space_of",
    "tariff",
    "tariff_of",
    "term_row",
    "terms_of",
    "verify",
    "what_if",
]
