"""Estimate latency and throughput of one replica under a load analytically, from the times of its steps."""

from __future__ import annotations

from perfmodel.serving.adapter_slots import slots_limit
from perfmodel.serving.closed_form import serve
from perfmodel.serving.curve import DecodeCurve, decode_curve
from perfmodel.serving.limits import MAX_RUNNING, MAX_UTILISATION, SATURATED_SHARE, TINY
from perfmodel.serving.planned_step import PlannedPrompts, PlannedStep
from perfmodel.serving.prefill_pool import PromptPool, prompt_pool
from perfmodel.serving.queueing import eased, opening_share, queue_variability, rising_root
from perfmodel.serving.run_waits import with_backlog
from perfmodel.serving.served import (
    MOST_GAIN,
    SHORT_WAITS,
    Gains,
    RequestTimes,
    Served,
    StepCosts,
    StepTimes,
    TokenShape,
    WaitShape,
)
from perfmodel.serving.steps import StepModel

__all__ = [
    "MAX_RUNNING",
    "MAX_UTILISATION",
    "MOST_GAIN",
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
    "opening_share",
    "prompt_pool",
    "queue_variability",
    "rising_root",
    "serve",
    "slots_limit",
    "with_backlog",
]
