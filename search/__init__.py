"""search: which deployments, on what, how many.

Names are loaded on first use, so that `import search` stays instant.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Binding": "search.fleet",
    "Exhaustive": "search.exhaustive",
    "FleetInfeasible": "search.fleet",
    "FleetPlan": "search.fleet",
    "FleetProblem": "search.inventory",
    "Found": "search.protocol",
    "Inventory": "search.inventory",
    "Legal": "search.space",
    "Manifest": "search.manifest",
    "OBJECTIVE": "search.protocol",
    "Option": "search.inventory",
    "OptunaSearcher": "search.optuna_searcher",
    "Plan": "search.plans",
    "RANKINGS": "search.front",
    "Relaxation": "search.fleet",
    "Scenario": "search.scenario",
    "Score": "search.protocol",
    "SearchSpace": "search.space",
    "Searcher": "search.protocol",
    "WHOLE_GROUP": "search.space",
    "fleet_plan": "search.fleet",
    "formulate": "search.program",
    "load_scenario": "search.scenario",
    "pareto": "search.front",
    "plan": "search.planner",
    "plan_fleet": "search.fleetmodel",
    "ranked": "search.front",
    "render_report": "search.report",
    "headline": "search.summary",
    "what_if": "search.whatif",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
