"""Find matrices whose shards cut the blocks of a quantised checkpoint, or are no whole number of rows or columns wide.

Block-quantised weights have one scale per block, so tensor parallelism can only cut them between blocks. Engines refuse
other shards when they load the checkpoint:

- vLLM and SGLang, block FP8: "Weight output_partition_size = 576 is not divisible by weight quantization block_n = 128"
  for attention, dense MLPs and shared experts (vllm-project/vllm issue 42384, 2026-05; sgl-project/sglang issues 4791,
  2025-03, and 26107, 2026-05), "The output_size of gate's and up's weight = 192 is not divisible by ... block_n = 128"
  for routed experts (vllm-project/vllm issues 17569, 2025-05, 25292, 52997, 54178, 2026-08). Padding exists for online
  quantisation (vllm-project/vllm pull 44763, 2026-06) and for routed experts with FlashInfer's TensorRT-LLM kernels on
  Blackwell (pull 55867, 2026-09).
- 4 bit with groups along the inputs (AWQ, GPTQ): "The input size is not aligned with the quantized weight shape. This
  can be caused by too large tensor parallel size" (vllm-project/vllm issue 21695, 2025-07). For routed experts, vLLM's
  moe_wna16 kernels halve the groups down to 32.
- NVFP4 scales groups of 16, MXFP4 and MXFP8 of 32. Routed experts in MXFP4 (gpt-oss) are cut between blocks into
  shards of unequal width, and padded (vllm-project/vllm vllm/model_executor/models/gpt_oss.py).
- Vision encoders are split by heads: "AssertionError: 12 is not divisible by 8" for GLM-4.5V (vllm-project/vllm issue
  24004, 2025-09; 49368, 2026-07; Qwen: 55517, 2026-09), unless every device runs the whole encoder (vLLM
  --mm-encoder-tp-mode data, pull 23168, 2025-08; SGLang --mm-enable-dp-encoder). vLLM pulls 49479 and 57119 (2026-09,
  open) make that the fallback.
- Any format: a width must be a multiple of the shards (vllm/distributed/utils.py, ensure_divisibility).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.dtypes import FORMAT_NAMES
from perfmodel.models import Block, ModelSpec


class Grain(NamedTuple):
    """Numbers of rows and columns that shards must be multiples of: inputs (rows of a row-parallel matrix), outputs.

    1: any whole number. experts: the same for both dimensions of routed experts; 0: they are padded.
    """

    inputs: int
    outputs: int
    experts: int


#: Format -> what its shards must be multiples of; 1 for formats without blocks. Sources: see the module.
GRAINS = {
    "fp8_block": Grain(inputs=128, outputs=128, experts=128),
    "int4": Grain(inputs=128, outputs=1, experts=32),
    "w4a8": Grain(inputs=128, outputs=1, experts=32),
    "w4a4": Grain(inputs=128, outputs=1, experts=32),
    "int4_g32": Grain(inputs=32, outputs=1, experts=32),
    "fp4": Grain(inputs=16, outputs=1, experts=16),
    "mxfp4": Grain(inputs=32, outputs=1, experts=0),
    "mxfp8": Grain(inputs=32, outputs=1, experts=32),
}
_PLAIN = Grain(inputs=1, outputs=1, experts=1)
#: Formats that a user may ask for and whose blocks whoever quantises the model chooses: it may pad the width first
#: (Qwen2-72B-Instruct-AWQ has 29,696 in place of 29,568) or scale per channel (FP8). They count only where stored.
CHOSEN_BLOCKS = ("fp8", "int4", "w4a8", "w4a4")
#: Beginnings of names whose FP8 checkpoints have a scale per channel or tensor, and no blocks, whatever the format that
#: stands for them: compressed-tensors of Red Hat, Meta and GLM 4.x, Model Optimizer of NVIDIA, Quark of AMD (the
#: quantization_config of their config.json on huggingface.co; recalled, not re-read).
CHANNEL_SCALED = ("redhatai/", "neuralmagic/", "meta-llama/", "zai-org/glm-4.", "nvidia/", "amd/")


class Cut(NamedTuple):
    """One matrix that is split: its name, full width along the split, shards, part, GEMM, and whether inputs split."""

    name: str
    width: int
    shards: float
    part: str
    gemm: str
    inputs: bool


def uneven_shards(
    model: ModelSpec,
    *,
    tp: Array,
    experts_tp: Array,
    weight: Index,
    pads: bool = False,
    online: bool = True,
    whole_encoder: bool = False,
) -> Array:
    """Say for each candidate why engines refuse its shards, (N,) texts; "" where they do not.

    Args:
        model: the model, in the formats that it is published in.
        tp: devices that split attention, dense MLPs and shared experts, (N,).
        experts_tp: devices that split each routed expert, (N,).
        weight: codes of the weight formats asked for, -1 for the model's own, (N,).
        pads: True for an engine that pads shards or does not split matrices; nothing is refused then.
        online: True leaves out formats in `CHOSEN_BLOCKS` that are asked for and not stored.
        whole_encoder: True for an engine whose devices each run the whole vision encoder.
    """
    if pads:
        return np.full(len(tp), "", dtype=object)
    keys = np.stack([np.asarray(c, float) for c in (tp, experts_tp, weight)])
    unique, where = np.unique(keys, axis=1, return_inverse=True)
    say = partial(_first_fault, model, online=online, whole_encoder=whole_encoder)
    found = np.array([say(*row) for row in unique.T.tolist()] + [""], dtype=object)[:-1]
    return np.asarray(found[where.ravel()])


def _first_fault(
    model: ModelSpec, tp: float, experts_tp: float, weight: float, *, online: bool, whole_encoder: bool
) -> str:
    """Return in words the first matrix that cannot be split so, or "".

    A format that only the name of a checkpoint says counts like one that is asked for: its blocks are not known.
    """
    if model.encoder_heads % tp and not whole_encoder:
        return _say_encoder(model, tp)
    asked = FORMAT_NAMES[int(weight)] if weight >= 0 else ""
    stored = model.with_weights(asked) if asked else model
    by_name = not asked or stored is model  # whether a format in the name of the checkpoint is the one in use
    unblocked = online and (model.named_format in CHOSEN_BLOCKS if by_name else asked in CHOSEN_BLOCKS)
    for cut in _cuts(model, tp, experts_tp):
        fmt = stored.format_of(cut.part, cut.gemm).name
        plain = unblocked or (fmt == "fp8_block" and model.name.lower().startswith(CHANNEL_SCALED))
        grain = _PLAIN if plain else GRAINS.get(fmt, _PLAIN)
        multiple = grain.experts if cut.part == "experts" else grain.inputs if cut.inputs else grain.outputs
        if multiple and cut.width % (cut.shards * multiple):
            return _say(model, cut, fmt, multiple)
    return ""


def _cuts(model: ModelSpec, tp: float, experts_tp: float) -> Iterator[Cut]:
    """List the matrices that are split, with their widths."""
    for block in model.blocks:
        if tp > 1:
            yield from _of_mixer(block, tp)
            yield from _of_mlp(block, tp)
        if experts_tp > 1 and block.mlp and block.mlp.experts:
            yield Cut("each routed expert", block.mlp.intermediate, experts_tp, "experts", "", True)


def _of_mlp(block: Block, tp: float) -> Iterator[Cut]:
    """List the cuts of the dense MLP of a layer, or of its shared experts."""
    mlp = block.mlp
    if mlp is None:
        return
    if not mlp.experts:
        yield Cut("the MLP", mlp.intermediate, tp, "mlp", "up", False)
        yield Cut("the MLP", mlp.intermediate, tp, "mlp", "down", True)
    elif mlp.shared:
        yield Cut("the shared experts", mlp.shared, tp, "shared", "shared_up", False)
        yield Cut("the shared experts", mlp.shared, tp, "shared", "shared_down", True)


def _of_mixer(block: Block, tp: float) -> Iterator[Cut]:
    """List the cuts of the projections of attention, or of a recurrent layer.

    Queries, keys and values of one GEMM are quantised apart. Key/value heads beyond TP are copied. Models whose keys
    are wider than values (MiMo-V2) load them by code of their own.
    """
    mixer = block.mixer
    if mixer is None:
        return
    name = "the linear attention" if mixer.recurrent else "the attention"
    values = mixer.heads * mixer.value_dim
    yield Cut(name, values, tp, "attention", "o", True)
    if mixer.recurrent:
        yield Cut(name, values, tp, "attention", "mixer_in", False)
    elif mixer.kind in ("mla", "compressed"):
        yield Cut(name, mixer.heads * mixer.head_dim, tp, "attention", "q_up", False)
    else:
        yield Cut(name, mixer.heads * mixer.head_dim, tp, "attention", "qkv", False)
    if mixer.kind in ("full", "sliding", "chunked") and mixer.head_dim == mixer.value_dim:
        yield Cut(name, mixer.kv_heads * mixer.head_dim, min(tp, mixer.kv_heads), "attention", "qkv", False)


def _say_encoder(model: ModelSpec, tp: float) -> str:
    """Say that the heads of the vision encoder cannot be split, and what can be done."""
    return (
        f"tp {tp:g} splits the {model.encoder_heads} heads of the vision encoder of {model.name} into "
        f"{model.encoder_heads / tp:.3g}: no whole number, which engines refuse; give a tp that divides it, or set "
        "encoder_data_parallel = true in [engine] (vLLM --mm-encoder-tp-mode data, SGLang --mm-enable-dp-encoder)"
    )


def _say(model: ModelSpec, cut: Cut, fmt: str, multiple: int) -> str:
    """Say which matrix cannot be split, into what, and what can be done."""
    share = cut.width / cut.shards
    experts = cut.part == "experts"
    axis = "tp x dp / ep" if experts else "tp"
    why = f"no multiple of the block of {multiple} of {fmt}" if multiple > 1 else "no whole number"
    instead = "spread the experts (higher ep)" if experts else "give a lower tp"
    instead += ", or another weight format" if multiple > 1 else ""
    return (
        f"{axis} {cut.shards:g} splits {cut.name} of {model.name}, {cut.width:,} wide, into {share:g}: {why}, which "
        f"engines refuse; {instead}"
    )
