"""Change a scenario and make its plan again, once or over a grid of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hwdb import InputError
from search.planning import Plan, plan
from search.searchers import Progress
from search.whatif.edits import MOST_VALUES, Edit, Grid, read_edits, read_grid
from search.whatif.outcome import as_planned, outcome_row, refused_row
from search.whatif.replanning import planned_again
from search.whatif.scenario_file import ScenarioFile

if TYPE_CHECKING:
    import pandas as pd

    from search.scenario import Scenario

#: Grids of one call. Chosen: a table with more than two keys is not read.
MOST_GRIDS = 2
#: Columns with the values of the grids.
VALUES = ("grid_value", "second_grid_value")
SEVERAL = "; "
#: What a scenario is answered with: a plan or a fleet.
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Trial:
    """A changed scenario and what came of it.

    name: what is different, in words. levels: values of the grids, () without. plan: None where it cannot be planned,
    for the `reason`.
    """

    name: str
    levels: tuple[Any, ...]
    plan: Plan | None
    reason: str = ""

    @property
    def feasible(self) -> bool:
        """Return True where something meets the changed request."""
        return self.plan is not None and self.plan.feasible


@dataclass(frozen=True)
class Trials:
    """The plan of a scenario as it is, and those with changes. grids: the keys whose values the trials differ in."""

    before: Plan
    trials: tuple[Trial, ...]
    grids: tuple[str, ...] = ()

    @property
    def feasible(self) -> bool:
        """Return True where something meets at least one of the changed requests."""
        return any(trial.feasible for trial in self.trials)

    def rows(self) -> list[dict[str, Any]]:
        """Return flat rows: the plan as it is, where it has an answer, then one per trial with what it changes."""
        rows = [{**dict.fromkeys(VALUES[: len(self.grids)]), **as_planned(self.before)}] if self.before.feasible else []
        for trial in self.trials:
            values = dict(zip(VALUES, trial.levels, strict=False))
            if trial.plan is None:
                rows.append({**values, **refused_row(trial.name, trial.reason)})
            else:
                rows.append({**values, **outcome_row(trial.name, self.before, trial.plan)})
        return rows

    def frame(self) -> pd.DataFrame:
        """Return `rows()` as a table whose index is what is different."""
        import pandas as pd

        return pd.DataFrame(self.rows()).set_index("what_if")


@dataclass(frozen=True)
class Changed:
    """A scenario file with changes: `edits`, and one value of each of the `grids` per point.

    points: the position of the value in each grid, () without grids. first: the scenario of the first point, and what
    is different in it.
    """

    file: ScenarioFile
    edits: Sequence[Edit]
    grids: Sequence[Grid]
    points: Sequence[tuple[int, ...]]
    first: tuple[Scenario, list[str]]

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of the grids."""
        return tuple(grid.key for grid in self.grids)

    def trials(
        self, planned: Callable[[Scenario], tuple[Answer | None, str]], progress: Progress | None
    ) -> list[tuple[str, tuple[Any, ...], Answer | None, str]]:
        """Return (what is different, values of the grids, answer, reason where there is none) per point.

        planned: returns the answer to a scenario, or None and why there is none. progress: called with (done, total)
        plans, of which that of the file as it is comes first. A value of a grid that is not possible is a reason.
        """
        found, total = list[tuple[str, tuple[Any, ...], Answer | None, str]](), len(self.points) + 1
        for done, at in enumerate(self.points):
            if progress:
                progress(done + 1, total)
            chosen = [grid.edits[i] for grid, i in zip(self.grids, at, strict=True)]
            levels = tuple(grid.levels[i] for grid, i in zip(self.grids, at, strict=True))
            try:
                scenario, told = self.file.changed([*self.edits, *chosen]) if done else self.first
                found.append((SEVERAL.join(told), levels, *planned(scenario)))
            except InputError as error:
                if not at:
                    raise
                found.append((SEVERAL.join(edit.text for edit in chosen), levels, None, str(error)))
        if progress:
            progress(total, total)
        return found


def read_changed(
    scenario: str | Path,
    changes: Sequence[str] | Mapping[str, Any],
    grid: str | Sequence[str],
    folders: Iterable[str | Path],
) -> Changed:
    """Read a scenario, changes and grids; the arguments are those of `try_changes`.

    The first changed scenario is read too, so that a wrong key shows before anything is planned.
    """
    edits, grids, points = asked(changes, grid)
    file = ScenarioFile(Path(scenario), tuple(folders))
    return Changed(file, edits, grids, points, file.changed([*edits, *(g.edits[0] for g in grids)]))


def try_changes(
    scenario: str | Path,
    changes: Sequence[str] | Mapping[str, Any] = (),
    grid: str | Sequence[str] = (),
    *,
    folders: Iterable[str | Path] = (),
    progress: Progress | None = None,
) -> Trials:
    """Plan a scenario as it is, and with `changes`; with `grid` once for each of its values.

    Args:
        scenario: path of the file.
        changes: `["slo.ttft_ms_p95=300", "device.h100-sxm.memory.bandwidth*=2"]`, or the same as a mapping,
            `{"slo.ttft_ms_p95": 300, "device.h100-sxm.memory.bandwidth*": 2}`. Any key of a scenario, and any figure of
            its devices and nodes.
        grid: `"workload.request_rate_rps=5:80:16"`, one or two.
        folders: of the hardware database, besides those that the file names.
        progress: called with (done, total) plans.

    Changes of prices alone rank the candidates again without a new plan. Raises `InputError` for a key that is not
    known, or a value that is not possible; a value of a grid that cannot be planned gets a row with the reason.
    """
    given = read_changed(scenario, changes, grid, folders)
    before = plan(given.file.scenario)
    found = given.trials(lambda changed: (planned_again(before, changed), ""), progress)
    return Trials(before, tuple(Trial(*trial) for trial in found), given.keys)


def trial_count(changes: Sequence[str] | Mapping[str, Any] = (), grid: str | Sequence[str] = ()) -> int:
    """Return the plans that `try_changes` makes, besides that of the scenario as it is. Raises as it does."""
    return len(asked(changes, grid)[2])


def asked(
    changes: Sequence[str] | Mapping[str, Any], grid: str | Sequence[str]
) -> tuple[list[Edit], list[Grid], list[tuple[int, ...]]]:
    """Read changes and grids; returns them and, for each plan to make, the position of its value in each grid."""
    edits = read_edits(changes)
    grids = [read_grid(text) for text in ([grid] if isinstance(grid, str) else grid)]
    if len(grids) > MOST_GRIDS:
        raise InputError(f"{len(grids)} grids are too many; give one or two")
    points = list(product(*(range(len(g.edits)) for g in grids)))
    if len(points) > MOST_VALUES:
        raise InputError(f"the grids have {len(points)} points together; give at most {MOST_VALUES}")
    if not edits and not grids:
        raise InputError("nothing is to be different; give a change, such as slo.ttft_ms_p95=300, or a grid")
    return edits, grids, points
