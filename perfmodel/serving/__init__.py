"""Serving in closed form: from step times to latency and throughput under a load."""

from __future__ import annotations

from perfmodel.serving.closed_form import serve
from perfmodel.serving.entering import decode_curve
from perfmodel.serving.prefill_pool import FULL, PromptPool, prompt_pool
from perfmodel.serving.served import Served
from perfmodel.serving.steps import PlannedStep, StepModel

__all__ = ["FULL", "PlannedStep", "PromptPool", "Served", "StepModel", "decode_curve", "prompt_pool", "serve"]
