"""Read a decoder of an architecture that no reader knows, from the facts that its file states."""

from __future__ import annotations

from dataclasses import replace

from hwdb import InputError
from perfmodel.models.families.decoder import decoder
from perfmodel.models.families.spellings import usual
from perfmodel.models.families.table import Family, family
from perfmodel.models.fields import Fields
from perfmodel.models.spec import ModelSpec

#: Facts that every decoder has, and those that latent attention has in place of key/value heads.
_FACTS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
_LATENT = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
#: Beginnings of keys that tell of layers without attention, which only a reader knows how to build.
_RECURRENT = (
    "mamba",
    "ssm_",
    "linear_attn",
    "linear_num",
    "linear_key",
    "rwkv",
    "lru_",
    "conv_",
    "hybrid_",
    "state_size",
)
#: Section of `config.json` in which a user states how an unknown architecture is built, by attributes of `Family`.
_SECTION = "perfmodel"
#: How a decoder is built where its file does not say: as Llama 3, with biases and norms where a usual key says so.
_BASE = Family(
    models="unknown",
    bias="attention_bias|qkv_bias|use_qkv_bias|add_qkv_bias|use_bias",
    output_bias="attention_out_bias|attention_bias|use_bias",
    mlp_bias="mlp_bias|use_bias",
    head_norm="use_qk_norm|qk_norm|qk_layernorm",
)


def unknown(c: Fields, name: str, known: list[str]) -> ModelSpec:
    """Read the `config.json` of an unknown decoder, and say in `assumed` what the file does not state.

    name: the architecture, for messages. known: `model_type`s that have a reader. Raises `InputError` for a model that
    is no decoder of attention and MLPs, or that lacks a fact; it names the keys.
    """
    stated = c.section(_SECTION)
    row = family(stated.values, stated.place, _BASE) if stated else _BASE
    facts = usual(c, row.spelled)
    absent = missing_facts(facts.with_defaults(**row.fill), row)
    odd = sorted(key for key in c.values if key.startswith(_RECURRENT) and c.values[key] not in (None, False, 0, []))
    start = f"{c.place}: architecture {name!r} (model_type {c.text('model_type')!r}) is not known"
    if absent:
        raise InputError(
            f"{start}; missing facts: {', '.join(absent)}. Add them under these keys and the file is read as a decoder "
            f"of Llama's kind. Known model types: {', '.join(known)}. docs/models.md tells how to add one"
        )
    if odd or c.flag("is_encoder_decoder"):
        why = f"{odd[0]} tells of recurrent layers" if odd else "is_encoder_decoder is true"
        raise InputError(
            f"{start}, and it is no decoder of attention and MLPs alone: {why}. docs/models.md tells how to add one"
        )
    latent = facts.has("kv_lora_rank") and not (stated and stated.has("attention"))
    return replace(
        decoder(c, replace(row, attention="latent") if latent else row), assumed=assumptions(facts, row, name)
    )


def missing_facts(c: Fields, row: Family) -> list[str]:
    """Return the usual keys of the facts that an unknown decoder lacks; the size of a head only beside others."""
    latent = c.has("kv_lora_rank")
    needed = [key for key in _FACTS if not (latent and key == "num_key_value_heads")]
    needed += [*_LATENT] if latent else []
    absent = [key for key in needed if not c.has(key)]
    experts = c.has("n_routed_experts") and c.values["n_routed_experts"] != 1
    width = c.has("intermediate_size") or bool(row.mlp_ratio) or (experts and c.has("moe_intermediate_size"))
    absent += [] if width else ["intermediate_size"]
    absent += ["num_experts_per_tok"] if experts and not c.has("num_experts_per_tok") else []
    if absent and not latent and not c.has("head_dim"):
        absent.insert(absent.index("num_key_value_heads") + 1 if "num_key_value_heads" in absent else 0, "head_dim")
    return absent


def assumptions(c: Fields, row: Family, name: str) -> str:
    """Say in one sentence how an unknown architecture was read, and how to state it otherwise."""
    gated = "two up-projections" if row.gated else "one up-projection"
    said = [f"{row.norms} norms per layer", f"{gated} per MLP"]
    flags = (("biases", (row.bias, row.output_bias, row.mlp_bias)), ("norms on heads", (row.head_norm, row.row_norm)))
    for what, switches in flags:
        keys = [key for s in switches if isinstance(s, str) for key in s.partition("=")[0].split("|")]
        if not any(c.has(key) for key in keys) and True not in switches:
            said.append(f"no {what}")
    if not c.has("head_dim") and not c.has("kv_lora_rank"):
        said.append("head_dim = hidden_size / num_attention_heads")
    if not c.has("sliding_window"):
        said.append("every layer attends to all tokens")
    if not c.has("tie_word_embeddings"):
        said.append("embedding and LM head " + ("shared" if row.tied else "apart"))
    return (
        f"architecture {name!r} is not known and was read from its stated facts; assumed: {', '.join(said)}. A section "
        f'"{_SECTION}" in the file states it otherwise, such as {{"norms": 4, "gated": false}} (docs/models.md)'
    )
