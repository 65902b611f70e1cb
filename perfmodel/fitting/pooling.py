"""Partial pooling: fit the kernel factors of all engines on all their devices at once, each drawn to what they share.

A factor is a product: what an engine shares on every device, times what a class of devices other than accelerators
with HBM adds under it, times what a family of chips (CDNA3, Hopper) adds under every engine with kernels of libraries,
times what one device adds under one engine. Each part is drawn to 1, so a device with few measurements keeps what its
neighbours share. The part of a family stands for what the times of single kernels leave out of its chips, such as
tables that are borrowed from other chips: engines run the same libraries there. The part of a class or a device has a
level beside its factors: how much longer all of its kernels take. The level is drawn less firmly, because a device that
is slow throughout would need many factors at once.

Log ratios of prediction over measurement are taken as linear in the logarithms of constants and factors around the
start of a fit (`Slopes`). So the runs are predicted once for all strengths of the pull and all left-out parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Mask
from perfmodel.costs import BOUNDS, FACTORS, KERNELS, MULTIPLIERS, combined
from perfmodel.engines import Engine
from perfmodel.fitting.measured import fold_of
from perfmodel.fitting.targets import MOST_LOG_RATIO, PoolGroup, RunGroup, Target, group_weights, target_of
from perfmodel.vocabulary import LINK_BOUND

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

#: Fewest measured values that an engine, or a device under it, is fitted on. Chosen: about as many as unknowns.
MIN_VALUES = 12
#: Step of the logarithm of a constant or factor by which slopes are taken. Chosen: below the size of what is fitted.
STEP = 0.04
#: Log ratio from which the loss grows more slowly than by squares. Chosen: above the scatter of repeated runs. 0.15
#: errs less on models left out (accelerators of AMD 0.143 in place of 0.150) and more on TTFT of the runs of the fit
#: (SGLang 0.296 in place of 0.274), 0.3 the other way round (0.166, 0.249).
SOFT_FROM = 0.2
#: Rounds in which the weights of far values are lowered; the result changes below 1 % after them. In the first ones the
#: loss grows linearly, so that values count as far from what all say, not from where the fit starts.
ROUNDS, LINEAR_ROUNDS = 10, 3
#: Pulls of a family's and of a device's part that `errors_left_out` compares; inf: no part.
FAMILY_PULLS, DEVICE_PULLS = (3.0, 4.0, 6.0, np.inf), (2.0, 3.0, 4.0)
#: Factors that the level of a device moves together: of all that runs on it, not of links.
LEVEL = [n for n in range(len(BOUNDS)) if n != LINK_BOUND]
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

    family: inf where families of chips have no part. least: fewest values of a device that has a part of its own.

    Chosen among some 60 variants by the error on models that a fit left out, so what is gained is somewhat overstated:
    train split, vLLM, SGLang and others of today together, four ways to deal models into five parts, TPOT and
    throughput by the slopes, constants held; median absolute log ratio on accelerators of AMD without MI100, and of
    NVIDIA. No families, a device's part of 4 under vLLM and 2 elsewhere, linear loss: 0.165 and 0.116 (groups of runs
    left out: 0.142 and 0.101). Families 4 and devices 3: 0.156 and 0.112 (0.130 and 0.098). 3 and 3: 0.161 and 0.111
    (0.134 and 0.098). 6 and 4: 0.151 and 0.108 (0.133 and 0.098), but 0.103 in place of 0.097 on the runs of the fit.
    None and 4: 0.150 and 0.109 (0.144 and 0.097), 0.115 there. So the family helps where the model ran elsewhere.
    Tried on AMD alone, models left out. With linear loss and no family, 0.143: a part per vendor 0.162; a fixed time
    per call by kind of kernel 0.152 to 0.177; a family within one engine 0.155 in place of 0.144 (vLLM). With families
    of 4, 0.145 to 0.155: that fixed time 0.145 to 0.161, one for all kinds 0.167 to 0.188; a level of families or of
    devices 0.158 to 0.180; an offset of each model on each device 0.146, but 0.124 in place of 0.105 on the runs of the
    fit; other pulls on experts, arithmetic, memory or launches 0.141 to 0.157; an engine's part of 4 or 16 the same.
    """

    constants: float = 2.0
    engine: float = 8.0
    kind: float = 2.0
    family: float = 4.0
    device: float = 3.0
    level: float = np.inf
    least: int = MIN_VALUES


