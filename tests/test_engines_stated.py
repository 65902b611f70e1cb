"""A limit that a user states wins over an engine's defaults by device: every limit, every engine, every door."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from perfmodel import Workload
from perfmodel.arrays import Array
from perfmodel.costs import Roofline
from perfmodel.deployment import deployments
from perfmodel.engines import Engine, engine
from perfmodel.engines.catalogue import names
from perfmodel.engines.reader import FOLDER
from perfmodel.estimates import Prepared, engine_limits, prepare
from perfmodel.models import model
from perfmodel.simulator.replica_pools.build import pool
from perfmodel.simulator.request_traffic.requests import traffic
from perfmodel.workload import load_of
from search.scenario import load_scenario

LIMITS = {"max_num_batched_tokens": 3072.0, "max_num_seqs": 37.0, "gpu_memory_utilization": 0.61, "graph_seqs": 19.0}
#: One device of each tier that an engine has: by memory, A100, CPU, TPU.
DEVICES = ("t4", "rtx-4090", "l40s", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "xeon-6980p")
DEVICES += ("tpu-v6e", "tpu-v5e", "tpu-v5p")
SMALL = model("Qwen/Qwen3-0.6B")
TIERED = [name for name in names() if engine(name).tiers]


def prepared(chosen: Engine, device: str, **columns: float) -> Prepared:
    load = load_of(Workload(input_tokens=100.0, output_tokens=10.0, concurrency=4.0, arrival="closed"), 1)
    return prepare(SMALL, deployments([hwdb.device(device)], **columns), chosen, Roofline(), load)


def in_force(setup: Prepared) -> dict[str, float]:
    """Return the limits that the estimate works with."""
    memory, steps = setup.memory, setup.steps
    figures: dict[str, Array] = {
        "max_num_batched_tokens": steps.token_budget,
        "max_num_seqs": steps.max_num_seqs,
        "gpu_memory_utilization": memory.usable / memory.capacity,
        "graph_seqs": steps.graph_seqs,
    }
    return {name: float(values[0]) for name, values in figures.items()}


def scenario_engine(tmp_path: Path, lines: str) -> Engine:
    text = (Path(__file__).parents[1] / "examples" / "chat-70b-h100.toml").read_text(encoding="utf-8")
    path = tmp_path / "scenario.toml"
    path.write_text(re.sub(r"(?ms)^\[engine\].*?(?=^\[)", "", text) + f"\n[engine]\n{lines}\n", encoding="utf-8")
    return load_scenario(path).engine


def with_changed_line(name: str, limit: str, value: float, path: Path) -> Engine:
    """Return the engine of a copy of a shipped file in which one limit at the top has another value."""
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    top, *rest = text.split("[[tier]]")
    entry = f'{limit} = {{ value = {value}, kind = "assumed", source = "the user" }}'
    top = re.sub(rf"(?m)^{limit} = .*$", lambda _: entry, top)
    own = path / "own.toml"
    own.write_text("[[tier]]".join([top, *rest]), encoding="utf-8")
    return engine(str(own))


def test_every_tier_that_ships_is_tried() -> None:
    cards = [hwdb.device(d) for d in DEVICES]
    untried = [
        (n, t) for n in TIERED for t in engine(n).tiers if not any(t.holds(card, n) for card in cards for n in (1, 8))
    ]
    assert untried == []
    assert {"vllm", "sglang"} <= set(TIERED)


@pytest.mark.parametrize("name", TIERED)
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("door", ["scenario", "Python", "engine file"])
def test_a_stated_limit_holds_on_every_device(name: str, limit: str, door: str, tmp_path: Path) -> None:
    value, plain = LIMITS[limit], engine(name)
    if door == "scenario":
        written = f"{value:g}"
        chosen = scenario_engine(tmp_path, f'name = "{name}"\n{limit} = {written}')
    elif door == "Python":
        chosen = plain.changed(**{limit: value})
    else:
        if f"\n{limit} = " not in (FOLDER / f"{name}.toml").read_text(encoding="utf-8"):
            pytest.skip(f"{name} has no {limit} at the top of its file")
        chosen = with_changed_line(name, limit, value, tmp_path)
    for device in DEVICES:
        card = hwdb.device(device)
        for offline in (False, True):
            found, usual = (e.limits(card, offline=offline, max_model_len=9000.0) for e in (chosen, plain))
            assert getattr(found, limit) == value, (device, offline)
            for other in LIMITS.keys() - {limit}:
                assert getattr(found, other) == pytest.approx(getattr(usual, other), nan_ok=True), (device, other)


@pytest.mark.parametrize("seed", range(20))
def test_random_stated_limits_reach_the_estimate(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    stated = {
        "gpu_memory_utilization": round(rng.uniform(0.3, 0.99), 3),
        "max_num_batched_tokens": float(rng.randrange(256, 20_000)),
        "max_num_seqs": float(rng.randrange(1, 3000)),
        "graph_seqs": float(rng.randrange(1, 1000)),
    }
    kept = dict(rng.sample(sorted(stated.items()), rng.randint(1, 4)))
    name, device = rng.choice(["sglang", "vllm", "vllm-v1", "vllm-v0"]), rng.choice(["l40s", "h100-sxm", "h200-sxm"])
    lines = "\n".join(f"{k} = {v:g}" for k, v in kept.items())
    chosen = scenario_engine(tmp_path, f'name = "{name}"\n{lines}')
    found = in_force(prepared(chosen, device))
    assert {k: found[k] for k in kept} == pytest.approx(kept)


@pytest.mark.parametrize("name", ["sglang", "vllm", "trtllm"])
def test_limits_of_a_deployment_win_over_all(name: str) -> None:
    columns = {k: LIMITS[k] for k in ("max_num_batched_tokens", "max_num_seqs")}
    found = in_force(prepared(engine(name).changed(max_num_batched_tokens=999.0), "h200-sxm", **columns))
    assert {k: found[k] for k in columns} == columns


def test_half_of_the_device_is_too_little_for_weights_that_need_more(tmp_path: Path) -> None:
    # SGLang --mem-fraction-static 0.5: 42.8 GB of an 85.5 GB H100 for 65.5 GB of weights of Qwen3-32B
    load = load_of(Workload(input_tokens=1000.0, output_tokens=100.0, concurrency=4.0, arrival="closed"), 1)
    fits = []
    for words in ("memory_fraction = 0.5", "mem_fraction_static = 0.5", "mem_fraction_static = 0.93"):
        chosen = scenario_engine(tmp_path, f'name = "sglang"\n{words}')
        one = deployments([hwdb.device("h100-sxm")])
        fits.append(bool(prepare(model("Qwen/Qwen3-32B"), one, chosen, Roofline(), load).memory.fits[0]))
    assert fits == [False, False, True]


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("name", ["sglang", "vllm", "generic"])
def test_the_simulator_holds_what_the_estimate_holds(name: str, share: float) -> None:
    chosen = engine(name).changed(gpu_memory_utilization=share)
    asked = traffic(np.full(64, 640.0), 128.0, concurrency=4)
    one = deployments([hwdb.device("h200-sxm")])
    found = pool(SMALL, one, chosen, asked, costs=Roofline())
    load = load_of(Workload(input_tokens=640.0, output_tokens=128.0, concurrency=4.0, arrival="closed"), 1)
    memory = prepare(SMALL, one, chosen, Roofline(), load).memory
    assert found.kv_tokens == float(memory.kv_tokens[0])  # whole KV blocks, the same number in both


def test_tiers_of_the_users_own_still_win_over_the_top_of_the_file(tmp_path: Path) -> None:
    text = (FOLDER / "sglang.toml").read_text(encoding="utf-8").replace("= 0.9\n", "= 0.77\n")
    assert text.count("gpu_memory_utilization = 0.77\n") == 3  # the smallest devices, and now one and four H200
    own = tmp_path / "own.toml"
    own.write_text(text.replace("gpu_memory_utilization = { value = 0.835", "gpu_memory_utilization = { value = 0.5"))
    found = engine(str(own))
    assert found.limits(hwdb.device("h200-sxm")).gpu_memory_utilization == 0.77
    assert found.limits(hwdb.device("h100-sxm")).gpu_memory_utilization == 0.5


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["vllm", "trtllm", "sglang"])
def test_running_sequences_count_alike_through_every_door(name: str, ranks: int, tmp_path: Path) -> None:
    """[engine] and the column of a deployment (a flag, [search], a table of cases) mean what the engine's flag means:

    of each rank of attention data parallelism, but of all ranks together in SGLang.
    """
    own = {"vllm": "max_num_seqs", "trtllm": "max_batch_size", "sglang": "max_running_requests"}[name]
    of_replica = 48.0 if name == "sglang" else 48.0 * ranks
    by_column = in_force(prepared(engine(name), "h200-sxm", dp=ranks, max_num_seqs=48.0))
    assert by_column["max_num_seqs"] == of_replica
    for word in dict.fromkeys((own, "max_num_seqs")):
        chosen = scenario_engine(tmp_path, f'name = "{name}"\n{word} = 48')
        assert in_force(prepared(chosen, "h200-sxm", dp=ranks))["max_num_seqs"] == of_replica
    default = in_force(prepared(engine(name), "h200-sxm", dp=ranks))["max_num_seqs"]
    assert default == ranks * in_force(prepared(engine(name), "h200-sxm"))["max_num_seqs"]
    one = deployments([hwdb.device("h200-sxm")], dp=ranks, max_num_seqs=48.0)
    load = load_of(Workload(input_tokens=100.0, output_tokens=10.0, concurrency=4.0, arrival="closed"), 1)
    assert float(engine_limits(engine(name), one, load)["max_num_seqs"][0]) == 48.0  # a row can be copied into flags


def test_an_engine_that_does_not_cut_prompts_computes_a_long_one_in_one_step() -> None:
    """As with a budget of the whole prompt; a prompt within the budget takes the same either way."""
    spec, card = model("Qwen/Qwen3-8B"), hwdb.device("h100-sxm")
    whole = replace(engine("vllm"), chunked_prefill=False)

    def first(of: Engine, tokens: int, **limits: float) -> float:
        load = Workload.from_lengths(tokens, 100, concurrency=1)
        return float(pm.estimate(spec, load, deployments([card], **limits), engine=of).ttft[0, 0])

    assert first(whole, 20_000) == pytest.approx(first(engine("vllm"), 20_000, max_num_batched_tokens=20_000))
    assert first(whole, 20_000) < first(engine("vllm"), 20_000, max_num_batched_tokens=2048)
    assert first(whole, 20_000, max_num_batched_tokens=2048) == pytest.approx(first(whole, 20_000))
    assert first(whole, 1000) == first(engine("vllm"), 1000)
