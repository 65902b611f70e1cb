"""Model shapes: parameters against published counts, KV bytes by hand, configurations good and bad."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwdb import UnknownName
from hwdb.tomlfile import read_toml
from perfmodel.dtypes import storage
from perfmodel.models import Mixer, ModelSpec, aliases, base_names, catalogue, model, names, read_config
from perfmodel.models.families import READERS, known_types
from perfmodel.models.families.common import reads
from perfmodel.models.families.table import families

GIB = 2.0**30


def facts(name: str) -> dict[str, Any]:
    return dict(read_toml(catalogue.FOLDER / f"{name.replace('/', '--')}.toml").values)


def rounding(printed: str) -> float:
    """Half a unit of the last printed digit; a whole one where the authors say 'about'."""
    number = printed.removeprefix("~")
    decimals = len(number[:-1].partition(".")[2])
    return (1.0 if printed.startswith("~") else 0.5) * 10.0**-decimals * {"M": 1e6, "B": 1e9, "T": 1e12}[number[-1]]


def counted_active(spec: ModelSpec, way: str) -> float:
    """Active parameters, as the model's authors count them."""
    table = spec.vocab * spec.hidden
    left_out = {"": 0, "without embeddings": table * (1 if spec.tied else 2), "without the input embedding": table}[way]
    return spec.parameters(active=True) - left_out


# ---------------------------------------------------------------- published parameter counts


@pytest.mark.parametrize("name", base_names())
def test_parameters_agree_with_the_published_count(name: str) -> None:
    spec, published = model(name), facts(name)["published"]
    assert published["source"]
    slack = max(0.01 * spec.published_total, rounding(published["total"]))
    assert abs(spec.parameters() + spec.encoder_parameters - spec.published_total) <= slack
    if "active" in published:
        active = counted_active(spec, published.get("active_counts", ""))
        assert abs(active - spec.published_active) <= max(0.01 * spec.published_active, rounding(published["active"]))


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("bigscience/bloom", 176_247_271_424),  # model card
        ("bigscience/bloom-7b1", 7_069_016_064),  # model card
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),  # Hugging Face's count of the checkpoint
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-3.1-70B", 70_553_706_496),
        ("mistralai/Mistral-7B-v0.1", 7_241_732_096),
        ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704),
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("google/gemma-2-2b-it", 2_614_341_888),
    ],
)
def test_parameters_agree_to_the_last_one(name: str, exact: int) -> None:
    assert model(name).parameters() == pytest.approx(exact, abs=1e-6 * exact)


def test_a_wrong_shape_would_miss_the_published_count() -> None:
    facts_of = facts("meta-llama/Llama-3.1-70B")["config"]
    wrong = read_config({**facts_of, "num_key_value_heads": 64})
    assert abs(wrong.parameters() / 70.6e9 - 1.0) > 0.01


# ---------------------------------------------------------------- KV bytes per token, by hand

