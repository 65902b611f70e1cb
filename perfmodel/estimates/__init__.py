"""Estimates of deployments: latency, throughput, memory, power, percentiles, SLO attainment, explanations."""

from __future__ import annotations

from perfmodel.estimates.assembly import assemble
from perfmodel.estimates.chance import DEVIATE_80, chance, chances, keeps, overall, slo_ratio
from perfmodel.estimates.context import beyond_context, check_context, check_lengths
from perfmodel.estimates.disaggregated import estimate_disaggregated, estimate_pools, in_pools, serve_pools
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimator import Prepared, check, engine_limits, estimate, estimate_load, per_replica, prepare
from perfmodel.estimates.explanation import Term, explain, explain_disaggregated
from perfmodel.estimates.groups import Intervals, Latency, MemoryUse, PowerUse, Rates, RequestClasses, WaitShape
from perfmodel.estimates.intervals import CLASSES, half_width
from perfmodel.estimates.intervals import METRICS as INTERVAL_METRICS
from perfmodel.estimates.kv_transfer import least_group, link_between
from perfmodel.estimates.operator_use import BEYOND, OperatorUse, operator_use
from perfmodel.estimates.remarks import configuration_remarks
from perfmodel.estimates.replicas import estimate_replicas

__all__ = [
    "BEYOND",
    "CLASSES",
    "DEVIATE_80",
    "INTERVAL_METRICS",
    "Estimates",
    "Intervals",
    "Latency",
    "MemoryUse",
    "OperatorUse",
    "PowerUse",
    "Prepared",
    "Rates",
    "RequestClasses",
    "Term",
    "WaitShape",
    "assemble",
    "beyond_context",
    "chance",
    "chances",
    "check",
    "check_context",
    "check_lengths",
    "configuration_remarks",
    "engine_limits",
    "estimate",
    "estimate_disaggregated",
    "estimate_load",
    "estimate_pools",
    "estimate_replicas",
    "explain",
    "explain_disaggregated",
    "half_width",
    "in_pools",
    "keeps",
    "least_group",
    "link_between",
    "operator_use",
    "overall",
    "per_replica",
    "prepare",
    "serve_pools",
    "slo_ratio",
]
