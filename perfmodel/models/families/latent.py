"""Multi-head latent attention: DeepSeek V2, V3, R1, V3.2, Kimi K2, GLM-5; and DeepSeek-V4's compressed attention."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import dense_mlp, expert_mlp, grouped, layer_count, model, reads
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mixer, Mlp
from perfmodel.models.spec import ModelSpec


def latent_attention(c: Fields) -> Mixer:
    """MLA (DeepSeek-V2, arXiv:2405.04434, section 2.1) and, where stated, the indexer of DeepSeek-V3.2."""
    heads = c.count("num_attention_heads")
    q_rank, kv_rank = c.count("q_lora_rank", default=0), c.count("kv_lora_rank")
    index_heads = c.count("index_n_heads", default=0)
    index_dim = c.count("index_head_dim") if index_heads else 0
    return Mixer(
        kind="mla",
        heads=heads,
        kv_heads=heads,
        head_dim=c.count("qk_nope_head_dim") + c.count("qk_rope_head_dim"),
        value_dim=c.count("v_head_dim"),
        q_rank=q_rank,
        kv_rank=kv_rank,
        rope_dim=c.count("qk_rope_head_dim"),
        index_heads=index_heads,
        index_dim=index_dim,
        index_topk=float(c.count("index_topk")) if index_heads else float("inf"),
        extra_parameters=q_rank + kv_rank + 2 * index_dim,
    )


def routed_mlps(c: Fields, layers: int) -> list[Mlp]:
    """DeepSeek's layers: the first ones dense, then routed experts with shared ones beside them."""
    width = c.count("moe_intermediate_size")
    shared = width * c.count("n_shared_experts", default=0, least=0)
    routed = expert_mlp(c, width, shared=shared, router_bias=c.text("topk_method") == "noaux_tc")
    first = c.count("first_k_dense_replace", default=0, least=0)
    step = c.count("moe_layer_freq", default=1)
    return [dense_mlp(c) if i < first or i % step else routed for i in range(layers)]


@reads(
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "kimi_k2",
    "kimi_k25",
    "DeepseekV2ForCausalLM",
    "DeepseekV3ForCausalLM",
    "DeepseekV32ForCausalLM",
    "KimiK25ForConditionalGeneration",
    "glm_moe_dsa",
    "GlmMoeDsaForCausalLM",
)
def deepseek(c: Fields) -> ModelSpec:
    """DeepSeek V2 to V3.2, Kimi K2, GLM-5: latent attention; layers marked `shared` reuse the index before them."""
    n = layer_count(c)
    full = latent_attention(c)
    reuse = replace(full, index_heads=0, index_dim=0, extra_parameters=full.extra_parameters - 2 * full.index_dim)
    kinds = c.items("indexer_types", n) or ["full"] * n
    for kind in kinds:
        if kind not in ("full", "shared"):
            raise c.fail("indexer_types", kind, "full or shared is needed for each layer")
    mixers = [reuse if kind == "shared" else full for kind in kinds]
    return model(c, grouped(zip(mixers, routed_mlps(c, n), strict=True)))


@reads("deepseek_v4", "DeepseekV4ForCausalLM")
def deepseek_v4(c: Fields) -> ModelSpec:
    """DeepSeek-V4: one 512-wide vector a token is key and value of all heads; older tokens are kept compressed.

    `compress_ratios` says for each layer whether beyond the window of 128 tokens four tokens share an entry, picked by
    an indexer, or 128 share one, all read; 0 keeps the window alone. Four residual streams (`hc_mult`) are mixed
    before and after each part. Layout of the weights: vLLM, vllm/models/deepseek_v4.
    """
    n, hidden = layer_count(c), c.count("hidden_size")
    ratios = c.items("compress_ratios")
    if len(ratios) < n or any(isinstance(r, bool) or r not in (0, 4, 128) for r in ratios):
        raise c.fail("compress_ratios", ratios, f"at least {n} entries of 0, 4 and 128 are needed")
    mixers = {ratio: compressed_attention(c, ratio) for ratio in set(ratios[:n])}
    width = c.count("moe_intermediate_size")
    shared = width * c.count("n_shared_experts", default=1)
    by_hash = c.count("num_hash_layers", default=0, least=0)
    scored = expert_mlp(c, width, shared=shared, router_bias=True)
    hashed = replace(scored, router_bias=False)
    layers = [(mixers[ratios[i]], hashed if i < by_hash else scored) for i in range(n)]
    streams = c.count("hc_mult")
    mixing = (2 + streams) * streams  # weights before, after, and between the streams
    each = 2 * (mixing * streams * hidden + mixing + 3)
    return model(
        c,
        grouped(layers, extra=each),
        kv_format="fp8",
        streams=streams,
        extra_parameters=streams * streams * hidden + streams + 1,
    )


def compressed_attention(c: Fields, ratio: int) -> Mixer:
    """Attention of a DeepSeek-V4 layer with the given compression; only ratio 4 has an indexer."""
    size, heads, q_rank = c.count("head_dim"), c.count("num_attention_heads"), c.count("q_lora_rank")
    groups = c.count("o_groups")
    c.quotient("num_attention_heads", "o_groups", heads, groups)
    picked = ratio == 4
    index = c.count("index_head_dim") if picked else 0
    overlap = 2 if picked else 1
    # norms of queries, keys and compressed entries, a sink a head, positions within a compressed entry
    beside = q_rank + size + heads + (size + ratio * overlap * size if ratio else 0)
    beside += index + ratio * overlap * index
    return Mixer(
        kind="compressed",
        heads=heads,
        kv_heads=1,
        head_dim=size,
        value_dim=size,
        window=float(c.count("sliding_window")),
        q_rank=q_rank,
        rope_dim=c.count("qk_rope_head_dim"),
        index_heads=c.count("index_n_heads") if picked else 0,
        index_dim=index,
        index_topk=float(c.count("index_topk")) if picked else float("inf"),
        extra_parameters=beside,
        shared_kv=True,
        compress=ratio,
        o_rank=c.count("o_lora_rank"),
        o_groups=groups,
    )
