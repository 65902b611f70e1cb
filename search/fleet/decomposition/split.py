"""Solve a large elastic fleet by its parts: groups of classes in single periods, joined by devices, power and nodes.

1. Initial prices of the joining rows (`coupling`) are the duals of the linear program without failures.
2. In turn, columns that are good at the prices are found (`knapsack`), and the prices at which the columns make the
   cheapest mix (`master`).
3. Every part gets a lower bound at the prices (`cost_bounds`) and is then solved as time allows (`columns`); together
   these bound the cost of the fleet.
4. One column is chosen for each part (`choice`), or the columns are changed until they keep the rows (`fitting`).
5. The fleet is improved: the parts of a slot are solved again, together and one by one.

Steps 2 to 5 are repeated with the columns that were found until the gap is small enough, nothing gets better, or the
time is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.decomposition.benders_cuts import solve_linear_with_cuts
from search.fleet.decomposition.choice import level_of, support
from search.fleet.decomposition.columns import PART_GAP, Column, Parts
from search.fleet.decomposition.coupling import coupling, parts_of
from search.fleet.decomposition.fitting import Fitting
from search.fleet.decomposition.knapsack import cheap_columns, simple
from search.fleet.decomposition.master import cheapest_mix
from search.fleet.integer_program.deadline import LEAST_S, Deadline
from search.fleet.integer_program.periods import options_join
from search.fleet.integer_program.program import Ask, formulate
from search.fleet.integer_program.solve import Solver, available_solver, linear_bound
from search.fleet.problem_data.limits import limits, mean_limits, with_nodes
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.problem_data.quantities import Numbers

#: Options x periods from which a fleet is solved so. Chosen: below, the whole program takes seconds.
LARGE = 400
#: Options of a period from which a fleet is solved so that no reserved devices join. chosen likewise.
LARGE_PERIOD = 240
#: Kinds of cases that the linear program of the first prices leaves out: its spare replicas would not be whole.
LEFT_OUT = frozenset({"spare", "domain", "chance", "case"})
#: Shares of the time that is left for the first prices, for better ones, for choosing columns, for solving every part,
#: and for a cheaper fleet.
PRICES_TIME, COLUMNS_TIME, CHOICE_TIME, PARTS_TIME, IMPROVE_TIME = 0.3, 0.5, 0.2, 0.6, 0.6
#: Share of the time below which no further round is begun.
LEAST_ROUND = 0.08
#: Rounds of columns and prices, the weight of the new prices in each, and how near the quick columns come to the mix.
ROUNDS, NEWER, NEAR = 20, 0.3, 3e-3
#: Worths of a group's requests that a linear program of the first prices has more than the one before it.
NEW_WORTHS = 3
#: Share of the time in which the first fleet is begun near the linear program, and seconds that a first fleet may be
#: late by: one that comes a second late is worth more than none. Chosen.
START_PART, LATE_S = 0.6, 1.0
#: Times that columns are chosen, each beside the devices that the choice before reserves.
CHOICES = 4
#: Rounds without progress after which a search ends, and the least progress of the gap. Chosen.
MOST_STALLED, LEAST_PROGRESS = 2, 1e-4
#: Options that are solved together while a fleet is made cheaper, and of parts of several classes. Chosen: one to three
#: seconds of the solver.
TOGETHER, TOGETHER_SEVERAL = 60, 20


def splits(problem: FleetProblem) -> bool:
    """Return whether a checked problem is large and only devices, power and nodes join its parts."""
    inventory = problem.inventory
    supplies = inventory.supplies
    size = len(problem.options) * problem.periods
    reserved = any(s.kind == "reserved" for s in supplies)
    large = size >= LARGE and (reserved or len(problem.options) >= LARGE_PERIOD)
    promised = any(s.least_spend or s.least for s in supplies) or problem.kept is not None
    budget = np.isfinite(inventory.budget)  # it counts the price that a reserved device has, not its worth
    liked = any(o.penalty_usd_per_hour < 0 for o in problem.options)
    joined = options_join(problem) or mean_limits(problem) or problem.may_miss or problem.by_node or budget
    return bool(problem.elastic and large and problem.objective == "cost" and not (promised or liked or joined))


@dataclass(frozen=True)
class Found:
    """A fleet that was found by parts. numbers: of it. shares: (O, C, P). usd_per_hour, bound: of the objective."""

    numbers: Numbers
    shares: Array
    usd_per_hour: float
    bound: float
    solver: str


def split(problem: FleetProblem, solver: Solver | None, clock: Deadline, gap: float) -> Found | None:
    """Return the fleet of a problem that `splits`, with its bound; None where some part has no fleet.

    Raises `Infeasible` where no parts were found that stay within the limits together.
    """
    name, total = solver or available_solver(), clock.left()
    join = coupling(problem)
    parts = Parts(join, parts_of(problem), name)
    search = _Search(parts, Fitting(parts))
    dual, bound, search.level, near = first_prices(parts, clock.part(PRICES_TIME))
    search.learn(bound, [])
    if np.isposinf(search.bound):
        return None
    if near[0].size:
        search.start(near, clock)
    stalled, least = 0, LEAST_ROUND * total
    while stalled < MOST_STALLED and (clock.left() > least or not search.best):
        before = search.gap
        dual = search.better_prices(dual, clock.part(COLUMNS_TIME))
        search.choose(dual, clock.part(CHOICE_TIME))
        bound, columns = parts.priced(dual, PART_GAP, clock.part(PARTS_TIME), search.pool.values())
        if np.isposinf(bound):
            return None
        search.learn(bound, columns)
        search.take_all(columns)
        search.choose(dual, clock.part(CHOICE_TIME))
        if not search.best:
            search.begin(columns, dual, clock)
        if search.improve(gap, dual, clock):
            break
        stalled = stalled + 1 if search.gap > before - LEAST_PROGRESS else 0
    return _found(search, name)


@dataclass
class _Search:
    """What is known of a fleet by parts.

    bound: on its cost, which is at least 0. pool: columns. best: one per part, of `cost`. level: reserved devices.
    slots: columns that slots began with.
    """

    parts: Parts
    fitting: Fitting
    bound: float = 0.0
    cost: float = np.inf
    pool: dict[tuple[int, bytes, bytes], Column] = field(default_factory=dict)
    best: list[Column] = field(default_factory=list)
    level: dict[str, float] = field(default_factory=dict)
    slots: dict[int, list[Column]] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Return the relative distance of the best fleet from the bound, inf without a fleet, 0 where it is free."""
        if not self.best:
            return np.inf
        return 1.0 - self.bound / self.cost if self.cost > 0 else 0.0

    def learn(self, bound: float, columns: list[Column]) -> None:
        """Keep a bound and columns."""
        self.bound = max(self.bound, bound)
        self.pool.update({c.key: c for c in columns})

    def better_prices(self, dual: Array, clock: Deadline) -> Array:
        """Return prices nearer to those at which the columns of all parts make the cheapest mix, (R, S).

        They are those at which the quick columns are worth most, nearly a bound on the cost.
        """
        join = self.parts.join
        if not self.quick:
            self.learn(0.0, cheap_columns(self.parts, dual))
            return dual
        best, most = dual, -np.inf
        for number in range(ROUNDS):
            if number and clock.over:
                break
            self.learn(0.0, cheap_columns(self.parts, dual))
            ranked = self.parts.ranked(self.pool.values(), dual)
            usd = sum(some[0][0] for some in ranked.values()) - join.worth(dual)
            if usd > most:
                best, most = dual, usd
            mix = cheapest_mix(self.parts, list(self.pool.values()), best, max(clock.left(), LEAST_S))
            if mix is None or clock.over:
                break
            self.level = mix.level
            if usd >= mix.usd * (1.0 - NEAR):
                break
            dual = join.within_prices(NEWER * mix.dual + (1.0 - NEWER) * best)
        return best

    @property
    def quick(self) -> bool:
        """Return whether all parts have quick columns."""
        return all(simple(self.parts.join.problem, part) for part in self.parts.parts)

    def start(self, near: tuple[Array, Array], clock: Deadline) -> None:
        """Begin near the linear program of the first prices. near: (O, P) its replicas, and those on spot devices."""
        self.slots = self.fitting.started(self.level, near, clock.part(START_PART))
        columns = sorted((c for some in self.slots.values() for c in some), key=lambda c: c.part)
        self.learn(0.0, columns)
        self.take_all(columns)

    def choose(self, dual: Array, clock: Deadline) -> None:
        """Take the cheapest columns of the pool, and again beside the devices that these reserve."""
        for _ in range(CHOICES):
            found = self.fitting.chosen(self.pool.values(), self.best, self.level, dual, clock)
            if found is None:
                return
            before = self.cost
            self._take(found)
            self._reserve()
            if self.cost > before * (1.0 - LEAST_PROGRESS) or clock.over:
                return

    def begin(self, columns: list[Column], dual: Array, clock: Deadline) -> None:
        """Make the first fleet of one column per part; raises `Infeasible` where they were not made to fit together."""
        begun = [c for some in self.slots.values() for c in some]
        others = [c for c in columns if self.parts.parts[c.part].slot not in self.slots]
        late = Deadline(clock.due + LATE_S)
        found = self.fitting.fitted(others, dual, late) if len(begun + others) == len(self.parts.parts) else None
        if found is None:
            raise Infeasible(
                "fleet: no parts were found in time that stay within all limits together; raise time_limit_s in "
                "[fleet], or offer fewer options"
            )
        self._take(sorted([*begun, *found], key=lambda c: c.part))

    def take_all(self, columns: list[Column]) -> None:
        """Keep columns as a fleet, with the devices that it reserves: one of each part, if all rows allow it."""
        before = self.cost
        if len(columns) == len(self.parts.parts) and self.fitting.fits(columns):
            self._take(columns)
        if self.cost < before:
            self._reserve()

    def _reserve(self) -> None:
        """Reserve the devices that the best fleet does."""
        self.level = level_of(self.parts.join.problem.inventory.supplies, self.fitting.held(self.best))

    def _take(self, found: list[Column]) -> None:
        """Keep a fleet that costs less than the best."""
        cost = self.fitting.cost(found)
        if cost < self.cost:
            self.best, self.cost = found, cost

    def improve(self, gap: float, dual: Array, clock: Deadline) -> bool:
        """Make the fleet cheaper; return whether the gap is small enough or the time is over.

        First with the options of the cheapest columns at prices `dual` (R, S), the parts of a slot together as far as
        these are few; then with all options, part by part.
        """
        for most in (TOGETHER if self.quick else TOGETHER_SEVERAL, 0):
            if self.gap <= gap or clock.over:
                return True
            few = support(self.parts, self.pool.values(), dual, self.best) if most else None
            self._take(self.fitting.improved(self.best, self.level, clock.part(IMPROVE_TIME), most, few))
            self._reserve()
        self.learn(0.0, self.fitting.tried)
        self.fitting.tried.clear()
        return self.gap <= gap or clock.over


