"""All-to-alls of wide expert parallelism: measured kernels, levels of links, balance, overlap, published figures."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import hwdb
from hwdb import InputError
from perfmodel import equations as eq
from perfmodel import model
from perfmodel.arrays import Array
from perfmodel.costs import default, priced
from perfmodel.deployment import ExpertRouting, check_routing, deployments, shard
from perfmodel.engines import engine
from perfmodel.estimates import estimate
from perfmodel.hardware import hardware_of
from perfmodel.memory.weights import weights_per_device
from perfmodel.operators import Step, operators
from perfmodel.workload import Workload
from search.space import SearchSpace

DEEPSEEK = "deepseek-ai/DeepSeek-V3"
OVERLAPPED = {"overlap": "dual_batch", "overlap_always": True}
#: DeepEP under SGLang 0.5 on H100, hidden 7168, top-8: (nodes, tokens per device, dispatch, combine), microseconds
#: (aiconfigurator-core 0.12.0, Apache-2.0).
LOW_LATENCY = [
    (1, 128, 39.8, 72.4),
    (1, 1024, 236.9, 526.8),
    (2, 32, 40.1, 60.9),
    (2, 256, 183.0, 337.5),
    (4, 64, 82.9, 151.7),
    (4, 256, 264.5, 500.2),
    (8, 128, 166.8, 304.7),
    (8, 256, 301.1, 579.5),
]
NORMAL = [(1, 4096, 491.0, 973.0), (2, 4096, 900.0, 1827.0), (4, 4096, 1853.0, 3641.0), (4, 16384, 7019.0, 13724.0)]


def exchange(ranks: int, step: Step, device: str = "h100-sxm", **routing: Any) -> dict[str, float]:
    """Seconds of a call of dispatch and of combine."""
    cards = (hwdb.device(device),)
    placed = deployments(cards, tp=1, ep=ranks, dp=ranks, routing=ExpertRouting(**{"imbalance": 1.0, **routing}))
    hardware, costs = hardware_of(cards, placed.device), default("sglang")
    asked = (d for d in operators(shard(model(DEEPSEEK), placed), step) if d.family == "expert_all_to_all")
    return {d.name: float(np.ravel(costs.cost(d, hardware).time)[0]) for d in asked if np.any(d.count)}


@pytest.mark.parametrize(("nodes", "tokens", "dispatch", "combine"), LOW_LATENCY)
def test_low_latency_kernels_take_what_was_measured(nodes: int, tokens: int, dispatch: float, combine: float) -> None:
    ranks = 8 * nodes
    found = exchange(ranks, Step(decode_seqs=float(tokens * ranks), decode_context=1000.0), all_to_all="low_latency")
    assert found["expert_dispatch"] == pytest.approx(dispatch * 1e-6, rel=0.25)
    assert found["expert_combine"] == pytest.approx(combine * 1e-6, rel=0.25)


@pytest.mark.parametrize(("nodes", "tokens", "dispatch", "combine"), NORMAL)
def test_normal_kernels_take_what_was_measured(nodes: int, tokens: int, dispatch: float, combine: float) -> None:
    """The measured routing picks groups as large as nodes, so that every node may be reached."""
    ranks = 8 * nodes
    step = Step(prefill_tokens=float(tokens * ranks), prefill_seqs=float(ranks))
    found = exchange(ranks, step, all_to_all="normal")
    places = nodes if nodes > 1 else ranks
    nearer = float(eq.places_reached(places, 8.0, 8, 4) / eq.places_reached(places, 8.0))
    assert found["expert_dispatch"] == pytest.approx(dispatch * 1e-6 * nearer, rel=0.3)
    assert found["expert_combine"] == pytest.approx(combine * 1e-6 * nearer, rel=0.3)


def test_places_reached_are_those_of_random_picks() -> None:
    generator = np.random.default_rng(0)
    for places, groups, used in ((4, 0, 0), (8, 0, 0), (4, 8, 4), (2, 8, 4), (8, 8, 4), (16, 8, 4), (8, 8, 2)):
        seen = []
        for _ in range(400):
            chosen = generator.choice(groups, used, replace=False) if groups else np.zeros(1)
            span = 256 // groups if groups else 256
            allowed = np.concatenate([np.arange(span) + int(g) * span for g in chosen])
            seen.append(len(np.unique(generator.choice(allowed, 8, replace=True) * places // 256)))
        assert float(eq.places_reached(places, 8.0, groups, used)) == pytest.approx(np.mean(seen), rel=0.05)


def test_steps_with_prompts_use_normal_kernels_and_others_low_latency_ones() -> None:
    decode, prompt = Step(decode_seqs=3200.0, decode_context=500.0), Step(prefill_tokens=3200.0, prefill_seqs=32.0)
    for step, way in ((decode, "low_latency"), (prompt, "normal")):
        assert exchange(32, step) == exchange(32, step, all_to_all=way)
    assert exchange(8, decode) == {}
    assert exchange(32, decode, all_to_all="collective") == {}
    names = {d.name for d in operators(shard(model(DEEPSEEK), wide(8)), decode) if np.any(d.count)}
    assert {"expert_dispatch", "expert_combine"} <= names


def wide(ranks: int, device: str = "h100-sxm", **routing: Any) -> Any:
    """One deployment of `ranks` devices with attention DP and EP over all of them."""
    limit = {"max_num_seqs": 1e6}
    return deployments([hwdb.device(device)], tp=1, ep=ranks, dp=ranks, routing=ExpertRouting(**routing), **limit)


def tokens_per_second(
    phase: str, ranks: int, seqs: int, settings: dict[str, Any] | None = None, **routing: Any
) -> float:
    """Tokens per second and device of DeepSeek-V3 on H100 under SGLang, of a batch of `seqs` sequences per device."""
    known = engine("sglang").configured(**settings) if settings else engine("sglang")
    output = 1 if phase == "prefill" else 100
    asked = Workload.from_lengths(2000, output, arrival="static", concurrency=seqs * ranks)
    placed = wide(ranks, **routing)
    placed.max_num_batched_tokens[:] = 16384.0
    found = estimate(model(DEEPSEEK), asked, placed, engine=known).frame()
    return float(found[f"{phase}_tok_s"][0]) / ranks


def test_published_wide_deployments_of_deepseek_v3() -> None:
    """LMSYS, 2025-05-05, on 96 H100; values a device."""
    assert tokens_per_second("prefill", 32, 8, OVERLAPPED, redundant=32) == pytest.approx(6540, rel=0.3)
    assert tokens_per_second("decode", 72, 256, OVERLAPPED, redundant=32) == pytest.approx(2785, rel=0.3)


def test_overlap_gains_in_prefill_and_large_batches_and_costs_in_small_ones() -> None:
    plain, both = (tokens_per_second("prefill", 32, 8, s) for s in (None, OVERLAPPED))
    assert 1.2 < both / plain < 1.45
    gains = {n: tokens_per_second("decode", 72, n, OVERLAPPED) / tokens_per_second("decode", 72, n) for n in (32, 256)}
    assert gains[32] < 0.9
    assert gains[256] > 1.15
    where_it_pays = tokens_per_second("decode", 72, 32, {"overlap": "dual_batch"})
    assert where_it_pays == pytest.approx(tokens_per_second("decode", 72, 32), rel=1e-9)


def test_the_balancer_gains_as_published() -> None:
    """LMSYS, 2025-05-05: 1.49 times in prefill, 2.54 times in decode."""
    for phase, ranks, seqs, published in (("prefill", 32, 8, 1.49), ("decode", 72, 256, 2.54)):
        on = tokens_per_second(phase, ranks, seqs, OVERLAPPED, redundant=32)
        assert on / tokens_per_second(phase, ranks, seqs, OVERLAPPED, balancer="off") == pytest.approx(
            published, rel=0.3
        )


def test_more_copies_even_the_load_and_take_memory() -> None:
    ranks = np.array([16.0, 64.0, 72.0, 128.0])

    def skew(**settings: Any) -> Array:
        return ExpertRouting(**settings).skew(256, ranks)

    assert np.all(skew(balancer="off") >= skew(balancer="on"))
    assert np.all(skew(balancer="on")[1:] > skew(redundant=32)[1:])
    own, more = (weights_per_device(shard(model(DEEPSEEK), wide(32, redundant=n)))[0] for n in (0, 32))
    assert more - own == pytest.approx(58 * 3 * 7168 * 2048, rel=0.1)


def test_faster_links_and_less_imbalance_are_never_slower() -> None:
    generator = random.Random(5)
    quick = hwdb.device("h100-sxm")
    for _ in range(20):
        ranks, tokens = generator.choice([16, 24, 32, 72, 144]), generator.choice([1, 16, 100, 700])
        way, uneven = generator.choice(["normal", "low_latency"]), generator.uniform(1.0, 3.0)
        step = generator.choice([Step(decode_seqs=float(tokens * ranks)), Step(prefill_tokens=64.0 * tokens * ranks)])
        times = [exchange(ranks, step, "h100-sxm", all_to_all=way, imbalance=x) for x in (uneven, uneven + 0.5)]
        assert all(times[0][name] <= times[1][name] for name in times[0])
        assert all(exchange(ranks, step, "gb200", all_to_all=way)[n] <= t * 1.001 for n, t in times[0].items())
    assert quick.link.bandwidth < hwdb.device("gb200").link.bandwidth


def test_more_devices_never_raise_the_time_of_experts() -> None:
    for step_of in (lambda n: Step(decode_seqs=64.0 * 144), lambda n: Step(prefill_tokens=1e5, prefill_seqs=144.0)):
        times = []
        for ranks in (16, 32, 48, 72, 96, 144):
            placed = wide(ranks, imbalance=1.2)
            found = priced(
                shard(model(DEEPSEEK), placed),
                hardware_of(placed.devices, placed.device),
                default("sglang"),
                step_of(ranks),
            )
            times.append(sum(float(np.ravel(d.count * c.time)[0]) for d, c in found if d.name == "experts"))
        assert all(later <= now * 1.02 for now, later in pairwise(times)), times


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"all_to_all": "fast"}, "all-to-all 'fast'"),
        ({"balancer": "maybe"}, "balancer 'maybe'"),
        ({"redundant": -1}, "-1 redundant experts"),
        ({"redundant": 32, "balancer": "off"}, "turn it on"),
        ({"imbalance": 0.5}, "0.5 is impossible"),
        ({"imbalance": math.inf}, "inf is impossible"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises((InputError, LookupError), match=told):
        ExpertRouting(**settings)


def test_settings_of_experts_are_refused_for_dense_models() -> None:
    dense = model("meta-llama/Llama-3.1-8B")
    check_routing(dense, ExpertRouting())
    with pytest.raises(InputError, match="no routed experts"):
        check_routing(dense, ExpertRouting(redundant=4))


@pytest.mark.parametrize(("redundant", "legal"), [(0, 0), (32, 1)])
def test_copies_of_experts_let_degrees_divide_them(redundant: int, legal: int) -> None:
    """72 ranks hold 4 of 288 experts each; 256 experts they cannot share."""
    space = SearchSpace(
        model=model(DEEPSEEK),
        devices=(hwdb.device("h100-sxm"),),
        tp=(1,),
        pp=(1,),
        dp=(1, 72),
        ep=(1, 72),
        routing=ExpertRouting(redundant=redundant),
    )
    assert int(np.sum(space.legal().deployments().ep == 72)) == legal


def test_tensorrt_llm_reaches_other_nodes_by_collectives_unless_told_otherwise() -> None:
    step = Step(decode_seqs=3200.0, decode_context=500.0)
    families = {}
    for device, ranks, way in (("h100-sxm", 16, "auto"), ("gb200", 16, "auto"), ("h100-sxm", 16, "low_latency")):
        cut = shard(model(DEEPSEEK), wide(ranks, device, all_to_all=way), library=engine("trtllm").library_all_to_all)
        kinds = {d.family for d in operators(cut, step) if d.name == "expert_dispatch" and np.any(d.count)}
        families[device, way] = kinds
    assert families["h100-sxm", "auto"] == {"all_to_all"}
    assert families["gb200", "auto"] == families["h100-sxm", "low_latency"] == {"expert_all_to_all"}
