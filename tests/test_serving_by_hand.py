"""Serving on a device whose steps take a stated time: loads whose course can be followed by hand, and laws by play."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel.costs import StepCost
from perfmodel.costs.cost import Cost
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.engines.spec import Engine
from perfmodel.estimates.estimation.estimator import prepare
from perfmodel.hardware.columns import Hardware
from perfmodel.models import Adapters, Block, Mixer, Mlp, ModelSpec
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step
from perfmodel.serving.adapter_slots import slots_limit, through_slots
from perfmodel.serving.closed_form import serve
from perfmodel.serving.fixed_concurrency.static import batch_wait
from perfmodel.serving.offline_batches.drain_cell import any_running, prefill_steps
from perfmodel.serving.offline_batches.offline import prefill_line
from perfmodel.serving.offline_batches.output_ages import OutputLengths, lockstep, longer_than, running_shares, total
from perfmodel.serving.offline_batches.paces import mean_seconds, pace, seconds_by_age
from perfmodel.serving.prefill_pool import prompt_pool
from perfmodel.serving.queues.admission import (
    admission_wait,
    completed_rate,
    evictions_per_request,
    prefills_per_request,
    queued_by_rank,
    waiting_share,
)
from perfmodel.serving.queues.queueing import (
    closed_prefill_wait,
    cv_over_classes,
    mean_over_poisson,
    opening_burst,
    opening_share,
    poisson_nodes,
    prompts_per_step,
    queue_variability,
    share_of_others,
    slowed_tpot,
    spilled_group_wait,
    step_residual,
)
from perfmodel.serving.queues.variation import Variation
from perfmodel.serving.served import PACE_AT, Served
from perfmodel.serving.step_times.curve import DecodeCurve, decode_curve
from perfmodel.serving.step_times.mixed_steps import MixedSteps, mixed_steps
from perfmodel.serving.step_times.planned_step import (
    PlannedPrompts,
    PlannedStep,
    PricedPrompts,
    chunks,
    prefill_budget,
    stacked,
)
from perfmodel.serving.step_times.prefills import largest_group, prefill_times
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload.load import Load, load_of
from perfmodel.workload.output_lengths import survival
from perfmodel.workload.slo import RANKS
from perfmodel.workload.workload import Workload

H100 = [hwdb.device("h100-sxm")]
SPEC = ModelSpec("toy", 64, 1000, (Block(1, Mixer("full", heads=4, kv_heads=4, head_dim=16, value_dim=16), Mlp(64)),))
#: Seconds of a step: so much, and so much per running sequence and per prompt token.
BASE, EACH, TOKEN = 10e-3, 0.5e-3, 20e-6
FRONT, TALK = 7e-3, 0.2e-3
FREE = {"step_host_time": 0.0, "step_host_per_seq": 0.0, "step_host_parallel": 0.0, "launch_time": 0.0}
PLAIN = engine("generic").changed(request_time=FRONT, overlap="none", synchronised=1.0, rank_balance=False, **FREE)
FIRST = PLAIN.changed(prefill_first=True)
lengths = Workload.from_lengths


@dataclass(frozen=True)
class Linear:
    """A device whose steps take BASE, and EACH per running sequence and TOKEN per prompt token that it computes."""

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        shape = demand.shape
        if demand.family == "gemm":
            time = BASE / 5 + 0.0 * shape["m"]
        elif demand.family == "attention_decode":
            time = EACH * shape["batch"] + 0.0 * shape["context"]
        elif demand.family == "attention_prefill":
            time = TOKEN * shape["batch"] * shape["query"]
        else:
            time = 0.0 * demand.moved
        none = np.zeros(np.shape(time), np.int8)
        return Cost(np.asarray(time), none, np.zeros(np.shape(time)), none)


@dataclass(frozen=True)
class Square(Linear):
    """As `Linear`, but running sequences take EACH / 20 by the square of their number."""

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        if demand.family != "attention_decode":
            return super().cost(demand, hardware)
        time = EACH / 20 * np.square(demand.shape["batch"]) + 0.0 * demand.shape["context"]
        none = np.zeros(np.shape(time), np.int8)
        return Cost(np.asarray(time), none, np.zeros(np.shape(time)), none)


@dataclass(frozen=True)
class Talking(Linear):
    """As `Linear`, but without BASE where `base` is 0, and an all-reduce takes TALK per row of 64 values."""

    base: float = 1.0

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        found = super().cost(demand, hardware)
        if demand.family == "all_reduce":
            return replace(found, time=TALK * demand.message / 128.0, bound=found.bound + 2)  # limited by the link
        return replace(found, time=found.time * self.base) if demand.family == "gemm" else found


def one(values: object) -> float:
    return float(np.ravel(np.asarray(values, float))[0])


def col(*values: float) -> np.ndarray:
    return np.array(values, float)


def ready(
    work: Workload, by: Engine = PLAIN, *, budget: float = 500.0, seqs: float = 1e6, **columns: object
) -> tuple[StepModel, Load]:
    placed = deployments(H100, max_num_batched_tokens=budget, max_num_seqs=seqs, **columns)
    load = load_of(work, len(placed))
    return prepare(SPEC, placed, by, Linear(), load).steps, load


def served(work: Workload, by: Engine = PLAIN, *, room: float = 1e9, **columns: Any) -> Served:
    steps, load = ready(work, by, **columns)
    return serve(steps, load, col(room))


STEPS, LOAD = ready(lengths(100, 50, concurrency=4.0))


# -------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("new", [1, 30, 100, 130, 500, 1700])
@pytest.mark.parametrize("seqs", [1, 3, 7])
@pytest.mark.parametrize("budget", [100, 500])
def test_prompts_are_cut_as_a_scheduler_cuts_them(new: int, seqs: int, budget: int) -> None:
    left, steps, before = [new] * seqs, [], []
    while any(left):
        room, taken, ahead = budget, 0, 0.0
        for i, tokens in enumerate(left):
            part = min(tokens, room)
            ahead += part * (new - tokens)
            left[i], room, taken = tokens - part, room - part, taken + part
        steps.append(taken)
        before.append(ahead / taken)
    found = chunks(col(new), col(40.0), col(seqs), col(budget))
    count = [one(c.n_steps) for c in found]
    assert sum(count) == len(steps)
    assert [one(c.tokens) for c in found] == ([budget] if len(found) > 1 else []) + [steps[-1]]
    assert sum(one(c.n_steps) * one(c.tokens) for c in found) == new * seqs
    for c in found:
        assert one(c.prompts) <= seqs
        assert one(c.prompts) == pytest.approx(max(one(c.tokens) / new, 1.0))
    if seqs == 1:
        full = [b for s, b in zip(steps, before, strict=True) if s == budget]
        if len(found) > 1:
            assert one(found[0].context) == pytest.approx(40.0 + np.mean(full))
        assert one(found[-1].context) == pytest.approx(40.0 + (before[-1] if len(found) > 1 else np.mean(before)))


def test_ranks_cut_their_prompts_side_by_side() -> None:
    # two ranks with a prompt of 300 tokens each, 200 a step in all: both go on at once
    (full,) = chunks(col(300.0), col(0.0), 2.0, col(200.0), 2.0)
    assert (one(full.n_steps), one(full.tokens), one(full.prompts)) == (3.0, 200.0, 2.0)
    (few,) = chunks(col(2.0), col(0.0), 1.0, col(200.0), 4.0)
    assert one(few.prompts) == 2.0  # no more than there are tokens
    whole, rest = chunks(col(100.0), col(0.0), 5.0, col(200.0), 2.0)
    assert (one(whole.n_steps), one(rest.n_steps), one(rest.tokens), one(rest.prompts)) == (2.0, 1.0, 100.0, 2.0)
    unknown = chunks(col(np.nan), col(0.0), 1.0, col(200.0))
    assert np.isnan(one(unknown[-1].tokens)) or one(unknown[-1].n_steps) == 1.0
    mixed = chunks(col(100.0, 400.0), col(0.0, 0.0), 1.0, col(200.0, 200.0))
    assert [c.n_steps.tolist() for c in mixed] == [[1.0, 2.0]]  # nothing is left of the second


def test_decodes_leave_at_least_an_eighth_of_the_budget() -> None:
    found = prefill_budget(col(800.0, 800.0, 800.0), col(0.0, 300.0, 790.0))
    assert found.tolist() == [800.0, 500.0, 100.0]


@pytest.mark.parametrize("walls", [[0.3], [0.3, 0.3, 0.3], [0.3, 0.3, 0.1], [0.2] * 5 + [0.05]])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_steps_pass_a_pipeline_one_behind_the_other(walls: list[float], stages: int) -> None:
    done = np.zeros((len(walls) + 1, stages + 1))
    for i, wall in enumerate(walls, 1):
        for j in range(1, stages + 1):
            done[i, j] = max(done[i - 1, j], done[i, j - 1]) + wall / stages
    kinds = sorted({w: walls.count(w) for w in walls}.items(), reverse=True)
    none = np.zeros(1, bool)
    parts = tuple(PlannedStep(Step(), np.ones(1), none, col(n)) for _, n in kinds)
    priced = PricedPrompts(
        PlannedPrompts(parts), (), col(np.mean(walls)), col(len(walls)), tuple(col(w) for w, _ in kinds)
    )
    assert one(priced.pipelined(col(stages))) == pytest.approx(done[-1, -1])
    assert one(priced.longest) == max(walls)
    assert one(priced.longer_than(col(0.12))) == pytest.approx(sum(max(w - 0.12, 0.0) for w in walls))
    assert one(PlannedPrompts(parts).n_steps) == len(walls)
    absent = PlannedStep(Step(), np.ones(1), none, col(0.0))
    lone = PricedPrompts(PlannedPrompts((absent, parts[-1])), (), col(0.1), col(1.0), (col(9.0), col(0.1)))
    assert one(lone.longest) == 0.1
    assert one(lone.pipelined(col(stages))) == pytest.approx(0.1)


def test_steps_of_different_shapes_are_stacked_as_they_are() -> None:
    classes = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    both = stacked([Step(decode_seqs=col(7.0, 8.0, 9.0)), Step(prefill_tokens=classes, decode_seqs=2.0)], (2, 3))
    assert np.shape(both.decode_seqs) == (2, 2, 3)
    assert np.asarray(both.decode_seqs)[0].tolist() == [[7.0, 8.0, 9.0]] * 2
    assert np.asarray(both.decode_seqs)[1].tolist() == [[2.0] * 3] * 2
    assert np.asarray(both.prefill_tokens)[1].tolist() == classes.tolist()
    flat = stacked([Step(prefill_tokens=classes[:1]), Step(prefill_tokens=1.0)], (3,))
    assert np.asarray(flat.prefill_tokens).tolist() == [[1.0, 2.0, 3.0], [1.0] * 3]


def test_a_decode_step_takes_its_sequences() -> None:
    for seqs in (0.3, 1.0, 12.0):
        _, wall = STEPS.decode(col(seqs), col(60.0), col(0.0))
        assert one(wall) == pytest.approx(BASE + EACH * max(seqs, 1.0))
    deep, _ = ready(lengths(100, 50, concurrency=4.0), pp=4)
    for seqs, micro in ((12.0, 3.0), (2.0, 1.0)):
        assert one(deep.decode(col(seqs), col(60.0), col(0.0)).wall) == pytest.approx(BASE + EACH * micro)
    whole = replace(deep, engine=replace(deep.engine, whole_batch_decode=True))
    assert one(whole.decode(col(12.0), col(60.0), col(0.0)).wall) == pytest.approx(BASE + EACH * 12)
    beside = whole.mixed_steps(col(300.0), col(0.0), col(1.0), col(101.0), col(60.0))
    assert one(beside.parts[0].step.decode_seqs) == 101.0
    ranks, _ = ready(lengths(100, 50, concurrency=4.0), dp=4)
    assert one(ranks.decode(col(12.0), col(60.0), col(0.0)).wall) == pytest.approx(BASE + EACH * 3)
    planned = STEPS.decode_step(col(12.0), col(60.0), col(2.0))
    # two drafts make three tokens to verify; nobody drafts here, so that no passes follow
    assert (one(planned.step.decode_tokens), one(planned.n_steps), one(planned.seqs)) == (3.0, 1.0, 12.0)
    assert one(STEPS.run(planned)[0].wall) == pytest.approx(BASE + EACH * 12)


def test_prompts_take_full_steps_and_a_last_one() -> None:
    cost, count, wall = STEPS.prefill(col(300.0), col(0.0), col(4.0))  # 1200 tokens, 500 a step
    assert one(count) == 3.0
    assert one(wall) == pytest.approx(3 * BASE + 1200 * TOKEN)
    assert one(cost.time) == pytest.approx(BASE + 400 * TOKEN)
    deep, _ = ready(lengths(100, 50, concurrency=4.0), pp=2)
    last = 3 * BASE + 1200 * TOKEN + (BASE + 500 * TOKEN)
    assert one(deep.prefill(col(300.0), col(0.0), col(4.0))[2]) == pytest.approx(last / 2)
    planned = STEPS.prefill_steps(col(300.0), col(60.0), col(4.0))
    assert [one(p.step.prefill_hit) for p in planned.parts] == [60.0, 60.0]
    assert not any(p.captured.any() for p in planned.parts)


def test_prompts_share_steps_with_decodes_under_one_budget() -> None:
    planned = STEPS.mixed_steps(col(300.0), col(0.0), col(1.0), col(101.0), col(60.0))
    (full,) = planned.parts  # 400 tokens are left beside 100 others; the 101st is the prompt's own
    assert (one(full.step.prefill_tokens), one(full.step.decode_seqs), one(full.seqs)) == (300.0, 101.0, 102.0)
    assert one(STEPS.run(full)[0].wall) == pytest.approx(BASE + 300 * TOKEN + 101 * EACH)
    long = STEPS.mixed_steps(col(900.0), col(0.0), col(1.0), col(101.0), col(60.0))
    assert [(one(p.step.prefill_tokens), one(p.n_steps)) for p in long.parts] == [(400.0, 2.0), (100.0, 1.0)]
    alone = STEPS.mixed_steps(col(300.0), col(0.0), col(1.0), col(1.0), col(60.0))
    assert one(alone.parts[0].step.decode_seqs) == 0.0
    deep, _ = ready(lengths(100, 50, concurrency=4.0), pp=4)
    micro = deep.mixed_steps(col(300.0), col(0.0), col(1.0), col(100.0), col(60.0))
    assert one(micro.parts[0].step.decode_seqs) == 25.0


def test_prompts_that_enter_together_are_bounded_by_budget_and_ranks() -> None:
    assert one(STEPS.max_prompts_per_step(col(100.0))) == 5.0
    assert one(STEPS.max_prompts_per_step(col(1000.0))) == 1.0
    assert one(STEPS.min_prompts_per_step(col(9.0))) == 1.0
    ranks, load = ready(lengths(100, 50, concurrency=4.0), PLAIN.changed(rank_balance=True), dp=4)
    assert one(ranks.min_prompts_per_step(col(9.0))) == 4.0
    assert one(ranks.min_prompts_per_step(col(3.0))) == 3.0
    assert one(ranks.min_prompts_per_step(col(0.5))) == 1.0
    assert one(ranks.max_prompts_per_step(col(1e6))) == 4.0
    budget = one(ranks.token_budget)
    assert one(largest_group(ranks, load, col(1e9))) == budget / 100
    assert one(largest_group(STEPS, LOAD, col(3.0))) == 3.0
    assert one(largest_group(STEPS, LOAD, col(0.2))) == 1.0
    # one prompt uses the budget of its own rank alone
    assert one(ranks.prefill_steps(col(budget), col(0.0), 1.0).n_steps) == 4.0
    assert one(ranks.prefill_steps(col(budget / 4), col(0.0), 4.0).n_steps) == 1.0


def test_steps_outside_graphs_wait_for_their_launches() -> None:
    slow = PLAIN.changed(launch_time=20e-3, graph_capture=True, graph_seqs=8.0, eager_launch_time=0.0)
    steps, _ = ready(lengths(100, 50, concurrency=4.0), slow, dp=2)
    captured = steps.captured(col(16.0, 16.5))
    assert captured.tolist() == [True, False]
    inside, outside = (steps.decode(col(n), col(60.0), col(0.0)) for n in (16.0, 17.0))
    assert one(inside.wall) == pytest.approx(BASE + EACH * 8)
    assert one(outside.wall) == pytest.approx(20e-3 * one(outside.cost.calls))
    assert not replace(steps, engine=slow.changed(graph_capture=False)).captured(col(1.0)).any()
    assert replace(steps, graph_seqs=col(50.0)).captured(col(100.0)).all()
    eager = slow.changed(launch_time=0.0, graph_capture=False, eager_launch_time=30e-3)
    cost, wall = replace(steps, engine=eager).decode(col(2.0), col(60.0), col(0.0))
    each = eager.eager_launch(H100[0])  # on a fast host
    assert 10e-3 < each <= 30e-3
    assert one(wall) == pytest.approx(each * one(cost.operators))


@pytest.mark.parametrize("columns", [{"tp": 2}, {"pp": 2}, {"dp": 2}])
def test_several_devices_take_the_host_longer(columns: dict[str, int]) -> None:
    host = PLAIN.changed(step_host_time=1e-3, step_host_per_seq=1e-4, step_host_parallel=5e-3, overlap_scheduling=False)
    steps, _ = ready(lengths(100, 50, concurrency=4.0), host, **columns)
    cost, wall = steps.decode(col(8.0), col(60.0), col(0.0))
    own = 8.0 / columns.get("dp", 1)
    assert one(wall - cost.time) == pytest.approx(1e-3 + own * 1e-4 + 5e-3)
    alone, _ = ready(lengths(100, 50, concurrency=4.0), host)
    cost, wall = alone.decode(col(8.0), col(60.0), col(0.0))
    assert one(wall - cost.time) == pytest.approx(1e-3 + 8e-4)
    hidden, _ = ready(lengths(100, 50, concurrency=4.0), host.changed(overlap_scheduling=True, step_host_time=1.0))
    assert one(hidden.decode(col(8.0), col(60.0), col(0.0)).wall) == pytest.approx(1.0 + 8e-4)


def test_micro_batches_hide_their_messages_where_that_pays() -> None:
    pair = PLAIN.changed(overlap="dual_batch", overlap_share=1.0, graph_capture=True, graph_seqs=1e3)

    def price(by: Engine, seqs: float, base: float = 1.0, **columns: float) -> float:
        steps, _ = ready(lengths(100, 50, concurrency=4.0), by, tp=2, **columns)
        return one(replace(steps, costs=Talking(base=base)).price(Step(decode_seqs=seqs, decode_context=60.0)).time)

    for seqs in (4.0, 64.0):
        plain = BASE + (EACH + 2 * TALK) * seqs
        both = max(2 * BASE + EACH * seqs, 2 * TALK * seqs)  # two halves in turn read the weights twice
        assert price(pair, seqs) == pytest.approx(min(plain, both)), seqs
        assert price(PLAIN, seqs) == pytest.approx(plain)
    # a batch of one has no halves, on every rank by itself
    assert price(pair, 1.0, base=0.0) == pytest.approx(EACH + 2 * TALK)
    assert price(pair, 2.0, base=0.0) == pytest.approx(2 * EACH)
    assert price(pair, 2.0, base=0.0, dp=2) == pytest.approx(EACH + 2 * TALK)
    # two halves launch twice as many kernels, which graphs replay and steps with prompts do not
    slow = pair.changed(launch_time=3e-3)
    assert price(slow, 64.0) == pytest.approx(2 * BASE + EACH * 64)
    assert price(slow.changed(graph_capture=False), 64.0) == pytest.approx(BASE + (EACH + 2 * TALK) * 64)
    steps, _ = ready(lengths(100, 50, concurrency=4.0), slow, tp=2)
    prompts = Step(prefill_tokens=400.0, prefill_seqs=4.0)
    plain = BASE + 400 * TOKEN + 2 * TALK * 400
    assert one(replace(steps, costs=Talking()).price(prompts).time) == pytest.approx(2 * TALK * 400)
    dear = replace(steps, costs=Talking(), engine=pair.changed(launch_time=50e-3))
    assert one(dear.price(prompts).time) == pytest.approx(plain)


def test_the_price_of_each_step_stays_its_own_when_priced_together() -> None:
    plans = [STEPS.decode_step(col(n), col(60.0), col(0.0)) for n in (1.0, 5.0, 9.0)]
    plans += list(STEPS.prefill_steps(np.array([[100.0], [400.0]]), np.zeros((2, 1))).parts)
    walls = [p.wall.ravel().tolist() for p in STEPS.run(*plans)]
    assert walls[:3] == [[pytest.approx(BASE + EACH * n)] for n in (1.0, 5.0, 9.0)]
    assert walls[3] == [pytest.approx(BASE + TOKEN * n) for n in (100.0, 400.0)]


def test_a_decode_curve_passes_through_the_priced_steps() -> None:
    curve = decode_curve(STEPS, LOAD, col(81.0))
    np.testing.assert_allclose(curve.running[:, 0], [1.0, 3.0, 9.0, 27.0, 81.0])
    np.testing.assert_allclose(curve.time[:, 0], BASE + EACH * curve.running[:, 0])
    assert one(curve.at(col(20.0))) == pytest.approx(BASE + EACH * 20)
    assert one(curve.per_token(col(2.0)).at(col(20.0))) == pytest.approx((BASE + EACH * 20) / 2)
    assert one(decode_curve(STEPS, LOAD, col(0.2)).running[-1]) == 1.0


# -------------------------------------------------------------------------------- prefills in a batch


@pytest.mark.parametrize("by", [PLAIN, FIRST], ids=["mixed", "first"])
@pytest.mark.parametrize("stages", [1, 2])
def test_what_a_group_of_prompts_takes_and_adds(by: Engine, stages: int) -> None:
    work = lengths([100, 300], [50, 50], share=[0.75, 0.25], concurrency=4.0)
    steps, load = ready(work, by, budget=1000.0, pp=stages)
    running, group = 21.0, 3.0
    decode, (found,) = prefill_times(steps, load, col(running), (col(group),))
    decoding = BASE + EACH * running / stages
    assert one(decode.wall) == pytest.approx(decoding)
    # the micro-batches of a round share its prompts
    alone = np.array([BASE + TOKEN * group / stages * n for n in (100, 300)])
    mixed = alone + EACH * running / stages if by is PLAIN else alone
    added = (mixed if by is PLAIN else alone + decoding) - decoding  # a round takes as long as its longest micro-batch
    added = added / group
    share = np.array([0.75, 0.25])
    np.testing.assert_allclose(found.alone[:, 0], alone)
    np.testing.assert_allclose(found.shared[:, 0], mixed)
    np.testing.assert_allclose(found.interference_by_class[:, 0], added)
    assert one(found.interference) == pytest.approx(share @ added)
    longest = share @ mixed if by is PLAIN else share @ alone + decoding
    assert one(found.mixed_step) == one(found.mean_step) == pytest.approx(longest)
    np.testing.assert_allclose(np.ravel(found.n_steps), stages / group)
    mean = share @ mixed
    assert one(found.cv(load)) == pytest.approx(np.sqrt(share @ (mixed - mean) ** 2) / mean)
    twice = found.repeated(col(2.0))
    assert one(twice.interference) == 2 * one(found.interference)
    assert one(twice.n_steps) == 2 * one(found.n_steps)


# -------------------------------------------------------------------------------- static batches and lone clients


@pytest.mark.parametrize("room", [100, 12, 5, 4])
def test_batches_run_one_behind_the_other(room: int) -> None:
    answers, prompt, front = 50, 100, FRONT
    clock, first, each = 0.0, [], []
    for start in range(0, 12, room):
        batch = min(room, 12 - start)
        prefill = -(-batch * prompt // 500) * BASE + batch * prompt * TOKEN
        tpot = BASE + EACH * batch
        first += [clock + prefill + front] * batch
        each += [tpot] * batch
        clock += prefill + front + (answers - 1) * tpot
    found = served(lengths(prompt, answers, concurrency=12.0, arrival="static"), room=float(room))
    assert one(found.times.ttft) == pytest.approx(np.mean(first))
    assert one(found.times.tpot) == one(found.steps.decode) == pytest.approx(np.mean(each))
    assert one(found.rate) == pytest.approx(12 / clock)
    assert one(found.running) == min(room, 12)
    assert not found.saturated.any()
    assert one(found.times.ttft - found.times.wait - found.times.prefill) == pytest.approx(front)
    assert one(found.times.burst) == 0.0


def test_waits_for_batches_by_hand() -> None:
    for requests, batch in ((12, 5), (12, 4), (7, 7), (9, 2)):
        waits = [i // batch * 3.0 for i in range(requests)]
        found = batch_wait(col(requests), col(batch), col(-(-requests // batch)), col(3.0))
        assert one(found) == pytest.approx(np.mean(waits))


@pytest.mark.parametrize("by", [PLAIN, FIRST], ids=["mixed", "first"])
def test_a_lone_client_waits_for_nobody(by: Engine) -> None:
    found = served(lengths(1200, 50, concurrency=1.0, n_requests=1e9, arrival="closed"), by)
    prefill, tpot = 3 * BASE + 1200 * TOKEN, BASE + EACH
    assert one(found.times.ttft) == pytest.approx(prefill + FRONT)
    assert one(found.times.tpot) == pytest.approx(tpot)
    assert one(found.rate) == pytest.approx(1.0 / (prefill + FRONT + 49 * tpot))
    assert one(found.times.wait) == one(found.times.burst) == 0.0


@pytest.mark.parametrize(("clients", "budget"), [(10, 500.0), (20, 500.0), (4, 100.0), (30, 1000.0)])
def test_equal_requests_go_round_in_step_where_prompts_go_first(clients: int, budget: float) -> None:
    # all start together: their prompts are computed in groups, then they decode together to their end
    answers, group = 50, min(int(budget / 100), clients)
    pass_time = BASE + group * 100 * TOKEN
    groups = clients // group
    prefilled = [(i // group + 1) * pass_time for i in range(clients)]
    end = groups * pass_time + (answers - 1) * (BASE + EACH * clients)
    work = lengths(100, answers, concurrency=float(clients), n_requests=1e9, arrival="closed", isl_dist="fixed")
    found = served(work, FIRST, budget=budget)
    assert one(found.times.ttft) == pytest.approx(np.mean(prefilled) + FRONT)
    spans = (end - np.array(prefilled)) / (answers - 1)
    assert one(found.times.tpot) == pytest.approx(np.mean(spans))
    assert one(found.rate) == pytest.approx(clients / (end + FRONT))
    # a benchmark of one request per client is its opening
    short = served(work.at(n_requests=float(clients)), FIRST, budget=budget)
    assert one(short.times.ttft) == pytest.approx(np.mean(prefilled) + FRONT)


@pytest.mark.parametrize("by", [PLAIN, FIRST], ids=["mixed", "first"])
@pytest.mark.parametrize("dist", ["fixed", "trace"])
def test_clients_beyond_the_slots_wait_for_as_long_as_littles_law_says(by: Engine, dist: str) -> None:
    work = lengths(100, 50, concurrency=40.0, n_requests=1e9, arrival="closed", isl_dist=dist)
    own = by.changed(preemption="none")
    full, found = served(work.at(concurrency=10.0), own), served(work, own, room=10.0)
    assert one(found.running) == 10.0
    # the front end of a request passes while it waits, so the batch is refilled at once
    inside = one(full.times.ttft + 49 * full.times.tpot) - FRONT
    assert one(found.rate) == pytest.approx(10.0 / inside, rel=1e-6)
    assert one(found.times.ttft + 49 * found.times.tpot) == pytest.approx(40.0 / 10.0 * inside, rel=1e-6)
    assert one(found.times.tpot) == pytest.approx(one(full.times.tpot), rel=1e-6)
    queued = one(found.times.wait - full.times.wait)
    assert one(found.waits.queued) == pytest.approx(queued, rel=1e-6)
    assert one(served(work, own, seqs=10.0).times.ttft) == pytest.approx(one(found.times.ttft))
    again = served(work, by.changed(admission="grow", preemption="recompute"), room=10.0)
    assert one(again.rate) <= one(found.rate) * (
        1 if dist == "fixed" else 0.999
    )  # those that outgrow the cache are prefilled again


def test_an_opening_burst_is_met_by_the_first_request_of_each_client() -> None:
    work = lengths(100, 50, concurrency=20.0, arrival="closed", isl_dist="trace")
    once, often, ever = (served(work.at(n_requests=20.0 * n)) for n in (1.0, 10.0, 1e9))
    # all 20 prompts come at once, five a step: they are done after 1 to 4 steps
    done = np.mean([(i // 5 + 1) * (BASE + 500 * TOKEN) for i in range(20)])
    assert one(once.times.ttft) == pytest.approx(max(done + FRONT, one(ever.times.ttft)), rel=1e-3)
    assert one(once.times.burst) == pytest.approx(10 * one(often.times.burst))
    assert one(ever.times.burst) == pytest.approx(0.0, abs=1e-8)


# -------------------------------------------------------------------------------- open loops


@pytest.mark.parametrize(("busy", "cv"), [(0.05, 1.0), (0.5, 1.0), (0.9, 1.0), (0.5, 0.0), (0.7, 0.5)])
def test_prompts_without_answers_queue_as_pollaczek_and_khinchine_say(busy: float, cv: float) -> None:
    # two kinds of prompt, one at a time (175 tokens per step), answered with their first token: nothing ever decodes
    service = np.array([BASE + 100 * TOKEN, 3 * BASE + 400 * TOKEN])
    share = np.array([0.75, 0.25])
    mean = share @ service
    variance = share @ (service - mean) ** 2 / mean**2
    work = lengths([100, 400], [1, 1], share=[0.75, 0.25], rate=busy / mean, cv=cv)
    found = served(work, FIRST, budget=175.0)
    wait = busy / (1.0 - busy) * mean * (cv**2 + variance) / 2.0
    assert one(found.times.wait) == pytest.approx(wait, rel=1e-5, abs=1e-7)
    np.testing.assert_allclose(found.times.ttft[:, 0], service + wait + FRONT, rtol=1e-5)
    np.testing.assert_allclose(found.times.prefill[:, 0], service, rtol=1e-6)
    assert one(found.rate) == pytest.approx(busy / mean)
    assert not found.saturated.any()


@pytest.mark.parametrize(("busy", "cv"), [(0.15, 4.0), (0.5, 2.0), (0.5, 6.0), (0.8, 3.0)])
def test_bursts_of_prompts_wait_as_a_queue_that_is_followed(busy: float, cv: float) -> None:
    """Prompts of two lengths, one at a time, answered with their first token: Lindley's recursion gives their wait."""
    service = np.array([BASE + 100 * TOKEN, 3 * BASE + 400 * TOKEN])
    mean = 0.75 * service[0] + 0.25 * service[1]
    found = served(lengths([100, 400], [1, 1], share=[0.75, 0.25], rate=busy / mean, cv=cv), FIRST, budget=175.0)
    rng, count = np.random.default_rng(5), 400_000
    gaps = rng.gamma(1.0 / cv**2, cv**2, count) * mean / busy
    walk = np.cumsum(rng.choice(service, count, p=[0.75, 0.25]) - gaps)
    waits = walk - np.minimum.accumulate(np.minimum(walk, 0.0))  # of the next request, which finds what is left
    assert one(found.times.wait) == pytest.approx(waits.mean(), rel=0.12)


