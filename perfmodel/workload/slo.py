"""Service-level objectives: bounds on latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError

if TYPE_CHECKING:
    pass


METRICS = ("ttft", "tpot", "itl", "e2e")


#: Ranks of the percentiles that SLOs and tables speak of.
RANKS = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


STATISTICS = ("mean", *RANKS)


@dataclass(frozen=True)
class Objective:
    """One bound: `metric` (ttft, tpot, itl, e2e) at `statistic` (mean, p50, p90, p95, p99) at most `limit` seconds."""

    metric: str
    statistic: str
    limit: float

    def __post_init__(self) -> None:
        for value, known, what in ((self.metric, METRICS, "metric"), (self.statistic, STATISTICS, "statistic")):
            if value not in known:
                raise InputError(f"objective {what} {value!r} is unknown; choose one of {', '.join(known)}")
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise InputError(f"objective {self.key} {self.limit:g} s is impossible; give more than 0")

    @property
    def key(self) -> str:
        """Spelling of files and flags, unit included: `ttft_ms_p90`; the mean has no suffix."""
        return f"{self.metric}_ms" + ("" if self.statistic == "mean" else f"_{self.statistic}")

    @classmethod
    def from_key(cls, key: str, milliseconds: float) -> Objective:
        """The objective that `key` names, such as `ttft_ms_p90`, at most `milliseconds`.

        >>> Objective.from_key("tpot_ms", 50.0)
        Objective(metric='tpot', statistic='mean', limit=0.05)
        """
        metric, _, statistic = key.partition("_ms")
        return cls(metric, statistic.removeprefix("_") or "mean", milliseconds / 1e3)


@dataclass(frozen=True)
class Slo:
    """All objectives of a service; empty means anything serves."""

    objectives: tuple[Objective, ...] = ()

    def limit(self, metric: str, statistic: str = "mean") -> float:
        """Bound in seconds on one metric and statistic; inf where there is none."""
        return min((o.limit for o in self.objectives if (o.metric, o.statistic) == (metric, statistic)), default=np.inf)

    @classmethod
    def of(cls, objectives: Sequence[Objective] = (), **milliseconds: float) -> Slo:
        """An Slo from objectives and keywords, such as `Slo.of(ttft_ms_p90=500, tpot_ms=50)`."""
        return cls((*objectives, *(Objective.from_key(k, v) for k, v in milliseconds.items())))


#: Every key an `[slo]` table may hold.
SLO_KEYS = tuple(f"{m}_ms" + ("" if s == "mean" else f"_{s}") for m in METRICS for s in STATISTICS)
