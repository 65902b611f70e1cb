"""perfmodel: what a deployment of a language model costs in seconds, bytes and joules.

Names are loaded on first use, so that `import perfmodel` stays instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from perfmodel.cases import predict
    from perfmodel.deployment import Deployments, deployments
    from perfmodel.engines import Engine, Recipe, engine, recipe
    from perfmodel.estimates import Estimates, estimate, estimate_disaggregated, explain
    from perfmodel.models import ModelSpec, model, read_config
    from perfmodel.simulator import simulate
    from perfmodel.workload import Objective, Slo, Workload

__version__ = "0.1.0"

__all__ = [
    "Deployments",
    "Engine",
    "Estimates",
    "ModelSpec",
    "Objective",
    "Recipe",
    "Slo",
    "Workload",
    "__version__",
    "deployments",
    "engine",
    "estimate",
    "estimate_disaggregated",
    "explain",
    "model",
    "predict",
    "read_config",
    "recipe",
    "simulate",
]

__getattr__ = lazy_names(
    __name__,
    {
        "cases": ("predict",),
        "deployment": ("Deployments", "deployments"),
        "engines": ("Engine", "Recipe", "engine", "recipe"),
        "estimates": ("Estimates", "estimate", "estimate_disaggregated", "explain"),
        "models": ("ModelSpec", "model", "read_config"),
        "simulator": ("simulate",),
        "workload": ("Objective", "Slo", "Workload"),
    },
)