def first_prices(parts: Parts, clock: Deadline) -> tuple[Array, float, dict[str, float], tuple[Array, Array]]:
    """Return ((R, S) prices of the rows by the linear program without failures of nodes, its value, its reserved
    devices, (O, P) its replicas and those on spot devices).

    The value is a bound on the cost of the whole, inf where there is no solution. Where it takes longer than there is
    time, a device is worth what it costs in every period. The worths of requests that it found are those that the
    parts begin with.
    """
    join, problem = parts.join, parts.join.problem
    shape = len(join.names), len(join.weight)
    program = formulate(problem, Ask(objective="cost", without=LEFT_OUT, worths=np.zeros((0, len(problem.classes)))))
    found = solve_linear_with_cuts(program, parts.solver, clock, NEW_WORTHS)
    bound, parts.seeds, dual = found.bound, program.ask.worths, np.zeros(shape)
    if not np.isfinite(bound):
        for supply in problem.inventory.supplies:
            row = join.row(f"{'spot' if supply.kind == 'spot' else 'source'}[{supply.device}]")
            dual[row] = np.maximum(dual[row], supply.usd_per_hour * join.weight)
        return join.within_prices(dual), bound, {}, (found.replicas, found.spot)
    rows = {name: f"limit_{i}" for i, name in enumerate(limits(problem))}
    for k, supply in enumerate(problem.inventory.supplies):
        rows.setdefault(f"source[{supply.device}]", f"source_{k}")
        if supply.kind == "spot":
            rows[f"spot[{supply.device}]"] = f"spot_of_{k}"
    for r, name in enumerate(join.names):
        dual[r] = [found.prices.get(f"{rows.get(name)}_{s}", 0.0) for s in range(shape[1])]
    reserved = {s.device: k for k, s in enumerate(problem.inventory.supplies) if s.kind == "reserved"}
    level = {device: float(np.rint(found.held[k])) for device, k in reserved.items()}
    return join.within_prices(dual), bound, level, (found.replicas, found.spot)


