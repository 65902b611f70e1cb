"""Equilibria are the roots that plain bisection finds, on random deployments of several models and engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.random_deployments import batches
from perfmodel.arrays import Array

#: Halvings after which a bracket of a factor 1e12 is narrower than the last digit.
_HALVINGS = 60
#: Columns of an estimate that follow from the root.
_COLUMNS = ("ttft", "tpot", "output_rate", "running", "power")


def _bisected(low: Array, high: Array, ratio: Callable[[Array], Array]) -> Array:
    """The root of ratio(x) = 1 by halving the logarithm of the bracket, (N,)."""
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        under = ratio(middle) < 1.0
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.sqrt(low * high)


def test_an_equilibrium_is_the_root_that_bisection_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    for batch in batches(4000, seed=4):
        if batch.load.arrival not in ("open", "closed"):
            continue
        compared += len(batch.rows)
        roots = {
            "open": "perfmodel.serving.open_loops.open_loop.bracketed_root",
            "closed": "perfmodel.serving.fixed_concurrency.closed_loop.rising_root",
        }
        with monkeypatch.context() as patch:
            patch.setattr(roots[batch.load.arrival], _bisected)
            slow = batch.again()
        for name in _COLUMNS:
            np.testing.assert_allclose(getattr(batch.base, name), getattr(slow, name), rtol=1e-9, err_msg=name)
    assert compared == 2000
