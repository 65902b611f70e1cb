"""What readers of several architectures share: the registry, attention from its usual fields, layers into blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from perfmodel.models.fields import Fields
from perfmodel.models.layers import Block, Mixer, Mlp
from perfmodel.models.spec import ModelSpec

Reader = Callable[[Fields], ModelSpec]
#: Readers by `model_type` and by name of the architecture, filled by `reads`.
READERS: dict[str, Reader] = {}

Layer = tuple[Mixer | None, Mlp | None]


def reads(*names: str) -> Callable[[Reader], Reader]:
    """Register a reader for the given `model_type`s and architectures."""

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(names, reader))
        return reader

    return register


def grouped(layers: Iterable[Layer], norms: int = 2, extra: int = 0) -> tuple[Block, ...]:
    """Equal layers together, in the order in which each kind first appears."""
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple(Block(n, mixer, mlp, norms, extra) for (mixer, mlp), n in counts.items())


def model(c: Fields, blocks: Sequence[Block], tied: bool = False, **facts: Any) -> ModelSpec:
    """A model of the given blocks with the fields nearly every configuration spells alike."""
    context = c.count("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length", default=0)
    given = {
        "hidden": c.count("hidden_size", "n_embd", "d_model"),
        "vocab": c.count("vocab_size"),
        "tied": c.flag("tie_word_embeddings", default=tied),
        "max_context": context,
        "mtp_layers": c.count("num_nextn_predict_layers", "mtp_num_hidden_layers", default=0, least=0),
    }
    return ModelSpec(name="", blocks=tuple(blocks), **{**given, **facts})


def layer_count(c: Fields) -> int:
    """Number of layers."""
    return c.count("num_hidden_layers", "n_layer", "num_layers", most=10_000)


def head_size(c: Fields, heads: int) -> int:
    """Size of a head: stated, or the model's width divided by the heads."""
    if c.has("head_dim"):
        return c.count("head_dim")
    return c.quotient("hidden_size", "num_attention_heads", c.count("hidden_size", "n_embd", "d_model"), heads)


def attention(c: Fields, *, head_norm: bool = False, **facts: Any) -> Mixer:
    """Grouped-query attention from the usual fields. head_norm: RMS norms on query and key heads."""
    heads = c.count("num_attention_heads", "n_head", most=100_000)
    kv_heads = c.count("num_key_value_heads", default=heads)
    c.quotient("num_attention_heads", "num_key_value_heads", heads, kv_heads)
    size = head_size(c, heads)
    given = {
        "kind": "full",
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": size,
        "value_dim": size,
        "extra_parameters": 2 * size if head_norm else 0,
    }
    return Mixer(**{**given, **facts})


def dense_mlp(c: Fields, **facts: Any) -> Mlp:
    """A dense MLP of the stated inner width."""
    return Mlp(**{"intermediate": c.count("intermediate_size"), **facts})


def expert_mlp(c: Fields, intermediate: int, **facts: Any) -> Mlp:
    """Routed experts of the given inner width; number and choice from the usual fields."""
    experts = c.count("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    top_k = c.count("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_topk")
    if top_k > experts:
        raise c.fail("num_experts_per_tok", top_k, f"there are only {experts} experts")
    return Mlp(**{"intermediate": intermediate, "experts": experts, "top_k": top_k, **facts})


def layer_kinds(c: Fields, layers: int) -> list[str]:
    """`layer_types` as Hugging Face spells them, checked; empty when not stated."""
    kinds = c.items("layer_types", layers)
    known = ("chunked_attention", "full_attention", "linear_attention", "sliding_attention")
    for kind in kinds:
        if kind not in known:
            raise c.fail("layer_types", kind, f"known kinds are {', '.join(known)}")
    return kinds
