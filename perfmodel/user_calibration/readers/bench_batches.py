"""Read benchmarks of batches: `vllm bench latency|throughput`, SGLang's bench_one_batch, llama.cpp's batched bench.

None of them has clients: a batch starts together, or all requests wait at the start.

- vLLM's `--output-json` states seconds (`avg_latency`) or rates (`requests_per_second`), not the batch and the lengths,
  which `--column batch=8 --column isl=1024 --column osl=128` add (vllm-project/vllm, vllm/benchmarks/latency.py,
  throughput.py).
- SGLang writes a line per batch (sgl-project/sglang, python/sglang/bench_one_batch.py; bench_one_batch_server.py for
  a batch that is sent to a server), in seconds, and rates of an offline run (bench_offline_throughput.py).
- `llama-batched-bench --output-format jsonl` writes a line per batch of `pl` sequences (ggml-org/llama.cpp,
  tools/batched-bench/README.md), in seconds and tokens per second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hwdb import InputError
from perfmodel.unit_factors import MS_PER_S
from perfmodel.user_calibration.readers.reader import ResultReader, inner, metrics, number, served_requests, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: Keys that tell each kind of result.
LATENCY, THROUGHPUT = ("avg_latency", "latencies"), ("requests_per_second", "elapsed_time", "num_requests")
ONE_BATCH = ("batch_size", "input_len", "output_len", "prefill_latency", "median_decode_latency")
ONE_BATCH_SERVER = ("batch_size", "input_len", "output_len", "latency", "output_throughput")
OFFLINE = ("successful_requests", "total_latency", "total_input_tokens", "total_output_tokens", "request_throughput")
LLAMA = ("n_kv_max", "pp", "tg", "pl", "t_tg")


def _vllm_latency(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read `vllm bench latency`."""
    found = metrics(record, {"e2e_ms": "avg_latency"}, place, unit=MS_PER_S)
    found |= metrics(inner(record, "percentiles", place), {"e2e_ms_p99": "99"}, place, unit=MS_PER_S)
    return MeasuredRun(place, {"engine": "vllm", "mode": "static"}, found)


def _vllm_throughput(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read `vllm bench throughput`; its tokens per second are those of prompts and outputs."""
    found = metrics(record, {"req_s": "requests_per_second", "total_tok_s": "tokens_per_second"}, place)
    count = text_of(number(record, "num_requests", place))
    return MeasuredRun(place, {"engine": "vllm", "mode": "offline", "n_requests": count}, found)


def _one_batch(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read a line of SGLang's bench_one_batch."""
    names = {"ttft_ms": "prefill_latency", "tpot_ms": "median_decode_latency"}
    lengths = {"batch": "batch_size", "isl": "input_len", "osl": "output_len"}
    given = {column: text_of(number(record, key, place)) for column, key in lengths.items()}
    return MeasuredRun(
        place, {"engine": "sglang", "mode": "static", **given}, metrics(record, names, place, unit=MS_PER_S)
    )


def _one_batch_server(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read a line of SGLang's bench_one_batch_server.

    Its rate of outputs counts all of them over the time after the first token, in which the others are made.
    """
    lengths = {"batch": "batch_size", "isl": "input_len", "osl": "output_len"}
    given = {column: text_of(number(record, key, place)) for column, key in lengths.items()}
    found = metrics(record, {"ttft_ms": "last_ttft", "e2e_ms": "latency"}, place, unit=MS_PER_S)
    batch, output, rate = (number(record, key, place) for key in ("batch_size", "output_len", "output_throughput"))
    if batch > 0 and output > 1 and rate > 0:
        found["tpot_ms"] = MS_PER_S * batch / rate * output / (output - 1.0)
    return MeasuredRun(place, {"engine": "sglang", "mode": "static", **given}, found)


def _offline(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read a line of SGLang's bench_offline_throughput."""
    served = served_requests(record, "successful_requests", place)
    rates = {"req_s": "request_throughput", "output_tok_s": "output_throughput", "total_tok_s": "total_throughput"}
    given = {
        "engine": "sglang",
        "mode": "offline",
        "n_requests": text_of(served),
        "isl": text_of(number(record, "total_input_tokens", place) / served),
        "osl": text_of(number(record, "total_output_tokens", place) / served),
    }
    return MeasuredRun(place, given, metrics(record, rates, place))


def _llama(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read a line of llama-batched-bench; the rate of prompts counts for one sequence, which runs alone."""
    if number(record, "is_pp_shared", place) > 0:
        raise InputError(f"{place}: the sequences share one prompt (-pps), which no load of a server does; run without")
    prompt, output, count, seconds = (number(record, key, place) for key in ("pp", "tg", "pl", "t_tg"))
    if not (prompt > 0 and output > 0 and count > 0 and seconds > 0):
        raise InputError(f"{place}: pp, tg, pl and t_tg have to be above 0; give the line as the benchmark wrote it")
    given = {"engine": "llamacpp", "mode": "static", "batch": text_of(count)}
    found = {"tpot_ms": MS_PER_S * seconds / output}
    found |= metrics(record, {"prefill_tok_s": "speed_pp"}, place) if count == 1 else {}
    return MeasuredRun(place, {**given, "isl": text_of(prompt), "osl": text_of(output)}, found)


#: Keys of a record -> what reads it.
KINDS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any], str], MeasuredRun]], ...] = (
    (LATENCY, _vllm_latency),
    (THROUGHPUT, _vllm_throughput),
    (ONE_BATCH, _one_batch),
    (ONE_BATCH_SERVER, _one_batch_server),
    (OFFLINE, _offline),
    (LLAMA, _llama),
)


def read_batches(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per record, all of the kind of the first."""
    read = next(read for keys, read in KINDS if content.has(*keys))
    return [read(record, f"{content.path}, {content.word} {n}") for n, record in content.records()]


READER = ResultReader(
    name="vllm bench latency or throughput, SGLang's bench_one_batch, llama-batched-bench",
    recognises=lambda c: c.kind != "table" and any(c.has(*keys) for keys, _ in KINDS),
    read=read_batches,
)
