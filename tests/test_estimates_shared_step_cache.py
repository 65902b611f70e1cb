"""Steps that are kept between calls of `estimate`: for whom, how many, and for several threads at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel.deployment import Deployments, shard
from perfmodel.deployment.columns import deployments
from perfmodel.engines import engine
from perfmodel.estimates import estimate
from perfmodel.estimates.estimation import shared_step_cache
from perfmodel.hardware import hardware_of
from perfmodel.models import model
from perfmodel.workload import Workload

SPEC, VLLM, H100 = model("meta-llama/Llama-3.1-8B"), engine("vllm"), hwdb.device("h100-sxm")


class SlowTable(dict[Any, Any]):
    """A table that lets other threads run whenever its length is asked for."""

    def __len__(self) -> int:
        found = super().__len__()
        time.sleep(1e-3)
        return found


def kept(placed: Deployments, classes: int = 1, **changes: Any) -> Any:
    """Return the steps that are kept for a deployment."""
    given = {"model": SPEC, "engine": VLLM, "costs": None, **changes}
    return shared_step_cache.kept_steps(given["model"], given["engine"], given["costs"], placed, classes)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_step_cache, "_KEPT", type(shared_step_cache._KEPT)())


def test_layouts_that_several_threads_number_at_once_have_different_numbers() -> None:
    shared = kept(deployments([H100]))
    shared._devices, shared._layouts = SlowTable(), SlowTable()
    each = [deployments([replace(H100)]) for _ in range(6)]  # other devices of the same name
    given = [(shard(SPEC, placed), hardware_of(placed.devices, placed.device)) for placed in each]
    with ThreadPoolExecutor(len(each)) as threads:
        found = np.concatenate(list(threads.map(lambda one: shared.numbered(*one), given)))
    assert len(set(found)) == len(each)


def test_a_full_memory_of_steps_makes_room_for_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_step_cache, "_MOST_STEPS", 40)
    placed = deployments([H100])
    first, sizes = kept(placed), []
    for tokens in range(100, 1000, 100):
        estimate(SPEC, Workload.from_lengths(tokens, 50, rate=1.0), placed)
        sizes.append(len(kept(placed)._places))
    assert kept(placed) is not first
    assert max(sizes) <= 40


def test_steps_are_kept_for_the_last_few_models_and_for_what_their_key_tells_apart() -> None:
    placed = deployments([H100])
    assert kept(placed) is kept(deployments([replace(H100)], tp=[2]))  # which the steps tell apart
    assert kept(placed) is not kept(placed, engine=VLLM.changed(request_time=0.0))
    assert kept(placed, classes=shared_step_cache.FEW + 1) is None
    assert kept(deployments([H100], host_kv=[0.5])) is None
    for name in ("Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B"):
        kept(placed, model=model(name))
    assert len(shared_step_cache._KEPT) == shared_step_cache._MOST_MODELS
    assert id(SPEC) not in [key[0] for key in shared_step_cache._KEPT]
