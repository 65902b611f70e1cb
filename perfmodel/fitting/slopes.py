"""Slopes: how the log ratios of predictions over measurements change with constants and kernel factors.

Log ratios are taken as linear in the logarithms of constants and factors around the start of a fit. So the runs are
predicted once for all strengths of the pull (`perfmodel.fitting.pooling`) and all left-out parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.costs import BOUNDS, FACTORS, KERNELS, MULTIPLIERS, combined
from perfmodel.engines import Engine
from perfmodel.fitting.targets import MOST_LOG_RATIO, PoolGroup, RunGroup, Target, group_weights, target_of
from perfmodel.vocabulary import LINK_BOUND

if TYPE_CHECKING:
    import pandas as pd

#: Step of the logarithm of a constant or factor by which slopes are taken. Chosen: below the size of what is fitted.
STEP = 0.04
#: Log ratio by which a measured value may beat the limits of its devices. Chosen: clocks and rated figures are that far
#: off.
MOST_BEATEN = 0.1
#: Values of open loops count where times grow by at most this power of what kernels take. Chosen: nearer saturation the
#: queue rules them, and slopes hold for small changes only.
MOST_STEEP = 2.0
#: Factor of all kernels that leaves the limits of devices and the host's share.
NO_KERNEL_TIME = 1e-4


@dataclass(frozen=True)
class Slopes:
    """Holds the V measured values of an engine, and how their log ratios change with constants and factors.

    rows: a line per value, with `group`, `device` and `model`. ratios: (V,) log ratios where all factors are 1, by the
    slopes. slopes: (V, C + FACTORS) change per unit of the logarithm, of C constants and of factors. weight: (V,).
    """

    rows: pd.DataFrame
    ratios: Array
    slopes: Array
    weight: Array

    @property
    def factors(self) -> Array:
        """Return the slopes of factors, (V, FACTORS)."""
        return self.slopes[:, -len(FACTORS) :]

    def known(self) -> Mask:
        """Return which values have a prediction, (V,)."""
        return np.isfinite(self.ratios) & np.isfinite(self.slopes).all(axis=1)


def slopes_of(
    engine: Engine,
    groups: Sequence[RunGroup | PoolGroup],
    truth: pd.DataFrame,
    constants: Sequence[str],
    starts: Mapping[str, Array],
) -> Slopes:
    """Take the slopes of all values measured on `groups`.

    Args:
        engine: with the constants around which slopes are taken.
        groups: its measured runs.
        truth: `case_id, metric, value, group, model`, a line per measured value.
        constants: fields of `Engine` that are fitted.
        starts: device -> (FACTORS,) factors around which slopes are taken.
    """
    import pandas as pd

    targets = [(target_of([g], truth), g) for g in groups]
    targets = [(t, g) for t, g in targets if len(t.rows)]
    found = [
        _slopes(engine, t, constants, starts[g.device], _used(g), opened=isinstance(g, RunGroup) and g.opened)
        for t, g in targets
    ]
    rows = pd.concat([t.rows.assign(device=g.device) for t, g in targets], ignore_index=True)
    return Slopes(
        rows=rows,
        ratios=np.concatenate([r for r, _ in found]),
        slopes=np.concatenate([s for _, s in found]),
        weight=group_weights(rows),
    )


def _slopes(
    engine: Engine, target: Target, constants: Sequence[str], start: Array, used: Mask, *, opened: bool = False
) -> tuple[Array, Array]:
    """Return (log ratios where all factors are 1, slopes) of the values of a target, (V,) and (V, parameters).

    start: (FACTORS,) factors around which slopes are taken. used: which of them the runs depend on. opened: whether the
    runs are open loops.
    """
    table = factor_table(start)
    here = target.ratios(engine, table)
    columns = []
    for name in constants:
        step = STEP if getattr(engine, name) * np.exp(STEP) <= 1.0 or name != "synchronised" else -STEP
        other = replace(engine, **{name: getattr(engine, name) * np.exp(step)})
        columns.append((target.ratios(other, table) - here) / step)
    for number, counts in enumerate(used):
        moved = start * np.where(np.arange(len(start)) == number, np.exp(STEP), 1.0)
        columns.append((target.ratios(engine, factor_table(moved)) - here) / STEP if counts else np.zeros(len(here)))
    slopes = np.stack(columns, axis=1)
    there = here - slopes[:, len(constants) :] @ np.log(start)
    known = (here != 0) | (slopes != 0).any(axis=1)  # a value without prediction has the ratio 0 whatever the factors
    known &= (np.abs(here) < MOST_LOG_RATIO) & _possible(engine, target)
    if opened:
        known &= slopes[:, len(constants) :][:, : len(BOUNDS)].sum(axis=1) <= MOST_STEEP
    return np.where(known, there, np.nan), slopes


def _possible(engine: Engine, target: Target) -> Mask:
    """Return which values of a target the devices can reach at all, (V,).

    A value that beats arithmetic, memory traffic and the host's share at their limits was measured with something else
    than its description says, such as narrower weights, and says nothing of kernels. Factors near 0 leave those limits.
    """
    rate = target.rows.metric.str.endswith("_tok_s").to_numpy()
    least = target.ratios(engine, np.full((len(BOUNDS), len(KERNELS)), NO_KERNEL_TIME))
    return np.where(rate, -least, least) < MOST_BEATEN


def _used(group: RunGroup | PoolGroup) -> Mask:
    """Return which factors the steps of a group depend on, (FACTORS,); all where its steps are not kept."""
    kernels = np.ones(len(KERNELS), bool)
    if isinstance(group, RunGroup) and group.memo:
        there = [np.unique(t.kernels[t.count > 0]) for t in group.memo.values()]
        kernels = np.isin(np.arange(len(KERNELS)), np.concatenate(there))
    limits = np.ones(len(BOUNDS), bool)
    limits[LINK_BOUND] = kernels[KERNELS.index("collective")]
    return np.concatenate([limits, kernels, kernels[[KERNELS.index(k) for k in MULTIPLIERS]]])


def factor_table(factors: Array) -> Array:
    """Expand fitted factors, (FACTORS,), to a table by limit and kind of kernel, (BOUNDS, KERNELS)."""
    return combined(factors)
