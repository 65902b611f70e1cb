"""Results of InferenceX, MLPerf, AIConfigurator, Prometheus, and logs of watts are read, each in two versions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwdb import InputError
from perfmodel.user_calibration import MeasuredRun, read_power_log, read_results, with_watts


def written(folder: Path, value: Any, name: str = "result.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


#: InferenceX: the first version (October 2025) states no lengths; then came lengths and pools; and the database.
FIRST: dict[str, Any] = {
    "hw": "h200",
    "tp": 8,
    "ep": 1,
    "dp_attention": "false",
    "conc": 64,
    "model": "openai/gpt-oss-120b",
    "framework": "vllm",
    "precision": "fp4",
    "tput_per_gpu": 1000.0,
    "output_tput_per_gpu": 500.0,
    "mean_ttft": 0.15,
    "median_tpot": 0.012,
    "median_intvty": 83.3,
    "p99_tpot": 0.018,
    "mean_e2el": 12.0,
}
LATER = {**FIRST, "isl": 1024, "osl": 1024, "spec_decoding": "mtp", "is_multinode": False, "dp_attention": "true"}
LATER |= {"framework": "trt", "hw": "b200-nv", "image": "x", "disagg": False, "avg_power_w": 700.0}
POOLED = {k: v for k, v in LATER.items() if k not in ("tp", "ep", "dp_attention")} | {
    "framework": "dynamo-sglang",
    "disagg": True,
    "is_multinode": True,
    "joules_per_output_token": 3.0,
    **{f"{p}_{k}": v for p in ("prefill", "decode") for k, v in (("ep", 4), ("dp_attention", "false"))},
    "prefill_tp": 4,
    "decode_tp": 8,
    "prefill_num_workers": 2,
    "decode_num_workers": 1,
    "num_prefill_gpu": 8,
    "num_decode_gpu": 8,
}
DATABASE = {
    "hardware": "mi355x",
    "framework": "sglang",
    "model": "dsr1",
    "precision": "fp8",
    "spec_method": "none",
    "disagg": False,
    "prefill_tp": 8,
    "decode_tp": 8,
    "decode_ep": 8,
    "decode_dp_attention": False,
    "num_prefill_gpu": 8,
    "num_decode_gpu": 8,
    "benchmark_type": "single_turn",
    "isl": 8192,
    "osl": 1024,
    "conc": 64,
    "metrics": {"tput_per_gpu": 450.5, "output_tput_per_gpu": 50.0, "median_ttft": 0.15, "p99_tpot": 0.018},
}


def test_first_results_of_inferencex(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, FIRST))
    assert dict(run.given) | {"tp": "8", "n_devices": "8", "concurrency": "64", "mode": "closed"} == dict(run.given)
    assert (run.given["isl"], run.given["device"], run.given["spec_decode"]) == ("", "h200", "")
    assert run.measured["total_tok_s"] == pytest.approx(8000.0)
    assert run.measured["ttft_ms"] == pytest.approx(150.0)
    assert run.measured["tpot_ms_p50"] == pytest.approx(12.0)


def test_later_results_of_inferencex_state_lengths_drafts_and_watts(tmp_path: Path) -> None:
    first, pools = read_results(written(tmp_path, [LATER, POOLED]))
    assert (first.given["isl"], first.given["isl_dist"], first.given["spec_decode"]) == (
        "921.6",
        "uniform:0.8-1.0",
        "mtp",
    )
    assert (first.given["tp"], first.given["dp_attention"], first.given["engine"]) == ("1", "8", "trtllm")
    assert (first.given["device"], first.measured["power_w_per_device"]) == ("b200", 700.0)
    assert "nominal" in first.remarks[0]
    assert (pools.given["prefill_workers"], pools.given["decode_tp"], pools.given["n_devices"]) == ("2", "8", "16")
    assert pools.given["engine"] == "sglang"
    assert pools.measured["output_tok_s"] == pytest.approx(500.0 * 8)
    assert pools.measured["total_tok_s"] == pytest.approx(1000.0 * 16)
    assert "energy_j_per_output_token" not in pools.measured


def test_rows_of_the_database_of_inferencex(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, [DATABASE]))
    assert (run.given["model"], run.given["device"], run.given["ep"]) == ("deepseek-ai/DeepSeek-R1-0528", "mi355x", "8")
    assert run.measured["total_tok_s"] == pytest.approx(450.5 * 8)
    names = ",".join(["isl", "osl", "conc", "config_model", "config_hardware", "config_framework", "config_precision"])
    names += ",config_decode_tp,config_num_decode_gpu,metrics_tput_per_gpu,metrics_median_tpot"
    table = f"{names}\n1024,1024,16,gptoss120b,h100,vllm,fp4,2,2,900,0.01\n"
    (row,) = read_results(written(tmp_path, table, "db.csv"))
    assert (row.given["model"], row.given["tp"], row.given["device"]) == ("openai/gpt-oss-120b", "2", "h100")
    assert row.measured["tpot_ms_p50"] == pytest.approx(10.0)


#: MLPerf: a Server run of round 4.1 (closed/AMD/8xMI300X), an Offline run whose tokens are inferred, a detail log.
RULE = "================================================"
SERVER = f"""{RULE}
MLPerf Results Summary
{RULE}
SUT name : PySUT
Scenario : Server
Mode     : PerformanceOnly
Completed samples per second    : 71.74
Completed tokens per second: 21028.23
Result is : VALID
  Performance constraints satisfied : Yes

