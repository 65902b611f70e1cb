"""Plan fleets: find how many replicas of which option serve all requests at the least cost, by an integer program.

Which sub-package may import which, from the ground up; tests/test_architecture.py checks it, and each docstring
says what its sub-package holds:

- `problem_data`: nothing
- `replicas`: nothing
- `accounting`: `problem_data`, `replicas`
- `options`: `accounting`, `problem_data`, `replicas`
- `integer_program`: `accounting`, `problem_data`
- `decomposition`: `accounting`, `integer_program`, `problem_data`
- `checks`: `accounting`, `integer_program`, `options`, `problem_data`, `replicas`
- `solution`: `accounting`, `checks`, `decomposition`, `integer_program`, `options`, `problem_data`, `replicas`
- `results`: `accounting`, `checks`, `decomposition`, `integer_program`, `problem_data`, `solution`
"""

from __future__ import annotations

from search.fleet.accounting.account import account
from search.fleet.accounting.bills import supply_rows
from search.fleet.accounting.idle import Idle
from search.fleet.checks.busiest import busiest_mixes, latency_rows, workload_of
from search.fleet.checks.verify import verified
from search.fleet.integer_program.program import formulate
from search.fleet.integer_program.relax import describe, relaxation_rows
from search.fleet.problem_data.problem import FleetProblem, World
from search.fleet.results.alternatives import Alternative, alternative_rows, alternatives
from search.fleet.results.growth import greatest_growth, growth_rows
from search.fleet.results.marginal_values import limit_rows, marginal_value_rows, slo_worth_rows
from search.fleet.results.routing import routing_json, routing_rows
from search.fleet.solution.day import due_at, hour_rows, is_a_day
from search.fleet.solution.from_scenario import plan_fleet
from search.fleet.solution.plan import Binding, FleetInfeasible, FleetPlan, Relaxation, fleet_plan
from search.fleet.solution.replan_by_simulation import SimulatedFleet, passing

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
    "relaxation_rows",
    "routing_json",
    "routing_rows",
    "slo_worth_rows",
    "supply_rows",
    "verified",
    "workload_of",
]
