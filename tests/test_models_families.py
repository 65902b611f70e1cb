"""Families of models: parameters against the models' own code and against published totals, caches, encoders."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwdb import InputError
from perfmodel.deployment import uneven_shards
from perfmodel.models import ModelSpec, model, read_config
from perfmodel.models.families.table import Family, families
from perfmodel.models.families.unknown import unknown

BF16 = 2
#: Small configurations with the parameters of the language model that transformers 5.24.0 builds from each (counted on
#: its meta device, 2026-11), and configurations by name with the published billions of parameters, encoders included.
CONFIGS: dict[str, Any] = json.loads((Path(__file__).parent / "family_configs.json").read_text(encoding="utf-8"))
BUILT: list[tuple[int, dict[str, Any]]] = CONFIGS["built"]
PUBLISHED: dict[str, tuple[float, dict[str, Any]]] = CONFIGS["published"]


def shape(hidden: int, inner: int, layers: int, heads: int, kv: int, vocab: int, **more: Any) -> dict[str, Any]:
    """Return the usual facts of a configuration."""
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        **more,
    }


# ---------------------------------------------------------------- against the models' own code


@pytest.mark.parametrize(("parameters", "config"), BUILT, ids=[config["model_type"] for _, config in BUILT])
def test_parameters_are_those_that_the_models_own_code_makes(parameters: int, config: dict[str, Any]) -> None:
    spec = read_config(config)
    assert spec.parameters() == pytest.approx(parameters, rel=1e-4)
    assert spec.assumed == ""


# ---------------------------------------------------------------- published totals


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_agree_with_published_totals(name: str) -> None:
    billions, config = PUBLISHED[name]
    spec = read_config(config, name)
    assert (spec.parameters() + spec.encoder_parameters) / 1e9 == pytest.approx(billions, rel=0.01)
    assert spec.assumed == ""


# ---------------------------------------------------------------- counted by hand


def test_plamo2_has_the_matrices_of_its_own_code() -> None:
    """The shapes are those of vllm-project/vllm vllm/model_executor/models/plamo2.py."""
    config = {
        **shape(2048, 8192, 16, 16, 1, 100_000, model_type="plamo2", hidden_size_per_head=128, mamba_num_heads=32),
        "mamba_d_state": 64,
        "mamba_d_conv": 4,
        "mamba_step": 2,
        "attention_window_size": 2048,
        "full_attention_idx": [1, 3],
        "max_position_embeddings": 32_768,
    }
    spec = read_config(config)
    inner, rank = 32 * 128, 128
    mamba = 2048 * 2 * inner + 4 * inner + inner * (rank + 2 * 64) + rank * 32 + inner * 2048 + 3 * 32 + rank + 2 * 64
    attention = 2048 * (16 + 2) * 128 + 16 * 128 * 2048 + 17 * 128
    every = 3 * 2048 * 8192 + 4 * 2048
    assert spec.parameters() == 8 * mamba + 8 * attention + 16 * every + 2048 + 100_000 * 2048
    assert spec.kv_bytes_per_token() == 8 * 2 * 128 * BF16
    assert spec.state_bytes() == 8 * (32 * 128 * 64 + 3 * inner) * BF16
    full, local = (spec.kv_bytes(length) / length / (2 * 128 * BF16) for length in (2048, 204_800))
    assert (full, local) == pytest.approx((8, 2 + 6 / 100))  # six of eight layers keep 2,048 tokens


def test_queries_of_low_rank_are_computed_whole_by_every_device() -> None:
    """Step3: q_down to 2,048, then 64 heads of 256 (arXiv:2507.19427)."""
    spec = read_config(PUBLISHED["step3"][1])
    mixer = spec.blocks[0].mixer
    assert mixer is not None
    parts = {(p.gemm, p.k, p.n, p.shard) for p in mixer.projections(7168)}
    wanted = {("qkv", 7168, 2048, "replicated"), ("qkv", 7168, 512, "kv"), ("q_up", 2048, 64 * 256, "column")}
    assert parts == wanted | {("o", 64 * 256, 7168, "row")}
    assert spec.parameters() / 1e9 == pytest.approx(316, rel=0.01)


def test_a_file_of_another_name_names_its_model(tmp_path: Path) -> None:
    text = json.dumps(shape(256, 512, 2, 4, 4, 1000, model_type="llama"))
    for name, wanted in (("step3.json", "step3"), ("config.json", tmp_path.name)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_config(tmp_path / name).name == wanted


@pytest.mark.parametrize(
    ("name", "billions", "kv_bytes"),
    [
        ("Qwen/Qwen2.5-VL-72B-Instruct", 72.706, 327_680),
        ("ibm-granite/granite-3.1-8b-instruct", 8.171, 163_840),
        ("HuggingFaceTB/SmolLM3-3B", 3.075, 73_728),
        ("ByteDance-Seed/Seed-OSS-36B-Instruct", 36.151, 262_144),
        ("CohereLabs/c4ai-command-a-03-2025", 111.058, 262_144),
        ("allenai/OLMo-2-0325-32B", 32.234, 262_144),
        ("baidu/ERNIE-4.5-21B-A3B-PT", 21.825, 57_344),
        ("inclusionAI/Ling-flash-2.0", 102.890, 65_536),
        ("zai-org/GLM-4.5V", 106.852, 188_416),
        ("ibm-granite/granite-4.0-h-small", 32.207, 16_384),
    ],
)
def test_parameters_and_cache_by_hand(name: str, billions: float, kv_bytes: int) -> None:
    spec = model(name)
    assert spec.parameters() / 1e9 == pytest.approx(billions, abs=5e-4)
    assert spec.kv_bytes_per_token() == kv_bytes


def test_three_of_four_layers_of_command_a_keep_a_window() -> None:
    spec = model("CohereLabs/c4ai-command-a-03-2025")
    growth = float(spec.kv_bytes(100_001) - spec.kv_bytes(100_000))
    assert growth == 16 * 8 * 256 * BF16


def test_states_of_hybrids_by_hand() -> None:
    granite = model("ibm-granite/granite-4.0-h-small")
    state, window = 36 * 128 * 64 * 128, 36 * 3 * (128 * 64 + 2 * 128)
    assert granite.state_bytes("fp32") == 4 * state + BF16 * window  # 152.8 MB
    kimi = model("moonshotai/Kimi-K3")
    assert kimi.state_bytes() == 69 * (96 * 128 * 128 + 3 * 3 * 96 * 128) * BF16
    jamba = read_config(PUBLISHED["Jamba-1.5-Mini"][1])
    assert jamba.state_bytes() == 28 * (8192 * 16 + 3 * 8192) * BF16
    assert jamba.kv_bytes_per_token() == 4 * 8 * 256 * BF16
    lfm2 = read_config(PUBLISHED["LFM2-1.2B"][1])
    assert lfm2.state_bytes() == 10 * 2 * 2048 * BF16


@pytest.mark.parametrize(
    ("name", "state", "window", "heads"),
    [
        ("tiiuae/falcon-mamba-7b", 8192 * 16, 3 * 8192, 8192 // 64),
        ("mistralai/Mamba-Codestral-7B-v0.1", 128 * 64 * 128, 3 * (8192 + 2 * 8 * 128), 128),
    ],
)
def test_state_space_models_keep_a_state_and_no_cache(name: str, state: int, window: int, heads: int) -> None:
    spec = model(name)
    assert spec.kv_bytes_per_token() == 0
    assert spec.state_bytes() == 64 * (state + window) * BF16
    assert spec.heads == heads  # what tensor parallelism divides


def test_parts_of_one_layer_count_as_one_layer() -> None:
    falcon = read_config(PUBLISHED["Falcon-H1-7B"][1])
    assert falcon.layers == 44
    assert falcon.kv_bytes_per_token() == 44 * 2 * 256 * BF16
    assert falcon.state_bytes() > 0
    assert model("meituan-longcat/LongCat-Flash-Chat").layers == 28


# ---------------------------------------------------------------- images and sound


def test_encoders_lie_in_memory_beside_the_language_model() -> None:
    spec = model("Qwen/Qwen2.5-VL-72B-Instruct")
    assert spec.encoder_parameters / 1e9 == pytest.approx(0.70, abs=0.03)  # 73.4 less 72.7 billion
    assert spec.weight_bytes()["encoders"] == 2 * spec.encoder_parameters
    # vllm-project/vllm issue 16570: 34.43 GiB per device at TP 4
    assert sum(spec.weight_bytes().values()) / 4 / 2**30 == pytest.approx(34.43, rel=0.01)


@pytest.mark.parametrize("tp", [1, 2, 3, 4, 6, 8, 12, 16])
@pytest.mark.parametrize("whole", [False, True])
def test_tp_divides_the_heads_of_a_vision_encoder(tp: int, whole: bool) -> None:
    spec = model("zai-org/GLM-4.5V")
    one = np.array([float(tp)])
    said = str(
        uneven_shards(spec, tp=one, experts_tp=np.ones(1), weight=np.array([-1]), pads=False, whole_encoder=whole)[0]
    )
    assert ("12 heads of the vision encoder" in said) == (bool(12 % tp) and not whole)


def test_cross_attention_caches_per_image_and_not_per_token() -> None:
    spec = model("meta-llama/Llama-3.2-90B-Vision-Instruct")
    assert spec.kv_bytes_per_token() == 80 * 8 * 256 * BF16
    assert spec.image_kv_values == 20 * 8 * 256 * 4 * 1601
    assert spec.layers == 100


def test_an_encoder_with_too_few_facts_is_said_and_not_guessed() -> None:
    config = {**shape(2048, 8192, 16, 32, 8, 128256), "model_type": "llama", "vision_config": {"hidden_size": 1024}}
    spec = read_config(config)
    assert spec.encoder_parameters == 0
    assert "vision_config" in spec.assumed
    assert "not counted" in spec.assumed


# ---------------------------------------------------------------- unknown architectures


def by_hand(c: dict[str, Any]) -> int:
    """Count the parameters of a decoder of Llama's kind."""
    hidden, size = c["hidden_size"], c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    attention = hidden * size * (2 * c["num_attention_heads"] + 2 * c["num_key_value_heads"])
    width = c.get("moe_intermediate_size", c["intermediate_size"])
    experts, shared = c.get("num_experts", 0), c.get("num_shared_experts", 0)
    mlp = 3 * hidden * width * (experts + shared) + experts * hidden if experts else 3 * hidden * c["intermediate_size"]
    layers = c["num_hidden_layers"] * (attention + mlp + 2 * hidden)
    return layers + hidden + c["vocab_size"] * hidden * (1 if c.get("tie_word_embeddings") else 2)


