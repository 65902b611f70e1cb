"""Say which devices on offer have no candidate that qualifies, and why: the nearest miss, or what forbids all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from search.planning.evaluation.scoring import VERDICTS
from search.planning.ranking.candidates import Candidates
from search.planning.ranking.reasons import reason

#: Devices that are told one by one; more are told by kind of reason. Chosen: what a reader takes in.
TOLD_APART = 3
#: Kind of miss -> what it is in words; others are limits of the scenario.
KINDS = {
    "memory": "the model does not fit",
    "slo": "the SLO is missed",
    "stock": "more would be needed than are on hand",
    "unknown": "a price or the power is not known",
    "": "no layout can run",
}
LIMIT = "a limit of the scenario is exceeded"


def left_out(candidates: Candidates, refused: Mapping[str, str]) -> list[str]:
    """Say in one sentence on which devices nothing qualifies, and why; nothing where there are none.

    Neither where nothing qualifies at all: then the message of the plan says why. refused: device without a legal
    candidate -> why.
    """
    if not candidates.feasible:
        return []
    nearest = _nearest(candidates)
    if not nearest:
        return []
    if len(nearest) <= TOLD_APART:
        return [
            f"Nothing qualifies on {name}: {_told(candidates, refused, name, number)}."
            for name, number in nearest.items()
        ]
    kinds: dict[str, list[str]] = defaultdict(list)
    for name, number in nearest.items():
        verdict = "" if number is None else VERDICTS[int(candidates.columns["verdict"][number])]
        kinds[KINDS.get(verdict, LIMIT)].append(name)
    text = "; ".join(f"{why} ({', '.join(names)})" for why, names in kinds.items())
    return [f"Nothing qualifies on {len(nearest)} of the devices on offer: {text}."]


def _nearest(candidates: Candidates) -> dict[str, int | None]:
    """Return the devices without a candidate that qualifies, each with its nearest miss; None where it has none."""
    first = np.concatenate([candidates.layouts.device, candidates.pairs.prefill.device])[candidates.order]
    second = np.concatenate([candidates.layouts.device, candidates.pairs.decode.device])[candidates.order]
    kept = int(candidates.qualifies.sum())
    used = {*first[:kept].tolist(), *second[:kept].tolist()}
    out: dict[str, int | None] = {}
    for at, device in enumerate(candidates.scorer.tariff.devices):
        if at not in used:
            missed = np.flatnonzero((first == at) | (second == at))
            out[device.name] = int(candidates.order[missed[0]]) if len(missed) else None
    return out


def _told(candidates: Candidates, refused: Mapping[str, str], name: str, number: int | None) -> str:
    """Say why nothing qualifies on one device. number: its nearest miss."""
    if number is not None:
        return f"{candidates.name(number)}: {reason(candidates, number)}"
    return refused.get(name, KINDS[""])