def test_a_lone_arrival_waits_for_nobody() -> None:
    found = served(lengths(100, 50, rate=1e-6), FIRST)
    assert one(found.times.ttft) == pytest.approx(BASE + 100 * TOKEN + FRONT, rel=1e-4)
    mixed = served(lengths(100, 50, rate=1e-6))  # at most one other sequence in the step of its prompt
    assert 0.0 <= one(mixed.times.ttft - found.times.ttft) <= EACH * 1.001
    assert one(found.times.tpot) == pytest.approx(BASE + EACH, rel=1e-4)
    assert one(served(lengths(100, 50, rate=1e-4)).running) == pytest.approx(49 * (BASE + EACH) * 1e-4, rel=0.05)


@pytest.mark.parametrize(
    ("by", "budget", "close"), [(PLAIN, 500.0, 0.05), (FIRST, 100.0, 1e-3)], ids=["mixed", "first"]
)
def test_little_holds_and_an_arrival_meets_a_running_step(by: Engine, budget: float, close: float) -> None:
    rate = 8.0
    found = served(lengths(100, 50, rate=rate), by, budget=budget)
    running, tpot = one(found.running), one(found.times.tpot)
    assert running == pytest.approx(rate * 49 * tpot, rel=0.1)
    # a step of the sequences there are and one more; prompts add what they take beyond it, or all of theirs
    step = BASE + EACH * (running + 1)
    assert one(found.steps.decode) == pytest.approx(step, rel=1e-3)
    prompt = 100 * TOKEN if by is PLAIN else BASE + 100 * TOKEN
    assert one(found.steps.interference) == pytest.approx(prompt, rel=1e-2)
    service = one(found.times.prefill)
    # it meets a decode step in the rest of the time, that steps with prompts do not take
    residual = step / 2.0 * (1.0 - np.exp(-running)) * (1.0 - rate * service)
    queue = rate * service / (1.0 - rate * service) * service / 2.0  # one by one; a little less where some go together
    wait = residual + queue
    assert wait * (1 - close) < one(found.times.wait) <= wait * (1 + 1e-3)
    assert one(found.times.ttft) == pytest.approx(service + one(found.times.wait) + FRONT)
    # 49 steps, and the prompts that came since the request itself did: while it waited, and while it decodes
    decoding = 0.0
    for _ in range(60):
        decoding = 49 * step + prompt * rate * (service + one(found.times.wait) + decoding)
    assert tpot == pytest.approx(decoding / 49, rel=3e-3)
    assert np.isnan(found.waits.by_rank)
    assert one(found.waits.uniform_share) == 0.0


