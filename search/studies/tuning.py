"""Run a study: ask for a batch of trials, replay them on workers, drop the hopeless ones, tell the results, go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from hwdb import InputError, UnknownName
from perfmodel import __version__
from perfmodel.simulator import COUNT, Traffic
from search.searchers import Progress
from search.studies.executors import Executor, Serial, Workers
from search.studies.objectives import Aims, aims_of
from search.studies.pruning import short_of, survivors
from search.studies.replays import Bench, Contender, bench_of, priced, replayed
from search.studies.settings import Axis, Value, axes_of
from search.studies.starts import starts_of
from search.studies.storage import opened, patient, quiet
from search.studies.trials import FULL, SAMPLERS, SETTINGS, SHORT, START, Asked, Trials, read
from search.studies.tuned import Tuned

if TYPE_CHECKING:
    import optuna

    from search.planning import Plan

#: Attribute of a study that says what it is a study of.
DEFINITION = "definition"


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


@dataclass(frozen=True)
class Storage:
    """Where a study is kept. place: file of SQLite, URL, or "" for memory. study: its name. resume: go on with it."""

    place: str = ""
    study: str = "tune"
    resume: bool = False


def tune(
    plan: Plan,
    *,
    objectives: Sequence[str] = (),
    vary: Sequence[Axis] = (),
    budget: Budget | None = None,
    storage: Storage | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Tune settings of the best candidates of a plan by simulation, and return all trials with their front.

    The bounds of the plan's SLO are constraints. The same arguments give the same trials, whatever the executor.

    Args:
        objectives: figures of `OBJECTIVES` to reach for; none for cost and p99 of TTFT.
        vary: settings with their values, in place of the usual ones.
        budget, storage: see their classes; by default 64 trials in memory.
        executor: what runs the simulations; by default this process.
        progress: called with (trials told, trials).

    Raises `Infeasible` where the plan has no candidate, and `InputError` for what means nothing.
    """
    chosen, aims = budget or Budget(), aims_of(objectives, plan.scorer.target.slo)
    numbers = _numbers(plan, chosen)
    contenders = tuple(_contender(plan, number, chosen) for number in numbers)
    prefixes = any(one.traffic.prefixes is not None for one in contenders)
    axes = axes_of(plan, numbers, vary, prefixes=prefixes)
    bench = bench_of(plan, contenders, axes, aims.wanted, chosen.seed)
    with quiet():
        trials = _trials(axes, aims, chosen, storage or Storage(), _definition(bench, axes, aims, chosen))
        if chosen.from_plan and chosen.sampler != "exhaustive":
            trials.begin(starts_of(plan, numbers, axes)[: chosen.trials])
        workers = (executor or Serial()).start(replayed, bench)
        try:
            run = _Run(trials, workers, chosen, partial(priced, plan, bench, numbers), _requests(contenders, chosen))
            run.go(progress)
        finally:
            workers.close()
        return Tuned(
            aims, axes, tuple(one.name for one in contenders), tuple(trials.known()), run.replays, workers.lost
        )


def _numbers(plan: Plan, budget: Budget) -> tuple[int, ...]:
    """Return the candidates of a study: the best of the plan with different layouts."""
    from search.planning import verify

    verify.chosen(plan, 1, verify.Settings(nearest=budget.nearest))
    return tuple(verify.finalists(plan, budget.candidates))


def _contender(plan: Plan, number: int, budget: Budget) -> Contender:
    """Return a candidate with its pools, and the requests that it is offered."""
    from search.planning import verify

    decode, prefill = verify.pools_of(plan, number)
    request = plan.scenario.request
    traced = request is not None and request.trace is not None
    count = budget.requests or (0 if traced else COUNT)
    return Contender(
        plan.name(number),
        decode,
        prefill,
        verify.requests(plan, number, verify.Settings(count=count, seed=budget.seed)),
    )


def _requests(contenders: Sequence[Contender], budget: Budget) -> int:
    """Return the requests of a full replay."""
    most = max(len(one.traffic) for one in contenders)
    return min(budget.requests, most) if budget.requests else most


