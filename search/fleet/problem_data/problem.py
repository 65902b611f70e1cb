"""Define and check the input of the fleet program: options, request classes, demand, limits. It is plain data."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN, Array, Index, Mask
from perfmodel.money import HOURS_PER_MONTH
from search.scenario import DEFAULT_GAP, SUPPLY_KINDS, TIME_LIMIT_S, Inventory, Option

#: A product of decimals that is within this of a whole number is that number.
WHOLE_TOLERANCE = 1e-9
#: What a fleet may be planned for: the least of it, but the most of `traffic`.
OBJECTIVES = ("cost", "traffic", "power", "carbon", "devices")


@dataclass(frozen=True)
class World:
    """One way that the throughput of the options may turn out.

    throughput: (O, C) requests/s of one replica, as in `FleetProblem`. must: True for a case that the fleet has to
    survive whatever happens (requests that are abused); False for one of the draws, of which a share is kept.
    output_factor: of a case whose throughput is that of the problem over this factor; NaN where it is another one.
    """

    name: str
    throughput: Array
    must: bool = False
    output_factor: float = NAN


@dataclass(frozen=True)
class FleetProblem:
    """Everything that the integer program reads: O options, C request classes, P periods.

    options: (O,). classes: (C,) names; several models are classes that only some options serve. rate: (P, C)
    requests/s. throughput: (O, C) requests/s that one replica serves of a class within the SLO when it serves nothing
    else; 0 or NaN where it cannot. hours: (P,) length of each period. elastic: the number of replicas may change
    between periods. remarks: sentences about the options, such as those without a price. counts_devices: True where
    prices are numbers of devices, because a price is unknown.

    objective: one of `OBJECTIVES`. worlds: draws of the throughput and cases beside it. worlds_kept: share of the draws
    in which every class is served. gco2_per_kwh: (P,) of the site's electricity, NaN unknown. region_gco2: the same of
    regions by name, (P,) each. network: seconds of a round trip by (region of an option, class).
    class_models: (C,) model of each class, () where no replica serves several. horizon_h: hours over
    which the cost of moving to new replicas is spread. time_limit_s, gap: seconds for the answer, and the relative
    distance from the optimum at which the solver may stop. due: when the answer is due, in seconds of
    `time.monotonic`, inf for `time_limit_s` from the start. kept: (O,) replicas that stay in every period, None
    for none.
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
    objective: str = "cost"
    worlds: tuple[World, ...] = ()
    worlds_kept: float = 1.0
    gco2_per_kwh: Array = field(default_factory=lambda: np.full(1, NAN))
    region_gco2: Mapping[str, Array] = field(default_factory=dict)
    network: Mapping[tuple[str, str], float] = field(default_factory=dict)
    class_models: tuple[str, ...] = ()
    horizon_h: float = HOURS_PER_MONTH
    time_limit_s: float = TIME_LIMIT_S
    gap: float = DEFAULT_GAP
    due: float = math.inf
    kept: Index | None = None

    def within(self, share: float = 1.0) -> FleetProblem:
        """Return the problem whose answer is due within a share of the time that is left, `time_limit_s` at most."""
        left = min(self.due - time.monotonic(), self.time_limit_s)
        return replace(self, due=time.monotonic() + share * max(left, 0.0))

    @property
    def left(self) -> float:
        """Return the seconds until the answer is due, at least 0."""
        return max(self.due - time.monotonic(), 0.0)

    @property
    def device_names(self) -> tuple[str, ...]:
        """Return the names of the device types of the options, (D,)."""
        return tuple(dict.fromkeys(d for o in self.options for d in o.devices_of))

    @property
    def by_node(self) -> tuple[str, ...]:
        """Return the names of the devices of the options that are paid by the node, (W,)."""
        return tuple(d for d in self.device_names if d in self.inventory.node_usd_per_hour)

    def devices_on(self, device: str) -> Array:
        """Return the devices of type `device` that a replica of each option takes, (O,)."""
        return np.array([o.devices_of.get(device, 0.0) for o in self.options], dtype=float)

    def nodes_on(self, device: str) -> Array:
        """Return the nodes of `device` that a replica of each option takes, (O,)."""
        return np.array([o.nodes_of.get(device, 0.0) for o in self.options], dtype=float)

    def stocked(self, stock: str) -> Array:
        """Return the devices of a replica of each option that count in the stock of that name, (O,)."""
        return np.array([o.counted(stock) for o in self.options], dtype=float)

    def loads(self, option: int) -> list[Index]:
        """Return the classes whose loads an option adds up, as lists of positions: those of each model by itself."""
        together = self.options[option].together
        if not together:
            return [np.arange(len(self.classes))]
        return [np.array([c for c, m in enumerate(self.class_models) if m == name], dtype=np.intp) for name in together]

    def model_of(self, option: int, c: int) -> str:
        """Return the model that an option serves a class with."""
        one = self.options[option]
        return self.class_models[c] if one.together else one.model

    def round_trip(self, option: Option, name: str) -> float:
        """Return the seconds of a round trip between an option and the class called `name`."""
        return self.network.get((option.region, name), 0.0)

    @property
    def gco2(self) -> Array:
        """Return gCO2e per kWh of each option in each period, (O, P): its own, else its region's, else the site's."""
        rows = [
            self.region_gco2.get(o.region, self.gco2_per_kwh) if np.isnan(o.gco2_per_kwh) else o.gco2_per_kwh
            for o in self.options
        ]
        return np.array([np.broadcast_to(row, self.hours.shape) for row in rows], dtype=float)

    def at_periods(self, rows: Index, rate: Array, hours: Array) -> FleetProblem:
        """Return the problem of the periods at `rows` (K,), with other rates (K, C) and hours (K,)."""
        grids = {name: grams[rows] for name, grams in self.region_gco2.items()}
        return replace(self, rate=rate, hours=hours, gco2_per_kwh=self.gco2_per_kwh[rows], region_gco2=grids)

    @property
    def may_miss(self) -> int:
        """Return how many of the draws in `worlds` need not be served."""
        draws = sum(not w.must for w in self.worlds)
        return int(np.floor(draws * (1.0 - self.worlds_kept) + WHOLE_TOLERANCE))

    def of_options(self, rows: Index | Mask) -> FleetProblem:
        """Return the problem of the options at `rows` alone, numbers or booleans."""
        few = np.arange(len(self.options))[rows]
        worlds = tuple(replace(w, throughput=np.asarray(w.throughput)[few]) for w in self.worlds)
        options = tuple(self.options[i] for i in few)
        kept = None if self.kept is None else self.kept[few]
        return replace(self, options=options, throughput=np.asarray(self.throughput)[few], worlds=worlds, kept=kept)

    @property
    def periods(self) -> int:
        """Return the number of periods of the day."""
        return len(self.hours)

    @property
    def starts(self) -> Array:
        """Return the hour at which each period begins, (P,); the first begins at 0."""
        return np.concatenate([[0.0], np.cumsum(self.hours)[:-1]])

    def without_throughput(self, where: Mask) -> FleetProblem:
        """Return the problem with no throughput, in any world, where `where` is True; it broadcasts to (O, C)."""
        worlds = tuple(replace(w, throughput=np.where(where, 0.0, w.throughput)) for w in self.worlds)
        return replace(self, throughput=np.where(where, 0.0, self.throughput), worlds=worlds)

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
    _check_prices(problem)
    _check_supplies(problem)
    worlds = tuple(replace(w, throughput=np.atleast_2d(np.asarray(w.throughput, dtype=float))) for w in problem.worlds)
    wrong = next((w for w in worlds if w.throughput.shape != wanted), None)
    if wrong is not None:
        raise InputError(
            f"fleet: throughput of world {wrong.name!r} is {wrong.throughput.shape}, but there are {wanted} "
            "(options, classes); give one row per option and one column per class"
        )
    carbon = np.broadcast_to(np.asarray(problem.gco2_per_kwh, dtype=float), hours.shape)
    grids = {n: np.broadcast_to(np.asarray(g, dtype=float), hours.shape) for n, g in problem.region_gco2.items()}
    problem = replace(problem, gco2_per_kwh=carbon, region_gco2=grids)
    return replace(problem, rate=rate, throughput=throughput, hours=hours, worlds=worlds)


