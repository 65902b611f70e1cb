"""Published recipes: every entry is sourced and reachable, the right one is found, and blank cells are read with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hwdb
from hwdb import InputError
from perfmodel import Recipe, deployments, estimate, predict, recipe
from perfmodel.cases import OUTPUT
from perfmodel.cases.unstated import longest_prompt
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines.catalogue import FOLDER, engine
from perfmodel.engines.recipes import ASSUMABLE, assumed, base_name, instead, read_recipes, recipes
from perfmodel.models import base_names, model
from perfmodel.workload.workload import Workload

HOPPER, BLACKWELL = hwdb.device("h200-sxm"), hwdb.device("b200-sxm")
LLAMA, MINIMAX = "meta-llama/Llama-3.3-70B-Instruct", "MiniMaxAI/MiniMax-M2.5"


def table(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{k: str(v) for k, v in row.items()} for row in rows]).fillna("")


def chat(**cells: object) -> dict[str, object]:
    """One case: 64 clients of MiniMax-M2.5 in fp8 on four B200, measured in the middle of the run."""
    return {
        "model": MINIMAX,
        "device": "b200-sxm",
        "engine": "vllm",
        "weight_dtype": "fp8",
        "n_devices": 4,
        "tp": 4,
        "isl": 900,
        "osl": 900,
        "isl_dist": "uniform:0.8-1.0",
        "concurrency": 64,
        "warmup_requests": 64,
        **cells,
    }


def answers(**cells: object) -> np.ndarray:
    found = predict(table(chat(**cells))).iloc[0]
    assert found["error"] == ""
    return found[list(OUTPUT)].to_numpy(float)


# ------------------------------------------------------------------------------------------------ the shipped entries


@pytest.mark.parametrize("entry", recipes(), ids=lambda r: r.name)
def test_every_recipe_is_sourced_and_speaks_of_things_that_exist(entry: Recipe) -> None:
    assert entry.sources
    assert any("@" in source for source in entry.sources), "a source names the commit it was read at"
    assert set(entry.models) <= set(base_names()), "recipes speak of base models"
    for name in entry.devices:
        one = Recipe("", "", (), (), (name,), (), ())
        assert any(one.meets(d) for d in hwdb.devices()), name
    if entry.era:
        assert engine(entry.era).family == entry.engine
    stated = {
        "era": bool(entry.era),
        "kv": bool(entry.kv),
        "max_num_seqs": entry.max_num_seqs == entry.max_num_seqs,
        "max_num_batched_tokens": not np.isnan(entry.budget(1000.0)),
    }
    assert all(stated[name] for name in entry.assumed), "only what is stated can be assumed"


def test_names_are_unique_and_every_entry_can_be_reached() -> None:
    assert len({r.name for r in recipes()}) == len(recipes())
    devices = list(hwdb.devices())
    reached = {
        found.name
        for entry in recipes()
        for m in entry.models
        for w in entry.weights
        for d in devices
        if (found := recipe(m, entry.engine, d, w))
    }
    assert reached == {r.name for r in recipes()}


# --------------------------------------------------------------------------------------------------- finding the entry


def test_published_launch_scripts_are_told_as_they_stand() -> None:
    # SemiAnalysisAI/InferenceX: benchmarks/70b_fp8_h200_slurm.sh, minimaxm2.5_fp8_b200.sh, minimaxm2.5_fp8_h200.sh
    llama = recipe(LLAMA, "vllm", HOPPER, "fp8")
    assert (llama.kv, llama.max_num_batched_tokens, llama.prefix_cache, llama.era) == ("fp8", 8192, False, "vllm")
    assert (recipe(MINIMAX, "vllm", BLACKWELL, "fp8").kv, recipe(MINIMAX, "vllm", HOPPER, "fp8").kv) == ("fp8", "")


@pytest.mark.parametrize(
    ("name", "version", "device", "weight"),
    [
        (LLAMA, "latest", "h200-sxm", "bf16"),  # nobody published 16-bit weights tuned
        (LLAMA, "latest", "a100-sxm-80gb", "fp8"),
        (LLAMA, "0.6.3", "h200-sxm", "fp8"),  # before its flags existed
        (MINIMAX, "0.11", "b200-sxm", "fp8"),  # before the model
        ("meta-llama/Llama-3.1-8B", "latest", "h200-sxm", "fp8"),
    ],
)
def test_what_nobody_published_has_no_recipe(name: str, version: str, device: str, weight: str) -> None:
    assert recipe(name, engine("vllm", version), hwdb.device(device), weight) is None


def test_copies_and_block_scales_are_meant_as_well() -> None:
    assert base_name("deepseek-ai/DeepSeek-R1-0528") == base_name("deepseek-ai/DeepSeek-V3")
    own = recipe("deepseek-ai/DeepSeek-R1-0528", "sglang", BLACKWELL)  # fp8 by blocks
    assert own == recipe(model("deepseek-ai/DeepSeek-V3"), engine("sglang"), BLACKWELL, "fp8")
    assert own.kv == "fp8"


def test_rows_are_told_together_as_one_by_one() -> None:
    devices = [HOPPER, BLACKWELL, hwdb.device("a100-sxm-80gb")]
    device, weight = np.array([0, 1, 2, 1]), np.array([FORMAT_CODE[w] for w in ("fp8", "fp8", "fp8", "bf16")])
    found = assumed(
        model(MINIMAX), engine("vllm", "latest"), devices, device, weight, prompt=np.full(4, 1000.0), ranks=np.ones(4)
    )
    assert found.kv.tolist() == [-1, FORMAT_CODE["fp8"], -1, -1]
    assert found.era.tolist() == ["vllm", "vllm", "", ""]
    np.testing.assert_array_equal(found.max_num_batched_tokens, [np.nan, 2000.0, np.nan, np.nan])
    assert np.isnan(found.max_num_seqs).all()


# ---------------------------------------------------------------------------------------------------- using the entry


def test_tokens_a_step_follow_the_prompt_and_the_ranks() -> None:
    doubled = recipe(MINIMAX, "vllm", BLACKWELL, "fp8")
    assert doubled.budget(np.array([1024.0, 8192.0])).tolist() == [2048.0, 16384.0]
    either = recipe("deepseek-ai/DeepSeek-R1", "trtllm", BLACKWELL, "fp8")
    assert either.budget(np.array([1000.0, 9000.0])).tolist() == [8192.0, 9000.0]
    chunk = recipe("deepseek-ai/DeepSeek-R1", "sglang", BLACKWELL, "fp8")
    assert chunk.budget(1000.0, ranks=np.array([1.0, 8.0])).tolist() == [32768.0, 4096.0]
    silent = recipe(MINIMAX, "vllm", HOPPER, "fp8")
    assert np.isnan(silent.budget(1000.0))


def test_an_engine_is_tuned_for_a_device() -> None:
    entry = recipe("deepseek-ai/DeepSeek-R1", "sglang", BLACKWELL, "fp8")
    plain = engine("sglang")
    limits, tuned = plain.limits(BLACKWELL), entry.tuned(plain)
    assert (tuned.prefix_cache, plain.prefix_cache) == (False, True)
    assert tuned.limits(BLACKWELL).gpu_memory_utilization == 0.82 != limits.gpu_memory_utilization
    assert tuned.limits(BLACKWELL).graph_seqs == 128
    assert tuned.limits(BLACKWELL).max_num_batched_tokens == limits.max_num_batched_tokens, (
        "the budget goes with the deployment"
    )
    swift = recipe(MINIMAX, "vllm", BLACKWELL, "fp8").tuned(engine("vllm"))
    assert (swift.name, swift.overlap_scheduling) == ("vllm", True)


def test_a_planner_takes_engine_and_columns() -> None:
    entry = recipe(MINIMAX, "vllm", BLACKWELL, "fp8")
    work = Workload.from_lengths(900, 900, concurrency=64)
    shape = {"tp": 4, "weight": FORMAT_CODE["fp8"]}
    with_it = deployments([BLACKWELL], **shape, **entry.columns(prompt=1024.0))
    assert (with_it.kv[0], with_it.max_num_batched_tokens[0]) == (FORMAT_CODE["fp8"], 2048)
    swift = entry.tuned(engine("vllm", "latest"))
    wide, narrow = (
        estimate(model(MINIMAX), work, d, engine=swift) for d in (deployments([BLACKWELL], **shape), with_it)
    )
    assert narrow.tpot[0, 0] < wide.tpot[0, 0], "half the cache is read in less time"


# -------------------------------------------------------------------------------------------------------- blank cells


def test_blanks_of_a_tuned_run_are_those_of_its_recipe() -> None:
    # prompts of 800 to 1000 tokens; the script allows twice the longest
    spelled = {"kv_dtype": "fp8", "max_num_batched_tokens": 2000, "engine_version": "0.19"}
    np.testing.assert_allclose(answers(), answers(**spelled, recipe="default"), rtol=1e-9)


def test_the_table_has_the_last_word() -> None:
    plain = answers(recipe="default")
    assert not np.allclose(plain, answers(), rtol=1e-3)
    np.testing.assert_allclose(
        answers(kv_dtype="bf16", max_num_batched_tokens=8192, engine_version="0.11"),
        answers(recipe="default", engine_version="0.11"),
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    "cells",
    [
        {"trace": "sharegpt"},
        {"mode": "offline", "n_requests": 500, "concurrency": ""},
        {"mode": "open", "request_rate_rps": 1, "concurrency": ""},
        {"model": "meta-llama/Llama-3.1-8B"},
    ],
)
def test_other_runs_keep_the_defaults_unless_they_ask(cells: dict[str, object]) -> None:
    np.testing.assert_array_equal(answers(**cells), answers(**cells, recipe="default"))
    if cells.get("model", MINIMAX) == MINIMAX:
        assert not np.allclose(answers(**cells), answers(**cells, recipe="published"), rtol=1e-3)


def test_a_file_of_ones_own_is_asked_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "vllm.toml").read_text().replace('name = "vllm"', 'name = "mine"\nfamily = "vllm"'))
    plain = answers(engine=path)
    np.testing.assert_array_equal(plain, answers(engine=path, recipe="default"))
    assert not np.allclose(plain, answers(engine=path, recipe="published"), rtol=1e-3)


def test_separate_pools_have_recipes_too() -> None:
    pools = {"n_devices": 8, "tp": "", "prefill_workers": 1, "prefill_tp": 4, "decode_workers": 1, "decode_tp": 4}
    assert not np.allclose(answers(**pools), answers(**pools, recipe="default"), rtol=1e-3)


def test_limits_of_a_row_are_honoured() -> None:
    cells = {"model": "meta-llama/Llama-3.1-8B", "n_devices": 1, "tp": 1, "weight_dtype": "bf16", "isl_dist": "fixed"}
    found = answers(**cells, max_num_seqs=16, max_num_batched_tokens=512)
    one = deployments([BLACKWELL], max_num_seqs=16, max_num_batched_tokens=512, weight=FORMAT_CODE["bf16"])
    expected = estimate(model(str(cells["model"])), Workload.from_lengths(900, 900, concurrency=64), one)
    assert found[OUTPUT.index("tpot_ms")] < answers(**cells)[OUTPUT.index("tpot_ms")], "sixteen at once, not sixty-four"
    assert expected.running[0] == 16


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"recipe": "tuned"}, "recipe 'tuned' is none of published, default"),
        ({"max_num_seqs": 0}, "max_num_seqs 0 is out of range; give 1 or more"),
        ({"tp": 8}, "tp x pp x dp_attention x cp takes 8 devices, more than n_devices 4; lower the degrees"),
        ({"pp": 2, "dp_attention": 2}, "tp x pp x dp_attention x cp takes 16 devices, more than n_devices 4"),
        (
            {"prefill_tp": 4, "decode_tp": 2},
            "workers x tp x pp x dp x cp of both pools takes 6 devices, more than n_devices 4",
        ),
        ({"spec_decode": "eagle4"}, "unknown method of speculative decoding 'eagle4'; did you mean 'eagle"),
        ({"spec_decode": "crystal ball"}, "(mtp, eagle, eagle3, draft-model, ngram)"),
    ],
)
def test_what_a_row_cannot_mean_is_said(cells: dict[str, object], says: str) -> None:
    good, bad = chat(), chat(**cells)
    found = predict(table(good, bad))
    assert found["error"].iloc[0] == ""
    assert says in found["error"].iloc[1]
    assert found["tpot_ms"].isna().tolist() == [False, True]


def test_no_drafts_can_be_spelled() -> None:
    np.testing.assert_array_equal(answers(spec_decode="none"), answers())


def test_the_longest_prompt_follows_from_mean_and_spread() -> None:
    kinds = np.array(["uniform:0.8-1.0", "uniform:0.5-1.5", "fixed", "", "uniform:1-", "uniform:2-1", "uniform:0-0"])
    found = longest_prompt(np.full(len(kinds), 900.0), kinds)
    np.testing.assert_allclose(found, [1000.0, 1350.0, 900.0, 900.0, 900.0, 900.0, 900.0])


# ------------------------------------------------------------------------------------------------- files that are wrong

ENTRY = """
[[recipe]]
name = "a"
engine = "vllm"
models = ["meta-llama/Llama-3.1-8B"]
weights = ["fp8"]
devices = ["Hopper"]
since = "0.14"
sources = ["somebody/scripts run.sh @1234567"]
"""


def test_an_entry_that_says_little_leaves_all_to_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "recipes.toml"
    path.write_text(ENTRY)
    (entry,) = read_recipes(path)
    assert entry.columns()["kv"] == -1
    assert np.isnan(entry.columns()["max_num_batched_tokens"])
    plain = engine("vllm", "latest")
    tuned = entry.tuned(plain)
    assert tuned.limits(HOPPER) == plain.limits(HOPPER)
    assert tuned.prefix_cache == plain.prefix_cache


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('engine = "vllm"', 'engine = "vlm"', "unknown engine 'vlm'; did you mean"),
        ('weights = ["fp8"]', 'weights = ["fp9"]', "fp9"),
        ('since = "0.14"', 'since = "soon"', "since: 'soon' is not a release; write it like '0.14'"),
        ('since = "0.14"', "", "'since' is missing"),
        ('since = "0.14"', 'since = "0.14"\nkv = "fp7"', "fp7"),
        ('since = "0.14"', 'since = "0.14"\nmax_tokens = 0', "max_num_batched_tokens: 0 is too small"),
        ('since = "0.14"', 'since = "0.14"\nmemory_fraction = 1.2', "gpu_memory_utilization: 1.2 is out of range"),
        ('since = "0.14"', 'since = "0.14"\nprefix_cache = 0', "prefix_cache: 0 is not a switch"),
        ('since = "0.14"', 'since = "0.14"\nassumed = ["luck"]', "'luck' is no setting to assume; known are era, kv"),
        ('since = "0.14"', 'since = "0.14"\nera = "vllm-slow"', "unknown engine 'vllm-slow'"),
        ('since = "0.14"', 'since = "0.14"\nkv_dtype = "fp8"', "unknown key 'kv_dtype'"),
        ("sources = [", "source = [", "'sources' is missing"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "recipes.toml"
    assert old in ENTRY
    path.write_text(ENTRY.replace(old, new))
    with pytest.raises(InputError) as refused:
        read_recipes(path)
    assert says in str(refused.value)


def test_undated_runs_of_tensorrt_llm_on_hopper_are_of_the_release_that_their_image_had() -> None:
    for name, weight in (("openai/gpt-oss-120b", "mxfp4"), ("deepseek-ai/DeepSeek-R1", "fp8")):
        old, new = recipe(name, "trtllm", HOPPER, weight), recipe(name, "trtllm", BLACKWELL, weight)
        assert (old.era, new.era) == ("trtllm-v1", "")
        assert old.tuned(engine("trtllm")).name == "trtllm"  # planning keeps the newer release


def test_settings_to_assume_are_those_of_the_answer() -> None:
    assert set(ASSUMABLE) == set(assumed.__globals__["Assumed"]._fields)


def test_what_there_is_instead_is_said_for_every_model_and_engine() -> None:
    assert "vllm has them for fp8 on Hopper from 0.10" in instead(model(LLAMA), engine("vllm"))
    assert instead(model("openai/gpt-oss-20b"), engine("sglang")).endswith("none for this model; vllm and trtllm do")
    assert instead(model("llama-3.1-8b"), engine("llamacpp")) == "llamacpp has none; vllm, sglang, trtllm do"
