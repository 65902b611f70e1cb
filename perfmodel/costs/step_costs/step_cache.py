"""Remember what steps cost, so that a search that meets a step again does not price it again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array, row_keys, stack
from perfmodel.costs.cost import CostModel
from perfmodel.costs.step_costs.distinct_steps import layout_columns
from perfmodel.costs.step_costs.steps import COST_FIELDS, LEADING, Launches, StepCost, step_cost
from perfmodel.deployment import Sharding
from perfmodel.hardware import Hardware
from perfmodel.operators import Step, step_shape

#: Most steps that are remembered. Chosen: they take some 100 MB; a search of more candidates meets few steps twice.
MOST_KNOWN = 200_000
_CODES = ("basis", "batches")


class StepCache:
    """Remember the cost of every step that was priced, by layout and by the tokens in the step.

    One instance serves one model, one engine, one cost model, and deployments with the same adapters, hosts and
    settings of expert parallelism: its holder makes sure of that. Devices count as equal only where they are the same
    object; the cache holds on to them.
    """

    def __init__(self, most: int = MOST_KNOWN) -> None:
        """Begin with no step known; most: steps that are remembered at most."""
        self._most = most
        self.full = False  # whether steps were priced that there was no room to remember
        self._devices: dict[int, tuple[Device, int]] = {}
        self._layouts: dict[bytes, int] = {}
        self._places: dict[bytes, int] = {}
        self._costs = np.empty((0, 0))  # one column per step, with room for more
        self._drafter: StepCache | None = None

    @property
    def drafter(self) -> StepCache:
        """Return the same for the steps of the one model that drafts for this model."""
        self._drafter = self._drafter or StepCache(self._most)
        return self._drafter

    def cost(
        self,
        sharding: Sharding,
        hardware: Hardware,
        costs: CostModel,
        step: Step,
        launches: Launches | None = None,
        *,
        number: Array | None = None,
    ) -> StepCost:
        """Return the cost of a step as `step_cost` does; only candidates whose step is not known yet are priced.

        number: what `numbered` returns, where that is known already.
        """
        shape = step_shape(step, sharding.tp)
        if len(self._places) + math.prod(shape) > self._most:
            self.full = True
            return step_cost(sharding, hardware, costs, step, launches)
        number = self.numbered(sharding, hardware) if number is None else number
        columns = [number, *step.columns()]
        table = stack(columns, shape).reshape(len(columns), -1).T + 0.0  # of -0.0 it makes 0.0
        keys = row_keys(table)
        places = list(map(self._places.get, keys))
        if None in places:
            new: dict[bytes, int] = {}
            for at, place in enumerate(places):
                if place is None:
                    new.setdefault(keys[at], at)
            rows = np.array(list(new.values()), dtype=np.intp)
            of_candidate = np.broadcast_to(np.arange(len(sharding.tp)), shape).ravel()[rows]
            fresh = Step(*table[rows, 1:].T)
            priced = step_cost(sharding.take(of_candidate), hardware.take(of_candidate), costs, fresh, launches)
            self._keep(new, priced)
            places = list(map(self._places.get, keys))
        found = self._costs[:, np.array(places, dtype=np.intp)]
        return _unpacked(found, shape)

    def numbered(self, sharding: Sharding, hardware: Hardware) -> Array:
        """Return a number for the device and layout of each candidate, (N,): equal ones have equal numbers."""
        numbers = [self._devices.setdefault(id(d), (d, len(self._devices)))[1] for d in hardware.devices]
        columns = [np.array(numbers)[hardware.index], *layout_columns(sharding)]
        table = stack(columns, sharding.tp.shape).T
        return np.array([self._layouts.setdefault(key, len(self._layouts)) for key in row_keys(table)], float)

    def _keep(self, new: dict[bytes, int], priced: StepCost) -> None:
        """Remember the costs of the steps `new`, in their order."""
        packed = np.concatenate([np.reshape(getattr(priced, name), (LEADING.get(name, 1), -1)) for name in COST_FIELDS])
        start, stop = len(self._places), len(self._places) + len(new)
        if stop > self._costs.shape[1]:  # twice the room, so that each step is moved a few times at most
            room = np.empty((len(packed), 2 * stop))
            room[:, :start] = self._costs[:, :start] if start else room[:, :0]
            self._costs = room
        self._costs[:, start:stop] = packed
        self._places.update({key: start + i for i, key in enumerate(new)})


def _unpacked(packed: Array, shape: tuple[int, ...]) -> StepCost:
    """Return the cost whose fields are the rows of `packed`, one column per step; `shape` is that of its arrays."""
    arrays: dict[str, Any] = {}
    start = 0
    for name in COST_FIELDS:
        stop = start + LEADING.get(name, 1)
        part = packed[start:stop].reshape((-1, *shape)) if name in LEADING else packed[start].reshape(shape)
        arrays[name] = part.astype(np.int8) if name in _CODES else part
        start = stop
    return StepCost(**arrays)
