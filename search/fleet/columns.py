"""Find fleets of single parts at given prices: columns of the program that joins them (`search.fleet.master`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.clock import Clock
from search.fleet.coupling import Coupling, Part, Tiers, part_problem
from search.fleet.floors import Losses, floor, losses, value
from search.fleet.limits import most_steady
from search.fleet.problem import FleetProblem
from search.fleet.program import Ask, Program, formulate
from search.fleet.solve import Solver, run_solver

#: Parts that are solved at the same time. chosen: the solver leaves Python while it works.
AT_ONCE = 2
#: Gap at which a part may stop. chosen: a tenth of the gap that is asked of a large fleet.
PART_GAP = 1e-3
#: Seconds that a part gets at least, and how many times its share of the time at most.
LEAST_S, MOST_SHARE = 0.05, 10.0
#: Options of a part of several classes that its first columns are made of. chosen: it takes tenths of a second.
FEW_OPTIONS = 4
#: Place of an option that a program is without.
NOWHERE = -1
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
    """The parts of a problem, and what solves them.

    programs: of each part, written once. lost: what the parts of some options and classes may lose.
    """

    join: Coupling
    parts: Sequence[Part]
    solver: Solver
    programs: dict[int, Program] = field(default_factory=dict)
    lost: dict[tuple[tuple[int, ...], tuple[int, ...]], Losses] = field(default_factory=dict)

    def usage(self, column: Column) -> Array:
        """Return what a column takes of each row, (R,)."""
        rows = list(self.parts[column.part].options)
        return np.asarray(self.join.replicas[:, rows] @ column.replicas + self.join.lent[:, rows] @ column.spot)

    def ranked(self, columns: Iterable[Column], dual: Array) -> dict[int, list[tuple[float, Column]]]:
        """Return the columns of each part with their cost at prices `dual` (R, S), USD per hour, the cheapest first."""
        steady, lent = self.join.usd(dual)
        out: dict[int, list[tuple[float, Column]]] = {}
        for column in columns:
            slot, rows = self.parts[column.part].slot, list(self.parts[column.part].options)
            usd = float(steady[rows, slot] @ column.replicas + lent[rows, slot] @ column.spot)
            out.setdefault(column.part, []).append((usd, column))
        return {number: sorted(some, key=lambda one: one[0]) for number, some in out.items()}

    def floors(self, dual: Array) -> Array:
        """Return a bound on what each part adds to the mean cost at prices `dual` (R, S), inf where it has no fleet."""
        steady, lent = self.join.usd(dual)
        return np.array([self._floor(n, steady, steady + lent) for n in range(len(self.parts))])

    def _floor(self, number: int, steady: Array, spot: Array) -> float:
        """Return the bound of a part where replicas beside spot devices and on them cost so much, (O, S) each."""
        problem, part = self.join.problem, self.parts[number]
        key = part.options, part.classes
        if key not in self.lost:
            self.lost[key] = losses(problem, part)
        rows = list(part.options)
        rate = problem.rate[np.ix_(part.periods, part.classes)]
        own = steady[rows, part.slot], spot[rows, part.slot]
        lost = self.lost[key]
        return max(floor(lost, value(lost, one, own), one, *own) for one in rate)

    def few_columns(self, numbers: Sequence[int], dual: Array, gap: float, clock: Clock) -> list[Column]:
        """Return a column of each of some parts at prices `dual` (R, S), of few of its options, as time allows.

        They are those whose replicas cost least for what they serve, at the worths of the requests of `floors`, and
        for each class the one that serves it at the least cost.
        """
        free, left = np.full(len(self.join.names), np.inf), iter(range(len(numbers), 0, -1))

        def one(place: int) -> list[Column]:
            """Return the column of a part, in a list; an empty one where none was found in time."""
            share, number = max(clock.left() * AT_ONCE / next(left), LEAST_S), numbers[place]
            return self.within([number], dual, free, None, (gap, share), (), {number: self.few(number, dual)}) or []

        return [c for some in at_once(one, range(len(numbers))) for c in some]

    def few(self, number: int, dual: Array) -> set[int]:
        """Return the few options of `few_columns` of a part at prices `dual` (R, S)."""
        steady, lent = self.join.usd(dual)
        problem, part = self.join.problem, self.parts[number]
        lost, rows = losses(problem, part), np.array(part.options)
        own = steady[rows, part.slot], (steady + lent)[rows, part.slot]
        rate = problem.rate[np.ix_(part.periods, part.classes)].max(axis=0)
        usd = np.where(np.isnan(lost.lost_share), own[0], np.minimum(*own))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nan_to_num(usd / lost.worth(value(lost, rate, own)), nan=np.inf)
            each = np.nan_to_num(usd[:, None] / lost.speed, nan=np.inf)
        cheapest = {*np.argsort(ratio, kind="stable")[:FEW_OPTIONS].tolist(), *each.argmin(axis=0).tolist()}
        return {part.options[i] for i in cheapest}

    def priced(self, dual: Array, gap: float, clock: Clock, known: Iterable[Column] = ()) -> tuple[float, list[Column]]:
        """Bound the cost of every part at prices `dual` (R, S): at once, then by the solver while time is left.

        The solver begins with the parts whose cheapest column of those that are `known` is farthest from the bound.
        Returns (bound on the cost of the whole at these prices, a column per part that has one in time). The bound is
        inf where a part has no fleet at all.
        """
        bounds, best = self.floors(dual), {n: some[0] for n, some in self.ranked(known, dual).items()}
        if np.isposinf(bounds).any():
            return np.inf, []
        far = np.array([best[n][0] if n in best else np.inf for n in range(len(self.parts))]) - bounds
        order = np.argsort(-far, kind="stable")
        left = iter(range(len(self.parts), 0, -1))

        def one(place: int) -> Column | None:
            """Solve a part, and keep its bound; returns its column."""
            number = int(order[place])
            share = clock.left() * AT_ONCE / next(left)
            begin = best[number][1] if number in best else None
            if clock.over or far[number] <= gap * bounds[number]:
                return begin or self._alone(number, part_problem(self.join, self.parts[number], dual), dual)
            bound, column = self._solved(number, dual, gap, max(min(MOST_SHARE * share, clock.left()), LEAST_S), begin)
            bounds[number] = max(bounds[number], bound * self.join.weight[self.parts[number].slot])
            return column or begin

        found = at_once(one, range(len(self.parts)))
        return float(bounds.sum()) - self.join.worth(dual), [c for c in found if c is not None]

    def _solved(
        self, number: int, dual: Array, gap: float, seconds: float, begin: Column | None = None
    ) -> tuple[float, Column | None]:
        """Solve a part at prices, from the column `begin`: (bound in USD per hour, its column)."""
        problem = part_problem(self.join, self.parts[number], dual)
        program = self.programs.get(number)
        if program is None:
            program = self.programs[number] = formulate(problem, Ask(objective="cost"))
        else:
            program.problem = problem
            program.linear.setObjective(program.total("cost"))
        start = self._start(program, self.parts[number].options, [begin] if begin is not None else [])
        try:
            if not run_solver(program, self.solver, seconds, gap, self._settings(number), start):
                return np.inf, None
        except Infeasible:
            return 0.0, self._alone(number, problem, dual)
        return max(program.bound, 0.0), _column(number, program)

    def _start(self, program: Program, options: Sequence[int], now: Sequence[Column]) -> list[tuple[Any, float]]:
        """Return (variable, value) of the replicas of some columns. options: of the program."""
        out = []
        for column in now:
            for o, replicas, spot in zip(self.parts[column.part].options, column.replicas, column.spot, strict=True):
                if o not in options:
                    continue
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
        few: Mapping[int, Set[int]] | None = None,
    ) -> list[Column] | None:
        """Return the cheapest fleets of some parts of a slot at prices, which take at most `left` (R,) of each row.

        None without them, or where none were found in time. tiers: see `part_problem`. how: gap, seconds.
        now: columns of the parts to begin with. few: options that each part may use, all by default.
        """
        some = [self.parts[n] for n in numbers]
        able = {o for n in numbers for o in (self.parts[n].options if few is None else few[n])}
        options = tuple(sorted(able))
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
        rows = [[options.index(o) if o in able else NOWHERE for o in part.options] for part in some]
        columns = [[classes.index(c) for c in part.classes] for part in some]
        return [_column(n, program, r, c) for n, r, c in zip(numbers, rows, columns, strict=True)]


def _column(number: int, program: Program, rows: list[int] | None = None, classes: list[int] | None = None) -> Column:
    """Return the column of a solved program of a part. rows, classes: where those of the part stand; all by default."""
    numbers, shares = program.solved(), program.solved_shares()
    some = np.arange(len(numbers.replicas)) if rows is None else np.array(rows)
    asked, used = np.arange(shares.shape[1]) if classes is None else np.array(classes), some != NOWHERE
    replicas, spot = (np.where(used, n[some, 0], 0).astype(float) for n in (numbers.replicas, numbers.spot))
    return Column(number, replicas, np.minimum(spot, replicas), shares[np.ix_(some, asked)] * used[:, None, None])


def at_once(task: Callable[[int], Any], numbers: range) -> list[Any]:
    """Return what `task` makes of each number, a few at the same time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(task, numbers))
