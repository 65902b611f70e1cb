"""Turn money into money: what owning costs per hour, what a token of each kind costs, where two ways cost the same."""

from __future__ import annotations

from perfmodel.money.break_even import least_utilisation, months_to_pay_back, request_at_api
from perfmodel.money.owning import HOURS_PER_MONTH, HOURS_PER_YEAR, Ownership, capital_per_year
from perfmodel.money.tokens import TokenCosts, mixed_power, per_request, split, time_share

__all__ = [
    "HOURS_PER_MONTH",
    "HOURS_PER_YEAR",
    "Ownership",
    "TokenCosts",
    "capital_per_year",
    "least_utilisation",
    "mixed_power",
    "months_to_pay_back",
    "per_request",
    "request_at_api",
    "split",
    "time_share",
]