@pytest.mark.parametrize("seed", range(20))
def test_an_unknown_decoder_is_read_from_its_facts_with_a_remark(seed: int) -> None:
    rng = random.Random(seed)
    kv = rng.choice([1, 2, 4, 8])
    heads = kv * rng.choice([1, 2, 4, 8])
    config = shape(
        heads * rng.choice([64, 128]), rng.choice([512, 1000]), rng.choice([2, 5]), heads, kv, rng.choice([999, 32000])
    )
    config |= {"head_dim": rng.choice([64, 128])} if rng.random() < 0.5 else {}
    config |= {"tie_word_embeddings": True} if rng.random() < 0.5 else {}
    if rng.random() < 0.5:
        config |= {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
        config |= {"num_shared_experts": rng.choice([1, 2])} if rng.random() < 0.5 else {}
    spec = read_config({**config, "model_type": "mammoth", "architectures": ["MammothForCausalLM"]})
    assert spec.parameters() == by_hand(config)
    size = config.get("head_dim", config["hidden_size"] // heads)
    assert spec.kv_bytes_per_token() == config["num_hidden_layers"] * kv * 2 * size * BF16
    assert "'MammothForCausalLM' is not known" in spec.assumed
    assert ("head_dim" in spec.assumed) == ("head_dim" not in config)


@pytest.mark.parametrize("key", list(shape(1, 1, 1, 1, 1, 1)))
def test_a_missing_fact_of_an_unknown_decoder_is_named_and_can_be_added(key: str) -> None:
    config = {**shape(1024, 4096, 4, 8, 2, 1000), "model_type": "mammoth"}
    with pytest.raises(InputError, match=f"missing facts: .*{key}.*Add them under these keys"):
        read_config({k: v for k, v in config.items() if k != key})
    assert read_config(config).layers == 4


def test_a_file_states_how_an_unknown_architecture_is_built() -> None:
    config = {**shape(1024, 4096, 4, 8, 2, 1000), "model_type": "mammoth"}
    plain = read_config(config)
    stated = read_config({**config, "perfmodel": {"norms": 4, "gated": False, "head_norm": True, "tied": True}})
    fewer = 4 * 1024 * 4096 + 1000 * 1024
    assert plain.parameters() - stated.parameters() == fewer - 4 * (2 * 1024 + 2 * 128)
    with pytest.raises(InputError, match="perfmodel: heads is not known"):
        read_config({**config, "perfmodel": {"heads": 4}})
    with pytest.raises(InputError, match="norms = 'many': a whole number"):
        read_config({**config, "perfmodel": {"norms": "many"}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mamba_d_state": 16}, "mamba_d_state tells of recurrent layers"),
        ({"linear_num_heads": 8}, "linear_num_heads tells of recurrent layers"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is true"),
        ({"layer_types": ["mamba"] * 4}, "layer_types = 'mamba'"),
        ({"num_hidden_layers": 9000}, "at most 2000 layers"),
        ({"intermediate_size": 90_000_000}, "intermediate_size = 90000000: at most 1000000"),
        ({"head_dim": 10_000_000}, "head_dim = 10000000"),
        ({"hidden_size": 8_000_000}, "hidden_size = 8000000: at most 1000000"),
        ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads = 3"),
        ({"num_experts": 8}, "num_experts_per_tok"),
        ({"num_experts": 4, "num_experts_per_tok": 5}, "only 4 experts"),
        ({"vocab_size": 0}, "vocab_size = 0"),
    ],
)
def test_what_an_unknown_decoder_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    config = {**shape(1024, 4096, 4, 8, 2, 1000), "model_type": "mammoth"}
    with pytest.raises(InputError, match=message):
        read_config({**config, **change})


def test_every_family_takes_few_lines_and_names_its_source() -> None:
    assert unknown.__doc__
    for row in families():
        set_keys = [key for key, value in vars(Family()).items() if getattr(row, key) != value]
        assert len(set_keys) <= 12, row.names[0]
        assert row.source


# ---------------------------------------------------------------- the LM head of quantised checkpoints


def head(section: dict[str, Any], **more: Any) -> str:
    """Return the format of the LM head of a small model with that quantization_config."""
    spec: ModelSpec = read_config(
        {**shape(1024, 4096, 4, 8, 2, 1000), "model_type": "llama", **more, "quantization_config": section}
    )
    return spec.format_of("lm_head").name


def group(targets: list[str], bits: int) -> dict[str, Any]:
    """Return a group of compressed-tensors that stores weights in `bits`."""
    return {"targets": targets, "weights": {"num_bits": bits, "type": "int", "group_size": 128}}


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"quant_method": "compressed-tensors", "config_groups": {"a": group(["Linear"], 4)}, "ignore": []}, "int4"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": group(["Linear"], 4)}, "ignore": ["lm_head"]},
            "bf16",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": group(["Linear"], 4)},
                "ignore": ["re:.*lm_head.*", "re:.*mlp.gate$"],
            },
            "bf16",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": group(["re:.*lm_head"], 8), "b": group(["re:.*self_attn.*"], 4)},
            },
            "w8a16",
        ),
        ({"quant_method": "gptq", "bits": 4, "lm_head": True}, "int4"),
        ({"quant_method": "gptq", "bits": 4, "lm_head": False}, "bf16"),
        ({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["visual"]}, "bf16"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]}, "bf16"),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {
                    "lm_head": {"quant_algo": "FP8"},
                    **{f"model.layers.{i}.mlp.gate_proj": {"quant_algo": "NVFP4"} for i in range(4)},
                },
            },
            "fp8",
        ),
    ],
)
def test_the_lm_head_is_narrow_where_the_file_says_so(section: dict[str, Any], name: str) -> None:
    assert head(section) == name
    assert head(section, tie_word_embeddings=True) == "bf16"


