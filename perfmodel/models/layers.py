"""The layers a model is made of: weight matrices, token mixers (attention, linear attention, SSM), MLPs, blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Shard = Literal["column", "row", "kv", "replicated"]
Part = Literal["attention", "mlp", "experts", "shared", "router", "embedding", "lm_head"]
MixerKind = Literal["full", "sliding", "chunked", "mla", "compressed", "linear", "ssm"]


@dataclass(frozen=True)
class Projection:
    """One weight matrix of `k` inputs by `n` outputs.

    gemm: name of the GEMM it runs in; projections that share it are fused (Q, K and V read their input once).
    shard: how tensor parallelism splits it: `column` n/TP, `row` k/TP, `kv` n/min(TP, KV heads), `replicated` whole.
    part: which precision applies. bias: a vector of `n` is added to the product.
    """

    gemm: str
    k: int
    n: int
    shard: Shard
    part: Part = "attention"
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights and bias of the matrix."""
        return self.k * self.n + (self.n if self.bias else 0)


@dataclass(frozen=True)
class Mixer:
    """Token mixer of a layer: attention in one of its forms, linear attention, or a state-space layer.

    heads, kv_heads, head_dim: query heads, key/value heads, size of a query/key head; value_dim: of a value head.
    window: tokens a query may see (inf for full attention). For `chunked` the window starts at a multiple of itself.
    q_rank, kv_rank, rope_dim: MLA's query and KV compression and the decoupled rotary part (DeepSeek-V2,
      arXiv:2405.04434); q_rank 0 means queries are projected directly. For MLA head_dim = nope + rope.
    gated: queries carry an output gate of the same size (Qwen3-Next).
    index_heads, index_dim, index_topk: sparse attention's indexer (DeepSeek-V3.2, MiniMax-M3) and how many tokens
      it lets a query see; index_topk inf means dense. A layer with index_topk but no index_heads uses the choice of
      the layer before (GLM-5.2).
    shared_kv: one vector a head serves as key and value, and is cached once.
    compress: tokens that share one cache entry beyond the window (kind `compressed`, DeepSeek-V4); 0 keeps the window
      only. o_rank, o_groups: its grouped low-rank output projection.
    For kind linear and ssm: heads are value heads, kv_heads key heads (groups), head_dim the key/state size,
      value_dim the value size, conv the convolution width; state per sequence = heads * head_dim * value_dim.
    extra_parameters: sinks, head norms, decay terms.
    """

    kind: MixerKind
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: float = float("inf")
    q_rank: int = 0
    kv_rank: int = 0
    rope_dim: int = 0
    bias: bool = False
    output_bias: bool = False
    gated: bool = False
    index_heads: int = 0
    index_dim: int = 0
    index_topk: float = float("inf")
    conv: int = 0
    extra_parameters: int = 0
    shared_kv: bool = False
    compress: int = 0
    o_rank: int = 0
    o_groups: int = 1

    @property
    def recurrent(self) -> bool:
        """Whether the layer keeps a fixed state in place of a KV cache."""
        return self.kind in ("linear", "ssm")

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Weight matrices of the mixer for a model of width `hidden`."""
        if self.recurrent:
            return self._recurrent(hidden)
        if self.kind == "mla":
            return (*self._latent(hidden), *self._index(hidden))
        if self.kind == "compressed":
            return (*self._compressed(hidden), *self._index(hidden))
        return (*self._grouped(hidden), *self._index(hidden))

    def _grouped(self, hidden: int) -> tuple[Projection, ...]:
        queries = self.heads * self.head_dim * (2 if self.gated else 1)
        return (
            Projection("qkv", hidden, queries, "column", bias=self.bias),
            Projection("qkv", hidden, self.kv_values, "kv", bias=self.bias),
            Projection("o", self.heads * self.value_dim, hidden, "row", bias=self.output_bias),
        )

    def _latent(self, hidden: int) -> tuple[Projection, ...]:
        nope = self.head_dim - self.rope_dim
        return (
            Projection("mla_down", hidden, self.q_rank + self.kv_rank + self.rope_dim, "replicated"),
            Projection("q_up", self.q_rank or hidden, self.heads * self.head_dim, "column"),
            Projection("kv_up", self.kv_rank, self.heads * (nope + self.value_dim), "column"),
            Projection("o", self.heads * self.value_dim, hidden, "row"),
        )

    def _compressed(self, hidden: int) -> tuple[Projection, ...]:
        """DeepSeek-V4: low-rank queries, one shared key/value head, grouped low-rank output."""
        per_group = self.heads * self.value_dim // self.o_groups
        out = (
            Projection("mla_down", hidden, self.q_rank + self.kv_values, "replicated"),
            Projection("q_up", self.q_rank, self.heads * self.head_dim, "column"),
            Projection("o_down", per_group, self.o_groups * self.o_rank, "column"),
            Projection("o", self.o_groups * self.o_rank, hidden, "row"),
        )
        if not self.compress:
            return out
        return (*out, Projection("compress", hidden, self._compressor_width(self.head_dim), "replicated"))

    def _compressor_width(self, width: int) -> int:
        """Outputs of a compressor: values and gates, both twice where neighbouring blocks overlap (ratio 4)."""
        return 2 * width * (2 if self.compress == 4 else 1)

    def _index(self, hidden: int) -> tuple[Projection, ...]:
        if not self.index_heads:
            return ()
        keys = self._compressor_width(self.index_dim) if self.kind == "compressed" else self.index_dim
        weights = self.index_heads if self.fp8_index else 0
        return (
            Projection("index_q", self.q_rank or hidden, self.index_heads * self.index_dim, "replicated"),
            Projection("index_k", hidden, keys + weights, "replicated"),
        )

    @property
    def fp8_index(self) -> bool:
        """Whether the indexer is DeepSeek's: weighted heads, fp8 keys with a scale. MiniMax's keeps KV's format."""
        return bool(self.index_heads) and self.kind in ("mla", "compressed")

    def _recurrent(self, hidden: int) -> tuple[Projection, ...]:
        keys, values = self.kv_heads * self.head_dim, self.heads * self.value_dim
        # in: q/k (or B/C), v (or x), gate z, and one or two scalars a head (beta/alpha, or dt)
        scalars = self.heads * (2 if self.kind == "linear" else 1)
        return (
            Projection("mixer_in", hidden, 2 * keys + 2 * values + scalars, "column", bias=self.bias),
            Projection("o", values, hidden, "row", bias=self.output_bias),
        )

    @property
    def _conv_channels(self) -> int:
        return 2 * self.kv_heads * self.head_dim + self.heads * self.value_dim

    @property
    def parameters_beside(self) -> int:
        """Parameters that are no matrix: convolutions, decay terms, sinks, head norms."""
        return self.extra_parameters + (self.conv * self._conv_channels if self.conv else 0)

    @property
    def kv_values(self) -> int:
        """KV-cache values a token keeps in this layer (0 for recurrent layers)."""
        if self.kind == "mla":
            return self.kv_rank + self.rope_dim
        if self.recurrent:
            return 0
        return self.kv_heads * (self.head_dim + (0 if self.shared_kv else self.value_dim))

    @property
    def recurrent_values(self) -> int:
        """Values of the recurrent state a sequence keeps in this layer, convolution window apart."""
        return self.heads * self.head_dim * self.value_dim if self.recurrent else 0

    @property
    def conv_values(self) -> int:
        """Values of the convolution window a sequence keeps in this layer."""
        return max(self.conv - 1, 0) * self._conv_channels if self.recurrent else 0

    @property
    def state_values(self) -> int:
        """Recurrent-state values a sequence keeps in this layer, whatever its length."""
        return self.recurrent_values + self.conv_values

    def stored(self, context: ArrayLike) -> NDArray[np.float64]:
        """Cache entries a sequence of `context` tokens holds in this layer. Shape of `context`."""
        tokens = np.asarray(context, dtype=np.float64)
        if self.recurrent:
            return np.zeros_like(tokens)
        beyond = tokens / self.compress if self.compress else 0.0
        return np.minimum(tokens, self.window) + beyond

    def attended(self, context: ArrayLike) -> NDArray[np.float64]:
        """Cache entries the newest token of a sequence of `context` tokens reads. Shape of `context`.

        A chunk's newest token sees half a chunk on average. Sparse attention reads what its indexer picks.
        """
        tokens = np.asarray(context, dtype=np.float64)
        if self.recurrent:
            return np.zeros_like(tokens)
        if self.kind == "compressed":
            beyond = np.minimum(tokens / self.compress, self.index_topk) if self.compress else 0.0
            return np.minimum(tokens, self.window) + beyond
        if self.kind == "chunked":
            return np.where(tokens > self.window, (self.window + 1.0) / 2.0, tokens)
        return np.minimum(tokens, min(self.window, self.index_topk))


