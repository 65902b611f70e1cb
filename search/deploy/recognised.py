"""Find the engine that a command starts: its family, its arguments, and the checkpoint that it loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePosixPath

from search.deploy.shell import Given, commands

#: Modules of Python that start an engine, behind `-m`.
MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "vllm.entrypoints.api_server": "vllm",
    "sglang.launch_server": "sglang",
    "dynamo.vllm": "vllm",
    "dynamo.sglang": "sglang",
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
}
_SHELLS = ("bash", "sh", "zsh")
_TAG = re.compile(r":v?(\d+(?:\.\d+)+(?:\.?post\d+|rc\d+)?)")
#: Flags of `docker run` that take a value in the next word, and those of them that set a variable.
_DOCKER_ENV = ("-e", "--env")


def engine_of_image(image: str) -> tuple[str, str]:
    """Return the engine that a container image serves, and its version; "" for either where the name has none."""
    found = next((engine for part, engine in IMAGES.items() if part in image.lower()), "")
    tag = _TAG.search(image.rsplit("/", 1)[-1])
    return found, tag[1] if tag else ""


def recognised(given: Given) -> tuple[str, Given] | None:
    """Return the engine that a command starts, and the command with the engine's arguments only; None for others."""
    words = list(given.words)
    for i, word in enumerate(words):
        name = PurePosixPath(word).name
        if name in _SHELLS:
            inner = _inside_shell(given, words[i + 1 :])
            if inner is not None:
                return inner
        if word == "-m" and i + 1 < len(words) and words[i + 1] in MODULES:
            marks = {**given.marks, **({"dynamo": ""} if words[i + 1].startswith("dynamo.") else {})}
            return MODULES[words[i + 1]], replace(given, words=tuple(words[i + 2 :]), marks=marks)
        if name in PROGRAMS and not word.startswith("-"):
            engine, following = PROGRAMS[name]
            rest = words[i + 1 :]
            if following and rest[:1] != [following]:
                continue
            rest = rest[1:] if following or rest[:1] == ["serve"] else rest
            return None if rest[:1] == ["disaggregated"] else (engine, replace(given, words=tuple(rest)))
    return _inside_docker(given, words)


def _inside_shell(given: Given, rest: Sequence[str]) -> tuple[str, Given] | None:
    """Return the engine's command in the text of `bash -c TEXT`; None without one."""
    texts = [word for before, word in pairwise(rest) if re.fullmatch(r"-\w*c", before)]
    for text in texts[:1]:
        for one in commands(text):
            found = recognised(replace(one, env={**given.env, **one.env}, files={**given.files, **one.files}))
            if found is not None:
                return found[0], replace(found[1], marks={**found[1].marks, **given.marks})
    return None


def _inside_docker(given: Given, words: Sequence[str]) -> tuple[str, Given] | None:
    """Return the engine's command in `docker run ... IMAGE ARGUMENTS`; None for other commands."""
    if not words or PurePosixPath(words[0]).name not in ("docker", "podman", "nerdctl") or "run" not in words:
        return None
    env = dict(given.env)
    for i, word in enumerate(words):
        if word in _DOCKER_ENV and i + 1 < len(words):
            name, _, value = words[i + 1].partition("=")
            env[name] = value
        engine, version = engine_of_image(word) if i > 1 and not word.startswith("-") and "=" not in word else ("", "")
        if engine and words[i - 1] not in ("-v", "--volume", "--name", *_DOCKER_ENV):
            marks = {**({"version": version} if version else {}), **given.marks}
            rest = words[i + 1 :]
            inner = recognised(replace(given, words=tuple(rest), marks=marks, env=env))
            return inner or (engine, replace(given, words=tuple(rest), marks=marks, env=env))
    return None
