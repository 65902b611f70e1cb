"""Read results of AIPerf (`profile_export_aiperf.json`, `.csv`) and of its forerunner GenAI-Perf.

A JSON object with an object per metric: `unit`, `avg`, and percentiles where there are any (ai-dynamo/aiperf, metrics
reference, schema 1.3; triton-inference-server/perf_analyzer, genai-perf README). Its inter-token latency is one value
per request, (end - first token) / (tokens - 1): what others call TPOT. The configuration lies in `input_config`. The
CSV has a table of statistics and one of values, with names in words and units in brackets, and no configuration
(triton-inference-server/perf_analyzer, genai-perf csv_exporter; until 0.0.6 lengths were `Num Output Token`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hwdb import InputError
from perfmodel.user_calibration.readers.reader import ResultReader, inner, metrics, number, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: Kind of latency -> key. STATISTICS: end of the metric's name -> key of the statistic.
LATENCIES = {"ttft_ms": "time_to_first_token", "tpot_ms": "inter_token_latency", "e2e_ms": "request_latency"}
STATISTICS = {"": "avg", "_p50": "p50", "_p90": "p90", "_p99": "p99"}
RATES = {"req_s": "request_throughput", "output_tok_s": "output_token_throughput"}
#: Factor to ms by unit.
UNITS = {"ms": 1.0, "milliseconds": 1.0, "s": 1e3, "sec": 1e3, "us": 1e-3, "ns": 1e-6}


#: Name of a metric in a CSV file, with its unit. FORMER: names of the first versions -> today's.
TITLE = re.compile(r"(.*?)(?: \((.*)\))?")
FORMER = {"num_output_token": "output_sequence_length", "num_input_token": "input_sequence_length"}


def read_aiperf(content: Content) -> Sequence[MeasuredRun]:
    """Read the run of a file, or one run per object of a list or of lines."""
    if content.kind == "table":
        return [_run(_record(content), content.path)]
    return [_run(record, f"{content.path}, {content.word} {n}") for n, record in content.records()]


def _record(content: Content) -> dict[str, Any]:
    """Return a CSV file as the object that the JSON file holds; thousands have commas in quotes."""
    record: dict[str, Any] = {}
    names: list[str] = []
    for cells in csv.reader(io.StringIO(content.text)):
        if cells[:1] == ["Metric"]:
            names = ["avg" if name == "Value" else name for name in cells[1:]]
        elif cells and (title := TITLE.fullmatch(cells[0].strip())) and title[1]:
            key = title[1].lower().replace(" ", "_")
            values = {name: value.replace(",", "") for name, value in zip(names, cells[1:], strict=False)}
            record[FORMER.get(key, key)] = {**values, "unit": title[2] or ""}
    if "time_to_first_token" not in record and "inter_token_latency" not in record:
        raise InputError(
            f"{content.path}: Time To First Token and Inter Token Latency are missing; give a streamed run"
        )
    return record


def _run(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read one run."""
    found: dict[str, float] = {}
    for metric, key in LATENCIES.items():
        part = inner(record, key, place)
        unit = str(part.get("unit", "ms"))
        if unit not in UNITS:
            raise InputError(f"{place}: {key} has the unit {unit!r}; known are {', '.join(UNITS)}")
        names = {f"{metric}{end}": statistic for end, statistic in STATISTICS.items() if _is_known(metric, end)}
        found |= metrics(part, names, f"{place}, {key}", unit=UNITS[unit])
    for metric, key in RATES.items():
        found |= metrics(inner(record, key, place), {metric: "avg"}, f"{place}, {key}")
    isl, osl = (number(inner(record, f"{s}_sequence_length", place), "avg", place) for s in ("input", "output"))
    asked = inner(record, "input_config", place)
    count = number(inner(record, "request_count", place), "avg", place)
    given = {
        "model": _model(asked, place),
        "isl": text_of(isl),
        "osl": text_of(osl),
        "n_requests": text_of(count),
        **_load(asked, place),
    }
    return MeasuredRun(place=place, given=given, measured=found)


def _is_known(metric: str, end: str) -> bool:
    """Return whether `predict` answers this statistic of a latency."""
    return metric != "e2e_ms" or end in ("", "_p99")


def _model(asked: Mapping[str, Any], place: str) -> str:
    """Return the name of the model that the configuration states; "" where it states none, or several."""
    endpoint = inner(asked, "endpoint", place)
    names = endpoint.get("model_names") or asked.get("model_names") or asked.get("model")
    if names is None:
        items = inner(asked, "models", place).get("items")
        names = [item.get("name") for item in items if isinstance(item, dict)] if isinstance(items, list) else None
    one = names[0] if isinstance(names, list) and len(names) == 1 else names
    return one if isinstance(one, str) else ""


def _load(asked: Mapping[str, Any], place: str) -> dict[str, str]:
    """Return the columns of the load: a rate, or requests in flight. {} where the configuration states neither."""
    analyzer = inner(inner(asked, "perf_analyzer", place), "stimulus", place)
    stated = {**analyzer, **inner(asked, "loadgen", place)}
    rate, clients = (number(stated, key, place) for key in ("request_rate", "concurrency"))
    if rate > 0:
        return {"mode": "open", "request_rate_rps": text_of(rate)}
    return {"mode": "closed", "concurrency": text_of(clients)} if clients > 0 else {}


READER = ResultReader(
    name="AIPerf or GenAI-Perf",
    recognises=lambda c: (
        c.has("Metric", "avg") if c.kind == "table" else c.has("request_throughput", "request_latency")
    ),
    read=read_aiperf,
)
