"""Explanations: terms that add up to what `estimate` uses, and shares of the ceilings that they come near."""

from __future__ import annotations

import math

import numpy as np
import pytest

import hwdb
from perfmodel.costs import Roofline
from perfmodel.costs.cost import CostModel
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.disaggregation.disaggregated import estimate_disaggregated
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.estimates.explanation import Term, explain, explain_disaggregated
from perfmodel.hardware.columns import hardware_of
from perfmodel.hardware.efficiency import efficiency_of
from perfmodel.models import model
from perfmodel.vocabulary import BASES
from perfmodel.workload.workload import Workload

DEVICES = [hwdb.device(n) for n in ("h100-sxm", "l40s", "mi300x")]
lengths = Workload.from_lengths


def seconds(terms: tuple[Term, ...], phase: str) -> float:
    return sum(t.time for t in terms if t.phase == phase)


@pytest.mark.parametrize(
    ("by", "costs"),
    [("vllm", default("vllm")), *((e, Roofline()) for e in ("vllm", "vllm-v0", "sglang", "trtllm", "llamacpp"))],
)
@pytest.mark.parametrize("name", ["llama-3.1-8b", "mistralai/Mixtral-8x7B-v0.1", "deepseek-ai/DeepSeek-V2-Lite"])
def test_terms_add_up_to_the_estimate(by: str, costs: CostModel, name: str) -> None:
    placed = deployments(DEVICES, device=np.arange(3), tp=np.array([1, 4, 2]))
    for workload in (lengths(700, 90, arrival="single"), lengths(400, 90, concurrency=24.0, arrival="static")):
        found = estimate(model(name), workload, placed, engine=by, costs=costs)
        for row in range(3):
            terms = explain(model(name), workload, placed, row, engine=by, costs=costs)
            assert seconds(terms, "decode") == pytest.approx(float(found.latency.step[0, row]), rel=1e-9)
            if workload.arrival == "single" and by != "llamacpp":  # which computes 700 tokens in two steps
                assert seconds(terms, "prefill") == pytest.approx(float(found.latency.prefill[0, row]), rel=1e-9)
            for phase in ("prefill", "decode"):
                assert sum(t.share for t in terms if t.phase == phase) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize(
    "workload",
    [lengths([100, 3000], [50, 300], share=[0.5, 0.5], concurrency=16), lengths(900, 90, rate=2.0)],
    ids=["closed", "open"],
)
def test_decode_terms_are_those_of_the_operating_point(workload: Workload) -> None:
    spec, placed = (
        model("llama-3.1-70b"),
        deployments(DEVICES[:1], tp=8, pp=np.array([1, 2]), replicas=np.array([2, 1])),
    )
    found = estimate(spec, workload, placed, costs=Roofline())
    for row in range(2):
        terms = explain(spec, workload, placed, row, costs=Roofline())
        # in an open loop the step is a mean over how many are met, the terms are those of their mean number
        near = 0.01 if workload.arrival == "open" else 1e-9
        assert seconds(terms, "decode") == pytest.approx(float(found.latency.step[0, row]), rel=near)


CUTS = [
    (e, arrival, pp, budget, isl)
    for e, arrival, pp, budget, isl in zip(
        ("vllm", "sglang", "trtllm", "vllm-v0", "llamacpp") * 4,
        ("single", "closed", "static", "offline", "open", "closed", "single") * 3,
        (1, 2, 4, 1, 1, 8, 1, 2, 1, 1, 4) * 2,
        (2048.0, 512.0, 8192.0, 1024.0, 4096.0, 2000.0) * 4,
        (8192, 8200, 700, 60_000, 2049, 16_384, 100_000, 511, 5000) * 3,
        strict=False,
    )
]


