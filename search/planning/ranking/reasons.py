"""Explain why a candidate does not qualify: by how much it misses the SLO or a limit, and what to relax."""

from __future__ import annotations

import math

import numpy as np

from hwdb import counted
from perfmodel import equations as eq
from perfmodel.unit_factors import MS_PER_S, WATTS_PER_KW
from search.planning.evaluation.columns import node_watts
from search.planning.evaluation.scoring import NEEDED, VERDICTS
from search.planning.ranking.candidates import Candidates
from search.scenario import MONEY, Limits

#: Most misses that one message names. Chosen: what a reader takes in.
MISSES_TOLD = 3
#: Numbers from here on are written whole: four significant digits would need an exponent.
WHOLE_FROM = 9999.5
#: Excess in percent from which it is rounded to whole percents, and below which only "less than" is said.
WHOLE_PERCENT, LEAST_PERCENT = 10.0, 0.1
#: Least chance at which a lower confidence is proposed. Chosen: even odds.
LEAST_TOLD = 0.5
#: What a limit on power bounds, by its basis.
POWER_WORDS = {"mean": "mean power", "rated": "rated power"}
#: Verdict -> (column that a limit bounds, its unit in a message, factor to that unit).
LIMIT_COLUMNS = {
    "devices": ("devices", "", 1.0),
    "nodes": ("nodes", "", 1.0),
    "power": ("power_w", " kW", 1e-3),
    "rated": ("rated_power_kw", " kW", 1.0),
    "budget": ("usd_per_hour", " USD/h", 1.0),
}


def reason(candidates: Candidates, number: int) -> str:
    """Say why candidate `number` does not qualify, by how much, and what to relax; "" when it qualifies."""
    verdict = VERDICTS[int(candidates.columns["verdict"][number])]
    if verdict == "memory":
        return f"does not fit: {candidates.estimates(number).reason(0)}{_too_much(candidates, number)}"
    if verdict == "slo":
        return _missed_slo(candidates, number)
    if verdict == "stock":
        short, devices = needed(candidates, number, "over_stock"), needed(candidates, number, "devices")
        text = f"{counted(devices, 'device')}, {short:g} more than on hand; raise the stock by {short:g}"
        return f"{_subject(candidates, number)} {text}"
    if verdict == "rack":
        return _beyond_rack(candidates, number)
    if verdict in LIMIT_COLUMNS:
        return _over_limit(candidates, number, verdict)
    return _unknown(candidates, number) if verdict == "unknown" else ""


def _beyond_rack(candidates: Candidates, number: int) -> str:
    """Say by how much a node of candidate `number` exceeds a rack."""
    columns = {name: values[[number]] for name, values in candidates.columns.items()}
    watts, most = float(node_watts(columns)[0]), candidates.scorer.limits.rack
    return (
        f"one node is rated {figure(watts / WATTS_PER_KW)} kW, more than the {figure(most / WATTS_PER_KW)} kW of a "
        "rack; raise rack_kw in [limits], or lower the limit of the devices with power_cap_w in [search]"
    )


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
    text = f"No price is known for {', '.join(missing)}: give one with [hardware] usd_per_hour = {{ {example} }}"
    if scorer.rank_by not in MONEY:
        return [f"{text}."]
    after = "" if len(missing) == len(used) else "after those with a price, "
    return [f"{text}; without it they are ranked {after}by devices in use, then by power."]


def nearest_misses(candidates: Candidates) -> str:
    """Name the nearest candidate for each of the first few kinds of miss (`VERDICTS`), with its reason, as one text.

    What does not fit in memory is named only where nothing does.
    """
    told: dict[int, str] = {}
    for number in candidates.order.tolist():
        code = int(candidates.columns["verdict"][number])
        if code not in told:
            told[code] = f"{candidates.name(number)}: {reason(candidates, number)}"
    apart = [text for code, text in told.items() if VERDICTS[code] != "memory"]
    return "; or ".join((apart or list(told.values()))[:MISSES_TOLD])


def needed(candidates: Candidates, number: int, column: str) -> float:
    """Return `column` of candidate `number` with the replicas that keep the SLO, which may be more than are shown."""
    c = candidates.columns
    value = float(c[f"{NEEDED}{column}"][number])
    return value if value == value else float(c[column][number])


