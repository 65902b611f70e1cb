"""Array types that every package uses, interpolation along an axis, and numpy's helpers without their fixed cost.

One estimate makes some thousands of calls on arrays of a few numbers, where checks inside numpy's own helpers take most
of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

#: Figures. Conditions. Row numbers and long codes. Short codes (basis, bound).
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Codes = NDArray[np.int8]
NAN = float("nan")
#: Greatest number, which stands for an infinite one.
_GREATEST = float(np.finfo(float).max)
#: Numbers up to which Python's own set finds the different ones sooner than numpy.
_FEW = 64
#: Range of codes that are counted.
_COUNTED_CODES = 4096
#: Sets of shapes whose common shape is kept. Chosen: more than an estimate asks for.
_MOST_SHAPES = 1024
#: Least distance of two knots, so that equal ones divide by no zero.
_LEAST_WIDTH = 1e-12


def interpolate(knots: Array, values: Array, at: Array) -> Array:
    """Interpolate linearly, for each of N columns, between K points, and return the values at `at` (N,).

    `knots` (K, N) are the positions of the points, ascending; `values` (K, N) are the values there.

    Outside the knots the nearest value is held.

    >>> interpolate(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]]), np.array([0.5])).tolist()
    [1.5]
    """
    return Interpolation(knots, values).at(at)[0]


class Interpolation:
    """Interpolate several curves over the same knots as `interpolate` does, at one place after the other.

    >>> found = Interpolation(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]]), np.array([[5.0], [7.0]]))
    >>> [values.tolist() for values in found.at(np.array([1.0]))]
    [[2.0], [6.0]]
    """

    def __init__(self, knots: Array, *curves: Array) -> None:
        """Keep what does not depend on the place; knots, curves: (K, N) each."""
        self._lower = np.asarray(knots, float)[:-1]
        self._width = np.maximum(np.asarray(knots, float)[1:] - self._lower, _LEAST_WIDTH)
        self._lines = [(values[0], values[1:] - values[:-1]) for values in curves]

    def at(self, at: Array) -> list[Array]:
        """Return the values of each curve at `at`, (N,) or with leading axes."""
        lower, width = self._lower, self._width
        if np.ndim(at) > 1:
            along = (-1, *(1 for _ in range(np.ndim(at) - 1)), *lower.shape[1:])
            lower, width = lower.reshape(along), width.reshape(along)
        part = np.minimum(np.maximum((at - lower) / width, 0.0), 1.0)
        found = []
        for start, rises in self._lines:
            out: Array = start
            for share, rise in zip(part, rises, strict=True):
                out = out + share * rise
            found.append(out)
        return found


def clipped(values: Any, low: Any, high: Any) -> Array:
    """Return what `np.clip` does, which takes several times as long on few numbers.

    >>> clipped(np.array([0.0, 2.0, 9.0]), 1.0, 3.0).tolist()
    [1.0, 2.0, 3.0]
    """
    return np.asarray(np.minimum(np.maximum(values, low), high))


def common_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return what `np.broadcast_shapes` does, at once where all shapes are the same or ().

    >>> common_shape((), (3,), (3,)), common_shape((2, 1), (3,))
    ((3,), (2, 3))
    """
    common: tuple[int, ...] = ()
    for shape in shapes:
        if shape and shape != common:
            if common:
                return _broadcast(shapes)
            common = shape
    return common


