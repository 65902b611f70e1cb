"""Find the engine that a command starts: its family, its arguments, and the checkpoint that it loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePosixPath

from search.deploy.reading_back.shell import Given, commands, stated

#: Modules of Python that start an engine, behind `-m`.
MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "vllm.entrypoints.api_server": "vllm",
    "sglang.launch_server": "sglang",
    "dynamo.vllm": "vllm",
    "dynamo.sglang": "sglang",
    "dynamo.trtllm": "trtllm",
    "tensorrt_llm.commands.serve": "trtllm",
}
#: Programs that start an engine, and the word that has to follow.
PROGRAMS = {
    "vllm": ("vllm", "serve"),
    "sglang": ("sglang", "serve"),
    "trtllm-serve": ("trtllm", ""),
    "llama-server": ("llamacpp", ""),
    "mindieservice_daemon": ("mindie", ""),
}
#: Parts of the names of container images whose entry point is an engine's server.
IMAGES = {
    "vllm": "vllm",
    "sglang": "sglang",
    "tensorrt-llm": "trtllm",
    "tensorrtllm": "trtllm",
    "llama.cpp": "llamacpp",
    "llm-d-cuda": "vllm",
    "tensorrtllm-runtime": "trtllm",
}
#: Parts of the names of images whose tag is the release of the package around the engine (Dynamo, llm-d), not its own.
PACKED = ("dynamo", "-runtime", "llm-d/", "llm-d-")
#: Most shells within shells that are followed.
DEEPEST = 6
_SHELLS = ("bash", "sh", "zsh")
_TAG = re.compile(r":v?(\d+(?:\.\d+)+(?:\.?post\d+|rc\d+)?)")
#: The same in tags that name the engine before its release, as AMD's do (rocm7.0.0_vllm_0.11.2_20251210).
_NAMED_TAG = re.compile(r"(?:vllm|sglang)[_-]v?(\d+\.\d+\.\d+(?:\.?post\d+)?)")
#: Programs that start a container, their subcommands that do so, and the flags that set a variable.
_DOCKERS, _STARTS = ("docker", "podman", "nerdctl", "kubectl", "oc"), ("run", "create")
_DOCKER_ENV = ("-e", "--env")
#: The start of an engine within one word, as ssh and srun hand a whole command to a shell elsewhere.
_ENGINE_WORDS = re.compile(r"\S\s+(?:serve|-m)\s|(?:trtllm-serve|llama-server)\s")
#: Flags of Dynamo's worker for TensorRT-LLM (package ai-dynamo 1.6.1, dynamo/trtllm/backend_args.py) -> trtllm-serve's.
DYNAMO_TRTLLM = {
    "--tensor-parallel-size": "--tp_size",
    "--pipeline-parallel-size": "--pp_size",
    "--expert-parallel-size": "--ep_size",
    "--max-batch-size": "--max_batch_size",
    "--max-num-tokens": "--max_num_tokens",
    "--max-seq-len": "--max_seq_len",
    "--free-gpu-memory-fraction": "--free_gpu_memory_fraction",
    "--extra-engine-args": "--config",
    "--enable-attention-dp": "--enable_attention_dp",
}


def engine_of_image(image: str) -> tuple[str, str]:
    """Return the engine that a container image serves, and its version; "" for either where the name has none."""
    found = next((engine for part, engine in IMAGES.items() if part in image.lower()), "")
    last = image.rsplit("/", 1)[-1]
    tag = _NAMED_TAG.search(last) or _TAG.search(last)
    own = not any(part in image.lower() for part in PACKED)
    return found, tag[1] if tag and own else ""


def recognised(given: Given, depth: int = 0) -> tuple[str, Given] | None:
    """Return the engine that a command starts, and the command with the engine's arguments only; None for others.

    depth: of shells within shells in which the command stands.
    """
    words = list(given.words) if depth <= DEEPEST else []
    for i, word in enumerate(words):
        name = PurePosixPath(word).name
        if name in _SHELLS or _ENGINE_WORDS.search(word):
            inner = _inside_shell(given, words[i + 1 :] if name in _SHELLS else ["-c", word], depth)
            if inner is not None:
                return inner
        if word == "-m" and i + 1 < len(words) and words[i + 1] in MODULES:
            return _module(given, words[i + 1], words[i + 2 :])
        if name in PROGRAMS and not word.startswith("-"):
            engine, following = PROGRAMS[name]
            rest = words[i + 1 :]
            if following and rest[:1] != [following]:
                continue
            rest = rest[1:] if following or rest[:1] == ["serve"] else rest
            return None if rest[:1] == ["disaggregated"] else (engine, replace(given, words=tuple(rest)))
    return _inside_docker(given, words)


def _module(given: Given, module: str, rest: Sequence[str]) -> tuple[str, Given]:
    """Return the engine that a module of Python starts, and its arguments in the words of the engine's own server."""
    if not module.startswith("dynamo."):
        return MODULES[module], replace(given, words=tuple(rest))
    words = list(rest)
    if MODULES[module] == "trtllm":
        words = [_as_trtllm(word) for word in rest]
        for flag in ("--model", "--model-path"):  # trtllm-serve takes the model without a flag
            if flag in words[:-1]:
                at = words.index(flag)
                words = [words[at + 1], *words[:at], *words[at + 2 :]]
    return MODULES[module], replace(given, words=tuple(words), marks={**given.marks, "dynamo": ""})


