"""Costs of steps that are remembered: equal to those that are priced anew, and priced once."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel.arrays import Array
from perfmodel.costs import Cost, Roofline, StepCache, StepCost, step_cost
from perfmodel.deployment import shard
from perfmodel.deployment.columns import deployments
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.models import model
from perfmodel.operators import Demand, Step

DEVICES = [hwdb.device(name) for name in ("h100-sxm", "l40s", "mi300x")]


class Counted(Roofline):
    """A roofline that counts the candidates that it prices."""

    priced = 0

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        self.priced += len(hardware.index)
        return super().cost(demand, hardware)


def drawn(seed: int) -> tuple[Any, Hardware, Step]:
    """A few candidates, some of them alike, and a step of each."""
    draw = random.Random(seed)
    count = draw.randint(1, 9)
    placed = deployments(
        DEVICES,
        device=[draw.randrange(3) for _ in range(count)],
        tp=[draw.choice((1, 2, 4)) for _ in range(count)],
        weight=[draw.choice(("bf16", "fp8")) for _ in range(count)],
        host_weights=[draw.choice((0.0, 0.0, 0.5)) for _ in range(count)] if seed % 4 == 0 else 0.0,
    )
    shape = draw.choice(((count,), (2, count), (3, 1, count)))

    def column(*values: float) -> Array:
        return np.array([draw.choice(values) for _ in range(int(np.prod(shape)))]).reshape(shape)

    step = Step(
        prefill_tokens=column(0.0, 500.0), decode_seqs=column(0.0, 1.0, 64.0), decode_context=column(100.0, 900.0)
    )
    spec = model(draw.choice(("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B")))
    return shard(spec, placed), hardware_of(placed.devices, placed.device), step


@pytest.mark.parametrize("seed", range(21))
def test_remembered_costs_are_those_of_pricing_anew_and_are_priced_once(seed: int) -> None:
    sharding, hardware, step = drawn(seed)
    expected = step_cost(sharding, hardware, Roofline(), step)
    known, costs = StepCache(), Counted()
    once = known.cost(sharding, hardware, costs, step)
    priced = costs.priced
    again = known.cost(sharding, hardware, costs, step)
    assert costs.priced == priced > 0
    for f in fields(StepCost):
        for found in (once, again):
            np.testing.assert_allclose(getattr(found, f.name), getattr(expected, f.name), rtol=1e-12, atol=0.0)
