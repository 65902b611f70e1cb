"""Define the search space: axes of a deployment, and the rules that say which combinations are legal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.space.rules import refuse_impossible
    from search.space.space import AXES, OWN_DP, PART_GROUPS, WHOLE_GROUP, Legal, SearchSpace

__all__ = ["AXES", "OWN_DP", "PART_GROUPS", "WHOLE_GROUP", "Legal", "SearchSpace", "refuse_impossible"]

__getattr__ = lazy_names(
    __name__,
    {"rules": ["refuse_impossible"], "space": ["AXES", "Legal", "OWN_DP", "PART_GROUPS", "SearchSpace", "WHOLE_GROUP"]},
)
