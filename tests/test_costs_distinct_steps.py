"""Steps that are equal are priced once: the same costs as pricing all, of fewer rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import hwdb
from perfmodel import Deployments, Workload, estimate, model
from perfmodel.arrays import Array
from perfmodel.costs import Cost, Roofline, StepCost, default, distinct_cost, layouts, step_cost
from perfmodel.costs.step_costs import steps, unique_rows
from perfmodel.costs.step_costs.unique_rows import FEW, find_unique_rows
from perfmodel.deployment import shard
from perfmodel.deployment.columns import deployments
from perfmodel.estimates.estimation import estimator
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.operators import Demand, Step
from perfmodel.profiles import compiled, equal_rows

SPEC = model("meta-llama/Llama-3.1-8B")
DEVICES = [hwdb.device(name) for name in ("h100-sxm", "l40s")]


class Counted:
    """Roofline that counts the rows that it prices."""

    priced = 0

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Price as the roofline does."""
        self.priced = max(self.priced, len(hardware.index))
        return Roofline().cost(demand, hardware)


def drawn(seed: int, count: int = 300) -> tuple[Deployments, Step]:
    """Deployments of few kinds, and a step of few kinds, one or two of them each."""
    draw = np.random.default_rng(seed)
    placed = deployments(DEVICES, device=draw.integers(0, 2, count), tp=draw.choice([1.0, 2.0], count))
    shape = (2, count) if seed % 2 else (count,)

    def column(*values: float) -> Array:
        return draw.choice(values, shape)

    tokens = column(0.0, 500.0) if seed % 3 else 0.0
    return placed, Step(prefill_tokens=tokens, decode_seqs=column(1.0, 64.0), decode_context=column(100.0, 900.0))


@pytest.mark.parametrize("seed", range(20))
def test_costs_are_those_of_pricing_every_step_to_the_last_bit(seed: int) -> None:
    placed, step = drawn(seed)
    sharding, hardware = shard(SPEC, placed), hardware_of(placed.devices, placed.device)
    costs = Counted()
    found = distinct_cost(layouts(sharding, hardware), sharding, hardware, costs, step)
    expected = step_cost(sharding, hardware, Roofline(), step)
    assert 0 < costs.priced <= 2 * 2 * 8
    for f in fields(StepCost):
        np.testing.assert_array_equal(getattr(found, f.name), getattr(expected, f.name), f.name)


def test_few_steps_are_all_priced() -> None:
    placed, step = drawn(2, FEW - 1)
    sharding, hardware = shard(SPEC, placed), hardware_of(placed.devices, placed.device)
    costs = Counted()
    distinct_cost(layouts(sharding, hardware), sharding, hardware, costs, step)
    assert costs.priced == FEW - 1


def number_rows() -> Callable[..., int]:
    """Return the compiled count of equal rows."""
    loops = compiled._loops()
    assert loops is not None
    return loops.number_rows


