"""Service-level objectives (SLOs): upper bounds on latencies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwdb import InputError, nearest
from perfmodel.unit_factors import MS_PER_S, US_PER_S

#: Latencies that can be bounded: time to first token, time per output token, inter-token latency, end-to-end latency.
METRICS = ("ttft", "tpot", "itl", "e2e")
#: Name of a percentile -> its rank.
RANKS = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
#: Statistics over requests (for ITL: over tokens) that can be bounded.
STATISTICS = ("mean", *RANKS)


@dataclass(frozen=True)
class Objective:
    """Holds one objective: the `statistic` (one of `STATISTICS`) of a `metric` (one of `METRICS`) is at most `limit`
    seconds.
    """

    metric: str
    statistic: str
    limit: float

    def __post_init__(self) -> None:
        """Raise `InputError` for an unknown metric or statistic, and for a limit that is no positive time."""
        for value, known, what in ((self.metric, METRICS, "metric"), (self.statistic, STATISTICS, "statistic")):
            if value not in known:
                raise InputError(f"objective {what} {value!r} is unknown; choose one of {', '.join(known)}")
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise InputError(f"objective {self.key} {self.limit:g} s is impossible; give more than 0")

    @property
    def key(self) -> str:
        """Return the name in files and flags, unit included: `ttft_ms_p90`; the mean has no suffix."""
        return f"{self.metric}_ms" + ("" if self.statistic == "mean" else f"_{self.statistic}")

    @property
    def title(self) -> str:
        """Return the name for readers: `TTFT p90`, `mean TPOT`."""
        metric = self.metric.upper()
        return f"mean {metric}" if self.statistic == "mean" else f"{metric} {self.statistic}"

    @classmethod
    def from_key(cls, key: str, milliseconds: float) -> Objective:
        """Return the objective that `key` names, such as `ttft_ms_p90`, with a limit of `milliseconds`.

        >>> Objective.from_key("tpot_ms", 50.0)
        Objective(metric='tpot', statistic='mean', limit=0.05)
        """
        metric, _, statistic = key.partition("_ms")
        return cls(metric=metric, statistic=statistic.removeprefix("_") or "mean", limit=milliseconds / MS_PER_S)


@dataclass(frozen=True)
class Slo:
    """All objectives of a service; without any, every deployment meets them."""

    objectives: tuple[Objective, ...] = ()

    def limit(self, metric: str, statistic: str = "mean") -> float:
        """Return the bound in seconds on one statistic of a metric; inf where there is none."""
        return min((o.limit for o in self.objectives if (o.metric, o.statistic) == (metric, statistic)), default=np.inf)

    @classmethod
    def of(cls, objectives: Sequence[Objective] = (), **milliseconds: float) -> Slo:
        """Make an Slo from objectives and keywords, such as `Slo.of(ttft_ms_p90=500, tpot_ms=50)`."""
        return cls(objectives=(*objectives, *(Objective.from_key(k, v) for k, v in milliseconds.items())))


#: A bound as people write it: words, a sign, a number, perhaps a unit of time.
_TYPED = re.compile(r"\s*([\w\s.\-()]+?)\s*(?:<=|=<|≤|==?|<|:)\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zµμ]*)\s*", re.IGNORECASE)
#: Unit of time -> milliseconds.
_MILLISECONDS = {
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), MS_PER_S),
    **dict.fromkeys(("us", "µs", "μs"), MS_PER_S / US_PER_S),
}
#: Other words for a statistic and a latency; "" for those that say no more.
_WORDS = {
    **{word: word for word in (*METRICS, *STATISTICS)},
    "avg": "mean",
    "average": "mean",
    "median": "p50",
    "e2el": "e2e",
    "latency": "",
}
#: Every key an `[slo]` table may hold.
SLO_KEYS = tuple(f"{m}_ms" + ("" if s == "mean" else f"_{s}") for m in METRICS for s in STATISTICS)


def objective_as_typed(text: str) -> Objective | None:
    """Return the bound that a text states with its unit, its words in any order; None where it does not say one thing.

    >>> objective_as_typed("TTFT p90 <= 0.5 s")
    Objective(metric='ttft', statistic='p90', limit=0.5)
    >>> objective_as_typed("p95_tpot=50ms").key, objective_as_typed("ttft=500")
    ('tpot_ms_p95', None)
    """
    found = _TYPED.fullmatch(text)
    if not found:
        return None
    words = re.findall(r"[a-zµμ0-9]+", found[1].lower())
    units = [found[3].lower()] if found[3] else [word for word in words if word in _MILLISECONDS]
    said = {_WORDS.get(word) for word in words if word not in _MILLISECONDS} - {""}
    metrics, statistics = [m for m in METRICS if m in said], [s for s in STATISTICS if s in said]
    if len(metrics) != 1 or len(statistics) > 1 or len(units) != 1 or units[0] not in _MILLISECONDS or None in said:
        return None
    limit = float(found[2]) * _MILLISECONDS[units[0]] / MS_PER_S
    return Objective(metrics[0], (statistics or ["mean"])[0], limit) if limit > 0 else None


def slo_keys_like(word: str) -> list[str]:
    """Return the keys of an `[slo]` table that `word` may mean: those with its latency and its statistic, in any order.

    >>> slo_keys_like("p99-ttft"), slo_keys_like("tpott_ms")
    (['ttft_ms_p99'], ['tpot_ms'])
    """
    said = word.lower()
    metric = next((m for m in METRICS if m in said), "")
    statistic = next((s for s in STATISTICS if s != "mean" and s in said), "")
    if metric and statistic:
        return [f"{metric}_ms_{statistic}"]
    return nearest(word, SLO_KEYS, 1)