def _found(search: _Search, solver: Solver) -> Found:
    """Return the best fleet of a search."""
    problem = search.parts.join.problem
    options, periods = len(problem.options), problem.periods
    replicas, spot = np.zeros((options, periods), dtype=np.intp), np.zeros((options, periods))
    shares = np.zeros((options, len(problem.classes), periods))
    for column in search.best:
        part = search.parts.parts[column.part]
        rows, classes, times = list(part.options), list(part.classes), list(part.periods)
        replicas[np.ix_(rows, times)] = np.rint(column.replicas)[:, None].astype(np.intp)
        spot[np.ix_(rows, times)] = np.rint(column.spot)[:, None]
        shares[np.ix_(rows, classes, times)] = column.shares
    held = np.broadcast_to(search.fitting.held(search.best), (len(problem.inventory.supplies), periods))
    none = np.zeros(replicas.shape)
    units = np.concatenate([with_nodes(problem, replicas), held.reshape(-1, periods)])
    numbers = Numbers(replicas, spot, units, none, np.zeros(options), 1.0)
    return Found(numbers, shares, search.cost, min(search.bound, search.cost), solver)


def relaxed(problem: FleetProblem) -> float:
    """Return the least cost of a problem without whole numbers, a bound on that with them; inf for no solution."""
    return linear_bound(formulate(problem, Ask(objective="cost")), available_solver())
