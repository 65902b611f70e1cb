"""What readers of several families share: the registry, attention and MLPs from their usual keys, layers into blocks.

The usual keys, which nearly every family reads: hidden_size, num_hidden_layers, num_attention_heads,
num_key_value_heads, head_dim, intermediate_size, vocab_size, max_position_embeddings, tie_word_embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from perfmodel.models.fields import Fields
from perfmodel.models.layers import Block, Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

Reader = Callable[[Fields], ModelSpec]
#: Readers by `model_type` and by name of the architecture, filled by `reads`.
READERS: dict[str, Reader] = {}

#: A layer: its token mixer and its MLP. None: the layer has none.
Layer = tuple[Mixer | None, Mlp | None]

#: Spellings of the context in configurations, as vLLM reads them.
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
)
#: Kinds of rope scaling by whose factor engines multiply the stated context.
_SCALED_BY_FACTOR = ("linear", "dynamic", "ntk")
_LAYER_KINDS = ("chunked_attention", "full_attention", "linear_attention", "sliding_attention")
#: Larger counts are taken for errors in the file: published models have at most 126 layers and 128 heads.
_MOST_LAYERS, _MOST_HEADS = 10_000, 100_000


def reads(*names: str) -> Callable[[Reader], Reader]:
    """Register a reader under the `model_type`s and names of architectures that it reads."""

    def register(reader: Reader) -> Reader:
        for name in names:
            if name in READERS:
                raise ValueError(f"{name} has two readers: {READERS[name].__name__} and {reader.__name__}")
            READERS[name] = reader
        return reader

    return register


def grouped(layers: Iterable[Layer], norms: int = 2, extra: int = 0) -> tuple[Block, ...]:
    """Group equal layers into blocks, in the order in which each kind of layer first appears.

    `layers` are in the order of the model.

    norms, extra: norm vectors and extra parameters per layer, as `Block` takes them.
    """
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple(
        Block(count=n, mixer=mixer, mlp=mlp, norms=norms, extra_parameters=extra) for (mixer, mlp), n in counts.items()
    )


def model(
    c: Fields, blocks: Sequence[Block], *, tied: bool = False, positions: int = 0, extra_parameters: int = 0
) -> ModelSpec:
    """Return the model of the given blocks, with width, vocabulary and context from the usual keys.

    tied: whether embedding and LM head are shared where the configuration does not say. positions, extra_parameters: as
    `ModelSpec` takes them.
    """
    return ModelSpec(
        name="",
        hidden=c.count("hidden_size", "n_embd", "d_model"),
        vocab=c.count("vocab_size"),
        blocks=tuple(blocks),
        tied=c.flag("tie_word_embeddings", default=tied),
        positions=positions,
        max_context=context(c),
        mtp_layers=c.count("num_mtp_modules", "num_nextn_predict_layers", "mtp_num_hidden_layers", default=0, least=0),
        extra_parameters=extra_parameters,
    )


def context(c: Fields) -> int:
    """Return the tokens of context, rope scaling counted as vLLM does (vllm/config/model.py); 0 where none is stated.

    Keys: rope_scaling (or rope_parameters) with rope_type (or type), factor, original_max_position_embeddings. YaRN
    multiplies the original context; linear, dynamic and NTK scaling the stated one. For the other kinds, such as llama3
    and longrope, and in Gemma 3, the stated context has the scaling in it.
    """
    stated = c.count(*_CONTEXT_KEYS, default=0)
    scaling = c.section("rope_scaling") or c.section("rope_parameters")
    if scaling is None or not stated or c.text("model_type").startswith("gemma3"):
        return stated
    kind = scaling.text("rope_type") or scaling.text("type")
    if kind == "yarn":
        original = scaling.count("original_max_position_embeddings", default=stated)
        return max(stated, int(original * scaling.number("factor", default=1.0)))
    return int(stated * scaling.number("factor", default=1.0)) if kind in _SCALED_BY_FACTOR else stated


def layer_count(c: Fields) -> int:
    """Return the number of layers."""
    return c.count("num_hidden_layers", "n_layer", "num_layers", most=_MOST_LAYERS)


def head_size(c: Fields, heads: int) -> int:
    """Return the size of a head: `head_dim` where given, else the model's width divided by the number of heads."""
    if c.has("head_dim"):
        return c.count("head_dim")
    return c.quotient("hidden_size", "num_attention_heads", c.count("hidden_size", "n_embd", "d_model"), heads)