#: Pulls where the factors of an engine on any device stay as they are and devices are fitted on few values each. Chosen
#: as above, on graphics cards, CPUs, NPUs and SoCs under all engines with kernels of libraries, five parts, mean
#: absolute log ratio in closed and in open loops: without classes and levels 0.219 and 0.288; classes and devices drawn
#: by 2: 0.216 and 0.282, by 3: 0.214 and 0.281; with levels drawn by 1: 0.211 and 0.268.
OF_DEVICES = Pulls(engine=MOST_PULL, kind=3.0, family=np.inf, device=3.0, level=1.0, least=2)


@dataclass(frozen=True)
class Place:
    """Holds what a fit knows of a device under an engine.

    start: (FACTORS,) factors around which slopes are taken. kind: its class, "gpu" for those without one. family: of
    chips that share a part under all engines; "": none.
    """

    start: Array
    kind: str = "gpu"
    family: str = ""


@dataclass(frozen=True)
class Slopes:
    """Holds the V measured values of an engine, and how their log ratios change with constants and factors.

    rows: a line per value, with `group`, `device`, `model` and `opened`, whether its run is an open loop. ratios: (V,)
    log ratios where all factors are 1, by the slopes. slopes: (V, C + FACTORS) change per unit of the logarithm, of C
    constants and of factors. weight: (V,). places: device -> what is known of it.
    """

    rows: pd.DataFrame
    ratios: Array
    slopes: Array
    weight: Array
    places: Mapping[str, Place]

    def known(self) -> Mask:
        """Return which values have a prediction, (V,)."""
        return np.isfinite(self.ratios) & np.isfinite(self.slopes).all(axis=1)

    def kinds(self) -> NDArray[Any]:
        """Return the class of the device of each value, (V,)."""
        return np.array([self.places[d].kind for d in self.rows.device])

    def families(self) -> NDArray[Any]:
        """Return the family of chips of the device of each value, (V,)."""
        return np.array([self.places[d].family for d in self.rows.device])


@dataclass(frozen=True)
class Pooled:
    """Holds fitted logarithms.

    constants: (C,) changes. places: "" for the engine, a class of devices, or a device -> (FACTORS,) factors. Those of
    a device include what its engine, class and family share; one without a part of its own is not there.
    """

    constants: Array
    places: Mapping[str, Array]


