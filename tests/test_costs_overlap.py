"""Communication beside computation: bounds that hold always, and the gains that were published."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import hwdb
import perfmodel
from hwdb import InputError, UnknownName
from perfmodel.costs import Roofline
from perfmodel.costs.cost import CostModel
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.costs.step_costs.overlap import kinds, overlapped, streams_of, visible
from perfmodel.costs.step_costs.steps import StepCost, step_cost
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import FOLDER, engine, names
from perfmodel.engines.overlap import KINDS_OF_TIME, overlap_of, ways
from perfmodel.engines.reader import load_engine
from perfmodel.engines.spec import Engine
from perfmodel.estimates.estimation.estimator import estimate, prepare
from perfmodel.estimates.explanation import explain
from perfmodel.models import model
from perfmodel.operators.step import Step
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.simulator import latency
from perfmodel.simulator.replica_pools.build import step_time
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload
from search.scenario.scenario import load_scenario

GENERIC = engine("generic")
OVERLAPPING = [w for w in ways() if w != "none"]
LLAMA, DEEPSEEK = model("meta-llama/Llama-2-70b-hf"), model("deepseek-ai/DeepSeek-V3")


def passes(
    spec=LLAMA, device="a100-sxm-80gb", by: Engine = GENERIC, costs: CostModel | None = None, **degrees
) -> StepModel:
    placed = deployments([hwdb.device(device)], **degrees)
    demand = load_of(Workload.from_lengths(1024, 512, concurrency=64.0), 1)
    return prepare(spec, placed, by, costs or Roofline(), demand).steps


def with_overlap(ready: StepModel, way: str, share: float = float("nan")) -> StepModel:
    return replace(ready, engine=ready.engine.changed(overlap=way, overlap_share=share))


def gain(ready: StepModel, way: str, step: Step) -> float:
    """Time of a pass without over that with overlap."""
    return float((ready.price(step).time / with_overlap(ready, way).price(step).time)[0])


def made(times: list[float]) -> StepCost:
    """A pass of one candidate that takes these seconds by `KINDS_OF_TIME`."""
    compute, memory, launch, linked, late, host = (np.array([t]) for t in times)
    one = np.ones(1)
    bound = np.stack([compute, memory, linked + host, launch + late])
    return StepCost(
        bound.sum(axis=0),
        bound,
        np.zeros(1, np.int8),
        0.1 * one,
        10 * one,
        np.stack([linked, late]),
        0 * one,
        np.ones(1, np.int8),
        np.ones((5, 1)),
    )


def value(array: NDArray) -> float:
    return float(np.ravel(array)[0])


seconds = st.lists(st.floats(0.0, 10.0), min_size=6, max_size=6)


# ------------------------------------------------------------------------------------------------------------- laws


@given(times=seconds)
def test_kinds_of_time_are_all_of_it(times: list[float]) -> None:
    cost = made(times)
    np.testing.assert_allclose(kinds(cost)[:, 0], times, atol=1e-12)
    assert len(KINDS_OF_TIME) == 6


@pytest.mark.parametrize("name", OVERLAPPING)
@given(times=seconds, share=st.floats(0.01, 1.0))
def test_a_pass_lies_between_its_longest_stream_and_their_sum(name: str, times: list[float], share: float) -> None:
    way = overlap_of(name, share)
    assert way is not None
    cost = made(times)
    run = overlapped(cost, way)
    streams = way.batches * streams_of(cost, way)[:, 0]
    whole = way.batches * sum(times)
    alone = whole - streams.sum()
    assert alone + streams.max() - 1e-9 <= value(run.time) <= whole + 1e-9
    assert value(run.time) == pytest.approx(alone + streams.max() + (1 - share) * (streams.sum() - streams.max()))
    assert value(run.time) + value(run.hidden) == pytest.approx(whole)
    # what is visible of each kind still sums to the whole, so power and shares of time stay consistent
    np.testing.assert_allclose(run.bound.sum(axis=0), run.time, atol=1e-9)
    np.testing.assert_allclose(visible(way.batches * kinds(cost), way).sum(axis=0), run.time)


def test_all_hides_where_nothing_interferes() -> None:
    cost = made([4.0, 1.0, 0.0, 3.0, 0.5, 0.25])
    full = {n: value(overlapped(cost, overlap_of(n, 1.0)).time) for n in OVERLAPPING}
    assert full["fused"] == pytest.approx(5.0 + 0.5 + 0.25)  # link behind local kernels; latency and host stay
    assert full["dual_batch"] == pytest.approx(2 * (5.0 + 0.25))
    assert full["nano_batch"] == pytest.approx(2 * (4.0 + 0.25))


@pytest.mark.parametrize("name", ["fused", "dual_batch"])
def test_without_communication_there_is_nothing_to_hide(name: str) -> None:
    ready = passes(model("llama-3.1-8b"), tp=1)
    for step in (Step(4096.0), Step(0.0, 0.0, 1.0, 64.0, 1000.0)):
        assert gain(ready, name, step) == 1.0


@pytest.mark.parametrize("name", OVERLAPPING)
def test_overlap_is_never_slower(name: str) -> None:
    """Engines leave it off below a threshold; cutting a small batch in two reads all weights twice."""
    for spec, tp, dp in ((LLAMA, 8, 1), (LLAMA, 2, 1), (DEEPSEEK, 1, 16)):
        ready = passes(spec, "h100-sxm", tp=tp, dp=dp, ep=dp)
        for prompt, seqs in product((0.0, 1.0, 300.0, 8192.0), (0.0, 1.0, 24.0, 2000.0)):
            if prompt + seqs:
                step = Step(prompt, 500.0, max(prompt / 1000, 1.0), seqs, 1500.0)
                assert gain(ready, name, step) >= 1.0, (spec.name, prompt, seqs)
    slow = with_overlap(passes(LLAMA, by=GENERIC.changed(launch_time=1e-4), tp=8), name)
    plain = with_overlap(slow, "none")
    for prompt in (16.0, 512.0, 8192.0):
        on, off = (p.price_prompts(p.prefill_steps(np.array([prompt]), np.zeros(1))) for p in (slow, plain))
        assert value(on.wall) <= value(off.wall) * (1 + 1e-12)


def test_two_batches_read_and_launch_twice() -> None:
    ready, step = passes(tp=8), Step(0.0, 0.0, 1.0, 4000.0, 500.0)
    whole, cut = ready.price(step), with_overlap(ready, "dual_batch").price(step)
    assert int(cut.batches[0]) == 2
    assert value(cut.calls) == 2 * value(whole.calls)
    half = step_cost(ready.sharding, ready.hardware, ready.costs, step.part(2))
    assert value(half.time) > 0.5 * value(whole.time)
    assert value(cut.time + cut.hidden) == pytest.approx(2 * value(half.time))


def test_a_batch_of_one_cannot_be_cut() -> None:
    ready = passes(DEEPSEEK, "h100-sxm", tp=1, dp=16, ep=16)
    for name in ("dual_batch", "nano_batch"):
        assert int(with_overlap(ready, name).price(Step(0.0, 0.0, 1.0, 16.0, 50_000.0)).batches[0]) == 1


# -------------------------------------------------------------------------------------------------- published gains


def test_nano_batches_gain_as_their_ablation_says() -> None:
    """NanoFlow (arXiv:2408.12757, section 6.4), LLaMA-2-70B on 8 x A100, 2048 tokens a pass: over the same engine
    without overlap 1.07 x on prompts alone, 1.17 x with decodes; cutting alone costs up to 13.2 %. Over other engines
    1.9 x, of which the rest is theirs."""
    ready = passes(tp=8)
    prompts, mixed = Step(2048.0, 0.0, 4.0), Step(683.0, 0.0, 1.33, 1365.0, 1024.0)
    assert 1.03 < gain(ready, "nano_batch", prompts) < 1.2
    assert 1.1 < gain(ready, "nano_batch", mixed) < 1.3
    assert gain(ready, "nano_batch", mixed) > gain(ready, "nano_batch", prompts)
    whole, half = (
        value(step_cost(ready.sharding, ready.hardware, ready.costs, s).time) for s in (mixed, mixed.part(2))
    )
    assert 1.0 < 2 * half / whole < 1.16
    assert gain(ready, "nano_batch", Step(0.0, 0.0, 1.0, 8.0, 1024.0)) == 1.0  # bound by weights: nothing to gain


def test_two_batches_gain_as_on_large_expert_parallelism() -> None:
    """SGLang's two-batch overlap, DeepSeek on H100 nodes (LMSYS, 2025-05-05, 'large-scale EP'): 27 to 35 % more prompt
    tokens at EP 32; decodes at EP 72 lose below 64 to 128 sequences per device and gain 25.5 % at 256."""
    prompts = passes(DEEPSEEK, "h100-sxm", tp=1, dp=32, ep=32)
    assert 1.15 < gain(prompts, "dual_batch", Step(8192.0 * 32, 0.0, 256.0)) < 1.5
    decodes = passes(DEEPSEEK, "h100-sxm", tp=1, dp=72, ep=72)
    gains = [gain(decodes, "dual_batch", Step(0.0, 0.0, 1.0, 72.0 * n, 2000.0)) for n in (16, 32, 256)]
    assert gains[0] == gains[1] == 1.0
    assert 1.1 < gains[2] < 1.5


def test_fused_kernels_hide_what_they_can_reach() -> None:
    """Flux (arXiv:2406.06858): up to 96 % of communication hidden in a fused kernel, up to 1.66 x in prefill; vLLM's
    AsyncTP 7 to 10 % end to end, on large passes only (docs/design/fusions.md)."""
    ready, step = passes(model("llama-3.1-70b"), "h100-sxm", tp=4), Step(8192.0, 0.0, 4.0)
    best = with_overlap(ready, "fused", 0.96).price(step)
    assert value(best.hidden) == pytest.approx(0.96 * value(ready.price(step).links[0]))
    assert 1.0 < gain(ready, "fused", step) < 1.66
    measured = passes(model("llama-3.1-70b"), "h100-sxm", costs=default("vllm"), tp=4)
    assert 1.04 < gain(measured, "fused", step) < 1.15
    assert gain(measured, "fused", Step(0.0, 0.0, 1.0, 4.0, 1000.0)) < 1.01  # small messages are all latency


# ---------------------------------------------------------------------------------------------- through the project


@pytest.mark.parametrize("name", OVERLAPPING)
def test_terms_with_what_hides_sum_to_the_estimate(name: str) -> None:
    by = GENERIC.changed(overlap=name)
    placed = deployments([hwdb.device("h100-sxm")], tp=8)
    work = Workload.from_lengths(2000, 200, concurrency=512.0, arrival="static")
    found = estimate(model("llama-3.1-70b"), work, placed, engine=by, costs=Roofline())
    plain = estimate(model("llama-3.1-70b"), work, placed, engine=GENERIC, costs=Roofline())
    assert float(found.tpot[0, 0]) < float(plain.tpot[0, 0])
    terms = explain(model("llama-3.1-70b"), work, placed, engine=by, costs=Roofline())
    decode = [t for t in terms if t.phase == "decode"]
    assert sum(t.time for t in decode) == pytest.approx(float(found.latency.step[0, 0]), rel=1e-9)
    assert sum(t.share for t in decode) == pytest.approx(1.0, rel=1e-9)
    (hiding,) = (t for t in decode if t.family == "overlap")
    assert " behind " in hiding.operator
    assert hiding.time < 0
    # the same joules in less time
    assert float(found.power[0]) <= placed.devices[0].tdp


def test_the_simulator_replays_the_same_passes() -> None:
    spec, placed = model("llama-3.1-70b"), deployments([hwdb.device("h100-sxm")], tp=8, max_num_seqs=256.0)
    work = Workload.from_lengths(500, 300, concurrency=256.0)
    token = {}
    for name in ("none", *OVERLAPPING):
        by = GENERIC.changed(overlap=name, prefix_cache=False)
        replayed = perfmodel.simulate(spec, placed, work, engine=by, costs=Roofline(), count=400)
        token[name] = latency(replayed, "tpot").mean
        steps = replayed.runs[replayed.runs["prompt"] > 0][::20]
        exact = step_time(prepare(spec, placed, by, Roofline(), load_of(work, 1)))
        columns = (steps["prompt"] * 1.0, np.full(len(steps), 250.0), steps["active"] * 1.0, np.full(len(steps), 650.0))
        # sequences that run are between their first token and their last: the table's error is theirs
        np.testing.assert_allclose(steps["step"], exact(*columns), rtol=0.05)
    assert all(token["none"] > 1.02 * token[name] for name in OVERLAPPING)


def test_shipped_engines_run_as_installed() -> None:
    """No engine overlaps unless told to (vLLM `--enable-dbo`, SGLang `--enable-two-batch-overlap`)."""
    assert {engine(n).overlap for n in names()} == {"none"}


def test_wrong_settings_are_named(tmp_path) -> None:
    with pytest.raises(UnknownName, match="unknown overlap 'dual_bach'; did you mean 'dual_batch'"):
        passes(by=GENERIC.changed(overlap="dual_bach"), tp=2).price(Step(512.0))
    text = (FOLDER / "generic.toml").read_text(encoding="utf-8")
    setting = '{} = {{ value = {}, kind = "assumed", source = "a test" }}\n'
    own = tmp_path / "own.toml"

    def written(*lines: str) -> Engine:
        head, tail = text.split("[[tier]]", 1)
        own.write_text("".join([head, *lines, "[[tier]]", tail]), encoding="utf-8")
        return load_engine(own)

    assert written(setting.format("overlap", '"fused"')).overlap == "fused"
    assert written(setting.format("overlap_share", 0.5)).overlap_share == 0.5
    with pytest.raises(InputError, match="did you mean 'nano_batch'"):
        written(setting.format("overlap", '"nano-batch"'))
    with pytest.raises(InputError, match=r"overlap_share.*1.5 is not a share"):
        written(setting.format("overlap_share", 1.5))


def test_a_scenario_chooses_how_communication_overlaps(tmp_path) -> None:
    text = (Path(__file__).parent.parent / "examples" / "chat-70b-h100.toml").read_text(encoding="utf-8")
    own = tmp_path / "own.toml"

    def engine_of(lines: str) -> Engine:
        assert "[engine]" in text
        own.write_text(text.replace("[engine]", f"[engine]\n{lines}", 1), encoding="utf-8")
        return load_scenario(own).engine

    assert engine_of("").overlap == "none"
    chosen = engine_of('overlap = "dual_batch"\noverlap_share = 0.5')
    assert (chosen.overlap, chosen.overlap_share) == ("dual_batch", 0.5)
    with pytest.raises(InputError, match="did you mean 'dual_batch'"):
        engine_of('overlap = "dual-batch"')
    with pytest.raises(InputError, match="overlap_share: 2 is out of range"):
        engine_of("overlap_share = 2")


def test_every_way_says_where_its_share_comes_from() -> None:
    for name in OVERLAPPING:
        way = overlap_of(name)
        assert way is not None
        assert 0 < way.share <= 1
        assert "arXiv" in way.source
        assert len({i for s in way.streams for i in s}) == sum(map(len, way.streams))


@pytest.mark.parametrize("share", [-0.1, 5.0, float("inf")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="is no share; give one between 0"):
        overlap_of("dual_batch", share)
    assert overlap_of("dual_batch", 0.0) is not None  # nothing hides
