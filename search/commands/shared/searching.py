"""Make plans of scenario files, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.planning import Plan
    from search.scenario import Scenario


def plan_of(
    scenario: Path,
    folders: Sequence[Path],
    *,
    command: str = "",
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Make the plan of a scenario file.

    folders: with the user's own hardware files. command: noted in the plan's manifest. changes: table -> key -> value,
    which replace what the file says.
    """
    from search.scenario import load_scenario

    return planned(load_scenario(scenario, folders, changes), command=command)


def planned(scenario: Scenario, *, command: str = "") -> Plan:
    """Make the plan of a scenario. command: noted in the plan's manifest."""
    from search.output import progress_bar
    from search.planning import plan

    with progress_bar("searching") as update:
        return plan(scenario, progress=update, command=command)


def planned_with_narrower(scenario: Scenario, shown: Callable[[Plan], object]) -> tuple[Plan, Plan | None]:
    """Make the plan of a scenario, and the one with fp8 weights where they might be offered.

    shown: called with the first plan, for what of it is shown.
    """
    from search.output import progress_bar
    from search.planning import plan_and_narrower

    with progress_bar("searching") as update:
        return plan_and_narrower(scenario, shown, progress=update)
