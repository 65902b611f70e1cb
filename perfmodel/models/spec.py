"""The shape of a language model, as data: blocks of layers, each with a token mixer and an MLP made of projections.

Parameter counts, weight bytes and GEMM demands all come from the same projections, so a shape is written once. Sizes
are numbers of elements. Nothing here knows about devices or time. Layers are in `perfmodel.models.layers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from hwdb import InputError
from perfmodel.arrays import NAN, Array
from perfmodel.dtypes import Format, storage
from perfmodel.models.layers import Block
from perfmodel.models.mixer import Mixer

#: Parts that a quantised checkpoint leaves in 16 bit unless it says otherwise.
KEPT = ("embedding", "lm_head", "router")
#: Parts whose weights are looked up, or that are not part of the layers' multiplications.
NOT_MULTIPLIED = (*KEPT, "other", "encoders")
#: The indexer of sparse attention caches fp8 keys (DeepSeek-V3.2 technical report, section 2.1): bytes per value, ...
INDEX_BYTES = 1.0
#: ... and bytes of one fp32 scale per token in addition.
INDEX_SCALE_BYTES = 4.0
#: Formats that nothing is quantised in.
UNQUANTISED = ("bf16", "fp16", "fp32")


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only language model.

    Attributes:
        name: Hugging Face name.
        hidden: width of the model.
        vocab: rows of the embedding.
        blocks: the layers; equal ones are grouped.
        tied: whether the LM head shares the embedding.
        positions: learned position embeddings.
        max_context: most tokens of a request, prompt and output, rope scaling counted; 0 without a bound.
        formats: storage format of each part as published (see `perfmodel.dtypes`). A key is the name of a GEMM, a part,
            or "default"; the most specific one holds (`format_of`).
        keep: parts that stay in 16 bit when the user asks for another weight format.
        extra_parameters: parameters outside the layers that serving loads (without vision tower and MTP layers).
        mtp_layers: multi-token-prediction layers published with the model; not counted.
        streams: residual streams that hyper-connections mix before and after each part of a layer (1: no such mixing).
        architecture: name of the architecture, or the `model_type`.
        source: where the shape comes from.
        lookup_parameters: those of `extra_parameters` that are looked up and not multiplied: embeddings of each layer
            (Gemma 3n); a token uses one row of them.
        encoder_parameters: parameters of vision and audio encoders and of their projectors, which lie in memory beside
            the language model in 16 bit; not in `parameters()`.
        encoder_heads: attention heads of the vision encoder, which tensor parallelism must divide; 0 without one.
        image_kv_values: values that one image of full size puts into the cache of cross-attention layers.
        assumed: what was assumed about an architecture that no reader knows, in words; "" where nothing was.
        kv_format, state_format: formats of the KV cache that the checkpoint calls for, and of a recurrent state.
        published_total, published_active: parameter counts that the authors state, NaN where they do not.
        base: what `name` was read as where the catalogue does not have it; "" for a name of the catalogue.
        reading: what was taken for such a name, or for a quantised copy that the catalogue has, in a sentence.
        named_format: storage format of the weights that such a name says; "" where it says none.
    """

    name: str
    hidden: int
    vocab: int
    blocks: tuple[Block, ...]
    tied: bool = False
    positions: int = 0
    max_context: int = 0
    formats: dict[str, str] = field(default_factory=lambda: {"default": "bf16"})
    keep: tuple[str, ...] = KEPT
    extra_parameters: int = 0
    mtp_layers: int = 0
    streams: int = 1
    architecture: str = ""
    source: str = ""
    kv_format: str = "bf16"
    state_format: str = "bf16"
    published_total: float = NAN
    published_active: float = NAN
    lookup_parameters: int = 0
    encoder_parameters: int = 0
    encoder_heads: int = 0
    image_kv_values: int = 0
    assumed: str = ""
    base: str = field(default="", compare=False)
    reading: str = field(default="", compare=False)
    named_format: str = field(default="", compare=False)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(b.count for b in self.blocks if not b.joined)

    @property
    def experts(self) -> int:
        """Largest number of routed experts in a layer (0 for a dense model)."""
        return max((b.mlp.experts for b in self.blocks if b.mlp), default=0)

    @property
    def heads(self) -> int:
        """Query heads of the attention layers (the largest number), which tensor parallelism must divide.

        Without attention those of the recurrent layers.
        """
        attending = [m.heads for m in self._mixers if not m.recurrent]
        return max(attending or [m.heads for m in self._mixers], default=1)

    @property
    def kv_heads(self) -> int:
        """Key/value heads of the attention layers (the largest number; 1 for multi-query and latent attention)."""
        return max((1 if m.kind == "mla" else m.kv_heads for m in self._mixers if not m.recurrent), default=1)

    @property
    def recurrent(self) -> bool:
        """Whether some layers keep a recurrent state in place of a KV cache."""
        return any(m.recurrent for m in self._mixers)

    @property
    def _mixers(self) -> tuple[Mixer, ...]:
        """Token mixers of all blocks that have one."""
        return tuple(b.mixer for b in self.blocks if b.mixer)

    def parameters(self, active: bool = False) -> int:
        """Count the parameters of the language model, embeddings included; with `active`, those that one token uses."""
        head = 0 if self.tied else self.vocab * self.hidden
        total = self.vocab * self.hidden + head + self.positions * self.hidden + self.hidden
        total += sum(b.count * b.parameters(self.hidden, active) for b in self.blocks)
        return total + self.extra_parameters - (self.lookup_parameters if active else 0)

    def format_of(self, part: str, gemm: str = "") -> Format:
        """Return the storage format of a matrix: that of its GEMM in `formats`, else of its part, else the default."""
        for key in (gemm, part):
            if key and key in self.formats:
                return storage(self.formats[key])
        return storage(self.formats["default"])

    @cached_property
    def largest_part(self) -> str:
        """Name of the part that holds most of the weights that are multiplied, such as `experts` or `mlp`."""
        held = {part: size for part, size in self.weight_bytes().items() if part not in NOT_MULTIPLIED}
        return max(held, key=lambda part: held[part])

    @property
    def weight_format(self) -> str:
        """Storage format of most weights: that of the largest part, which `formats` may name apart from "default"."""
        return self.format_of(self.largest_part).name

    def weight_bytes(self) -> dict[str, float]:
        """Return the bytes of the weights by part; `other` holds norms, convolutions and position embeddings in 16 bit.

        Tied embeddings count once, under `embedding`. `encoders` (vision, audio, projectors) stay in 16 bit, as public
        checkpoints leave them.
        """
        return dict(self._weight_bytes)

    @cached_property
    def _weight_bytes(self) -> dict[str, float]:
        """Return what `weight_bytes` does, counted once."""
        out = {"embedding": self.vocab * self.hidden * self.format_of("embedding").bytes}
        if not self.tied:
            out["lm_head"] = self.vocab * self.hidden * self.format_of("lm_head").bytes
        counted = self.vocab * self.hidden * (1 if self.tied else 2)
        for b in self.blocks:
            for p in b.projections(self.hidden):
                out[p.part] = out.get(p.part, 0.0) + b.count * p.parameters * self.format_of(p.part, p.gemm).bytes
                counted += b.count * p.parameters
            if b.mlp and b.mlp.experts:
                routed = b.count * b.mlp.experts * b.mlp.expert_parameters(self.hidden)
                out["experts"] = out.get("experts", 0.0) + routed * self.format_of("experts").bytes
                counted += routed
        out["other"] = (self.parameters() - counted) * storage("bf16").bytes
        if self.encoder_parameters:
            out["encoders"] = self.encoder_parameters * storage("bf16").bytes
        return out

    def kv_values_per_token(self) -> int:
        """Number of KV-cache values per token, summed over layers, before any window caps them."""
        return sum(b.count * b.mixer.kv_values for b in self.blocks if b.mixer)

    def kv_bytes(self, context: ArrayLike, kv_format: str = "") -> Array:
        """Return the bytes of KV cache of a sequence of `context` tokens. Shape of `context`.

        Sliding layers hold at most their window. Keys of DeepSeek's indexer stay in fp8 with a scale whatever
        `kv_format`. Recurrent states are not included (see `state_bytes`).
        """
        width = storage(kv_format or self.kv_format).bytes
        tokens = np.asarray(context, dtype=np.float64)
        if np.any(tokens < 0):
            raise InputError(f"kv_bytes: context {float(tokens.min()):g} is below 0; give tokens of a sequence")
        total = np.zeros_like(tokens)
        for b in self.blocks:
            if b.mixer and not b.mixer.recurrent:
                keys = tokens / max(b.mixer.compress, 1) * index_bytes(b.mixer, width)
                total = total + b.count * (b.mixer.stored(tokens) * b.mixer.kv_values * width + keys)
        return total

    def kv_bytes_per_token(self, kv_format: str = "", context: float = float("nan")) -> float:
        """Return the bytes of KV cache per token, on average over a sequence of `context` tokens.

        With `context` NaN, values that the cache does not hold for every token (windows, compression) count in full.
        """
        if context == context:
            return float(self.kv_bytes(context, kv_format)) / context
        width = storage(kv_format or self.kv_format).bytes
        mixers = [(b.count, b.mixer) for b in self.blocks if b.mixer]
        return sum(count * (m.kv_values * width + float(index_bytes(m, width))) for count, m in mixers)

    def state_bytes(self, state_format: str = "") -> float:
        """Return the bytes of recurrent state per sequence, whatever its length; convolution windows stay in 16 bit."""
        width, short = storage(state_format or self.state_format).bytes, storage("bf16").bytes
        return sum(
            b.count * (b.mixer.recurrent_values * width + b.mixer.conv_values * short) for b in self.blocks if b.mixer
        )

    def with_weights(self, weight_format: str) -> ModelSpec:
        """Return this model with its weights stored in `weight_format`, the way public checkpoints do it.

        - A model that is published in that kind of format is returned unchanged.
        - Parts in `keep` stay in 16 bit. Exception: embedding and LM head in GGUF files, whose bits are averages over
          the whole file.
        - mxfp4 applies to the routed experts only, where there are any (gpt-oss).
        - nvfp4 leaves latent attention in 16 bit (nvidia/DeepSeek-R1-NVFP4).
        - fp8 of a mixture of experts has a scale per block (Qwen3-235B-A22B-FP8, MiniMax-M2, DeepSeek-V3).
        """
        if weight_format not in self._in_formats:
            self._in_formats[weight_format] = self._with_weights(storage(weight_format))
        return self._in_formats[weight_format]

    @cached_property
    def _in_formats(self) -> dict[str, ModelSpec]:
        """Keep what `with_weights` has returned: every group of deployments asks for the same few formats."""
        return {}

    def _with_weights(self, wanted: Format) -> ModelSpec:
        """Return what `with_weights` does, anew."""
        if any(_alike(wanted, storage(f)) for f in self.formats.values() if f not in UNQUANTISED):
            return self
        kept = [part for part in self.keep if not (wanted.whole and part in ("embedding", "lm_head"))]
        formats = {"default": wanted.name, **dict.fromkeys(kept, "bf16")}
        if wanted.name == "mxfp4" and self.experts:
            rest = {k: f for k, f in self.formats.items() if k != "experts"}
            formats = {**rest, "experts": "mxfp4"}
        elif wanted.name == "fp8" and self.experts:
            formats["default"] = "fp8_block"
        elif wanted.name == "fp4" and any(m.kind in ("mla", "compressed") for m in self._mixers):
            formats["attention"] = "bf16"
        if storage("bf16").bits <= wanted.bits:
            formats = {"default": wanted.name}
        return replace(self, formats=formats)

    def in_gguf(self) -> ModelSpec:
        """Return this model as files of llama.cpp store it where its experts are published in MXFP4 (gpt-oss).

        Attention, embedding and LM head are then Q8_0 in place of 16 bit: the files of gpt-oss-20b and 120b by
        ggml-org have 12.1 and 63.4 GB, of which the experts take 10.2 and 60.9. Other models are returned unchanged.
        """
        if self.formats.get("experts", self.formats.get("default")) != "mxfp4" or not self.experts:
            return self
        wide = {part for part, stored in self.formats.items() if stored in UNQUANTISED and part != "router"}
        return replace(self, formats={part: "q8_0" if part in wide else f for part, f in self.formats.items()})


def index_bytes(mixer: Mixer, width: ArrayLike) -> Array:
    """Return the bytes of the indexer's key per cache entry, where a KV value takes `width` bytes. Shape of `width`."""
    width = np.asarray(width, dtype=np.float64)
    if not mixer.index_heads:
        return np.zeros_like(width)
    own = mixer.index_dim * INDEX_BYTES + INDEX_SCALE_BYTES
    return np.full_like(width, own) if mixer.fp8_index else mixer.index_dim * width


def _alike(wanted: Format, published: Format) -> bool:
    """Return whether a checkpoint in `published` serves a user who asks for `wanted`.

    It does where both have the same compute type and the same whole bits. Only a checkpoint in MXFP4 serves MXFP4: its
    floats go to other kernels than 4-bit integers do. "int4" may mean any four bits ("4bit"), so gpt-oss serves it.
    """
    if wanted.name == "mxfp4":
        return published.name == wanted.name
    return wanted.compute == published.compute and abs(wanted.bits - published.bits) < 1.0
