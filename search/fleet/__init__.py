"""Plan fleets: find how many replicas of which option serve all requests at the least cost, by an integer program."""

from __future__ import annotations

from search.fleet.account import account
from search.fleet.alternatives import Alternative, alternative_rows, alternatives
from search.fleet.bills import supply_rows
from search.fleet.busiest import busiest_mixes, latency_rows, workload_of
from search.fleet.day import due_at, hour_rows, is_a_day
from search.fleet.growth import greatest_growth, growth_rows
from search.fleet.idle import Idle
from search.fleet.marginal_values import limit_rows, marginal_value_rows, slo_worth_rows
from search.fleet.options import plan_fleet
from search.fleet.plan import Binding, FleetInfeasible, FleetPlan, Relaxation, fleet_plan
from search.fleet.problem import FleetProblem, World
from search.fleet.program import formulate
from search.fleet.relax import describe
from search.fleet.replan_by_simulation import SimulatedFleet, passing
from search.fleet.routing import routing_json, routing_rows
from search.fleet.verify import verified

__all__ = [
    "Alternative",
    "Binding",
    "FleetInfeasible",
    "FleetPlan",
    "FleetProblem",
    "Idle",
    "Relaxation",
    "SimulatedFleet",
    "World",
    "account",
    "alternative_rows",
    "alternatives",
    "busiest_mixes",
    "describe",
    "due_at",
    "fleet_plan",
    "formulate",
    "greatest_growth",
    "growth_rows",
    "hour_rows",
    "is_a_day",
    "latency_rows",
    "limit_rows",
    "marginal_value_rows",
    "passing",
    "plan_fleet",
    "routing_json",
    "routing_rows",
    "slo_worth_rows",
    "supply_rows",
    "verified",
    "workload_of",
]
