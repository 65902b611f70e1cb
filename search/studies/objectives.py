"""What a study aims at and what it must keep: figures of a simulation, their directions, the SLO as constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hwdb import InputError, UnknownName
from perfmodel.arrays import NAN
from perfmodel.unit_factors import MS_PER_S
from perfmodel.vocabulary import FORMER_NAMES
from perfmodel.workload import METRICS, SLO_KEYS, STATISTICS, Slo

if TYPE_CHECKING:
    from perfmodel.simulator import Simulation, Window

#: Rates, of which more is better, and figures of energy and money, of which less is.
RATES = ("output_tok_s", "request_rate_rps", "goodput_rps")
ENERGY = ("energy_j_per_output_token", "energy_j_per_request", "devices_power_w")
MONEY = ("usd_per_hour", "usd_per_million_tokens")
ATTAINMENT = "slo_attainment"
#: Figures that a study may aim at -> whether more is better.
OBJECTIVES: dict[str, bool] = {
    **dict.fromkeys(MONEY, False),
    **dict.fromkeys(SLO_KEYS, False),
    **dict.fromkeys(RATES, True),
    ATTAINMENT: True,
    **dict.fromkeys(ENERGY, False),
}
#: What a study aims at unless it is told: the least cost, and the least of the latency that users notice first.
USUAL = ("usd_per_hour", "ttft_ms_p99")
#: Most figures of a front. Chosen: of more, nearly every trial lies on it.
MOST_OBJECTIVES = 4
#: Figures that grow with the length of a run whose queue grows without end.
QUEUED = (*(k for k in SLO_KEYS if k.startswith(("ttft", "e2e"))), ATTAINMENT, "goodput_rps")
#: Stands for a figure that is not known where numbers have to be given. Chosen: worse than any real one, yet finite.
WORST = 1e30
#: What a load that cannot be served exceeds its limit by, as a share. Chosen: worse than most misses of a limit.
OVERLOAD = 10.0


@dataclass(frozen=True)
class Aims:
    """What a study aims at. objectives: names of figures. slo: its bounds are constraints."""

    objectives: tuple[str, ...]
    slo: Slo

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return the names of the figures that a simulation has to give."""
        limits = (o.key for o in self.slo.objectives)
        return tuple(dict.fromkeys([*self.objectives, *limits, "output_tok_s", "request_rate_rps"]))

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """Return the direction of each objective, as Optuna calls it."""
        return ["maximize" if OBJECTIVES[name] else "minimize" for name in self.objectives]

    def values(self, figures: Mapping[str, float]) -> list[float]:
        """Return the objectives of a trial, finite also where a figure is not known."""
        worst = [-WORST if OBJECTIVES[name] else WORST for name in self.objectives]
        found = [figures.get(name, NAN) for name in self.objectives]
        return [v if math.isfinite(v) else w for v, w in zip(found, worst, strict=True)]

    def losses(self, figures: Mapping[str, float]) -> list[float]:
        """Return the objectives of a trial, all turned so that less is better."""
        return [-v if OBJECTIVES[n] else v for n, v in zip(self.objectives, self.values(figures), strict=True)]

    def excess(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return what each constraint is exceeded by, as a share; 0 or less where it is kept.

        They are the bounds of the SLO, `served`: the queue does not grow without end, and no request is refused, and
        `limits`: what is on hand, and the limits of the scenario.
        """
        found = {"served": OVERLOAD if figures.get("overload", 1.0) else figures.get("rejected_share", 0.0)}
        found["limits"] = figures.get("share_of_limits", 0.0) - 1.0
        for o in self.slo.objectives:
            share = figures.get(o.key, NAN) / (MS_PER_S * o.limit) - 1.0
            found[o.key] = share if math.isfinite(share) else OVERLOAD
        return found

    def miss(self, figures: Mapping[str, float]) -> float:
        """Return the sum of what the constraints are exceeded by; 0 where all are kept."""
        return sum(max(share, 0.0) for share in self.excess(figures).values())


def aims_of(names: Sequence[str], slo: Slo) -> Aims:
    """Return the aims with these objectives; none for the usual ones. Raises `InputError` for unknown and too many."""
    chosen = tuple(dict.fromkeys(FORMER_NAMES.get(name, name) for name in names)) or USUAL
    for name in chosen:
        if name not in OBJECTIVES:
            raise UnknownName("objective", name, OBJECTIVES)
    if len(chosen) > MOST_OBJECTIVES:
        raise InputError(f"{len(chosen)} objectives are too many for a front; give at most {MOST_OBJECTIVES}")
    if not slo.objectives and {ATTAINMENT, "goodput_rps"} & set(chosen):
        raise InputError(f"{', '.join(chosen)}: slo_attainment and goodput_rps need an SLO; add [slo] to the scenario")
    return Aims(chosen, slo)


def figures_of(found: Simulation, wanted: Sequence[str], slo: Slo) -> dict[str, float]:
    """Return the wanted figures of a simulation that need no price, over the window of its run.

    With them come `overload`, 1 where the queue grows without end, and `rejected_share`.
    """
    from perfmodel import simulator

    seen = simulator.window(found)
    overload = simulator.unstable(found)
    row = {"overload": float(overload), "rejected_share": float(found.rejected.mean())}
    row |= {n: v for n, v in simulator.rates(found, seen, slo).items() if n in wanted}
    row |= _latencies(found, seen, wanted)
    if ATTAINMENT in wanted:
        row[ATTAINMENT] = float(simulator.attained(found, slo)[seen.asked].mean())
    if set(ENERGY) & set(wanted):
        row |= {n: v for n, v in simulator.power_summary(found, seen).items() if n in wanted}
    return {name: NAN if overload and name in QUEUED else value for name, value in row.items()}


def _latencies(found: Simulation, seen: Window, wanted: Sequence[str]) -> dict[str, float]:
    """Return the wanted latencies in ms; each metric is taken apart once."""
    from perfmodel import simulator

    out: dict[str, float] = {}
    for metric in METRICS:
        names = {f"{metric}_ms" + ("" if s == "mean" else f"_{s}"): s for s in STATISTICS}
        asked = {name: s for name, s in names.items() if name in wanted}
        if asked:
            values = simulator.latency(found, metric, seen)
            out |= {name: MS_PER_S * float(values.at(s)) for name, s in asked.items()}
    return out
