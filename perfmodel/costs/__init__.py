"""Cost models: what prices an operator. `default()` is the one to use."""

from __future__ import annotations

from perfmodel.costs.calibrated import Calibrated
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.engine_factors import KERNELS, EngineFactors
from perfmodel.costs.engine_kernels import EngineKernels
from perfmodel.costs.fallback import Fallback
from perfmodel.costs.launch_floor import LaunchFloor
from perfmodel.costs.profiled import Profiled
from perfmodel.costs.roofline import Bound, Roofline, bound
from perfmodel.vocabulary import BOUNDS

__all__ = [
    "BOUNDS",
    "KERNELS",
    "Bound",
    "Cost",
    "CostModel",
    "Calibrated",
    "EngineFactors",
    "Fallback",
    "LaunchFloor",
    "EngineKernels",
    "Profiled",
    "Roofline",
    "bound",
    "default",
]
