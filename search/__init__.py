"""search: which deployments, on what, how many.

Names are loaded on first use, so that `import search` stays instant.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Binding": "search.fleet",
    "FleetInfeasible": "search.fleet",
    "FleetPlan": "search.fleet",
    "FleetProblem": "search.inventory",
    "Inventory": "search.inventory",
    "Option": "search.inventory",
    "fleet_plan": "search.fleet",
    "formulate": "search.program",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
