"""The settings that a study varies unless it is told otherwise, and the values that it tries of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hwdb import InputError
from search.studies.settings import CANDIDATE, COUNTS, ROUTER, SETTINGS, WORKERS, Axis, Value
from search.studies.starts import planned

if TYPE_CHECKING:
    from search.planning import Plan

#: Values that are tried unless others are given. Chosen: powers of two around the defaults of vLLM and SGLang, which
#: are 2,048 to 16,384 tokens and 128 to 1,024 sequences (see `perfmodel/engines/catalogue`).
TOKENS = (512, 1024, 2048, 4096, 8192, 16384)
SEQUENCES = (16, 32, 64, 128, 256, 512)
#: Shares around SGLang's default of 0.098 (`admission_headroom` of its file in the catalogue).
HEADROOM = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
#: Workers more or fewer than the plan has. Chosen: the closed form is seldom off by more where it is right at all.
MORE = (-1, 0, 1)
#: Routers that are tried; `random` is none that anybody would choose over `power_of_two`.
BALANCERS = ("round_robin", "least_loaded", "join_shortest_queue", "power_of_two")
#: Thresholds of the prefix-aware router around SGLang's defaults of 0.3, 64 and 1.5.
THRESHOLDS = {
    "min_match_share": (0.1, 0.3, 0.5, 0.7, 0.9),
    "uneven_requests": (2, 8, 32, 64, 128),
    "uneven_ratio": (1.1, 1.5, 2.0, 4.0),
}


def axes_of(plan: Plan, numbers: Sequence[int], given: Sequence[Axis], *, prefixes: bool) -> tuple[Axis, ...]:
    """Return the axes of a study: the given ones, and the usual values of those that are not given.

    Those of the plan are among the usual values. numbers: the candidates, by rank from 1. prefixes: whether prompts of
    the load share beginnings. An axis that means nothing for the candidates (a router before one replica) is left out
    unless it is given.
    """
    own = [planned(plan, n) for n in numbers]
    usual: dict[str, tuple[Value, ...]] = {CANDIDATE: tuple(range(1, len(numbers) + 1)), **_layout_axes(plan, numbers)}
    for name, values in zip(COUNTS, (TOKENS, SEQUENCES), strict=True):
        usual[name] = tuple(sorted({*values, *(int(one[name]) for one in own if name in one)}))
    routed = "more_replicas" in usual or any(pool.replicas[0] > 1 for n in numbers for pool in plan.pools(n))
    if routed:
        usual[ROUTER] = (*BALANCERS, "prefix_aware") if prefixes else BALANCERS
        usual |= THRESHOLDS if prefixes else {}
    if plan.scorer.target.engine.admission_headroom > 0:
        usual["admission_headroom"] = tuple(sorted({*HEADROOM, *(float(one["admission_headroom"]) for one in own)}))
    chosen = {name: Axis(name, values) for name, values in usual.items()} | {a.name: a for a in given}
    _check_ranks(chosen[CANDIDATE], len(numbers))
    return tuple(chosen[name] for name in SETTINGS if name in chosen)


def _layout_axes(plan: Plan, numbers: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the usual numbers of workers more or fewer than the plan has, where its load sizes them."""
    if not plan.scorer.sized:
        return {}
    pools = any(plan.disaggregated(n) for n in numbers)
    return dict.fromkeys(WORKERS if pools else WORKERS[:1], MORE)


def _check_ranks(axis: Axis, most: int) -> None:
    """Raise `InputError` where a rank is beyond the candidates of the study."""
    high = max(int(v) for v in axis.values)
    if high > most:
        raise InputError(f"{CANDIDATE} {high} is beyond the {most} candidates of the study; give --candidates {high}")
