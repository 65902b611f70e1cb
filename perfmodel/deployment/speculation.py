"""Speculative decoding of a deployment: who drafts, how many tokens, and how many of them are accepted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.arrays import NAN, Array
from perfmodel.equations import MOST_DRAFTS, acceptance_of, tokens_per_step
from perfmodel.models import ModelSpec, eagle_head, model, mtp_layer

#: Ending of a method's name in tables of measurements that infer the method from measured speeds.
SUSPECTED = "-suspected"


@dataclass(frozen=True)
class Method:
    """Describe a method of speculative decoding, with what is published of its acceptance.

    title: what texts call it. drafts: draft tokens per step where none are stated. acceptance: chance that the first
    draft is accepted; low, high: the range over published texts and models. decay: that chance of each further draft
    over that of the one before. source: where these come from.
    """

    title: str
    drafts: int
    acceptance: float
    low: float
    high: float
    decay: float
    source: str


#: Methods whose drafter is a head of known shape, of which a checkpoint may be named.
HEADS = ("eagle", "eagle3")
#: Acceptance depends on the text and on the pair of models: these hold where a user states neither acceptance nor
#: tokens per step, and every output says so.
METHODS = {
    "mtp": Method(
        title="MTP",
        drafts=3,
        acceptance=0.80,
        low=0.60,
        high=0.90,
        decay=0.88,
        source="0.85 to 0.90 of first drafts (DeepSeek-V3, arXiv:2412.19437, sec. 5.4.3), 0.77 then 0.49 on random "
        "text (vllm-project/vllm pull 41044, 2026-04), 0.76 to 0.83 (pull 48892, 2026-08)",
    ),
    "eagle": Method(
        title="EAGLE",
        drafts=3,
        acceptance=0.60,
        low=0.50,
        high=0.75,
        decay=0.95,
        source="1.89 tokens per step of 2 drafts, 2.08 of 4 (Llama-3-8B, MT-bench; vllm-project/vllm pull 16035, "
        "2025-04)",
    ),
    "eagle3": Method(
        title="EAGLE-3",
        drafts=3,
        acceptance=0.70,
        low=0.55,
        high=0.82,
        decay=0.98,
        source="0.81, 0.63, 0.48 of positions 1 to 3 (ggml-org/llama.cpp pull 24536, 2026-06), 0.58, 0.34, 0.22 "
        "(MiniCPM, vllm-project/vllm pull 24243, 2025-09); nearly flat by position (arXiv:2503.01840, fig. 7)",
    ),
    "draft-model": Method(
        title="draft model",
        drafts=3,
        acceptance=0.65,
        low=0.50,
        high=0.80,
        decay=1.0,
        source="0.53 to 0.75 of T5-small for T5-XXL (arXiv:2211.17192, table 2)",
    ),
    "ngram": Method(
        title="n-gram look-up",
        drafts=3,
        acceptance=0.35,
        low=0.05,
        high=0.75,
        decay=1.0,
        source="assumed: between free text, where hardly any match is right, and edits that copy the prompt (Saxena "
        "2023)",
    ),
}


@dataclass(frozen=True)
class Speculation:
    """State how a deployment drafts tokens; the number of drafts is a column of `Deployments`.

    method: a name of `METHODS`, "" for none. acceptance: chance that the first draft is accepted, NaN for that of the
    method. tokens: mean tokens that a step yields per sequence, in place of the acceptance, NaN where not stated.
    draft: the draft model, of the method `draft-model` only. name: checkpoint of the draft model or of the head, for
    launch commands; "" where none is named.
    """

    method: str = ""
    acceptance: float = NAN
    tokens: float = NAN
    draft: ModelSpec | None = field(default=None, repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        """Raise `InputError` for values that mean nothing; `UnknownName` for an unknown method."""
        if self.method and self.method not in METHODS:
            raise UnknownName("method of speculative decoding", self.method, METHODS, f"({', '.join(METHODS)})")
        stated = not math.isnan(self.acceptance), not math.isnan(self.tokens)
        if not self.method and (any(stated) or self.draft is not None):
            raise InputError(f"speculation has no method; name one of {', '.join(METHODS)}")
        if all(stated):
            raise InputError("speculation: acceptance and tokens per step say the same; state one of them")
        if stated[0] and not 0.0 <= self.acceptance <= 1.0:
            raise InputError(f"speculation: acceptance {self.acceptance:g} is no chance; give 0 to 1")
        if stated[1] and not self.tokens >= 1.0:
            raise InputError(f"speculation: {self.tokens:g} tokens per step are impossible; a step yields at least 1")
        if self.method == "draft-model" and self.draft is None:
            raise InputError("speculation: method draft-model needs the draft model's name (--draft-model)")
        if self.method != "draft-model" and self.draft is not None:
            raise InputError(
                f"speculation: method {self.method} takes no draft model; leave it out, or use draft-model"
            )

    @property
    def known(self) -> Method:
        """Return what is published of the method."""
        return METHODS[self.method]

    @property
    def assumed(self) -> bool:
        """Return whether the acceptance is the method's default and not stated."""
        return bool(self.method) and math.isnan(self.acceptance) and math.isnan(self.tokens)

    def tokens_per_step(self, drafts: Array) -> Array:
        """Return the mean tokens that a step with `drafts` (N,) yields per sequence, (N,); 1 without drafts.

        Stated tokens per step hold where the drafts can yield as many, else all drafts are accepted.
        """
        if not self.method:
            return np.ones_like(np.asarray(drafts, float))
        if not math.isnan(self.tokens):
            return np.minimum(self.tokens, 1.0 + np.asarray(drafts, float))
        return self._at(drafts, self.known.acceptance if math.isnan(self.acceptance) else self.acceptance)

    def range(self, drafts: Array) -> tuple[Array, Array]:
        """Return the least and the most tokens per step by what is published, (N,) each; equal where stated."""
        if not self.assumed:
            return (found := self.tokens_per_step(drafts)), found
        return self._at(drafts, self.known.low), self._at(drafts, self.known.high)

    def first_acceptance(self, drafts: float) -> float:
        """Return the chance that the first of `drafts` is accepted, by which a simulation draws; 0 without drafts."""
        if not self.method or not drafts > 0:
            return 0.0
        return float(acceptance_of(drafts, self.tokens_per_step(np.array(drafts)), self.known.decay))

    def _at(self, drafts: Array, acceptance: float) -> Array:
        return tokens_per_step(drafts, acceptance, self.known.decay)

    def drafter(self, target: ModelSpec) -> ModelSpec | None:
        """Return the model that drafts for `target`; None where nothing is computed to draft (n-grams)."""
        if self.method == "mtp":
            return mtp_layer(target)
        if self.method in HEADS:
            return eagle_head(target, 3 if self.method == "eagle3" else 1)
        return self.draft


