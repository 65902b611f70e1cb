"""Compute the arrays that the fleet program is built from: prices, limits, failures, and bounds on the replicas.

A unit is a replica of an option; or, where devices are paid by the node, a node of such a device; or a device (or node)
that a supply rents out: (O + W + K,) units for O options, W devices that are paid by the node and K supplies. P counts
the periods of the day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import ArrayLike

from hwdb import InputError
from perfmodel.arrays import Array, Index
from search.fleet.problem_data.problem import FleetProblem

#: A value that a solver returns within this of a whole number is that number. Above the solvers' own integrality
#: tolerance of 1e-6.
INTEGRALITY_TOLERANCE = 1e-5
#: Largest number of replicas of an option: solvers lose the last digit above. chosen, as `MOST_RATE` of a class.
MOST_REPLICAS = 1e9


def supplied(problem: FleetProblem) -> set[str]:
    """Return the names of the devices that have supplies."""
    return {s.device for s in problem.inventory.supplies}


def taken_of(problem: FleetProblem, device: str) -> Array:
    """Return what a replica of each option takes of the supplies of `device`, (O,): devices, or nodes where the device
    is paid by the node.
    """
    return problem.nodes_on(device) if device in problem.by_node else problem.devices_on(device)


def with_nodes(problem: FleetProblem, replicas: Index) -> Array:
    """Return the units in use, (O + W, P): the replicas (O, P), then the whole nodes that hold them.

    Nodes are counted only for devices that are paid by the node.
    """
    taken = [problem.nodes_on(d) @ replicas for d in problem.by_node]
    return np.concatenate([replicas, *[np.ceil(t - INTEGRALITY_TOLERANCE)[None] for t in taken]]).astype(float)


def prices(problem: FleetProblem) -> Array:
    """Return USD per hour of each unit, (O + W + K,); a replica whose node or devices are paid for costs 0."""
    by_node, rented = problem.by_node, supplied(problem)
    paid = {*by_node, *rented}
    replica = [0.0 if paid.intersection(o.devices_of) else o.usd_per_hour for o in problem.options]
    nodes = [0.0 if d in rented else problem.inventory.node_usd_per_hour[d] for d in by_node]
    return np.array([*replica, *nodes, *[s.usd_per_hour for s in problem.inventory.supplies]])


def limits(problem: FleetProblem) -> dict[str, tuple[float, Array]]:
    """Collect every finite limit on a period: name -> (bound, (O + W + K,) what each unit takes of it).

    Names: `stock[DEVICE]` (devices, of all regions or of one), `power` (watts), `budget` (USD per hour), `nodes`,
    `supply[DEVICE KIND]`.
    """
    options, inventory, by_node = problem.options, problem.inventory, problem.by_node
    others_none = [0.0] * (len(by_node) + len(inventory.supplies))
    out: dict[str, tuple[float, Array]] = {}
    for device, stock in inventory.stock.items():
        taken = np.concatenate([problem.stocked(device), others_none])
        if np.isfinite(stock) and taken.any():
            out[f"stock[{device}]"] = (float(stock), taken)
    nodes = [sum(n for d, n in o.nodes_of.items() if d not in by_node) for o in options]
    others: Mapping[str, tuple[float, ArrayLike]] = {
        "power": (inventory.power, [o.power for o in options] + others_none),
        "budget": (inventory.budget, prices(problem)),
        "nodes": (inventory.nodes, nodes + [1.0] * len(by_node) + [0.0] * len(inventory.supplies)),
    }
    out.update({name: (float(b), np.array(w)) for name, (b, w) in others.items() if np.isfinite(b)})
    first = len(options) + len(by_node)
    for k, supply in enumerate(inventory.supplies):
        if np.isfinite(supply.most):
            out[f"supply[{supply.name}]"] = (
                float(supply.most),
                np.eye(1, first + len(inventory.supplies), first + k)[0],
            )
    return out


def mean_limits(problem: FleetProblem) -> dict[str, tuple[float, str]]:
    """Collect every finite limit on the mean over the periods: name -> (bound, quantity that it bounds).

    `mean_budget` bounds the money (USD per hour), `carbon` the carbon (grams of CO2e per hour).
    """
    found = {"mean_budget": (problem.inventory.mean_budget, "money"), "carbon": (problem.inventory.carbon, "carbon")}
    return {name: (float(bound), what) for name, (bound, what) in found.items() if np.isfinite(bound)}


def bounds(problem: FleetProblem) -> dict[str, float]:
    """Return the bound of every limit by name, those on a period first."""
    return {n: b for n, (b, _) in {**limits(problem), **mean_limits(problem)}.items()}


def served_by_none(problem: FleetProblem) -> list[int]:
    """List the positions of the request classes that have demand but that no option can serve."""
    wanted = problem.rate.max(axis=0) > 0
    return [int(c) for c in np.nonzero(wanted & ~problem.serves().any(axis=0))[0]]


def spare_pools(problem: FleetProblem) -> list[tuple[list[int], int]]:
    """List the pools of nodes that have spare ones: (the options that stand on them, the nodes that fail at once).

    They are those of any device, and those of each device, region or domain that has spare nodes of its own.
    """
    options, inventory = problem.options, problem.inventory
    pools = [(list(range(len(options))), inventory.spare_nodes)]
    pools += [([i for i, o in enumerate(options) if n in o.pools], k) for n, k in inventory.spare.items()]
    return [(members, count) for members, count in pools if members and count]


def lost_with_node(problem: FleetProblem) -> Array:
    """Return the replicas of each option that a node takes with it, (O,)."""
    return np.asarray(np.ceil([o.replicas_per_node for o in problem.options]), dtype=float)


def most_lost(problem: FleetProblem) -> Array:
    """Return the most replicas of each option that a failure of nodes takes, (O,): all of its nodes are of the option.

    It is the greatest of `failures`, without a list of them.
    """
    nodes = np.zeros(len(problem.options))
    for members, count in spare_pools(problem):
        nodes[members] = np.maximum(nodes[members], count)
    return np.asarray(nodes * lost_with_node(problem))


def failures(problem: FleetProblem, within: Sequence[int] | None = None) -> list[Array]:
    """List the failures that the fleet must survive, each as the replicas that it takes of every option, (O,).

    The first failure takes nothing. With spare nodes, there is one for every choice of nodes to lose: of any device,
    and of each device or domain that has spare nodes of its own. within: options whose nodes fail; all by default.
    """
    among, each = set(range(len(problem.options)) if within is None else within), lost_with_node(problem)
    out = [np.zeros(len(problem.options))]
    for members, count in spare_pools(problem):
        for nodes in combinations_with_replacement([o for o in members if o in among], count):
            lost = np.zeros(len(problem.options))
            for o in nodes:
                lost[o] += each[o]
            out.append(lost)
    return out


def slowest(problem: FleetProblem) -> Array:
    """Return the least throughput of each option and class over all worlds in which it serves, (O, C), inf for none."""
    all_worlds = np.stack([problem.throughput, *[w.throughput for w in problem.worlds]])
    usable = (np.nan_to_num(all_worlds) > 0) & problem.serves()
    return np.asarray(np.where(usable, all_worlds, np.inf).min(axis=0))


def spot_options(problem: FleetProblem) -> list[int]:
    """List the options that may stand on spot devices: those on one device type that has such a supply."""
    spot = {s.device for s in problem.inventory.supplies if s.kind == "spot"}
    return [i for i, o in enumerate(problem.options) if len(o.devices_of) == 1 and o.device in spot]


def spot_up(problem: FleetProblem) -> Array:
    """Return the share of the time that a spot replica serves, (O,): 1 / (1 + interruptions per hour x start-up)."""
    often = {s.device: s.interruptions_per_hour for s in problem.inventory.supplies if s.kind == "spot"}
    return np.array([1.0 / (1.0 + often.get(o.device, 0.0) * o.start_up_h) for o in problem.options])


def max_replicas(problem: FleetProblem) -> Index:
    """Return the replicas of each option that no optimum exceeds, (O,).

    They are enough for all traffic that the option can serve, plus what failures take. An option alone needs at most
    ceil(its load), and the load of all classes together is their sum. Where the most traffic is asked for, the limits
    say how many there may be.
    """
    return np.asarray(most_steady(problem) + most_spot(problem), dtype=np.intp)


def _alone(problem: FleetProblem) -> Array:
    """Return the replicas of each option that serve all its classes at their peak, rounded up, (O,)."""
    up = np.array([o.availability for o in problem.options])
    return np.asarray(np.ceil((problem.rate.max(axis=0) / slowest(problem)).sum(axis=1) / up + INTEGRALITY_TOLERANCE))


def most_steady(problem: FleetProblem) -> Index:
    """Return the replicas of each option beside those on spot devices that no optimum exceeds, (O,)."""
    if problem.objective == "traffic":
        return _most_within_limits(problem)
    current = np.array([o.current if o.migration_usd else 0 for o in problem.options])
    kept = np.maximum(current, 0 if problem.kept is None else problem.kept)
    return np.asarray(np.maximum(_alone(problem) + most_lost(problem), kept), dtype=np.intp)


def most_spot(problem: FleetProblem) -> Index:
    """Return the replicas of each option on spot devices that no optimum exceeds, (O,).

    What is left of them serves everything: after a loss, and while some of them start again.
    """
    supplies = {s.device: s for s in problem.inventory.supplies if s.kind == "spot"}
    if problem.objective == "traffic":
        on = np.isin(np.arange(len(problem.options)), spot_options(problem))
        return np.asarray(_most_within_limits(problem) * on)
    out = np.zeros(len(problem.options), dtype=np.intp)
    alone, failing = _alone(problem) / spot_up(problem), most_lost(problem)
    for o in spot_options(problem):
        lost = supplies[problem.options[o].device].lost_share
        left = 1.0 - lost if lost < 1.0 else 1.0
        out[o] = min(np.ceil(alone[o] / left) + failing[o], MOST_REPLICAS)
    return out


def _most_within_limits(problem: FleetProblem) -> Index:
    """Return the most replicas of each option that each limit alone allows, (O,); raise `InputError` for no bound."""
    count = len(problem.options)
    allowed = [(bound, taken[:count]) for bound, taken in limits(problem).values()]
    for device in supplied(problem):
        on_offer = sum(s.most for s in problem.inventory.supplies if s.device == device)
        allowed.append((on_offer, taken_of(problem, device)))
    allowed.append((float(np.fmin(problem.inventory.budget, problem.inventory.mean_budget)), cheapest(problem)))
    most = np.full(count, np.inf)
    for bound, each in allowed:
        most = np.fmin(most, np.floor(bound / np.where(each > 0, each, np.nan) + INTEGRALITY_TOLERANCE))
    endless = np.nonzero((most > MOST_REPLICAS) & np.asarray(problem.serves().any(axis=1)))[0]
    if len(endless):
        raise InputError(
            f"fleet: the most traffic has no end, because nothing limits option {problem.options[endless[0]].name!r}; "
            "give stock, power, nodes or a budget"
        )
    return np.asarray(np.minimum(most, MOST_REPLICAS), dtype=np.intp)


def cheapest(problem: FleetProblem) -> Array:
    """Return the least USD per hour that a replica of each option can cost, (O,), its part of a node included."""
    rented = supplied(problem)
    least = {d: min(s.usd_per_hour for s in problem.inventory.supplies if s.device == d) for d in rented}
    out = prices(problem)[: len(problem.options)].copy()
    for device in problem.device_names:
        each = least.get(device, problem.inventory.node_usd_per_hour.get(device, 0.0))
        out += each * taken_of(problem, device) if device in rented or device in problem.by_node else 0.0
    return out
