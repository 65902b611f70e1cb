"""Options of `estimate` for the requests, how they arrive, and the SLO they must meet."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from hwdb import InputError, UnknownName, nearest
from perfmodel.unit_factors import PERCENT
from search.options.words import COUNT, NAME, SHARE, TOKENS

if TYPE_CHECKING:
    from perfmodel.workload import Objective, Slo, Workload

MS = "MS"
#: Tokens per request where no option says how long requests are.
DEFAULT_ISL, DEFAULT_OSL = 1024, 256


@dataclass(frozen=True)
class WorkloadOptions:
    """The requests, and how they arrive."""

    section: ClassVar[str] = "Workload (give one load; default: one request at a time)"

    isl: Annotated[
        float | None, typer.Option(metavar=TOKENS, help=f"Input tokens per request, mean (default: {DEFAULT_ISL}).")
    ] = None
    osl: Annotated[
        float | None, typer.Option(metavar=TOKENS, help=f"Output tokens per request, mean (default: {DEFAULT_OSL}).")
    ] = None
    isl_dist: Annotated[
        str,
        typer.Option(
            metavar="SPREAD",
            help="Spread of the lengths: fixed, uniform:LOW-HIGH or trace (default: only the means count).",
        ),
    ] = ""
    dataset: Annotated[
        str, typer.Option(metavar=NAME, help="Data set that lengths come from, in place of --isl and --osl.")
    ] = ""
    histogram: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV with length classes, in place of --isl and --osl.")
    ] = None
    prefix_hit: Annotated[
        float | None,
        typer.Option(metavar=SHARE, help="Share of each prompt found in the prefix cache, 0 to 1 (default: 0)."),
    ] = None
    cv: Annotated[
        float, typer.Option(metavar="CV", help="Coefficient of variation of the gaps between arrivals; 1: Poisson.")
    ] = 1.0
    concurrency: Annotated[float | None, typer.Option(metavar=COUNT, help="Load: requests in flight at all times.")] = (
        None
    )
    request_rate_rps: Annotated[
        float | None, typer.Option(metavar="RATE", help="Load: mean requests per second that arrive.")
    ] = None
    batch: Annotated[
        float | None, typer.Option(metavar=COUNT, help="Load: requests of one static batch that starts together.")
    ] = None
    n_requests: Annotated[
        float | None,
        typer.Option(
            metavar=COUNT,
            help="Load: requests that all wait at the start (offline). Beside a rate or clients: requests of the run.",
        ),
    ] = None

    def workload(self) -> Workload:
        """Return the workload; raises `InputError` for two loads, and for impossible numbers."""
        self._check()
        loads = {
            "concurrency": self.concurrency,
            "request-rate-rps": self.request_rate_rps,
            "batch": self.batch,
            "n-requests": self.n_requests,
        }
        given = [name for name, value in loads.items() if value is not None]
        of_a_run = self.n_requests is not None and given[0] in ("concurrency", "request-rate-rps")
        if len(given) > 1 + of_a_run:
            raise InputError(f"--{' and --'.join(given)} exclude each other; give one load")
        requests = self._requests()
        if of_a_run:
            requests = requests.at(n_requests=self.n_requests)
        if self.request_rate_rps is not None:
            return requests.at(arrival="open", rate=self.request_rate_rps)
        if self.concurrency is not None:
            return requests.at(arrival="closed", concurrency=self.concurrency)
        if self.n_requests is not None:
            return requests.at(arrival="offline", n_requests=self.n_requests)
        if self.batch is not None:
            return requests.at(arrival="static", concurrency=self.batch)
        return requests.at(arrival="single", concurrency=1.0)

    def _check(self) -> None:
        """Raise `InputError`, in the words of the flags, for a number that no request and no load has."""
        least = {"isl": 1.0, "osl": 1.0, "concurrency": 1.0, "batch": 1.0, "n_requests": 1.0}
        for name, fewest in least.items():
            value = getattr(self, name)
            if value is not None and not value >= fewest:
                raise InputError(f"--{name.replace('_', '-')} {value:g} is impossible; give {fewest:g} or more")
        for name, value in (("request-rate-rps", self.request_rate_rps), ("cv", self.cv)):
            if value is not None and not value > 0.0:
                raise InputError(f"--{name} {value:g} is impossible; give more than 0")
        share = self.prefix_hit
        if share is not None and not 0.0 <= share <= 1.0:
            percent = f" ({share / 100.0:g} for {share:g} %)" if 1.0 < share <= 100.0 else ""
            raise InputError(f"--prefix-hit {share:g} is no share; give 0 to 1{percent}")

    def _requests(self) -> Workload:
        """Return the requests, without a load; raises `InputError` where lengths are given twice."""
        import numpy as np

        from perfmodel.workload import Workload, histogram, read_histogram

        names = ("isl", "osl", "dataset", "histogram")
        given = [f"--{name}" for name in names if getattr(self, name) not in (None, "")]
        if (self.dataset or self.histogram) and len(given) > 1:
            raise InputError(f"{' and '.join(given)} exclude each other; say once how long requests are")
        if self.dataset or self.histogram:
            shape = histogram(self.dataset) if self.dataset else read_histogram(str(self.histogram))
            requests = Workload.from_histogram(shape)
        else:
            requests = Workload.from_lengths(
                DEFAULT_ISL if self.isl is None else self.isl, DEFAULT_OSL if self.osl is None else self.osl
            )
        own: dict[str, object] = {"isl_dist": self.isl_dist} if self.isl_dist else {}
        own |= {"prefix_hit": np.full(1, self.prefix_hit)} if self.prefix_hit is not None else {}
        return requests.at(cv=self.cv, **own)


@dataclass(frozen=True)
class SloOptions:
    """Bounds on latency; with any, the exit code says whether they hold."""

    section: ClassVar[str] = "SLO (exit code 1 where it is missed)"

    ttft_ms: Annotated[
        float | None, typer.Option(metavar=MS, help="Bound on the time to first token, milliseconds.")
    ] = None
    tpot_ms: Annotated[
        float | None, typer.Option(metavar=MS, help="Bound on the time per output token, milliseconds.")
    ] = None
    e2e_ms: Annotated[
        float | None, typer.Option(metavar=MS, help="Bound on the time of a whole request, milliseconds.")
    ] = None
    slo_at: Annotated[
        str, typer.Option(metavar="STATISTIC", help="Statistic that is bounded: mean, p50, p90, p95 or p99.")
    ] = "mean"
    slo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=MS",
            help="A bound as a scenario has it, such as ttft_ms_p90=500, or 'ttft p90 < 0.5s'; repeatable.",
        ),
    ] = None
    confidence: Annotated[
        float, typer.Option(metavar=SHARE, help="Least probability that each bound holds, 0 to 1.")
    ] = 0.5

    def bounds(self) -> Slo:
        """Return the bounds; those not given do not count. Raises `InputError` for impossible ones."""
        from perfmodel.workload import STATISTICS, Objective, Slo

        if self.slo_at not in STATISTICS:
            raise UnknownName("statistic", self.slo_at, STATISTICS, f"({', '.join(STATISTICS)})")
        if not 0.0 < self.confidence < 1.0:
            share = f", such as {self.confidence / PERCENT:g}" if 1.0 < self.confidence < PERCENT else ""
            why = f"no estimate is certain; give it above 0 and below 1{share}"
            raise InputError(f"--confidence {self.confidence:g}: {why}")
        bounds = {"ttft": self.ttft_ms, "tpot": self.tpot_ms, "e2e": self.e2e_ms}
        given = {metric: limit for metric, limit in bounds.items() if limit is not None}
        for metric, limit in given.items():
            if not limit > 0:
                raise InputError(f"--{metric}-ms {limit:g} is no bound; give milliseconds above 0")
        objectives = [Objective(metric, self.slo_at, limit / 1e3) for metric, limit in given.items()]
        return Slo((*objectives, *(_objective(text) for text in self.slo or ())))


def _objective(text: str) -> Objective:
    """Return the bound that a text states: `KEY=MS` with a key of a scenario's [slo], or one with a unit ("ttft<2s").

    Raises `InputError` for anything else.
    """
    from perfmodel.workload import METRICS, SLO_KEYS, Objective, objective_as_typed, slo_keys_like

    key, _, amount = text.partition("=")
    typed = objective_as_typed(text)
    if typed is not None:
        return typed
    if key not in SLO_KEYS:
        if set("<>\u2264\u2265 ") & set(text.strip()):
            ways = f"'ttft p90 < 500 ms' or ttft_ms_p90=500, for one of {', '.join(METRICS)}"
            raise InputError(f"--slo {text!r} states no bound on one latency with its unit; write it as {ways}")
        near = slo_keys_like(key)
        if near and near[0] not in nearest(key, SLO_KEYS):
            raise InputError(f"unknown SLO {key!r}; did you mean {near[0]!r}? (as in --slo ttft_ms_p90=500)")
        raise UnknownName("SLO", key, SLO_KEYS, "(as in --slo ttft_ms_p90=500)")
    try:
        limit = float(amount)
    except ValueError:
        limit = 0.0
    if not 0.0 < limit < inf:
        raise InputError(f"--slo {text}: {amount!r} is no bound; give milliseconds above 0")
    return Objective.from_key(key, limit)
