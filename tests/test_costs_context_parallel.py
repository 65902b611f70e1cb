"""Context and KV parallelism: what is exchanged, what hides behind attention, and the published times of a ring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from cli import main
from hwdb import InputError
from perfmodel.costs import Roofline, default, priced
from perfmodel.deployment import CP_METHODS, Deployments, shard
from perfmodel.estimates import Estimates, configuration_remarks, estimate_load
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.memory import sequence_bytes
from perfmodel.operators import Step
from perfmodel.workload import load_of

LARGE, SMALL, LATENT = "meta-llama/Llama-3.1-405B", "meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3"
WAYS = CP_METHODS[1:]


def seconds(name: str, placed: Deployments, step: Step, hardware: Hardware | None = None) -> dict[str, float]:
    """Return the seconds of each operator of a step of the first deployment, all layers."""
    columns = hardware or hardware_of(placed.devices, placed.device)
    found: dict[str, float] = {}
    for demand, cost in priced(shard(pm.model(name), placed), columns, default("vllm"), step):
        time = np.where(demand.count > 0, demand.count * cost.time, 0.0)
        found[demand.name] = found.get(demand.name, 0.0) + float(np.ravel(time)[0])
    return found


def prefill(name: str, isl: float, *, hit: float = 0.0, **columns: object) -> Estimates:
    """Estimate one prompt on H100s, by column of deployments."""
    placed = pm.deployments([hwdb.device("h100-sxm")], **columns)
    load = load_of(pm.Workload.from_lengths(isl, 2.0, concurrency=1, arrival="static"), len(placed))
    return estimate_load(
        pm.model(name), replace(load, hit=np.full((1, len(placed)), hit)), placed, engine=pm.engine("vllm")
    )


@pytest.mark.parametrize(("isl", "cp", "published"), [(131_072, 1, 42.0), (131_072, 2, 21.0), (1e6, 16, 77.0)])
def test_a_ring_over_nodes_prefills_as_published(isl: float, cp: int, published: float) -> None:
    """Llama-3 405B, fp8, nodes of 8 H100 with power limits (arXiv:2411.01783): within 30 %."""
    found = prefill(LARGE, isl, tp=8.0, cp=float(cp), weight="fp8").ttft
    assert float(found[0, 0]) == pytest.approx(published, rel=0.3)


@pytest.mark.parametrize("seed", range(20))
def test_more_groups_never_prefill_a_long_prompt_more_slowly_and_scale_less_than_in_proportion(seed: int) -> None:
    draw = np.random.default_rng(seed)
    isl, tp = float(draw.integers(100_000, 3_000_000)), float(draw.choice([4, 8]))
    cp = np.array([1.0, 2.0, 4.0, 8.0])
    name = str(draw.choice([LARGE, SMALL, "Qwen/Qwen3-235B-A22B"]))
    found = prefill(name, isl, tp=np.full(4, tp), cp=cp).ttft[0]
    assert np.all(np.diff(found) < 0)
    assert np.all(found[0] / found <= 1.05 * cp)


@pytest.mark.parametrize("seed", range(20))
def test_the_way_left_open_is_the_fastest(seed: int) -> None:
    draw = np.random.default_rng(seed)
    hit, isl = float(draw.choice([0.0, 0.9, 0.99])), float(draw.integers(20_000, 1_000_000))
    cp = np.full(4, float(draw.choice([2, 4, 8, 16])))
    found = prefill(LARGE, isl, hit=hit, tp=np.full(4, 8.0), cp=cp, cp_method=np.arange(4)).ttft[0]
    assert found[0] <= np.min(found[1:]) * (1.0 + 1e-9)


def test_queries_go_round_for_few_new_tokens_and_keys_for_many() -> None:
    """Behind a long cache queries are the shorter message; in a whole prompt keys are, and hide (arXiv:2411.01783)."""
    ways = np.array([CP_METHODS.index("ring"), CP_METHODS.index("pass_q")])
    for hit, first in ((0.99, 1), (0.0, 0)):
        found = prefill(LARGE, 128_000, hit=hit, tp=np.full(2, 8.0), cp=np.full(2, 4.0), cp_method=ways).ttft[0]
        assert int(np.argmin(found)) == first


def test_a_send_hides_behind_the_attention_of_its_round() -> None:
    long, short = (Step(prefill_tokens=t) for t in (2e6, 2e3))
    placed = pm.deployments([hwdb.device("h100-sxm")], tp=8.0, cp=4.0, cp_method="ring")
    assert "sequence_ring_kv" not in seconds(LARGE, placed, long)
    assert seconds(LARGE, placed, short)["sequence_ring_kv"] > 0
    gathered = pm.deployments([hwdb.device("h100-sxm")], tp=8.0, cp=4.0, cp_method="all_gather")
    assert seconds(LARGE, gathered, long)["sequence_gather"] > 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(5))
def test_a_faster_network_is_never_slower(way: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    placed = pm.deployments([hwdb.device("h100-sxm")], tp=8.0, cp=float(draw.choice([2, 4, 8])), cp_method=way)
    slow = hardware_of(placed.devices, placed.device)
    fast = replace(slow, net_bandwidth=1.5 * slow.net_bandwidth)
    for step in (
        Step(prefill_tokens=float(draw.integers(100, 100_000)), prefill_context=float(draw.integers(0, 1_000_000))),
        Step(decode_seqs=float(draw.integers(1, 64)), decode_context=float(draw.integers(1, 1_000_000))),
    ):
        times = [sum(seconds(LARGE, placed, step, h).values()) for h in (slow, fast)]
        assert times[1] <= times[0] * (1.0 + 1e-12)


def test_groups_on_other_nodes_talk_over_the_network_and_groups_of_one_node_do_not() -> None:
    step = Step(prefill_tokens=4000.0)
    ways = {"cp_method": "all_gather", "cp": 2.0}
    far, near = (pm.deployments([hwdb.device("h100-sxm")], tp=tp, **ways) for tp in (8.0, 4.0))
    assert seconds(SMALL, far, step)["sequence_gather"] > 3 * seconds(SMALL, near, step)["sequence_gather"]


@pytest.mark.parametrize("name", [SMALL, LATENT, "openai/gpt-oss-120b"])
@pytest.mark.parametrize("kvp", [2.0, 4.0, 8.0])
def test_kv_parallelism_splits_the_cache_that_heads_leave_whole(name: str, kvp: float) -> None:
    device = [hwdb.device("h100-sxm")]
    plain, split = (shard(pm.model(name), pm.deployments(device, tp=8.0, kvp=k)) for k in (1.0, kvp))
    whole, part = (float(np.ravel(sequence_bytes(s, 100_000.0))[0]) for s in (plain, split))
    heads = 1.0 if name == LATENT else min(8.0, float(pm.model(name).kv_heads))
    held = 1.0 if name == LATENT else min(8.0 / kvp, heads)
    assert part == pytest.approx(whole * heads / (held * kvp), rel=1e-9)


def test_a_long_decode_reads_its_share_of_positions_and_combines() -> None:
    step = Step(decode_seqs=8.0, decode_context=1e6)
    plain, split = (pm.deployments([hwdb.device("h200-sxm")], tp=8.0, kvp=k) for k in (1.0, 8.0))
    alone, shared = seconds(LATENT, plain, step), seconds(LATENT, split, step)
    assert shared["kv_combine"] > 0
    assert shared["kv_gather_queries"] > 0
    assert shared["mla_decode"] < alone["mla_decode"]
    assert sum(shared.values()) < sum(alone.values())


def test_ten_million_tokens_decode_within_thirty_milliseconds() -> None:
    """KV parallelism over tensor-parallel groups (Mnemosyne, arXiv:2409.17264, abstract), Llama-3 8B."""
    found = prefill(SMALL, 1e7, tp=8.0, cp=np.array([1.0, 4.0])).tpot[0]
    assert found[0] > 0.03 > found[1]


def test_devices_that_kvp_cannot_share_are_refused() -> None:
    placed = pm.deployments([hwdb.device("h100-sxm")], tp=4.0, kvp=3.0)
    with pytest.raises(InputError, match="kvp=3 does not divide tp=4"):
        pm.estimate(pm.model(SMALL), pm.Workload.from_lengths(100, 10, concurrency=1), placed, costs=Roofline())


def test_engines_that_split_copies_only_say_so() -> None:
    placed = pm.deployments([hwdb.device("h100-sxm")], tp=8.0, kvp=np.array([1.0, 2.0]))
    for name, engine, said in ((SMALL, "vllm", True), (SMALL, "trtllm", False), (LATENT, "vllm", False)):
        remarks = configuration_remarks(pm.model(name), placed, pm.engine(engine), 1000.0)
        assert not remarks[0]
        assert ("copies of KV heads" in remarks[1]) is said


def test_the_command_and_the_plan_know_the_ways(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    asked = ["estimate", SMALL, "--device", "h100-sxm", "--tp", "4", "--cp", "2", "--isl", "100000"]
    assert main([*asked, "--cp-method", "pass_q", "--kvp", "2"]) == 0
    assert "CP2" in capsys.readouterr().out
    assert main([*asked, "--cp-method", "ringg"]) == 2
    assert "ring" in capsys.readouterr().err
