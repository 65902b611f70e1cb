"""Make a ranked plan from a scenario, with its explanation, its what-if table and its check by simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.planning import hourly, row_power, verify
    from search.planning.account import account_columns, api_usd, dearest, hourly_usd, mean_tokens, shares_of
    from search.planning.bracket_search import RATE_TOLERANCE
    from search.planning.columns import cost_columns, power_columns, rated_columns
    from search.planning.concurrent_plans import plan_concurrently
    from search.planning.contexts import refuse_long_class
    from search.planning.disaggregated import BATCH, MAX_BATCHES, OF_POWER, in_roles
    from search.planning.explained import memory_of, memory_place, term_row, terms_of
    from search.planning.formats import checkpoint_offer, format_offer, plan_and_narrower
    from search.planning.names import deployment_words, drafting_columns, short_name, told_apart
    from search.planning.next_run import NextRuns, RunWorth, next_runs
    from search.planning.payment_options import ways_to_pay
    from search.planning.peaks import replicas_at_peak
    from search.planning.planner import plan, space_of, tariff_of
    from search.planning.pool_roles import MAX_WORKERS
    from search.planning.prices import Tariff, tariff, usd_per_million_tokens
    from search.planning.quantised import ONLINE_ENGINES, ONLINE_FORMAT, published
    from search.planning.ranked_plan import Plan
    from search.planning.repricing import repriced
    from search.planning.rows import candidate_rows
    from search.planning.sizing import LEAST_LOAD, OVER_SATURATED, SATURATING_RATE, Asks, Target, greatest_rate, rows_of
    from search.planning.surest import greatest_confidence

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
        "account": ["account_columns", "api_usd", "dearest", "hourly_usd", "mean_tokens", "shares_of"],
        "contexts": ["refuse_long_class"],
        "": ["hourly", "row_power", "verify"],
        "columns": ["cost_columns", "power_columns", "rated_columns"],
        "disaggregated": ["BATCH", "MAX_BATCHES", "OF_POWER", "in_roles"],
        "explained": ["memory_of", "memory_place", "term_row", "terms_of"],
        "formats": ["checkpoint_offer", "format_offer", "plan_and_narrower"],
        "names": ["deployment_words", "drafting_columns", "short_name", "told_apart"],
        "next_run": ["NextRuns", "RunWorth", "next_runs"],
        "ranked_plan": ["Plan"],
        "peaks": ["replicas_at_peak"],
        "planner": ["plan", "space_of", "tariff_of"],
        "pool_roles": ["MAX_WORKERS"],
        "prices": ["Tariff", "tariff", "usd_per_million_tokens"],
        "quantised": ["ONLINE_ENGINES", "ONLINE_FORMAT", "published"],
        "repricing": ["repriced"],
        "rows": ["candidate_rows"],
        "sizing": [
            *("LEAST_LOAD", "OVER_SATURATED", "SATURATING_RATE"),
            *("Asks", "Target", "greatest_rate", "rows_of"),
        ],
        "surest": ["greatest_confidence"],
        "concurrent_plans": ["plan_concurrently"],
        "bracket_search": ["RATE_TOLERANCE"],
        "payment_options": ["ways_to_pay"],
    },
)
