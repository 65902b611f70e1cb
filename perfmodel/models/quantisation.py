"""Read `quantization_config` of a checkpoint: the storage format of each part of the model.

Layouts read: fp8 (a scale per block, as DeepSeek, or per tensor), mxfp4, awq, gptq, bitsandbytes, compressed-tensors
(vllm-project/compressed-tensors), modelopt (NVIDIA Model Optimizer), Quark (AMD). A part stays in 16 bit where the
section excludes most of its modules. Names of modules follow Hugging Face's model code.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase

from perfmodel.models.fields import Fields
from perfmodel.models.spec import KEPT

#: Modules of each part under the naming conventions of checkpoints; a checkpoint follows one of them.
_MODULES = {
    "attention": ("self_attn.q_proj", "self_attn.q_b_proj", "attn.wq_b", "linear_attn.in_proj_qkv", "mixer.in_proj"),
    "o": ("self_attn.o_proj", "attn.wo_b", "linear_attn.out_proj", "mixer.out_proj"),
    "mlp": ("mlp.gate_proj", "mlp.down_proj"),
    "shared": (
        "mlp.shared_experts.gate_proj",
        "mlp.shared_expert.gate_proj",
        "ffn.shared_experts.w1",
        "block_sparse_moe.shared_experts.gate_proj",
        "mixer.shared_experts.up_proj",
    ),
}
#: Modules of routed experts, for checkpoints that list the algorithm of each module. No checkpoint excludes them.
_EXPERTS = (
    "mlp.experts.0.gate_proj",
    "ffn.experts.0.w1",
    "block_sparse_moe.experts.0.w1",
    "mixer.experts.0.up_proj",
    "mlp.experts",
    "ffn.experts",
    "experts.0.gate_proj",
)
#: `quant_algo` or `quant_method` in lower case -> storage format.
_ALGORITHMS = {
    "fp8": "fp8",
    "fp8_pb_wo": "fp8_block",
    "fp8_block": "fp8_block",
    "mxfp8": "mxfp8",
    "nvfp4": "fp4",
    "w4a16_nvfp4": "fp4",
    "nvfp4_awq": "fp4",
    "mxfp4": "mxfp4",
    "w4a8_mxfp4_fp8": "mxfp4",
    "w4a16_awq": "int4",
    "w4a8_awq": "w4a8",
    "w8a16": "w8a16",
    "w8a8_sq_per_channel": "int8",
    "int8_sq": "int8",
    "awq": "int4",
    "gptq": "int4",
    "bitsandbytes": "int4",
    "fbgemm_fp8": "fp8",
}
#: (bits of integer weights, bits of activations) -> storage format.
_INTEGER_PAIRS = {(8, 8): "int8", (4, 8): "w4a8", (4, 4): "w4a4"}
#: Values per scale of the microscaling formats (OCP MX specification 1.0).
_MX_GROUP = 32
#: Weights per scale of the format `int4_g32`, and of `int4`, which holds where a method does not state the number.
_SMALL_GROUP, _USUAL_GROUP = 32, 128
#: The module of the LM head.
_HEAD = "lm_head"
#: Keys under which the methods list excluded modules.
_EXCLUDED = ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules", "exclude")


def stored_formats(c: Fields, layers: int, experts: int, *, tied: bool = False) -> tuple[dict[str, str], str]:
    """Return (storage format by part, format of the KV cache or "" where the file names none) of a configuration.

    layers, experts: numbers of the model; they tell which modules to look for among the excluded ones. tied: whether
    the LM head is the embedding, which stays in 16 bit.
    """
    q = c.section("quantization_config") or c.section("compression_config") or c.section("quantization")
    if q is None:
        return {"default": "bf16"}, ""
    mixed = q.section("quantized_layers")
    if mixed:
        formats = _by_layer(mixed, "fp8_block" if q.text("quant_method") == "fp8" else "bf16")
    else:
        formats = _with_exclusions(q, weight_format(q), layers, experts)
    head = "" if tied else head_format(q, formats["default"])
    if head:
        formats["lm_head"] = head
    stated = c.text("expert_dtype")
    if stated not in ("", "fp4", "fp8"):
        raise c.fail("expert_dtype", stated, "fp4 or fp8 is known")
    if stated == "fp4" and "fp4" not in formats.values():
        formats["experts"] = "mxfp4"  # fp4 values, one power-of-two scale per 32 (DeepSeek-V4 model card)
    return formats, cache_format(q)


def head_format(q: Fields, chosen: str) -> str:
    """Return the storage format of a quantised LM head; "" where it stays in 16 bit.

    It is quantised where the section says so: by `lm_head` true (GPTQ), by its own entry in `quantized_layers`, by a
    config group that targets it, or by a group that targets every linear layer beside a list of ignored modules without
    it. Any other list leaves it in 16 bit, as the engines' loaders do. `chosen`: the format of the rest.
    """
    mixed = q.section("quantized_layers")
    if mixed:
        own = next((mixed.section(key) for key in mixed.values if key.split(".")[-1] == _HEAD), None)
        return weight_format(own) if own else ""
    if isinstance(q.values.get(_HEAD), bool):
        return chosen if q.flag(_HEAD) else ""
    excluded = [e for key in _EXCLUDED for e in _entries(q, key)]
    if any(map(_names_head, excluded)):
        return ""
    for group in _groups(q):
        if any(map(_names_head, _entries(group, "targets"))):
            return _group_format(group, group.text("format") or q.text("format"))
    listed = any(isinstance(q.values.get(key), list) for key in _EXCLUDED)
    every = any("Linear" in _entries(group, "targets") for group in _groups(q))
    return chosen if listed and every else ""


def _names_head(entry: str) -> bool:
    """Return whether an entry of a list of modules names the LM head: itself, by wildcard, or by `re:` pattern."""
    if entry.startswith("re:"):
        return re.match(entry[3:], _HEAD) is not None
    if "*" in entry:
        return any(fnmatchcase(name, entry) for name in (_HEAD, f"model.{_HEAD}", f"language_model.{_HEAD}"))
    return entry.split(".")[-1] == _HEAD


def _with_exclusions(q: Fields, chosen: str, layers: int, experts: int) -> dict[str, str]:
    """Return the formats by part where all modules have the format `chosen`, except those that `q` excludes."""
    excluded = [e for key in _EXCLUDED for e in _entries(q, key)]
    kept = {part for part in _MODULES if _mostly_excluded(excluded, part, layers, experts)}
    formats = {"default": chosen, **dict.fromkeys(KEPT, "bf16"), **dict.fromkeys(sorted(kept), "bf16")}
    if "attention" in kept:  # the format of attention holds for its output projection "o" too, unless that differs
        formats.pop("o", None)
        if "o" not in kept:
            formats["o"] = chosen
    return formats


def weight_format(q: Fields) -> str:
    """Return the storage format of the quantised weights; `InputError` names an unknown method."""
    group = _first_group(q)
    if group is not None:
        return _group_format(group, q.text("format") or group.text("format"))
    method = (q.text("quant_algo") or q.text("quant_method")).lower()
    if method == "quark":
        return _quark_format(q)
    if method not in _ALGORITHMS:
        known = ", ".join([*_ALGORITHMS, "compressed-tensors", "modelopt", "quark"])
        raise q.fail("quant_method", method, f"known methods are {known}")
    chosen = _ALGORITHMS[method]
    if chosen == "fp8" and q.items("weight_block_size"):
        return "fp8_block"
    if chosen == "int4":
        return _weight_only(
            q,
            q.count("bits", "w_bit", default=8 if q.flag("load_in_8bit") else 4),
            q.count("group_size", "q_group_size", default=_USUAL_GROUP, least=-1),
        )
    return chosen


def cache_format(q: Fields) -> str:
    """Return the format of the KV cache that a checkpoint holds scales for; "" where it holds none."""
    stated = q.values.get("kv_cache_quant_algo") or q.values.get("kv_cache_scheme")
    if isinstance(stated, str):
        return {"fp8": "fp8", "int8": "int8", "nvfp4": "fp4"}.get(stated.lower(), "")
    scheme = q.section("kv_cache_scheme")
    if scheme is None:
        return ""
    return "fp8" if scheme.text("type") == "float" and scheme.count("num_bits") == 8 else "int8"


def _groups(q: Fields) -> list[Fields]:
    """Return the `config_groups`."""
    groups = q.section("config_groups")
    found = [groups.section(key) for key in groups.values] if groups else []
    return [group for group in found if group is not None]


def _first_group(q: Fields) -> Fields | None:
    """Return the first of the `config_groups` that is not for the LM head alone; None where there are none."""
    groups = _groups(q)
    rest = [g for g in groups if not _entries(g, "targets") or not all(map(_names_head, _entries(g, "targets")))]
    return next(iter(rest or groups), None)


def _group_format(group: Fields, layout: str) -> str:
    """Return the format of a group of compressed-tensors or modelopt: bits and type of weights and of activations.

    layout: the name of the format in the group or the section ("mxfp4-pack-quantized").
    """
    weights, acts = group.section("weights"), group.section("input_activations")
    if weights is None:
        raise group.missing("weights")
    bits, kind = weights.count("num_bits"), weights.text("type", "int")
    size = weights.count("group_size", default=-1, least=-1)
    if kind == "float" and bits == 4:
        return "mxfp4" if layout.startswith("mxfp4") or size == _MX_GROUP else "fp4"
    if kind == "float" and bits == 8:
        if size == _MX_GROUP:
            return "mxfp8"
        return "fp8_block" if weights.text("strategy") == "block" else "fp8"
    if acts is None:
        return _weight_only(weights, bits, size)
    pair = (bits, acts.count("num_bits"))
    if pair not in _INTEGER_PAIRS:
        raise weights.fail(
            "num_bits", pair, f"known weight and activation bits are {', '.join(map(str, _INTEGER_PAIRS))}"
        )
    return _INTEGER_PAIRS[pair]


def _weight_only(q: Fields, bits: int, group: int) -> str:
    """Return the format of integer weights that are multiplied in 16 bit.

    group: weights per scale, -1 for one scale per row.
    """
    if bits == 8:
        return "w8a16"
    if bits != 4:
        raise q.fail("bits", bits, "weight-only formats of 4 and 8 bit are known")
    return "int4_g32" if group == _SMALL_GROUP else "int4"


def _quark_format(q: Fields) -> str:
    """Return the weight format of a section that AMD Quark wrote."""
    whole = q.section("global_quant_config")
    weight = whole.section("weight") if whole else None
    if weight is None:
        raise q.missing("global_quant_config: weight")
    kind = weight.text("dtype")
    known = {"fp8_e4m3": "fp8", "fp4": "mxfp4", "int8": "int8", "int4": "int4", "uint4": "int4"}
    if kind not in known:
        raise weight.fail("dtype", kind, f"known types are {', '.join(known)}")
    return known[kind]


def _entries(q: Fields, key: str) -> list[str]:
    """Return the strings in the list under `key`."""
    return [e for e in q.items(key) if isinstance(e, str)]


def _by_layer(mixed: Fields, rest: str) -> dict[str, str]:
    """Return the formats by part of a checkpoint that lists the algorithm of each module.

    A part has the format of most of its modules; a part without any has the format `rest`.
    """
    parts = {**_MODULES, "experts": _EXPERTS}
    seen: dict[str, Counter[str]] = {part: Counter() for part in parts}
    for module in mixed.values:
        stated = mixed.section(module)
        name = re.sub(r"experts\.\d+\.", "experts.0.", module)
        for part, endings in parts.items():
            if stated is not None and name.endswith(endings):
                seen[part][weight_format(stated)] += 1
    formats = {part: counts.most_common(1)[0][0] if counts else rest for part, counts in seen.items()}
    if formats["o"] == formats["attention"]:
        del formats["o"]
    told = {part: f for part, f in formats.items() if f != rest or part == "o"}
    return {"default": rest, **dict.fromkeys(KEPT, "bf16"), **told}


def _mostly_excluded(excluded: Iterable[str], part: str, layers: int, experts: int) -> bool:
    """Return whether the part is excluded in most of three sampled layers, under one of the naming conventions.

    Sampled are layers from the middle; for the dense MLP of a mixture of experts the first layers, which have one.
    """
    middle = (layers // 3, layers // 2, 2 * layers // 3)
    sampled = (0, 1, 2) if part == "mlp" and experts else middle
    entries = list(excluded)
    for ending in _MODULES[part]:
        hits = sum(any(_matches(e, f"model.layers.{i}.{ending}") for e in entries) for i in sampled)
        if 2 * hits > len(sampled):
            return True
    return False


def _matches(entry: str, module: str) -> bool:
    """Return whether an exclusion names the module: exactly, as a parent, by wildcard, or by `re:` pattern."""
    if entry.startswith("re:"):
        return re.match(entry[3:], module) is not None
    if "layers." in entry:
        entry = entry[entry.index("layers.") :]
        module = module[module.index("layers.") :]
    elif "*" not in entry:
        return entry in module.split(".")
    if "*" in entry:
        return fnmatchcase(module, entry) or fnmatchcase(module, entry + ".*")
    return module == entry or module.startswith(entry + ".")
