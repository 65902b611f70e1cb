"""Change the scenario of a fleet and plan the fleet again, once or over a grid of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import NAN
from search.fleet import FleetPlan, plan_fleet
from search.searchers import Progress
from search.whatif.outcome import SAME, change_percent
from search.whatif.tried import VALUES, read_changed


@dataclass(frozen=True)
class FleetTrial:
    """A changed scenario and its fleet.

    name: what is different, in words. levels: values of the grids, () without. fleet: None where none is possible, for
    the `reason`.
    """

    name: str
    levels: tuple[Any, ...]
    fleet: FleetPlan | None
    reason: str = ""


@dataclass(frozen=True)
class FleetTrials:
    """The fleet of a scenario as it is, None where there is none, and those with changes. grids: keys that differ."""

    before: FleetPlan | None
    trials: tuple[FleetTrial, ...]
    grids: tuple[str, ...] = ()

    @property
    def feasible(self) -> bool:
        """Return True where a fleet serves at least one of the changed requests."""
        return any(trial.fleet is not None for trial in self.trials)

    def rows(self) -> list[dict[str, Any]]:
        """Return flat rows: the fleet as it is, where there is one, then one per trial with what it changes."""
        now = _figures(self.before)
        rows = [{**dict.fromkeys(VALUES[: len(self.grids)]), "what_if": "as planned", **now}] if self.before else []
        for trial in self.trials:
            then = _figures(trial.fleet)
            same = self.before is not None and then["answer"] == now["answer"]
            row = {
                **dict(zip(VALUES, trial.levels, strict=False)),
                "what_if": trial.name,
                **then,
                "change_percent": change_percent(then, now, "usd_per_hour"),
                "devices_change": then["devices"] - now["devices"],
                "power_change_percent": change_percent(then, now, "power_w"),
            }
            rows.append(row | {"answer": trial.reason or (SAME if same else then["answer"])})
        return rows


def _figures(fleet: FleetPlan | None) -> dict[str, Any]:
    """Return the figures of a fleet, NaN without one."""
    if fleet is None:
        return {"answer": "", "usd_per_hour": NAN, "devices": NAN, "power_w": NAN, "slo_chance": NAN}
    counts = fleet.replicas.max(axis=1)
    used = [f"{n} x {o.name}" for n, o in zip(counts.tolist(), fleet.problem.options, strict=True) if n]
    known = fleet.slo_chance is not None and bool(np.isfinite(fleet.slo_chance).any())
    return {
        "answer": " + ".join(used),
        "usd_per_hour": fleet.usd_per_hour,
        "devices": sum(fleet.devices.values()),
        "power_w": fleet.power,
        "slo_chance": float(np.nanmin(fleet.slo_chance)) if known and fleet.slo_chance is not None else NAN,
    }


def try_fleet_changes(
    scenario: str | Path,
    changes: Sequence[str] | Mapping[str, Any] = (),
    grid: str | Sequence[str] = (),
    *,
    folders: Iterable[str | Path] = (),
    progress: Progress | None = None,
) -> FleetTrials:
    """Plan the fleet of a scenario as it is, and with changes; the arguments are those of `try_changes`.

    A change that no fleet within the limits serves has the reason, with what to relax, as its answer.
    """
    given = read_changed(scenario, changes, grid, folders)
    before, _ = _planned(given.file.scenario)
    found = given.trials(_planned, progress)
    return FleetTrials(before, tuple(FleetTrial(*trial) for trial in found), given.keys)


def _planned(scenario: Any) -> tuple[FleetPlan | None, str]:
    """Return the fleet of a scenario, or None and why there is none."""
    try:
        return plan_fleet(scenario), ""
    except Infeasible as error:
        return None, str(error)
