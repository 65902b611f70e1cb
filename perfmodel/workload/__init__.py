"""What is asked of a deployment: request classes, how they arrive, traces, data sets, SLOs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names
from perfmodel.workload.datasets import LengthStats, histogram, lengths
from perfmodel.workload.histograms import MOST_CLASSES, Histogram, read_histogram
from perfmodel.workload.length_spread import (
    SPREADS,
    length_cv,
    longest_over_mean,
    prompt_spread,
    spread_kind,
    synchronised,
    uniform_shares,
)
from perfmodel.workload.load import (
    DEFAULT_REQUESTS_PER_CLIENT,
    POOLED_REQUESTS_PER_CLIENT,
    Load,
    load_of,
    measured_per_client,
)
from perfmodel.workload.output_lengths import (
    LEAST_LENGTH_CV,
    OUTPUT_LENGTH_CV,
    Survival,
    longest,
    shorter_of_two,
    survival,
    truncated_cv,
    uncut,
)
from perfmodel.workload.output_lengths import quantile as output_quantile
from perfmodel.workload.slo import (
    METRICS,
    RANKS,
    SLO_KEYS,
    STATISTICS,
    Objective,
    Slo,
    objective_as_typed,
    slo_keys_like,
)
from perfmodel.workload.traces import Peak, Period, Trace, hours_of_day, peak_of, periods_of
from perfmodel.workload.workload import ARRIVALS, POISSON_CV, Arrival, Workload

if TYPE_CHECKING:
    from perfmodel.workload.traces import LONGEST, TIME_UNITS, read_trace

__all__ = [
    "ARRIVALS",
    "DEFAULT_REQUESTS_PER_CLIENT",
    "LEAST_LENGTH_CV",
    "LONGEST",
    "METRICS",
    "MOST_CLASSES",
    "OUTPUT_LENGTH_CV",
    "POISSON_CV",
    "POOLED_REQUESTS_PER_CLIENT",
    "RANKS",
    "SLO_KEYS",
    "SPREADS",
    "STATISTICS",
    "TIME_UNITS",
    "Arrival",
    "Histogram",
    "LengthStats",
    "Load",
    "Objective",
    "Peak",
    "Period",
    "Slo",
    "Survival",
    "Trace",
    "Workload",
    "histogram",
    "hours_of_day",
    "length_cv",
    "lengths",
    "load_of",
    "longest",
    "longest_over_mean",
    "measured_per_client",
    "objective_as_typed",
    "output_quantile",
    "peak_of",
    "periods_of",
    "prompt_spread",
    "read_histogram",
    "read_trace",
    "shorter_of_two",
    "slo_keys_like",
    "spread_kind",
    "survival",
    "synchronised",
    "truncated_cv",
    "uncut",
    "uniform_shares",
]

#: The readers of traces are loaded where a trace is read.
__getattr__ = lazy_names(__name__, {"traces": ["LONGEST", "TIME_UNITS", "read_trace"]})
