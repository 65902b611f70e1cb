"""Change a scenario and make its plan again, once or over a grid of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdb import InputError
from search.planning import Plan, plan
from search.searchers import Progress
from search.whatif.again import planned_again
from search.whatif.edits import MOST_VALUES, Edit, Grid, read_edits, read_grid
from search.whatif.outcome import as_planned, outcome_row, refused_row
from search.whatif.scenario_file import ScenarioFile

if TYPE_CHECKING:
    import pandas as pd

    from search.scenario import Scenario

#: Grids of one call. chosen: a table with more than two keys is not read.
MOST_GRIDS = 2
#: Columns with the values of the grids.
VALUES = ("grid_value", "second_grid_value")
SEVERAL = "; "


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
    edits, grids, points = _asked(changes, grid)
    file = ScenarioFile(Path(scenario), tuple(folders))
    # A wrong key shows before anything is planned.
    first: tuple[Scenario, list[str]] | None = file.changed([*edits, *(g.edits[0] for g in grids)])
    total = len(points) + 1
    before = plan(file.scenario)
    trials = []
    for done, at in enumerate(points, start=1):
        if progress:
            progress(done, total)
        trials.append(_trial(file, before, edits, [(g, i) for g, i in zip(grids, at, strict=True)], first))
        first = None
    if progress:
        progress(total, total)
    return Trials(before, tuple(trials), tuple(g.key for g in grids))


def trial_count(changes: Sequence[str] | Mapping[str, Any] = (), grid: str | Sequence[str] = ()) -> int:
    """Return the plans that `try_changes` makes, besides that of the scenario as it is. Raises as it does."""
    return len(_asked(changes, grid)[2])


def _asked(
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


def _trial(
    file: ScenarioFile, before: Plan, edits: Sequence[Edit], at: Sequence[tuple[Grid, int]], known: Any
) -> Trial:
    """Plan with `edits` and one value of each grid. at: (grid, position of its value). known: the scenario, if read."""
    levels = tuple(grid.levels[i] for grid, i in at)
    try:
        scenario, told = known or file.changed([*edits, *(grid.edits[i] for grid, i in at)])
        name = SEVERAL.join(told)
        return Trial(name, levels, planned_again(before, scenario))
    except InputError as error:
        if not at:
            raise
        return Trial(SEVERAL.join(grid.edits[i].text for grid, i in at), levels, None, str(error))
