"""The reader of grids as a plain loop over rows, which `perfmodel.profiles.compiled` compiles for many reads.

It does what `perfmodel.profiles.grid.on_grid` does with arrays, operation by operation in the same order, so that both
give the same numbers to the last bit. Transcendental functions are left to the caller for that reason.
"""

from __future__ import annotations

from typing import Any

from perfmodel.arrays import Array, Codes

#: Bits of a row's flags: inside the measured part; on a measured grid point; to be extrapolated along axis 1; axis 2.
INSIDE, ON_POINT, BEYOND_FIRST, BEYOND_LAST = 1, 2, 4, 8


def read_rows(
    grids: Any, nodes: Any, known: Any, axes: tuple[Array, Array], rows: tuple[Any, ...], out: tuple[Any, ...], c: Any
) -> None:
    """Read M rows of U grids over two axes by time; the second axis is the last.

    Args:
        grids, nodes, known: ln(utilisation), ln(bound) and whether each cell was measured, (U, A1, A2).
        axes: ascending logarithms, (A1,) and (A2,).
        rows: (grid of each row, its two coordinates, ln(bound) at it), (M,) each.
        out: (ln(utilisation), flags, changes and growths of the extrapolations (2, M) each), which are written.
        c: (EDGE_TOLERANCE, ON_POINT, CORNER_WEIGHT, BY_COORDINATE, TINY, OCTAVE, LEAST_OCTAVES) of `grid`.
    """
    edge, point, least_weight, by_coordinate, tiny, octave, least_octaves = c
    first, last = axes
    which, x1, x2, here = rows
    value, flags, change, growth = out
    n1, n2 = len(first), len(last)
    for i in range(len(which)):
        u = which[i]
        l1, f1, b1 = _place(first, n1, x1[i])
        l2, f2, b2 = _place(last, n2, x2[i])
        r1, r2 = min(l1 + 1, n1 - 1), min(l2 + 1, n2 - 1)
        in1, in2 = abs(b1) <= edge, abs(b2) <= edge
        seen = (
            (known[u, l1, l2] and (1.0 - f1) * (1.0 - f2) > least_weight)
            or (known[u, r1, l2] and f1 * (1.0 - f2) > least_weight)
            or (known[u, l1, r2] and (1.0 - f1) * f2 > least_weight)
            or (known[u, r1, r2] and f1 * f2 > least_weight)
        )
        left, right = nodes[u, l1, l2], nodes[u, l1, r2]
        along = here[i] - (x1[i] - first[l1])
        held = _clip(along, left, right)
        step = last[l2 + 1] - last[l2] if l2 + 1 < n2 else 0.0
        part = f2
        if in2:
            divisor = right - left + by_coordinate * step
            divisor = tiny if divisor < tiny else divisor
            part = (held - left + by_coordinate * f2 * step) / divisor
        log_time = (
            (1.0 - f1) * (1.0 - part) * (nodes[u, l1, l2] - grids[u, l1, l2])
            + f1 * (1.0 - part) * (nodes[u, r1, l2] - grids[u, r1, l2])
            + (1.0 - f1) * part * (nodes[u, l1, r2] - grids[u, l1, r2])
            + f1 * part * (nodes[u, r1, r2] - grids[u, r1, r2])
        )
        across = f1 * (first[l1 + 1] - first[l1]) if l1 + 1 < n1 else 0.0
        base = held + across - log_time
        value[i] = base
        flag = 0
        if in1 and in2 and seen:
            flag |= INSIDE
        if in1 and in2 and seen and min(f1, 1.0 - f1) < point and min(f2, 1.0 - f2) < point:
            flag |= ON_POINT
        if n1 > 1 and not in1:
            flag |= BEYOND_FIRST
            ml, mf, octaves = _back(first, n1, b1, octave, least_octaves)
            mr = min(ml + 1, n1 - 1)
            earlier = (
                (1.0 - mf) * (1.0 - part) * grids[u, ml, l2]
                + mf * (1.0 - part) * grids[u, mr, l2]
                + (1.0 - mf) * part * grids[u, ml, r2]
                + mf * part * grids[u, mr, r2]
            )
            change[0, i] = (base - earlier) / octaves
            growth[0, i] = b1
        if n2 > 1 and not in2:
            flag |= BEYOND_LAST
            ml, mf, octaves = _back(last, n2, b2, octave, least_octaves)
            mr = min(ml + 1, n2 - 1)
            earlier = (
                (1.0 - f1) * (1.0 - mf) * grids[u, l1, ml]
                + f1 * (1.0 - mf) * grids[u, r1, ml]
                + (1.0 - f1) * mf * grids[u, l1, mr]
                + f1 * mf * grids[u, r1, mr]
            )
            change[1, i] = (base - earlier) / octaves
            growth[1, i] = along - held if b2 != 0.0 else 0.0
        flags[i] = flag


def _clip(x: float, low: float, high: float) -> float:
    """Return what numpy's clip does: `high` where the limits are crossed, NaN of NaN."""
    if x != x:
        return x
    x = low if x < low else x
    return high if x > high else x


def _place(axis: Any, count: int, x: float) -> tuple[int, float, float]:
    """Return (grid point to the left, fraction of the way to the next, signed distance past the ends)."""
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


def _back(axis: Any, count: int, beyond: float, octave: float, least_octaves: float) -> tuple[int, float, float]:
    """Return place and fraction an octave before the end of an axis, and how many octaves that is."""
    held = axis[count - 1] if beyond > 0.0 else axis[0]
    sign = 1.0 if beyond > 0.0 else (-1.0 if beyond < 0.0 else 0.0)
    back = _clip(held - sign * octave, axis[0], axis[count - 1])
    left, fraction, _ = _place(axis, count, back)
    octaves = abs(held - back) / octave
    return left, fraction, least_octaves if octaves < least_octaves else octaves
