"""The least-cost fleet: what it has, serves, costs and draws, as arrays and as flat rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.power import energy_per_token
from perfmodel.unit_factors import MS_PER_S, SECONDS_PER_HOUR
from search.fleet.accounting.bills import hourly_bills
from search.fleet.accounting.idle import Idle
from search.fleet.problem_data.limits import INTEGRALITY_TOLERANCE, taken_of
from search.fleet.problem_data.problem import FleetProblem
from search.manifest import Manifest
from search.scenario import Site, device_type

if TYPE_CHECKING:
    from search.fleet.replicas.modelled import Modelled

#: A limit is used up when less than this share of it is left.
LIMIT_TOLERANCE = 1e-9
#: Share of a class from which an option counts as serving all of it.
WHOLE_SHARE = 0.9999


@dataclass(frozen=True)
class Binding:
    """A limit that costs money: without it, the fleet would be `saving` USD per hour cheaper.

    limit, used: what is allowed and what the fullest period takes, in the unit of the limit.
    """

    name: str
    limit: float
    used: float
    saving: float


@dataclass(frozen=True)
class FleetPlan:
    """The least-cost fleet of O options for C request classes over P periods, with proof.

    replicas: (O, P) whole numbers. shares: (O, C, P) part of a class that each option serves; they sum to 1 over
    options. usd_per_hour: mean over periods, weighted by their hours. bound: proven lower bound on it. gap: their
    relative distance. binding: limits that cost money, the costliest first. manifest: what the fleet rests on, None
    where it does not come from a scenario. power_at_load: (O, P) watts at the load of each period, None where only the
    power at full load is known. slo_chance: (O, P) the chance that an option keeps the SLOs of what it serves, NaN
    unknown; None where nothing is modelled. output_rate: (O, P) output tokens/s of what an option serves, NaN unknown.
    power_spread: (O, P) log half-widths of the 80 % intervals of watts, NaN where watts are stated. scaled: of a static
    fleet over several periods, what each period needs of its options. static: of a fleet that changes over the day, the
    least-cost one that does not. idle: devices on hand that it does not use. site: its electricity. held: (K, P)
    devices that each supply rents out. spot: (O, P) replicas on spot devices. served: factor on the demand that was
    asked for; the problem's rates are those that are served. value: of the objective, NaN unknown; less is better.
    modelled: what its options run, None where it does not come from a scenario. options_stay: of a fleet whose replicas
    follow the load, whether its options stay the same all day.
    """

    problem: FleetProblem
    replicas: Index
    shares: Array
    usd_per_hour: float
    bound: float
    gap: float
    binding: tuple[Binding, ...]
    solver: str
    manifest: Manifest | None = None
    power_at_load: Array | None = None
    slo_chance: Array | None = None
    output_rate: Array | None = None
    power_spread: Array | None = None
    scaled: FleetPlan | None = None
    static: FleetPlan | None = None
    idle: tuple[Idle, ...] = ()
    site: Site = field(default_factory=Site)
    held: Array = field(default_factory=lambda: np.zeros((0, 1)))
    spot: Array = field(default_factory=lambda: np.zeros((0, 1)))
    served: float = 1.0
    value: float = math.nan
    modelled: Modelled | None = field(default=None, repr=False, compare=False)
    options_stay: bool = False

    @property
    def changes(self) -> bool:
        """Return whether the fleet differs from period to period, so that its figures are a most or a mean."""
        return self.static is not None and bool((self.replicas != self.replicas[:, :1]).any())

    @property
    def devices(self) -> dict[str, float]:
        """Return the devices in use by name, each in its fullest period."""
        used: dict[str, Array] = {}
        for option, counts in zip(self.problem.options, self.replicas, strict=True):
            for device, number in option.devices_of.items():
                used[device] = used.get(device, 0.0) + number * counts
        return {name: float(counts.max()) for name, counts in used.items() if counts.max() > 0}

    @property
    def power(self) -> float:
        """Return the watts of the whole fleet in the fullest period; NaN where an option in use has no known power."""
        return float(self.watts.sum(0).max())

    @property
    def watts(self) -> Array:
        """Return the watts of each option in each period, (O, P): at its load, or at full load where only that is
        known."""
        if self.power_at_load is not None:
            return self.power_at_load
        full = np.array([o.power for o in self.problem.options])[:, None]
        return np.where(self.replicas > 0, full * self.replicas, 0.0)

    def utilisation(self) -> Array:
        """Return how busy each option is in each period, (O, P): its load over the throughput of its replicas.

        NaN where it has no replica. Of several models that a replica serves, the busiest counts.
        """
        problem = self.problem
        speed = np.where(problem.serves(), problem.throughput, np.inf)
        each = self.shares / speed[:, :, None] * problem.rate.T[None]  # (O, C, P)
        load = np.array([np.max([e[at].sum(axis=0) for at in problem.loads(o)], axis=0) for o, e in enumerate(each)])
        return np.where(self.replicas > 0, load / np.maximum(self.replicas, 1), np.nan)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat record per option and period in use. Costs add up over the options.

        `remark`: what was left out of the comparison, and why; absent where nothing was. `replicas_needed`: of a static
        fleet over several periods, what the period needs. `utilisation_percent`: of what the replicas serve within the
        SLO; of a modelled option at most the utilisation that the scenario plans for.
        """
        problem, busy, hourly = self.problem, self.utilisation(), self.hourly()
        starts = problem.starts
        sure = self.slo_chance if self.slo_chance is not None else np.full(self.replicas.shape, np.nan)
        needed = self.scaled.replicas if self.scaled is not None else None
        return [
            {
                "option": problem.options[o].name,
                "device": device_type(problem.options[o].device),
                "region": problem.options[o].region,
                "model": problem.options[o].model,
                "serves": self._serves(int(o), int(t)),
                "period": int(t) + 1,
                "start_h": float(starts[t]),
                "hours": float(problem.hours[t]),
                "request_rate_rps": float(self.shares[o, :, t] @ problem.rate[t]),
                "replicas": int(self.replicas[o, t]),
                **({"replicas_needed": int(needed[o, t])} if needed is not None else {}),
                "devices": float(self.replicas[o, t] * problem.options[o].devices),
                "nodes": float(np.ceil(self.replicas[o, t] * problem.options[o].nodes - LIMIT_TOLERANCE)),
                "usd_per_hour": float(hourly[o, t]),
                "power_w": float(self.watts[o, t]),
                **self._power_range(int(o), int(t)),
                "utilisation_percent": float(busy[o, t]) * problem.options[o].most_used * 100.0,
                "slo_chance": float(sure[o, t]),
                "start_up_s": problem.options[o].start_up_h * SECONDS_PER_HOUR,
                "start_up_basis": problem.options[o].start_up_basis,
                **({"remark": "; ".join(problem.remarks)} if problem.remarks else {}),
            }
            for o, t in zip(*np.nonzero(self.replicas), strict=True)
        ]

    def _power_range(self, option: int, period: int) -> dict[str, float]:
        """Return the 80 % interval of the watts of an option in a period, and its joules per output token.

        They are NaN where power is stated and where output tokens are not known.
        """
        watts = float(self.watts[option, period])
        width = float(self.power_spread[option, period]) if self.power_spread is not None else math.nan
        tokens = float(self.output_rate[option, period]) if self.output_rate is not None else math.nan
        return {
            "power_w_lo": watts * math.exp(-width),
            "power_w_hi": watts * math.exp(width),
            "site_energy_j_per_output_token": float(energy_per_token(watts, tokens)) if tokens else math.nan,
        }

    def _serves(self, option: int, period: int) -> str:
        """Name the classes that an option serves in a period, with the share of a class that it does not serve all
        of."""
        shares = self.shares[option, :, period] * (self.problem.rate[period] > 0)
        named = [(self.problem.classes[c], shares[c]) for c in np.nonzero(shares)[0]]
        return ", ".join(name if share > WHOLE_SHARE else f"{100.0 * share:.0f} % of {name}" for name, share in named)

    def hourly(self) -> Array:
        """Return USD per hour of each option in each period, (O, P); NaN where no prices are known.

        The price of whole nodes, and of devices that are held, is split over the options by what their replicas take.
        """
        problem, bills = self.problem, hourly_bills(self.problem, self.replicas, self.held)
        each = np.array([0.0 if set(bills).intersection(o.devices_of) else o.usd_per_hour for o in problem.options])
        out: Array = np.asarray(each[:, None] * self.replicas, dtype=float)
        for device, bill in bills.items():
            taken = taken_of(problem, device)[:, None] * self.replicas
            held = taken.sum(axis=0)
            out += np.where(held > 0, taken / np.maximum(held, INTEGRALITY_TOLERANCE), 0.0) * bill
        return np.asarray(out * np.nan if problem.counts_devices else out, dtype=float)

    def share_rows(self) -> list[dict[str, Any]]:
        """Return one flat record per option, class and period in use: how much of the class the option serves."""
        problem = self.problem
        return [
            {
                "class": problem.classes[c],
                "option": problem.options[o].name,
                "region": problem.options[o].region,
                "network_ms": MS_PER_S * problem.round_trip(problem.options[o], problem.classes[c]),
                "period": int(t) + 1,
                "share_percent": float(self.shares[o, c, t]) * 100.0,
                "request_rate_rps": float(self.shares[o, c, t] * problem.rate[t, c]),
                "throughput_rps_per_replica": float(problem.throughput[o, c]),
            }
            for o, c, t in zip(*np.nonzero(self.shares), strict=True)
        ]

    def binding_rows(self) -> list[dict[str, Any]]:
        """Return one flat record per limit that costs money."""
        return [
            {"limit": b.name, "allowed": b.limit, "used": b.used, "saving_usd_per_hour": b.saving} for b in self.binding
        ]
