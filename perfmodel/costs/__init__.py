"""Price operators and steps in seconds, from measured tables, tables of related devices or a roofline; overlap.

`cost` defines what a cost model is. Which sub-package may import which, from the ground up;
tests/test_architecture.py checks it, and each docstring says what its sub-package holds:

- `cost`: nothing
- `measured_tables`: `cost`
- `rooflines`: `cost`
- `related_devices`: `cost`, `measured_tables`, `rooflines`
- `engine_effects`: `cost`, `measured_tables`, `related_devices`, `rooflines`
- `cost_model_choice`: `cost`, `engine_effects`, `measured_tables`, `related_devices`, `rooflines`
- `step_costs`: `cost`, `cost_model_choice`, `measured_tables`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names
from perfmodel.costs.cost import Cost, CostModel, all_of
from perfmodel.costs.cost_model_choice.defaults import default, unfitted
from perfmodel.costs.cost_model_choice.fallback import Fallback
from perfmodel.costs.engine_effects.engine_factors import (
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
from perfmodel.costs.engine_effects.launch_floor import LaunchFloor
from perfmodel.costs.engine_effects.model_levels import TABLE as MODEL_LEVELS
from perfmodel.costs.engine_effects.model_levels import chip_family, model_level, plain_architecture
from perfmodel.costs.measured_tables.device_remarks import REMARK, remark_column, remarks, remarks_of
from perfmodel.costs.measured_tables.intervals import TWIN_DISTANCE, UNRELATED_DEVICE
from perfmodel.costs.measured_tables.profiled import Profiled
from perfmodel.costs.related_devices.calibrated import Calibrated, donors
from perfmodel.costs.rooflines.roofline import Bound, Roofline, bound
from perfmodel.costs.step_costs.batched_pricing import Ask, Deferred
from perfmodel.costs.step_costs.distinct_steps import distinct_cost, layouts
from perfmodel.costs.step_costs.drafting import draft_passes, with_drafting
from perfmodel.costs.step_costs.overlap import cheaper, overlapped, streams_of
from perfmodel.costs.step_costs.step_cache import StepCache
from perfmodel.costs.step_costs.steps import StepCost, mean_cost, priced, step_cost, summed
from perfmodel.vocabulary import BOUNDS

if TYPE_CHECKING:
    from perfmodel.costs.engine_effects.engine_kernels import EngineKernels

__all__ = [
    "BOUNDS",
    "FACTORS",
    "KERNELS",
    "MODEL_LEVELS",
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
    "all_of",
    "bound",
    "calls_of",
    "cheaper",
    "chip_family",
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
    "model_level",
    "overlapped",
    "place_factors",
    "plain_architecture",
    "priced",
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

#: The kernels of engines that bring their own are loaded where one is priced.
__getattr__ = lazy_names(__name__, {"engine_effects.engine_kernels": ["EngineKernels"]})
