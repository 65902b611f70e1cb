"""What may be tried: axes, legality rules."""

from __future__ import annotations

from search.space.rules import refuse_impossible
from search.space.space import AXES, WHOLE_GROUP, Index, Legal, SearchSpace

__all__ = ["AXES", "WHOLE_GROUP", "Index", "Legal", "SearchSpace", "refuse_impossible"]
