"""Define `Estimates`: latency, throughput, memory and power of N deployments, and the kind of data they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array, Codes, Mask, widened
from perfmodel.estimates.columns.deployment_columns import DeploymentColumns
from perfmodel.estimates.columns.groups import (
    ColumnGroup,
    Latency,
    MemoryUse,
    PowerUse,
    Rates,
    RequestClasses,
    TokenShape,
    WaitShape,
)
from perfmodel.estimates.latency_percentiles import percentiles, within_class
from perfmodel.estimates.ranges import intervals, weight_read_bound
from perfmodel.estimates.ranges.causes import LOADS, Causes
from perfmodel.lazy_fields import LazyFields
from perfmodel.unit_factors import GB
from perfmodel.vocabulary import BASES
from perfmodel.workload import METRICS, RANKS, STATISTICS

if TYPE_CHECKING:
    import pandas as pd

MS = 1e3
#: Statistics of each metric among the columns, after its mean (`itl` has no mean of its own: that is TPOT).
_SHOWN = {"ttft": ("p50", "p90", "p99"), "tpot": ("p50", "p90", "p99"), "itl": ("p50", "p99"), "e2e": ("p99",)}
#: Columns that carry an interval, by the metric that it belongs to.
_WITH_INTERVAL = {
    "ttft": "ttft_ms",
    "tpot": "tpot_ms",
    "throughput": "output_tok_s",
    "power": "power_w_per_device",
    "energy": "energy_j_per_output_token",
}

#: Percentiles within a class by metric; those of gaps between tokens need no lengths.
_WITHIN = {"ttft": within_class.ttft, "tpot": within_class.tpot, "itl": within_class.itl, "e2e": within_class.e2e}

#: Columns, and rows, that a notebook shows.
SHOWN = (
    "ttft_ms",
    "tpot_ms",
    "output_tok_s",
    "memory_gb_per_device",
    "power_w_per_device",
    "fits",
    "saturated",
    "basis",
)
SHOWN_ROWS = 12


@dataclass(frozen=True)
class Estimates(LazyFields, ColumnGroup):
    """Hold the estimates of N deployments under a workload of C request classes.

    devices: devices of the deployment, (N,). running: sequences that decode concurrently on a replica, (N,). saturated:
    whether demand exceeds what the deployment can serve, (N,). basis: codes of `perfmodel.vocabulary.BASES`, the kind
    of data that the estimate rests on, (N,). placed: which deployments they are, None where not noted. The
    other columns are grouped; the most used ones are properties as well. Groups that few callers read are computed when
    they are first read.
    """

    latency: Latency
    waits: WaitShape
    tokens: TokenShape
    classes: RequestClasses
    rates: Rates
    memory_use: MemoryUse
    power_use: PowerUse
    causes: Causes
    devices: Array
    running: Array
    saturated: Mask
    basis: Codes
    placed: DeploymentColumns | None = field(
        default_factory=lambda: None
    )  # a plain default would hide what is left for later

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def ttft(self) -> Array:
        """Return the mean time to first token by class, seconds, (C, N)."""
        return self.latency.ttft

    @property
    def tpot(self) -> Array:
        """Return the mean time per output token after the first by class, seconds, (C, N)."""
        return self.latency.tpot

    @property
    def e2e(self) -> Array:
        """Return the mean time from arrival to the last token by class, seconds, (C, N)."""
        return self.latency.e2e

    @property
    def share(self) -> Array:
        """Return the share of requests of each class, (C, N)."""
        return self.classes.share

    @property
    def request_rate(self) -> Array:
        """Return the requests/s that the deployment completes, (N,)."""
        return self.rates.requests

    @property
    def output_rate(self) -> Array:
        """Return the output tokens/s of the deployment, (N,)."""
        return self.rates.output

    @property
    def total_rate(self) -> Array:
        """Return the input and output tokens/s of the deployment together, (N,)."""
        return self.rates.total

    @property
    def memory(self) -> Array:
        """Return the bytes in use on the fullest device, (N,)."""
        return self.memory_use.used

    @property
    def fits(self) -> Mask:
        """Return True where weights and at least one sequence fit in memory, (N,)."""
        return self.memory_use.fits

    @property
    def power(self) -> Array:
        """Return the mean watts per device, (N,)."""
        return self.power_use.per_device

    @property
    def energy(self) -> Array:
        """Return the joules per output token, of all devices, (N,)."""
        return self.power_use.per_output_token

    @property
    def spread(self) -> dict[str, Array]:
        """Return the log half-widths of the 80 % intervals of means by metric, (N,) each: see `half_width`."""
        return {metric: self.half_width(metric) for metric in (*METRICS, "throughput", "power", "energy")}

    def half_width(self, metric: str, statistic: str = "mean") -> Array:
        """Return the log half-width of the 80 % interval of a metric, (N,).

        exp(+-half-width) around an estimate holds 80 % of measurements. metric, statistic: as
        `perfmodel.estimates.ranges.causes.sensitivity` takes them.
        """
        return intervals.half_width(self, metric, statistic)

    def ends(self, metric: str, statistic: str = "mean") -> tuple[Array, Array]:
        """Return the factors from a metric to the ends of its 80 % interval, (N,) each: at most 1, and at least 1.

        They are exp(+-half-width), but no end is beyond what reading the weights once per token allows. metric,
        statistic: as of `half_width`.
        """
        width = self.half_width(metric, statistic)
        low, high = np.exp(-width), np.exp(width)
        if metric in METRICS:
            least = self.least(metric, statistic) + (self._first_token(statistic) if metric == "e2e" else 0.0)
            return np.maximum(low, weight_read_bound.sooner(least, self._whole(metric, statistic))), high
        if metric not in ("throughput", "decode"):
            return low, high
        bound = weight_read_bound.sooner(self.least("tpot"), self.mean(self.latency.step))
        if metric == "throughput":
            waits = np.isin(self.causes.arrival, [LOADS.index(name) for name in ("closed", "static", "single")])
            bound = np.where(waits, weight_read_bound.sooner(self.least("e2e"), self.mean(self.e2e)), 0.0)
        with np.errstate(divide="ignore"):
            return low, np.maximum(np.minimum(high, 1.0 / bound), 1.0)

    def least(self, metric: str, statistic: str = "mean") -> Array:
        """Return the least seconds that a latency can take, (N,): reading the weights once per token; 0 where unknown.

        Known of TPOT, and of whole requests without their first token: a share of requests that writes more than so
        many tokens is at least that share of those that take longer than reading the weights so often.
        """
        if metric not in ("tpot", "e2e"):
            return np.zeros(len(self))
        tokens = self._later_tokens(statistic) if metric == "e2e" else 1.0
        return np.nan_to_num(tokens * self.causes.least_token, nan=0.0)

    def _later_tokens(self, statistic: str) -> Array:
        """Return the mean or a percentile of the output tokens after the first, over all requests, (N,)."""
        if statistic not in RANKS:
            return self.mean(np.maximum(self.classes.output - 1.0, 0.0))
        known = [np.broadcast_to(within_class.output_tokens(self.classes, r), self.ttft.shape) for r in RANKS]
        own = known[list(RANKS).index(statistic)]
        found = own[0] if len(own) == 1 else percentiles.mixed(known, self.share, own, RANKS[statistic])
        return np.maximum(found - 1.0, 0.0)

    def _first_token(self, statistic: str) -> Array:
        """Return the low end of TTFT, seconds, (N,): whole requests take it besides; 0 where that does not follow.

        Each request takes its TTFT and then what its other tokens take at least, so that the statistics of requests
        follow one another where the tokens of all are alike, and means always.
        """
        alike = statistic not in RANKS or (len(self.ttft) == 1 and not np.any(self.classes.output_cv > 0.0))
        first = self._whole("ttft", statistic) * self.ends("ttft", statistic)[0] if alike else np.zeros(len(self))
        return np.nan_to_num(first, nan=0.0, posinf=0.0)

    def _whole(self, metric: str, statistic: str) -> Array:
        """Return a latency over all requests in seconds, (N,)."""
        if statistic in RANKS:
            return percentiles.overall(self, metric, statistic)
        return self.mean(self.quantile(metric, statistic))

    def reason(self, row: int) -> str:
        """Explain why deployment `row` does not fit in memory; empty when it does."""
        return str(self.memory_use.reasons[row])

    def mean(self, values: Array) -> Array:
        """Return the mean of by-class `values` (C, N), weighted by the share of requests. (N,)

        A class without requests adds nothing, not even where its value is infinite or unknown.
        """
        shared = np.where(self.share > 0.0, widened(values, self.ttft.shape), 0.0) * self.share
        return np.asarray(shared[0] if len(shared) == 1 else shared.sum(axis=0))

    def quantile(self, metric: str, statistic: str) -> Array:
        """Return a latency in seconds within each class, (C, N).

        metric: ttft, tpot, itl or e2e. statistic: mean, p50, p90, p95 or p99.

        The laws are those of `perfmodel.estimates.latency_percentiles.within_class`. Raises `InputError` for an unknown
        metric or statistic.
        """
        if metric not in METRICS or statistic not in STATISTICS:
            known = f"{', '.join(METRICS)} at {', '.join(STATISTICS)}"
            raise InputError(f"no quantile {statistic!r} of {metric!r}; known are {known}")
        kept, key = self._quantiles, (metric, statistic)
        if key not in kept:
            kept[key] = self._quantile(metric, statistic)
        return kept[key]

    @cached_property
    def _quantiles(self) -> dict[tuple[str, str], Array]:
        """Keep what `quantile` has returned: ranges, columns and chances ask for the same."""
        return {}

    def _quantile(self, metric: str, statistic: str) -> Array:
        """Compute `quantile` of a metric and a statistic that are known."""
        time = self.latency
        if statistic not in RANKS:
            if metric == "tpot":
                return within_class.tpot_mean(self)
            return {"ttft": time.ttft, "itl": time.tpot * time.tokens_per_step, "e2e": time.e2e}[metric]
        return _WITHIN[metric](self, statistic)

    def columns(self) -> dict[str, Array]:
        """Return columns over all requests, (N,) each, by name with unit, as in tables, CSV and JSON."""
        out: dict[str, Any] = {}
        for metric, statistics in _SHOWN.items():
            if metric != "itl":
                out[f"{metric}_ms"] = self.mean(self.quantile(metric, "mean")) * MS
            for statistic in statistics:
                out[f"{metric}_ms_{statistic}"] = percentiles.overall(self, metric, statistic) * MS
        out["request_rate_rps"] = self.rates.requests
        for name in ("output", "total", "prefill", "decode"):
            out[f"{name}_tok_s"] = getattr(self.rates, name)
        out["memory_gb_per_device"] = self.memory / GB
        out["power_w_per_device"] = self.power
        out["energy_j_per_output_token"] = self.energy
        for metric, column in _WITH_INTERVAL.items():
            low, high = self.ends(metric)
            out[f"{column}_lo"], out[f"{column}_hi"] = out[column] * low, out[column] * high
        out["fits"] = self.fits
        out["saturated"] = self.saturated
        out["basis"] = basis_names()[self.basis]
        return out

    def frame(self) -> pd.DataFrame:
        """Return a pandas frame, one row per deployment: what identifies it, then `columns()`."""
        import pandas as pd

        return pd.DataFrame({**(self.placed.columns if self.placed else {}), "devices": self.devices, **self.columns()})

    def _repr_html_(self) -> str:
        """Return the main columns as notebooks show them; the whole table is `frame()`."""
        frame = self.frame()
        kept = [c for c in (*(self.placed.columns if self.placed else {}), "devices", *SHOWN) if c in frame.columns]
        told = frame[kept].head(SHOWN_ROWS).to_html(float_format=lambda v: f"{v:.4g}", na_rep="–", border=0)
        return f"{told}<p>{len(frame)} rows; every column: .frame()</p>"


@cache
def basis_names() -> np.ndarray[Any, Any]:
    """Return the names of `BASES` as an array, to be indexed with codes."""
    return np.array(BASES)
