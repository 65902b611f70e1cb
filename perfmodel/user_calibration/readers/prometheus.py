"""Read a range export of Prometheus (JSON of /api/v1/query_range) with metrics of vLLM's or SGLang's servers.

Every series of a query `{__name__=~"(vllm|sglang):.+"}` is of use: counters of tokens, histograms of TTFT, TPOT and
end-to-end latency, requests running and waiting. Names changed: vLLM's time per output token is per token in
`vllm:time_per_output_token_seconds` (until 0.10) and `vllm:inter_token_latency_seconds`, and per request in
`vllm:request_time_per_output_token_seconds` (vllm-project/vllm, docs/design/metrics.md; v0.8.2 and v0.10.2); SGLang
writes `sglang:time_per_output_token_seconds`, later `sglang:inter_token_latency_seconds` (sgl-project/sglang,
production metrics; label `name` became `model_name`). Watts are those of DCGM's exporter
(`DCGM_FI_DEV_POWER_USAGE`), where they are in the same export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.unit_factors import MS_PER_S
from perfmodel.user_calibration.readers.reader import ResultReader, inner, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

ENGINES = ("vllm", "sglang")
WATTS = "DCGM_FI_DEV_POWER_USAGE"
#: Histogram of a latency, without its unit: names in order of preference.
HISTOGRAMS = {
    "ttft_ms": ("time_to_first_token_seconds",),
    "tpot_ms": (
        "request_time_per_output_token_seconds",
        "time_per_output_token_seconds",
        "inter_token_latency_seconds",
    ),
    "e2e_ms": ("e2e_request_latency_seconds",),
}
PERCENTILES = {"ttft_ms": (0.5, 0.9, 0.99), "tpot_ms": (0.5, 0.9, 0.99), "e2e_ms": (0.99,)}
RUNNING = ("num_requests_running", "num_running_reqs")
WAITING = ("num_requests_waiting", "num_queue_reqs")
#: Tokens found in the prefix cache, and those asked for; SGLang counts the latter as prompt tokens.
HITS = ("prefix_cache_hits_total", "gpu_prefix_cache_hits_total", "cached_tokens_total")
QUERIES = ("prefix_cache_queries_total", "gpu_prefix_cache_queries_total", "prompt_tokens_total")
#: A percentile is kept where its bucket's bounds are this close, as it may lie anywhere in between. Chosen.
NARROW = 1.25
#: Requests in flight vary by so much less than those of a Poisson stream (variance = mean) in a closed loop. Chosen.
CLOSED = 0.25


@dataclass(frozen=True)
class Series:
    """Holds one series. labels: with `__name__`. times: (n,) seconds since 1970. values: (n,)."""

    labels: Mapping[str, str]
    times: Array
    values: Array

    @property
    def name(self) -> str:
        """Return the name of the metric."""
        return self.labels.get("__name__", "")

    def increments(self) -> Array:
        """Return what a counter grew by up to each sample, (n,); after a restart it begins at 0."""
        steps = np.diff(self.values, prepend=self.values[:1])
        return np.asarray(np.where(steps < 0, self.values, steps))


def is_prometheus(content: Content) -> bool:
    """Return whether a file is an answer, or several, of Prometheus."""
    return content.kind != "table" and content.has("status", "data")


def series_of(content: Content) -> list[Series]:
    """Return all series of a file; `InputError` names what is wrong with it."""
    return [one for n, record in content.records() for one in _series(record, f"{content.path}, {content.word} {n}")]


def _series(record: Mapping[str, Any], place: str) -> Iterator[Series]:
    """Yield the series of one answer."""
    if record.get("status") != "success":
        raise InputError(f"{place}: status is {record.get('status')!r}; give an answer that succeeded")
    data = inner(record, "data", place)
    if data.get("resultType") != "matrix" or not isinstance(data.get("result"), list):
        kind = data.get("resultType")
        raise InputError(f"{place}: resultType is {kind!r}; ask /api/v1/query_range, which answers a matrix")
    for one in data["result"]:
        labels = inner(one, "metric", place) if isinstance(one, dict) else {}
        try:
            table = np.array([[float(t), float(v)] for t, v in one["values"]])
        except (TypeError, ValueError, KeyError):
            named = labels.get("__name__", "a series")
            raise InputError(f"{place}: values of {named} are no list of [seconds, number]") from None
        if len(table):
            yield Series(labels, table[:, 0], table[:, 1])


def read_prometheus(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per engine and model of an export."""
    every = series_of(content)
    found = []
    for engine in ENGINES:
        mine = [s for s in every if s.name.startswith(f"{engine}:")]
        for model in dict.fromkeys(_model(s) for s in mine):
            place = content.path if not model else f"{content.path}, {model}"
            found.append(_Server(engine, model, [s for s in mine if _model(s) == model], place).run(every))
    if not found:
        names = ", ".join(sorted({s.name for s in every})[:6]) or "none"
        raise InputError(f"{content.path}: no series of vllm: or sglang: (there are: {names}); export them too")
    return found


def _model(series: Series) -> str:
    """Return the model that a series is of."""
    return series.labels.get("model_name") or series.labels.get("name") or ""


