"""How the lengths of requests spread around their means: what `isl_dist` means in every command, file and function.

| `isl_dist` | Lengths within a class of requests | Opening burst of a closed loop |
|---|---|---|
| blank | the mean stands for all of them | spreads out evenly |
| `fixed` | all equal | stays in step |
| `uniform:LOW-HIGH` | uniform between these shares of a nominal length | stays partly in step |
| `trace` | as in recorded traffic: a Weibull law, cut at the longest output allowed | hardly stays in step |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.workload.output_lengths import OUTPUT_LENGTH_CV, truncated_cv

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How far requests of the opening burst stay together, by kind of length spread: 1 where equal lengths keep them in
#: step for good, 0 where random lengths dissolve the groups. After ten rounds of lengths uniform in 0.8-1.0 of nominal,
#: starts scatter by 0.058 sqrt(10) = 0.18 of a residence time (standard deviation): far from evenly. Assumed for
#: lengths of which nothing but the mean is known: no groups.
SYNCHRONISED = {"": 0.0, "fixed": 1.0, "uniform": 0.4, "trace": 0.05}
#: Standard deviation of the logarithm of prompt lengths in recorded traffic of which only the mean is known: OpenOrca
#: 0.8, Azure conversations 2023 0.9, CNN/DailyMail 0.45, ShareGPT 1.7 (90th percentiles over means, `datasets.toml`).
PROMPT_SPREAD = 0.8
#: Standard normal deviate of the 90th percentile.
NINETY = 1.2816
#: How `isl_dist` is written, for messages.
SPREADS = "fixed, uniform:LOW-HIGH (shares of the nominal length, as in uniform:0.8-1.0) or trace"
#: The shares of the nominal length between which lengths are uniform.
_UNIFORM = re.compile(r"uniform:(\d*\.?\d+)-(\d*\.?\d+)")
#: What stands before the shares.
_UNIFORM_KIND = "uniform"


def spread_kind(isl_dist: str) -> str:
    """Return the kind of spread that `isl_dist` names, a key of `SYNCHRONISED`; raise `InputError` for any other text.

    >>> spread_kind("uniform:0.8-1.0"), spread_kind("")
    ('uniform', '')
    """
    if isl_dist == _UNIFORM_KIND or uniform_shares(isl_dist) is not None:
        return _UNIFORM_KIND
    if isl_dist not in SYNCHRONISED:
        raise InputError(f"isl_dist {isl_dist!r} is no spread of lengths; give {SPREADS}, or leave it blank")
    return isl_dist


def uniform_shares(isl_dist: str) -> tuple[float, float] | None:
    """Return the least and the greatest share of the nominal length in `uniform:LOW-HIGH`; None for anything else.

    >>> uniform_shares("uniform:0.8-1.0"), uniform_shares("fixed")
    ((0.8, 1.0), None)
    """
    found = _UNIFORM.fullmatch(isl_dist)
    if not found or not float(found[2]) > 0.0 or float(found[1]) > float(found[2]):
        return None
    return float(found[1]), float(found[2])


def longest_over_mean(isl_dist: str) -> float:
    """Return the longest prompt over the mean prompt: above 1 for `uniform:LOW-HIGH`, 1 for any other spread."""
    low, high = uniform_shares(isl_dist) or (1.0, 1.0)
    return 2.0 * high / (low + high)


def synchronised(kinds: Sequence[str]) -> Array:
    """Return how far requests of the opening burst stay together, 0 to 1, (N,). kinds: N keys of `SYNCHRONISED`."""
    return np.array([SYNCHRONISED[k] for k in kinds], dtype=float)


def length_cv(kinds: Sequence[str], fullness: Array, stated: Array | float = np.nan) -> Array:
    """Return the coefficient of variation of output lengths within a class, (N,).

    kinds: N keys of `SYNCHRONISED`. fullness: (N,) mean output over the longest output allowed, NaN or 0 without one.
    stated: coefficient of variation that recorded traffic is known to have, (N,); NaN: unknown.
    """
    names: NDArray[np.str_] = np.array(kinds, dtype=str)
    cut = np.where(fullness > 0.0, fullness, np.nan)
    usual = np.select([names == k for k in OUTPUT_LENGTH_CV], [truncated_cv(k, cut) for k in OUTPUT_LENGTH_CV], 0.0)
    return np.where((names == "trace") & np.isfinite(stated), stated, usual)


def prompt_spread(kinds: Sequence[str], tail: Array | float = np.nan) -> Array:
    """Return the standard deviation of the logarithm of prompt lengths within a class, (N,); log-normal.

    kinds: N keys of `SYNCHRONISED`. tail: 90th percentile of prompts over their mean, (N,); NaN: unknown. Derived: with
    deviation s a log-normal law has its 90th percentile at exp(1.2816 s - s^2 / 2) times its mean, at most
    exp(1.2816^2 / 2).
    """
    recorded = np.array(kinds, dtype=str) == "trace"
    over = np.clip(2.0 * np.log(np.where(np.isfinite(tail), tail, 1.0)), 0.0, NINETY**2)
    known = NINETY - np.sqrt(NINETY**2 - over)
    return np.where(recorded, np.where(np.isfinite(tail), known, PROMPT_SPREAD), 0.0)
