"""Sweeps, plans, fleets, what-ifs and studies as notebooks show them: tables, charts, explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.notebook.fleet_view import FleetView, plan_fleet
    from search.notebook.plan_view import PlanView, plan
    from search.notebook.sweep_view import Sweep, sweep
    from search.notebook.trial_views import TrialsView, TunedView, try_changes, tune

__all__ = [
    "FleetView",
    "PlanView",
    "Sweep",
    "TrialsView",
    "TunedView",
    "plan",
    "plan_fleet",
    "sweep",
    "try_changes",
    "tune",
]

__getattr__ = lazy_names(
    __name__,
    {
        "fleet_view": ["FleetView", "plan_fleet"],
        "plan_view": ["PlanView", "plan"],
        "sweep_view": ["Sweep", "sweep"],
        "trial_views": ["TrialsView", "TunedView", "try_changes", "tune"],
    },
)