def _subject(candidates: Candidates, number: int) -> str:
    """Begin a sentence about what candidate `number` needs to keep the SLO; it may be shown with fewer replicas."""
    replicas, shown = needed(candidates, number, "replicas"), float(candidates.columns["replicas"][number])
    if replicas == shown:
        return "needs"
    if candidates.columns["slo_ratio"][number] <= 1.0:  # only what has to stay free of the capacity is missing
        most = _whole(candidates.scorer.limits.utilisation)
        kept = f"keeps the SLO with {counted(shown, 'replica')} only beyond {most} of their capacity"
        return f"{kept} (utilisation in [limits]); {counted(replicas, 'replica')} would stay below it and need"
    return f"misses the SLO with {counted(shown, 'replica')}; {counted(replicas, 'replica')} would keep it and need"


def _too_much(candidates: Candidates, number: int) -> str:
    """Say how many GB of one device candidate `number` needs beyond what it has; "" where that is not known."""
    beyond = -float(candidates.columns["memory_free_gb_per_device"][number])
    return f"; {figure(beyond)} GB per device too much" if beyond > 0 else ""


def figure(value: float) -> str:
    """Write a number with four significant digits, or whole where it has more.

    >>> figure(31.4159), figure(31415.9)
    ('31.42', '31,416')
    """
    return f"{value:,.0f}" if abs(value) >= WHOLE_FROM else f"{value:,.4g}"


def _over_limit(candidates: Candidates, number: int, verdict: str) -> str:
    """Say by how much candidate `number` exceeds the limit on devices, nodes, power or budget that `verdict` names."""
    limits = candidates.scorer.limits
    column, unit, scale = LIMIT_COLUMNS["rated" if (verdict, limits.power_basis) == ("power", "rated") else verdict]
    limit = {"devices": limits.devices, "nodes": limits.nodes, "budget": limits.usd_per_hour}
    most = limits.power / WATTS_PER_KW if verdict == "power" else limit[verdict]
    value = needed(candidates, number, column) * scale
    noun = POWER_WORDS[limits.power_basis] if verdict == "power" else verdict
    text = f"{figure(value)}{unit} {noun}, allowed are {figure(most)}: {_percent_over(value / most)} too much"
    return f"{_subject(candidates, number)} {text}; raise the limit to {figure(value)}"


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
        text = f"serves {figure(served)} requests/s at most" + (
            f", asked are {figure(asked)}" if asked == asked else ""
        )
        return f"{text}; lower the load or offer other devices"
    bound = target.slo.objectives[int(c["worst_slo_bound"][number])]
    value, limit = c[bound.key][number], bound.limit * MS_PER_S
    ratio = c["slo_ratio"][number]
    relax = f"relax it to {figure(limit * ratio)} ms"
    if target.confidence == Limits.confidence and value > limit:
        excess = _percent_over(value / limit)
        return f"{bound.key} is {figure(value)} ms against {figure(limit)} ms, {excess} too much; {relax}"
    sure = _chance_within(limit, value, value / ratio, target.confidence)
    text = f"{bound.key} is estimated at {figure(value)} ms: the chance that it stays within {figure(limit)} ms is"
    chances = f"{_whole(sure)}, asked are {_whole(target.confidence)}"
    lower = f", or confidence to {math.floor(sure * 100) / 100:g}" if sure >= LEAST_TOLD else ""
    return f"{text} {chances}; {relax}{lower}"


def _whole(chance: float) -> str:
    """Write a chance in whole percents: `67 %`."""
    return f"{chance:.0%}".replace("%", " %")


def _chance_within(limit: float, value: float, allowed: float, confidence: float) -> float:
    """Return the chance that a log-normal quantity stays within `limit`.

    value: its median. allowed: the median with which it would stay within the limit with the chance `confidence`.
    """
    return float(eq.normal_chance(eq.normal_deviate(confidence) * np.log(limit / value) / np.log(limit / allowed)))


def _percent_over(ratio: float) -> str:
    """Write by how much a ratio exceeds 1.

    >>> _percent_over(1.234), _percent_over(1.0042), _percent_over(1.0000001), _percent_over(31.4)
    ('23 %', '0.42 %', 'less than 0.1 %', '3,040 %')
    """
    over = 100.0 * (ratio - 1.0)
    if over >= WHOLE_PERCENT:
        return f"{over:,.0f} %"
    return f"{float(f'{over:.2g}'):g} %" if over >= LEAST_PERCENT else f"less than {LEAST_PERCENT:g} %"
