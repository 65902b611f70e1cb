"""Loads at the edges of the closed form: token budgets below a prompt, none at all, replicas with uneven clients."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel import estimate
from perfmodel.deployment import deployments
from perfmodel.engines import engine
from perfmodel.hardware import host_figures
from perfmodel.models import model
from perfmodel.workload import Workload

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def columns(device: str, flow: Workload, of: str, replicas: float = 1.0, **settings: Any) -> dict[str, float]:
    place = deployments([hwdb.device(device)], replicas=replicas)
    found = estimate(model(LLAMA), flow, place, engine=engine(of).changed(**settings)).columns()
    return {key: float(np.ravel(value)[0]) for key, value in found.items() if np.asarray(value).dtype.kind == "f"}


def test_a_closed_loop_is_served_no_faster_than_prompts_alone_are_computed() -> None:
    lone = columns("l40s", Workload.from_lengths(8000, 1, concurrency=1), "vllm", max_num_batched_tokens=512.0)
    full = columns("l40s", Workload.from_lengths(8000, 64, concurrency=32), "vllm", max_num_batched_tokens=512.0)
    assert full["output_tok_s"] <= 64 / (lone["ttft_ms"] / 1e3) * 1.05


def test_more_clients_serve_no_less_where_prompts_exceed_the_token_budget() -> None:
    rates = [
        columns("l40s", Workload.from_lengths(8000, 100, concurrency=n), "sarathi", max_num_batched_tokens=256.0)
        for n in (8, 16, 32, 64)
    ]
    served = [found["output_tok_s"] for found in rates]
    assert all(more >= 0.98 * fewer for fewer, more in pairwise(served)), served


def test_tokens_slow_down_with_the_load_though_prompts_exceed_the_token_budget() -> None:
    found = [
        columns("l40s", Workload.from_lengths(8000, 300, rate=rate), "vllm", max_num_batched_tokens=512.0)
        for rate in (0.3, 0.4, 0.5)
    ]
    means, tails = ([f[name] for f in found] for name in ("tpot_ms", "tpot_ms_p99"))
    assert means[0] * 1.1 < means[1] < means[2] / 1.1
    # at 0.5 requests/s all steps are full, and all tokens as slow
    assert all(tail > 1.1 * mean for mean, tail in zip(means[:2], tails[:2], strict=True))


def test_a_step_without_a_token_budget_holds_all_prompts_of_a_closed_loop() -> None:
    found = columns("h100-sxm", Workload.from_lengths(1024, 256, concurrency=32), "orca")
    assert 0 < found["ttft_ms"] < 1000
    assert found["output_tok_s"] > 1000


@pytest.mark.parametrize(("replicas", "clients"), [(2.0, 3), (4.0, 5), (4.0, 6)])
def test_the_longest_waits_of_uneven_replicas_are_of_the_order_of_even_ones(replicas: float, clients: int) -> None:
    def p99(load: float) -> float:
        flow = Workload.from_lengths(1024, 256, concurrency=load)
        return columns("h100-sxm", flow, "vllm", replicas)["ttft_ms_p99"]

    assert p99(clients) <= 1.5 * p99(2 * replicas)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_devices_that_share_a_socket_have_no_more_than_it(devices: int) -> None:
    whole, part = (host_figures(hwdb.device("xeon-8592p"), sockets) for sockets in (1.0, 1.0 / devices))
    assert all(devices * part[name] <= whole[name] * (1 + 1e-9) for name in ("memory", "bandwidth", "flops"))