@lru_cache(maxsize=_MOST_SHAPES)
def _broadcast(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Return what `np.broadcast_shapes` does, which takes several microseconds."""
    return np.broadcast_shapes(*shapes)


def stack(values: Sequence[Any], shape: tuple[int, ...]) -> Array:
    """Return K arrays of numbers that broadcast to `shape`, stacked along a new first axis, (K, *shape).

    >>> stack([1.0, np.array([2.0, 3.0])], (2,)).tolist()
    [[1.0, 1.0], [2.0, 3.0]]
    """
    out: Array = np.empty((len(values), *shape))
    for place, value in enumerate(values):
        out[place] = value
    return out


def row_keys(table: Array) -> list[bytes]:
    """Return each row of a table (M, K) as bytes, which are equal where the rows are, to the bit.

    >>> keys = row_keys(np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
    >>> keys[0] == keys[2], keys[0] == keys[1]
    (True, False)
    """
    rows = np.ascontiguousarray(table)
    whole = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))
    return cast("list[bytes]", whole.reshape(-1).tolist())


def widened(values: Any, shape: tuple[int, ...]) -> Array:
    """Return what `np.broadcast_to` does, at once where the shape is that already.

    >>> widened(2.0, (2,)).tolist()
    [2.0, 2.0]
    """
    return values if getattr(values, "shape", None) == shape else np.broadcast_to(values, shape)


def as_slice(rows: Mask) -> Mask | slice:
    """Return the slice that a mask (N,) selects, where that is one run of rows; else the mask.

    A slice of an array is a view, where a mask copies. All rows are a slice, and none are an empty one.

    >>> as_slice(np.array([False, True, True]))
    slice(1, 3, None)
    """
    count = int(np.count_nonzero(rows))
    first = int(rows.argmax()) if count else 0
    run = slice(first, first + count)
    return run if rows[run].all() else rows


def as_run(rows: Index) -> Index | slice:
    """Return the slice of row numbers (M,) where each is one above the number before it; else the numbers.

    >>> as_run(np.array([1, 2, 3])), as_run(np.array([2, 1])).tolist()
    (slice(1, 4, None), [2, 1])
    """
    first = int(rows[0]) if len(rows) else 0
    run = len(rows) < 2 or (int(rows[-1]) == first + len(rows) - 1 and bool((rows[1:] - rows[:-1] == 1).all()))
    return slice(first, first + len(rows)) if run else rows


def different(values: Array | Index) -> tuple[Index, Index]:
    """Return the place of the first of each different number in ascending order, (U,), and which each is, (M,).

    As `np.unique` gives them, for numbers none of which is NaN.

    >>> [found.tolist() for found in different(np.array([3.0, 1.0, 3.0]))]
    [[1, 0], [1, 0, 1]]
    """
    if len(values) > _FEW:
        _, first, which = np.unique(values, return_index=True, return_inverse=True)
        return first, which
    numbers = values.tolist()
    turn = {number: place for place, number in enumerate(sorted(set(numbers)))}
    return np.array([numbers.index(number) for number in turn], np.intp), np.array([turn[n] for n in numbers], np.intp)


def different_codes(codes: Index) -> tuple[Index, Index]:
    """Return the different codes, ascending, (U,), and which of them each is, (M,); counted and not sorted.

    codes: not negative, (M,). Takes memory for the largest of them.

    >>> [found.tolist() for found in different_codes(np.array([3, 1, 3]))]
    [[1, 3], [1, 0, 1]]
    """
    there = np.zeros(int(codes.max(initial=-1)) + 1, bool)
    there[codes] = True
    found = np.flatnonzero(there)
    turn = np.empty(len(there), np.intp)
    turn[found] = np.arange(len(found))
    return found, turn[codes]


def zero_if_unknown(values: Array) -> Array:
    """Return what `np.nan_to_num` does to figures that are not negative: 0 for NaN, the greatest number for infinity.

    >>> zero_if_unknown(np.array([np.nan, 2.0])).tolist()
    [0.0, 2.0]
    """
    return np.asarray(np.minimum(np.fmax(values, 0.0), _GREATEST))


def codes_in(codes: NDArray[np.integer]) -> list[int]:
    """Return the different codes in an array, ascending, as `np.unique` does.

    >>> codes_in(np.array([3, 1, 3]))
    [1, 3]
    """
    flat = codes.reshape(-1)
    if not len(flat):
        return []
    if len(flat) <= _FEW:  # numpy takes several times as long for so few
        return sorted(set(flat.tolist()))
    least, most = int(flat.min()), int(flat.max())
    if least == most:
        return [least]
    if most - least < _COUNTED_CODES:  # np.unique sorts, and loads numpy.ma
        return [least + code for code in np.flatnonzero(np.bincount(flat.astype(np.intp) - least)).tolist()]
    return [int(code) for code in np.unique(flat)]