BF16, FP8 = 2, 1
MLA = 512 + 64  # latent and rotary key
INDEX = 128 + 4  # fp8 key of the indexer, and its scale
KV_BYTES = {
    # layers x key heads x (key + value size) x bytes
    "1bitLLM/bitnet_b1_58-3B": 26 * 32 * 200 * BF16,
    "BAAI/Aquila-7B": 32 * 32 * 256 * BF16,
    "bigcode/starcoder2-15b": 40 * 4 * 256 * BF16,
    "bigcode/starcoder2-3b": 30 * 2 * 256 * BF16,
    "bigcode/starcoder2-7b": 32 * 4 * 256 * BF16,
    "bigscience/bloom": 70 * 112 * 256 * BF16,
    "bigscience/bloom-7b1": 30 * 32 * 256 * BF16,
    "codellama/CodeLlama-13b-hf": 40 * 40 * 256 * BF16,
    "codellama/CodeLlama-34b-hf": 48 * 8 * 256 * BF16,
    "codellama/CodeLlama-70b-hf": 80 * 8 * 256 * BF16,
    "codellama/CodeLlama-7b-hf": 32 * 32 * 256 * BF16,
    "Deci/DeciLM-7B": 64 * 256 * BF16,
    "allenai/OLMo-2-0325-32B": 262_144,
    "baidu/ERNIE-4.5-21B-A3B-PT": 57_344,
    "ByteDance-Seed/Seed-OSS-36B-Instruct": 262_144,
    "CohereLabs/c4ai-command-a-03-2025": 262_144,
    "google/gemma-3n-E4B-it": 20 * 2 * 512 * BF16,  # the last 15 of 35 layers read the cache of earlier ones
    "HuggingFaceTB/SmolLM3-3B": 73_728,
    "ibm-granite/granite-3.1-8b-instruct": 163_840,
    "ibm-granite/granite-4.0-h-small": 16_384,  # 4 of 40 layers have attention
    "inclusionAI/Ling-flash-2.0": 65_536,
    "meituan-longcat/LongCat-Flash-Chat": 2 * 28 * MLA * BF16,  # latent attention twice per layer
    "meta-llama/Llama-3.2-90B-Vision-Instruct": 80 * 8 * 256 * BF16,  # 20 of 100 layers attend to the image
    "meta-models/Muse-Glimmer-30B": 52 * 2 * 256 * BF16,
    "microsoft/phi-2": 32 * 32 * 160 * BF16,
    "microsoft/Phi-3.5-MoE-instruct": 32 * 8 * 256 * BF16,
    "microsoft/Phi-4-multimodal-instruct": 32 * 8 * 256 * BF16,
    "moonshotai/Kimi-K3": 24 * MLA * BF16,
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": 7 * MLA * BF16,
    "Qwen/Qwen2.5-VL-72B-Instruct": 327_680,
    "stepfun-ai/Step-3.7-Flash": 45 * 8 * 256 * BF16,
    "zai-org/GLM-4-9B-0414": 40 * 2 * 256 * BF16,
    "zai-org/GLM-4.5V": 188_416,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 28 * 2 * 256 * BF16,
    "deepseek-ai/DeepSeek-V2": 60 * MLA * BF16,
    "deepseek-ai/DeepSeek-V2-Lite": 27 * MLA * BF16,
    "deepseek-ai/DeepSeek-V3": 70_272,
    "deepseek-ai/DeepSeek-V3.2": 61 * (MLA * BF16 + INDEX),
    "deepseek-ai/DeepSeek-V4-Flash": 43 * 512 * FP8 + 21 * INDEX,
    "deepseek-ai/DeepSeek-V4-Pro": 61 * 512 * FP8 + 30 * INDEX,
    "EleutherAI/gpt-j-6b": 28 * 16 * 512 * BF16,
    "facebook/opt-13b": 40 * 40 * 256 * BF16,
    "facebook/opt-30b": 48 * 56 * 256 * BF16,
    "facebook/opt-6.7b": 32 * 32 * 256 * BF16,
    "google/codegemma-1.1-2b": 18 * 1 * 512 * BF16,
    "google/codegemma-7b": 28 * 16 * 512 * BF16,
    "google/gemma-2-27b-it": 46 * 16 * 256 * BF16,
    "google/gemma-2-2b-it": 26 * 4 * 512 * BF16,
    "google/gemma-2-9b-it": 42 * 8 * 512 * BF16,
    "google/gemma-3-12b-it": 48 * 8 * 512 * BF16,
    "google/gemma-3-27b-it": 62 * 16 * 256 * BF16,
    "google/gemma-4-12B": (40 * 8 * 512 + 8 * 1 * 1024) * BF16,
    "google/gemma-4-26B-A4B": (25 * 8 * 512 + 5 * 2 * 1024) * BF16,  # full layers keep key and value
    "google/gemma-4-31B": (50 * 16 * 512 + 10 * 4 * 1024) * BF16,
    "google/gemma-4-E2B": (12 * 512 + 3 * 1024) * BF16,  # the last 20 of 35 layers read the cache of earlier ones
    "google/gemma-4-E4B": (20 * 2 * 512 + 4 * 2 * 1024) * BF16,  # the last 18 of 42 layers do
    "huggyllama/llama-7b": 32 * 32 * 256 * BF16,
    "meta-llama/Llama-2-13b-hf": 40 * 40 * 256 * BF16,
    "meta-llama/Llama-2-70b-hf": 80 * 8 * 256 * BF16,
    "meta-llama/Llama-2-7b-hf": 32 * 32 * 256 * BF16,
    "meta-llama/Llama-3.1-405B": 126 * 8 * 256 * BF16,
    "meta-llama/Llama-3.1-70B": 327_680,
    "meta-llama/Llama-3.1-8B": 131_072,
    "meta-llama/Llama-3.2-1B": 16 * 8 * 128 * BF16,
    "meta-llama/Llama-3.2-3B": 28 * 8 * 256 * BF16,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": 48 * 8 * 256 * BF16,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 48 * 8 * 256 * BF16,
    "meta-llama/Meta-Llama-3-70B": 80 * 8 * 256 * BF16,
    "meta-llama/Meta-Llama-3-8B": 32 * 8 * 256 * BF16,
    "microsoft/Phi-3-medium-4k-instruct": 40 * 10 * 256 * BF16,
    "microsoft/Phi-3-mini-4k-instruct": 32 * 32 * 192 * BF16,
    "microsoft/Phi-3.5-mini-instruct": 32 * 32 * 192 * BF16,
    "microsoft/Phi-3-medium-128k-instruct": 40 * 10 * 256 * BF16,
    "microsoft/Phi-3-small-8k-instruct": 32 * 8 * 256 * BF16,
    "microsoft/phi-4": 40 * 10 * 256 * BF16,
    "MiniMaxAI/MiniMax-M2.5": 62 * 8 * 256 * BF16,
    "MiniMaxAI/MiniMax-M3": (60 * 4 * 256 + 57 * 128) * BF16,
    "mistralai/Ministral-3-14B-Base-2512": 40 * 8 * 256 * BF16,
    "mistralai/Ministral-3-3B-Base-2512": 26 * 8 * 256 * BF16,
    "mistralai/Ministral-3-8B-Base-2512": 34 * 8 * 256 * BF16,
    "mistralai/Mistral-7B-Instruct-v0.2": 32 * 8 * 256 * BF16,
    "mistralai/Mistral-7B-Instruct-v0.3": 32 * 8 * 256 * BF16,
    "mistralai/Mistral-7B-v0.1": 32 * 8 * 256 * BF16,
    "mistralai/Mistral-Large-Instruct-2407": 88 * 8 * 256 * BF16,
    "mistralai/Mistral-Nemo-Instruct-2407": 40 * 8 * 256 * BF16,
    "mistralai/Mistral-Small-4-119B-2603": 36 * (256 + 64) * BF16,
    "mistralai/Mistral-Small-24B-Instruct-2501": 40 * 8 * 256 * BF16,
    "mistralai/Mixtral-8x22B-v0.1": 56 * 8 * 256 * BF16,
    "mistralai/Mixtral-8x7B-v0.1": 32 * 8 * 256 * BF16,
    "moonshotai/Kimi-K2-Instruct": 61 * MLA * BF16,
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1": 49 * 8 * 256 * BF16,  # 31 of 80 layers have no attention
    "nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16": 4 * 8 * 256 * BF16,
    "nvidia/Nemotron-H-56B-Base-8K": 10 * 8 * 256 * BF16,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 6 * 2 * 256 * BF16,
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16": 8 * 2 * 256 * BF16,
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": 12 * 2 * 256 * BF16,
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2": 6 * 8 * 256 * BF16,
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": 4 * 8 * 256 * BF16,
    "openai/gpt-oss-120b": 36 * 8 * 128 * BF16,
    "poolside/Laguna-S-2.1": 48 * 8 * 256 * BF16,  # query heads differ by layer, key heads do not
    "poolside/Laguna-XS-2.1": 40 * 8 * 256 * BF16,
    "openai/gpt-oss-20b": 24 * 8 * 128 * BF16,
    "Qwen/Qwen1.5-7B": 32 * 32 * 256 * BF16,
    "Qwen/CodeQwen1.5-7B": 32 * 4 * 256 * BF16,
    "Qwen/Qwen2-72B": 80 * 8 * 256 * BF16,
    "Qwen/Qwen2-7B": 28 * 4 * 256 * BF16,
    "Qwen/Qwen2.5-0.5B": 24 * 2 * 128 * BF16,
    "Qwen/Qwen2.5-1.5B": 28 * 2 * 256 * BF16,
    "Qwen/Qwen2.5-14B": 48 * 8 * 256 * BF16,
    "Qwen/Qwen2.5-32B": 64 * 8 * 256 * BF16,
    "Qwen/Qwen2.5-3B": 36 * 2 * 256 * BF16,
    "Qwen/Qwen2.5-72B": 80 * 8 * 256 * BF16,
    "Qwen/Qwen2.5-7B": 28 * 4 * 256 * BF16,
    "Qwen/Qwen3-0.6B": 28 * 8 * 256 * BF16,
    "Qwen/Qwen3-1.7B": 28 * 8 * 256 * BF16,
    "Qwen/Qwen3-14B": 40 * 8 * 256 * BF16,
    "Qwen/Qwen3-235B-A22B": 94 * 4 * 256 * BF16,
    "Qwen/Qwen3-30B-A3B": 48 * 4 * 256 * BF16,
    "Qwen/Qwen3-32B": 64 * 8 * 256 * BF16,
    "Qwen/Qwen3-4B": 36 * 8 * 256 * BF16,
    "Qwen/Qwen3-8B": 36 * 8 * 256 * BF16,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": 62 * 8 * 256 * BF16,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": 12 * 2 * 512 * BF16,
    "Qwen/Qwen3.5-0.8B": 6 * 2 * 512 * BF16,
    "Qwen/Qwen3.5-2B": 6 * 2 * 512 * BF16,
    "Qwen/Qwen3.5-4B": 8 * 4 * 512 * BF16,
    "Qwen/Qwen3.5-9B": 8 * 4 * 512 * BF16,
    "Qwen/Qwen3.5-122B-A10B": 12 * 2 * 512 * BF16,
    "Qwen/Qwen3.5-27B": 16 * 4 * 512 * BF16,
    "Qwen/Qwen3.5-35B-A3B": 10 * 2 * 512 * BF16,
    "Qwen/Qwen3.5-397B-A17B": 15 * 2 * 512 * BF16,
    "Qwen/Qwen3.8-2.4T-A95B": 23 * 2 * 1024 * BF16,
    "tencent/Hy3-preview": 80 * 8 * 256 * BF16,
    "tiiuae/falcon-180B": 80 * 8 * 128 * BF16,
    "XiaomiMiMo/MiMo-7B-Base": 36 * 8 * 256 * BF16,
    "XiaomiMiMo/MiMo-V2-Flash": (9 * 4 + 39 * 8) * (192 + 128) * BF16,
    "zai-org/GLM-4.5-Air": 46 * 8 * 256 * BF16,
    "zai-org/GLM-4.7-Flash": 47 * MLA * BF16,
    "zai-org/GLM-4.6": 92 * 8 * 256 * BF16,
    "zai-org/GLM-5": 78 * (MLA * BF16 + INDEX),
    "zai-org/GLM-5.2": 78 * MLA * BF16 + 21 * INDEX,  # most layers reuse the index of the layer before
    "01-ai/Yi-1.5-9B-Chat": 48 * 4 * 256 * BF16,
    "01-ai/Yi-34B-Chat": 60 * 8 * 256 * BF16,
    "01-ai/Yi-6B-Chat": 32 * 4 * 256 * BF16,
    "ai21labs/AI21-Jamba-Large-1.7": 9 * 8 * 256 * BF16,  # attention in every eighth layer
    "ai21labs/AI21-Jamba-Mini-1.7": 4 * 8 * 256 * BF16,  # attention in every eighth layer
    "allenai/OLMo-2-1124-13B-Instruct": 40 * 40 * 256 * BF16,
    "allenai/OLMo-2-1124-7B-Instruct": 32 * 32 * 256 * BF16,
    "allenai/Olmo-3-7B-Instruct": 32 * 32 * 256 * BF16,
    "allenai/Olmo-3.1-32B-Instruct": 64 * 8 * 256 * BF16,
    "arcee-ai/AFM-4.5B": 36 * 4 * 256 * BF16,
    "baidu/ERNIE-4.5-0.3B-PT": 18 * 2 * 256 * BF16,
    "baidu/ERNIE-4.5-300B-A47B-PT": 54 * 8 * 256 * BF16,
    "ByteDance-Seed/Seed-Coder-8B-Instruct": 32 * 8 * 256 * BF16,
    "CohereLabs/aya-expanse-32b": 40 * 8 * 256 * BF16,
    "CohereLabs/aya-expanse-8b": 32 * 8 * 256 * BF16,
    "CohereLabs/c4ai-command-r-08-2024": 40 * 8 * 256 * BF16,
    "CohereLabs/c4ai-command-r-plus-08-2024": 64 * 8 * 256 * BF16,
    "CohereLabs/c4ai-command-r-v01": 40 * 64 * 256 * BF16,
    "CohereLabs/c4ai-command-r7b-12-2024": 32 * 8 * 256 * BF16,
    "databricks/dbrx-instruct": 40 * 8 * 256 * BF16,
    "deepseek-ai/deepseek-coder-33b-instruct": 62 * 8 * 256 * BF16,
    "deepseek-ai/deepseek-coder-6.7b-instruct": 32 * 32 * 256 * BF16,
    "deepseek-ai/deepseek-llm-67b-chat": 95 * 8 * 256 * BF16,
    "deepseek-ai/deepseek-llm-7b-chat": 30 * 32 * 256 * BF16,
    "google/gemma-3-1b-it": 26 * 1 * 512 * BF16,
    "google/gemma-3-270m-it": 18 * 1 * 512 * BF16,
    "google/gemma-3-4b-it": 34 * 4 * 512 * BF16,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 24 * 32 * 128 * BF16,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 30 * 3 * 128 * BF16,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 32 * 5 * 128 * BF16,
    "ibm-granite/granite-3.3-2b-instruct": 40 * 8 * 128 * BF16,
    "ibm-granite/granite-4.0-micro": 40 * 8 * 128 * BF16,
    "inclusionAI/Ling-1T": 80 * 8 * 256 * BF16,
    "inclusionAI/Ling-mini-2.0": 20 * 4 * 256 * BF16,
    "internlm/internlm2_5-20b-chat": 48 * 8 * 256 * BF16,
    "internlm/internlm2_5-7b-chat": 32 * 8 * 256 * BF16,
    "internlm/internlm3-8b-instruct": 48 * 2 * 256 * BF16,
    "LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct": 30 * 8 * 160 * BF16,
    "LGAI-EXAONE/EXAONE-3.5-32B-Instruct": 64 * 8 * 256 * BF16,
    "LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct": 32 * 8 * 256 * BF16,
    "LGAI-EXAONE/EXAONE-4.0-1.2B": 30 * 8 * 128 * BF16,
    "LGAI-EXAONE/EXAONE-4.0-32B": 64 * 8 * 256 * BF16,
    "LGAI-EXAONE/EXAONE-4.5-33B": 64 * 8 * 256 * BF16,
    "LiquidAI/LFM2-1.2B": 6 * 8 * 128 * BF16,  # the other ten layers are convolutions
    "LiquidAI/LFM2-350M": 6 * 8 * 128 * BF16,  # the other ten layers are convolutions
    "microsoft/Phi-3.5-vision-instruct": 32 * 32 * 192 * BF16,
    "microsoft/Phi-4-mini-instruct": 32 * 8 * 256 * BF16,
    "mistralai/Codestral-22B-v0.1": 56 * 8 * 256 * BF16,
    "mistralai/Devstral-2-123B-Instruct-2512": 88 * 8 * 256 * BF16,
    "mistralai/Devstral-Small-2-24B-Instruct-2512": 40 * 8 * 256 * BF16,
    "mistralai/Ministral-8B-Instruct-2410": 36 * 8 * 256 * BF16,
    "mistralai/Mistral-Large-3-675B-Instruct-2512": 61 * MLA * BF16,
    "mistralai/Voxtral-Mini-3B-2507": 30 * 8 * 256 * BF16,
    "moonshotai/Moonlight-16B-A3B-Instruct": 27 * MLA * BF16,
    "nvidia/Nemotron-4-340B-Instruct": 96 * 8 * 384 * BF16,
    "nvidia/Nemotron-Mini-4B-Instruct": 32 * 8 * 256 * BF16,
    "openbmb/MiniCPM4.1-8B": 32 * 2 * 256 * BF16,
    "Qwen/Qwen1.5-110B": 80 * 8 * 256 * BF16,
    "Qwen/Qwen1.5-14B": 40 * 40 * 256 * BF16,
    "Qwen/Qwen1.5-32B": 64 * 8 * 256 * BF16,
    "Qwen/Qwen1.5-4B": 40 * 20 * 256 * BF16,
    "Qwen/Qwen1.5-72B": 80 * 64 * 256 * BF16,
    "Qwen/Qwen1.5-MoE-A2.7B": 24 * 16 * 256 * BF16,
    "Qwen/Qwen2-0.5B": 24 * 2 * 128 * BF16,
    "Qwen/Qwen2-1.5B": 28 * 2 * 256 * BF16,
    "Qwen/Qwen2-57B-A14B-Instruct": 28 * 4 * 256 * BF16,
    "rednote-hilab/dots.llm1.inst": 62 * 32 * 256 * BF16,
    "RekaAI/reka-flash-3": 44 * 8 * 192 * BF16,
    "speakleash/Bielik-11B-v2.6-Instruct": 50 * 8 * 256 * BF16,
    "stabilityai/stablelm-2-12b-chat": 40 * 8 * 320 * BF16,
    "stabilityai/stablelm-2-1_6b-chat": 24 * 32 * 128 * BF16,
    "swiss-ai/Apertus-70B-Instruct-2509": 80 * 8 * 256 * BF16,
    "swiss-ai/Apertus-8B-Instruct-2509": 32 * 8 * 256 * BF16,
    "tencent/Hunyuan-7B-Instruct": 32 * 8 * 256 * BF16,
    "tencent/Hunyuan-A13B-Instruct": 32 * 8 * 256 * BF16,
    "tiiuae/Falcon3-10B-Instruct": 40 * 4 * 512 * BF16,
    "tiiuae/Falcon3-1B-Instruct": 18 * 4 * 512 * BF16,
    "tiiuae/Falcon3-3B-Instruct": 22 * 4 * 512 * BF16,
    "tiiuae/Falcon3-7B-Instruct": 28 * 4 * 512 * BF16,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 22 * 4 * 128 * BF16,
    "upstage/SOLAR-10.7B-Instruct-v1.0": 48 * 8 * 256 * BF16,
    "utter-project/EuroLLM-9B-Instruct": 42 * 8 * 256 * BF16,
    "EleutherAI/gpt-neox-20b": 44 * 64 * 192 * BF16,
    "EleutherAI/pythia-1.4b": 24 * 16 * 256 * BF16,
    "EleutherAI/pythia-12b": 36 * 40 * 256 * BF16,
    "EleutherAI/pythia-160m": 12 * 12 * 128 * BF16,
    "EleutherAI/pythia-1b": 16 * 8 * 512 * BF16,
    "EleutherAI/pythia-2.8b": 32 * 32 * 160 * BF16,
    "EleutherAI/pythia-410m": 24 * 16 * 128 * BF16,
    "EleutherAI/pythia-6.9b": 32 * 32 * 256 * BF16,
    "EleutherAI/pythia-70m": 6 * 8 * 128 * BF16,
    "HuggingFaceTB/SmolLM-1.7B": 24 * 32 * 128 * BF16,
    "LiquidAI/LFM2-2.6B": 8 * 8 * 128 * BF16,  # the other 22 layers are convolutions
    "LiquidAI/LFM2-8B-A1B": 6 * 8 * 128 * BF16,  # the other 18 layers are convolutions
    "MiniMaxAI/MiniMax-Text-01": 10 * 8 * 256 * BF16,  # every eighth of 80 layers has softmax attention
    "OpenGVLab/InternVL2-40B": 60 * 8 * 256 * BF16,
    "OpenGVLab/InternVL2-Llama3-76B": 80 * 8 * 256 * BF16,
    "OpenGVLab/InternVL2_5-26B": 48 * 8 * 256 * BF16,
    "OpenGVLab/InternVL2_5-2B": 24 * 8 * 256 * BF16,
    "OpenGVLab/InternVL2_5-38B": 64 * 8 * 256 * BF16,
    "OpenGVLab/InternVL2_5-4B": 36 * 2 * 256 * BF16,
    "OpenGVLab/InternVL2_5-78B": 80 * 8 * 256 * BF16,
    "OpenGVLab/InternVL2_5-8B": 32 * 8 * 256 * BF16,
    "OpenGVLab/InternVL3-14B": 48 * 8 * 256 * BF16,
    "OpenGVLab/InternVL3-1B": 24 * 2 * 128 * BF16,
    "OpenGVLab/InternVL3-2B": 28 * 2 * 256 * BF16,
    "OpenGVLab/InternVL3-38B": 64 * 8 * 256 * BF16,
    "OpenGVLab/InternVL3-78B": 80 * 8 * 256 * BF16,
    "OpenGVLab/InternVL3-8B": 28 * 4 * 256 * BF16,
    "OpenGVLab/InternVL3_5-14B": 40 * 8 * 256 * BF16,
    "OpenGVLab/InternVL3_5-241B-A28B": 94 * 4 * 256 * BF16,
    "OpenGVLab/InternVL3_5-30B-A3B": 48 * 4 * 256 * BF16,
    "OpenGVLab/InternVL3_5-38B": 64 * 8 * 256 * BF16,
    "OpenGVLab/InternVL3_5-4B": 36 * 8 * 256 * BF16,
    "OpenGVLab/InternVL3_5-8B": 36 * 8 * 256 * BF16,
    "Qwen/Qwen-14B": 40 * 40 * 256 * BF16,
    "Qwen/Qwen-1_8B": 24 * 16 * 256 * BF16,
    "Qwen/Qwen-72B": 80 * 64 * 256 * BF16,
    "Qwen/Qwen-7B": 32 * 32 * 256 * BF16,
    "Qwen/Qwen2-VL-2B-Instruct": 28 * 2 * 256 * BF16,
    "Qwen/Qwen2-VL-72B-Instruct": 80 * 8 * 256 * BF16,
    "Qwen/Qwen2-VL-7B-Instruct": 28 * 4 * 256 * BF16,
    "Qwen/Qwen2.5-VL-32B-Instruct": 64 * 8 * 256 * BF16,
    "Qwen/Qwen2.5-VL-3B-Instruct": 36 * 2 * 256 * BF16,
    "Qwen/Qwen2.5-VL-7B-Instruct": 28 * 4 * 256 * BF16,
    "Zyphra/Zamba2-7B-Instruct": 13 * 32 * 448 * BF16,  # 13 of 81 layers run the shared attention, twice as wide
    "allenai/OLMoE-1B-7B-0924": 16 * 16 * 256 * BF16,
    "arcee-ai/Trinity-Mini": 32 * 4 * 256 * BF16,
    "baichuan-inc/Baichuan2-13B-Chat": 40 * 40 * 256 * BF16,
    "baichuan-inc/Baichuan2-7B-Chat": 32 * 32 * 256 * BF16,
    "bigcode/starcoder": 40 * 1 * 256 * BF16,
    "bigscience/bloom-1b7": 24 * 16 * 256 * BF16,
    "bigscience/bloom-3b": 30 * 32 * 160 * BF16,
    "bigscience/bloom-560m": 24 * 16 * 128 * BF16,
    "cyberagent/calm3-22b-chat": 48 * 48 * 256 * BF16,
    "deepseek-ai/deepseek-moe-16b-base": 28 * 16 * 256 * BF16,
    "deepseek-ai/deepseek-vl2": 30 * MLA * BF16,
    "facebook/opt-1.3b": 24 * 32 * 128 * BF16,
    "facebook/opt-125m": 12 * 12 * 128 * BF16,
    "facebook/opt-2.7b": 32 * 32 * 160 * BF16,
    "facebook/opt-66b": 64 * 72 * 256 * BF16,
    "huggyllama/llama-13b": 40 * 40 * 256 * BF16,
    "huggyllama/llama-30b": 60 * 52 * 256 * BF16,
    "huggyllama/llama-65b": 80 * 64 * 256 * BF16,
    "ibm-ai-platform/Bamba-9B": 3 * 8 * 256 * BF16,  # layers 9, 18 and 27 have attention
    "ibm-granite/granite-20b-code-instruct-8k": 52 * 1 * 256 * BF16,
    "ibm-granite/granite-3.1-2b-instruct": 40 * 8 * 128 * BF16,
    "ibm-granite/granite-3.1-3b-a800m-instruct": 32 * 8 * 128 * BF16,
    "ibm-granite/granite-34b-code-instruct-8k": 88 * 1 * 256 * BF16,
    "ibm-granite/granite-4.0-h-micro": 4 * 8 * 128 * BF16,  # 4 of 40 layers have attention
    "ibm-granite/granite-4.0-h-tiny": 4 * 4 * 256 * BF16,  # 4 of 40 layers have attention
    "ibm-granite/granite-8b-code-instruct-4k": 36 * 8 * 256 * BF16,
    "inclusionAI/Ling-lite": 28 * 4 * 256 * BF16,
    "internlm/internlm2-20b": 48 * 8 * 256 * BF16,
    "internlm/internlm2-7b": 32 * 8 * 256 * BF16,
    "kakaocorp/kanana-1.5-8b-instruct-2505": 32 * 8 * 256 * BF16,
    "llava-hf/llava-1.5-13b-hf": 40 * 40 * 256 * BF16,
    "llava-hf/llava-1.5-7b-hf": 32 * 32 * 256 * BF16,
    "meta-llama/Llama-3.2-11B-Vision-Instruct": 32 * 8 * 256 * BF16,  # 8 of 40 layers attend to the image
    "mosaicml/mpt-30b": 48 * 64 * 224 * BF16,
    "mosaicml/mpt-7b": 32 * 32 * 256 * BF16,
    "nvidia/Llama-3.1-Minitron-4B-Width-Base": 32 * 8 * 256 * BF16,
    "nvidia/Llama-3_1-Nemotron-Ultra-253B-v1": 64 * 8 * 256 * BF16,  # 98 of 162 layers have no attention
    "nvidia/Minitron-8B-Base": 32 * 8 * 256 * BF16,
    "nvidia/Mistral-NeMo-Minitron-8B-Base": 40 * 8 * 256 * BF16,
    "nvidia/Nemotron-H-8B-Base-8K": 4 * 8 * 256 * BF16,  # 4 of 52 layers have attention
    "openai-community/gpt2-large": 36 * 20 * 128 * BF16,
    "openai-community/gpt2-medium": 24 * 16 * 128 * BF16,
    "openai-community/gpt2-xl": 48 * 25 * 128 * BF16,
    "openai-community/gpt2": 12 * 12 * 128 * BF16,
    "openbmb/MiniCPM3-4B": 62 * (256 + 32) * BF16,
    "tiiuae/Falcon-H1-0.5B-Instruct": 36 * 2 * 128 * BF16,
    "deepseek-ai/deepseek-vl2-small": 27 * MLA * BF16,
    "deepseek-ai/deepseek-vl2-tiny": 12 * 10 * 256 * BF16,
    "mistralai/Mamba-Codestral-7B-v0.1": 0.0,
    **{f"state-spaces/mamba-{size}-hf": 0.0 for size in ("130m", "370m", "790m", "1.4b", "2.8b")},
    **{f"state-spaces/mamba2-{size}": 0.0 for size in ("130m", "370m", "780m", "1.3b", "2.7b")},
    "stepfun-ai/Step-3.5-Flash": 45 * 8 * 256 * BF16,
    "tiiuae/falcon-mamba-7b": 0.0,
    "upstage/Solar-Open-100B": 48 * 8 * 256 * BF16,
    "tiiuae/Falcon-H1-1.5B-Instruct": 24 * 2 * 256 * BF16,
    "tiiuae/Falcon-H1-1.5B-Deep-Instruct": 66 * 2 * 256 * BF16,
    "tiiuae/Falcon-H1-34B-Instruct": 72 * 4 * 256 * BF16,
    "tiiuae/Falcon-H1-3B-Instruct": 32 * 2 * 256 * BF16,
    "tiiuae/Falcon-H1-7B-Instruct": 44 * 2 * 256 * BF16,
    "tiiuae/falcon-11B": 60 * 8 * 256 * BF16,
    "tiiuae/falcon-40b": 60 * 8 * 128 * BF16,
    "tiiuae/falcon-7b": 32 * 1 * 128 * BF16,  # one key head for all 71 query heads
    "xai-org/grok-1": 64 * 8 * 256 * BF16,
    "xai-org/grok-2": 64 * 8 * 256 * BF16,
    "zai-org/GLM-4-32B-0414": 61 * 2 * 256 * BF16,
    "zai-org/GLM-4.6V-Flash": 40 * 2 * 256 * BF16,
    "zai-org/chatglm3-6b": 28 * 2 * 256 * BF16,
    "zai-org/glm-4-9b-chat": 40 * 2 * 256 * BF16,
    "Qwen/Qwen1.5-0.5B": 24 * 16 * 128 * BF16,
    "Qwen/Qwen1.5-1.8B": 24 * 16 * 256 * BF16,
    "deepseek-ai/deepseek-coder-1.3b-instruct": 24 * 16 * 256 * BF16,
    "microsoft/phi-1_5": 24 * 32 * 128 * BF16,
    "LGAI-EXAONE/K-EXAONE-236B-A23B": 48 * 8 * 256 * BF16,
    "ibm-granite/granite-4.1-8b": 40 * 8 * 256 * BF16,
    "ibm-granite/granite-4.1-30b": 64 * 8 * 256 * BF16,
    "ibm-granite/granite-4.0-1b": 40 * 4 * 256 * BF16,
    "ibm-granite/granite-4.0-350m": 28 * 4 * 128 * BF16,
    "ibm-granite/granite-3.1-1b-a400m-instruct": 24 * 8 * 128 * BF16,
    "LiquidAI/LFM2-24B-A2B": 10 * 8 * 128 * BF16,
    "LiquidAI/LFM2-700M": 6 * 8 * 128 * BF16,
    "upstage/solar-pro-preview-instruct": 64 * 10 * 256 * BF16,
    "XiaomiMiMo/MiMo-V2.5-Pro": 70 * 8 * 320 * BF16,
    "utter-project/EuroLLM-1.7B": 24 * 8 * 256 * BF16,
    "kakaocorp/kanana-1.5-2.1b-instruct-2505": 32 * 8 * 256 * BF16,
    "naver-hyperclovax/HyperCLOVAX-SEED-Text-Instruct-1.5B": 24 * 8 * 256 * BF16,
    "tencent/Hunyuan-4B-Instruct": 36 * 8 * 256 * BF16,
    "tencent/Hunyuan-1.8B-Instruct": 32 * 4 * 256 * BF16,
    "allenai/OLMo-2-0425-1B": 16 * 16 * 256 * BF16,
    "allenai/OLMo-7B-0724-hf": 32 * 32 * 256 * BF16,
    "allenai/OLMo-1B-hf": 16 * 16 * 256 * BF16,
    "BSC-LT/salamandra-7b": 32 * 8 * 256 * BF16,
    "BSC-LT/salamandra-2b": 24 * 16 * 256 * BF16,
    "BSC-LT/ALIA-40b": 48 * 8 * 256 * BF16,
    "OpenLLM-France/Lucie-7B": 32 * 8 * 256 * BF16,
    "bigcode/starcoderbase-1b": 24 * 1 * 256 * BF16,
    "stabilityai/stablelm-3b-4e1t": 32 * 32 * 160 * BF16,
    "alpindale/goliath-120b": 137 * 8 * 256 * BF16,
    "h2oai/h2o-danube2-1.8b-chat": 24 * 8 * 160 * BF16,
    "h2oai/h2o-danube3-4b-chat": 24 * 8 * 240 * BF16,
    "infly/OpenCoder-8B-Instruct": 32 * 8 * 256 * BF16,
    "internlm/internlm2-chat-1_8b": 24 * 8 * 256 * BF16,
    "baichuan-inc/Baichuan-7B": 32 * 32 * 256 * BF16,
    "llm-jp/llm-jp-3-13b": 40 * 40 * 256 * BF16,
    "llm-jp/llm-jp-3-172b": 96 * 16 * 256 * BF16,
    "sbintuitions/sarashina2-70b": 80 * 8 * 256 * BF16,
    "OrionStarAI/Orion-14B-Chat": 40 * 40 * 256 * BF16,
    "Skywork/Skywork-13B-base": 52 * 36 * 256 * BF16,
    "MediaTek-Research/Breeze-7B-Instruct-v1_0": 32 * 8 * 256 * BF16,
    "IQuestLab/IQuest-Coder-V1-40B-Instruct": 80 * 8 * 256 * BF16,
    "ServiceNow-AI/Apriel-1.5-15b-Thinker": 48 * 8 * 256 * BF16,
    "ServiceNow-AI/Apriel-Nemotron-15b-Thinker": 50 * 8 * 256 * BF16,
    "EssentialAI/rnj-1-instruct": 32 * 8 * 256 * BF16,
    "LLM360/K2": 80 * 64 * 256 * BF16,
    "arcee-ai/Trinity-Large-Preview": 60 * 8 * 256 * BF16,
    "arcee-ai/Trinity-Nano-Preview": 56 * 2 * 256 * BF16,
    "facebook/opt-175b": 96 * 96 * 256 * BF16,
    "google/gemma-3n-E2B-it": 20 * 2 * 512 * BF16,
    "inclusionAI/Ling-2.6-flash": 4 * MLA * BF16,
    "inclusionAI/Ling-2.6-1T": 10 * MLA * BF16,
    "fla-hub/rwkv7-0.4B-world": 0,  # a state of fixed size
    "fla-hub/rwkv7-1.5B-world": 0,  # a state of fixed size
    "fla-hub/rwkv7-2.9B-world": 0,  # a state of fixed size
    "distilbert/distilgpt2": 6 * 12 * 128 * BF16,
    "openbmb/MiniCPM-2B-sft-bf16": 40 * 36 * 128 * BF16,
    "openbmb/MiniCPM4-0.5B": 24 * 2 * 128 * BF16,
    "LiquidAI/LFM2.5-8B-A1B": 6 * 8 * 128 * BF16,  # the other 18 layers are convolutions
    "baidu/ERNIE-4.5-VL-28B-A3B-PT": 28 * 4 * 256 * BF16,
    "baidu/ERNIE-4.5-VL-424B-A47B-PT": 54 * 8 * 256 * BF16,
    "kakaocorp/kanana-2-30b-a3b-instruct": 48 * MLA * BF16,
    "skt/A.X-K1": 61 * MLA * BF16,
    "openbmb/MiniCPM5-1B": 24 * 2 * 256 * BF16,
    "openbmb/MiniCPM5-2B": 42 * 2 * 256 * BF16,
    "microsoft/bitnet-b1.58-2B-4T": 30 * 5 * 256 * BF16,
    "ai21labs/AI21-Jamba-Reasoning-3B": 2 * 1 * 256 * BF16,
}


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ("baidu/ERNIE-4.5-VL-28B-A3B-PT", "baidu/ERNIE-4.5-21B-A3B-PT"),
        ("baidu/ERNIE-4.5-VL-424B-A47B-PT", "baidu/ERNIE-4.5-300B-A47B-PT"),
    ],
)
def test_experts_for_images_lie_in_memory_and_no_token_of_text_uses_them(seen: str, text: str) -> None:
    assert model(seen).parameters(active=True) == model(text).parameters(active=True)
    assert model(seen).parameters() > 1.2 * model(text).parameters()


