"""The result of a study: its trials as rows, the best of them, and what they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.arrays import NAN
from search.searchers import pareto
from search.studies.objectives import OBJECTIVES, Aims
from search.studies.replays import rank_of
from search.studies.settings import Axis
from search.studies.trials import FULL, SETTINGS, SHORT, START, figures_of_trial

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Tuned:
    """All trials of a study.

    aims: objectives and constraints. axes: settings and their values. candidates: names, by rank from 1. trials: as the
    storage has them. replays: simulations that this run made, short ones too. lost: workers that died meanwhile, whose
    tasks others took over.
    """

    aims: Aims
    axes: tuple[Axis, ...]
    candidates: tuple[str, ...]
    trials: Sequence[optuna.trial.FrozenTrial]
    replays: int
    lost: int

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per trial: state, settings and figures; `front` marks those that no other beats."""
        rows = [self._row(trial) for trial in self.trials if trial.state.is_finished()]
        able = [row for row in rows if row["meets_slo"] and row["state"] == "complete"]
        losses = [np.array(column) for column in zip(*map(self.aims.losses, able), strict=True)]
        front = pareto(losses) if able else np.zeros(0, bool)
        best = {row["trial"] for row, first in zip(able, front, strict=True) if first}
        return [{**row, "front": row["trial"] in best} for row in rows]

    @cached_property
    def front(self) -> list[dict[str, Any]]:
        """Return the rows that no other beats, the best by the first objective first; of equal ones the first trial."""
        unique: dict[tuple[float, ...], dict[str, Any]] = {}
        for row in self.rows:
            if row["front"]:
                unique.setdefault(tuple(self.aims.losses(row)), row)
        return [unique[losses] for losses in sorted(unique)]

    @property
    def sentences(self) -> list[str]:
        """Say what each end of the front sets otherwise than the plan, and what that changes; "" without a start."""
        start = next((row for row in self.rows if row["from_plan"] and row["state"] == "complete"), None)
        if start is None or not self.front:
            return []
        out = []
        for name in self.aims.objectives:
            better = max if OBJECTIVES[name] else min
            best = better(self.front, key=itemgetter(name))
            changed = [a.name for a in self.axes if best[a.name] != start[a.name]]
            changes = ", ".join(f"{key} {best[key]} (planned {start[key]})" for key in changed)
            if changes and best[name] != start[name]:
                text = f"Best {name}: {best[name]:.4g} against {start[name]:.4g} as planned, with {changes}"
                out.append(f"{text}{self._paid(name, best, start)}.")
        return out

    def _paid(self, name: str, best: Mapping[str, Any], start: Mapping[str, Any]) -> str:
        """Return in words what the best row of an objective loses of the other objectives against the plan."""
        lost = [
            f"{other} {best[other]:.4g} in place of {start[other]:.4g}"
            for other in self.aims.objectives
            if other != name and (best[other] < start[other] if OBJECTIVES[other] else best[other] > start[other])
        ]
        return f"; it takes {' and '.join(lost)}" if lost else ""

    @property
    def counts(self) -> dict[str, int]:
        """Return trials by state, those that keep the SLO, and simulations and workers lost of this run."""
        rows = self.rows
        settings = {str([row[a.name] for a in self.axes]) for row in rows}
        return {
            "trials": len(rows),
            "complete": sum(row["state"] == "complete" for row in rows),
            "pruned": sum(row["state"] == "pruned" for row in rows),
            "repeated": len(rows) - len(settings),
            "meets_slo": sum(bool(row["meets_slo"]) for row in rows),
            "replays": self.replays,
            "lost_workers": self.lost,
        }

    def _row(self, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        """Return a trial as a flat row."""
        attributes, figures = trial.user_attrs, figures_of_trial(trial)
        settings: Mapping[str, Any] = attributes.get(SETTINGS, {})
        names = dict.fromkeys([*self.aims.objectives, *self.aims.wanted, "devices", "usd_per_hour"])
        return {
            "trial": trial.number,
            "state": "complete" if FULL in attributes else "pruned" if SHORT in attributes else "failed",
            "from_plan": bool(attributes.get(START, False)),
            "candidate": self.candidates[rank_of(settings) - 1],
            **{axis.name: settings.get(axis.name) for axis in self.axes},
            **{name: figures.get(name, NAN) for name in names},
            "meets_slo": self.aims.miss(figures) <= 0,
            "remark": str(figures.get("problem", "")),
        }
