"""Plan fleets: find how many replicas of which option serve all requests at the least cost, by an integer program."""

from __future__ import annotations

from search.fleet.account import account
from search.fleet.bills import supply_rows
from search.fleet.day import hour_rows, is_a_day
from search.fleet.idle import Idle
from search.fleet.options import plan_fleet
from search.fleet.plan import Binding, FleetInfeasible, FleetPlan, Relaxation, fleet_plan
from search.fleet.problem import FleetProblem, World
from search.fleet.program import formulate
from search.fleet.worth import slo_worth_rows, worth_rows

__all__ = [
    "Binding",
    "FleetInfeasible",
    "FleetPlan",
    "FleetProblem",
    "Idle",
    "Relaxation",
    "World",
    "account",
    "fleet_plan",
    "formulate",
    "hour_rows",
    "is_a_day",
    "plan_fleet",
    "slo_worth_rows",
    "supply_rows",
    "worth_rows",
]