def test_every_base_has_its_kv_bytes_derived_by_hand() -> None:
    assert set(KV_BYTES) == set(base_names())


@pytest.mark.parametrize("name", KV_BYTES)
def test_kv_bytes_per_token(name: str) -> None:
    assert model(name).kv_bytes_per_token() == KV_BYTES[name]


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-70B", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-235B-A22B"])
def test_kv_bytes_follow_the_format(name: str) -> None:
    assert model(name).kv_bytes_per_token("fp8") * 2 == model(name).kv_bytes_per_token("bf16")
    assert model(name).kv_bytes_per_token("bf16", 1000.0) == model(name).kv_bytes_per_token("bf16")


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("openai/gpt-oss-120b", lambda n: 18 * min(n, 128) + 18 * n),
        ("google/gemma-3-27b-it", lambda n: 52 * min(n, 1024) + 10 * n),
        ("google/gemma-2-9b-it", lambda n: 21 * min(n, 4096) + 21 * n),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", lambda n: 36 * min(n, 8192) + 12 * n),
        ("mistralai/Mistral-7B-v0.1", lambda n: 32 * min(n, 4096)),
    ],
)
def test_windows_cap_the_cache(name: str, tokens: Any) -> None:
    spec = model(name)
    each = spec.kv_bytes_per_token() / spec.layers
    for context in (1, 127, 128, 1025, 100_000):
        assert float(spec.kv_bytes(context)) == tokens(context) * each


