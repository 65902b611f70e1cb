# ruff: noqa: E501 - commands stay on one line, as people write them
"""Deployments written by hand: settings are understood, unknown flags named with near ones, contradictions named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import cli
from benchmarks.deploy_recipes import RECIPES, Published
from hwdb import InputError
from search.deploy import Reading, read_back
from search.deploy.reading_back.shell import commands

L8, L70, Q32, DS, MOE = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-32B",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3-30B-A3B",
)

#: (command, what it says of unknown flags, what it says of contradictions), a part of the text of each.
BY_HAND = [
    (f"vllm serve {L8} --max-num-batchd-tokens 8192", "near: --max-num-batched-tokens", ""),
    (f"vllm serve {L8} --swap-space 4", "known in 0.11.2", ""),
    (f"vllm serve {L8} --use-v2-block-manager", "--use-v2-block-manager is no flag", ""),
    (f"vllm serve {L8} --tensor-paralel-size 2 --foo", "--foo is no flag", ""),
    (
        f"VLLM_ATENTION_BACKEND=x VLLM_USE_RAY_COMPILED_DAGG=1 vllm serve {L8}",
        "VLLM_USE_RAY_COMPILED_DAGG is no variable",
        "",
    ),
    (
        f'vllm serve {L8} --kv-transfer-config \'{{"kv_conector": "NixlConnector", "kv_role": "kv_both"}}\'',
        "near: kv_connector",
        "no kv_connector",
    ),
    (f"vllm serve {L8} --compilation-config.cudagraph_mod FULL", "near: cudagraph_mode", ""),
    (f"vllm serve {L8} --speculative-config '{{\"num_speculativ_tokens\": 3}}'", "near: num_speculative_tokens", ""),
    (f"vllm serve {L8} -tp 2 --tensor-parallel-size 4", "", "given twice, as 2 and as 4"),
    (
        f"vllm serve {L8} --enable-prefix-caching --no-enable-prefix-caching",
        "",
        "--enable-prefix-caching is given twice",
    ),
    (f"vllm serve {L70} -tp 6", "", "TP 6 does not divide the 64 attention heads"),
    (f"vllm serve {L70} -tp 8 --enable-expert-parallel", "", "has no experts"),
    (f"vllm serve {L8} --max-num-batched-tokens 128 --max-num-seqs 256", "", "vLLM refuses to start"),
    (
        f"vllm serve {L8} --no-enable-chunked-prefill --max-num-batched-tokens 2048 --max-model-len 8192",
        "",
        "without chunked prefill",
    ),
    (f"vllm serve {L8} --max-model-len 200k", "", "exceeds the 131072"),
    (f"vllm serve {L8} --gpu-memory-utilization 1.2", "", "a share of 1.2"),
    (f"vllm serve {L8} --quantization awq", "", "needs a checkpoint in that format"),
    ("vllm serve Qwen/Qwen3-32B-AWQ --quantization fp8", "", "contradicts the checkpoint"),
    (f"vllm serve {L8} --quantization awqq", "", "near: awq"),
    (f"vllm serve {L8} --kv-cache-dtype fp9", "", "--kv-cache-dtype fp9 is not known here"),
    (f"vllm serve {L8} --max-num-seqs 0", "", "max_num_seqs of 0 is impossible"),
    (f"vllm serve {L8} --enforce-eager --max-cudagraph-capture-size 64", "", "eager mode captures no graphs"),
    (f'vllm serve {L8} --enforce-eager -cc \'{{"cudagraph_mode": "FULL"}}\'', "", "eager mode captures none"),
    (f"vllm serve {L8} --tensor-parallel-size four", "", "'four' is no whole number"),
    (
        f'vllm serve {L8} --kv-transfer-config \'{{"kv_connector": "NixlConnector", "kv_role": "kv_sender"}}\'',
        "",
        "'kv_sender' is none of",
    ),
    (f"vllm serve {L8} --kv-transfer-config '{{kv_role: x}}'", "", "is not JSON"),
    (f"CUDA_VISIBLE_DEVICES=0,1 vllm serve {L70} -tp 4", "", "the flags take 4 devices"),
    (f"vllm serve {L8} --model {Q32}", "", "the model is given twice"),
    (f"vllm serve {MOE} -dp 2 --data-parallel-size-local 4", "", "exceeds --data-parallel-size 2"),
    (f"python -m sglang.launch_server --model-path {L8} --mem-fraction-statics 0.9", "near: --mem-fraction-static", ""),
    (
        f"python -m sglang.launch_server --model-path {L8} --disable-radix-cache --enable-hierarchical-cache",
        "",
        "exclude each other",
    ),
    (f"python -m sglang.launch_server --model-path {DS} --tp 8 --enable-dp-attention", "", "without --dp-size above 1"),
    (
        f"python -m sglang.launch_server --model-path {DS} --tp 8 --dp-size 3 --enable-dp-attention",
        "",
        "does not divide --tp-size 8",
    ),
    (f"trtllm-serve {L8} --max_batch_sise 64", "near: --max_batch_size", ""),
    (
        f"cat > c.yaml <<EOF\nmax_batch_size: 32\nenabel_attention_dp: true\nEOF\ntrtllm-serve {L8} --max_batch_size 64 --config c.yaml",
        "'enabel_attention_dp'",
        "max_num_seqs",
    ),
    ("llama-server -m Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf --paralel 8", "near: --parallel", ""),
    (
        f'vllm serve {L8} --port 8000 --kv-transfer-config \'{{"kv_connector": "NixlConnector", "kv_role": "kv_producer"}}\'',
        "",
        "without one for decode",
    ),
]


@pytest.mark.parametrize(("text", "unknown", "conflict"), BY_HAND)
def test_unknown_and_conflicting_flags_are_named(text: str, unknown: str, conflict: str) -> None:
    read = read_back(text, device="h100-sxm")
    assert unknown in "; ".join(read.unknown)
    assert bool(unknown) == bool(read.unknown), read.unknown
    assert conflict in "; ".join(read.conflicts)
    assert bool(conflict) == bool(read.conflicts), read.conflicts


def main_of(text: str) -> Reading:
    """Read a text without anything unknown in it."""
    read = read_back(text, device="h100-sxm")
    assert read.unknown == ()
    assert read.conflicts == ()
    return read


def test_every_way_of_writing_a_flag_is_the_same() -> None:
    plain = f"vllm serve {L70} --tensor-parallel-size 4 --max-num-batched-tokens 16384 --kv-cache-dtype fp8"
    ways = (
        f"vllm serve {L70} -tp 4 --max-num-batched-tokens=16384 --kv-cache-dtype=fp8",
        f"vllm serve {L70} -tp=4 --max_num_batched_tokens 16K --kv_cache_dtype fp8_e4m3",
        f"vllm serve {L70} \\\n  --tensor-parallel-size 4 \\\n  --max-num-batched-tokens 16384 \\\n  --kv-cache-dtype 'fp8'",
        f"TP=4\nexport KV=fp8\nvllm serve {L70} -tp $TP --max-num-batched-tokens 16384 --kv-cache-dtype ${{KV}} &",
        f"python3 -m vllm.entrypoints.openai.api_server --model {L70} -tp 4 --max-num-batched-tokens 16384 --kv-cache-dtype fp8",
        f"docker run --gpus all -e HF_TOKEN=x -p 8000:8000 vllm/vllm-openai:v0.33.0 --model {L70} -tp 4 "
        "--max-num-batched-tokens 16384 --kv-cache-dtype fp8",
        f"bash -c 'vllm serve {L70} -tp 4 --max-num-batched-tokens 16384 --kv-cache-dtype fp8'",
    )
    first = main_of(plain).launch
    assert (first.main.tp, first.main.max_num_batched_tokens, first.main.kv) == (4, 16384, "fp8")
    for text in ways:
        assert main_of(text).launch == first, text


@pytest.mark.parametrize(
    ("checkpoint", "method", "weight"),
    [
        ("Qwen/Qwen3-32B-AWQ", "awq_marlin", "int4"),
        ("Qwen/Qwen3-32B", "fp8", "fp8"),
        (DS, "fp8", "fp8_block"),
        ("RedHatAI/Qwen3-14B-FP8-dynamic", "compressed-tensors", "fp8"),
    ],
)
def test_methods_of_quantisation_make_or_load_a_format(checkpoint: str, method: str, weight: str) -> None:
    assert main_of(f"vllm serve {checkpoint} -q {method}").launch.main.weight == weight


def test_flags_that_change_nothing_are_listed() -> None:
    read = main_of(f"vllm serve {L8} --seed 7 --disable-log-stats --host 0.0.0.0 --async-scheduling")
    assert set(read.unused) == {"--seed", "--disable-log-stats", "--async-scheduling"}


def test_json_values_and_dotted_keys_are_read() -> None:
    read = main_of(
        f"vllm serve {L8} --kv-transfer-config.kv_connector NixlConnector --kv-transfer-config.kv_role kv_both"
    )
    assert read.launch.main.role == "serve"


def test_sglang_counts_ranks_of_attention_data_parallelism_in_tp() -> None:
    pool = main_of(
        f"python3 -m sglang.launch_server --model-path {DS} --tp 16 --dp 4 --enable-dp-attention --ep-size 16 "
        "--chunked-prefill-size 32768 --max-running-requests 512"
    ).launch.main
    assert (pool.tp, pool.dp, pool.ep, pool.devices) == (4, 4, 16, 16)
    assert (pool.max_num_batched_tokens, pool.max_num_seqs) == (8192, 512)


def test_trtllm_reads_its_file() -> None:
    pool = main_of(
        "cat > extra.yml <<'EOF'\nenable_attention_dp: true\nkv_cache_config:\n  dtype: fp8\n  free_gpu_memory_fraction: 0.8\n"
        f"  enable_block_reuse: false\nEOF\ntrtllm-serve {DS} --tp_size 8 --ep_size 8 --extra_llm_api_options extra.yml"
    ).launch.main
    assert (pool.tp, pool.dp, pool.ep, pool.kv, pool.prefix_cache) == (1, 8, 8, "fp8", False)
    assert pool.gpu_memory_utilization == 0.8


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: llm}
spec:
  replicas: 3
  selector: {matchLabels: {app: llm}}
  template:
    metadata: {labels: {app: llm}}
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.2
        args: [--model, Qwen/Qwen3-32B, --tensor-parallel-size, "2", --gpu-memory-utilization, "0.95"]
        resources: {limits: {nvidia.com/gpu: "4"}}
"""


