"""Partial pooling: fit the kernel factors of one engine on all its devices at once, each drawn to what they share.

A factor is a product: what the engine shares on every device, times what a class of devices other than accelerators
with HBM adds, times what one device adds. Each part is drawn to 1, so a device with few measurements keeps what its
neighbours share. The part of a class or a device has a level beside its factors: how much longer all of its kernels
take. The level is drawn less firmly, because a device that is slow throughout would need many factors at once.

Log ratios of prediction over measurement are taken as linear in the logarithms of constants and factors around the
start of a fit (`Slopes`). So the runs are predicted once for all strengths of the pull and all left-out parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.costs import BOUNDS, FACTORS, KERNELS, MULTIPLIERS, combined
from perfmodel.engines import Engine
from perfmodel.fitting.measured import fold_of
from perfmodel.fitting.targets import MOST_LOG_RATIO, PoolGroup, RunGroup, Target, group_weights, target_of
from perfmodel.vocabulary import LINK_BOUND

if TYPE_CHECKING:
    import pandas as pd

#: Fewest measured values that an engine, or a device under it, is fitted on. Chosen: about as many as unknowns.
MIN_VALUES = 12
#: Step of the logarithm of a constant or factor by which slopes are taken. Chosen: below the size of what is fitted.
STEP = 0.04
#: Log ratio from which the loss grows linearly instead of by squares. Chosen: the scatter of repeated runs.
SOFT_FROM = 0.15
#: Rounds in which the weights of far values are lowered; the result changes below 1 % after them.
ROUNDS = 10
#: Pulls of an engine's and of a device's part that `errors_left_out` compares.
ENGINE_PULLS, DEVICE_PULLS = (4.0, 8.0, 16.0), (2.0, 4.0, 6.0)
#: Factors that the level of a device moves together: of all that runs on it, not of links.
_LEVEL = [n for n in range(len(BOUNDS)) if n != LINK_BOUND]
#: Factors that the level moves on a device that only ran mixtures of experts. With all factors, slow expert kernels
#: would be taken for a slow device.
_LEVEL_OF_EXPERTS = [n for n, name in enumerate(FACTORS) if name.startswith("experts")]
#: Log ratio by which a measured value may beat the limits of its devices. Chosen: clocks and rated figures are that far
#: off.
MOST_BEATEN = 0.1
#: Values of open loops count where times grow by at most this power of what kernels take. Chosen: nearer saturation the
#: queue rules them, and slopes hold for small changes only.
MOST_STEEP = 2.0
#: Keeps a parameter without data finite; keeps one where it starts.
LEAST_PULL, MOST_PULL = 1e-4, 1e3


@dataclass(frozen=True)
class Pulls:
    """Weights of the residuals that draw logarithms to where they start: constants, parts of factors, levels of parts.

    least: fewest values of a device that has a part of its own.

    Chosen by the error on models that a fit left out (train split, all engines, mean over four ways to deal models into
    five parts of the median absolute log ratio of TPOT, TTFT, total throughput): a device's part 2: 0.136, 0.195,
    0.119; 3: 0.127, 0.196, 0.115; 4: 0.125, 0.197, 0.113; 6: 0.124, 0.198, 0.114. Firmer on kinds of kernel (8) and
    looser where arithmetic limits them (2) than on limits (4) is the same: 0.124, 0.197, 0.113. Variances between
    devices by maximum likelihood are several times as large and err more (0.16, 0.26, 0.16): errors of one model, which
    no factor describes, pass for differences of devices there. An engine's part of 8 draws it to 1: what kernels take
    in an engine beyond their times alone is a matter of the device and of the kind of kernel; 16 moves errors from TPOT
    (0.121) to TTFT (0.199). By engine, whole predictions with a device's part of 2 and 4: see `OF_ENGINE`.
    """

    constants: float = 2.0
    engine: float = 8.0
    kind: float = 2.0
    device: float = 2.0
    level: float = np.inf
    least: int = MIN_VALUES


#: Engine -> pulls where models that a fit left out ask for others (train split, five parts, whole predictions, median
#: absolute log ratio with a device's part of 2 and 4): vLLM from 0.14 on 0.128 and 0.119. The others keep 2:
#: TensorRT-LLM 0.135 and 0.135, V0 eras of vLLM 0.130 and 0.134; TensorRT-LLM 1.0 and 1.1 0.228 and 0.209, but the p99
#: of its open loops, which no fit sees, errs by 0.43 in place of 0.34; SGLang 0.184 and 0.175, but its throughput on
#: the runs of the fit errs by 0.113 in place of 0.104. A part of each device that all engines with kernels of libraries
#: share (pull 4, own part 6) lowers the mean of left-out models from 0.203 to 0.200, and of their groups from 0.136 to
#: 0.132, and raises that of the runs of the fit as much (middle group of TPOT 14.4 to 14.8 %): not kept either. A fixed
#: time per kernel of AMD devices beside the factors (joint fit, 3 us): 0.255 to 0.246 under vLLM, 0.28 to 0.31 under
#: SGLang.
OF_ENGINE = {"vllm": Pulls(device=4.0)}
#: Pulls where the factors of an engine on any device stay as they are and devices are fitted on few values each. Chosen
#: as above, on graphics cards, CPUs, NPUs and SoCs under all engines with kernels of libraries, five parts, mean
#: absolute log ratio in closed and in open loops: without classes and levels 0.219 and 0.288; classes and devices drawn
#: by 2: 0.216 and 0.282, by 3: 0.214 and 0.281; with levels drawn by 1: 0.211 and 0.268.
OF_DEVICES = Pulls(engine=MOST_PULL, kind=3.0, device=3.0, level=1.0, least=2)


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

    def known(self) -> Mask:
        """Return which values have a prediction, (V,)."""
        return np.isfinite(self.ratios) & np.isfinite(self.slopes).all(axis=1)


@dataclass(frozen=True)
class Pooled:
    """Holds fitted logarithms.

    constants: (C,) changes. places: "" for the engine, a class of devices, or a device -> (FACTORS,) factors.
    """

    constants: Array
    places: Mapping[str, Array]


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
    least = target.ratios(engine, np.full((len(BOUNDS), len(KERNELS)), LEAST_PULL))
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


def pool(slopes: Slopes, kinds: Mapping[str, str], pulls: Pulls, among: Mask | None = None) -> Pooled:
    """Fit constants and factors to the values of an engine.

    Args:
        slopes: the values.
        kinds: device -> its class, "gpu" for those without one.
        pulls: how firmly parts are drawn to where they start.
        among: values to fit on, (V,); None: all.
    """
    number = len(FACTORS)
    constants, factors = slopes.slopes[:, :-number], slopes.slopes[:, -number:]
    members = _members(slopes, kinds, pulls)
    leveled = members.values() if np.isfinite(pulls.level) else ()
    moved = [_moved_by_level(factors[m & slopes.known()]) for m in leveled]
    levels = [factors[:, k].sum(axis=1, keepdims=True) * m[:, None] for k, m in zip(moved, leveled, strict=True)]
    design = np.concatenate([constants, factors, *(factors * m[:, None] for m in members.values()), *levels], axis=1)
    strengths = [pulls.engine, *(pulls.device if name in kinds else pulls.kind for name in members)]
    pull = np.concatenate(
        [np.full(constants.shape[1], pulls.constants), np.repeat(strengths, number), np.full(len(levels), pulls.level)]
    )
    keep = slopes.known() if among is None else slopes.known() & among
    point = _solved(design[keep], slopes.ratios[keep], slopes.weight[keep], pull)
    first, last = constants.shape[1], len(point) - len(levels)
    each = point[first:last].reshape(-1, number)
    for row, columns, level in zip(each[1:], moved, point[last:], strict=False):
        row[columns] += level
    parts = dict(zip(("", *members), each, strict=True))
    places = {"": parts[""], **{k: parts[""] + parts[k] for k in members if k not in kinds}}
    places |= {d: places.get(kinds[d], parts[""]) + parts[d] for d in members if d in kinds}
    return Pooled(constants=point[:first], places=places)


def _moved_by_level(factors: Array) -> list[int]:
    """Return the factors that the level of a class or device moves. factors: slopes of its values, (V, F)."""
    mixtures = bool((factors[:, _LEVEL_OF_EXPERTS] != 0.0).any(axis=1).all())
    return _LEVEL_OF_EXPERTS if mixtures else _LEVEL


def _members(slopes: Slopes, kinds: Mapping[str, str], pulls: Pulls) -> dict[str, Mask]:
    """Return which values each class, then each device that has a part of its own, holds: name -> (V,)."""
    device = slopes.rows.device.to_numpy()
    kind, known = np.array([kinds[d] for d in device]), slopes.known()
    apart = len(np.unique(kind)) > 1 or pulls.engine >= MOST_PULL  # one class alone adds nothing to what all share
    shared = [k for k in np.unique(kind[known]) if k != "gpu" and apart]
    single = [d for d in np.unique(device) if (device[known] == d).sum() >= pulls.least]
    return {**{k: kind == k for k in shared}, **{d: device == d for d in single}}


def _solved(design: Array, ratios: Array, weight: Array, pull: Array) -> Array:
    """Return the point of least loss, (P,): log ratios at a point are `ratios` + `design` @ point.

    The loss is soft_l1 of the weighted log ratios, by squares with weights that fall with distance, plus the squares of
    the point times `pull`.
    """
    point = np.zeros(design.shape[1])
    firm = np.diag(np.square(np.maximum(pull, LEAST_PULL)))
    for _ in range(ROUNDS):
        miss = weight * (ratios + design @ point)
        near = np.square(weight) / np.sqrt(1.0 + np.square(miss / SOFT_FROM))
        scaled = design * near[:, None]
        point = np.linalg.solve(design.T @ scaled + firm, -scaled.T @ ratios)
    return point


def ratios_at(slopes: Slopes, fitted: Pooled, kinds: Mapping[str, str]) -> Array:
    """Return the log ratios of all values under a fit, by the slopes, (V,). kinds: device -> its class."""
    places = fitted.places
    factors = np.array([places.get(d, places.get(kinds[d], places[""])) for d in slopes.rows.device])
    number = len(FACTORS)
    by_constants: Array = slopes.slopes[:, :-number] @ fitted.constants
    by_factors: Array = (slopes.slopes[:, -number:] * factors).sum(axis=1)
    return slopes.ratios + by_constants + by_factors


def left_out(slopes: Slopes, kinds: Mapping[str, str], pulls: Pulls, folds: int) -> Array:
    """Return the log ratio of each value under a fit to the models of the other parts, (V,).

    folds: parts that models are dealt into. Groups of runs would not do: runs of a model on one device and the next err
    alike, so what a fit learns of a left-out group is partly its model.
    """
    part = np.array([fold_of(m, folds) for m in slopes.rows.model])
    out = np.full(len(part), np.nan)
    for number in range(folds):
        out = np.where(part == number, ratios_at(slopes, pool(slopes, kinds, pulls, part != number), kinds), out)
    return out


def errors_left_out(slopes: Slopes, kinds: Mapping[str, str], folds: int) -> dict[Pulls, tuple[float, float]]:
    """Return (median, mean) |log ratio| of left-out values under fits with each pair of pulls.

    folds: parts that models are dealt into.
    """
    out = {}
    for pulls in (Pulls(engine=e, device=d) for e in ENGINE_PULLS for d in DEVICE_PULLS):
        missed = np.abs(left_out(slopes, kinds, pulls, folds)[slopes.known()])
        out[pulls] = (float(np.median(missed)), float(missed.mean()))
    return out
