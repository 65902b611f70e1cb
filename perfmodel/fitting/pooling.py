"""Partial pooling: fit kernel factors of engines on all their devices at once, each drawn to what they share.

A factor is a product: what an engine shares on every device, times what a class of devices other than accelerators with
HBM adds, times what a device adds under every engine that runs the kernels of libraries, times what the device adds
under this engine. Each part is drawn to 1, so a device with few measurements keeps what its neighbours share, and what
it shows under other engines. The part of a class or a device has a level beside its factors: how much longer all of its
kernels take. The level is drawn less firmly, because a device that is slow throughout would need many factors at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.costs import BOUNDS, FACTORS
from perfmodel.engines import Engine
from perfmodel.fitting.measured import fold_of
from perfmodel.fitting.slopes import Slopes
from perfmodel.vocabulary import LINK_BOUND

#: Fewest measured values that an engine, or a device under it, is fitted on. Chosen: about as many as unknowns.
MIN_VALUES = 12
#: Log ratio from which the loss grows linearly instead of by squares. Chosen: the scatter of repeated runs.
SOFT_FROM = 0.15
#: Rounds in which the weights of far values are lowered; the result changes below 1 % after them.
ROUNDS = 10
#: Pulls of the part that a device has under all engines, and of its part under one, that `errors_left_out` compares.
COMMON_PULLS, DEVICE_PULLS = (np.inf, 3.0, 4.0), (2.0, 4.0, 6.0)
#: Factors that the level of a device moves together: of all that runs on it, not of links.
_LEVEL = [n for n in range(len(BOUNDS)) if n != LINK_BOUND]
#: Factors that the level moves on a device that only ran mixtures of experts. With all factors, slow expert kernels
#: would be taken for a slow device.
_LEVEL_OF_EXPERTS = [n for n, name in enumerate(FACTORS) if name.startswith("experts")]
#: Keeps a parameter without data finite; keeps one where it starts.
LEAST_PULL, MOST_PULL = 1e-4, 1e3


@dataclass(frozen=True)
class Pulls:
    """Weights of the residuals that draw logarithms to where they start: constants, parts of factors, levels of parts.

    common: of what a device adds under all engines of a fit; infinite: it adds nothing. device: of what it adds under
    one engine. least: fewest values of a device that has a part of its own.

    Chosen by the error on models that a fit left out (train split, all engines, mean over four ways to deal models into
    five parts of the median absolute log ratio of TPOT, TTFT, total throughput): a device's part 2: 0.136, 0.195,
    0.119; 3: 0.127, 0.196, 0.115; 4: 0.125, 0.197, 0.113; 6: 0.124, 0.198, 0.114. Firmer on kinds of kernel (8) and
    looser where arithmetic limits them (2) than on limits (4) is the same: 0.124, 0.197, 0.113. Variances between
    devices by maximum likelihood are several times as large and err more (0.16, 0.26, 0.16): errors of one model, which
    no factor describes, pass for differences of devices there. An engine's part of 8 draws it to 1: what kernels take
    in an engine beyond their times alone is a matter of the device and of the kind of kernel; 16 moves errors from TPOT
    (0.121) to TTFT (0.199).
    """

    constants: float = 2.0
    engine: float = 8.0
    kind: float = 2.0
    common: float = np.inf
    device: float = 2.0
    level: float = np.inf
    least: int = MIN_VALUES


#: Pulls of engines that run kernels of libraries: devices have a part that these engines share. Chosen by models that a
#: fit left out (train split, four parts, by the slopes; absolute log ratio: median, mean, median of TPOT, of TTFT, and
#: of the medians of groups). Without shared part and with a device's part drawn by 4: 0.126, 0.203, 0.126, 0.190,
#: 0.136; shared part 3 and own part 6: 0.126, 0.199, 0.123, 0.185, 0.133; 4 and 4: 0.127, 0.200, 0.125, 0.187, 0.134;
#: 4 and 6: 0.125, 0.200, 0.122, 0.186, 0.132. A stack of a vendor's own has other kernels: with a shared part it errs
#: by 0.13 to 0.15 in place of 0.114.
OF_LIBRARIES = Pulls(common=4.0, device=6.0)
#: Pulls where the factors of an engine on any device stay as they are and devices are fitted on few values each. Chosen
#: as above, on graphics cards, CPUs, NPUs and SoCs under all engines with kernels of libraries, five parts, mean
#: absolute log ratio in closed and in open loops: without classes and levels 0.219 and 0.288; classes and devices drawn
#: by 2: 0.216 and 0.282, by 3: 0.214 and 0.281; with levels drawn by 1: 0.211 and 0.268.
OF_DEVICES = Pulls(engine=MOST_PULL, kind=3.0, device=3.0, level=1.0, least=2)


@dataclass(frozen=True)
class Pooled:
    """Holds fitted logarithms.

    constants: (C,) changes. places: "" for the engine, a class of devices, or a device -> (FACTORS,) factors.
    """

    constants: Array
    places: Mapping[str, Array]


def pool(slopes: Slopes, kinds: Mapping[str, str], pulls: Pulls, among: Mask | None = None) -> Pooled:
    """Fit constants and factors to the values of one engine.

    Args:
        slopes: the values.
        kinds: device -> its class, "gpu" for those without one.
        pulls: how firmly parts are drawn to where they start.
        among: values to fit on, (V,); None: all.
    """
    return pool_engines({"": slopes}, kinds, {"": pulls}, None if among is None else {"": among})[""]


def pool_engines(
    slopes: Mapping[str, Slopes],
    kinds: Mapping[str, str],
    pulls: Mapping[str, Pulls],
    among: Mapping[str, Mask] | None = None,
) -> dict[str, Pooled]:
    """Fit constants and factors of several engines at once: a device has a part that all of them share.

    Args:
        slopes: engine -> its values.
        kinds: device -> its class, "gpu" for those without one.
        pulls: engine -> how firmly its parts are drawn to where they start.
        among: engine -> values to fit on, (V,); None: all.
    """
    blocks = {name: _block(values, kinds, pulls[name]) for name, values in slopes.items()}
    common = _common(slopes, pulls)
    ends = np.cumsum([0, *(len(b.pull) for b in blocks.values())])
    own = {name: slice(start, end) for name, start, end in zip(blocks, ends[:-1], ends[1:], strict=True)}
    keep = {n: v.known() if among is None else v.known() & among[n] for n, v in slopes.items()}
    designs = []
    for name, values in slopes.items():
        here = np.zeros((len(values.ratios), ends[-1] + len(common) * len(FACTORS)))
        here[:, own[name]] = blocks[name].design
        for number, shared in enumerate(common if np.isfinite(pulls[name].common) else ()):
            mine = (values.rows.device == shared).to_numpy()[:, None]
            here[:, ends[-1] + number * len(FACTORS) :][:, : len(FACTORS)] = values.factors * mine
        designs.append(here[keep[name]])
    firm = [*(b.pull for b in blocks.values()), *(np.full(len(FACTORS), p) for p in common.values())]
    ratios, weight = (
        np.concatenate([getattr(v, of)[keep[n]] for n, v in slopes.items()]) for of in ("ratios", "weight")
    )
    point = _solved(np.concatenate(designs), ratios, weight, np.concatenate(firm))
    parts = dict(zip(common, point[ends[-1] :].reshape(-1, len(FACTORS)), strict=True))
    out = {}
    for name, block in blocks.items():
        devices = set(slopes[name].rows.device) if np.isfinite(pulls[name].common) else set()
        out[name] = block.pooled(point[own[name]], kinds, {d: p for d, p in parts.items() if d in devices})
    return out


def _common(slopes: Mapping[str, Slopes], pulls: Mapping[str, Pulls]) -> dict[str, float]:
    """Return the devices with a part that engines share -> how firmly it is drawn to 1."""
    sharing = [name for name in slopes if np.isfinite(pulls[name].common)]
    counts: dict[str, int] = {}
    for name in sharing:
        for device, many in slopes[name].rows.device[slopes[name].known()].value_counts().items():
            counts[str(device)] = counts.get(str(device), 0) + int(many)
    return {d: pulls[sharing[0]].common for d, many in sorted(counts.items()) if many >= pulls[sharing[0]].least}


@dataclass(frozen=True)
class _Block:
    """Holds the parameters of one engine alone.

    design: (V, P) change of the log ratios per unit of each. pull: (P,). constants: how many lead. members: names of
    the parts after that of the engine. moved: factors that the level of each member moves; empty without levels.
    """

    design: Array
    pull: Array
    constants: int
    members: tuple[str, ...]
    moved: tuple[list[int], ...]

    def pooled(self, point: Array, kinds: Mapping[str, str], shared: Mapping[str, Array]) -> Pooled:
        """Return what a point, (P,), says. shared: device of this engine -> (FACTORS,) part that engines share."""
        first, last = self.constants, len(point) - len(self.moved)
        each = point[first:last].reshape(-1, len(FACTORS)).copy()
        for row, columns, level in zip(each[1:], self.moved, point[last:], strict=False):
            row[columns] += level
        parts = dict(zip(("", *self.members), each, strict=True))
        places = {"": parts[""], **{k: parts[""] + parts[k] for k in self.members if k not in kinds}}
        none: Array = np.zeros(len(FACTORS))
        for device in sorted({*(m for m in self.members if m in kinds), *shared}):
            whole = places.get(kinds[device], parts[""])
            places[device] = whole + parts.get(device, none) + shared.get(device, none)
        return Pooled(constants=point[:first], places=places)


def _block(slopes: Slopes, kinds: Mapping[str, str], pulls: Pulls) -> _Block:
    """Return the parameters of one engine: constants, its own factors, those of classes and devices, their levels."""
    factors, number = slopes.factors, len(FACTORS)
    constants = slopes.slopes[:, :-number]
    members = _members(slopes, kinds, pulls)
    leveled = members.values() if np.isfinite(pulls.level) else ()
    moved = [_moved_by_level(factors[m & slopes.known()]) for m in leveled]
    levels = [factors[:, k].sum(axis=1, keepdims=True) * m[:, None] for k, m in zip(moved, leveled, strict=True)]
    design = np.concatenate([constants, factors, *(factors * m[:, None] for m in members.values()), *levels], axis=1)
    strengths = [pulls.engine, *(pulls.device if name in kinds else pulls.kind for name in members)]
    pull = np.concatenate(
        [np.full(constants.shape[1], pulls.constants), np.repeat(strengths, number), np.full(len(levels), pulls.level)]
    )
    return _Block(design, pull, constants.shape[1], tuple(members), tuple(moved))


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


def pulls_of(engine: Engine) -> Pulls:
    """Return how firmly the parts of an engine are drawn to where they start."""
    return OF_LIBRARIES if engine.kernel_source == "framework" else Pulls()


def left_out(
    slopes: Mapping[str, Slopes], kinds: Mapping[str, str], pulls: Mapping[str, Pulls], folds: int
) -> dict[str, Array]:
    """Return engine -> log ratio of each of its values under a fit to the models of the other parts, (V,).

    folds: parts that models are dealt into. Groups of runs would not do: runs of a model on one device and the next err
    alike, so what a fit learns of a left-out group is partly its model.
    """
    part = {name: np.array([fold_of(m, folds) for m in values.rows.model]) for name, values in slopes.items()}
    out = {name: np.full(len(p), np.nan) for name, p in part.items()}
    for number in range(folds):
        fitted = pool_engines(slopes, kinds, pulls, {name: p != number for name, p in part.items()})
        for name, values in slopes.items():
            out[name] = np.where(part[name] == number, ratios_at(values, fitted[name], kinds), out[name])
    return out


def errors_left_out(
    slopes: Mapping[str, Slopes], kinds: Mapping[str, str], folds: int
) -> dict[str, dict[Pulls, tuple[float, float]]]:
    """Return engine -> (median, mean) |log ratio| of left-out values under fits with each pair of pulls.

    folds: parts that models are dealt into.
    """
    out: dict[str, dict[Pulls, tuple[float, float]]] = {name: {} for name in slopes}
    for pulls in (Pulls(common=c, device=d) for c in COMMON_PULLS for d in DEVICE_PULLS):
        for name, ratios in left_out(slopes, kinds, dict.fromkeys(slopes, pulls), folds).items():
            missed = np.abs(ratios[slopes[name].known()])
            out[name][pulls] = (float(np.median(missed)), float(missed.mean()))
    return out
