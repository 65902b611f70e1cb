"""Multi-head latent attention: DeepSeek V2, V3, R1, V3.2, Kimi K2, GLM-5; and DeepSeek-V4's compressed attention."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import attention, expert_mlp, first_dense, grouped, layer_count, model, reads
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Block, Mlp
from perfmodel.models.mixer import INDEXED_RATIO, Mixer
from perfmodel.models.spec import ModelSpec

#: DeepSeek-V4: tokens per cache entry beyond the window, 0 for layers that keep the window only.
_RATIOS = (0, INDEXED_RATIO, 128)


def latent_attention(c: Fields) -> Mixer:
    """Return multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    Where `c` has the keys of an indexer, it includes the indexer of DeepSeek-V3.2.

    Keys: q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim; index_n_heads, index_head_dim,
    index_topk.
    """
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


def deepseek_mlps(c: Fields, layers: int) -> list[Mlp]:
    """Return the MLP of each layer of DeepSeek V2 to V3.2: the first ones dense, then routed and shared experts.

    Keys: moe_intermediate_size, n_shared_experts, topk_method (noaux_tc: the router has a bias),
    first_k_dense_replace, moe_layer_freq (n: experts in every n-th layer), n_routed_experts, num_experts_per_tok.
    """
    width = c.count("moe_intermediate_size")
    shared = width * c.count("n_shared_experts", default=0, least=0)
    routed = expert_mlp(c, width, shared=shared, router_bias=c.text("topk_method") == "noaux_tc")
    return first_dense(c, layers, routed, every=c.count("moe_layer_freq", default=1))


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
    """Read the `config.json` of DeepSeek V2, V3, R1, V3.1, V3.2, Kimi K2 and K2.5, GLM-5: latent attention.

    Keys: those of `latent_attention` and `deepseek_mlps`; indexer_types (GLM-5.2: a layer marked `shared` reuses the
    tokens that the indexer before it picked); use_mla (false: multi-head attention, DeepSeek-VL2 Tiny).
    """
    n = layer_count(c)
    full = latent_attention(c) if c.flag("use_mla", default=True) else attention(c)
    reuse = replace(full, index_heads=0, index_dim=0, extra_parameters=full.extra_parameters - 2 * full.index_dim)
    kinds = c.items("indexer_types", n) or ["full"] * n
    for kind in kinds:
        if kind not in ("full", "shared"):
            raise c.fail("indexer_types", kind, "full or shared is needed for each layer")
    mixers = [reuse if kind == "shared" else full for kind in kinds]
    return model(c, grouped(zip(mixers, deepseek_mlps(c, n), strict=True)))


@reads("deepseek_v4", "DeepseekV4ForCausalLM")
def deepseek_v4(c: Fields) -> ModelSpec:
    """Read the `config.json` of DeepSeek V4 Flash and Pro.

    One vector of 512 values per token is key and value of all heads.

    Tokens beyond the window of 128 are kept compressed. `hc_mult` residual streams (four) are mixed before and after
    attention and MLP. Layout of the weights: vLLM, vllm/models/deepseek_v4.

    Keys: compress_ratios (per layer: 4: four tokens share a cache entry, an indexer picks entries; 128: 128 tokens
    share one, all are read; 0: the window alone), num_hash_layers (their router has no bias), moe_intermediate_size,
    n_shared_experts, and those of `compressed_attention`.
    """
    n, hidden = layer_count(c), c.count("hidden_size")
    ratios = c.items("compress_ratios")
    if len(ratios) < n or any(isinstance(r, bool) or r not in _RATIOS for r in ratios):
        raise c.fail("compress_ratios", ratios, f"at least {n} entries of 0, 4 and 128 are needed")
    mixers = {ratio: compressed_attention(c, ratio) for ratio in set(ratios[:n])}
    width = c.count("moe_intermediate_size")
    shared = width * c.count("n_shared_experts", default=1)
    by_hash = c.count("num_hash_layers", default=0, least=0)
    scored = expert_mlp(c, width, shared=shared, router_bias=True)
    hashed = replace(scored, router_bias=False)
    layers = [(mixers[ratios[i]], hashed if i < by_hash else scored) for i in range(n)]
    streams = c.count("hc_mult")
    blocks = grouped(layers, extra=2 * _mixing_parameters(streams, hidden))
    last = streams * streams * hidden + streams + 1  # mixes the streams into one before the LM head
    return replace(model(c, blocks, extra_parameters=last), kv_format="fp8", streams=streams)


@reads("longcat_flash", "LongcatFlashForCausalLM", "LongcatCausalLM")
def longcat(c: Fields) -> ModelSpec:
    """Read the `config.json` of LongCat-Flash (arXiv:2509.01322).

    Structure: each layer has latent attention and a dense MLP twice, and experts beside them, of which some do nothing.
    The experts that a token uses are counted without those that do nothing, in proportion.

    Keys: num_layers, ffn_hidden_size, expert_ffn_hidden_size, n_routed_experts, zero_expert_num, moe_topk.
    """
    n, mla = layer_count(c), latent_attention(c)
    dense = Mlp(intermediate=c.count("ffn_hidden_size"))
    experts, idle = c.count("n_routed_experts"), c.count("zero_expert_num", default=0, least=0)
    chosen = round(c.count("moe_topk") * experts / (experts + idle))
    width = c.count("expert_ffn_hidden_size", "moe_intermediate_size")
    routed = Mlp(intermediate=width, experts=experts, top_k=max(chosen, 1), router_bias=True)
    twice = [Block(count=n, mixer=mla, mlp=dense, joined=joined) for joined in (False, True)]
    return model(c, [*twice, Block(count=n, mixer=None, mlp=routed, norms=0, joined=True)])


def _mixing_parameters(streams: int, hidden: int) -> int:
    """Count the parameters that mix the residual streams around one attention or MLP.

    They are a matrix, its bias, and three scales.

    The matrix gives per stream a weight before, a weight after, and one for each stream that it is mixed into.
    """
    weights = (2 + streams) * streams
    return weights * streams * hidden + weights + 3


def compressed_attention(c: Fields, ratio: int) -> Mixer:
    """Return the attention of a DeepSeek-V4 layer whose cache keeps one entry per `ratio` tokens.

    Only ratio 4 has an indexer.

    Keys: head_dim, num_attention_heads, q_lora_rank, qk_rope_head_dim, sliding_window, o_groups, o_lora_rank,
    index_n_heads, index_head_dim, index_topk.
    """
    size, heads, q_rank = c.count("head_dim"), c.count("num_attention_heads"), c.count("q_lora_rank")
    groups = c.count("o_groups")
    c.quotient("num_attention_heads", "o_groups", heads, groups)
    picked = ratio == INDEXED_RATIO
    index = c.count("index_head_dim") if picked else 0
    overlap = 2 if picked else 1
    norms_and_sinks = q_rank + size + heads  # norms of queries and keys, a sink per head
    compressor = size + ratio * overlap * size if ratio else 0  # norm of entries, positions within an entry
    indexer = index + ratio * overlap * index
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
        extra_parameters=norms_and_sinks + compressor + indexer,
        shared_kv=True,
        compress=ratio,
        o_rank=c.count("o_lora_rank"),
        o_groups=groups,
    )