def test_compressed_cache_of_a_million_tokens_is_what_was_reported() -> None:
    # 8.7 GiB for DeepSeek-V4-Pro at 2^20 tokens in 16 bit (derived from the technical report, aicrier.com 2026-04-26)
    size = float(model("deepseek-ai/DeepSeek-V4-Pro").kv_bytes(2**20, "bf16"))
    assert size / GIB == pytest.approx(8.7, abs=0.05)


def test_recurrent_state_is_what_the_layers_hold() -> None:
    # Qwen3-Next: 36 delta nets of 32 heads x 128 x 128; 3 past inputs of q, k (16 x 128 each) and v (32 x 128)
    spec = model("Qwen/Qwen3-Next-80B-A3B-Instruct")
    assert spec.recurrent
    assert spec.state_bytes() == 36 * (32 * 128 * 128 + 3 * (2 * 16 * 128 + 32 * 128)) * 2
    assert spec.state_bytes("fp32") == 36 * (32 * 128 * 128 * 4 + 3 * (2 * 16 * 128 + 32 * 128) * 2)
    # Mamba-2 of Nemotron Nano 9B v2: 27 layers of 128 heads x 80 x 128
    nano = model("nvidia/NVIDIA-Nemotron-Nano-9B-v2")
    assert nano.state_bytes() == 27 * (128 * 80 * 128 + 3 * (128 * 80 + 2 * 8 * 128)) * 2
    assert not model("Qwen/Qwen3-8B").recurrent
    assert model("Qwen/Qwen3-8B").state_bytes() == 0


