"""Make a plan again with something changed, and say what the change does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.whatif.causes import WHAT_IF_FIGURES, as_planned, changes, what_if

__all__ = ["WHAT_IF_FIGURES", "as_planned", "changes", "what_if"]

__getattr__ = lazy_names(__name__, {"causes": ["WHAT_IF_FIGURES", "as_planned", "changes", "what_if"]})
