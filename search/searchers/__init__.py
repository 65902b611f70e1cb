"""Search a space of candidates (exhaustively or with Optuna), rank them, and find Pareto fronts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names
from search.scenario import RANKINGS
from search.searchers.exhaustive import Exhaustive
from search.searchers.front import pareto, ranked
from search.searchers.protocol import SCORE, Found, Progress, Score, Searcher

if TYPE_CHECKING:
    from search.searchers.optuna_searcher import OptunaSearcher

__all__ = [
    "RANKINGS",
    "SCORE",
    "Exhaustive",
    "Found",
    "OptunaSearcher",
    "Progress",
    "Score",
    "Searcher",
    "pareto",
    "ranked",
]

__getattr__ = lazy_names(__name__, {"optuna_searcher": ["OptunaSearcher"]})
