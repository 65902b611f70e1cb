"""Read results of InferenceX (InferenceMAX until 2025): a run's JSON, a list of them, or rows of its database.

The runner turns a result of benchmark_serving into `agg_*.json`: `hw`, `conc`, `framework`, `precision`, tokens/s per
device and latencies in seconds (SemiAnalysisAI/InferenceX, utils/process_result.py @00e51cc7 of 2025, which states no
lengths, and @77f3e680 with `isl`, `osl`, `spec_decoding` and pools). The site's database has the same figures under
`metrics` and calls the device `hardware` (SemiAnalysisAI/InferenceX-app, METRIC_KEYS and BenchmarkRow, 2026); joined to
a CSV table, the columns are `config_...` and `metrics_...`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hwdb import InputError
from perfmodel.unit_factors import MS_PER_S
from perfmodel.user_calibration.readers.reader import ResultReader, inner, metrics, number, table_rows, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: Metric -> key, in seconds.
LATENCIES = {
    **{f"{kind}_ms": f"mean_{kind}" for kind in ("ttft", "tpot")},
    **{f"{kind}_ms_p50": f"median_{kind}" for kind in ("ttft", "tpot", "itl")},
    **{f"{kind}_ms_p90": f"p90_{kind}" for kind in ("ttft", "tpot")},
    **{f"{kind}_ms_p99": f"p99_{kind}" for kind in ("ttft", "tpot", "itl")},
    "e2e_ms": "mean_e2el",
    "e2e_ms_p99": "p99_e2el",
}
POWER = {"power_w_per_device": "avg_power_w", "energy_j_per_output_token": "joules_per_output_token"}
#: End of the framework's name -> engine; `dynamo-` and others stand before it.
ENGINES = {"vllm": "vllm", "sglang": "sglang", "trt": "trtllm", "trtllm": "trtllm"}
#: Names of models in the database and of the runner's prefixes -> model.
MODELS = {
    "dsr1": "deepseek-ai/DeepSeek-R1-0528",
    "gptoss": "openai/gpt-oss-120b",
    "gptoss120b": "openai/gpt-oss-120b",
    "llama70b": "meta-llama/Llama-3.3-70B-Instruct",
    "70b": "meta-llama/Llama-3.3-70B-Instruct",
}
#: Lengths are drawn evenly between this share of the nominal one and all of it (its --random-range-ratio).
SHORTEST = 0.8
POOLS = ("prefill", "decode")


def read_inferencex(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per record."""
    return [_run(record, place) for place, record in _records(content)]


def _records(content: Content) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, flat record) of each run, whatever holds it."""
    if content.kind == "table":
        for place, row in table_rows(content):
            yield place, {str(k).removeprefix("config_").removeprefix("metrics_"): v for k, v in row.items()}
        return
    for n, record in content.records():
        place = f"{content.path}, {content.word} {n}"
        yield place, {**record, **inner(record, "metrics", place)}


def _run(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read one run."""
    if record.get("benchmark_type", "single_turn") not in ("single_turn", "", None):
        kind = record["benchmark_type"]
        raise InputError(f"{place}: benchmark_type is {kind!r}; runs of one turn per request (single_turn) are read")
    counts = _counts(record, place)
    found = metrics(record, LATENCIES, place, unit=MS_PER_S) | metrics(record, POWER, place)
    total, output = (number(record, key, place) for key in ("tput_per_gpu", "output_tput_per_gpu"))
    rates = {"total_tok_s": total * sum(counts.values()), "output_tok_s": output * list(counts.values())[-1]}
    found |= {metric: value for metric, value in rates.items() if value > 0}
    if "decode" in counts:
        found.pop("energy_j_per_output_token", None)  # of the decode pool alone
    lengths = {s: number(record, s, place) * (1 + SHORTEST) / 2 for s in ("isl", "osl")}
    given = {
        "model": _model(record),
        "device": str(record.get("hw") or record.get("hardware") or "").split("-")[0].split("_")[0],
        "engine": next((e for end, e in ENGINES.items() if str(record.get("framework", "")).endswith(end)), "other"),
        "weight_dtype": str(record.get("precision") or ""),
        "spec_decode": _drafts(record),
        **{s: text_of(value) for s, value in lengths.items()},
        "isl_dist": f"uniform:{SHORTEST}-1.0" if lengths["isl"] > 0 else "",
        "mode": "closed",
        "concurrency": text_of(number(record, "conc", place)),
        "n_devices": text_of(sum(counts.values())),
        **_degrees(record, counts, place),
    }
    return MeasuredRun(place, given, found, _remarks(lengths["isl"] > 0))