@pytest.mark.parametrize("name", base_names())
def test_cache_and_reads_grow_with_context_and_stay_below_the_uncapped(name: str) -> None:
    spec, contexts = model(name), np.array([1.0, 100.0, 4096.0, 131072.0])
    held = spec.kv_bytes(contexts)
    assert held.shape == contexts.shape
    assert np.all(np.diff(held) >= 0)
    compress = any(b.mixer and b.mixer.compress for b in spec.blocks)
    assert compress or np.all(held <= contexts * spec.kv_bytes_per_token() * (1 + 1e-12))
    for block in spec.blocks:
        if block.mixer:
            assert np.all(block.mixer.attended(contexts) <= block.mixer.stored(contexts) + 1e-9)


def test_attended_by_hand() -> None:
    def reads(name: str, context: float) -> list[float]:
        return sorted({float(b.mixer.attended(context)) for b in model(name).blocks if b.mixer})

    assert reads("openai/gpt-oss-20b", 5000.0) == [128.0, 5000.0]
    assert reads("deepseek-ai/DeepSeek-V3.2", 50_000.0) == [2048.0]
    assert reads("MiniMaxAI/MiniMax-M3", 50_000.0) == [16 * 128.0, 50_000.0]
    assert reads("deepseek-ai/DeepSeek-V4-Flash", 128_000.0) == [128.0, 128.0 + 512.0, 128.0 + 1000.0]
    # a chunk's position is uniform beyond the first chunk: (1 + 2 + ... + 8192) / 8192
    assert reads("meta-llama/Llama-4-Scout-17B-16E-Instruct", 9000.0) == [sum(range(8193)) / 8192, 9000.0]


