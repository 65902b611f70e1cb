"""Choose one column for each part of a slot by a small integer program; the reserved devices are given.

Variables: chosen[j] in {0, 1}, 1 where column j is taken; taken[d,i] >= 0, devices of tier i of device d, at its price
(`coupling.Tiers`). usage[r,j] is what a column takes of a row.

one[p]      sum over the columns j of part p of chosen[j] = 1
source[d]   sum_j usage[source[d],j] chosen[j] <= sum_i taken[d,i]
row[r]      sum_j usage[r,j] chosen[j] <= capacity[r], for every other row
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from search.fleet.decomposition.columns import Column, Parts
from search.fleet.decomposition.coupling import Tiers
from search.scenario import Supply

#: Columns of a part that are looked at: the cheapest at the prices of the rows. Chosen: more of them are hardly taken.
MOST_COLUMNS = 40
#: Columns of a part whose options are those that a slot is solved with. Chosen: more of them take longer to solve.
USED_COLUMNS = 4
#: Gap at which the choice of a slot may stop.
GAP = 5e-4


def candidates(parts: Parts, pool: Iterable[Column], dual: Array, kept: Sequence[Column]) -> dict[int, list[Column]]:
    """Return the cheapest columns of each slot at prices `dual` (R, S), and those that are kept in any case."""
    out: dict[int, dict[tuple[int, bytes, bytes], Column]] = {}
    for number, some in parts.ranked(pool, dual).items():
        out.setdefault(parts.parts[number].slot, {}).update({c.key: c for _, c in some[:MOST_COLUMNS]})
    for column in kept:
        out.setdefault(parts.parts[column.part].slot, {})[column.key] = column
    return {slot: list(some.values()) for slot, some in out.items()}


def support(parts: Parts, pool: Iterable[Column], dual: Array, kept: Sequence[Column]) -> dict[int, set[int]]:
    """Return the options in use in the cheapest columns of each part at prices `dual` (R, S), and in those kept.

    A part whose columns use none, as one without traffic, has its first option.
    """
    out: dict[int, set[int]] = {}
    cheapest = [c for some in parts.ranked(pool, dual).values() for _, c in some[:USED_COLUMNS]]
    for column in [*cheapest, *kept]:
        used = np.array(parts.parts[column.part].options)[column.replicas > 0]
        out.setdefault(column.part, set()).update(used.tolist())
    return {number: used or {parts.parts[number].options[0]} for number, used in out.items()}


def choice(parts: Parts, columns: Sequence[Column], usd: Array, tiers: Tiers, seconds: float) -> list[Column] | None:
    """Return the cheapest columns of a slot, one of each part that has any; None where none fit, or not in time.

    usd: (J,) USD per hour of each column in the slot, spot devices included. tiers: of the other devices.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array, hstack, vstack

    join, count = parts.join, len(columns)
    each = [(join.row(f"source[{device}]"), price, most) for device, some in tiers.items() for price, most in some]
    usage = coo_array(np.array([parts.usage(c) for c in columns]).T)
    source = [r for r, _, _ in each]
    supplied = coo_array((-np.ones(len(each)), (source, range(len(each)))), (len(join.names), len(each)))
    limit = join.capacity.copy()
    limit[source] = 0.0
    which = np.unique([c.part for c in columns], return_inverse=True)[1]
    one = coo_array((np.ones(count), (which, range(count))), (which.max() + 1, count + len(each)))
    low = np.concatenate([np.full(len(limit), -np.inf), np.ones(which.max() + 1)])
    matrix: Any = vstack([hstack([usage, supplied]), one])
    found = milp(
        np.concatenate([usd, [price for _, price, _ in each]]),
        integrality=np.repeat([1, 0], [count, len(each)]),
        bounds=Bounds(0.0, np.concatenate([np.ones(count), [most for _, _, most in each]])),
        constraints=LinearConstraint(matrix, low, np.concatenate([limit, np.ones(which.max() + 1)])),
        options={"time_limit": seconds, "mip_rel_gap": GAP},
    )
    if found.x is None:
        return None
    return [column for column, taken in zip(columns, found.x[:count].tolist(), strict=True) if taken > 0.5]


def level_of(supplies: Sequence[Supply], held: Array) -> dict[str, float]:
    """Return the reserved devices by name. held: (K, S) devices of each supply."""
    return {s.device: float(held[k, 0]) for k, s in enumerate(supplies) if s.kind == "reserved"}
