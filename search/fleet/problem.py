"""Define and check the input of the fleet program: options, request classes, demand, limits. It is plain data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array, Mask
from search.scenario import Inventory, Option


@dataclass(frozen=True)
class FleetProblem:
    """Everything that the integer program reads: O options, C request classes, P periods.

    options: (O,). classes: (C,) names; several models are classes that only some options serve. rate: (P, C)
    requests/s. throughput: (O, C) requests/s that one replica serves of a class within the SLO when it serves nothing
    else; 0 or NaN where it cannot. hours: (P,) length of each period. elastic: the number of replicas may change
    between periods. remarks: sentences about the options, such as those without a price. counts_devices: True where
    prices are numbers of devices, because a price is unknown.
    """

    options: tuple[Option, ...]
    classes: tuple[str, ...]
    rate: Array
    throughput: Array
    hours: Array = field(default_factory=lambda: np.ones(1))
    inventory: Inventory = field(default_factory=Inventory)
    elastic: bool = False
    remarks: tuple[str, ...] = ()
    counts_devices: bool = False

    @property
    def by_node(self) -> tuple[str, ...]:
        """Return the names of the devices of the options that are paid by the node, (W,)."""
        used = dict.fromkeys(o.device for o in self.options)
        return tuple(d for d in used if d in self.inventory.node_usd_per_hour)

    @property
    def periods(self) -> int:
        """Return the number of periods of the day."""
        return len(self.hours)

    def serves(self) -> Mask:
        """Return (O, C) booleans: True where an option can serve a class at all."""
        return np.asarray(np.nan_to_num(self.throughput) > 0)


def checked(problem: FleetProblem) -> FleetProblem:
    """Return the problem with its arrays as floats of the right shape; raise `InputError` for contradictions.

    >>> one = Option("a", "l4", 1, 0.8)
    >>> checked(FleetProblem((one,), ("chat",), np.array([2.0]), np.array([[1.0]]))).rate.shape
    (1, 1)
    """
    rate = np.atleast_2d(np.asarray(problem.rate, dtype=float))
    throughput = np.atleast_2d(np.asarray(problem.throughput, dtype=float))
    hours = np.atleast_1d(np.asarray(problem.hours, dtype=float))
    wanted = (len(problem.options), len(problem.classes))
    if throughput.shape != wanted:
        raise InputError(
            f"fleet: throughput is {throughput.shape}, but there are {wanted} (options, classes); "
            "give one row per option and one column per class"
        )
    if rate.shape != (len(hours), wanted[1]):
        raise InputError(
            f"fleet: rate is {rate.shape}, expected {(len(hours), wanted[1])} (periods, classes); "
            "give one row per period and one column per class"
        )
    if not (np.isfinite(rate).all() and (rate >= 0).all()):
        raise InputError("fleet: every rate must be a finite number of requests/s, at least 0")
    if not ((hours > 0).all() and np.isfinite(hours).all()):
        raise InputError("fleet: every period must last longer than 0 hours; correct the hours")
    unpriced = [o.name for o in problem.options if not (np.isfinite(o.usd_per_hour) and o.usd_per_hour >= 0)]
    if unpriced:
        raise InputError(
            f"fleet: no price for option(s) {', '.join(unpriced)}; give them usd_per_hour, or leave them out"
        )
    unknown = [o.name for o in problem.options if not np.isfinite(o.power)]
    if unknown and np.isfinite(problem.inventory.power):
        raise InputError(
            f"fleet: a power limit is set, but option(s) {', '.join(unknown)} have no known power; "
            "give them one (power_w in a scenario), or drop the limit"
        )
    return replace(problem, rate=rate, throughput=throughput, hours=hours)
