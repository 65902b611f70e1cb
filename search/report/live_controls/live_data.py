"""Gather what the page needs to rank candidates again as its reader moves SLOs, load, prices and PUE.

Of a load with a rate, a replica behaves as its part of the rate says. So the page holds, for each layout, its latencies
and its power over the rate of one replica, and finds the least replicas itself. The same holds of requests in flight.
Where neither is so, and for pairs of pools, it holds the candidates with the replicas of the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.arrays import Index
from perfmodel.estimates import Estimates, correlations, overall
from search.planning import candidate_rows, deployment_words, told_apart
from search.report.live_controls.live_pools import Roles, pools_of
from search.report.live_controls.packed import log_short, packed, short
from search.report.live_controls.replica_loads import (
    SHARES,
    ReplicaLoads,
    kind_of,
    planned_load,
    replica_loads,
    totals_of,
)
from search.scenario import MOST_USED

if TYPE_CHECKING:
    from search.planning import Plan

#: Most layouts in a page, the best ranked first, and most characters of their tables. Chosen: keep a page below 3 MB.
MOST_LAYOUTS, MOST_CHARACTERS = 450, 600_000
#: Most candidates in a page that keep the replicas of the plan. Chosen: as many characters.
MOST_FIXED = 600
#: Columns of a layout that are exactly known with the replicas of the plan.
AS_PLANNED = ("replicas", "power_w", "slo_chance", "ttft_ms", "tpot_ms", "e2e_ms")
#: Columns of pairs of pools that the page ranks by.
OF_PAIRS = (
    *("replicas", "devices", "nodes", "devices_billed", "usd_per_hour", "power_w", "rated_power_kw", "slo_chance"),
    *("ttft_ms", "tpot_ms", "e2e_ms", "output_tok_s", "request_rate_rps", "usd_per_million_tokens"),
    *("usd_per_million_total_tokens", "site_energy_j_per_output_token", "gco2_per_million_tokens"),
    *("output_tok_s_per_device", "request_rate_rps_per_replica"),
)


def live_data(plan: Plan, loads: ReplicaLoads | None = None) -> dict[str, Any]:
    """Return what the script of the page needs, as plain data. loads: `loads_of_page(plan)`, where it is at hand."""
    loads = loads or loads_of_page(plan)
    count = len(plan.layouts)
    kept = loads.rows if loads is not None else np.sort(plan.order[plan.order < count][: most_layouts(plan)])
    table = _table(plan, loads) if loads is not None else {}
    pools, roles = pools_of(plan) or (None, None)
    fixed = np.arange(count, len(plan)) if table or pools else np.sort(plan.order[:MOST_FIXED])
    return {
        "kind": kind_of(plan) if table or pools else "fixed",
        "left_out": _left_out(plan, np.setdiff1d(np.arange(count), kept if table or pools else fixed)),
        **_request(plan),
        "devices": _devices(plan),
        "layouts": _layouts(plan, kept) if table else [],
        "table": table,
        "fixed": _fixed(plan, fixed, roles),
        "paired": "disaggregated" in plan.scenario.choices.modes,
        "pools": pools,
    }


def loads_of_page(plan: Plan) -> ReplicaLoads | None:
    """Return the layouts of the page over their loads; None where replicas do not follow from the load."""
    return replica_loads(plan, most_layouts(plan))


def most_layouts(plan: Plan) -> int:
    """Return how many layouts the page has room for: each objective adds columns."""
    count = len(plan.scenario.slo.objectives)
    columns = 6 + 3 * count + count * (count - 1) // 2  # of 2 bytes; that of a bound counts twice
    characters = 2 * columns * len(SHARES) * 4 / 3 * len(totals_of(plan))
    return min(MOST_LAYOUTS, int(MOST_CHARACTERS / characters))


def _request(plan: Plan) -> dict[str, Any]:
    """Return what is asked for: load, SLO, limits, ranking, and what electricity costs."""
    s, work, tariff = plan.scenario, plan.scorer.target.workload, plan.scorer.tariff
    limits = {name: getattr(s.limits, name) for name in ("usd_per_hour", "power", "devices", "nodes")}
    return {
        "scenario": s.path,
        "load": planned_load(plan),
        "output_tokens": float(work.mean_output),
        "total_tokens": float(work.mean_output + work.mean_input),
        "objectives": [
            {
                "key": o.key,
                "metric": o.metric,
                "statistic": o.statistic,
                "limit": o.limit * 1e3,
                "label": f"{o.metric.upper()} {o.statistic}",
            }
            for o in s.slo.objectives
        ],
        "confidence": s.limits.confidence,
        "limits": {k: v if np.isfinite(v) else None for k, v in limits.items()},
        "mean_power": s.limits.power_basis == "mean",
        "utilisation": MOST_USED if s.limits.beyond_usual else s.limits.utilisation,
        "utilisation_stated": s.limits.utilisation_stated,
        "spare_nodes": s.limits.spare_nodes,
        "rank_by": plan.scorer.rank_by,
        "lower_is_better": s.lower_is_better,
        "pue": s.site.pue,
        "usd_per_kwh": s.site.usd_per_kwh,
        "gco2_per_kwh": s.site.gco2_per_kwh,
        "used": tariff.money.utilisation,
        "staff_usd_per_hour": tariff.money.ownership.staff_usd_per_hour,
        "best": plan.name(plan.best) if plan.feasible else None,
    }


def _devices(plan: Plan) -> list[dict[str, Any]]:
    """Return the device types on offer with their prices, nodes and hosts, in the order of the tariff."""
    t, stock = plan.scorer.tariff, plan.scorer.stock
    database, offer = plan.scenario.hardware(), plan.scenario.offer
    return [
        {
            "name": device.name,
            "usd_per_hour": float(t.usd_per_hour[i]),
            "owned": bool(t.owned[i]),
            "whole": bool(t.whole[i]),
            "nodes": [n for n in offer.nodes if database.node(n).device == device.name],
            "stock": float(stock[i]),
            **{name: float(getattr(t, name)[i]) for name in ("per_node", "device_limit", "device_idle")},
            **{name: float(getattr(t, name)[i]) for name in ("device_ready", "host_power", "host_loaded", "host_idle")},
        }
        for i, device in enumerate(t.devices)
    ]


def _layouts(plan: Plan, rows: Index) -> list[dict[str, Any]]:
    """Return name, device type and size of the layouts at `rows`, and what is exactly known of them as planned."""
    d, c = plan.layouts, plan.columns
    working = c["replicas"][: len(d)] - plan.scorer.spare_replicas(d)
    with np.errstate(divide="ignore", invalid="ignore"):
        loaded = c["offered"][: len(d)] / working
    names = [deployment_words(d.take(np.array([n])), plan.checkpoints) for n in rows]
    return [
        {
            "name": name,
            "label": label,
            "device": int(d.device[n]),
            "size": float(d.devices_per_replica[n]),
            "cap": float(d.power_cap[n]),
            "planned": {
                **{column: float(c[column][n]) for column in AS_PLANNED},
                "bounds": [float(c[o.key][n]) for o in plan.scenario.slo.objectives],
                "load": float(loaded[n]),
                "qualifies": bool(plan.qualifies[n]),
            },
        }
        for n, name, label in zip(rows.tolist(), names, _labels(plan, rows.tolist(), names), strict=True)
    ]


def _labels(plan: Plan, numbers: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return the names of candidates, and of namesakes also the settings in which they differ."""
    count, labels = Counter(names), list(names)
    same = [i for i, name in enumerate(names) if count[name] > 1]
    rows = candidate_rows(plan, [numbers[i] for i in same]) if same else []
    told = told_apart([{**row, "candidate": names[i]} for i, row in zip(same, rows, strict=True)])
    for i, row in zip(same, told, strict=True):
        labels[i] = row["candidate"]
    return labels


