"""Which candidates nothing beats: Pareto fronts and rankings of 10^5 to 10^6 rows, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hwdb import UnknownName

Array = NDArray[np.float64]
Index = NDArray[np.intp]

#: Columns that a ranking may go by -> whether less is better.
RANKINGS = {
    "usd_per_hour": True,
    "usd_per_million_tokens": True,
    "usd_per_million_total_tokens": True,
    "devices": True,
    "power_w": True,
    "energy_j_per_token": True,
    "output_tok_s_per_device": False,
    "output_tok_s": False,
    "request_rate": False,
    "ttft_ms": True,
    "tpot_ms": True,
    "e2e_ms": True,
}


def pareto(columns: Sequence[Array], largest: Sequence[bool] = ()) -> NDArray[np.bool_]:
    """(N,) True for rows that no other row beats: at least as good in every column and better in one.

    columns: K arrays (N,), less is better unless `largest` says otherwise. Equal rows stand or fall together; a row
    with NaN is on no front. About N log N for smooth fronts: rows are sorted by the sum of their ranks, so that a
    row can only be beaten by one before it, and each survivor strikes out all that it beats at once (Kung, Luccio and
    Preparata, J. ACM 22(4), 1975, give the bound).

    >>> pareto([np.array([1.0, 2.0, 2.0]), np.array([3.0, 1.0, 3.0])]).tolist()
    [True, True, False]
    """
    flips = [*largest, *[False] * (len(columns) - len(largest))]
    table = np.stack([-c if flip else c for c, flip in zip(columns, flips, strict=True)]).astype(float)
    known = np.nonzero(~np.isnan(table).any(axis=0))[0]
    out = np.zeros(table.shape[1], dtype=bool)
    out[known] = _survivors(table[:, known])
    return out


def _survivors(table: Array) -> NDArray[np.bool_]:
    """(M,) True for columns of a (K, M) table that no other column beats."""
    ranks = np.stack([np.unique(row, return_inverse=True)[1] for row in table])  # equal values share a rank
    left = np.argsort(ranks.sum(axis=0), kind="stable")
    ranks = ranks[:, left]
    kept = np.zeros(table.shape[1], dtype=bool)
    while len(left):
        first = ranks[:, :1]
        kept[left[(ranks == first).all(axis=0)]] = True
        unbeaten = (ranks < first).any(axis=0)
        left, ranks = left[unbeaten], ranks[:, unbeaten]
    return kept


def ranked(columns: Mapping[str, Array], by: str, qualifies: NDArray[np.bool_] | None = None) -> Index:
    """Rows in order of `by`, a key of `RANKINGS`: those that qualify first, unknown values last among equals.

    Ties go by cost, the chance to keep the objectives, devices, then the row's own order. Raises `UnknownName`.
    """
    if by not in RANKINGS:
        raise UnknownName("ranking", by, RANKINGS)
    ascending = RANKINGS[by]
    values = np.asarray(columns[by], dtype=float)
    after = (("devices", 1.0), ("slo_chance", -1.0), ("usd_per_hour", 1.0))  # np.lexsort: the last key counts most
    keys = [sign * _rounded(np.asarray(columns[c], dtype=float)) for c, sign in after if c in columns]
    main = np.nan_to_num(_rounded(values if ascending else -values), nan=np.inf)
    out = np.zeros(len(values), dtype=bool) if qualifies is None else ~qualifies
    return np.lexsort((*keys, main, out))


def _rounded(values: Array) -> Array:
    """Values to six digits, so that what differs by rounding noise only counts as a tie."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = 10.0 ** (6 - np.ceil(np.log10(np.abs(values))))
        return np.where(np.isfinite(scale) & (scale > 0), np.round(values * scale) / scale, values)
