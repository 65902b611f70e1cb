"""Words of other tools are refused with the name that they have here."""

from __future__ import annotations

import pytest

from cli import main
from perfmodel import glossary
from perfmodel.workload import SLO_KEYS, Objective, objective_as_typed, slo_keys_like


@pytest.mark.parametrize(
    ("words", "here"),
    [
        (["estimate", "Qwen/Qwen3-8B", "--qps", "4"], "--request-rate-rps"),
        (["estimate", "Qwen/Qwen3-8B", "--tensor-parallel-size=2"], "--tp"),
        (["estimate", "Qwen/Qwen3-8B", "--kv-cache-dtype", "fp8"], "--kv"),
        (["estimate", "Qwen/Qwen3-8B", "--model", "x"], "MODEL, without a flag"),
        (["estimate", "Qwen/Qwen3-8B", "--max-model-len", "8192"], "--isl and --osl"),
        (["estimate", "Qwen/Qwen3-8B", "--num-gpus", "8"], "--tp times --pp times --replicas"),
        (["estimate", "Qwen/Qwen3-8B", "-o", "answer.csv"], "--csv > FILE"),
        (["predict", "cases.csv", "--out", "answer.csv"], "--output"),
        (["estimate", "Qwen/Qwen3-8B", "--data-parallel-size", "2"], "--dp-attention (copies of the attention layers"),
        (["estimate", "Qwen/Qwen3-8B", "-dp", "2"], "--dp-attention (copies of the attention layers alone) or --repl"),
        (["estimate", "Qwen/Qwen3-8B", "--enforce-eager"], "--engine-setting graph_capture=VALUE"),
        (["estimate", "Qwen/Qwen3-8B", "--n-gpu-layers", "20"], "--host-weights"),
        (["plan", "Qwen/Qwen3-8B", "--device", "h100-sxm"], "--on"),
        (["plan", "Qwen/Qwen3-8B", "--gpus", "4"], "--on DEVICE=N (on hand, of one device) or --set limits.devices=N"),
        (["plan", "Qwen/Qwen3-8B", "--calibration", "m.toml"], "--set calibration.file=FILE.toml"),
        (["plan", "Qwen/Qwen3-8B", "--tp", "2"], "--set search.tp=VALUE"),
        (["plan", "Qwen/Qwen3-8B", "--p99-ttft-ms", "900"], "--slo ttft_ms_p99=MS"),
        (["plan", "Qwen/Qwen3-8B", "--usd-per-hour", "2"], "--set hardware.usd_per_hour.DEVICE=VALUE"),
    ],
)
def test_flags_of_other_tools_are_told(words: list[str], here: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert f"Here it is {here}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("tensor-parallel-size=2", "--tp states it here"),
        ("--kv-cache-dtype=fp8", "--kv states it here"),
        ("dp=2", "unknown key 'dp'; --dp-attention states it here"),
        ("enforce-eager=true", "unknown key 'enforce_eager'; graph_capture states it here"),
        ("block-size=32", "known keys: chunked_prefill"),
        ("=3", "'=3' has no key; write KEY=VALUE"),
        ("max_num_seqs", "'max_num_seqs' has no value; write KEY=VALUE"),
    ],
)
def test_settings_that_have_another_place_are_told(setting: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "Qwen/Qwen3-8B", "--device", "h100-sxm", f"--engine-setting={setting}"]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("setting", ["--max-num-seqs=2", "max-num-seqs=2", "max_num_seqs=2"])
def test_settings_are_read_as_the_flags_of_engines_write_them(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "Qwen/Qwen3-8B", "--device", "h100-sxm", "--concurrency", "8", "--csv"]
    assert main([*words, "--max-num-seqs", "2"]) == 0
    wanted = capsys.readouterr().out
    assert main([*words, f"--engine-setting={setting}"]) == 0
    assert capsys.readouterr().out == wanted
    assert main([*words, "--engine-setting", "--enable-prefix-caching=False"]) == 0


