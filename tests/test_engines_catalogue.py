"""Engines: facts with sources, eras by version, limits by device, and files that are wrong."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import hwdb
from hwdb import InputError, UnknownName
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines.catalogue import FOLDER, check_engine_name, engine, names
from perfmodel.engines.reader import load_engine
from perfmodel.engines.settings import SETTINGS
from perfmodel.engines.spec import KINDS, Engine
from perfmodel.estimates import configuration_remarks
from perfmodel.estimates.estimation.estimator import prepare
from perfmodel.models import model
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload
from search.scenario.scenario import load_scenario

GIB = 2.0**30


def card(name: str, gib: float, kind: str = "gpu") -> SimpleNamespace:
    made = SimpleNamespace(name=name, memory=gib * GIB, kind=kind)
    made.lineage = (made,)
    return made


@pytest.mark.parametrize("name", names())
def test_every_setting_of_a_shipped_engine_has_a_source(name: str) -> None:
    found = engine(name)
    assert found.facts, "an engine without facts"
    for setting, fact in found.facts.items():
        assert fact.kind in KINDS, setting
        assert len(fact.source) > 5, setting


def test_the_engines_that_benchmarks_name_are_there() -> None:
    assert {"vllm", "vllm-v0", "sglang", "trtllm", "llamacpp", "mindie", "deepspeed-mii", "generic"} <= set(names())
    assert {"fastertransformer", "orca", "sarathi"} <= set(names())


@pytest.mark.parametrize(
    ("family", "version", "expected"),
    [
        ("vllm", "", "vllm"),
        ("vllm", "0.2", "vllm-2023"),
        ("vllm", "0.4-0.5", "vllm-v0.5"),
        ("vllm", "0.5.4-era", "vllm-v0.5"),
        ("vllm", "vLLM 2024-05", "vllm-v0.5"),
        ("vllm", "0.7.3", "vllm-v0"),
        ("vllm", "vLLM 0.6.5.dev964+mlperf50, Pytorch 2.7.0a0+git3a58512, ROCm", "vllm-v0"),
        ("vllm", "vLLM 2023-11", "vllm-2023"),
        ("vllm", "0.8.3.dev", "vllm-v1"),
        ("vllm", "0.11-era", "vllm-v1"),
        ("vllm", "Mango LLMBoost AI Enterprise Platform, vllm-0.9.0.2.dev108+g", "vllm-v1"),
        ("vllm", "0.14.0", "vllm"),
        ("vllm", "0.20.1+transformers-5.8.1", "vllm"),
        ("vllm", "nightly-5b8c30d62b754b57", "vllm"),
        ("llamacpp", "", "llamacpp"),
        ("llamacpp", "llama.cpp 2024-05", "llamacpp-2024"),
        ("llamacpp", "llama.cpp 2024-06", "llamacpp"),
        ("llamacpp", "b2900", "llamacpp-2024"),
        ("llamacpp", "b10428 (885c5bbe8)", "llamacpp"),
        ("llamacpp", "f3e182816", "llamacpp"),
        ("trtllm", "0.9", "trtllm-v0"),
        ("trtllm", "1.0.0rc3", "trtllm-v1"),
        ("trtllm", "1.1.0rc2.post2", "trtllm-v1"),
        ("trtllm", "1.2.0rc6.post2", "trtllm"),
        ("trtllm", "gpt-oss-dev", "trtllm-v1"),
        ("trtllm", "unheard-of", "trtllm"),
        ("trtllm", "TensorRT 10.11, CUDA 12.9", "trtllm"),
        ("trtllm", "TensorRT 10.8, CUDA 12.8", "trtllm-v0"),
        ("trtllm", "TensorRT 9.3.0, CUDA 12.2", "trtllm-v0"),
        ("trtllm", "TensorRT-LLM 1.0, TensorRT 10.11", "trtllm-v1"),
        ("vllm", "TensorRT 10.8", "vllm"),
        ("tensorrt-llm", "0.14.0", "trtllm-v0"),
        ("other", "MLC-LLM 2023-11", "generic"),
        ("", "", "generic"),
        ("llama.cpp", "llama.cpp b4384", "llamacpp"),
        ("vllm-v0", "0.11", "vllm-v0"),
    ],
)
def test_the_version_chooses_the_era(family: str, version: str, expected: str) -> None:
    assert engine(family, version).name == expected


def test_unknown_engine_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown engine 'vlm'; did you mean 'vllm'"):
        engine("vlm")


def test_vllm_budget_follows_the_device_as_documented() -> None:
    """vllm-project/vllm arg_utils.py @99d7eb5: 70 GiB and more except A100; less; CPU times devices; TPU v6e."""
    v1 = engine("vllm")
    assert v1.limits(card("h100-sxm", 80)).max_num_batched_tokens == 8192
    assert v1.limits(card("h100-sxm", 80), offline=True).max_num_batched_tokens == 16384
    assert v1.behind_server().limits(card("h100-sxm", 80), offline=True).max_num_batched_tokens == 8192
    assert v1.limits(card("h100-sxm", 80)).max_num_seqs == 1024
    assert v1.limits(card("a100-sxm-80gb", 80)).max_num_batched_tokens == 2048
    assert v1.limits(card("rtx-4090", 24)).max_num_seqs == 256
    assert v1.limits(card("xeon", 512, "cpu"), devices=2).max_num_batched_tokens == 2 * 2048
    assert v1.limits(card("tpu-v6e", 32, "tpu")).max_num_batched_tokens == 1024


def test_an_engine_of_no_make_runs_as_many_sequences_as_vllm() -> None:
    generic, vllm = engine("generic"), engine("vllm")
    for device in (card("h100-sxm", 80), card("a100-sxm-80gb", 80), card("rtx-4090", 24)):
        assert generic.limits(device).max_num_seqs == vllm.limits(device).max_num_seqs
    assert generic.limits(card("xeon", 512, "cpu")).max_num_seqs == 128


def test_unknown_memory_falls_to_the_plain_tier() -> None:
    assert engine("vllm").limits(card("mystery", math.nan)).max_num_batched_tokens == 2048


def test_sglang_chunks_grow_with_memory() -> None:
    budgets = [engine("sglang").limits(card("x", gib)).max_num_batched_tokens for gib in (16, 24, 48, 80, 141, 180)]
    assert budgets == sorted(budgets)
    assert budgets[0] == 2048
    assert budgets[-1] == 16384


def test_sglang_captures_larger_batches_from_four_devices() -> None:
    plain = engine("sglang")
    for gib, one, four in ((16, 8, 8), (24, 24, 80), (48, 32, 160), (80, 256, 512), (141, 256, 512), (180, 512, 512)):
        found = [plain.limits(card("x", gib), devices=n).graph_seqs for n in (1, 2, 4, 8)]
        assert found == [one, one, four, four]
        rest = [replace(plain.limits(card("x", gib), devices=n), graph_seqs=0.0) for n in (1, 8)]
        assert rest[0] == rest[1]


def test_limits_follow_the_devices_that_compute_a_layer_together() -> None:
    """Tensor and attention data parallelism count, a pipeline does not."""
    columns = {"tp": [2, 4, 2, 2, 1], "dp": [1, 1, 2, 1, 1], "pp": [1, 1, 1, 4, 1], "cp": [1, 1, 1, 1, 4]}
    asked = deployments([hwdb.device("h200-sxm")], **columns)
    load = load_of(Workload.from_lengths(100, 200, concurrency=400, arrival="closed"), len(asked))
    found = prepare(model("Qwen/Qwen3-32B"), asked, engine("sglang"), Roofline(), load)
    assert np.asarray(found.steps.graph_seqs).tolist() == [256, 512, 512, 256, 512]


def test_v0_budget_is_the_model_length_with_a_floor() -> None:
    """SchedulerConfig of vLLM before 0.8: max(max_model_len, 2048)."""
    v0, device = engine("vllm-v0"), card("a100-sxm-80gb", 80)
    assert v0.limits(device, max_model_len=32768).max_num_batched_tokens == 32768
    assert v0.limits(device, max_model_len=512).max_num_batched_tokens == 2048
    assert engine("vllm").limits(device, max_model_len=32768).max_num_batched_tokens == 2048


def test_limits_of_every_real_device_are_usable() -> None:
    for device in hwdb.devices():
        for name in names():
            limits = engine(name).limits(device)
            assert limits.max_num_batched_tokens >= 1
            assert limits.max_num_seqs >= 1
            assert 0 < limits.gpu_memory_utilization <= 1


def test_historic_policies_differ_as_their_papers_say() -> None:
    static, orca, v0, sarathi = (engine(n) for n in ("fastertransformer", "orca", "vllm-v0", "sarathi"))
    assert (static.batching, orca.batching) == ("static", "continuous")
    assert (orca.admission, v0.admission) == ("contiguous", "grow")  # PagedAttention
    assert v0.prefill_first
    assert sarathi.chunked_prefill
    assert not sarathi.prefill_first


def test_engines_are_values() -> None:
    assert engine("vllm") == engine("vllm")
    assert hash(engine("vllm")) == hash(load_engine(FOLDER / "vllm.toml"))
    assert engine("vllm").changed(prefix_cache=False) != engine("vllm")
    with pytest.raises(UnknownName, match="unknown engine setting 'prefix_cach'; did you mean 'prefix_cache'"):
        engine("vllm").changed(prefix_cach=False)


def write(tmp_path: Path, *edits: tuple[str, str]) -> Path:
    text = (FOLDER / "generic.toml").read_text(encoding="utf-8")
    for before, after in edits:
        assert before in text
        text = text.replace(before, after, 1)
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_own_file_serves_as_an_engine(tmp_path: Path) -> None:
    path = write(tmp_path, ("value = 8192", "value = 777"))
    own = engine(str(path))
    assert isinstance(own, Engine)
    assert own.max_num_batched_tokens == 777
    check_engine_name(str(path))


WRONG = [
    (
        ("value = 8192", 'value = "8192"'),
        r"own.toml, line 7, max_num_batched_tokens: value '8192' is not a number of 0 or more",
    ),
    (
        ("value = 8192", "value = -1"),
        r"max_num_batched_tokens: value -1 is not a number of 0 or more; write nan for unknown",
    ),
    (('source = "vLLM\'s default"', ""), r"not TOML"),
    (("gpu_memory_utilization = { value = 0.9", "gpu_memory_utilization = { value = 90"), r"value 90 is not a share"),
    (('preemption = { value = "recompute"', 'preemption = { value = "swop"'), r"did you mean 'swap'"),
    (("chunked_prefill = { value = true", "chunked_prefill = { value = 1"), r"1 is not a switch; write true or false"),
    (("prefix_cache =", "prefix_cash ="), r"'prefix_cache' is missing; add it; is 'prefix_cash' meant\?"),
    (
        ('name = "generic"', 'name = "generic"\nmax_num_batched_tokans = 3'),
        r"unknown key 'max_num_batched_tokans'; did you mean",
    ),
    (('kind = "assumed"', 'kind = "guessed"'), r"unknown value 'guessed'.*choose one of documented"),
    (('kinds = ["cpu"]', 'kind = ["cpu"]'), r"line \d+, \[tier\] #1 kind: unknown key 'kind'; did you mean 'kinds'"),
    (("max_num_seqs = 128", "max_num_seqs = 0"), r"\[tier\] #1 max_num_seqs: 0 is too small; it must be above 0"),
]


@pytest.mark.parametrize(("edit", "message"), WRONG)
def test_wrong_engine_files_say_where_and_how(tmp_path: Path, edit: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_engine(write(tmp_path, edit))


def test_missing_engine_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.toml: no such engine file"):
        check_engine_name(str(tmp_path / "none.toml"))


# ---------------------------------------------------------------------------------------------------------- own words


@pytest.mark.parametrize("name", names())
def test_own_words_name_settings_and_have_sources(name: str) -> None:
    found = engine(name)
    settings = {s.key for s in SETTINGS}
    for word, setting in found.own_words:
        assert setting in settings
        assert word not in settings
    assert found.own_words == engine(found.family).own_words, "words are of the family"


def copied(tmp_path: Path, name: str, *edits: tuple[str, str]) -> Path:
    """A copy of the shipped file `name` with edits, each made everywhere at the start of a line."""
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    for before, after in edits:
        text, count = re.subn(rf"(?m)^{before} = (?!\{{ value = \"\w+\", kind = \"documented\")", f"{after} = ", text)
        assert count
    path = tmp_path / f"own-{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        (
            "sglang",
            [
                ("gpu_memory_utilization", "mem_fraction_static"),
                ("max_num_batched_tokens", "chunked_prefill_size"),
                ("max_num_seqs", "max_running_requests"),
            ],
        ),
        (
            "trtllm",
            [
                ("gpu_memory_utilization", "free_gpu_memory_fraction"),
                ("max_num_batched_tokens", "max_num_tokens"),
                ("max_num_seqs", "max_batch_size"),
            ],
        ),
        ("trtllm-v0", [("gpu_memory_utilization", "kv_cache_free_gpu_memory_fraction")]),
        ("llamacpp", [("max_num_batched_tokens", "n_batch"), ("micro_batch", "n_ubatch")]),
        ("ik_llama", [("max_num_batched_tokens", "batch-size")]),
    ],
)
def test_an_engine_file_may_speak_the_engines_own_words(
    tmp_path: Path, name: str, edits: list[tuple[str, str]]
) -> None:
    # by text: an unknown setting is NaN, which equals nothing
    assert repr(load_engine(copied(tmp_path, name, *edits))) == repr(engine(name))


def test_own_words_of_another_engine_are_unknown_keys(tmp_path: Path) -> None:
    path = copied(tmp_path, "vllm", ("max_num_seqs", "max_batch_size"))
    with pytest.raises(InputError, match="'max_num_seqs' is missing"):
        load_engine(path)


def test_two_spellings_of_one_setting_are_refused(tmp_path: Path) -> None:
    path = copied(tmp_path, "trtllm-v0")
    line = 'max_batch_size = { value = 8, kind = "assumed", source = "a test" }\n'
    path.write_text(path.read_text().replace("max_num_seqs = ", line + "max_num_seqs = ", 1), encoding="utf-8")
    with pytest.raises(InputError, match="'max_batch_size' and 'max_num_seqs' both set max_num_seqs; give one"):
        load_engine(path)


def scenario_engine(tmp_path: Path, lines: str) -> Engine:
    text = (Path(__file__).parents[1] / "examples" / "chat-70b-h100.toml").read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^\[engine\].*?(?=^\[)", "", text)
    path = tmp_path / "scenario.toml"
    path.write_text(f"{text}\n[engine]\n{lines}\n", encoding="utf-8")
    return load_scenario(path).engine


@pytest.mark.parametrize(
    ("own", "common"),
    [
        (
            'name = "sglang"\nmem_fraction_static = 0.7\nchunked_prefill_size = 4096\nmax_running_requests = 64',
            'name = "sglang"\ngpu_memory_utilization = 0.7\nmax_num_batched_tokens = 4096\nmax_num_seqs = 64',
        ),
        (
            'name = "trtllm"\nversion = "0.14"\nmax_num_tokens = 4096\nfree_gpu_memory_fraction = 0.8',
            'name = "trtllm"\nversion = "0.14"\nmax_num_batched_tokens = 4096\ngpu_memory_utilization = 0.8',
        ),
        ('name = "llamacpp"\nn_batch = 1024', 'name = "llamacpp"\nmax_num_batched_tokens = 1024'),
    ],
)
def test_a_scenario_may_speak_the_engines_own_words(tmp_path: Path, own: str, common: str) -> None:
    assert scenario_engine(tmp_path, own) == scenario_engine(tmp_path, common)


def test_what_a_scenario_states_holds_on_every_device(tmp_path: Path) -> None:
    lines = 'name = "sglang"\nmem_fraction_static = 0.7\nchunked_prefill_size = 4096'
    limits = scenario_engine(tmp_path, lines).limits(hwdb.device("h200-sxm"))
    assert (limits.gpu_memory_utilization, limits.max_num_batched_tokens) == (0.7, 4096.0)
    assert limits.graph_seqs == engine("sglang").limits(hwdb.device("h200-sxm")).graph_seqs
    own = scenario_engine(tmp_path, 'name = "vllm-v0"\nmax_num_batched_tokens = 4096')
    assert own.limits(hwdb.device("h100-sxm"), max_model_len=32768).max_num_batched_tokens == 4096


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('name = "sglang"\nmem_fraction_static = 0.7\ngpu_memory_utilization = 0.8', "both set gpu_memory_utilization"),
        (
            'name = "trtllm"\nfree_gpu_memory_fraction = 0.7\nkv_cache_free_gpu_memory_fraction = 0.8',
            "both set gpu_memory_utilization; give one of the two",
        ),
        ('name = "vllm"\nmem_fraction_static = 0.7', "unknown key 'mem_fraction_static'"),
        ('name = "sglang"\nmem_fraction_static = 7', "mem_fraction_static: 7 is out of range; it must be at most 1"),
    ],
)
def test_wrong_words_in_a_scenario_are_named(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scenario_engine(tmp_path, lines)


# ------------------------------------------------------------------------------------------------------ inherited facts


def test_a_file_of_ones_own_inherits_the_facts_of_its_family(tmp_path: Path) -> None:
    text = (FOLDER / "llamacpp.toml").read_text(encoding="utf-8").replace('name = "llamacpp"', 'name = "mine"', 1)
    text = re.sub(r"(?m)^(kernel_source|layer_split|aliases) = .*\n", "", text).partition("[own_words]")[0]
    path = tmp_path / "mine.toml"
    path.write_text('family = "llamacpp"\n' + text, encoding="utf-8")
    own = engine(str(path))
    assert (own.kernel_source, own.layer_split) == ("own", True)
    assert own.own_words == engine("llamacpp").own_words
    assert own.facts["layer_split"].source
    assert own.kernel_launches == engine("vllm").kernel_launches  # of every engine


def test_facts_of_one_era_stay_with_it() -> None:
    assert engine("vllm", "0.6").admission_watermark == 0.01
    assert engine("vllm").admission_watermark == 0.0
    assert engine("trtllm", "0.14").pooled_as == engine("trtllm", "1.1").pooled_as == "trtllm"
    assert engine("trtllm").pooled_as == ""
    assert {e for e in names() if engine(e).admission_headroom} == {"sglang"}
    assert {e for e in names() if engine(e).host_launch("Huawei")} == {
        "vllm",
        "vllm-2023",
        "vllm-v0",
        "vllm-v0.5",
        "vllm-v1",
    }


def test_what_runs_llama_cpp_is_called_so_and_an_unknown_engine_lists_the_families() -> None:
    """Ollama and LM Studio run llama.cpp."""
    for name in ("ollama", "lm-studio", "llama-server", "llama.cpp"):
        assert engine(name).name == "llamacpp"
    with pytest.raises(UnknownName, match=r"unknown engine 'mlx'.*\(.*llamacpp, .*vllm.*; or give the path"):
        engine("mlx")


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("0.12.3", "llamacpp"),
        ("b6767 Vulkan 1.3", "llamacpp"),
        ("b6767-metal (macOS 15.1)", "llamacpp"),
        ("b999", "llamacpp-2024"),
        ("b2900", "llamacpp-2024"),
        ("2024-03", "llamacpp-2024"),
        ("", "llamacpp"),
    ],
)
def test_builds_decide_the_era_of_llama_cpp_not_releases_of_what_runs_it(version: str, name: str) -> None:
    assert engine("ollama", version).name == name


@pytest.mark.parametrize(
    ("written", "name", "version"),
    [
        ("vllm==0.6.3", "vllm", "0.6.3"),
        ("vllm/vllm-openai:v0.11.0", "vllm", "v0.11.0"),
        ("vLLM 0.11", "vllm", "0.11"),
        ("lmsysorg/sglang:v0.5.2", "sglang", "v0.5.2"),
        ("llama.cpp-b2800", "llamacpp", "b2800"),
        ("TensorRT LLM", "trtllm", ""),
        ("tensorrt_llm 0.17", "trtllm", "0.17"),
        ("vllm0.6.3", "vllm", "0.6.3"),
        ("vLLM (v0.11)", "vllm", "0.11"),
        ("vllm-rocm", "vllm", ""),
        ("ROCm vLLM", "vllm", ""),
        ("rocm/vllm:rocm6.4.1_vllm_0.6.3", "vllm", "0.6.3"),
        ("vllm/vllm-openai", "vllm", "latest"),
        ("nvcr.io/nvidia/tensorrt-llm/release:0.17.0", "trtllm", "0.17"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda-b2800", "llamacpp", "b2800"),
        ("sgl", "sglang", ""),
    ],
)
def test_an_engine_may_carry_its_version_in_its_name(written: str, name: str, version: str) -> None:
    assert engine(written) == engine(name, version)


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("vllm==0.6.3", "0.11"),  # of another era
        ("vllm==0.11", "0.12"),  # of the same one
        ("vllm:latest", "0.6"),
        ("vllm==0.6.3", "nightly"),
        ("llama.cpp-b2800", "b6000"),
    ],
)
def test_two_versions_of_one_engine_are_refused(written: str, version: str) -> None:
    with pytest.raises(InputError, match="give one of them"):
        engine(written, version)


@pytest.mark.parametrize(
    ("written", "version"), [("vllm==0.6.3", "0.6"), ("vllm==0.6.3", "v0.6.3"), ("ollama-b4384", "0.12.3")]
)
def test_one_version_may_be_stated_twice(written: str, version: str) -> None:
    assert engine(written, version) is engine(written)


@pytest.mark.parametrize(
    ("name", "device", "weights", "told"),
    [
        ("vllm", "m4-max", "", "vllm is not known to run on m4-max; engine llamacpp is"),
        ("trtllm", "mi300x", "", "trtllm is not known to run on mi300x; engine vllm is"),
        ("vllm", "h100-sxm", "q4_k_m", "q4_k_m is a format of GGUF files, which engine llamacpp serves"),
        ("llamacpp", "m4-max", "q4_k_m", ""),
        ("vllm", "h100-sxm", "int4", ""),
    ],
)
def test_an_engine_that_does_not_run_here_is_said_with_one_that_does(
    name: str, device: str, weights: str, told: str
) -> None:
    stated = {"weight": FORMAT_CODE[weights]} if weights else {}
    placed = deployments([hwdb.device(device)], **stated)
    (remark,) = configuration_remarks(model("Qwen/Qwen3-8B"), placed, engine(name), 1000.0)
    assert remark.startswith(told) if told else "engine llamacpp" not in remark


@pytest.mark.parametrize(
    ("name", "closest"),
    [("lmdeploy", "vllm"), ("LMDeploy", "vllm"), ("lmdeploy==0.10.1", "vllm"), ("mlc", "vllm"), ("LightLLM", "sglang")],
)
def test_an_engine_that_is_not_modelled_is_told_with_the_closest(name: str, closest: str) -> None:
    with pytest.raises(InputError, match=f"is not modelled; the closest is '{closest}': ") as refused:
        engine(name)
    assert "lmstudio" not in str(refused.value)
    assert engine(closest).family == closest
