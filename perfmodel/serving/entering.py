"""Prompts that enter a running batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs import StepCost
from perfmodel.serving.steps import PricedStep, StepModel
from perfmodel.workload import Load

#: Prompts never take more than this share of time in an equilibrium that decodes at all.
FULL_BATCH = 0.98


KNOTS = 5


@dataclass(frozen=True)
class Entry:
    """What prompts cost at a given number of running sequences; (C, N) seconds a prompt, `interference` its mean (N,)."""

    alone: Array
    shared: Array
    interference: Array
    interference_by_class: Array
    mixed_step: Array
    cost: StepCost
    passes: Array


def entries(passes: StepModel, load: Load, running: Array, groups: tuple[Array, ...]) -> tuple[PricedStep, list[Entry]]:
    """(the decode pass, an entry a group) of prompts entering so many at a time while `running` sequences decode.

    Engines that prefill first stop decoding meanwhile; where prompts share passes with decodes, they cost the others
    only what the passes get longer.
    """
    engine = passes.engine
    decode = passes.decode_step(running, load.decode_context, load.drafts)
    apart = [passes.prefill_step(load.new, load.cached, g) for g in groups]
    mixing = engine.mixes
    mixed = [passes.mixed_step(load.new, load.cached, g, running, load.decode_context) for g in groups if mixing]
    decoded, *priced = passes.run(decode, *apart, *mixed)
    step = decoded.wall
    entries = []
    for i, group in enumerate(groups):
        cost, count = priced[i].cost, apart[i].passes
        alone = passes.piped(priced[i].wall, count)
        if mixing:
            wall, riding = priced[len(groups) + i].wall, mixed[i].passes
            interference = riding * np.maximum(wall - step, 0.0) / passes.sharding.pp / group
            shared = passes.piped(wall, riding)
            entries.append(
                Entry(alone, shared, load.mean(interference), interference, load.mean(wall), cost, count / group)
            )
        else:
            interference = alone / group
            after = load.mean(alone) + step
            entries.append(Entry(alone, alone, load.mean(interference), interference, after, cost, count / group))
    return decoded, entries


def blend(apart: Entry, together: Entry, share: Array) -> Entry:
    """Prompts of which a share enters in groups; costs and passes are those of prompts entering apart."""
    names = ("alone", "shared", "interference", "interference_by_class", "mixed_step")
    mixed = {n: (1.0 - share) * getattr(apart, n) + share * getattr(together, n) for n in names}
    return replace(apart, **mixed)


def decode_curve(passes: StepModel, load: Load, most: Array, count: int = KNOTS) -> tuple[Array, Array]:
    """(K, N) numbers of running sequences up to `most`, `count` of them, and the wall time of a decode pass with so
    many."""
    knots = np.exp(np.linspace(0.0, 1.0, count)[:, None] * np.log(np.maximum(most, 1.0)))
    curve = passes.run(*(passes.decode_step(k, load.decode_context, load.drafts) for k in knots))
    return knots, np.stack([priced.wall for priced in curve])


def equilibrium(running: Array, own: Array, decode: Array, interference: Array) -> Array:
    """Rate X with running = X (own + decode / (1 - X stall)): Little's law (Little, Oper. Res. 9(3), 1961).

    With S = stall: X^2 own S - X (own + decode + running S) + running = 0; the smaller root is the stable one.
    """
    a = own * interference
    b = own + decode + running * interference
    root = np.sqrt(np.maximum(b * b - 4.0 * a * running, 0.0))
    return 2.0 * running / (b + root)