def test_a_group_for_the_lm_head_is_not_the_format_of_the_rest() -> None:
    groups = {"a": group(["lm_head"], 8), "b": group(["Linear"], 4)}
    section = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": []}
    spec = read_config({**shape(1024, 4096, 4, 8, 2, 1000), "model_type": "llama", "quantization_config": section})
    assert (spec.formats["default"], spec.formats["lm_head"]) == ("int4", "w8a16")


def test_a_token_uses_one_row_of_the_embeddings_of_each_layer() -> None:
    spec = model("google/gemma-3n-E4B-it")
    assert spec.lookup_parameters == 35 * 256 * 262_144
    assert spec.parameters() - spec.parameters(active=True) == spec.lookup_parameters
    assert spec.parameters(active=True) / 1e9 == pytest.approx(4.5, abs=0.1)  # 4B effective


# ---------------------------------------------------------------- query heads that differ by layer


def laguna(**changes: object) -> dict[str, object]:
    """Facts of four layers, of which the first attends to all tokens and has an MLP without experts."""
    facts: dict[str, object] = {
        "model_type": "laguna",
        "architectures": ["LagunaForCausalLM"],
        "num_hidden_layers": 4,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 100,
        "sliding_window": 8,
        "layer_types": ["full_attention", *["sliding_attention"] * 3],
        "num_attention_heads_per_layer": [6, 8, 8, 10],
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24,
        "max_position_embeddings": 1024,
    }
    return {**facts, **changes}


