"""Mistakes that published planners have shipped, each as a test that stays: the estimate must obey physics.

Every check runs under the default cost models (measured tables where they exist) and under the plain roofline, on a
measured GPU, an unmeasured GPU and a processor, unless it is about one of them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwdb
import perfmodel as pm
from benchmarks.llama_config import LLAMA_SHAPE
from hwdb import Device
from perfmodel.costs import Profiled, Roofline
from perfmodel.costs.cost import CostModel
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.deployment.sharding import shard
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.estimates.estimates import Estimates
from perfmodel.hardware.columns import hardware_of
from perfmodel.models import ModelSpec, read_config
from perfmodel.operators.demand import Demand
from perfmodel.operators.forward import operators
from perfmodel.operators.step import Step
from perfmodel.profiles import store
from perfmodel.vocabulary import BASES

DENSE, SPARSE, LATENT = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3"
COSTS = {"default": default("vllm"), "roofline": Roofline()}
DEVICES = ("h100-sxm", "mi300x", "epyc-9654")
#: What measured tables may go down by where the truth does not: one interpolated cell is noisy.
NOISE = 0.1

MODEL = {
    **LLAMA_SHAPE,
    "max_position_embeddings": 131072,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def run(
    model: ModelSpec | str,
    device: Device | str = "h100-sxm",
    *,
    costs: CostModel | None = None,
    arrival: str = "static",
    isl: float = 1024,
    osl: float = 128,
    at: float = 1.0,
    **columns: object,
) -> Estimates:
    spec = pm.model(model) if isinstance(model, str) else model
    machine = hwdb.device(device) if isinstance(device, str) else device
    workload = pm.Workload.from_lengths(isl, osl, concurrency=at, arrival=arrival)  # type: ignore[arg-type]
    return pm.estimate(spec, workload, pm.deployments([machine], **columns), costs=costs)


def demands(model: ModelSpec, step: Step, **columns: object) -> dict[str, Demand]:
    """Operators of a pass by name."""
    sharding = shard(model, pm.deployments([hwdb.device("h100-sxm")], **columns))
    return {d.name: d for d in operators(sharding, step) if np.any(d.count > 0)}


def family(model: ModelSpec, step: Step, name: str, **columns: object) -> Demand:
    return next(d for d in demands(model, step, **columns).values() if d.family == name)


def one(values: np.ndarray) -> float:
    return float(np.ravel(values)[0])


both = pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS)
everywhere = pytest.mark.parametrize("device", DEVICES)


# ---------------------------------------------------------------------------------------------- context and batch


@both
@everywhere
@pytest.mark.parametrize("model", [DENSE, SPARSE, LATENT])
def test_decode_grows_with_context(model: str, device: str, costs: CostModel) -> None:
    tpot = [one(run(model, device, costs=costs, isl=n, osl=16, at=16, tp=8).tpot) for n in 4.0 ** np.arange(4, 9)]
    assert np.all(np.diff(tpot) > -NOISE * np.array(tpot[:-1]))
    assert tpot[-1] > 1.1 * tpot[0]


@both
def test_context_costs_at_least_the_cache_it_reads(costs: CostModel) -> None:
    """Between two lengths a decode pass grows by no less than the added keys and values take to read."""
    model, device = pm.model(DENSE), hwdb.device("h100-sxm")
    short, long = (one(run(DENSE, costs=costs, isl=n, osl=1, at=8).latency.step) for n in (8192, 32768))
    added = 8 * (32768 - 8192) * model.kv_bytes_per_token()
    assert long - short > 0.95 * added / device.bandwidth


@both
@everywhere
@pytest.mark.parametrize("model", [DENSE, SPARSE])
@pytest.mark.parametrize("arrival", ["static", "closed"])
def test_time_per_token_does_not_fall_as_the_batch_rises(
    model: str, device: str, arrival: str, costs: CostModel
) -> None:
    tpot = [one(run(model, device, costs=costs, arrival=arrival, at=b).tpot) for b in 4.0 ** np.arange(5)]
    assert np.all(np.diff(tpot) > -NOISE * np.array(tpot[:-1]))
    assert tpot[-1] > tpot[0]


@both
def test_throughput_does_not_fall_as_the_batch_rises(costs: CostModel) -> None:
    rate = [one(run(DENSE, costs=costs, at=b).output_rate) for b in 4.0 ** np.arange(5)]
    assert np.all(np.diff(rate) > 0)


def test_a_mixture_touches_more_experts_as_the_batch_grows() -> None:
    """Bytes of expert weights a decode pass reads: top-k of them for one token, all in the end, never more."""
    spec = pm.model(SPARSE)
    block = next(b for b in spec.blocks if b.mlp and b.mlp.experts)
    mlp = block.mlp
    assert mlp is not None
    one_expert = mlp.expert_parameters(spec.hidden) * 2.0
    moved = np.array(
        [
            one(family(spec, Step(decode_seqs=b, decode_context=512.0), "grouped_gemm").moved)
            for b in 4.0 ** np.arange(7)
        ]
    )
    assert np.all(np.diff(moved) > 0)
    assert moved[0] == pytest.approx(mlp.top_k * one_expert, rel=0.02)
    assert mlp.experts * one_expert < moved[-1] < 1.5 * mlp.experts * one_expert  # activations come on top


def test_a_mixture_of_few_tokens_reads_less_than_its_dense_twin() -> None:
    spec = pm.model(SPARSE)
    tpot = one(run(SPARSE, costs=Roofline()).latency.step)
    everything = spec.parameters() * 2.0 / hwdb.device("h100-sxm").bandwidth
    assert tpot < 0.7 * everything


# ------------------------------------------------------------------------------------------------------ attention


def test_grouped_queries_shrink_the_cache_that_is_read() -> None:
    step = Step(decode_seqs=32.0, decode_context=8192.0)
    read = {}
    for heads in (32, 8, 1):
        spec = read_config({**MODEL, "num_key_value_heads": heads})
        read[heads] = one(family(spec, step, "attention_decode").moved)
        cached = 2.0 * 8192 * 32 * heads * 128 * 2  # keys and values, 16 bit, one layer
        assert cached <= read[heads] <= 1.02 * cached + 32 * 2 * 32 * 128 * 4
    assert read[32] > 3.9 * read[8] > 12.0 * read[1]


@both
def test_grouped_queries_shorten_decoding(costs: CostModel) -> None:
    step = {
        n: one(run(read_config({**MODEL, "num_key_value_heads": n}), costs=costs, isl=16384, at=8).latency.step)
        for n in (32, 8)
    }
    assert step[32] > 1.5 * step[8]


def test_tensor_parallelism_beyond_the_kv_heads_copies_them() -> None:
    step = Step(decode_seqs=32.0, decode_context=8192.0)
    spec = read_config({**MODEL, "num_key_value_heads": 4})
    four, eight = (one(family(spec, step, "attention_decode", tp=n).moved) for n in (4, 8))
    assert eight == pytest.approx(four, rel=0.02)


# ------------------------------------------------------------------------------------------------- physical bounds


@both
@everywhere
@pytest.mark.parametrize(
    ("model", "columns"), [(DENSE, {}), (SPARSE, {"tp": 4}), (LATENT, {"tp": 8}), (DENSE, {"tp": 8})]
)
@pytest.mark.parametrize("at", [1, 256])
def test_no_pass_beats_peak_or_bandwidth(
    model: str, columns: dict[str, int], device: str, at: int, costs: CostModel
) -> None:
    """A whole pass takes at least its arithmetic at the rated peak, and its bytes at the rated bandwidth."""
    machine = hwdb.device(device)
    spec, place = pm.model(model), pm.deployments([machine], **columns)
    sharding, here = shard(spec, place), hardware_of(place.devices, place.device)
    for step in (Step(decode_seqs=float(at), decode_context=2048.0), Step(prefill_tokens=512.0 * at)):
        time = compute = memory = 0.0
        for d in operators(sharding, step):
            if one(d.count) and d.family not in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"):
                time += one(d.count) * one(costs.cost(d, here).time)
                compute += one(d.count) * one(d.flop) / float(here.peak[0, int(np.ravel(d.compute)[0])])
                memory += one(d.count) * one(d.moved) / machine.bandwidth
        assert time >= compute
        if memory * machine.bandwidth > 50 * np.nan_to_num(machine.l2, nan=1e9):  # more than the caches can hold back
            assert time >= memory


@both
@everywhere
def test_prefill_and_decode_take_what_the_parameters_need(device: str, costs: CostModel) -> None:
    """2 FLOP a parameter and token (Kaplan et al., arXiv:2001.08361), and every weight read once a pass."""
    spec, machine = pm.model(DENSE), hwdb.device(device)
    answer = run(DENSE, device, costs=costs, isl=4096, at=1)
    inner = spec.parameters() - 2.0 * spec.vocab * spec.hidden
    assert one(answer.ttft) >= 2.0 * inner * 4096 / machine.peak("bf16")
    assert one(answer.tpot) >= (inner + spec.vocab * spec.hidden) * 2.0 / machine.bandwidth


def test_the_bound_can_be_broken_and_is_then_noticed() -> None:
    """The check above fires on a cost model that is too good."""

    class Miracle(Roofline):
        def cost(self, demand, hardware):  # type: ignore[no-untyped-def]
            answer = super().cost(demand, hardware)
            return replace(answer, time=answer.time * 0.2)

    with pytest.raises(AssertionError):
        test_no_pass_beats_peak_or_bandwidth(DENSE, {}, "h100-sxm", 64, Miracle())


# ------------------------------------------------------------------------------------------------ weights, memory


def test_deepseek_v3_weighs_671_billion_parameters() -> None:
    """671 B total, 37 B active (DeepSeek-V3, arXiv:2412.19437), published in fp8 with bf16 embeddings and head."""
    spec = pm.model(LATENT)
    assert spec.parameters() == pytest.approx(671e9, rel=0.01)
    eight = run(LATENT, "h200-sxm", tp=8)
    held = 8.0 * one(eight.memory)
    assert 671e9 < held < 1.35 * 671e9  # cache, activations and reserve on top; kv heads and norms are copied
    assert not bool(run(LATENT, "h100-sxm", tp=8).fits[0])
    assert "exceed" in run(LATENT, "h100-sxm", tp=8).reason(0)


@pytest.mark.parametrize("columns", [{"tp": 8}, {"tp": 4, "pp": 2}, {"dp": 8, "ep": 8}, {"tp": 2, "replicas": 4}])
def test_a_group_of_eight_is_eight_devices(columns: dict[str, int]) -> None:
    answer = run(SPARSE, "h200-sxm", at=64, **columns)
    assert one(answer.devices) == 8
    frame = answer.frame()
    energy = one(answer.power) * 8.0 / one(answer.output_rate)
    assert frame["energy_j_per_output_token"][0] == pytest.approx(energy, rel=1e-6)


def test_all_devices_of_a_node_can_be_used() -> None:
    """Eight single-device replicas serve eight times what one serves; one group of eight is faster for one request."""
    single, eight = run(DENSE, at=32, arrival="closed"), run(DENSE, at=256, arrival="closed", replicas=8)
    assert one(eight.output_rate) == pytest.approx(8.0 * one(single.output_rate), rel=1e-6)
    assert one(run(DENSE, tp=8).tpot) < 0.7 * one(run(DENSE).tpot)


def test_the_cache_is_what_memory_leaves() -> None:
    """Sequences that fit times their true length fill the room beside the weights; not whole maximum lengths."""
    spec, device = pm.model(DENSE), hwdb.device("h100-sxm")
    answer = run(DENSE, isl=1000, osl=200, at=4096, arrival="closed")
    mean = 1000 + 200 / 2.0
    taken = one(answer.memory_use.max_running) * mean * spec.kv_bytes_per_token()
    left = 0.9 * device.memory - spec.parameters() * 2.0
    assert 0.75 * left < taken <= 1.05 * left
    assert one(answer.memory_use.max_running) > 2.0 * left / (131072 * spec.kv_bytes_per_token())


def test_a_gigabyte_is_ten_to_the_ninth() -> None:
    device = hwdb.device("h100-sxm")
    assert device.bandwidth == 3350e9
    answer = run(DENSE, tp=1)
    assert answer.frame()["memory_gb_per_device"][0] == pytest.approx(one(answer.memory) / 1e9)
    weights = pm.model(DENSE).parameters() * 2.0
    assert weights / 1e9 < answer.frame()["memory_gb_per_device"][0]


# ------------------------------------------------------------------------------------------------- latency at one


@both
@everywhere
@pytest.mark.parametrize("arrival", ["static", "closed", "single"])
def test_first_token_at_concurrency_one_is_one_prefill_and_the_host(
    device: str, arrival: str, costs: CostModel
) -> None:
    """Nobody else is there: no queue, no second prefill (a shipped planner charged 1.9 of them)."""
    engine = pm.engine("vllm")
    workload = pm.Workload.from_lengths(2048, 64, concurrency=1.0, arrival=arrival)  # type: ignore[arg-type]
    place = pm.deployments([hwdb.device(device)])
    answer = pm.estimate(pm.model(DENSE), workload, place, engine=engine, costs=costs)
    terms = pm.explain(pm.model(DENSE), workload, place, engine=engine, costs=costs)
    prefill = sum(t.time for t in terms if t.phase == "prefill")
    spare = one(answer.ttft) - prefill - engine.request_time - 2048 * engine.tokenize_time
    assert -0.01 * prefill <= spare <= 0.1 * prefill + one(answer.latency.step)


@both
def test_explained_operators_sum_to_the_estimate(costs: CostModel) -> None:
    workload = pm.Workload.from_lengths(2048, 64, concurrency=16.0, arrival="static")
    place = pm.deployments([hwdb.device("h100-sxm")], tp=2)
    answer = pm.estimate(pm.model(DENSE), workload, place, costs=costs)
    terms = pm.explain(pm.model(DENSE), workload, place, costs=costs)
    assert sum(t.time for t in terms if t.phase == "decode") == pytest.approx(one(answer.tpot), rel=1e-6)


# ------------------------------------------------------------------------------------------------- interpolation


def gemm_time(m: np.ndarray, n: np.ndarray | float, k: np.ndarray | float, framework: str = "vllm") -> np.ndarray:
    """Profiled time of 16-bit matrix products on an H100."""
    m, n, k = (np.asarray(v, float) for v in np.broadcast_arrays(m, n, k))
    form, act = FORMAT_CODE["bf16"], COMPUTE_CODE["bf16"]
    demand = Demand(
        "gemm",
        "gemm",
        2.0 * m * n * k,
        2.0 * (m * k + n * k + m * n),
        np.ones(m.shape),
        act,
        shape={"m": m, "n": n, "k": k, "weight": np.full(m.shape, form), "act": np.full(m.shape, act)},
    )
    here = hardware_of([hwdb.device("h100-sxm")], np.zeros(len(m), dtype=int))
    return np.asarray(Profiled(framework).cost(demand, here).time)


@settings(max_examples=60)
@given(st.floats(0.0, 15.0), st.sampled_from([(4096, 4096), (6144, 4096), (28672, 8192), (5000, 3000)]))
def test_interpolation_never_jumps_along_tokens(log_m: float, site: tuple[int, int]) -> None:
    """The smaller the step, the smaller the move, on grid points and between them; staircases are steep, not broken."""
    m = 2.0 ** np.array([log_m, round(log_m)])
    before, after = gemm_time(m * (1 - 1e-9), *site), gemm_time(m * (1 + 1e-9), *site)
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_interpolation_between_sites_stays_near_them() -> None:
    """A product a few columns wider than a measured one costs about the same."""
    for m in (1.0, 64.0, 1024.0, 8192.0):
        at, beside = gemm_time(np.array([m]), 4096.0, 4096.0), gemm_time(np.array([m]), 4100.0, 4096.0)
        assert one(beside) == pytest.approx(one(at), rel=0.25)


def test_beyond_the_table_time_keeps_growing_in_proportion() -> None:
    far = gemm_time(2.0 ** np.arange(17, 21), 4096.0, 4096.0)
    np.testing.assert_allclose(far[1:] / far[:-1], 2.0, rtol=0.05)


# ------------------------------------------------------------------------------------------------------ input files


def own_device(folder: Path, **changes: tuple[str, str]) -> Device:
    """A copy of the H100's file with some figures replaced, under another name (and so without a profile)."""
    text = (Path(hwdb.__file__).parent / "devices" / "h100-sxm.toml").read_text(encoding="utf-8")
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "devices").mkdir(parents=True, exist_ok=True)
    (folder / "devices" / "my-h100.toml").write_text(text, encoding="utf-8")
    return hwdb.Hwdb((*hwdb.load().folders, folder)).device("my-h100")


