"""Column generation: find fleets of single parts (columns) at given prices of the rows that join the parts.

`master` combines columns and returns new prices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.decomposition.benders_cuts import solve_with_cuts
from search.fleet.decomposition.cost_bounds import Losses, floor, losses, value
from search.fleet.decomposition.coupling import Coupling, Part, Tiers, part_problem
from search.fleet.integer_program.deadline import Deadline
from search.fleet.integer_program.program import Ask, Program, formulate
from search.fleet.integer_program.solve import Solver, run_solver
from search.fleet.problem_data.limits import most_steady
from search.fleet.problem_data.problem import FleetProblem

#: Parts that are solved at the same time. Chosen: the solver leaves Python while it works.
AT_ONCE = 2
#: Gap at which a part may stop. Chosen: a tenth of the gap that is asked of a large fleet.
PART_GAP = 1e-3
#: Gap at which a part of several classes may stop. Chosen: a narrower one takes several times longer.
SEVERAL_GAP = 4e-3
#: Seconds that a part gets at least, and how many times its share of the time at most.
LEAST_S, MOST_SHARE = 0.05, 10.0
#: Options of a part of several classes that its first columns are made of. Chosen: it takes tenths of a second.
FEW_OPTIONS = 4
#: Worths of requests that the program of a part begins with, at most, the latest of those that were lacking.
MOST_WORTHS = 12
#: Place of an option that a program is without.
NOWHERE = -1
#: Settings of HiGHS for a part, whose failures have no shares: it has a fleet at once, so that looking for others first
#: takes time only.
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

    programs: of each part, written once. lost: what the parts of some options and classes may lose. worths: of requests
    of a part, (C,) each, at which its failures left too little (`benders_cuts`). seeds: (W, C) worths of
    the requests of all classes that every part begins with.
    """

    join: Coupling
    parts: Sequence[Part]
    solver: Solver
    programs: dict[int, Program] = field(default_factory=dict)
    lost: dict[tuple[tuple[int, ...], tuple[int, ...]], Losses] = field(default_factory=dict)
    worths: dict[int, list[Array]] = field(default_factory=dict)
    seeds: Array | None = None

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
        """Return a lower bound on the cost of a part. steady, spot: USD per hour of a replica, (O, S) each."""
        part = self.parts[number]
        rows = list(part.options)
        rate = self.join.problem.rate[np.ix_(part.periods, part.classes)]
        own = steady[rows, part.slot], spot[rows, part.slot]
        lost, known = self._lost(part), self._known(number) if len(part.classes) > 1 else []
        return max(floor(lost, worth, one, *own) for one in rate for worth in [value(lost, one, own), *known])

    def _lost(self, part: Part) -> Losses:
        """Return what a part may lose."""
        key = part.options, part.classes
        if key not in self.lost:
            self.lost[key] = losses(self.join.problem, part)
        return self.lost[key]

    def few_columns(self, numbers: Sequence[int], dual: Array, gap: float, clock: Deadline) -> list[Column]:
        """Return a column of each of some parts at prices `dual` (R, S), of few of its options, as time allows.

        They are those whose replicas cost least for what they serve, at the worths of the requests of `floors`, and
        for each class the one that serves it at the least cost.
        """
        free, left = np.full(len(self.join.names), np.inf), iter(range(len(numbers), 0, -1))

        def one(place: int) -> list[Column]:
            """Return the column of a part, in a list, of one option if need be; an empty one for none in time."""
            share, number = max(clock.left() * AT_ONCE / next(left), LEAST_S), numbers[place]
            found = self.within([number], dual, free, None, (gap, share), (), {number: self.few(number, dual)})
            alone = None if found else self._alone(number, part_problem(self.join, self.parts[number], dual), dual)
            return found or ([alone] if alone else [])

        return [c for some in at_once(one, range(len(numbers))) for c in some]

    def few(self, number: int, dual: Array) -> set[int]:
        """Return the few options of `few_columns` of a part at prices `dual` (R, S)."""
        steady, lent = self.join.usd(dual)
        problem, part = self.join.problem, self.parts[number]
        lost, rows = self._lost(part), np.array(part.options)
        own = steady[rows, part.slot], (steady + lent)[rows, part.slot]
        rate = problem.rate[np.ix_(part.periods, part.classes)].max(axis=0)
        usd = np.where(np.isnan(lost.lost_share), own[0], np.minimum(*own))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nan_to_num(usd / lost.worth(value(lost, rate, own)), nan=np.inf)
            each = np.nan_to_num(usd[:, None] / lost.speed, nan=np.inf)
        cheapest = {*np.argsort(ratio, kind="stable")[:FEW_OPTIONS].tolist(), *each.argmin(axis=0).tolist()}
        return {part.options[i] for i in cheapest}

    def priced(
        self, dual: Array, gap: float, clock: Deadline, known: Iterable[Column] = ()
    ) -> tuple[float, list[Column]]:
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
            near = gap if len(self.parts[number].classes) == 1 else max(gap, SEVERAL_GAP)
            if clock.over or far[number] <= near * bounds[number]:
                return begin or self._alone(number, part_problem(self.join, self.parts[number], dual), dual)
            seconds = max(min(MOST_SHARE * share, clock.left()), LEAST_S)
            bound, column = self._solved(number, dual, near, seconds, begin)
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
            first = self._worths([number], self.parts[number].classes, dual)
            program = self.programs[number] = formulate(problem, Ask(objective="cost", worths=first))
        else:
            program.problem = problem
            program.linear.setObjective(program.total("cost"))
        start = self._start(program, self.parts[number].options, [begin] if begin is not None else [])
        program.bound = 0.0
        try:
            if not self._run(program, [number], (gap, seconds), start):
                return np.inf, None
        except Infeasible:
            return max(program.bound, 0.0), self._alone(number, problem, dual)
        return max(program.bound, 0.0), _column(number, program)

    def _run(
        self, program: Program, numbers: Sequence[int], how: tuple[float, float], start: list[tuple[Any, float]]
    ) -> bool:
        """Solve the program of some parts, adding cuts as needed; return False where there is no solution.

        how: gap, seconds. start: values of a solution to begin with. Raises `Infeasible` where the time was too short.
        """
        clock, settings = Deadline.of(max(how[1], LEAST_S)), self._settings() if len(numbers) == 1 else {}
        fresh = iter([True])

        def run() -> bool:
            """Solve the program as it is; it begins with a solution the first time only, which may lack worths then."""
            first = next(fresh, False)
            if not first and clock.over:
                raise Infeasible("fleet: no time is left to solve a part")
            return run_solver(
                program, self.solver, max(clock.left(), LEAST_S), how[0], settings, start if first else ()
            )

        try:
            return solve_with_cuts(program, run)
        finally:
            self._learn(program, numbers)

    def _worths(self, numbers: Sequence[int], classes: Sequence[int], dual: Array) -> Array | None:
        """Return worths of requests, (W, C), that the program of some parts in a slot begins with.

        None where whole domains may fail: the failures then have shares.

        They are those that were lacking before, in another slot where this one has none, and those of `floors`.
        classes: of the program.
        """
        if self.join.problem.inventory.spare_domains:
            return None
        steady, lent = self.join.usd(dual)
        rows: list[Array] = []
        for number in numbers:
            part = self.parts[number]
            if len(part.classes) == 1:
                continue
            at = [classes.index(c) for c in part.classes]
            near = self._known(number)
            own, rate = list(part.options), self.join.problem.rate[np.ix_(part.periods, part.classes)].max(axis=0)
            usd = steady[own, part.slot], (steady + lent)[own, part.slot]
            for worth in [value(self._lost(part), rate, usd), *near[-MOST_WORTHS:]]:
                row = np.zeros(len(classes))
                row[at] = worth
                rows.append(row)
        return np.array(rows).reshape(-1, len(classes))

    def _known(self, number: int) -> list[Array]:
        """Return worths at which a part may lack something: its own, those of one like it, or of the first prices."""
        part = self.parts[number]
        own = self.worths.get(number) or self.worths.get(self._like(part), [])
        first = [] if own or self.seeds is None else list(self.seeds[:, list(part.classes)])
        return own or [worth for worth in first if worth.any()]

    def _like(self, part: Part) -> int:
        """Return the number of another part of the same options and classes whose worths are known, -1 for none."""
        same = (n for n in list(self.worths) if self.parts[n].classes == part.classes)
        return min(same, key=lambda n: abs(self.parts[n].slot - part.slot), default=-1)

    def _learn(self, program: Program, numbers: Sequence[int]) -> None:
        """Keep the worths of a program for its parts."""
        if program.ask.worths is None:
            return
        names = program.problem.classes
        for number in numbers:
            at = [names.index(self.join.problem.classes[c]) for c in self.parts[number].classes]
            known = self.worths.get(number, [])
            for row in program.ask.worths[:, at]:
                if row.any() and not any(np.allclose(row, other, rtol=1e-6) for other in known):
                    known = [*known, row]
            if len(at) > 1:
                self.worths[number] = known

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

    def _settings(self) -> dict[str, Any]:
        """Return the settings of the solver for one part."""
        return PLAIN if self.solver == "highs" and not self.join.problem.inventory.spare_domains else {}

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
        ask = Ask(objective="cost", worths=self._worths(numbers, classes, dual))
        program = formulate(part_problem(self.join, joint, dual, left, tiers), ask)
        try:
            if not self._run(program, numbers, how, self._start(program, options, now)):
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
