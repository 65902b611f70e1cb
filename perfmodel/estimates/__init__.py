"""Estimates of deployments: latency, throughput, memory, power, percentiles, SLO attainment, explanations."""

from __future__ import annotations

from perfmodel.estimates.assembly import assemble
from perfmodel.estimates.causes import CAUSES, LOADS, Causes, sensitivity
from perfmodel.estimates.chance import chance, chances, excess, keeps, overall, slo_ratio
from perfmodel.estimates.context import beyond_context, check_context, check_lengths
from perfmodel.estimates.deployment_columns import placed
from perfmodel.estimates.disaggregated import estimate_disaggregated, estimate_pools, in_pools, serve_pools
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimator import Prepared, check, engine_limits, estimate, estimate_load, per_replica, prepare
from perfmodel.estimates.explanation import Term, explain, explain_disaggregated
from perfmodel.estimates.groups import Latency, MemoryUse, PowerUse, Rates, RequestClasses, TokenShape, WaitShape
from perfmodel.estimates.intervals import (
    BUSY,
    CLASSES,
    DEVIATE_80,
    IDLE,
    KINDS,
    Uncertainty,
    by_cause,
    figure,
    load_weight,
    rest_spread,
    uncertainty,
    watts_half_width,
)
from perfmodel.estimates.joint import Drawn, Place, correlations, drawn, joint_chance
from perfmodel.estimates.kv_transfer import HAND_OVER, HAND_OVER_IN_NODE, NODE_DEVICES, least_group, link_between
from perfmodel.estimates.operator_use import BEYOND, OperatorUse, operator_use
from perfmodel.estimates.pool_parts import DecodeParts, Doubts, PrefillParts, link_ends, pool_parts
from perfmodel.estimates.remarks import configuration_remarks
from perfmodel.estimates.replicas import estimate_replicas
from perfmodel.estimates.start_up import StartUp, start_up

__all__ = [
    "BEYOND",
    "BUSY",
    "CAUSES",
    "CLASSES",
    "DEVIATE_80",
    "HAND_OVER",
    "HAND_OVER_IN_NODE",
    "IDLE",
    "KINDS",
    "LOADS",
    "NODE_DEVICES",
    "Causes",
    "DecodeParts",
    "Doubts",
    "Drawn",
    "Estimates",
    "Latency",
    "MemoryUse",
    "OperatorUse",
    "Place",
    "PowerUse",
    "PrefillParts",
    "Prepared",
    "Rates",
    "RequestClasses",
    "StartUp",
    "Term",
    "TokenShape",
    "Uncertainty",
    "WaitShape",
    "assemble",
    "beyond_context",
    "by_cause",
    "chance",
    "chances",
    "check",
    "check_context",
    "check_lengths",
    "configuration_remarks",
    "correlations",
    "drawn",
    "engine_limits",
    "estimate",
    "estimate_disaggregated",
    "estimate_load",
    "estimate_pools",
    "estimate_replicas",
    "excess",
    "explain",
    "explain_disaggregated",
    "figure",
    "in_pools",
    "joint_chance",
    "keeps",
    "least_group",
    "link_between",
    "link_ends",
    "load_weight",
    "operator_use",
    "overall",
    "per_replica",
    "placed",
    "pool_parts",
    "prepare",
    "rest_spread",
    "sensitivity",
    "serve_pools",
    "slo_ratio",
    "start_up",
    "uncertainty",
    "watts_half_width",
]