{RULE}
Additional Stats
{RULE}
Scheduled samples per second : 73.66
Mean latency (ns)               : 42835428215
99.00 percentile latency (ns)   : 139059448725

Completed tokens per second                 : 21028.23
Mean First Token latency (ns)               : 1006329670
50.00 percentile first token latency (ns)   : 990199455
99.00 percentile first token latency (ns)   : 1604171041

Mean Time to Output Token (ns)               : 143097185
99.00 percentile time to output token (ns)   : 197873909

{RULE}
Test Parameters Used
{RULE}
samples_per_query : 1
target_qps : 73.5
"""
OFFLINE = f"""{RULE}
MLPerf Results Summary
{RULE}
SUT name : GPT-J SUT
Scenario : Offline
Mode     : PerformanceOnly
Samples per second: 12.1491
Tokens per second (inferred): 838.288
Result is : INVALID
Mean latency (ns)               : 900073095219
samples_per_query : 13368
"""
ENTRIES: dict[str, Any] = {
    "effective_scenario": "Server",
    "effective_test_mode": "PerformanceOnly",
    "effective_target_qps": 104,
    "result_validity": "VALID",
    "result_completed_samples_per_sec": 100.0,
    "result_completed_tokens_per_second": 29522.56,
    "result_first_token_99.00_percentile_latency_ns": 1760966679,
    "result_time_to_output_token_mean": 126269215,
    "result_time_per_output_token_99.00_percentile_ns": 164964162,
}


def detail(entries: dict[str, Any]) -> str:
    lines = [f":::MLLOG {json.dumps({'key': k, 'value': v, 'time_ms': 1.0})}" for k, v in entries.items()]
    return "\n".join(lines) + "\n"


def test_summaries_of_mlperf(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, SERVER, "mlperf_log_summary.txt"))
    assert (run.given["mode"], run.given["request_rate_rps"]) == ("open", "73.66")
    assert float(run.given["osl"]) == pytest.approx(293.1, abs=0.1)
    assert run.measured["ttft_ms"] == pytest.approx(1006.329670)
    assert run.measured["ttft_ms_p99"] == pytest.approx(1604.171041)
    assert run.measured["tpot_ms_p99"] == pytest.approx(197.873909)
    assert run.measured["e2e_ms"] == pytest.approx(42835.428215)
    (offline,) = read_results(written(tmp_path, OFFLINE, "summary.txt"))
    assert (offline.given["mode"], offline.given["n_requests"]) == ("offline", "13368")
    assert dict(offline.measured) == {"req_s": 12.1491, "output_tok_s": 838.288}
    assert "INVALID" in offline.remarks[0]


def test_a_detailed_log_of_mlperf(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, detail(ENTRIES), "mlperf_log_detail.txt"))
    assert run.given["request_rate_rps"] == "104"
    assert run.measured["tpot_ms"] == pytest.approx(126.269215)
    assert run.measured["output_tok_s"] == 29522.56


#: AIConfigurator: columns of colocated and disaggregated rows (0.4, with power_w), and of an early version.
COLOCATED = {
    "model": "QWEN3_32B",
    "isl": 4000,
    "osl": 500,
    "prefix": 400,
    "concurrency": 64,
    "request_rate": 3.1,
    "bs": 16,
    "ttft": 300.0,
    "tpot": 20.0,
    "request_latency": 10280.0,
    "seq/s": 6.2,
    "tokens/s": 3100.0,
    "tokens/s/gpu": 387.5,
    "num_total_gpus": 8,
    "tp": 4,
    "pp": 1,
    "dp": 2,
    "moe_tp": 1,
    "moe_ep": 4,
    "gemm": "fp8_block",
    "kvcache": "fp8",
    "backend": "trtllm",
    "version": "1.0.0rc3",
    "system": "h200_sxm",
    "power_w": 500.0,
}
EARLY = {k: v for k, v in COLOCATED.items() if k not in ("power_w", "num_total_gpus", "prefix", "request_rate")}
SHARED = {k: v for k, v in COLOCATED.items() if k in ("model", "isl", "osl", "concurrency", "ttft", "tpot")}
APART = {**SHARED, "request_latency": 10280.0, "seq/s": 6.2, "tokens/s": 3100.0, "tokens/s/gpu": 387.5} | {
    f"({p}){k}": v
    for p, workers, tp in (("p", 4, 1), ("d", 1, 4))
    for k, v in {
        "workers": workers,
        "tp": tp,
        "pp": 1,
        "dp": 1,
        "moe_ep": 1,
        "gemm": "bfloat16",
        "kvcache": "bfloat16",
        "backend": "sglang",
        "version": "0.5.5",
        "system": "h100_sxm",
    }.items()
}


def rows_of(*rows: dict[str, Any]) -> str:
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n"


@pytest.mark.parametrize(("row", "prefix"), [(COLOCATED, "0.1"), (EARLY, "")])
def test_rows_of_aiconfigurator(tmp_path: Path, row: dict[str, Any], prefix: str) -> None:
    (run,) = read_results(written(tmp_path, rows_of(row), "best_config_topn.csv"))
    assert (run.given["tp"], run.given["dp_attention"], run.given["ep"], run.given["n_devices"]) == ("4", "2", "4", "8")
    assert (run.given["weight_dtype"], run.given["prefix_hit"], run.given["concurrency"]) == ("fp8", prefix, "64")
    assert run.measured["output_tok_s"] == 3100.0
    assert "not measurements" in run.remarks[0]


def test_disaggregated_rows_of_aiconfigurator(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, rows_of(APART), "pareto.csv"))
    assert (run.given["prefill_workers"], run.given["decode_tp"], run.given["n_devices"]) == ("4", "4", "8")
    assert (run.given["engine"], run.given["device"], run.given["kv_dtype"]) == ("sglang", "h100_sxm", "bf16")


START = 1_700_000_000


def series(called: str, values: list[float], **labels: str) -> dict[str, Any]:
    points = [[START + 15 * n, f"{v:g}"] for n, v in enumerate(values)]
    return {"metric": {"__name__": called, **labels}, "values": points}


def histogram(called: str, mean: float, counts: list[float], bounds: dict[str, float], **labels: str) -> list[Any]:
    """A histogram that grows with `counts`; bounds: le -> share of observations at most that."""
    buckets = [series(f"{called}_bucket", [s * c for c in counts], le=le, **labels) for le, s in bounds.items()]
    sums = series(f"{called}_sum", [mean * c for c in counts], **labels)
    return [*buckets, sums, series(f"{called}_count", counts, **labels)]


def answer(listed: list[Any]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": listed}}


def vllm_export(tpot: str, in_flight: list[float]) -> dict[str, Any]:
    """120 requests in 60 s of 1000 + 250 tokens; the server restarts after 30 s, so that its counters begin again."""
    counts, label = [0.0, 30.0, 60.0, 30.0, 60.0, 60.0], {"model_name": "q"}
    narrow = {"0.01": 0.0, "0.012": 1.0, "+Inf": 1.0}
    return answer(
        [
            *histogram("vllm:e2e_request_latency_seconds", 3.0, counts, {"2.5": 0.5, "5.0": 1.0, "+Inf": 1.0}, **label),
            *histogram("vllm:time_to_first_token_seconds", 0.08, counts, {"0.06": 0.2, "+Inf": 1.0}, **label),
            *histogram(f"vllm:{tpot}", 0.0115, counts, narrow, **label),
            series("vllm:prompt_tokens_total", [1000 * c for c in counts], **label),
            series("vllm:generation_tokens_total", [250 * c for c in counts], **label),
            series("vllm:num_requests_running", in_flight, **label),
            series("vllm:prefix_cache_queries_total", [1000 * c for c in counts], **label),
            series("vllm:prefix_cache_hits_total", [100 * c for c in counts], **label),
            series("DCGM_FI_DEV_POWER_USAGE", [100, 500, 500, 500, 500, 100], gpu="0", modelName="NVIDIA H100"),
        ]
    )


@pytest.mark.parametrize("tpot", ["time_per_output_token_seconds", "request_time_per_output_token_seconds"])
def test_an_export_of_vllm_by_prometheus(tmp_path: Path, tpot: str) -> None:
    """Windows, restarts and histograms by hand: 120 requests, 30,000 tokens in 60 s, percentiles of narrow buckets."""
    (run,) = read_results(written(tmp_path, vllm_export(tpot, [0, 6, 6, 6, 6, 0])))
    assert (run.given["mode"], run.given["concurrency"], run.given["isl"], run.given["osl"]) == (
        "closed",
        "6",
        "1000",
        "250",
    )
    assert run.given["prefix_hit"] == "0.1"
    assert run.measured["req_s"] == pytest.approx(2.0)
    assert run.measured["output_tok_s"] == pytest.approx(500.0)
    assert run.measured["ttft_ms"] == pytest.approx(80.0)
    assert "ttft_ms_p50" not in run.measured
    assert run.measured["tpot_ms_p50"] == pytest.approx(11.0)
    assert run.measured["power_w_per_device"] == pytest.approx((100 + 4 * 500) / 5)
    assert run.span == (START, START + 60)


def test_requests_in_flight_that_vary_are_an_open_loop(tmp_path: Path) -> None:
    (run,) = read_results(written(tmp_path, vllm_export("inter_token_latency_seconds", [0, 2, 9, 4, 12, 0])))
    assert (run.given["mode"], run.given["request_rate_rps"]) == ("open", "2")


@pytest.mark.parametrize(
    ("label", "tpot"), [("name", "time_per_output_token_seconds"), ("model_name", "inter_token_latency_seconds")]
)
def test_an_export_of_sglang_by_prometheus(tmp_path: Path, label: str, tpot: str) -> None:
    counts, labels = [0.0, 10.0, 20.0], {label: "meta-llama/Llama-3.1-8B-Instruct"}
    listed = [
        *histogram("sglang:e2e_request_latency_seconds", 2.0, counts, {"+Inf": 1.0}, **labels),
        *histogram(f"sglang:{tpot}", 0.02, counts, {"+Inf": 1.0}, **labels),
        series("sglang:prompt_tokens_total", [500 * c for c in counts], **labels),
        series("sglang:generation_tokens_total", [100 * c for c in counts], **labels),
        series("sglang:num_running_reqs", [1, 1, 1], **labels),
        series("sglang:cached_tokens_total", [250 * c for c in counts], **labels),
    ]
    lines = "\n".join(json.dumps(answer([one])) for one in listed)  # one answer per query
    (run,) = read_results(written(tmp_path, lines, "export.jsonl"))
    assert (run.given["engine"], run.given["model"], run.given["isl"]) == ("sglang", labels[label], "500")
    assert run.given["prefix_hit"] == "0.5"
    assert run.measured["tpot_ms"] == pytest.approx(20.0)


SMI = "timestamp, index, power.draw [W], clocks.current.sm [MHz]\n"
OLD_SMI = "timestamp, power.draw.average [W]\n"


def smi(watts: dict[int, list[float]], head: str = SMI, unit: str = " W") -> str:
    several = "index" in head
    lines = (
        f"2026/09/02 00:00:{n:02d}.000, {f'{gpu}, ' if several else ''}{w:.2f}{unit}{', 1500 MHz' if several else ''}"
        for gpu, every in watts.items()
        for n, w in enumerate(every)
    )
    return head + "\n".join(lines) + "\n"


RUN = MeasuredRun("result, line 1", {"n_devices": "2"}, {"tpot_ms": 10.0})
MIDNIGHT = 1788307200.0  # 2026-09-02 00:00:00 UTC


def test_watts_of_nvidia_smi_belong_to_the_run_of_their_time(tmp_path: Path) -> None:
    idle = [80.0] * 10
    log = read_power_log(
        written(tmp_path, smi({0: [90, *[500.0] * 8, 90], 1: [90, *[400.0] * 8, 90], 2: idle}), "p.csv")
    )
    assert log is not None
    spans = ((MIDNIGHT + 1, MIDNIGHT + 8), (MIDNIGHT + 100, MIDNIGHT + 200))
    runs = [MeasuredRun(RUN.place, RUN.given, RUN.measured, (), span) for span in spans]
    first, second = with_watts(runs, [log])
    assert first.measured["power_w_per_device"] == pytest.approx(450.0)
    assert "2 of 3 devices" in first.remarks[0]
    assert "power_w_per_device" not in second.measured
    with pytest.raises(InputError, match="is in no run's"):
        with_watts(runs[1:] * 2, [log])
    with pytest.raises(InputError, match="state no time"):
        with_watts([RUN, RUN], [log])


@pytest.mark.parametrize("head", [SMI, OLD_SMI])
@pytest.mark.parametrize("unit", [" W", ""])
def test_the_one_run_without_a_time_takes_the_busy_part_of_a_log(tmp_path: Path, head: str, unit: str) -> None:
    log = read_power_log(written(tmp_path, smi({0: [90, 95, 500, 490, 510, 90]}, head, unit), "p.csv"))
    assert log is not None
    (run,) = with_watts([RUN], [log])
    assert run.measured["power_w_per_device"] == pytest.approx(500.0)


@pytest.mark.parametrize("head", ["#Entity   POWER    SMCLK", "# Entity  GPUTL   POWER"])
def test_watts_of_dcgmi_dmon(tmp_path: Path, head: str) -> None:
    """DCGM 4 and 3: POWER stands where the heading says; headings and units come again."""
    cells = "{w:.3f} 1410" if head.endswith("SMCLK") else "98 {w:.3f}"
    block = "\n".join(f"GPU {gpu}     {cells.format(w=w)}" for w in (300.0, 310.0) for gpu in (0, 1))
    text = f"{head}\nID   W   MHz\n{block}\n{head}\nID   W   MHz\n{block}\n"
    log = read_power_log(written(tmp_path, text, "dmon.txt"))
    assert log is not None
    assert with_watts([RUN], [log])[0].measured["power_w_per_device"] == pytest.approx(305.0)


def test_watts_of_an_export_of_dcgm(tmp_path: Path) -> None:
    listed = [series("DCGM_FI_DEV_POWER_USAGE", [400, 420], gpu=str(n), Hostname="a") for n in range(2)]
    log = read_power_log(written(tmp_path, answer(listed)))
    assert log is not None
    (run,) = with_watts([MeasuredRun(RUN.place, RUN.given, {}, (), (START, START + 15))], [log])
    assert run.measured["power_w_per_device"] == pytest.approx(410.0)
    assert read_power_log(written(tmp_path, FIRST)) is None


def without(record: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k != key}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({**FIRST, "conc": "many"}, "conc is 'many'"),
        ({**FIRST, "mean_ttft": -1}, "mean_ttft is '-1'"),
        (without(LATER, "tp"), "num_decode_gpu is missing"),
        (without(POOLED, "num_prefill_gpu"), "num_prefill_gpu is missing"),
        ({**DATABASE, "metrics": 5}, "metrics is '5'"),
        ([{**DATABASE, "benchmark_type": "agentic"}], "benchmark_type is 'agentic'"),
        (SERVER.replace("Server", "SingleStream"), "Scenario is 'SingleStream'"),
        (SERVER.replace("PerformanceOnly", "AccuracyOnly"), "Mode is 'AccuracyOnly'"),
        (SERVER.replace("71.74", "fast"), "result_completed_samples_per_sec is 'fast'"),
        (OFFLINE.replace("Samples per second", "Other"), "Samples per second is missing"),
        (detail(ENTRIES) + ":::MLLOG {oops\n", "line 10"),
        (rows_of({**COLOCATED, "gemm": "fp3"}), "gemm is 'fp3'"),
        (rows_of({**COLOCATED, "ttft": "soon"}), "ttft is 'soon'"),
        (rows_of({**COLOCATED, "concurrency": ""}), "concurrency is missing"),
        ({**answer([]), "status": "error"}, "status is 'error'"),
        ({"status": "success", "data": {"resultType": "vector", "result": []}}, "query_range"),
        (answer([series("up", [1.0])]), "no series of vllm: or sglang:"),
        (answer([series("vllm:num_requests_running", [1.0, 2.0])]), "generation_tokens_total is missing"),
        (answer([series("vllm:generation_tokens_total", [5.0, 5.0])]), "does not grow"),
        (answer([{"metric": {"__name__": "vllm:x"}, "values": [[1]]}]), "vllm:x"),
        ("Metric,avg,p99\nTime To First Token (fortnight),1,2\n", "fortnight"),
        ("Metric,avg,p99\nRequest Latency (ms),1,2\n", "Time To First Token"),
        ("| model | test | t/s |\n|---|---|---|\n| m | pp512+tg128 | 90 |\n", "mixes two rates"),
        ("| model | test | t/s |\n|---|---|---|\n| m | xx512 | 90 |\n", "test is 'xx512'"),
        ("| model | test | t/s |\n|---|---|---|\n| m | tg128 | fast |\n", "avg_ts is 'fast'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_field(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_results(written(tmp_path, value, "result.txt"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("index, power.draw [W]\n0, 5\n", "timestamp is missing"),
        (SMI + "yesterday, 0, 90 W, 1\n", "timestamp is 'yesterday'"),
        (SMI + "2026/09/02 00:00:00.000, 0, lots W, 1\n", "power.draw is 'lots W'"),
        (SMI + "2026/09/02 00:00:00.000, 0, [N/A], 1\n", "power.draw has no value"),
        ("#Entity   SMCLK\nGPU 0  1410\n", "POWER is missing"),
        ("#Entity   POWER\nGPU 0  high\n", "POWER is 'high'"),
    ],
)
def test_a_damaged_log_of_watts_is_refused_with_its_field(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_power_log(written(tmp_path, text, "p.csv"))


#: GenAI-Perf 0.0.5 and 0.0.15: names of lengths and units of rates differ, thousands have commas.
CSV_OLD = """Metric,avg,min,max,p99,p95,p90,p75,p50,p25
Time To First Token (ms),80.00,70,90,190.00,95,120.00,85,75.00,72
Inter Token Latency (ms),12.00,11,13,13.00,12,12.5,12,11.90,11
Request Latency (ms),"3,068.00",1,1,"3,400.00",1,1,1,1,1
Num Output Token,250.00,1,1,1,1,1,1,1,1
Num Input Token,"1,000.00",1,1,1,1,1,1,1,1

