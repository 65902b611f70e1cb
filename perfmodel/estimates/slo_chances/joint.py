"""Compute the chance that several objectives hold together, and draw the errors of several estimates in common.

All figures of a system depend on the same causes (`perfmodel.estimates.ranges.intervals.by_cause`): where one is
misjudged, so are the others, and so are other configurations of the device and engine. Draws of a cause are the same
for whoever asks, so that candidates are compared under the same errors.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.estimates.ranges.causes import CAUSES
from perfmodel.estimates.ranges.intervals import DEVIATE_80, KINDS, by_cause, half_width, rest_spread, uncertainty
from perfmodel.estimates.slo_chances.chance import chances

if TYPE_CHECKING:
    from perfmodel.estimates.estimates import Estimates
    from perfmodel.workload import Slo

#: Draws of every cause. Chosen: a chance of one half is met within 1 % (one standard deviation).
DRAWS = 2500
#: Causes that all devices under an engine share, and those that all systems share; the others belong to a device.
_OF_ENGINE, _OF_ALL = ("host", "front_end"), ("arrivals",)
#: Deviates beyond which a chance is 0 or 1. Chosen: the rest is below 1e-9.
_FARTHEST = 6.0


@dataclass(frozen=True)
class Place:
    """Say which system a deployment is: the name of its device or devices, of its engine, and its own name."""

    device: str
    engine: str
    name: str


@dataclass(frozen=True)
class Drawn:
    """Holds common draws of N deployments.

    factors: (cause, what it belongs to) of each of the U factors. deviates: (U, D) standard normal. errors: figure ->
    (N, D) log of what the figure turns out to be over its estimate.
    """

    factors: tuple[tuple[str, str], ...]
    deviates: Array
    errors: dict[tuple[str, str], Array]


def joint_chance(found: Estimates, slo: Slo) -> Array:
    """Return the probability that all objectives of `slo` hold together, (N,); 1 without objectives.

    That of correlated normals below their limits, one after the other: those that remain count as normal again, with
    the mean and the variance that is left (Mendell & Elston, Biometrics 30, 1974). Never above the least single chance.
    """
    alone = chances(found, slo)
    if len(alone) < 2:
        return alone[0] if len(alone) else np.ones(len(found))
    limits = np.clip(eq.normal_deviate(alone), -_FARTHEST, _FARTHEST)
    related = correlations(found, slo)
    out = np.ones(len(found))
    for first in range(len(alone)):
        at = limits[first]
        out = out * eq.normal_chance(at)
        tail = np.exp(-0.5 * np.square(at)) / np.sqrt(2.0 * np.pi) / np.maximum(eq.normal_chance(at), 1e-12)
        shrinks = np.clip(tail * (tail + at), 0.0, 1.0)
        later = related[first]
        left = np.sqrt(np.maximum(1.0 - np.square(later) * shrinks, 1e-9))
        limits = np.clip((limits + later * tail) / left, -_FARTHEST, _FARTHEST)
        related = (related - later[:, None] * later[None, :] * shrinks) / (left[:, None] * left[None, :])
    return np.clip(out, np.maximum(alone.sum(axis=0) - len(alone) + 1.0, 0.0), alone.min(axis=0))


def correlations(found: Estimates, slo: Slo) -> Array:
    """Return the correlations of the errors of K objectives, (K, K, N)."""
    parts = []
    kinds = list(dict.fromkeys(KINDS[o.metric] for o in slo.objectives))
    for o in slo.objectives:
        rests = np.zeros((len(kinds), len(found)))
        rests[kinds.index(KINDS[o.metric])] = rest_spread(found, o.metric, o.statistic)
        whole = np.concatenate([by_cause(found, o.metric, o.statistic), rests])
        parts.append(whole / np.sqrt(np.square(whole).sum(axis=0)))
    stacked = np.stack(parts)
    return np.asarray(np.einsum("icn,jcn->ijn", stacked, stacked))


def drawn(found: Estimates, figures: Sequence[tuple[str, str]], places: Sequence[Place]) -> Drawn:
    """Draw the errors of figures of N deployments. figures: (metric, statistic) each. places: (N,) systems."""
    number: dict[tuple[str, str], int] = {}
    errors = {}
    needed = [(figure, *_loads(found, figure, places)) for figure in figures]
    for _, keys, _ in needed:
        for key in (k for row in keys for k in row):
            number.setdefault(key, len(number))
    deviates = np.stack([_deviates(key) for key in number])
    for figure, keys, loads in needed:
        at = np.array([[number[key] for key in row] for row in keys])
        errors[figure] = np.einsum("nk,nkd->nd", loads, deviates[at])
    return Drawn(tuple(number), deviates, errors)


def _loads(
    found: Estimates, figure: tuple[str, str], places: Sequence[Place]
) -> tuple[list[list[tuple[str, str]]], Array]:
    """Return (keys of the factors of each deployment, (N, K + 2); log standard deviation by each, (N, K + 2))."""
    metric, statistic = figure
    kind = KINDS[metric]
    rest, common = rest_spread(found, metric, statistic), uncertainty().shared.get(kind, 0.0)
    whole = np.concatenate([by_cause(found, metric, statistic), [rest * np.sqrt(common), rest * np.sqrt(1.0 - common)]])
    length = np.sqrt(np.square(whole).sum(axis=0))
    width = half_width(found, metric, statistic) / DEVIATE_80
    loads = whole * np.where(length > 0, width / np.where(length > 0, length, 1.0), 0.0)
    keys = [
        [
            *((cause, _owner(cause, place)) for cause in CAUSES),
            (f"{kind} of the model on", f"{place.device} under {place.engine}"),
            (f"{kind} of", place.name),
        ]
        for place in places
    ]
    return keys, loads.T


def _owner(cause: str, place: Place) -> str:
    """Return what a cause belongs to."""
    if cause in _OF_ALL:
        return ""
    return place.engine if cause in _OF_ENGINE else f"{place.device} under {place.engine}"


@cache
def _middles() -> Array:
    """Return the deviates in the middles of D equally likely classes, ascending, (D,)."""
    return eq.normal_deviate((np.arange(DRAWS) + 0.5) / DRAWS)


def _deviates(key: tuple[str, str]) -> Array:
    """Return the standard normal deviates of a factor, (D,): the same for whoever asks.

    They are the middles of D equally likely classes in random order (Latin hypercube sampling; McKay, Beckman &
    Conover, Technometrics 21, 1979).
    """
    random = np.random.default_rng(zlib.crc32("|".join(key).encode()))
    return np.asarray(_middles()[random.permutation(DRAWS)])
