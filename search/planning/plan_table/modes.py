"""Compare the modes of serving in a plan: the best colocated candidate beside the best pair of pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from search.planning.plan_table.rows import candidate_rows
from search.planning.ranking.candidates import Candidates

#: Columns in which the best candidates of two modes are compared, in percent.
COMPARED = ("usd_per_hour", "devices", "power_w", "ttft_ms", "tpot_ms", "request_rate_rps")
#: Columns that the sentence names besides cost and latencies, where they differ -> what it calls them.
NAMED = {"devices": "devices", "power_w": "power", "request_rate_rps": "requests/s"}
#: Differences below this are called equal, in percent. Chosen: rounds to nothing.
SAME_PERCENT = 0.5


def winners(plan: Candidates) -> dict[str, int]:
    """Return mode -> number of the best candidate of that mode that qualifies, best mode first."""
    found: dict[str, int] = {}
    numbers = plan.order[: int(plan.qualifies.sum())]
    apart = numbers >= len(plan.layouts)
    for mode, of_mode in (("disaggregated", apart), ("colocated", ~apart)):
        if of_mode.any():
            found[mode] = int(np.argmax(of_mode))
    return {mode: int(numbers[at]) for mode, at in sorted(found.items(), key=lambda item: item[1])}


def device_winners(plan: Candidates, most: int) -> list[int]:
    """Return the numbers of the best candidate of each device that qualifies, or pair of devices, best first.

    most: how many at most.
    """
    numbers = plan.order[: int(plan.qualifies.sum())]
    own = np.concatenate([plan.layouts.device, plan.pairs.prefill.device])
    other = np.concatenate([plan.layouts.device, plan.pairs.decode.device])
    _, first = np.unique(np.stack([own, other])[:, numbers], axis=1, return_index=True)
    return [int(n) for n in numbers[np.sort(first)][:most]]


def best_of(plan: Candidates) -> dict[int, str]:
    """Return candidate number -> the modes and devices that it is the best of, in words: `colocated; h100-sxm`.

    A pair of pools on two devices is the best of its pair: `h100-sxm + a100-sxm-80gb`, prefill first.
    """
    found: dict[int, list[str]] = {}
    for mode, number in winners(plan).items():
        found.setdefault(number, []).append(mode)
    names = [device.name for device in plan.scorer.tariff.devices]
    for number in device_winners(plan, len(plan)):
        pair = plan.pair(number) if plan.disaggregated(number) else None
        placed = [pair.prefill, pair.decode] if pair else [plan.deployment(number)]
        devices = dict.fromkeys(names[int(one.device[0])] for one in placed)
        found.setdefault(number, []).append(" + ".join(devices))
    return {number: "; ".join(words) for number, words in found.items()}


def best_by_mode(plan: Candidates) -> list[dict[str, Any]]:
    """Return one flat row per mode: its best candidate, best mode first.

    `usd_per_hour_difference_percent` and the like say by how much the row differs from the first: 0 in the first row.
    A mode of which nothing qualifies has no row.
    """
    rows = candidate_rows(plan, list(winners(plan).values()))
    with np.errstate(divide="ignore", invalid="ignore"):
        return [{**row, **{f"{c}_difference_percent": _percent(row[c], rows[0][c]) for c in COMPARED}} for row in rows]


def comparison(plan: Candidates, modes: Sequence[str]) -> str:
    """Say in one sentence how the best candidates of two modes compare; "" where the scenario allows one mode only.

    modes: those that the scenario allows.
    """
    if len(modes) < 2 or not plan.feasible:
        return ""
    rows = best_by_mode(plan)
    if len(rows) < 2:
        missing = next(m for m in modes if m != rows[0]["mode"])
        return f"Nothing {missing} meets the request; {rows[0]['mode']} does."
    first, second = rows
    difference = _percent(first["usd_per_hour"], second["usd_per_hour"])
    cost = _words(difference, "costs", "less", "more") if np.isfinite(difference) else "ranks first"
    against = "as" if cost.endswith("the same") else "than" if np.isfinite(difference) else "before"
    figures = [f"${first['usd_per_hour']:,.2f} against ${second['usd_per_hour']:,.2f} per hour"]
    figures = figures if np.isfinite(difference) else []
    bounded = {o.key: o.title for o in plan.scorer.target.slo.objectives}
    latencies = bounded or {"ttft_ms": "mean TTFT", "tpot_ms": "mean TPOT"}
    for column, name in {**NAMED, **latencies}.items():
        if abs(_percent(first[column], second[column])) >= SAME_PERCENT:
            figures.append(_figure(name, column, first[column], second[column]))
    return (
        f"{first['mode'].capitalize()} {cost} {against} {second['mode']}: {'; '.join(figures) or 'all else is equal'}."
    )


def _percent(value: float, base: float) -> float:
    """Return by how many percent `value` differs from `base`; NaN where either is unknown, or the base is 0."""
    return 100.0 * (value / base - 1.0) if base else float("nan")


def _words(percent: float, verb: str, less: str, more: str) -> str:
    """Say a difference in words: `costs 12 % less`."""
    if abs(percent) < SAME_PERCENT:
        return f"{verb} the same"
    return f"{verb} {abs(percent):.0f} % {less if percent < 0 else more}"


def _figure(name: str, column: str, first: float, second: float) -> str:
    """Write two values of a column beside each other: `power 17.2 against 21.4 kW`.

    >>> _figure("power", "power_w", 17234.0, 21440.0)
    'power 17.2 against 21.4 kW'
    """
    scale, unit = (1e-3, " kW") if column == "power_w" else (1.0, " ms" if "_ms" in column else "")
    shown = [f"{v * scale:,.0f}" if abs(v * scale) >= 100 else f"{v * scale:.3g}" for v in (first, second)]
    return f"{name} {shown[0]} against {shown[1]}{unit}"
