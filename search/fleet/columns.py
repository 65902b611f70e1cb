"""Find fleets of single parts at given prices: columns of the program that joins them (`search.fleet.master`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.clock import Clock
from search.fleet.coupling import Coupling, Part, Tiers, part_problem
from search.fleet.limits import most_steady
from search.fleet.problem import FleetProblem
from search.fleet.program import Ask, Program, formulate
from search.fleet.solve import Solver, linear_bound, run_solver

#: Parts that are solved at the same time. chosen: the solver leaves Python while it works.
AT_ONCE = 2
#: Gap at which a part may stop. chosen: a tenth of the gap that is asked of a large fleet.
PART_GAP = 1e-3
#: Seconds that a part gets at least, and how many times its share of the time at most.
LEAST_S, MOST_SHARE = 0.05, 10.0
#: Settings of HiGHS for a part of one class: it has a fleet at once, so that looking for others first takes time only.
PLAIN = {
    "mip_heuristic_effort": 0.0,
    "mip_allow_restart": False,
    "mip_detect_symmetry": False,
    "mip_heuristic_run_rins": False,
    "mip_heuristic_run_rens": False,
    "mip_heuristic_run_root_reduced_cost": False,
    "mip_heuristic_run_feasibility_jump": False,
}


@dataclass(frozen=True)
class Column:
    """A fleet of one part: N options, C classes, K periods. part: its number. replicas, spot: (N,). shares: (N, C, K).

    It survives all cases of its part.
    """

    part: int
    replicas: Array
    spot: Array
    shares: Array

    @property
    def key(self) -> tuple[int, bytes, bytes]:
        """Return what tells columns apart."""
        return self.part, self.replicas.tobytes(), self.spot.tobytes()


@dataclass
class Parts:
    """The parts of a problem, and what solves them. programs: of each part, written once."""

    join: Coupling
    parts: Sequence[Part]
    solver: Solver
    programs: dict[int, Program] = field(default_factory=dict)

    def usage(self, column: Column) -> Array:
        """Return what a column takes of each row, (R,)."""
        rows = list(self.parts[column.part].options)
        return np.asarray(self.join.replicas[:, rows] @ column.replicas + self.join.lent[:, rows] @ column.spot)

    def priced(self, dual: Array, gap: float, clock: Clock) -> tuple[float, list[Column]]:
        """Solve every part at prices `dual` (R, S).

        Returns (bound on the cost of the whole at these prices, a column per part that has one in time). The bound is
        inf where a part has no fleet at all. A part that is not solved in time costs at least nothing.
        """
        left = iter(range(len(self.parts), 0, -1))

        def one(number: int) -> tuple[float, Column | None]:
            """Return the bound of a part, and its column."""
            share = clock.left() * AT_ONCE / next(left)
            if clock.over:
                return 0.0, self._alone(number, part_problem(self.join, self.parts[number], dual), dual)
            return self._solved(number, dual, gap, max(min(MOST_SHARE * share, clock.left()), LEAST_S))

        found = list(at_once(one, range(len(self.parts))))
        bound = sum(b * self.join.weight[self.parts[i].slot] for i, (b, _) in enumerate(found))
        return float(bound) - self.join.worth(dual), [c for _, c in found if c is not None]

    def _solved(self, number: int, dual: Array, gap: float, seconds: float) -> tuple[float, Column | None]:
        """Solve a part at prices: (bound in USD per hour, its column)."""
        problem = part_problem(self.join, self.parts[number], dual)
        program = self.programs.get(number)
        if program is None:
            program = self.programs[number] = formulate(problem, Ask(objective="cost"))
        else:
            program.problem = problem
            program.linear.setObjective(program.total("cost"))
        try:
            if not run_solver(program, self.solver, seconds, gap, self._settings(number)):
                return np.inf, None
        except Infeasible:
            return max(linear_bound(program, self.solver, seconds), 0.0), self._alone(number, problem, dual)
        bound = program.bound if np.isfinite(program.bound) else max(linear_bound(program, self.solver, seconds), 0.0)
        return bound, _column(number, program)

    def _start(self, program: Program, options: Sequence[int], now: Sequence[Column]) -> list[tuple[Any, float]]:
        """Return (variable, value) of the replicas of some columns. options: of the program."""
        out = []
        for column in now:
            for o, replicas, spot in zip(self.parts[column.part].options, column.replicas, column.spot, strict=True):
                at = options.index(o)
                out.append((program.replicas[at, 0], float(replicas)))
                if (at, 0) in program.spot:
                    out.append((program.spot[at, 0], float(spot)))
        return out

    def _settings(self, number: int) -> dict[str, Any]:
        """Return the settings of the solver for a part."""
        return PLAIN if len(self.parts[number].classes) == 1 and self.solver == "highs" else {}

    def _alone(self, number: int, problem: FleetProblem, dual: Array) -> Column | None:
        """Return the fleet of the one option that serves all of a part at the least cost; None without one.

        problem: of the part at prices `dual` (R, S).
        """
        able = problem.serves().all(axis=1) & (problem.inventory.spare_domains == 0) & (not problem.worlds)
        if not able.any():
            return None
        usd, _ = self.join.usd(dual)
        usd = usd[list(self.parts[number].options), self.parts[number].slot]
        steady = most_steady(problem)
        best = int(np.argmin(np.where(able, usd * steady, np.inf)))
        chosen = np.arange(len(usd)) == best
        shares = np.broadcast_to(chosen[:, None, None] * 1.0, (len(usd), *problem.rate.T.shape)).copy()
        return Column(number, np.where(chosen, steady, 0).astype(float), np.zeros(len(usd)), shares)

    def within(
        self,
        numbers: Sequence[int],
        dual: Array,
        left: Array,
        tiers: Tiers | None,
        how: tuple[float, float],
        now: Sequence[Column] = (),
    ) -> list[Column] | None:
        """Return the cheapest fleets of some parts of a slot at prices, which take at most `left` (R,) of each row.

        None without them, or where none were found in time. tiers: see `part_problem`. how: gap, seconds.
        now: columns of the parts to begin with.
        """
        some = [self.parts[n] for n in numbers]
        options = tuple(sorted(o for part in some for o in part.options))
        classes = tuple(sorted(c for part in some for c in part.classes))
        joint = replace(some[0], options=options, classes=classes)
        program = formulate(part_problem(self.join, joint, dual, left, tiers), Ask(objective="cost"))
        settings = self._settings(numbers[0]) if len(some) == 1 else {}
        try:
            if not run_solver(
                program, self.solver, max(how[1], LEAST_S), how[0], settings, self._start(program, options, now)
            ):
                return None
        except Infeasible:
            return None
        rows = [[options.index(o) for o in part.options] for part in some]
        columns = [[classes.index(c) for c in part.classes] for part in some]
        return [_column(n, program, r, c) for n, r, c in zip(numbers, rows, columns, strict=True)]


def _column(number: int, program: Program, rows: list[int] | None = None, classes: list[int] | None = None) -> Column:
    """Return the column of a solved program of a part. rows, classes: where those of the part stand; all by default."""
    numbers, shares = program.solved(), program.solved_shares()
    some = np.arange(len(numbers.replicas)) if rows is None else np.array(rows)
    asked = np.arange(shares.shape[1]) if classes is None else np.array(classes)
    replicas, spot = numbers.replicas[some, 0].astype(float), numbers.spot[some, 0].astype(float)
    return Column(number, replicas, np.minimum(spot, replicas), shares[np.ix_(some, asked)])


def at_once(task: Callable[[int], Any], numbers: range) -> list[Any]:
    """Return what `task` makes of each number, a few at the same time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(task, numbers))
