"""Size every layout as a prefill worker, or as a decode worker, beside an ideal partner pool that is no bottleneck.

The partner is the same layout with an excess of workers, and with the shortest KV transfer that the layout can have. So
no pair with this layout needs fewer workers than are found here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel import Deployments, Estimates, Slo
from perfmodel.arrays import Array, Index, Mask
from search.planning.disaggregation.pools import estimates, paired, side_by_side
from search.planning.evaluation.scoring import LEAST_OFFERED, Scorer
from search.planning.operating_point.bracket_search import Test
from search.planning.operating_point.sizing import greatest_load

#: Most workers of a pool; also the workers of a partner that is no bottleneck.
#: chosen: far more than any pool of a plan has.
MAX_WORKERS = 4096.0
#: Most requests in flight that one worker is loaded with. Chosen: a prefill worker passes on some 100 requests/s, each
#: of which is decoded for up to a minute.
MAX_IN_FLIGHT = 8192.0
#: Metrics that each role decides; the end-to-end latency takes both.
DECIDED = {"prefill": ("ttft",), "decode": ("tpot", "itl")}
#: Estimates of one round of a search for the least number of workers, about. Chosen: as `sizing.ESTIMATES_PER_ROUND`.
ESTIMATES_PER_ROUND = 512
#: Most values tried per row and round. Chosen: a bracket shrinks ninefold.
MAX_VALUES_PER_ROUND = 8


@dataclass(frozen=True)
class Role:
    """Layouts in one role, each sized for itself; arrays are (n,), one value per layout.

    rows: of the layouts among those that were paired. workers: the least that keep what the role decides, spares not
    included; one each where the workload gives no demand. spares: workers that may fail. rate: requests/s that so many
    workers pass on. ttft, tpot: mean seconds. watts: mean watts of the pool and of its partner, which is the same for
    all; NaN where they were not asked for. met: True where what the role decides is kept.
    """

    rows: Index
    layouts: Deployments
    workers: Array
    spares: Array
    rate: Array
    ttft: Array
    tpot: Array
    watts: Array
    met: Mask

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total(self) -> Array:
        """Return the workers with spares, (n,)."""
        return self.workers + self.spares

    def billed(self, workers: Array) -> tuple[Index, Array, Array]:
        """Return (device type, devices per worker, workers), (n,) each, as a `Tariff` takes them."""
        return self.layouts.device, self.layouts.devices_per_replica, workers

    def take(self, rows: Index) -> Role:
        """Return the layouts at positions `rows`."""
        arrays = {
            k: getattr(self, k)[rows] for k in ("rows", "workers", "spares", "rate", "ttft", "tpot", "watts", "met")
        }
        return replace(self, layouts=self.layouts.take(rows), **arrays)


def roles_of(scorer: Scorer, layouts: Deployments, rows: tuple[Index, Index], *, power: bool) -> tuple[Role, Role]:
    """Size the layouts at the rows of each role, (prefill, decode): all of them in common batches.

    Where the workload gives a demand, the least workers that carry it are found; otherwise the greatest load of one
    worker. power: also estimate the watts of each pool.
    """
    both, prefill = np.concatenate(rows), np.arange(len(rows[0]) + len(rows[1])) < len(rows[0])
    one, asked = _InRoles(scorer, layouts, both, prefill), _InRoles(scorer.raised, layouts, both, prefill)
    workers, offered, met = asked.least_workers() if scorer.sized else one.greatest_load()
    found = one.at(np.arange(len(both)), workers, offered)
    chosen = layouts.take(both)
    whole = Role(
        rows=both,
        layouts=chosen,
        workers=workers,
        spares=scorer.spare_replicas(chosen),
        rate=found.request_rate,
        ttft=found.mean(found.ttft),
        tpot=found.mean(found.tpot),
        watts=one.watts(workers, offered) if power else np.full(len(both), np.nan),
        met=met & found.fits,
    )
    return whole.take(np.nonzero(prefill)[0]), whole.take(np.nonzero(~prefill)[0])


@dataclass(frozen=True)
class _InRoles:
    """The layouts at `rows`, (n,), each in one role. prefill: (n,) True as a prefill worker, False as a decode worker.

    Layouts in both roles are estimated together, which takes little longer than one role.
    """

    scorer: Scorer
    layouts: Deployments
    rows: Index
    prefill: Mask

    def at(self, which: Index, workers: Array, offered: Array, partners: Index | None = None) -> Estimates:
        """Estimate the layouts at positions `which` with so many workers, beside partners in excess.

        partners: (n,) row of the layout of each one's partner; None for the same layout as the worker's.
        """
        own, first = self.rows[which], self.prefill[which]
        other = own if partners is None else partners[which]
        excess = np.full(len(own), MAX_WORKERS)
        pairs = paired(self.layouts, np.where(first, own, other), np.where(first, other, own))
        numbers = np.where(first, workers, excess), np.where(first, excess, workers)
        return estimates(self.scorer, side_by_side(pairs), numbers, offered)

    def missed(self, which: Index, found: Estimates) -> Array:
        """Return by how much estimates of the layouts at positions `which` miss what their role decides of the SLO."""
        bounds = self.scorer.target.slo.objectives
        of_role = [
            replace(self.scorer.target, slo=Slo(tuple(o for o in bounds if o.metric in DECIDED[role]))).missed_by(found)
            for role in ("prefill", "decode")
        ]
        return np.where(self.prefill[which], *of_role)

    def least_workers(self) -> tuple[Array, Array, Mask]:
        """Return (least workers, no load of their own, True where some number suffices); one worker where none does."""
        everyone, work = np.arange(len(self.rows)), self.scorer.target.workload
        start, none = np.ones(len(everyone)), np.full(len(everyone), np.nan)
        if work.arrival == "open":
            alone = self.at(everyone, start, none)
            with np.errstate(divide="ignore", invalid="ignore"):
                start = np.where(alone.saturated, np.ceil(work.rate / alone.request_rate) - 1.0, 1.0)
            start = np.clip(np.nan_to_num(start, nan=1.0), 1.0, MAX_WORKERS)

        def test(which: Index, numbers: Array) -> Mask:
            """Return True where so many workers keep what their role decides."""
            return np.asarray(self.missed(which, self.at(which, numbers, none[which])) <= 0.0)

        found = least_from(test, start, np.full(len(everyone), MAX_WORKERS))
        met = np.isfinite(found)
        return np.where(met, found, 1.0), none, met

    def greatest_load(self) -> tuple[Array, Array, Mask]:
        """Return (one worker each, greatest load with which it keeps the SLO, True where any keeps it)."""
        one = np.ones(len(self.rows))
        found = greatest_load(
            self.missed,
            lambda rows, load: self.at(rows, one[rows], load),
            most_in_flight(self.scorer, one),
            open_loop=self.scorer.open_loop,
        )
        met = np.isfinite(found)
        return one, np.where(met, found, LEAST_OFFERED), met

    def watts(self, workers: Array, offered: Array) -> Array:
        """Return the mean watts of each pool together with those of a partner that is the same for all of a role, (n,).

        It is the first layout of the role.
        """
        first = [self.rows[np.argmax(self.prefill)], self.rows[np.argmin(self.prefill)]]
        found = self.at(np.arange(len(self.rows)), workers, offered, np.where(self.prefill, *first))
        return found.power * found.devices


def most_in_flight(scorer: Scorer, workers: Array) -> Array:
    """Return the requests in flight that a pair is loaded with at most, (N,): one in all where `Scorer.least_loaded`.

    workers: (N,) of each candidate, which take `MAX_IN_FLIGHT` each.
    """
    return np.full(len(workers), LEAST_OFFERED) if scorer.least_loaded else MAX_IN_FLIGHT * workers


def least_from(test: Test, start: Array, cap: Array) -> Array:
    """Find the least whole number from `start` to `cap` that passes `test`, for each row, (N,); NaN where none does.

    The answer is expected near `start`, from which the search gallops up.

    Args:
        test: False up to some number, True from there on.
        start, cap: (N,) least and greatest number tried.

    >>> least_from(lambda rows, n: n >= np.array([3, 1, 9])[rows], np.ones(3), np.full(3, 8.0)).tolist()
    [3.0, 1.0, nan]
    """
    low, high = np.floor(start) - 1.0, np.full(len(start), np.nan)  # greatest that fails, least that passes
    rows, reach = np.arange(len(start)), 1.0
    passed = test(rows, np.asarray(cap, dtype=float)) if len(rows) else np.zeros(0, dtype=bool)
    rows = rows[passed]  # what fails with the most fails with less
    while len(rows):
        count = int(np.clip(ESTIMATES_PER_ROUND // len(rows), 2, MAX_VALUES_PER_ROUND))
        ahead = low[rows] + reach * 2.0 ** np.arange(count)[:, None]
        between = low[rows] + np.ceil((high[rows] - low[rows]) * np.arange(1, count + 1)[:, None] / (count + 1))
        points = np.where(np.isnan(high[rows]), np.minimum(ahead, cap[rows]), between)
        points = np.where(np.isnan(high[rows]), points, np.minimum(points, high[rows] - 1.0))
        good = test(np.tile(rows, len(points)), points.ravel()).reshape(points.shape)
        least = np.where(good, points, np.inf).min(axis=0)
        below = np.where(good | (points >= least), -np.inf, points).max(axis=0)
        low[rows] = np.maximum(low[rows], below)
        high[rows] = np.where(np.isfinite(least), least, high[rows])
        reach *= 2.0**count if np.isnan(high[rows]).any() else 1.0
        rows = rows[~(high[rows] - low[rows] <= 1.0)]
    return high
