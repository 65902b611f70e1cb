"""Compute what a unit of a fleet adds to each quantity that is minimised or bounded: money, power, carbon, devices.

Every quantity is a mean over the periods, weighted by their hours. Units are those of `limits`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.unit_factors import WATTS_PER_KW
from search.fleet.problem_data.limits import prices, supplied, taken_of
from search.fleet.problem_data.problem import FleetProblem

#: Weight of power against one device where fleets cost the same. Chosen: it only decides between equal numbers.
POWER_WEIGHT = 1e-2


@dataclass(frozen=True)
class Numbers:
    """A fleet in numbers: O options, K supplies, P periods.

    replicas, spot: (O, P) in use, and those of them on spot devices. units: (O + W + K, P) replicas, nodes, devices
    held. started: (O, P) replicas that start with a period. moved: (O,) beyond those in use today. served: factor on
    the demand that is served.
    """

    replicas: Index
    spot: Array
    units: Array
    started: Array
    moved: Array
    served: float = 1.0


@dataclass(frozen=True)
class Weights:
    """What each part of a fleet adds to a quantity. units: (O + W + K, P). started, moved: (O,) per start, per move."""

    units: Array
    started: Array
    moved: Array

    def of(self, numbers: Numbers) -> float:
        """Return the quantity of a fleet."""
        starts = self.started @ numbers.started.sum(axis=1)
        return float((self.units * numbers.units).sum() + starts + self.moved @ numbers.moved)


def weights(problem: FleetProblem, quantity: str) -> Weights:
    """Return what each part of a fleet adds to a quantity, as the mean over the periods.

    quantity: `money` (USD per hour), `cost` (money and penalties), `power` (W), `carbon` (g of CO2e per hour),
    `devices` (with a little power, so that equal numbers are decided by it).
    """
    options, share = problem.options, problem.hours / problem.hours.sum()
    none = np.zeros(len(options))
    rest = np.zeros(len(problem.by_node) + len(problem.inventory.supplies))
    watts = np.array([o.power for o in options])
    if quantity in ("money", "cost"):
        penalty = np.array([o.penalty_usd_per_hour for o in options]) * (quantity == "cost")
        each = prices(problem) + np.concatenate([penalty, rest])
        moved = np.array([o.migration_usd for o in options]) / problem.horizon_h
        return Weights(each[:, None] * share, start_usd(problem) / problem.hours.sum(), moved)
    if quantity == "carbon":
        grams = problem.gco2 * watts[:, None] / WATTS_PER_KW
        return Weights(np.concatenate([grams * share, np.zeros((len(rest), len(share)))]), none, none)
    if quantity == "devices":
        known = np.nan_to_num(watts)
        each = np.array([o.devices for o in options]) + POWER_WEIGHT * known / max(known.sum(), 1.0)
    else:
        each = watts
    return Weights(np.concatenate([each, rest])[:, None] * share, none, none)


def start_usd(problem: FleetProblem) -> Array:
    """Return what one start of a replica costs, (O,): its rent while it starts. Held devices are free meanwhile."""
    rented = {s.device: s.usd_per_hour for s in problem.inventory.supplies if s.kind == "on_demand"}
    rent = np.array([o.usd_per_hour for o in problem.options])
    for device in {*supplied(problem), *problem.by_node}:
        on = problem.devices_on(device) > 0
        each = rented.get(device, 0.0) if device in supplied(problem) else problem.inventory.node_usd_per_hour[device]
        rent = np.where(on, np.where([len(o.devices_of) > 1 for o in problem.options], rent, 0.0), rent)
        rent = rent + each * taken_of(problem, device)
    return np.asarray(np.nan_to_num(rent) * np.array([o.start_up_h for o in problem.options]))
