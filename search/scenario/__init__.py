"""Scenario files: TOML in, frozen data out."""

from __future__ import annotations

from search.scenario.fleet import FleetClass, FleetOption, FleetSpec
from search.scenario.inventory import Inventory, Option
from search.scenario.scenario import Limits, Scenario, Site, load_scenario

__all__ = [
    "FleetClass",
    "FleetOption",
    "FleetSpec",
    "Inventory",
    "Limits",
    "Option",
    "Scenario",
    "Site",
    "load_scenario",
]
