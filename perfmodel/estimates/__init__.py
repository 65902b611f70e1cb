"""The front of the model: estimates, percentiles, chances of SLOs, explanations."""

from __future__ import annotations

from perfmodel.estimates.assembly import assemble
from perfmodel.estimates.chance import chances, keeps, overall, slo_ratio
from perfmodel.estimates.disaggregated import HAND_OVER, between, estimate_disaggregated, estimate_pools
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimator import Prepared, check, estimate, estimate_load, per_replica, prepare
from perfmodel.estimates.explanation import Term, explain
from perfmodel.estimates.intervals import CLASSES

__all__ = [
    "CLASSES",
    "HAND_OVER",
    "Estimates",
    "Prepared",
    "Term",
    "assemble",
    "between",
    "chances",
    "check",
    "estimate",
    "estimate_disaggregated",
    "estimate_load",
    "estimate_pools",
    "explain",
    "keeps",
    "overall",
    "per_replica",
    "prepare",
    "slo_ratio",
]
