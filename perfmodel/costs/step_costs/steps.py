"""Price one step: price its demands (operators) and sum them, with the basis and spread of the sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Codes, Index, Mask, codes_in, common_shape, stack
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.cost_model_choice.fallback import merge, narrowed, taken
from perfmodel.costs.measured_tables.profiled import demand_shape, empty
from perfmodel.costs.step_costs.batched_pricing import Deferred, of_architecture
from perfmodel.costs.step_costs.context_parallel import with_exchanges
from perfmodel.costs.step_costs.host_waits import with_waits
from perfmodel.costs.step_costs.unique_rows import MOSTLY_DISTINCT, find_unique_rows, ordered
from perfmodel.deployment import Sharding
from perfmodel.dtypes import COMPUTE_BYTES
from perfmodel.engines import defaults
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand, Step, operators, step_shape
from perfmodel.vocabulary import BASES, BOUNDS, LAUNCH_BOUND, LINK_FAMILIES, MOVED, PICKED_PREFILL, SENT, WORK

#: Share of a sum from which the terms of one basis count for the basis of the sum (chosen: smaller terms
#: hardly move the sum).
SIGNIFICANT = 0.1
#: Coordinates of a demand that decide which table prices it; demands are priced together only where these agree.
_CHOOSING = ("weight", "act", "kv_bytes", "layout", "picks", "groups", "top_groups")
#: Those of them that decide it for each candidate.
_FORMATS = ("weight", "act", "kv_bytes")
#: Candidates from which equal calls are looked for. Chosen: pricing fewer takes no longer than that.
MANY = 1024
#: Row of `WORK` that counts the FLOP of each compute type (`perfmodel.dtypes.COMPUTE`): 16 bits and more, 8, 4.
_WIDTH = np.select([COMPUTE_BYTES >= 2.0, COMPUTE_BYTES >= 1.0], [0, 1], 2)
#: Family without a number of launches of its own -> the family whose it has.
_LAUNCHED_AS = {PICKED_PREFILL: "mla_prefill"}
#: Kernels launched per operator, by operator family: `Engine.kernel_launches`.
Launches = Iterable[tuple[str, float]]
#: Fields of a `StepCost` with a leading axis of their own -> its length; the others have none.
LEADING = {"bound": len(BOUNDS), "links": 2, "work": len(WORK)}


@dataclass(frozen=True)
class StepCost:
    """Holds the device time of one step without host time; arrays (N,), or with leading axes.

    time: seconds. bound: (4, ...) seconds by what limits them (`BOUNDS`); they sum to `time`. basis: codes of `BASES`,
    the worst that carries a significant share. spread: log half-width of the 80 % interval. calls: kernels launched.
    operators: operators run, each of one or more kernels. links: (2, ...) seconds of collectives limited by links, and
    by their launch. hidden: seconds of work that overlaps longer work and is not part of `time`. batches: micro-batches
    per step (`perfmodel.engines.Overlap`). work: (5, ...) what the busiest device does, as `WORK` lists it.
    """

    time: Array
    bound: Array
    basis: Codes
    spread: Array
    calls: Array
    links: Array
    hidden: Array
    batches: Codes
    work: Array
    operators: Array = field(default_factory=lambda: np.zeros(1))

    def take(self, turn: int | slice, shape: tuple[int, ...]) -> StepCost:
        """Return step number `turn` of several that were priced together along a first axis, reshaped to `shape`.

        As a slice it is that of the rows of a step that has several.
        """
        leading = {n: getattr(self, n)[:, turn].reshape(-1, *shape) for n in LEADING}
        return StepCost(**leading, **{n: getattr(self, n)[turn].reshape(shape) for n in _PLAIN})

    def gathered(self, which: Index, shape: tuple[int, ...]) -> StepCost:
        """Return the costs of the steps number `which` of several that lie along the last axis, reshaped to `shape`."""
        arrays = {name: getattr(self, name)[..., which] for name in COST_FIELDS}
        return StepCost(**{n: v.reshape((-1, *shape) if n in LEADING else shape) for n, v in arrays.items()})


#: Fields of a `StepCost` in their order, and those without a leading axis of their own.
COST_FIELDS = tuple(f.name for f in fields(StepCost))
_PLAIN = tuple(name for name in COST_FIELDS if name not in LEADING)


def priced(sharding: Sharding, hardware: Hardware, costs: CostModel, step: Step) -> Iterator[tuple[Demand, Cost]]:
    """Yield every demand of a step with its cost per call, waits for data in host memory included."""
    served = of_architecture(costs, sharding.model.architecture)
    return with_waits(sharding, step, with_exchanges(sharding, _priced(sharding, hardware, served, step)))


def _priced(sharding: Sharding, hardware: Hardware, costs: CostModel, step: Step) -> Iterator[tuple[Demand, Cost]]:
    """Yield every demand of a step with its cost per call, without waits for the host.

    Demands of one family and the same formats are priced in one call, stacked along a new first axis: a look-up has a
    fixed cost, and a step has a dozen GEMMs.
    """
    alike: dict[tuple[object, ...], list[Demand]] = {}
    for demand in operators(sharding, step):
        if np.count_nonzero(demand.count):
            chosen = (np.asarray(demand.shape[k]).tobytes() for k in _CHOOSING if k in demand.shape)
            key = (demand.family, *demand.shape, np.asarray(demand.compute).tobytes(), *chosen)
            alike.setdefault(key, []).append(demand)
    calls = (_call(demands, sharding, hardware) for demands in alike.values())
    for call, cost in _costs_of(calls, hardware, costs):
        if len(call.different) == 1:
            yield from ((demand, cost) for demand in call.demands)
            continue
        shape = common_shape(np.shape(call.whole.moved), np.shape(cost.time))
        parts = (getattr(cost, f.name) for f in fields(Cost))
        time, basis, spread, bound = (p if p.shape == shape else np.broadcast_to(p, shape) for p in parts)
        for n, demand in zip(call.turn, call.demands, strict=True):
            yield demand, Cost(time=time[n], basis=basis[n], spread=spread[n], bound=bound[n])


class _Call(NamedTuple):
    """Hold demands of a step that are priced in one call.

    different, turn: see `_different`. whole: what is priced: the different demands stacked, or the only one. rows: mask
    of the candidates that it is priced for, (N,); None for all.
    """

    demands: list[Demand]
    different: list[Demand]
    turn: list[int]
    whole: Demand
    rows: Mask | None


def _call(demands: list[Demand], sharding: Sharding, hardware: Hardware) -> _Call:
    """Return the call that prices demands of one family and formats on all candidates that call them."""
    different, turn = _different(demands)
    if len(different) > 1:
        return _Call(demands, different, turn, _stacked(different, len(hardware.index)), None)
    partly = demands[0].family == "grouped_gemm" and sharding.host is None
    return _Call(demands, different, turn, demands[0], _some_call(demands[0], hardware) if partly else None)


def _costs_of(calls: Iterable[_Call], hardware: Hardware, costs: CostModel) -> Iterator[tuple[_Call, Cost]]:
    """Yield each call with its cost on all candidates, NaN where it is not priced."""
    if isinstance(costs, Deferred):
        every = list(calls)
        asked = [_narrowed(call, hardware) for call in every]
        answers: Iterable[tuple[_Call, Cost]] = zip(every, costs.costs(asked), strict=True)
    else:
        answers = ((call, _alone(call, hardware, costs)) for call in calls)
    for call, cost in answers:
        if call.rows is None:
            yield call, cost
        else:
            total = empty(demand_shape(call.whole, hardware))
            merge(total, cost, call.rows)
            yield call, total


def _narrowed(call: _Call, hardware: Hardware) -> tuple[Demand, Hardware]:
    """Return the demand of a call and the hardware of the candidates that it is priced for."""
    if call.rows is None:
        return call.whole, hardware
    return narrowed(call.whole, call.rows), hardware.take(np.flatnonzero(call.rows))


def _alone(call: _Call, hardware: Hardware, costs: CostModel) -> Cost:
    """Return the cost of one call on the candidates that it is priced for."""
    if call.rows is not None:
        return costs.cost(*_narrowed(call, hardware))
    return _whole(call.whole, call.demands, hardware, costs)


def _different(demands: list[Demand]) -> tuple[list[Demand], list[int]]:
    """Return the demands without those that call what another does, and which of them each of `demands` is like.

    The mixer and the MLP of a layer send the same rows. Only collectives are compared, by the arrays that they share.
    """
    found: dict[tuple[object, ...], int] = {}
    different: list[Demand] = []
    turn: list[int] = []
    for place, demand in enumerate(demands):
        linked = demand.family in LINK_FAMILIES
        key = (id(demand.message), *map(id, demand.shape.values())) if linked else (place,)
        if key not in found:
            found[key] = len(different)
            different.append(demand)
        turn.append(found[key])
    return different, turn


def _whole(demand: Demand, members: list[Demand], hardware: Hardware, costs: CostModel) -> Cost:
    """Return the cost of a demand on every candidate; equal calls on equal devices are priced once and gathered.

    Candidates that differ in the format of their KV cache have the same GEMMs, and so on. Those that call none of the
    `members` that `demand` is stacked from, such as the collectives of a single device, get any price.
    """
    count = len(hardware.index)
    if count < MANY:
        return costs.cost(demand, hardware)
    calling = _calling(members, count)
    rows = slice(None) if len(calling) > MOSTLY_DISTINCT * count else calling
    given = (hardware.index, demand.flop, demand.moved, demand.message, demand.compute, *demand.shape.values())
    arrays = [np.asarray(v, float) for v in given if np.ndim(v) and np.shape(v)[-1] == count]
    found = find_unique_rows([column for array in arrays for column in array.reshape(-1, count)[:, rows]])
    if found is None or len(found[0]) > MOSTLY_DISTINCT * len(found[1]):
        if isinstance(rows, slice):
            return costs.cost(demand, hardware)
        first, which = rows, np.arange(len(rows))
    else:
        some = np.arange(count)[rows][found[0]]
        formats = [demand.shape[k][some] for k in _FORMATS if np.shape(demand.shape.get(k, 0.0)) == (count,)]
        order, which = ordered(*found, [*formats, hardware.index[some]])
        first = np.arange(count)[rows][order]
    place = np.zeros(count, np.intp)
    place[rows] = which
    part = costs.cost(taken(demand, first, count), hardware.take(first))
    wide = (getattr(part, f.name) for f in fields(Cost))
    return Cost(*(np.broadcast_to(w, (*w.shape[:-1], len(first)))[..., place] for w in wide))


def _calling(demands: list[Demand], count: int) -> Index:
    """Return the numbers of the candidates, of `count`, that call any of the demands."""
    called = np.zeros(count, bool)
    for demand in demands:
        called |= np.any(np.atleast_2d(demand.count > 0).reshape(-1, np.atleast_1d(demand.count).shape[-1]), axis=0)
    return np.flatnonzero(called)


def _some_call(demand: Demand, hardware: Hardware) -> Mask | None:
    """Return which candidates call a demand at all, (N,); None where all do, or nothing tells them apart.

    Experts are listed once for each way in which their tokens lie, of which a candidate uses one.
    """
    rows = np.any(np.atleast_2d(demand.count) > 0, axis=tuple(range(np.ndim(np.atleast_2d(demand.count)) - 1)))
    return None if len(rows) != len(hardware.index) or rows.all() else np.asarray(rows)


def _stacked(demands: list[Demand], count: int) -> Demand:
    """Stack demands of one operator family on `count` candidates into one demand, along a new first axis."""
    first = demands[0]
    names = [k for k in first.shape if k not in _CHOOSING]
    arrays = [[d.flop, d.moved, d.message, *(d.shape[k] for k in names)] for d in demands]
    common = common_shape((count,), *(np.shape(a) for each in arrays for a in each))
    flop, moved, message, *rest = (stack(column, common) for column in zip(*arrays, strict=True))
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


def step_cost(
    sharding: Sharding, hardware: Hardware, costs: CostModel, step: Step, launches: Launches | None = None
) -> StepCost:
    """Price the operators of a step with the model `costs` and sum them; launches: see `summed`."""
    return summed(priced(sharding, hardware, costs, step), step_shape(step, sharding.tp), launches)


def summed(terms: Iterable[tuple[Demand, Cost]], shape: tuple[int, ...], launches: Launches | None = None) -> StepCost:
    """Sum a step operator by operator, with running totals only (10^6 candidates x operators would not fit in memory).

    Args:
        terms: demands of the step with the cost per call of each.
        shape: shape of the sum, (N,) or with leading axes.
        launches: (operator family, kernels launched per operator) where not 1, as `Engine.kernel_launches`; None for
            the values of engines whose files give none.
    """
    kernels = dict(defaults().kernel_launches if launches is None else launches)
    bound = np.zeros((len(BOUNDS), *shape))
    by_basis = np.zeros((len(BASES), *shape))
    by_family: dict[str, Array] = {}
    calls, run, links, work = np.zeros(shape), np.zeros(shape), np.zeros((2, *shape)), np.zeros((len(WORK), *shape))
    for demand, cost in terms:
        # an absent operator (count 0) must not turn an unknown price into an unknown sum
        called = demand.count > 0
        time = np.where(called, demand.count * cost.time, 0.0)
        calls += demand.count * kernels.get(_LAUNCHED_AS.get(demand.family, demand.family), 1.0)
        run += demand.count
        _add_work(work, demand)
        if demand.family in LINK_FAMILIES:
            launched = np.where(cost.bound == LAUNCH_BOUND, time, 0.0)
            links[0] += time - launched
            links[1] += launched
        for codes, sums in ((cost.bound, bound), (cost.basis, by_basis)):
            _add_by_code(sums, codes, time)
        weighted = np.where(called, time * cost.spread, 0.0)
        by_family[demand.family] = by_family.get(demand.family, 0.0) + weighted
    total = bound.sum(axis=0)
    basis, spread = _certainty(total, by_basis, by_family)
    one, none = np.ones(shape, np.int8), np.zeros(shape)
    totals = {"time": total, "bound": bound, "calls": calls, "links": links, "work": work, "operators": run}
    return StepCost(**totals, basis=basis, spread=spread, hidden=none, batches=one)


def _add_work(work: Array, demand: Demand) -> None:
    """Add what all calls of `demand` do to the sums `work`, (5, ...), as `WORK` lists them."""
    work[MOVED] += demand.count * demand.moved
    if demand.family in LINK_FAMILIES:
        work[SENT] += demand.count * demand.message
        return
    _add_by_code(work, np.asarray(_WIDTH[demand.compute]), demand.count * demand.flop)


def _add_by_code(sums: Array, codes: Codes | Index, values: Array) -> None:
    """Add each of `values` to the row of `sums` that its code names; codes and values broadcast to a row."""
    present = codes_in(codes)
    if len(present) == 1:
        sums[present[0]] += values
        return
    for code in present:
        sums[code] += np.where(codes == code, values, 0.0)


def _certainty(total: Array, by_basis: Array, by_family: dict[str, Array]) -> tuple[Codes, Array]:
    """Return (basis, spread) of the summed seconds `total` (...,).

    by_basis: (BASES, ...) seconds by basis. by_family: seconds times spread, by operator family. Derived: errors within
    a family are taken as fully correlated (one kernel library, one systematic error), errors of different families as
    independent. So spreads, weighted by time, add within a family and in quadrature between families.
    """
    variance = sum((np.square(v) for v in by_family.values()), np.zeros(total.shape))
    with np.errstate(invalid="ignore", divide="ignore"):
        significant = by_basis >= SIGNIFICANT * total
        spread = np.sqrt(variance) / total
    worst = len(BASES) - 1 - np.argmax(significant[::-1], axis=0)
    return np.where(np.isfinite(total), worst, len(BASES) - 1).astype(np.int8), spread


def mean_cost(costs: list[StepCost], shares: list[Array]) -> StepCost:
    """Return the mean cost of a step, where each of `costs` is that of a share (0 to 1) of the steps.

    Basis and micro-batches are the largest among steps that occur; spreads are weighted by time.
    """
    shares = list(np.broadcast_arrays(*shares))
    occurs = [s > 0 for s in shares]

    def mean(name: str) -> Array:
        """Return the mean of one field, where steps that do not occur count as 0 whatever their price."""
        parts = (np.where(there, getattr(c, name) * s, 0.0) for c, s, there in zip(costs, shares, occurs, strict=True))
        return np.asarray(sum(parts))

    def largest(name: str) -> Codes:
        """Return the largest code of one field among the steps that occur."""
        codes = [np.where(there, getattr(c, name), 0) for c, there in zip(costs, occurs, strict=True)]
        return np.asarray(np.max(np.broadcast_arrays(*codes), axis=0), np.int8)

    time = mean("time")
    spreads = [np.where(t, s * c.time * c.spread, 0.0) for c, s, t in zip(costs, shares, occurs, strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.asarray(sum(spreads)) / time
    averaged = {name: mean(name) for name in ("bound", "calls", "links", "hidden", "work")}
    return StepCost(time=time, spread=spread, basis=largest("basis"), batches=largest("batches"), **averaged)
