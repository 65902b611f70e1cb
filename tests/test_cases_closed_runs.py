"""Closed loops with an end: beside places that are played one by one, the simulator, and what publications state."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hwdb
import perfmodel
from hwdb import InputError
from perfmodel import predict, simulator
from perfmodel.cases import publications
from perfmodel.cases.closed_runs import idle_at_end, timed_rounds
from perfmodel.workload import Workload, load_of

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
RATES = ("req_s", "output_tok_s", "total_tok_s")


def row(**columns: object) -> dict[str, object]:
    given = {"model": MODEL, "device": "h100-sxm", "n_devices": 1, "engine": "vllm", "isl": 1024, "osl": 512}
    return {**given, "mode": "closed", "concurrency": 32, **columns}


def asked(*rows: dict[str, object]) -> pd.DataFrame:
    found = predict(pd.DataFrame(list(rows)))
    assert found["error"].tolist() == [""] * len(rows)
    return found


# -------------------------------------------------------------------------------- the end of a run


def played(places: int, requests: int, lengths: Callable[[int], np.ndarray], runs: int = 200) -> float:
    """Return how long a place stands empty at the end of a run, in mean lengths; a free one takes the next request."""
    idle = []
    for _ in range(runs):
        drawn = lengths(requests)
        ends = list(drawn[:places])
        heapq.heapify(ends)
        for length in drawn[places:]:
            heapq.heapreplace(ends, ends[0] + length)
        idle.append(max(ends) - np.mean(ends))
    return float(np.mean(idle))


def idle(places: int, rounds: float, cv: float, *, whole: bool = True) -> float:
    load = load_of(Workload.from_lengths(100, 100, concurrency=places), 1, rounds)
    return float(idle_at_end(replace(load, length_cv=np.full(1, cv)), whole_rounds=np.array([whole]))[0])


@pytest.mark.parametrize(("places", "rounds"), [(4, 1), (4, 10), (16, 5), (64, 1), (64, 10), (64, 40)])
def test_places_stand_empty_at_the_end_as_long_as_those_that_are_played(places: int, rounds: int) -> None:
    draw = np.random.default_rng(places + rounds)
    uniform = played(places, places * rounds, lambda n: draw.uniform(0.8, 1.0, n) / 0.9)
    weibull = played(places, places * rounds, lambda n: draw.weibull(0.75**-1.086, n) / 0.917)
    assert idle(places, rounds, 0.064) == pytest.approx(uniform, rel=0.3, abs=0.05)
    assert idle(places, rounds, 0.75) == pytest.approx(weibull, rel=0.3)


@pytest.mark.parametrize("requests", [30, 32, 50, 64])
def test_equal_answers_leave_the_rest_of_the_last_round_empty(requests: int) -> None:
    exact = played(16, requests, lambda n: np.ones(n), runs=1)
    assert idle(16, requests / 16, 0.0) == pytest.approx(exact)


def test_one_place_is_never_empty_and_a_loop_without_end_has_none() -> None:
    assert idle(1, 10, 0.75) == idle(64, 10, 0.0) == 0.0
    found = asked(row(isl_dist="trace", warmup_requests=32), row(isl_dist="trace", n_requests=32e9))
    np.testing.assert_allclose(found[list(RATES)].iloc[0], found[list(RATES)].iloc[1], rtol=1e-6)


@pytest.mark.parametrize("spread", ["fixed", "uniform:0.8-1.0", "trace"])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "llamacpp"])
def test_longer_runs_have_higher_rates_and_the_same_tokens(spread: str, engine: str) -> None:
    counts = [64, 128, 320, 3200, 3.2e6]
    found = asked(*(row(isl_dist=spread, engine=engine, n_requests=n) for n in counts))
    for rate in RATES:
        assert np.all(np.diff(found[rate]) >= -1e-9 * found[rate].iloc[0])
    assert found["tpot_ms"].tolist() == [found["tpot_ms"].iloc[0]] * len(counts)
    assert found["req_s"].iloc[-1] * 512 == pytest.approx(found["output_tok_s"].iloc[-1])


def test_the_rate_of_a_run_is_that_of_the_simulator() -> None:
    """32 and 128 clients, five requests each, answers uniform in 0.8 to 1.0 of the longest."""
    spec, place = perfmodel.model(MODEL), perfmodel.deployments([hwdb.device("h100-sxm")])
    draw = np.random.default_rng(5)
    for clients in (32, 128):
        run, long = 5 * clients, 50 * clients
        share = []
        for count in (run, run, run, long):
            tokens = [draw.integers(int(0.8889 * n), int(1.1111 * n), count) for n in (1024, 512)]
            replay = simulator.simulate(spec, place, simulator.traffic(*tokens, concurrency=clients), engine="vllm")
            share.append(count / replay.finish.max())
        ended = np.mean(share[:3]) / share[3]
        loop = {"concurrency": clients, "isl_dist": "uniform:0.8-1.0"}
        found = asked(row(**loop, n_requests=run), row(**loop, n_requests=long))["output_tok_s"]
        assert found[0] / found[1] == pytest.approx(ended, abs=0.02)
        assert ended < 0.99


def test_the_recipe_of_estimate_answers_for_the_middle_of_a_run() -> None:
    ended, plain, endless = asked(
        row(isl_dist="trace"),
        row(isl_dist="trace", recipe="default"),
        row(isl_dist="trace", recipe="default", n_requests=3.2e9),
    ).to_dict("records")
    assert ended["ttft_ms"] == plain["ttft_ms"] > endless["ttft_ms"]
    assert ended["output_tok_s"] < 0.95 * plain["output_tok_s"] <= endless["output_tok_s"]
    few, many = asked(*(row(recipe="default", n_requests=n) for n in (16, 32)))["tpot_ms"]
    assert few == many == asked(row(recipe="default"))["tpot_ms"][0]


# -------------------------------------------------------------------------------- few requests, and a stated time


def test_no_more_requests_than_clients_are_a_batch() -> None:
    """All are sent at the start: their tokens meet no later prompts, and the clients that have none do not matter."""
    limits = {"recipe": "published", "max_num_batched_tokens": 8192, "max_num_seqs": 1024}
    batch = row(mode="offline", concurrency=None, n_requests=32, **limits)
    closed, wide, batch = asked(
        row(n_requests=32, **limits), row(concurrency=64, n_requests=32, **limits), batch
    ).to_dict("records")
    for column in ("ttft_ms", "tpot_ms", "output_tok_s", "ttft_ms_p99"):
        assert closed[column] == pytest.approx(batch[column], rel=1e-12)
        assert wide[column] == pytest.approx(batch[column], rel=1e-12)


def test_clients_of_a_server_meet_its_limits_and_its_parallelism_also_where_they_send_once() -> None:
    """vLLM's server takes 8,192 tokens per step on an H100, its `LLM` 16,384; loops share layers over devices."""
    run = row(n_requests=32, isl=2048)
    stated, once, timed, library = asked(
        {**run, "max_num_batched_tokens": 8192},
        run,
        row(duration_s=0.1, isl=2048),
        {**run, "mode": "offline", "concurrency": None},
    )["ttft_ms"]
    assert stated == once == timed < 0.95 * library
    wide = asked(row(n_devices=8, n_requests=32), row(n_devices=8, n_requests=32, tp=8))["tpot_ms"]
    assert wide[0] == wide[1]


