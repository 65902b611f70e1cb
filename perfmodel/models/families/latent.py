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
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25", "DeepseekV2ForCausalLM",
    "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM", "KimiK25ForConditionalGeneration", "glm_moe_dsa",
    "GlmMoeDsaForCausalLM",
)  # fmt: skip
def deepseek(c: Fields) -> ModelSpec:
    """DeepSeek V2 to V3.2, Kimi K2, GLM-5: latent attention; layers marked `shared` reuse the index before them."""
    n = layer_count(c)
    full = latent_attention(c)
    reuse = replace(full, index_heads=0, index_dim=0, extra_parameters=full.extra_parameters - 2 * full.index_dim)
    kinds = c.items("indexer_types", n) or ["full"] * n
    mixers = [reuse if kind == "shared" else full for kind in kinds]
    return model(c, grouped(zip(mixers, routed_mlps(c, n), strict=True)))