@pytest.mark.parametrize(("gating", "gates"), [("per-head", 1), (True, 1), ("per-element", 16), (False, 0), (None, 1)])
def test_each_layer_has_its_own_number_of_query_heads(gating: object, gates: int) -> None:
    spec = read_config(laguna(gating=gating))
    kinds = [(b.mixer.kind, b.mixer.heads, b.mixer.kv_heads) for b in spec.blocks for _ in range(b.count) if b.mixer]
    assert kinds == [("full", 6, 2), ("sliding", 8, 2), ("sliding", 8, 2), ("sliding", 10, 2)]
    assert [b.mlp.experts for b in spec.blocks for _ in range(b.count) if b.mlp] == [0, 4, 4, 4]
    # queries and output by their heads, keys and values, two norms on heads; gates of one value or of a whole head
    attention = sum(64 * (2 * heads * 16 + 2 * 2 * 16 + heads * gates) + 2 * 16 for heads in (6, 8, 8, 10))
    experts = 3 * (3 * 64 * 24 * (4 + 1) + 64 * 4 + 4)  # four routed, one shared; a router with a bias
    assert spec.parameters() == attention + experts + 3 * 64 * 96 + 4 * 2 * 64 + 64 + 2 * 100 * 64


@pytest.mark.parametrize("heads", [[6, 8, 8], [6, 8, 8, 0], [6, 8, 8, "x"], 8, [6, 8, 8, 7.5]])
def test_heads_by_layer_that_cannot_be_are_refused(heads: object) -> None:
    with pytest.raises(InputError, match="num_attention_heads"):
        read_config(laguna(num_attention_heads_per_layer=heads))


