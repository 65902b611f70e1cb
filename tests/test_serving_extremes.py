"""Estimates at the ends of what can be asked: one slot, rates near none, saturation, caches that do not grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel import estimate
from perfmodel.deployment import deployments
from perfmodel.engines import engine
from perfmodel.hardware import no_worse
from perfmodel.models import model
from perfmodel.workload import Workload

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def columns(name: str, device: hwdb.Device, flow: Workload, of: str, **settings: Any) -> dict[str, float]:
    found = estimate(model(name), flow, deployments([device]), engine=engine(of).changed(**settings)).columns()
    return {key: float(np.ravel(found[key])[0]) for key in ("ttft_ms", "tpot_ms", "tpot_ms_p99")}


def arriving(isl: float, osl: float, rate: float, **run: float) -> Workload:
    return Workload.from_lengths(isl, osl, rate=rate, **run)  # type: ignore[arg-type]


def test_a_replica_with_one_slot_decodes_undisturbed() -> None:
    alone = Workload.from_lengths(4000.0, 2.0, concurrency=1)
    device = hwdb.device("rtx-4090")
    found = columns(LLAMA, device, arriving(4000.0, 2.0, 1.0), "vllm-v0", max_num_seqs=1)
    assert found["tpot_ms"] == pytest.approx(columns(LLAMA, device, alone, "vllm-v0")["tpot_ms"], rel=0.1)


def test_a_rate_near_none_is_that_of_a_lone_request() -> None:
    low, lower = (columns(LLAMA, hwdb.device("h100-sxm"), arriving(500.0, 100.0, r), "vllm-v0") for r in (1e-6, 1e-12))
    assert lower == pytest.approx(low, rel=1e-3)


@pytest.mark.parametrize("rate", [1e-15, 1e-300, 5e-324])
@pytest.mark.parametrize("run", [{}, {"n_requests": 100.0}, {"cv": 6.0}, {"cv": 0.5, "n_requests": 100.0}])
def test_a_rate_of_as_good_as_none_divides_by_nothing(rate: float, run: dict[str, float]) -> None:
    # warnings of numpy are errors here; bursts meet themselves at any rate, the less the lower it is
    device = hwdb.device("h100-sxm")
    lone, low, lower = (columns(LLAMA, device, arriving(500.0, 100.0, r, **by), "vllm") for r, by in
                        ((1e-6, {}), (1e-6, run), (rate, run)))  # fmt: skip
    for name, value in lower.items():
        assert 0.9 * lone[name] <= value <= 1.005 * low[name]


@pytest.mark.parametrize(("isl", "osl", "rate"), [(4000.0, 1.0, 10.0), (1.0, 2.0, 1e4)])
def test_saturated_loads_have_tokens_of_minutes_at_most(isl: float, osl: float, rate: float) -> None:
    found = columns(LLAMA, hwdb.device("l40s"), arriving(isl, osl, rate, n_requests=5000.0), "vllm-v0")
    assert found["tpot_ms_p99"] < 1e6


def test_states_that_do_not_grow_leave_no_room_for_more_sequences_while_a_run_begins() -> None:
    name, device = "mistralai/Mamba-Codestral-7B-v0.1", hwdb.device("l4")
    steady = Workload.from_lengths(128.0, 1024.0, concurrency=40)
    many = Workload.from_lengths(128.0, 1024.0, arrival="offline", n_requests=1000.0)
    assert columns(name, device, many, "vllm")["tpot_ms"] < 1.3 * columns(name, device, steady, "vllm")["tpot_ms"]


@pytest.mark.parametrize("figure", ["memory.bandwidth", "peak.bf16"])
def test_what_a_user_makes_faster_is_no_slower(figure: str) -> None:
    flow = Workload.from_lengths(256.0, 64.0, concurrency=4)
    for name in ("rtx-4000-ada", "rtx-4060-ti-16gb", "l4"):
        device = hwdb.device(name)
        record = device.records[figure]
        better = replace(record, value=1.5 * record.value, alternatives=())
        faster = replace(device, name="mine", base=device, records={**device.records, figure: better})
        assert no_worse(faster, device)
        own, mine = (columns(LLAMA, d, flow, "vllm-v0") for d in (device, faster))
        assert mine["tpot_ms"] <= own["tpot_ms"] * (1.0 + 1e-9)
        assert mine["ttft_ms"] <= own["ttft_ms"] * (1.0 + 1e-9)
