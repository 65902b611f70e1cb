"""Say what each option of a fleet does in its busiest period: latency of each class beside its SLO, and the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perfmodel import Estimates, Slo, Workload
from perfmodel.arrays import NAN
from perfmodel.estimates import chances, overall
from perfmodel.unit_factors import MS_PER_S
from search.fleet.accounting.fleet import FleetPlan
from search.fleet.checks.operating import Served, mixes
from search.fleet.options.regions import shorter
from search.fleet.replicas.batches import OF_LENGTHS
from search.fleet.replicas.modelled import Modelled
from search.fleet.replicas.pairs import PairBatch
from search.scenario import OVER_THE_NETWORK

#: Metrics of a class without an SLO, whose means are shown.
MEANS = ("ttft", "tpot")


@dataclass(frozen=True)
class Mix:
    """The mix of one option in its busiest period: `row` of `served`."""

    served: Served
    row: int

    @property
    def option(self) -> int:
        """Return the number of the option in the problem."""
        return int(self.served.option[self.row])

    @property
    def period(self) -> int:
        """Return the number of the period, from 0."""
        return int(self.served.period[self.row])

    @property
    def paired(self) -> bool:
        """Return whether the option is a pair of pools."""
        return isinstance(self.served.batch, PairBatch)

    def estimates(self) -> Estimates:
        """Estimate the replicas of the option under its mix, one row."""
        return self.served.batch.estimates(np.array([self.row]), self.served.batch.load.rate[[self.row]])

    def by_class(self, estimated: Estimates) -> Iterator[tuple[int, Estimates]]:
        """Yield each class of the mix with the estimate of its requests alone. estimated: of `estimates`."""
        one = replace(self.served, kind=self.served.kind[:, [self.row]])
        for kind in sorted({int(k) for k in self.served.kind[:, self.row] if k >= 0}):
            yield kind, one.of_class(estimated, kind)[0]


def busiest_mixes(found: FleetPlan, modelled: Modelled) -> list[Mix]:
    """Return the mix of each modelled option in the period in which it is used most, in the order of the options."""
    busy, out = np.nan_to_num(found.utilisation()), []
    for served in mixes(found, modelled):
        for o in np.unique(served.option):
            rows = np.nonzero(served.option == o)[0]
            out.append(Mix(served, int(rows[np.argmax(busy[o, served.period[rows]])])))
    return sorted(out, key=lambda mix: mix.option)


def workload_of(mix: Mix, modelled: Modelled, part: float) -> Workload:
    """Return the requests of a mix, a `part` of their rate. Each length class keeps its place in the columns."""
    served, load, row = mix.served, mix.served.batch.load, mix.row
    known = served.kind[:, row] >= 0
    columns = {n: getattr(load, n)[known, row] for n in OF_LENGTHS}
    kinds = sorted({int(k) for k in served.kind[known, row]})
    spreads = {w.isl_dist for w in (modelled.workloads[k] for k in kinds) if w is not None}
    return Workload.from_lengths(
        columns["input"],
        columns["output"],
        share=columns["share"] / columns["share"].sum(),
        prefix_hit=columns["hit"],
        rate=float(load.rate[row]) * part,
        cv=float(load.cv[row]),
        isl_dist=spreads.pop() if len(spreads) == 1 else "",
        name="mix",
    )


def latency_rows(found: FleetPlan) -> list[dict[str, Any]]:
    """Return flat rows, one per modelled option in use, class and SLO bound: limit, estimate and chance.

    Each option is shown in its busiest period, under the mix of classes that it serves there. `running`: mean sequences
    in a batch of one replica. `closed_form_ms`, with the network to the users, has its 80 % interval in `_lo` and
    `_hi`. A class without an SLO has its mean TTFT and TPOT, without limit and chance. Options with stated throughputs
    have no rows.
    """
    modelled = found.modelled
    return (
        [] if modelled is None else [r for mix in busiest_mixes(found, modelled) for r in _rows(found, modelled, mix)]
    )


def _rows(found: FleetPlan, modelled: Modelled, mix: Mix) -> list[dict[str, Any]]:
    """Return the rows of one mix."""
    o, t, estimated = mix.option, mix.period, mix.estimates()
    option, out = found.problem.options[o], []
    about = {"option": option.name, "model": mix.served.model, "period": t + 1, "replicas": int(found.replicas[o, t])}
    for kind, alone in mix.by_class(estimated):
        far = found.problem.round_trip(option, found.problem.classes[kind])
        for key, metric, statistic, limit, chance in _bounds(modelled.slos[kind], alone, far):
            value = MS_PER_S * float(overall(alone, metric, statistic)[0])
            more = MS_PER_S * far * (metric in OVER_THE_NETWORK)
            low, high = (float(factor[0]) for factor in alone.ends(metric, statistic))
            out.append(
                {
                    **about,
                    "class": found.problem.classes[kind],
                    "request_rate_rps": float(found.shares[o, kind, t] * found.problem.rate[t, kind]),
                    "running": float(estimated.running[0]),
                    "slo_bound": key,
                    "limit_ms": MS_PER_S * limit,
                    "closed_form_ms": value + more,
                    "closed_form_ms_lo": value * low + more,
                    "closed_form_ms_hi": value * high + more,
                    "slo_bound_chance": chance,
                }
            )
    return out


def _bounds(slo: Slo, alone: Estimates, far: float) -> list[tuple[str, str, str, float, float]]:
    """Return (key, metric, statistic, limit in seconds, chance that it holds) of each bound of a class.

    Without an SLO they are its means, whose limit and chance are NaN. alone: the estimate of its requests, one row.
    far: seconds of the network to its users, which the chances count.
    """
    if not slo.objectives:
        return [(f"{metric}_ms", metric, "mean", NAN, NAN) for metric in MEANS]
    sure = chances(alone, shorter(slo, far) or slo)[:, 0].tolist()
    return [(o.key, o.metric, o.statistic, o.limit, p) for o, p in zip(slo.objectives, sure, strict=True)]
