"""Ask Optuna for the trials of a study in batches, and keep what became of them in its storage.

A trial is one value on every axis. The proposed trials depend only on the seed, on the number of the trial and on the
results reported before the batch. They do not depend on the number of workers, or on whether the study was stopped and
resumed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from search.studies.objectives import Aims
from search.studies.settings import Axis, Value
from search.studies.storage import closed, patient

if TYPE_CHECKING:
    import optuna

#: What proposes trials: a tree-structured Parzen estimator (Bergstra et al. 2011), chance, or every combination.
SAMPLERS = ("tpe", "random", "exhaustive")
#: Trials that chance proposes before the estimator does, warm starts among them. Chosen: Optuna's own default.
STARTUP = 10
#: Attributes of a trial: its settings, and its figures after the short and the full replay.
SETTINGS, SHORT, FULL = "settings", "short", "full"
#: Attribute of a trial that the closed form proposed.
START = "closed_form"


@dataclass(frozen=True)
class Asked:
    """One trial that was asked for. handle: Optuna's."""

    handle: optuna.Trial
    settings: Mapping[str, Value]

    @property
    def number(self) -> int:
        """Return the number of the trial in its study, from 0."""
        return int(self.handle.number)


@dataclass(frozen=True)
class Trials:
    """The trials of a study. sampler: one of `SAMPLERS`. place: the storage that `study` is kept in."""

    study: optuna.Study
    place: optuna.storages.BaseStorage
    axes: tuple[Axis, ...]
    sampler: str
    seed: int
    aims: Aims

    def close(self) -> None:
        """End the connections to the storage."""
        closed(self.place)

    @property
    def size(self) -> int:
        """Return the number of combinations of the settings."""
        return math.prod(len(axis.values) for axis in self.axes)

    def known(self) -> list[optuna.trial.FrozenTrial]:
        """Return all trials of the storage, by number."""
        return patient(lambda: self.study.get_trials(deepcopy=False))

    def begin(self, starts: Sequence[Mapping[str, int]]) -> None:
        """Put trials that were found otherwise before all others, where the study is new."""
        for places in starts:
            params = {axis.name: _written(axis, places[axis.name]) for axis in self.axes if len(axis.values) > 1}
            patient(partial(self.study.enqueue_trial, params, user_attrs={START: True}, skip_if_exists=True))

    def batch(self, first: int, size: int) -> list[Asked]:
        """Return the open trials among those numbered `first` to `first + size - 1`; those not yet asked for are asked.

        Those that were asked for and not told, as the study was stopped, are returned again.
        """
        return patient(lambda: self._batch(first, size))

    def _batch(self, first: int, size: int) -> list[Asked]:
        import optuna

        states = optuna.trial.TrialState
        before = [t for t in self.study.get_trials(deepcopy=False) if first <= t.number < first + size]
        closed = sum(t.state.is_finished() for t in before)
        asked = [self._asked(t._trial_id, t.number) for t in before if t.state == states.RUNNING]
        while len(asked) + closed < size:
            asked.append(self._asked(None, first + len(asked) + closed))
        return sorted(asked, key=lambda a: a.number)

    def _asked(self, known: int | None, number: int) -> Asked:
        """Return one trial. known: its id in the storage, None to ask for a new one. number: of the trial."""
        import optuna

        self.study.sampler = self._sampler(number)
        handle = self.study.ask() if known is None else optuna.trial.Trial(self.study, known)
        settings = {axis.name: _suggested(handle, axis) for axis in self.axes}
        handle.set_user_attr(SETTINGS, settings)
        return Asked(handle, settings)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return the sampler of one trial, seeded by its number."""
        from optuna.samplers import RandomSampler, TPESampler
        from optuna.trial import Trial

        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        if self.sampler == "exhaustive":
            return _listed(self.axes, number)
        if self.sampler == "random":
            return RandomSampler(seed=seed)
        named = hasattr(Trial, "set_constraint")  # Optuna 5; before, the sampler asks for the constraints
        options: dict[str, Any] = {} if named else {"constraints_func": self._violations}
        return TPESampler(seed=seed, constant_liar=True, multivariate=True, n_startup_trials=STARTUP, **options)

    def _violations(self, trial: optuna.trial.FrozenTrial) -> list[float]:
        """Return what a trial exceeds the constraints by."""
        return list(self.aims.excess(figures_of_trial(trial)).values())

    def keep(self, asked: Asked, rung: str, figures: Mapping[str, Any]) -> None:
        """Keep the figures of a replay in the storage. rung: `SHORT` or `FULL`."""
        patient(lambda: asked.handle.set_user_attr(rung, written(figures)))

    def tell(self, asked: Asked, figures: Mapping[str, Any], *, pruned: bool = False) -> None:
        """Tell the study the result of a trial; of a pruned one, its figures are those of the short replay."""
        patient(lambda: self._tell(asked, figures, pruned=pruned))

    def _tell(self, asked: Asked, figures: Mapping[str, Any], *, pruned: bool) -> None:
        from optuna.trial import TrialState

        if hasattr(asked.handle, "set_constraint"):
            known = asked.handle.constraints  # of a trial whose process was stopped between this and the end
            for name, share in self.aims.excess(figures).items():
                if name not in known:
                    asked.handle.set_constraint(name, share)
        if not pruned:
            self.study.tell(asked.handle, self.aims.values(figures), skip_if_finished=True)
            return
        if len(self.aims.objectives) == 1:
            asked.handle.report(self.aims.values(figures)[0], 0)
        self.study.tell(asked.handle, state=TrialState.PRUNED, skip_if_finished=True)


def _suggested(handle: optuna.Trial, axis: Axis) -> Value:
    """Return the value of a trial on an axis."""
    if len(axis.values) == 1:
        return axis.values[0]
    if axis.ordered:
        return axis.values[handle.suggest_int(axis.name, 0, len(axis.values) - 1)]
    found: Value = handle.suggest_categorical(axis.name, axis.values)  # type: ignore[assignment]
    return found


def _written(axis: Axis, place: int) -> Value:
    """Return what Optuna calls the value at a place: the place itself of a number, else the value."""
    return place if axis.ordered else axis.values[place]


def _listed(axes: Sequence[Axis], number: int) -> optuna.samplers.BaseSampler:
    """Return a sampler that proposes combination `number` of all, and begins again after the last."""
    from optuna.samplers import PartialFixedSampler, RandomSampler

    shape = [len(axis.values) for axis in axes]
    places = np.unravel_index(number % math.prod(shape), shape)
    params = {axis.name: _written(axis, int(place)) for axis, place in zip(axes, places, strict=True)}
    return PartialFixedSampler(params, RandomSampler(seed=0))


def figures_of_trial(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """Return the figures of the fullest replay of a trial; none where it has not been replayed."""
    return read(trial.user_attrs.get(FULL) or trial.user_attrs.get(SHORT) or "{}")


def written(figures: Mapping[str, Any]) -> str:
    """Return figures as JSON; those that are not known are left out."""
    return json.dumps({k: v for k, v in figures.items() if not (isinstance(v, float) and math.isnan(v))})


def read(text: str) -> dict[str, Any]:
    """Return figures that `written` wrote."""
    return dict(json.loads(text))
