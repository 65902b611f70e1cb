"""The model that drafts tokens for another: a multi-token-prediction layer, or the one-layer head of EAGLE."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.dtypes import FORMATS
from perfmodel.models.layers import Block, Mlp
from perfmodel.models.spec import KEPT, ModelSpec

#: Rows of the vocabulary that EAGLE-3 heads draft from: `draft_vocab_size` of yuhuili/EAGLE3-LLaMA3.1-Instruct-8B and
#: of lmsys/Qwen3-235B-A22B-EAGLE3 (their config.json, 2025).
EAGLE3_VOCABULARY = 32_000
#: Inner width of the MLP of a head for a model that has no dense layer, relative to the model's width. Assumed: the
#: usual ratio of Llama's dense layers (14336 / 4096).
_USUAL_WIDTH = 3.5
#: Bits per value from which models are trained or converted with their MTP layer (FP8: DeepSeek-V3, arXiv:2412.19437).
_LEAST_KEPT_BITS = 8.0


def mtp_layer(model: ModelSpec) -> ModelSpec:
    """Return the multi-token-prediction module of `model`: a layer like its last one, behind a projection 2h -> h.

    Embedding and LM head are those of the model (DeepSeek-V3, arXiv:2412.19437, sec. 2.2). Its format is that of the
    model, or 16 bit in a checkpoint whose default format leaves it out (`leaves_mtp_out`).
    """
    last = replace(model.blocks[-1], count=1, joined=False)
    made = _drafter(model, f"MTP layer of {model.name}", (_narrowing(model, 2), last), model.vocab)
    return replace(made, formats={"default": "bf16"}) if leaves_mtp_out(model.format_of("default").name) else made


def leaves_mtp_out(name: str) -> bool:
    """Return whether checkpoints that were quantised to the format `name` keep the MTP layer in 16 bit.

    Quantisation to 4 bit after training leaves the layer out: nvidia/DeepSeek-R1-FP4 excludes "model.layers.61*"
    (vllm-project/vllm pull 25987, 2025-09; NVIDIA/TensorRT-LLM tech blog 1, "Precision Strategy": MTP layers bf16), and
    so does amd/DeepSeek-R1-0528-MXFP4 (sgl-project/sglang python/sglang/srt/models/deepseek_nextn.py). llama.cpp
    quantises whole files.
    """
    form = FORMATS[name]
    return form.bits < _LEAST_KEPT_BITS and not form.whole


def eagle_head(model: ModelSpec, version: int) -> ModelSpec:
    """Return the drafting head of EAGLE (version 1: features of one layer, 2h -> h) or EAGLE-3 (three layers, 3h -> h).

    It is one dense decoder layer in 16 bit behind that projection (arXiv:2401.15077, arXiv:2503.01840, sec. 3.1); the
    one of EAGLE-3 has an LM head of its own with a reduced vocabulary.
    """
    dense = [b for b in model.blocks if b.mixer and not b.mixer.recurrent and b.mlp and not b.mlp.experts]
    attending = [b for b in model.blocks if b.mixer and not b.mixer.recurrent]
    mixer = (dense or attending or list(model.blocks))[0].mixer
    mlp = dense[0].mlp if dense else Mlp(intermediate=round(_USUAL_WIDTH * model.hidden))
    layer = Block(count=1, mixer=mixer, mlp=mlp)
    vocabulary = min(EAGLE3_VOCABULARY, model.vocab) if version == 3 else model.vocab
    name = f"EAGLE{'-3' if version == 3 else ''} head of {model.name}"
    made = _drafter(model, name, (_narrowing(model, 3 if version == 3 else 2), layer), vocabulary)
    return replace(made, formats={"default": "bf16"}, keep=KEPT)


def _drafter(model: ModelSpec, name: str, blocks: tuple[Block, ...], vocabulary: int) -> ModelSpec:
    """Return a model of the width and the formats of `model` with other layers and vocabulary."""
    return replace(
        model,
        name=name,
        vocab=vocabulary,
        blocks=blocks,
        extra_parameters=0,
        lookup_parameters=0,
        encoder_parameters=0,
        encoder_heads=0,
    )


def _narrowing(model: ModelSpec, inputs: int) -> Block:
    """Return the projection of `inputs` vectors of the model's width to one, as two matrices of as many weights."""
    return Block(
        count=1, mixer=None, mlp=Mlp(intermediate=inputs * model.hidden // 2, gated=False), norms=0, joined=True
    )
