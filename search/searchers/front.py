"""Rank 10^5 to 10^6 candidates, held as columns, and find their Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hwdb import UnknownName
from perfmodel.arrays import Array, Index, Mask
from search.scenario import RANKINGS

#: Significant digits that a ranking compares. Chosen: coarser than rounding noise.
RANKING_DIGITS = 6
#: Significant digits of power that a tie-break compares. Chosen: finer differences are far below the error of power.
POWER_DIGITS = 2
#: Significant digits of a chance that a tie-break compares, and the chance from which candidates count as equally sure.
#: chosen: whole percents; from four in five on, fewer devices are worth more than further certainty.
CHANCE_DIGITS, SURE_ENOUGH = 2, 0.8
#: Columns that break ties of a ranking, with +1 where less is better, the digits compared, and the value from which on
#: nothing differs. np.lexsort takes the last key as the first.
TIE_BREAKS = (
    ("slo_chance", -1.0, RANKING_DIGITS, np.inf),
    ("power_w", 1.0, POWER_DIGITS, np.inf),
    ("bits_saved", 1.0, RANKING_DIGITS, np.inf),
    ("devices", 1.0, RANKING_DIGITS, np.inf),
    ("slo_chance", -1.0, CHANCE_DIGITS, SURE_ENOUGH),
    ("usd_per_hour", 1.0, RANKING_DIGITS, np.inf),
)


def pareto(columns: Sequence[Array], largest: Sequence[bool] = ()) -> Mask:
    """Find the Pareto front: return (N,) booleans, True for rows that no other row dominates.

    A row dominates another when it is at least as good in every column and better in one. Equal rows are both on the
    front or both off it. A row with NaN is never on it. Rows are sorted by the sum of their ranks, so that only an
    earlier row can dominate a later one, and each survivor removes all that it dominates at once. That takes about
    N log N steps for smooth fronts (Kung, Luccio and Preparata, J. ACM 22(4), 1975, give the bound).

    Args:
        columns: K arrays (N,); less is better.
        largest: per column, True where more is better; columns beyond its end are False.

    >>> pareto([np.array([1.0, 2.0, 2.0]), np.array([3.0, 1.0, 3.0])]).tolist()
    [True, True, False]
    """
    flips = [*largest, *[False] * (len(columns) - len(largest))]
    table = np.stack([-c if flip else c for c, flip in zip(columns, flips, strict=True)]).astype(float)
    known = np.nonzero(~np.isnan(table).any(axis=0))[0]
    out = np.zeros(table.shape[1], dtype=bool)
    out[known] = _not_dominated(table[:, known])
    return out


def _not_dominated(table: Array) -> Mask:
    """Return (M,) booleans: True for columns of a (K, M) table (less is better) that no other column dominates."""
    ranks = np.stack([np.unique(row, return_inverse=True)[1] for row in table])  # equal values share a rank
    left = np.argsort(ranks.sum(axis=0), kind="stable")
    ranks = ranks[:, left]
    front = np.zeros(table.shape[1], dtype=bool)
    while len(left):
        first = ranks[:, :1]
        front[left[(ranks == first).all(axis=0)]] = True
        not_dominated = (ranks < first).any(axis=0)
        left, ranks = left[not_dominated], ranks[:, not_dominated]
    return front


def ranked(columns: Mapping[str, Array], by: str, qualifies: Mask | None = None) -> Index:
    """Return row numbers (N,) from the best to the worst by column `by`, a key of `RANKINGS`.

    Rows that qualify ((N,) booleans, None for all) come first, and unknown values last among them. Ties go by cost,
    then by the chance to keep the SLO up to `SURE_ENOUGH`, then by devices in use, by how few bits formats save (as the
    quality of answers is not modelled), power and the rest of the chance, then by the row number.
    Raises `UnknownName` for a ranking that does not exist.
    """
    if by not in RANKINGS:
        raise UnknownName("ranking", by, RANKINGS)
    less_is_better = RANKINGS[by]
    values = np.asarray(columns[by], dtype=float)
    keys = [
        sign * _rounded(np.minimum(np.asarray(columns[c], dtype=float), most), digits)
        for c, sign, digits, most in TIE_BREAKS
        if c in columns
    ]
    if "usd_per_hour" in columns and "devices" in columns:  # without a price, the devices stand for the cost
        unpriced = np.isnan(np.asarray(columns["usd_per_hour"], dtype=float))
        keys.append(np.where(unpriced, np.asarray(columns["devices"], dtype=float), 0.0))
    main = np.nan_to_num(_rounded(values if less_is_better else -values), nan=np.inf)
    out = np.zeros(len(values), dtype=bool) if qualifies is None else ~qualifies
    return np.lexsort((*keys, main, out))


def _rounded(values: Array, digits: int = RANKING_DIGITS) -> Array:
    """Round values to so many significant digits, so that differences by rounding noise count as ties."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = 10.0 ** (digits - np.ceil(np.log10(np.abs(values))))
        return np.where(np.isfinite(scale) & (scale > 0), np.round(values * scale) / scale, values)
