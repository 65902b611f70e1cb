"""Language models with layers or experts for images: Llama 3.2 Vision, ERNIE 4.5 VL."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import attention, dense_mlp, grouped, layer_count, model, reads
from perfmodel.models.families.decoder import decoder
from perfmodel.models.families.table import by_name
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: Llama 3.2 Vision: tokens of a tile (a patch of 14 x 14 pixels of 560 x 560 each, and one for the class), tiles of an
#: image (Hugging Face, MllamaVisionConfig: image_size, patch_size, max_num_tiles).
_TILE_TOKENS, _TILES = (560 // 14) ** 2 + 1, 4
#: Rows of the embedding beyond the vocabulary, for the image token (modeling_mllama.py).
_EXTRA_ROWS = 8


@reads("mllama", "mllama_text_model", "MllamaForConditionalGeneration", "MllamaForCausalLM")
def mllama(c: Fields) -> ModelSpec:
    """Read the `config.json` of Llama 3.2 11B and 90B Vision.

    Structure: layers of Llama 3; those of `cross_attention_layers` attend to the tokens of the image instead. Their
    keys and values are computed and cached once per image, not per token: their matrices count as parameters, and the
    layers read at most the tokens of one image of full size.
    """
    n, full, hidden = layer_count(c), attention(c), c.count("hidden_size")
    listed = c.items("cross_attention_layers")
    if not listed:
        raise c.missing("cross_attention_layers")
    outside = [i for i in listed if not isinstance(i, int) or not 0 <= i < n]
    if outside:
        raise c.fail("cross_attention_layers", outside[0], f"numbers of layers from 0 to {n - 1} are needed")
    cross = _to_image(full, hidden)
    mixers = [cross if i in listed else full for i in range(n)]
    spec = model(c, grouped((m, dense_mlp(c)) for m in mixers), extra_parameters=_EXTRA_ROWS * hidden)
    return replace(spec, image_kv_values=len(listed) * full.kv_values * _TILE_TOKENS * _TILES)


def _to_image(full: Mixer, hidden: int) -> Mixer:
    """Return attention to an image: norms on heads, two gates, keys and values from the image's tokens."""
    keys = hidden * full.kv_values
    seen = float(_TILE_TOKENS * _TILES)
    return replace(full, kind="sliding", window=seen, reuses_kv=True, extra_parameters=keys + 2 * full.head_dim + 2)


@reads("ernie4_5_moe_vl", "ernie4_5_vl_moe", "Ernie4_5_VLMoeForConditionalGeneration", "Ernie4_5_VLMoeForCausalLM")
def ernie_vl(c: Fields) -> ModelSpec:
    """Read the `config.json` of ERNIE 4.5 VL 28B-A3B and 424B-A47B: experts for text, and others for images.

    The experts for images are counted as parameters of the layers; a token of text uses those for text.

    Keys: moe_num_experts (one number: as many for images) and moe_intermediate_size as lists (text, images), and those
    of ERNIE 4.5. What a file leaves out is as in Ernie4_5_VLMoeTextConfig of transformers 5: the first layer is dense.
    """
    if not any(c.has(key) for key in ("mlp_layer_types", "moe_layer_start_index", "first_k_dense_replace")):
        c = c.stating(first_k_dense_replace=1)
    pairs = {key: c.items(key, 2) for key in ("moe_num_experts", "moe_intermediate_size") if _is_list(c, key)}
    text = c.stating(**{key: pair[0] for key, pair in pairs.items()})
    seen = c.stating(**{key: pair[1] for key, pair in pairs.items()})
    spec = decoder(text, by_name()["ernie4_5_moe"])
    images = seen.count("moe_num_experts", default=0), seen.count("moe_intermediate_size", default=0)
    extra = images[0] * Mlp(intermediate=images[1], experts=1, top_k=1).expert_parameters(spec.hidden) if pairs else 0
    blocks = [
        replace(b, extra_parameters=extra, idle_parameters=extra) if b.mlp and b.mlp.experts else b for b in spec.blocks
    ]
    return replace(spec, blocks=tuple(blocks))


def _is_list(c: Fields, key: str) -> bool:
    """Return whether the value under `key` is a list."""
    return isinstance(c.values.get(key), list)
