"""Spellings of the usual facts in configurations of many authors, and the same facts under their usual keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.models.fields import Fields

#: Usual key of a fact -> other spellings, the first that a file has counts.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "n_embed", "dim", "model_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": (
        "num_kv_heads",
        "n_kv_heads",
        "n_head_kv",
        "num_attention_groups",
        "multi_query_group_num",
        "num_query_groups",
        "kv_n_heads",
    ),
    "head_dim": ("kv_channels", "attention_head_dim", "attn_head_dim", "d_head"),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "ffn_dim", "dense_intermediate_size"),
    "vocab_size": ("padded_vocab_size", "n_vocab"),
    "max_position_embeddings": ("model_max_length", "max_model_len"),
    "moe_intermediate_size": (
        "expert_ffn_hidden_size",
        "moe_ffn_hidden_size",
        "expert_hidden_dim",
        "expert_intermediate_size",
        "moe_expert_intermediate_size",
    ),
    "n_routed_experts": ("num_local_experts", "num_experts", "moe_num_experts", "num_moe_experts"),
    "num_experts_per_tok": (
        "num_experts_per_token",
        "experts_per_token",
        "moe_topk",
        "moe_top_k",
        "moe_k",
        "top_k_experts",
        "moe_router_topk",
    ),
    "n_shared_experts": ("num_shared_experts", "num_shared_expert", "moe_num_shared_experts", "n_shared_expert"),
    "shared_expert_intermediate_size": (
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
        "share_expert_dim",
        "share_expert_dims",
    ),
    "first_k_dense_replace": (
        "moe_layer_start_index",
        "num_dense_layers",
        "n_dense_layers",
        "moe_first_k_dense_replace",
    ),
}


#: Every spelling; the width is the model's own, never that of a section inside.
_NAMES = {name for others in SPELLINGS.values() for name in others} - {"hidden_size"}
#: Sections in which MPT and DBRX keep such facts.
_SECTIONS = ("attn_config", "ffn_config")


def usual(c: Fields, spelled: Mapping[str, str] | None = None) -> Fields:
    """Return the facts of `c` under their usual keys as well; a list of equal numbers counts as that number.

    spelled: usual key -> spelling that goes before all others.
    """
    found: dict[str, Any] = {}
    inner = [section for section in map(c.section, _SECTIONS) if section]
    c = c.stating(**{k: v for section in inner for k, v in section.values.items() if not c.has(k) and k in _NAMES})
    for key, others in SPELLINGS.items():
        own = (spelled[key],) if spelled and key in spelled else ()
        for name in (*own, key, *others):
            if c.has(name):
                found[key] = _one(c.values[name])
                break
    extra = {key: c.values[name] for key, name in (spelled or {}).items() if key not in found and c.has(name)}
    return c.stating(**found, **extra)


def _one(value: object) -> object:
    """Return the number that all entries of a list are equal to, else the value itself."""
    if isinstance(value, list) and value and all(entry == value[0] for entry in value):
        return value[0]
    return value
