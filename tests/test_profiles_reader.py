"""The row reader of grids, plain and compiled, gives the numbers of the array code to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perfmodel.profiles import compiled, grid, reader


def drawn(seed: int) -> tuple[Any, ...]:
    """Grids over one or two axes and rows that lie inside, on grid points, and past every end."""
    draw = np.random.default_rng(seed)
    sites, count = int(draw.integers(1, 5)), 60
    sizes = [int(draw.integers(1, 7)) for _ in range(1 + seed % 2)]
    axes = tuple(np.cumsum(draw.uniform(0.2, 1.5, n)) for n in sizes)
    grids = draw.normal(-1.0, 0.6, (sites, *sizes))
    nodes = np.cumsum(draw.uniform(0.0, 0.9, (sites, *sizes)), axis=-1) - 12.0
    known = draw.random((sites, *sizes)) < 0.7
    x = []
    for a in axes:
        spread = draw.uniform(a[0] - 3, a[-1] + 3, count)
        x.append(np.where(draw.random(count) < 0.3, draw.choice(a, count), spread))
    x[0][:2] = np.nan, axes[0][0] - 0.01
    return grids, known, axes, draw.integers(0, sites, count), x, (nodes, draw.uniform(-14.0, -6.0, count))


def same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Compare values and masks to the last bit."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, np.broadcast_to(other, one.shape))


@pytest.mark.parametrize("seed", range(24))
def test_rows_are_read_as_arrays_are(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = drawn(seed)
    monkeypatch.setattr(compiled, "wanted", lambda rows: None)
    expected = grid.on_grid(*case)
    monkeypatch.setattr(compiled, "wanted", lambda rows: reader.read_rows)
    same(grid.on_grid(*case), expected)


def test_compiled_rows_are_read_as_arrays_are(monkeypatch: pytest.MonkeyPatch) -> None:
    read_rows = compiled._read_rows()
    for seed in range(24):
        case = drawn(seed)
        monkeypatch.setattr(compiled, "wanted", lambda rows: None)
        expected = grid.on_grid(*case)
        monkeypatch.setattr(compiled, "wanted", lambda rows: read_rows)
        same(grid.on_grid(*case), expected)


def test_short_runs_never_load_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def load() -> Any:
        made.append(1)

    load.cache_info = lambda: type("Info", (), {"currsize": 0})  # type: ignore[attr-defined]
    monkeypatch.setattr(compiled, "_read_rows", load)
    monkeypatch.setattr(compiled, "EFFORT", compiled.Effort())
    monkeypatch.setattr(compiled, "kept", lambda: False)
    while compiled.EFFORT.seconds < 0.9 * compiled.COMPILE_FROM:
        assert compiled.wanted(1_000_000) is None
        assert not made
    for _ in range(5):
        compiled.wanted(1_000_000)
    assert made