def _trials(axes: tuple[Axis, ...], aims: Aims, budget: Budget, storage: Storage, definition: dict[str, str]) -> Trials:
    """Create the study in its storage, or load the one that is resumed and check that it is the same."""
    import optuna

    place = opened(storage.place)
    exists = storage.study in patient(lambda: [s.study_name for s in optuna.get_all_study_summaries(place, False)])
    if exists and not storage.resume:
        raise InputError(f"study {storage.study!r} exists; add --resume to go on with it, or give another --study")
    study = patient(
        lambda: optuna.create_study(
            storage=place, study_name=storage.study, directions=aims.directions, load_if_exists=True
        )
    )
    if DEFINITION not in study.user_attrs:
        patient(lambda: study.set_user_attr(DEFINITION, definition))
    _check_same(storage.study, study.user_attrs[DEFINITION], definition)
    return Trials(study, axes, budget.sampler, budget.seed, aims)


def _check_same(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `InputError` where a study that is resumed was begun with something else."""
    for key, value in now.items():
        if before.get(key) != value:
            raise InputError(
                f"study {name!r} was begun with {key} {before.get(key)}, and not {value}; give that, or another --study"
            )


def _definition(bench: Bench, axes: Sequence[Axis], aims: Aims, budget: Budget) -> dict[str, str]:
    """Return what a study is a study of: what changes any of its trials."""
    loads = hashlib.sha256()
    for one in bench.contenders:
        for column in _columns(one.traffic):
            loads.update(column)
    return {
        "version": __version__,
        "model": bench.model.name,
        "engine": bench.engine.name,
        "candidates": "; ".join(one.name for one in bench.contenders),
        "objectives": ", ".join(aims.objectives),
        "slo": ", ".join(f"{o.key} {o.limit:g} s" for o in bench.slo.objectives),
        "values": "; ".join(f"{a.name}={','.join(map(str, a.values))}" for a in axes),
        "requests": loads.hexdigest()[:16],
        "sampler": f"{budget.sampler}, seed {budget.seed}, batch {budget.batch}",
        "short replays": str(budget.short_first),
    }


def _columns(traffic: Traffic) -> list[bytes]:
    """Return what makes up the requests, as bytes."""
    return [c.tobytes() for c in (traffic.arrival, traffic.input_tokens, traffic.output_tokens)]


@dataclass
class _Run:
    """A study in progress.

    price: adds the cost to the figures of a task. requests: of a full replay. replays: made so far. figures: known
    ones, by settings and number of requests; a setting that is proposed again is not replayed again.
    """

    trials: Trials
    workers: Workers
    budget: Budget
    price: Any
    requests: int
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
            for rung, count in ((SHORT, self._short), (FULL, self.requests)):
                if rung in trial.user_attrs:
                    self.figures[_key(trial.user_attrs[SETTINGS], count)] = read(trial.user_attrs[rung])

    @property
    def _short(self) -> int:
        """Return the requests of a short replay, 0 where there are none."""
        return short_of(self.requests) if self.budget.short_first else 0

    def _batch(self, asked: list[Asked]) -> None:
        """Replay a batch, shortly at first, and tell each trial as soon as its result is known."""
        full = [a for a in asked if _key(a.settings, self.requests) in self.figures]
        rest = [a for a in asked if a not in full]
        for one in full:
            self._finish(one)
        if self._short and rest:
            for one in self._replayed(rest, self._short):
                self.trials.keep(one, SHORT, self.figures[_key(one.settings, self._short)])
            kept = self._survivors(rest)
            for one in rest:
                if one.number not in kept:
                    self.trials.tell(one, self.figures[_key(one.settings, self._short)], pruned=True)
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

    def _replayed(self, batch: Sequence[Asked], count: int) -> list[Asked] | Any:
        """Yield the trials of a batch as their replays of `count` requests are known; equal settings run once."""
        waiting: dict[str, list[Asked]] = {}
        for one in batch:
            if _key(one.settings, count) in self.figures:
                yield one
            else:
                waiting.setdefault(_key(one.settings, count)[0], []).append(one)
        tasks = [(alike[0].settings, count) for alike in waiting.values()]
        for at, found in self.workers.run(tasks):
            self.replays += 1
            alike = list(waiting.values())[at]
            self.figures[_key(alike[0].settings, count)] = self.price(tasks[at], found)
            yield from alike


def _key(settings: Mapping[str, Value], count: int) -> tuple[str, int]:
    """Return what tells replays apart: their settings, and their number of requests."""
    return json.dumps(dict(settings), sort_keys=True), count