def test_an_arrival_waits_for_the_step_that_a_scheduler_running_ahead_has_planned() -> None:
    ahead = PLAIN.changed(overlap_scheduling=True)  # host times are nought, so that nothing else differs
    for rate in (1e-6, 2.0, 8.0):
        plain, found = (served(lengths(100, 50, rate=rate), by) for by in (PLAIN, ahead))
        step, service, running = (one(v) for v in (plain.steps.decode, plain.times.prefill, plain.running))
        busy = rate * service  # of the time; prompts are in fewer of the steps, for theirs are longer
        mean = 1.0 / (busy / service + (1.0 - busy) / step)
        more = -np.expm1(-running) * mean
        assert one(found.times.planned) == pytest.approx(more, rel=0.02, abs=1e-9)
        assert one(found.times.ttft) == pytest.approx(one(plain.times.ttft) + one(found.times.planned), rel=1e-9)
        assert one(found.times.wait) == pytest.approx(one(plain.times.wait) + one(found.times.planned), rel=1e-9)
        assert one(found.times.tpot) == one(plain.times.tpot)
        assert one(plain.times.planned) == 0.0


def test_a_client_waits_for_a_planned_step_only_where_others_decode_meanwhile() -> None:
    def both(clients: float, by: Engine = PLAIN, prompt: int = 100, **load: Any) -> tuple[Served, Served]:
        work = lengths(prompt, 50, concurrency=clients, arrival="closed", **load)
        return served(work, by), served(work, by.changed(overlap_scheduling=True))

    steady = {"n_requests": 1e9}
    in_step = {**steady, "isl_dist": "fixed"}
    for plain, found in (both(1.0, **steady), both(5.0, **in_step), both(5.0, FIRST, **in_step)):
        assert one(found.times.planned) == pytest.approx(0.0, abs=1e-12)  # nobody else, or all others end together
        assert one(found.times.ttft) == pytest.approx(one(plain.times.ttft), rel=1e-9)
    apart = PLAIN.changed(synchronised=0.0)
    plain, found = both(8.0, apart, **steady)
    # a mean step: every token takes one
    assert one(found.times.planned) == pytest.approx(one(plain.times.tpot), rel=0.03)
    assert one(found.times.planned) > 1.02 * (BASE + 8 * EACH)
    assert one(found.times.ttft) == pytest.approx(one(plain.times.ttft) + one(found.times.planned), rel=0.01)
    # nobody waits for a step that was planned before a run begins, nor who queues for a slot
    plain, found = both(8.0, apart, 1000, n_requests=8.0)
    assert one(found.times.ttft) == pytest.approx(one(plain.times.ttft), rel=1e-9)
    work = lengths(100, 50, concurrency=8.0, arrival="closed", **steady)
    assert one(served(work, apart.changed(overlap_scheduling=True), seqs=4.0).times.planned) == 0.0