@dataclass(frozen=True)
class Mlp:
    """Channel mixer: dense (experts = 0) or mixture of experts.

    intermediate: inner width of a dense MLP, or of one expert. gated: SwiGLU/GeGLU, two up-projections.
    experts, top_k: routed experts and how many a token uses; shared: inner width of the always-on experts together.
    latent: width the routed experts work in when it is not the model's (Nemotron 3 Super); 0 means the model's.
    """

    intermediate: int
    gated: bool = True
    bias: bool = False
    experts: int = 0
    top_k: int = 0
    shared: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    latent: int = 0

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Dense and shared-expert matrices and the router (routed experts are counted by `expert_parameters`)."""
        up = 2 if self.gated else 1
        if not self.experts:
            return (
                Projection("up", hidden, up * self.intermediate, "column", "mlp", self.bias),
                Projection("down", self.intermediate, hidden, "row", "mlp", self.bias),
            )
        out = [Projection("router", hidden, self.experts, "replicated", "router", self.router_bias)]
        if self.latent:
            out += [
                Projection("latent_down", hidden, self.latent, "replicated", "shared"),
                Projection("latent_up", self.latent, hidden, "replicated", "shared"),
            ]
        if self.shared:
            out += [
                Projection("shared_up", hidden, up * self.shared, "column", "shared"),
                Projection("shared_down", self.shared, hidden, "row", "shared"),
            ]
        if self.shared_gate:
            out.append(Projection("router", hidden, 1, "replicated", "router"))
        return tuple(out)

    def expert_parameters(self, hidden: int) -> int:
        """Parameters of one routed expert (0 for a dense MLP)."""
        if not self.experts:
            return 0
        up, width = (2 if self.gated else 1), self.latent or hidden
        biases = (up * self.intermediate + width) if self.bias else 0
        return (up + 1) * width * self.intermediate + biases


@dataclass(frozen=True)
class Block:
    """`count` equal layers. A layer may lack a mixer or an MLP (Nemotron-H interleaves them).

    norms: norm vectors of the model's width a layer; extra_parameters: what else it holds (biases of norms).
    """

    count: int
    mixer: Mixer | None
    mlp: Mlp | None
    norms: int = 2
    extra_parameters: int = 0

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Weight matrices of one layer, routed experts apart."""
        mixer = self.mixer.projections(hidden) if self.mixer else ()
        return (*mixer, *(self.mlp.projections(hidden) if self.mlp else ()))

    def parameters(self, hidden: int, active: bool = False) -> int:
        """Parameters of one layer, or those one token uses (`active`)."""
        total = self.norms * hidden + self.extra_parameters
        total += sum(p.parameters for p in self.projections(hidden))
        if self.mixer:
            total += self.mixer.parameters_beside
        if self.mlp:
            used = self.mlp.top_k if active else self.mlp.experts
            total += used * self.mlp.expert_parameters(hidden)
        return total
