"""Cost models: what prices an operator. `default()` is the one to use."""

from __future__ import annotations

from perfmodel.costs.first_known import FirstKnown
from perfmodel.costs.profiled import Profiled
from perfmodel.costs.roofline import BOUNDS, Bound, Roofline, bound
from perfmodel.demand import CostModel

__all__ = ["BOUNDS", "Bound", "FirstKnown", "Profiled", "Roofline", "bound", "default"]


def default(framework: str = "") -> CostModel:
    """The best model at hand for a serving framework ('' for any): measured tables first, a roofline last."""
    return FirstKnown((Profiled(framework), Roofline()))
