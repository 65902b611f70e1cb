"""Answers that one process beside the engine streams: against queues counted by hand and the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
from perfmodel import simulator
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.engines.spec import Engine
from perfmodel.estimates.estimation.estimator import Estimates, estimate_load
from perfmodel.models import model
from perfmodel.simulator import Policy, Pool, StepTable, run
from perfmodel.simulator.request_traffic.requests import traffic
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload

LLAMA = model("llama-3.1-8b")
PLACED = deployments([hwdb.device("h200-sxm")], tp=8, weight="fp8")
#: Groups of a closed loop stay together, as they do in the simulator where all lengths are equal.
SGLANG = engine("sglang").changed(synchronised=1.0)
EACH = SGLANG.streaming_token
lengths = Workload.from_lengths


def found(work: Workload, by: Engine = SGLANG, together: float = 0.0) -> Estimates:
    load = replace(load_of(work, 1), synchronised=np.full(1, together))
    return estimate_load(LLAMA, load, PLACED, engine=by)


def played(work: Workload, by: Engine = SGLANG, count: int = 0) -> dict[str, float]:
    return simulator.summary(simulator.simulate(LLAMA, PLACED, work, engine=by, seed=1, count=count))


def one(value: object) -> float:
    return float(np.ravel(np.asarray(value))[0])


def test_tokens_queue_for_the_process_and_steps_do_not_wait() -> None:
    # four requests at once: a step of prompts of 10 ms, then two of decodes, whose tokens take 3 ms each to stream
    table = StepTable.affine(10e-3, per_token=0.0, per_seq=0.0, per_key=0.0, per_context=0.0)
    policy = Policy(prefill_first=True, streaming_token=3e-3)
    pool = Pool(table=table, policy=policy, kv_tokens=100_000)
    asked = traffic([100] * 4, [3] * 4, arrival=np.zeros(4))
    result = run(asked, pool)
    # batches of 12 ms are out 22, 34 and 46 ms after the start, and each token in the middle of its batch on average
    np.testing.assert_allclose(result.first, 16e-3)
    np.testing.assert_allclose(result.finish, 40e-3)
    free = run(asked, Pool(table=table, policy=Policy(prefill_first=True), kv_tokens=100_000))
    np.testing.assert_allclose(free.first, 10e-3)
    np.testing.assert_allclose(free.finish, 30e-3)


@pytest.mark.parametrize("rate", [5.0, 15.0, 20.0])
def test_an_open_loop_that_the_process_keeps_up_with_is_as_fast_as_without(rate: float) -> None:
    work = lengths(1000, 1000, rate=rate, n_requests=500, arrival="open")
    free = found(work, SGLANG.changed(streaming_token=0.0))
    assert one(found(work).tpot) == pytest.approx(one(free.tpot), rel=0.01)
    assert one(found(work).ttft) == pytest.approx(one(free.ttft), rel=0.01)


@pytest.mark.parametrize("rate", [24.0, 30.0, 40.0, 60.0])
def test_tokens_of_a_run_that_makes_more_than_the_process_streams_are_as_late_as_replayed(rate: float) -> None:
    work = lengths(1000, 1000, rate=rate, n_requests=1500, arrival="open")
    estimated, replayed = found(work), played(work, count=1500)
    assert one(estimated.tpot) * 1e3 == pytest.approx(replayed["tpot_ms"], rel=0.1)
    assert one(estimated.e2e) * 1e3 == pytest.approx(replayed["e2e_ms"], rel=0.2)
    assert bool(estimated.saturated[0])


def test_a_load_without_end_waits_for_ever_where_the_process_is_too_slow() -> None:
    slow, fast = (found(lengths(1000, 1000, rate=share / EACH / 1000.0, arrival="open")) for share in (1.05, 0.9))
    assert np.isinf(one(slow.ttft))
    assert bool(slow.saturated[0])
    assert one(slow.request_rate) == pytest.approx(1.0 / EACH / 1000.0)
    assert one(fast.ttft) < 1.0
    assert not fast.saturated[0]


@pytest.mark.parametrize("answer", [300, 1000])
def test_clients_that_stay_together_get_tokens_at_the_pace_of_the_process_as_replayed(answer: int) -> None:
    work = lengths(1000, answer, concurrency=512)
    estimated, replayed = found(work, together=1.0), played(work)
    assert one(estimated.tpot) > 512 * EACH * 0.99
    for name, value in (("tpot_ms", estimated.tpot), ("ttft_ms", estimated.ttft), ("e2e_ms", estimated.e2e)):
        assert one(value) * 1e3 == pytest.approx(replayed[name], rel=0.1), name


def mixed(clients: float) -> Workload:
    """Answers of several lengths, whose clients come and go."""
    return lengths([1000] * 4, [200, 600, 1200, 2000], share=[0.25] * 4, concurrency=clients)


def test_clients_that_come_and_go_wait_for_the_first_token_and_not_for_the_rest_as_replayed() -> None:
    estimated, replayed = found(mixed(512)), played(mixed(512))
    free = found(mixed(512), SGLANG.changed(streaming_token=0.0))
    assert estimated.mean(estimated.tpot)[0] < free.mean(free.tpot)[0] < 512 * EACH
    assert estimated.mean(estimated.ttft)[0] > 3.0 * free.mean(free.ttft)[0]
    assert one(estimated.request_rate) * 1000.0 == pytest.approx(1.0 / EACH, rel=0.01)
    for name, value in (("tpot_ms", estimated.tpot), ("ttft_ms", estimated.ttft), ("e2e_ms", estimated.e2e)):
        assert one(estimated.mean(value)) * 1e3 == pytest.approx(replayed[name], rel=0.2), name


def test_more_clients_are_never_served_less_by_the_process() -> None:
    several = [found(mixed(n)) for n in range(200, 700, 20)]
    rates = np.array([one(e.request_rate) for e in several])
    assert (np.diff(rates) >= -1e-9 * rates[1:]).all()
    assert (np.diff([float(e.mean(e.e2e)[0]) for e in several]) > 0.0).all()


@pytest.mark.parametrize("answer", [300, 1000, 3000])
@pytest.mark.parametrize("rate", [100.0, 1e4])
def test_no_run_is_over_before_its_tokens_are_streamed(answer: int, rate: float) -> None:
    ended = found(lengths(1000, answer, rate=rate, n_requests=1000, arrival="open"))
    assert 0.5 / EACH < one(ended.request_rate) * answer <= 1.0 / EACH


@pytest.mark.parametrize("rate", [30.0, 60.0])
def test_short_answers_of_a_run_find_less_of_the_queue_than_long_ones(rate: float) -> None:
    work = lengths([1000] * 4, [200, 600, 1200, 2000], share=[0.25] * 4, rate=rate, n_requests=1000, arrival="open")
    estimated, replayed = found(work), played(work, count=1000)
    free = found(work, SGLANG.changed(streaming_token=0.0))
    later = (estimated.tpot - free.tpot)[:, 0] * np.array([199.0, 599.0, 1199.0, 1999.0])
    assert later[0] < later[2]
    for name, value, within in (("tpot_ms", estimated.tpot, 0.15), ("e2e_ms", estimated.e2e, 0.1)):
        assert one(estimated.mean(value)) * 1e3 == pytest.approx(replayed[name], rel=within), name
    assert one(estimated.request_rate) == pytest.approx(replayed["request_rate_rps"], rel=0.15)
