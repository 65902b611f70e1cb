"""Read scenario files: a TOML file that says what to serve, on what, within which bounds, becomes frozen data."""

from __future__ import annotations

from search.scenario.fleet import FleetClass, FleetOption, FleetSpec
from search.scenario.inventory import Inventory, Option
from search.scenario.limits import Limits, Site
from search.scenario.rankings import RANKINGS
from search.scenario.scenario import Scenario, load_scenario

__all__ = [
    "RANKINGS",
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
