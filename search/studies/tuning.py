"""Tune the candidates of a plan: what is varied, where the study is kept, and that a resumed study is the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hwdb import InputError
from perfmodel import __version__
from perfmodel.simulator import COUNT, Traffic
from perfmodel.unit_factors import MS_PER_S
from search.searchers import Progress
from search.studies.axes import axes_of
from search.studies.executors import Executor, Serial
from search.studies.objectives import Aims, aims_of
from search.studies.pruning import short_of
from search.studies.replays import Bench, Contender, bench_of, priced, replayed
from search.studies.running import Budget, Run
from search.studies.settings import Axis, read_axis
from search.studies.starts import starts_of
from search.studies.storage import opened, patient, quiet
from search.studies.trials import Trials
from search.studies.tuned import Tuned

if TYPE_CHECKING:
    from search.planning import Plan

#: Attribute of a study that says what it is a study of.
DEFINITION = "definition"


@dataclass(frozen=True)
class Storage:
    """Where a study is kept. place: file of SQLite, URL, or "" for memory. study: its name. resume: go on with it."""

    place: str = ""
    study: str = "tune"
    resume: bool = False


def tune(
    plan: Plan,
    *,
    objectives: str | Sequence[str] = (),
    vary: str | Axis | Sequence[str | Axis] = (),
    budget: Budget | None = None,
    storage: str | Storage | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Tune settings of the best candidates of a plan by simulation, and return all trials with their front.

    The bounds of the plan's SLO are constraints. The same arguments give the same trials, whatever the executor.

    Args:
        objectives: figures of `OBJECTIVES` to reach for; none for cost and p99 of TTFT.
        vary: settings with their values, in place of the usual ones; also as the command line takes them, KEY=VALUES.
        budget, storage: see their classes; by default 64 trials in memory. storage: also its place alone.
        executor: what runs the simulations, by default this process. progress: called with (trials told, trials).

    Raises `Infeasible` where the plan has no candidate, and `InputError` for what means nothing.
    """
    wanted, stated, place = _stated(objectives, vary, storage)
    chosen, aims = budget or Budget(), aims_of(wanted, plan.scorer.target.slo)
    numbers = numbers_of(plan, chosen)
    contenders = tuple(contender_of(plan, number, chosen) for number in numbers)
    prefixes = any(one.traffic.prefixes is not None for one in contenders)
    axes = axes_of(plan, numbers, stated, prefixes=prefixes)
    bench = bench_of(plan, contenders, axes, aims.wanted, chosen.seed)
    count = _requests(contenders, chosen)
    short = short_of(count, in_flight(plan, numbers)) if chosen.short_first else 0
    with quiet():
        trials = trials_of(axes, aims, chosen, place, _definition(bench, axes, aims, chosen, short))
        with closing(trials), closing((executor or Serial()).start(replayed, bench)) as workers:
            if chosen.from_plan and chosen.sampler != "exhaustive":
                trials.begin(starts_of(plan, numbers, axes)[: chosen.trials])
            run = Run(trials, workers, chosen, partial(priced, plan, bench, numbers), count, short)
            run.go(progress)
            names = tuple(c.name for c in contenders)
            return Tuned(aims, axes, names, tuple(trials.known()), run.replays, workers.lost)


def _stated(
    objectives: str | Sequence[str], vary: Any, storage: str | Storage | None
) -> tuple[Any, list[Axis], Storage]:
    """Return objectives, settings and storage as a study takes them, where a text stands for one of them."""
    varied = (vary,) if isinstance(vary, str | Axis) else vary
    return (
        (objectives,) if isinstance(objectives, str) else objectives,
        [read_axis(one) if isinstance(one, str) else one for one in varied],
        Storage(storage) if isinstance(storage, str) else storage or Storage(),
    )


def numbers_of(plan: Plan, budget: Budget) -> tuple[int, ...]:
    """Return the candidates of a study: the best of the plan with different layouts."""
    from search.planning import verify

    verify.chosen(plan, 1, verify.Settings(nearest=budget.nearest))
    return tuple(verify.finalists(plan, budget.candidates))


def contender_of(plan: Plan, number: int, budget: Budget) -> Contender:
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


def in_flight(plan: Plan, numbers: Sequence[int]) -> float:
    """Return the most requests that candidates hold on average, by the closed form and Little's law."""
    columns, some = plan.columns, list(numbers)
    return float((columns["request_rate_rps"][some] * columns["e2e_ms"][some]).max() / MS_PER_S)


def trials_of(
    axes: tuple[Axis, ...], aims: Aims, budget: Budget, storage: Storage, definition: dict[str, str]
) -> Trials:
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
    return Trials(study, place, axes, budget.sampler, budget.seed, aims)


def _check_same(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `InputError` where a study that is resumed was begun with something else."""
    for key, value in now.items():
        if before.get(key) != value:
            raise InputError(
                f"study {name!r} was begun with {key} {before.get(key)}, and not {value}; give that, or another --study"
            )


def _definition(bench: Bench, axes: Sequence[Axis], aims: Aims, budget: Budget, short: int) -> dict[str, str]:
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
        "sampler": f"{budget.sampler}, seed {budget.seed}, batch {budget.batch}",
        "requests": loads.hexdigest()[:16],  # after the seed, which they depend on
        "short replays": f"of {short} requests" if short else "none",
    }


def _columns(traffic: Traffic) -> list[bytes]:
    """Return what makes up the requests, as bytes."""
    return [c.tobytes() for c in (traffic.arrival, traffic.input_tokens, traffic.output_tokens)]
