"""Options of `estimate` for the requests, how they arrive, and the SLO they must meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from hwdb import InputError, UnknownName
from search.commands.options import COUNT, SHARE, TOKENS

if TYPE_CHECKING:
    from perfmodel.workload import Slo, Workload

MS = "MS"


@dataclass(frozen=True)
class WorkloadOptions:
    """The requests, and how they arrive."""

    section: ClassVar[str] = "Workload (give one load; default: one request at a time)"

    isl: Annotated[float, typer.Option(metavar=TOKENS, help="Input tokens per request, mean.")] = 1024
    osl: Annotated[float, typer.Option(metavar=TOKENS, help="Output tokens per request, mean.")] = 256
    prefix_hit: Annotated[
        float, typer.Option(metavar=SHARE, help="Share of each prompt found in the prefix cache, 0 to 1.")
    ] = 0.0
    concurrency: Annotated[float | None, typer.Option(metavar=COUNT, help="Load: requests in flight at all times.")] = (
        None
    )
    request_rate_rps: Annotated[
        float | None, typer.Option(metavar="RATE", help="Load: mean requests per second, with Poisson arrivals.")
    ] = None
    batch: Annotated[
        float | None, typer.Option(metavar=COUNT, help="Load: requests of one static batch that starts together.")
    ] = None
    n_requests: Annotated[
        float | None, typer.Option(metavar=COUNT, help="Load: requests that all wait at the start (offline).")
    ] = None

    def workload(self) -> Workload:
        """Return the workload; raises `InputError` for two loads, and for impossible numbers."""
        from perfmodel.workload import Workload

        loads = {
            "concurrency": self.concurrency,
            "request-rate-rps": self.request_rate_rps,
            "batch": self.batch,
            "n-requests": self.n_requests,
        }
        given = [name for name, value in loads.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"--{' and --'.join(given)} exclude each other; give one load")
        requests = Workload.from_lengths(self.isl, self.osl, prefix_hit=self.prefix_hit)
        if self.request_rate_rps is not None:
            return requests.at(arrival="open", rate=self.request_rate_rps)
        if self.n_requests is not None:
            return requests.at(arrival="offline", n_requests=self.n_requests)
        if self.batch is not None:
            return requests.at(arrival="static", concurrency=self.batch)
        if self.concurrency is not None:
            return requests.at(arrival="closed", concurrency=self.concurrency)
        return requests.at(arrival="single", concurrency=1.0)


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

    def slo(self) -> Slo:
        """Return the bounds; those not given do not count. Raises `InputError` for impossible ones."""
        from perfmodel.workload import STATISTICS, Objective, Slo

        if self.slo_at not in STATISTICS:
            raise UnknownName("statistic", self.slo_at, STATISTICS, f"({', '.join(STATISTICS)})")
        bounds = {"ttft": self.ttft_ms, "tpot": self.tpot_ms, "e2e": self.e2e_ms}
        given = {metric: limit for metric, limit in bounds.items() if limit is not None}
        for metric, limit in given.items():
            if not limit > 0:
                raise InputError(f"--{metric}-ms {limit:g} is no bound; give milliseconds above 0")
        return Slo(tuple(Objective(metric, self.slo_at, limit / 1e3) for metric, limit in given.items()))
