"""Count what a fleet pays by the device: whole nodes, and what each supply rents out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perfmodel.arrays import Array, Index
from search.fleet.problem_data.limits import supplied, with_nodes
from search.fleet.problem_data.problem import WHOLE_TOLERANCE, FleetProblem
from search.scenario import Supply


def hourly_bills(problem: FleetProblem, replicas: Index, held: Array) -> dict[str, Array]:
    """Return USD per hour of every device that is not paid by the replica: name -> (P,).

    replicas: (O, P). held: (K, P) devices or nodes that each supply rents out.
    """
    rented, nodes = supplied(problem), with_nodes(problem, replicas)[len(problem.options) :]
    out = {
        d: problem.inventory.node_usd_per_hour[d] * count
        for d, count in zip(problem.by_node, nodes, strict=True)
        if d not in rented
    }
    for supply, count in zip(problem.inventory.supplies, held, strict=False):
        out[supply.device] = out.get(supply.device, np.zeros(len(count))) + supply.usd_per_hour * count
    return out


def supply_rows(problem: FleetProblem, held: Array) -> list[dict[str, Any]]:
    """Return one flat record per supply and period in use: devices held, their price and what they cost.

    held: (K, P) devices or nodes that each supply rents out.
    """
    return [
        {
            "device": supply.device,
            "price_kind": supply.kind,
            "period": t + 1,
            "hours": float(problem.hours[t]),
            "held": float(count),
            "held_unit": "nodes" if supply.device in problem.by_node else "devices",
            "usd_per_hour": float(count) * supply.usd_per_hour,
        }
        for supply, counts in zip(problem.inventory.supplies, held, strict=False)
        for t, count in enumerate(counts)
        if count
    ]


def cheapest_held(
    supplies: Sequence[Supply], need: Mapping[str, Array], lent: Mapping[str, Array], weight: Array
) -> Array:
    """Return the devices that each supply holds for what is in use at the least cost, (K, P); nothing is committed.

    need, lent: devices in use by name beside spot devices and on them, (P,). weight: (P,) share of the hours. Where the
    supplies do not suffice, they hold inf.
    """
    out = np.zeros((len(supplies), len(weight)))
    for device, count in need.items():
        kinds = [(k, s) for k, s in enumerate(supplies) if s.device == device and s.kind not in ("reserved", "spot")]
        others = sorted(kinds, key=lambda one: one[1].usd_per_hour)
        fixed = next(((k, s) for k, s in enumerate(supplies) if s.device == device and s.kind == "reserved"), None)
        most = int(min(np.ceil(count.max() - WHOLE_TOLERANCE), fixed[1].most)) if fixed is not None else 0
        best = np.inf
        for level in range(most + 1):
            left, held = np.maximum(count - level, 0.0), np.zeros(out.shape)
            for k, supply in others:
                held[k] = np.minimum(left, supply.most)
                left = left - held[k]
            usd = sum(s.usd_per_hour * float(held[k] @ weight) for k, s in others)
            usd += np.inf if (left > WHOLE_TOLERANCE).any() else 0.0
            if fixed is not None:
                held[fixed[0]], usd = level, usd + level * fixed[1].usd_per_hour
            if usd < best:
                best, kept = usd, held
        out += kept if np.isfinite(best) else np.where([[s.device == device] for s in supplies], np.inf, 0.0)
    for k, supply in enumerate(supplies):
        if supply.kind == "spot":
            out[k] = lent[supply.device]
    return out