def test_a_manifest_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "llm.yaml"
    path.write_text(DEPLOYMENT)
    read = read_back(path)
    pool = read.launch.main
    assert (read.launch.version, pool.device, pool.replicas, pool.tp) == ("0.11.2", "h200-sxm", 3, 2)
    assert read.conflicts == ("the flags take 2 devices (TP x PP x DP x CP), the replica has 4",)


def test_the_former_graph_of_dynamo_is_read(tmp_path: Path) -> None:
    text = {
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": "g"},
        "spec": {
            "services": {
                role: {
                    "replicas": n,
                    "resources": {"limits": {"gpu": "2"}},
                    "extraPodSpec": {
                        "mainContainer": {
                            "image": "nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.6.1",
                            "command": ["python3", "-m", "dynamo.vllm"],
                            "args": ["--model", L70, "-tp", "2", "--disaggregation-mode", role, "-q", "fp8"],
                        }
                    },
                }
                for role, n in (("prefill", 1), ("decode", 3))
            }
        },
    }
    path = tmp_path / "g.json"
    path.write_text(json.dumps(text))
    read = read_back(path, device="h100-sxm")
    assert [(p.role, p.replicas, p.tp, p.weight) for p in read.launch.pools] == [
        ("prefill", 1, 2, "fp8"),
        ("decode", 3, 2, "fp8"),
    ]
    assert (read.unknown, read.conflicts) == ((), ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nginx -g 'daemon off;'", "nothing in it starts a known engine"),
        ("vllm serve", "has no model"),
        ("vllm serve nobody/no-such-model-9z", "no-such-model"),
        ("/no/such/file.yaml", "no such file"),
        (f"vllm serve {L8}\nvllm serve {Q32}", "serves 2 models"),
        (f"vllm serve {L8} --served-model-name 'x", "a quote is not closed"),
        ("apiVersion: v1\nkind: [", "not YAML"),
    ],
)
def test_what_cannot_be_read_ends_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_back(text)


