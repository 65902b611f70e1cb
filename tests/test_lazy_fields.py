"""Parts of a result that are computed when they are first read."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel.deployment.columns import deployments
from perfmodel.estimates import estimate
from perfmodel.lazy_fields import LazyFields, lazy_value
from perfmodel.models import model
from perfmodel.workload import Workload

SPEC, H100 = model("meta-llama/Llama-3.1-8B"), hwdb.device("h100-sxm")


@dataclass(frozen=True)
class Figures(LazyFields):
    """Two figures."""

    mean: float
    worst: float


def counted(value: float, calls: list[float]) -> Any:
    """Return a figure that notes when it is computed."""

    def compute() -> float:
        calls.append(value)
        return value

    return lazy_value(compute)


def test_a_part_is_computed_once_and_only_if_it_is_read() -> None:
    calls: list[float] = []
    found = Figures(mean=1.0, worst=counted(2.0, calls))
    assert found.mean == 1.0
    assert not calls
    assert [found.worst, found.worst] == [2.0, 2.0]
    assert calls == [2.0]


def test_a_changed_copy_leaves_for_later_what_is_not_known_and_shares_it() -> None:
    calls: list[float] = []
    found = Figures(mean=1.0, worst=counted(2.0, calls))
    other = found.changed(mean=3.0)
    assert not calls
    assert [other.mean, other.worst, found.worst] == [3.0, 2.0, 2.0]
    assert calls == [2.0]


def test_threads_read_one_part_at_once() -> None:
    """The second thread comes while the first one computes."""
    together = threading.Barrier(2, timeout=30)

    def compute() -> float:
        together.wait()
        return 2.0

    found = Figures(mean=1.0, worst=lazy_value(compute))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: found.worst, range(2))) == [2.0, 2.0]
    assert found.changed(mean=3.0).worst == 2.0


def test_no_other_name_is_found() -> None:
    with pytest.raises(AttributeError, match="'Figures' object has no attribute 'median'"):
        _ = Figures(mean=1.0, worst=2.0).median  # type: ignore[attr-defined]


def test_a_pickled_estimate_holds_what_was_not_read_before() -> None:
    work = Workload.from_lengths(1000, 100, rate=1.0)
    found = estimate(SPEC, work, deployments([H100], replicas=[1, 3]))
    copied = pickle.loads(pickle.dumps(found))
    for name, values in found.arrays().items():
        np.testing.assert_array_equal(copied.arrays()[name], values)
    assert copied.frame().equals(found.frame())


def test_deployments_that_are_changed_in_place_are_estimated_anew() -> None:
    work, placed = Workload.from_lengths(1000, 100, concurrency=4), deployments([H100], tp=[1.0])
    alone = estimate(SPEC, work, placed).memory
    placed.tp[0] = 2.0
    shared = estimate(SPEC, work, placed).memory
    placed.tp[0] = 1.0
    assert shared[0] < alone[0]
    np.testing.assert_array_equal(estimate(SPEC, work, placed).memory, alone)
