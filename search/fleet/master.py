"""Choose one column for each part of a fleet, and what the supplies hold: the program that joins the parts.

Variables: chosen[j] in {0, 1}, 1 where the fleet of column j is taken; held[k,s] as in `search.fleet.paying`;
short[r,s] >= 0, what a row lacks, at a price that no fleet pays. usage[r,j] is what a column takes of a row.

one[i]      sum over the columns j of part i of chosen[j] = 1
row[r,s]    sum over columns j of slot s of usage[r,j] chosen[j] + sum_k held[r,k] held[k,s] <= bound[r] + short[r,s]

Its linear program prices the rows (Dantzig and Wolfe 1960), its integer program is a fleet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from search.fleet.columns import Column, Parts
from search.fleet.solve import Solver, solver_of

#: Price of what a row lacks, in prices of the dearest replica for as much as a replica takes of it. chosen.
SHORT = 3.0
#: How far prices move at once: relative to what they are, and more in prices of the dearest replica. chosen.
FAR, FAR_USD = 0.5, 0.05
#: What a row may lack by rounding, relative to what a replica takes of it.
TOLERANCE = 1e-6


@dataclass
class Master:
    """The program over some columns. linear: of PuLP. chosen: variable by column. held: by (supply, slot)."""

    parts: Parts
    columns: Sequence[Column]
    linear: Any
    chosen: list[Any]
    held: dict[tuple[int, int], Any]
    short: dict[tuple[int, int], Any]
    near: Array | None = None

    def solve(self, solver: Solver, seconds: float, gap: float, *, whole: bool) -> bool:
        """Solve the program, or its linear program; returns whether there is a solution."""
        import pulp

        self.linear.solve(solver_of(solver, seconds, gap, whole=whole))
        return bool(self.linear.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible))

    def duals(self) -> Array:
        """Return the prices of the rows by the linear program, (R, S)."""
        join = self.parts.join
        out = np.zeros((len(join.names), len(join.weight))) if self.near is None else self.near.copy()
        for constraint in self.linear.constraints():
            if constraint.name.startswith("row_"):
                _, r, s = constraint.name.split("_")
                out[int(r), int(s)] = abs(constraint.pi or 0.0)
        return out

    def level(self) -> dict[str, float]:
        """Return the reserved devices by name, in whole numbers."""
        supplies = self.parts.join.problem.inventory.supplies
        held = {s.device: self.held[k, 0].varValue for k, s in enumerate(supplies) if s.kind == "reserved"}
        return {device: float(np.rint(value or 0.0)) for device, value in held.items()}


def master(parts: Parts, columns: Sequence[Column], near: Array | None = None) -> Master:
    """Write the program over `columns`, of which every part has one.

    near: (R, S) prices from which those of the linear program stay within `FAR` (a box around them, Marsten et al.
    1975): what a row lacks is bought, and what it leaves is sold, at the ends of the box.
    """
    import pulp

    join, linear = parts.join, pulp.LpProblem("parts", pulp.LpMinimize)
    steady, lent = join.usd(np.zeros((len(join.names), len(join.weight))))
    dearest = max([*[s.usd_per_hour for s in join.problem.inventory.supplies], float(steady.max()), 1.0])
    found = Master(parts, columns, linear, [], _held(parts, linear), {}, near)
    terms: list[list[list[Any]]] = [[[] for _ in join.weight] for _ in join.names]
    of_part: dict[int, list[Any]] = {}
    cost = [_usd(parts, k, s) * v for (k, s), v in found.held.items()]
    for j, column in enumerate(columns):
        part = parts.parts[column.part]
        chosen = linear.add_variable(f"chosen_{j}", 0, 1, pulp.LpInteger)
        found.chosen.append(chosen)
        of_part.setdefault(column.part, []).append(chosen)
        rows = list(part.options)
        cost.append(float(steady[rows, part.slot] @ column.replicas + lent[rows, part.slot] @ column.spot) * chosen)
        for r, amount in enumerate(parts.usage(column).tolist()):
            if amount:
                terms[r][part.slot].append(amount * chosen)
    cost += _rows(found, terms, dearest)
    for i, some in of_part.items():
        linear += (pulp.lpSum(some) == 1, f"one_{i}")
    linear += pulp.lpSum(cost)
    return found


def _rows(found: Master, terms: list[list[list[Any]]], dearest: float) -> list[Any]:
    """Add the constraints row[r,s], and return what is paid for what they lack. terms: of the columns, by row and slot.

    dearest: price of the dearest replica.
    """
    import pulp

    join, linear, near, cost = found.parts.join, found.linear, found.near, list[Any]()
    scale = np.maximum(np.abs(join.replicas).max(axis=1, initial=0.0), np.abs(join.lent).max(axis=1, initial=0.0))
    for r, of_row in enumerate(terms):
        for s, used in enumerate(of_row):
            if not used:
                continue
            short = found.short[r, s] = linear.add_variable(f"short_{r}_{s}", 0)
            most = SHORT * dearest / max(float(scale[r]), TOLERANCE)
            if near is not None:
                most = min(most, float(near[r, s]) * (1.0 + FAR) + FAR_USD * most * float(join.weight[s]))
                sold = linear.add_variable(f"sold_{r}_{s}", 0)
                cost.append(-float(near[r, s]) * (1.0 - FAR) * sold)
                used.append(sold)
            cost.append(most * short)
            used += [float(join.held[r, k]) * found.held[k, s] for k in np.nonzero(join.held[r])[0].tolist()]
            linear += (pulp.lpSum(used) <= float(join.bound[r]) + short, f"row_{r}_{s}")
    return cost


def _held(parts: Parts, linear: Any) -> dict[tuple[int, int], Any]:
    """Add the variables held[k,s]: of a reserved supply a whole number, the same in all slots."""
    import pulp

    out: dict[tuple[int, int], Any] = {}
    for k, supply in enumerate(parts.join.problem.inventory.supplies):
        most = float(supply.most) if np.isfinite(supply.most) else None
        for s in range(len(parts.join.weight)):
            if supply.kind == "reserved":
                out[k, s] = out[k, 0] if s else linear.add_variable(f"held_{k}", 0, most, pulp.LpInteger)
            else:
                out[k, s] = linear.add_variable(f"held_{k}_{s}", 0, most)
    return out


def _usd(parts: Parts, supply: int, slot: int) -> float:
    """Return what a device held by a supply in a slot adds to the mean cost, USD per hour."""
    return float(parts.join.problem.inventory.supplies[supply].usd_per_hour * parts.join.weight[slot])
