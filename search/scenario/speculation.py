"""Read the `[speculation]` table of a scenario: who drafts tokens, how many are tried, how many are accepted."""

from __future__ import annotations

from dataclasses import dataclass, field

from hwdb.tomlfile import Table
from perfmodel.arrays import NAN
from perfmodel.deployment import METHODS, Speculation, speculation
from perfmodel.equations import MOST_DRAFTS
from search.scenario.workload import relay

#: Draft tokens per step that a plan tries where the scenario lists none: without speculation, and chains of 1 to 5.
OWN_DRAFTS = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Drafting:
    """How tokens are drafted. speculation: by whom. drafts: draft tokens per step to try; 0: none."""

    speculation: Speculation = field(default_factory=Speculation)
    drafts: tuple[int, ...] = (0,)

    @property
    def axes(self) -> dict[str, tuple[float, ...]]:
        """Return the draft tokens to try by the name of their axis in the search space; empty without a method."""
        return {"drafts": tuple(float(n) for n in self.drafts)} if self.speculation.method else {}


def read_drafting(top: Table) -> Drafting:
    """Read the `[speculation]` table; no speculative decoding without one."""
    if "speculation" not in top:
        return Drafting()
    table = top.table("speculation")
    method = table.text("method", choices=("none", *METHODS))
    name = table.text("draft_model", "")
    acceptance = table.number("acceptance", NAN, least=0.0)
    tokens = table.number("tokens_per_step", NAN, least=1.0)
    drafts = _drafts(table)
    table.done()
    if method == "none":
        return Drafting()
    key = "draft_model" if name else "method"
    stated = relay(table, key, speculation, method, acceptance=acceptance, tokens_per_step=tokens, draft_model=name)
    if tokens == tokens and len([n for n in drafts if n]) != 1:
        raise table.error("tokens_per_step", "it holds for one number of draft_tokens; list one, or state acceptance")
    if tokens == tokens and tokens > 1.0 + max(drafts):
        raise table.error(
            "tokens_per_step", f"{tokens:g} is more than {max(drafts)} drafts can yield; raise draft_tokens"
        )
    return Drafting(stated, drafts)


def _drafts(table: Table) -> tuple[int, ...]:
    """Read the draft tokens per step to try, each once; whole numbers from 0."""
    numbers = table.numbers("draft_tokens", OWN_DRAFTS, least=0)
    wrong = next((n for n in numbers if n != int(n) or n > MOST_DRAFTS), None)
    if wrong is not None or not numbers:
        shown = "an empty list" if wrong is None else f"{wrong:g}"
        raise table.error("draft_tokens", f"{shown} is no number of drafts; give whole numbers from 0 to {MOST_DRAFTS}")
    return tuple(dict.fromkeys(int(n) for n in numbers))
