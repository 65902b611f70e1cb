"""Imports llama-bench -o json (or jsonl): forward passes of one model (ggml-org/llama.cpp tools/llama-bench).

llama-bench times whole models, not operators, so its rows have the families `model_prefill` and `model_decode`. They
give lower limits of what a device can reach: a decode step of a dense model reads every weight once, so
`model_size / time` is a memory bandwidth that the device reached.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hwdb import InputError
from perfmodel.profiles.importers.plain import open_text
from perfmodel.profiles.importers.rows import Rows, concat, rows_of

#: Numbers that every test must have.
NEEDED = ("model_size", "model_n_params", "n_prompt", "n_gen", "avg_ns")

NANO = 1e-9


def read(path: Path, device: str = "", licence: str = "") -> Rows:
    """Read one row per test. The device is `device` if given, else the GPU or CPU as llama-bench names it.

    Prompt-and-generation tests (`-pg`) have one time for both phases and are left out. Raises `InputError` if the file
    is not llama-bench output, or has no other tests.
    """
    tests = _tests(path)
    for index, test in enumerate(tests):
        for key in NEEDED:
            if not isinstance(test.get(key), int | float) or isinstance(test.get(key), bool):
                raise InputError(f"{path}, test {index + 1}: no number {key!r}; is this llama-bench -o json output?")
    pure = [test for test in tests if bool(test["n_prompt"]) != bool(test["n_gen"])]
    if not pure:
        raise InputError(f"{path}: no pure prompt (-p) or generation (-n) test; mixed -pg times cannot be told apart")
    return concat(_row(test, device, licence, path.name) for test in pure)


def _tests(path: Path) -> list[dict[str, Any]]:
    """Read the tests in a file, each with the keys that llama-bench wrote."""
    with open_text(path) as stream:
        text = stream.read().strip()
    try:
        found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines() if line]
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}); use llama-bench -o json") from error
    if not found or not all(isinstance(test, dict) for test in found):
        raise InputError(f"{path}: no tests; expected the array that llama-bench -o json prints")
    return found


def _row(test: dict[str, Any], device: str, licence: str, source: str) -> Rows:
    """Turn a test into a canonical row; a generation test counts as its mean decode step."""
    named = str(test.get("gpu_info") or test.get("cpu_info") or "").strip()
    steps = max(1, int(test["n_gen"]))
    depth = float(test.get("n_depth", 0) or 0)
    weights = str(test.get("model_type", "")).strip()
    return rows_of(
        1,
        device=device or named,
        software=f"llama.cpp {test.get('build_commit', '')} {test.get('backends', '')}".strip(),
        kernel=f"{weights}; {test.get('n_threads', '?')} threads; {test.get('n_gpu_layers', '?')} layers on the GPU",
        family="model_decode" if test["n_gen"] else "model_prefill",
        kv=str(test.get("type_k", "")),
        batch=1.0,
        query=float(test["n_prompt"]) if test["n_prompt"] else float("nan"),
        # the context of a generation test starts at n_depth and grows by one token per step: on average by half
        context=depth + (steps / 2.0 if test["n_gen"] else 0.0),
        parameters=float(test["model_n_params"]),
        moved_bytes=float(test["model_size"]),
        time=float(test["avg_ns"]) * NANO / steps,
        source=source,
        licence=licence,
    )
