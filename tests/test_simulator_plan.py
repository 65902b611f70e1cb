"""Plans verified by simulation, and the command `perfmodel simulate`."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import cli
import search
from hwdb import InputError, UnknownName
from search.planning import verify

SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
{workload}
[slo]
ttft_ms_p90 = 1500
tpot_ms_p90 = 40
[hardware]
devices = ["h100-sxm"]
prices = "cheapest"
[search]
tp = [1, 2]
finalists = 2
{more}
"""
OPEN = "input_tokens = [500, 2000]\noutput_tokens = [100, 300]\nrate_rps = 6"


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """The open scenario, answered."""
    path = tmp_path_factory.mktemp("plan") / "scenario.toml"
    path.write_text(SCENARIO.format(workload=OPEN, more=""))
    return search.plan(search.load_scenario(path))


@pytest.fixture
def scenario(tmp_path):
    """A function that writes a scenario file with the given load."""

    def write(workload=OPEN, more=""):
        path = tmp_path / "scenario.toml"
        path.write_text(SCENARIO.format(workload=workload, more=more))
        return path

    return write


def called(capsys, *arguments):
    code = cli.main([str(a) for a in arguments])
    said = capsys.readouterr()
    assert (code, said.err) == (0, ""), said.err
    return said.out


def test_finalists_are_replayed_and_agree_with_the_closed_form(plan):
    rows = verify.verify(plan)
    assert len({row["candidate"] for row in rows}) == 2
    for row in rows:
        assert row["simulated_meets"] is True
        assert row["simulated_tpot_ms"] == pytest.approx(row["tpot_ms"], rel=0.25)
        assert row["simulated_ttft_ms"] == pytest.approx(row["ttft_ms"], rel=0.5)
        assert row["simulated_output_tok_s"] == pytest.approx(row["output_tok_s"], rel=0.1)


def test_a_closed_loop_and_an_open_concurrency_are_replayed(scenario):
    closed = search.plan(search.load_scenario(scenario("input_tokens = 500\noutput_tokens = 100\nconcurrency = 16")))
    number = verify.finalists(closed, 1)[0]
    assert verify.requests(closed, number).concurrency == 16
    text = 'input_tokens = 500\noutput_tokens = 100\narrival = "closed"'
    free = search.plan(search.load_scenario(scenario(text)))
    number = verify.finalists(free, 1)[0]
    expected = free.columns["concurrency_per_replica"][number]
    assert verify.requests(free, number).concurrency == pytest.approx(expected, abs=1)


def test_a_rate_that_the_search_chose_is_replayed(scenario):
    free = search.plan(search.load_scenario(scenario("input_tokens = 500\noutput_tokens = 100")))
    number = verify.finalists(free, 1)[0]
    traffic = verify.requests(free, number)
    rate = (len(traffic.arrival) - 1) / (traffic.arrival[-1] - traffic.arrival[0])
    assert rate == pytest.approx(free.columns["request_rate_rps"][number], rel=0.1)


def test_disaggregated_finalists_are_replayed_as_pools(scenario):
    plan = search.plan(search.load_scenario(scenario(more='modes = ["disaggregated"]')))
    number = next(n for n in plan.order.tolist() if plan.disaggregated(n))
    found = verify.replay(plan, number, verify.Settings(count=300))
    assert [p.role for p in found.pools] == ["prefill", "decode"]
    assert found.emitted.sum() == found.traffic.output_tokens.sum()


def test_simulate_prints_one_flat_row_and_writes_log_and_trace(scenario, tmp_path, capsys):
    log, trace = tmp_path / "log.csv", tmp_path / "trace.json"
    text = called(capsys, "simulate", scenario(), "--requests", 200, "--json", "--log", log, "--trace", trace)
    (row,) = json.loads(text)
    assert row["requests"] == 200
    assert row["ttft_ms_p50"] <= row["ttft_ms_p99"]
    assert not any(isinstance(v, dict | list) for v in row.values())
    assert len(pd.read_csv(log)) == 200
    sheet = called(capsys, "simulate", scenario(), "--requests", 20)
    assert "Latency" in sheet
    assert "TTFT p90 ms" in sheet  # the SLO names it
    assert json.loads(trace.read_text())["traceEvents"]


@pytest.mark.parametrize(("load", "mean"), [("rate_rps = 2", 2.0), ("concurrency = 4", None)])
def test_a_trace_without_times_comes_at_the_stated_load(scenario, tmp_path, capsys, load, mean):
    turns = [{"from": "human", "value": "hello " * 100}, {"from": "gpt", "value": "world " * 50}]
    (tmp_path / "chats.json").write_text(json.dumps([{"conversations": turns}] * 50))
    text = called(capsys, "simulate", scenario(f'trace = "chats.json"\n{load}'), "--requests", 400, "--json")
    (row,) = json.loads(text)
    assert row["requests"] >= 400
    if mean is not None:
        assert row["request_rate_rps"] == pytest.approx(mean, rel=0.2)
        assert row["ttft_ms"] == pytest.approx(row["ttft_ms_p50"], rel=0.2)  # no request waits for fifty others
    else:
        assert row["request_rate_rps"] * row["e2e_ms"] / 1e3 == pytest.approx(4.0, rel=0.05)  # Little's law