def test_short_answers_meet_the_prompts_that_came_while_their_own_waited() -> None:
    rate, later = 20.0, 5
    found = served(lengths(100, 1 + later, rate=rate), FIRST, budget=100.0)
    prompt, step = BASE + 100 * TOKEN, BASE + EACH * (one(found.running) + 1)
    before = one(found.times.ttft) - FRONT
    decoding = 0.0
    for _ in range(60):  # its steps, and the prompts that came from its own arrival to its end
        decoding = later * step + prompt * rate * (before + decoding)
    assert one(found.times.tpot) == pytest.approx(decoding / later, rel=0.02)
    assert rate * prompt * before > 0.05 * decoding  # those that came before it decoded are no small part


def test_steps_with_prompts_are_a_line_in_their_number() -> None:
    for by, deep in ((PLAIN, 1), (FIRST, 1), (PLAIN, 2)):
        steps, load = ready(lengths(100, 50, rate=8.0), by, budget=1000.0, pp=deep)
        curve = decode_curve(steps, load, col(81.0))
        line = mixed_steps(steps, load, curve)
        for running in (1.0, 81.0):
            base, each = line.at(col(running))
            decoding = 0.0 if by is FIRST else BASE + EACH * max(running / deep, 1.0)
            # beside decodes a prompt adds its tokens alone; steps of their own hold no decodes
            added = BASE if by is FIRST else 0.0
            if by is PLAIN and running == 1.0:
                added = -EACH  # its one sequence is the prompt's own
            # the micro-batches of a pipeline hold as many prompts each, and take no longer together than one
            assert one(each) == pytest.approx(100 * TOKEN / deep, rel=0.06)
            assert one(base) == pytest.approx(decoding + max(added, -EACH), abs=EACH + 50 * TOKEN * deep)
        assert line.separate is (by is FIRST)
        assert one(line.most) == 10.0 * deep
        assert (one(line.fewest(col(5.0))), one(line.fewest(col(0.2)))) == (1.0, 1.0)


def line_of(base: float, each: float, *, separate: bool) -> MixedSteps:
    """Steps of at most eight prompts that take base + each a prompt, whatever runs."""
    sides = np.full((2, 1), base), np.full((2, 1), each)
    return MixedSteps(np.array([[1.0], [99.0]]), *sides, col(1.0), col(8.0), separate)


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("rate", [2.0, 30.0, 60.0])
def test_steps_carry_the_prompts_that_came_during_the_last_one(separate: bool, rate: float) -> None:
    # played step by step: a decode step of 20 ms, or one of 12 ms (30 where it holds decodes) and 5 ms a prompt
    step, each, most = 0.020, 0.005, 8.0
    base = 0.012 if separate else 0.030
    line = MixedSteps(
        np.array([[1.0], [9.0]]), np.full((2, 1), base), np.full((2, 1), each), col(1.0), col(most), separate
    )
    rng = np.random.default_rng(3)
    waiting, steps, prompts, last = 0, 0, 0, step
    for _ in range(60_000):
        waiting += rng.poisson(rate * last)
        entering = min(waiting, int(most))
        waiting -= entering
        if entering:
            last = base + each * entering
            steps, prompts = steps + 1, prompts + entering
        else:
            last = step
    assert one(line.entering(col(rate), col(step), col(4.0))) == pytest.approx(prompts / steps, rel=0.12)
    met = one(line.entering(col(rate), col(step), col(4.0)))
    adds = base if separate else base - step
    assert one(line.interference(col(rate), col(step), col(4.0))) == pytest.approx(adds / met + each)
    assert one(line.added(col(step), col(2.0), col(4.0))) == pytest.approx(adds / 2 + each)
    assert one(line.per_prompt(col(4.0))) == pytest.approx(base / most + each)
    assert one(line.added(col(1.0), col(2.0), col(4.0))) == (
        one(line.added(col(step), col(2.0), col(4.0))) if separate else 0.0
    )


