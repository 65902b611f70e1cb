"""Demands of many steps that are priced together cost what each costs alone, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import pytest

import hwdb
from hwdb import InputError, PerfmodelError
from perfmodel import engine, model
from perfmodel.cooperative_tasks import checked
from perfmodel.costs import BOUNDS, KERNELS, Cost, CostModel, Deferred, Roofline, StepCost, default, step_cost
from perfmodel.costs.engine_effects import engine_factors
from perfmodel.costs.step_costs.batched_pricing import Question, of_architecture, prices
from perfmodel.deployment import Sharding, shard
from perfmodel.deployment.columns import deployments
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.operators import Demand, Step, operators

MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3", "google/gemma-2-9b")
#: Measured ones, and ones that borrow from several others.
DEVICES = ("h100-sxm", "a100-sxm-80gb", "rtx-4070", "l4", "mi250", "h20-3e", "m3-max")
ENGINES = ("vllm", "sglang")


@cache
def costs_of(name: str) -> CostModel:
    """Cost model of an engine."""
    return default(engine(name))


def drawn(seed: int) -> tuple[CostModel, Sharding, Hardware, Step]:
    """A step of a few candidates of one model on some devices, for one engine."""
    draw = np.random.default_rng(seed)
    count = int(draw.integers(1, 6))
    devices = [hwdb.device(str(name)) for name in draw.choice(DEVICES, 2, replace=False)]
    placed = deployments(devices, device=draw.integers(0, 2, count), tp=draw.choice([1.0, 2.0, 8.0], count))
    shape = (2, count) if seed % 2 else (count,)
    step = Step(
        prefill_tokens=draw.choice([0.0, 700.0, 9000.0], shape),
        prefill_context=draw.choice([0.0, 3000.0], shape),
        decode_seqs=draw.choice([1.0, 40.0], shape),
        decode_context=draw.choice([100.0, 20_000.0], shape),
    )
    costs = costs_of(str(draw.choice(ENGINES)))
    return costs, shard(model(str(draw.choice(MODELS))), placed), hardware_of(placed.devices, placed.device), step


def same(found: Cost | StepCost | PerfmodelError, expected: Cost | StepCost) -> None:
    """Compare costs to the last bit; those of one call broadcast."""
    for f in fields(expected):
        one = getattr(found, f.name)
        np.testing.assert_array_equal(one, np.broadcast_to(getattr(expected, f.name), np.shape(one)))


@pytest.mark.parametrize("start", range(0, 24, 8))
def test_demands_that_are_priced_together_cost_what_they_do_alone(start: int) -> None:
    steps = [drawn(seed) for seed in range(start, start + 8)]
    questions = [
        Question(costs, demand, hardware)
        for costs, sharding, hardware, step in steps
        for demand in operators(sharding, step)
    ]
    together = prices(questions)
    for question, found in zip(questions, together, strict=True):
        same(found, question.model.cost(question.demand, question.hardware))


def test_models_of_several_architectures_are_priced_together_each_with_its_own_level() -> None:
    steps = [drawn(seed) for seed in range(12)]
    questions = [
        Question(costs, demand, hardware, sharding.model.architecture)
        for costs, sharding, hardware, step in steps
        for demand in operators(sharding, step)
    ]
    together, without = prices(questions), prices([question._replace(architecture="") for question in questions])
    for question, found in zip(questions, together, strict=True):
        alone = of_architecture(question.model, question.architecture)
        same(found, alone.cost(question.demand, question.hardware))
    assert any(np.any(a.time != b.time) for a, b in zip(checked(together), checked(without), strict=True))


def test_a_device_with_factors_of_one_keeps_its_price_beside_devices_with_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a cost model gives it less than its least time, which other factors would raise."""
    shape = len(BOUNDS), len(KERNELS)
    known = {"h100-sxm": np.ones(shape), "l4": np.full(shape, 2.0)}
    monkeypatch.setattr(engine_factors, "factors", lambda _, device: known[device.name])
    devices = [hwdb.device(name) for name in known]
    placed = deployments(devices, device=np.array([0, 1]))
    demand = next(operators(shard(model(MODELS[0]), placed), Step(decode_seqs=np.full(2, 64.0))))
    costs = engine_factors.EngineFactors(Short(), engine("sglang"))
    beside = costs.cost(demand, hardware_of(placed.devices, placed.device))
    assert beside.time[0] == Short.TIME
    assert beside.time[1] > 2.0 * Short.TIME


class Short:
    """Cost model that gives every call the same time, which no device reaches."""

    TIME = 1e-12

    def cost(self, _: Demand, hardware: Hardware) -> Cost:
        """Return the same time for all rows."""
        shape = hardware.index.shape
        return Cost(np.full(shape, self.TIME), np.zeros(shape, np.int8), np.zeros(shape), np.zeros(shape, np.int8))


@pytest.mark.parametrize("seed", range(6))
def test_a_step_whose_demands_are_handed_on_costs_the_same(seed: int) -> None:
    costs, sharding, hardware, step = drawn(seed)
    asked: list[int] = []

    def ask(questions: Sequence[Question]) -> Sequence[Cost]:
        asked.append(len(questions))
        return checked(prices(questions))

    same(step_cost(sharding, hardware, Deferred(costs, ask), step), step_cost(sharding, hardware, costs, step))
    assert len(asked) == 1
    assert asked[0] > 1


@dataclass
class Counted:
    """Roofline that counts its calls."""

    calls: int = 0

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Price as the roofline does."""
        self.calls += 1
        return Roofline().cost(demand, hardware)


@pytest.mark.parametrize("seed", range(4))
def test_demands_are_priced_together_whatever_the_order_of_their_coordinates(seed: int) -> None:
    """A demand that several are stacked into lists its formats first, a single one last."""
    costs = Counted()
    _, sharding, hardware, step = drawn(seed)
    demand = next(d for d in operators(sharding, step) if d.family == "gemm")
    turned = replace(demand, shape=dict(reversed(demand.shape.items())))
    found = prices([Question(costs, each, hardware) for each in (demand, turned)])
    assert costs.calls == 1
    for cost in found:
        same(cost, Roofline().cost(demand, hardware))


@dataclass(frozen=True)
class Picky:
    """Roofline that refuses calls on some devices, as a damaged table does."""

    refused: str

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Price as the roofline does."""
        if any(hardware.devices[n].name == self.refused for n in hardware.index):
            raise InputError(f"{self.refused} has a damaged table")
        return Roofline().cost(demand, hardware)


def test_only_questions_that_cannot_be_answered_get_an_error() -> None:
    costs = Picky("l4")
    _, sharding, _, step = drawn(0)
    demand = next(iter(operators(sharding, step)))
    count = len(sharding.tp)
    devices = [hwdb.device(name) for name in ("h100-sxm", "l4", "rtx-4070")]
    questions = [Question(costs, demand, hardware_of([d], np.zeros(count, np.intp))) for d in devices]
    first, second, third = prices(questions)
    same(first, costs.cost(demand, questions[0].hardware))
    assert isinstance(second, InputError)
    assert "damaged" in str(second)
    same(third, costs.cost(demand, questions[2].hardware))


def test_narrowed_hardware_keeps_its_rows_and_drops_devices_without_one() -> None:
    devices = [hwdb.device(name) for name in DEVICES]
    whole = hardware_of(devices, np.array([5, 2, 5]))
    narrowed = whole.narrowed()
    assert narrowed.names == (DEVICES[2], DEVICES[5])
    assert [narrowed.names[place] for place in narrowed.index] == [whole.names[place] for place in whole.index]
    np.testing.assert_array_equal(narrowed.bandwidth, whole.bandwidth)
