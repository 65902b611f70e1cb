"""Estimate layouts of several options under several request classes at once: one row for each pair of them.

A call of the estimator takes about as long for one row as for a hundred. So one bisection handles all options, layouts
and classes of a model; its rows may have different lengths and SLOs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from perfmodel import Deployments, Estimates, Slo
from perfmodel.arrays import Array, Index
from perfmodel.estimates import keeps, slo_ratio
from perfmodel.workload import Load, load_of
from search.fleet.replicas.rates import Rivals, greatest_rates
from search.planning import Target, rows_of

#: Least ratio of a latency to its limit where the limit is missed.
MISSED = 1.0 + 1e-12
#: Rows x length classes that are estimated at once. Chosen: their steps stay in the cache of a core.
CELLS = 4096
#: Columns of `Load` with one row per length class.
OF_LENGTHS = ("input", "output", "share", "hit")


@dataclass(frozen=True)
class Batch:
    """R layouts of one model, each under its own load and SLO.

    layouts: R rows. load: of each, the whole stream of requests, of which a replica gets a part. slos: the different
    SLOs. slo: (R,) position in them.
    """

    target: Target
    layouts: Deployments
    load: Load
    slos: tuple[Slo, ...]
    slo: Index

    @classmethod
    def of(cls, layouts: Deployments, targets: Sequence[Target], **others: Any) -> Self:
        """Put `layouts` (L,) under each of the tasks of one model: rows task by task. others: fields of a subclass."""
        count, slos = len(layouts), tuple(dict.fromkeys(t.slo for t in targets))
        return cls(
            target=targets[0],
            layouts=joined([layouts] * len(targets)),
            load=stacked([load_of(t.workload, count) for t in targets]),
            slos=slos,
            slo=np.repeat([slos.index(t.slo) for t in targets], count).astype(np.intp),
            **others,
        )

    def take(self, rows: Index) -> Self:
        """Return some rows of a batch."""
        return replace(self, layouts=self.layouts.take(rows), load=rows_of(self.load, rows), slo=self.slo[rows])

    def estimates(self, rows: Index, rates: Array) -> Estimates:
        """Estimate the layouts at `rows` (M,), each at its rate (M,) in requests/s: its part of the whole stream."""
        parts, size = [], max(CELLS // len(self.load.input), 1)
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            load = rows_of(self.load, some).part_at(rates[start : start + size])
            parts.append(self.target.estimates_of(load, self.layouts.take(some)))
        return parts[0] if len(parts) == 1 else Estimates.concatenate(parts)

    def ratio(self, estimates: Estimates, rows: Index) -> Array:
        """Return the worst ratio of a latency to its limit, (M,): at most 1 where `Target.met_by` is True.

        It is infinite where a replica is saturated or the memory does not suffice.
        """
        worst = np.full(len(rows), np.inf)
        for number, slo in enumerate(self.slos):
            here = np.nonzero(self.slo[rows] == number)[0]
            if len(here):
                some = estimates if len(here) == len(rows) else estimates.take(here)
                found = ratio_of(some, slo, self.target.confidence)
                worst[here] = np.where(some.fits & ~some.saturated, found, np.inf)
        return worst

    def capacities(self, share: float = 1.0, rivals: Rivals | None = None) -> tuple[Array, Array]:
        """Find the greatest request rate of one replica of each row within its SLO, times `share`.

        Returns (requests/s, watts per device at that rate), (R,) each. The rate is 0, and the power NaN, where even an
        idle replica misses the SLO or where the memory does not suffice. rivals: layouts that another one beats for
        certain get a rate that they keep, but not their greatest, and no power.
        """
        rate, settled = greatest_rates(self, len(self.layouts), rivals)
        rate, watts, rows = share * rate, np.full(len(rate), np.nan), np.nonzero(settled & (rate > 0))[0]
        if len(rows):
            watts[rows] = self.estimates(rows, rate[rows]).power
        return rate, watts


def ratio_of(estimates: Estimates, slo: Slo, confidence: float) -> Array:
    """Return the worst ratio of a latency to its limit, (M,): at most 1 where `slo` holds.

    The word of `keeps` counts, the ratio only says how far it is.
    """
    found, held = slo_ratio(estimates, slo, confidence)[0], keeps(estimates, slo, confidence)
    return np.where(held, np.minimum(found, 1.0), np.maximum(found, MISSED))


def joined(parts: Sequence[Deployments]) -> Deployments:
    """Put deployments of one model below each other; host, adapters and routing are those of the first.

    >>> from hwdb import load
    >>> from perfmodel import deployments
    >>> one, two = (deployments([load().device(d)], tp=[1, 2]) for d in ("l40s", "h100-sxm"))
    >>> joined([one, two, one]).device.tolist()
    [0, 0, 1, 1, 0, 0]
    """
    return Deployments.concatenate(parts)


def stacked(loads: Sequence[Load]) -> Load:
    """Put open loads beside each other, one column per candidate; shorter ones get length classes of share 0.

    These repeat the lengths of the first class, so that no further step has to be priced.
    """
    most = max(load.input.shape[0] for load in loads)

    def padded(load: Load, name: str) -> Array:
        """Return a column of a load with `most` length classes, (most, N)."""
        values = getattr(load, name)
        more = np.broadcast_to(values[:1] * (0.0 if name == "share" else 1.0), (most - len(values), values.shape[1]))
        return np.concatenate([values, more])

    columns: dict[str, Any] = {n: np.concatenate([padded(load, n) for load in loads], axis=1) for n in OF_LENGTHS}
    others = [name for name in vars(loads[0]) if name not in (*OF_LENGTHS, "arrival")]
    columns |= {n: np.concatenate([getattr(load, n) for load in loads]) for n in others}
    return replace(loads[0], **columns)
