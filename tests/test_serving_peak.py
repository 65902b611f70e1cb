"""No load is served faster than the device's peak computes its matrix products, whatever arrives and however."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel.deployment.columns import deployments
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.models import model
from perfmodel.workload.workload import Workload

#: Multiply-adds per token in the layers: all matrices of Llama-3.1-8B; of Qwen3-30B-A3B those of 8 experts of 128.
MODELS = {
    "meta-llama/Llama-3.1-8B": 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336),
    "Qwen/Qwen3-30B-A3B": 48 * (2 * 2048 * 4096 + 2 * 2048 * 512 + 8 * 3 * 2048 * 768),
}
DEVICES = [hwdb.device(d) for d in ("h100-sxm", "mi300x", "gaudi3", "rtx-3090", "rtx-4090")]
PEAK = np.array([d.peak("bf16") for d in DEVICES])
DRAWN = np.random.default_rng(11)


def drawn() -> tuple[str, str, int, int, dict[str, Any]]:
    count = float(DRAWN.integers(100, 3000))
    load: dict[str, Any] = [
        {"arrival": "offline", "n_requests": count},
        {"arrival": "open", "rate": 1e4, "n_requests": count},
        {"arrival": "open", "rate": 1e4},
        {"arrival": "closed", "concurrency": float(DRAWN.integers(1, 300))},
        {"arrival": "static", "concurrency": float(DRAWN.integers(1, 100))},
    ][int(DRAWN.integers(5))]
    prompt, answer = int(np.exp(DRAWN.uniform(5, 9.5))), int(DRAWN.choice([1, 1, 2, 5, 20]))
    return str(DRAWN.choice(list(MODELS))), str(DRAWN.choice(["vllm", "sglang", "trtllm"])), prompt, answer, load


LISTED = [
    ("meta-llama/Llama-3.1-8B", "vllm", prompt, 1, load)
    for prompt in (2000, 8000)
    for load in ({"arrival": "offline", "n_requests": 2000.0}, {"arrival": "open", "rate": 1e4, "n_requests": 200.0})
]


@pytest.mark.parametrize(("name", "by", "prompt", "answer", "load"), [*LISTED, *(drawn() for _ in range(20))])
def test_no_rate_needs_more_than_the_peak(name: str, by: str, prompt: int, answer: int, load: dict[str, Any]) -> None:
    placed = deployments(DEVICES, device=np.arange(len(DEVICES)))
    found = estimate(model(name), Workload.from_lengths(prompt, answer, **load), placed, engine=by)
    flop = 2.0 * MODELS[name] * (prompt + answer - 1)
    fits = np.asarray(found.fits, bool)
    assert fits.any()
    assert (found.request_rate[fits] * flop <= PEAK[fits]).all()
    alone = flop / found.mean(found.ttft + found.tpot * (answer - 1))  # one request, at most all devices' peak
    assert (alone[fits] <= PEAK[fits]).all()