# ---------------------------------------------------------------- weights and formats


@pytest.mark.parametrize("name", base_names())
def test_weight_bytes_sum_to_the_parameters(name: str) -> None:
    spec = model(name).with_weights("bf16")
    assert sum(spec.weight_bytes().values()) == pytest.approx(
        2 * (spec.parameters() + spec.encoder_parameters), rel=1e-12
    )
    assert 0 < spec.parameters(active=True) <= spec.parameters()


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("openai/gpt-oss-120b", 60.8),  # gpt-oss model card, table 1: checkpoint size
        ("openai/gpt-oss-20b", 12.8),
    ],
)
def test_checkpoint_size_agrees_with_the_published(name: str, gib: float) -> None:
    assert sum(model(name).weight_bytes().values()) / GIB == pytest.approx(gib, rel=0.01)


def test_kimi_checkpoint_keeps_only_experts_in_four_bits() -> None:
    spec = model("moonshotai/Kimi-K2-Thinking")
    assert spec.format_of("experts").name == "int4_g32"
    assert {spec.format_of(p).name for p in ("attention", "shared", "mlp", "lm_head")} == {"bf16"}
    assert sum(spec.weight_bytes().values()) == pytest.approx(594e9, rel=0.01)  # size of the repository


def test_with_weights_keeps_what_checkpoints_keep() -> None:
    llama = model("meta-llama/Llama-3.1-70B").with_weights("fp8")
    assert (llama.format_of("mlp").name, llama.format_of("lm_head").name) == ("fp8", "bf16")
    expected = 80 * (8192 * (8192 + 2 * 1024) + 8192 * 8192 + 3 * 8192 * 28672) + 2 * 2 * 128256 * 8192
    norms = 2 * (2 * 80 + 1) * 8192
    assert sum(llama.weight_bytes().values()) == expected + norms
    deepseek = model("deepseek-ai/DeepSeek-V3").with_weights("nvfp4")
    assert (deepseek.format_of("experts").name, deepseek.format_of("attention").name) == ("fp4", "bf16")
    mixed = model("deepseek-ai/DeepSeek-V3").with_weights("mxfp4")
    assert (mixed.format_of("experts").name, mixed.format_of("attention").name) == ("mxfp4", "fp8_block")
    assert model("meta-llama/Llama-3.1-8B").with_weights("mxfp4").format_of("attention").name == "mxfp4"


