"""What is exported reads back as the plan, over all targets; the plan's JSON and the scenario give the same launch."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

import cli
from benchmarks.deploy_round_trip import differences, random_launch
from hwdb import InputError
from search.deploy import TARGETS, Launch, Pool, export, launch_of, launch_of_row, read_back, read_plan, with_launches
from search.deploy.engine_settings.parsers import releases
from search.planning import Plan, plan
from search.scenario import load_scenario

SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 900
output_tokens = 200
request_rate_rps = 12
[slo]
ttft_ms_p90 = 800
tpot_ms = 40
[hardware]
devices = ["h100-sxm"]
[engine]
name = "vllm"
prefix_cache = false
[search]
tp = [1]
weight = ["fp8"]
max_num_seqs = [64, 128]
"""
#: Random plans; `python -m benchmarks.deploy_round_trip` tries 200.
PLANS = 44


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("scenario") / "chat.toml"
    path.write_text(SCENARIO)
    return plan(load_scenario(path))


@pytest.mark.parametrize("target", TARGETS)
def test_random_plans_survive_export_and_reading_back(target: str, tmp_path: Path) -> None:
    rng = random.Random(f"{target} 11")
    for _ in range(PLANS // len(TARGETS)):
        launch = random_launch(rng, target)
        assert differences(launch, target, tmp_path) == []


def test_a_lost_setting_would_be_noticed(tmp_path: Path) -> None:
    launch = random_launch(random.Random(3), "vllm")
    path = tmp_path / "launch.sh"
    text = export(launch, "vllm").text
    path.write_text(text.replace("--max-num-seqs", "--max-num-queued-reqs"))
    assert read_back(path).launch != launch


@pytest.mark.parametrize("target", ["vllm", "kubernetes", "ray-serve"])
def test_a_plan_reads_back_from_what_is_written(planned: Plan, target: str, tmp_path: Path) -> None:
    launch = launch_of(planned)
    path = tmp_path / "x"
    path.write_text(export(launch, target).text)
    read = read_back(path)
    assert (read.launch, read.unknown, read.conflicts, read.unused) == (launch, (), (), ())
    assert launch.main.prefix_cache is False


def test_the_json_of_a_plan_gives_the_same_launch(planned: Plan, tmp_path: Path) -> None:
    from search.output.row_export import to_json

    rows = with_launches(planned, planned.rows(3))
    path = tmp_path / "plan.json"
    path.write_text(to_json(rows))
    assert read_plan(path) == launch_of(planned)
    assert read_plan(path).check == launch_of(planned).check
    assert rows[0]["launch"].startswith("vllm serve meta-llama/Llama-3.1-8B-Instruct ")
    assert rows[0]["benchmark"] == export(launch_of(planned), "vllm").benchmark
    assert (rows[0]["replicas_least"], rows[0]["replicas_most"]) == (launch_of(planned).least, launch_of(planned).most)
    with pytest.raises(InputError, match="no row of rank 7; it has 1"):
        read_plan(path, 7)


def test_autoscaling_bounds_follow_from_the_headroom(planned: Plan) -> None:
    row, launch = planned.row(planned.best), launch_of(planned)
    assert launch.least == row["replicas"]
    assert launch.most is not None
    assert launch.most >= row["replicas"] / row["utilisation"] - 1e-9
    assert launch.most - 1 < row["replicas"] / row["utilisation"]


def test_an_export_to_the_standard_output_is_the_export_alone(
    planned: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from search.output.row_export import to_json

    path = tmp_path / "plan.json"
    path.write_text(to_json(with_launches(planned, planned.rows(1))))
    assert cli.main(["export", str(path), "-o", "/dev/stdout"]) == 0
    said = capfd.readouterr()
    assert said.out == export(launch_of(planned), "vllm").text
    assert said.err.startswith("/dev/stdout: ")


def test_the_command_writes_scripts_files_and_json(
    planned: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from search.output.row_export import to_json

    path = tmp_path / "plan.json"
    path.write_text(to_json(with_launches(planned, planned.rows(1))))
    assert cli.main(["export", str(path), "--json"]) == 0
    by_default = capsys.readouterr().out
    assert cli.main(["export", str(path), "--to", "vllm", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert json.loads(by_default)[0]["launch"] == row["launch"]
    assert row["benchmark"].startswith("vllm bench serve ")
    assert "ttft:800" in row["benchmark"]
    assert row["launch"] == export(launch_of(planned), "vllm").text
    assert cli.main(["export", str(path), "--to", "sglang"]) == 2
    assert "name sglang in [engine]" in capsys.readouterr().err
    assert cli.main(["export", str(path), "--to", "nomad"]) == 2
    assert "kubernetes" in capsys.readouterr().err
    file = tmp_path / "chat.yaml"
    assert cli.main(["export", str(path), "--to", "compose", "-o", str(file)]) == 0
    assert read_back(file).launch == launch_of(planned)


def test_adapters_and_power_limits_are_not_lost(planned: Plan) -> None:
    row = {**with_launches(planned, planned.rows(1))[0], "lora_rank": 16, "lora_resident": 8, "power_cap_w": 500.0}
    text = export(launch_of_row(row), "vllm").text
    assert "--enable-lora" in text
    assert "--max-loras 8" in text
    assert "nvidia-smi --power-limit 500" in text
    assert "adapter" in export(launch_of_row(row), "kubernetes").text
    with pytest.raises(InputError, match="no flag that keeps exactly this share"):
        launch_of_row({**row, "host_weights": 0.5})


def test_a_plan_of_which_nothing_qualifies_exports_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chat.toml"
    path.write_text(SCENARIO.replace("tpot_ms = 40", "tpot_ms = 0.01"))
    assert cli.main(["export", str(path), "--to", "vllm"]) == 1
    assert "nothing meets the request" in capsys.readouterr().err


def launch(engine: str, version: str = "", **pool: object) -> Launch:
    """A launch of DeepSeek-V3 with one pool."""
    return Launch(
        "deepseek-ai/DeepSeek-V3", engine, version, (Pool(**{"device": "h200-sxm", "weight": "fp8_block", **pool}),)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "target", "told"),
    [
        (launch("vllm", "0.33.0", tp=4, ep=2), "vllm", "all 4 devices of a layer or none"),
        (launch("trtllm", "1.3.0rc", tp=2, dp=4), "trtllm", "attention DP has TP 1"),
        (launch("llamacpp", "0c1e57098", tp=2, pp=2), "llamacpp", "not both"),
        (launch("sglang", "0.5.9", cp=2), "sglang", "no flag for cp 2"),
        (launch("vllm", "0.11.2", cp=2), "vllm", "no flag for cp 2"),
        (launch("trtllm", "1.4.0rc", tp=16), "kubernetes", "joins the 2 nodes of a replica by a launcher"),
        (launch("vllm", "0.33.0", tp=16), "kserve", "spans nodes"),
        (launch("vllm", "0.33.0", tp=8, replicas=2), "compose", "16 devices are more than the 8"),
        (launch("llamacpp", "0c1e57098", tp=16, weight="q8_0"), "llamacpp", "which llamacpp does not join"),
        (launch("llamacpp", "0c1e57098"), "llamacpp", "no weights in fp8_block"),
        (launch("sglang", "0.5.9", tp=8), "kserve", "kserve runs vLLM"),
        (launch("llamacpp", "0c1e57098", tp=8), "dynamo", "dynamo runs vllm, sglang, trtllm"),
        (launch("vllm", "0.33.0", tp=8, kv="q4_0"), "vllm", "has no --kv-cache-dtype for q4_0"),
    ],
)
def test_what_a_target_cannot_hold_is_said(asked: Launch, target: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        export(asked, target)


LLAMA = "meta-llama/Llama-3.1-70B-Instruct"


@pytest.mark.parametrize(
    ("engine", "device", "image"),
    [
        ("llamacpp", "rtx-4090", "llama.cpp:server-cuda"),
        ("llamacpp", "mi300x", "llama.cpp:server-rocm"),
        ("llamacpp", "epyc-9755", "llama.cpp:server"),
        ("vllm", "epyc-9755", "vllm-cpu-release-repo"),
        ("llamacpp", "m4-max", ""),
        ("vllm", "tpu-v6e", ""),
    ],
)
def test_the_image_is_one_for_the_device(engine: str, device: str, image: str) -> None:
    asked = Launch(LLAMA, engine, releases(engine)[0].version, (Pool(device=device, weight="q8_0"),))
    asked = asked if engine == "llamacpp" else replace(asked, pools=(Pool(device=device),))
    if not image:
        assert "as in the image" not in export(asked, engine).text
        with pytest.raises(InputError, match=f"no container image of {engine} for {device}"):
            export(asked, "compose")
        return
    named = next(line for line in export(asked, "compose").text.splitlines() if "image: " in line)
    assert image in named
    assert image != "llama.cpp:server" or named.endswith(image)


def test_tensorrt_llm_keeps_the_cache_of_a_checkpoint_and_the_script_says_so() -> None:
    """Its PyTorch runtime refuses every KvCacheConfig.dtype but fp8, nvfp4 and auto."""
    asked = Launch(LLAMA, "trtllm", "1.4.0rc", (Pool(device="h100-sxm", tp=4, weight="fp8", kv="bf16"),))
    text = export(asked, "trtllm").text
    assert "bfloat16" not in text
    assert "has a KV cache in fp8, which trtllm keeps; the plan counts bf16" in text
    assert read_back(text).launch.main.kv == "fp8"


def test_dynamos_planner_may_start_the_devices_of_both_pools() -> None:
    pools = (Pool(role="prefill", device="h200-sxm", tp=4), Pool(role="decode", device="h200-sxm", tp=8))
    asked = Launch(LLAMA, "vllm", "0.33.0", pools, least=1, most=2)
    assert "max_gpu_budget 20." in export(asked, "dynamo").text


@pytest.mark.parametrize(
    "column",
    ["tp", "pp", "ep", "dp", "cp", "kvp", "replicas", "max_model_len", "input_tokens", "output_tokens", "prefix_cache"],
)
@pytest.mark.parametrize("value", [None, "four", -1, [], 2.5, float("inf")])
def test_a_column_that_is_none_of_its_kind_is_named(planned: Plan, column: str, value: object) -> None:
    row = {**with_launches(planned, planned.rows(1))[0], column: value}
    if value == 2.5 and column.endswith("_tokens"):
        assert launch_of_row(row).check is not None
        return
    with pytest.raises(InputError, match=f"column {column} is "):
        launch_of_row(row)


@pytest.mark.parametrize(("target", "engine"), [("sglang", "sglang"), ("trtllm", "trtllm"), ("dynamo", "vllm")])
def test_a_scenario_is_planned_for_an_engine_that_the_target_runs(
    target: str, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chat.toml"
    path.write_text(SCENARIO)
    assert cli.main(["export", str(path), "--to", target, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["engine"] == engine
    assert (f"Planned for {engine}, which --to names, in place of vllm." in row["launch"]) == (engine != "vllm")
    path.write_text(SCENARIO.replace('name = "vllm"', 'name = "vllm"\nversion = "0.11"'))
    if engine != "vllm":
        assert cli.main(["export", str(path), "--to", target]) == 2
        assert "[engine] has version 0.11 of vllm; leave it out" in capsys.readouterr().err
    else:
        assert cli.main(["export", str(path), "--to", target, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["engine_version"] == "0.11.2"


@pytest.mark.parametrize(("name", "target"), [("k8s", "kubernetes"), ("Docker-Compose", "compose"), ("vLLM", "vllm")])
def test_targets_have_other_names(name: str, target: str, planned: Plan) -> None:
    launch = launch_of(planned)
    assert export(launch, name).text == export(launch, target).text


def test_a_closed_loop_is_checked_with_its_clients_and_not_at_a_rate(tmp_path: Path) -> None:
    """Requests at the rate of a full closed loop would queue without end."""
    for load, told in (("concurrency = 8", "--max-concurrency 8"), ("request_rate_rps = 4", "--request-rate 4")):
        path = tmp_path / "chat.toml"
        path.write_text(SCENARIO.replace("request_rate_rps = 12", load))
        found = plan(load_scenario(path))
        row = with_launches(found, found.rows(1))[0]
        words = " ".join(export(launch_of_row(row), "vllm").text.split())
        assert told in words
        assert ("--request-rate" in words) is ("rate" in load)
        assert ("Autoscaling: " in words) is ("rate" in load)  # an autoscaler follows a rate


def test_an_empty_plan_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="the file is empty, as where nothing qualifies"):
        read_plan(tmp_path / "plan.json")
