"""Results of benchmarks are read by format; what cannot be is refused with its field."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hwdb import InputError
from perfmodel.user_calibration import READERS, read_results

#: A result of `vllm bench serve --save-result` (vLLM 0.10), and one of benchmark_serving.py (vLLM 0.6).
VLLM: dict[str, Any] = {
    "date": "20250801-120000",
    "endpoint_type": "vllm",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 200,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 16,
    "duration": 40.0,
    "completed": 200,
    "total_input_tokens": 200_000,
    "total_output_tokens": 50_000,
    "request_throughput": 5.0,
    "output_throughput": 1250.0,
    "total_token_throughput": 6250.0,
    "mean_ttft_ms": 80.0,
    "median_ttft_ms": 75.0,
    "p99_ttft_ms": 190.0,
    "mean_tpot_ms": 12.0,
    "median_tpot_ms": 11.9,
    "p99_tpot_ms": 13.0,
    "mean_itl_ms": 12.0,
    "median_itl_ms": 11.5,
    "p99_itl_ms": 40.0,
}
OLD_VLLM = {k: v for k, v in VLLM.items() if k not in ("endpoint_type", "burstiness", "total_token_throughput")}
OLD_VLLM |= {"backend": "vllm", "request_rate": 4.0, "max_concurrency": None, "total_throughput": 6250.0}
#: A line of `sglang.bench_serving` (0.4): requests at a rate, seconds of a request stated.
SGLANG: dict[str, Any] = {
    "backend": "sglang",
    "dataset_name": "random",
    "request_rate": 8.0,
    "max_concurrency": None,
    "completed": 100,
    "total_input_tokens": 102_400,
    "total_output_tokens": 25_600,
    "request_throughput": 7.6,
    "output_throughput": 1945.6,
    "mean_e2e_latency_ms": 3000.0,
    "mean_ttft_ms": 90.0,
    "median_ttft_ms": 85.0,
    "p99_ttft_ms": 210.0,
    "mean_tpot_ms": 11.0,
    "median_tpot_ms": 10.8,
    "mean_itl_ms": 11.0,
    "median_itl_ms": 10.1,
    "p99_itl_ms": 35.0,
}


def written(folder: Path, value: Any, name: str = "result.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_a_closed_run_of_vllm(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, VLLM))
    assert run.given["model"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert (run.given["mode"], run.given["concurrency"]) == ("closed", "16")
    assert (run.given["isl"], run.given["osl"], run.given["n_requests"]) == ("1000", "250", "200")
    assert run.measured["ttft_ms_p99"] == 190.0
    assert run.measured["total_tok_s"] == 6250.0
    assert "e2e_ms" not in run.measured


def test_a_sweep_of_vllm_is_a_table_of_its_results(tmp_path: Path) -> None:
    rows = [VLLM, {**VLLM, "max_concurrency": 32}, {**VLLM, "max_concurrency": "", "request_rate": 4.0}]
    lines = [",".join(VLLM), *(",".join(str(value) for value in row.values()) for row in rows)]
    runs = read_results(written(tmp_path, "\n".join(lines), "summary.csv"))
    assert [run.given.get("concurrency", "") for run in runs] == ["16", "32", ""]
    assert runs[0].measured == read_results(written(tmp_path, VLLM))[0].measured
    assert (runs[2].given["mode"], runs[2].given["request_rate_rps"], runs[2].given["cv"]) == ("open", "4", "1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_results_one_behind_the_other_in_any_encoding_of_windows(tmp_path: Path, encoding: str) -> None:
    text = "\r\n".join(json.dumps(result, indent=2) for result in (VLLM, {**VLLM, "max_concurrency": 32}))
    path = tmp_path / "result.json"
    path.write_bytes((("\ufeff" if encoding == "utf-16-be" else "") + text).encode(encoding))
    assert [run.given["concurrency"] for run in read_results(path)] == ["16", "32"]


def test_a_summary_of_llmperf(tmp_path: Path) -> None:
    summary = {
        "model": "Qwen/Qwen3-8B",
        "num_concurrent_requests": 16,
        "results_inter_token_latency_s_mean": 0.0155,
        "results_ttft_s_mean": 0.2,
        "results_ttft_s_quantiles_p99": 0.5,
        "results_end_to_end_latency_s_mean": 4.0,
        "results_number_input_tokens_mean": 1024.0,
        "results_number_output_tokens_mean": 251.0,
        "results_number_errors": 3,
        "results_mean_output_throughput_token_per_s": 1000.0,
        "results_num_completed_requests": 160,
        "results_num_completed_requests_per_min": 240.0,
    }
    (run,) = read_results(written(tmp_path, summary))
    assert (run.given["mode"], run.given["concurrency"], run.given["isl"]) == ("closed", "16", "1024")
    told = {"ttft_ms": 200.0, "ttft_ms_p99": 500.0, "e2e_ms": 4000.0, "output_tok_s": 1000.0, "req_s": 4.0}
    # the gap between tokens that LLMPerf prints has the first token among its gaps; (4.0 - 0.2) s are 250 gaps
    assert run.measured == pytest.approx(told | {"tpot_ms": 15.2})
    assert run.remarks == ("3 requests failed and are left out",)


def test_a_report_of_the_inference_benchmarker_of_hugging_face(tmp_path: Path) -> None:
    times = {"p50": 20.0, "p90": 25.0, "p99": 30.0, "avg": 21.0}
    result = {
        "id": "throughput",
        "executor_type": "ConstantVUs",
        "config": {"max_vus": 128, "duration": 120, "rate": None},
        "successful_requests": 1000,
        "failed_requests": 2,
        "total_tokens": 200_000,
        "total_tokens_sent": 500_000,
        "token_throughput_secs": 1666.0,
        "request_rate": 8.33,
        "time_to_first_token_ms": times,
        "inter_token_latency_ms": times,
        "e2e_latency_ms": times,
    }
    at_rate = {**result, "executor_type": "ConstantArrivalRate", "config": {"max_vus": 128, "rate": 4.0}}
    report = {
        "config": {"benchmark_kind": "Sweep", "model_name": "Qwen/Qwen3-8B"},
        "results": [{**result, "id": "warmup"}, result, at_rate],
    }
    closed, opened = read_results(written(tmp_path, report))
    assert (closed.given["mode"], closed.given["concurrency"]) == ("closed", "128")
    assert (opened.given["mode"], opened.given["request_rate_rps"]) == ("open", "4")
    assert (closed.given["isl"], closed.given["osl"], closed.given["model"]) == ("500", "200", "Qwen/Qwen3-8B")
    assert closed.measured["ttft_ms"] == closed.measured["tpot_ms"] == 21.0
    assert closed.measured["ttft_ms_p99"] == 30.0
    assert closed.remarks == ("2 requests failed and are left out",)
    for bad in ({**report, "results": 5}, {**report, "results": [{**result, "successful_requests": 0}]}):
        with pytest.raises(InputError, match=r"results is no list|no request was served"):
            read_results(written(tmp_path, bad))


def test_an_open_run_of_older_vllm(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, OLD_VLLM))
    assert (run.given["engine"], run.given["mode"], run.given["request_rate_rps"]) == ("vllm", "open", "4")
    assert run.measured["total_tok_s"] == 6250.0


def test_runs_of_sglang_one_per_line(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({**SGLANG, "request_rate": rate}) for rate in (2.0, 8.0))
    first, second = read_results(written(tmp_path, lines, "result.jsonl"))
    assert (first.given["request_rate_rps"], second.given["request_rate_rps"]) == ("2", "8")
    assert first.given["engine"] == "sglang"
    assert first.measured["e2e_ms"] == 3000.0
    assert second.place.endswith("line 2")


def test_the_server_of_sglang_says_its_model_and_tp(tmp_path: Path) -> None:
    server = {"model_path": "Qwen/Qwen3-32B", "tp_size": 2}
    (run,) = read_results(written(tmp_path, {**SGLANG, "model_id": None, "server_info": server}))
    assert (run.given["model"], run.given["tp"]) == ("Qwen/Qwen3-32B", "2")


@pytest.mark.parametrize(
    ("server", "columns"),
    [
        ({"tp_size": 8, "pp_size": 2}, {"tp": "8", "pp": "2"}),
        (
            {"tp_size": 8, "dp_size": 8, "enable_dp_attention": True, "ep_size": 8},
            {"tp": "1", "dp_attention": "8", "ep": "8"},
        ),
        ({"tp_size": 2, "dp_size": 4}, {"tp": "2", "n_devices": "8"}),
    ],
)
def test_the_server_of_sglang_says_its_parallelism(
    tmp_path: Path, server: dict[str, object], columns: dict[str, str]
) -> None:
    (run,) = read_results(written(tmp_path, {**SGLANG, "server_info": server}))
    degrees = ("tp", "pp", "ep", "dp_attention", "n_devices")
    assert {name: run.given[name] for name in degrees if name in run.given} == columns


def test_copies_of_attention_that_do_not_share_the_devices_are_refused(tmp_path: Path) -> None:
    server = {"tp_size": 8, "dp_size": 3, "enable_dp_attention": True}
    with pytest.raises(InputError, match="dp_size 3 does not divide tp_size 8"):
        read_results(written(tmp_path, {**SGLANG, "server_info": server}))


def test_a_rate_whose_cap_is_reached_is_a_closed_loop(tmp_path: Path) -> None:
    """8 requests/s of 3 s each are 24 in flight: a cap of 20 rules, one of 40 does not."""
    capped, free = (read_results(written(tmp_path, {**SGLANG, "max_concurrency": cap}))[0] for cap in (20, 40))
    assert (capped.given["mode"], capped.given["concurrency"]) == ("closed", "20")
    assert "cap" in capped.remarks[0]
    assert free.given["mode"] == "open"


def test_failed_requests_are_counted(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, {**VLLM, "num_prompts": 210}))
    assert run.remarks == ("10 of 210 requests failed and are left out",)


def test_a_table_as_predict_reads_it(tmp_path: Path) -> None:
    text = "model,device,tp,concurrency,isl,osl,tpot_ms,note\nq,h100-sxm,2,8,100,50,7.5,mine\n"
    (run,) = read_results(written(tmp_path, text, "runs.csv"))
    assert dict(run.measured) == {"tpot_ms": 7.5}
    assert run.given["concurrency"] == "8"
    assert "note" not in run.given


#: AIPerf 0.10 (schema 1.3), and GenAI-Perf 0.0.8.
AIPERF: dict[str, Any] = {
    "schema_version": "1.3",
    "request_throughput": {"unit": "requests/sec", "avg": 5.0},
    "request_latency": {"unit": "ms", "avg": 3068.0, "p99": 3400.0},
    "request_count": {"unit": "requests", "avg": 200.0},
    "time_to_first_token": {"unit": "ms", "avg": 80.0, "p50": 75.0, "p90": 120.0, "p99": 190.0},
    "inter_token_latency": {"unit": "ms", "avg": 12.0, "p50": 11.9, "p99": 13.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 1250.0},
    "output_sequence_length": {"unit": "tokens", "avg": 250.0},
    "input_sequence_length": {"unit": "tokens", "avg": 1000.0},
    "input_config": {"endpoint": {"model_names": ["q"]}, "loadgen": {"concurrency": 16}},
}
GENAI = {k: v for k, v in AIPERF.items() if k != "schema_version"}
GENAI |= {"input_config": {"model": ["q"], "perf_analyzer": {"stimulus": {"concurrency": 16}}}}


@pytest.mark.parametrize("result", [AIPERF, GENAI])
def test_results_of_aiperf_and_its_forerunner(tmp_path: Path, result: dict[str, Any]) -> None:
    (run,) = read_results(written(tmp_path, result))
    assert run.given["model"] == "q"
    assert (run.given["mode"], run.given["concurrency"], run.given["isl"]) == ("closed", "16", "1000")
    assert run.measured["tpot_ms"] == 12.0
    assert run.measured["e2e_ms_p99"] == 3400.0


def test_units_of_aiperf_count(tmp_path: Path) -> None:
    seconds = {**AIPERF, "time_to_first_token": {"unit": "s", "avg": 0.08}}
    assert read_results(written(tmp_path, seconds))[0].measured["ttft_ms"] == pytest.approx(80.0)
    with pytest.raises(InputError, match="fortnight"):
        read_results(written(tmp_path, {**AIPERF, "time_to_first_token": {"unit": "fortnight", "avg": 1}}))


def guidellm(strategy: dict[str, Any], holder: str) -> dict[str, Any]:
    """A report of guidellm: `args` held the strategy until 0.3, `config` does since."""

    def figure(mean: float) -> dict[str, Any]:
        return {"successful": {"mean": mean, "percentiles": {"p50": mean, "p90": 1.5 * mean, "p99": 2 * mean}}}

    figures = {
        "time_to_first_token_ms": figure(80.0),
        "inter_token_latency_ms": figure(12.0),
        "request_latency": figure(3.068),
        "requests_per_second": figure(5.0),
        "output_tokens_per_second": figure(1250.0),
        "prompt_token_count": figure(1000.0),
        "output_token_count": figure(250.0),
    }
    return {"args": {"model": "q"}, "benchmarks": [{holder: {"strategy": strategy}, "metrics": figures}]}


@pytest.mark.parametrize("holder", ["args", "config"])
def test_reports_of_guidellm(tmp_path: Path, holder: str) -> None:
    (closed,) = read_results(written(tmp_path, guidellm({"type_": "concurrent", "streams": 16}, holder)))
    assert (closed.given["model"], closed.given["concurrency"]) == ("q", "16")
    assert closed.measured["e2e_ms"] == pytest.approx(3068.0)
    assert closed.measured["ttft_ms_p90"] == 120.0
    (steady,) = read_results(written(tmp_path, guidellm({"type_": "constant", "rate": 5.0}, holder)))
    assert (steady.given["mode"], steady.given["request_rate_rps"], steady.given["cv"]) == ("open", "5", "0")


@pytest.mark.parametrize("names", [("prompt_len", "output_len"), ("prompt_tokens", "output_tokens")])
def test_reports_of_inference_perf(tmp_path: Path, names: tuple[str, str]) -> None:
    figure = {"mean": 0.012, "median": 0.0119, "p90": 0.0125, "p99": 0.013}
    result = {
        "load_summary": {"count": 200, "requested_rate": 5.0},
        "successes": {
            "count": 200,
            "latency": {"time_per_output_token": figure, "time_to_first_token": {**figure, "mean": 0.08}},
            "throughput": {"requests_per_sec": 4.9, "output_tokens_per_sec": 1225.0},
            names[0]: {"mean": 1000.0},
            names[1]: {"mean": 250.0},
        },
        "failures": {"count": 2},
    }
    (run,) = read_results(written(tmp_path, result))
    assert (run.given["isl"], run.given["osl"], run.given["request_rate_rps"]) == ("1000", "250", "5")
    assert run.measured["tpot_ms"] == pytest.approx(12.0)
    assert run.measured["ttft_ms"] == pytest.approx(80.0)
    assert "2 requests failed" in run.remarks[0]


def test_tests_of_llama_bench_as_json_and_csv(tmp_path: Path) -> None:
    tests = [
        {"model_filename": "m.gguf", "n_prompt": 512, "n_gen": 0, "n_depth": 4096, "avg_ts": 3000.0},
        {"model_filename": "m.gguf", "n_prompt": 0, "n_gen": 128, "n_depth": 0, "avg_ts": 90.0},
    ]
    prefill, decode = read_results(written(tmp_path, tests))
    assert (prefill.given["isl"], prefill.given["osl"]) == ("4608", "1")
    assert float(prefill.given["prefix_hit"]) == pytest.approx(4096 / 4608)
    assert dict(decode.measured) == {"decode_tok_s": 90.0}
    lines = ["model_filename,n_prompt,n_gen,avg_ts", "m.gguf,512,0,3000", "m.gguf,0,128,90"]
    former = read_results(written(tmp_path, "\n".join(lines) + "\n", "old.csv"))
    assert [dict(run.measured) for run in former] == [{"prefill_tok_s": 3000.0}, {"decode_tok_s": 90.0}]
    with pytest.raises(InputError, match="mixes two rates"):
        read_results(written(tmp_path, [{**tests[0], "n_gen": 64}]))


@pytest.mark.parametrize(("size", "read"), [("12.83 GiB", ""), ("38.95 GiB", "fp16")])
def test_the_format_of_a_llama_bench_table_is_held_to_the_size_of_the_file(
    size: str, read: str, tmp_path: Path
) -> None:
    lines = ["| model | size | params | test | t/s |", "| --- | --- | --- | --- | --- |"]
    lines.append(f"| gpt-oss 20B F16 | {size} | 20.91 B | tg128 | 250.0 ± 1.0 |")
    (run,) = read_results(written(tmp_path, "\n".join(lines) + "\n", "table.md"))
    assert run.given["weight_dtype"] == read


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({**VLLM, "mean_ttft_ms": "fast"}, "mean_ttft_ms is 'fast'"),
        ({**VLLM, "mean_tpot_ms": -3}, "mean_tpot_ms is '-3'"),
        ({**VLLM, "completed": 0}, "no request was served"),
        ({k: v for k, v in VLLM.items() if k != "completed"}, "completed is missing"),
        ({"hello": 1}, "no known benchmark"),
        (json.dumps(VLLM)[:300], r"line 1, column \d+: not JSON"),
        ("", "empty"),
        ("model,device,tpot_ms\nq,h100-sxm,\n", "nothing is measured"),
        ("model,device,tpot_ms\nq,h100-sxm\n", "cells"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_field(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_results(written(tmp_path, value))


def test_each_format_has_a_name_of_its_own() -> None:
    assert len({reader.name for reader in READERS}) == len(READERS)


#: What vLLM (0.11) prints, and SGLang.
PRINTED = """$ vllm bench serve --model meta-llama/Llama-3.1-8B-Instruct --max-concurrency 16
============ Serving Benchmark Result ============
Successful requests:                     198
Failed requests:                         2
Maximum request concurrency:             16
Benchmark duration (s):                  40.00
Total input tokens:                      198000
Total generated tokens:                  49500
Request throughput (req/s):              4.95
Output token throughput (tok/s):         1237.50
Peak output token throughput (tok/s):    1400.00
Total Token throughput (tok/s):          6187.50
---------------Time to First Token----------------
Mean TTFT (ms):                          80.00
Median TTFT (ms):                        75.00
P99 TTFT (ms):                           190.00
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          12.00
P90 TPOT (ms):                           12.50
==================================================
"""
PRINTED_BY_SGLANG = """============ Serving Benchmark Result ============
Backend:                                 sglang-oai
Traffic request rate:                    8.0
Max request concurrency:                 not set
Successful requests:                     100
Benchmark duration (s):                  13.10
Total input tokens:                      102400
Total generated tokens:                  25600
Request throughput (req/s):              7.63
Output token throughput (tok/s):         1954.20
----------------End-to-End Latency----------------
Mean E2E Latency (ms):                   3000.00
Mean TTFT (ms):                          90.00
Mean ITL (ms):                           11.00
P99 ITL (ms):                            35.00
==================================================
"""


def test_what_a_benchmark_prints_is_read_as_its_json(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, PRINTED, "log.txt"))
    assert run.given["model"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert (run.given["mode"], run.given["concurrency"], run.given["isl"], run.given["osl"]) == (
        "closed",
        "16",
        "1000",
        "250",
    )
    assert (run.measured["ttft_ms_p99"], run.measured["tpot_ms_p90"], run.measured["total_tok_s"]) == (
        190,
        12.5,
        6187.5,
    )
    assert "2 of 200 requests failed" in run.remarks[0]
    (run,) = read_results(written(tmp_path, PRINTED_BY_SGLANG, "log.txt"))
    assert (run.given["engine"], run.given["mode"], run.given["request_rate_rps"]) == ("sglang", "open", "8")
    assert (run.measured["e2e_ms"], run.measured["itl_ms_p99"]) == (3000.0, 35.0)


def test_several_printed_blocks_are_several_runs_each_with_its_load(tmp_path: Path) -> None:
    plain = "\n".join(line for line in PRINTED.splitlines() if "Failed" not in line and "Maximum" not in line)
    log = f"Maximum request concurrency: 4\n{plain}\nMaximum request concurrency: 8\n{plain}\n"
    first, second = read_results(written(tmp_path, log, "log.txt"))
    assert (first.given["concurrency"], second.given["concurrency"]) == ("4", "8")
    assert second.place != first.place
    with pytest.raises(InputError, match="the load is not printed; put 'Traffic request rate: inf'"):
        read_results(written(tmp_path, plain, "log.txt"))


def test_reports_of_trtllm_bench(tmp_path: Path) -> None:
    report: dict[str, Any] = {
        "engine": {"model": "meta-llama/Llama-3.1-8B", "quantization": "FP8", "kv_cache_dtype": "FP8"},
        "world_info": {"tp_size": 2, "pp_size": 1, "world_size": 2},
        "request_info": {
            "num_requests": 1000,
            "avg_num_concurrent_requests": 31.7,
            "avg_input_length": 1024.0,
            "avg_output_length": 256.0,
        },
        "performance": {"request_throughput_req_s": 9.0, "system_output_throughput_tok_s": 2304.0},
        "streaming_metrics": {"avg_ttft_ms": 60.0, "avg_tpot_ms": 13.0},
    }
    (run,) = read_results(written(tmp_path, report))
    told = {k: run.given[k] for k in ("engine", "weight_dtype", "kv_dtype", "tp", "mode", "concurrency")}
    assert told == {
        "engine": "trtllm",
        "weight_dtype": "fp8",
        "kv_dtype": "fp8",
        "tp": "2",
        "mode": "closed",
        "concurrency": "32",
    }
    assert run.measured == {"req_s": 9.0, "output_tok_s": 2304.0, "ttft_ms": 60.0, "tpot_ms": 13.0}
    report["request_info"]["avg_num_concurrent_requests"] = 600.0
    assert read_results(written(tmp_path, report))[0].given["mode"] == "offline"


@pytest.mark.parametrize(
    ("record", "given", "measured"),
    [
        (
            {"avg_latency": 2.5, "latencies": [2.5], "percentiles": {"50": 2.5, "99": 2.6}},
            {"mode": "static", "engine": "vllm"},
            {"e2e_ms": 2500.0, "e2e_ms_p99": 2600.0},
        ),
        (
            {"elapsed_time": 60.0, "num_requests": 900, "requests_per_second": 15.0, "tokens_per_second": 19200.0},
            {"mode": "offline", "n_requests": "900"},
            {"req_s": 15.0, "total_tok_s": 19200.0},
        ),
        (
            {
                "batch_size": 16,
                "input_len": 1024,
                "output_len": 16,
                "prefill_latency": 0.5,
                "median_decode_latency": 0.02,
            },
            {"mode": "static", "engine": "sglang", "batch": "16", "isl": "1024", "osl": "16"},
            {"ttft_ms": 500.0, "tpot_ms": 20.0},
        ),
        (
            {"n_kv_max": 2048, "pp": 128, "tg": 64, "pl": 4, "t_pp": 0.2, "speed_pp": 2560.0, "t_tg": 1.6},
            {"mode": "static", "engine": "llamacpp", "batch": "4", "isl": "128", "osl": "64"},
            {"tpot_ms": 25.0},
        ),
        (
            # of sglang.bench_one_batch_server; a public run of 33 sequences (R1, 8 devices)
            {
                "run_name": "default",
                "batch_size": 33,
                "input_len": 8192,
                "output_len": 65536,
                "latency": 3998.5722,
                "output_throughput": 551.92,
                "last_ttft": 80.1232,
            },
            {"mode": "static", "engine": "sglang", "batch": "33", "isl": "8192", "osl": "65536"},
            {"ttft_ms": 80123.2, "e2e_ms": 3998572.2, "tpot_ms": (3998.5722 - 80.1232) / 65535 * 1e3},
        ),
        (
            # the same of the tool's own 16 tokens: 4 sequences, 15 tokens each in 0.15 s
            {
                "batch_size": 4,
                "input_len": 1024,
                "output_len": 16,
                "latency": 0.25,
                "output_throughput": 4 * 16 / 0.15,
                "last_ttft": 0.1,
            },
            {"mode": "static", "engine": "sglang", "batch": "4", "isl": "1024", "osl": "16"},
            {"ttft_ms": 100.0, "e2e_ms": 250.0, "tpot_ms": 10.0},
        ),
        (
            # of sglang.bench_offline_throughput
            {
                "successful_requests": 100,
                "total_latency": 20.0,
                "total_input_tokens": 102_400,
                "total_output_tokens": 25_600,
                "request_throughput": 5.0,
                "output_throughput": 1280.0,
                "total_throughput": 6400.0,
            },
            {"mode": "offline", "engine": "sglang", "n_requests": "100", "isl": "1024", "osl": "256"},
            {"req_s": 5.0, "output_tok_s": 1280.0, "total_tok_s": 6400.0},
        ),
    ],
)
def test_benchmarks_of_batches(
    tmp_path: Path, record: dict[str, Any], given: dict[str, str], measured: dict[str, float]
) -> None:
    (run,) = read_results(written(tmp_path, record))
    assert {key: run.given[key] for key in given} == given
    assert run.measured == pytest.approx(measured, rel=1e-4)


def test_sequences_with_one_prompt_in_common_are_refused(tmp_path: Path) -> None:
    line = {"n_kv_max": 2048, "is_pp_shared": 1, "pp": 128, "tg": 64, "pl": 4, "t_tg": 1.6}
    with pytest.raises(InputError, match="the sequences share one prompt"):
        read_results(written(tmp_path, line))


@pytest.mark.parametrize(
    "text",
    [
        "total duration: 4.2s\nprompt eval count: 512 token(s)\nprompt eval duration: 130ms\n"
        "prompt eval rate: 3938.46 tokens/s\neval count: 298 token(s)\neval duration: 4s\neval rate: 74.50 tokens/s\n",
        "prompt eval time = 130.00 ms / 512 tokens ( 0.25 ms per token, 3938.46 tokens per second)\n"
        "       eval time = 4000.00 ms / 298 tokens ( 13.42 ms per token, 74.50 tokens per second)\n",
    ],
)
def test_timings_of_one_request_are_a_prompt_and_a_stream(tmp_path: Path, text: str) -> None:
    prompt, stream = read_results(written(tmp_path, text, "log.txt"))
    assert (prompt.given["isl"], prompt.given["osl"], prompt.measured) == ("512", "1", {"prefill_tok_s": 3938.46})
    assert (stream.given["isl"], stream.given["osl"], stream.measured) == ("512", "298", {"decode_tok_s": 74.5})
    (alone,) = read_results(written(tmp_path, text.replace("512", "20"), "log.txt"))
    assert "decode_tok_s" in alone.measured  # 20 tokens are too few for a rate


@pytest.mark.parametrize("noise", ["=" * 60 + "\n", "\n"])
def test_logs_of_many_lines_without_a_word_are_read_at_once(tmp_path: Path, noise: str) -> None:
    """Patterns that ran over lines took a minute for 4,000 of them; a thousandth of it is enough."""
    begin = time.process_time()
    (run,) = read_results(written(tmp_path, PRINTED + noise * 6000, "log.txt"))
    (after,) = read_results(written(tmp_path, "bench\n" + noise * 6000 + PRINTED, "log.txt"))
    assert time.process_time() - begin < 5.0
    assert run.measured == after.measured == read_results(written(tmp_path, PRINTED, "log.txt"))[0].measured


def test_many_requests_that_end_early_are_searched_once(tmp_path: Path) -> None:
    """Blocks without their last line are no requests, and do not make a long log take minutes."""
    cut = "prompt eval count: 26 token(s)\nprompt eval rate: 204.81 tokens/s\neval count: 10 token(s)\n"
    whole = cut.replace("26", "512") + "eval rate: 74.50 tokens/s\n"
    begin = time.process_time()
    runs = read_results(written(tmp_path, cut * 1000 + "-" * 300 + "\n" + whole, "log.txt"))
    assert time.process_time() - begin < 5.0
    assert [run.given["isl"] for run in runs] == ["512", "512"]
