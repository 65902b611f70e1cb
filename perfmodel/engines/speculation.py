"""Speculative decoding by method: tokens drafted and accepted per step, used where a user gives neither.

Acceptance depends on the text; these are published means. One step verifies all drafts (Leviathan et al.,
arXiv:2211.17192).
"""

from __future__ import annotations

from typing import NamedTuple

#: Ending of a method's name in tables of measurements that infer the method from measured speeds.
_SUSPECTED = "-suspected"


class Speculation(NamedTuple):
    """Describes a method of speculative decoding, per sequence and step.

    drafts: draft tokens that a step verifies together with the next token. accepted: mean tokens that a step yields.
    source: where both come from.
    """

    drafts: float
    accepted: float
    source: str


KNOWN = {
    "": Speculation(drafts=0.0, accepted=1.0, source="no drafts"),
    "mtp": Speculation(
        drafts=3.0, accepted=2.6, source="DeepSeek MTP, three drafts: 85-90 % of first ones accepted (arXiv:2412.19437)"
    ),
    "eagle": Speculation(drafts=3.0, accepted=2.5, source="EAGLE chain drafts (arXiv:2401.15077)"),
    "eagle3": Speculation(drafts=3.0, accepted=2.8, source="EAGLE-3 chain drafts (arXiv:2503.01840)"),
    "ngram": Speculation(drafts=3.0, accepted=1.5, source="prompt look-up (Saxena 2023), free text"),
}


def speculation_of(name: str) -> Speculation | None:
    """Return what the method `name` drafts and yields; `mtp-suspected` counts as `mtp`. None for an unknown method."""
    return KNOWN.get(name.removesuffix(_SUSPECTED))
