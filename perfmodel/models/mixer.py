"""Token mixers: attention in its forms, linear attention and state-space layers; their matrices and their cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from perfmodel.arrays import Array
from perfmodel.models.projections import Projection

MixerKind = Literal["full", "sliding", "chunked", "mla", "compressed", "linear", "ssm", "conv"]

#: DeepSeek-V4: compression ratio of the layers that have an indexer and whose neighbouring blocks overlap.
INDEXED_RATIO = 4


@dataclass(frozen=True)
class Mixer:
    """Token mixer of a layer: attention in one of its forms, linear attention, or a state-space layer.

    Attributes:
        heads, kv_heads: query heads, and key/value heads.
        head_dim, value_dim: size of a query/key head, and of a value head.
        window: tokens a query may see; inf for full attention. For `chunked` the window starts at a multiple of itself.
        q_rank, kv_rank, rope_dim: MLA's ranks of compressed queries and KV, and size of its decoupled rotary part
            (DeepSeek-V2, arXiv:2405.04434). q_rank 0: queries are projected directly. head_dim = nope + rope. Queries
            of grouped attention have a rank in multi-matrix factorization attention (Step3, arXiv:2507.19427).
        bias, output_bias: biases of the input projections (Q, K, V) and of the output projection.
        gated: queries carry an output gate of the same size (Qwen3-Next); latent attention a gate of the values' size
            (Kimi K3). Of the kind `linear`: the decay differs by channel, by a matrix of full rank (Ling's hybrids).
        index_heads, index_dim, index_topk: the indexer of sparse attention (DeepSeek-V3.2, MiniMax-M3), and how many
            tokens it lets a query see; index_topk inf means dense. A layer with index_topk but no index_heads uses the
            tokens that the layer before it picked (GLM-5.2).
        conv: width of the convolution of a recurrent layer, tokens.
        extra_parameters: sinks, head norms, decay terms.
        shared_kv: one vector per head serves as key and value, and is cached once (DeepSeek-V4).
        shared_projection: one matrix yields keys and values. Both are cached, because the key is normed and rotated and
            the value is not (Gemma 4, attention_k_eq_v).
        reuses_kv: the layer reads keys and values that it does not compute from its own tokens: those of an earlier
            layer (Gemma 3n and 4, num_kv_shared_layers) or of an image (Llama 3.2 Vision). It has no cache per token.
        compress: tokens that share one cache entry beyond the window (kind `compressed`, DeepSeek-V4); 0 keeps the
            window only.
        o_rank, o_groups: rank and groups of the low-rank output projection (kind `compressed`).
        dt_rank: rank of the time step of a Mamba-1 layer (arXiv:2312.00752), whose B, C and time step are projected
            from the convolved input; 0 for Mamba-2 (kind `ssm`).
        dt_by_head: such a layer has one time step per head, as Mamba-2 has, not one per channel (PLaMo 2).
        decay_rank, gate_rank: ranks of the decay per channel and of the output gate of Kimi delta attention
            (arXiv:2510.26692); decay_rank 0 is one decay per head, gate_rank 0 a gate of full rank (kind `linear`).
        side_inputs, side_outputs: widths of low-rank matrices beside attention, from the model's width and back to it
            (LAuReL and the embeddings of each layer in Gemma 3n and 4); 0: none.

    For the kinds `linear` and `ssm`, heads are value heads, kv_heads key heads (groups), head_dim the size of a key or
    state, and value_dim that of a value. The state of a sequence has heads * head_dim * value_dim values. A layer of
    kind `conv` is a gated short convolution over heads * value_dim channels (LFM2), with no state besides its window.
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
    shared_projection: bool = False
    reuses_kv: bool = False
    compress: int = 0
    o_rank: int = 0
    o_groups: int = 1
    dt_rank: int = 0
    dt_by_head: bool = False
    decay_rank: int = 0
    gate_rank: int = 0
    side_inputs: int = 0
    side_outputs: int = 0

    @property
    def recurrent(self) -> bool:
        """Whether the layer keeps a state of fixed size in place of a KV cache."""
        return self.kind in ("linear", "ssm", "conv")

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Return the weight matrices of the mixer for a model of width `hidden`."""
        if self.recurrent:
            return self._recurrent(hidden)
        if self.kind == "mla":
            return (*self._latent(hidden), *self._index(hidden))
        if self.kind == "compressed":
            return (*self._compressed(hidden), *self._index(hidden))
        return (*self._grouped(hidden), *self._side(hidden), *self._index(hidden))

    def _side(self, hidden: int) -> tuple[Projection, ...]:
        """Return the low-rank matrices beside attention, which every device holds whole."""
        if not self.side_inputs:
            return ()
        return (
            Projection(gemm="side_down", k=hidden, n=self.side_inputs, shard="replicated"),
            Projection(gemm="side_up", k=self.side_outputs, n=hidden, shard="replicated"),
        )

    def _grouped(self, hidden: int) -> tuple[Projection, ...]:
        """Return the matrices of grouped-query attention: fused Q, K and V, and the output projection."""
        queries = self.heads * self.head_dim * (2 if self.gated else 1)
        keys = self.kv_heads * self.head_dim if self.shared_projection else self.kv_values
        cached = Projection(gemm="qkv", k=hidden, n=keys, shard="kv", bias=self.bias)
        first = Projection(gemm="qkv", k=hidden, n=queries, shard="column", bias=self.bias)
        if self.q_rank:  # every device computes the shared queries, and its own heads from them
            first = Projection(gemm="qkv", k=hidden, n=self.q_rank, shard="replicated", bias=self.bias)
        return (
            first,
            *(() if self.reuses_kv else (cached,)),
            *((Projection(gemm="q_up", k=self.q_rank, n=queries, shard="column"),) if self.q_rank else ()),
            Projection(gemm="o", k=self.heads * self.value_dim, n=hidden, shard="row", bias=self.output_bias),
        )

    def _latent(self, hidden: int) -> tuple[Projection, ...]:
        """Return the matrices of MLA: down-projections of queries and KV together, up-projections of each, output."""
        nope = self.head_dim - self.rope_dim
        gate = Projection(gemm="mla_gate", k=hidden, n=self.heads * self.value_dim, shard="column")
        return (
            *((gate,) if self.gated else ()),
            Projection(gemm="mla_down", k=hidden, n=self.q_rank + self.kv_rank + self.rope_dim, shard="replicated"),
            Projection(gemm="q_up", k=self.q_rank or hidden, n=self.heads * self.head_dim, shard="column"),
            Projection(gemm="kv_up", k=self.kv_rank, n=self.heads * (nope + self.value_dim), shard="column"),
            Projection(gemm="o", k=self.heads * self.value_dim, n=hidden, shard="row"),
        )

    def _compressed(self, hidden: int) -> tuple[Projection, ...]:
        """Return the matrices of DeepSeek-V4: low-rank queries, one shared key/value head, grouped low-rank output."""
        per_group = self.heads * self.value_dim // self.o_groups
        out = (
            Projection(gemm="mla_down", k=hidden, n=self.q_rank + self.kv_values, shard="replicated"),
            Projection(gemm="q_up", k=self.q_rank, n=self.heads * self.head_dim, shard="column"),
            Projection(gemm="o_down", k=per_group, n=self.o_groups * self.o_rank, shard="column"),
            Projection(gemm="o", k=self.o_groups * self.o_rank, n=hidden, shard="row"),
        )
        if not self.compress:
            return out
        return (
            *out,
            Projection(gemm="compress", k=hidden, n=self._compressor_width(self.head_dim), shard="replicated"),
        )

    def _compressor_width(self, width: int) -> int:
        """Return the outputs of a compressor: values and gates, both twice where neighbouring blocks overlap."""
        return 2 * width * (2 if self.compress == INDEXED_RATIO else 1)

    def _index(self, hidden: int) -> tuple[Projection, ...]:
        """Return the matrices of the indexer of sparse attention.

        They are its queries, its keys and, for DeepSeek's, the weights of its heads.
        """
        if not self.index_heads:
            return ()
        keys = self._compressor_width(self.index_dim) if self.kind == "compressed" else self.index_dim
        weights = self.index_heads if self.fp8_index else 0
        return (
            Projection(
                gemm="index_q", k=self.q_rank or hidden, n=self.index_heads * self.index_dim, shard="replicated"
            ),
            Projection(gemm="index_k", k=hidden, n=keys + weights, shard="replicated"),
        )

    @property
    def fp8_index(self) -> bool:
        """Whether the indexer is DeepSeek's: weighted heads, fp8 keys with a scale. MiniMax keeps the KV format."""
        return bool(self.index_heads) and self.kind in ("mla", "compressed")

    def _recurrent(self, hidden: int) -> tuple[Projection, ...]:
        """Return the matrices of a recurrent layer: one input projection, one output projection, low-rank ones between.

        Inputs: q and k (or B and C), v (or x), gate z, and per head two scalars (beta and alpha) or one (dt). Lightning
        attention (MiniMax-01), which has no convolution, has no scalars either.
        """
        keys, values = self.kv_heads * self.head_dim, self.heads * self.value_dim
        if self.kind == "conv":
            inputs = 3 * values
        elif self.dt_rank:
            inputs = 2 * values
        elif self.decay_rank:
            inputs = 2 * keys + values + (self.gate_rank or values) + self.decay_rank + self.heads
        else:
            scalars = 1 if self.kind == "ssm" or self.gated else 2 if self.conv else 0
            inputs = 2 * keys + 2 * values + self.heads * scalars + (values if self.gated else 0)
        return (
            Projection(gemm="mixer_in", k=hidden, n=inputs, shard="column", bias=self.bias),
            *self._low_rank(),
            Projection(gemm="o", k=values, n=hidden, shard="row", bias=self.output_bias),
        )

    def _low_rank(self) -> tuple[Projection, ...]:
        """Return the low-rank matrices of Mamba-1 (B, C, time step) and of Kimi delta attention (decay, gate)."""
        values = self.heads * self.value_dim
        if self.dt_rank:
            rank = self.dt_rank
            return (
                Projection(gemm="mixer_x", k=values, n=rank + 2 * self.head_dim, shard="row"),
                Projection(
                    gemm="mixer_dt", k=rank, n=self.heads if self.dt_by_head else values, shard="column", bias=True
                ),
            )
        return tuple(
            Projection(gemm=name, k=rank, n=values, shard="column")
            for name, rank in (("mixer_decay", self.decay_rank), ("mixer_gate", self.gate_rank))
            if rank
        )

    @property
    def _conv_channels(self) -> int:
        """Number of channels that the convolution of a recurrent layer runs over."""
        if self.kind == "conv" or self.dt_rank:
            return self.heads * self.value_dim
        return 2 * self.kv_heads * self.head_dim + self.heads * self.value_dim

    @property
    def parameters_beside(self) -> int:
        """Number of parameters that are not in weight matrices: convolutions, decay terms, sinks, head norms."""
        return self.extra_parameters + (self.conv * self._conv_channels if self.conv else 0)

    @property
    def kv_values(self) -> int:
        """KV-cache values per token in this layer (0 for recurrent layers and those that reuse another layer's)."""
        if self.recurrent or self.reuses_kv:
            return 0
        if self.kind == "mla":
            return self.kv_rank + self.rope_dim
        return self.kv_heads * (self.head_dim + (0 if self.shared_kv else self.value_dim))

    def kv_shards(self, ways: Array) -> Array:
        """Return how many of `ways` devices that split the heads of attention split the KV cache of this layer, (N,).

        They split it up to the number of KV heads, of which further devices hold copies; latents are not split.
        """
        return np.ones_like(ways) if self.kind == "mla" else np.minimum(ways, max(self.kv_heads, 1))

    @property
    def recurrent_values(self) -> int:
        """Values of the recurrent state per sequence in this layer, without the convolution window."""
        return self.heads * self.head_dim * self.value_dim if self.recurrent and self.kind != "conv" else 0

    @property
    def conv_values(self) -> int:
        """Values of the convolution window per sequence in this layer."""
        return max(self.conv - 1, 0) * self._conv_channels if self.recurrent else 0

    @property
    def state_values(self) -> int:
        """Values of state and convolution window per sequence in this layer, whatever its length."""
        return self.recurrent_values + self.conv_values

    def stored(self, context: ArrayLike) -> Array:
        """Return the cache entries of a sequence of `context` tokens in this layer. Shape of `context`."""
        tokens = np.asarray(context, dtype=np.float64)
        if self.recurrent:
            return np.zeros_like(tokens)
        beyond = tokens / self.compress if self.compress else 0.0
        return np.minimum(tokens, self.window) + beyond

    def attended(self, context: ArrayLike) -> Array:
        """Return the cache entries that the newest token of a sequence of `context` tokens reads. Shape of `context`.

        Within a chunk the newest token sees half a chunk on average. Sparse attention reads what its indexer picks.
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