def test_changing_the_device_file_changes_the_answer(tmp_path: Path) -> None:
    same = own_device(tmp_path / "same")
    slow = own_device(tmp_path / "slow", bandwidth=("value = 3350", "value = 1675"))
    assert slow.bandwidth == same.bandwidth / 2.0
    before, after = (one(run(DENSE, d, costs=Roofline()).tpot) for d in (same, slow))
    assert after > 1.6 * before


def test_changing_the_model_file_changes_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MODEL))
    before = run(read_config(path))
    path.write_text(json.dumps({**MODEL, "num_hidden_layers": 64}))
    after = run(read_config(path))
    assert one(after.tpot) > 1.7 * one(before.tpot)
    assert one(after.memory) > 1.5 * one(before.memory)


def test_changing_the_engine_changes_the_answer() -> None:
    engine = pm.engine("vllm")
    slower = replace(engine, request_time=engine.request_time + 0.5)
    workload = pm.Workload.from_lengths(1024, 128, concurrency=1.0)
    place = pm.deployments([hwdb.device("h100-sxm")])
    before, after = (pm.estimate(pm.model(DENSE), workload, place, engine=e) for e in (engine, slower))
    assert one(after.ttft) - one(before.ttft) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_a_request_takes_longer_only_where_several_devices_receive_it(name: str) -> None:
    longer = pm.engine(name).changed(request_parallel=0.3)
    workload = pm.Workload.from_lengths(1024, 128, concurrency=1.0)
    place = pm.deployments([hwdb.device("h100-sxm")], tp=[1, 2, 4])
    engines = longer.changed(request_parallel=0.0), longer
    before, after = (pm.estimate(pm.model(DENSE), workload, place, engine=e) for e in engines)
    assert (after.ttft - before.ttft)[0] == pytest.approx([0.0, 0.3, 0.3], abs=1e-9)
    assert after.tpot[0] == pytest.approx(before.tpot[0])


