"""What is asked of a deployment: classes of requests, how they arrive, and the objectives they must meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from perfmodel.demand import Array

Arrival = Literal["static", "closed", "open", "offline", "single"]


@dataclass(frozen=True)
class Workload:
    """C classes of requests and how they arrive.

    input_tokens, output_tokens, share: (C,) mean lengths and share of requests (sums to 1). prefix_hit: (C,) share of
    the prompt found in the prefix cache. arrival: `static` (a batch starts together), `closed` (fixed concurrency),
    `open` (Poisson at rate), `offline` (n_requests at once), `single` (one stream). Exactly one of batch,
    concurrency, rate (requests/s), n_requests applies. cv: coefficient of variation of the gaps between arrivals.
    """

    input_tokens: Array
    output_tokens: Array
    share: Array = field(default_factory=lambda: np.ones(1))
    prefix_hit: Array = field(default_factory=lambda: np.zeros(1))
    arrival: Arrival = "closed"
    concurrency: float = float("nan")
    rate: float = float("nan")
    n_requests: float = float("nan")
    cv: float = 1.0
    name: str = ""
    source: str = ""


@dataclass(frozen=True)
class Objective:
    """One bound: `metric` (ttft, tpot, itl, e2e) at `statistic` (mean, p50, p90, p95, p99) at most `limit` seconds."""

    metric: str
    statistic: str
    limit: float


@dataclass(frozen=True)
class Slo:
    """All objectives of a service; empty means anything serves."""

    objectives: tuple[Objective, ...] = ()
