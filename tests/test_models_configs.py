"""Configuration files into model shapes: good ones, hostile ones, and the formats of quantised checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.llama_config import LLAMA_SHAPE
from hwdb import InputError
from hwdb.tomlfile import read_toml
from perfmodel.models import base_names, catalogue, model, read_config


def facts(name: str) -> dict[str, Any]:
    return dict(read_toml(catalogue.FOLDER / f"{name.replace('/', '--')}.toml").values)


# ---------------------------------------------------------------- configurations

LLAMA = {**LLAMA_SHAPE, "max_position_embeddings": 131072}


def write(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return path


def test_config_from_mapping_file_and_folder(tmp_path: Path) -> None:
    write(tmp_path, LLAMA)
    shapes = [
        read_config(LLAMA),
        read_config(tmp_path / "config.json"),
        read_config(str(tmp_path)),
        model(str(tmp_path / "config.json")),
    ]
    assert all(s.blocks == model("meta-llama/Llama-3.1-8B").blocks for s in shapes)
    assert all(s.parameters() == 8_030_261_248 for s in shapes)


@pytest.mark.parametrize("name", base_names())
def test_catalogue_facts_read_the_same_nested_under_text_config(name: str) -> None:
    flat = facts(name)["config"]
    outer = {k: flat[k] for k in ("architectures", "model_type") if k in flat}
    nested = {**outer, "text_config": flat, "vision_config": {"hidden_size": 1152}}
    spec = read_config(nested)
    assert (spec.blocks, spec.formats, spec.tied) == (model(name).blocks, model(name).formats, model(name).tied)


def test_reader_is_found_by_architecture_or_text_model() -> None:
    other = {**LLAMA, "model_type": "my_llama"}
    assert read_config(other).layers == 32
    wrapped = {
        "model_type": "mistral3",
        "architectures": ["Mistral3ForConditionalGeneration"],
        "text_config": {**LLAMA, "model_type": "mistral"},
    }
    assert read_config(wrapped).layers == 32


def test_unknown_architecture_is_never_a_silent_llama() -> None:
    config = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    with pytest.raises(InputError) as raised:
        read_config({**config, "model_type": "mammoth", "architectures": ["MammothForCausalLM"]}, "mine")
    message = str(raised.value)
    assert "mine" in message
    assert "'MammothForCausalLM'" in message
    assert "missing facts: num_key_value_heads, head_dim" in message
    with pytest.raises(InputError, match="neither model_type nor architectures"):
        read_config({"hidden_size": 8})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_size", None, "hidden_size .*is missing"),
        ("hidden_size", -4096, "hidden_size = -4096: a whole number from 1"),
        ("hidden_size", 0, "hidden_size = 0"),
        ("hidden_size", 10**400, "the number 1000.* of 401 characters is too large"),
        ("num_hidden_layers", float("nan"), "NaN is no number of JSON"),
        ("num_hidden_layers", 2.5, "num_hidden_layers = 2.5"),
        ("vocab_size", "128256", "vocab_size = '128256'"),
        ("vocab_size", True, "vocab_size = True"),
        ("num_attention_heads", 31, "hidden_size = 4096 is not a multiple of num_attention_heads|not a multiple"),
        ("num_key_value_heads", 5, "num_attention_heads = 32 is not a multiple of num_key_value_heads = 5"),
        ("attention_bias", "yes", "attention_bias = 'yes': true or false"),
        ("architectures", "LlamaForCausalLM", "architectures = 'LlamaForCausalLM': a list"),
        ("sliding_window", [], r"sliding_window = \[\]"),
        ("layer_types", ["full_attention"], "one entry for each of 32 layers"),
        ("quantization_config", 4, "quantization_config = 4: a mapping"),
        ("quantization_config", {"quant_method": "magic"}, "config: quant_method = 'magic': known methods"),
        ("quantization_config", {"quant_method": "gptq", "bits": 3}, "bits = 3"),
    ],
)
def test_nonsense_names_file_and_field(tmp_path: Path, key: str, value: object, message: str) -> None:
    extra = {"sliding_window": 64} if key == "layer_types" else {}
    path = write(tmp_path, {**LLAMA, **extra, key: value} if value is not None else {**LLAMA, key: None})
    with pytest.raises(InputError, match=message) as raised:
        read_config(path)
    assert "config.json" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "llama",\n "hidden_size": }', "line 2, column 17"),
        ("", "line 1"),
        ("[1, 2]", "a JSON object of fields"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_json_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config(write(tmp_path, text))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: no such config\.json"):
        read_config(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="UTF-8"):
        read_config(tmp_path / "config.json")


BAD_VALUES: tuple[Any, ...] = (
    None,
    -1,
    0,
    math.nan,
    math.inf,
    "x",
    "",
    [],
    {},
    True,
    False,
    10**400,
    1.5,
    [1, 2],
    ["x"],
    {"a": 1},
)
ONE_PER_TYPE = sorted({facts(n)["config"]["model_type"]: n for n in base_names()}.values())


@pytest.mark.parametrize("name", ONE_PER_TYPE)
def test_any_field_gone_wrong_gives_an_answer_or_an_input_error(name: str) -> None:
    config = facts(name)["config"]
    refused = 0
    for key in config:
        for value in BAD_VALUES:
            try:
                spec = read_config({**config, key: value}, name)
            except InputError as error:
                refused += name in str(error)
                continue
            assert spec.parameters() > 0
            assert spec.kv_bytes_per_token() >= 0
    assert refused > 5 * len(config)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mistralai/Mixtral-8x7B-v0.1", {"num_experts_per_tok": 9}, "there are only 8 experts"),
        ("openai/gpt-oss-20b", {"layer_types": None}, "layer_types is missing"),
        ("openai/gpt-oss-20b", {"layer_types": ["x"] * 24}, "layer_types = 'x'"),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", {"hybrid_override_pattern": "M*"}, "56 letters"),
        ("deepseek-ai/DeepSeek-V4-Flash", {"compress_ratios": [8] * 43}, "compress_ratios"),
        ("zai-org/GLM-5.2", {"indexer_types": ["none"] * 78}, "full or shared"),
        ("MiniMaxAI/MiniMax-M3", {"moe_layer_freq": [2] * 60}, "0 or 1"),
        ("XiaomiMiMo/MiMo-V2-Flash", {"hybrid_layer_pattern": None}, "hybrid_layer_pattern is missing"),
        ("facebook/opt-6.7b", {"word_embed_proj_dim": 512}, "word_embed_proj_dim = 512"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", {"linear_num_key_heads": 5}, "not a multiple of linear_num_key_heads"),
        ("deepseek-ai/DeepSeek-V4-Flash", {"expert_dtype": "fp2"}, "expert_dtype = 'fp2'"),
        ("Deci/DeciLM-7B", {"num_key_value_heads_per_layer": [3] * 32}, "a divisor of the 32 heads"),
    ],
)
def test_facts_of_one_family_are_checked(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config({**facts(name)["config"], **change}, name)


def test_layers_found_by_architecture_search() -> None:
    layer = {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": 5.25, "no_op": False}}
    skipped = {"attention": {"no_op": True, "n_heads_in_group": None}, "ffn": {"ffn_mult": 2.625}}
    config = {
        "model_type": "nemotron-nas",
        "hidden_size": 8192,
        "num_attention_heads": 64,
        "num_hidden_layers": 80,
        "vocab_size": 128256,
        "block_configs": [layer] * 49 + [skipped] * 31,
    }
    spec = read_config(config)
    assert [(b.count, b.mixer and b.mixer.kv_heads, b.mlp and b.mlp.intermediate) for b in spec.blocks] == [
        (49, 8, 28672),  # Llama-3.1-70B's own layer
        (31, None, 14336),
    ]
    deci = facts("Deci/DeciLM-7B")["config"] | {"num_key_value_heads_per_layer": [4] * 16 + [1] * 16}
    assert [b.mixer.kv_heads for b in read_config(deci).blocks if b.mixer] == [4, 1]


# ---------------------------------------------------------------- quantisation

QUANTISATION = [
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block", {}),
    ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8", {}),
    (
        {
            "quant_method": "fbgemm_fp8",
            "modules_to_not_convert": [f"model.layers.{i}.self_attn.{p}_proj" for i in range(32) for p in "qkvo"],
        },
        "fp8",
        {"attention": "bf16"},
    ),
    ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", {}),
    ({"quant_method": "awq", "w_bit": 4, "q_group_size": 32}, "int4_g32", {}),
    ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "w8a16", {}),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "w8a16", {}),
    ({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}, "mxfp4", {"attention": "bf16"}),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {
                "group_0": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}
            },
        },
        "int8",
        {},
    ),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {
                "group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}, "input_activations": None}
            },
        },
        "int4",
        {},
    ),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "block"}}},
        },
        "fp8_block",
        {},
    ),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {
                "group_0": {"weights": {"num_bits": 4, "type": "int"}, "input_activations": {"num_bits": 8}}
            },
            "ignore": ["re:.*self_attn.*"],
        },
        "w4a8",
        {"attention": "bf16"},
    ),
    (
        {
            "quant_method": "modelopt",
            "quant_algo": "NVFP4",
            "exclude_modules": [f"model.layers.{i}.self_attn*" for i in range(32)],
        },
        "fp4",
        {"attention": "bf16"},
    ),
    (
        {
            "quant_method": "modelopt",
            "quant_algo": "NVFP4",
            "exclude_modules": [f"model.layers.{i}.self_attn.q_proj" for i in range(32)],
        },
        "fp4",
        {"attention": "bf16", "o": "fp4"},
    ),
    ({"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["model.layers.0*"]}, "fp8", {}),
    ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}, "fp8", {}),
]


@pytest.mark.parametrize(("section", "default", "others"), QUANTISATION)
def test_quantisation_is_read_by_part(section: dict[str, Any], default: str, others: dict[str, str]) -> None:
    spec = read_config({**LLAMA, "quantization_config": section})
    kept = {"embedding": "bf16", "lm_head": "bf16", "router": "bf16"}
    assert spec.formats == {"default": default, **kept, **others}


def test_mixed_checkpoint_takes_the_format_most_modules_of_a_part_have() -> None:
    layers = {f"model.layers.{i}.mlp.gate_proj": {"quant_algo": "NVFP4"} for i in range(30)}
    layers |= {f"model.layers.{i}.mlp.gate_proj": {"quant_algo": "FP8"} for i in (30, 31)}
    layers |= {f"model.layers.{i}.self_attn.q_proj": {"quant_algo": "FP8"} for i in range(32)}
    section = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    spec = read_config({**LLAMA, "quantization_config": section})
    assert (spec.format_of("mlp").name, spec.format_of("attention").name) == ("fp4", "fp8")
    assert spec.format_of("attention", "o").name == "bf16"


def test_kv_format_and_the_file_beside_the_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, LLAMA)
    beside = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside), encoding="utf-8")
    spec = read_config(path)
    assert (spec.format_of("mlp").name, spec.kv_format) == ("fp8", "fp8")
    assert spec.kv_bytes_per_token() == 65_536
    scheme = {"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    assert read_config({**LLAMA, "quantization_config": scheme}).kv_format == "fp8"


def test_catalogue_file_with_a_fault_names_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    config = "\n".join(f"{k} = {json.dumps(v)}" for k, v in facts("meta-llama/Llama-3.1-8B")["config"].items())
    for text, message in (
        ("source = 'x'\nconfig = 3", "line 2, config: 3 is not a table"),
        ("source = 'x'", "'config' is missing"),
        ("[config]\nmodel_type = 'llama'", "'source' is missing"),
        ("source='x'\ncolour = 1\n[config]\n" + config, "line 2, colour: unknown key"),
        ("source = ", "not TOML"),
        (
            "source='x'\n[published]\ntotla='7B'\n[config]\n" + config,
            r"line 3, \[published\] totla: unknown key.*'total'",
        ),
        ("source='x'\n[published]\ntotal='7'\n[config]\n" + config, r"line 3, \[published\] total: '7' is not a count"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message) as raised:
            model(str(path))
        assert "a.toml" in str(raised.value)