def speculation(
    method: str, *, acceptance: float = NAN, tokens_per_step: float = NAN, draft_model: str | ModelSpec = ""
) -> Speculation:
    """Return the settings of speculative decoding.

    >>> float(speculation("mtp", acceptance=0.5).tokens_per_step(np.ones(1))[0])
    1.5

    Args:
        method: a name of `METHODS`; `none` or "" for none.
        acceptance, tokens_per_step: see `Speculation`; state one of them, or neither for what is published.
        draft_model: the draft model or its name; of EAGLE, the checkpoint of the head, whose shape is known.
    """
    chosen = "" if method == "none" else method.removesuffix(SUSPECTED)
    name = draft_model if isinstance(draft_model, str) else draft_model.name
    spec: ModelSpec | None = None
    if draft_model and chosen not in HEADS:
        spec = model(draft_model) if isinstance(draft_model, str) else draft_model
    return Speculation(chosen, acceptance, tokens_per_step, spec, name)


def check_drafts(drafts: Array, stated: Speculation) -> None:
    """Raise `InputError` for numbers of draft tokens that no engine takes, and for drafts without a method."""
    bad = ~((drafts >= 0) & (drafts <= MOST_DRAFTS) & (drafts == np.floor(drafts)))
    if bad.any():
        raise InputError(f"{drafts[bad][0]:g} draft tokens per step; give a whole number from 0 to {MOST_DRAFTS}")
    if np.any(drafts > 0) and not stated.method:
        raise InputError(f"draft tokens need a method of speculative decoding; name one of {', '.join(METHODS)}")
    if not math.isnan(stated.tokens) and np.any((drafts > 0) & (stated.tokens > 1.0 + drafts)):
        most = float(drafts.max())
        raise InputError(
            f"speculation: {stated.tokens:g} tokens per step are more than {most:g} drafts can yield ({1.0 + most:g}); "
            "raise the drafts or lower the tokens per step"
        )
