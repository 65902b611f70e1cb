"""The settings that the closed form chose: where a study begins, and which values it tries in any case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.studies.settings import CANDIDATE, COUNTS, ROUTER, SHARES, SWITCHES, USUAL_ROUTER, Axis, Value

if TYPE_CHECKING:
    from search.planning import Plan


def planned(plan: Plan, number: int) -> dict[str, Value]:
    """Return the settings of candidate `number` as the plan has them; where it has none, the engine's own."""
    engine = plan.scorer.target.engine
    pool = plan.pools(number)[-1]
    limits = engine.limits(pool.devices[int(pool.device[0])], devices=int(pool.tp[0] * pool.dp[0] * pool.cp[0]))
    found: dict[str, Value] = {ROUTER: USUAL_ROUTER}
    for name in COUNTS:
        values = (float(getattr(pool, name)[0]), float(getattr(limits, name)))
        known = [value for value in values if np.isfinite(value)]
        if known:
            found[name] = int(known[0])
    return found | {name: getattr(engine, name) for name in (*SWITCHES, *SHARES)}


def starts_of(plan: Plan, numbers: Sequence[int], axes: Sequence[Axis]) -> list[dict[str, int]]:
    """Return places on the axes where a study begins: its candidates as planned, then those of the front of the plan.

    Those of the front have the same layouts, with other replicas or settings. A setting takes the nearest value of its
    axis. numbers: the candidates of the study, by rank from 1.
    """
    layouts = [_layout(plan, n) for n in numbers]
    front = [n for n in np.nonzero(plan.front)[0].tolist() if _layout(plan, n) in layouts]
    found = []
    for number in [*numbers, *front]:
        rank = layouts.index(_layout(plan, number))
        before, now = (_workers(plan, n) for n in (numbers[rank], number))
        wanted = planned(plan, number) | {CANDIDATE: rank + 1, "more_replicas": now[-1] - before[-1]}
        wanted |= {"more_prefill_workers": now[0] - before[0] if len(now) > 1 else 0}
        found.append({a.name: a.nearest(wanted[a.name]) if a.name in wanted else 0 for a in axes})
    return list({tuple(places.values()): places for places in found}.values())


def _layout(plan: Plan, number: int) -> str:
    """Return what candidates with the same layout share: the name without the number of replicas."""
    return str(plan.name(number)).partition(" x ")[2] or str(plan.name(number))


def _workers(plan: Plan, number: int) -> list[int]:
    """Return the replicas of a candidate, or its prefill and decode workers."""
    return [int(pool.replicas[0]) for pool in plan.pools(number)]