def test_words_of_a_shell_are_split() -> None:
    found = commands("A=1 x -a '{\"b\": 2}' && export B=3\ny $B # note\n# perfmodel: device=l4 pool=decode\nz")
    assert [c.words for c in found] == [("x", "-a", '{"b": 2}'), ("y", "3"), ("z",)]
    assert found[0].env == {"A": "1"}
    assert found[2].marks == {"device": "l4", "pool": "decode"}


@pytest.mark.parametrize("one", RECIPES, ids=lambda r: r.name)
def test_published_recipes_are_understood(one: Published) -> None:
    read = read_back(one.command, device=one.device, version=one.version)
    assert (read.unknown, read.conflicts) == ((), ())
    assert read.launch.version == one.version
    assert read.launch.main.devices == 8
    assert read.launch.main.gpu_memory_utilization


def test_a_file_of_flags_arrays_and_defaults_are_read() -> None:
    pool = main_of(
        "cat > config.yaml <<EOF\nkv-cache-dtype: fp8\nmax-num-batched-tokens: 4096\nno-enable-prefix-caching: true\nEOF\n"
        "TP=4\nARGS=(--tensor-parallel-size=$TP --max-num-seqs ${SEQS:-48})\nARGS+=(--enforce-eager)\n"
        f'vllm serve {L70} --config config.yaml --max-num-batched-tokens 8192 "${{ARGS[@]}}" > server.log 2>&1 &'
    ).launch.main
    assert (pool.tp, pool.kv, pool.max_num_seqs, pool.max_num_batched_tokens) == (4, "fp8", 48, 8192)
    assert (pool.prefix_cache, pool.graph_capture) == (False, False)