@pytest.mark.parametrize(
    ("base", "each", "abreast", "most"),
    [(0.02, 0.0, 1.0, 40.0), (0.007, 0.003, 6.4, 40.0), (0.004, 0.003, 1.0, 40.0), (0.0, 0.02, 1.0, 1.0)],
)
@pytest.mark.parametrize("rate", [5.0, 20.0, 40.0, 120.0])
def test_prompts_that_go_first_follow_each_other_until_none_has_come(
    base: float, each: float, abreast: float, most: float, rate: float
) -> None:
    if rate * (base / most + each) > 0.9:
        pytest.skip("more prompts come than are served")
    line = MixedSteps(
        np.array([[1.0], [9.0]]), np.full((2, 1), base), np.full((2, 1), each), col(1.0), col(most), True, col(abreast)
    )
    rng, step = np.random.default_rng(3), 0.01
    waiting, decodes, last, computed, behind = 0, 0, step, 0, []
    while decodes < 8_000 and computed < 200_000:
        waiting += rng.poisson(rate * last)
        entering = min(waiting, int(most))
        waiting -= entering
        if entering:
            last = base + each * max(entering, abreast)
            behind.append([decodes, last])
            computed += 1
        else:
            last, decodes = step, decodes + 1
    found = line.between(col(rate), col(step), col(4.0))
    lasted = np.array(behind)
    assert one(found.delay) == pytest.approx(lasted[:, 1].sum() / decodes, rel=0.12)
    if most > 1.0:  # else prompts are left over, and queue
        assert one(found.steps) == pytest.approx(len(lasted) / decodes, rel=0.12)
        runs = np.unique(lasted[:, 0], return_counts=True)[1]  # of steps of prompts between two decode steps
        assert one(found.behind) == pytest.approx((runs * (runs - 1) / 2).sum() / runs.sum(), rel=0.25, abs=0.02)


def test_a_full_batch_meets_the_prompts_that_take_the_places_of_others() -> None:
    line = MixedSteps(
        np.array([[1.0], [99.0]]), np.full((2, 1), 0.03), np.full((2, 1), 5e-3), col(1.0), col(8.0), False
    )
    rng = np.random.default_rng(5)
    for running, answer in ((10.0, 50.0), (60.0, 40.0)):
        ends = rng.poisson(running / answer, 200_000)
        group = ends[ends > 0].mean()  # prompts of a step that has any
        others = (running - group) * ((0.03 - 0.02) / group + 5e-3)
        assert one(line.met(col(running), col(0.02), col(answer))) == pytest.approx(others, rel=0.02)
    assert one(line.met(col(1.0), col(0.02), col(50.0))) == pytest.approx(0.0, abs=1e-3)
    assert one(line.fewest(col(0.3))) == 1.0
    ranks = replace(line, least=col(4.0))
    assert ranks.fewest(col(2.5)).tolist() == [2.5]
    assert ranks.fewest(col(9.0)).tolist() == [4.0]
    assert one(ranks.entering(col(0.01), col(0.02), col(9.0))) == 4.0
    assert one(line.entering(col(1e4), col(0.02), col(9.0))) == 8.0


def test_steps_are_averaged_over_the_number_that_runs() -> None:
    # a step that grows with the square of its sequences: E[(1 + N)^2] = (1 + m)^2 + m for a Poisson number of mean m
    steps, load = ready(lengths(100, 50, rate=8.0), seqs=64.0)
    found = serve(replace(steps, costs=Square()), load, col(1e9))
    running = one(found.running)
    expected = BASE + EACH / 20 * ((1.0 + running) ** 2 + running)
    assert one(found.steps.decode) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("clients", [2, 6])
def test_a_client_meets_the_pass_under_way_and_the_prompts_of_others(clients: int) -> None:
    work = lengths(100, 50, concurrency=float(clients), n_requests=1e9, arrival="closed")
    found = served(work, PLAIN.changed(synchronised=0.0))
    others = 1.0 - 1.0 / clients
    step, service = BASE + EACH * clients, one(found.times.prefill)
    together = clients / 50 / -np.expm1(-clients / 50)  # prompts of the steps that have any
    assert service == pytest.approx(BASE + EACH * clients + together * 100 * TOKEN)
    entered = clients / (one(found.times.ttft) - FRONT + 49 * one(found.times.tpot))  # prompts per second inside
    busy = entered * service / together  # share of the time in steps with prompts
    # the last answer ended with a step, a front end's time ago; a step holds 85 prompts, so that none is left over
    left = [max(seconds / 2.0, seconds - FRONT) for seconds in (service, step)]
    assert one(found.times.wait) == pytest.approx(busy * left[0] + (1.0 - busy) * left[1], rel=1e-3)
    # every prompt of the others is computed once while the request is not away, before its own or after
    own, behind = service + 49 * step, (clients - together) * 100 * TOKEN
    whole = FRONT + own + behind
    cycle = (whole + np.sqrt(whole**2 - 4 * behind * FRONT)) / 2
    tpot = step / (1.0 - entered * 100 * TOKEN * others)
    lacking = max(cycle - FRONT - own - one(found.times.wait) - 49 * (tpot - step), 0.0)
    assert one(found.times.tpot) == pytest.approx(tpot + lacking / 49, rel=1e-3)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_clients_that_move_partly_together_wait_in_part(share: float) -> None:
    work = lengths(100, 50, concurrency=4.0, n_requests=1e9, arrival="closed", isl_dist="fixed")
    apart, found = (served(work, PLAIN.changed(synchronised=s)) for s in (0.0, share))
    # four prompts fit one step, so those that move together never wait for another group
    # and those that move apart find fewer others besides those they share steps with
    # (steps in which groups enter are longer than those in which prompts come one by one)
    longer = one(found.times.prefill) / one(apart.times.prefill)
    assert 0.85 * (1.0 - share) ** 2 < one(found.times.wait) / one(apart.times.wait) <= (1.0 - share) * longer
    together = served(work, PLAIN)
    assert one(together.times.wait) == 0.0
    spilled = served(work.at(concurrency=7.0), PLAIN)  # two of seven wait for a step of the second group
    steps_of_a_group = BASE + 494 * TOKEN + 7 * EACH, BASE + 6 * TOKEN + 7 * EACH
    assert one(spilled.times.wait) == pytest.approx(0.4 * np.mean(steps_of_a_group))


def test_no_token_takes_longer_than_where_every_step_has_prompts() -> None:
    work = lengths(100, 3, concurrency=40.0, n_requests=1e9, arrival="closed", isl_dist="trace")
    found = served(work, PLAIN.changed(synchronised=0.0))
    assert one(found.times.tpot) <= one(found.steps.mixed) * (1 + 1e-9)
    light = served(work.at(output_tokens=400.0), PLAIN.changed(synchronised=0.0))
    assert one(light.times.tpot) < 0.96 * one(light.steps.mixed)


def test_a_long_queue_keeps_its_places_full() -> None:
    grow = PLAIN.changed(admission="grow", preemption="recompute", synchronised=0.0)
    batch = served(lengths(400, 8, n_requests=1e7), grow, room=10.0)
    once = served(lengths(400, 8, n_requests=1e7), grow.changed(preemption="none"), room=10.0)
    assert one(once.rate) >= one(batch.rate)
    # a step has room for 490 / 400 prompts, and each stays for 8 steps: a little less than the ten places
    assert one(batch.running) == pytest.approx(490 / 400 * 8, rel=1e-2)
    assert one(batch.steps.decode) == pytest.approx(BASE + EACH * 10, rel=1e-2)
    # no faster than the budget lets prompts in: 490 tokens of 400 per step that carries them
    assert one(once.rate) <= 490 / 400 / (BASE + 490 * TOKEN + 9 * EACH) * 1.05


def test_a_replica_is_full_at_its_last_place_and_not_before() -> None:
    free = lengths(100, 50, rate=1.0)
    for running, full in ((50.0, False), (120.0, True)):
        rate = running / (49 * (BASE + EACH * min(running, 81.0)))
        found = served(free.at(rate=rate * 0.8), seqs=81.0)
        assert bool(found.saturated[0]) is full
        short = served(free.at(rate=rate * 0.8, n_requests=5000.0), seqs=81.0)
        assert (one(short.times.wait) > 1.0) is full


def test_demand_beyond_what_can_be_served_waits_for_ever() -> None:
    work = lengths(100, 50, rate=1.0)
    # one slot: a request at a time, whose prompt cannot be computed before the last has ended
    alone = 1.0 / (BASE + 100 * TOKEN + 49 * (BASE + EACH))
    few, many = (served(work.at(rate=r), seqs=1.0) for r in (0.2 * alone, 3.0 * alone))
    assert not few.saturated.any()
    assert many.saturated.all()
    assert np.isinf(many.times.ttft).all()
    assert one(many.rate) == pytest.approx(alone, rel=0.05)
    assert one(many.waits.uniform_share) == 1.0
    assert one(many.times.tpot) < np.inf
    prompts = served(lengths(100, 1, rate=1.2 / (BASE + 500 * TOKEN) * 5), FIRST)
    assert prompts.saturated.all()


@pytest.mark.parametrize("requests", [1.0, 40.0, 3000.0])
def test_a_run_lasts_until_its_last_answer(requests: float) -> None:
    rate = 4.0
    endless = served(lengths(100, 50, rate=rate))
    found = served(lengths(100, 50, rate=rate, n_requests=requests, arrival="open"))
    last = one(endless.times.prefill) + 49 * one(found.times.tpot)
    assert one(found.rate) == pytest.approx(requests / (requests / rate + last), rel=2e-3 if requests > 1.0 else 0.01)
    assert one(found.times.ttft) <= one(endless.times.ttft) * (1 + 1e-3)
    assert one(found.times.tpot) <= one(endless.times.tpot) * (1 + 1e-3)
    assert np.isfinite(found.waits.queued_by_rank).all()
    if requests > 1000:
        assert one(found.times.ttft) == pytest.approx(one(endless.times.ttft), rel=1e-3)


