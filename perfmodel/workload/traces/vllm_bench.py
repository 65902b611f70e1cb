"""Read results of `vllm bench serve --save-result --save-detailed`, and of `sglang.bench_serving --output-details`.

A result is a JSON object (vLLM), or one per line (SGLang) (vllm/benchmarks/serve.py, sglang/bench_serving.py): lists
with one value per request: `input_lens`, `output_lens`, `errors` (text, empty where the request was served), and in
vLLM from 2025 on `start_times` in seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN, Array
from perfmodel.workload.traces.content import Content, number_of
from perfmodel.workload.traces.parsed import Clock, Parsed, Reader, stem, whole_tokens
from perfmodel.workload.traces.trace import Trace

INPUTS, OUTPUTS, STARTS, ERRORS = "input_lens", "output_lens", "start_times", "errors"


def read_vllm_bench(content: Content) -> Parsed:
    """Read the requests of a run; of several runs the lengths only, since each has a load of its own."""
    runs = [(f"{content.path}, {content.word} {n}", run) for n, run in content.records()]
    lengths = [np.concatenate([_list(place, run, name) for place, run in runs]) for name in (INPUTS, OUTPUTS)]
    lines = np.arange(1, len(lengths[0]) + 1)
    prompt, output = (
        whole_tokens(v, name, content.path, lines, "request")
        for v, name in zip(lengths, (INPUTS, OUTPUTS), strict=True)
    )
    failed = np.concatenate([_failed(place, run) for place, run in runs])
    times, remark = _times(runs)
    made = Trace(arrival=times, input=prompt, output=output, name=stem(content.path), source=content.path)
    return Parsed(
        made,
        lines,
        word="request",
        clock=Clock(STARTS),
        failed=failed,
        unordered=True,
        remarks=(remark,) if remark else (),
    )


def _list(place: str, run: dict[str, Any], name: str) -> Array:
    """Return a list of numbers of a run, one per request."""
    values = run.get(name)
    if not isinstance(values, list):
        text = f"no list {name!r} with a number per request; run vllm bench serve with --save-detailed"
        raise InputError(f"{place}: {text}, or sglang.bench_serving with --output-details")
    if name != INPUTS and len(values) != len(run[INPUTS]):
        text = f"{name} has {len(values)} values, {INPUTS} {len(run[INPUTS])}"
        raise InputError(f"{place}: {text}; give one of each per request")
    if not values:
        raise InputError(f"{place}: {name} is empty; give a run with at least one request")
    return np.array([number_of(v, f"{place}, request {n}", name) for n, v in enumerate(values, 1)])


def _failed(place: str, run: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which requests of a run ended with an error, (R,)."""
    errors, count = run.get(ERRORS), len(run[INPUTS])
    if errors is None:
        return np.zeros(count, dtype=bool)
    if not isinstance(errors, list) or len(errors) != count:
        text = f"{ERRORS} does not have one text for each of the {count} requests"
        raise InputError(f"{place}: {text}; give one each, empty where the request was served, or leave {ERRORS} out")
    return np.array([bool(e) for e in errors])


def _times(runs: list[tuple[str, dict[str, Any]]]) -> tuple[Array, str]:
    """Return (when requests were sent in seconds, NaN where that is no load of its own; a remark on it)."""
    unknown = np.full(sum(len(run[INPUTS]) for _, run in runs), NAN)
    if len(runs) > 1:
        text = f"the file holds {len(runs)} runs, so that only lengths are read"
        return unknown, f"{text}: give request_rate_rps or concurrency in [workload]"
    place, run = runs[0]
    rate, clients = _stated(run, "request_rate"), _stated(run, "max_concurrency")
    if not np.isfinite(rate) and (clients == clients or rate == np.inf):
        many = f"by {clients:g} clients" if clients == clients else "all at once"
        key = f"concurrency = {clients:g}" if clients == clients else f"n_requests = {len(unknown)}"
        return unknown, f"the benchmark sent its requests {many}, so that only lengths are read: {key} is that load"
    if STARTS in run:
        return _list(place, run, STARTS), ""
    known = f" (of the run: {rate:g})" if rate == rate else ""
    return unknown, f"the result has no {STARTS}, so that only lengths are read: give request_rate_rps{known}"


def _stated(run: dict[str, Any], name: str) -> float:
    """Return a number that the run states, "inf" included; NaN where it states none."""
    try:
        return float(run.get(name))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return NAN


def _recognises(content: Content) -> bool:
    """True where the first record is a result of vLLM's or SGLang's benchmark, with details or without."""
    summary = content.has("total_input_tokens", "total_output_tokens") and content.has("request_throughput")
    return content.kind != "table" and (content.has(INPUTS) or summary)


READER = Reader(name="vllm bench serve", recognises=_recognises, read=read_vllm_bench)
