"""Keep step costs between calls of `estimate`, so that a later call for the same deployment prices few new steps.

A caller who varies the load or the output lengths needs the same prefills, and many of the same decode batches, again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock, RLock
from typing import Any, NamedTuple

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.costs import CostModel, StepCache, StepCost
from perfmodel.deployment import Deployments, Sharding
from perfmodel.engines import Engine
from perfmodel.hardware import Hardware
from perfmodel.models import ModelSpec

#: Candidates times request classes up to which a call uses kept steps. Chosen: beyond, telling known steps from new
#: ones takes as long as pricing them together.
FEW = 64
#: Models whose steps are kept, and steps of each: some 40 MB at most. Chosen.
_MOST_MODELS, _MOST_STEPS = 4, 20_000
#: Calls whose layouts are kept for each model. Chosen.
_MOST_LAID = 256
#: Columns of deployments that change what a step costs, and that `StepCache` does not tell apart.
_HOSTED = ("host_weights", "host_experts", "host_kv", "drafts")


class Laid(NamedTuple):
    """Hold what follows from deployments, whatever their load."""

    sharding: Sharding
    hardware: Hardware


class SharedStepCache(StepCache):
    """Known steps that several threads may ask for, and the layouts of the deployments that run them."""

    def __init__(self) -> None:
        """Begin with no step known."""
        super().__init__(_MOST_STEPS)
        self._lock = RLock()  # pricing steps numbers their layouts
        self._laid: dict[bytes, tuple[tuple[Device, ...], Laid]] = {}

    def laid_out(self, deployments: Deployments, make: Callable[[Deployments], Laid]) -> Laid:
        """Return what `make` returns for deployments, computed once for those with the same devices and columns."""
        key = deployments.as_bytes()
        kept = self._laid.get(key)
        if kept is not None and kept[0] == deployments.devices:
            return kept[1]
        found = make(deployments.take(np.arange(len(deployments))))  # a copy, that no caller changes
        if len(self._laid) >= _MOST_LAID:
            self._laid.clear()
        self._laid[key] = deployments.devices, found
        return found

    def cost(self, *given: Any, **named: Any) -> StepCost:
        """Do as `StepCache.cost`, one thread at a time."""
        with self._lock:
            return super().cost(*given, **named)

    def numbered(self, sharding: Sharding, hardware: Hardware) -> Array:
        """Do as `StepCache.numbered`, one thread at a time: no two layouts get one number."""
        with self._lock:
            return super().numbered(sharding, hardware)


#: What was kept, the latest last, by the identity of model, engine and cost model and by the settings of expert
#: parallelism. Each entry holds these objects, so that no other object gets the identity of one of them.
_KEPT: OrderedDict[tuple[object, ...], tuple[tuple[object, ...], SharedStepCache]] = OrderedDict()
_KEEPING = Lock()


def kept_steps(
    model: ModelSpec, engine: Engine, costs: CostModel | None, deployments: Deployments, classes: int
) -> SharedStepCache | None:
    """Return the steps that are kept for a model, an engine and a cost model; None where none are.

    None are kept for many candidates, and for deployments whose steps depend on more than `StepCache` tells apart:
    low-rank adapters, data in host memory, drafts.

    costs: the cost model, None for the engine's. classes: how many request classes there are.
    """
    if len(deployments) * classes > FEW or deployments.adapters is not None:
        return None
    if any(np.any(getattr(deployments, name) > 0) for name in _HOSTED):
        return None
    key = (id(model), id(engine), id(costs), deployments.routing)
    with _KEEPING:
        if key not in _KEPT or _KEPT[key][1].full:  # a full one would keep its first steps for ever
            _KEPT[key] = (model, engine, costs), SharedStepCache()
            while len(_KEPT) > _MOST_MODELS:
                _KEPT.popitem(last=False)
        _KEPT.move_to_end(key)
        return _KEPT[key][1]