def test_a_run_that_arrives_at_once_is_a_batch() -> None:
    batch = served(lengths(100, 50, n_requests=200.0), seqs=20.0)
    found = served(lengths(100, 50, n_requests=200.0, rate=1e9, arrival="open"), seqs=20.0)
    assert one(found.times.tpot) == pytest.approx(one(batch.times.tpot))
    assert one(found.times.wait) == pytest.approx(one(batch.times.wait), abs=0.02)
    assert one(found.rate) == pytest.approx(one(batch.rate), rel=0.01)
    assert one(found.waits.uniform_share) > 0.9  # hardly any wait is by chance
    np.testing.assert_allclose(found.waits.by_rank, batch.waits.by_rank, atol=0.02)
    rate = 4.0 * one(batch.rate)
    slow = served(lengths(100, 50, n_requests=200.0, rate=rate, arrival="open"), seqs=20.0)
    # less the time that they took to arrive; the first fill takes as long as its twenty requests take to arrive
    filling, late = 20.0 / rate, one(batch.times.wait) - 200.0 / rate / 2.0
    assert late - 0.02 <= one(slow.times.wait) <= late + filling
    ranked = batch.waits.by_rank - np.array(list(RANKS.values()))[:, None] * 200.0 / rate
    assert (slow.waits.by_rank >= ranked - 0.02).all()
    assert (slow.waits.by_rank <= ranked + filling).all()


def test_a_batch_is_done_when_all_its_steps_are() -> None:
    # 20 requests, five prompts a step, all lengths equal, prompts first: 4 prompt steps, then 49 steps of 20
    found = served(lengths(100, 50, n_requests=20.0, isl_dist="fixed"), FIRST)
    makespan = 4 * (BASE + 500 * TOKEN) + 49 * (BASE + EACH * 20)
    assert 20.0 / one(found.rate) - FRONT == pytest.approx(makespan, rel=0.03)
    assert one(found.times.ttft) == pytest.approx(np.mean([1, 2, 3, 4]) * (BASE + 500 * TOKEN) + FRONT, rel=0.1)
    tokens = one(found.times.tpot) * 49
    assert tokens == pytest.approx(49 * (BASE + EACH * 20) + 1.5 * (BASE + 500 * TOKEN), rel=0.05)
    assert one(found.running) == pytest.approx(20.0, rel=0.05)
    assert one(found.steps.decode) == pytest.approx(BASE + EACH * 20, rel=0.02)
    # with slots for five, four batches in turn
    turns = served(lengths(100, 50, n_requests=20.0, isl_dist="fixed"), FIRST, seqs=5.0)
    four = 4 * (BASE + 500 * TOKEN + 49 * (BASE + EACH * 5))
    assert 20.0 / one(turns.rate) - FRONT == pytest.approx(four, rel=0.06)


# -------------------------------------------------------------------------------- laws of queues


def test_the_laws_of_a_full_batch() -> None:
    assert slowed_tpot(col(1.0, 1.0, 1.0), col(0.0, 0.5, 5.0)).tolist() == pytest.approx([1.0, 2.0, 50.0])
    assert prompts_per_step(col(100.0), col(50.0), col(1.0), col(8.0)).tolist() == pytest.approx([2 / (1 - np.exp(-2))])
    found = prompts_per_step(col(1e-9, 900.0, 9.0), col(50.0, 50.0, 0.1), col(1.0), col(8.0))
    assert found.tolist() == pytest.approx([1.0, 8.0, 8.0])
    assert share_of_others(col(1.0, 4.0, 10.0)).tolist() == [0.0, 0.75, 0.9]
    assert share_of_others(col(10.0, 3.0), col(4.0, 8.0)).tolist() == [0.6, 0.0]
    assert share_of_others(col(0.5)).tolist() == [0.0]
    assert opening_share(col(0.5, 1.0, 4.0)).tolist() == [1.0, 1.0, 0.25]
    assert spilled_group_wait(col(4.0, 5.0, 7.5, 20.0), col(5.0), col(3.0)).tolist() == pytest.approx([0, 0, 1.5, 3.0])


