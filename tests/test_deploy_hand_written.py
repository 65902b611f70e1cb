# ruff: noqa: E501 - commands stay on one line, as people write them
"""Deployments as strangers write them: shells, systemd, docker, Slurm, manifests, charts; each fault is named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import cli
from hwdb import InputError
from search.deploy import read_back

L8, L70, Q32 = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-32B"
DS = "deepseek-ai/DeepSeek-R1"
VLLM = "vllm/vllm-openai:v0.11.2"

#: (text, what its decoding pool has, part of the text on what is not known, part of the text on what contradicts).
COMMANDS: list[tuple[str, dict[str, Any], str, str]] = [
    # shells of all kinds
    (f'vllm serve "{L70}" --tensor-parallel-size="4" --kv-cache-dtype=\'fp8\'', {"tp": 4, "kv": "fp8"}, "", ""),
    (
        f"vllm serve {L70} ^\r\n  --tensor-parallel-size 4 ^\r\n  --max-num-seqs 32",
        {"tp": 4, "max_num_seqs": 32},
        "",
        "",
    ),
    (f"vllm serve {L70} `\n  --tensor-parallel-size 4 `\n  --max-num-seqs 32", {"tp": 4, "max_num_seqs": 32}, "", ""),
    (
        f"$ vllm serve {L70} \\\n>   --tensor-parallel-size 4 \\\n>   --max-num-seqs 32",
        {"tp": 4, "max_num_seqs": 32},
        "",
        "",
    ),
    (f"root@gpu01:~$ vllm serve {L70} -tp 4", {"tp": 4}, "", ""),
    (
        f"vllm serve {L70} \\\n -tp 4 \\\n # --max-num-seqs 9 \\\n --max-num-seqs 32",
        {"tp": 4, "max_num_seqs": None},
        "",
        "--max-num-seqs begins a command of its own",
    ),
    (f"vllm serve {L70} -tp 4 \\\n", {"tp": 4}, "", ""),
    (
        f"vllm serve {L70} -tp $(nvidia-smi -L | wc -l)",
        {"tp": 1},
        "--tensor-parallel-size is $(nvidia-smi -L | wc -l)",
        "",
    ),
    (f"vllm serve {L70} -tp `nvidia-smi -L | wc -l`", {"tp": 1}, "--tensor-parallel-size is `nvidia-smi", ""),
    (f"vllm serve {L70} -tp $TP --max-num-seqs ${{SEQS}}", {"tp": 1}, "--max-num-seqs is ${SEQS}", ""),
    (
        f"serve() {{\n  vllm serve {L70} --tensor-parallel-size $1\n}}\nserve 4",
        {"tp": 1},
        "--tensor-parallel-size is $1",
        "",
    ),
    (
        f"if [ $GPU = h100 ]; then\n  TP=4\nelse\n  TP=8\nfi\nvllm serve {L70} -tp $TP",
        {"tp": 8},
        "a branch sets $TP: 4 or 8; 8 is taken",
        "",
    ),
    (f"for PORT in 8000 8001 8002; do\n  vllm serve {L8} --port $PORT &\ndone\nwait", {"replicas": 3}, "", ""),
    (f"for i in $(seq 0 7); do vllm serve {L8} --port 800$i & done", {"replicas": 8}, "", ""),
    (f"for i in {{1..4}}; do\nvllm serve {L8}\ndone", {"replicas": 4}, "", ""),
    (f"vllm serve {L70} –tensor-parallel-size 4", {"tp": 4}, "begins with a long dash", ""),
    (f'vllm serve {L8} --kv-transfer-config ‘{{"kv_connector":"NixlConnector"}}’', {}, "", "curly"),
    (
        f"vllm serve {L8} --enable-prefix-caching true",
        {"prefix_cache": True},
        "'true' is neither a flag nor the value of one",
        "",
    ),
    (f"vllm serve {L70} {L8}", {}, "is neither a flag nor the value of one", ""),
    (f"vllm serve {L70} --Tensor-Parallel-Size 4", {"tp": 1}, "near: --tensor-parallel-size", ""),
    (f"vllm serve {L70} --tp 4", {"tp": 1}, "here it is --tensor-parallel-size", ""),
    (f"vllm serve {L70} --tensor-parallel 4", {"tp": 4}, "", ""),
    (
        f"python3 -m sglang.launch_server --model-path {L70} --tensor_parallel_size 4",
        {"tp": 1},
        "here it is --tp-size",
        "",
    ),
    (f"trtllm-serve {L70} --tensor-parallel-size 4", {"tp": 1}, "here it is --tp_size", ""),
    (f"vllm serve {L8} -O3 -O.cudagraph_mode=FULL", {}, "", ""),
    (f"vllm serve {L8} -O.cudagraph_mod=FULL", {}, "near: cudagraph_mode", ""),
    # what stands around a command
    (f"nohup numactl --membind=0 vllm serve {Q32} -tp 2 2>&1 | tee log.txt &", {"tp": 2}, "", ""),
    (f'tmux new-session -d -s v "vllm serve {Q32} -tp 2"', {"tp": 2}, "", ""),
    (f"ssh node1 'cd /srv && vllm serve {Q32} -tp 2'", {"tp": 2}, "", ""),
    (
        f'[Unit]\nDescription=x\n[Service]\nEnvironment="TP=4"\nExecStart=/opt/bin/vllm serve {L70} --tensor-parallel-size ${{TP}}\nRestart=always',
        {"tp": 4},
        "",
        "",
    ),
    (f"[Service]\nExecStart=/usr/bin/docker run --gpus all \\\n  {VLLM} \\\n  --model {L70} -tp 8", {"tp": 8}, "", ""),
    (
        f"docker run --gpus '\"device=0,1\"' --ipc=host -e HF_TOKEN=$T -v ~/c:/c {VLLM} --model {Q32} -tp 2",
        {"tp": 2},
        "",
        "",
    ),
    (f"docker run --gpus 4 {VLLM} --model {Q32} -tp 2", {"tp": 2}, "", "the replica has 4"),
    (
        f"docker run --gpus all --entrypoint python3 {VLLM} -m vllm.entrypoints.openai.api_server --model {Q32} -tp 2",
        {"tp": 2},
        "",
        "",
    ),
    (f"kubectl run v --image={VLLM} --limits=nvidia.com/gpu=2 -- --model {Q32} -tp 2", {"tp": 2}, "", ""),
    (
        f"docker run --rm nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc2 bash -lc 'trtllm-serve serve {L70} --tp_size 4'",
        {"tp": 4},
        "",
        "",
    ),
    (json.dumps(["vllm", "serve", Q32, "--tensor-parallel-size", "2"]), {"tp": 2}, "", ""),
    (f"- vllm\n- serve\n- {Q32}\n- --tensor-parallel-size\n- 2\n", {"tp": 2}, "", ""),
    # several nodes are one replica
    (
        f"vllm serve {DS} -tp 16 --nnodes 2 --node-rank 0 --master-addr h\nvllm serve {DS} -tp 16 --nnodes 2 --node-rank 1 --master-addr h --headless",
        {"tp": 16, "replicas": 1},
        "",
        "",
    ),
    (
        f"python3 -m sglang.launch_server --model-path {DS} --tp 16 --nnodes 2 --node-rank 0\npython3 -m sglang.launch_server --model-path {DS} --tp 16 --nnodes 2 --node-rank 1",
        {"tp": 16, "replicas": 1},
        "",
        "",
    ),
    (
        f"vllm serve {DS} -dp 16 --data-parallel-size-local 8 --data-parallel-address h\nvllm serve {DS} --headless -dp 16 --data-parallel-size-local 8 --data-parallel-start-rank 8",
        {"dp": 16, "replicas": 1},
        "",
        "",
    ),
    (
        f"srun -N 2 --ntasks-per-node 8 trtllm-llmapi-launch trtllm-serve {DS} --tp_size 16 --ep_size 16",
        {"tp": 16, "ep": 16},
        "",
        "",
    ),
    # files of flags and variables
    (
        f"cat > c.yaml <<EOF\nmax-num-seqs: 64\nbogus: 1\nEOF\nvllm serve {Q32} --config=c.yaml",
        {"max_num_seqs": 64},
        "--bogus is no flag",
        "",
    ),
    (f"vllm serve {Q32} --config nowhere.yaml", {}, "the file nowhere.yaml is not here", ""),
    (
        f"cat > c.yaml <<EOF\nkv_cache_config: {{dtype: fp8, free_gpu_mem_fraction: 0.8}}\nEOF\ntrtllm-serve {L70} --config c.yaml",
        {"kv": "fp8"},
        "'free_gpu_mem_fraction' is no known key",
        "",
    ),
    (
        f"trtllm-serve {L70} --tp_size 4 --kv_cache_dtype fp8 --enable_attention_dp",
        {"tp": 1, "dp": 4, "kv": "fp8"},
        "",
        "",
    ),
    (
        "LLAMA_ARG_CTX_SIZE=8192 LLAMA_ARG_N_PARALLEL=4 llama-server -m Qwen3-32B-Q4_K_M.gguf",
        {"max_num_seqs": 4},
        "",
        "",
    ),
]


def agrees(read: Any, pool: dict[str, Any], unknown: str, conflict: str) -> None:
    """Compare what was read with what was expected of it."""
    assert {name: getattr(read.launch.main, name) for name in pool} == pool
    assert unknown in "; ".join(read.unknown)
    assert bool(unknown) == bool(read.unknown), read.unknown
    assert conflict in "; ".join(read.conflicts)
    assert bool(conflict) == bool(read.conflicts), read.conflicts


@pytest.mark.parametrize(("text", "pool", "unknown", "conflict"), COMMANDS)
def test_commands_as_people_write_them(text: str, pool: dict[str, Any], unknown: str, conflict: str) -> None:
    agrees(read_back(text, device="h100-sxm"), pool, unknown, conflict)


def deployment(container: str, kind: str = "Deployment", more: str = "") -> str:
    """Return a manifest with one container, the lines of which are given."""
    lines = "\n".join("        " + line for line in container.strip().splitlines())
    return f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: v}}\nspec:\n  replicas: 2\n  template:\n    spec:\n{more}      containers:\n{lines.replace('        ', '      - ', 1)}\n"


FILES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        f"services:\n  a:\n    image: {VLLM}\n    command: >\n      --model {Q32}\n      --tensor-parallel-size ${{TP:-2}}\n    gpus: 2\n",
        {"tp": 2},
        "",
        "",
    ),
    (
        f"services:\n  a:\n    image: {VLLM}\n    command: ['--model', '{Q32}', -tp, 2]\n    gpus: [{{driver: nvidia, count: 4}}]\n",
        {"tp": 2},
        "",
        "the replica has 4",
    ),
    (
        f"services:\n  a:\n    image: {VLLM}\n    entrypoint: [bash, -c]\n    command:\n    - |\n      vllm serve {Q32} \\\n        -tp 2\n    deploy: {{replicas: 3}}\n",
        {"tp": 2, "replicas": 3},
        "",
        "",
    ),
    (f"x-b: &b\n  image: {VLLM}\n  command: [--model, {Q32}]\nservices:\n  a: *b\n  c: *b\n", {"replicas": 2}, "", ""),
    (
        f"services:\n  a:\n    image: {VLLM}\n    command: --model {L8}\n    command: --model {Q32} -tp 2\n",
        {"tp": 2},
        "",
        "command: is given twice",
    ),
    (
        "services:\n  a:\n    image: ghcr.io/ggml-org/llama.cpp:server-cuda\n    environment: {LLAMA_ARG_MODEL: /m/Qwen3-32B-Q4_K_M.gguf, LLAMA_ARG_N_PARALLEL: 2}\n",
        {"max_num_seqs": 2, "weight": "q4_k_m"},
        "",
        "",
    ),
    (
        deployment(
            f"image: {VLLM}\ncommand: [sh, -c]\nargs: ['vllm serve {Q32} -tp $TP --max-num-seqs $(SEQS)']\nenv: [{{name: TP, value: '2'}}, {{name: SEQS, value: '64'}}]"
        ),
        {"tp": 2, "max_num_seqs": 64, "replicas": 2},
        "",
        "",
    ),
    (
        deployment(
            f"image: {VLLM}\nargs: ['--model=$(MODEL)', -tp=2]\nenv: [{{name: MODEL, value: {Q32}}}]", "StatefulSet"
        ),
        {"tp": 2},
        "",
        "",
    ),
    (deployment(f"image: {VLLM}\nargs: --model {Q32} -tp 2"), {"tp": 2}, "", ""),
    (
        deployment(f"image: {VLLM}\nargs: [--model, {Q32}, -tp, '{{{{ .Values.tp }}}}']"),
        {"tp": 1},
        "{{ .Values.tp }}, which is not known",
        "",
    ),
    (
        deployment(
            f"image: {VLLM}\nargs: [--model, {Q32}]",
            more="      nodeSelector: {cloud.google.com/gke-accelerator: nvidia-h200-141gb}\n",
        ),
        {"replicas": 2},
        "",
        "",
    ),
    (
        f"apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n  spec:\n    containers:\n    - image: {VLLM}\n      args: [--model, {Q32}, -tp, '2']\n",
        {"tp": 2},
        "",
        "",
    ),
    (
        deployment(
            "image: rocm/vllm:rocm7.0.0_vllm_0.11.2_20251210\ncommand: [vllm, serve, Qwen/Qwen3-32B, --swap-space, '4']"
        ),
        {},
        "",
        "",
    ),
    (
        f"apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nspec:\n  replicas: 2\n  leaderWorkerTemplate:\n    size: 2\n    workerTemplate:\n      spec:\n        containers:\n        - image: {VLLM}\n          command: [vllm, serve, {DS}, -tp, '8', -pp, '2']\n          resources: {{limits: {{nvidia.com/gpu: 8}}}}\n",
        {"tp": 8, "pp": 2, "replicas": 2},
        "",
        "",
    ),
    (
        f"apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec:\n  predictor:\n    minReplicas: 2\n    model:\n      modelFormat: {{name: huggingface}}\n      args: [--model_name=a, --model_id={L8}, --max-num-seqs=64]\n",
        {"replicas": 2, "max_num_seqs": 64},
        "",
        "",
    ),
    (
        f"apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec:\n  predictor:\n    model: {{storageUri: 'hf://{L8}', args: [-tp=2], resources: {{limits: {{nvidia.com/gpu: 4}}}}}}\n",
        {"tp": 2},
        "",
        "the replica has 4",
    ),
    (
        f"apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceService\nspec:\n  model: {{uri: 'hf://{DS}', name: {DS}}}\n  scaling: {{minReplicas: 3, maxReplicas: 4}}\n  parallelism: {{data: 16, dataLocal: 8, expert: true, tensor: 1}}\n  template:\n    containers:\n    - name: main\n      resources: {{limits: {{nvidia.com/gpu: 8}}}}\n  worker: {{containers: [{{name: main}}]}}\n",
        {"dp": 16, "ep": 16, "replicas": 3},
        "",
        "",
    ),
    (
        f"servingEngineSpec:\n  modelSpec:\n  - modelURL: {L8}\n    tag: v0.11.2\n    replicaCount: 3\n    requestGPU: 1\n    vllmConfig: {{enablePrefixCaching: false, maxModelLen: 8192, extraArgs: [--max-num-seqs, '64']}}\n",
        {"replicas": 3, "prefix_cache": False, "max_num_seqs": 64},
        "",
        "",
    ),
    (
        f"modelArtifacts: {{uri: 'hf://{Q32}', name: {Q32}}}\ndecode:\n  replicas: 1\n  parallelism: {{tensor: 4}}\n  containers: [{{modelCommand: vllmServe, args: [--max-num-seqs, '64']}}]\nprefill: {{create: true, replicas: 4, parallelism: {{tensor: 1}}, containers: [{{args: []}}]}}\n",
        {"role": "decode", "tp": 4, "max_num_seqs": 64},
        "",
        "",
    ),
    (
        f"apiVersion: nvidia.com/v1alpha1\nkind: DynamoGraphDeployment\nspec:\n  services:\n    W:\n      replicas: 1\n      multinode: {{nodeCount: 2}}\n      resources: {{limits: {{gpu: '8'}}}}\n      extraPodSpec:\n        mainContainer:\n          image: nvcr.io/nvidia/ai-dynamo/tensorrtllm-runtime:0.6.0\n          command: [python3, -m, dynamo.trtllm]\n          args: [--model-path, {DS}, --served-model-name, {DS}, --tensor-parallel-size, '16']\n",
        {"tp": 16},
        "",
        "",
    ),
    (
        f"applications:\n- args:\n    llm_configs:\n    - model_loading_config: {{model_id: q, model_source: {Q32}}}\n      engine_kwargs: {{tensor_parallel_size: 2, bogus_arg: 1}}\n      deployment_config: {{autoscaling_config: {{min_replicas: 2}}}}\n",
        {"tp": 2, "replicas": 2},
        "--bogus-arg is no flag",
        "",
    ),
    (f"model: {Q32}\ntensor-parallel-size: 2\nmax_num_seqs: 64\n", {"tp": 2, "max_num_seqs": 64}, "", ""),
]


@pytest.mark.parametrize(("text", "pool", "unknown", "conflict"), FILES)
def test_files_as_people_write_them(
    text: str, pool: dict[str, Any], unknown: str, conflict: str, tmp_path: Path
) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(text, newline="")
    agrees(read_back(path, device="h100-sxm"), pool, unknown, conflict)


RECIPE = """
model: {path: dsr1, container: "lmsysorg/sglang:v0.5.9", precision: fp8}
identity: {model: {repo: deepseek-ai/DeepSeek-R1}}
resources: {gpu_type: h200, prefill_workers: 2, gpus_per_prefill: 8, decode_workers: 1, gpus_per_decode: 16}
backend:
  type: sglang
  sglang_config:
    prefill: {tensor-parallel-size: 8, disaggregation-mode: prefill, enable-dp-attention: false, chunked-prefill-size: 16384}
    decode: {tp-size: 16, dp-size: 16, enable-dp-attention: true, disaggregation-mode: decode, max-runing-requests: 512}
