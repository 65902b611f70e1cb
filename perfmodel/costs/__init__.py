"""Cost models: what prices an operator. `default()` is the one to use."""

from __future__ import annotations

from perfmodel.costs.roofline import BOUNDS, Bound, Roofline, bound
from perfmodel.demand import CostModel

__all__ = ["BOUNDS", "Bound", "Roofline", "bound", "default"]


def default(framework: str = "") -> CostModel:
    """The best model at hand for a serving framework ('' for any)."""
    del framework  # one roofline serves all
    return Roofline()
