"""Primal heuristic: combine one column per part into a fleet that keeps the joining rows, then improve it by parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from perfmodel.arrays import Array
from search.fleet.accounting.bills import cheapest_held
from search.fleet.decomposition.choice import candidates, choice
from search.fleet.decomposition.columns import AT_ONCE, Column, Parts, at_once
from search.fleet.integer_program.deadline import Deadline

#: What a row may be exceeded by, relative to it: rounding errors of sums.
ROUNDING = 1e-9
#: Gap at which a part stops that is solved again beside the others, and its share of the time.
GAP, SHARE = 2e-3, 0.1
#: Gap at which the parts of a slot stop that begin a fleet together. Chosen: they are solved again, one by one.
START_GAP = 5e-3
#: Share of the time for the parts that begin a fleet.
START_TIME = 0.4
#: Times that a slot is begun, and seconds that each of its parts may take at least: most take a tenth.
TRIES, PART_S = 2, 1.0
#: Seconds that a part gets at least, and those of one that has to fit, without which there is no fleet.
LEAST_S, FITTING_S = 0.1, 0.3
#: USD per hour from which a cheaper part is worth a change.
LEAST_GAIN = 1e-7


@dataclass
class Fitting:
    """Builds and improves fleets from columns of parts. tried: columns found so far. calls: number of `improved`."""

    parts: Parts
    tried: list[Column] = field(default_factory=list)
    calls: int = 0

    @cached_property
    def usd(self) -> tuple[Array, Array]:
        """Return what a replica, and what its being on spot devices, costs without supplies, (O, S) each."""
        return self.parts.join.usd(np.zeros((len(self.parts.join.names), len(self.parts.join.weight))))

    @cached_property
    def room(self) -> Array:
        """Return what a slot may take of each row, with rounding, (R,)."""
        room = self.parts.join.capacity
        return np.asarray(room + ROUNDING * (1.0 + np.abs(room)))

    def usage(self, columns: Sequence[Column]) -> Array:
        """Return what one column per part takes of each row, (R, S)."""
        join = self.parts.join
        out = np.zeros((len(join.names), len(join.weight)))
        for column in columns:
            out[:, self.parts.parts[column.part].slot] += self.parts.usage(column)
        return out

    def held(self, columns: Sequence[Column]) -> Array:
        """Return the devices that each supply holds for some columns at the least cost, (K, S)."""
        join, used = self.parts.join, self.usage(columns)
        need = {n[n.index("[") + 1 : -1]: used[r] for r, n in enumerate(join.names) if n.startswith("source[")}
        lent = {n[n.index("[") + 1 : -1]: used[r] for r, n in enumerate(join.names) if n.startswith("spot[")}
        return cheapest_held(join.problem.inventory.supplies, need, lent, join.weight)

    def cost(self, columns: Sequence[Column]) -> float:
        """Return the cost of a fleet of one column per part, penalties included, inf where supplies do not suffice."""
        join = self.parts.join
        steady, lent = self.usd
        total = 0.0
        for column in columns:
            part = self.parts.parts[column.part]
            rows = list(part.options)
            total += float(steady[rows, part.slot] @ column.replicas + lent[rows, part.slot] @ column.spot)
        usd = np.array([s.usd_per_hour for s in join.problem.inventory.supplies])
        return total + float(usd @ self.held(columns) @ join.weight) if len(usd) else total

    def fits(self, columns: Sequence[Column]) -> bool:
        """Return whether some columns stay within every row of every slot."""
        return bool((self.usage(columns) <= self.room[:, None]).all())

    def started(
        self, level: Mapping[str, float], near: tuple[Array, Array], clock: Deadline
    ) -> dict[int, list[Column]]:
        """Return the columns of each slot, near a solution without whole numbers; slots without any are left out.

        level: reserved devices by name. near: (O, P) replicas of the solution, and those on spot devices.
        """
        out: dict[int, list[Column]] = {}
        for _ in range(TRIES):
            slots = [s for s in range(len(self.parts.join.weight)) if s not in out]
            left = iter(range(len(slots), 0, -1))

            def one(place: int, slots: list[int] = slots, left: Iterator[int] = left) -> list[Column] | None:
                """Return the columns of a slot."""
                seconds = START_TIME * clock.left() * AT_ONCE / next(left)
                return self._started(slots[place], level, near, (Deadline.of(seconds), clock))

            found = zip(slots, at_once(one, range(len(slots))), strict=True)
            out.update({slot: some for slot, some in found if some is not None})
        return out

    def _started(
        self, slot: int, level: Mapping[str, float], near: tuple[Array, Array], clocks: tuple[Deadline, Deadline]
    ) -> list[Column] | None:
        """Return the columns of a slot: each part in turn takes what is left beside those before it and, as the
        solution has them, those after it. First with the options of the solution, then with all. clocks:
        of the slot, which it may exceed, and of all. See `started`."""
        join, out = self.parts.join, list[Column]()
        here = [n for n, part in enumerate(self.parts.parts) if part.slot == slot]
        own = {n: (list(self.parts.parts[n].options), self.parts.parts[n].periods[0]) for n in here}
        later = {
            n: join.replicas[:, rows] @ near[0][rows, t] + join.lent[:, rows] @ near[1][rows, t]
            for n, (rows, t) in own.items()
        }
        taken = np.zeros(len(join.names))
        for place, n in enumerate(sorted(here, key=lambda n: -float(near[0][own[n][0], slot].sum()))):
            wanted = later.pop(n)
            others = taken + np.sum([*later.values(), np.zeros(len(taken))], axis=0)
            rows, t = own[n]
            few = {o for o in rows if near[0][o, t] > ROUNDING} or {rows[0]}
            dual, tiers = self._beside(others, level, slot)
            if clocks[1].over:
                return None
            seconds = min(max(clocks[0].left() / (len(here) - place), PART_S), clocks[1].left())
            rest = np.maximum(join.capacity - others, np.minimum(wanted, join.capacity - taken))
            found = self.parts.within([n], dual, rest, tiers, (START_GAP, seconds), (), {n: few})
            if found is None:
                seconds = min(3.0 * seconds, clocks[1].left())
                found = self.parts.within([n], dual, join.capacity - taken, None, (START_GAP, seconds))
            if found is None:
                return None
            taken = taken + self.parts.usage(found[0])
            out += found
        return out

    def fitted(self, columns: Sequence[Column], dual: Array, clock: Deadline) -> list[Column] | None:
        """Return columns that stay within every row, slot by slot; None where a slot was not made to.

        dual: (R, S) prices at which parts are solved again.
        """
        out: list[Column] = []
        by_slot: dict[int, list[Column]] = {}
        for column in columns:
            by_slot.setdefault(self.parts.parts[column.part].slot, []).append(column)
        for slot in sorted(by_slot):
            found = self._fitted_slot(by_slot[slot], dual, clock)
            if found is None:
                return None
            out += found
        return sorted(out, key=lambda c: c.part)

    def _fitted_slot(self, columns: list[Column], dual: Array, clock: Deadline) -> list[Column] | None:
        """Return the columns of a slot within its rows.

        Parts that take nothing of a row in want keep their columns. The others come one after the other, and each takes
        its own column, or the cheapest of what is left. One that finds nothing comes first the next time.
        """
        room = self.room
        each = {c.part: self.parts.usage(c) for c in columns}
        wanting = np.sum(list(each.values()), axis=0) > room
        fixed = [c for c in columns if not (each[c.part][wanting] > 0).any()]
        order = [c for c in columns if (each[c.part][wanting] > 0).any()]
        for _ in range(len(order) + 1):
            left = room - np.sum([each[c.part] for c in fixed], axis=0) if fixed else room.copy()
            done: list[Column] = []
            for column in order:
                new = column
                if (each[column.part] > left).any():
                    if clock.over:
                        return None
                    seconds = max(clock.left() * SHARE, FITTING_S)
                    found = self._beside_others(column.part, dual, left, seconds)
                    if found is None:
                        break
                    self.tried += found
                    new = found[0]
                left = left - self.parts.usage(new)
                done.append(new)
            if len(done) == len(order):
                return fixed + done
            order.insert(0, order.pop(len(done)))
        return None

    def _beside_others(self, number: int, dual: Array, left: Array, seconds: float) -> list[Column] | None:
        """Return the column of a part, in a list, at prices `dual` (R, S) within what is left of each row, (R,).

        A part of several classes has few options first, in half of the seconds. None without a column, or not in time.
        """
        if len(self.parts.parts[number].classes) > 1:
            few = {number: self.parts.few(number, dual)}
            found = self.parts.within([number], dual, left, None, (GAP, seconds / 2.0), (), few)
            if found is not None:
                return found
        return self.parts.within([number], dual, left, None, (GAP, seconds))

    def chosen(
        self, pool: Iterable[Column], now: Sequence[Column], level: Mapping[str, float], dual: Array, clock: Deadline
    ) -> list[Column] | None:
        """Return the cheapest columns of a pool beside the reserved devices `level` (by name), slot by slot.

        now: the columns of a fleet, which a slot keeps where nothing cheaper is found in time; None where there are
        none. dual: (R, S) prices at which the columns of a part are compared.
        """
        join, by_slot = self.parts.join, candidates(self.parts, pool, dual, now)
        kept: dict[int, list[Column]] = {}
        for column in now:
            kept.setdefault(self.parts.parts[column.part].slot, []).append(column)
        left = iter(range(len(join.weight), 0, -1))

        def one(slot: int) -> list[Column] | None:
            """Return the cheapest columns of a slot."""
            some, seconds = by_slot.get(slot, []), max(clock.left() * AT_ONCE / next(left), LEAST_S)
            usd = np.array([self._own_usd(column) for column in some])
            here = sum(part.slot == slot for part in self.parts.parts)
            found = choice(self.parts, some, usd, self._tiers(level, slot), seconds) if some else []
            return found if found is not None and len(found) == here else kept.get(slot)

        found = at_once(one, range(len(join.weight)))
        out = [c for some in found if some is not None for c in some]
        out.sort(key=lambda c: c.part)
        return out if len(out) == len(self.parts.parts) and self.fits(out) else None

    def improved(
        self,
        columns: list[Column],
        level: Mapping[str, float],
        clock: Deadline,
        most_options: int,
        few: Mapping[int, Set[int]] | None = None,
    ) -> list[Column]:
        """Return columns that cost no more: parts are solved again beside the others, while time is left.

        Parts of a slot are solved together, as many as have at most `most_options` options, one at least. Reserved
        devices (`level`, by name) that the others leave idle cost them nothing, others what their supplies ask.
        few: options that each part may use, all by default.
        """
        total, best = self.usage(columns), {c.part: c for c in columns}
        self.calls += 1
        tasks = [self._neighbours(slot, most_options, few) for slot in range(len(self.parts.join.weight))]
        left = iter(range(sum(len(some) for some in tasks), 0, -1))

        def one(slot: int) -> None:
            """Make the parts of a slot cheaper, as many at once as may be."""
            for some in tasks[slot]:
                share = clock.part(min(AT_ONCE / next(left), 1.0))
                if not clock.over:
                    self._exchange(some, best, total, (level, share), few)

        at_once(one, range(len(tasks)))
        return [best[c.part] for c in columns]

    def _exchange(
        self,
        some: list[int],
        best: dict[int, Column],
        total: Array,
        how: tuple[Mapping[str, float], Deadline],
        few: Mapping[int, Set[int]] | None,
    ) -> None:
        """Solve some parts of a slot beside the others, and take what costs less into `best` and `total` (R, S)."""
        (level, clock), slot, now = how, self.parts.parts[some[0]].slot, [best[n] for n in some]
        others = total[:, slot] - np.sum([self.parts.usage(c) for c in now], axis=0)
        dual, tiers = self._beside(others, level, slot)
        start = now if len(some) == 1 else []  # of several, the solver finds better ones by itself
        seconds = max(clock.left(), LEAST_S)
        found = self.parts.within(some, dual, self.parts.join.capacity - others, tiers, (GAP, seconds), start, few)
        if found is None:
            return
        self.tried += found
        then = others + np.sum([self.parts.usage(c) for c in found], axis=0)
        gain = self._slot_usd(now, total[:, slot], level) - self._slot_usd(found, then, level)
        if gain > LEAST_GAIN and (then <= self.room).all():
            best.update({c.part: c for c in found})
            total[:, slot] = then

    def _neighbours(self, slot: int, most_options: int, few: Mapping[int, Set[int]] | None) -> list[list[int]]:
        """Return the parts of a slot that are solved together: with at most so many options, one part at least.

        Which parts come together changes from call to call.
        """
        out: list[list[int]] = []
        here, count = [n for n, part in enumerate(self.parts.parts) if part.slot == slot], most_options
        for n in np.random.default_rng([self.calls, slot]).permutation(here).tolist():
            size = len(self.parts.parts[n].options if few is None else few[n])
            if not out or count + size > most_options:
                out.append([])
                count = 0
            out[-1].append(int(n))
            count += size
        return out

    def _slot_usd(self, columns: Sequence[Column], used: Array, level: Mapping[str, float]) -> float:
        """Return USD per hour that some columns and all devices of their slot cost, the reserved `level` aside.

        used: (R,) of the slot. level: reserved devices by name.
        """
        total, slot = sum(self._own_usd(column) for column in columns), self.parts.parts[columns[0].part].slot
        for device, tiers in self._tiers(level, slot).items():
            need = used[self.parts.join.row(f"source[{device}]")]
            for usd, most in tiers:
                taken = min(need, most)
                total, need = total + taken * usd, need - taken
        return total

    def _own_usd(self, column: Column) -> float:
        """Return USD per hour that a column costs in its slot beside the devices that are not on spot."""
        join, part = self.parts.join, self.parts.parts[column.part]
        rows, used = list(part.options), self.parts.usage(column)
        steady, lent = (usd[rows, part.slot] / join.weight[part.slot] for usd in self.usd)
        spot = (s for s in join.problem.inventory.supplies if s.kind == "spot")
        on_spot = sum(s.usd_per_hour * float(used[join.row(f"spot[{s.device}]")]) for s in spot)
        return float(steady @ column.replicas + lent @ column.spot) + on_spot

    def _tiers(self, level: Mapping[str, float], slot: int) -> dict[str, list[tuple[float, float]]]:
        """Return (USD per hour, most devices) of the supplies of each device in a slot, the cheapest first, spot aside.

        Reserved devices (`level`, by name) are paid for; more of them for this slot are paid in all.
        """
        join = self.parts.join
        out: dict[str, list[tuple[float, float]]] = {s.device: [] for s in join.problem.inventory.supplies}
        for s in join.problem.inventory.supplies:
            if s.kind == "reserved":
                paid = level.get(s.device, 0.0)
                out[s.device] += [(0.0, paid), (s.usd_per_hour / float(join.weight[slot]), s.most - paid)]
            elif s.kind != "spot":
                out[s.device].append((s.usd_per_hour, s.most))
        return {device: _needed(sorted(tiers)) for device, tiers in out.items()}

    def _beside(
        self, others: Array, level: Mapping[str, float], slot: int
    ) -> tuple[Array, dict[str, list[tuple[float, float]]]]:
        """Return ((R, S) prices of spot devices, tiers of devices) that parts of a slot find beside the others.

        others: (R,) what these take. level: reserved devices by name.
        """
        join = self.parts.join
        dual, left = np.zeros((len(join.names), len(join.weight))), {}
        for device, tiers in self._tiers(level, slot).items():
            need, left[device] = float(others[join.row(f"source[{device}]")]), list[tuple[float, float]]()
            for usd, most in tiers:
                taken = min(need, most)
                need -= taken
                left[device].append((usd, most - taken))
        for supply in join.problem.inventory.supplies:
            if supply.kind == "spot":
                dual[join.row(f"spot[{supply.device}]")] = supply.usd_per_hour * join.weight
        return dual, left


def _needed(tiers: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return tiers of a device, the cheapest first, without those that are dearer than one without end."""
    ends = [i for i, (_, most) in enumerate(tiers) if np.isinf(most)]
    kept = tiers[: ends[0] + 1] if ends else tiers
    return [tier for tier in kept if tier[1] > 0] or kept[:1]
