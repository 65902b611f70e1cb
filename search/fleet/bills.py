"""Count what a fleet pays by the device: whole nodes, and what each supply rents out."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.arrays import Array, Index
from search.fleet.limits import supplied, with_nodes
from search.fleet.problem import FleetProblem


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
