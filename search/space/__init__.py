"""Define the search space: axes of a deployment, and the rules that say which combinations are legal."""

from __future__ import annotations

from search.space.rules import refuse_impossible
from search.space.space import AXES, WHOLE_GROUP, Legal, SearchSpace

__all__ = ["AXES", "WHOLE_GROUP", "Legal", "SearchSpace", "refuse_impossible"]