# Start-up logs of vLLM 0.11 on H100 at a share of 0.9: llm-d-incubation/llm-d-planner
# docs/empirical-vllm-memory-results.md: model, TP, max_num_seqs, tokens of the KV pool.
LOGS = [
    ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", 2, 1024, 209715),
    (L8, 1, 1024, 420900),
    ("Qwen/Qwen3-0.6B", 1, 1024, 603400),
    (Q32, 1, 1024, 18227),
    (Q32, 2, 1024, 282550),
]


@pytest.mark.parametrize(("name", "tp", "seqs", "tokens"), LOGS)
def test_memory_settings_give_the_pool_of_start_up_logs(
    name: str, tp: int, seqs: int, tokens: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        f"vllm serve {name} -tp {tp} --gpu-memory-utilization 0.9 --max-num-seqs {seqs} --max-num-batched-tokens 8192"
    )
    arguments = ["estimate", "--from", text, "--device", "h100-sxm", "--engine-version", "0.11", "--json"]
    assert cli.main(arguments) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["kv_pool_tokens"] == pytest.approx(tokens, rel=0.03)
    # the log of Qwen3-32B on one device is from a run with a shorter context than the model's 40,960
    assert ("vLLM refuses to start" in row["conflicting_flags"]) == (tokens < 40960)


