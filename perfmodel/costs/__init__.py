"""Cost models: what prices an operator. `default()` is the one to use."""

from __future__ import annotations

from perfmodel.costs.calibrated import Calibrated
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.engine_factors import KERNELS, Corrected
from perfmodel.costs.engine_kernels import OwnKernels
from perfmodel.costs.fallback import FirstKnown
from perfmodel.costs.launch_floor import Launched
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
    "Corrected",
    "FirstKnown",
    "Launched",
    "OwnKernels",
    "Profiled",
    "Roofline",
    "bound",
    "default",
]
