"""Price the rows that join the parts of a fleet: the cheapest mix of columns of the parts (Dantzig and Wolfe 1960).

Variables: chosen[j] >= 0, the part that is taken of column j; held[k,s] as in
`search.fleet.integer_program.supply_constraints`; short[r,s] >= 0, what a row lacks, at a price that no fleet pays.
usage[r,j] is what a column takes of a row.

one[i]      sum over the columns j of part i of chosen[j] = 1
row[r,s]    sum over columns j of slot s of usage[r,j] chosen[j] + sum_k held[r,k] held[k,s] <= bound[r] + short[r,s]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.arrays import Array, Index
from search.fleet.decomposition.columns import Column, Parts

#: Price of what a row lacks, in prices of the dearest replica for as much as a replica takes of it. Chosen.
SHORT = 3.0
#: How far prices move at once: relative to what they are, and more in prices of the dearest replica. Chosen.
FAR, FAR_USD = 0.5, 0.05
#: What a row may lack by rounding, relative to what a replica takes of it.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Mix:
    """The cheapest mix. dual: (R, S) prices of the rows. level: reserved devices by name, rounded. usd: per hour."""

    dual: Array
    level: dict[str, float]
    usd: float


def cheapest_mix(parts: Parts, columns: Sequence[Column], near: Array, seconds: float) -> Mix | None:
    """Return the cheapest mix of `columns`, of which every part has one; None where it is not found in time.

    near: (R, S) prices from which the new ones stay within `FAR` (a box around them, Marsten et al. 1975): what a row
    lacks is bought, and what it leaves is sold, at the ends of the box.
    """
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    join, shape, first = parts.join, near.shape, len(columns)
    held, of = _held(parts)
    above, count = _rows(parts, columns, held, len(of)), first + len(of)
    high, low = _box(parts, near)
    usd, _ = join.usd(np.zeros(shape))
    own = [usd[list(parts.parts[c.part].options), parts.parts[c.part].slot] @ c.replicas for c in columns]
    cost = np.concatenate([own, _held_usd(parts, held, len(of)), high.ravel(), -low.ravel()])
    ends = np.full((len(cost), 2), [0.0, np.inf])
    ends[first:count, 1] = of
    which = np.unique([c.part for c in columns], return_inverse=True)[1]
    one = coo_array((np.ones(first), (which, np.arange(first))), (which.max() + 1, len(cost)))
    limit, ones = np.repeat(join.bound, shape[1]), np.ones(which.max() + 1)
    how = {"time_limit": seconds}
    solve: Any = linprog  # its types know no sparse arrays
    found = solve(cost, above, limit, one.tocsr(), ones, ends, options=how)
    if found.status != 0:
        return None
    level = {
        s.device: float(np.rint(found.x[first + held[k, 0]]))
        for k, s in enumerate(join.problem.inventory.supplies)
        if s.kind == "reserved"
    }
    return Mix(np.maximum(-found.ineqlin.marginals, 0.0).reshape(shape), level, float(found.fun))


def _rows(parts: Parts, columns: Sequence[Column], held: Index, others: int) -> Any:
    """Return the constraints row[r,s] as a sparse array: columns, `others` of held, what is short, what is sold.

    held: (K, S) numbers of the variables held[k,s].
    """
    from scipy.sparse import coo_array

    join = parts.join
    size, slots = len(join.names) * len(join.weight), np.array([parts.parts[c.part].slot for c in columns])
    usage = np.array([parts.usage(c) for c in columns]).T  # (R, J)
    r, j = np.nonzero(usage)
    of_row, k = np.nonzero(join.held)
    lack, first = np.arange(size), len(columns) + others
    number = of_row[:, None] * len(join.weight) + np.arange(len(join.weight))
    rows = np.concatenate([r * len(join.weight) + slots[j], number.ravel(), lack, lack])
    places = np.concatenate([j, (len(columns) + held[k]).ravel(), first + lack, first + size + lack])
    each = np.repeat(join.held[of_row, k], len(join.weight))
    values = np.concatenate([usage[r, j], each, -np.ones(size), np.ones(size)])
    return coo_array((values, (rows, places)), (size, first + 2 * size)).tocsr()


def _held(parts: Parts) -> tuple[Index, Array]:
    """Return (the number of the variable held[k,s], (K, S); the most of each variable).

    That of a reserved supply is the same in all slots.
    """
    supplies, slots = parts.join.problem.inventory.supplies, len(parts.join.weight)
    out, most = np.zeros((len(supplies), slots), dtype=np.intp), list[float]()
    for k, supply in enumerate(supplies):
        own = 1 if supply.kind == "reserved" else slots
        out[k] = len(most) + np.arange(slots) % own
        most += [float(supply.most)] * own
    return out, np.array(most)


def _held_usd(parts: Parts, held: Index, count: int) -> Array:
    """Return what one of each variable held[k,s] adds to the mean cost, (count,). held: (K, S) their numbers."""
    usd = np.array([s.usd_per_hour for s in parts.join.problem.inventory.supplies])
    each = usd[:, None] * parts.join.weight
    return np.asarray(np.bincount(held.ravel(), each.ravel(), minlength=count), dtype=float)


def _box(parts: Parts, near: Array) -> tuple[Array, Array]:
    """Return the highest and the lowest prices of the rows, (R, S) each, around `near`."""
    join = parts.join
    steady, _ = join.usd(np.zeros(near.shape))
    dearest = max([*[s.usd_per_hour for s in join.problem.inventory.supplies], float(steady.max()), 1.0])
    scale = np.maximum(np.abs(join.replicas).max(axis=1, initial=0.0), np.abs(join.lent).max(axis=1, initial=0.0))
    most = (SHORT * dearest / np.maximum(scale, TOLERANCE))[:, None]
    high = np.minimum(most, near * (1.0 + FAR) + FAR_USD * most * join.weight)
    return high, np.minimum(near * (1.0 - FAR), high)
