"""search: which hardware, how many devices and which configuration meet the SLOs of a scenario.

Names are loaded on first use, so that `import search` stays fast.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Binding": "search.fleet",
    "Exhaustive": "search.searchers",
    "FleetInfeasible": "search.fleet",
    "FleetPlan": "search.fleet",
    "FleetProblem": "search.fleet",
    "Found": "search.searchers",
    "Inventory": "search.scenario",
    "Legal": "search.space",
    "Manifest": "search.manifest",
    "SCORE": "search.searchers",
    "Option": "search.scenario",
    "OptunaSearcher": "search.searchers",
    "Plan": "search.planning",
    "RANKINGS": "search.searchers",
    "Relaxation": "search.fleet",
    "Scenario": "search.scenario",
    "Score": "search.searchers",
    "SearchSpace": "search.space",
    "Searcher": "search.searchers",
    "WHOLE_GROUP": "search.space",
    "fleet_plan": "search.fleet",
    "formulate": "search.fleet",
    "load_scenario": "search.scenario",
    "pareto": "search.searchers",
    "plan": "search.planning",
    "plan_fleet": "search.fleet",
    "ranked": "search.searchers",
    "render_report": "search.report",
    "headline": "search.output",
    "terms_of": "search.planning",
    "memory_of": "search.planning",
    "what_if": "search.planning",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
