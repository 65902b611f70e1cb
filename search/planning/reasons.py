"""Explain why a candidate does not qualify: by how much it misses the SLO or a limit, and what to relax."""

from __future__ import annotations

import numpy as np

from search.planning.candidates import Candidates
from search.planning.columns import MS_PER_S
from search.planning.scoring import NEEDED, VERDICTS
from search.scenario import MONEY, Limits

#: Misses that a message names. chosen: what a reader takes in.
MISSES_TOLD = 3
#: Numbers from here on are written whole: four significant digits would need an exponent.
WHOLE_FROM = 9999.5
#: Verdict -> (column that a limit bounds, its unit in a message, factor to that unit).
LIMIT_COLUMNS = {
    "devices": ("devices", "", 1.0),
    "nodes": ("nodes", "", 1.0),
    "power": ("power_w", " kW", 1e-3),
    "budget": ("usd_per_hour", " USD/h", 1.0),
}


def reason(candidates: Candidates, number: int) -> str:
    """Say why candidate `number` does not qualify, by how much, and what to relax; "" when it qualifies."""
    verdict = VERDICTS[int(candidates.columns["verdict"][number])]
    if verdict == "memory":
        return f"does not fit: {candidates.estimates(number).reason(0)}"
    if verdict == "slo":
        return _missed_slo(candidates, number)
    if verdict == "stock":
        short, devices = needed(candidates, number, "over_stock"), needed(candidates, number, "devices")
        told = f"{devices:g} devices, {short:g} more than on hand; raise the stock by {short:g}"
        return f"{_subject(candidates, number, 'need', 'needs')} {told}"
    if verdict in LIMIT_COLUMNS:
        return _over_limit(candidates, number, verdict)
    return _unknown(candidates, number) if verdict == "unknown" else ""


def remarks(candidates: Candidates, number: int) -> list[str]:
    """List what a reader of candidate `number` has to know: that nothing limits how many replicas there could be."""
    scorer = candidates.scorer
    if scorer.sized or scorer.one_replica or candidates.disaggregated(number):
        return []
    one = candidates.deployment(number)
    if np.isfinite(
        scorer.bounds.most(one, lambda _rows, _replicas: candidates.columns["power_w_per_device"][[number]])
    ):
        return []
    device = one.devices[int(one.device[0])].name
    planned = "one node" if scorer.tariff.whole[int(one.device[0])] else "one replica"
    return [
        f"Nothing limits the number of replicas on {device}: {planned} is planned, and more serve more; give "
        "request_rate_rps in [workload], stock in [hardware], or power_kw, nodes, devices or usd_per_hour in [limits]"
    ]


def notes(candidates: Candidates) -> list[str]:
    """List what concerns the whole plan: devices without a known price, and where that puts them in the ranking."""
    scorer = candidates.scorer
    tariff, tried = scorer.tariff, set(candidates.layouts.device.tolist())
    names = [d.name for i, d in enumerate(tariff.devices) if np.isnan(tariff.usd_per_hour[i])]
    used = {candidates.layouts.devices[i].name for i in tried}
    missing = [name for name in names if name in used]
    if not missing:
        return []
    example = ", ".join(f"{name} = ..." for name in missing)
    told = f"No price is known for {', '.join(missing)}: give one with [hardware] usd_per_hour = {{ {example} }}"
    if scorer.rank_by not in MONEY:
        return [f"{told}."]
    after = "" if len(missing) == len(used) else "after those with a price, "
    return [f"{told}; without it they are ranked {after}by devices in use, then by power."]


def nearest_misses(candidates: Candidates) -> str:
    """Name the nearest candidate for each of the first few kinds of miss (`VERDICTS`), with its reason, as one text."""
    told: dict[int, str] = {}
    for number in candidates.order.tolist():
        code = int(candidates.columns["verdict"][number])
        if code not in told:
            told[code] = f"{candidates.name(number)}: {reason(candidates, number)}"
    return "; or ".join(list(told.values())[:MISSES_TOLD])


def needed(candidates: Candidates, number: int, column: str) -> float:
    """Return `column` of candidate `number` with the replicas that keep the SLO, which may be more than are shown."""
    c = candidates.columns
    value = float(c[f"{NEEDED}{column}"][number])
    return value if value == value else float(c[column][number])


def _subject(candidates: Candidates, number: int, many: str, one: str) -> str:
    """Begin a sentence about the replicas that candidate `number` needs; "" of them where it is shown with those."""
    replicas = needed(candidates, number, "replicas")
    if replicas == candidates.columns["replicas"][number]:
        return one
    return f"keeps the SLO with {replicas:g} replicas, which {many}"


def figure(value: float) -> str:
    """Write a number with four significant digits, or whole where it has more.

    >>> figure(31.4159), figure(31415.9)
    ('31.42', '31,416')
    """
    return f"{value:,.0f}" if abs(value) >= WHOLE_FROM else f"{value:,.4g}"


def _over_limit(candidates: Candidates, number: int, verdict: str) -> str:
    """Say by how much candidate `number` exceeds the limit on devices, nodes, power or budget that `verdict` names."""
    column, unit, scale = LIMIT_COLUMNS[verdict]
    limits = candidates.scorer.limits
    limit = {"devices": limits.devices, "nodes": limits.nodes, "power": limits.power, "budget": limits.usd_per_hour}
    value, most = needed(candidates, number, column) * scale, limit[verdict] * scale
    takes = _subject(candidates, number, "take", "takes")
    return f"{takes} {figure(value)}{unit} {verdict}, allowed are {figure(most)}; raise the limit to {figure(value)}"


def _unknown(candidates: Candidates, number: int) -> str:
    """Say whether price or power of candidate `number` is unknown, and how to give a price."""
    c, tariff = candidates.columns, candidates.scorer.tariff
    if not np.isnan(c["usd_per_hour"][number]):
        return "its power is not known, and power_kw limits it"
    layouts = candidates.pair(number).decode if candidates.disaggregated(number) else candidates.deployment(number)
    return f"{tariff.price[int(layouts.device[0])]}; usd_per_hour limits the plan"


def _missed_slo(candidates: Candidates, number: int) -> str:
    """Say which SLO bound candidate `number` misses most, its value, and the bound that would be kept."""
    target, c = candidates.scorer.target, candidates.columns
    if not target.slo.objectives or not np.isfinite(c["slo_ratio"][number]):
        served, asked = c["request_rate_rps"][number], target.workload.rate
        told = f"serves {figure(served)} requests/s at most" + (
            f", asked are {figure(asked)}" if asked == asked else ""
        )
        return f"{told}; lower the load or offer other devices"
    bound = target.slo.objectives[int(c["worst_slo_bound"][number])]
    value, limit = c[bound.key][number], bound.limit * MS_PER_S
    told = f"{bound.key} is {figure(value)} ms against {figure(limit)} ms"
    if target.confidence != Limits.confidence:
        told += f" to be kept with {target.confidence:.0%} probability"
    return f"{told}; relax it to {figure(limit * c['slo_ratio'][number])} ms"
