"""Read any decoder whose layers have attention and an MLP of the usual kinds, by its row in the table of families."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import attention, every_nth, expert_groups, grouped, layer_count, model, sliding
from perfmodel.models.families.latent import latent_attention
from perfmodel.models.families.spellings import usual
from perfmodel.models.families.table import Family, number, switch
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: Kinds of `layer_types` that a row of the table describes; layers of other kinds need a reader of their own.
_FULL, _LOCAL = ("full_attention", "attention", "global_attention"), ("sliding_attention", "local_attention")


def decoder(c: Fields, family: Family) -> ModelSpec:
    """Read the `config.json` of a family of the table.

    Keys: the usual ones and their spellings (`spellings`), those that the family's switches name, and those of `mixers`
    and `mlps`.
    """
    c = usual(c, family.spelled).filled(**family.fill)
    width = c.count("hidden_size")
    norm_bias = width if family.norm_bias else 0
    layers = zip(mixers(c, family), mlps(c, family), strict=True)
    blocks = grouped(layers, norms=family.norms, extra=family.norms * norm_bias)
    head_bias = c.count("vocab_size") if switch(c, family.head_bias) else 0
    positions = c.count("max_position_embeddings", "n_positions") if family.positions else 0
    return model(c, blocks, tied=family.tied, positions=positions, extra_parameters=norm_bias + head_bias)


def plain_attention(c: Fields, family: Family) -> Mixer:
    """Return the attention of a layer that sees all tokens, with the norms, biases and gates of the family.

    Keys: share_q_dim (Step3: rank of the queries, which have a norm).
    """
    if family.attention == "latent":
        return latent_attention(c)
    bias, output = switch(c, family.bias), switch(c, family.output_bias)
    full = attention(c, head_norm=switch(c, family.head_norm), bias=bias, output_bias=output)
    rows = (full.heads + full.kv_heads) * full.head_dim if switch(c, family.row_norm) else 0
    gate = c.count("hidden_size") * full.heads if switch(c, family.head_gate) else 0
    rank = c.count("share_q_dim", default=0)
    extra = full.extra_parameters + rows + gate + rank
    return replace(full, gated=switch(c, family.attention_gate), q_rank=rank, extra_parameters=extra)


def mixers(c: Fields, family: Family) -> list[Mixer]:
    """Return the attention of each layer: full, or with a sliding window.

    Keys: sliding_window; layer_types, else the family's `full_every`; use_sliding_window and max_window_layers (Qwen);
    attention_other_setting or num_sliding_attention_heads (other head counts in sliding layers, Step 3.5);
    num_attention_heads_per_layer (Laguna).
    """
    n = layer_count(c)
    heads = c.items("num_attention_heads_per_layer", n)
    if heads:
        alike = c.stating(num_attention_heads_per_layer=None)
        by_count = {count: mixers(alike.stating(num_attention_heads=count), family) for count in set(heads)}
        return [by_count[count][i] for i, count in enumerate(heads)]
    full = plain_attention(c, family)
    kinds = layer_kinds_of(c, n)
    window = c.count("sliding_window", default=0, least=0)
    if not window or family.attention == "latent":
        return [full] * n
    local = sliding(plain_attention(_sliding_heads(c), family), window)
    if kinds:
        return [local if kind in _LOCAL else full for kind in kinds]
    if c.has("use_sliding_window"):
        first = min(c.count("max_window_layers", default=0, least=0), n) if c.flag("use_sliding_window") else n
        return [full] * first + [local] * (n - first)
    every = number(_pattern_length(c), family.full_every)
    return [full if on else local for on in every_nth(n, every)] if every else [local] * n


def layer_kinds_of(c: Fields, layers: int) -> list[str]:
    """Return `layer_types`, checked; entries beyond the layers belong to multi-token prediction. [] without the key."""
    kinds = c.items("layer_types")[:layers]
    if kinds and len(kinds) != layers:
        raise c.fail("layer_types", f"list of {len(kinds)}", f"one entry for each of {layers} layers is needed")
    for kind in kinds:
        if kind not in _FULL + _LOCAL:
            raise c.fail("layer_types", kind, f"this architecture is read with {', '.join(_FULL[:1] + _LOCAL[:1])}")
    return kinds


def _pattern_length(c: Fields) -> Fields:
    """Return `c` with a pattern of letters ("LLLG") as its length."""
    pattern = c.values.get("sliding_window_pattern")
    return c.stating(sliding_window_pattern=len(pattern)) if isinstance(pattern, str) and pattern else c


def _sliding_heads(c: Fields) -> Fields:
    """Return the fields of a sliding layer, which may have other numbers of heads."""
    other = c.section("attention_other_setting")
    if other:
        names = ("num_attention_heads", "num_key_value_heads", "head_dim")
        stated = usual(other)
        return c.stating(**{name: stated.values[name] for name in names if stated.has(name)})
    heads = c.count("num_sliding_attention_heads", default=0)
    return c.stating(num_attention_heads=heads) if heads else c


def mlps(c: Fields, family: Family) -> list[Mlp]:
    """Return the MLP of each layer: dense, or experts where the file states more than one.

    Keys: n_routed_experts, num_experts_per_tok, moe_intermediate_size (else intermediate_size), n_shared_experts,
    shared_expert_intermediate_size, n_group and topk_group (`expert_groups`), and those of `sparse_layers`.
    """
    n, bias = layer_count(c), switch(c, family.mlp_bias)
    if c.count("n_routed_experts", default=0, least=0) <= 1:
        return [Mlp(intermediate=_dense_width(c, family), gated=family.gated, bias=bias)] * n
    width = c.count("moe_intermediate_size", "intermediate_size")
    experts, top_k = c.count("n_routed_experts"), c.count("num_experts_per_tok")
    if top_k > experts:
        raise c.fail("num_experts_per_tok", top_k, f"there are only {experts} experts")
    shared = shared_width(c, width)
    routed = Mlp(
        intermediate=width,
        gated=family.gated,
        bias=bias,
        experts=experts,
        top_k=top_k,
        shared=shared,
        shared_gate=shared > 0 and switch(c, family.shared_gate),
        router_bias=switch(c, family.router_bias),
        groups=(chosen := expert_groups(c))[0],
        top_groups=chosen[1],
    )
    sparse = sparse_layers(c, n)
    dense = routed if all(sparse) else Mlp(intermediate=_dense_width(c, family), gated=family.gated, bias=bias)
    return [routed if on else dense for on in sparse]


def _dense_width(c: Fields, family: Family) -> int:
    """Return the inner width of a dense MLP (`intermediate_size`)."""
    ratio = family.mlp_ratio * c.count("hidden_size") if family.mlp_ratio else None
    width = c.count("intermediate_size", default=ratio)
    return width // 2 if family.halved_intermediate else width


def shared_width(c: Fields, width: int) -> int:
    """Return the inner width of all shared experts together: their number times their own width, else `width`."""
    own = c.count("shared_expert_intermediate_size", default=0, least=0)
    return (
        own * c.count("n_shared_experts", default=1, least=0)
        if own
        else width * c.count("n_shared_experts", default=0, least=0)
    )


def sparse_layers(c: Fields, layers: int) -> list[bool]:
    """Return for each layer whether it has experts; all have where no key says otherwise.

    Keys, of which the first that is given counts: mlp_layer_types ("sparse" or "dense"), moe_layer_freq as a list (1:
    experts), moe_layers_enum ("3,4,5"). Else first_k_dense_replace (dense layers at the beginning),
    moe_layer_end_index, mlp_only_layers (dense ones) and a period: decoder_sparse_step, moe_layer_interval and
    interleave_moe_layer_step (the last of each group), moe_layer_freq (the first), expert_layer_period with
    expert_layer_offset (Jamba).
    """
    stated = c.items("mlp_layer_types")[:layers]
    if stated:
        if len(stated) != layers or any(kind not in ("dense", "sparse") for kind in stated):
            raise c.fail("mlp_layer_types", stated, f"dense or sparse is needed for each of {layers} layers")
        return [kind == "sparse" for kind in stated]
    if isinstance(c.values.get("moe_layer_freq"), list):
        return c.switches("moe_layer_freq", layers)
    if c.has("moe_layers_enum"):
        listed = {part.strip() for part in c.text("moe_layers_enum").split(",")}
        return [str(i) in listed for i in range(layers)]
    first = c.count("first_k_dense_replace", default=0, least=0)
    last = c.count("moe_layer_end_index", default=-1, least=-1)
    only, step = c.items("mlp_only_layers"), c.count("moe_layer_freq", default=1)
    offset = c.count("expert_layer_offset", default=0, least=0)
    period = c.count("expert_layer_period", default=1)
    ends = every_nth(
        layers, c.count("decoder_sparse_step", "moe_layer_interval", "interleave_moe_layer_step", default=1)
    )
    return [
        on and i >= first and (last < 0 or i <= last) and i not in only and i % step == 0 and (i - offset) % period == 0
        for i, on in enumerate(ends)
    ]