"""


def test_recipes_of_several_nodes_are_read() -> None:
    read = read_back(RECIPE)
    assert [(p.role, p.replicas, p.tp, p.dp, p.device) for p in read.launch.pools] == [
        ("prefill", 2, 8, 1, "h200-sxm"),
        ("decode", 1, 1, 16, "h200-sxm"),
    ]
    assert read.launch.version == "0.5.9"
    assert [text.split(" is no flag")[0] for text in read.unknown] == ["--max-runing-requests"]
    assert read.conflicts == ()


def test_what_a_file_says_of_its_device_counts() -> None:
    gke = "      nodeSelector: {cloud.google.com/gke-accelerator: nvidia-h200-141gb}\n"
    assert read_back(deployment(f"image: {VLLM}\nargs: [--model, {Q32}]", more=gke)).launch.main.device == "h200-sxm"
    ray = f"applications:\n- args:\n    llm_configs:\n    - {{accelerator_type: L40S, model_loading_config: {{model_id: {L8}}}}}\n"
    assert read_back(ray).launch.main.device == "l40s"


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ('--speculative-config \'{"method": "medusa", "num_speculative_tokens": 3}\'', "drafts make tokens faster"),
        ("--cpu-offload-gb 20", "say it with --host-weights"),
        ("--kv-offloading-size 20", "say it with --host-kv"),
        ("--num-gpu-blocks-override 100", "the KV pool is set by hand"),
    ],
)
def test_flags_that_matter_and_are_not_counted_are_said(flag: str, told: str) -> None:
    read = read_back(f"vllm serve {L8} {flag}", device="h100-sxm")
    assert told in "; ".join(read.uncounted)
    assert read.unused == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("  ", "--from is empty"),
        ("\n\n", "--from is empty"),
        ("vllm serve <model> -tp 2", "a place to fill in"),
        ("vllm serve {{ .Values.model }}", "a place to fill in"),
        ("vllm serve $MODEL", "the model is \\$MODEL"),
        ("apiVersion: v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}-x\n", "helm template"),
        ("services:\n\ta:\n", "line 2"),
        (f"vllm serve {L8} -tp -4", "no degree of parallelism"),
        (f"vllm serve {L8} --gpu-memory-utilization nan", "not finite"),
        ("applications:\n- args: {llm_configs: [./a.yaml]}\n", "names the file ./a.yaml"),
        ("kind: RayService\nspec: {serveConfigV2: 'a: [1'}\n", "serveConfigV2 is not YAML"),
        (
            f"services:\n  a: {{image: {VLLM}, command: --model {L8}}}\n  b: {{image: {VLLM}, command: --model {Q32}}}\n",
            "it serves 2 models with 1 engine",
        ),
        (f"vllm serve {DS} -tp 16 --nnodes 2 --node-rank 1 --headless", "joins a first node"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimate", "--from", text, "--device", "h100-sxm"]) == 2
    error = capsys.readouterr().err
    assert told.replace("\\", "") in error.replace("\n", " ")
    assert "Traceback" not in error


PARTS = (
    "--",
    "=",
    "'",
    '"',
    "{",
    "]",
    "$(",
    "`",
    "\\\n",
    "\n",
    "\t",
    ": ",
    "- ",
    "null",
    "-1",
    "nan",
    "&a",
    "*a",
    "<<EOF",
    "done",
    "if x",
    "for i in a b; do",
    "–",
    "\x00",
    "9" * 30,
)


def test_damaged_texts_end_in_a_sentence_too() -> None:
    rng, texts = random.Random(5), [text for text, *_ in (*COMMANDS, *FILES)]
    read = 0
    for _ in range(250):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + (rng.choice(PARTS) if rng.random() < 0.5 else "") + text[at + rng.randint(0, 9) :]
        try:
            read_back(text, device="h100-sxm")
            read += 1
        except InputError:
            continue
    assert read > 50
