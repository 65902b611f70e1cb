"""Host memory in place of device memory: waits by hand, conservation, monotony, what published systems reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
from hwdb import InputError
from perfmodel import Estimates, Workload, engine, estimate, explain, model
from perfmodel import equations as eq
from perfmodel.costs import Roofline
from perfmodel.costs.step_costs.steps import priced, step_cost
from perfmodel.deployment.columns import Deployments, deployments
from perfmodel.deployment.offload import HostHabits, hosted
from perfmodel.deployment.sharding import Sharding, shard
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines.spec import Engine
from perfmodel.hardware.columns import hardware_of
from perfmodel.hardware.host import EXPERTS_HAND_OVER, LINK_SHARE, Host, host_figures, host_link_bandwidth
from perfmodel.memory.kv_cache import sequence_bytes
from perfmodel.memory.weights import weights_in_host, weights_per_device
from perfmodel.operators.step import Step
from perfmodel.simulator import simulate, summary

H100, LLAMA, MIXTRAL = hwdb.device("h100-sxm"), "llama-3.1-8b", "mistralai/Mixtral-8x7B-v0.1"
ANSWER = Step(decode_seqs=1.0, decode_context=1000.0)
PROMPT = Step(prefill_tokens=8192.0)
#: A host whose CPU works on its part.
COMPUTING = Host(link=50e9, bandwidth=200e9, flops=10e12, where="compute")


def one(device: hwdb.Device = H100, host: Host | None = None, **columns: object) -> Deployments:
    return deployments([device], host=host, **columns)


def laid(name: str, **columns: object) -> Sharding:
    return shard(model(name), one(**columns))  # type: ignore[arg-type]


def pass_time(name: str, step: Step, **columns: object) -> float:
    sharding = laid(name, **columns)
    return float(step_cost(sharding, hardware_of((H100,), np.array([0])), Roofline(), step).time[0])


def device_times(name: str, step: Step) -> list[tuple[str, float, float, float]]:
    """(operator, seconds on the device, bytes of its weights or cache, FLOP) of a pass with nothing in host memory."""
    sharding = laid(name)
    rows = []
    for d, c in priced(sharding, hardware_of((H100,), np.array([0])), Roofline(), step):
        seconds, moved, flop = (float(np.ravel(d.count * x)[0]) for x in (c.time, np.asarray(d.host_bytes), d.flop))
        rows.append((d.name, seconds, moved, flop))
    return rows


# ------------------------------------------------------------------------------------------------------- nothing away


@pytest.mark.parametrize("host", [Host(), COMPUTING, Host(link=1e9, prefetch=True)])
def test_nothing_in_host_memory_is_the_base_exactly(host: Host) -> None:
    work = Workload.from_lengths(1000, 200, concurrency=16)
    base, same = (estimate(model(MIXTRAL), work, one(tp=4, host=h)) for h in (None, host))
    for name, values in base.arrays().items():
        np.testing.assert_array_equal(values, same.arrays()[name], err_msg=name)


# -------------------------------------------------------------------------------------------------- waits by hand


def test_streamed_weights_wait_for_the_link() -> None:
    # every GEMM of a layer takes the longer of the device's time and its bytes over the link
    link = 50e9
    times = device_times(LLAMA, ANSWER)
    away = {"qkv", "o", "up", "down"}
    by_hand = sum(max(t, moved / link) if name in away else t for name, t, moved, _ in times)
    assert pass_time(LLAMA, ANSWER, host_weights=1.0, host=Host(link=link)) == pytest.approx(by_hand, rel=1e-9)
    layers = 32 * (4096 * 4096 * 2 + 4096 * 1024 * 2 + 3 * 4096 * 14336) * 2
    assert sum(moved for name, _, moved, _ in times if name in away) == layers


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_share_of_the_weights_waits_in_proportion(share: float) -> None:
    base, whole, part = (pass_time(LLAMA, ANSWER, host_weights=s, host=Host(link=50e9)) for s in (0.0, 1.0, share))
    assert part - base == pytest.approx(share * (whole - base), rel=1e-9)


def test_prefetched_weights_cost_what_is_left_when_the_device_is_done() -> None:
    base = pass_time(LLAMA, ANSWER)
    layers = sum(moved for name, _, moved, _ in device_times(LLAMA, ANSWER) if name in ("qkv", "o", "up", "down"))
    for link in (50e9, 400e9, 4e13):
        found = pass_time(LLAMA, ANSWER, host_weights=0.5, host=Host(link=link, prefetch=True))
        assert found == pytest.approx(max(base, 0.5 * layers / link), rel=1e-9)


def test_operands_that_are_copied_first_add_their_copy() -> None:
    link, layers = 50e9, ("qkv", "o", "up", "down")
    times = device_times(LLAMA, ANSWER)
    by_hand = sum(t + (moved / link if name in layers else 0.0) for name, t, moved, _ in times)
    placed, here = one(host_weights=1.0, host=Host(link=link)), hardware_of((H100,), np.array([0]))
    copied = shard(model(LLAMA), placed, habits=HostHabits(copied_first=True))
    assert float(step_cost(copied, here, Roofline(), ANSWER).time[0]) == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize(("form", "peak"), [("int8", 80e12), ("bf16", 80e12), ("fp8", 10e12)])
def test_matrix_units_of_a_host_compute_experts_of_integers_and_16_bits(form: str, peak: float) -> None:
    # and experts of a long prompt stay on the host, although copying them would be faster
    habits, many = HostHabits(matrix_experts=True, hand_over=1e-3), 16384.0
    placed = one(host_experts=1.0, host=replace(COMPUTING, matrix_flops=80e12), weight=FORMAT_CODE[form])
    cut, here = shard(model(MIXTRAL), placed, habits=habits), hardware_of((H100,), np.array([0]))
    waits = [d_c for d_c in priced(cut, here, Roofline(), Step(prefill_tokens=many)) if d_c[0].name == "host_memory"]
    experts = next(d_c for d_c in priced(cut, here, Roofline(), Step(prefill_tokens=many)) if d_c[0].name == "experts")
    flop = 2.0 * many * 2 * 3 * 4096 * 14336 * model(MIXTRAL).layers  # two experts per token, three matrices
    there = flop / peak + 1e-3 * model(MIXTRAL).layers
    device = float(np.ravel(experts[0].count * experts[1].time)[0])
    assert float(waits[0][1].time[0]) == pytest.approx(there - device, rel=1e-6)


def test_a_host_that_computes_works_at_its_own_bandwidth_and_streams_large_batches() -> None:
    small, large = Step(decode_seqs=1.0, decode_context=10.0), Step(prefill_tokens=16384.0)
    for step in (small, large):
        by_hand = 0.0
        for name, t, moved, flop in device_times(MIXTRAL, step):
            handing_over = EXPERTS_HAND_OVER * model(MIXTRAL).layers if name == "experts" else 0.0
            there = min(moved / 50e9, max(moved / 200e9, flop / 10e12) + handing_over)
            by_hand += max(t, there) if name == "experts" else t
        found = pass_time(MIXTRAL, step, host_experts=1.0, host=COMPUTING)
        assert found == pytest.approx(by_hand, rel=1e-9)
    ((_, t, moved, flop),) = [row for row in device_times(MIXTRAL, small) if row[0] == "experts"]
    assert max(moved / 200e9, flop / 10e12) == moved / 200e9 < moved / 50e9  # one token: the host reads its memory
    ((_, t, moved, flop),) = [row for row in device_times(MIXTRAL, large) if row[0] == "experts"]
    assert moved / 50e9 < flop / 10e12  # a long prompt: the device reads the link


@pytest.mark.parametrize("tokens", [1.0, 3.0, 40.0])
def test_experts_in_host_memory_are_hit_in_proportion(tokens: float) -> None:
    link, share = 1e9, 0.3  # so slow that the device's own time does not matter
    step = Step(decode_seqs=tokens, decode_context=10.0)
    wait = pass_time(MIXTRAL, step, host_experts=share, host=Host(link=link)) - pass_time(MIXTRAL, step)
    touched = float(eq.popular_experts_touched(8.0, 2.0, tokens))
    expected = share * 32 * touched * 3 * 4096 * 14336 * 2 / link
    assert wait == pytest.approx(expected, rel=0.01)
    # and of each expert being away with chance `share`, the expected number of those touched is the same
    generator = np.random.default_rng(1)
    away = np.array([_away(generator, int(tokens), share) for _ in range(4000)])
    assert away.mean() == pytest.approx(share * touched, rel=0.05)


def _away(generator: np.random.Generator, tokens: int, share: float) -> int:
    popularity = generator.beta(1.0, 8 / 2 - 1.0, 8)
    hit = (generator.random((tokens, 8)) < popularity).any(axis=0)
    return int(np.sum(generator.random(8)[hit] < share))


def test_a_share_of_the_cache_is_read_in_each_step() -> None:
    link, seqs, context = 1e9, 4.0, 5000.0
    step = Step(decode_seqs=seqs, decode_context=context)
    wait = pass_time(LLAMA, step, host_kv=0.5, host=Host(link=link)) - pass_time(LLAMA, step)
    assert wait == pytest.approx(0.5 * seqs * context * 131072 / link, rel=0.02)
    prompt = Step(prefill_tokens=2000.0)  # nothing to read, all to be written
    written = pass_time(LLAMA, prompt, host_kv=1.0, host=Host(link=link)) - pass_time(LLAMA, prompt)
    assert written == pytest.approx(2000 * 131072 / link, rel=0.02)


def test_explain_shows_the_wait_and_sums_to_the_pass() -> None:
    work = Workload.from_lengths(1000, 200, arrival="static", concurrency=8)
    away = one(host_weights=0.5, host=Host(link=50e9))
    terms = [t for t in explain(model(LLAMA), work, away) if t.phase == "decode"]
    (wait,) = [t for t in terms if t.operator == "host_memory"]
    assert (wait.family, wait.bound) == ("host_link", "link")
    assert sum(t.time for t in terms) == pytest.approx(float(estimate(model(LLAMA), work, away).tpot[0, 0]), rel=1e-9)


def test_the_simulator_waits_alike() -> None:
    work = Workload.from_lengths(500, 50, arrival="static", concurrency=8)
    away = one(host_weights=0.3, host_kv=0.5, host=Host(link=50e9))
    closed = float(estimate(model(LLAMA), work, away).tpot[0, 0]) * 1e3
    assert summary(simulate(model(LLAMA), away, work))["tpot_ms"] == pytest.approx(closed, rel=0.01)
    everything = one(host_kv=1.0, host=Host(link=50e9))
    assert summary(simulate(model(LLAMA), everything, work))["rejected"] == 0


# ----------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("name", [LLAMA, MIXTRAL, "deepseek-v3"])
@pytest.mark.parametrize("columns", [{}, {"tp": 4}, {"tp": 2, "pp": 2}])
def test_what_leaves_the_device_is_in_the_host(name: str, columns: dict[str, int]) -> None:
    whole = laid(name, **columns)
    experts = 0.7 if model(name).experts else 0.0
    part = laid(name, host_weights=0.4, host_experts=experts, host_kv=0.3, host=Host(link=1e9), **columns)
    assert float((weights_per_device(part) + weights_in_host(part))[0]) == pytest.approx(
        float(weights_per_device(whole)[0]), rel=1e-12
    )
    assert float(weights_in_host(whole)[0]) == 0.0
    kept = float(sequence_bytes(part, 1000.0, 1.0 - part.hosted("kv"))[0])
    assert kept < float(sequence_bytes(whole, 1000.0)[0])
    assert float(sequence_bytes(part, 1000.0)[0]) == float(sequence_bytes(whole, 1000.0)[0])


def test_more_in_host_memory_leaves_room_for_more_sequences() -> None:
    work = Workload.from_lengths(1000, 200, concurrency=4)
    for column in ("host_weights", "host_kv"):
        shares = np.array([0.0, 0.3, 0.6, 0.9])
        found = estimate(model(LLAMA), work, one(host=Host(link=50e9), **{column: shares}))
        assert np.all(np.diff(found.memory_use.max_running) > 0)
        assert np.all(np.diff(found.memory) < 0)


def test_host_memory_bounds_what_may_lie_there() -> None:
    work = Workload.from_lengths(1000, 200, concurrency=4)
    spec = model(LLAMA)
    small = estimate(spec, work, one(host_weights=0.9, host=Host(link=50e9, memory=8e9)))
    assert not small.fits[0]
    assert "exceed 8.0 GB of host memory per device" in small.reason(0)
    bounded = estimate(spec, work, one(host_kv=0.5, host=Host(link=50e9, memory=1e9)))
    each = 1104 * 131072 * 0.5  # in blocks of 16 tokens, the mean length of a running sequence
    assert float(bounded.memory_use.max_running[0]) == pytest.approx(1e9 / each, rel=0.1)
    assert float(bounded.memory[0]) < 25e9  # the device is not filled beyond what the host can hold of a sequence
    unknown = estimate(spec, work, one(host_kv=1.0, host=Host(link=50e9)))
    assert unknown.fits[0]


# --------------------------------------------------------------------------------------------------------- monotony


@pytest.mark.parametrize("column", ["host_weights", "host_experts", "host_kv"])
@pytest.mark.parametrize("host", [Host(link=50e9), Host(link=50e9, prefetch=True), COMPUTING])
@pytest.mark.parametrize("step", [ANSWER, Step(decode_seqs=64.0, decode_context=2000.0), PROMPT])
def test_more_in_host_memory_is_never_faster(column: str, host: Host, step: Step) -> None:
    times = [pass_time(MIXTRAL, step, host=host, **{column: s}) for s in (0.0, 0.1, 0.4, 0.8, 1.0)]
    assert times == sorted(times)


def test_a_faster_link_is_never_slower() -> None:
    times = [pass_time(LLAMA, PROMPT, host_weights=0.5, host=Host(link=b)) for b in (1e9, 1e10, 1e11, 1e12)]
    assert times == sorted(times, reverse=True)


# ------------------------------------------------------------------------------------------------ figures of the host


def test_links_come_from_the_database() -> None:
    assert host_link_bandwidth(hwdb.device("rtx-4090")) == pytest.approx(
        31.5e9 * LINK_SHARE
    )  # its link goes through the host
    assert host_link_bandwidth(H100) == pytest.approx(63e9 * LINK_SHARE)
    assert np.isnan(host_link_bandwidth(hwdb.device("m3-max")))
    superchip = hosted(one(hwdb.device("gh200-96gb"), host_weights=0.5))
    assert superchip is not None
    assert float(superchip.time(384e9 * LINK_SHARE, 0.0)[0]) == pytest.approx(LINK_SHARE, rel=0.01)  # its slow memory
    assert float(superchip.memory[0]) == 480e9


def test_a_cpu_of_the_database_stands_behind_a_device() -> None:
    cpu = hwdb.device("xeon-8592p")
    half, two = host_figures(cpu, 0.5), host_figures(cpu, 2.0)
    assert two["memory"] == 2 * cpu.memory == 4 * half["memory"]
    assert two["bandwidth"] < 2 * cpu.bandwidth
    assert two["flops"] < 2 * cpu.peak("bf16")
    with pytest.raises(InputError, match="h100-sxm is no CPU but a gpu"):
        host_figures(H100)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"host_kv": 1.5}, "host_kv 1.5 is no share; give 0"),
        ({"host_weights": -0.1}, "host_weights -0.1 is no share"),
        ({"host_experts": float("nan")}, "host_experts nan is no share"),
        ({"host_weights": 0.5, "host": Host(link=1e9, where="compute")}, "h100-sxm: the memory bandwidth of its host"),
        ({"host_weights": 0.5, "host": Host(bandwidth=1e9, where="compute")}, "give host_tflops in a scenario, or"),
        ({"host_weights": 0.5, "device": hwdb.device("b300-sxm")}, "b300-sxm: the rate .* give host_link_gbs"),
    ],
)
def test_what_cannot_be_is_named(columns: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        shard(model(LLAMA), one(**columns))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"link": 0.0}, "link 0 is impossible"),
        ({"memory": -1.0}, "memory -1 is impossible"),
        ({"flops": float("inf")}, "flops inf is impossible"),
        ({"where": "nowhere"}, "where 'nowhere' is unknown; choose one of stream, compute"),
        ({"where": "compute", "prefetch": True}, "prefetch is for streaming"),
    ],
)
def test_impossible_hosts_are_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Host(**wrong)  # type: ignore[arg-type]


def test_a_second_socket_adds_less_than_the_first() -> None:
    cpu = next(d for d in hwdb.devices() if d.kind == "cpu")
    one_socket, two = host_figures(cpu), host_figures(cpu, 2.0)
    assert two["memory"] == 2.0 * one_socket["memory"]
    # KTransformers: experts decode 1.40 times, prefill 1.53 times as fast on two sockets
    assert 1.4 <= two["bandwidth"] / one_socket["bandwidth"] <= 1.6
    assert two["flops"] / one_socket["flops"] == pytest.approx(1.53, rel=0.03)


# ----------------------------------------------------------------------------------------------------- as published


def measured(
    name: str, device: str, lengths: tuple[int, int], *, batch: int = 1, runs: Engine | str = "vllm", **columns: object
) -> Estimates:
    work = Workload.from_lengths(*lengths, arrival="static", concurrency=batch)
    return estimate(model(name), work, one(hwdb.device(device), **columns), engine=runs)  # type: ignore[arg-type]


def test_vllm_streams_a_70b_model_on_a_superchip() -> None:
    # vLLM pull request 6317: Meta-Llama-3-70B on a GH200, 4.6 tokens/s for one user with 80 % of its 96 GB for weights,
    # which leaves 45 % of them to the host
    found = measured("meta-llama/Meta-Llama-3-70B", "gh200-96gb", (128, 128), host_weights=0.45)
    assert float(1.0 / found.tpot[0, 0]) == pytest.approx(4.6, rel=0.35)


def test_flexgen_serves_opt_30b_from_a_16_gb_card() -> None:
    # FlexGen, arXiv:2303.06865, table 2: 7.32 tokens/s at batch 144, prompts of 512, answers of 32, on a T4 with
    # 80 % of the weights and all of the cache in host memory over PCIe 3.0 (12 GB/s, sec. 6)
    host = Host(link=12e9, prefetch=True)
    found = measured("opt-30b", "t4", (512, 32), batch=144, host_weights=0.8, host_kv=1.0, host=host)
    assert float(found.output_rate[0]) == pytest.approx(7.32, rel=0.25)


@pytest.mark.parametrize(
    ("micro_batch", "rate"), [(256, 240.0), (512, 380.3), (2048, 1112.5), (4096, 1682.5), (8192, 2090.7)]
)
def test_llama_cpp_streams_experts_for_prompts(micro_batch: int, rate: float) -> None:
    # gpt-oss-120b on an RTX 3090 with --n-cpu-moe 26 of 36: prompt tokens a second by micro-batch (-ub), as listed at
    # ai-maestro.online/drastically-improve-prompt-processing-speed-for-n-cpu-moe-partially-offloaded-models-8
    found = measured(
        "gpt-oss-120b",
        "rtx-3090",
        (micro_batch, 64),
        runs=engine("llamacpp").changed(micro_batch=float(micro_batch)),
        host_experts=26 / 36,
        host=Host(bandwidth=60e9, flops=1.5e12, where="compute"),
        max_num_batched_tokens=micro_batch,
    )
    assert float(found.rates.prefill[0]) == pytest.approx(rate, rel=0.4)
    assert float(1.0 / found.tpot[0, 0]) == pytest.approx(32.0, rel=0.25)  # 30 to 33 tokens/s of answer


def test_a_host_that_computes_experts_runs_a_671b_model_beside_one_card() -> None:
    # KTransformers, doc/en/DeepseekR1_V3_tutorial.md: DeepSeek-V3 Q4_K_M, 8.73 tokens/s with one Xeon Gold 6454S (eight
    # channels of DDR5-4800, 307 GB/s) and a 4090D, 12.2 with two of them across NUMA nodes
    host = Host(bandwidth=0.6 * 307e9, flops=20e12, where="compute")
    found = measured(
        "deepseek-v3",
        "rtx-4090d",
        (500, 64),
        runs="llamacpp",
        host_experts=1.0,
        host=host,
        weight=FORMAT_CODE["q4_k_m"],
    )
    assert found.fits[0]
    assert 0.7 < float(1.0 / found.tpot[0, 0]) / 8.73 < 1.6