def test_requests_that_are_sent_at_a_lower_rate_than_clients_would_are_an_open_loop() -> None:
    """`vllm bench serve --request-rate 2 --max-concurrency 32` never has 32 requests in flight where 4 are enough."""
    clients = row(n_requests=3000)
    full = asked(clients)["req_s"][0]
    rates = [0.2 * full, 0.5 * full, 0.9 * full, 2 * full, 1e9]
    found = asked(*(row(n_requests=3000, request_rate_rps=r) for r in rates))
    open_loop = asked(
        *(
            row(mode="open", concurrency=None, n_requests=3000, request_rate_rps=r, recipe="published")
            for r in rates[:3]
        )
    )
    for column in ("ttft_ms", "tpot_ms", "req_s"):
        assert found[column].tolist()[:3] == open_loop[column].tolist()
    assert np.all(np.diff(found["tpot_ms"]) >= 0)
    assert np.all(np.diff(found["ttft_ms"]) >= 0)
    assert found["req_s"][1] == pytest.approx(rates[1], rel=0.02)
    assert found["req_s"].iloc[-1] == pytest.approx(full)
    few, alike = asked(
        row(n_requests=32, request_rate_rps=rates[0]),
        row(mode="open", concurrency=None, n_requests=32, request_rate_rps=rates[0], recipe="published"),
    )["ttft_ms"]
    assert few == alike
    ramp = asked(row(n_requests=3000, request_rate_rps=rates[0], ramp_s=10))["req_s"][0]
    assert ramp == pytest.approx(full, rel=0.01)  # how clients start is stated, and they go on without a rate


def test_requests_before_a_stated_time_that_are_not_measured_are_left_out() -> None:
    warm, measured = asked(row(duration_s=60, warmup_requests=32), row(duration_s=60))["ttft_ms"]
    assert warm == asked(row(warmup_requests=32))["ttft_ms"][0] < measured