def test_ling_of_lightning_and_latent_attention_counts_by_hand() -> None:
    """Ling 2.5 and 2.6: every fourth layer latent here; lightning layers hold q, k, v, gate and output projections."""
    hidden, heads, size, vocab, wide, experts, narrow = 64, 4, 16, 100, 96, 8, 32
    config = {
        "model_type": "bailing_hybrid",
        "architectures": ["BailingMoeV2_5ForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": 4,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": size,
        "vocab_size": vocab,
        "intermediate_size": wide,
        "moe_intermediate_size": narrow,
        "num_experts": experts,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "first_k_dense_replace": 1,
        "layer_group_size": 4,
        "q_lora_rank": 24,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }
    rows = heads * size
    lightning = 5 * hidden * rows + rows + 2 * size  # matrices; norms of the output, of queries and keys
    latent = hidden * 24 + 24 + 24 * heads * 24 + hidden * (32 + 8) + 32 + 32 * heads * 32 + heads * 16 * hidden
    dense, sparse = 3 * hidden * wide, (experts + 1) * 3 * hidden * narrow + experts * hidden + experts
    norms = 2 * 4 * hidden + hidden
    spec = read_config(config)
    assert spec.parameters() == 3 * lightning + latent + dense + 3 * sparse + norms + 2 * vocab * hidden
    assert spec.kv_bytes_per_token() == (32 + 8) * 2  # one layer keeps a cache that grows
