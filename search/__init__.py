"""search: which deployments, on what, how many.

Names are loaded on first use, so that `import search` stays instant.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Binding": "search.fleet.plan",
    "Exhaustive": "search.searchers.exhaustive",
    "FleetInfeasible": "search.fleet.plan",
    "FleetPlan": "search.fleet.plan",
    "FleetProblem": "search.fleet.problem",
    "Found": "search.searchers.protocol",
    "Inventory": "search.scenario.inventory",
    "Legal": "search.space.space",
    "Manifest": "search.manifest",
    "OBJECTIVE": "search.searchers.protocol",
    "Option": "search.scenario.inventory",
    "OptunaSearcher": "search.searchers.optuna_searcher",
    "Plan": "search.planning.plan",
    "RANKINGS": "search.searchers.front",
    "Relaxation": "search.fleet.plan",
    "Scenario": "search.scenario.scenario",
    "Score": "search.searchers.protocol",
    "SearchSpace": "search.space.space",
    "Searcher": "search.searchers.protocol",
    "WHOLE_GROUP": "search.space.space",
    "fleet_plan": "search.fleet.plan",
    "formulate": "search.fleet.program",
    "load_scenario": "search.scenario.scenario",
    "pareto": "search.searchers.front",
    "plan": "search.planning.planner",
    "plan_fleet": "search.fleet.options",
    "ranked": "search.searchers.front",
    "render_report": "search.report.report",
    "headline": "search.output.words",
    "terms_of": "search.planning.explained",
    "memory_of": "search.planning.explained",
    "what_if": "search.planning.whatif",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