def test_files_of_llama_cpp_hold_what_is_not_an_expert_of_gpt_oss_in_eight_bits() -> None:
    """Sizes that llama-bench prints of the MXFP4 files: 11.27 and 59.02 GiB."""
    for name, gib in (("openai/gpt-oss-20b", 11.27), ("openai/gpt-oss-120b", 59.02)):
        stored = model(name).in_gguf()
        assert sum(stored.weight_bytes().values()) / 2**30 == pytest.approx(gib, rel=0.01)
        assert stored.in_gguf() == stored
        assert stored.format_of("router").name == "bf16"
    for name in ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3"):
        assert model(name).in_gguf() is model(name)


def test_with_weights_of_the_published_kind_changes_nothing() -> None:
    for name, asked in (
        ("openai/gpt-oss-120b", "mxfp4"),
        ("deepseek-ai/DeepSeek-V3", "fp8"),
        ("moonshotai/Kimi-K2.5", "int4"),
    ):
        assert model(name).with_weights(asked) is model(name)
    assert model("deepseek-ai/DeepSeek-V3").with_weights("bf16").formats == {"default": "bf16"}
    with pytest.raises(UnknownName, match="number format 'fp5'"):
        model("Qwen/Qwen3-8B").with_weights("fp5")


def test_mxfp4_asked_of_a_checkpoint_in_integers_is_another_checkpoint() -> None:
    """amd/Kimi-K2.5-MXFP4 holds the experts of moonshotai/Kimi-K2.5, published in int4, in MXFP4."""
    asked, published = model("moonshotai/Kimi-K2.5").with_weights("mxfp4"), model("amd/Kimi-K2.5-MXFP4")
    assert asked.formats == published.formats == {"default": "bf16", "experts": "mxfp4"}
    gpt = model("openai/gpt-oss-120b")
    assert gpt.with_weights("int4") is gpt  # "int4" may mean any four bits


