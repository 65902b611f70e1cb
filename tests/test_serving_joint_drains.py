"""Offline batches of several tasks are simulated in one run, and each gets what it gets alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_serving_bursts import batch

from perfmodel.arrays import Array
from perfmodel.costs import Deferred, Roofline
from perfmodel.serving.offline_batches import joint_drains
from perfmodel.serving.offline_batches.drain import Drained, drain
from perfmodel.serving.offline_batches.joint_drains import DrainQuestion, drained
from perfmodel.serving.offline_batches.offline import _prompt_time
from perfmodel.serving.offline_batches.offline_batch import OfflineBatch, Places
from perfmodel.serving.queues.variation import Variation
from perfmodel.serving.step_times.mixed_steps import MixedSteps
from perfmodel.workload import Workload, load_of


def same(found: Drained, expected: Drained) -> None:
    """Compare all figures, of arrays of the same shapes."""
    for field in fields(Drained):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.shape == other.shape, field.name
        np.testing.assert_allclose(one, other, rtol=1e-12, err_msg=field.name)


def late(whole: OfflineBatch, gap: float) -> OfflineBatch:
    """The same batch, whose requests arrive one by one, in bursts."""
    spread = Variation(arrivals=np.full(1, 2.0), requests=whole.count)
    return replace(whole, gap=np.full(1, gap), variation=spread, places=Places(young=np.full(1, 0.9), growth=1e-4))


def first(whole: OfflineBatch) -> OfflineBatch:
    """The same batch, whose prompts go first."""

    def both(value: float) -> Array:
        return np.full((2, 1), value)

    knots = np.array([[1.0], [64.0]])
    mixed = MixedSteps(knots, both(8e-3), both(5e-3), np.ones(1), np.full(1, 8.0), separate=True)
    return replace(late(whole, 0.02), first=mixed)


def several() -> list[OfflineBatch]:
    """Batches of several forms, of one and of two candidates."""
    shapes = ((64, 1000, 0.0), (400, 64, 0.75), (50, 30, 0.3))
    plain = [batch(n, room, 150.0, spread, apart=apart) for apart in (True, False) for n, room, spread in shapes]
    wide = joint_drains._joined(plain[:2], [1, 1])
    return [*plain, wide, *(late(p, 0.05) for p in plain), *(first(p) for p in plain[:3])]


def test_batches_go_together_as_they_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def counted(whole: OfflineBatch) -> Drained:
        runs.append(len(whole.count))
        return drain(whole)

    monkeypatch.setattr(joint_drains, "drain", counted)
    batches = several()
    for found, each in zip(DrainQuestion.answers([DrainQuestion(b) for b in batches]), batches, strict=True):
        same(found, drain(each))
    assert sorted(runs) == [3, 3, 3, 3, 5]  # prompts first, late by two kinds of engine, at once by two


def test_who_prices_beside_others_drains_beside_them() -> None:
    asked: list[Any] = []

    def ask(questions: Sequence[DrainQuestion]) -> Sequence[Drained]:
        asked.extend(questions)
        return DrainQuestion.answers(questions)

    batches = several()[:2]
    alone, beside = drained(Roofline(), *batches), drained(Deferred(Roofline(), ask), *batches)
    for one, other in zip(alone, beside, strict=True):
        same(one, other)
    assert [question.batch for question in asked] == batches


def test_a_run_in_which_nothing_decodes_computes_prompts_only() -> None:
    """No sequence of it runs beside another one: no division by zero, and all of its time is of prompts."""
    load = load_of(Workload.from_lengths(100, 1, n_requests=4, arrival="offline"), 1)
    nothing = SimpleNamespace(makespan=np.array([2.0]), step=np.zeros(1), running=np.zeros(1))
    single, grouped = (SimpleNamespace(own=np.array([[seconds]])) for seconds in (0.9, 0.1))
    found = _prompt_time(load, nothing, (single, grouped))  # type: ignore[arg-type]
    assert found.item() == pytest.approx(2.0 / 4)
