"""Make a plan again with something changed, and say what the change does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.whatif.causes import LOAD_DOWN, LOAD_UP, SURER, changes, constraints, load_changes, load_name, what_if
    from search.whatif.edits import read_edit, read_grid
    from search.whatif.fleets import FleetTrials, try_fleet_changes
    from search.whatif.outcome import ANSWER_FIGURES, SAME, WHAT_IF_FIGURES, as_planned
    from search.whatif.scenario_file import meant_as_text
    from search.whatif.tried import VALUES, Trial, Trials, trial_count, try_changes
    from search.whatif.written_plans import best_row, compared, moved_candidates, read_plan_rows, shared_columns

__all__ = [
    "ANSWER_FIGURES",
    "LOAD_DOWN",
    "LOAD_UP",
    "SAME",
    "SURER",
    "VALUES",
    "WHAT_IF_FIGURES",
    "FleetTrials",
    "Trial",
    "Trials",
    "as_planned",
    "best_row",
    "changes",
    "compared",
    "constraints",
    "load_changes",
    "load_name",
    "meant_as_text",
    "moved_candidates",
    "read_edit",
    "read_grid",
    "read_plan_rows",
    "shared_columns",
    "trial_count",
    "try_changes",
    "try_fleet_changes",
    "what_if",
]

__getattr__ = lazy_names(
    __name__,
    {
        "causes": ["LOAD_DOWN", "LOAD_UP", "SURER", "changes", "constraints", "load_changes", "load_name", "what_if"],
        "edits": ["read_edit", "read_grid"],
        "fleets": ["FleetTrials", "try_fleet_changes"],
        "outcome": ["ANSWER_FIGURES", "SAME", "WHAT_IF_FIGURES", "as_planned"],
        "scenario_file": ["meant_as_text"],
        "tried": ["VALUES", "Trial", "Trials", "trial_count", "try_changes"],
        "written_plans": ["best_row", "compared", "moved_candidates", "read_plan_rows", "shared_columns"],
    },
)
