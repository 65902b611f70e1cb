"""Speculative decoding end to end: tokens per step, drafting cost, estimate, plan, simulation, export and read-back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli
import hwdb
from hwdb import InputError, UnknownName
from perfmodel import Estimates, Workload, estimate, model, simulator
from perfmodel.costs import default
from perfmodel.deployment import METHODS, Speculation, deployments, shard, speculation
from perfmodel.engines import engine
from perfmodel.equations import MOST_DRAFTS, acceptance_of, chain_chance, tokens_per_step
from perfmodel.estimates import configuration_remarks, prepare
from perfmodel.estimates.estimation.estimator import speculated
from perfmodel.models import eagle_head, mtp_layer
from perfmodel.simulator.request_traffic.emission import Emission
from perfmodel.workload import load_of
from search.deploy import read_back
from search.scenario import load_scenario

EIGHT_B, DEEPSEEK = "meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3"
H100, H200 = hwdb.device("h100-sxm"), hwdb.device("h200-sxm")


def answers(spec: Speculation, drafts: Any, users: float, name: str = EIGHT_B, **columns: Any) -> Estimates:
    device = columns.pop("device", H100)
    work = Workload.from_lengths(512, 256, concurrency=users)
    return estimate(model(name), work, deployments([device], speculation=spec, drafts=drafts, **columns))


# ------------------------------------------------------------------------------------------------- tokens per step


def test_a_chain_yields_the_sum_of_the_products_of_its_acceptances() -> None:
    assert float(tokens_per_step(3.0, 0.8)) == pytest.approx(1 + 0.8 + 0.64 + 0.512)
    assert float(tokens_per_step(3.0, 0.8, 0.5)) == pytest.approx(1 + 0.8 + 0.8 * 0.4 + 0.8 * 0.4 * 0.2)
    assert float(tokens_per_step(4.0, 1.0)) == 5.0
    assert float(tokens_per_step(0.0, 0.9)) == 1.0


def test_acceptance_inverts_tokens_per_step() -> None:
    draw = np.random.default_rng(5)
    drafts, acceptance, decay = draw.integers(1, MOST_DRAFTS, 50).astype(float), draw.uniform(0.05, 0.99, 50), 0.9
    tokens = tokens_per_step(drafts, acceptance, decay)
    assert np.all((tokens > 1.0) & (tokens < 1.0 + drafts))
    np.testing.assert_allclose(acceptance_of(drafts, tokens, decay), acceptance, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_has_a_range_around_its_acceptance_and_a_source(name: str) -> None:
    known = METHODS[name]
    assert 0.0 < known.low < known.acceptance < known.high < 1.0
    assert known.source
    assert 0.0 < known.decay <= 1.0
    spec = speculation(name, draft_model=EIGHT_B if name == "draft-model" else "")
    low, high = spec.range(np.arange(6.0))
    assert np.all(low[1:] < spec.tokens_per_step(np.arange(6.0))[1:])
    assert np.all(spec.tokens_per_step(np.arange(6.0))[1:] < high[1:])
    assert spec.assumed
    assert low[0] == high[0] == 1.0


def test_settings_that_mean_nothing_are_refused_with_a_way_out() -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"acceptance": 1.2}, "0 to 1"),
        ({"tokens_per_step": 0.5}, "at least 1"),
        ({"acceptance": 0.5, "tokens_per_step": 2.0}, "one of them"),
    ]
    for wrong, told in refused:
        with pytest.raises(InputError, match=told):
            speculation("mtp", **wrong)
    with pytest.raises(UnknownName, match="eagle3"):
        speculation("eagel3")
    with pytest.raises(InputError, match="draft model's name"):
        speculation("draft-model")
    with pytest.raises(InputError, match="takes no draft model"):
        speculation("mtp", draft_model=EIGHT_B)
    with pytest.raises(InputError, match="whole number from 0"):
        answers(speculation("mtp"), 2.5, 1.0)
    with pytest.raises(InputError, match="name one of"):
        answers(Speculation(), 2.0, 1.0)
    with pytest.raises(InputError, match="more than 2 drafts"):
        answers(speculation("eagle3", tokens_per_step=3.5), 2.0, 1.0)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_simulator_draws_the_stated_tokens_even_where_drafts_are_sure(name: str) -> None:
    draw = np.random.default_rng(8)
    for drafts in (1, 3, 5):
        for tokens in (1.0 + drafts, 1.0 + 0.97 * drafts, draw.uniform(1.1, 1.0 + drafts)):
            spec = speculation(name, tokens_per_step=tokens, draft_model=EIGHT_B if name == "draft-model" else "")
            emission = Emission(drafts, spec.first_acceptance(drafts), spec.known.decay)
            output = np.full(400, 60 * drafts * 20 + 1)
            chances = chain_chance(np.arange(1.0, 1.0 + drafts), emission.acceptance, emission.decay)
            assert np.all(chances <= 1.0 + 1e-9)
            assert emission.mean == pytest.approx(tokens)
            assert (output[0] - 1) / (emission.steps(output, 1).mean() - 1) == pytest.approx(tokens, rel=0.01)


# ------------------------------------------------------------------------------------------------- the closed form


def test_drafters_are_as_large_as_their_checkpoints() -> None:
    # DeepSeek-V3's module: 14B parameters, of which 11.5B are its own (README of deepseek-ai/DeepSeek-V3)
    own = sum(b.count * b.parameters(7168) for b in mtp_layer(model(DEEPSEEK)).blocks)
    assert own == pytest.approx(11.5e9, rel=0.03)
    # yuhuili/EAGLE3-LLaMA3.1-Instruct-8B: 0.85 GB in 16 bit with its head of 32,000 rows, embedding shared
    head = eagle_head(model(EIGHT_B), 3)
    stored = sum(b.count * b.parameters(4096) for b in head.blocks) + head.vocab * 4096
    assert 2 * stored == pytest.approx(0.85e9, rel=0.1)


@pytest.mark.parametrize("weight", ["fp4", "int4", "mxfp4"])
def test_an_mtp_layer_stays_in_16_bit_in_a_4_bit_checkpoint(weight: str) -> None:
    layouts = deployments([H200], tp=8, drafts=1, speculation=speculation("mtp"), weight=[weight, "fp8_block"])
    drafter = shard(model(DEEPSEEK), layouts).drafter
    assert drafter is not None
    np.testing.assert_allclose(drafter.weight_bytes("experts"), [2.0, 1.0], rtol=0.01)
    own = deployments([H200], tp=8, drafts=1, speculation=speculation("mtp"))
    named = shard(model("nvidia/DeepSeek-R1-0528-NVFP4"), own)
    assert named.drafter is not None
    assert named.drafter.weight_bytes("experts")[0] == 2.0
    assert named.weight_bytes("experts")[0] < 0.6


def test_captured_graphs_of_vllm_count_the_tokens_that_drafts_add() -> None:
    layouts = deployments([H100], drafts=[0, 1, 3], speculation=speculation("mtp"))
    load = speculated(load_of(Workload.from_lengths(512, 64, concurrency=8), 3), layouts)
    for name, most in (("vllm", [512, 256, 128]), ("sglang", [256, 256, 256])):
        chosen = engine(name)
        steps = prepare(model(EIGHT_B), layouts, chosen, default(chosen), load).steps
        np.testing.assert_array_equal(steps.captured(np.array(most, float)), True)
        np.testing.assert_array_equal(steps.captured(np.array(most, float) + 1.0), False)


def test_a_drafter_that_engines_refuse_is_said() -> None:
    told = {
        "not known to have an MTP layer": speculation("mtp"),
        "vocabulary of 151,936": speculation("draft-model", draft_model="Qwen/Qwen3-0.6B"),
    }
    for words, spec in told.items():
        layouts = deployments([H100], drafts=[0, 2], speculation=spec)
        plain, drafted = configuration_remarks(model(EIGHT_B), layouts, engine("vllm"), 1024.0)
        assert words in drafted
        assert words not in plain
    fine = deployments([H100], tp=8, drafts=2, speculation=speculation("mtp"))
    assert "MTP layer" not in configuration_remarks(model(DEEPSEEK), fine, engine("vllm"), 1024.0)[0]


def test_drafts_gain_at_batch_one_and_lose_where_arithmetic_is_the_limit() -> None:
    spec = speculation("eagle3", acceptance=0.6)
    few, many = answers(spec, [0, 3], 1.0), answers(spec, [0, 3], 512.0, device=hwdb.device("rtx-4090"), weight="int4")
    assert few.rates.output[1] > 1.4 * few.rates.output[0]
    assert many.rates.output[1] < many.rates.output[0]


@pytest.mark.parametrize(
    ("method", "drafts", "tokens", "times"),
    [("eagle", 2, 2.10, 1.618), ("eagle", 7, 2.47, 1.360), ("eagle3", 2, 2.36, 1.637), ("eagle3", 7, 3.54, 1.648)],
)
def test_chains_under_vllm_gain_what_was_measured(method: str, drafts: int, tokens: float, times: float) -> None:
    """vllm-project/vllm issue 20780: heads of Llama-3.1-8B, one stream; kernels alone would make EAGLE-3 gain 2.7."""
    spec = speculation(method, tokens_per_step=tokens)
    work = Workload.from_lengths(128, 256, concurrency=1)
    each = deployments([H100], speculation=spec, drafts=[0, drafts])
    tpot = estimate(model(EIGHT_B), work, each, engine="vllm-v1").tpot[0]
    assert tpot[0] / tpot[1] == pytest.approx(times, rel=0.25)


def test_a_pass_takes_at_least_its_host_and_more_only_where_its_kernels_do() -> None:
    spec, work = speculation("eagle3", acceptance=0.6), Workload.from_lengths(512, 256, concurrency=1)
    each = deployments([H100], speculation=spec, drafts=[0, 1, 3])
    plain, waiting, long = (
        estimate(
            model(EIGHT_B), work, each, engine=engine("vllm").changed(draft_host_times=(("eagle3", seconds),))
        ).latency.step[0]
        * each.tokens_per_step
        for seconds in (0.0, 1e-6, 5e-3)
    )
    assert waiting == pytest.approx(plain)  # the kernels of a head take longer than a microsecond
    assert long[0] == pytest.approx(plain[0])
    assert np.diff(long[1:]) == pytest.approx(2 * 5e-3, rel=0.05)
    assert long[1] - long[0] >= 0.99 * 5e-3


def test_without_acceptance_a_step_only_becomes_dearer() -> None:
    for users in (1.0, 32.0, 200.0):
        rates = answers(speculation("eagle3", acceptance=0.0), [0, 1, 2, 4], users).rates.output
        assert np.all(np.diff(rates) < 0)


def test_more_acceptance_never_lowers_the_rate_and_drafts_take_memory() -> None:
    rates = [answers(speculation("mtp", acceptance=a), 2, 16.0, DEEPSEEK, device=H200, tp=8) for a in (0.2, 0.6, 0.95)]
    assert rates[0].rates.output[0] < rates[1].rates.output[0] < rates[2].rates.output[0]
    plain, drafted = (answers(speculation("eagle3"), [0, 3], 8.0).memory_use.kv_tokens[i] for i in (0, 1))
    assert 0.9 * plain < drafted < plain
    looked_up = answers(speculation("ngram"), [0, 3], 8.0).memory_use.kv_tokens
    assert looked_up[0] == looked_up[1]


def test_an_assumed_acceptance_is_said_and_widens_the_range() -> None:
    assumed, stated = (answers(s, 3, 8.0) for s in (speculation("eagle3"), speculation("eagle3", acceptance=0.70)))
    np.testing.assert_allclose(assumed.tpot, stated.tpot)
    assert assumed.half_width("tpot")[0] > 1.05 * stated.half_width("tpot")[0]
    assert assumed.half_width("ttft")[0] == pytest.approx(stated.half_width("ttft")[0])


def test_itl_is_the_gap_between_bursts() -> None:
    found = answers(speculation("eagle3", tokens_per_step=2.5), 3, 1.0)
    gap, each = found.quantile("itl", "mean"), found.quantile("tpot", "mean")
    np.testing.assert_allclose(gap, 2.5 * each)


# --------------------------------------------------------------------------------------------------- the simulator


def test_steps_are_drawn_with_the_stated_mean() -> None:
    emission = Emission(3, 0.7, 0.9)
    output = np.full(4000, 301)
    drawn = emission.steps(output, seed=1)
    assert drawn.min() >= 1 + 300 / 4
    assert 300.0 / (drawn.mean() - 1.0) == pytest.approx(emission.mean, rel=0.01)
    np.testing.assert_array_equal(Emission().steps(output, 1), output)


@pytest.mark.parametrize(("users", "drafts"), [(4.0, 3), (24.0, 1)])
def test_simulator_and_closed_form_agree_with_drafts(users: float, drafts: int) -> None:
    work = Workload.from_lengths(300, 160, concurrency=users)
    one = deployments([H100], speculation=speculation("eagle3"), drafts=drafts)
    found = simulator.summary(simulator.simulate(model(EIGHT_B), one, work, count=40))
    said = estimate(model(EIGHT_B), work, one)
    assert float(said.mean(said.tpot)[0]) * 1e3 == pytest.approx(found["tpot_ms"], rel=0.05)
    assert float(said.rates.output[0]) == pytest.approx(found["output_tok_s"], rel=0.06)


# ----------------------------------------------------------------------------------- commands, scenarios and exports

SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 500
output_tokens = 200
request_rate_rps = 6
[slo]
tpot_ms = 20
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1, 2]
pp = 1
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO + '[speculation]\nmethod = "eagle3"\ndraft_tokens = [0, 2]\ndraft_model = "a/head"\n')
    return path


def test_a_plan_ranks_with_and_without_and_its_export_reads_back(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", str(scenario), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["draft_tokens"] for row in rows} == {0, 2}
    drafted = next(row for row in rows if row["draft_tokens"] == 2 and row["rank"])
    plain = next(row for row in rows if row["draft_tokens"] == 0 and row["tp"] == drafted["tp"])
    assert drafted["tpot_ms"] < plain["tpot_ms"]
    assert "EAGLE-3 2" in drafted["candidate"]
    assert '"num_speculative_tokens": 2' in drafted["launch"]
    read = read_back(drafted["launch"], device="h100-sxm")
    assert (read.unknown, read.conflicts, read.uncounted, read.unused) == ((), (), (), ())
    pool = read.launch.main
    assert (pool.speculation, pool.drafts, pool.draft_model) == ("eagle3", 2, "a/head")


@pytest.mark.parametrize(
    ("words", "method", "drafts"),
    [
        (
            "python3 -m sglang.launch_server --model-path {m} --speculative-algorithm NEXTN --speculative-num-steps 3",
            "mtp",
            3,
        ),
        (
            "python3 -m sglang.launch_server --model-path {m} --speculative-algorithm EAGLE3 --speculative-num-steps 2 "
            "--speculative-draft-model-path a/b",
            "eagle3",
            2,
        ),
        ('vllm serve {m} --speculative-config \'{"method": "deepseek_mtp", "num_speculative_tokens": 1}\'', "mtp", 1),
        ('vllm serve {m} --speculative-config \'{"method": "ngram", "num_speculative_tokens": 4}\'', "ngram", 4),
    ],
)
def test_commands_of_others_are_read_with_their_drafts(words: str, method: str, drafts: int) -> None:
    pool = read_back(words.replace("{m}", EIGHT_B), device="h100-sxm").launch.main
    assert (pool.speculation, pool.drafts) == (method, drafts)


def test_flags_of_estimate_reach_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    base = ["estimate", EIGHT_B, "--device", "h100-sxm", "--concurrency", "4", "--json"]
    rows = []
    for more in (
        [],
        ["--speculation", "eagle3", "--draft-tokens", "2", "--tokens-per-step", "2.2"],
        ["--speculation", "ngram"],
    ):
        assert cli.main([*base, *more]) == 0
        rows += json.loads(capsys.readouterr().out)
    assert "speculation" not in rows[0]
    assert (rows[1]["speculation"], rows[1]["draft_tokens"], rows[1]["tokens_per_step"]) == ("eagle3", 2, 2.2)
    assert rows[1]["tpot_ms"] < 0.6 * rows[0]["tpot_ms"]
    assert "assumed" in rows[2]["remark"]
    assert "assumed" not in rows[1]["remark"]
    assert cli.main([*base, "--draft-tokens", "2"]) == 2
    assert "--speculation METHOD" in capsys.readouterr().err
    assert cli.main([*base[:-1], "--speculation", "eagle3", "--explain", "--json"]) == 0
    terms = [t for t in json.loads(capsys.readouterr().out) if t["phase"] == "decode"]
    assert any(t["operator"] == "draft lm_head" for t in terms)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('method = "eagel"', "eagle"),
        ('method = "mtp"\ndraft_tokens = [0, 2.5]', "draft_tokens"),
        ('method = "mtp"\ntokens_per_step = 2.5', "one number of draft_tokens"),
        ('method = "mtp"\ndraft_tokens = [0, 1]\ntokens_per_step = 2.5', "more than 1 drafts"),
        ('method = "mtp"\nacceptance = 1.5', "acceptance"),
        ('method = "draft-model"', "draft model"),
        ('method = "draft-model"\ndraft_model = "nobody/knows"', "nobody/knows"),
    ],
)
def test_a_wrong_table_is_refused_in_one_sentence(tmp_path: Path, table: str, told: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f"{SCENARIO}[speculation]\n{table}\n")
    with pytest.raises(InputError, match=told):
        load_scenario(path)


def test_prompts_enter_a_closed_loop_as_often_as_drafts_end_answers() -> None:
    """An answer takes fewer steps with drafts, so that more prompts share a step: beside a replay in the same steps."""
    llama = model("meta-llama/Llama-3.1-70B")
    row = deployments(
        [hwdb.built_in().device("h100-sxm")], tp=4, drafts=3, speculation=speculation("ngram", acceptance=0.7)
    )
    work = Workload.from_lengths([400, 600], [200, 400], concurrency=256)
    found = estimate(llama, work, row)
    run = simulator.simulate(llama, row, work, seed=1, count=1500)
    middle = np.argsort(run.issued)[500:1000]
    first = float(np.mean((run.first - run.issued)[middle]))
    assert float(found.mean(found.ttft)[0]) < 2.5 * first
    later = float(np.mean((run.finish - run.first)[middle])) / 299.0
    assert float(found.mean(found.tpot)[0]) == pytest.approx(later, rel=0.1)
