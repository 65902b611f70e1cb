"""Waits, rates and runs whose figures are worked out by hand from stated parts, and queues from their states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

import hwdb
from perfmodel import equations as eq
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimation.estimator import prepare
from perfmodel.models import model
from perfmodel.operators.step import Step
from perfmodel.serving.fixed_concurrency import client_batch, closed_loop
from perfmodel.serving.fixed_concurrency.closed_admission import place_queue
from perfmodel.serving.offline_batches import offline
from perfmodel.serving.open_loops import finite_run, open_loop, open_waits, prompt_delays
from perfmodel.serving.prefill_pool import PromptPool
from perfmodel.serving.queues.admission import admission_wait, chance_of_full
from perfmodel.serving.queues.variation import Variation
from perfmodel.serving.served import Gains, RequestTimes, Served, StepTimes, WaitShape
from perfmodel.serving.step_times.curve import DecodeCurve
from perfmodel.serving.step_times.mixed_steps import Between, MixedSteps
from perfmodel.serving.step_times.prefills import largest_group
from perfmodel.workload.load import Load, load_of
from perfmodel.workload.output_lengths import longest
from perfmodel.workload.workload import Workload

FRONT = 0.007
PLAIN = engine("generic").changed(request_time=FRONT)


def row(*values: float) -> np.ndarray:
    return np.array(values, float)


class Parts:
    """Stands for an object of which only the stated fields are used."""

    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


def loaded(columns: int, **fields: object) -> Load:
    """Return the load of prompts of 100 tokens and answers of 50, with other fields."""
    plain = load_of(Workload.from_lengths(100, 50, arrival="open", rate=1.0), columns)
    return replace(plain, **fields)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------- runs that end

#: A crowded run that waits for the backlog; one that waits longer by chance; a calm run; a calm one that would wait
#: less as a batch; one without end.
STEADY = Served(
    times=RequestTimes(
        ttft=np.zeros((1, 5)),
        tpot=row(0.02, 0.02, 0.02, 0.08, 0.08)[None],
        wait=row(1.0, 8.0, 1.0, 3.0, 0.7)[None],
        burst=np.zeros((1, 5)),
        prefill=np.full((1, 5), 0.3),
    ),
    steps=StepTimes(decode=np.full(5, 0.2), mixed=np.zeros(5), interference=np.zeros((1, 5))),
    costs=cast(Any, None),
    running=np.full(5, 8.0),
    rate=np.full(5, 2.0),
    saturated=np.zeros(5, bool),
    waits=WaitShape(
        uniform_share=0.25,
        queued=row(1.0, 8.0, 1.0, 3.0, 0.7),
        queued_by_rank=np.array(
            [
                [1.0, 8.0, 1.0, 3.0, 1.0],
                [2.0, 9.2, 2.0, 3.0, 2.0],
                [2.5, 9.5, 2.5, 3.0, 3.0],
                [3.0, 12.0, 3.0, 3.0, 4.0],
            ]
        ),
    ),
)
AT_ONCE = replace(
    STEADY,
    times=replace(STEADY.times, tpot=np.full((1, 5), 0.05), wait=row(6.0, 6.0, 6.0, 0.4, 9.0)[None]),
    rate=np.ones(5),
    waits=WaitShape(
        by_rank=np.array(
            [[5.0, 5.0, 5.0, 0.4, 1.0], [9.0, 9.0, 9.0, 0.8, 1.0], [9.5, 9.5, 9.5, 0.9, 1.0], [9.9, 9.9, 9.9, 1.0, 1.0]]
        )
    ),
)
#: As `AT_ONCE`, with requests that arrive within five seconds: the first two are late, the others are not.
CLOCK = replace(
    AT_ONCE,
    rate=row(1.0, 4.0, 4.0, 4.0, 4.0),
    times=replace(AT_ONCE.times, tpot=np.full((1, 5), 0.04), wait=row(6.0, 6.0, 2.5, 2.5, 2.5)[None]),
    waits=WaitShape(
        by_rank=np.array([[5.0, 5.0, 2.5, 2.5, 2.5], *([[9.0, 9.0, q * 5, q * 5, q * 5] for q in (0.9, 0.95, 0.99)])])
    ),
)
RUN = {"n_requests": row(10, 10, 10, 10, np.inf), "rate": np.full(5, 2.0)}


def ended(load_of_queue: float = np.nan, **fields: object) -> Served:
    """Return what becomes of `STEADY` as a run of ten requests, which arrive within five seconds."""
    steps = cast(Any, Parts(engine=PLAIN, request_time=lambda _prompt: FRONT))
    steady = replace(STEADY, gains=Gains(load=np.full(5, load_of_queue)))
    load, room = loaded(5, **{**RUN, **fields}), (np.full(5, 8.0), np.full(5, 0.3))  # ten do not run at once
    return finite_run.finite_run(steady, steps, load, (AT_ONCE, CLOCK), row(1.0, 0.0, 0.0, 0.25, 0.0), room)


def test_waits_of_runs_that_end() -> None:
    found = ended()
    # half a step, 0.1 s, for all but one of ten requests, and as a batch at most: 6 s; by chance 1, 8, 1, 3 s, and
    # late as the clock says, 6 s less the 2.5 s that the mean request arrives later, but no later than half of what the
    # batch of all takes longer than its requests take to arrive, 10 s less 5 s; without end, as a steady load
    late = 2.5
    wait = [(late + np.sqrt(late**2 + 4.0)) / 2.0, 6.09, 1.0, 0.49, 0.7]
    assert found.times.wait[0].tolist() == pytest.approx(wait)
    assert found.times.ttft[0].tolist() == pytest.approx([w + 0.3 + FRONT for w in wait])
    share = np.broadcast_to(found.waits.uniform_share, 5).tolist()
    assert share == pytest.approx([1.0 - 1.0 / wait[0], 0.0, 0.0, 0.0, 0.25], abs=1e-3)  # what is left waits by chance
    by_rank = np.asarray(found.waits.by_rank)
    # a request at rank q of a run arrives q * 5 s after the first one
    assert by_rank[:, 0].tolist() == pytest.approx([2.5, 4.5, 4.5, 4.5])
    assert (by_rank[:, 2] == 0.0).all()
    assert np.isnan(by_rank[:, 4]).all()
    queued = np.asarray(found.waits.queued_by_rank)
    assert queued[:, 1].tolist() == pytest.approx([5.0, 9.0, 9.5, 9.9])
    assert queued[:, 2].tolist() == pytest.approx([1.0, 2.0, 2.5, 3.0])
    assert queued[:, 3].tolist() == pytest.approx([0.4, 0.8, 0.9, 1.0])
    assert queued[:, 4].tolist() == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert np.asarray(found.waits.queued).tolist() == pytest.approx([1.0, 6.0, 1.0, 0.4, 0.7])


def test_rates_of_runs_that_end() -> None:
    found = ended(longest=np.full(5, 50.0))
    # what fills the replica meets what the clock says, no slower than the steady state; without end, as that
    tpot = [0.02, 0.02, 0.02, 0.25 * 0.04 + 0.75 * 0.08, 0.08]
    assert found.times.tpot[0].tolist() == pytest.approx(tpot)
    # as long as the clock says, or until the last request has arrived, has its prompt and 49 further tokens
    last = [10.0, *(5 + 0.3 + 49 * t for t in tpot[1:4])]
    assert found.rate.tolist() == pytest.approx([*(10 / seconds for seconds in last), 2.0])
    crowded = ended(4.0)  # three of four requests come beyond capacity
    assert crowded.times.tpot[0, 2] == pytest.approx(0.75 * 0.04 + 0.25 * 0.02)


@pytest.mark.parametrize(("cap", "count"), [(60.0, 10.0), (1e9, 10.0), (1e9, 4.0), (20.0, 10.0)])
def test_a_run_ends_with_its_longest_answer(cap: float, count: float) -> None:
    varied = {"length_cv": np.full(5, 1.0), "longest": np.full(5, cap), "n_requests": np.full(5, count)}
    found = ended(**varied)
    # the longest of those that run at once at the end, cut where answers are cut; a cut below the mean cuts nothing
    tokens = min(float(longest(row(50.0), row(1.0), row(min(8.0, count)))[0]), max(cap, 50.0))
    assert found.rate[2] == pytest.approx(count / (count / 2 + 0.3 + (tokens - 1.0) * 0.02))


def test_no_run_lasts_longer_than_one_that_all_arrives_last() -> None:
    load = loaded(5, **{**RUN, "length_cv": np.ones(5), "longest": np.full(5, 1e9)})
    for rate, within in ((1.0, 0.3 + 0.02 * 200.0), (4.0, 2.5)):  # ten requests at once take ten seconds, and 2.5
        runs = (replace(AT_ONCE, rate=np.full(5, rate)), CLOCK)
        after = finite_run._answered_after(STEADY, runs, load, np.full(5, 10.0), STEADY.times.tpot)
        assert 2.5 <= after[2] <= within


# -------------------------------------------------------------------------------- queues for admission


@pytest.mark.parametrize("places", [1, 2, 7, 40])
@pytest.mark.parametrize("load", [0.3, 0.8, 0.97])
@pytest.mark.parametrize("bend", [0.0, 0.5])
def test_waits_for_admission_are_those_of_the_states(places: int, load: float, bend: float) -> None:
    # completions a second with n running: n, or fewer than that where they slow each other down
    numbers = np.arange(1, places + 1, dtype=float)
    completed = numbers / (1.0 + bend * numbers / places)
    rate = load * completed[-1]
    states = np.concatenate([[1.0], np.cumprod(rate / completed)])  # of 0 to `places` requests, as a chain of births
    waiting = states[-1] * np.cumprod(np.full(3000, load))  # and of 1 to 3000 more
    exact = (waiting * np.arange(1, 3001)).sum() / (states.sum() + waiting.sum()) / rate
    one = np.ones(1)
    for variability in (1.0, 2.5):  # of exponential answers, and of such that vary by c^2 = 4
        answers = Variation(1.0, np.sqrt(2.0 * variability - 1.0))
        found = admission_wait(rate * one, numbers[:, None], completed[:, None], completed[-1] * one, answers)
        assert found[0] == pytest.approx(variability * exact, rel=0.02, abs=1e-4 / rate)
    full = completed[-1] * one
    assert np.isinf(admission_wait(full, numbers[:, None], completed[:, None], full)).all()


@pytest.mark.parametrize(
    ("places", "load"), [(3, 0.3), (9, 0.3), (500, 0.95), (500, 0.99), (16384, 0.05), (16384, 0.995)]
)
def test_few_knots_find_how_often_a_replica_is_full(places: int, load: float) -> None:
    # requests that slow each other down by a time linear in their number, known at five numbers alone
    numbers = np.arange(1, places + 1, dtype=float)
    completed = numbers / (1.0 + 3.0 * numbers / places)
    rate = load * completed[-1]
    logs = np.concatenate([[0.0], np.cumsum(np.log(rate / completed))])
    states = np.exp(logs - logs.max())
    knots = np.exp(np.linspace(0, 1, 5) * np.log(places))[:, None]
    found = chance_of_full(rate * np.ones(1), knots, knots / (1.0 + 3.0 * knots / places))
    assert found[0] == pytest.approx(states[-1] / states.sum(), rel=0.03, abs=1e-9)


# -------------------------------------------------------------------------------- closed loops


def batch(steps: Any = None, **fields: object) -> Any:
    """Return a batch of eight of twelve clients, in groups of two prompts that take 0.6 s."""
    usual: dict[str, Any] = {
        "steps": steps,
        "load": ONE,
        "clients": row(12.0),
        "running": row(8.0),
        "decoding": row(8.0),
        "group": row(2.0),
        "entering": row(1.0),
        "synchronised": row(0.5),
        "decode": Parts(wall=row(0.1)),
        "prefill": Parts(shared=row(0.4)[None], interference=row(0.3), mixed_step=row(0.25), cv=lambda _load: row(0.0)),
        "apart": Parts(shared=row(0.4)[None], mean_step=row(0.25), cv=lambda _load: row(0.0)),
        "grouped": Parts(alone=row(0.6)[None], mean_step=row(0.5), mixed_step=row(0.5)),
        "repeats": row(1.0),
        "token_time": row(0.1),
        "later_tokens": row(9.0),
        "planned": row(0.0),
        "ranks": row(1.0),
    }
    return client_batch.Batch(**{**usual, **fields})


def steps_of(**changes: object) -> Any:
    """Return steps of 207 tokens, of which seven decodes leave room for two prompts, and a front end of half a step."""
    return Parts(
        engine=PLAIN.changed(**changes),
        token_budget=row(207.0),
        sharding=Parts(pp=row(1.0), dp=row(1.0)),
        request_time=lambda _prompt: row(0.1)[None],
    )


MIXING, APART = steps_of(prefill_first=False), steps_of(prefill_first=True)
ONE = loaded(1)


def test_clients_beyond_the_batch_wait_for_those_ahead() -> None:
    def steady(clients: float, front: float) -> list[float]:
        found: list[float] = place_queue(ONE, (row(clients), row(8.0)), row(4.0), row(front)).steady.tolist()
        return found

    # four clients ahead; eight requests of 4 s end each half second; the front end works meanwhile
    assert steady(12.0, 0.5) == [1.5]
    assert steady(8.1, 0.5) == [0.0]
    assert steady(8.0, 0.0) == [0.0]


def test_equal_requests_wait_for_half_of_the_other_groups() -> None:
    # six of eight are in other groups, of 0.3 s per prompt: 0.9 s before the prompt, 0.9 s over nine tokens behind it
    tpot, wait = batch().lockstep
    assert (wait.tolist(), tpot.tolist()) == (pytest.approx([0.9]), pytest.approx([0.2]))
    tpot, wait = batch(running=row(1.0), later_tokens=row(0.0)).lockstep
    assert (wait.tolist(), tpot.tolist()) == ([0.0], [0.1])
    tpot, wait = batch(later_tokens=row(0.0)).lockstep
    assert tpot.tolist() == pytest.approx([0.1 + 0.9])


def test_prompts_of_the_own_group_delay_nobody_where_they_share_steps() -> None:
    # half of the loop moves in groups of two: one and a half prompts of eight are one's own
    assert batch(MIXING).others.tolist() == [6.5 / 8]
    assert batch(APART).others.tolist() == [7 / 8]


def test_tokens_and_prompts_of_a_loop_wait_for_prompts_of_others() -> None:
    rate, others = row(0.5), 7 / 8
    tpot, wait = closed_loop._steady_times(rate, batch(APART))
    assert tpot.tolist() == pytest.approx([0.1 / (1.0 - 0.5 * 0.3 * others)])
    # prompts take 0.5 * 0.4 * 7/8 = 17.5 % of the time, of which half in groups: M/D/1, then half a step
    share = 0.175 / 2
    assert wait.tolist() == pytest.approx([share * 0.4 / 2 / (1 - share) * others + 0.05])
    # two prompts a step halve the time that prompts take
    _, twice = closed_loop._steady_times(rate, batch(APART, entering=row(2.0)))
    assert twice.tolist() == pytest.approx([share / 2 * 0.4 / 2 / (1 - share / 2) * others + 0.05])


def test_no_token_of_a_loop_takes_longer_than_in_steps_that_all_carry_prompts() -> None:
    fast = closed_loop._steady_times(row(2.9), batch(MIXING))[0]
    assert fast.tolist() == pytest.approx([0.25])  # not 0.1 / (1 - 2.9 * 0.3 * 6.5 / 8) = 0.34
    again = closed_loop._steady_times(row(2.9), batch(MIXING, repeats=row(1.1)))[0]
    assert again.tolist() == pytest.approx([0.1 * (1.0 + 1.5 * 1.1)])
    slow = closed_loop._steady_times(row(0.1), batch(MIXING))[0]
    assert slow.tolist() == pytest.approx([0.1 / (1.0 - 0.03 * 6.5 / 8)])
    apart = closed_loop._steady_times(row(2.9), batch(APART))[0]
    assert apart.tolist() == pytest.approx([0.1 / (1.0 - 0.87 * 7 / 8)])  # where prompts stop decodes nothing bounds it


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_loop_waits_in_part_as_in_groups(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # which only bounds the sum of both
    monkeypatch.setattr(client_batch.Batch, "least_residence", property(lambda _: row(0.0)))
    those = batch(MIXING, synchronised=row(share))
    plain, waits = closed_loop._steady_times(row(0.1), those)
    tpot, wait, _ = closed_loop._times_at(row(0.1), those)
    # eight over groups of two are four groups: the last prompt waits for a whole step
    assert wait.tolist() == pytest.approx([share * 0.5 + (1 - share) * waits[0]])
    assert tpot.tolist() == plain.tolist()
    those = batch(APART, synchronised=row(share))
    plain, waits = closed_loop._steady_times(row(0.1), those)
    tpot, wait, _ = closed_loop._times_at(row(0.1), those)
    assert wait.tolist() == pytest.approx([share * 0.9 + (1 - share) * waits[0]])
    assert tpot.tolist() == pytest.approx([share * 0.2 + (1 - share) * plain[0]])


def test_a_group_fills_whole_steps_with_one_prompt_at_least_and_no_more_than_run() -> None:
    # a prompt of 1.04 or 5 steps: the next one fills what is left of the last step
    cases = ((1 / 5, 8.0, 1.0), (1 / 1.04, 8.0, 2 / 1.04), (3.0, 8.0, 3.0), (20.0, 8.0, 8.0), (3.0, 0.5, 1.0))
    for fitting, running, expected in cases:
        steps = Parts(
            engine=PLAIN,
            max_prompts_per_step=lambda _new, most=max(fitting, 1.0): row(most),
            token_budget=fitting * ONE.mean(ONE.new),
            sharding=Parts(pp=row(1.0), dp=row(1.0)),
        )
        assert largest_group(cast(Any, steps), ONE, row(running)).tolist() == pytest.approx([expected])


def test_few_prompts_per_step_vary_by_no_more_than_their_bounds_allow() -> None:
    line = MixedSteps(row(1.0)[None], row(0.1)[None], row(0.5)[None], row(1.0), row(1.9), separate=True)
    # one prompt or 1.9 of them: with a mean of 1.6, 0.6 * 0.3
    assert line.cv_squared(row(1.6), row(0.9), row(1.0))[0] == pytest.approx((0.5 / 0.9) ** 2 * 0.6 * 0.3)
    assert line.cv_squared(row(1.9), row(0.9), row(1.0))[0] == pytest.approx(0.0, abs=1e-12)


# -------------------------------------------------------------------------------- open loops

KNOTS = np.array([[1.0], [4.0], [8.0]])
CURVE = DecodeCurve(KNOTS, np.array([[0.1], [0.16], [0.2]]))


def replica(**fields: object) -> Any:
    usual = {
        "steps": APART,
        "load": loaded(1, rate=row(2.0)),
        "run_length": row(np.inf),
        "max_running": row(8.0),
        "curve": CURVE,
        "mixed": mixed(),
        "later_tokens": row(9.0),
        "prefills_per_request": row(1.25),
        "variation": Variation(row(1.0), row(0.0)),
        "full": row(1.0),
        "filling": row(0.0),
    }
    return Parts(**{**usual, **fields})


def point(**fields: object) -> Any:
    usual = {
        "running": row(3.0),
        "seen": row(4.0),
        "entering": row(2.0),
        "decode": Parts(wall=row(0.16)),
        "step": row(0.15),
        "prefill": Parts(shared=row(0.3)[None], interference=row(0.2), mixed_step=row(0.5), cv=lambda _load: row(0.5)),
    }
    return Parts(**{**usual, **fields})


def mixed(interference: float = 0.1) -> Any:
    """Return steps with prompts, each of which adds `interference` seconds where prompts come at random."""
    return Parts(
        met=lambda running, _step, _output: 0.1 * (running - 1.0),
        interference=lambda rate, _step, _running: np.full_like(rate, interference),
        between=lambda _rate, _step, _seen: Between(row(2.0), row(0.3), row(1.0 / 3.0), row(3.0)),
        per_prompt=lambda _seen: row(0.25),
        cv_squared=lambda _entering, _seconds, _seen: row(0.2),
        held=lambda _rate, _step, _seen: row(0.0),
        most=row(2.0),
        separate=True,
    )


def test_a_replica_completes_what_runs_over_the_time_that_it_takes() -> None:
    found = open_loop._throughput(replica(), point())
    # one running: 0.3 s for the prompt, nine tokens of 0.1 s, which prompts stretch that take 0.1 s each
    for running, decode, rate in zip((1, 4, 8), (0.9, 1.44, 1.8), found.completed[:, 0].tolist(), strict=True):
        assert rate * (0.3 + decode / (1 - 0.1 * rate)) == pytest.approx(running)
    # with a queue: prompts again in one of four, 0.7 s of others, which is more than where prompts come at random
    assert found.drain.tolist() == pytest.approx([8 / ((0.3 + 0.7) * 1.25 + 1.8)])
    clustered = open_loop._throughput(replica(mixed=mixed(interference=0.01)), point())
    rate = float(clustered.drain[0])  # prompts that enter together as they came take less
    assert rate * (0.3 * 1.25 + 1.8 / (1 - 0.01 * 1.25 * rate)) == pytest.approx(8)
    assert (found.rate.tolist(), found.saturated.tolist()) == ([2.0], [False])


@pytest.mark.parametrize(
    ("change", "of", "saturated"),
    [
        ({"load": loaded(1, rate=row(3.0))}, {}, True),  # more than 2.62 requests/s
        ({"load": loaded(1, rate=row(3.0)), "run_length": row(8.0)}, {}, False),  # all eight fit at once
        ({"load": loaded(1, rate=row(3.0)), "run_length": row(9.0)}, {}, True),
        # prompts take all the time, of a replica whose steps hold more of them once it is full, and at any number
        ({"run_length": row(5.0)}, {"prefill": Parts(shared=row(0.3)[None], interference=row(0.6))}, False),
        (
            {"run_length": row(5.0), "load": loaded(1, rate=row(3.0))},
            {"prefill": Parts(shared=row(0.3)[None], interference=row(0.6))},
            True,
        ),
    ],
)
def test_what_saturates_a_replica(change: dict[str, Any], of: dict[str, Any], saturated: bool) -> None:
    asked, at = replica(**change), point(**of)
    found = open_loop._throughput(asked, at)
    assert found.saturated.tolist() == [saturated]
    most = float(found.drain[0])
    assert found.rate[0] == (min(float(asked.load.rate[0]), most) if saturated else float(asked.load.rate[0]))


def test_an_arriving_prompt_waits_for_the_step_and_for_prompts_ahead() -> None:
    load = loaded(1, rate=row(2.0), cv=row(0.8))
    found = open_waits.prefill_wait(replica(load=load), point(), row(2.0))
    # steps of 0.3 s that vary, two prompts each, take 30 % of the time; a queue of 0.25 s per prompt is half full
    queue = 0.3 / 2 * (0.8**2 + 0.5**2) * (0.3 * (1 + 0.2) + 0.25 * 0.5 / (1 - 0.5))
    assert found.tolist() == pytest.approx([queue + 0.7 * (1 - np.exp(-3.0)) * 0.15 / 2])
    burst = loaded(1, rate=row(2.0), cv=row(1.5))
    few = open_waits.prefill_wait(replica(load=burst, run_length=row(2.0)), point(), row(2.0))
    assert few.tolist() == pytest.approx([2 * 0.3 / 2 / 2])  # no more prompts than the run has
    full = open_waits.prefill_wait(replica(load=load), point(entering=row(0.5)), row(2.0))
    assert full.tolist() == pytest.approx([queue / 0.3])  # never busier than always


def test_a_prompt_of_a_burst_waits_for_those_before_it_and_half_of_those_beside_it() -> None:
    asked = [open_waits.prefill_wait(replica(load=loaded(1, cv=row(c))), point(), row(2.0))[0] for c in (1.0, 1.5)]
    # the wait falls by e within 0.25 s * 1.5^2 / y, where y = ln(1 + y / 0.5) = 1.256
    before = 0.25 * 1.25 / 1.2564312
    beside = before / 0.25 * (1.0 - np.exp(-0.25 / before))  # of a step with two prompts
    assert asked[1] - asked[0] == pytest.approx(before + 0.25 * beside / 2)


def test_tokens_of_an_open_loop_meet_prompts_that_came_before() -> None:
    rates, busy = open_loop._throughput(replica(), point()), replica(prefills_per_request=row(3.0))
    found, spread = open_loop._tpot(busy, point(), rates, (row(0.6), row(0.0)))
    shape = spread()
    # a third of a step of 0.3 s between two decode steps takes 40 % of the time; three more steps follow its own
    met = (3.0 - 1.0 / 3.0) * 0.3 / 9
    assert found.tolist() == pytest.approx([0.15 / 0.6 + met])
    # those delay it once, however long its answer is; while a request waited 0.6 s and its prompt took 0.3 s, 1.8
    # others came, of whom half a prompt, on average, found place behind it in its own step of two: a Poisson number of
    # them, so that some requests meet none
    assert np.asarray(shape.settling).tolist() == pytest.approx([met * 9])
    assert np.asarray(shape.settling_share).tolist() == pytest.approx([1.0 - np.exp(-1.3)])
    assert np.asarray(shape.gain).tolist() == pytest.approx([1.0 / 0.6])
    assert np.isinf(shape.settling_most).all()  # prompts go first: all that queue fall into one gap
    # no more than a full replica: eight tokens of 0.2 s, beside the prompts of 2.62 requests/s
    most = 0.2 / (1 - float(rates.drain[0]) * 0.2)
    slow, spread = open_loop._tpot(busy, point(), rates, (row(60.0), row(0.0)))
    shape = spread()
    assert slow.tolist() == pytest.approx([most])
    assert np.asarray(shape.drift).tolist() == pytest.approx([0.0])  # nor does it drift beyond that
    lone = replica(later_tokens=row(0.0))
    short, _ = open_loop._tpot(lone, point(), rates, (row(0.3), row(0.0)))
    assert short.tolist() == pytest.approx([min(0.15 / 0.6 + 9 * met, most)])


def test_prompts_behind_take_no_less_than_in_full_steps_and_share_steps_with_decodes_else() -> None:
    queued = row(4.0), row(0.0)
    share, behind = prompt_delays.interrupted(replica(), point(), row(2.0), queued)
    assert (share.tolist(), behind.tolist()) == (pytest.approx([0.4]), pytest.approx([4.0 * 0.25 / (1 - 2 * 0.25)]))
    beside = mixed()
    beside.separate, beside.added = False, lambda _step, _entering, _seen: row(0.2)
    share, behind = prompt_delays.interrupted(replica(mixed=beside), point(), row(2.0), (row(1.3), row(0.5)))
    # prompts take 2 * 0.2 = 40 % of the time; nine steps of 0.25 s get longer by no more than 0.25 s each
    some = -np.expm1(-1.3)
    met = 1.3 * 0.2 / 0.6 * -np.expm1(-9 * 0.25 * some / (1.3 * 0.2 / 0.6))
    assert (share.tolist(), behind.tolist()) == (pytest.approx([0.4]), pytest.approx([met + 0.5 * 0.2 / 0.6]))
    short = replica(mixed=beside, later_tokens=row(1.0))
    _, behind = prompt_delays.interrupted(short, point(), row(2.0), (row(50.0), row(0.0)))
    assert behind.tolist() == pytest.approx([0.25], rel=0.02)  # one step, however many prompts are behind


@pytest.mark.parametrize("crowded", [0.0, 0.4, 1.0])
def test_no_request_meets_more_prompts_than_there_are_other_places(crowded: float) -> None:
    quick = replica(load=loaded(1, rate=row(20.0)))
    rates = open_loop._throughput(quick, point())
    slow, _ = open_loop._tpot(quick, point(), rates, (row(60.0), row(crowded)))
    # nine tokens of 0.2 s in a full replica, and 0.7 s of the prompts of others, one in four of them twice; of equal
    # requests that enter as others end, half are computed before one's own first token
    together = crowded * float(ONE.synchronised[0]) * APART.engine.synchronised
    assert slow.tolist() == pytest.approx([0.2 + 0.7 * 1.25 * (1.0 - together / 2.0) / 9.0])
    # where it takes eight requests longer to come, prompts that follow each other go on for as long
    few = replica(load=loaded(1, rate=row(5.0)))
    slow, _ = open_loop._tpot(few, point(), rates, (row(60.0), row(crowded)))
    lasting = max(0.7 * 1.25 * (1.0 - together / 2.0), 8.0 / 5.0 / 2.0)
    assert slow.tolist() == pytest.approx([0.2 + lasting / 9.0])


def test_a_step_that_prompts_share_with_decodes_brings_a_token_however_full_it_is() -> None:
    full = mixed()
    full.separate, full.at = False, lambda _running: (row(0.2), row(0.04))
    rates = open_loop._throughput(replica(), point())
    slow, _ = open_loop._tpot(replica(mixed=full), point(), rates, (row(60.0), row(1.0)))
    assert slow.tolist() == pytest.approx([0.2 + 2 * 0.04])


@pytest.mark.parametrize("cv", [1.5, 4.0])
def test_a_burst_brings_others_that_run_beside_a_request_and_prompts_that_delay_it(cv: float) -> None:
    those_of: dict[str, Any] = {"max_running": row(80.0), "later_tokens": row(60.0)}
    burst, calm = Variation(row(cv), row(0.0)), replica(**those_of)
    those = replica(**those_of, load=loaded(1, rate=row(2.0), cv=row(cv)), variation=burst)
    more = float(burst.peakedness(row(20.0))[0]) - 1.0
    seen, spread = open_loop._seen(those, row(20.0))
    assert more > 0.0
    assert seen.tolist() == pytest.approx([21.0 + more])
    assert spread.tolist() == pytest.approx([(20.0 + more) * (1.0 + more)])  # negative binomial: mean times variance
    assert [v.tolist() for v in open_loop._seen(calm, row(20.0))] == [[21.0], [20.0]]
    wide = point(step=row(0.05))
    rates = open_loop._throughput(replica(), wide)
    waits = row(0.1), row(0.0)
    late = float(eq.peakedness(2 * (0.3 + 0.1) + 3.0 - 0.2, cv)) - 1.0  # more prompts than usual
    those.mixed.added = lambda _step, _entering, _seen: row(0.2)
    times = [float(open_loop._tpot(r, wide, rates, waits)[0][0]) for r in (calm, those)]
    # beside decode steps of 50 ms, prompts take 0.1 s between two of them
    assert times[1] - times[0] == pytest.approx(late * 0.2 / 60 * (1.0 + 0.1 / 0.05))


def test_the_rest_of_a_burst_is_computed_together_where_prompts_go_first_or_few_steps_are_left() -> None:
    together, rest = mixed(), row(5.0)
    together.added = lambda _step, _entering, _seen: row(0.03)
    for separate, later, lost in ((True, 9.0, 5 * 0.03), (False, 9.0, 5 * 0.2), (False, 1.0, 5 * 0.03)):
        together.separate = separate
        those = replica(mixed=together, later_tokens=row(later))
        assert prompt_delays.lost_to_burst(those, point(), rest).tolist() == pytest.approx([lost])
    assert prompt_delays.lost_to_burst(replica(), point(), row(0.0)).tolist() == [0.0]


def test_runs_that_fit_never_queue_and_those_beyond_capacity_grow_instead() -> None:
    def queued(**fields: object) -> tuple[float, float, float]:
        those = replica(**fields)
        found = open_waits.queued_in_run(those, open_loop._throughput(those, point()), row(8.0))
        return float(found[0][0]), float(found[1][0]), float(found[2][0])

    mean, steady, noise = queued()
    rates = open_loop._throughput(replica(), point())
    exact = admission_wait(row(2.0), KNOTS, rates.completed, rates.drain, Variation(1.0, 0.0))
    assert mean == steady == pytest.approx(exact[0])  # answers do not vary: half of (1 + 0)
    assert noise == np.inf
    assert queued(run_length=row(8.0)) == (0.0, 0.0, 0.0)
    mean, steady, noise = queued(run_length=row(58.0))
    # fifty requests more than fit, of fifty-eight
    assert noise == pytest.approx(np.sqrt(50) / 2.0)
    assert steady == pytest.approx(exact[0])
    assert 0.0 < mean < steady
    assert queued(load=loaded(1, rate=row(3.0)))[:2] == (0.0, 0.0)  # told apart: its wait has no end
    mean, steady, _ = queued(load=loaded(1, rate=row(3.0)), run_length=row(58.0))
    assert steady == np.inf
    assert np.isfinite(mean)


# -------------------------------------------------------------------------------- pools of prompts


@pytest.mark.parametrize("cv", [0.5, 1.0])
@pytest.mark.parametrize("busy", [0.2, 0.5, 0.9])
def test_one_worker_waits_by_the_squares_of_the_spreads(cv: float, busy: float) -> None:
    # prompts of one second, one by one, of one length: u / (1 - u) * (c_a^2 + 0) / 2 (Kingman)
    one = np.ones((1, 1))
    pool = PromptPool(row(1.0), one, one, one, row(0.0), cast(Any, None), one)
    assert pool.wait(row(busy), arrival_cv=row(cv))[0] == pytest.approx(busy / (1.0 - busy) * cv**2 / 2.0)


@pytest.mark.parametrize("workers", [1.0, 4.0])
@pytest.mark.parametrize(("busy", "cv"), [(0.15, 6.0), (0.5, 3.0), (0.8, 2.0)])
def test_workers_share_the_wait_of_a_burst(busy: float, cv: float, workers: float) -> None:
    one = np.ones((1, 1))
    pool = PromptPool(row(workers), one, one, one, row(0.0), cast(Any, None), one)
    calm, burst = (pool.wait(row(busy * workers), arrival_cv=row(c))[0] for c in (1.0, cv))
    alone = PromptPool(row(1.0), one, one, one, row(0.0), cast(Any, None), one)
    once = alone.wait(row(busy), arrival_cv=row(cv))[0] - alone.wait(row(busy))[0]
    assert burst - calm == pytest.approx(once / workers)


# -------------------------------------------------------------------------------- steps under a power limit


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize(
    "step", [Step(prefill_tokens=4000.0, prefill_seqs=1.0), Step(decode_seqs=200.0)], ids=["p", "d"]
)
def test_a_power_limit_slows_arithmetic_and_memory_and_no_link(tp: int, step: Step) -> None:
    def priced(cap: float) -> Any:
        placed = deployments([hwdb.device("h100-sxm")], tp=tp, power_cap=cap)
        return prepare(model("llama-3.1-8b"), placed, PLAIN, Roofline(), loaded(1)).steps.price(step)

    free, limited = priced(np.nan), priced(300.0)
    for cost in (free, limited):  # the parts by what bounds them are the whole
        assert np.ravel(cost.bound.sum(axis=0))[0] == pytest.approx(np.ravel(cost.time)[0])
    assert np.ravel(limited.time)[0] >= np.ravel(free.time)[0]
    np.testing.assert_allclose(limited.bound[2:], free.bound[2:])
    inside, before = limited.bound[:2], free.bound[:2]
    assert np.ravel(inside.sum(axis=0) - before.sum(axis=0))[0] == pytest.approx(np.ravel(limited.time - free.time)[0])
    if step.decode_seqs == 0.0:
        assert np.ravel(limited.time)[0] > 1.05 * np.ravel(free.time)[0]


# -------------------------------------------------------------------------------- batches and graphs


def test_prompts_fill_whole_steps_beside_the_decodes() -> None:
    def group(budget: float, running: float) -> float:
        one = Parts(pp=row(1.0), dp=row(1.0))
        steps = cast(Any, Parts(engine=MIXING.engine, token_budget=row(budget), sharding=one))
        return float(offline._whole_group(steps, ONE, row(running))[0])

    assert group(909.0, 10.0) == 9.0  # prompts of 100 tokens; the nine others take a token each
    assert group(900.0, 301.0) == 6.0
    assert group(150.0, 1.0) == 1.0  # no more than run
    assert group(150.0, 9.0) == pytest.approx(2 * 1.42)  # 142 tokens: two steps hold two prompts and more
    assert group(80.0, 9.0) == pytest.approx(3 * 0.72)  # three steps of 72 tokens
    assert group(15.0, 9.0) == pytest.approx(29 * 0.07)  # 29 of 7 tokens, for two prompts


def test_an_answer_of_one_token_takes_a_step_that_yields_nothing_more() -> None:
    def mean(tokens: float, accepted: float) -> float:
        asked = loaded(1, output=row(tokens)[None], accepted=row(accepted), longest=row(81.0))
        found = offline._output_lengths(asked)
        assert found.longest.tolist() == [80.0 / accepted]
        return float(found.mean[0, 0])

    assert [mean(41.0, 1.0), mean(41.0, 2.5), mean(1.0, 1.0), mean(1.5, 1.0)] == [40.0, 16.0, 1.0, 1.0]


def test_the_middle_of_a_batch_is_as_full_as_littles_law_says() -> None:
    prefill = cast(Any, Parts(shared=row(0.3)[None], interference=row(0.2)))
    found = offline._steady_state(ONE, row(8.0), CURVE, prefill, (row(9.0)[None], row(1.25)))
    rate = 1.0 / float(found.request_gap[0])
    stall = 0.2 * 1.25 * 7 / 8  # of one prompt, for seven of eight
    tpot = 0.2 / (1.0 - rate * stall)
    assert found.tpot.tolist() == pytest.approx([tpot])
    assert rate * (0.3 * 1.25 + 9.0 * tpot) == pytest.approx(8.0)  # eight are in it at a time
    assert (found.running.tolist(), found.step.tolist()) == ([8.0], [0.2])


@pytest.mark.parametrize("dp", [1.0, 2.0])
def test_steps_are_replayed_up_to_the_largest_captured_batch_of_a_rank(dp: float) -> None:
    placed = deployments([hwdb.device("h100-sxm")], dp=dp)
    own = engine("vllm").changed(graph_seqs=256.0)
    plain = prepare(model("llama-3.1-8b"), placed, own, Roofline(), loaded(1)).steps
    for given, most in ((None, 256.0), (row(64.0), 64.0)):
        steps = replace(plain, graph_seqs=given)
        assert [bool(steps.captured(row(n * dp))[0]) for n in (1.0, most, most + 1.0)] == [True, True, False]
