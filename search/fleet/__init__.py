"""Plan fleets: find how many replicas of which option serve all requests at the least cost, by an integer program."""

from __future__ import annotations

from search.fleet.options import plan_fleet
from search.fleet.plan import Binding, FleetInfeasible, FleetPlan, Relaxation, fleet_plan
from search.fleet.problem import FleetProblem
from search.fleet.program import formulate

__all__ = [
    "Binding",
    "FleetInfeasible",
    "FleetPlan",
    "FleetProblem",
    "Relaxation",
    "fleet_plan",
    "formulate",
    "plan_fleet",
]