@pytest.mark.parametrize("load", [{"concurrency": 1.0}, {"concurrency": 1.0, "arrival": "static"}, {"rate": 0.01}])
def test_a_prompt_is_tokenised_whole_though_most_of_it_is_cached(load: dict[str, Any]) -> None:
    slower = pm.engine("vllm").changed(tokenize_time=1e-4)
    workload = pm.Workload.from_lengths(20_000, 128, prefix_hit=0.9, **load)
    place = pm.deployments([hwdb.device("h100-sxm")])
    engines = slower.changed(tokenize_time=0.0), slower
    before, after = (one(pm.estimate(pm.model(DENSE), workload, place, engine=e).ttft) for e in engines)
    assert after - before == pytest.approx(2.0)
    runs = [pm.simulate(pm.model(DENSE), place, workload, engine=e, count=3, seed=0) for e in engines]
    assert (runs[1].first - runs[1].issued)[0] - (runs[0].first - runs[0].issued)[0] == pytest.approx(2.0)


# -------------------------------------------------------------------------------------------------------- fallback


@pytest.mark.parametrize(
    "device", [d.name for d in hwdb.devices() if d.peak("bf16") == d.peak("bf16") or d.kind == "gpu"]
)
def test_a_device_without_tables_gets_an_honest_answer(device: str) -> None:
    """Finite, positive, and said to be what it rests on; never a crash, never a zero."""
    answer = run(DENSE, device, at=8)
    basis = BASES[int(answer.basis[0])]
    for value in (answer.ttft, answer.tpot, answer.output_rate):
        assert np.isfinite(one(value))
        assert one(value) > 0
    if store.load(device) is None:
        assert basis in ("calibrated", "roofline")
    assert basis != "unknown"


