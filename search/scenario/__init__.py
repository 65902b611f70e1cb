"""Read scenario files: a TOML file that says what to serve, on what, within which bounds, becomes frozen data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.scenario.choices import AUTO_FORMATS
    from search.scenario.engine import with_settings
    from search.scenario.fleet_spec import AUTO_BUCKETS, FleetClass, FleetOption, FleetSpec
    from search.scenario.growth import Growth
    from search.scenario.inventory import SUPPLY_KINDS, Inventory, Option, Supply, TermsOfUse, device_type, placed
    from search.scenario.limits import MOST_USED, Limits, Site, carbon_of
    from search.scenario.money import API_KEYS, Money, read_money, refuse_free_power
    from search.scenario.rankings import BY_LATENCY, DEFAULT_RANKING, MONEY, ONE_REPLICA, RANKINGS
    from search.scenario.regions import OVER_THE_NETWORK, Region, round_trip
    from search.scenario.scenario import (
        COMMAND_LINE,
        Scenario,
        load_scenario,
        read_scenario,
        refused_for_fleets,
        with_changes,
    )
    from search.scenario.terms import DEFAULT_GAP, TIME_LIMIT_S, FleetCase, FleetTerms, OptionTerms

__all__ = [
    "API_KEYS",
    "AUTO_BUCKETS",
    "AUTO_FORMATS",
    "BY_LATENCY",
    "COMMAND_LINE",
    "DEFAULT_GAP",
    "DEFAULT_RANKING",
    "MONEY",
    "MOST_USED",
    "ONE_REPLICA",
    "OVER_THE_NETWORK",
    "RANKINGS",
    "SUPPLY_KINDS",
    "TIME_LIMIT_S",
    "FleetCase",
    "FleetClass",
    "FleetOption",
    "FleetSpec",
    "FleetTerms",
    "Growth",
    "Inventory",
    "Limits",
    "Money",
    "Option",
    "OptionTerms",
    "Region",
    "Scenario",
    "Site",
    "Supply",
    "TermsOfUse",
    "carbon_of",
    "device_type",
    "load_scenario",
    "placed",
    "read_money",
    "read_scenario",
    "refuse_free_power",
    "refused_for_fleets",
    "round_trip",
    "with_changes",
    "with_settings",
]

__getattr__ = lazy_names(
    __name__,
    {
        "choices": ["AUTO_FORMATS"],
        "engine": ["with_settings"],
        "inventory": ["SUPPLY_KINDS", "Inventory", "Option", "Supply", "TermsOfUse", "device_type", "placed"],
        "fleet_spec": ["AUTO_BUCKETS", "FleetClass", "FleetOption", "FleetSpec"],
        "growth": ["Growth"],
        "limits": ["MOST_USED", "Limits", "Site", "carbon_of"],
        "money": ["API_KEYS", "Money", "read_money", "refuse_free_power"],
        "rankings": ["BY_LATENCY", "DEFAULT_RANKING", "MONEY", "ONE_REPLICA", "RANKINGS"],
        "regions": ["OVER_THE_NETWORK", "Region", "round_trip"],
        "scenario": [
            "COMMAND_LINE",
            "Scenario",
            "load_scenario",
            "read_scenario",
            "refused_for_fleets",
            "with_changes",
        ],
        "terms": ["DEFAULT_GAP", "TIME_LIMIT_S", "FleetCase", "FleetTerms", "OptionTerms"],
    },
)
