"""Iteration-level simulation of serving: requests replayed step by step through routers, replicas and pools.

`simulate` and `capacity` take a model on a deployment; `run` takes pools made by hand, from any `StepTable`.
"""

from __future__ import annotations

from perfmodel.simulator.api import COUNT, COUNT_REPLICA, offered, pools_of, simulate
from perfmodel.simulator.build import pool
from perfmodel.simulator.device_power import PHASES, ReplicaPower, replica_power
from perfmodel.simulator.distributions import Distribution
from perfmodel.simulator.export import trace_events, write_power, write_requests, write_trace
from perfmodel.simulator.kernel.records import ROUTERS
from perfmodel.simulator.metrics import (
    attained,
    attainment,
    frame,
    goodput,
    holds,
    latency,
    margins,
    occupancy,
    rates,
    summary,
    tpot,
    ttft,
    unstable,
)
from perfmodel.simulator.options import Replay, ReplayOptions
from perfmodel.simulator.policy import Affinity, Link, Policy, Pool, of_engine
from perfmodel.simulator.power_use import METER_S, devices_power, power_series, power_summary
from perfmodel.simulator.rate_search import Capacity, capacity
from perfmodel.simulator.replay import run
from perfmodel.simulator.requests import Prefixes, RequestClasses, Traffic, arrivals, from_workload, traffic
from perfmodel.simulator.sequential import PRECISION, imprecise
from perfmodel.simulator.simulation import Simulation
from perfmodel.simulator.step_power import DevicePower, Steps
from perfmodel.simulator.table import StepTable
from perfmodel.simulator.tokens import Experience, experience, token_times
from perfmodel.simulator.window import Window, usage, window

__all__ = [
    "COUNT",
    "COUNT_REPLICA",
    "METER_S",
    "PHASES",
    "PRECISION",
    "ROUTERS",
    "Affinity",
    "Capacity",
    "DevicePower",
    "Distribution",
    "Experience",
    "Link",
    "Policy",
    "Pool",
    "Prefixes",
    "Replay",
    "ReplayOptions",
    "ReplicaPower",
    "RequestClasses",
    "Simulation",
    "StepTable",
    "Steps",
    "Traffic",
    "Window",
    "arrivals",
    "attained",
    "attainment",
    "capacity",
    "devices_power",
    "experience",
    "frame",
    "from_workload",
    "goodput",
    "holds",
    "imprecise",
    "latency",
    "margins",
    "occupancy",
    "of_engine",
    "offered",
    "pool",
    "pools_of",
    "power_series",
    "power_summary",
    "rates",
    "replica_power",
    "run",
    "simulate",
    "summary",
    "token_times",
    "tpot",
    "trace_events",
    "traffic",
    "ttft",
    "unstable",
    "usage",
    "window",
    "write_power",
    "write_requests",
    "write_trace",
]
