"""Models described by a handful of numbers, for which no `config.json` exists: a generic dense or routed decoder.

The decoder has grouped-query attention, RMS norms and gated MLPs, as Llama and Mixtral have. What is not stated follows
from what is: the width of the MLPs from the number of parameters, that of shared experts from the active ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwdb import InputError
from perfmodel.models.layers import Block, Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: Width of a head where neither it nor the number of heads is stated: that of Llama 2 to 4, Qwen 2 and 3, Mistral.
USUAL_HEAD = 128
#: Derived MLP widths are rounded to multiples of this. Chosen: the widths of published models are such multiples, and
#: block-quantised weights can only be cut there.
WIDTH_MULTIPLE = 128
#: Matrices of a gated MLP.
_MATRICES = 3


@dataclass(frozen=True)
class Described:
    """The stated numbers of a model; 0 where one is not stated.

    parameters, active_parameters: of the whole model, embeddings included. vocabulary: rows of the embedding and of the
    LM head, which are not shared. intermediate: inner width of the MLP, or of one routed expert. max_context: tokens, 0
    without a bound.
    """

    name: str
    parameters: float = 0.0
    active_parameters: float = 0.0
    layers: int = 0
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    vocabulary: int = 0
    intermediate: int = 0
    experts: int = 0
    experts_per_token: int = 0
    max_context: int = 0

    def model(self) -> ModelSpec:
        """Return the model; raise `InputError` that names what is missing, or what cannot be."""
        self._check_complete()
        mixer = self._mixer()
        bare = self._spec(Mlp(intermediate=0, experts=self.experts, top_k=self.experts_per_token), mixer)
        mlp, derived = self._mlp(bare)
        spec = self._spec(mlp, mixer)
        texts = [f"{key} = {value:,}" for key, value in derived.items()]
        derived_words = f"; derived: {', '.join(texts)}" if texts else ""
        return replace(
            spec,
            base=self.name,
            reading=f"{self.name}: a generic decoder from stated sizes, approximate{derived_words}",
            published_total=self.parameters or float("nan"),
        )

    def _check_complete(self) -> None:
        """Raise `InputError` for sizes that are needed and not stated."""
        needed = {
            "layers": self.layers,
            "hidden": self.hidden,
            "kv_heads": self.kv_heads,
            "vocabulary": self.vocabulary,
        }
        missing = [key for key, value in needed.items() if not value]
        if not (self.parameters or self.intermediate):
            missing.append("parameters (or intermediate)")
        if bool(self.experts) != bool(self.experts_per_token):
            missing.append("experts_per_token" if self.experts else "experts")
        if missing:
            raise InputError(
                f"the model lacks {', '.join(missing)}; state them, or give a name or config in their place"
            )
        if self.active_parameters and not self.experts:
            raise InputError("active_parameters are of a mixture of experts; state experts and experts_per_token too")
        if self.experts_per_token > self.experts:
            raise InputError(f"experts_per_token {self.experts_per_token} exceeds the {self.experts} experts")

    def _mixer(self) -> Mixer:
        """Return the attention: heads of the stated size, else as many as the width holds of the usual size."""
        size = self.head_dim or (self.hidden // self.heads if self.heads else USUAL_HEAD)
        heads = self.heads or self.hidden // size
        if not self.heads and self.hidden % size:
            raise InputError(f"hidden {self.hidden:,} is no multiple of the head_dim {size}; state heads too")
        if not self.head_dim and self.heads and self.hidden % self.heads:
            raise InputError(f"hidden {self.hidden:,} is no multiple of the {self.heads} heads; state head_dim too")
        if heads % self.kv_heads:
            raise InputError(f"kv_heads {self.kv_heads} does not divide the {heads} heads")
        return Mixer(kind="full", heads=heads, kv_heads=self.kv_heads, head_dim=size, value_dim=size)

    def _mlp(self, bare: ModelSpec) -> tuple[Mlp, dict[str, int]]:
        """Return the MLP of every layer, and the widths that had to be derived.

        bare: the model with MLPs of width 0.
        """
        if self.intermediate:
            return self._of_width(self.intermediate, 0), {}
        each = _MATRICES * self.hidden * self.layers  # parameters per column of all MLPs
        rest = self.parameters - bare.parameters()
        if not self.experts:
            width = _rounded(rest / each)
            self._refuse_too_few(width, bare)
            return self._of_width(width, 0), {"intermediate": width}
        if not self.active_parameters:
            width = _rounded(rest / each / self.experts)
            self._refuse_too_few(width, bare)
            return self._of_width(width, 0), {"intermediate": width}
        idle = self.parameters - self.active_parameters
        width = _rounded(idle / each / max(self.experts - self.experts_per_token, 1))
        shared = _rounded(rest / each - width * self.experts)
        self._refuse_too_few(width, bare)
        return self._of_width(width, max(shared, 0)), {"intermediate": width, "shared": max(shared, 0)}

    def _refuse_too_few(self, width: int, bare: ModelSpec) -> None:
        """Raise `InputError` where the parameters leave nothing for the MLPs."""
        if width < 1:
            raise InputError(
                f"parameters {self.parameters:,.0f} leave nothing for the MLPs: attention and embeddings alone have "
                f"{bare.parameters():,}; correct them, or layers, hidden, vocabulary"
            )

    def _of_width(self, width: int, shared: int) -> Mlp:
        """Return an MLP, or routed experts, of the given inner width. shared: that of all shared experts together."""
        return Mlp(intermediate=width, experts=self.experts, top_k=self.experts_per_token, shared=shared)

    def _spec(self, mlp: Mlp, mixer: Mixer) -> ModelSpec:
        """Return the model with the given layers."""
        return ModelSpec(
            name=self.name,
            hidden=self.hidden,
            vocab=self.vocabulary,
            blocks=(Block(count=self.layers, mixer=mixer, mlp=mlp),),
            max_context=self.max_context,
            architecture="generic decoder",
            source="sizes stated by the user",
        )


def _rounded(width: float) -> int:
    """Return an inner width as a multiple of `WIDTH_MULTIPLE`, at least 0.

    >>> _rounded(14300.0)
    14336
    """
    return max(round(width / WIDTH_MULTIPLE), 0) * WIDTH_MULTIPLE
