"""Make a ranked plan from a scenario, with its explanation, its what-if table and its check by simulation.

Which sub-package may import which, from the ground up; tests/test_architecture.py checks it, and each docstring
says what its sub-package holds:

- `money`: nothing
- `operating_point`: `money`
- `configuration`: `operating_point`
- `evaluation`: `money`, `operating_point`
- `disaggregation`: `evaluation`, `money`, `operating_point`
- `ranking`: `configuration`, `disaggregation`, `evaluation`
- `plan_table`: `configuration`, `disaggregation`, `evaluation`, `money`, `operating_point`, `ranking`
- `plan_making`: `configuration`, `disaggregation`, `evaluation`, `money`, `operating_point`, `plan_table`, `ranking`
- `plan_analysis`: `disaggregation`, `evaluation`, `money`, `operating_point`, `plan_making`, `plan_table`
- `simulation`: `money`, `plan_making`
- `replanning`: `configuration`, `evaluation`, `operating_point`, `plan_making`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.planning.configuration.contexts import refuse_long_class
    from search.planning.configuration.names import deployment_words, drafting_columns, short_name, told_apart
    from search.planning.configuration.quantised import ONLINE_ENGINES, ONLINE_FORMAT, published
    from search.planning.disaggregation.disaggregated import BATCH, MAX_BATCHES, OF_POWER, in_roles
    from search.planning.disaggregation.pool_roles import MAX_WORKERS
    from search.planning.evaluation.columns import cost_columns, power_columns, rated_columns
    from search.planning.money.account import account_columns, api_usd, dearest, hourly_usd, mean_tokens, shares_of
    from search.planning.money.prices import Tariff, tariff, usd_per_million_tokens
    from search.planning.operating_point.bracket_search import RATE_TOLERANCE
    from search.planning.operating_point.sizing import (
        LEAST_LOAD,
        OVER_SATURATED,
        SATURATING_RATE,
        Asks,
        Target,
        greatest_rate,
        rows_of,
    )
    from search.planning.plan_analysis.explained import OperatorRow, memory_of, memory_place, term_row, terms_of
    from search.planning.plan_analysis.payment_options import PaymentRow, ways_to_pay
    from search.planning.plan_analysis.peaks import replicas_at_peak
    from search.planning.plan_analysis.repricing import repriced
    from search.planning.plan_making.planner import plan, space_of, tariff_of
    from search.planning.plan_making.ranked_plan import Plan
    from search.planning.plan_table.rows import candidate_rows
    from search.planning.replanning.concurrent_plans import plan_concurrently
    from search.planning.replanning.formats import checkpoint_offer, format_offer, plan_and_narrower
    from search.planning.replanning.next_run import NextRuns, RunWorth, next_runs
    from search.planning.replanning.surest import greatest_confidence
    from search.planning.simulation import hourly, row_power, verify

__all__ = [
    "BATCH",
    "LEAST_LOAD",
    "MAX_BATCHES",
    "MAX_WORKERS",
    "OF_POWER",
    "ONLINE_ENGINES",
    "ONLINE_FORMAT",
    "OVER_SATURATED",
    "RATE_TOLERANCE",
    "SATURATING_RATE",
    "Asks",
    "NextRuns",
    "OperatorRow",
    "PaymentRow",
    "Plan",
    "RunWorth",
    "Target",
    "Tariff",
    "account_columns",
    "api_usd",
    "candidate_rows",
    "checkpoint_offer",
    "cost_columns",
    "dearest",
    "deployment_words",
    "drafting_columns",
    "format_offer",
    "greatest_confidence",
    "greatest_rate",
    "hourly",
    "hourly_usd",
    "in_roles",
    "mean_tokens",
    "memory_of",
    "memory_place",
    "next_runs",
    "plan",
    "plan_and_narrower",
    "plan_concurrently",
    "power_columns",
    "published",
    "rated_columns",
    "refuse_long_class",
    "replicas_at_peak",
    "repriced",
    "row_power",
    "rows_of",
    "shares_of",
    "short_name",
    "space_of",
    "tariff",
    "tariff_of",
    "term_row",
    "terms_of",
    "told_apart",
    "usd_per_million_tokens",
    "verify",
    "ways_to_pay",
]

__getattr__ = lazy_names(
    __name__,
    {
        "money.account": ["account_columns", "api_usd", "dearest", "hourly_usd", "mean_tokens", "shares_of"],
        "money.prices": ["Tariff", "tariff", "usd_per_million_tokens"],
        "operating_point.bracket_search": ["RATE_TOLERANCE"],
        "operating_point.sizing": [
            *("LEAST_LOAD", "OVER_SATURATED", "SATURATING_RATE"),
            *("Asks", "Target", "greatest_rate", "rows_of"),
        ],
        "configuration.contexts": ["refuse_long_class"],
        "configuration.names": ["deployment_words", "drafting_columns", "short_name", "told_apart"],
        "configuration.quantised": ["ONLINE_ENGINES", "ONLINE_FORMAT", "published"],
        "evaluation.columns": ["cost_columns", "power_columns", "rated_columns"],
        "disaggregation.disaggregated": ["BATCH", "MAX_BATCHES", "OF_POWER", "in_roles"],
        "disaggregation.pool_roles": ["MAX_WORKERS"],
        "plan_table.rows": ["candidate_rows"],
        "plan_making.planner": ["plan", "space_of", "tariff_of"],
        "plan_making.ranked_plan": ["Plan"],
        "plan_analysis.explained": ["OperatorRow", "memory_of", "memory_place", "term_row", "terms_of"],
        "plan_analysis.payment_options": ["PaymentRow", "ways_to_pay"],
        "plan_analysis.peaks": ["replicas_at_peak"],
        "plan_analysis.repricing": ["repriced"],
        "simulation.": ["hourly", "row_power", "verify"],
        "replanning.concurrent_plans": ["plan_concurrently"],
        "replanning.formats": ["checkpoint_offer", "format_offer", "plan_and_narrower"],
        "replanning.next_run": ["NextRuns", "RunWorth", "next_runs"],
        "replanning.surest": ["greatest_confidence"],
    },
)