def test_simulate_replays_a_trace_and_finds_the_capacity(scenario, tmp_path, capsys):
    rows = "\n".join(f"{0.2 * i},{300 + i},{20 + i % 7}" for i in range(150))
    (tmp_path / "day.csv").write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    path = scenario('trace = "day.csv"')
    (row,) = json.loads(called(capsys, "simulate", path, "--capacity", "--json"))
    assert row["requests"] == 150
    assert row["request_rate_rps"] == pytest.approx(5.0, rel=0.1)
    assert row["capacity_rps"] > 5.0


def test_plan_verify_shows_both_figures(scenario, capsys):
    rows = json.loads(called(capsys, "plan", scenario(), "--verify", "--json"))
    assert {"ttft_ms_p90", "simulated_ttft_ms_p90", "simulated_meets"} <= set(rows[0])


def test_a_rank_beyond_the_finalists_and_a_wrong_router_are_named(plan):
    with pytest.raises(InputError, match="rank 99 is beyond the"):
        verify.simulated(plan, 99)
    with pytest.raises(UnknownName, match="unknown router 'shortest'; did you mean 'join_shortest_queue'"):
        verify.simulated(plan, 1, verify.Settings(router="shortest"))
    assert "simulated_ttft_ms_p90" in verify.columns(plan)


@pytest.mark.parametrize("limit", ["ttft_ms_p95 = 3", "tpot_ms = 0.5", "e2e_ms_p99 = 10", "itl_ms_p90 = 0.2"])
def test_nothing_is_simulated_where_nothing_qualifies(scenario, capsys, limit):
    """Exit code 1 and the reason, unless the nearest miss is asked for."""
    path = scenario()
    path.write_text(path.read_text().replace("tpot_ms_p90 = 40", limit))
    assert cli.main(["simulate", str(path), "--requests", "100", "--json"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "nothing meets the request" in said.err
    assert "--nearest" in said.err
    (row,) = json.loads(called(capsys, "simulate", path, "--requests", 100, "--json", "--nearest"))
    assert row["meets"] is False
    assert row[f"{limit.split(' ')[0]}_kept"] is False


@pytest.mark.parametrize(
    "statistic", ["ttft_ms_p95", "tpot_ms_p95", "itl_ms_p95", "e2e_ms_p95", "itl_ms", "tpot_ms_p50"]
)
def test_every_statistic_of_the_slo_is_printed_beside_the_closed_form(scenario, capsys, monkeypatch, statistic):
    """In 80 columns without a broken word; limit, closed form, simulation and whether it is kept."""
    monkeypatch.setenv("COLUMNS", "80")
    path = scenario()
    path.write_text(path.read_text().replace("tpot_ms_p90 = 40", f"{statistic} = 20000"))
    (row,) = json.loads(called(capsys, "simulate", path, "--requests", 400, "--json"))
    assert row[f"{statistic}_limit"] == 20000
    assert row[f"{statistic}_kept"] is True
    apart = row[f"closed_form_{statistic}"] / row[statistic]
    assert 0.2 < apart < 5  # the tail of the gaps between tokens is known least
    sheet = called(capsys, "simulate", path, "--requests", 400)
    metric, _, rank = statistic.partition("_ms")
    (line,) = [s.split() for s in sheet.splitlines() if f"{metric.upper()} {rank[1:] or 'mean'} ms" in s]
    assert line[3] == "20,000"
    assert line[-1] == "yes"
    assert max(len(s.rstrip()) for s in sheet.splitlines()) <= 80
    words = {"QoE", "Fluidity index", "Goodput, req/s", "Warm-up left out, s", "Drain left out, s", "E2E ms/token"}
    assert words - {w for w in words if w in sheet} <= {"QoE", "Fluidity index"}  # they need limits on TTFT and tokens


@pytest.mark.parametrize(
    "word", ["fluidity index", "QoE", "normalised_ms", "goodput_rps", "warm-up", "drain", "unstable"]
)
def test_words_of_a_simulation_are_explained(capsys, word):
    assert called(capsys, "explain", word)


def test_a_whole_run_is_measured_on_request(scenario, capsys):
    (steady,) = json.loads(called(capsys, "simulate", scenario(), "--requests", 400, "--json"))
    (whole,) = json.loads(called(capsys, "simulate", scenario(), "--requests", 400, "--json", "--whole-run"))
    assert (whole["measured_requests"], whole["drain_s"], whole["warm_up_s"]) == (400, 0, 0)
    assert whole["window_s"] == pytest.approx(whole["duration_s"])
    assert steady["measured_requests"] < 400
    assert steady["measured"].startswith("steady state")
    assert whole["measured"] == "whole run: as asked"


def test_the_winner_is_replayed_with_its_own_settings(plan):
    """KV capacity, sequences and tokens per step of the simulated pool are those of the plan's row."""
    from perfmodel.estimates.estimation.estimator import prepare
    from perfmodel.workload.load import load_of

    target = plan.scorer.target
    for number in verify.finalists(plan, 2):
        decode, _ = verify.pools_of(plan, number)
        setup = prepare(target.model, decode, target.engine, target.costs, load_of(target.workload, 1))
        (pool,) = verify.replay(plan, number, verify.Settings(count=150)).pools
        assert pool.replicas == decode.replicas[0]
        assert pool.policy.max_num_seqs == setup.steps.max_num_seqs[0]
        assert pool.policy.max_num_batched_tokens == setup.steps.token_budget[0] * decode.pp[0]


def test_verify_measures_the_steady_state(plan):
    for row in verify.verify(plan):
        assert row["simulated_output_tok_s"] == pytest.approx(6 * 200, rel=0.1)
        assert row["simulated_meets"] is True
