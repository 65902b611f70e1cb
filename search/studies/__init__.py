"""Tune what only the simulator knows: studies of a plan's candidates, asked of Optuna, run by one kind of executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.studies.executors import EXECUTORS, Executor, Workers, executor_of
    from search.studies.objectives import OBJECTIVES
    from search.studies.running import Budget, Run
    from search.studies.settings import SETTINGS, Axis, read_axis
    from search.studies.trials import SAMPLERS, Trials
    from search.studies.tuned import Tuned
    from search.studies.tuning import Storage, tune

__all__ = [
    "EXECUTORS",
    "OBJECTIVES",
    "SAMPLERS",
    "SETTINGS",
    "Axis",
    "Budget",
    "Executor",
    "Run",
    "Storage",
    "Trials",
    "Tuned",
    "Workers",
    "executor_of",
    "read_axis",
    "tune",
]

__getattr__ = lazy_names(
    __name__,
    {
        "executors": ["EXECUTORS", "Executor", "Workers", "executor_of"],
        "objectives": ["OBJECTIVES"],
        "running": ["Budget", "Run"],
        "settings": ["SETTINGS", "Axis", "read_axis"],
        "trials": ["SAMPLERS", "Trials"],
        "tuned": ["Tuned"],
        "tuning": ["Storage", "tune"],
    },
)
