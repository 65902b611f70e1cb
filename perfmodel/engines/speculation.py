"""Speculative decoding by name: tokens drafted a step and tokens a step yields, where nothing is measured.

Acceptance depends on the text; these are published means. A step verifies the drafts in one pass (Leviathan et al.,
arXiv:2211.17192).
"""

from __future__ import annotations

from typing import NamedTuple


class Speculation(NamedTuple):
    """drafts: tokens verified beside the next one; accepted: tokens a step yields in the mean."""

    drafts: float
    accepted: float
    source: str


KNOWN = {
    "": Speculation(0.0, 1.0, "no drafts"),
    "mtp": Speculation(3.0, 2.6, "DeepSeek MTP, three drafts: 85-90 % of first ones accepted (arXiv:2412.19437)"),
    "eagle": Speculation(3.0, 2.5, "EAGLE chain drafts (arXiv:2401.15077)"),
    "eagle3": Speculation(3.0, 2.8, "EAGLE-3 chain drafts (arXiv:2503.01840)"),
    "ngram": Speculation(3.0, 1.5, "prompt look-up (Saxena 2023), free text"),
}


def speculation_of(name: str) -> Speculation | None:
    """What `name` drafts and yields (`mtp-suspected` as mtp), or None when it is not known."""
    return KNOWN.get(name.removesuffix("-suspected"))
