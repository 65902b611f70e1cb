"""Engines that a program runs in its own process: their limits, their host time, and the published runs of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hwdb
from hwdb import InputError
from perfmodel import predict, simulator
from perfmodel.cases.publications import setups
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.engines import engine
from perfmodel.engines.reader import FOLDER, load_engine
from perfmodel.engines.spec import Engine
from perfmodel.estimates.estimation.estimator import estimate, prepare
from perfmodel.models import model
from perfmodel.workload import Workload, load_of

H100 = [hwdb.device("h100-sxm")]
LLAMA = model("llama-3.1-8b")
TAKEN_IN = engine("vllm", "0.7.3").changed(step_host_per_prompt=0.05)
PLAIN = engine("vllm", "0.7.3")


def one(values: object) -> float:
    return float(np.ravel(np.asarray(values))[0])


@pytest.mark.parametrize("version", ["0.9.0", "0.20.1"])
def test_no_server_sets_the_limits(version: str) -> None:
    served, inside = engine("vllm", version), engine("vllm", version).embedded()
    for device in [*H100, hwdb.device("rtx-4090")]:
        assert served.limits(device).max_num_seqs > inside.limits(device).max_num_seqs == 128
        assert inside.limits(device).max_num_batched_tokens == 2048
    assert inside.request_time < served.request_time
    assert not inside.seqs_stated


def test_one_process_takes_in_requests_and_streams_tokens() -> None:
    inside = PLAIN.embedded()
    assert inside.front_end_token > PLAIN.front_end_token == 0.0
    # all that the process does for a request is within its steps
    assert inside.request_time == inside.tokenize_time == 0.0
    assert 0.0 < inside.step_host_per_prompt < PLAIN.request_time


def test_an_engine_of_which_nothing_is_known_stays_as_it_is() -> None:
    assert engine("sglang").embedded() == engine("sglang")


def test_settings_in_a_process_are_settings_with_sources(tmp_path: Path) -> None:
    text = (FOLDER / "vllm-v0.toml").read_text(encoding="utf-8")
    for found, told in (('kind = "fitted"', 'kind = "guessed"'), ("front_end_us_per_token", "front_end")):
        begin, table, rest = text.partition("[in_process]")
        path = tmp_path / "mine.toml"
        path.write_text(begin + table + rest.replace(found, told), encoding="utf-8")
        with pytest.raises(InputError, match=told.split('"')[-2] if '"' in told else told):
            load_engine(path)


# -------------------------------------------------------------------------------- host time per prompt


def wall(runs: Engine, prompts: float, decoding: float) -> float:
    """Seconds of a step of some prompts, or of one of decodes."""
    demand = load_of(Workload.from_lengths(500, 100, rate=1.0), 1)
    steps = prepare(LLAMA, deployments(H100), runs, Roofline(), demand).steps
    if decoding:
        return one(steps.decode(np.array([decoding]), np.array([500.0]), np.zeros(1))[1])
    return one(steps.prefill(np.array([[500.0]]), np.zeros((1, 1)), np.array([prompts]))[2])


@pytest.mark.parametrize("prompts", [1.0, 3.0])
def test_each_prompt_of_a_step_takes_its_time(prompts: float) -> None:
    assert wall(TAKEN_IN, prompts, 0.0) - wall(PLAIN, prompts, 0.0) == pytest.approx(0.05 * prompts, rel=1e-6)


def test_steps_without_prompts_take_none() -> None:
    assert wall(TAKEN_IN, 0.0, 9.0) == pytest.approx(wall(PLAIN, 0.0, 9.0))


@pytest.mark.parametrize("rate", [0.1, 4.0])
def test_the_simulator_takes_requests_in_alike(rate: float) -> None:
    work = Workload.from_lengths(500, 100, rate=rate)
    longer, truth = [], []
    for runs in (PLAIN, TAKEN_IN):
        longer.append(one(estimate(LLAMA, work, deployments(H100), engine=runs, costs=Roofline()).ttft))
        found = simulator.simulate(LLAMA, deployments(H100), work, engine=runs, count=1500, costs=Roofline())
        truth.append(simulator.summary(found)["ttft_ms"] / 1e3)
    assert truth[1] - truth[0] >= 0.049
    assert longer[1] - longer[0] == pytest.approx(truth[1] - truth[0], rel=0.1)


@pytest.mark.parametrize("more", [{}, {"overlap_scheduling": True}])
def test_a_prompt_in_pieces_is_taken_in_once(more: dict[str, bool]) -> None:
    work = Workload.from_lengths(2000, 50, rate=0.1)
    later, truth = [], []
    for runs in (PLAIN.changed(**more), TAKEN_IN.changed(**more, step_host_per_prompt=0.5)):
        pieces = runs.changed(chunked_prefill=True, prefill_first=False, max_num_batched_tokens=500)
        later.append(one(estimate(LLAMA, work, deployments(H100), engine=pieces, costs=Roofline()).ttft))
        found = simulator.simulate(LLAMA, deployments(H100), work, engine=pieces, count=300, costs=Roofline())
        truth.append(simulator.summary(found)["ttft_ms_p50"] / 1e3)
    if more:  # behind what the device does
        assert 0.4 < truth[1] - truth[0] < 0.5
    else:
        assert truth[1] - truth[0] == pytest.approx(0.5, rel=0.05)
        assert later[1] - later[0] == pytest.approx(0.5, rel=0.1)


# -------------------------------------------------------------------------------- tokens handed on a step later

LATE = TAKEN_IN.changed(hands_on_late=True, request_time=0.0, tokenize_time=0.0)
SOON = LATE.changed(hands_on_late=False)


@pytest.mark.parametrize(
    "load", [{"rate": 0.1}, {"rate": 4.0}, {"concurrency": 1, "arrival": "single"}, {"concurrency": 1}]
)
def test_a_first_token_comes_a_step_later_in_both(load: dict[str, object]) -> None:
    work = Workload.from_lengths(500, 100, **load)
    found = {}
    for late, runs in ((True, LATE), (False, SOON)):
        found[late] = estimate(LLAMA, work, deployments(H100), engine=runs, costs=Roofline())
    step = one(found[True].latency.step)
    if "concurrency" not in load:  # prompts that came meanwhile are computed first
        assert step <= one(found[True].ttft) - one(found[False].ttft) < one(found[True].latency.prefill)
    played = simulator.simulate(LLAMA, deployments(H100), work, engine=LATE, count=1500, costs=Roofline())
    assert one(found[True].ttft) == pytest.approx(simulator.summary(played)["ttft_ms"] / 1e3, rel=0.06)


@pytest.mark.parametrize("arrival", ["closed", "single", "static"])
@pytest.mark.parametrize("tokens", [1, 2, 8])
def test_a_lone_client_gets_the_last_token_at_once(tokens: int, arrival: str) -> None:
    """No step follows it, so that the client asks again as early as one of any other engine does."""
    work = Workload.from_lengths(500, tokens, concurrency=1, arrival=arrival)
    found = {
        late: estimate(LLAMA, work, deployments(H100), engine=LATE.changed(hands_on_late=late), costs=Roofline())
        for late in (True, False)
    }
    assert one(found[True].request_rate) == pytest.approx(one(found[False].request_rate), rel=1e-3)
    later = one(found[True].ttft) - one(found[False].ttft)
    assert later == pytest.approx(0.0 if tokens == 1 else one(found[True].latency.step))
    if arrival != "static":
        played = simulator.simulate(LLAMA, deployments(H100), work, engine=LATE, count=200, costs=Roofline())
        assert one(found[True].ttft) == pytest.approx(simulator.summary(played)["ttft_ms"] / 1e3, rel=0.02)


def test_a_longer_prompt_is_taken_in_as_one() -> None:
    """What is done once per prompt spreads no percentile, however prompts vary in length."""
    tail = []
    for runs in (PLAIN, TAKEN_IN):
        work = Workload.from_lengths(500, 100, rate=0.1, isl_dist="trace")
        found = estimate(LLAMA, work, deployments(H100), engine=runs, costs=Roofline())
        tail.append(one(found.quantile("ttft", "p99") - found.quantile("ttft", "p50")))
    assert tail[1] == pytest.approx(tail[0], abs=0.005)


# -------------------------------------------------------------------------------- published runs


def rows(**columns: object) -> pd.DataFrame:
    given = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "device": "a100-sxm-80gb",
        "n_devices": 1,
        "engine": "vllm",
        "engine_version": "0.20.1",
        "isl": 245,
        "osl": 354,
        **columns,
    }
    return pd.DataFrame([given])


def test_runs_of_a_load_generator_that_holds_the_engine_have_its_limits() -> None:
    published_run = predict(rows(request_rate_rps=20.0, n_requests=300, dataset="accelmark"))
    stated = rows(request_rate_rps=20.0, n_requests=300, max_num_seqs=128, max_num_batched_tokens=2048)
    other, plain = predict(stated), predict(rows(request_rate_rps=20.0, n_requests=300))
    assert one(published_run.ttft_ms_p90) == pytest.approx(one(other.ttft_ms_p90), rel=0.01)
    assert one(published_run.ttft_ms_p90) > 2 * one(plain.ttft_ms_p90)


def test_its_batch_use_is_that_of_any_other() -> None:
    offline = [predict(rows(n_requests=300, mode="offline", **more)) for more in ({"dataset": "accelmark"}, {})]
    assert one(offline[0].output_tok_s) == one(offline[1].output_tok_s)


def test_bursts_of_a_publication_are_those_of_its_load_generator() -> None:
    (cv,) = [one.columns["cv"] for one in setups() if one.dataset == "spark_djangodevreng" and "cv" in one.columns]
    assert cv == pytest.approx(0.7**-0.5, rel=1e-3)
    runs = {"request_rate_rps": 9.0, "engine_version": "0.26.0"}
    told = one(predict(rows(**runs, dataset="spark_djangodevreng")).ttft_ms_p99)
    assert told == one(predict(rows(**runs, cv=cv)).ttft_ms_p99)
    assert told > one(predict(rows(**runs)).ttft_ms_p99)
    # what a row states is not overruled
    assert one(predict(rows(**runs, cv=1.0, dataset="spark_djangodevreng")).ttft_ms_p99) < told
