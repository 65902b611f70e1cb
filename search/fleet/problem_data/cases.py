"""List the cases in which a fleet must serve its classes: normal running, failures, lost spot devices, other worlds.

Classes that no option serves both of, directly or through others, have nothing to do with one another. Each such group
has its own cases: a failure in one group changes nothing in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from perfmodel.arrays import Array
from search.fleet.problem_data.limits import failures, lost_with_node, spare_pools, spot_up
from search.fleet.problem_data.problem import FleetProblem

#: World of a case that counts with the throughput of the problem itself.
NO_WORLD = -1
#: Kinds of cases, in the order in which they are listed. `normal` is always first.
KINDS = ("normal", "spare", "domain", "spot", "case", "chance")

#: Kinds that take replicas and leave the throughput of the others as it is.
FAILURES = ("spare", "domain", "spot")


@dataclass(frozen=True)
class Case:
    """One case of one group: its classes are served by what is left of its options.

    kind: one of `KINDS`. options, classes: positions of the group's. throughput: (O, C) of one replica. lost: option ->
    replicas that are lost. nodes: where above 1, this is the worst failure of so many nodes, each of which takes `lost`
    of its option. gone: options that are lost whole. spot_lost: option -> share of its spot replicas that is
    lost. world: position in the worlds of the problem, `NO_WORLD` for none.
    """

    kind: str
    options: tuple[int, ...]
    classes: tuple[int, ...]
    throughput: Array
    lost: dict[int, float] = field(default_factory=dict)
    nodes: int = 1
    gone: frozenset[int] = frozenset()
    spot_lost: dict[int, float] = field(default_factory=dict)
    world: int = NO_WORLD

    def touches(self, option: int) -> bool:
        """Return whether this case takes replicas of an option."""
        return option in self.lost or option in self.gone or option in self.spot_lost

    def alive(self, problem: FleetProblem, replicas: Array, spot: Array) -> Array:
        """Return the replicas of each option that this case leaves, (O,). replicas, spot: (O,) in use, on spot."""
        left = np.asarray(replicas, dtype=float).copy()
        if self.kind not in FAILURES:
            left = left * np.array([o.availability for o in problem.options]) - (1.0 - spot_up(problem)) * spot
        for o, n in (self.lost if self.nodes == 1 else self._worst(left)).items():
            left[o] = max(left[o] - n, 0.0)
        for o, part in self.spot_lost.items():
            left[o] -= part * spot[o]
        left[list(self.gone)] = 0.0
        return left

    def _worst(self, left: Array) -> dict[int, float]:
        """Return what the worst failure of `nodes` nodes takes of each option. left: (O,) replicas before it.

        A node of an option takes no more of its only class than the one before it, so that the greatest parts are the
        worst choice.
        """
        speed = self.throughput[:, self.classes[0]]
        parts = [
            (float(speed[o] * np.clip(left[o] - j * n, 0.0, n)), o)
            for o, n in self.lost.items()
            for j in range(self.nodes)
        ]
        out: dict[int, float] = {}
        for _, o in sorted(parts, reverse=True)[: self.nodes]:
            out[o] = out.get(o, 0.0) + self.lost[o]
        return out


def groups(problem: FleetProblem) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """List the groups of (options, classes) that have nothing to do with one another; options of no class are in none.

    >>> from search.scenario import Option
    >>> one = Option("a", "l4", 1, 0.8)
    >>> pair = FleetProblem((one, one), ("x", "y"), np.ones((1, 2)), np.array([[1.0, 0.0], [0.0, 2.0]]))
    >>> groups(pair)
    [((0,), (0,)), ((1,), (1,))]
    """
    serves, left, found = problem.serves(), set(range(len(problem.classes))), []
    while left:
        classes, options = {min(left)}, set[int]()
        while True:
            options = set(np.nonzero(serves[:, list(classes)].any(axis=1))[0].tolist())
            more = set(np.nonzero(serves[list(options)].any(axis=0))[0].tolist()) | classes
            if more == classes:
                break
            classes = more
        left -= classes
        if options:
            found.append((tuple(sorted(options)), tuple(sorted(classes))))
    return found


def cases(problem: FleetProblem, without: frozenset[str] = frozenset(), *, by_worth: bool = False) -> list[Case]:
    """List the cases of every group, the normal one first. without: kinds that are left out.

    by_worth: what a failure leaves is known by what requests are worth, as if each group had one class.
    """
    found = []
    for options, classes in groups(problem):
        base = Case("normal", options, classes, np.where(problem.serves(), problem.throughput, 0.0))
        one = by_worth or len(classes) == 1
        others = [*_spare(problem, base, one), *_domains(problem, base), *_spot(problem, base), *_worlds(problem, base)]
        found += [base, *[c for c in others if c.kind not in without]]
    return found


def _spare(problem: FleetProblem, base: Case, one: bool) -> Iterator[Case]:
    """Yield the failures of nodes in one group, without those that another one covers.

    Where several nodes fail at once and the group has one class (`one`), the worst choice of them is one case.
    """
    pools = [([o for o in members if o in base.options], count) for members, count in spare_pools(problem)]
    if one and max((count for _, count in pools), default=0) > 1:
        each = lost_with_node(problem)
        for members, count in pools:
            lost = {o: float(each[o]) for o in members}
            for nodes in [lost] if count > 1 else [{o: n} for o, n in lost.items()]:
                if nodes:
                    yield replace(base, kind="spare", lost=nodes, nodes=count)
        return
    rows = np.unique(np.stack(failures(problem, base.options))[:, list(base.options)], axis=0)
    rows = rows[rows.any(axis=1)]
    for i, row in enumerate(rows):
        covered = (rows >= row).all(axis=1)
        covered[i] = False
        if not covered.any():
            yield replace(base, kind="spare", lost={o: float(n) for o, n in zip(base.options, row, strict=True) if n})


def _domains(problem: FleetProblem, base: Case) -> Iterator[Case]:
    """Yield the losses of whole domains in one group."""
    count = problem.inventory.spare_domains
    here: dict[str, set[int]] = {}
    for o in base.options:
        if problem.options[o].domain:
            here.setdefault(problem.options[o].domain, set()).add(o)
    for names in combinations(here, min(count, len(here))) if count else ():
        if names:
            yield replace(base, kind="domain", gone=frozenset(o for n in names for o in here[n]))


def _spot(problem: FleetProblem, base: Case) -> Iterator[Case]:
    """Yield, for each device of which spot devices may be taken back, what one group loses."""
    for supply in problem.inventory.supplies:
        on = [o for o in base.options if supply.kind == "spot" and problem.options[o].device == supply.device]
        if on and supply.lost_share:
            yield replace(base, kind="spot", spot_lost=dict.fromkeys(on, supply.lost_share))


def _worlds(problem: FleetProblem, base: Case) -> Iterator[Case]:
    """Yield the worlds as one group sees them."""
    for w, world in enumerate(problem.worlds):
        speed = np.where(problem.serves(), np.nan_to_num(world.throughput), 0.0)
        yield replace(base, kind="case" if world.must else "chance", throughput=speed, world=w)
