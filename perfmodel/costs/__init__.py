"""Price operators and steps in seconds, from measured tables, tables of related devices or a roofline; overlap."""

from __future__ import annotations

from perfmodel.costs.batched_pricing import Ask, Deferred, prices
from perfmodel.costs.calibrated import Calibrated, donors
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.defaults import default, unfitted
from perfmodel.costs.device_remarks import REMARK, remark_column, remarks, remarks_of
from perfmodel.costs.distinct_steps import distinct_cost, layouts
from perfmodel.costs.drafting import draft_passes, with_drafting
from perfmodel.costs.engine_factors import (
    FACTORS,
    KERNELS,
    MULTIPLIERS,
    Calls,
    EngineFactors,
    calls_of,
    combined,
    device_class,
    factored,
    kernel,
    place_factors,
    shared_factors,
)
from perfmodel.costs.engine_kernels import EngineKernels
from perfmodel.costs.fallback import Fallback
from perfmodel.costs.intervals import TWIN_DISTANCE, UNRELATED_DEVICE
from perfmodel.costs.launch_floor import LaunchFloor
from perfmodel.costs.overlap import cheaper, overlapped, streams_of
from perfmodel.costs.profiled import Profiled
from perfmodel.costs.roofline import Bound, Roofline, bound
from perfmodel.costs.step_cache import StepCache
from perfmodel.costs.steps import StepCost, mean_cost, priced, step_cost, summed
from perfmodel.vocabulary import BOUNDS

__all__ = [
    "BOUNDS",
    "FACTORS",
    "KERNELS",
    "MULTIPLIERS",
    "REMARK",
    "TWIN_DISTANCE",
    "UNRELATED_DEVICE",
    "Ask",
    "Bound",
    "Calibrated",
    "Calls",
    "Cost",
    "CostModel",
    "Deferred",
    "EngineFactors",
    "EngineKernels",
    "Fallback",
    "LaunchFloor",
    "Profiled",
    "Roofline",
    "StepCache",
    "StepCost",
    "bound",
    "calls_of",
    "cheaper",
    "combined",
    "default",
    "device_class",
    "distinct_cost",
    "donors",
    "draft_passes",
    "factored",
    "kernel",
    "layouts",
    "mean_cost",
    "overlapped",
    "place_factors",
    "priced",
    "prices",
    "remark_column",
    "remarks",
    "remarks_of",
    "shared_factors",
    "step_cost",
    "streams_of",
    "summed",
    "unfitted",
    "with_drafting",
]