def test_a_gemm_may_differ_from_its_part() -> None:
    spec = model("nvidia/DeepSeek-V3.1-NVFP4")
    assert spec.format_of("attention", "q_up").name == "bf16"
    assert spec.format_of("attention", "o").name == "fp4"
    whole = model("nvidia/DeepSeek-R1-NVFP4").weight_bytes()["attention"]
    assert spec.weight_bytes()["attention"] == whole - 61 * 128 * 128 * 7168 * (2 - storage("fp4").bytes)


# ---------------------------------------------------------------- the catalogue


def test_names_cover_bases_and_aliases_once() -> None:
    assert len(names()) == len({n.lower() for n in names()}) == len(base_names()) + len(aliases())


@pytest.mark.parametrize("name", aliases())
def test_alias_leads_to_a_base_and_known_formats(name: str) -> None:
    entry = aliases()[name]
    assert entry["base"] in base_names()
    spec, base = model(name), model(entry["base"])
    assert (spec.name, spec.source) == (name, base.source)
    assert spec.blocks == base.blocks or "experts" in entry
    for printed in spec.formats.values():
        storage(printed)
    storage(spec.kv_format)


@pytest.mark.parametrize("name", [name for name, entry in aliases().items() if "experts" in entry])
def test_a_pruned_copy_has_the_size_in_its_name(name: str) -> None:
    """Experts are taken out of every layer alike: what is left is the printed number of billions, rounded or cut."""
    printed = float(re.findall(r"(\d+)B", name)[0]) * 1e9
    pruned, whole = model(name), model(aliases()[name]["base"])
    assert 0.0 <= pruned.parameters() - printed < 1e9 or pruned.parameters() == pytest.approx(printed, abs=0.5e9)
    assert whole.parameters() > pruned.parameters()
    active = pruned.parameters(active=True), whole.parameters(active=True)
    assert active[0] == pytest.approx(active[1], rel=0.01)  # but for the router


@pytest.mark.parametrize("name", base_names())
def test_every_base_says_where_its_shape_comes_from(name: str) -> None:
    spec = model(name)
    assert "huggingface.co/" in spec.source
    assert spec.max_context > 0 or not spec.kv_bytes_per_token()  # a state alone has no length
    assert sum(b.count for b in spec.blocks if not b.joined) == spec.layers


def test_look_up_in_any_case_and_by_the_last_part() -> None:
    assert model("QWEN/qwen3-8b") is model("Qwen/Qwen3-8B")
    assert model("gpt-oss-120b").name == "openai/gpt-oss-120b"


def test_unknown_name_offers_the_nearest_and_asks_for_a_file() -> None:
    with pytest.raises(UnknownName, match=r"unknown model .*did you mean 'meta-llama/.*config\.json") as raised:
        model("meta-llama/Llama-3.1-71B")
    assert raised.value.nearest


def test_one_model_reads_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = catalogue.read_file
    monkeypatch.setattr(catalogue, "read_file", lambda path: read.append(path.name) or original(path))
    for path in sorted(catalogue.FOLDER.glob("*--*.toml"))[::20]:
        read.clear()
        catalogue._known.__wrapped__(path.stem.lower().replace("--", "/", 1))
        assert read == [path.name]


# ---------------------------------------------------------------- the documentation


def test_documentation_lists_every_model_type() -> None:
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    types = [k for k in known_types() if not k.endswith("_text")]
    assert [t for t in types if f"`{t}`" not in text] == []


def test_every_reader_names_its_checkpoints_and_no_name_has_two() -> None:
    assert [reader.__name__ for reader in READERS.values() if not (reader.__doc__ or "").strip()] == []
    with pytest.raises(ValueError, match="gpt_oss has two readers"):
        reads("gpt_oss")(READERS["llama4"])
    in_table = [name for row in families() for name in row.names]
    assert sorted(in_table) == sorted({*in_table} - {*READERS})
    assert [row.names[0] for row in families() if not (row.models and row.source)] == []


def test_mixer_kinds_are_told_apart() -> None:
    recurrent = Mixer("ssm", heads=4, kv_heads=2, head_dim=8, value_dim=16, conv=4)
    assert recurrent.recurrent
    assert (recurrent.kv_values, recurrent.state_values) == (0, 4 * 8 * 16 + 3 * (2 * 2 * 8 + 4 * 16))
    assert float(recurrent.stored(100.0)) == float(recurrent.attended(100.0)) == 0.0


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("Qwen/Qwen1.5-MoE-A2.7B-Chat", 8192),
        ("Qwen/Qwen2-0.5B-Instruct", 32768),
        ("Qwen/Qwen2-0.5B", 131072),
        ("Qwen/Qwen2-57B-A14B", 131072),
        ("Qwen/Qwen2-57B-A14B-Instruct", 32768),
    ],
)
def test_contexts_are_those_of_the_files(name: str, tokens: int) -> None:
    """Base and instruct models of one shape have different contexts; both took that of the other."""
    assert model(name).max_context == tokens


def test_mistral_large_3_has_the_dense_mlp_of_its_own_file() -> None:
    """params.json has a hidden_dim of 16,384; DeepSeek-V3, from which the rest was taken, has 18,432."""
    here, there = model("mistralai/Mistral-Large-3-675B-Instruct-2512"), model("deepseek-ai/DeepSeek-V3")
    mlp = [spec.weight_bytes()["mlp"] for spec in (here, there)]
    assert mlp[0] / mlp[1] == pytest.approx(16384 / 18432, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("microsoft/Phi-3.5-mini-instruct", 32 * 32 * 192),
        ("microsoft/Phi-3-mini-128k-instruct", 32 * 32 * 192),
        ("microsoft/Phi-3-medium-128k-instruct", 40 * 10 * 256),
    ],
)
def test_variants_of_phi_3_with_long_contexts_keep_all_tokens(name: str, values: int) -> None:
    """The 4k variants have a window of 2,047 tokens, which the 128k variants took with the shape."""
    spec = model(name)
    assert spec.max_context == 131_072
    assert spec.kv_bytes(100_000) == pytest.approx(100_000 * values * BF16)


def test_a_model_in_a_format_is_made_once_and_its_weights_are_counted_for_each_caller() -> None:
    spec = model("meta-llama/Llama-3.1-8B")
    assert spec.with_weights("fp8") is spec.with_weights("fp8")
    assert spec.with_weights("FP8") == spec.with_weights("fp8") != spec.with_weights("int4")
    held = spec.weight_bytes()
    held["mlp"] = 0.0
    assert spec.weight_bytes()["mlp"] > 0.0
