"""Options of `estimate` for speculative decoding: who drafts, how many tokens, how many are accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import InputError
from search.options.words import COUNT, NAME, SHARE

if TYPE_CHECKING:
    from perfmodel.deployment import Speculation


@dataclass(frozen=True)
class SpeculationOptions:
    """Speculative decoding: a step verifies drafted tokens and yields several."""

    section: ClassVar[str] = "Speculative decoding"

    speculation: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="Who drafts: mtp, eagle, eagle3, draft-model, ngram (default: none).",
            rich_help_panel=section,
        ),
    ] = ""
    draft_tokens: Annotated[
        int | None, typer.Option(metavar=COUNT, help="Draft tokens per step (default: 3).", rich_help_panel=section)
    ] = None
    acceptance: Annotated[
        float | None,
        typer.Option(
            metavar=SHARE, help="Chance that the first draft is accepted (default: published).", rich_help_panel=section
        ),
    ] = None
    tokens_per_step: Annotated[
        float | None,
        typer.Option(
            metavar="TOKENS", help="Mean tokens that a step yields, in place of --acceptance.", rich_help_panel=section
        ),
    ] = None
    draft_model: Annotated[
        str,
        typer.Option(
            metavar=NAME, help="Draft model of draft-model, or checkpoint of an EAGLE head.", rich_help_panel=section
        ),
    ] = ""

    def read(self, method: str, drafts: int, checkpoint: str) -> dict[str, Any]:
        """Return the options that a deployment which was read says, by field; {} where the user gave a method."""
        if not method or self.speculation:
            return {}
        return {"speculation": method, "draft_tokens": drafts, "draft_model": checkpoint}

    def drafting(self) -> tuple[Speculation, int]:
        """Return how tokens are drafted, and how many per step; raise `InputError` for options without a method."""
        from perfmodel.deployment import speculation

        given = {
            "--draft-tokens": self.draft_tokens is not None,
            "--acceptance": self.acceptance is not None,
            "--tokens-per-step": self.tokens_per_step is not None,
            "--draft-model": bool(self.draft_model),
        }
        method = "" if self.speculation == "none" else self.speculation
        stated = next((flag for flag, is_given in given.items() if is_given), "")
        if not method and stated:
            raise InputError(f"{stated} needs a method of speculative decoding; add --speculation METHOD")
        stated_numbers = {"acceptance": self.acceptance, "tokens_per_step": self.tokens_per_step}
        found = speculation(
            method,
            draft_model=self.draft_model,
            **{name: value for name, value in stated_numbers.items() if value is not None},
        )
        if not method:
            return found, 0
        return found, found.known.drafts if self.draft_tokens is None else self.draft_tokens
