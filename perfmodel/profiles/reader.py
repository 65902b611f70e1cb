"""The reader of grids as a plain loop over rows, which `perfmodel.profiles.compiled` compiles for many reads.

It does what `perfmodel.profiles.grid.on_grid` does with arrays, operation by operation in the same order, so that both
give the same numbers to the last bit. Transcendental functions are left to the caller for that reason.
"""

from __future__ import annotations

from typing import Any

#: Bits of a row's flags: inside the measured part; on a measured grid point; to be extrapolated along axis 1; axis 2.
INSIDE, ON_POINT, BEYOND_FIRST, BEYOND_LAST = 1, 2, 4, 8
#: Constants that `read_rows` takes.
CONSTANTS = 7


#: Arrays of several types, which compiled code takes together.
Group = tuple[Any, ...]


def read_rows(tables: Group, axes: Group, places: Group, rows: Group, out: Group, c: Any) -> None:
    """Read M rows of U grids over two axes by time; the second axis is the last. The grids lie end to end.

    Args:
        tables: (ln(utilisation), ln(bound), ln(time), whether it was measured) of each cell, (C,) each.
        axes: points of all axes end to end, ascending logarithms, (T,); the first point and the points of each, (A,).
        places: first cell, first axis and last axis of each grid, (U,).
        rows: (grid of each row, its two coordinates, ln(bound) at it), (M,) each.
        out: (ln(utilisation), flags, changes and growths of the extrapolations (2, M) each), which are written.
        c: (EDGE_TOLERANCE, ON_POINT, CORNER_WEIGHT, BY_COORDINATE, TINY, OCTAVE, LEAST_OCTAVES) of `grid`.
    """
    grids, nodes, times, known = tables
    which, x1, x2, here = rows
    value, flags, change, growth = out
    for i in range(len(which)):
        start, first, last = places[0][which[i]], _axis(axes, places[1][which[i]]), _axis(axes, places[2][which[i]])
        n1, n2 = len(first), len(last)
        (l1, f1, b1), (l2, f2, b2) = _place(first, x1[i]), _place(last, x2[i])
        cell = _corners(start, n2, (l1, min(l1 + 1, n1 - 1)), (l2, min(l2 + 1, n2 - 1)))
        in1, in2 = abs(b1) <= c[0], abs(b2) <= c[0]
        along = here[i] - (x1[i] - first[l1])
        held = _clip(along, nodes[cell[0]], nodes[cell[2]])
        part = _part(nodes, cell, held, f2, last[l2 + 1] - last[l2] if l2 + 1 < n2 else 0.0, c) if in2 else f2
        across = f1 * (first[l1 + 1] - first[l1]) if l1 + 1 < n1 else 0.0
        base = held + across - _mean(times, cell, f1, part)
        value[i] = base
        flags[i] = _flags(known, cell, f1, f2, c) if in1 and in2 else 0
        if n1 > 1 and not in1:
            flags[i] |= BEYOND_FIRST
            m, mf, octaves = _back(first, b1, c)
            moved = _corners(start, n2, (m, min(m + 1, n1 - 1)), (l2, min(l2 + 1, n2 - 1)))
            change[0, i], growth[0, i] = (base - _mean(grids, moved, mf, part)) / octaves, b1
        if n2 > 1 and not in2:
            flags[i] |= BEYOND_LAST
            m, mf, octaves = _back(last, b2, c)
            moved = _corners(start, n2, (l1, min(l1 + 1, n1 - 1)), (m, min(m + 1, n2 - 1)))
            change[1, i], growth[1, i] = (base - _mean(grids, moved, f1, mf)) / octaves, along - held


def _axis(axes: Group, number: int) -> Any:
    """Return the points of an axis, (A,)."""
    points, first, count = axes
    return points[first[number] : first[number] + count[number]]


def _corners(start: int, size: int, first: tuple[int, int], last: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the cells at the corners around a row: left on both axes, right on the first, on the last, on both.

    start: first cell of the grid. size: points of its last axis. first, last: points left and right on each axis.
    """
    left, right = start + first[0] * size, start + first[1] * size
    return left + last[0], right + last[0], left + last[1], right + last[1]


def _mean(table: Any, cell: tuple[int, int, int, int], f1: float, f2: float) -> float:
    """Return the mean over the corners of a cell; f1, f2: fractions of the way across it."""
    left = (1.0 - f1) * (1.0 - f2) * table[cell[0]] + f1 * (1.0 - f2) * table[cell[1]]
    found: float = left + (1.0 - f1) * f2 * table[cell[2]] + f1 * f2 * table[cell[3]]
    return found


def _part(nodes: Any, cell: tuple[int, int, int, int], held: float, f2: float, step: float, c: Any) -> float:
    """Return the fraction of the way across a cell along the last axis by which time is read, as the bound goes.

    step: length of the cell along that axis.
    """
    left, right = nodes[cell[0]], nodes[cell[2]]
    divisor = right - left + c[3] * step
    part: float = (held - left + c[3] * f2 * step) / (c[4] if divisor < c[4] else divisor)
    return part


def _flags(known: Any, cell: tuple[int, int, int, int], f1: float, f2: float, c: Any) -> int:
    """Return the flags of a row inside the axes: whether a corner that counts was measured, and it lies on a point."""
    seen = known[cell[0]] and (1.0 - f1) * (1.0 - f2) > c[2]
    seen = seen or (known[cell[1]] and f1 * (1.0 - f2) > c[2])
    seen = seen or (known[cell[2]] and (1.0 - f1) * f2 > c[2])
    seen = seen or (known[cell[3]] and f1 * f2 > c[2])
    if not seen:
        return 0
    on_point = min(f1, 1.0 - f1) < c[1] and min(f2, 1.0 - f2) < c[1]
    return INSIDE | ON_POINT if on_point else INSIDE


def _clip(x: float, low: float, high: float) -> float:
    """Return what numpy's clip does: `high` where the limits are crossed, NaN of NaN."""
    if x != x:
        return x
    x = low if x < low else x
    return high if x > high else x


def _place(axis: Any, x: float) -> tuple[int, float, float]:
    """Return (grid point to the left, fraction of the way to the next, signed distance past the ends)."""
    count = len(axis)
    held = _clip(x, axis[0], axis[count - 1])
    if count == 1:
        return 0, 0.0, x - held
    low, high = 0, count
    while low < high:  # the first grid point beyond `held`
        middle = (low + high) // 2
        if held < axis[middle]:
            high = middle
        else:
            low = middle + 1
    left = min(max(low - 1, 0), count - 2)
    return left, (held - axis[left]) / (axis[left + 1] - axis[left]), x - held


def _back(axis: Any, beyond: float, c: Any) -> tuple[int, float, float]:
    """Return place and fraction an octave before the end of an axis, and how many octaves that is."""
    end = axis[len(axis) - 1]
    held = end if beyond > 0.0 else axis[0]
    sign = 1.0 if beyond > 0.0 else (-1.0 if beyond < 0.0 else 0.0)
    back = _clip(held - sign * c[5], axis[0], end)
    left, fraction, _ = _place(axis, back)
    octaves = abs(held - back) / c[5]
    return left, fraction, c[6] if octaves < c[6] else octaves
