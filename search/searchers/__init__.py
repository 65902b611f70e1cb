"""Search a space of candidates (exhaustively or with Optuna), rank them, and find Pareto fronts."""

from __future__ import annotations

from search.scenario import RANKINGS
from search.searchers.exhaustive import Exhaustive
from search.searchers.front import pareto, ranked
from search.searchers.optuna_searcher import OptunaSearcher
from search.searchers.protocol import SCORE, Found, Progress, Score, Searcher

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