def _check_prices(problem: FleetProblem) -> None:
    """Raise `InputError` where the objective or a limit needs a price, a power or a carbon that is unknown."""
    if problem.objective not in OBJECTIVES:
        raise InputError(f"fleet: objective is {problem.objective!r}; give one of {', '.join(OBJECTIVES)}")
    supplied = {s.device for s in problem.inventory.supplies}
    bare = [o for o in problem.options if not supplied.issuperset(o.devices_of)]
    unpriced = [o.name for o in bare if not (np.isfinite(o.usd_per_hour) and o.usd_per_hour >= 0)]
    if unpriced:
        raise InputError(f"fleet: no price for {', '.join(unpriced)}; give usd_per_hour, or leave options out")
    weighed = problem.objective in ("power", "carbon") or np.isfinite(problem.inventory.carbon)
    unknown = [o.name for o in problem.options if not np.isfinite(o.power)]
    if unknown and (np.isfinite(problem.inventory.power) or weighed):
        what = "a power limit is set" if np.isfinite(problem.inventory.power) else "power counts"
        raise InputError(
            f"fleet: {what}, but the power of {', '.join(unknown)} is not known; "
            "give it (power_w in a scenario), or drop the limit"
        )
    if (problem.objective == "carbon" or np.isfinite(problem.inventory.carbon)) and (np.isnan(problem.gco2).any()):
        where = next(o for o, grams in zip(problem.options, problem.gco2, strict=True) if np.isnan(grams).any())
        place = f"region {where.region!r}" if where.region else "[site]"
        raise InputError(
            f"fleet: carbon counts, but that of the electricity of option {where.name!r} is unknown; "
            f"give {place} a gco2_per_kwh"
        )


def _check_supplies(problem: FleetProblem) -> None:
    """Raise `InputError` where the supplies of a device contradict themselves or one another."""
    seen = set()
    for supply in problem.inventory.supplies:
        if supply.kind not in SUPPLY_KINDS:
            raise InputError(f"fleet: supply of {supply.device} is {supply.kind!r}; give {', '.join(SUPPLY_KINDS)}")
        if supply.name in seen:
            raise InputError(f"fleet: {supply.name} is supplied twice; give one price and one number for it")
        if not (np.isfinite(supply.usd_per_hour) and supply.usd_per_hour >= 0):
            raise InputError(f"fleet: no price for the supply {supply.name}; give it usd_per_hour")
        if supply.least > supply.most:
            raise InputError(f"fleet: supply {supply.name}: least {supply.least:g} is above most {supply.most:g}")
        seen.add(supply.name)
    supplied = {s.device for s in problem.inventory.supplies}
    half = [o.name for o in problem.options if supplied & set(o.devices_of) and not supplied >= set(o.devices_of)]
    if half:
        raise InputError(f"fleet: option {half[0]!r} stands on devices of which only some are supplied; supply all")