def _table(plan: Plan, loads: ReplicaLoads) -> dict[str, Any]:
    """Return the figures of one replica of each layout over its load: (layouts, loads) per name, packed.

    Loads, requests/s or requests in flight, are `shares` of the `greatest`. There are columns for each of the `totals`,
    loads of all replicas together.
    """
    return {
        "points": len(loads.shares),
        "greatest": loads.greatest.tolist(),
        "shares": loads.shares.tolist(),
        "totals": loads.totals.tolist(),
        "columns": [_columns(plan, found) for found in loads.found],
    }


def _columns(plan: Plan, found: Estimates) -> dict[str, Any]:
    """Return the columns of a table, packed: latencies in ms, bounds of the SLO as natural logarithms of ms."""
    columns: dict[str, Any] = {"power": log_short(found.power)}
    if kind_of(plan) == "closed":
        columns["rate"] = packed(found.request_rate)
    for metric in ("ttft", "tpot", "e2e"):
        ranks = plan.scorer.rank_by == f"{metric}_ms"
        mean = found.mean(getattr(found, metric)) * 1e3
        columns[f"{metric}_ms"] = packed(mean) if ranks else log_short(mean)
    return columns | _of_bounds(plan, found)


def _of_bounds(plan: Plan, found: Estimates) -> dict[str, Any]:
    """Return the columns that say how surely each objective is kept, alone and together with the others.

    `over`: 1 where a load is beyond capacity; with objectives, their bounds are infinite there instead. `bound_I`: log
    of the figure in ms. `spread_I`: log half-width of its 80 % interval. `related_I_J`: correlation of two errors.
    """
    slo, over = plan.scorer.target.slo, found.saturated | ~found.fits
    out: dict[str, Any] = {} if slo.objectives else {"over": short(over.astype(float))}
    related = correlations(found, slo) if len(slo.objectives) > 1 else np.zeros((0, 0, len(found)))
    for i, o in enumerate(slo.objectives):
        with np.errstate(divide="ignore", invalid="ignore"):
            out[f"bound_{i}"] = packed(np.where(over, np.inf, np.log(overall(found, o.metric, o.statistic) * 1e3)))
        out[f"spread_{i}"] = short(found.half_width(o.metric, o.statistic))
        out |= {f"related_{i}_{j}": short(related[i, j]) for j in range(i + 1, len(related))}
    return out