@pytest.mark.parametrize("load", [{"mode": "closed"}, {"mode": "open", "request_rate_rps": 1}, {"mode": "offline"}])
def test_a_run_of_no_request_is_refused(load: dict[str, object]) -> None:
    assert "n_requests above 0" in predict(pd.DataFrame([row(n_requests=0, **load)]))["error"][0]


def test_clients_that_go_on_for_a_time_start_as_many_requests_as_fit() -> None:
    starts = [sum(1 for k in range(50) if k * cycle < 20.0) for cycle in (0.7, 1.3, 3.1, 7.0)]
    found = timed_rounds(np.full(4, 20.0), np.array([0.7, 1.3, 3.1, 7.0]))
    np.testing.assert_allclose(found, starts, atol=0.5)
    assert timed_rounds(np.array([20.0]), np.array([1e4])).tolist() == [1.0]


def test_a_timed_loop_is_a_batch_where_it_is_short_and_steady_where_it_is_long() -> None:
    times = [0.5, 60.0, 600.0, 6e7]
    once, *loops = asked(*(row(duration_s=t, isl_dist="fixed") for t in times)).to_dict("records")
    batch, without = asked(row(n_requests=32, isl_dist="fixed"), row(warmup_requests=32, isl_dist="fixed")).to_dict(
        "records"
    )
    for column in ("ttft_ms", "tpot_ms", "output_tok_s"):
        assert once[column] == pytest.approx(batch[column])
        assert loops[-1][column] == pytest.approx(without[column], rel=1e-4)
    assert once["ttft_ms"] > loops[0]["ttft_ms"] > loops[1]["ttft_ms"] > loops[2]["ttft_ms"]


def test_a_stated_number_of_requests_comes_before_a_time() -> None:
    both, number = asked(row(n_requests=320, duration_s=5), row(n_requests=320))["ttft_ms"]
    assert both == number


# -------------------------------------------------------------------------------- what publications state


def test_a_rate_that_a_publication_states_leaves_the_kind_of_load_as_the_row_implies_it() -> None:
    spark = row(dataset="spark_djangodevreng", device="gb10", concurrency=25, n_requests=300)
    stated, implied = asked(spark, {**spark, "mode": ""})["ttft_ms_p99"]
    assert stated == implied


def test_the_recipe_of_estimate_knows_no_settings_of_publications() -> None:
    many = row(concurrency=512, isl=160, osl=400, engine_version="0.5.4", recipe="default")
    named, plain = asked({**many, "dataset": "mlenergy_v2_a100_h100"}, many)["ttft_ms"]
    assert named == plain


def test_scripts_of_publications_fill_what_their_rows_leave_out() -> None:
    """ML.ENERGY starts vLLM with as many places as it keeps requests in flight, its default of 256 notwithstanding."""
    many = row(concurrency=512, isl=160, osl=400, engine_version="0.5.4")
    usual, named, stated = asked(
        many, {**many, "dataset": "mlenergy_v2_a100_h100"}, {**many, "max_num_seqs": 512}
    ).to_dict("records")
    assert named["ttft_ms"] < 0.2 * usual["ttft_ms"]
    assert named["tpot_ms"] == pytest.approx(stated["tpot_ms"], rel=1e-3)


def test_only_the_rows_that_an_entry_names_are_filled() -> None:
    """Clients start at 1.5/s in one kind of run of a publication, and 20 s last closed loops of another."""
    spark = row(dataset="spark_djangodevreng", concurrency=25)
    at_once, at_a_rate, stated = asked(
        {**spark, "n_requests": 200}, {**spark, "n_requests": 300}, {**spark, "n_requests": 300, "ramp_s": 0}
    )["ttft_ms_p99"]
    assert at_a_rate < at_once == pytest.approx(stated, rel=0.5)
    rig = {"dataset": "rtx3090x4_aleshapro", "device": "rtx-3090", "osl": 20}
    open_loop = {"mode": "open", "concurrency": None, "request_rate_rps": 1}
    named, none = asked(row(**rig, **open_loop), row(**{**rig, "dataset": ""}, **open_loop))["ttft_ms"]
    assert named == none


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("columns = { max_num_seq = 4 }\nsource = 's'", "max_num_seq"),
        ("same_as = { max_num_seqs = 'clients' }\nsource = 's'", "clients"),
        ("where = { concurency = 4 }\nsource = 's'", "concurency"),
        ("engine = 'vllm'", "'source' is missing"),
    ],
)
def test_an_entry_with_a_mistake_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, says: str
) -> None:
    (tmp_path / "p.toml").write_text(f"[[somebody]]\n{entry}\n")
    monkeypatch.setattr(publications, "TABLE", tmp_path / "p.toml")
    with pytest.raises(InputError, match=says):
        publications.setups.__wrapped__()