def test_a_format_that_nobody_measured_falls_back_and_says_so() -> None:
    code = FORMAT_CODE["iq2_xxs"]
    answer = run(DENSE, "h100-sxm", weight=code)
    assert np.isfinite(one(answer.tpot))
    assert BASES[int(answer.basis[0])] != "measured"
    assert one(answer.tpot) < one(run(DENSE, "h100-sxm").tpot)


def test_an_empty_profile_is_no_profile(tmp_path: Path) -> None:
    device = own_device(tmp_path / "bare")
    measured = run(DENSE, "h100-sxm", arrival="closed")
    bare = run(DENSE, device, arrival="closed")
    assert BASES[int(bare.basis[0])] in ("calibrated", "roofline")
    assert one(bare.tpot) == pytest.approx(one(measured.tpot), rel=0.4)
    assert one(bare.half_width("tpot")) > 0.9 * one(measured.half_width("tpot"))


# ------------------------------------------------------------------------------------------------------------ units


def test_the_same_facts_in_other_units_give_the_same_answer(tmp_path: Path) -> None:
    given_in = own_device(tmp_path / "gb")
    other = own_device(tmp_path / "tb", bandwidth=('value = 3350, unit = "GB/s"', 'value = 3.35, unit = "TB/s"'))
    assert other.bandwidth == pytest.approx(given_in.bandwidth)
    for column, values in run(DENSE, given_in, at=16).columns().items():
        if np.issubdtype(np.asarray(values).dtype, np.floating):
            np.testing.assert_allclose(run(DENSE, other, at=16).columns()[column], values, rtol=1e-9)