def test_short_spellings_of_other_tools_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "Qwen/Qwen3-8B", "--device", "h100-sxm", "-tp", "2", "--csv"]) == 0
    short = capsys.readouterr().out
    assert main(["estimate", "Qwen/Qwen3-8B", "--device", "h100-sxm", "--tp", "2", "--csv"]) == 0
    assert capsys.readouterr().out == short
    for words in (["-h"], ["estimate", "-h"], ["hw", "-h"]):
        assert main(words) == 0
        assert "Usage: perfmodel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("128k", "write 128000, or 131072 where k stands for 1,024"),
        ("2,048", "write 2048 without a comma"),
        ("100-200", "one number is taken here, the mean: --isl-dist"),
        ("abc", "give digits, with a point before decimals"),
        ("1,2,4", "one number is taken here"),
    ],
)
def test_numbers_in_other_spellings_are_refused_with_what_to_write(
    typed: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", "Qwen/Qwen3-8B", "--device", "h100-sxm", "--isl", typed]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_slip_of_the_keyboard_still_names_the_nearest_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "Qwen/Qwen3-8B", "--concurency", "4"]) == 2
    assert "--concurrency" in capsys.readouterr().err


def test_no_word_of_other_tools_is_the_name_itself() -> None:
    for other, entries in glossary.elsewhere().items():
        for entry in entries:
            assert other not in map(glossary.plain, (entry.name, *entry.former)), other


def test_explain_knows_the_words_of_other_tools() -> None:
    assert [e.name for e in glossary.explain("--qps")] == ["request_rate_rps"]
    assert {e.name for e in glossary.explain("quantization")} == {"weights", "weight_dtype"}


@pytest.mark.parametrize(
    ("setting", "here"),
    [
        ("workload.qps=4", "here it is 'request_rate_rps'"),
        ("workload.isl=2000", "here it is 'input_tokens'"),
        ("workload.osl=200", "here it is 'output_tokens'"),
        ("workload.max_concurrency=4", "'concurrency'"),
        ("slo.p99_ttft=900", "'ttft_ms_p99'"),
        ("hardware.gpus=l40s", "here it is 'devices'"),
        ("search.tensor_parallel_size=2", "here it is 'tp'"),
    ],
)
def test_keys_of_other_tools_are_told(setting: str, here: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "Qwen/Qwen3-8B", "--on", "h100-sxm", "--set", setting]) == 2
    assert here in " ".join(capsys.readouterr().err.split())


def test_every_bound_is_found_from_its_parts_in_any_order() -> None:
    for key in SLO_KEYS:
        metric, _, statistic = key.partition("_ms")
        for said in (key, f"{statistic.strip('_')}-{metric}", f"{metric}{statistic}".upper()):
            assert key in slo_keys_like(said), said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--isl", "0"], "--isl 0 is impossible; give 1 or more"),
        (["--osl", "-3"], "--osl -3 is impossible; give 1 or more"),
        (["--concurrency", "0"], "--concurrency 0 is impossible; give 1 or more"),
        (["--batch", "0.5"], "--batch 0.5 is impossible; give 1 or more"),
        (["--n-requests", "nan"], "--n-requests nan is impossible; give 1 or more"),
        (["--request-rate-rps", "0"], "--request-rate-rps 0 is impossible; give more than 0"),
        (["--request-rate-rps", "1", "--cv", "-1"], "--cv -1 is impossible; give more than 0"),
        (["--prefix-hit", "80"], "--prefix-hit 80 is no share; give 0 to 1 (0.8 for 80 %)"),
    ],
)
def test_impossible_numbers_are_named_by_their_flag(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", "Qwen/Qwen3-8B", "--device", "h100-sxm", *words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "metric", "statistic", "seconds"),
    [
        ("ttft=500ms", "ttft", "mean", 0.5),
        ("p95_ttft_ms=500", "ttft", "p95", 0.5),
        ("TTFT p90 <= 0.5 s", "ttft", "p90", 0.5),
        ("tpot≤50ms", "tpot", "mean", 0.05),
        ("median itl < 20ms", "itl", "p50", 0.02),
        ("E2E latency (p99) < 10 seconds", "e2e", "p99", 10.0),
        ("ttft_s=0.5", "ttft", "mean", 0.5),
        ("ttft_ms_p90=0.5s", "ttft", "p90", 0.5),  # the unit beside the number counts
    ],
)
def test_a_bound_is_read_as_people_write_it(text: str, metric: str, statistic: str, seconds: float) -> None:
    assert objective_as_typed(text) == Objective(metric, statistic, seconds)


@pytest.mark.parametrize(
    "text", ["ttft=500", "ttft p90 p99<3s", "ttft tpot<3s", "foo ttft<3s", "ttft<0s", "ttft=-3s", ""]
)
def test_a_bound_that_does_not_say_one_thing_is_none(text: str) -> None:
    assert objective_as_typed(text) is None
