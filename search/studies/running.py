"""Run a study: ask for a batch of trials, replay them on workers, drop the hopeless ones, tell the results, go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwdb import InputError, UnknownName
from search.searchers import Progress
from search.studies.executors import Workers
from search.studies.pruning import survivors
from search.studies.settings import Value
from search.studies.trials import FULL, SAMPLERS, SETTINGS, SHORT, START, Asked, Trials, read

if TYPE_CHECKING:
    import optuna

#: Adds to the figures of a task what is known here and not on the workers.
Price = Callable[[tuple[Mapping[str, Value], int], dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Budget:
    """What a study may spend, and how.

    trials: of the whole study, those before a stop included. requests: replayed per trial, 0 for the whole trace, or
    `COUNT` of a drawn load. batch: trials asked for at once; it changes what is asked, whereas the workers do not.
    candidates: of the plan, best first. short_first: give every trial a short replay, and only the better ones a full
    one. from_plan: begin with the settings of the closed form's front. nearest: take the nearest misses where nothing
    qualifies.
    """

    trials: int = 64
    requests: int = 0
    batch: int = 8
    candidates: int = 1
    sampler: str = "tpe"
    seed: int = 0
    short_first: bool = True
    from_plan: bool = True
    nearest: bool = False

    def __post_init__(self) -> None:
        """Raise `InputError` for numbers and samplers that mean nothing."""
        if self.sampler not in SAMPLERS:
            raise UnknownName("sampler", self.sampler, SAMPLERS)
        for name, least in (("trials", 1), ("batch", 1), ("candidates", 1), ("requests", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; give {least} or more")


@dataclass
class Run:
    """A study in progress.

    price: adds the cost to the figures of a task. requests: of a full replay. short: of a short one, 0 for none.
    replays: made so far. figures: known ones, by settings and number of requests; a setting that is proposed again is
    not replayed again.
    """

    trials: Trials
    workers: Workers
    budget: Budget
    price: Price
    requests: int
    short: int = 0
    replays: int = 0
    figures: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def go(self, progress: Progress | None) -> None:
        """Run batches until the study has its trials. progress: called with (trials told, trials)."""
        total = self.budget.trials
        if self.budget.sampler == "exhaustive":
            total = min(total, self.trials.size)
        self._learn(self.trials.known())
        for first in range(0, total, self.budget.batch):
            if progress:
                progress(first, total)
            asked = self.trials.batch(first, min(self.budget.batch, total - first))
            if asked:
                self._batch(asked)
        if progress:
            progress(total, total)

    def _learn(self, known: Sequence[optuna.trial.FrozenTrial]) -> None:
        """Take over the figures that the storage holds."""
        for trial in known:
            for rung, count in ((SHORT, self.short), (FULL, self.requests)):
                if rung in trial.user_attrs:
                    self.figures[_key(trial.user_attrs[SETTINGS], count)] = read(trial.user_attrs[rung])

    def _batch(self, asked: list[Asked]) -> None:
        """Replay a batch, shortly at first, and tell each trial as soon as its result is known."""
        full = [a for a in asked if _key(a.settings, self.requests) in self.figures]
        rest = [a for a in asked if a not in full]
        for one in full:
            self._finish(one)
        if self.short and rest:
            for one in self._replayed(rest, self.short):
                self.trials.keep(one, SHORT, self.figures[_key(one.settings, self.short)])
            kept = self._survivors(rest)
            for one in rest:
                if one.number not in kept:
                    self.trials.tell(one, self.figures[_key(one.settings, self.short)], pruned=True)
            rest = [a for a in rest if a.number in kept]
        for one in self._replayed(rest, self.requests):
            self._finish(one)

    def _survivors(self, batch: Sequence[Asked]) -> set[int]:
        """Return the numbers of the trials of a batch that get a full replay; those of the closed form always do."""
        last = max(a.number for a in batch)
        known = [t for t in self.trials.known() if t.number <= last and SHORT in t.user_attrs]
        short = {t.number: read(t.user_attrs[SHORT]) for t in known}
        starts = {t.number for t in known if t.user_attrs.get(START)}
        numbers = {a.number for a in batch}
        return survivors(short, numbers, self.trials.aims) | (starts & numbers)

    def _finish(self, one: Asked) -> None:
        """Keep and tell the result of a full replay."""
        found = self.figures[_key(one.settings, self.requests)]
        self.trials.keep(one, FULL, found)
        self.trials.tell(one, found)

    def _replayed(self, batch: Sequence[Asked], count: int) -> Iterator[Asked]:
        """Yield the trials of a batch as their replays of `count` requests are known; equal settings run once."""
        waiting: dict[tuple[str, int], list[Asked]] = {}
        for one in batch:
            key = _key(one.settings, count)
            if key in self.figures:
                yield one
            else:
                waiting.setdefault(key, []).append(one)
        keys = list(waiting)
        tasks = [(waiting[key][0].settings, count) for key in keys]
        for at, found in self.workers.run(tasks):
            self.replays += 1
            self.figures[keys[at]] = self.price(tasks[at], found)
            yield from waiting[keys[at]]


def _key(settings: Mapping[str, Value], count: int) -> tuple[str, int]:
    """Return what tells replays apart: their settings, and their number of requests."""
    return json.dumps(dict(settings), sort_keys=True), count