def _as_trtllm(word: str) -> str:
    """Return a flag of Dynamo's worker for TensorRT-LLM as trtllm-serve spells it."""
    name, equals, value = word.partition("=")
    return DYNAMO_TRTLLM.get(name, name) + equals + value


def _inside_shell(given: Given, rest: Sequence[str], depth: int) -> tuple[str, Given] | None:
    """Return the engine's command in the text of `bash -c TEXT`; None without one."""
    texts = [word for before, word in pairwise(rest) if re.fullmatch(r"-\w*c", before)]
    if not texts and len(rest) == 1 and _ENGINE_WORDS.search(rest[0]):
        texts = [rest[0]]
    for text in texts[:1]:
        for one in commands(text, given.env):
            found = recognised(replace(one, files={**given.files, **one.files}), depth + 1)
            if found is not None:
                doubts = (*given.doubts, *found[1].doubts)
                return found[0], replace(found[1], marks={**found[1].marks, **given.marks}, doubts=doubts)
    return None


def _inside_docker(given: Given, words: Sequence[str]) -> tuple[str, Given] | None:
    """Return the engine's command in `docker run ... IMAGE ARGUMENTS`; None for other commands."""
    at = next((i for i, w in enumerate(words) if PurePosixPath(w).name in _DOCKERS), len(words))
    words = _as_docker(words[at:])
    if not any(start in words for start in _STARTS):
        return None
    env, devices = dict(given.env), ""
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        following = value if equals else words[i + 1] if i + 1 < len(words) else ""
        if flag in _DOCKER_ENV and "=" in following:
            name, _, value = following.partition("=")
            env[name] = value
        if flag in ("--gpus", "--limits"):
            devices = _docker_devices(following) or devices
        engine, version = engine_of_image(word) if i > 1 and not word.startswith("-") and "=" not in word else ("", "")
        if engine and words[i - 1] not in ("-v", "--volume", "--name", *_DOCKER_ENV):
            marks = {**stated(version=version, devices=devices), **given.marks}
            rest = words[i + 1 :]
            inner = recognised(replace(given, words=tuple(rest), marks=marks, env=env))
            return inner or (engine, replace(given, words=tuple(rest), marks=marks, env=env))
    return None


def _as_docker(words: Sequence[str]) -> list[str]:
    """Return `kubectl run NAME --image=IMAGE -- ARGUMENTS` as docker has it; other words as they are."""
    if not words or PurePosixPath(words[0]).name not in ("kubectl", "oc") or "--" not in words:
        return list(words)
    at = list(words).index("--")
    head = [part for word in words[:at] for part in word.split("=", 1)]
    images = [image for flag, image in pairwise(head) if flag == "--image"]
    return ["docker", "run", *(w for w in words[3:at] if w.startswith("--limits")), *images, *words[at + 1 :]]


def _docker_devices(text: str) -> str:
    """Return how many devices `--gpus` hands over (2, "device=0,1"), or --limits of kubectl; "" for all of them."""
    text = text.strip("'\"")
    if text.isdigit():
        return text
    count = re.search(r"(?:count|gpu)=(\d+)", text)
    names = re.search(r"device=([\w:.,-]+)", text)
    return count[1] if count else str(len(names[1].split(","))) if names else ""
