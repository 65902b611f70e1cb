"""Price the demands of many steps in common batches, because each table look-up has a fixed cost.

Steps of several models, or of one model under several kinds of load, call kernels of the same families on the same
devices. `Deferred` collects their demands from tasks that run beside each other, and `prices` answers them with one
call per operator family and format. A row gets the same price alone and in a batch. Engines that run the same
kernels are priced in one call; what each engine changes of these prices (`Adjusted`) follows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from hwdb import Device, PerfmodelError
from perfmodel.arrays import Index, widened
from perfmodel.cooperative_tasks import answer_alike
from perfmodel.costs.cost import Adjusted, Cost, CostModel, Served
from perfmodel.costs.cost_model_choice.fallback import taken
from perfmodel.costs.measured_tables.profiled import demand_shape
from perfmodel.costs.step_costs.unique_rows import find_unique_rows, ordered
from perfmodel.hardware import Hardware
from perfmodel.operators import PICKING, Demand

#: Coordinates of a demand that are codes of number formats, of each candidate.
_FORMATS = ("weight", "act", "kv_bytes")
#: Coordinates that hold for a demand as a whole: demands are priced together where these agree.
_OF_ALL = ("layout", "picks", "groups", "top_groups")


class Question(NamedTuple):
    """Ask what one call of `demand` costs on each row of `hardware` by the cost model `model`.

    architecture: of the model that is served, "" where the price does not depend on it.
    """

    model: CostModel
    demand: Demand
    hardware: Hardware
    architecture: str = ""

    @staticmethod
    def answers(questions: Sequence[Question]) -> list[Cost | PerfmodelError]:
        """Price questions, see `prices`."""
        return prices(questions)


#: Answers questions in their order; raises the error of any. Besides demands, tasks ask for what else has a fixed cost.
Ask = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Deferred:
    """Cost model that prices by `model`, and hands all demands of a step to `ask` at once.

    ask: answers questions of any kind (`perfmodel.cooperative_tasks.Kind`) beside those of other tasks. architecture:
    as of a `Question`.
    """

    model: CostModel
    ask: Ask
    architecture: str = ""

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        return self.costs([(demand, hardware)])[0]

    def costs(self, asked: Sequence[tuple[Demand, Hardware]]) -> Sequence[Cost]:
        """Return what `cost` does of several demands, each on hardware of its own."""
        return self.ask([Question(self.model, *each, self.architecture) for each in asked])


def of_architecture(costs: CostModel, name: str) -> CostModel:
    """Return a cost model for a model of an architecture."""
    if isinstance(costs, Deferred):
        has_levels = isinstance(costs.model, Adjusted) and costs.model.has_levels
        return replace(costs, architecture=name) if has_levels else costs
    return costs.for_architecture(name) if isinstance(costs, Adjusted) and costs.has_levels else costs


def prices(questions: Sequence[Question]) -> list[Cost | PerfmodelError]:
    """Price questions, those that are alike in one call; of one that cannot be answered, return the error."""
    return answer_alike(questions, _kind, _together)


def _kind(question: Question) -> tuple[object, ...]:
    """Return what agrees between questions that are priced in one call; the order of coordinates may differ."""
    demand = question.demand
    whole = (np.asarray(demand.shape[k]).tobytes() for k in _OF_ALL if k in demand.shape)
    kernels, _ = _parts_of(question.model)
    return (id(kernels), demand.family, demand.name.startswith(PICKING), *sorted(demand.shape), *whole)


def _parts_of(model: CostModel) -> tuple[CostModel, list[Adjusted]]:
    """Return the cost model that a model adjusts, and its adjustments in their order.

    Engines that run the same kernels differ by adjustments alone.
    """
    adjusted: list[Adjusted] = []
    while isinstance(model, Adjusted):
        adjusted.append(model)
        model = model.model
    return model, adjusted[::-1]


def _together(questions: Sequence[Question]) -> Sequence[Cost | PerfmodelError]:
    """Price questions of one kind in one call; one by one where that fails, to tell which of them fail."""
    try:
        return _priced(questions)
    except PerfmodelError as error:
        if len(questions) == 1:
            return [error]
        return [_together([question])[0] for question in questions]


def _priced(questions: Sequence[Question]) -> Sequence[Cost]:
    """Price questions of one kind in one call, in which equal rows are priced once."""
    shapes = [demand_shape(q.demand, q.hardware) for q in questions]
    sizes = [int(np.prod(shape)) for shape in shapes]
    parts = [slice(stop - size, stop) for stop, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True)]
    models = list({id(q.model): q.model for q in questions}.values())
    model = _numbered([id(q.model) for q in questions], sizes)
    names = [q.architecture for q in questions]
    served = Served(tuple(dict.fromkeys(names)), _numbered(names, sizes))
    demand = _joined([q.demand for q in questions], shapes, parts)
    hardware, row = _of_all([q.hardware for q in questions], shapes)
    first, which = _different(demand, (hardware.index[row], model, served.which))
    asked = taken(demand, first, len(row)), hardware.take(row[first])
    cost = _cost(models, model[first], *asked, served._replace(which=served.which[first]))
    whole = {f.name: getattr(cost, f.name)[which] for f in fields(Cost)}
    return [
        Cost(**{name: values[part].reshape(shape) for name, values in whole.items()})
        for part, shape in zip(parts, shapes, strict=True)
    ]


def _numbered(keys: Sequence[Hashable], sizes: Sequence[int]) -> Index:
    """Return which of the different keys of questions each of their M rows has, (M,), numbered as they first come.

    keys, sizes: key and rows of each question.
    """
    turn = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return np.repeat([turn[key] for key in keys], sizes)


def _cost(models: Sequence[CostModel], which: Index, demand: Demand, hardware: Hardware, served: Served) -> Cost:
    """Return the cost of one call on each of U rows, by the model of each; all models adjust the same one.

    which: place of the model of each row, (U,). served: the architecture of each row.
    """
    kernels, _ = _parts_of(models[0])
    cost = kernels.cost(demand, hardware)
    whole: dict[str, Any] = {f.name: np.array(widened(getattr(cost, f.name), which.shape)) for f in fields(Cost)}
    for place, model in enumerate(models):
        rows = np.flatnonzero(which == place)
        part = Cost(**{name: values[rows] for name, values in whole.items()})
        # what an engine changes is asked for once per device
        of_rows, on = taken(demand, rows, len(which)), hardware.take(rows).narrowed()
        for adjusted in _parts_of(model)[1]:
            part = adjusted.over(part, of_rows, on, served._replace(which=served.which[rows]))
        for name, values in whole.items():
            values[rows] = getattr(part, name)
    return Cost(**whole)


def _different(demand: Demand, numbers: tuple[Index, ...]) -> tuple[Index, Index]:
    """Find the U different rows of a demand of M rows: return the place of one of each, (U,), and which each is, (M,).

    Those of one device and one format come after each other. numbers: of what else tells rows apart, (M,) each, that of
    the device first.
    """
    coordinates = {k: v for k, v in demand.shape.items() if k not in _OF_ALL}
    columns = (*numbers, demand.flop, demand.moved, demand.message, demand.compute, *coordinates.values())
    found = find_unique_rows([np.asarray(column, float) for column in columns])
    first, which = found or (np.arange(len(numbers[0])), np.arange(len(numbers[0])))
    return ordered(first, which, [numbers[0][first], *(coordinates[k][first] for k in _FORMATS if k in coordinates)])


def _joined(demands: Sequence[Demand], shapes: Sequence[tuple[int, ...]], parts: Sequence[slice]) -> Demand:
    """Return one demand of all rows of some of one kind, (M,); shapes, parts: shape and rows of each."""

    def column(values: Sequence[Any], kind: type) -> Any:
        out = np.empty(parts[-1].stop, kind)
        for value, shape, part in zip(values, shapes, parts, strict=True):
            out[part].reshape(shape)[...] = value
        return out

    first = demands[0]
    kinds = {"weight": np.intp, "act": np.intp}
    shape = {
        k: v if k in _OF_ALL else column([d.shape[k] for d in demands], kinds.get(k, float))
        for k, v in first.shape.items()
    }
    return Demand(
        name=first.name,
        family=first.family,
        flop=column([d.flop for d in demands], float),
        moved=column([d.moved for d in demands], float),
        message=column([d.message for d in demands], float),
        count=np.ones(1),
        compute=column([d.compute for d in demands], np.intp),
        shape=shape,
    )


def _of_all(hardware: Sequence[Hardware], shapes: Sequence[tuple[int, ...]]) -> tuple[Hardware, Index]:
    """Return all hardware of some demands, and which row of it each of their M rows is on, (M,).

    shapes: shape of each demand, whose last axis is that of its hardware.
    """
    devices: dict[int, tuple[int, Device]] = {}
    columns: dict[str, list[Any]] = {f.name: [] for f in fields(Hardware) if f.name not in ("devices", "index")}
    index: list[Index] = []
    starts: dict[int, int] = {}
    rows: list[Index] = []
    count = 0
    for each, shape in zip(hardware, shapes, strict=True):
        if id(each) not in starts:
            starts[id(each)] = count
            count += len(each.index)
            number = [devices.setdefault(id(d), (len(devices), d))[0] for d in each.devices]
            index.append(np.array(number, np.intp)[each.index])
            for name, column in columns.items():
                column.append(getattr(each, name))
        some = starts[id(each)] + np.arange(shape[-1])
        rows.append(np.broadcast_to(some, shape).ravel())
    every = {name: np.concatenate(column) for name, column in columns.items()}
    whole = Hardware(devices=tuple(d for _, d in devices.values()), index=np.concatenate(index), **every)
    return whole, np.concatenate(rows)
