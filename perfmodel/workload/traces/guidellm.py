"""Read reports of guidellm (`guidellm benchmark --output-path report.json`): `benchmarks`, each with its `requests`.

Requests are listed as successful, incomplete (cut off by the end of the run) and errored; each has `prompt_tokens`,
`output_tokens` and its start in seconds since 1970 (vllm-project/guidellm, src/guidellm/schemas/request_stats.py;
`start_time` before version 0.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN, Array
from perfmodel.workload.traces.content import Content, number_of
from perfmodel.workload.traces.parsed import Clock, Parsed, Reader, stem, whole_tokens
from perfmodel.workload.traces.trace import Trace

STATES = ("successful", "incomplete", "errored")
STARTS = ("request_start_time", "start_time")
#: Strategies whose requests wait for answers, or are all sent at once: their times are no load of their own.
CLOSED = ("synchronous", "concurrent", "throughput")


@dataclass
class _Requests:
    """Requests as lists: tokens, start in seconds (NaN unknown), and whether each failed."""

    tokens: list[tuple[float, float]] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)


def read_guidellm(content: Content) -> Parsed:
    """Read the requests of a report; of several benchmarks the lengths only, since each has a load of its own."""
    benchmarks = content.document.get("benchmarks") if isinstance(content.document, dict) else None
    if not isinstance(benchmarks, list) or not benchmarks:
        raise InputError(f"{content.path}: 'benchmarks' lists none; give a report of guidellm with at least one")
    found = _Requests()
    for number, one in enumerate(benchmarks, 1):
        _add(found, one, f"{content.path}, benchmark {number}")
    if not found.tokens:
        raise InputError(f"{content.path}: no benchmark lists a request; save the report with its requests")
    lines = np.arange(1, len(found.tokens) + 1)
    table = np.array(found.tokens)
    prompt, output = (
        whole_tokens(table[:, i], name, content.path, lines, "request")
        for i, name in enumerate(("prompt_tokens", "output_tokens"))
    )
    times, remark = _times(np.array(found.start), benchmarks)
    made = Trace(arrival=times, input=prompt, output=output, name=stem(content.path), source=content.path)
    return Parsed(
        made,
        lines,
        word="request",
        clock=Clock(STARTS[0]),
        failed=np.array(found.failed),
        unordered=True,
        remarks=(remark,) if remark else (),
    )


def _add(found: _Requests, benchmark: Any, place: str) -> None:
    """Add the requests of one benchmark to `found`."""
    listed = benchmark.get("requests") if isinstance(benchmark, dict) else None
    if not isinstance(listed, dict) or not any(isinstance(listed.get(s), list) for s in STATES):
        text = f"'requests' does not list {', '.join(STATES)} requests"
        raise InputError(f"{place}: {text}; give a report of guidellm that has them")
    for state in STATES:
        group = listed.get(state)
        for number, request in enumerate(group if isinstance(group, list) else [], 1):
            where = f"{place}, {state} request {number}"
            if not isinstance(request, dict):
                raise InputError(f"{where}: not an object; give prompt_tokens and output_tokens")
            failed = state != STATES[0]
            found.tokens.append((_tokens(request, "prompt", where, failed), _tokens(request, "output", where, failed)))
            start = next((request[n] for n in STARTS if request.get(n) is not None), None)
            found.start.append(NAN if start is None else number_of(start, where, STARTS[0]))
            found.failed.append(failed)


def _tokens(request: dict[str, Any], part: str, where: str, failed: bool) -> float:
    """Return the tokens of a request; a failed one may lack them, and then counts as having 1."""
    value = request.get(f"{part}_tokens")
    if value is None and failed:
        return 1.0
    return number_of(value, where, f"{part}_tokens")


def _times(start: Array, benchmarks: list[dict[str, Any]]) -> tuple[Array, str]:
    """Return (when requests were sent in seconds, NaN where that is no load of its own; a remark on it)."""
    unknown, way_out = np.full(len(start), NAN), "give request_rate_rps or concurrency in [workload]"
    if len(benchmarks) > 1:
        text = f"the report holds {len(benchmarks)} benchmarks, so that only lengths are read"
        return unknown, f"{text}: {way_out}"
    kind = _strategy(benchmarks[0])
    if kind in CLOSED:
        return unknown, f"the benchmark's requests were {kind}, so that only lengths are read: {way_out}"
    if np.isnan(start).any():
        return unknown, f"some requests have no time of their start, so that only lengths are read: {way_out}"
    return start, ""


def _strategy(benchmark: dict[str, Any]) -> str:
    """Return the name of the strategy by which a benchmark sent its requests, "" where it has none."""
    for key in ("config", "args"):
        strategy = (benchmark.get(key) or {}).get("strategy") if isinstance(benchmark.get(key), dict) else None
        if isinstance(strategy, dict):
            return str(strategy.get("type_", ""))
    return ""


READER = Reader(name="guidellm", recognises=lambda c: c.kind == "document" and c.has("benchmarks"), read=read_guidellm)
