"""Define the plan, the answer to a scenario: ranked candidates, the winner, and why the others do not qualify."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Infeasible
from search.manifest import Manifest
from search.planning.configuration.names import told_apart
from search.planning.plan_table.modes import best_by_mode, best_of, comparison, device_winners, winners
from search.planning.plan_table.rows import candidate_rows
from search.planning.ranking.candidates import Candidates
from search.planning.ranking.equivalent_candidates import first_of_each, group_equivalent, stands_for
from search.planning.ranking.reasons import nearest_misses, notes, reason
from search.planning.ranking.unqualified_devices import left_out

#: Devices whose best candidate is shown whatever its rank. Chosen: as many more rows as a reader compares.
DEVICES_SHOWN = 5
#: Times the cost of the best candidate up to which one that misses is near. Chosen: prices of one device differ by as
#: much between providers; nobody relaxes an SLO to pay more than that.
NEAR_COST = 2.0
#: Arrivals whose load is a number of requests in flight.
CLIENTS = ("closed", "static", "single")

if TYPE_CHECKING:
    from search.scenario import Scenario


@dataclass(frozen=True)
class Plan(Candidates):
    """The answer to a scenario: its candidates, scored and ranked, and what they rest on.

    `rows()` holds everything; the arrays of `Candidates` are for charts and for analysis. removed: flat rows, how many
    candidates each legality rule removed. complete: True where every legal candidate was tried. manifest: version,
    hashes, seed and command, so that the plan can be made again. rivals: plans of the same scenario with the other
    engines that it names, best first. refused: device on offer without a legal candidate -> why, in words.
    """

    scenario: Scenario
    removed: tuple[Mapping[str, Any], ...]
    complete: bool
    manifest: Manifest
    rivals: tuple[Plan, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """Return the number of the winner; raise `Infeasible` with `message` when nothing qualifies."""
        if not self.feasible:
            raise Infeasible(self.message)
        return int(self.order[0])

    @property
    def message(self) -> str:
        """Say why nothing qualifies, which candidates come nearest, and what to relax; "" when something qualifies."""
        if self.feasible:
            return ""
        if not len(self):
            return f"{self.scenario.title}: nothing meets the request, because no candidate was left to try"
        return f"{self.scenario.title}: nothing meets the request. Nearest is {nearest_misses(self)}"

    @property
    def notes(self) -> list[str]:
        """List what concerns the whole plan, in sentences.

        Whose load it is, how modes compare, unknown prices, devices on which nothing qualifies.
        """
        request = self.scenario.request
        load = [f"{request.load_remark}."] if request is not None and request.load_remark else []
        return [
            *load,
            *filter(None, [comparison(self, self.scenario.choices.modes)]),
            *notes(self),
            *left_out(self, self.refused),
        ]

    def reason(self, number: int) -> str:
        """Say why candidate `number` does not qualify, by how much, and what to relax; "" when it qualifies."""
        return reason(self, number)

    def row(self, number: int) -> dict[str, Any]:
        """Return candidate `number` as one flat row; units are in its keys, `_lo` and `_hi` bound the 80 % interval."""
        return candidate_rows(self, [number])[0]

    def rows(self, most: int | None = 20, misses: int = 0, *, apart: bool = False) -> list[dict[str, Any]]:
        """Return flat rows of the best `most` candidates that qualify (None: all), ranked from 1.

        The best of each mode of serving and of up to `DEVICES_SHOWN` devices are among them, with their ranks.
        Candidates that differ only in settings that do not bind are one row; `stands_for` names their values.
        `best_of` names the modes and devices that a row is the best of.

        misses: so many of the rows of `misses()` follow; their rank is None. apart: leave out pairs of pools that rent
        the same devices as a better one.
        """
        heads = list(self._folded)
        listed = first_of_each(self, heads, most) if apart else heads[:most]
        ranks = {number: heads.index(number) + 1 for number in listed}
        best = [*winners(self).values(), *device_winners(self, DEVICES_SHOWN)]
        ranks |= {n: heads.index(n) + 1 for n in best if n not in ranks and n in self._folded}
        ranks = dict(sorted(ranks.items(), key=lambda item: item[1]))
        alike = self._nearest(misses)
        candidate_rows(self, [*ranks, *best, *alike])  # estimated together, the rows below are known
        return told_apart([*self._flat(list(ranks), list(ranks.values())), *self._missed(alike)])

    def safer(self, chance: float, most_usd: float = math.inf) -> tuple[int, int] | None:
        """Return (rank, number) of the best candidate that keeps every SLO with at least `chance` (0 to 1), or None.

        most_usd: what it may cost per hour; where it is finite, the price of a candidate has to be known.
        """
        sure, cost = self.columns["slo_chance"], self.columns["usd_per_hour"]
        cheap = (cost <= most_usd) | np.isposinf(most_usd)
        found = (n for n in enumerate(self._folded, start=1) if sure[n[1]] >= chance and cheap[n[1]])
        return next(found, None)

    def best_by_mode(self) -> list[dict[str, Any]]:
        """Return one flat row per mode of serving: its best candidate, best mode first, with its `rank`.

        `usd_per_hour_difference_percent` and the like compare each row with the first. A mode of which nothing
        qualifies has no row.
        """
        heads = list(self._folded)
        ranks = [heads.index(n) + 1 if n in self._folded else None for n in winners(self).values()]
        return [{"rank": rank, **row} for rank, row in zip(ranks, best_by_mode(self), strict=True)]

    def best_of_each(self, most: int) -> list[dict[str, Any]]:
        """Return one flat row, with its `rank`, per mode of serving and device type, or pair of types: its best.

        most: how many at most, best first.
        """
        count, first = len(self.layouts), dict[tuple[bool, int, int], tuple[int, int]]()
        types = zip(
            np.concatenate([self.layouts.device, self.pairs.prefill.device]).tolist(),
            np.concatenate([self.layouts.device, self.pairs.decode.device]).tolist(),
            strict=True,
        )
        kinds = [(n >= count, *own) for n, own in enumerate(types)]
        for rank, number in enumerate(self._folded, start=1):
            first.setdefault(kinds[number], (number, rank))
        found = dict(list(first.values())[:most])
        return told_apart(self._flat(list(found), list(found.values())))

    def best_by_engine(self) -> list[dict[str, Any]]:
        """Return one flat row per engine of the scenario: its best candidate, best engine first.

        An engine of which nothing qualifies has no row.
        """
        return [plan.row(plan.best) for plan in (self, *self.rivals) if plan.feasible]

    @cached_property
    def _folded(self) -> dict[int, list[int]]:
        """Return the candidates that qualify, best first, each with all that it stands for (`group_equivalent`)."""
        return group_equivalent(self, self.order[: int(self.qualifies.sum())].tolist())

    def misses(self, most: int = 5) -> list[dict[str, Any]]:
        """Return flat rows of the `most` candidates that miss by the least, nearest first, each with its `reason`.

        Each is shown with no more replicas than stock and limits allow. Candidates of which one replica exceeds these
        are listed only where there are no others, and those that do not fit in memory where nothing else does. Where
        something qualifies, those that cost more than `NEAR_COST` times the best are left out. `rank` is None.
        """
        return told_apart(self._missed(self._nearest(most)))

    def _nearest(self, most: int) -> dict[int, list[int]]:
        """Return the candidates of `misses`, each with all that it stands for."""
        missed = self.order[int(self.qualifies.sum()) :]
        if self.feasible:  # an unknown cost is not far from any
            cost = self.columns["usd_per_hour"]
            missed = missed[~(cost[missed] > NEAR_COST * cost[self.best])]
        fits, inside = self.columns["fits"][missed] > 0, self.columns["within_limits"][missed] > 0
        nearest = next((missed[kind] for kind in (fits & inside, fits) if kind.any()), missed[:0])
        if not len(nearest) and not self.feasible:
            nearest = missed[inside] if inside.any() else missed
        return dict(list(group_equivalent(self, nearest.tolist()).items())[:most])

    def _missed(self, alike: Mapping[int, Sequence[int]]) -> list[dict[str, Any]]:
        """Return the rows of `misses`, under names that may be equal. alike: as `_nearest` returns it."""
        return self._flat(list(alike), [None] * len(alike), alike)

    def _load_columns(self) -> dict[str, Any]:
        """Return how the trace was read, the clients of a closed loop, and mean and peak of a load that changes.

        Each is left out where nothing was assumed of a trace, requests arrive at a rate, or the load is steady. Mean
        and peak are in requests/s.
        """
        request = self.scenario.request
        if request is None:
            return {}
        read: dict[str, Any] = {"trace_remark": "; ".join(request.remarks)} if request.remarks else {}
        if request.workload.arrival in CLIENTS and np.isfinite(request.workload.concurrency):
            read["concurrency"] = request.workload.concurrency
        if request.peak is None:
            return read
        return read | {"mean_request_rate_rps": request.peak.mean, "peak_request_rate_rps": request.peak.rate}

    def _flat(
        self, numbers: list[int], ranks: Sequence[int | None], alike: Mapping[int, Sequence[int]] | None = None
    ) -> list[dict[str, Any]]:
        """Return the flat rows of the candidates `numbers`, with their ranks. alike: what each stands for."""
        alike = self._folded if alike is None else alike
        load, best = self._load_columns(), best_of(self)
        return [
            {
                "rank": rank,
                "front": bool(self.front[number]),
                **row,
                **load,
                "stands_for": stands_for(self, alike[number]),
                "best_of": best.get(number, ""),
            }
            for number, rank, row in zip(numbers, ranks, candidate_rows(self, numbers), strict=True)
        ]
