"""Serving in closed form: against engines played out step by step, Little's law, and limits that must agree."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hwdb
from perfmodel.arrays import interpolate
from perfmodel.costs import Roofline
from perfmodel.costs.cost import Cost
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.engines.spec import Engine
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate, per_replica, prepare
from perfmodel.hardware.columns import Hardware
from perfmodel.models import model
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step
from perfmodel.serving.closed_form import serve
from perfmodel.serving.offline_batches.offline import prefill_line
from perfmodel.serving.queues.queueing import (
    equilibrium_rate,
    mean_over_poisson,
    poisson_nodes,
    queue_variability,
    rising_root,
)
from perfmodel.serving.served import Served
from perfmodel.serving.step_times.curve import DecodeCurve
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload.load import Load, load_of
from perfmodel.workload.workload import Workload

H100 = [hwdb.device("h100-sxm")]
MIXTRAL = model("mistralai/Mixtral-8x7B-Instruct-v0.1")
LLAMA = model("llama-3.1-8b")
ENGINES = ("vllm", "vllm-v0", "sglang", "trtllm", "llamacpp", "generic")
lengths = Workload.from_lengths
FREE_HOST = {"step_host_time": 0.0, "step_host_per_seq": 0.0, "step_host_parallel": 0.0, "launch_time": 0.0}


def asked(workload: Workload, *, by: str | Engine = "vllm", **columns: object) -> Estimates:
    placed = deployments(H100, **columns)
    return estimate(LLAMA, workload, placed, engine=by, costs=Roofline())


def one(values: np.ndarray) -> float:
    return float(np.ravel(values)[0])


# -------------------------------------------------------------------------------- an engine played out


#: Tokens that a step of the toy computes at most.
BUDGET = 8192


@dataclass(frozen=True)
class Toy:
    """Cost model of a made-up device: a step takes so much, and so much a running sequence and a prompt token."""

    base: float = 10e-3
    each: float = 0.1e-3
    token: float = 20e-6

    def time(self, running: float, prompt: float) -> float:
        """Seconds of a step of `running` sequences and `prompt` tokens."""
        return self.base + self.each * running + self.token * prompt

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        layers = LLAMA.layers
        shape = demand.shape
        if demand.family == "gemm":  # four a layer and the head, in every step
            time = self.base / (4 * layers + 1) + 0.0 * shape["m"]
        elif demand.family == "attention_decode":
            time = self.each * shape["batch"] / layers + 0.0 * shape["context"]
        elif demand.family == "attention_prefill":
            time = self.token * shape["batch"] * shape["query"] / layers
        else:
            time = 0.0 * demand.moved
        none = np.zeros(np.shape(time), np.int8)
        return Cost(np.asarray(time), none, np.zeros(np.shape(time)), none)


def played(
    toy: Toy,
    prefill_first: bool,
    prompt: int,
    outputs: np.ndarray,
    *,
    slots: int = 0,
    arrivals: np.ndarray | None = None,
) -> dict[str, float]:
    """Means of TTFT, TPOT and the rate when the engine runs step by step; start and end left out.

    A step takes as many of the waiting prompts as its token budget holds. slots: clients in a closed loop; arrivals:
    times of an open one.
    """
    count, clock, done = len(outputs), 0.0, 0
    arrived, first, end = (np.zeros(count) for _ in range(3))
    left = outputs - 1
    waiting: deque[int] = deque(range(slots))
    running: list[int] = []
    coming = slots
    while done < count:
        if arrivals is not None:
            if not waiting and not running:
                clock = max(clock, arrivals[coming])
            while coming < count and arrivals[coming] <= clock:
                arrived[coming] = arrivals[coming]
                waiting.append(coming)
                coming += 1
        room = BUDGET if prefill_first else BUDGET - len(running)
        entering = [waiting.popleft() for _ in range(min(len(waiting), room // prompt))]
        decoding = [] if entering and prefill_first else list(running)
        clock += toy.time(len(decoding), prompt * len(entering))
        for request in decoding:
            left[request] -= 1
            if left[request] == 0:
                running.remove(request)
                end[request], done = clock, done + 1
                if arrivals is None and coming < count:
                    arrived[coming] = clock
                    waiting.append(coming)
                    coming += 1
        first[entering] = clock
        running.extend(entering)
    steady = slice(count * 3 // 10, count * 17 // 20)
    ends = np.sort(end)[steady]
    return {
        "ttft": float((first - arrived)[steady].mean()),
        "tpot": float(((end - first) / (outputs - 1))[steady].mean()),
        "rate": (len(ends) - 1) / float(ends[-1] - ends[0]),
    }


def toy_served(toy: Toy, prefill_first: bool, workload: Workload) -> Served:
    own = engine("generic").changed(prefill_first=prefill_first, request_time=0.0, **FREE_HOST)
    placed, demand = deployments(H100, max_num_batched_tokens=float(BUDGET), max_num_seqs=1e6), load_of(workload, 1)
    return serve(prepare(LLAMA, placed, own, toy, demand).steps, demand, np.full(1, 1e9))


@pytest.mark.parametrize("prefill_first", [True, False])
@pytest.mark.parametrize(("prompt", "output", "slots"), [(500, 100, 4), (500, 100, 32), (2000, 50, 8), (100, 200, 64)])
def test_a_closed_loop_runs_as_it_does_played_out(prefill_first: bool, prompt: int, output: int, slots: int) -> None:
    toy = Toy()
    outputs = np.random.default_rng(1).integers(output // 2, output * 3 // 2, 60 * slots + 400)
    truth = played(toy, prefill_first, prompt, outputs.copy(), slots=slots)
    found = toy_served(
        toy, prefill_first, lengths(prompt, float(outputs.mean()), concurrency=slots, n_requests=1e9, arrival="closed")
    )
    assert one(found.times.tpot) == pytest.approx(truth["tpot"], rel=0.05)
    assert one(found.rate) == pytest.approx(truth["rate"], rel=0.05)


@pytest.mark.parametrize("prefill_first", [True, False])
@pytest.mark.parametrize("prompt", [100, 500])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.35])
def test_an_open_loop_runs_as_it_does_played_out(prefill_first: bool, prompt: int, share: float) -> None:
    toy = Toy()
    rng = np.random.default_rng(1)
    outputs = rng.integers(50, 150, 2500)
    most = 1.0 / float(toy.time(0, prompt))  # prompts one a step
    truth = played(
        toy,
        prefill_first,
        prompt,
        outputs.copy(),
        arrivals=np.cumsum(rng.exponential(1 / (share * most), len(outputs))),
    )
    found = toy_served(toy, prefill_first, lengths(prompt, float(outputs.mean()), rate=share * most))
    assert one(found.times.tpot) == pytest.approx(truth["tpot"], rel=0.08)
    assert one(found.times.ttft) == pytest.approx(truth["ttft"], rel=0.2)
    assert one(found.rate) == pytest.approx(share * most)


@pytest.mark.parametrize(("rate", "tpot", "ttft"), [(30, 11.3, 55.7), (45, 16.3, 65.9), (55, 20.2, 74.5)])
def test_an_open_loop_near_capacity_runs_as_replayed(rate: float, tpot: float, ttft: float) -> None:
    # ms of the simulator, 2,000 requests; prompts that arrive during a step share the next, so that TTFT hardly rises
    placed = deployments([hwdb.device("b200-sxm")], tp=2)
    found = estimate(model("openai/gpt-oss-120b"), lengths(1000, 250, rate=rate), placed, engine="vllm")
    assert one(found.tpot) * 1e3 == pytest.approx(tpot, rel=0.1)
    assert one(found.ttft) * 1e3 == pytest.approx(ttft, rel=0.15)
    assert not found.saturated.any()


# -------------------------------------------------------------------------------- Little's law


@pytest.mark.parametrize("by", ENGINES)
@pytest.mark.parametrize("concurrency", [1, 7, 64, 300, 3000])
def test_a_closed_loop_holds_its_concurrency(by: str, concurrency: int) -> None:
    # Little, Oper. Res. 9(3), 1961: requests in flight = rate x time each spends
    asking = {"share": [0.7, 0.3], "concurrency": concurrency}
    endless = asked(lengths([100, 3000], [300, 100], arrival="closed", n_requests=1e9, **asking), by=by)
    assert one(endless.request_rate * endless.mean(endless.e2e)) == pytest.approx(concurrency, rel=1e-5)
    # a run of ten requests per client: the first ones queue for fewer places than all clients
    found = asked(lengths([100, 3000], [300, 100], **asking), by=by)
    assert 0.9 * concurrency < one(found.request_rate * found.mean(found.e2e)) <= concurrency * (1 + 1e-6)


@pytest.mark.parametrize("by", ENGINES)
@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_an_open_loop_runs_as_many_as_decode_at_once(by: str, share: float) -> None:
    most = asked(lengths(1000, 200, n_requests=1e5), by=by).request_rate
    found = asked(lengths(1000, 200, rate=share * one(most)), by=by)
    assert one(found.request_rate) == pytest.approx(share * one(most))
    assert one(found.running) == pytest.approx(one(found.request_rate * 199 * found.tpot[0]), rel=0.12)


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_a_static_batch_ends_together(batch: int) -> None:
    found = asked(lengths(1000, 200, concurrency=batch, arrival="static"))
    assert one(found.request_rate * found.e2e[0]) == pytest.approx(batch, rel=1e-9)
    assert one(found.e2e) == pytest.approx(one(found.ttft + 199 * found.tpot), rel=1e-9)


def test_a_batch_that_does_not_fit_at_once_runs_in_waves() -> None:
    workload = lengths(1000, 200, concurrency=10, arrival="static")
    placed = deployments(H100)
    setup = prepare(LLAMA, placed, engine("vllm"), Roofline(), load_of(workload, 1))
    alone, several = (serve(setup.steps, load_of(workload.at(concurrency=c), 1), np.full(1, 4.0)) for c in (4, 10))
    rest = serve(setup.steps, load_of(workload.at(concurrency=2), 1), np.full(1, 4.0))
    whole, last = (one(s.times.ttft + 199 * s.times.tpot) for s in (alone, rest))
    # four, four and two: three waves, the last of them shorter
    assert last < whole
    assert 10 / one(several.rate) == pytest.approx(2 * whole + last, rel=1e-9)
    assert one(several.times.wait) == pytest.approx((4 * 0 + 4 * 1 + 2 * 2) / 10 * whole, rel=1e-9)


def test_an_offline_batch_is_done_when_its_queue_is() -> None:
    found = asked(lengths(1000, 200, n_requests=20_000))
    makespan = 20_000 / one(found.request_rate)
    # nearly all wait, and on average half the time until the last ones start
    assert one(found.latency.wait) == pytest.approx(makespan / 2, rel=0.05)


# -------------------------------------------------------------------------------- limits that must agree


@pytest.mark.parametrize("by", ENGINES)
@pytest.mark.parametrize("tokens", [(1000, 200), (30_000, 10)])
def test_a_lonely_request_takes_the_same_however_it_arrives(by: str, tokens: tuple[int, int]) -> None:
    single = asked(lengths(*tokens, arrival="single"), by=by)
    for workload in (
        lengths(*tokens, rate=1e-7),
        lengths(*tokens, concurrency=1.0),
        lengths(*tokens, concurrency=1.0, arrival="static"),
    ):
        found = asked(workload, by=by)
        # prompts that may share steps are priced with one sequence decoding beside them
        assert one(found.ttft) == pytest.approx(one(single.ttft), rel=0.08)
        assert one(found.tpot) == pytest.approx(one(single.tpot), rel=1e-4)


@pytest.mark.parametrize("by", ENGINES)
def test_plenty_of_clients_and_an_offline_batch_reach_the_same_rate(by: str) -> None:
    offline = asked(lengths(500, 500, n_requests=1e6), by=by)
    closed = asked(lengths(500, 500, concurrency=2e4), by=by)
    assert one(closed.request_rate) == pytest.approx(one(offline.request_rate), rel=0.02)


@pytest.mark.parametrize("by", ENGINES)
def test_demand_beyond_capacity_is_reported(by: str) -> None:
    most = one(asked(lengths(500, 500, n_requests=1e6), by=by).request_rate)
    fine, over = (asked(lengths(500, 500, rate=f * most), by=by) for f in (0.5, 2.0))
    assert not fine.saturated[0]
    assert np.isfinite(fine.ttft).all()
    assert over.saturated[0]
    assert one(over.request_rate) == pytest.approx(most, rel=0.1)
    assert np.isinf(over.ttft).all()  # a queue that grows for ever
    brief = asked(lengths(500, 500, rate=2 * most, arrival="open", n_requests=200_000), by=by)
    # they arrive in half the time they take: the last one waits for the other half; few find room at once
    backlog = 200_000 / one(brief.request_rate) - 200_000 / (2 * most)
    assert one(brief.latency.wait) == pytest.approx(backlog / 2, rel=0.05)


def test_engines_that_ride_prompts_along_stall_decoding_less() -> None:
    workload = lengths(4000, 300, concurrency=32, n_requests=1e6, arrival="closed")
    base = engine("vllm")
    first, along = (asked(workload, by=base.changed(prefill_first=p)) for p in (True, False))
    assert one(along.latency.interference) < one(first.latency.interference)
    assert one(along.tpot) < one(first.tpot)


def test_a_benchmark_of_few_waves_is_mostly_its_opening_burst() -> None:
    steady, brief = (asked(lengths(1000, 100, concurrency=64, n_requests=64 * w, arrival="closed")) for w in (1e6, 1.0))
    assert one(brief.ttft) > 2 * one(steady.ttft)
    # all prompts at once: on average half of them go first
    together = 64 / one(steady.rates.prefill) * 1000
    assert one(brief.ttft) == pytest.approx(together / 2, rel=0.5)


@pytest.mark.parametrize(("by", "most"), [("sglang", 1.02), ("vllm", 1.25)])
@pytest.mark.parametrize("columns", [{"tp": [4]}, {"dp": [4], "ep": [4]}])
@pytest.mark.parametrize("arrival", [{"arrival": "closed", "concurrency": 400}, {"arrival": "offline"}])
def test_prompts_and_answers_take_all_time_of_a_full_replica(
    by: str, most: float, columns: dict[str, list[int]], arrival: dict[str, Any]
) -> None:
    """A full replica spends all its time on prompts, as many at once as fit, and decoding; shared steps save some."""
    inputs, outputs = 600.0, 200.0
    workload = lengths(inputs, outputs, n_requests=20_000, **arrival)
    found = estimate(MIXTRAL, workload, deployments(H100, **columns), engine=by, costs=Roofline())
    busy = one(found.request_rate) * (inputs / one(found.rates.prompts) + outputs / one(found.rates.decode))
    assert 0.97 <= busy <= most


# -------------------------------------------------------------------------------- monotone


@settings(max_examples=20)
@given(
    by=st.sampled_from(ENGINES),
    concurrency=st.integers(1, 500),
    more=st.integers(1, 500),
    prompt=st.integers(64, 8000),
    output=st.integers(1, 2000),
)
def test_more_clients_never_wait_less(by: str, concurrency: int, more: int, prompt: int, output: int) -> None:
    """Shorter prompts are all launches: the more of them share a step, the less each costs."""
    few, many = (
        asked(lengths(prompt, output, concurrency=c, n_requests=1e9, arrival="closed"), by=by)
        for c in (concurrency, concurrency + more)
    )
    assert (
        one(many.tpot) >= one(few.tpot) * 0.95
    )  # larger groups wait longer before they decode, and less while they do
    assert one(many.e2e) >= one(few.e2e) * (1 - 1e-6)
    # where prompts are all of the work the rate stands still, and the mean wait of a queue is a little too long; where
    # memory is full, prompts are sent back and computed again
    full = one(many.running) >= one(many.memory_use.max_running)
    assert one(many.request_rate) >= one(few.request_rate) * (0.7 if full else 0.8)


@settings(max_examples=20)
@given(
    share=st.floats(0.01, 0.95), more=st.floats(1.0, 3.0), prompt=st.integers(64, 8000), output=st.integers(16, 2000)
)
def test_more_requests_a_second_never_come_faster(share: float, more: float, prompt: int, output: int) -> None:
    """Prompts under a hundred tokens are all launches: the more of them share a step, the less each costs the answers
    beside it, and the closed form sees them share too late (time per token up to a fifth too long in between)."""
    most = one(asked(lengths(prompt, output, n_requests=1e6)).request_rate)
    slow, fast = (asked(lengths(prompt, output, rate=most * share * m)) for m in (1.0, more))
    assert one(fast.ttft) >= one(slow.ttft) * (1 - 1e-6)
    assert one(fast.tpot) >= one(slow.tpot) * 0.98  # at the edge of saturation prompts go in larger groups
    assert one(fast.request_rate) >= one(slow.request_rate) * 0.9
    assert one(slow.request_rate) <= most * share * (1 + 1e-9)


@settings(max_examples=20)
@given(prompt=st.integers(1, 20_000), longer=st.integers(0, 20_000), output=st.integers(1, 2000))
def test_longer_prompts_take_longer_and_cached_ones_less(prompt: int, longer: int, output: int) -> None:
    short, long = (asked(lengths(p, output, concurrency=8)) for p in (prompt, prompt + longer))
    # equal prompts laid out in two ways of rounding may differ by a hair of an interpolated cell
    assert one(long.e2e) >= one(short.e2e) * (1 - 1e-4)
    hit = asked(lengths(prompt, output, concurrency=8, prefix_hit=0.5))
    assert one(hit.ttft) <= one(short.ttft) * (1 + 1e-4)


def test_a_faster_device_is_faster() -> None:
    devices = [hwdb.device(n) for n in ("a100-sxm-80gb", "h100-sxm")]
    placed = deployments(devices, device=np.array([0, 1]), max_num_batched_tokens=2048.0, max_num_seqs=64.0)
    for workload in (lengths(2000, 300, concurrency=16), lengths(2000, 300, rate=1.0)):
        found = estimate(LLAMA, workload, placed, costs=Roofline())
        assert found.tpot[0, 1] < found.tpot[0, 0]
        assert found.ttft[0, 1] < found.ttft[0, 0]
    offline = estimate(LLAMA, lengths(99, 9, n_requests=1e4), placed, costs=Roofline())
    assert offline.request_rate[1] > offline.request_rate[0]


# -------------------------------------------------------------------------------- steps


def step_model(by: Engine, budget: float = 8192.0, **columns: object) -> StepModel:
    placed = deployments(H100, max_num_batched_tokens=budget, **columns)
    return prepare(LLAMA, placed, by, Roofline(), load_of(lengths(1000, 100, concurrency=1.0), len(placed))).steps


def test_host_time_adds_or_hides_behind_the_device() -> None:
    plain = engine("vllm-v1").changed(step_host_time=3e-3, step_host_per_seq=1e-5, step_host_parallel=1e-3)
    serial, hidden = (step_model(plain.changed(overlap_scheduling=o)) for o in (False, True))
    (cost, wall), (_, over) = (p.decode(np.array([100.0]), np.array([500.0]), np.zeros(1)) for p in (serial, hidden))
    host = 3e-3 + 100 * 1e-5
    assert one(wall) == pytest.approx(one(cost.time) + host)
    assert one(over) == pytest.approx(max(one(cost.time), host))
    cost, wall = step_model(plain, tp=2).decode(np.array([100.0]), np.array([500.0]), np.zeros(1))
    assert one(wall) == pytest.approx(one(cost.time) + host + 1e-3)  # several devices to keep in step


def test_a_step_outside_captured_graphs_takes_at_least_its_launches() -> None:
    slow = engine("vllm").changed(launch_time=1e-3, step_host_time=0.0, step_host_per_seq=0.0)
    cost, wall = step_model(slow.changed(graph_capture=False)).decode(np.ones(1), np.ones(1), np.zeros(1))
    assert one(wall) == pytest.approx(1e-3 * one(cost.calls))
    assert one(cost.calls) > 4 * LLAMA.layers  # projections and attention of every layer
    cost, wall = step_model(slow).decode(np.ones(1), np.ones(1), np.zeros(1))
    assert one(wall) == pytest.approx(one(cost.time))


@pytest.mark.parametrize("budget", [512.0, 2048.0, 8192.0])
@pytest.mark.parametrize("prompt", [100.0, 2048.0, 5000.0, 30_000.0])
def test_a_long_prompt_takes_as_many_steps_as_its_budget_asks_for(budget: float, prompt: float) -> None:
    free = engine("vllm").changed(**FREE_HOST)
    cost, count, wall = step_model(free, budget).prefill(np.array([prompt]), np.zeros(1))
    assert one(count) == -(-prompt // budget)
    assert one(wall) == pytest.approx(one(cost.time) * one(count))
    whole = one(step_model(free, 1e9).prefill(np.array([prompt]), np.zeros(1))[2])
    # the work is the same; each step reads the weights again and launches its kernels
    again = (one(count) - 1) * one(step_model(free).decode(np.ones(1), np.ones(1), np.zeros(1))[1])
    assert whole * 0.98 <= one(wall) <= whole + again * 1.2


def test_pipeline_stages_work_on_micro_batches_at_once() -> None:
    free = engine("vllm").changed(**FREE_HOST)
    seqs, context = np.array([64.0]), np.array([1000.0])
    _, deep = step_model(free, pp=4).decode(seqs, context, np.zeros(1))
    _, quarter = step_model(free).decode(seqs / 4, context, np.zeros(1))
    assert one(deep) == pytest.approx(one(quarter), rel=0.02)  # a quarter of the sequences through all layers
    # a prompt of eight steps fills the pipe and then leaves a stage's time apart
    _, count, wall = step_model(free, 1024.0, pp=4).prefill(np.array([8192.0]), np.zeros(1))
    cost, _, _ = step_model(free, 1024.0, pp=4).prefill(np.array([8192.0]), np.zeros(1))
    assert one(count) == 8
    assert one(wall) == pytest.approx(one(cost.time) * (8 + 3) / 4)


def test_prompts_that_ride_along_cost_less_than_on_their_own() -> None:
    ready = step_model(engine("vllm"))
    decode, prefill = {"decode_seqs": 32.0, "decode_context": 1000.0}, {"prefill_tokens": 512.0}
    along, answers, prompt = (one(ready.price(Step(**s)).time) for s in ({**decode, **prefill}, decode, prefill))
    assert max(answers, prompt) <= along * (1 + 1e-9)
    assert along < answers + prompt


@given(
    values=st.lists(st.floats(0, 10), min_size=4, max_size=4),
    at=st.floats(0.0, 12.0),
    gaps=st.lists(st.floats(0.1, 4), min_size=3, max_size=3),
)
def test_interpolation_is_straight_between_knots(values: list[float], at: float, gaps: list[float]) -> None:
    knots = np.cumsum([1.0, *gaps])
    found = interpolate(knots[:, None], np.array(values)[:, None], np.array([at]))
    assert float(found[0]) == pytest.approx(float(np.interp(at, knots, values)), abs=1e-9)


# -------------------------------------------------------------------------------- loads


@pytest.mark.parametrize(
    "workload",
    [lengths(1000, 200, concurrency=64), lengths(1000, 200, rate=8.0), lengths(1000, 200, n_requests=8000)],
    ids=["closed", "open", "offline"],
)
def test_replicas_split_the_load(workload: Workload) -> None:
    parts = {k: getattr(workload, k) / 4 for k in ("concurrency", "rate", "n_requests")}
    four, quarter = asked(workload, replicas=4), asked(workload.at(**parts))
    one_of_four, alone = four.arrays(), quarter.arrays()
    for name in ("ttft", "tpot", "e2e", "wait"):
        np.testing.assert_allclose(one_of_four[f"latency.{name}"], alone[f"latency.{name}"], rtol=1e-9)
    for name in ("power", "energy", "running"):
        np.testing.assert_allclose(getattr(four, name), getattr(quarter, name), rtol=1e-9)
    for name in ("devices", *(f"rates.{r}" for r in ("requests", "output", "total", "prefill", "decode"))):
        np.testing.assert_allclose(one_of_four[name], 4 * alone[name], rtol=1e-9)


def test_the_load_of_a_replica_is_its_share() -> None:
    whole = load_of(lengths(1000, 200, rate=12.0), 3)
    each = per_replica(whole, np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(each.rate, [12.0, 6.0, 3.0])
    np.testing.assert_array_equal(each.input, whole.input)


def test_the_context_while_decoding_is_weighted_by_steps() -> None:
    asked_for = load_of(lengths([1000, 10], [10, 1000], share=[0.5, 0.5], concurrency=1.0), 1)
    lengths_seen = [1000 + i for i in range(10)] + [10 + i for i in range(1000)]
    assert one(asked_for.decode_context) == pytest.approx(np.mean(lengths_seen), rel=0.01)


def test_cached_prompts_leave_at_least_a_token_to_compute() -> None:
    asked_for = load_of(lengths(1000, 10, prefix_hit=[1.0], concurrency=1.0), 1)
    assert one(asked_for.new) == 1.0
    assert one(asked_for.new + asked_for.cached) == 1000.0
    half = load_of(lengths(1000, 10, prefix_hit=0.5, concurrency=1.0), 1)
    assert one(half.new) == one(half.cached) == 500.0


def test_accepted_drafts_bring_more_tokens_a_step() -> None:
    workload = lengths(1000, 200, concurrency=8.0, n_requests=1e9, arrival="closed")
    setup = prepare(LLAMA, deployments(H100), engine("vllm"), default("vllm"), load_of(workload, 1))
    plain: Load = load_of(workload, 1)
    drafted = replace(plain, drafts=np.full(1, 3.0), accepted=np.full(1, 2.5))
    slow, fast = (serve(setup.steps, asked_for, np.full(1, 1e3)) for asked_for in (plain, drafted))
    # a step verifies four tokens and drafts three, in little more time, and yields two and a half
    assert 1.5 < one(slow.times.tpot) / one(fast.times.tpot) < 2.5
    assert one(fast.steps.decode) > one(slow.steps.decode)


def test_a_short_run_that_finds_room_at_once_does_not_queue() -> None:
    most = one(asked(lengths(500, 500, n_requests=1e6)).request_rate)
    few = asked(lengths(500, 500, rate=2 * most, arrival="open", n_requests=50))
    assert not few.saturated[0]
    assert one(few.running) <= 50
    assert one(few.ttft) < 2 * one(asked(lengths(500, 500, rate=0.1 * most)).ttft)


# -------------------------------------------------------------------------------- laws


@given(
    running=st.floats(1, 1000), prefill=st.floats(1e-3, 10), decode=st.floats(1e-3, 100), interference=st.floats(0, 1)
)
@example(running=1.0, prefill=1.0, decode=1.0, interference=5e-324)
def test_equilibrium_rate_solves_its_equation(
    running: float, prefill: float, decode: float, interference: float
) -> None:
    rate = one(equilibrium_rate(*(np.array([v]) for v in (running, prefill, decode, interference))))
    share = rate * interference
    assert rate > 0
    assert 0 <= share < 1  # 0 only where there is no interference, or so little that the product underflows
    if share < 0.999:
        assert rate * (prefill + decode / (1 - share)) == pytest.approx(running, rel=1e-6)


def test_a_rising_root_is_found_in_few_steps_whatever_bends_on_the_way() -> None:
    """A power law, a pole just above the root, a kink, a root beyond the bracket, one below it."""
    calls = []

    def ratio(x: np.ndarray) -> np.ndarray:
        calls.append(x)
        pole = x / 3.0 + 0.1 / np.maximum(5.0 - x, 1e-9)
        kink = np.where(x < 2.0, x / 10.0, 0.2 + 40.0 * (x - 2.0))
        return np.array([(x[0] / 0.02) ** 3, pole[1], kink[2], x[3] / 1e6, 2.0 + x[4]])

    found = rising_root(np.full(5, 1e-9), np.full(5, 4.9), ratio)
    np.testing.assert_allclose(ratio(found)[:3], 1.0, rtol=1e-9)
    np.testing.assert_allclose(found[3:], [4.9, 1e-9])
    assert len(calls) <= 20


def test_a_root_at_a_jump_is_the_place_before_it() -> None:
    """Jumps over 1 of both signs of distance and of very unequal sides, and a law beside them that does not jump."""
    calls, place = [], np.array([0.3, 2.0, 4.0, 1.0])

    def ratio(x: np.ndarray) -> np.ndarray:
        calls.append(x)
        jump = np.array([0.5, 0.006, 1e3, 0.0]) * (x >= place)
        return np.array([0.9, 0.9999, 1e-3, 1.0]) * x / place + jump

    found = rising_root(np.full(4, 1e-9), np.full(4, 4.9), ratio)
    np.testing.assert_allclose(found, place, rtol=2e-7)
    assert (found[:3] < place[:3]).all()
    assert found[3] == pytest.approx(1.0, rel=1e-11)
    assert len(calls) <= 36


def test_sequences_at_a_rate_solve_littles_law() -> None:
    """Below the first knot, between knots, at the last one and beyond it; time rises ever faster along the knots."""
    knots, time = np.array([[1.0], [4.0], [16.0], [64.0]]), np.array([[0.01], [0.012], [0.02], [0.06]])
    rates = np.array([20.0, 250.0, 700.0, 64.0 / 0.06, 2000.0])
    curve = DecodeCurve(running=np.tile(knots, 5), time=np.tile(time, 5))
    found = curve.sequences(rates, np.full(5, 64.0))
    np.testing.assert_allclose(found[:4], (rates * curve.at(found))[:4], rtol=1e-12)
    assert found[0] < 1.0 < found[1] < found[2] < found[3]
    assert found[4] == 64.0


def test_the_three_point_rule_is_exact_for_polynomials_up_to_the_fifth_degree() -> None:
    mean = np.array([40.0])
    low, high = poisson_nodes(mean, mean, np.array([1000.0]))
    found = mean_over_poisson((mean - 40) ** 2, (low - 40) ** 2, (high - 40) ** 2)
    assert one(found) == pytest.approx(40.0)  # the variance of a Poisson number is its mean


def test_prefill_steps_cost_a_fixed_part_and_a_part_per_prompt() -> None:
    line = prefill_line(np.array([3.0]), np.array([1.5]), np.array([4.0]))
    assert one(line.fixed + line.each) == 3.0
    assert one(line.fixed + 4 * line.each) == pytest.approx(4 * 1.5)


def test_variability_of_lengths_over_classes_is_that_of_all_requests() -> None:
    work = lengths([10, 10], [100, 300], share=[0.5, 0.5], rate=1.0)
    load = load_of(work, 1)
    drawn = np.array([100.0, 300.0])
    found = queue_variability(np.zeros(1), load.output, np.zeros(1), load.mean)
    assert one(found) == pytest.approx(drawn.var() / drawn.mean() ** 2)
