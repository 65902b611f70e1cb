"""Sweeps and plans as notebooks show them: tables with units in their names, charts, explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.notebook.plan_view import PlanView, plan
    from search.notebook.sweep_view import Sweep, sweep

__all__ = ["PlanView", "Sweep", "plan", "sweep"]

__getattr__ = lazy_names(__name__, {"plan_view": ["PlanView", "plan"], "sweep_view": ["Sweep", "sweep"]})
