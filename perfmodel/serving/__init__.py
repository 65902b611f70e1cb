"""Estimate latency and throughput of one replica under a load analytically, from the times of its steps.

Which part may import which, from the ground up; tests/test_architecture.py checks it, and each docstring
says what its part holds:

- `limits`: nothing
- `queues`: `limits`
- `step_times`: `limits`, `queues`
- `own_process`: `step_times`
- `prefill_pool`: `limits`, `step_times`
- `served`: `step_times`
- `adapter_slots`: `limits`, `served`
- `streaming`: `limits`, `served`, `step_times`
- `fixed_concurrency`: `limits`, `own_process`, `queues`, `served`, `step_times`
- `offline_batches`: `limits`, `queues`, `served`, `step_times`
- `open_loops`: `limits`, `offline_batches`, `own_process`, `queues`, `served`, `step_times`
- `closed_form`: `adapter_slots`, `fixed_concurrency`, `limits`, `offline_batches`, `open_loops`, `queues`, `served`,
  `step_times`, `streaming`
"""

from __future__ import annotations

from perfmodel.serving.adapter_slots import slots_limit
from perfmodel.serving.closed_form import serve
from perfmodel.serving.limits import MAX_RUNNING, MAX_UTILISATION, SATURATED_SHARE, TINY
from perfmodel.serving.prefill_pool import PromptPool, prompt_pool
from perfmodel.serving.queues.queueing import eased, opening_share, queue_variability, rising_root
from perfmodel.serving.queues.run_waits import mean_in_run, run_noise, with_backlog
from perfmodel.serving.served import (
    MOST_GAIN,
    PACE_AT,
    PACE_LENGTHS,
    PACE_STARTS,
    SHORT_WAITS,
    Gains,
    RequestTimes,
    Served,
    StepCosts,
    StepTimes,
    TokenShape,
    WaitShape,
)
from perfmodel.serving.step_times.curve import DecodeCurve, decode_curve
from perfmodel.serving.step_times.planned_step import PlannedPrompts, PlannedStep
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.serving.step_times.token_spread import longest_gap
from perfmodel.serving.streaming import streaming_time

__all__ = [
    "MAX_RUNNING",
    "MAX_UTILISATION",
    "MOST_GAIN",
    "PACE_AT",
    "PACE_LENGTHS",
    "PACE_STARTS",
    "SATURATED_SHARE",
    "SHORT_WAITS",
    "TINY",
    "DecodeCurve",
    "Gains",
    "PlannedPrompts",
    "PlannedStep",
    "PromptPool",
    "RequestTimes",
    "Served",
    "StepCosts",
    "StepModel",
    "StepTimes",
    "TokenShape",
    "WaitShape",
    "decode_curve",
    "eased",
    "longest_gap",
    "mean_in_run",
    "opening_share",
    "prompt_pool",
    "queue_variability",
    "rising_root",
    "run_noise",
    "serve",
    "slots_limit",
    "streaming_time",
    "with_backlog",
]
