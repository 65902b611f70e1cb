"""Estimates of deployments: latency, throughput, memory, power, percentiles, SLO attainment, explanations.

Which part may import which, from the ground up; tests/test_architecture.py checks it, and each docstring
says what its part holds:

- `columns`: nothing
- `engine_refusals`: nothing
- `operator_use`: nothing
- `start_up`: nothing
- `latency_percentiles`: `columns`
- `ranges`: `columns`, `latency_percentiles`
- `estimates`: `columns`, `latency_percentiles`, `ranges`
- `estimation`: `columns`, `engine_refusals`, `estimates`, `ranges`
- `slo_chances`: `estimates`, `latency_percentiles`, `ranges`
- `disaggregation`: `columns`, `engine_refusals`, `estimates`, `estimation`, `ranges`
- `explanation`: `disaggregation`, `estimation`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names
from perfmodel.estimates.columns.deployment_columns import placed
from perfmodel.estimates.columns.groups import (
    Latency,
    MemoryUse,
    PowerUse,
    Rates,
    RequestClasses,
    TokenShape,
    WaitShape,
)
from perfmodel.estimates.disaggregation.disaggregated import (
    estimate_disaggregated,
    estimate_pools,
    in_pools,
    serve_pools,
)
from perfmodel.estimates.disaggregation.kv_transfer import (
    HAND_OVER,
    HAND_OVER_IN_NODE,
    NODE_DEVICES,
    cut_bandwidth,
    least_group,
    link_between,
)
from perfmodel.estimates.engine_refusals.context import beyond_context, check_context, check_lengths
from perfmodel.estimates.engine_refusals.remarks import configuration_remarks
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.assembly import assemble
from perfmodel.estimates.estimation.estimator import (
    Prepared,
    check,
    engine_limits,
    estimate,
    estimate_load,
    per_replica,
    prepare,
)
from perfmodel.estimates.estimation.replicas import estimate_replicas
from perfmodel.estimates.explanation import Term, explain, explain_disaggregated
from perfmodel.estimates.operator_use import BEYOND, OperatorUse, operator_use
from perfmodel.estimates.ranges.causes import CAUSES, LOADS, Causes, sensitivity
from perfmodel.estimates.ranges.intervals import (
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
from perfmodel.estimates.slo_chances.chance import chance, chances, excess, keeps, overall, slo_ratio
from perfmodel.estimates.slo_chances.joint import Drawn, Place, correlations, drawn, joint_chance
from perfmodel.estimates.start_up import StartUp, start_up

if TYPE_CHECKING:
    from perfmodel.estimates.disaggregation.pool_parts import DecodeParts, Doubts, PrefillParts, link_ends, pool_parts

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
    "cut_bandwidth",
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

#: What is owed to each of two pools is loaded where a report shows it.
__getattr__ = lazy_names(
    __name__, {"disaggregation.pool_parts": ["DecodeParts", "Doubts", "PrefillParts", "link_ends", "pool_parts"]}
)
