"""The inputs of one deployment, as options with their meaning, and what follows from them: a deployment, its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.options.answer_row import EXPLAINED, NO_HOST, NOTES, SHEET, estimate_row, keeps_slo, operator_rows
    from search.options.asked import Input, answered, inputs
    from search.options.deployment_options import DeploymentOptions, EngineOptions, PoolOptions
    from search.options.expert_options import ExpertOptions
    from search.options.from_options import Colocated, colocated
    from search.options.memory_options import HostOptions, LoraOptions
    from search.options.money_options import MoneyOptions
    from search.options.number_range import check_number
    from search.options.scenario_options import LOAD_KEYS, AskedWorkloadOptions, OfferOptions, Tables, bounds_of
    from search.options.site_options import SiteOptions
    from search.options.speculation_options import SpeculationOptions
    from search.options.two_pools import with_pools
    from search.options.words import COUNT, NAME, SHARE, TOKENS, ModelName
    from search.options.workload_options import SloOptions, WorkloadOptions

__all__ = [
    "COUNT",
    "EXPLAINED",
    "LOAD_KEYS",
    "NAME",
    "NOTES",
    "NO_HOST",
    "SHARE",
    "SHEET",
    "TOKENS",
    "AskedWorkloadOptions",
    "Colocated",
    "DeploymentOptions",
    "EngineOptions",
    "ExpertOptions",
    "HostOptions",
    "Input",
    "LoraOptions",
    "ModelName",
    "MoneyOptions",
    "OfferOptions",
    "PoolOptions",
    "SiteOptions",
    "SloOptions",
    "SpeculationOptions",
    "Tables",
    "WorkloadOptions",
    "answered",
    "bounds_of",
    "check_number",
    "colocated",
    "estimate_row",
    "inputs",
    "keeps_slo",
    "operator_rows",
    "with_pools",
]

__getattr__ = lazy_names(
    __name__,
    {
        "words": ["COUNT", "NAME", "SHARE", "TOKENS", "ModelName"],
        "number_range": ["check_number"],
        "workload_options": ["SloOptions", "WorkloadOptions"],
        "scenario_options": ["LOAD_KEYS", "AskedWorkloadOptions", "OfferOptions", "Tables", "bounds_of"],
        "deployment_options": ["DeploymentOptions", "EngineOptions", "PoolOptions"],
        "expert_options": ["ExpertOptions"],
        "speculation_options": ["SpeculationOptions"],
        "memory_options": ["HostOptions", "LoraOptions"],
        "money_options": ["MoneyOptions"],
        "site_options": ["SiteOptions"],
        "asked": ["Input", "answered", "inputs"],
        "from_options": ["Colocated", "colocated"],
        "two_pools": ["with_pools"],
        "answer_row": ["EXPLAINED", "NOTES", "NO_HOST", "SHEET", "estimate_row", "keeps_slo", "operator_rows"],
    },
)