@pytest.mark.parametrize(("by", "arrival", "pp", "budget", "isl"), CUTS)
def test_the_steps_of_a_long_prompt_add_up_to_the_estimate(
    by: str, arrival: str, pp: int, budget: float, isl: int
) -> None:
    """However a prompt is cut, its operators take as long as its prefill in the estimate, and say in how many steps."""
    spec, placed = model("llama-3.1-8b"), deployments(DEVICES[:1], max_num_batched_tokens=budget, pp=pp)
    workload = lengths(isl, 20, arrival=arrival, concurrency=3, n_requests=6, rate=0.1)
    if arrival == "open":
        workload = workload.at(n_requests=float("nan"))
    found = estimate(spec, workload, placed, costs=Roofline(), engine=by)
    terms = explain(spec, workload, placed, costs=Roofline(), engine=by)
    operators, prefill = seconds(terms, "prefill"), float(found.latency.prefill[0, 0])
    if arrival == "closed":  # clients that move together share their prompts' steps part of the time
        assert operators <= prefill * (1 + 1e-9)
        assert prefill <= 3 * operators
    else:
        assert operators == pytest.approx(prefill, rel=1e-9)
    (steps,) = {t.steps for t in terms if t.phase == "prefill"}
    if engine(by).chunked_prefill or by == "llamacpp":
        assert steps >= isl / budget if by != "llamacpp" else steps >= isl / 512
        assert (steps == -(-isl // budget)) or arrival != "single" or by == "llamacpp"
    else:  # these engines compute a prompt in one step
        assert steps == 1 or arrival != "single"
    assert {t.steps for t in terms if t.phase == "decode"} == {1.0}
    for phase in ("prefill", "decode"):
        assert sum(t.share for t in terms if t.phase == phase) == pytest.approx(1.0, rel=1e-9)


def test_classes_are_explained_by_their_mean() -> None:
    spec, placed = model("llama-3.1-8b"), deployments(DEVICES[:1], max_num_batched_tokens=2048.0, pp=2)
    workload = lengths([100, 3000, 20_000], [50, 300, 10], share=[0.5, 0.3, 0.2], concurrency=4)
    found = estimate(spec, workload, placed, costs=Roofline())
    terms = explain(spec, workload, placed, costs=Roofline())
    assert seconds(terms, "prefill") == pytest.approx(float(found.mean(found.latency.prefill)[0]), rel=1e-9)


def test_terms_come_near_the_ceilings_that_efficiencies_allow() -> None:
    placed = deployments(DEVICES[:1], tp=2)
    share = efficiency_of(hardware_of(placed.devices, placed.device))
    terms = explain(model("llama-3.1-70b"), lengths(8000, 100, concurrency=4.0), placed, costs=Roofline())
    named = {(t.phase, t.operator): t for t in terms}
    up = named["prefill", "up"]
    assert up.bound == "compute"
    assert up.peak_share == pytest.approx(float(share.gemm[0]), rel=0.02)
    read = named["decode", "up"]
    assert read.bound == "memory"
    assert read.peak_share == pytest.approx(float(share.memory[0]), rel=0.05)
    sent = named["prefill", "mlp_all_reduce"]
    assert sent.bound == "link"
    # a ring moves 2 (g - 1) / g of the message over each link: all of it for two devices
    assert sent.peak_share == pytest.approx(float(share.link[0]), rel=0.05)
    assert all(0 < t.peak_share <= 1 for t in terms if t.family != "host" and t.bound != "launch")


def test_every_term_says_what_it_rests_on() -> None:
    terms = explain(model("deepseek-v3"), lengths(1000, 100, concurrency=64), deployments(DEVICES[:1], tp=8, pp=2))
    assert {t.phase for t in terms} == {"prefill", "decode"}
    assert {"experts", "mla_decode", "mlp_all_reduce", "stage_send", "lm_head", "norm"} <= {t.operator for t in terms}
    for term in terms:
        assert term.basis in BASES
        assert term.time > 0
        assert term.calls > 0
        assert term.bound in ("compute", "memory", "link", "launch")
        assert math.isnan(term.spread) if term.family == "host" else term.spread > 0
    assert next(t for t in terms if t.operator == "experts").calls == 58  # of 61 layers, the first three are dense


def test_hidden_host_time_is_no_term() -> None:
    placed, workload = deployments(DEVICES[:1]), lengths(4000, 100, concurrency=64)
    serial = engine("vllm").changed(step_host_time=2e-3, launch_time=0.0, overlap_scheduling=False)
    shown, hidden = (
        [t.operator for t in explain(model("llama-3.1-8b"), workload, placed, engine=e, costs=Roofline())]
        for e in (serial, serial.changed(overlap_scheduling=True))
    )
    assert shown.count("host") == 2
    assert "host" not in hidden


@pytest.mark.parametrize("seed", range(20))
def test_the_steps_of_pools_are_those_of_their_estimate(seed: int) -> None:
    """The decode step of a pair is that of the sequences on one decode worker, whatever its load and its workers."""
    rng = np.random.default_rng(seed)
    spec = model(("llama-3.1-8b", "llama-3.1-70b", "mistralai/Mixtral-8x7B-v0.1")[seed % 3])
    pools = deployments(DEVICES[:1], tp=8), deployments(DEVICES[2:], tp=float(rng.choice([2, 4, 8])))
    workers = float(rng.integers(1, 6)), float(rng.integers(1, 4))
    isl, osl, by = float(rng.integers(100, 6000)), float(rng.integers(20, 1000)), ("vllm", "sglang", "trtllm")[seed % 3]
    load = {"rate": float(rng.uniform(0.1, 8.0))} if seed % 2 else {"concurrency": float(rng.integers(1, 900))}
    workload = lengths(isl, osl, **load)
    front, back = ({f"{name}_workers": n} for name, n in zip(("prefill", "decode"), workers, strict=True))
    found = estimate_disaggregated(spec, workload, *pools, **front, **back, engine=by, costs=Roofline())
    terms = explain_disaggregated(spec, workload, pools, workers, engine=by, costs=Roofline())
    step = float(found.latency.step[0, 0])
    assert seconds(terms, "decode") == pytest.approx(step, rel=1e-6)
    assert step == pytest.approx(float(found.tpot[0, 0]), rel=1e-6)
    # the prefill of the estimate ends with the hand-over; that of a group lies between two groups that were priced
    assert 0 < seconds(terms, "prefill") <= float(found.latency.prefill[0, 0]) * 1.1
    for phase in ("prefill", "decode"):
        assert sum(t.share for t in terms if t.phase == phase) == pytest.approx(1.0, rel=1e-9)


def test_a_prompt_alone_on_a_prefill_worker_takes_the_time_of_its_step() -> None:
    spec, alone = model("llama-3.1-8b"), deployments(DEVICES[:1])
    workload = lengths(3000, 100, concurrency=1)
    terms = explain_disaggregated(spec, workload, (alone, alone), (1, 1), costs=Roofline())
    single = explain(spec, workload.at(arrival="single"), alone, costs=Roofline())
    assert seconds(terms, "prefill") == pytest.approx(seconds(single, "prefill"), rel=1e-9)
    assert seconds(terms, "decode") == pytest.approx(seconds(single, "decode"), rel=1e-9)


@pytest.mark.parametrize(("pp", "isl"), [(2, 100_000), (4, 20_000), (8, 400_000), (4, 1_000_000)])
def test_stages_that_work_at_once_leave_no_time_below_zero(pp: int, isl: int) -> None:
    """Long prompts are cut into chunks that several stages compute at once: shares lie between 0 and 1."""
    spec, placed = model("llama-3.1-8b"), deployments(DEVICES[:1], tp=1, pp=pp)
    terms = explain(spec, lengths(isl, 50, arrival="single"), placed, costs=Roofline())
    assert {t.family for t in terms}.isdisjoint({"overlap"})
    assert all(0.0 <= t.share <= 1.0 and t.time >= 0.0 for t in terms)
    found = estimate(spec, lengths(isl, 50, arrival="single"), placed, costs=Roofline())
    assert seconds(terms, "prefill") == pytest.approx(float(found.latency.prefill[0, 0]), rel=1e-9)
