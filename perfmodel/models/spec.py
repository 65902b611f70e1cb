"""The shape of a transformer, as data: blocks of a token mixer and a channel mixer, each a list of projections.

A projection is one weight matrix. Parameter counts, weight bytes and GEMM demands all read the same projections, so a
shape is written once. Sizes are counts of elements; nothing here knows about devices or time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Shard = Literal["column", "row", "kv", "replicated"]
Part = Literal["attention", "mlp", "experts", "shared", "router", "embedding", "lm_head"]
MixerKind = Literal["full", "sliding", "chunked", "mla", "linear", "ssm"]


@dataclass(frozen=True)
class Projection:
    """One weight matrix of `k` inputs by `n` outputs.

    gemm: name of the GEMM it runs in; projections that share it are fused (Q, K and V read their input once).
    shard: how tensor parallelism splits it: `column` n/TP, `row` k/TP, `kv` n/min(TP, KV heads), `replicated` whole.
    part: which precision applies. batched: True where the matrix acts per head on data that has no weight reuse
    across the hidden size (MLA's absorbed up-projections).
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
    window: tokens a query may see (inf for full attention).
    q_rank, kv_rank, rope_dim: MLA's query and KV compression and the decoupled rotary part (DeepSeek-V2,
      arXiv:2405.04434); q_rank 0 means queries are projected directly. For MLA head_dim = nope + rope.
    gated: queries carry an output gate of the same size (Qwen3-Next).
    index_heads, index_dim, index_topk: DeepSeek sparse attention's indexer; index_topk inf means dense.
    For kind linear and ssm: heads are value heads, kv_heads key heads (groups), head_dim the key/state size,
      value_dim the value size, conv the convolution width; state per sequence = heads * head_dim * value_dim.
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

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Weight matrices of the mixer for a model of width `hidden`."""
        if self.kind == "mla":
            return self._mla(hidden)
        if self.kind in ("linear", "ssm"):
            return self._recurrent(hidden)
        queries = self.heads * self.head_dim * (2 if self.gated else 1)
        return (
            Projection("qkv", hidden, queries, "column", bias=self.bias),
            Projection("qkv", hidden, self.kv_heads * (self.head_dim + self.value_dim), "kv", bias=self.bias),
            Projection("o", self.heads * self.value_dim, hidden, "row", bias=self.output_bias),
        )

    def _mla(self, hidden: int) -> tuple[Projection, ...]:
        nope = self.head_dim - self.rope_dim
        down = Projection("mla_down", hidden, self.q_rank + self.kv_rank + self.rope_dim, "replicated")
        up = Projection("q_up", self.q_rank or hidden, self.heads * self.head_dim, "column")
        out = (
            down,
            up,
            Projection("kv_up", self.kv_rank, self.heads * (nope + self.value_dim), "column"),
            Projection("o", self.heads * self.value_dim, hidden, "row"),
        )
        if not self.index_heads:
            return out
        return (
            *out,
            Projection("index_q", self.q_rank or hidden, self.index_heads * self.index_dim, "replicated"),
            Projection("index_k", hidden, self.index_dim + self.index_heads, "replicated"),
        )

    def _recurrent(self, hidden: int) -> tuple[Projection, ...]:
        keys, values = self.kv_heads * self.head_dim, self.heads * self.value_dim
        # in: q/k (or B/C), v (or x), gate z, and one or two scalars a head (beta/alpha, or dt)
        scalars = self.heads * (2 if self.kind == "linear" else 1)
        return (
            Projection("mixer_in", hidden, 2 * keys + 2 * values + scalars, "column", bias=self.bias),
            Projection("o", values, hidden, "row", bias=self.output_bias),
        )

    @property
    def parameters_beside(self) -> int:
        """Parameters that are no matrix: convolutions, decay terms, sinks, head norms."""
        conv_channels = 2 * self.kv_heads * self.head_dim + self.heads * self.value_dim
        return self.extra_parameters + (self.conv * conv_channels if self.conv else 0)

    @property
    def kv_values(self) -> int:
        """KV-cache values a token keeps in this layer (0 for recurrent layers)."""
        if self.kind == "mla":
            return self.kv_rank + self.rope_dim
        if self.kind in ("linear", "ssm"):
            return 0
        return self.kv_heads * (self.head_dim + self.value_dim)

    @property
    def state_values(self) -> int:
        """Recurrent-state values a sequence keeps in this layer, whatever its length."""
        if self.kind not in ("linear", "ssm"):
            return 0
        conv_channels = 2 * self.kv_heads * self.head_dim + self.heads * self.value_dim
        return self.heads * self.head_dim * self.value_dim + max(self.conv - 1, 0) * conv_channels


@dataclass(frozen=True)
class Mlp:
    """Channel mixer: dense (experts = 0) or mixture of experts.

    intermediate: inner width of a dense MLP, or of one expert. gated: SwiGLU/GeGLU, two up-projections.
    experts, top_k: routed experts and how many a token uses; shared: inner width of the always-on experts together.
    """

    intermediate: int
    gated: bool = True
    bias: bool = False
    experts: int = 0
    top_k: int = 0
    shared: int = 0
    shared_gate: bool = False
    router_bias: bool = False

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Dense and shared-expert matrices and the router (routed experts are counted by `expert_parameters`)."""
        up = 2 if self.gated else 1
        if not self.experts:
            return (
                Projection("up", hidden, up * self.intermediate, "column", "mlp", self.bias),
                Projection("down", self.intermediate, hidden, "row", "mlp", self.bias),
            )
        out = [Projection("router", hidden, self.experts, "replicated", "router", self.router_bias)]
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
        up = 2 if self.gated else 1
        biases = (up * self.intermediate + hidden) if self.bias else 0
        return (up + 1) * hidden * self.intermediate + biases


