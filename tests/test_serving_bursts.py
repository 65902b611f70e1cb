"""Batches that fill and empty, requests that wait for room: against sums, queues known in closed form, and play."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import hwdb
from perfmodel import simulator
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate, estimate_load
from perfmodel.estimates.latency_percentiles.percentiles import overall
from perfmodel.models import model
from perfmodel.serving.offline_batches.drain import Drained, drain
from perfmodel.serving.offline_batches.offline_batch import OfflineBatch, PrefillCost, PrefillLine, SteadyState
from perfmodel.serving.offline_batches.output_ages import OutputLengths
from perfmodel.serving.queues.admission import admission_wait, evictions_per_request
from perfmodel.serving.served import PACE_AT
from perfmodel.serving.step_times.curve import DecodeCurve
from perfmodel.serving.step_times.prefills import WholePrompts
from perfmodel.workload.load import load_of
from perfmodel.workload.output_lengths import OUTPUT_LENGTH_CV, longest, quantile, survival, truncated_cv, uncut
from perfmodel.workload.slo import RANKS
from perfmodel.workload.workload import Workload

H100, RTX = [hwdb.device("h100-sxm")], [hwdb.device("rtx-4090")]
LLAMA = model("llama-3.1-8b")
ENGINES = ("vllm", "vllm-v0", "sglang", "trtllm")
lengths = Workload.from_lengths


def one(values: object) -> float:
    return float(np.ravel(np.asarray(values))[0])


# -------------------------------------------------------------------------------- how answers spread


@pytest.mark.parametrize("fullness", [0.1, 0.5, 0.7, 0.9, 0.97])
def test_outputs_that_are_cut_have_the_short_ones_of_the_law_before_the_cut(fullness: float) -> None:
    shape = OUTPUT_LENGTH_CV["trace"] ** -1.086
    drawn = np.sort(np.random.default_rng(1).weibull(shape, 400_000))
    most = bracketed(lambda cut: np.minimum(drawn, cut).mean() / cut - fullness)
    kept = np.minimum(drawn, most)
    mean, cv = np.array(kept.mean()), np.array(kept.std() / kept.mean())
    before, spread = uncut(mean, cv, np.array(most))
    assert one(before) == pytest.approx(drawn.mean(), rel=0.02)
    assert one(spread) == pytest.approx(drawn.std() / drawn.mean(), rel=0.02)
    for rank in (0.01, 0.1, 0.5, 0.99):
        assert one(quantile(mean, cv, np.array(rank), np.array(most))) == pytest.approx(
            np.quantile(kept, rank), rel=0.04
        )


def bracketed(rises: Callable[[float], float]) -> float:
    """The cut at which a falling function is nought."""
    low, high = 1e-4, 50.0
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if rises(middle) > 0 else (low, middle)
    return high


def test_outputs_that_nothing_cuts_stay_as_they_are() -> None:
    mean, cv = np.array([100.0, 100.0, 100.0]), np.array([0.75, 0.0, 0.75])
    before, spread = uncut(mean, cv, np.array([np.inf, 120.0, 90.0]))
    np.testing.assert_array_equal(before, mean)
    np.testing.assert_array_equal(spread, cv)


@pytest.mark.parametrize("spread", [0.0, 0.064, 0.4, 0.75, 1.0])
def test_survival_has_the_mean_and_the_spread_it_is_asked_for(spread: float) -> None:
    ages = np.linspace(0.0, 3000.0, 300_001)
    longer = survival(np.array(100.0), np.array(spread), ages)
    step = ages[1]
    mean = longer.sum() * step - step / 2
    square = (2 * ages * longer).sum() * step
    assert mean == pytest.approx(100.0, rel=2e-3)
    assert math.sqrt(max(square / mean**2 - 1, 0)) == pytest.approx(max(spread, 0.02), rel=0.05, abs=0.01)


def test_the_longest_of_many_answers_is_met_in_draws() -> None:
    rng = np.random.default_rng(0)
    shape = 0.75**-1.086
    drawn = 200 * rng.weibull(shape, (2000, 100)) / math.gamma(1 + 1 / shape)
    assert one(longest(np.array(200.0), np.array(0.75), np.array(100.0))) == pytest.approx(
        drawn.max(1).mean(), rel=0.03
    )


def test_answers_cut_at_a_limit_spread_less() -> None:
    found = truncated_cv("trace", np.array([np.nan, 0.05, 0.4, 0.7, 0.9, 1.0]))
    assert found[0] == OUTPUT_LENGTH_CV["trace"]
    assert (np.diff(found) <= 1e-6).all()
    assert found[-1] == pytest.approx(0.0, abs=0.05)
    # min(X, M) of 10^6 draws
    drawn = np.minimum(np.random.default_rng(0).weibull(0.75**-1.086, 1_000_000), 1.2)
    found = truncated_cv("trace", np.array([drawn.mean() / 1.2]))
    assert one(found) == pytest.approx(drawn.std() / drawn.mean(), rel=0.02)


def test_running_sequences_hold_more_than_those_that_arrive() -> None:
    # while it runs an answer is met in proportion to its length: E[L (I + L/2)] / E[L]
    drawn = np.random.default_rng(0).weibull(0.75**-1.086, 1_000_000)
    drawn = drawn / drawn.mean() * 300
    spread = replace(load_of(lengths(500, 300, concurrency=4), 1), length_cv=np.full(1, drawn.std() / drawn.mean()))
    assert one(spread.decode_context) == pytest.approx((drawn * (500 + drawn / 2)).mean() / 300, rel=0.01)


# -------------------------------------------------------------------------------- a batch, played out


BASE, EACH, FIXED, PROMPT = 10e-3, 0.1e-3, 8e-3, 5e-3
#: Edges of classes of answers, over the mean answer.
LENGTHS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 9.0)


def batch(
    count: float, room: float, answers: float, spread: float, *, apart: bool, limit: float = np.inf
) -> OfflineBatch:
    """One candidate whose decode step takes BASE + EACH a sequence, and 8 prompts a step FIXED + PROMPT each."""
    room = min(room, count)
    knots = np.array([1.0, max(room, 1.0)])[:, None]
    steps = BASE + EACH * knots
    rate = room / (answers * (BASE + EACH * room) + FIXED + PROMPT + 0.0)
    interference = FIXED + PROMPT
    for _ in range(50):
        rate = room / (answers * (BASE + EACH * room) / (1 - min(rate * interference, 0.98)) + interference)
    column = np.ones(1)
    return OfflineBatch(
        count=count * column,
        max_running=room * column,
        outputs=OutputLengths(
            mean=np.full((1, 1), answers), cv=spread * column, longest=limit * column, share=np.ones((1, 1))
        ),
        curve=DecodeCurve(running=knots, time=steps),
        prefill=PrefillCost(
            few=(line := PrefillLine(fixed=FIXED * column, each=PROMPT * column)),
            full=line,
            running=room * column,
            prompt=100.0 * column,
            budget=800.0 * column,
            separate=apart,
            whole=WholePrompts(np.zeros(1, bool), column),
        ),
        steady=SteadyState(
            request_gap=column / rate,
            tpot=(BASE + EACH * room) * column,
            running=room * column,
            step=(BASE + EACH * room) * column,
        ),
    )


def play(count: int, room: int, outputs: np.ndarray, *, apart: bool) -> dict[str, float]:
    """The same replica step by step: prompts first in steps of their own, or beside the decodes."""
    waiting, clock = list(range(count)), 0.0
    left, first, end = outputs.astype(int).copy(), np.zeros(count), np.zeros(count)
    running: list[int] = []
    while waiting or running:
        most = 8 if apart else int(max(800 - len(running), 100) // 100)
        entering = [waiting.pop(0) for _ in range(min(most, room - len(running), len(waiting)))]
        decoding = [] if apart and entering else list(running)
        clock += (FIXED + PROMPT * len(entering)) * bool(entering)
        clock += (BASE + EACH * len(running)) * (bool(running) and not (apart and bool(entering)))
        for r in decoding:
            left[r] -= 1
            if left[r] <= 0:
                running.remove(r)
                end[r] = clock
        for r in entering:
            first[r] = clock
            running.append(r)
    tpot, parts = (end - first) / outputs, np.digitize(outputs, np.array(LENGTHS) * outputs.mean()) - 1
    ranked = np.sort(first)[[int(q * count) for q in RANKS.values()]]
    by_length = np.array([tpot[parts == k].mean() if (parts == k).any() else np.nan for k in range(len(LENGTHS) - 1)])
    means = np.array([outputs[parts == k].mean() if (parts == k).any() else np.nan for k in range(len(LENGTHS) - 1)])
    return {  # type: ignore[dict-item]
        "first": first.mean(),
        "makespan": clock,
        "per_step": (end - first).sum() / outputs.sum(),
        "tpot": tpot.mean(),
        "ranked": ranked,
        "by_length": by_length,
        "means": means,
    }


@pytest.mark.parametrize("apart", [True, False])
def test_equal_answers_that_fit_take_the_sum_of_their_steps(apart: bool) -> None:
    found = drain(batch(64, 1000, 200, 0.0, apart=apart))
    prompts = 8 * FIXED + 64 * PROMPT
    # apart: all prompts, then 200 steps of 64; beside: the same steps, some of them begun while others enter
    assert one(found.makespan) == pytest.approx(prompts + 200 * (BASE + 64 * EACH), rel=0.05)
    assert one(found.first) == pytest.approx(prompts / 2 * (1 + 1 / 8) + (0 if apart else 4 * BASE), rel=0.1)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("spread", [0.0, 0.064, 0.75])
@pytest.mark.parametrize(("count", "room"), [(50, 1000), (400, 1000), (300, 64), (150, 100)])
def test_a_batch_goes_as_it_does_played_out(apart: bool, spread: float, count: int, room: int) -> None:
    shape = max(spread, 0.02) ** -1.086
    played = []
    for seed in range(24):
        drawn = np.random.default_rng(seed).weibull(shape, count) / math.gamma(1 + 1 / shape) * 150
        outputs = np.full(count, 150.0) if spread == 0 else np.maximum(np.round(drawn), 1)
        played.append(play(count, room, outputs, apart=apart))
    found: Drained = drain(batch(count, room, 150.0, spread, apart=apart))
    truth = {k: np.mean([p[k] for p in played], axis=0) for k in played[0]}
    assert one(found.makespan) == pytest.approx(truth["makespan"], rel=0.07)
    assert one(found.first) == pytest.approx(truth["first"], rel=0.2)
    assert one(found.tpot) == pytest.approx(truth["per_step"], rel=0.12)
    np.testing.assert_allclose(found.entry[1:, 0], truth["ranked"][1:], rtol=0.2)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(("count", "room"), [(400, 1000), (300, 64), (600, 200)])
def test_long_answers_of_a_batch_take_less_per_token_as_played_out(apart: bool, count: int, room: int) -> None:
    """The longer an answer, the fewer run beside it in the end, and the less a delay at the start weighs."""
    spread, answers, played = 0.75, 150.0, []
    for seed in range(24):
        drawn = np.random.default_rng(seed).weibull(spread**-1.086, count) / math.gamma(1 + spread**1.086) * answers
        played.append(play(count, room, np.maximum(np.round(drawn), 1), apart=apart))
    truth, tokens = (np.nanmean([p[k] for p in played], axis=0) for k in ("by_length", "means"))
    found = drain(batch(count, room, answers, spread, apart=apart))
    edges = np.array(PACE_AT)
    pace = np.interp(tokens / answers, edges, found.pace[:, 0])
    own = (found.tpot[0, 0] - found.settling[0] / answers) * pace + found.settling[0] / tokens
    np.testing.assert_allclose(own[1:], truth[1:], rtol=0.2)
    assert (np.diff(own) < 0).all()


@pytest.mark.parametrize("apart", [True, False])
def test_a_batch_without_end_goes_at_the_rate_of_its_middle(apart: bool) -> None:
    whole = batch(1e7, 64, 150.0, 0.75, apart=apart)
    found = drain(whole)
    assert one(found.makespan) / 1e7 == pytest.approx(one(whole.steady.request_gap), rel=1e-3)
    assert one(found.first) == pytest.approx(1e7 * one(whole.steady.request_gap) / 2, rel=1e-3)
    np.testing.assert_allclose(
        found.entry[:, 0], np.array(list(RANKS.values())) * 1e7 * one(whole.steady.request_gap), rtol=1e-3
    )


def test_answers_that_spread_leave_a_longer_tail_and_a_limit_cuts_it() -> None:
    spans = [one(drain(batch(200, 1000, 200.0, s, apart=True)).makespan) for s in (0.0, 0.3, 0.75, 1.0)]
    assert (np.diff(spans) > 0).all()
    cut = one(drain(batch(200, 1000, 200.0, 0.75, apart=True, limit=300.0)).makespan)
    assert spans[0] < cut < spans[2]


# -------------------------------------------------------------------------------- queues


@pytest.mark.parametrize("places", [1, 4, 9, 32, 100])
@pytest.mark.parametrize("load_", [0.5, 0.8, 0.95])
def test_waiting_for_room_is_erlangs_where_each_is_served_alike(places: int, load_: float) -> None:
    offered = load_ * places
    below = sum(offered**k / math.factorial(k) for k in range(places))
    full = offered**places / math.factorial(places) / (1 - load_)
    exact = full / (below + full) / (places - offered)
    knots = np.exp(np.linspace(0, 1, 5) * np.log(places))[:, None]
    found = admission_wait(np.array([offered]), knots, knots * 1.0, np.array([float(places)]))
    assert one(found) == pytest.approx(exact, rel=0.03, abs=1e-9)


def test_room_without_end_costs_no_wait_and_none_left_costs_all() -> None:
    knots = np.exp(np.linspace(0, 1, 5) * np.log(500.0))[:, None]
    assert one(admission_wait(np.array([50.0]), knots, knots * 1.0, np.array([500.0]))) < 1e-12
    assert np.isinf(admission_wait(np.array([500.0]), knots, knots * 1.0, np.array([500.0]))).all()
    waits = [
        one(admission_wait(np.array([r]), knots, knots * 1.0, np.array([500.0]))) for r in (400.0, 450.0, 480.0, 495.0)
    ]
    assert (np.diff(waits) > 0).all()


def test_regular_arrivals_of_equal_requests_without_end_wait_no_time_for_room() -> None:
    chosen = deployments(H100)
    found = estimate(model("llama-3.1-8b"), lengths(1024, 256, rate=5.0, cv=0.0), chosen, engine="vllm")
    assert np.isfinite(found.ttft).all()
    assert float(found.ttft[0, 0]) < 0.2


def test_prompts_found_in_the_cache_take_their_room_all_the_same() -> None:
    """A full replica sends as many back whatever the prefix cache serves: throughput can only gain from hits."""
    served = [
        float(
            estimate(
                model("llama-3.1-8b"),
                lengths(1024, 256, concurrency=1000.0, prefix_hit=hit),
                deployments(H100),
                engine="vllm",
            ).request_rate[0]
        )
        for hit in (0.0, 0.5, 0.9, 0.99)
    ]
    assert served == sorted(served)


def test_prompts_are_sent_back_where_answers_outgrow_the_room() -> None:
    prompt, none = np.array([256.0, 1024.0, 4000.0]), np.zeros(3)
    found = evictions_per_request(prompt, np.full(3, 512.0), none)
    assert (np.diff(found) < 0).all()
    assert (evictions_per_request(prompt, np.full(3, 512.0), none + 2000.0) < found).all()  # room kept free
    assert one(evictions_per_request(np.array([10.0]), np.array([5000.0]), np.zeros(1))) <= 4.0


@pytest.mark.parametrize(("prompt", "answer"), [(256, 512), (1000, 1000), (1024, 128)])
def test_as_many_prompts_are_sent_back_as_in_a_full_replica_replayed(prompt: int, answer: int) -> None:
    work = lengths(prompt, answer, concurrency=200)
    found = simulator.simulate(LLAMA, deployments(RTX), work, engine="vllm", count=600, costs=Roofline())
    often = found.preempted.mean()
    told = one(evictions_per_request(np.array([float(prompt)]), np.array([float(answer)]), np.zeros(1)))
    assert told == pytest.approx(often, rel=0.6, abs=0.15)


# -------------------------------------------------------------------------------- the whole estimate


def asked(work: Workload, by: str = "vllm", devices: list[hwdb.Device] = H100, **columns: object) -> Estimates:
    return estimate(LLAMA, work, deployments(devices, **columns), engine=by, costs=Roofline())


def replayed(
    work: Workload, by: str, devices: list[hwdb.Device], *, seeds: int = 1, count: int = 0
) -> dict[str, float]:
    rows = [
        simulator.summary(
            simulator.simulate(LLAMA, deployments(devices), work, engine=by, seed=s, count=count, costs=Roofline())
        )
        for s in range(seeds)
    ]
    return {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}


@pytest.mark.parametrize("by", ENGINES)
@pytest.mark.parametrize("tokens", [(1024, 128), (256, 512)])
def test_an_offline_batch_lasts_as_long_as_replayed(by: str, tokens: tuple[int, int]) -> None:
    work = lengths(*tokens, n_requests=200)
    truth, found = replayed(work, by, H100), asked(work, by)
    assert one(found.output_rate) == pytest.approx(truth["output_tok_s"], rel=0.12)
    assert one(found.ttft) * 1e3 == pytest.approx(truth["ttft_ms"], rel=0.2)
    assert one(found.tpot) * 1e3 == pytest.approx(truth["tpot_ms"], rel=0.2)
    for rank in ("p50", "p99"):
        assert one(found.quantile("ttft", rank)) * 1e3 == pytest.approx(truth[f"ttft_ms_{rank}"], rel=0.3)


#: (requests, prompt, mean answer, variation of answers) of bursts.
BURSTS = [(1000, 219, 197, 1.1), (300, 1000, 200, 0.75), (1000, 500, 20, 0.75), (100, 1000, 500, 0.4)]


@pytest.mark.parametrize("by", ENGINES)
@pytest.mark.parametrize(("count", "prompt", "answer", "spread"), BURSTS)
def test_answers_of_a_burst_take_as_long_as_replayed(
    by: str, count: int, prompt: int, answer: int, spread: float
) -> None:
    """Answers of 1 to 2,000 tokens: mean and percentiles over requests, each of which counts once however short."""
    replays = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        ranks = rng.permutation((np.arange(count) + 0.5) / count)
        drawn = quantile(np.array(float(answer)), np.array(spread), ranks, np.array(np.inf))
        prompts = np.maximum(np.round(rng.lognormal(np.log(prompt) - 0.125, 0.5, count)), 1)
        asked_for = simulator.traffic(prompts, np.maximum(np.round(drawn), 1))
        pool = simulator.pool(LLAMA, deployments(H100), engine(by), asked_for, costs=Roofline())
        replays.append(simulator.summary(simulator.run(asked_for, [pool])))
    truth = {k: float(np.mean([r[k] for r in replays])) for k in replays[0]}
    demand = load_of(lengths(prompt, answer, n_requests=count, isl_dist="trace"), 1)
    demand = replace(demand, length_cv=np.full(1, spread), prompt_spread=np.full(1, 0.5))
    found = estimate_load(LLAMA, demand, deployments(H100), engine=engine(by), costs=Roofline())
    told = {f"{m}_{s}": 1e3 * one(overall(found, m, s)) for m in ("tpot", "e2e") for s in ("mean", "p50", "p90", "p99")}
    assert told["tpot_mean"] == pytest.approx(truth["tpot_ms"], rel=0.2)
    assert told["tpot_p50"] == pytest.approx(truth["tpot_ms_p50"], rel=0.3)
    assert told["tpot_p90"] == pytest.approx(truth["tpot_ms_p90"], rel=0.35)
    assert told["tpot_p99"] == pytest.approx(truth["tpot_ms_p99"], rel=0.5)
    assert told["e2e_mean"] == pytest.approx(truth["e2e_ms"], rel=0.1)
    assert told["e2e_p50"] == pytest.approx(truth["e2e_ms_p50"], rel=0.2)
    assert told["e2e_p90"] == pytest.approx(truth["e2e_ms_p90"], rel=0.2)


@pytest.mark.parametrize("share", [0.6, 0.8])
@pytest.mark.parametrize(("prompt", "answer"), [(1024, 128), (4000, 200)])
def test_an_open_loop_waits_for_room_as_replayed(prompt: int, answer: int, share: float) -> None:
    most = one(asked(lengths(prompt, answer, n_requests=1e6), "vllm-v0", RTX).request_rate)
    work = lengths(prompt, answer, rate=share * most)
    truth, found = replayed(work, "vllm-v0", RTX, seeds=3, count=2500), asked(work, "vllm-v0", RTX)
    assert one(found.ttft) * 1e3 == pytest.approx(truth["ttft_ms"], rel=0.3)
    assert one(found.tpot) * 1e3 == pytest.approx(truth["tpot_ms"], rel=0.1)


@pytest.mark.parametrize("by", ENGINES)
def test_a_short_run_beyond_capacity_is_a_batch(by: str) -> None:
    most = one(asked(lengths(1000, 200, n_requests=1e6), by).request_rate)
    work = lengths(1000, 200, rate=4 * most, n_requests=300, arrival="open")
    found = asked(work, by)
    sim = simulator.simulate(LLAMA, deployments(H100), work, engine=by, costs=Roofline())
    assert one(found.request_rate) == pytest.approx(300 / sim.duration, rel=0.2)
    batched = asked(lengths(1000, 200, n_requests=300), by)
    assert one(found.request_rate) <= one(batched.request_rate) * (1 + 1e-9)
    assert one(found.ttft) < one(batched.ttft) * 1.05


@pytest.mark.parametrize("by", ENGINES)
def test_clients_without_room_wait_and_change_nothing_inside(by: str) -> None:
    most = one(asked(lengths(1000, 200, concurrency=1.0, n_requests=1e9, arrival="closed"), by).memory_use.max_running)
    work = [lengths(1000, 200, concurrency=f * 64, n_requests=1e9, arrival="closed") for f in (1.0, 2.0, 4.0)]
    found = [asked(w, by, max_num_seqs=64.0) for w in work]
    assert most > 64
    for more in found[1:]:
        # a client that has a place at once spends the front end's time outside, one that queues does not
        assert one(more.tpot) == pytest.approx(one(found[0].tpot), rel=2e-3)
        assert one(more.tpot) == pytest.approx(one(found[1].tpot), rel=1e-9)
        assert one(more.request_rate) == pytest.approx(one(found[0].request_rate), rel=0.1)
    assert one(found[2].latency.wait) > 2 * one(found[1].latency.wait)


@pytest.mark.parametrize("by", ["vllm-v0", "sglang"])
@pytest.mark.parametrize("users", [8, 32])
def test_groups_of_equal_requests_stay_together_where_prompts_go_first(by: str, users: int) -> None:
    work = lengths(1024, 128, concurrency=users, isl_dist="fixed")
    demand = replace(load_of(work, 1), synchronised=np.ones(1))
    found = estimate_load(
        LLAMA, demand, deployments(H100), engine=engine(by).changed(synchronised=1.0), costs=Roofline()
    )
    truth = replayed(work, by, H100)
    assert one(found.ttft) * 1e3 == pytest.approx(truth["ttft_ms"], rel=0.05)
    assert one(found.tpot) * 1e3 == pytest.approx(truth["tpot_ms"], rel=0.03)


@pytest.mark.parametrize("by", ["vllm", "sglang"])
def test_low_loads_of_spread_experts_are_monotone(by: str) -> None:
    wide = deployments([hwdb.device("mi300x")], tp=1.0, dp=8.0, ep=8.0)
    spec = model("Qwen/Qwen3-235B-A22B")
    rates = (0.001, 0.01, 0.1, 0.3, 1.0)
    paces = [one(estimate(spec, lengths(1000, 500, rate=r), wide, engine=by).tpot) for r in rates]
    assert (np.diff(paces) >= -1e-3 * paces[0]).all()
    # a mean below one: the steps that run have one sequence, and hardly ever more
    assert paces[0] == pytest.approx(paces[1], rel=0.03)


@pytest.mark.parametrize("by", ["vllm", "sglang"])
@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("tokens", [(256, 512), (4000, 200)])
def test_an_answer_meets_the_prompts_that_came_while_its_own_waited(
    by: str, share: float, tokens: tuple[int, int]
) -> None:
    most = one(asked(lengths(*tokens, n_requests=1e6), by).request_rate)
    work = lengths(*tokens, rate=share * most)
    truth, found = replayed(work, by, H100, seeds=2, count=1500), asked(work, by)
    assert one(found.tpot) * 1e3 == pytest.approx(truth["tpot_ms"], rel=0.08)
    assert one(found.e2e) * 1e3 == pytest.approx(truth["e2e_ms"], rel=0.08)