def test_an_opening_burst_is_done_group_by_group() -> None:
    for running, group in ((12, 4), (6, 1), (8, 8)):
        done = np.mean([(i // group + 1) * group * 0.2 for i in range(running)])
        assert one(opening_burst(col(running), col(group), col(0.2), col(9.0))) == pytest.approx(done)
    assert one(opening_burst(col(1.0), col(1.0), col(0.2), col(9.0))) == 9.0


def test_an_arrival_sees_half_a_step_if_any_runs() -> None:
    rng = np.random.default_rng(1)
    for mean in (0.2, 1.0, 4.0):
        seen = np.where(rng.poisson(mean, 200_000) > 0, rng.uniform(0, 3.0, 200_000), 0.0)
        assert one(step_residual(col(mean), col(3.0))) == pytest.approx(seen.mean(), rel=0.02)


def test_a_closed_loop_queues_behind_no_more_prompts_than_it_holds() -> None:
    held = {"running": col(5.0), "entering": col(2.0)}
    assert one(closed_prefill_wait(col(0.5), col(2.0), col(1.0), **held)) == pytest.approx(2.0)  # as M/M/1
    assert one(closed_prefill_wait(col(0.99), col(2.0), col(1.0), **held)) == 4 * 2.0 / 2.0
    assert one(closed_prefill_wait(col(0.5), col(2.0), col(0.0), **held)) == pytest.approx(1.0)  # as M/D/1
    assert one(closed_prefill_wait(col(0.5), col(2.0), col(1.0), running=col(0.5), entering=col(1.0))) == 0.0


def test_nodes_of_the_three_point_rule_stay_in_range() -> None:
    low, high = poisson_nodes(col(12.0, 12.0, 12.0), col(13.0, 4.0, 13.0), col(100.0, 100.0, 15.0))
    assert low.tolist() == [7.0, 1.0, 11.0]
    assert high.tolist() == [19.0, 7.0, 15.0]
    assert one(mean_over_poisson(col(1.0), col(4.0), col(7.0))) == pytest.approx(15 / 6)
    third = (13.0**3, 7.0**3, 19.0**3)  # E of (1 + X)^3 about its mean, by the moments of a Poisson number
    assert mean_over_poisson(*third) == pytest.approx(13**3 + 3 * 13 * 12)


def test_spread_over_classes_is_that_of_draws() -> None:
    load = load_of(lengths([100, 400], [20, 200], share=[0.75, 0.25], rate=1.0), 1)
    values = np.array([[3.0], [7.0]])
    drawn = np.array([3.0, 3.0, 3.0, 7.0])
    assert one(cv_over_classes(values, load.mean)) == pytest.approx(drawn.std() / drawn.mean())
    rng = np.random.default_rng(0)
    outputs = np.repeat([20.0, 20.0, 20.0, 200.0], 100_000) * rng.gamma(4.0, 0.25, 400_000)  # a spread of 1/2 each
    squared = outputs.var() / outputs.mean() ** 2
    assert one(queue_variability(col(3.0), load.output, col(0.5), load.mean)) == pytest.approx(9.0 + squared, rel=0.01)


# -------------------------------------------------------------------------------- room


@pytest.mark.parametrize("variability", [0.5, 1.0, 2.0])
def test_one_place_waits_as_a_single_server(variability: float) -> None:
    def answers(half: float) -> Variation:  # Poisson arrivals, (1 + c_s^2) / 2 = half
        return Variation(1.0, np.sqrt(2.0 * half - 1.0))

    knots = np.array([[1.0], [1.0 + 1e-9]])
    for busy in (0.3, 0.8):
        found = admission_wait(col(busy), knots, np.ones((2, 1)), col(1.0), answers(variability))
        assert one(found) == pytest.approx(busy / (1.0 - busy) * variability, rel=0.35)
    both = answers(variability), answers(2 * variability)
    once, twice = (one(admission_wait(col(0.5), knots, np.ones((2, 1)), col(1.0), v)) for v in both)
    assert twice == pytest.approx(2 * once)


def test_few_running_complete_in_proportion() -> None:
    knots, completed = np.array([[2.0], [6.0]]), np.array([[4.0], [8.0]])
    # half a second each up to two, three quarters at six, and linear between them
    assert [one(completed_rate(knots, completed, col(n))) for n in (1.0, 2.0, 4.0, 6.0)] == [2.0, 4.0, 4 / 0.625, 8.0]


def test_waits_by_rank_are_quantiles_of_an_exponential_or_of_a_growing_queue() -> None:
    ranks = np.array(list(RANKS.values()))
    all_wait = queued_by_rank((col(3.0), col(1.0)), col(np.inf), col(1.0))[:, 0]
    np.testing.assert_allclose(1.0 - np.exp(-all_wait / 3.0), ranks)
    # where one of ten waits, the mean wait of those is ten times that of all
    few = queued_by_rank((col(3.0), col(0.1)), col(np.inf), col(1.0))[:, 0]
    np.testing.assert_allclose(few, np.maximum(np.log(0.1 / (1.0 - ranks)), 0.0) * 30.0, atol=1e-9)
    short = queued_by_rank((col(np.inf), col(1.0)), col(4.0), col(1.0))[:, 0]
    assert (np.diff(short) > 0.0).all()
    assert short[-1] < 4.0 * np.sqrt(np.pi / 2.0)  # the mean of the longest wait


def test_requests_that_fit_do_not_queue_by_chance() -> None:
    # of 100 requests the first 80 fit; the others wait as the requests of a run of 20 do
    found = queued_by_rank((col(np.inf), col(1.0)), col(4.0), col(0.2))[:, 0]
    assert found[0] == 0.0  # the median
    of_later = queued_by_rank((col(np.inf), col(1.0)), col(4.0), col(1.0))[:, 0]
    assert found[1] == pytest.approx(of_later[0])  # the 90th of all is the median of the last twenty
    # of the last twenty, one in ten waits: two of a hundred, neither of whom is the 90th
    few, of_few = (queued_by_rank((col(3.0), col(0.1)), col(1e9), col(late))[:, 0] for late in (0.2, 1.0))
    assert few[1] == 0.0 < of_few[-1]
    assert few[-1] == pytest.approx(30.0 * np.log(0.1 / 0.05), rel=0.01) != pytest.approx(of_few[-1])


@pytest.mark.parametrize("busy", [0.3, 0.9])
def test_the_share_that_waits_is_that_of_a_queue_with_one_server(busy: float) -> None:
    one_server = np.ones(
        (2, 1)
    )  # one runs, and completes 1/s: M/M/1, in which a share `busy` waits for 1 / (1 - busy) s
    wait = admission_wait(col(busy), one_server, one_server, col(1.0))
    assert one(wait) == pytest.approx(busy / (1.0 - busy))
    assert one(waiting_share(wait, col(busy), col(1.0))) == pytest.approx(busy)
    assert one(waiting_share(col(np.inf), col(2.0), col(1.0))) == 1.0


def test_sequences_are_sent_back_where_growth_takes_the_room_of_a_prompt() -> None:
    # play: between completions the others grow by an exponential number of tokens; room is uniform up to a prompt
    rng = np.random.default_rng(0)
    for prompt, output, kept in ((1000.0, 1000.0, 0.0), (500.0, 700.0, 200.0), (2000.0, 300.0, 100.0)):
        grown, room = rng.exponential(output, 400_000), rng.uniform(0.0, prompt, 400_000)
        played = (np.maximum(grown - room - kept, 0.0) / prompt).mean()
        assert one(evictions_per_request(col(prompt), col(output), col(kept))) == pytest.approx(played, rel=0.03)
    assert one(evictions_per_request(col(10.0), col(1e6), col(0.0))) == 4.0


def preempted_in_a_full_cache(prompt: float, output: float, places: int, steps: int) -> tuple[float, float]:
    """Preemptions per completion, and sequences that run, of a replay: completions, then growth, then new prompts."""
    rng, free = np.random.default_rng(0), places * (prompt + output)
    left, held, back = np.zeros(0), np.zeros(0), []
    sent, ended, ran = 0, 0, 0
    for step in range(steps):
        done = left <= 0.0
        free, ended = free + held[done].sum(), ended + int(done.sum())
        left, held = left[~done], held[~done]
        kept = len(left)
        while free + held[kept:].sum() < kept:
            kept -= 1
        back += zip(held[kept:], left[kept:], strict=True)
        sent, free = sent + len(left) - kept, free + held[kept:].sum() - kept
        full = kept < len(left)
        left, held = left[:kept] - 1.0, held[:kept] + 1.0
        while not full and free >= (back[-1] if back else (prompt, 0.0))[0]:
            size, rest = back.pop() if back else (prompt, max(float(np.round(rng.exponential(output))), 1.0))
            free, left, held = free - size, np.append(left, rest), np.append(held, size)
        sent, ended = (sent, ended) if step > steps // 4 else (0, 0)
        ran += len(left)
    return sent / ended, ran / steps


@pytest.mark.parametrize(
    ("prompt", "output", "places", "steps"),
    [
        (300, 300, 30, 8000),
        (300, 300, 300, 3000),
        (300, 300, 1000, 2000),
        (1000, 200, 1000, 1500),
        (300, 900, 900, 5000),
    ],
)
def test_completions_of_the_same_step_leave_room_for_growth(prompt: int, output: int, places: int, steps: int) -> None:
    played, running = preempted_in_a_full_cache(prompt, output, places, steps)
    told = one(evictions_per_request(col(prompt), col(output), col(0.0), col(running)))
    assert told == pytest.approx(played, rel=0.35, abs=0.1)


def test_equal_answers_are_sent_back_though_many_end_per_step() -> None:
    """A replica of 1,000 sequences of 300 tokens: the simulator sends 0.4 prompts back per request of equal answers."""
    grow = PLAIN.changed(admission="grow", preemption="recompute", admission_watermark=0.0, admission_headroom=0.0)
    load = replace(LOAD, input=np.full_like(LOAD.input, 300.0), output=np.full_like(LOAD.output, 300.0))
    equal, random = (replace(load, length_cv=np.full_like(load.length_cv, cv)) for cv in (0.0, 0.75))
    sent = [one(prefills_per_request(grow, each, col(1000.0), col(1000.0))) - 1.0 for each in (equal, random)]
    assert sent[0] == pytest.approx(0.4, rel=0.2)
    assert sent[1] < 0.3 * sent[0]


def test_growth_by_less_than_a_prompt_hardly_sends_one_back() -> None:
    found = evictions_per_request(np.full(3, 8000.0), np.full(3, 100.0), np.zeros(3), np.array([5.0, 17.0, 60.0]))
    assert (found < 0.005).all()


def test_more_sequences_at_once_are_sent_back_less() -> None:
    running = np.array([0.0, 1.0, 30.0, 300.0, 3000.0, 30_000.0])
    found = evictions_per_request(np.full(6, 300.0), np.full(6, 300.0), np.zeros(6), running)
    assert (np.diff(found) < 1e-6).all()
    assert found[0] == pytest.approx(1.0 - np.exp(-1.0), rel=1e-4)  # the law of rare completions
    assert found[-1] < 1e-3  # the number of completions hardly varies


def test_only_growing_sequences_in_a_full_cache_are_prefilled_again() -> None:
    grow = PLAIN.changed(admission="grow", preemption="recompute", admission_watermark=0.0, admission_headroom=0.0)
    once = evictions_per_request(col(100.0), col(50.0), col(0.0), col(8.0))
    assert one(prefills_per_request(grow, LOAD, col(8.0), col(8.0))) == pytest.approx(1.0 + one(once))
    assert one(prefills_per_request(grow, LOAD, col(9.0), col(8.0))) == 1.0
    for changed in ({"admission": "reserve"}, {"preemption": "swap"}, {"preemption": "none"}):
        assert one(prefills_per_request(grow.changed(**changed), LOAD, col(8.0), col(8.0))) == 1.0
    # kept free: a hundredth of what eight sequences hold, half of their answers written; or of what they will write
    marked = prefills_per_request(grow.changed(admission_watermark=0.01), LOAD, col(8.0), col(8.0))
    told = evictions_per_request(col(100.0), col(50.0), col(0.01 * 8 * 125), col(8.0))
    assert one(marked) == pytest.approx(1.0 + one(told))
    ahead = prefills_per_request(grow.changed(admission_headroom=0.2), LOAD, col(8.0), col(8.0))
    told = evictions_per_request(col(100.0), col(50.0), col(0.2 * 8 * 25), col(8.0))
    assert one(ahead) == pytest.approx(1.0 + one(told))


def test_slots_for_adapters_bound_what_runs() -> None:
    few = Adapters(rank=8, count=100, resident=4)
    load = load_of(lengths(100, 50, concurrency=32.0, n_requests=1e9, arrival="closed"), 1)
    runnable = one(few.runnable(col(32.0)))
    assert runnable < 32
    assert slots_limit(None, load, col(64.0)).tolist() == [64.0]
    assert slots_limit(few, load, col(64.0)).tolist() == [runnable]
    assert slots_limit(few, load, col(2.0)).tolist() == [2.0]
    assert slots_limit(Adapters(rank=8, count=4), load, col(64.0)).tolist() == [64.0]
    endless = load_of(lengths(100, 50, rate=1.0), 1)
    assert slots_limit(few, endless, col(64.0)).tolist() == few.runnable(col(64.0)).tolist()
    batch = load_of(lengths(100, 50, n_requests=16.0), 1)
    assert slots_limit(few, batch, col(64.0)).tolist() == few.runnable(col(16.0)).tolist()


@pytest.mark.parametrize("arrival", ["closed", "static"])
def test_clients_without_a_slot_wait_for_the_batch(arrival: str) -> None:
    few = Adapters(rank=8, count=100, resident=4)
    work = lengths(100, 50, concurrency=32.0, n_requests=1e9, arrival=arrival)  # type: ignore[arg-type]
    steps, load = ready(work)
    inside = one(few.runnable(col(32.0)))

    def server(asked: Load) -> Served:
        return serve(steps, asked, col(1e9))

    found, alone = through_slots(few, load, server), server(replace(load, concurrency=col(inside)))
    assert one(found.rate) == pytest.approx(min(one(alone.rate), one(server(load).rate)))
    ahead = (32.0 - inside) / one(found.rate) * (0.5 if arrival == "static" else 1.0)
    assert one(found.times.ttft - alone.times.ttft) == pytest.approx(ahead)
    assert one(found.times.wait - alone.times.wait) == pytest.approx(ahead)
    before = one(alone.times.wait + alone.times.burst)
    mixed = (one(alone.waits.uniform_share) * before + ahead) / (before + ahead)
    assert one(found.waits.uniform_share) == pytest.approx(mixed)
    assert one(through_slots(None, load, server).rate) == one(server(load).rate)
    enough = Adapters(rank=8, count=4)
    assert one(through_slots(enough, load, server).times.ttft) == one(server(load).times.ttft)


# -------------------------------------------------------------------------------- answers that spread


def outputs(mean: float = 40.0, cv: float = 0.5, limit: float = np.inf) -> OutputLengths:
    return OutputLengths(
        mean=np.array([[mean], [3 * mean]]), cv=col(cv), longest=col(limit), share=np.array([[0.7], [0.3]])
    )


def test_shares_still_running_are_those_of_starts_and_lengths() -> None:
    both, width, cells = outputs(), col(20.0), 15
    whole, half = running_shares(both, width, cells)
    ages = np.arange(0.5, cells) * 20.0

    def longer(age: np.ndarray) -> np.ndarray:
        return 0.7 * survival(np.array(40.0), np.array(0.5), age) + 0.3 * survival(np.array(120.0), np.array(0.5), age)

    np.testing.assert_allclose(whole[:, 0], longer(ages))
    # those that started evenly over a cell are between half a cell younger and half a cell older than it is long
    starts = (np.arange(400) + 0.5) / 400 * 20.0 - 10.0
    evenly = np.mean([longer(ages[1:] - 10.0 + s) for s in starts], axis=0)
    np.testing.assert_allclose(half[1:, 0], evenly, rtol=0.01)
    # in their own cell half have come, which survive as on average from none to half a cell
    assert one(half[0]) == pytest.approx(0.5 * (1.0 + longer(np.array([10.0]))[0]) / 2.0)


def test_no_answer_is_beyond_the_longest() -> None:
    cut = longer_than(outputs(limit=100.0), 0, col(99.0, 103.0))
    assert cut[0] > 0.0
    assert cut[1] == 0.0
    assert longer_than(outputs(limit=50.0), 1, col(119.0))[0] > 0.0  # a limit below the mean is none


def test_steps_of_an_age_are_shared_by_those_that_are_followed_so_far() -> None:
    # three cells: 4 requests at the start of the first, 2 evenly over the second, half of whose last cell is followed
    instant, gradual, width = np.array([[4.0], [0.0], [0.0]]), np.array([[0.0], [2.0], [0.0]]), col(10.0)
    delays = np.array([[(4.0 + 2.0) * 5.0], [(4.0 + 1.0) * 4.0], [4.0 * 3.0]])
    assert seconds_by_age(delays, instant, gradual, width)[:, 0].tolist() == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0])
def test_a_step_that_always_takes_as_long_gives_every_answer_one_pace(cv: float) -> None:
    made = OutputLengths(np.array([[40.0], [120.0]]), col(cv), col(np.inf), np.array([[0.7], [0.3]]))
    by_age = np.full((60, 1), 0.02)
    mean = mean_seconds(made, col(20.0), by_age)
    assert mean.ravel().tolist() == pytest.approx([0.02, 0.02])
    assert pace(made, col(20.0), by_age, mean).ravel().tolist() == pytest.approx([1.0] * len(PACE_AT))


def test_paces_are_means_over_the_ages_that_answers_reach() -> None:
    """Steps that get shorter with age, weighed by the exponential law of the answers, are summed by hand."""
    width, long = 5.0, 100.0
    made = OutputLengths(np.array([[long]]), col(1.0), col(np.inf), np.ones((1, 1)))
    ages = np.arange(400) * width
    by_age = (0.05 - 0.02 * np.minimum(ages / 1000.0, 1.0))[:, None]
    mean = mean_seconds(made, col(width), by_age)
    steps = np.arange(1, 200_000) * 0.01
    left = np.exp(-steps / long)
    exact = (left * (0.05 - 0.02 * np.minimum((steps - width / 2.0) / 1000.0, 1.0))).sum() / left.sum()
    assert float(mean[0, 0]) == pytest.approx(exact, rel=2e-3)
    found = pace(made, col(width), by_age, mean)[:, 0] * float(mean[0, 0])
    by_hand = [by_age[: max(int(part * long / width), 1), 0].mean() for part in PACE_AT]
    assert found.tolist() == pytest.approx(by_hand, rel=1e-9)
    assert (np.diff(found) <= 1e-12).all()


def test_equal_answers_take_the_steps_of_their_own_ages() -> None:
    made = OutputLengths(np.array([[40.0], [80.0]]), col(0.0), col(np.inf), np.array([[0.5], [0.5]]))
    by_age = np.arange(8.0, 0.0, -1.0)[:, None]
    assert mean_seconds(made, col(20.0), by_age).ravel().tolist() == pytest.approx([7.5, 6.5], rel=0.05)


def test_equal_answers_end_together() -> None:
    def together(short: float, long: float, cv: float) -> bool:
        made = OutputLengths(np.array([[short], [long]]), col(cv), col(np.inf), np.array([[0.5], [0.5]]))
        return bool(lockstep(made)[0])

    assert together(50.0, 50.0, 0.0)
    assert not together(50.0, 50.0, 0.5)
    assert not together(50.0, 80.0, 0.0)
    assert not together(80.0, 50.0, 0.0)
    assert total(np.array([[1.0], [2.0]]), np.array([[10.0], [100.0]])).tolist() == [210.0]


def test_the_chance_that_any_runs_is_that_of_independent_ones() -> None:
    for running, entered in ((1.0, 10.0), (0.1, 3.0), (5.0, 5.0)):
        assert one(any_running(col(running), col(entered))) == pytest.approx(1.0 - (1.0 - running / entered) ** entered)


def test_prompts_take_steps_together_or_one_by_one() -> None:
    came, grouped, width = col(12.0), col(3.0), col(8.0)
    assert one(prefill_steps(came, grouped, width, at_once=np.array([True]))) == 4.0  # full steps
    apart = np.array([False])
    assert one(prefill_steps(came, grouped, width, at_once=apart)) == 8.0  # a step each while there are steps
    assert one(prefill_steps(came, grouped, col(20.0), at_once=apart)) == 12.0
    assert one(prefill_steps(came, grouped, col(1.0), at_once=apart)) == 4.0
    assert one(prefill_steps(col(0.2), col(0.5), col(9.0), at_once=apart)) == 0.4  # a prompt takes two steps


# -------------------------------------------------------------------------------- pools of prompts


@pytest.mark.parametrize("batch", [np.inf, 8.0, 2.0])
@pytest.mark.parametrize("budget", [2000.0, np.inf])
def test_a_pool_prices_groups_up_to_its_budget(batch: float, budget: float) -> None:
    work = lengths([100, 300], [50, 50], share=[0.5, 0.5], rate=1.0)
    steps, load = ready(work, budget=2000.0)
    pool = prompt_pool(replace(steps, token_budget=col(budget)), load, col(3.0), batch)
    most = min(batch, 10.0 if budget == 2000.0 else 64.0 if np.isinf(batch) else batch)
    np.testing.assert_allclose(pool.groups[:, 0], [1.0, 1.0, np.sqrt(most), most])
    service = BASE + 100 * TOKEN, BASE + 300 * TOKEN
    np.testing.assert_allclose(pool.alone[:, 0], service)
    assert one(pool.time_cv) == pytest.approx(np.std(service) / np.mean(service))
    assert one(pool.times[0]) == pytest.approx(np.mean(service))
    rows = [-(-most * n // budget) if np.isfinite(budget) else 1.0 for n in (100, 300)]
    last = np.mean([r * BASE + most * n * TOKEN for r, n in zip(rows, (100, 300), strict=True)])
    assert one(pool.times[-1]) == pytest.approx(last)
    best = max(g / t for g, t in zip(pool.groups[:, 0], pool.times[:, 0], strict=True))
    assert one(pool.max_rate) == pytest.approx(3.0 * best)
    assert one(pool.n_steps) == 1.0


def test_a_group_is_what_comes_while_the_last_one_runs() -> None:
    steps, load = ready(lengths(100, 50, rate=1.0), budget=2000.0)
    pool = prompt_pool(steps, load, col(2.0))
    for rate in (10.0, 200.0, 700.0):
        group, time = pool.group_at(col(rate))
        if 1.0 < one(group) < 20.0:
            assert one(group) == pytest.approx(rate * one(time) / 2.0, rel=0.1)
        assert one(time) == pytest.approx(BASE + one(group) * 100 * TOKEN, rel=1e-6)
    assert one(pool.group_of(col(10.0), col(0.5))) == 6.0  # itself and five that came meanwhile
    assert one(pool.group_of(col(10.0), col(99.0))) == 20.0
    assert one(pool.prefill_time(col(10.0), col(0.5))) == pytest.approx(BASE + 600 * TOKEN)
    light = pool.wait(col(1.0))
    assert 0.0 <= one(light) < one(pool.wait(col(100.0)))
    assert one(pool.wait(col(100.0), others=col(0.0))) == 0.0


def test_a_pool_of_ranks_prices_a_lone_prompt_by_itself() -> None:
    steps, load = ready(lengths(100, 50, rate=1.0), budget=2000.0, dp=4)
    pool = prompt_pool(steps, load, col(1.0))
    budget = one(steps.token_budget)
    np.testing.assert_allclose(pool.groups[:, 0], [1.0, 4.0, np.sqrt(4 * budget / 100), budget / 100])
    assert one(pool.cost.time) == one(pool.alone) == pytest.approx(BASE + 100 * TOKEN)
    assert one(pool.times[1]) == pytest.approx(BASE + 100 * TOKEN)  # one on each rank


def test_lines_of_prefill_costs_pass_through_both_points() -> None:
    line = prefill_line(col(3.0, 3.0, 3.0), col(3.0, 2.0, 0.5), col(1.0, 3.0, 4.0))
    assert line.fixed.tolist() == pytest.approx([3.0, 1.5, 3.0])
    assert line.each.tolist() == pytest.approx([0.0, 1.5, 0.0])  # a lone group has no slope, and none falls


@pytest.mark.parametrize("count", [1e7, 384.0])
def test_a_long_batch_goes_on_as_in_its_middle(count: float) -> None:
    steps, load = ready(lengths(100, 50, n_requests=count), FIRST, seqs=64.0, budget=500.0)
    found = serve(steps, load, col(1e9))
    assert 0.9 * 64 < one(found.running) <= 64 * (1 + 1e-9)
    assert one(found.steps.decode) == pytest.approx(BASE + EACH * one(found.running), rel=0.02)
    gap = 1.0 / one(found.rate)
    # prompts enter one after the other at the rate of the run, but for its tail: the mean is the middle one
    middle = one(found.times.wait) / (count * gap / 2.0)
    assert 0.65 < middle < 0.95 if count < 1e6 else middle == pytest.approx(1.0, rel=1e-3)
    entered = np.array(list(RANKS.values())) * count * gap
    np.testing.assert_allclose(found.waits.by_rank[:, 0], entered, rtol=0.4 if count < 1e6 else 1e-2)
    slow = BASE + EACH * 64
    assert slow <= one(found.times.tpot) < 2.0 * slow


def test_a_served_result_says_which_steps_it_stands_on() -> None:
    names = SimpleNamespace(
        closed=lengths(100, 50, concurrency=4.0),
        open=lengths(100, 50, rate=2.0),
        batch=lengths(100, 50, n_requests=10.0),
        static=lengths(100, 50, concurrency=4.0, arrival="static"),
    )
    for name, work in vars(names).items():
        found = served(work)
        assert isinstance(found.costs.decode, StepCost), name
        assert found.costs.prompts is not None
        assert one(found.costs.prefill.time) > BASE * 0.99
    assert one(served(names.open).costs.decode_seqs) == pytest.approx(one(served(names.open).running) + 1.0)
    assert one(served(names.closed).costs.decode_seqs) == pytest.approx(4.0)
    assert isinstance(DecodeCurve(np.ones((1, 1)), np.ones((1, 1))).at(col(1.0)), np.ndarray)