def _remarks(stated: bool) -> tuple[str, ...]:
    """Return what is assumed of the lengths of a run that states nominal ones."""
    return (f"lengths are taken as {SHORTEST:g} to 1 of the nominal ones",) if stated else ()


def _model(record: Mapping[str, Any]) -> str:
    """Return the model's name; "" for a short name that is not known, so that --model can give it."""
    name = str(record.get("model") or "")
    return MODELS.get(name, name if "/" in name else "")


def _drafts(record: Mapping[str, Any]) -> str:
    """Return the method of speculative decoding, "" for none."""
    method = str(record.get("spec_decoding") or record.get("spec_method") or record.get("mtp") or "none").lower()
    return {"none": "", "off": "", "false": "", "on": "mtp", "true": "mtp"}.get(method, method)


def _yes(value: Any) -> bool:
    """Return whether a flag is set, as a Boolean or as text."""
    return str(value).lower() in ("true", "t", "1", "yes")


def _counts(record: Mapping[str, Any], place: str) -> dict[str, float]:
    """Return the devices of each pool, or of the whole under "". Raises `InputError` where they are not stated."""
    if _yes(record.get("disagg")):
        return {pool: _stated(record, f"num_{pool}_gpu", place) for pool in POOLS}
    name = "tp" if record.get("tp") not in (None, "") else "num_decode_gpu"
    return {"": _stated(record, name, place)}


def _stated(record: Mapping[str, Any], key: str, place: str) -> float:
    """Return a number that a run cannot do without."""
    value = number(record, key, place)
    if not value > 0:
        raise InputError(f"{place}: {key} is missing; give the result as InferenceX wrote it")
    return value


def _degrees(record: Mapping[str, Any], counts: Mapping[str, float], place: str) -> dict[str, str]:
    """Return the columns of parallelism. With attention data parallelism each device is a rank of its own."""
    if "decode" not in counts:
        tp, ep = ("tp", "ep") if record.get("tp") not in (None, "") else ("decode_tp", "decode_ep")
        spread = _yes(record.get("dp_attention") or record.get("decode_dp_attention"))
        width, experts = number(record, tp, place), number(record, ep, place)
        ranks = {"tp": "1", "dp_attention": text_of(width)} if spread else {"tp": text_of(width)}
        return {**ranks, "pp": "1", "ep": text_of(experts) if experts > 1 else ""}
    columns: dict[str, str] = {}
    for pool in POOLS:
        width, experts = number(record, f"{pool}_tp", place), number(record, f"{pool}_ep", place)
        spread = _yes(record.get(f"{pool}_dp_attention"))
        columns |= {
            f"{pool}_workers": text_of(number(record, f"{pool}_num_workers", place)),
            f"{pool}_tp": "1" if spread else text_of(width),
            f"{pool}_dp": text_of(width) if spread else "",
            f"{pool}_ep": text_of(experts) if experts > 1 else "",
        }
    return columns


def _is_inferencex(content: Content) -> bool:
    """Return whether a file has the fields of InferenceX."""
    if content.kind == "table":
        return content.has("metrics_tput_per_gpu", "conc")
    run = content.has("hw", "conc", "framework", "precision", "tput_per_gpu")
    return run or content.has("hardware", "conc", "framework", "metrics")


READER = ResultReader(name="InferenceX", recognises=_is_inferencex, read=read_inferencex)
