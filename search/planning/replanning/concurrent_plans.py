"""Make several plans at once, whose estimates are computed in common batches; that takes little longer than one plan.

A small plan spends most of its time on calls of the estimator for few candidates. Here the plans run in turn, in a
fixed order (`perfmodel.cooperative_tasks`). A plan that needs estimates waits until all others need some or are done;
one call then answers all of them. A candidate has the same figures alone and in a batch, so that the plans are the same
as if they were made one after the other. Questions after the end of a job are answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from hwdb import PerfmodelError
from perfmodel import Deployments, Estimates
from perfmodel.arrays import Index, row_keys
from perfmodel.cooperative_tasks import Asking, checked, run_cooperatively
from perfmodel.workload import Load
from search.planning.operating_point.sizing import Asks, Question
from search.searchers import Progress

#: Most candidates of a batch. Chosen: beyond it, a batch takes as long as its parts, and memory.
MOST_IN_BATCH = 4096


def plan_concurrently(jobs: Sequence[Callable[[Asks], Any]], progress: Progress | None = None) -> list[Any]:
    """Run jobs that make plans, and return their results in order; the first error of a job is raised.

    jobs: each gets what it has to give to `plan` as `asks`. progress: called with (done, total) jobs.
    """
    found: dict[int, Any] = {}
    for number, result in run_cooperatively([partial(_made, job) for job in jobs], answered):
        found[number] = result
        if progress:
            progress(len(found), len(jobs))
    return checked([found[number] for number in range(len(jobs))])


def _made(job: Callable[[Asks], Any], ask: Asking[Question, Estimates]) -> Any:
    """Return the result of a job, or its error; a question that is asked when it has ended is answered at once."""
    ended = False

    def asks(question: Question) -> Estimates:
        return question.answer() if ended else ask([question])[0]

    try:
        return job(asks)
    except PerfmodelError as error:
        return error
    finally:
        ended = True


def answered(questions: Sequence[Question]) -> list[Estimates | PerfmodelError]:
    """Return the answer to each question, or the error of one that has none; questions alike are answered together."""
    found: list[Estimates | PerfmodelError | None] = [None] * len(questions)
    kinds = [_kind(question) for question in questions]
    for _, alike in groupby(sorted(range(len(questions)), key=kinds.__getitem__), key=kinds.__getitem__):
        for batch in _batches(list(alike), questions):
            for i, answer in zip(batch, _answers([questions[i] for i in batch]), strict=True):
                found[i] = answer
    return [answer for answer in found if answer is not None]


def _kind(question: Question) -> tuple[Any, ...]:
    """Return what questions have to share to be answered together."""
    load, target = question.load, question.target
    shape = np.broadcast_shapes(load.input.shape, load.output.shape, load.share.shape, load.hit.shape)
    shared = [
        str({n: v for n, v in vars(p).items() if n != "devices" and not isinstance(v, np.ndarray)})
        for p in question.pools
    ]
    return (len(question.pools), load.arrival, shape[0], id(target.known), id(target.costs), *shared)


def _batches(alike: list[int], questions: Sequence[Question]) -> Iterator[list[int]]:
    """Yield the numbers of questions of one kind, as many at once as a batch may hold."""
    batch: list[int] = []
    held = 0
    for i in alike:
        count = len(questions[i].pools[0])
        if batch and held + count > MOST_IN_BATCH:
            yield batch
            batch, held = [], 0
        batch.append(i)
        held += count
    if batch:
        yield batch


def _answers(questions: Sequence[Question]) -> Sequence[Estimates | PerfmodelError]:
    """Estimate questions of one kind in one batch; each alone where that fails, to see whose fault it is."""
    if len(questions) == 1:
        return [_alone(questions[0])]
    whole = _joined(questions)
    distinct, place = _distinct(whole)
    try:
        found = whole.take(distinct).answer().take(place)
    except PerfmodelError:  # the questions are asked again one by one: the error is that of one of them
        return [_alone(question) for question in questions]
    ends = np.cumsum([0, *(len(question.pools[0]) for question in questions)])
    return [found.take(slice(start, end)) for start, end in pairwise(ends)]


def _distinct(question: Question) -> tuple[Index, Index]:
    """Return (rows that differ from all before them, for each row the place of its like among those).

    Plans that differ in the SLO, in a limit or in stock ask about the same candidates under the same load.
    """
    count = len(question.pools[0])
    columns = [
        np.broadcast_to(v, (*v.shape[:-1], count)).reshape(-1, count)
        for v in (*(v for part in (*question.pools, question.load) for v in vars(part).values()), *question.workers)
        if isinstance(v, np.ndarray)
    ]
    first: dict[bytes, int] = {}
    rows = row_keys(np.concatenate([np.asarray(c, dtype=float) for c in columns]).T)
    place = np.array([first.setdefault(row, len(first)) for row in rows], dtype=np.intp)
    return np.unique(place, return_index=True)[1], place


def _alone(question: Question) -> Estimates | PerfmodelError:
    """Return the answer to one question, or its error."""
    try:
        return question.answer()
    except PerfmodelError as error:
        return error


def _joined(questions: Sequence[Question]) -> Question:
    """Return the questions as one."""
    pools = tuple(map(Deployments.concatenate, zip(*(q.pools for q in questions), strict=True)))
    workers = tuple(np.concatenate(parts) for parts in zip(*(q.workers for q in questions), strict=True))
    return Question(questions[0].target, _joined_loads([q.load for q in questions]), pools, workers)


def _joined_loads(loads: Sequence[Load]) -> Load:
    """Return loads of the same kind of arrival as one, (C, N) and (N,) columns end to end."""
    names = [f.name for f in fields(Load) if f.name != "arrival"]
    columns: dict[str, Any] = {}
    for name in names:
        parts = [getattr(load, name) for load in loads]
        full = [np.broadcast_to(p, (*p.shape[:-1], len(load.rate))) for p, load in zip(parts, loads, strict=True)]
        columns[name] = np.concatenate(full, axis=-1)
    return replace(loads[0], **columns)
