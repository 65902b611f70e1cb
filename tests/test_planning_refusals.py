"""What engines refuse or do: long requests, shards that cut quantisation blocks, eager mode, slots for adapters."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest

import hwdb
from cli import main
from hwdb import InputError
from perfmodel import Workload, deployments, estimate, model
from perfmodel.deployment import uneven_shards
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines import engine
from perfmodel.estimates import configuration_remarks
from perfmodel.models import Adapters, base_names, read_config
from perfmodel.simulator import simulate, summary
from search import SearchSpace
from search.planning import plan
from search.scenario import load_scenario

LLAMA = "meta-llama/Llama-3.1-8B"
H100 = hwdb.device("h100-sxm")

# ------------------------------------------------------------------------------------------------------ long requests


def config(**changed: object) -> dict[str, object]:
    small = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "intermediate_size": 4096,
        "vocab_size": 32000,
        "max_position_embeddings": 40960,
    }
    return {**small, **changed}


@pytest.mark.parametrize(
    ("scaling", "context"),
    [
        (None, 40960),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"type": "yarn", "factor": 2.0}, 81920),
        ({"type": "dynamic", "factor": 2.0}, 81920),
        ({"type": "linear", "factor": 3.0}, 122880),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 40960),
        ({"type": "longrope", "original_max_position_embeddings": 4096, "long_factor": [1.0]}, 40960),
        ({"rope_type": "default"}, 40960),
        ({"type": "mrope", "mrope_section": [16, 24, 24]}, 40960),
    ],
)
def test_context_counts_rope_scaling_as_engines_do(scaling: dict[str, object] | None, context: int) -> None:
    assert read_config(config(rope_scaling=scaling)).max_context == context
    assert read_config(config(rope_parameters=scaling)).max_context == context


def test_every_model_of_the_catalogue_that_attends_has_a_context() -> None:
    endless = [name for name in base_names() if not model(name).max_context]
    assert not [name for name in endless if any(b.mixer and b.mixer.kv_values for b in model(name).blocks)]


@pytest.mark.parametrize("seed", range(20))
def test_requests_beyond_the_context_are_refused_or_said(seed: int) -> None:
    rng = Random(seed)
    name = rng.choice([n for n in base_names() if model(n).max_context])
    spec = model(name)
    output = rng.choice([1, 100, 1000])
    fits = Workload.from_lengths(spec.max_context - output, output, concurrency=1)
    long = Workload.from_lengths(spec.max_context - output + 1, output, concurrency=1)
    card = deployments([hwdb.device("b300-sxm")])
    estimate(spec, fits, card, allow_long_context=False)
    with pytest.raises(InputError, match=f"{spec.max_context:,} tokens that .* was trained for"):
        estimate(spec, long, card, allow_long_context=False)
    assert estimate(spec, long, card).ttft[0, 0] > 0
    said = configuration_remarks(spec, card, engine("vllm"), [spec.max_context + 1.0])
    assert f"exceed the context of {spec.max_context:,}" in said[0]
    assert not configuration_remarks(spec, card, engine("llamacpp"), [float(spec.max_context)])[0]
    estimate(replace(spec, max_context=0), long, card, allow_long_context=False)  # no positions, no bound


def test_simulate_refuses_long_requests_where_asked_to() -> None:
    spec, long = model("huggyllama/llama-7b"), Workload.from_lengths(2000, 100, concurrency=1, n_requests=2)
    with pytest.raises(InputError, match="2,048"):
        simulate(spec, deployments([H100]), long, allow_long_context=False)


def test_estimate_refuses_long_requests_unless_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["estimate", "meta-llama/Meta-Llama-3-8B", "--device", "h100-sxm", "--isl", "100000", "--osl", "1000"]
    assert main([*asked, "--concurrency", "2"]) == 2
    assert "--allow-long-context" in capsys.readouterr().err
    assert main([*asked, "--concurrency", "2", "--allow-long-context", "--json"]) == 0
    assert "exceed the context" in json.loads(capsys.readouterr().out)[0]["remark"]
    assert main([*asked, "--prefill-workers", "1", "--decode-workers", "1"]) == 2


SCENARIO = """
[model]
name = "meta-llama/Meta-Llama-3-8B"
{allow}
[workload]
{lengths}
concurrency = 4
[slo]
tpot_ms = 1000
[hardware]
devices = ["h200-sxm"]
[search]
tp = [1]
pp = [1]
"""


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ("input_tokens = 100000\noutput_tokens = 1000", "100,000 prompt"),
        ("input_tokens = [100, 9000]\noutput_tokens = [10, 10]", "1 of 2 length classes (50.00 %)"),
        ('trace = "t.csv"', "1 of 200 requests (0.50 %)"),
    ],
)
def test_plan_names_the_classes_and_the_share_that_are_too_long(tmp_path: Path, lengths: str, said: str) -> None:
    rows = [f"{n},{9000 if n == 7 else 400},50" for n in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.format(allow="", lengths=lengths))
    with pytest.raises(InputError) as problem:
        plan(load_scenario(path))
    assert said in str(problem.value)
    assert "allow_long_context = true" in str(problem.value)
    path.write_text(SCENARIO.format(allow="allow_long_context = true", lengths=lengths))
    assert len(plan(load_scenario(path))) == 1


# ------------------------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize(
    ("name", "tp", "ep", "width"),
    [
        ("Qwen/Qwen3-235B-A22B-FP8", 8, 1, "into 192"),
        ("Qwen/Qwen3-235B-A22B-FP8", 4, 1, ""),
        ("Qwen/Qwen3-235B-A22B-FP8", 8, 8, ""),
        ("Qwen/Qwen3-30B-A3B-FP8", 4, 1, "into 192"),
        ("Qwen/Qwen3-30B-A3B-FP8", 4, 4, ""),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8", 8, 1, "into 320"),
        ("deepseek-ai/DeepSeek-R1", 32, 1, "into 576"),
        ("deepseek-ai/DeepSeek-R1", 16, 1, ""),
        ("MiniMaxAI/MiniMax-M2.5", 8, 1, "into 192"),
        ("zai-org/GLM-4.5-Air-FP8", 8, 1, ""),  # a scale per channel
        ("openai/gpt-oss-120b", 8, 1, ""),  # padded
        ("Qwen/Qwen3-30B-A3B", 4, 1, ""),
    ],
)
def test_shards_of_published_checkpoints_as_engines_take_them(name: str, tp: int, ep: int, width: str) -> None:
    placed = deployments([H100], tp=tp, ep=ep)
    said = str(configuration_remarks(model(name), placed, engine("vllm"), 100.0)[0])
    assert width in said
    assert bool(width) == bool(said)
    assert not configuration_remarks(model(name), placed, engine("llamacpp"), 100.0)[0]


@pytest.mark.parametrize(
    ("stored", "block"), [("fp8_block", 128), ("int4", 128), ("int4_g32", 32), ("fp4", 16), ("mxfp8", 32)]
)
@pytest.mark.parametrize("seed", range(5))
def test_a_shard_of_an_mlp_is_whole_blocks_or_refused(stored: str, block: int, seed: int) -> None:
    rng = Random(seed)
    width = rng.choice([1024, 2816, 4864, 11008, 14336, 18944, 29568, 29696])
    spec = read_config(
        config(intermediate_size=width, num_attention_heads=32, num_key_value_heads=32, hidden_size=8192)
    )
    spec = replace(spec, formats={**spec.formats, "up": stored, "down": stored})
    for tp in (1, 2, 4, 8, 16):
        placed = np.array([float(tp)])
        said = uneven_shards(spec, tp=placed, experts_tp=np.ones(1), weight=np.array([-1]))[0]
        assert bool(said) == (tp > 1 and width % (tp * block) != 0), (width, tp, said)


def test_a_format_that_is_only_asked_for_may_be_padded_but_a_block_format_may_not() -> None:
    one, eight = np.ones(1), np.full(1, 8.0)
    for asked, refused in (("int4", False), ("fp8", False), ("fp8_block", True)):
        code = np.array([FORMAT_CODE[asked]])
        dense = uneven_shards(model("Qwen/Qwen2.5-72B"), tp=eight, experts_tp=one, weight=code)[0]
        assert bool(dense) == refused, asked


def test_plan_counts_the_layouts_that_cut_blocks() -> None:
    axes = {"tp": (4, 8), "pp": (1,), "dp": (1,), "ep": (1, 8)}
    space = replace(SearchSpace(model("Qwen/Qwen3-235B-A22B-FP8"), (H100,)), **axes)
    legal = space.legal()
    assert legal.removed["blocks"] == 1
    assert "192" in legal.example["blocks"]
    assert "ep" in legal.example["blocks"]
    assert len(replace(space, pads_shards=True).legal()) == len(legal) + 1


def test_plan_leaves_out_a_tp_that_does_not_divide_the_heads_of_a_vision_encoder() -> None:
    space = replace(SearchSpace(model("zai-org/GLM-4.5V"), (H100,)), tp=(4, 8), pp=(1,), dp=(1,), ep=(1,))
    legal = space.legal()
    assert legal.removed["blocks"] == 1
    assert "12 heads of the vision encoder" in legal.example["blocks"]
    assert len(replace(space, encoder_data_parallel=True).legal()) == len(legal) + 1


# --------------------------------------------------------------------------------------------------------- eager mode


def tpot_ms(name: str, device: str, graphs: bool, *, runs: str = "vllm", users: float = 1.0, **layout: object) -> float:
    chosen = engine(*runs.split()).configured(graph_capture=graphs)
    load = Workload.from_lengths(layout.pop("prompt", 1000), 200, concurrency=users)
    return float(
        1e3 * estimate(model(name), load, deployments([hwdb.device(device)], **layout), engine=chosen).tpot[0, 0]
    )


@pytest.mark.parametrize(
    ("name", "device", "layout", "users", "measured_ms"),
    [
        ("Qwen/Qwen3-14B-AWQ", "a100-sxm-80gb", {"prompt": 16_000}, 1.0, 20.6),
        ("Qwen/Qwen3-30B-A3B", "rtx-4090d", {"prompt": 3500, "tp": 4}, 8.0, 33.9),
        ("Qwen/Qwen2.5-7B-Instruct", "a800-sxm-80gb", {}, 1.0, 22.5),
    ],
)
def test_eager_decode_takes_what_was_measured(
    name: str, device: str, layout: dict[str, object], users: float, measured_ms: float
) -> None:
    """vllm-project/vllm issues 20469 and 45709, vllm-project/vllm-omni issue 7960."""
    assert tpot_ms(name, device, False, users=users, **layout) == pytest.approx(measured_ms, rel=0.35)


@pytest.mark.parametrize("runs", ["vllm", "vllm 0.9.1", "vllm 0.5.0", "sglang", "trtllm", "generic", "orca", "sarathi"])
@pytest.mark.parametrize("name", [LLAMA, "Qwen/Qwen3-4B", "meta-llama/Llama-3.2-1B"])
def test_eager_mode_costs_one_user_a_clear_factor_under_every_engine(runs: str, name: str) -> None:
    ratio = tpot_ms(name, "h100-sxm", False, runs=runs) / tpot_ms(name, "h100-sxm", True, runs=runs)
    assert ratio > 1.4


def test_eager_llamacpp_loses_what_nvidia_published_for_a_small_model() -> None:
    """Up to 1.2 times (Optimizing llama.cpp AI Inference with CUDA Graphs, 2024-08)."""
    layout = {"weight": FORMAT_CODE["q4_k_m"], "prompt": 128, "runs": "llamacpp"}
    eager, graphs = (tpot_ms("meta-llama/Llama-2-7b-hf", "h100-sxm", g, **layout) for g in (False, True))
    assert eager / graphs == pytest.approx(1.2, rel=0.1)


@pytest.mark.parametrize("runs", ["vllm", "vllm 0.9.1", "vllm 0.5.0", "sglang", "trtllm"])
def test_eager_mode_costs_nothing_where_kernels_are_longer_than_launches(runs: str) -> None:
    eager, graphs = (tpot_ms(LLAMA, "a40", g, runs=runs) for g in (False, True))
    assert eager == pytest.approx(graphs, rel=0.02)


def test_steps_are_eager_where_an_engine_never_captures_graphs() -> None:
    placed = deployments([hwdb.device("max-1550")])
    assert tpot_ms(LLAMA, "max-1550", True) == tpot_ms(LLAMA, "max-1550", False)
    assert "eager mode" in configuration_remarks(model(LLAMA), placed, engine("vllm"), 100.0)[0]
    cpu = [tpot_ms(LLAMA, "epyc-9654", graphs) for graphs in (True, False)]
    assert cpu[0] == pytest.approx(cpu[1], rel=0.02)


# ----------------------------------------------------------------------------------------------------------- adapters


@pytest.mark.parametrize("seed", range(21))
def test_fewer_slots_never_raise_the_throughput_of_a_closed_loop(seed: int) -> None:
    rng = Random(seed)
    count, zipf = (1000, 0.0) if not seed else (rng.choice([2, 5, 20, 64, 150]), rng.choice([0.0, 0.5, 1.0, 2.0]))
    users = 64 if not seed else rng.choice([1, 4, 16, 64])
    load = Workload.from_lengths(256, 128, concurrency=users)
    rates = []
    for slots in sorted({max(1, count // part) for part in (1, 2, 3, 5, 10, 30, 1000)}):
        placed = deployments([hwdb.device("a100-sxm-80gb")], adapters=Adapters(16, count, slots, zipf))
        found = estimate(model("meta-llama/Llama-2-7b-hf"), load, placed)
        rates.append(float(found.output_rate[0]))
        in_flight = found.request_rate[0] * found.e2e[0, 0]
        assert in_flight == pytest.approx(users, rel=0.02)  # whoever does not run waits
    assert all(more >= fewer * (1 - 1e-6) for fewer, more in pairwise(rates)), rates


@pytest.mark.parametrize(("count", "slots", "zipf"), [(4, 2, 0.0), (1000, 32, 0.0), (100, 10, 1.0), (50, 1, 2.0)])
def test_requests_that_run_are_those_whose_adapters_come_first(count: int, slots: int, zipf: float) -> None:
    rng, users = np.random.default_rng(1), 64
    chances = np.arange(1.0, count + 1.0) ** -zipf
    running = []
    for drawn in rng.choice(count, size=(2000, users), p=chances / chances.sum()).tolist():
        held = list(dict.fromkeys(drawn))[:slots]
        running.append(sum(adapter in held for adapter in drawn))
    expected = float(Adapters(16, count, slots, zipf).runnable(np.array(float(users))))
    assert expected == pytest.approx(np.mean(running), rel=0.1)


def test_simulated_and_estimated_slots_agree() -> None:
    spec, load = model("meta-llama/Llama-2-7b-hf"), Workload.from_lengths(256, 128, concurrency=32, n_requests=300)
    placed = deployments([hwdb.device("a100-sxm-80gb")], adapters=Adapters(16, 100, 8))
    found = simulate(spec, placed, load)
    assert summary(found)["output_tok_s"] == pytest.approx(float(estimate(spec, load, placed).output_rate[0]), rel=0.25)


def test_expert_parallelism_of_a_model_without_experts_is_said() -> None:
    placed = deployments([hwdb.device("h100-sxm")], tp=[8, 8], ep=[1, 8])
    dense = configuration_remarks(model("meta-llama/Llama-3.1-8B"), placed, engine("vllm"), 1000.0)
    assert ["EP changes nothing" in text for text in dense] == [False, True]
    mixture = configuration_remarks(model("Qwen/Qwen3-30B-A3B"), placed, engine("vllm"), 1000.0)
    assert not any("EP changes nothing" in text for text in mixture)
