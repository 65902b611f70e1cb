"""Compute the arrays that the fleet program is built from: prices, limits, failures, and bounds on the replicas.

A unit is a replica of an option, or, where devices are paid by the node, a node of such a device: (O + W,) units for O
options and W devices that are paid by the node. P counts the periods of the day.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import ArrayLike

from perfmodel.arrays import Array, Index
from search.fleet.problem import FleetProblem

#: A value that a solver returns within this of a whole number is that number. Above the solvers' own integrality
#: tolerance of 1e-6.
INTEGRALITY_TOLERANCE = 1e-5


def with_nodes(problem: FleetProblem, replicas: Index) -> Array:
    """Return the units in use, (O + W, P): the replicas (O, P), then the whole nodes that hold them.

    Nodes are counted only for devices that are paid by the node.
    """
    taken = [np.array([o.nodes if o.device == d else 0.0 for o in problem.options]) @ replicas for d in problem.by_node]
    return np.concatenate([replicas, *[np.ceil(t - INTEGRALITY_TOLERANCE)[None] for t in taken]]).astype(float)


def prices(problem: FleetProblem) -> Array:
    """Return USD per hour of each unit, (O + W,); a replica whose node is paid for costs 0."""
    by_node = problem.by_node
    replica = [0.0 if o.device in by_node else o.usd_per_hour for o in problem.options]
    return np.array([*replica, *[problem.inventory.node_usd_per_hour[d] for d in by_node]])


def limits(problem: FleetProblem) -> dict[str, tuple[float, Array]]:
    """Collect every finite limit: name -> (bound, (O + W,) what each unit takes of it).

    Names: `stock[DEVICE]` (devices), `power` (watts), `budget` (USD per hour), `nodes`.
    """
    options, inventory, by_node = problem.options, problem.inventory, problem.by_node
    none = [0.0] * len(by_node)
    out: dict[str, tuple[float, Array]] = {}
    for device, stock in inventory.stock.items():
        taken = np.array([o.devices if o.device == device else 0.0 for o in options] + none)
        if np.isfinite(stock) and taken.any():
            out[f"stock[{device}]"] = (float(stock), taken)
    nodes = [0.0 if o.device in by_node else o.nodes for o in options]
    others: Mapping[str, tuple[float, ArrayLike]] = {
        "power": (inventory.power, [o.power for o in options] + none),
        "budget": (inventory.budget, prices(problem)),
        "nodes": (inventory.nodes, nodes + [1.0] * len(by_node)),
    }
    out.update({name: (float(b), np.array(w)) for name, (b, w) in others.items() if np.isfinite(b)})
    return out


def served_by_none(problem: FleetProblem) -> list[int]:
    """List the positions of the request classes that have demand but that no option can serve."""
    wanted = problem.rate.max(axis=0) > 0
    return [int(c) for c in np.nonzero(wanted & ~problem.serves().any(axis=0))[0]]


def failures(problem: FleetProblem) -> list[Array]:
    """List the failures that the fleet must survive, each as the replicas that it takes of every option, (O,).

    The first failure takes nothing. With spare nodes, there is one for every choice of nodes to lose.
    """
    options = range(len(problem.options))
    out = [np.zeros(len(problem.options))]
    if problem.inventory.spare_nodes:
        for nodes in combinations_with_replacement(options, problem.inventory.spare_nodes):
            lost = np.zeros(len(problem.options))
            for o in nodes:
                lost[o] += np.ceil(problem.options[o].replicas_per_node)
            out.append(lost)
    return out


def max_replicas(problem: FleetProblem) -> Index:
    """Return the replicas of each option that no optimum exceeds, (O,).

    They are enough for all traffic that the option can serve, plus what failures take. An option alone needs at most
    ceil(its load), and the load of all classes together is their sum.
    """
    speed = np.where(problem.serves(), problem.throughput, np.inf)
    alone = np.ceil((problem.rate.max(axis=0) / speed).sum(axis=1) + INTEGRALITY_TOLERANCE)
    return np.asarray(alone + np.max(failures(problem), axis=0), dtype=np.intp)
