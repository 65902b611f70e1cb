"""Cut a class of requests into buckets by length, so that short and long requests can go to different options.

A bucket is a request class of its own: its rate is its share of the class's, and it keeps the class's SLO by itself.
That is enough for the SLO of the class, and more than it asks, so a finer cut can also cost more. `auto` refines the
cut of a class until the next one hardly changes the cost, and takes the coarsest that is no dearer than any by more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perfmodel import Workload
from perfmodel.arrays import Array, Index
from perfmodel.equations import split_cv
from search.fleet.problem_data.problem import FleetProblem
from search.scenario import AUTO_BUCKETS, FleetClass, FleetSpec

#: Cuts that `auto` tries in turn: buckets by prompt length, and by output length within each. Chosen: each about twice
#: as many as the one before, up to the length classes of a trace.
CUTS = ((1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
#: Change of the cost by a finer cut from which it counts.
WORTH = 0.01


def cut(spec: FleetSpec, auto: tuple[int, int]) -> FleetSpec:
    """Return the fleet with every class cut into the buckets that it states. auto: the cut of those that leave it."""
    return replace(spec, classes=tuple(part for c in spec.classes for part in _parts(c, auto)))


def _parts(whole: FleetClass, auto: tuple[int, int]) -> list[FleetClass]:
    """Return the buckets of a class; the class itself where it is not to be cut."""
    asked = auto if isinstance(whole.buckets, str) else whole.buckets
    if not asked or whole.workload is None:
        return [whole]
    work, group = whole.workload, _groups(whole.workload, asked)
    numbers = np.unique(group)
    if len(numbers) == 1:
        return [replace(whole, buckets=())]
    out = []
    for number in numbers:
        rows = np.nonzero((group == number) & (work.share > 0))[0]
        share = float(work.share[rows].sum())
        part = replace(
            work,
            input_tokens=work.input_tokens[rows],
            output_tokens=work.output_tokens[rows],
            share=work.share[rows] / share,
            prefix_hit=work.prefix_hit[rows],
            cv=float(split_cv(work.cv, share)),
        )
        name = f"{whole.name} ({_range(part.input_tokens)} in, {_range(part.output_tokens)} out)"
        rates = tuple(rate * share for rate in whole.rate)
        out.append(replace(whole, name=name, rate=rates, workload=part, remarks=(), buckets=()))
    out[0] = replace(out[0], remarks=whole.remarks)
    return _told_apart(out)


def _told_apart(parts: Sequence[FleetClass]) -> list[FleetClass]:
    """Number buckets of the same name."""
    names = [p.name for p in parts]
    again = [names[:i].count(n) for i, n in enumerate(names)]
    return [replace(p, name=f"{p.name} {i + 1}") if i else p for p, i in zip(parts, again, strict=True)]


def _range(tokens: Array) -> str:
    """Return the lengths of a bucket in words."""
    low, high = float(tokens.min()), float(tokens.max())
    return f"{low:.0f}-{high:.0f}" if round(low) < round(high) else f"{low:.0f}"


def _groups(work: Workload, cuts: tuple[int, int]) -> Index:
    """Return the bucket of each length class, (L,): by prompt length, then by output length within each.

    Buckets hold about equal shares of the tokens, so that the few long requests that fill the replicas are told apart.
    """
    asked = work.share > 0
    first = _split(work.input_tokens, work.share * work.input_tokens, cuts[0])
    group = np.zeros(work.classes, dtype=np.intp)
    for number in np.unique(first[asked]):
        rows = np.nonzero((first == number) & asked)[0]
        within = _split(work.output_tokens[rows], (work.share * work.output_tokens)[rows], cuts[1])
        group[rows] = number * (cuts[1] + 1) + within
    group[~asked] = group[asked][0]
    return group


def _split(values: Array, weight: Array, parts: int) -> Index:
    """Return the part of each value, (L,): parts of about equal weight in the order of the values; equal ones stay
    together."""
    distinct, index = np.unique(values, return_inverse=True)
    total = np.cumsum(np.bincount(index, weights=weight, minlength=len(distinct)))
    middle = total - np.diff(total, prepend=0.0) / 2.0
    part = np.minimum((middle / max(total[-1], np.finfo(float).tiny) * parts).astype(np.intp), parts - 1)
    return np.asarray(part[index], dtype=np.intp)


def relaxed_cost(problem: FleetProblem) -> float:
    """Return USD per hour of a fleet without whole numbers and limits, the mean over the periods; inf if a class is
    served by none.

    It shows what a cut is worth at any rate; whole replicas would hide it where there are few.
    """
    speed = np.where(problem.serves(), problem.throughput, np.nan)
    price = np.array([o.usd_per_hour for o in problem.options])
    with np.errstate(invalid="ignore"):
        each = np.fmin.reduce(price[:, None] / speed, axis=0, initial=np.inf)  # USD/h per request/s
    mean = problem.hours @ problem.rate / problem.hours.sum()
    return float(np.sum(np.where(mean > 0, mean * each, 0.0)))


def has_auto(spec: FleetSpec) -> bool:
    """Return whether a class leaves its cut to the search."""
    return any(c.buckets == AUTO_BUCKETS for c in spec.classes)
