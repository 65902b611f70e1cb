"""Mixtures of experts with layers of their own: gpt-oss, Llama 4, MiniMax M2 and M3, Grok."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import (
    attention,
    every_nth,
    expert_mlp,
    grouped,
    layer_count,
    layer_kinds,
    model,
    reads,
    windowed,
)
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: Llama 4: chunk of local attention where not given, and the period of layers that attend to all tokens (its report).
_LLAMA4_CHUNK, _LLAMA4_PERIOD = 8192, 4


@reads("gpt_oss", "GptOssForCausalLM")
def gpt_oss(c: Fields) -> ModelSpec:
    """Read the `config.json` of gpt-oss 20b and 120b.

    Structure: sliding and full layers alternate; biases everywhere; one attention sink per head.

    Keys: layer_types and sliding_window (both required), num_local_experts, num_experts_per_tok.
    """
    n = layer_count(c)
    plain = attention(c, bias=True, output_bias=True)
    full = replace(plain, extra_parameters=plain.heads)
    mlp = expert_mlp(c, c.count("intermediate_size"), bias=True, router_bias=True)
    if not layer_kinds(c, n):
        raise c.missing("layer_types")
    if not c.has("sliding_window"):
        raise c.missing("sliding_window")
    return model(c, grouped((m, mlp) for m in windowed(c, full, n)))


@reads("llama4", "llama4_text", "Llama4ForConditionalGeneration", "Llama4ForCausalLM")
def llama4(c: Fields) -> ModelSpec:
    """Read the `config.json` of Llama 4 Scout and Maverick.

    Three of four layers attend within their chunk, the fourth to all tokens.

    The layers that attend to all tokens have no rotary embedding. A shared expert of the same width stands next to the
    routed ones.

    Keys: attention_chunk_size, no_rope_layers (1: rotary, local), interleave_moe_layer_step (n: experts in every
    n-th layer), intermediate_size (of an expert), intermediate_size_mlp (of the dense layers).
    """
    n = layer_count(c)
    full = attention(c)
    chunk = c.count("attention_chunk_size", default=_LLAMA4_CHUNK)
    local = replace(full, kind="chunked", window=float(chunk))
    width = c.count("intermediate_size")
    routed = expert_mlp(c, width, shared=width)
    dense = Mlp(intermediate=c.count("intermediate_size_mlp"))
    sparse = every_nth(n, c.count("interleave_moe_layer_step", default=1))
    rotary = c.switches("no_rope_layers", n) or [not whole for whole in every_nth(n, _LLAMA4_PERIOD)]
    mixers = [local if on else full for on in rotary]
    return model(c, grouped(zip(mixers, (routed if on else dense for on in sparse), strict=True)))


@reads("minimax_m2", "MiniMaxM2ForCausalLM")
def minimax_m2(c: Fields) -> ModelSpec:
    """Read the `config.json` of MiniMax M2 and M2.5.

    Structure: one norm over all query heads together and one over all key heads; experts in every layer.

    Keys: use_qk_norm, use_routing_bias, num_local_experts, num_experts_per_tok, num_mtp_modules.
    """
    plain = attention(c)
    norms = (plain.heads + plain.kv_heads) * plain.head_dim if c.flag("use_qk_norm") else 0
    mlp = expert_mlp(c, c.count("intermediate_size"), router_bias=c.flag("use_routing_bias"))
    return model(c, grouped([(replace(plain, extra_parameters=norms), mlp)] * layer_count(c)))


@reads("minimax_m3", "minimax_m3_vl", "MiniMaxM3ForCausalLM", "MiniMaxM3SparseForConditionalGeneration")
def minimax_m3(c: Fields) -> ModelSpec:
    """Read the `config.json` of MiniMax M3.

    Structure: block-sparse attention picked by an indexer, the first layers dense, shared experts.

    Keys: use_qk_norm, sparse_attention_config, moe_intermediate_size (else intermediate_size),
    dense_intermediate_size, shared_intermediate_size, n_shared_experts, use_routing_bias, moe_layer_freq (1:
    experts) or first_k_dense_replace, num_mtp_modules.
    """
    n = layer_count(c)
    width = c.count("moe_intermediate_size", "intermediate_size")
    shared = c.count("shared_intermediate_size", default=0, least=0) * c.count("n_shared_experts", default=1)
    routed = expert_mlp(c, width, shared=shared, router_bias=c.flag("use_routing_bias"))
    first = c.count("first_k_dense_replace", default=0, least=0)
    sparse = c.switches("moe_layer_freq", n) or [i >= first for i in range(n)]
    mlps = [routed if on else Mlp(intermediate=c.count("dense_intermediate_size")) for on in sparse]
    return model(c, grouped(zip(_block_sparse(c, n), mlps, strict=True)))


@reads("grok-1", "Grok1ForCausalLM", "Grok1ModelForCausalLM")
def grok(c: Fields) -> ModelSpec:
    """Read the `config.json` of Grok-1 and Grok-2 (the repositories keyfan/grok-1-hf and xai-org/grok-2).

    Structure: norms before and after attention and MLP; experts in every layer; Grok-2 has a dense MLP beside them.

    Keys: num_local_experts or num_experts, num_experts_per_tok, residual_moe (a dense MLP of intermediate_size beside
    experts of moe_intermediate_size).
    """
    beside = c.count("intermediate_size") if c.flag("residual_moe") else 0
    width = c.count("moe_intermediate_size", "intermediate_size")
    return model(c, grouped([(attention(c), expert_mlp(c, width, shared=beside))] * layer_count(c), norms=4))


def _block_sparse(c: Fields, layers: int) -> list[Mixer]:
    """Return the mixer of each layer of MiniMax M3; plain attention without the section `sparse_attention_config`.

    Keys of the section: use_sparse_attention, sparse_attention_freq (1: sparse), sparse_num_index_heads,
    sparse_index_dim, sparse_topk_blocks, sparse_block_size (a query sees topk_blocks * block_size tokens).
    """
    plain = attention(c, head_norm=c.flag("use_qk_norm"))
    sparse = c.section("sparse_attention_config")
    if not sparse or not sparse.flag("use_sparse_attention"):
        return [plain] * layers
    picked = replace(
        plain,
        index_heads=sparse.count("sparse_num_index_heads"),
        index_dim=sparse.count("sparse_index_dim"),
        index_topk=float(sparse.count("sparse_topk_blocks") * sparse.count("sparse_block_size")),
    )
    return [picked if on else plain for on in sparse.switches("sparse_attention_freq", layers)]