def _left_out(plan: Plan, numbers: Index) -> list[list[float]]:
    """Return [device type, devices paid for, devices, watts, chance] of each layout `numbers` that fits, as planned.

    Those that do not qualify have a chance of -1.
    """
    c, d = plan.columns, plan.layouts
    chance = np.where(plan.qualifies, c["slo_chance"] if plan.scenario.slo.objectives else 1.0, -1.0)
    columns = (c["devices_billed"], c["devices"], c["power_w"], chance)
    fitting = numbers[c["fits"][numbers] == 1].tolist()
    return [[int(d.device[n]), *(float(f"{column[n]:.7g}") for column in columns)] for n in fitting]


def _fixed(plan: Plan, numbers: Index, roles: Roles | None) -> list[dict[str, Any]]:
    """Return the candidates `numbers` with the replicas of the plan: figures, and bounds of the SLO.

    roles: layouts that the page pairs; the key of a pair is its place among them and its workers.
    """
    if not len(numbers):
        return []
    c, found, slo = plan.columns, plan.estimates_of(numbers.tolist()), plan.scenario.slo
    related = correlations(found, slo) if slo.objectives else np.zeros((0, 0, len(numbers)))
    out, names = [], [plan.name(n) for n in numbers.tolist()]
    labels = names if roles is not None else _labels(plan, numbers.tolist(), names)  # the page names pairs itself
    for i, n in enumerate(numbers.tolist()):
        row: dict[str, Any] = {name: float(c[name][n]) for name in OF_PAIRS}
        row |= {"name": names[i], "label": labels[i], "verdict": float(c["verdict"][n]), "pools": plan.disaggregated(n)}
        row["billed"] = _billed(plan, n)
        row["bounds"] = [float(c[o.key][n]) for o in slo.objectives]
        row["spreads"] = [float(found.half_width(o.metric, o.statistic)[i]) for o in slo.objectives]
        row["related"] = related[:, :, i].tolist()
        if roles is not None:
            row["key"] = roles.key(plan, n)
        out.append(row)
    return out


def _billed(plan: Plan, number: int) -> list[list[float]]:
    """Return [device type, devices paid for] of each pool of a candidate, one of a colocated one."""
    t = plan.scorer.tariff
    return [
        [int(d.device[0]), float(t.billed(d.device, d.devices_per_replica, d.replicas)[0])] for d in plan.pools(number)
    ]