def attention(c: Fields, *, head_norm: bool = False, bias: bool = False, output_bias: bool = False) -> Mixer:
    """Return full grouped-query attention, with sizes from the usual keys.

    head_norm: RMS norms on query and key heads. bias: of the query, key and value projections. output_bias: of the
    output projection.
    """
    heads = c.count("num_attention_heads", "n_head", most=_MOST_HEADS)
    kv_heads = c.count("num_key_value_heads", default=heads)
    c.quotient("num_attention_heads", "num_key_value_heads", heads, kv_heads)
    size = head_size(c, heads)
    return Mixer(
        kind="full",
        heads=heads,
        kv_heads=kv_heads,
        head_dim=size,
        value_dim=size,
        bias=bias,
        output_bias=output_bias,
        extra_parameters=2 * size if head_norm else 0,
    )


def dense_mlp(c: Fields, *, gated: bool = True, bias: bool = False) -> Mlp:
    """Return a dense MLP whose inner width is `intermediate_size`."""
    return Mlp(intermediate=c.count("intermediate_size"), gated=gated, bias=bias)


def expert_groups(c: Fields) -> tuple[int, int]:
    """Return groups and top_groups of `Mlp` by the keys n_group and topk_group; zeros where every group may be used."""
    groups, used = c.count("n_group", default=1), c.count("topk_group", default=1)
    return (groups, used) if used < groups else (0, 0)


def expert_mlp(
    c: Fields,
    intermediate: int,
    *,
    shared: int = 0,
    shared_gate: bool = False,
    bias: bool = False,
    router_bias: bool = False,
) -> Mlp:
    """Return routed experts of inner width `intermediate`.

    Their number and how many a token uses come from the usual spellings. The keyword arguments are those of `Mlp`.
    """
    experts = c.count("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    top_k = c.count("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_topk")
    if top_k > experts:
        raise c.fail("num_experts_per_tok", top_k, f"there are only {experts} experts")
    return Mlp(
        intermediate=intermediate,
        bias=bias,
        experts=experts,
        top_k=top_k,
        shared=shared,
        shared_gate=shared_gate,
        router_bias=router_bias,
        groups=(chosen := expert_groups(c))[0],
        top_groups=chosen[1],
    )


def first_dense(c: Fields, layers: int, routed: Mlp, *, default: int = 0, every: int = 1) -> list[Mlp]:
    """Return the MLP of each layer: first dense ones (`first_k_dense_replace`), then `routed` in every `every`th layer.

    default: number of dense layers where the configuration does not say. Layers count from 0 here.
    """
    first = c.count("first_k_dense_replace", default=default, least=0)
    return [dense_mlp(c) if i < first or i % every else routed for i in range(layers)]


def every_nth(layers: int, n: int) -> list[bool]:
    """Return for each layer whether it is the last of a group of `n` layers.

    >>> every_nth(5, 2)
    [False, True, False, True, False]
    """
    return [(i + 1) % n == 0 for i in range(layers)]


def layer_kinds(c: Fields, layers: int) -> list[str]:
    """Return the kind of each layer as `layer_types` gives it, in Hugging Face's spelling, checked.

    [] when `c` has no such key.
    """
    kinds = c.items("layer_types", layers)
    for kind in kinds:
        if kind not in _LAYER_KINDS:
            raise c.fail("layer_types", kind, f"known kinds are {', '.join(_LAYER_KINDS)}")
    return kinds


def interleaved(c: Fields, full: Mixer, other: Mixer, kind: str, every: int) -> list[Mixer]:
    """Return the mixer of each layer: `other` where `layer_types` has `kind`, `full` elsewhere.

    Without `layer_types`, every `every`th layer is full.
    """
    layers = layer_count(c)
    kinds = layer_kinds(c, layers)
    is_full = [k != kind for k in kinds] if kinds else every_nth(layers, every)
    return [full if on else other for on in is_full]


def windowed(c: Fields, mixer: Mixer, layers: int) -> list[Mixer]:
    """Return `mixer` for each layer, with a sliding window where the configuration asks for one.

    Keys: `layer_types` decides where given. Else `sliding_window` holds for every layer; with Qwen's
    `use_sliding_window` only if that is true, and only from layer `max_window_layers` on.
    """
    if not c.has("sliding_window"):
        return [mixer] * layers
    local = sliding(mixer, c.count("sliding_window"))
    kinds = layer_kinds(c, layers)
    if kinds:
        return [local if kind == "sliding_attention" else mixer for kind in kinds]
    if not c.has("use_sliding_window"):
        return [local] * layers
    if not c.flag("use_sliding_window"):
        return [mixer] * layers
    first = min(c.count("max_window_layers", default=0, least=0), layers)
    return [mixer] * first + [local] * (layers - first)


def sliding(mixer: Mixer, window: int) -> Mixer:
    """Return `mixer` with a sliding window of `window` tokens."""
    return replace(mixer, kind="sliding", window=float(window))