def test_the_pool_of_a_model_with_windows_is_that_of_its_start_up_log(capsys: pytest.CaptureFixture[str]) -> None:
    """The same document has 50.28 GiB for gpt-oss-20b, without tokens: its layers have windows, so a token has no size."""
    text = (
        "vllm serve openai/gpt-oss-20b --gpu-memory-utilization 0.9 --max-num-seqs 1024 --max-num-batched-tokens 8192"
    )
    assert cli.main(["estimate", "--from", text, "--device", "h100-sxm", "--engine-version", "0.11", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    left = 0.9 * row["memory_capacity_gb"] - row["memory_gb_per_device"]
    assert left * 1e9 / 2**30 == pytest.approx(50.28, rel=0.03)


def test_what_runs_is_compared_with_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"vllm serve {L70} -tp 8"
    load = ["--request-rate-rps", "6", "--isl", "1155", "--osl", "211", "--slo", "ttft_ms_p90=500", "--tpot-ms", "50"]
    assert cli.main(["estimate", "--from", text, "--device", "h100-sxm", *load, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["plan_comparison"].startswith("You run 1 x 8 h100-sxm, TP8, bf16, ")
    assert "TP4, fp8 serves the same load and keeps the SLO on half the devices, " in row["plan_comparison"]
    assert row["plan_changes"].startswith("tp 8 -> 4; weight bf16 -> fp8")
    assert 0.5 <= row["plan_chance"] < 1.0
    assert f"on half the devices, {round(100 * row['plan_chance'])} in 100." in row["plan_comparison"]
    assert cli.main(["estimate", "--from", text, "--device", "h100-sxm", *load[:6], "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)[0]["plan_comparison"]
    assert "serves the same load on half the devices, " in alone
    assert re.search(r" in 100, at a mean TTFT of [\d.]+ ms and TPOT of [\d.]+ ms: bound them to keep yours\.$", alone)
    assert "bound them" not in row["plan_comparison"]
    assert cli.main(["estimate", L70, "--from", text, "--device", "h100-sxm"]) == 2
    assert "MODEL and --from exclude each other" in capsys.readouterr().err
    assert cli.main(["estimate", "--from", text]) == 2
    assert "add --device NAME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("-ngl 20", "--n-gpu-layers 20 (of 36 layers: say it with --host-weights 0.44)"),
        ("--gpu-layers 9", "--n-gpu-layers 9 (of 36 layers: say it with --host-weights 0.75)"),
        ("-ngl 99", ""),
        ("--n-gpu-layers all", ""),
        ("-nkvo", "--no-kv-offload (say it with --host-kv 1)"),
        ("--kv-offload", ""),
        ("-md draft.gguf", "--model-draft (drafts make tokens faster where they are accepted)"),
    ],
)
def test_what_llama_cpp_keeps_on_the_host_is_said_under_every_name_of_the_flag(flags: str, told: str) -> None:
    read = read_back(f"llama-server -m /models/Qwen3-8B-Q4_K_M.gguf {flags}", device="rtx-4090")
    assert read.uncounted == ((told,) if told else ())


@pytest.mark.parametrize(
    ("command", "tp", "dp", "replicas"),
    [
        ("vllm serve Qwen/Qwen3-32B -tp 4 -dp 2", 4, 1, 2),  # every rank is a model of its own
        ("vllm serve Qwen/Qwen3-30B-A3B -tp 4 -dp 2", 4, 2, 1),  # the ranks share the experts
    ],
)
def test_data_parallel_ranks_of_a_model_without_experts_are_replicas(
    command: str, tp: int, dp: int, replicas: int
) -> None:
    pool = read_back(command, device="h100-sxm").launch.main
    assert (pool.tp, pool.dp, pool.replicas) == (tp, dp, replicas)
