"""Gather what the page needs to size pairs of prefill and decode pools as its reader moves the question.

The pools of a pair affect each other only through the request rate and the KV transfer. So the page stores each layout
once as a prefill worker and once as a decode worker (`perfmodel.estimates.pool_parts`), and pairs them as a plan does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel import Deployments
from perfmodel.arrays import Array, Index
from perfmodel.estimates import (
    CAUSES,
    HAND_OVER,
    HAND_OVER_IN_NODE,
    KINDS,
    LOADS,
    NODE_DEVICES,
    DecodeParts,
    PrefillParts,
    link_ends,
    pool_parts,
    uncertainty,
)
from perfmodel.estimates import figure as figure_of
from perfmodel.hardware import hardware_of
from perfmodel.serving import MAX_UTILISATION, MOST_GAIN, SATURATED_SHARE
from perfmodel.vocabulary import BASES
from perfmodel.workload import RANKS
from search.planning import BATCH, MAX_BATCHES, MAX_WORKERS, OF_POWER, deployment_words, in_roles, space_of, told_apart
from search.report.live_controls.packed import packed, short
from search.report.live_controls.replica_loads import kind_of

if TYPE_CHECKING:
    from search.planning import Plan

#: Rates of one decode worker, as shares of the greatest. Chosen: a decode step hardly changes below a tenth.
SHARES = np.concatenate([np.geomspace(0.0005, 0.05, 24, endpoint=False), np.linspace(0.05, 1.0, 140)])
#: The same for the watts of a prefill worker, which rise nearly in proportion.
WATTS_SHARES = np.linspace(0.0, 1.0, 17)
#: Most layouts in a role. Chosen: tables of 600 kB.
MOST_IN_ROLE = 128
#: Place of a layout that the page does not hold.
NOT_LISTED = -1
#: Settings that tell layouts of one name apart.
TOLD_BY = ("max_num_batched_tokens", "max_num_seqs")


@dataclass(frozen=True)
class Roles:
    """Layouts that a plan pairs. rows: of them, as prefill and as decode workers. left_out: how many have no place."""

    layouts: Deployments
    rows: tuple[Index, Index]
    left_out: int

    def key(self, plan: Plan, number: int) -> list[int]:
        """Return (place of the prefill worker, of the decode worker, their numbers) of the pair `number` of a plan.

        A worker that has no place is at `NOT_LISTED`.
        """
        pair, c = plan.pair(number), plan.columns
        places = [
            rows.tolist().index(row[0]) if row[0] in rows else NOT_LISTED
            for rows, row in zip(self.rows, (pair.prefill_row, pair.decode_row), strict=True)
        ]
        return [*places, *(int(c[f"{pool}_workers"][number]) for pool in ("prefill", "decode"))]


def pools_of(plan: Plan) -> tuple[dict[str, Any], Roles] | None:
    """Return the data that pairs of pools are sized by, and the layouts they are made of.

    None where the plan has no pools, or where the page cannot size them: without a rate of requests, or under a
    ranking by power.
    """
    apart = "disaggregated" in plan.scenario.choices.modes
    if not apart or kind_of(plan) != "open" or plan.scorer.rank_by in OF_POWER or not len(plan.pairs):
        return None
    roles = _roles(plan)
    target = plan.scorer.target
    used = np.unique(np.concatenate(roles.rows))
    chosen = roles.layouts.take(used)
    load = plan.scorer.loads(np.ones(len(used)), pools=True)
    shared: dict[str, Any] = {"engine": target.engine, "costs": target.costs, "known": target.known_of_pools}
    front, back = pool_parts(target.model, load, chosen, SHARES, **shared)
    at = tuple(np.searchsorted(used, rows) for rows in roles.rows)
    fronts, backs = (
        [{**_worker(chosen, n), **name} for n, name in zip(rows.tolist(), _names(plan, chosen.take(rows)), strict=True)]
        for rows in at
    )
    return {
        **_hand_over(chosen),
        "share": load.share[:, 0].tolist(),
        "output": np.broadcast_to(load.output[:, 0], load.share[:, 0].shape).tolist(),
        "cv": float(load.cv[0]),
        "layers": float(max(target.model.layers, 1)),
        "links": _links(plan),
        "constants": _constants(),
        "doubts": _doubts(plan),
        "prefill": [{**worker, **_prefill(front, n)} for worker, n in zip(fronts, at[0].tolist(), strict=True)],
        "decode": [{**worker, **_decode(back, n)} for worker, n in zip(backs, at[1].tolist(), strict=True)],
        "prefill_table": _table(
            WATTS_SHARES, front.greatest[at[0]], {"watts": short(front.watts(WATTS_SHARES)[at[0]])}
        ),
        "decode_table": _table(SHARES, back.greatest[at[1]], _decode_columns(back, at[1])),
        "seconds_of_watts": back.prefill,
        "left_out": roles.left_out,
    }, roles


def _hand_over(layouts: Deployments) -> dict[str, Any]:
    """Return what the scenario states of the hand-over between pools."""
    how = layouts.hand_over
    return {"place": how.place, "bandwidth": how.bandwidth, "delay": how.delay, "layerwise": how.layerwise}


def _roles(plan: Plan) -> Roles:
    """Return the layouts that the plan paired, those of its pairs first where a page cannot hold all."""
    tried = plan.layouts
    if not len(tried):
        legal = space_of(plan.scenario, plan.scorer.target.model, plan.scorer.tariff).legal()
        tried = legal.deployments(np.arange(len(legal)))
    layouts, *every = in_roles(tried)
    rows, left_out = [], 0
    for own, paired in zip(every, (plan.pairs.prefill_row, plan.pairs.decode_row), strict=True):
        first = np.concatenate([np.intersect1d(own, paired), np.setdiff1d(own, paired)])
        rows.append(np.sort(first[:MOST_IN_ROLE]))
        left_out += max(len(own) - MOST_IN_ROLE, 0)
    return Roles(layouts, (rows[0], rows[1]), left_out)


def _names(plan: Plan, layouts: Deployments) -> list[dict[str, str]]:
    """Return name and label of each layout; labels tell namesakes apart."""
    names = [deployment_words(layouts.take(np.array([n])), plan.checkpoints) for n in range(len(layouts))]
    rows = [
        {"candidate": name, **{setting: float(getattr(layouts, setting)[n]) for setting in TOLD_BY}}
        for n, name in enumerate(names)
    ]
    return [{"name": name, "label": str(row["candidate"])} for name, row in zip(names, told_apart(rows), strict=True)]


def _links(plan: Plan) -> list[dict[str, float | str]]:
    """Return what each device type on offer can hand over, and its vendor, in the order of the tariff."""
    types = plan.scorer.tariff.devices
    ends = link_ends(hardware_of(types, np.arange(len(types))))
    return [{"vendor": d.vendor, **{k: float(v[i]) for k, v in ends.items()}} for i, d in enumerate(types)]


def _constants() -> dict[str, Any]:
    """Return the constants of the equations of pools."""
    return {
        "max_utilisation": MAX_UTILISATION,
        "saturated_share": SATURATED_SHARE,
        "most_gain": MOST_GAIN,
        "node_devices": NODE_DEVICES,
        "hand_over": HAND_OVER,
        "hand_over_in_node": HAND_OVER_IN_NODE,
        "batch": BATCH,
        "max_batches": MAX_BATCHES,
        "max_workers": MAX_WORKERS,
        "ranks": RANKS,
    }


def _doubts(plan: Plan) -> dict[str, Any]:
    """Return what the widths of latencies follow from (`perfmodel.estimates.ranges.intervals`).

    causes: spread of each cause. wider: kind of metric -> factor by basis. rest: of each objective, what is left in an
    idle system and in one at capacity.
    """
    known, slo = uncertainty(), plan.scenario.slo
    codes = np.arange(len(BASES), dtype=np.int8)
    opened = np.full(2, LOADS.index("open"), dtype=np.int8)
    return {
        "causes": [known.causes[name] for name in CAUSES],
        "front_end": CAUSES.index("front_end"),
        "arrivals": CAUSES.index("arrivals"),
        "wider": {kind: known.by_basis(kind, codes).tolist() for kind in ("ttft", "tpot")},
        "kinds": [KINDS[o.metric] for o in slo.objectives],
        "rest": [
            known.rest_of(figure_of(o.metric, o.statistic), opened, np.array([0.0, 1.0])).tolist()
            for o in slo.objectives
        ],
    }


def _worker(layouts: Deployments, n: int) -> dict[str, Any]:
    """Return what a worker is, whatever its role."""
    return {
        "device": int(layouts.device[n]),
        "size": float(layouts.devices_per_replica[n]),
        "cap": float(layouts.power_cap[n]),
        "kv": int(layouts.kv[n]),
    }


def _prefill(front: PrefillParts, n: int) -> dict[str, Any]:
    """Return the figures of a prefill worker."""
    columns = {name: getattr(front, name) for name in ("groups", "times", "alone", "kv_bytes", "bound", "request_time")}
    return {
        **{name: np.broadcast_to(v, (len(v), len(front.n_steps)))[:, n].tolist() for name, v in columns.items()},
        **{name: float(getattr(front, name)[n]) for name in ("time_cv", "n_steps")},
        "basis": int(front.basis[n]),
        "fits": bool(front.fits[n]),
    }


def _decode(back: DecodeParts, n: int) -> dict[str, Any]:
    """Return the figures of a decode worker that hold under any load."""
    own = back.doubts.own_spreads
    return {
        **{name: float(getattr(back, name)[n]) for name in ("max_running", "full")},
        "kv_bytes": back.kv_bytes[:, n].tolist(),
        "fits": bool(back.fits[n]),
        "accepted": float(back.accepted[n]),
        "drafts_doubt": float(back.doubts.drafts[n]),
        "own_spreads": None if own is None else own[:, n].tolist(),
        "narrowed": {kind: float(width[n]) for kind, width in back.doubts.narrowed.items()},
    }


def _decode_columns(back: DecodeParts, rows: Index) -> dict[str, Any]:
    """Return the figures of decode workers over their load, packed."""
    bounds = {f"bound_{k}": short(b[rows]) for k, b in enumerate(back.bound)}
    watts = {f"watts_{k}": short(w[rows]) for k, w in enumerate(back.watts)}
    return {
        "tpot": packed(back.tpot[rows]),
        "host": short(back.host[rows]),
        "basis": short(back.basis[rows].astype(float)),
        **bounds,
        **watts,
    }


def _table(shares: Array, greatest: Array, columns: dict[str, Any]) -> dict[str, Any]:
    """Return figures over the rate of one worker, as `live_data` has those of replicas."""
    return {"points": len(shares), "shares": shares.tolist(), "greatest": greatest.tolist(), "columns": columns}
