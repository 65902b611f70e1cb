"""Iteration-level simulation of serving: requests replayed step by step through routers, replicas and pools.

`simulate` and `capacity` take a model on a deployment; `run` takes pools made by hand, from any `StepTable`.

Which part may import which, from the ground up; tests/test_architecture.py checks it, and each docstring
says what its part holds:

- `kernel`: nothing
- `request_traffic`: nothing
- `replica_pools`: `kernel`, `request_traffic`
- `stationarity`: `request_traffic`
- `simulation`: `replica_pools`, `request_traffic`, `stationarity`
- `event_replay`: `kernel`, `replica_pools`, `request_traffic`, `simulation`, `stationarity`
- `measurement`: `kernel`, `replica_pools`, `request_traffic`, `simulation`, `stationarity`
- `runs`: `event_replay`, `measurement`, `replica_pools`, `request_traffic`, `simulation`
"""

from __future__ import annotations

from perfmodel.simulator.event_replay.replay import run
from perfmodel.simulator.kernel.records import ROUTERS
from perfmodel.simulator.measurement.device_power import PHASES, ReplicaPower, replica_power
from perfmodel.simulator.measurement.distributions import Distribution
from perfmodel.simulator.measurement.export import trace_events, write_power, write_requests, write_trace
from perfmodel.simulator.measurement.metrics import (
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
from perfmodel.simulator.measurement.power_use import METER_S, devices_power, power_series, power_summary
from perfmodel.simulator.measurement.tokens import Experience, experience, token_times
from perfmodel.simulator.measurement.window import Window, usage, window
from perfmodel.simulator.replica_pools.build import pool
from perfmodel.simulator.replica_pools.policy import Affinity, Link, Policy, Pool, of_engine
from perfmodel.simulator.replica_pools.step_power import DevicePower, Steps
from perfmodel.simulator.replica_pools.table import StepTable
from perfmodel.simulator.request_traffic.requests import (
    Prefixes,
    RequestClasses,
    Traffic,
    arrivals,
    from_workload,
    traffic,
)
from perfmodel.simulator.runs.api import COUNT, COUNT_REPLICA, offered, pools_of, simulate
from perfmodel.simulator.runs.options import Replay, ReplayOptions
from perfmodel.simulator.runs.rate_search import Capacity, capacity
from perfmodel.simulator.runs.sequential import PRECISION, imprecise
from perfmodel.simulator.simulation import Simulation

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
