"""The cost of one pass: demands priced and summed, with what the sum rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.host_waits import with_waits
from perfmodel.deployment import Sharding
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand, Step, operators, step_shape
from perfmodel.vocabulary import BASES, BOUNDS, LAUNCH_BOUND, LINK_FAMILIES

#: Kernels that an engine launches one by one for an operator where no graph is captured; one for the others. Experts
#: are gated, sorted, quantised twice and reduced beside two GEMMs; latent attention and scans project, rotate, quantise
#: and write caches by kernels of their own. Round numbers (assumed) that order first-token times at low load as
#: measured: past the device's own, 0.6 ms a layer of plain attention, 2 of latent attention, 2.7 of a delta rule.
LAUNCHES = {"grouped_gemm": 20.0, "mla_prefill": 30.0, "attention_prefill": 5.0, "recurrent_prefill": 40.0}
#: A term counts for a sum's basis when it is at least this share of it.
SIGNIFICANT = 0.1


@dataclass(frozen=True)
class StepCost:
    """Device time of one pass, (C, N) or (N,), host time excluded.

    time: s. bound: (4, ...) s by what limits (`perfmodel.costs.BOUNDS`). basis: codes of `BASES`, the worst that
    carries a significant share. spread: log half-width of the 80 % interval. calls: kernels launched (`LAUNCHES`).
    links: (2, ...) s of collectives limited by links, and by their launch. hidden: s of work that runs behind other
    work, not in `time`; batches: micro-batches the pass is cut into (`perfmodel.engines.overlap`).
    """

    time: Array
    bound: Array
    basis: np.ndarray
    spread: Array
    calls: Array
    links: Array
    hidden: Array
    batches: np.ndarray

    def take(self, turn: int, shape: tuple[int, ...]) -> StepCost:
        """One of several passes that were priced along a first axis, in `shape`."""
        leading = {n: getattr(self, n)[:, turn].reshape(-1, *shape) for n in ("bound", "links")}
        names = (f.name for f in fields(self) if f.name not in leading)
        return StepCost(**leading, **{n: getattr(self, n)[turn].reshape(shape) for n in names})


#: Coordinates that choose a table; demands are priced together only where these agree.
_CHOOSING = ("weight", "act", "kv_bytes")


def priced(sharding: Sharding, hardware: Hardware, costs: CostModel, step: Step) -> Iterator[tuple[Demand, Cost]]:
    """Every demand of a pass with its cost, waits for the host among them."""
    return with_waits(sharding, step, _priced(sharding, hardware, costs, step))


def _priced(sharding: Sharding, hardware: Hardware, costs: CostModel, step: Step) -> Iterator[tuple[Demand, Cost]]:
    """Every demand with its cost.

    Demands of one family and the same formats are priced in one call, stacked along a new first axis: a look-up has a
    fixed cost, and a pass has a dozen GEMMs.
    """
    alike: dict[tuple[object, ...], list[Demand]] = {}
    for demand in operators(sharding, step):
        if np.any(demand.count):
            chosen = (np.asarray(demand.shape[k]).tobytes() for k in _CHOOSING if k in demand.shape)
            key = (demand.family, np.asarray(demand.compute).tobytes(), *chosen)
            alike.setdefault(key, []).append(demand)
    for demands in alike.values():
        if len(demands) == 1:
            yield demands[0], costs.cost(demands[0], hardware)
            continue
        whole = _stacked(demands, len(hardware.index))
        cost = costs.cost(whole, hardware)
        shape = np.broadcast_shapes(np.shape(whole.moved), np.shape(cost.time))
        parts = [np.broadcast_to(part, shape) for part in (cost.time, cost.basis, cost.spread, cost.bound)]
        for number, demand in enumerate(demands):
            yield demand, Cost(*(part[number] for part in parts))


def _stacked(demands: list[Demand], count: int) -> Demand:
    """Demands of one family as one whose arrays have them along a new first axis."""
    first = demands[0]
    names = [k for k in first.shape if k not in _CHOOSING]
    arrays = [[d.flop, d.moved, d.message, *(d.shape[k] for k in names)] for d in demands]
    common = np.broadcast_shapes((count,), *(np.shape(a) for each in arrays for a in each))

    def stack(column: tuple[object, ...]) -> Array:
        return np.stack([np.broadcast_to(np.asarray(a, float), common) for a in column])

    flop, moved, message, *rest = map(stack, zip(*arrays, strict=True))
    shape = {**{k: first.shape[k] for k in _CHOOSING if k in first.shape}, **dict(zip(names, rest, strict=True))}
    return Demand(
        name=first.family,
        family=first.family,
        flop=flop,
        moved=moved,
        message=message,
        count=first.count,
        compute=first.compute,
        shape=shape,
    )


def step_cost(sharding: Sharding, hardware: Hardware, costs: CostModel, step: Step) -> StepCost:
    """Price a pass and sum it; see `summed`."""
    return summed(priced(sharding, hardware, costs, step), step_shape(step, sharding.tp))


def summed(terms: Iterable[tuple[Demand, Cost]], shape: tuple[int, ...]) -> StepCost:
    """Sum a pass operator by operator, keeping running totals only (10^6 candidates x operators would not fit).

    Errors within a family are taken as fully correlated (one kernel library, one systematic error), across families
    as independent: spreads add linearly inside a family and in quadrature between families, weighted by time.
    """
    bound = np.zeros((len(BOUNDS), *shape))
    by_basis = np.zeros((len(BASES), *shape))
    by_family: dict[str, Array] = {}
    calls, links = np.zeros(shape), np.zeros((2, *shape))
    for demand, cost in terms:
        # an absent operator (count 0) must not turn an unknown price into an unknown sum
        time = np.where(demand.count > 0, demand.count * cost.time, 0.0)
        calls += demand.count * LAUNCHES.get(demand.family, 1.0)
        if demand.family in LINK_FAMILIES:
            launched = np.where(cost.bound == LAUNCH_BOUND, time, 0.0)
            links[0] += time - launched
            links[1] += launched
        for code in np.unique(cost.bound):
            bound[code] += np.where(cost.bound == code, time, 0.0)
        for code in np.unique(cost.basis):
            by_basis[code] += np.where(cost.basis == code, time, 0.0)
        weighted = np.where(demand.count > 0, time * cost.spread, 0.0)
        by_family[demand.family] = by_family.get(demand.family, 0.0) + weighted
    total = bound.sum(axis=0)
    variance = sum((np.square(v) for v in by_family.values()), np.zeros(shape))
    with np.errstate(invalid="ignore", divide="ignore"):
        significant = by_basis >= SIGNIFICANT * total
        spread = np.sqrt(variance) / total
    worst = len(BASES) - 1 - np.argmax(significant[::-1], axis=0)
    basis = np.where(np.isfinite(total), worst, len(BASES) - 1).astype(np.int8)
    return StepCost(total, bound, basis, spread, calls, links, hidden=np.zeros(shape), batches=np.ones(shape, np.int8))
