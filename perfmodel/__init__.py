"""perfmodel: what a deployment of a language model costs in seconds, bytes and joules.

Names are loaded on first use, so that `import perfmodel` stays instant.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "estimate": "perfmodel.estimates",
    "estimate_disaggregated": "perfmodel.estimates",
    "explain": "perfmodel.estimates",
    "Estimates": "perfmodel.estimates",
    "deployments": "perfmodel.deployment",
    "Deployments": "perfmodel.deployment",
    "Workload": "perfmodel.workload",
    "Objective": "perfmodel.workload",
    "Slo": "perfmodel.workload",
    "ModelSpec": "perfmodel.models",
    "model": "perfmodel.models",
    "read_config": "perfmodel.models",
    "engine": "perfmodel.engines",
    "Engine": "perfmodel.engines",
    "predict": "perfmodel.cases",
    "recipe": "perfmodel.engines",
    "Recipe": "perfmodel.engines",
    "simulate": "perfmodel.simulator",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'perfmodel' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
