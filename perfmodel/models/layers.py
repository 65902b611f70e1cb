"""The layers that a model is made of: MLPs, and blocks of equal layers with a token mixer and an MLP each."""

from __future__ import annotations

from dataclasses import dataclass

from perfmodel.models.mixer import Mixer
from perfmodel.models.projections import Projection


@dataclass(frozen=True)
class Mlp:
    """Channel mixer: dense (experts = 0) or mixture of experts.

    Attributes:
        intermediate: inner width of a dense MLP, or of one routed expert.
        gated: SwiGLU or GeGLU, with two up-projections.
        bias: biases of all projections, router apart.
        experts, top_k: routed experts, and how many of them a token uses.
        groups, top_groups: groups that the experts form, and how many of them the experts of a token may lie in
            (node-limited routing, DeepSeek-V3, arXiv:2412.19437, sec. 2.1.2); 0: no groups.
        shared: inner width of all shared experts together, which every token uses; 0: none.
        shared_gate: whether a gate scales the output of the shared experts.
        router_bias: whether the router has a bias.
        latent: width that the routed experts work in where it is not the model's (Nemotron 3 Super); 0: the model's.
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
    groups: int = 0
    top_groups: int = 0

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Return the matrices of a dense MLP or of shared experts, and the router.

        Routed experts: see `expert_parameters`.
        """
        up = 2 if self.gated else 1
        if not self.experts:
            return (
                Projection(gemm="up", k=hidden, n=up * self.intermediate, shard="column", part="mlp", bias=self.bias),
                Projection(gemm="down", k=self.intermediate, n=hidden, shard="row", part="mlp", bias=self.bias),
            )
        out = [
            Projection(
                gemm="router", k=hidden, n=self.experts, shard="replicated", part="router", bias=self.router_bias
            )
        ]
        if self.latent:
            out += [
                Projection(gemm="latent_down", k=hidden, n=self.latent, shard="replicated", part="shared"),
                Projection(gemm="latent_up", k=self.latent, n=hidden, shard="replicated", part="shared"),
            ]
        if self.shared:
            out += [
                Projection(gemm="shared_up", k=hidden, n=up * self.shared, shard="column", part="shared"),
                Projection(gemm="shared_down", k=self.shared, n=hidden, shard="row", part="shared"),
            ]
        if self.shared_gate:
            out.append(Projection(gemm="router", k=hidden, n=1, shard="replicated", part="router"))
        return tuple(out)

    def expert_parameters(self, hidden: int) -> int:
        """Count the parameters of one routed expert (0 for a dense MLP) in a model of width `hidden`."""
        if not self.experts:
            return 0
        up, width = (2 if self.gated else 1), self.latent or hidden
        biases = (up * self.intermediate + width) if self.bias else 0
        return (up + 1) * width * self.intermediate + biases


@dataclass(frozen=True)
class Block:
    """`count` equal layers. A layer may lack a mixer or an MLP (Nemotron-H has one of them per layer).

    Attributes:
        norms: norm vectors of the model's width per layer.
        extra_parameters: further parameters per layer (biases of norms, experts for images).
        idle_parameters: those of `extra_parameters` that a token of text does not use (experts for images).
        joined: whether these are parts of the layers of another block and do not count as layers (Falcon-H1, whose
            layers have attention beside Mamba; LongCat-Flash, whose layers have attention twice).
    """

    count: int
    mixer: Mixer | None
    mlp: Mlp | None
    norms: int = 2
    extra_parameters: int = 0
    idle_parameters: int = 0
    joined: bool = False

    def projections(self, hidden: int) -> tuple[Projection, ...]:
        """Return the weight matrices of one layer without those of routed experts."""
        mixer = self.mixer.projections(hidden) if self.mixer else ()
        return (*mixer, *(self.mlp.projections(hidden) if self.mlp else ()))

    def parameters(self, hidden: int, active: bool = False) -> int:
        """Count the parameters of one layer of a model of width `hidden`; with `active`, those that one token uses."""
        total = self.norms * hidden + self.extra_parameters - (self.idle_parameters if active else 0)
        total += sum(p.parameters for p in self.projections(hidden))
        if self.mixer:
            total += self.mixer.parameters_beside
        if self.mlp:
            used = self.mlp.top_k if active else self.mlp.experts
            total += used * self.mlp.expert_parameters(hidden)
        return total
