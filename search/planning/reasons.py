"""Explain why a candidate does not qualify: by how much it misses the SLO or a limit, and what to relax."""

from __future__ import annotations

import numpy as np

from search.planning.candidates import Candidates
from search.planning.columns import MS_PER_S
from search.planning.scoring import VERDICTS
from search.scenario import Limits

#: Misses that a message names. chosen: what a reader takes in.
MISSES_TOLD = 3


def reason(candidates: Candidates, number: int) -> str:
    """Say why candidate `number` does not qualify, by how much, and what to relax; "" when it qualifies."""
    c, verdict = candidates.columns, VERDICTS[int(candidates.columns["verdict"][number])]
    if verdict == "memory":
        return f"does not fit: {candidates.estimates(number).reason(0)}"
    if verdict == "slo":
        return _missed_slo(candidates, number)
    if verdict == "stock":
        short = c["over_stock"][number]
        return f"needs {c['devices'][number]:g} devices, {short:g} more than on hand; raise the stock by {short:g}"
    if verdict in ("devices", "nodes", "power", "budget"):
        return _over_limit(candidates, number, verdict)
    return "its price or power is not known, and a limit on it is set" if verdict == "unknown" else ""


def nearest_misses(candidates: Candidates) -> str:
    """Name the nearest candidate for each of the first few kinds of miss (`VERDICTS`), with its reason, as one text."""
    told: dict[int, str] = {}
    for number in candidates.order.tolist():
        code = int(candidates.columns["verdict"][number])
        if code not in told:
            told[code] = f"{candidates.name(number)}: {reason(candidates, number)}"
    return "; or ".join(list(told.values())[:MISSES_TOLD])


def _over_limit(candidates: Candidates, number: int, verdict: str) -> str:
    """Say by how much candidate `number` exceeds the limit on devices, nodes, power or budget that `verdict` names."""
    limits = candidates.scorer.limits
    column, limit, unit, scale = {
        "devices": ("devices", limits.devices, "", 1.0),
        "nodes": ("nodes", limits.nodes, "", 1.0),
        "power": ("power_w", limits.power, " kW", 1e-3),
        "budget": ("usd_per_hour", limits.usd_per_hour, " USD/h", 1.0),
    }[verdict]
    value = candidates.columns[column][number] * scale
    return f"takes {value:,.4g}{unit} {verdict}, allowed are {limit * scale:,.4g}; raise the limit to {value:,.4g}"


def _missed_slo(candidates: Candidates, number: int) -> str:
    """Say which SLO bound candidate `number` misses most, its value, and the bound that would be kept."""
    target, c = candidates.scorer.target, candidates.columns
    if not target.slo.objectives or not np.isfinite(c["slo_ratio"][number]):
        return "demand exceeds what it serves, however many replicas are on hand"
    bound = target.slo.objectives[int(c["worst_slo_bound"][number])]
    value, limit = c[bound.key][number], bound.limit * MS_PER_S
    told = f"{bound.key} is {value:,.4g} ms against {limit:,.4g} ms"
    if target.confidence != Limits.confidence:
        told += f" to be kept with {target.confidence:.0%} probability"
    return f"{told}; relax it to {limit * c['slo_ratio'][number]:,.4g} ms"
