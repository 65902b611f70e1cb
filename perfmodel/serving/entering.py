"""Prompts that enter a running batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs.step_cost import StepCost
from perfmodel.serving.steps import Passes, Priced
from perfmodel.workload.load import Load

#: Prompts never take more than this share of time in an equilibrium that decodes at all.
_FULL = 0.98


_KNOTS = 5


@dataclass(frozen=True)
class _Entry:
    """What prompts cost at a given number of running sequences; (C, N) seconds a prompt, `stall` its mean (N,)."""

    alone: Array
    shared: Array
    stall: Array
    stall_by_class: Array
    mixed_step: Array
    cost: StepCost
    passes: Array


def _entries(passes: Passes, load: Load, running: Array, groups: tuple[Array, ...]) -> tuple[Priced, list[_Entry]]:
    """(the decode pass, an entry a group) of prompts entering so many at a time while `running` sequences decode.

    Engines that prefill first stop decoding meanwhile; where prompts share passes with decodes, they cost the others
    only what the passes get longer.
    """
    engine = passes.engine
    decode = passes.decode_pass(running, load.decode_context, load.drafts)
    apart = [passes.prefill_pass(load.new, load.cached, g) for g in groups]
    mixing = engine.mixes
    mixed = [passes.mixed_pass(load.new, load.cached, g, running, load.decode_context) for g in groups if mixing]
    decoded, *priced = passes.run(decode, *apart, *mixed)
    step = decoded.wall
    entries = []
    for i, group in enumerate(groups):
        cost, count = priced[i].cost, apart[i].passes
        alone = passes.piped(priced[i].wall, count)
        if mixing:
            wall, riding = priced[len(groups) + i].wall, mixed[i].passes
            stall = riding * np.maximum(wall - step, 0.0) / passes.lay.pp / group
            shared = passes.piped(wall, riding)
            entries.append(_Entry(alone, shared, load.mean(stall), stall, load.mean(wall), cost, count / group))
        else:
            stall = alone / group
            after = load.mean(alone) + step
            entries.append(_Entry(alone, alone, load.mean(stall), stall, after, cost, count / group))
    return decoded, entries


def _blend(apart: _Entry, together: _Entry, share: Array) -> _Entry:
    """Prompts of which a share enters in groups; costs and passes are those of prompts entering apart."""
    names = ("alone", "shared", "stall", "stall_by_class", "mixed_step")
    mixed = {n: (1.0 - share) * getattr(apart, n) + share * getattr(together, n) for n in names}
    return replace(apart, **mixed)


def decode_curve(passes: Passes, load: Load, most: Array, count: int = _KNOTS) -> tuple[Array, Array]:
    """(K, N) numbers of running sequences up to `most`, `count` of them, and the wall time of a decode pass with so
    many."""
    knots = np.exp(np.linspace(0.0, 1.0, count)[:, None] * np.log(np.maximum(most, 1.0)))
    curve = passes.run(*(passes.decode_pass(k, load.decode_context, load.drafts) for k in knots))
    return knots, np.stack([priced.wall for priced in curve])


def _equilibrium(running: Array, own: Array, decode: Array, stall: Array) -> Array:
    """Rate X with running = X (own + decode / (1 - X stall)): Little's law (Little, Oper. Res. 9(3), 1961).

    With S = stall: X^2 own S - X (own + decode + running S) + running = 0; the smaller root is the stable one.
    """
    a = own * stall
    b = own + decode + running * stall
    root = np.sqrt(np.maximum(b * b - 4.0 * a * running, 0.0))
    return 2.0 * running / (b + root)