@dataclass(frozen=True)
class Block:
    """`count` equal layers. A layer may lack a mixer or an MLP (Nemotron-H interleaves them)."""

    count: int
    mixer: Mixer | None
    mlp: Mlp | None
    norms: int = 2


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only language model.

    name: Hugging Face name. hidden: width. vocab: rows of the embedding. blocks: layers, grouped.
    tied: the LM head shares the embedding. positions: learned position embeddings. max_context: tokens.
    formats: storage format of each part as published (see `perfmodel.dtypes`); parts not named use `formats["default"]`.
    keep: parts left in 16 bit when the user asks for another weight format.
    extra_parameters: parameters beside the layers that serving loads (vision tower, MTP layers are left out).
    published: published (total, active) parameter counts, NaN where not stated. source: where the shape comes from.
    """

    name: str
    hidden: int
    vocab: int
    blocks: tuple[Block, ...]
    tied: bool = False
    positions: int = 0
    max_context: int = 0
    formats: dict[str, str] = field(default_factory=lambda: {"default": "bf16"})
    keep: tuple[str, ...] = ("embedding", "lm_head", "router")
    extra_parameters: int = 0
    mtp_layers: int = 0
    architecture: str = ""
    source: str = ""

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(b.count for b in self.blocks)

    @property
    def experts(self) -> int:
        """Largest number of routed experts in a layer (0 for a dense model)."""
        return max((b.mlp.experts for b in self.blocks if b.mlp), default=0)

    @property
    def heads(self) -> int:
        """Query heads that tensor parallelism must divide (attention layers only)."""
        return max((b.mixer.heads for b in self.blocks if b.mixer and b.mixer.kind not in ("linear", "ssm")), default=1)

    def parameters(self, active: bool = False) -> int:
        """Parameters in all, or those one token uses (`active`), embeddings included."""
        head = 0 if self.tied else self.vocab * self.hidden
        total = self.vocab * self.hidden + head + self.positions * self.hidden + self.hidden
        for b in self.blocks:
            layer = b.norms * self.hidden
            if b.mixer:
                layer += sum(p.parameters for p in b.mixer.projections(self.hidden)) + b.mixer.parameters_beside
            if b.mlp:
                layer += sum(p.parameters for p in b.mlp.projections(self.hidden))
                used = b.mlp.top_k if active else b.mlp.experts
                layer += used * b.mlp.expert_parameters(self.hidden)
            total += b.count * layer
        return total + self.extra_parameters

    def kv_values_per_token(self) -> int:
        """KV-cache values one token of a full-attention context keeps, summed over layers."""
        return sum(b.count * b.mixer.kv_values for b in self.blocks if b.mixer)

    def with_weights(self, weight_format: str) -> ModelSpec:
        """This model with its weights stored in `weight_format`, except the parts in `keep`."""
        kept = {part: "bf16" for part in self.keep}
        return replace(self, formats={"default": weight_format, **kept})
