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
    free = search.plan(search.load_scenario(scenario("input_tokens = 500\noutput_tokens = 100")))
    number = verify.finalists(free, 1)[0]
    expected = free.columns["concurrency_per_replica"][number]
    assert verify.requests(free, number).concurrency == pytest.approx(expected, abs=1)


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
        verify.simulated_row(plan, 99)
    with pytest.raises(UnknownName, match="unknown router 'shortest'; did you mean 'join_shortest_queue'"):
        verify.simulated_row(plan, 1, verify.Settings(router="shortest"))
    assert "simulated_ttft_ms_p90" in verify.columns(plan)