def slopes_of(
    engine: Engine,
    groups: Sequence[RunGroup | PoolGroup],
    truth: pd.DataFrame,
    constants: Sequence[str],
    places: Mapping[str, Place],
) -> Slopes:
    """Take the slopes of all values measured on `groups`.

    Args:
        engine: with the constants around which slopes are taken.
        groups: its measured runs.
        truth: `case_id, metric, value, group, model`, a line per measured value.
        constants: fields of `Engine` that are fitted.
        places: device -> what is known of it, with the factors around which slopes are taken.
    """
    import pandas as pd

    each = [(target_of([g], truth), g, isinstance(g, RunGroup) and g.opened) for g in groups]
    targets = [(target, group, opened) for target, group, opened in each if len(target.rows)]
    found = [
        _slopes(engine, target, constants, places[group.device].start, _used(group), opened=opened)
        for target, group, opened in targets
    ]
    rows = pd.concat([t.rows.assign(device=g.device, opened=o) for t, g, o in targets], ignore_index=True)
    return Slopes(
        rows=rows,
        ratios=np.concatenate([r for r, _ in found]),
        slopes=np.concatenate([s for _, s in found]),
        weight=group_weights(rows),
        places=places,
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


@dataclass(frozen=True)
class _Own:
    """Holds what the fit of one engine moves beside the parts of families: P constants, parts of factors and levels.

    design: (V, P) slopes of all values. pull: (P,). constants: number of constants. members: class or device -> its
    values, (V,), in the order of their parts, after that of the engine. moved: factors that the level of each moves;
    none without levels.
    """

    design: Array
    pull: Array
    constants: int
    members: Mapping[str, Mask]
    moved: Sequence[list[int]]

    def parts(self, point: Array) -> tuple[Array, dict[str, Array]]:
        """Return (changes of constants, part of the engine "" and of each member, (FACTORS,)) at a point, (P,)."""
        last = len(point) - len(self.moved)
        each = point[self.constants : last].reshape(-1, len(FACTORS)).copy()
        for row, columns, level in zip(each[1:], self.moved, point[last:], strict=False):
            row[columns] += level
        return point[: self.constants], dict(zip(("", *self.members), each, strict=True))


def pool(slopes: Mapping[str, Slopes], pulls: Pulls, among: Mapping[str, Mask] | None = None) -> dict[str, Pooled]:
    """Fit constants and factors to the values of all engines at once.

    Args:
        slopes: engine -> its values.
        pulls: how firmly parts are drawn to where they start.
        among: engine -> values to fit on, (V,); None: all.
    """
    from scipy import sparse

    keep = {e: s.known() if among is None else s.known() & among[e] for e, s in slopes.items()}
    own = {e: _own(s, pulls) for e, s in slopes.items()}
    families = _families(slopes, pulls)
    shared = {e: _of_families(s, families) for e, s in slopes.items()}
    lone = sparse.block_diag([sparse.csr_array(own[e].design[keep[e]]) for e in slopes])
    alike = sparse.vstack([sparse.csr_array(shared[e][keep[e]]) for e in slopes])
    pull = np.concatenate([*(o.pull for o in own.values()), np.full(alike.shape[1], pulls.family)])
    ratios = np.concatenate([s.ratios[keep[e]] for e, s in slopes.items()])
    weight = np.concatenate([s.weight[keep[e]] for e, s in slopes.items()])
    point = solved(sparse.csr_array(sparse.hstack([lone, alike])), ratios, weight, pull)
    *points, rest = np.split(point, np.cumsum([len(o.pull) for o in own.values()]))
    of_families = dict(zip(families, rest.reshape(-1, len(FACTORS)), strict=True))
    return {e: _pooled(slopes[e], own[e], p, of_families) for e, p in zip(slopes, points, strict=True)}


def _pooled(slopes: Slopes, own: _Own, point: Array, families: Mapping[str, Array]) -> Pooled:
    """Return the fit of one engine: its own parts at a point, (P,), with those of families, name -> (FACTORS,)."""
    constants, parts = own.parts(point)
    places = {k: parts[""] + (part if k else 0.0) for k, part in parts.items() if k not in slopes.places}
    for device in (k for k in parts if k in slopes.places):
        place = slopes.places[device]
        places[device] = places.get(place.kind, parts[""]) + families.get(place.family, 0.0) + parts[device]
    return Pooled(constants=constants, places=places)


def _own(slopes: Slopes, pulls: Pulls) -> _Own:
    """Return what the fit of one engine moves beside the parts of families."""
    number = len(FACTORS)
    constants, factors = slopes.slopes[:, :-number], slopes.slopes[:, -number:]
    members = _members(slopes, pulls)
    leveled = list(members.values()) if np.isfinite(pulls.level) else []
    moved = [_moved_by_level(factors[m & slopes.known()]) for m in leveled]
    levels = [factors[:, k].sum(axis=1, keepdims=True) * m[:, None] for k, m in zip(moved, leveled, strict=True)]
    design = np.concatenate([constants, factors, *(factors * m[:, None] for m in members.values()), *levels], axis=1)
    strengths = [pulls.engine, *(pulls.device if name in slopes.places else pulls.kind for name in members)]
    pull = np.concatenate(
        [np.full(constants.shape[1], pulls.constants), np.repeat(strengths, number), np.full(len(levels), pulls.level)]
    )
    return _Own(design=design, pull=pull, constants=constants.shape[1], members=members, moved=moved)


def _families(slopes: Mapping[str, Slopes], pulls: Pulls) -> list[str]:
    """Return the families of chips that have a part."""
    found = {str(f) for s in slopes.values() for f in np.unique(s.families()[s.known()])} - {""}
    return sorted(found) if np.isfinite(pulls.family) else []


def _of_families(slopes: Slopes, families: Sequence[str]) -> Array:
    """Return the slopes of an engine's values by the factors of each of F families, (V, F * FACTORS)."""
    family, factors = slopes.families(), slopes.slopes[:, -len(FACTORS) :]
    blocks = [factors * (family == f)[:, None] for f in families]
    return np.concatenate([np.zeros((len(factors), 0)), *blocks], axis=1)


def _moved_by_level(factors: Array) -> list[int]:
    """Return the factors that the level of a class or device moves. factors: slopes of its values, (V, F)."""
    mixtures = bool((factors[:, _LEVEL_OF_EXPERTS] != 0.0).any(axis=1).all())
    return _LEVEL_OF_EXPERTS if mixtures else LEVEL


def _members(slopes: Slopes, pulls: Pulls) -> dict[str, Mask]:
    """Return which values each class, then each device that has a part of its own, holds: name -> (V,)."""
    device, kind, known = slopes.rows.device.to_numpy(), slopes.kinds(), slopes.known()
    apart = len(np.unique(kind)) > 1 or pulls.engine >= MOST_PULL  # one class alone adds nothing to what all share
    shared = [k for k in np.unique(kind[known]) if k != "gpu" and apart]
    single = [d for d in np.unique(device) if (device[known] == d).sum() >= pulls.least]
    return {**{k: kind == k for k in shared}, **{d: device == d for d in single}}


def solved(design: sparse.csr_array[Any], ratios: Array, weight: Array, pull: Array) -> Array:
    """Return the point of least loss, (P,): log ratios at a point are `ratios` + `design` @ point.

    The loss is that of Cauchy: squares of the weighted log ratios up to `SOFT_FROM`, the logarithm of squares beyond,
    found by squares with weights that fall with distance; plus the squares of the point times `pull`. Few parameters
    meet in a value, so the normal equations are sparse.
    """
    from scipy import sparse
    from scipy.sparse.linalg import splu

    point = np.zeros(design.shape[1])
    firm = sparse.diags_array(np.square(np.maximum(pull, LEAST_PULL)))
    for number in range(ROUNDS):
        far = np.square(weight * (ratios + design @ point) / SOFT_FROM)
        near = np.square(weight) / (np.sqrt(1.0 + far) if number < LINEAR_ROUNDS else 1.0 + far)
        scaled = (sparse.diags_array(near) @ design).T
        factorised = splu((scaled @ design + firm).tocsc(), permc_spec="MMD_AT_PLUS_A")
        point = factorised.solve(-(scaled @ ratios))
    return point


def ratios_at(slopes: Slopes, fitted: Pooled) -> Array:
    """Return the log ratios of all values of an engine under a fit, by the slopes, (V,)."""
    places, of = fitted.places, slopes.places
    factors = np.array([places.get(d, places.get(of[d].kind, places[""])) for d in slopes.rows.device])
    number = len(FACTORS)
    by_constants: Array = slopes.slopes[:, :-number] @ fitted.constants
    by_factors: Array = (slopes.slopes[:, -number:] * factors).sum(axis=1)
    return slopes.ratios + by_constants + by_factors


def left_out(slopes: Mapping[str, Slopes], pulls: Pulls, folds: int) -> dict[str, Array]:
    """Return the log ratio of each value under a fit to the models of the other parts: engine -> (V,).

    folds: parts that models are dealt into. Groups of runs would not do: runs of a model on one device and the next err
    alike, so what a fit learns of a left-out group is partly its model.
    """
    part = {e: np.array([fold_of(m, folds) for m in s.rows.model]) for e, s in slopes.items()}
    out = {e: np.full(len(p), np.nan) for e, p in part.items()}
    for number in range(folds):
        fitted = pool(slopes, pulls, {e: p != number for e, p in part.items()})
        out = {e: np.where(part[e] == number, ratios_at(s, fitted[e]), out[e]) for e, s in slopes.items()}
    return out


def errors_left_out(slopes: Mapping[str, Slopes], folds: int) -> dict[str, dict[Pulls, tuple[float, float]]]:
    """Return (median, mean) |log ratio| of each engine's left-out values under fits with each pair of pulls.

    folds: parts that models are dealt into.
    """
    out: dict[str, dict[Pulls, tuple[float, float]]] = {e: {} for e in slopes}
    for pulls in (Pulls(family=f, device=d) for f in FAMILY_PULLS for d in DEVICE_PULLS):
        for engine, ratios in left_out(slopes, pulls, folds).items():
            missed = np.abs(ratios[slopes[engine].known()])
            out[engine][pulls] = (float(np.median(missed)), float(missed.mean()))
    return out
