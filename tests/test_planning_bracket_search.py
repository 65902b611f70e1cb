"""Where a condition turns: the same step as trying all of them, in few rounds."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.arrays import Array, Index
from search.planning.operating_point.bracket_search import FIRST_ROUND_VALUES, RATE_TOLERANCE, greatest

ROWS = 60


def kinked(seed: int) -> tuple[Array, Array]:
    """Rising margins on a logarithmic axis with kinks, (K, N) each: positions and values at them."""
    rng = np.random.default_rng(seed)
    places = np.sort(rng.uniform(0.0, np.log(1e4), (6, ROWS)), axis=0)
    values = np.cumsum(rng.exponential(1.0, (6, ROWS)) ** 3, axis=0)
    return places, values - rng.uniform(0.1, 0.9, ROWS) * values[-1]


def margins(seed: int, rows: Index, values: Array) -> Array:
    """The margin of each row, infinite above the last kink."""
    places, heights = kinked(seed)
    x = np.log(values)
    found = np.array([np.interp(at, places[:, r], heights[:, r]) for r, at in zip(rows, x, strict=True)])
    return np.where(x > places[-1, rows], np.inf, found)


@pytest.mark.parametrize("seed", range(6))
def test_the_turn_is_the_last_step_that_passes(seed: int) -> None:
    """Against every step of the grid, tried one by one."""
    high = np.full(ROWS, 1e4)
    asked: list[int] = []

    def margin(rows: Index, values: Array) -> Array:
        asked.append(len(rows))
        return margins(seed, rows, values)

    found = greatest(margin, np.ones(ROWS), high)
    steps = np.ceil(np.log(1e4) / np.log1p(RATE_TOLERANCE))
    grid = np.exp(np.log(1e4) * np.arange(steps + 1) / steps)
    for row in range(ROWS):
        passed = margins(seed, np.full(len(grid), row), grid) <= 0.0
        expected = grid[np.nonzero(passed)[0].max()] if passed.any() else np.nan
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)
    assert len(asked) <= 12
    assert sum(asked) < 60 * ROWS  # the grid has 18,000 steps


def test_smooth_margins_take_three_rounds() -> None:
    """A power of the value: the curve through four steps finds it to less than a step."""
    power = np.linspace(0.3, 3.0, 40)
    turn = np.geomspace(2.0, 5e3, 40)
    rounds: list[int] = []

    def margin(rows: Index, values: Array) -> Array:
        rounds.append(len(rows))
        return power[rows] * np.log(values / turn[rows])

    found = greatest(margin, np.ones(40), np.full(40, 1e4))
    np.testing.assert_allclose(found, turn, rtol=2 * RATE_TOLERANCE)
    assert len(rounds) <= 3
    assert rounds[0] == 40 * (FIRST_ROUND_VALUES + 2)


@pytest.mark.parametrize("row", [0, 7, 31])
def test_a_row_gets_the_same_alone(row: int) -> None:
    whole = greatest(lambda rows, v: margins(3, rows, v), np.ones(ROWS), np.full(ROWS, 1e4))
    alone = greatest(lambda rows, v: margins(3, np.full(len(rows), row), v), np.ones(1), np.full(1, 1e4))
    np.testing.assert_equal(alone[0], whole[row])


@pytest.mark.parametrize("top", [8.0, 64.0, 256.0, 1000.0])
def test_a_whole_top_that_passes_is_the_answer(top: float) -> None:
    found = greatest(lambda _rows, values: -np.ones_like(values), np.array([1.0]), np.array([top]), whole=True)
    assert found.tolist() == [top]
