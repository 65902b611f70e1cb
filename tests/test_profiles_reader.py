"""The row reader of grids, plain and compiled, gives the numbers of the array code to the last bit."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfmodel.profiles import compiled, equal_rows, grid, isotonic, reader


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
    held = grid.Grids.over(axes, grids, known, nodes, nodes - grids)
    return held, draw.integers(0, sites, count), x, draw.uniform(-14.0, -6.0, count)


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
    loops = compiled._loops()
    assert loops is not None
    for seed in range(24):
        case = drawn(seed)
        monkeypatch.setattr(compiled, "wanted", lambda rows: None)
        expected = grid.on_grid(*case)
        monkeypatch.setattr(compiled, "wanted", lambda rows: loops.read_rows)
        same(grid.on_grid(*case), expected)


def test_short_runs_never_load_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def load() -> Any:
        made.append(1)

    load.cache_info = lambda: type("Info", (), {"currsize": 0})  # type: ignore[attr-defined]
    monkeypatch.setattr(compiled, "_loops", load)
    monkeypatch.setattr(compiled, "EFFORT", compiled.Effort())
    monkeypatch.setattr(compiled, "kept", lambda: False)
    while compiled.EFFORT.seconds < 0.9 * compiled.COMPILE_FROM:
        assert compiled.wanted(1_000_000) is None
        assert not made
    for _ in range(5):
        compiled.wanted(1_000_000)
    assert made


def test_who_is_about_to_read_much_gets_kept_code_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "EFFORT", compiled.Effort())
    monkeypatch.setattr(compiled, "kept", lambda: True)

    def load() -> Any:
        return compiled.Loops(reader.read_rows, equal_rows.number_rows, isotonic.isotonic_rows)

    load.cache_info = lambda: type("Info", (), {"currsize": 0})  # type: ignore[attr-defined]
    monkeypatch.setattr(compiled, "_loops", load)
    assert compiled.wanted(1000) is None
    compiled.expect_reads(0.5 * compiled.LOAD_FROM)
    assert compiled.wanted(1000) is None
    compiled.expect_reads(compiled.LOAD_FROM)
    assert compiled.wanted(1000) is not None


def test_regressions_count_towards_loading_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = compiled.Effort()
    monkeypatch.setattr(compiled, "kept", lambda: True)
    effort.add_regression(1, 40)
    assert not effort.pays
    for _ in range(400):
        effort.add_regression(1000, 40)
    assert effort.pays


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for compiled code of its own, and a process that has read much and loaded nothing yet."""
    loaded = compiled._loops()
    compiled._loops.cache_clear()
    monkeypatch.setattr(compiled, "_folder", lambda: tmp_path)
    monkeypatch.setattr(compiled, "EFFORT", compiled.Effort())
    compiled.EFFORT.seconds = 2 * compiled.COMPILE_FROM
    assert loaded is not None
    compiled.kept.cache_clear()
    yield tmp_path
    compiled._loops.cache_clear()
    compiled.kept.cache_clear()


def test_without_numba_arrays_read_and_it_is_said_once(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    case = drawn(1)
    found = [grid.on_grid(*case) for _ in range(3)]
    assert len(caplog.records) == 1
    assert "numba" in caplog.text
    monkeypatch.setattr(compiled, "wanted", lambda rows: None)
    same(found[0], grid.on_grid(*case))


def test_threads_compile_once_and_a_damaged_cache_is_made_anew(fresh: Path) -> None:
    import numba

    before, got = numba.config.CACHE_DIR, []  # type: ignore[attr-defined]
    threads = [threading.Thread(target=lambda: got.append(compiled.wanted(1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == 1
    assert before == numba.config.CACHE_DIR  # type: ignore[attr-defined]
    kept = list(fresh.rglob("*.nbc"))
    assert kept
    kept[0].write_bytes(b"garbage")
    compiled._loops.cache_clear()
    case = drawn(3)
    same(grid.on_grid(*case), expected_of(case))
    assert not kept[0].exists()


def test_what_one_process_compiles_the_next_finds_kept(fresh: Path) -> None:
    """Whichever of the loops the first one runs: here only the reader, since nothing falls that would need another."""
    assert not compiled.kept()
    assert compiled.wanted(1) is not None
    compiled.kept.cache_clear()
    assert compiled.kept()


def expected_of(case: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what array code reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "wanted", lambda rows: None)
        return grid.on_grid(*case)
