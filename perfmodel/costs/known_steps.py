"""Remember what steps cost, so that a search that meets a step again does not price it again."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs.cost import CostModel
from perfmodel.costs.distinct import layout_columns
from perfmodel.costs.steps import LEADING, Launches, StepCost, step_cost
from perfmodel.deployment import Sharding
from perfmodel.hardware import Hardware
from perfmodel.operators import Step, step_shape

#: Most steps that are remembered. chosen: they take some 100 MB; a search of more candidates meets few steps twice.
MOST_KNOWN = 200_000
_CODES = ("basis", "batches")


class KnownSteps:
    """Remember the cost of every step that was priced, by layout and by the tokens in the step.

    One instance serves one model, one engine and one cost model: whoever holds it sees to that.
    """

    def __init__(self) -> None:
        """Begin with no step known."""
        self._devices: dict[str, int] = {}
        self._layouts: dict[bytes, int] = {}
        self._places: dict[bytes, int] = {}
        self._costs = np.empty((0, 0))
        self._drafter: KnownSteps | None = None

    @property
    def drafter(self) -> KnownSteps:
        """Return the same for the steps of the one model that drafts for this model."""
        self._drafter = self._drafter or KnownSteps()
        return self._drafter

    def cost(
        self, sharding: Sharding, hardware: Hardware, costs: CostModel, step: Step, launches: Launches | None = None
    ) -> StepCost:
        """Return the cost of a step as `step_cost` does; only candidates whose step is not known yet are priced."""
        shape = step_shape(step, sharding.tp)
        if len(self._places) + int(np.prod(shape)) > MOST_KNOWN:
            return step_cost(sharding, hardware, costs, step, launches)
        columns = [self._numbered(sharding, hardware), *(getattr(step, f.name) for f in fields(Step))]
        table = np.stack([np.broadcast_to(np.asarray(c, float), shape) for c in columns], axis=-1)
        table = table.reshape(-1, len(columns)) + 0.0  # of -0.0 it makes 0.0
        keys = _keys(table)
        new: dict[bytes, int] = {}
        for at, key in enumerate(keys):
            if key not in self._places:
                new.setdefault(key, at)
        if new:
            rows = np.array(list(new.values()), dtype=np.intp)
            of_candidate = np.broadcast_to(np.arange(len(sharding.tp)), shape).ravel()[rows]
            fresh = Step(**{f.name: table[rows, i] for i, f in enumerate(fields(Step), start=1)})
            priced = step_cost(sharding.take(of_candidate), hardware.take(of_candidate), costs, fresh, launches)
            self._keep(new, priced)
        found = self._costs[:, [self._places[key] for key in keys]]
        return _unpacked(found, shape)

    def _numbered(self, sharding: Sharding, hardware: Hardware) -> Array:
        """Return a number for the layout of each candidate, (N,): equal layouts have equal numbers."""
        names = np.array([self._devices.setdefault(d.name, len(self._devices)) for d in hardware.devices])
        columns = [names[hardware.index], *layout_columns(sharding)]
        table = np.stack([np.broadcast_to(np.asarray(c, float), sharding.tp.shape) for c in columns], axis=-1)
        return np.array([self._layouts.setdefault(key, len(self._layouts)) for key in _keys(table)], float)

    def _keep(self, new: dict[bytes, int], priced: StepCost) -> None:
        """Remember the costs of the steps `new`, in their order."""
        packed = np.concatenate(
            [np.reshape(getattr(priced, f.name), (LEADING.get(f.name, 1), -1)) for f in fields(StepCost)]
        )
        self._costs = np.concatenate([self._costs, packed], axis=1) if self._places else packed.astype(float)
        start = len(self._places)
        self._places.update({key: start + i for i, key in enumerate(new)})


def _keys(table: Array) -> list[bytes]:
    """Return each row of a table (M, K) as bytes."""
    rows = np.ascontiguousarray(table)
    width = rows.shape[1] * rows.itemsize
    whole = rows.tobytes()
    return [whole[at : at + width] for at in range(0, len(whole), width)]


def _unpacked(packed: Array, shape: tuple[int, ...]) -> StepCost:
    """Return the cost whose fields are the rows of `packed`, one column per step; `shape` is that of its arrays."""
    arrays: dict[str, Any] = {}
    start = 0
    for f in fields(StepCost):
        stop = start + LEADING.get(f.name, 1)
        part = packed[start:stop].reshape((-1, *shape)) if f.name in LEADING else packed[start].reshape(shape)
        arrays[f.name] = part.astype(np.int8) if f.name in _CODES else part
        start = stop
    return StepCost(**arrays)