@dataclass(frozen=True)
class _Server:
    """Holds the series of one model under one engine, all replicas together."""

    engine: str
    model: str
    series: Sequence[Series]
    place: str

    def named(self, *names: str, end: str = "") -> list[Series]:
        """Return the series of the first name that there is."""
        for name in names:
            found = [s for s in self.series if s.name == f"{self.engine}:{name}{end}"]
            if found:
                return found
        return []

    def grown(self, *names: str, end: str = "") -> float:
        """Return what counters grew by, over all replicas; NaN where there are none."""
        found = self.named(*names, end=end)
        return float(sum(s.increments().sum() for s in found)) if found else float("nan")

    def window(self) -> tuple[float, float]:
        """Return from when to when tokens were generated; `InputError` where that cannot be told."""
        counters = self.named("generation_tokens_total")
        if not counters:
            name = f"{self.engine}:generation_tokens_total"
            raise InputError(f"{self.place}: {name} is missing; export it with the other series")
        spans = [(s.times[i - 1], s.times[i]) for s in counters for i in np.flatnonzero(s.increments() > 0)]
        if not spans:
            raise InputError(f"{self.place}: {counters[0].name} does not grow; export a time in which requests ran")
        return float(min(a for a, _ in spans)), float(max(b for _, b in spans))

    def run(self, every: Sequence[Series]) -> MeasuredRun:
        """Return the run that the series tell. every: with those of other exporters."""
        span = self.window()
        seconds = span[1] - span[0]
        served = self.grown("e2e_request_latency_seconds", end="_count")
        prompt, output = (self.grown(f"{kind}_tokens_total") for kind in ("prompt", "generation"))
        if not served > 0:
            name = f"{self.engine}:e2e_request_latency_seconds_count"
            raise InputError(f"{self.place}: {name} is missing or does not grow; export it with the other series")
        values = {
            "req_s": served / seconds,
            "output_tok_s": output / seconds,
            "total_tok_s": (prompt + output) / seconds,
        }
        values |= {metric: value for name in HISTOGRAMS for metric, value in self._latency(name)}
        values |= _watts(every, span)
        load, remark = self._load(span, served / seconds)
        hits, asked = self.grown(*HITS), self.grown(*QUERIES)
        given = {
            "model": self.model,
            "engine": self.engine,
            "isl": text_of(prompt / served),
            "osl": text_of(output / served),
            "prefix_hit": text_of(hits / asked) if hits > 0 and asked > 0 else "",
            **load,
        }
        return MeasuredRun(self.place, given, {m: v for m, v in values.items() if v > 0}, (remark,), span)

    def _latency(self, metric: str) -> Iterator[tuple[str, float]]:
        """Yield (metric, ms) of a latency: its mean, and percentiles whose buckets are narrow."""
        count, total = (self.grown(*HISTOGRAMS[metric], end=end) for end in ("_count", "_sum"))
        if count > 0:
            yield metric, total / count * MS_PER_S
        buckets = self.named(*HISTOGRAMS[metric], end="_bucket")
        bounds: dict[float, float] = {}
        for one in buckets:
            bound = float(one.labels.get("le", "nan"))
            bounds[bound] = bounds.get(bound, 0.0) + float(one.increments().sum())
        for share in PERCENTILES[metric]:
            yield f"{metric}_p{share * 100:.0f}", _quantile(bounds, share) * MS_PER_S

    def _load(self, span: tuple[float, float], rate: float) -> tuple[dict[str, str], str]:
        """Return (columns of the load, what was assumed), by how much the requests in flight vary."""
        flight = _summed([*self.named(*RUNNING), *self.named(*WAITING)], span)
        if len(flight) > 2 and flight.var() < CLOSED * flight.mean():
            text = f"{flight.mean():.4g} requests in flight throughout: read as a closed loop"
            return {"mode": "closed", "concurrency": text_of(float(flight.mean()))}, text
        return {"mode": "open", "request_rate_rps": text_of(rate)}, "read as requests that arrive at random"


def _quantile(bounds: Mapping[float, float], share: float) -> float:
    """Return a quantile of a histogram, linear within its bucket; NaN where the bucket is wide or has no end."""
    edges = np.array(sorted(b for b in bounds if b == b))
    counts = np.array([bounds[b] for b in edges])
    if len(edges) < 2 or not counts[-1] > 0:
        return float("nan")
    at = int(np.searchsorted(counts, share * counts[-1]))
    if at == 0 or not np.isfinite(edges[at]) or edges[at] > NARROW * edges[at - 1]:
        return float("nan")
    inside = (share * counts[-1] - counts[at - 1]) / max(counts[at] - counts[at - 1], 1e-12)
    return float(edges[at - 1] + inside * (edges[at] - edges[at - 1]))


def _summed(series: Sequence[Series], span: tuple[float, float]) -> Array:
    """Return the sum of gauges at each time within a span; the edges, where a load begins and ends, are left out."""
    sums: dict[float, float] = {}
    for one in series:
        for t, v in zip(one.times.tolist(), one.values.tolist(), strict=True):
            if span[0] < t < span[1]:
                sums[t] = sums.get(t, 0.0) + v
    return np.array(list(sums.values()))


def _watts(every: Sequence[Series], span: tuple[float, float]) -> dict[str, float]:
    """Return the mean watts of a device within a span; {} where the export has none."""
    means = [
        float(s.values[inside].mean())
        for s in every
        if s.name == WATTS and (inside := (s.times >= span[0]) & (s.times <= span[1])).any()
    ]
    return {"power_w_per_device": float(np.mean(means))} if means else {}


READER = ResultReader(name="Prometheus", recognises=is_prometheus, read=read_prometheus)