Metric,Value
Output Token Throughput (per sec),"1,250.00"
Request Throughput (per sec),5.00
"""
CSV_NEW = CSV_OLD.replace("Num Output Token", "Output Sequence Length (tokens)").replace("(per sec)", "(tokens/sec)")
CSV_NEW = CSV_NEW.replace("Num Input Token", "Input Sequence Length (tokens)") + "Request Count (count),200.00\n"


@pytest.mark.parametrize(("text", "count"), [(CSV_OLD, ""), (CSV_NEW, "200")])
def test_tables_of_genai_perf_and_aiperf(tmp_path: Path, text: str, count: str) -> None:
    (run,) = read_results(written(tmp_path, text, "profile_export_genai_perf.csv"))
    assert (run.given["isl"], run.given["osl"], run.given["n_requests"]) == ("1000", "250", count)
    assert run.measured["e2e_ms"] == pytest.approx(3068.0)
    assert run.measured["ttft_ms_p90"] == pytest.approx(120.0)
    assert run.measured["output_tok_s"] == pytest.approx(1250.0)


@pytest.mark.parametrize(("space", "before"), [("", "ggml_cuda_init: found 1 CUDA devices:\n"), (" ", "")])
def test_markdown_of_llama_bench(tmp_path: Path, space: str, before: str) -> None:
    rows = [f"pp{space}512 |  7340.20 ± 23.45", f"tg{space}128 | 120.60 ± 0.59"]
    rows += [] if space else ["tg128 @ d4096 | 116.71 ± 0.60"]
    head = "| model | size | backend | ngl | test |  t/s |\n| --- | ---: | --- | --: | --: | ---: |\n"
    text = before + head + "".join(f"| qwen2 7B Q4_K - Medium | 4.36 GiB | CUDA | 99 | {row} |\n" for row in rows)
    runs = read_results(written(tmp_path, text + "\nbuild: 8ccc1ff (5001)\n", "bench.md"))
    assert dict(runs[0].measured) == {"prefill_tok_s": 7340.2}
    assert dict(runs[1].measured) == {"decode_tok_s": 120.6}
    assert {run.given["weight_dtype"] for run in runs} == {"q4_k_m"}
    assert len(runs) == len(rows)
    assert runs[-1].given["isl"] == ("1" if space else "4096")


def test_random_damage_is_refused_and_never_breaks(tmp_path: Path) -> None:
    """Fifty texts with a piece cut out or swapped: each is read, or refused with the file's name."""
    draw = random.Random(5)
    whole = [SERVER, detail(ENTRIES), rows_of(COLOCATED), json.dumps([LATER, POOLED]), CSV_NEW]
    whole += [json.dumps(vllm_export("inter_token_latency_seconds", [0, 6, 6, 6, 6, 0])), smi({0: [90, 500, 90]})]
    for n in range(50):
        text = whole[n % len(whole)]
        at, size = draw.randrange(len(text)), draw.randrange(1, 40)
        cut = text[:at] + draw.choice(["", "x", "-1", "null", "\n", ","]) + text[at + size :]
        path = written(tmp_path, cut or "x", "damaged.txt")
        told = "damaged.txt"
        try:
            log = read_power_log(path)
            runs = read_results(path) if log is None else []
            assert all(np.isfinite(list(run.measured.values())).all() for run in runs)
        except InputError as refused:
            told = str(refused)
        assert "damaged.txt" in told