@settings(max_examples=20)
@given(st.floats(0.1, 10.0))
def test_a_second_of_another_length_rescales_every_pass(factor: float) -> None:
    """All rates of a device times f is the same machine on a clock f times as long: bound times shrink by f."""
    device = hwdb.device("h100-sxm")
    records = {
        key: replace(r, value=r.number * factor, chosen=None) if key.startswith(("peak.", "memory.bandwidth")) else r
        for key, r in device.records.items()
    }
    faster = replace(device, records=records)
    m, n, k = np.array([4096.0]), 8192.0, 8192.0
    shape = {"m": m, "n": n, "k": k, "weight": FORMAT_CODE["bf16"], "act": COMPUTE_CODE["bf16"]}
    demand = Demand("gemm", "gemm", 2.0 * m * n * k, 2.0 * (m * k + n * k + m * n), np.ones(1), 2, shape=shape)
    from perfmodel.costs import bound

    here, there = (bound(demand, hardware_of([d], np.zeros(1, dtype=int))) for d in (device, faster))
    assert one(there.compute) * factor == pytest.approx(one(here.compute))
    assert one(there.memory) * factor == pytest.approx(one(here.memory))


# ------------------------------------------------------------------------------------------------ random deployments


@pytest.mark.parametrize("seed", range(4))
def test_random_deployments_obey_physics(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of `benchmarks.physics`: each kind of load, no property violated but by its named exceptions."""
    from benchmarks import physics, random_deployments

    monkeypatch.setattr(random_deployments, "BATCH", 80)
    monkeypatch.setattr(random_deployments, "DEVICES", 1)
    monkeypatch.setattr(random_deployments, "ARRIVALS", (random_deployments.ARRIVALS[seed],))
    monkeypatch.setattr(random_deployments, "measured", lambda: ["a100-sxm-80gb", "h100-sxm", "l40s"])
    tallies: dict[str, physics.Tally] = {}
    for batch in random_deployments.batches(80, seed):
        physics.check(batch, tallies)
    assert sum(t.tried for t in tallies.values()) > 1000
    broken = {name: (t.violated, t.worst, t.where) for name, t in tallies.items() if t.violated}
    assert not broken


def test_the_slice_notices_a_slower_answer_on_a_faster_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check fires where faster memory makes steps slower."""
    from benchmarks import physics, random_deployments

    monkeypatch.setattr(random_deployments, "BATCH", 20)
    monkeypatch.setattr(random_deployments, "DEVICES", 1)
    monkeypatch.setattr(random_deployments, "ARRIVALS", ("static",))
    monkeypatch.setattr(random_deployments, "measured", lambda: ["h100-sxm"])
    (batch,) = random_deployments.batches(20, 0)
    tallies: dict[str, physics.Tally] = {}
    wrong = replace(batch.base, latency=replace(batch.base.latency, tpot=batch.base.latency.tpot * 1.2))
    monkeypatch.setattr(random_deployments.Batch, "on_faster", lambda self, what: wrong)
    physics.check(batch, tallies, "faster memory")
    assert tallies["faster memory is not slower: tpot"].violated > 0


@pytest.mark.parametrize("seed", range(20))
def test_more_bandwidth_never_lengthens_a_token(seed: int, tmp_path: Path) -> None:
    """1.3 times the memory or link bandwidth, for a device with measured tables, at lengths that people ask for."""
    from benchmarks import random_deployments

    draw = np.random.default_rng(seed)
    name = str(draw.choice(["a100-sxm-80gb", "h100-sxm", "h200-sxm", "l40s", "b200-sxm", "mi210"]))
    engine = str(draw.choice(["vllm", "sglang", "trtllm"]))
    arrival = str(draw.choice(["static", "single", "closed", "offline"]))
    known = random_deployments.database(tmp_path, [name])
    lengths = draw.integers(100, 4000), draw.integers(64, 600)
    asked = {"concurrency": int(draw.integers(1, 64)), "n_requests": int(draw.integers(1, 200))}
    load = {"offline": {"n_requests": asked["n_requests"]}, "single": {}}.get(
        arrival, {"concurrency": asked["concurrency"]}
    )
    work = pm.Workload.from_lengths(*lengths, arrival=arrival, **load)  # type: ignore[arg-type]
    tp = float(draw.choice([1, 2, 4]))
    found = {
        suffix: pm.estimate(pm.model(DENSE), work, pm.deployments([known.device(name + suffix)], tp=tp), engine=engine)
        for suffix in ("", "-memory", "-link")
    }
    for faster in ("-memory", "-link"):
        assert one(found[faster].tpot) <= 1.01 * one(found[""].tpot)
        assert one(found[faster].output_rate) >= 0.99 * one(found[""].output_rate)


@pytest.mark.parametrize("device", ["h100-sxm", "a100-sxm-80gb", "mi300x", "l40s"])
@pytest.mark.parametrize("context", [0.0, 2048.0, 8192.0, 65_536.0])
def test_a_few_new_tokens_behind_a_long_context_are_quick(device: str, context: float) -> None:
    """Fewer new tokens never take longer, and one takes no longer than to read the cache twenty times."""
    machine = hwdb.device(device)
    sharding = shard(pm.model(DENSE), pm.deployments([machine]))
    here = hardware_of([machine], np.zeros(1, dtype=int))
    times = []
    for tokens in (1.0, 2.0, 5.0, 16.0, 40.0, 64.0, 200.0, 256.0, 1000.0, 1024.0, 4096.0):
        step = Step(prefill_tokens=np.array([tokens]), prefill_context=np.array([context]))
        (found,) = (d for d in operators(sharding, step) if d.family == "attention_prefill" and np.any(d.count > 0))
        times.append(one(COSTS["default"].cost(found, here).time))
    assert np.all(np.diff(times) > -2 * NOISE * np.array(times[:-1]))  # far outside the table, from noisy cells
    least = max(context, 1.0) * pm.model(DENSE).kv_bytes_per_token() / pm.model(DENSE).layers / machine.bandwidth
    assert times[0] < 20.0 * least + 50e-6
