"""Names of checkpoints as people type them: what they stand for, which format they say, and which ones are refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import cli
from hwdb import InputError, UnknownName
from perfmodel.dtypes import storage
from perfmodel.models import ModelSpec, base_names, catalogue, model
from perfmodel.models.checkpoint_name import TAGS, leaf_and_publisher, parts_of

#: Suffix of a name -> storage format that it says.
SUFFIXES = {
    "-FP8": "fp8",
    "-FP8-dynamic": "fp8",
    "-FP8-block": "fp8_block",
    "-NVFP4": "fp4",
    "-FP4": "fp4",
    "-MXFP4": "mxfp4",
    "-AWQ": "int4",
    "-AWQ-INT4": "int4",
    "-AWQ-4bit": "int4",
    "-GPTQ-Int4": "int4",
    "-GPTQ-Int8": "w8a16",
    "-quantized.w4a16": "int4",
    "-quantized.w8a8": "int8",
    "-quantized.w8a16": "w8a16",
    "-INT8": "int8",
    "-W8A8": "int8",
    "-W4A8": "w4a8",
    "-bnb-4bit": "int4",
    "-4bit": "int4",
    "-8bit": "w8a16",
    "-BF16": "bf16",
    "-GGUF:Q4_K_M": "q4_k_m",
    "-Q2_K_S.gguf": "q2_k_s",
    "-UD-Q4_K_XL-00001-of-00003.gguf": "q4_k_m",
    "-iq3_s": "iq3_s",
    "-Q8_0": "q8_0",
    "-WMXFP4-AMXFP4-KVFP8-Scale-UINT8-SQ": "mxfp4",
    "-MXFP4-W4A16": "mxfp4",
    "-NVFP4-W4A4": "fp4",
    "-W4A8-FP8": "w4a8",
    "-AWQ-8bit": "w8a16",
    "-4bit-DWQ": "int4",
    "-8bit-gs32": "w8a16",
    "-int4wo": "int4",
    "-float8dq": "fp8",
    "-UD-IQ2_XXS": "iq2_xxs",
}
PUBLISHERS = ("RedHatAI", "TheBloke", "QuantTrio", "cpatonn", "unsloth", "Eco-Tech", "some-lab")
BASES = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-30B-A3B",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "google/gemma-3-27b-it",
    "zai-org/GLM-4.5-Air",
    "mistralai/Mistral-7B-Instruct-v0.2",
)


def shape(spec: ModelSpec) -> tuple[object, ...]:
    return spec.hidden, spec.vocab, spec.blocks, spec.tied


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize(("suffix", "stored"), SUFFIXES.items())
def test_a_copy_is_its_base_in_the_format_that_its_name_says(suffix: str, stored: str) -> None:
    for turn, base in enumerate(BASES):
        publisher = PUBLISHERS[turn % len(PUBLISHERS)]
        found = model(f"{publisher}/{base.partition('/')[2]}{suffix}")
        expected = model(base).with_weights(stored)
        assert (shape(found), found.formats) == (shape(expected), expected.formats), base
        assert found.named_format in (stored, "")  # "": the catalogue has that very copy
        assert found.reading.startswith(f"{publisher}/{base.partition('/')[2]}{suffix}: ")


def test_encoders_that_a_name_says_are_counted_or_said_to_be_left_out() -> None:
    assert model("cpatonn/Qwen2.5-VL-72B-AWQ").base == "Qwen/Qwen2.5-VL-72B-Instruct"
    assert not model("Qwen2.5-72B-AWQ").encoder_parameters
    assert model("Qwen2.5-Omni-7B").reading == "Qwen2.5-Omni-7B: Qwen/Qwen2.5-7B, encoders not counted"
    for name in ("llava:34b", "qwen3-vl:235b", "minicpm-v", "Pixtral 12B"):  # of aliases, by a tag or a short name
        assert model(name).reading.endswith(", encoders not counted"), name
    assert "encoders" not in model("llava:7b").reading  # has those of its own file


def test_the_sentence_says_what_was_taken() -> None:
    assert model("RedHatAI/Qwen3-14B-FP8-dynamic").reading.endswith(": Qwen/Qwen3-14B, fp8 per token")
    assert "int4 (AWQ)" in model("QuantTrio/Qwen3-32B-AWQ").reading
    assert "q4_k_xl counted as q4_k_m" in model("Qwen3-8B-UD-Q4_K_XL.gguf").reading
    assert "does not say" in model("unsloth/Qwen3-8B-GGUF").reading
    assert model("Qwen/Qwen3-14B").reading == "" == model("llama-3.1-70b").reading


@pytest.mark.parametrize(
    ("name", "kv"),
    [
        ("amd/Llama-3.3-70B-Instruct-FP8-KV", "fp8"),
        ("Eco-Tech/Qwen3-32B-w8a8c8", "int8"),
        ("nvidia/Qwen3-14B-FP8", "fp8"),
        ("RedHatAI/Qwen3-14B-FP8", "bf16"),
        ("nvidia/DeepSeek-V3.1-NVFP4", "fp8"),
    ],
)
def test_a_name_implies_the_format_of_the_cache_only_where_its_publisher_stores_one(name: str, kv: str) -> None:
    assert model(name).kv_format == kv


@pytest.mark.parametrize(
    "suffix",
    [
        *(
            "-exl2",
            "-3bit",
            "-4.0bpw-exl3",
            "-NVFP4A16",
            "-AQLM",
            "-W2A16",
            "-w4afp8",
            "-NVFP4-W4A16",
            "-FP4A8",
            "-2bits",
        ),
        *("-mixed-3-6bit", "-Q4_K_P", "-wint3", "-mxfp6", "-hfp8x"),
    ],
)
def test_a_format_that_is_not_known_is_refused_and_not_taken_for_16_bits(suffix: str) -> None:
    with pytest.raises(InputError, match="is not known; give Qwen/Qwen3-8B and state"):
        model(f"some-lab/Qwen3-8B{suffix}")


FORMATS_STATED = [
    ("RedHatAI/Qwen3-14B-FP8-dynamic", "Qwen/Qwen3-14B", ("--weights", "fp8")),
    ("some-lab/Qwen3-30B-A3B-FP8", "Qwen/Qwen3-30B-A3B", ("--weights", "fp8")),
    ("TheBloke/Mixtral-8x7B-Instruct-v0.1-AWQ", "mistralai/Mixtral-8x7B-Instruct-v0.1", ("--weights", "int4")),
    ("Qwen/Qwen2-72B-Instruct-GPTQ-Int4", "Qwen/Qwen2-72B-Instruct", ("--weights", "int4")),
    ("amd/Llama-3.3-70B-Instruct-FP8-KV", "meta-llama/Llama-3.3-70B-Instruct", ("--weights", "fp8", "--kv", "fp8")),
]


def estimated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert cli.main(["estimate", *arguments, "--concurrency", "16", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    return dict(row)


@pytest.mark.parametrize(("name", "base", "flags"), FORMATS_STATED)
def test_a_format_in_the_name_gives_the_figures_of_the_same_format_stated(
    name: str, base: str, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--device", "h100-sxm", "--tp", "8")
    named, stated = estimated(capsys, name, *where), estimated(capsys, base, *where, *flags)
    words = ("model", "layout", "weights", "remark")
    assert {k: v for k, v in named.items() if k not in words} == {k: v for k, v in stated.items() if k not in words}
    assert str(named["remark"]).startswith(f"{name}: ")


def test_a_stated_format_wins_over_that_in_the_name_and_is_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--device", "h100-sxm", "--weights", "int4")
    named = estimated(capsys, "RedHatAI/Qwen3-14B-FP8-dynamic", *where)
    plain = estimated(capsys, "Qwen/Qwen3-14B", *where)
    assert named["tpot_ms"] == plain["tpot_ms"]
    assert "weights in int4 as stated, not in fp8 as the name says" in str(named["remark"])
    known = estimated(capsys, "Qwen/Qwen3-14B-FP8", *where)
    assert "not in fp8_block as the name says" in str(known["remark"])
    agreed = estimated(capsys, "RedHatAI/Qwen3-14B-FP8-dynamic", "--device", "h100-sxm", "--weights", "fp8")
    assert "as stated" not in str(agreed["remark"])


def test_a_table_of_cases_reads_the_format_of_a_name_like_a_stated_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cells = [
        f"{name},H100,{engine},4,{weights}"
        for engine in ("vllm", "trtllm")
        for name, weights in (("RedHatAI/Llama-3.1-70B-FP8", ""), ("meta-llama/Llama-3.1-70B", "fp8"))
    ]
    path = tmp_path / "cases.csv"
    text = "model,device,engine,tp,weight_dtype,isl,osl,concurrency\n"
    path.write_text(text + "".join(f"{c},1000,200,64\n" for c in cells), encoding="utf-8")
    assert cli.main(["predict", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for named, stated in zip(rows[::2], rows[1::2], strict=True):
        assert named["tpot_ms"] == stated["tpot_ms"] is not None
        assert "fp8" in named["configuration_remark"]
        assert named["device_remark"] == "H100: h100-sxm"


# ---------------------------------------------------------------- spellings


def respelled(name: str, rng: random.Random) -> str:
    """`name` with its case and its separators changed at random; dots between digits stay."""
    out = [rng.choice("-_ ") if c == "-" else c.upper() if rng.random() < 0.5 else c.lower() for c in name]
    return "".join(out)


@pytest.mark.parametrize("name", [n for n in base_names() if n != "deepseek-ai/DeepSeek-V2"])
def test_case_and_separators_do_not_matter(name: str) -> None:
    rng = random.Random(name)
    leaf = name.partition("/")[2]
    for text in (respelled(leaf, rng), f"/models/{respelled(leaf, rng)}/", f"mirror/{respelled(leaf, rng)}"):
        assert shape(model(text)) == shape(model(name)), text


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("LLaMA 70B", "meta-llama/Llama-2-70b-hf"),
        ("LLaMA 7B", "huggyllama/llama-7b"),
        ("LLaMA v3.1 405B", "meta-llama/Llama-3.1-405B"),
        ("llama3_1-8b-edge", "meta-llama/Llama-3.1-8B"),
        ("llama-3-1-70b", "meta-llama/Llama-3.1-70B"),
        ("Meta-Llama-3.3-70B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"),
        ("llama3.1:8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Llama 4 Scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
        ("Mistral 7B", "mistralai/Mistral-7B-v0.1"),
        ("Mistral-NeMo-12B", "mistralai/Mistral-Nemo-Instruct-2407"),
        ("gptj-99.9", "EleutherAI/gpt-j-6b"),
        ("bloom-176b", "bigscience/bloom"),
        ("DeepSeek-R1-671B", "deepseek-ai/DeepSeek-V3"),
        ("DeepSeek-V3/R1", "deepseek-ai/DeepSeek-R1"),
        ("deepseek-ai/DeepSeek-R1 [some benchmark]", "deepseek-ai/DeepSeek-R1"),
        ("models--Qwen--Qwen3-8B/snapshots/0123abcd", "Qwen/Qwen3-8B"),
        ("Qwen3-30BA3B", "Qwen/Qwen3-30B-A3B"),
        ("qwen3-235b", "Qwen/Qwen3-235B-A22B"),
        ("GLM-4.5-Air-106B-A12B", "zai-org/GLM-4.5-Air"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("some-lab/OpenHermes-2.5-Mistral-7B", "mistralai/Mistral-7B-v0.1"),
        ("DeepSeek-R1-0528-Qwen3-8B", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", "Qwen/Qwen2.5-32B-Instruct"),
        ("neuralmagic_Llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-hf"),
        ("Qwen3-14B-Instruct-2511-0101", "Qwen/Qwen3-14B"),
        ("BitNet-3B", "1bitLLM/bitnet_b1_58-3B"),
        ("mistral-large-3", "mistralai/Mistral-Large-3-675B-Instruct-2512"),
        ("phi4-mini", "microsoft/Phi-4-mini-instruct"),
        ("unsloth/Phi-4-mini-instruct-bnb-4bit", "microsoft/Phi-4-mini-instruct"),
        ("NousResearch/Hermes-4-70B", "meta-llama/Llama-3.1-70B"),
        ("mistralai/Pixtral-Large-Instruct-2411", "mistralai/Mistral-Large-Instruct-2407"),
        ("deepseek-r1:70b", "meta-llama/Llama-3.1-70B"),
        ("deepseek-r1:8b", "Qwen/Qwen3-8B"),
        ("deepseek-r1:671b", "deepseek-ai/DeepSeek-R1"),
        ("qwen3:latest", "Qwen/Qwen3-8B"),
        ("command-r", "CohereLabs/c4ai-command-r-08-2024"),
        ("phi3.5", "microsoft/Phi-3.5-mini-instruct"),
        ("gpt2", "openai-community/gpt2"),
        ("openai/gpt2-xl", "openai-community/gpt2-xl"),
        ("pythia-12b-deduped", "EleutherAI/pythia-12b"),
        ("falcon-7b-instruct", "tiiuae/falcon-7b"),
        ("tiiuae/Falcon-H1-7B-Base", "tiiuae/Falcon-H1-7B-Instruct"),
        ("OpenGVLab/InternVL3-78B-AWQ", "OpenGVLab/InternVL3-78B"),
        ("OpenGVLab/InternVL2-8B", "OpenGVLab/InternVL2_5-8B"),
        ("MiniMaxAI/MiniMax-M1-80k-hf", "MiniMaxAI/MiniMax-Text-01"),
        ("unsloth/Llama-3.2-11B-Vision", "meta-llama/Llama-3.2-11B-Vision-Instruct"),
        ("nvidia/Llama-3_1-Nemotron-Ultra-253B-v1-FP8", "nvidia/Llama-3_1-Nemotron-Ultra-253B-v1"),
        ("Qwen-72B-Chat", "Qwen/Qwen-72B"),
        ("THUDM/glm-4-9b-chat-1m", "zai-org/glm-4-9b-chat"),
        ("state-spaces/mamba-2.8b", "state-spaces/mamba-2.8b-hf"),
        ("AntonV/mamba2-2.7b-hf", "state-spaces/mamba2-2.7b"),
        ("tiiuae/Falcon3-Mamba-7B-Instruct", "tiiuae/falcon-mamba-7b"),
        ("qwen2.5vl:7b", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("phi4mini", "microsoft/Phi-4-mini-instruct"),
        ("gemma3n:e4b", "google/gemma-3n-E4B-it"),
        ("granite4:tiny-h", "ibm-granite/granite-4.0-h-tiny"),
        ("devstral:24b", "mistralai/Devstral-Small-2507"),
        ("unsloth/Qwen3-Coder-Next-GGUF", "Qwen/Qwen3-Coder-Next"),
        ("mlx-community/Qwen3-Coder-Next-4bit", "Qwen/Qwen3-Coder-Next"),
        ("bartowski/zai-org_GLM-4.7-Flash-GGUF", "zai-org/GLM-4.7-Flash"),
        ("bartowski/mistralai_Devstral-Small-2507-GGUF", "mistralai/Devstral-Small-2507"),
        ("hermes3:70b", "meta-llama/Llama-3.1-70B"),
        ("phi3:3.8b", "microsoft/Phi-3-mini-128k-instruct"),
        ("phi3.5:3.8b", "microsoft/Phi-3.5-mini-instruct"),
        ("devstral:24b-q4_K_M", "mistralai/Devstral-Small-2507"),
        ("deepseek-r1:70b-llama-distill-q4_K_M", "meta-llama/Llama-3.1-70B"),
        ("deepseek-r1:1.5b-qwen-distill-fp16", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),
        ("llama2", "meta-llama/Llama-2-7b-hf"),
        ("mixtral", "mistralai/Mixtral-8x7B-v0.1"),
        ("command-r:35b", "CohereLabs/c4ai-command-r-08-2024"),
        ("Command R+", "CohereLabs/c4ai-command-r-plus-08-2024"),
        ("huihui_ai/deepseek-r1-abliterated:70b", "meta-llama/Llama-3.1-70B"),
        ("solar-pro:22b", "upstage/solar-pro-preview-instruct"),
        ("moondream", "microsoft/phi-1_5"),
        ("minicpm-v:8b", "Qwen/Qwen2-7B"),
        ("llama31-70b", "meta-llama/Llama-3.1-70B"),
        ("qwen25-72b-instruct", "Qwen/Qwen2.5-72B-Instruct"),
        ("Nemotron Ultra 253B", "nvidia/Llama-3_1-Nemotron-Ultra-253B-v1"),
        ("Vicuna 13B", "meta-llama/Llama-2-13b-hf"),
        ("allenai/Llama-3.1-Tulu-3-405B", "meta-llama/Llama-3.1-405B"),
        ("MaziyarPanahi/Llama-3-8B-Instruct-v0.1-GGUF", "meta-llama/Meta-Llama-3-8B"),
        ("GPT-3 175B", "facebook/opt-175b"),
        ("stablelm2:1.6b", "stabilityai/stablelm-2-1_6b-chat"),
        ("qwen38b", "Qwen/Qwen3-8B"),
        ("Llama_3_8B", "meta-llama/Meta-Llama-3-8B"),
        ("gemma_2_2b_it", "google/gemma-2-2b-it"),
        ("Qwen2.5-1_5B", "Qwen/Qwen2.5-1.5B"),
        ("internlm2-1.8b", "internlm/internlm2-chat-1_8b"),
        ("Qwen-8B", "Qwen/Qwen3-8B"),
        ("qwen-27b", "Qwen/Qwen3.5-27B"),
        ("gemma-2-9b", "google/gemma-2-9b-it"),
        ("codeqwen", "Qwen/CodeQwen1.5-7B"),
        ("meditron", "meta-llama/Llama-2-7b-hf"),
        ("meditron:70b", "meta-llama/Llama-2-70b-hf"),
        ("xwinlm", "meta-llama/Llama-2-7b-hf"),
        ("xwinlm:13b", "meta-llama/Llama-2-13b-hf"),
        ("mistral-small", "mistralai/Mistral-Small-24B-Instruct-2501"),
        ("mistral-small:22b", "mistralai/Mistral-Small-Instruct-2409"),
        ("granite-speech-3.3-8b", "ibm-granite/granite-3.1-8b-instruct"),
        ("granite-guardian-3.3-8b", "ibm-granite/granite-3.1-8b-instruct"),
        ("deepseek-r1:8b-llama-distill-q4_K_M", "meta-llama/Llama-3.1-8B"),
    ],
)
def test_names_that_people_type_stand_for(typed: str, known: str) -> None:
    found = model(typed)
    assert shape(found) == shape(model(known))
    assert found.formats == model(known).formats or found.named_format


def test_a_context_in_the_name_is_that_of_the_copy() -> None:
    assert model("01-ai/Yi-1.5-9B-Chat-16K").max_context == 16_384
    assert model("Qwen/Qwen2.5-7B-Instruct-1M").max_context == 1_048_576
    assert model("some-lab/Llama-3-8B-Instruct-Gradient-1048k").max_context == 1_048_000
    assert model("yi-coder").max_context == 131_072


@pytest.mark.parametrize(
    "name",
    [
        *("Qwen3-30B-A3B-Instruct-2507", "Qwen3-30B-A3B-Thinking-2507", "Qwen3-Coder-30B-A3B-Instruct"),
        *("Qwen3-30B-A3B", "Qwen3-4B-Instruct-2507"),
    ],
)
def test_a_quantised_copy_has_the_context_of_its_name_without_the_format(name: str) -> None:
    plain, copy = model(f"Qwen/{name}"), model(f"Qwen/{name}-FP8")
    assert copy.max_context == plain.max_context
    assert copy.formats["default"].startswith("fp8")


def test_a_copy_of_longer_context_does_without_the_windows_of_its_base() -> None:
    base, copy = model("mistralai/Mistral-7B-v0.1"), model("NousResearch/Yarn-Mistral-7b-128k")
    assert float(base.kv_bytes(100_000)) == 4096 * base.kv_bytes_per_token()
    assert float(copy.kv_bytes(100_000)) == 100_000 * base.kv_bytes_per_token()
    assert copy.reading.endswith("131072 tokens of context, attention to all of them")
    gemma = model("some-lab/gemma-2-9b-it-32k")  # every second layer sees all tokens: the others keep their window
    assert float(gemma.kv_bytes(30_000)) < 0.6 * 30_000 * gemma.kv_bytes_per_token()


# ---------------------------------------------------------------- refusals

# fmt: off
INVENTED = (
    "Qwen3-15B", "Qwen3-33B-AWQ", "Qwen3.9-27B", "Qwen2.5-9B-Instruct", "Qwen3-235B-A23B", "Qwen3-Coder-31B-A3B",
    "Qwen3-Next-81B-A3B", "Llama-3.1-71B-FP8", "Llama-3.4-70B-Instruct", "Llama-3.3-8B-Instruct", "Meta-Llama-3-9B",
    "Llama-2-14B-AWQ", "Llama-4-Scout-17B-32E", "Mixtral-8x9B-v0.1", "Mistral-7B-Instruct-v0.4",
    "Mistral-Small-25B-Instruct-2501", "Mistral-Large-2612", "gpt-oss-60b", "gemma-3-28b-it", "gemma-5-27b",
    "DeepSeek-V3.7", "DeepSeek-R2", "DeepSeek-R1-Distill-Llama-13B", "DeepSeek-V3-800B", "Kimi-K4-Instruct",
    "GLM-4.9", "GLM-4.7-Turbo", "MiniMax-M9", "phi-7", "Phi-3-huge-4k-instruct", "falcon-181B", "CodeLlama-35b-hf",
    "starcoder2-8b", "bloom-200b", "Qwen3-8B-Air", "Qwen3-14B-v2", "Hermes-3-Llama-3.1-71B",
    "nvidia/Nemotron-Nano-10B-v2", "GLM-4.8V", "Qwen-71B", "qwen3:15b", "inclusionAI/Ling-2.7-1T",
    "tiiuae/Falcon-H1-1.8B-Base", "tiiuae/falcon-8b", "tiiuae/Falcon-E-3B-Base", "InternVL4-8B", "pythia-13b",
    "EAGLE3-Qwen3-8B", "Qwen/Qwen3.4-32B", "Qwen/Qwen3.7-35B-A3B", "meta-llama/Llama-3.9-70B", "falcon/falcon-9-7b",
    "devstral:25b", "qwen2.5vl:8b", "devstral:25b-q4_K_M", "devstral:24b-turbo", "phi3:4b", "llama32-70b",
    "internlm2-8b", "stablelm-2-6b", "Qwen-18B", "glm-49b", "gemma-29b", "chatglm-6b", "internlm-7b",
    "THUDM/chatglm-6b", "internlm/internlm-7b", "internlm-chat-7b", "ibm-granite/granite-4.0-h-1b",
    "ibm-granite/granite-4.0-h-350m", "IQuest-Coder-V1-40B-Loop-Instruct", "ibm-granite/granite-3b-code-instruct-2k",
    "granite-code:3b", "granite-guardian-3.1-5b", "granite-poems-3.3-34b", "Qwen/Sonnets1.5-7B",
    "nvidia/Nemotron-Ultra-253B", "Nemotron 252B", "Mistral-7B-Instruct-v0.9", "Llama-3.1-Tulu-3-400B",
)
# fmt: on


@pytest.mark.parametrize("name", ["", " ", "/", "-"])
def test_no_name_is_no_model(name: str) -> None:
    with pytest.raises(UnknownName, match="unknown model"):
        model(name)


@pytest.mark.parametrize("name", INVENTED)
def test_an_invented_size_or_version_is_refused(name: str) -> None:
    with pytest.raises(UnknownName, match="unknown model"):
        model(name)


@pytest.mark.parametrize("name", [n for n in base_names() if any(c.isdigit() for c in n.partition("/")[2])])
def test_a_size_that_differs_by_a_digit_is_refused(name: str) -> None:
    """Of each model of the catalogue: its name with another size, which no model has."""
    leaf, publisher, _ = leaf_and_publisher(name)
    parts = parts_of(leaf, publisher)
    if parts.size != parts.size or parts.mixture:
        return
    written = f"{parts.size:g}b"
    other = leaf.replace(written, f"{parts.size + 0.37:g}b", 1)
    assert other != leaf or written not in leaf
    if other != leaf:
        with pytest.raises(UnknownName):
            model(other)


def test_the_error_offers_names_of_the_family() -> None:
    with pytest.raises(UnknownName) as raised:
        model("some-lab/Qwen3-15B-AWQ")
    assert 1 <= len(raised.value.nearest) <= 3
    assert all("Qwen3" in name for name in raised.value.nearest)
    with pytest.raises(UnknownName, match=r"did you mean 'meta-llama/Llama-3\.1"):
        model("Llama-3.1")


# ---------------------------------------------------------------- speed


def test_a_repeated_name_is_read_once() -> None:
    model("RedHatAI/Qwen3-14B-FP8-dynamic")
    before = catalogue._typed.cache_info().misses
    for _ in range(1000):
        model("RedHatAI/Qwen3-14B-FP8-dynamic")
    assert catalogue._typed.cache_info().misses == before


#: What hubs, clouds and command lines put around a name -> what it stands for.
AROUND = {
    "poolside/laguna-s-2.1:free": "poolside/Laguna-S-2.1",
    "Laguna-XS-2.1-NVFP4": "poolside/Laguna-XS-2.1",
    "cyankiwi/KAT-Coder-V2.5-Dev-AWQ-INT4": "Kwaipilot/KAT-Coder-V2.5-Dev",
    "TheBloke/phi-2-GGUF": "microsoft/phi-2",
    "phi-2.Q4_K_M.gguf": "microsoft/phi-2",
    "gpt-oss:20b-cloud": "openai/gpt-oss-20b",
    "llama3.1:8b-instruct-q4_K_M": "meta-llama/Llama-3.1-8B-Instruct",
    "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:IQ4_XS": "meta-llama/Llama-3.2-3B-Instruct",
    "https://huggingface.co/Qwen/Qwen3-32B?revision=main": "Qwen/Qwen3-32B",
    "openai/gpt-oss-120b@main": "openai/gpt-oss-120b",
    "meta.llama3-1-70b-instruct-v1:0": "meta-llama/Llama-3.1-70B-Instruct",
    "us.meta.llama3-3-70b-instruct-v1:0": "meta-llama/Llama-3.3-70B-Instruct",
    "deepseek.v3-v1:0": "deepseek-ai/DeepSeek-V3",
    "accounts/fireworks/models/llama-v3p1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "accounts/fireworks/models/qwen2p5-72b-instruct": "Qwen/Qwen2.5-72B-Instruct",
    "accounts/fireworks/models/deepseek-v3p1": "deepseek-ai/DeepSeek-V3.1",
    "accounts/fireworks/models/glm-4p6": "zai-org/GLM-4.6",
    "vertex_ai/meta/llama-3.1-405b-instruct-maas": "meta-llama/Llama-3.1-405B-Instruct",
    "@cf/meta/llama-3.3-70b-instruct-fp8-fast": "meta-llama/Llama-3.3-70B-Instruct",
    "bartowski/Qwen_Qwen3-32B-GGUF": "Qwen/Qwen3-32B",
    "us.deepseek.r1-v1:0": "deepseek-ai/DeepSeek-R1",
    "openai.gpt-oss-120b-1:0": "openai/gpt-oss-120b",
    "mistral.mistral-large-2407-v1:0": "mistralai/Mistral-Large-Instruct-2407",
    "cohere.command-r-plus-v1:0": "CohereLabs/c4ai-command-r-plus-08-2024",
    "minimax.minimax-m2": "MiniMaxAI/MiniMax-M2",
    "zai.glm-4.7-flash": "zai-org/GLM-4.7-Flash",
    "azureml://registries/azureml-meta/models/Llama-3.3-70B-Instruct/versions/4": "meta-llama/Llama-3.3-70B-Instruct",
    "mistral-small-2503@001": "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
    "llama3-70b-8192": "meta-llama/Meta-Llama-3-70B",
    "Cohere-command-r-plus-08-2024": "CohereLabs/c4ai-command-r-plus-08-2024",
}


@pytest.mark.parametrize(
    ("tag", "stored"), [("24b-q4_K_M", "q4_k_m"), ("24b-small-2507-q8_0", "q8_0"), ("24b", "bf16")]
)
def test_a_tag_of_a_library_brings_its_format(tag: str, stored: str) -> None:
    assert model(f"devstral:{tag}").formats["default"] == stored


@pytest.mark.parametrize(
    ("bits", "stored"), [("3bit", "q3_k_s"), ("5bit", "q5_k_s"), ("6bit", "q6_k"), ("4bit", "int4")]
)
def test_bits_of_mlx_are_counted_as_the_nearest_format(bits: str, stored: str) -> None:
    assert model(f"mlx-community/Qwen3-8B-{bits}").formats["default"] == stored
    assert model(f"lmstudio-community/Qwen3-8B-MLX-{bits}").formats["default"] == stored


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        *(("gpt-4o", "OpenAI"), ("o3", "OpenAI"), ("o1-mini", "OpenAI"), ("openai/o4-mini", "OpenAI")),
        *(("anthropic/claude-3-5-sonnet", "Anthropic"), ("amazon.nova-pro-v1:0", "Amazon")),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "Anthropic"),
        *(("qwen3.8-max-0902", "Alibaba"), ("gpt-6-astra", "OpenAI"), ("meta/muse-spark-1.1", "Meta")),
    ],
)
def test_models_whose_weights_are_not_published_are_refused_as_such(name: str, maker: str) -> None:
    with pytest.raises(InputError, match=f"weights are not published; {maker} alone serves it"):
        model(name)


def test_every_tag_stands_for_a_known_checkpoint() -> None:
    for tag, checkpoint in TAGS.items():
        assert shape(model(tag)) == shape(model(checkpoint)), tag


@pytest.mark.parametrize(("typed", "known"), AROUND.items())
def test_what_hubs_and_clouds_put_around_a_name_says_nothing(typed: str, known: str) -> None:
    assert shape(model(typed)) == shape(model(known))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("openai/whisper-large-v3", "an encoder-decoder for speech"),
        ("BAAI/bge-m3", "a text encoder"),
        ("black-forest-labs/FLUX.1-dev", "a diffusion model"),
        ("Qwen/Qwen3-TTS-12Hz-1.7B-Base", "a model that makes speech"),  # not read as Qwen3-1.7B
    ],
)
def test_models_that_are_no_decoders_are_refused_as_what_they_are(name: str, told: str) -> None:
    with pytest.raises(InputError, match=f"is {told}; only models that write token after token"):
        model(name)


@pytest.mark.parametrize(
    "name",
    [
        "RedHatAI/gpt-oss-120b-speculator.eagle3",
        "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4-DFlash",  # behind the format
        "google/gemma-4-31B-it-assistant",
        "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B",
        "lightseekorg/kimi-k2.6-eagle3-mla",
    ],
)
def test_a_draft_model_is_refused_and_not_read_as_the_model_that_it_drafts_for(name: str) -> None:
    with pytest.raises(
        UnknownName, match="it is a draft model for speculative decoding: give the model that it drafts"
    ):
        model(name)


@pytest.mark.parametrize(
    ("name", "stored", "told"),
    [
        ("google/gemma-3-27b-it-qat-q4_0-unquantized", "bf16", "bf16"),  # trained for q4_0
        ("mradermacher/Qwen3-32B-i1-GGUF:Q4_K_M", "q4_k_m", "q4_k_m"),
        ("mradermacher/Qwen3-32B-i1-GGUF", "bf16", "counted as bf16; state the weights"),
        ("ggml-org/gpt-oss-120b-GGUF", "mxfp4", "mxfp4"),  # these files keep the format of the model
    ],
)
def test_a_file_of_llama_cpp_is_in_the_format_of_its_name(name: str, stored: str, told: str) -> None:
    found = model(name)
    assert found.weight_format == stored
    assert found.reading.endswith(told)


def test_the_shape_of_qwen3_8_of_2_4t_is_its_own() -> None:
    assert model("Inferact/Qwen3.8-2.4T-A95B-NVFP4").layers == 92
    with pytest.raises(UnknownName):  # another model, not a copy of it
        model("Qwen/Qwen3.8-Flash-Next")


@pytest.mark.parametrize("name", ["llama3:8b-8b", "llama3:8b-8b-8b", "qwen3:8b-q4_k_m-8b"])
def test_a_tag_that_says_a_thing_twice_is_no_tag(name: str) -> None:
    assert model(name.partition("-")[0]).layers
    with pytest.raises(UnknownName):
        model(name)


def test_a_text_longer_than_any_name_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="has 3000009 characters; give a name of at most 500"):
        model("llama3:8b" + "-8b" * 1_000_000)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("FP8-dynamic", "fp8"),
        ("4bit", "int4"),
        ("awq_marlin", "int4"),
        ("nf4", "int4"),
        ("8-bit", "w8a16"),
        ("q8", "q8_0"),
        ("UD-Q4_K_XL", "q4_k_m"),
        ("Q4_K_L", "q4_k_m"),
        ("q4km", "q4_k_m"),
        ("IQ4XS", "iq4_xs"),
    ],
)
def test_formats_have_the_spellings_of_engines_and_hubs(written: str, stored: str) -> None:
    assert storage(written).name == stored


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("Qwen3-8", "Qwen/Qwen3-8B"), ("gpt-oss-2", "openai/gpt-oss-20b"), ("mistral-7", "mistralai/Mistral-7B-v0.1")],
)
def test_a_name_that_ends_early_is_offered_the_name_that_it_begins(typed: str, offered: str) -> None:
    with pytest.raises(UnknownName) as told:
        model(typed)
    assert told.value.nearest[0] == offered
