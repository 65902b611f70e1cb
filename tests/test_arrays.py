"""Helpers for few numbers give what numpy's own give, whichever way they take."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.arrays import Interpolation, codes_in, common_shape, different, interpolate, row_keys


@pytest.mark.parametrize("count", [1, 2, 7, 64, 65, 500])
def test_different_numbers_are_those_of_numpy(count: int) -> None:
    draw = np.random.default_rng(count)
    values = draw.choice(draw.normal(size=max(count // 3, 1)), count)
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    found = different(values)
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], which)
    codes = draw.integers(-3, 3, count).astype(np.int8)
    assert codes_in(codes) == np.unique(codes).tolist()


def test_common_shapes_are_those_of_numpy() -> None:
    shapes = [(), (1,), (3,), (2, 1), (2, 3), (4, 1, 1)]
    draw = np.random.default_rng(0)
    for _ in range(200):
        some = [shapes[i] for i in draw.integers(0, len(shapes), draw.integers(0, 4))]
        assert common_shape(*some) == np.broadcast_shapes(*some)
    with pytest.raises(ValueError, match="broadcast"):
        common_shape((2,), (3,))


def test_curves_over_the_same_knots_are_each_read_as_alone() -> None:
    draw = np.random.default_rng(1)
    knots = np.cumsum(draw.uniform(0.1, 1.0, (4, 6)), axis=0)
    curves = draw.normal(size=(3, 4, 6))
    for at in (draw.uniform(0.0, 4.0, 6), draw.uniform(0.0, 4.0, (5, 6))):
        for curve, found in zip(curves, Interpolation(knots, *curves).at(at), strict=True):
            np.testing.assert_array_equal(found, interpolate(knots, curve, at))
            for row in np.atleast_2d(np.stack([at, found])[:, ..., :].reshape(2, -1, 6).transpose(1, 0, 2)):
                each = [np.interp(row[0, n], knots[:, n], curve[:, n]) for n in range(6)]
                np.testing.assert_allclose(row[1], each, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (1, 1), (7, 2), (300, 5)])
def test_keys_of_rows_are_equal_where_rows_are(rows: int, columns: int) -> None:
    """Also of a table whose columns lie apart in memory."""
    table = np.random.default_rng(rows).integers(0, 3, (columns, rows)).astype(float).T
    keys = row_keys(table)
    assert keys == [row.tobytes() for row in table]
    assert len(set(keys)) == len(np.unique(table, axis=0))
