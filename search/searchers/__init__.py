"""How the space is tried: exhaustively or by Optuna; ranking and front."""

from __future__ import annotations

from search.searchers.exhaustive import Exhaustive
from search.searchers.front import RANKINGS, pareto, ranked
from search.searchers.optuna_searcher import OptunaSearcher
from search.searchers.protocol import OBJECTIVE, Array, Found, Progress, Score, Searcher

__all__ = [
    "OBJECTIVE",
    "RANKINGS",
    "Array",
    "Exhaustive",
    "Found",
    "OptunaSearcher",
    "Progress",
    "Score",
    "Searcher",
    "pareto",
    "ranked",
]
