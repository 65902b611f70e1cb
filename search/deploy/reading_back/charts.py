"""Read values of Helm charts that start engines, KServe's InferenceService, and files of flags: each is a command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from search.deploy.reading_back.loose import as_list, as_map, first_map, variables_of
from search.deploy.reading_back.shell import Given, stated

#: Keys of vLLM's production-stack values (helm/values.yaml of vllm-project/production-stack, 2026) -> flags.
STACK = {
    "tensorParallelSize": "--tensor-parallel-size",
    "pipelineParallelSize": "--pipeline-parallel-size",
    "maxModelLen": "--max-model-len",
    "maxNumSeqs": "--max-num-seqs",
    "maxNumBatchedTokens": "--max-num-batched-tokens",
    "gpuMemoryUtilization": "--gpu-memory-utilization",
    "dtype": "--dtype",
}
SWITCHES = {"enableChunkedPrefill": "enable-chunked-prefill", "enablePrefixCaching": "enable-prefix-caching"}
#: Flags of KServe's server for Hugging Face models (kserve/kserve python/huggingfaceserver, 2026) that are its own; the
#: others are vLLM's. Arguments in which it names the model.
KSERVE_OWN = ("--model_name", "--model-name", "--backend", "--task", "--return_token_type_ids")
KSERVE_MODEL = ("--model_id", "--model-id", "--model_dir", "--model-dir")
#: Keys that only the flags of one engine have, in a file of flags without anything else.
FLAG_KEYS = {"sglang": ("model-path", "mem-fraction-static", "tp-size"), "vllm": ("model", "model_tag")}


def given_of_values(values: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands that the values of a known chart stand for: vLLM's production stack, llm-d's model service."""
    for spec in as_list(as_map(values.get("servingEngineSpec")).get("modelSpec")):
        yield _stack(as_map(spec))
    artifacts = as_map(values.get("modelArtifacts"))
    for role in ("prefill", "decode"):
        part = as_map(values.get(role))
        if artifacts and part and part.get("create", True):
            yield _model_service(artifacts, part, role, both=bool(as_map(values.get("prefill")).get("create")))


def _stack(spec: Mapping[str, Any]) -> Given:
    """Return the command of one model of vLLM's production stack."""
    config = as_map(spec.get("vllmConfig"))
    words = ["vllm", "serve", str(spec.get("modelURL", ""))]
    words += [w for key, flag in STACK.items() if key in config for w in (flag, str(config[key]))]
    for key, flag in SWITCHES.items():
        words += [f"--{flag}" if config[key] else f"--no-{flag}"] if key in config else []
    words += [str(w) for w in as_list(config.get("extraArgs"))]
    tag = str(spec.get("tag", "")).lstrip("v")
    marks = {"replicas": str(spec.get("replicaCount", 1)), "devices": str(spec.get("requestGPU", "")), "version": tag}
    return Given(tuple(words), marks={k: v for k, v in marks.items() if v[:1].isdigit()})


def _model_service(artifacts: Mapping[str, Any], part: Mapping[str, Any], role: str, *, both: bool) -> Given:
    """Return the command of one role of llm-d's chart llm-d-modelservice. both: whether it has two pools."""
    name = str(artifacts.get("uri", artifacts.get("name", ""))).removeprefix("hf://")
    ways, found = as_map(part.get("parallelism")), first_map(part.get("containers"))
    words = ["vllm", "serve", name, "--served-model-name", str(artifacts.get("name", name))]
    for key, flag in (("tensor", "--tensor-parallel-size"), ("data", "--data-parallel-size")):
        words += [flag, str(ways[key])] if str(ways.get(key) or "").isdigit() else []
    words += [str(w) for w in as_list(found.get("args"))]
    env = variables_of(found)
    held = as_map(as_map(found.get("resources")).get("limits")).get("nvidia.com/gpu") or ""
    known = stated(pool=role if both else "", devices=str(held))
    return Given(tuple(words), env, marks={"replicas": str(part.get("replicas", 1)), **known})


def given_of_recipe(recipe: Mapping[str, Any]) -> Iterator[Given]:
    """Yield the commands of the pools of a recipe of srt-slurm (ishandhanani/srt-slurm, 2026), which Dynamo's and
    InferenceX's runs on several nodes are described in: flags by role, workers and devices of each."""
    backend, held = as_map(recipe.get("backend")), as_map(recipe.get("resources"))
    model = as_map(recipe.get("model"))
    engine = str(backend.get("type", ""))
    image = str(as_map(as_map(recipe.get("identity")).get("container")).get("image") or model.get("container", ""))
    name = str(as_map(as_map(recipe.get("identity")).get("model")).get("repo") or model.get("path", ""))
    for role, flags in as_map(backend.get(f"{engine}_config")).items():
        short = "agg" if role == "aggregated" else str(role)
        flags, env = dict(as_map(flags)), as_map(backend.get(f"{role}_environment"))
        marks = {"pool": short, "replicas": str(held.get(f"{short}_workers", 1)), "image": image, "dynamo": ""}
        marks |= {"devices": str(held[f"gpus_per_{short}"])} if f"gpus_per_{short}" in held else {}
        marks["gpu_type"] = str(held.get("gpu_type", ""))
        served = str(flags.get("served-model-name", flags.get("served_model_name", name)))
        texts = {str(k): str(v) for k, v in env.items()}
        if engine == "trtllm":
            words: tuple[str, ...] = ("trtllm-serve", served, "--config", "flags.yaml")
        else:
            flags.pop("model-path", None)
            start = ("vllm", "serve") if engine == "vllm" else ("python3", "-m", "sglang.launch_server", "--model-path")
            words = (*start, served, "--config", "flags.yaml")
        yield Given(words, texts, {"flags.yaml": json.dumps(flags, default=str)}, marks)


def kserve_model(model: Mapping[str, Any]) -> list[str]:
    """Return the command of the model of an InferenceService whose runtime is vLLM's, as a list of words."""
    words = [str(w) for w in as_list(model.get("args"))]
    name, kept = str(model.get("storageUri", "")).removeprefix("hf://"), []
    own = (*KSERVE_OWN, *KSERVE_MODEL)
    parts = [part for w in words for part in (w.split("=", 1) if w.split("=")[0] in own else [w])]
    while parts:
        word = parts.pop(0)
        if word in KSERVE_MODEL and parts:
            name = parts.pop(0)
        elif word in KSERVE_OWN and parts:
            parts.pop(0)
        else:
            kept.append(word)
    return ["vllm", "serve", name, *kept] if name else []


def given_of_flags(held: Mapping[str, Any]) -> Given | None:
    """Return the command that a file of flags (of --config) stands for; None for a mapping that is none."""
    names = {str(key).replace("_", "-") for key in held}
    engine = next((e for e, keys in FLAG_KEYS.items() if names & {k.replace("_", "-") for k in keys}), "")
    if not engine or not all(isinstance(k, str) for k in held) or isinstance(held.get("model"), Mapping):
        return None
    start = ("vllm", "serve") if engine == "vllm" else ("python3", "-m", "sglang.launch_server")
    return Given((*start, "--config", "flags.yaml"), files={"flags.yaml": json.dumps(held, default=str)})