@pytest.mark.parametrize("compiled_code", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_rows_are_distinct_by_all_their_columns(
    seed: int, compiled_code: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = number_rows() if compiled_code else None
    monkeypatch.setattr(unique_rows, "numbering", lambda: number)
    monkeypatch.setattr(unique_rows, "MANY_ROWS", 1)
    draw = np.random.default_rng(seed)
    table = draw.choice([0.0, -0.0, 1.0, 1.0 + 2.0**-52, -3.5, np.nan, np.inf], (4, 200))
    found = find_unique_rows([*table, np.broadcast_to(7.0, 200)])
    assert found is not None
    first, which = found
    np.testing.assert_array_equal(table[:, first][:, which], table)
    assert len(first) == len({tuple(row.tobytes() for row in column) for column in (table + 0.0).T})


@pytest.mark.parametrize("count", [1, 2, 1000, 5000])
def test_rows_are_numbered_alike_by_plain_and_compiled_code(count: int) -> None:
    """Also where hash values meet, as they do in a table of few slots."""
    table = np.random.default_rng(count).integers(0, 9, (3, count)).astype(float)
    first, which = np.empty((2, count), np.intp)
    with np.errstate(over="ignore"):
        slots = np.full(2 ** int(count).bit_length(), -1, np.intp)
        found = equal_rows.number_rows(table.view(np.uint64), slots, first, which)
    expected = unique_rows._numbered(list(table), number_rows())
    np.testing.assert_array_equal(first[:found], expected[0])
    np.testing.assert_array_equal(which, expected[1])
    assert found == len(np.unique(table, axis=1).T)


def test_one_number_in_every_column_is_one_row() -> None:
    found = find_unique_rows([np.broadcast_to(1.0, 5), np.broadcast_to(2.0, 5)])
    assert found is not None
    assert found[0].tolist() == [0]
    assert found[1].tolist() == [0] * 5


@pytest.mark.parametrize("arrival", [{"arrival": "closed", "concurrency": 8}, {"arrival": "open", "rate": 0.5}])
def test_estimates_do_not_depend_on_how_many_are_made_at_once(arrival: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    placed, _ = drawn(1, 90)
    work = Workload.from_lengths(700, 90, **arrival)
    whole = estimate(SPEC, work, placed, costs=default())
    monkeypatch.setattr(estimator, "CELLS", 40)
    parts = estimate(SPEC, work, placed, costs=default())
    for name in ("ttft", "tpot"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_array_equal(whole.output_rate, parts.output_rate)


def test_calls_that_are_equal_are_priced_once_and_cost_what_they_do_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates that differ in the format of their KV cache have the same GEMMs; measured tables, donors, roofline."""
    draw, count, asked = np.random.default_rng(5), 300, []
    every = [hwdb.device(name) for name in ("h100-sxm", "l40s", "mi300x")]
    columns: dict[str, Any] = {"tp": draw.choice([1.0, 2.0], count), "kv": draw.choice(["bf16", "fp8"], count)}
    placed = deployments(
        every, device=draw.integers(0, 3, count), **columns, weight=draw.choice(["bf16", "fp8"], count)
    )
    step = Step(decode_seqs=draw.integers(1, 9, count).astype(float), decode_context=draw.choice([500.0, 900.0], count))

    def cost(demand: Demand, hardware: Hardware) -> Cost:
        asked.append(len(hardware.index))
        return default().cost(demand, hardware)

    model_of_cost = cast(Any, SimpleNamespace(cost=cost))
    given = shard(SPEC, placed), hardware_of(placed.devices, placed.device), model_of_cost, step
    alone = step_cost(*given)
    assert set(asked) == {count}
    asked.clear()
    monkeypatch.setattr(steps, "MANY", 1)
    together = step_cost(*given)
    assert max(asked) < 0.6 * count
    for f in fields(StepCost):
        np.testing.assert_array_equal(getattr(together, f.name), getattr(alone, f.name))


def test_calls_that_nobody_makes_and_equal_collectives_are_not_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on its own reduces nothing; the mixer and the MLP of a layer reduce the same rows."""
    draw, count, asked = np.random.default_rng(7), 300, {}
    placed = deployments(DEVICES, device=draw.integers(0, 2, count), tp=np.where(np.arange(count) < 200, 1.0, 2.0))
    prompts = np.where(np.arange(count) % 3 == 0, 300.0, 0.0)
    step = Step(prefill_tokens=prompts, decode_seqs=draw.uniform(1.0, 9.0, count), decode_context=500.0)

    def cost(demand: Demand, hardware: Hardware) -> Cost:
        asked[demand.family] = (*np.shape(demand.message)[:-1], len(hardware.index))
        return default().cost(demand, hardware)

    given = shard(SPEC, placed), hardware_of(placed.devices, placed.device), cast(Any, SimpleNamespace(cost=cost)), step
    alone = step_cost(*given)
    assert asked["all_reduce"] == asked["attention_prefill"] == (count,)
    monkeypatch.setattr(steps, "MANY", 1)
    together = step_cost(*given)
    assert asked["all_reduce"] == (count // 3,)
    assert asked["attention_prefill"] == (2 * 2,)  # devices and degrees
    assert asked["attention_decode"] == (count,)
    for f in fields(StepCost):
        np.testing.assert_array_equal(getattr(together, f.name), getattr(alone, f.name))
