"""Fit levels of models: one factor on all kernels of an architecture under an engine on a family of chips.

Engines keep their constants and kernel factors: levels are fitted to what these leave, each drawn to 1, so an
architecture that few runs show keeps a level near 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwdb import load as load_hwdb
from hwdb import outfile
from perfmodel.arrays import Array
from perfmodel.costs import FACTORS, MODEL_LEVELS, chip_family, plain_architecture
from perfmodel.fitting.engine_fit import engine_slopes
from perfmodel.fitting.pooling import LEVEL, Slopes, solved
from perfmodel.models import model

#: Weight of the residual that draws the logarithm of a level to 0. Chosen on the train split, factors fitted without
#: the part that is left out, four parts, two ways to deal each: groups of runs, and whole pairs of model and device.
#: Error of the median group in percent, before `MIN_GROUPS`; two figures are the two ways to deal:
#:
#:     weight   | TPOT, groups | tok/s, groups | TPOT, pairs | tok/s, pairs
#:     no level | 11.3, 11.7   | 11.3, 11.5    | 12.5, 12.6  | 11.7, 12.4
#:     1.5      | 10.5, 11.4   | 10.9, 11.2    | 12.1, 11.9  | 11.4, 11.9
#:     2        | 10.7, 11.4   | 10.9, 11.4    | 12.0, 11.8  | 11.5, 12.0
#:     3        | 10.8, 11.4   | 11.4, 11.3    | 12.0, 12.0  | 11.5, 12.1
#:
#: TTFT with 2: 20.5 to 21.1 and 20.5 to 20.9 (groups), 20.4 to 20.7 and 19.1 to 19.2 (pairs). Dropped, as TPOT gained
#: less or lost: a level under an engine on all chips, under all engines, of one device, of formats, degrees of
#: parallelism, modes of arrival, pools or engine versions.
PULL = 2.0
#: Fewest groups of runs that show a level of their own. Chosen: one alone says as much of its source as of the model
#: (MI325X under vLLM with Kimi-K2.5: 1.65), and TTFT of left-out groups stays at 20.3 and 20.5 % with two.
MIN_GROUPS = 2
HEAD = (
    "# Time of all kernels of an architecture under an engine on a family of chips, over kernel factors; fitted\n"
    "# by `python -m perfmodel.fitting levels` on measured serving runs (train split). values: measured values behind\n"
    "# a level, groups: groups of runs that they come from.\n"
)


@dataclass(frozen=True)
class LevelFit:
    """Holds the level of an architecture under an engine on a family of chips, and how many runs are behind it."""

    engine: str
    chips: str
    architecture: str
    level: float
    values: int
    groups: int


def fit_levels(cases: str | Path, truth: str | Path, engines: Sequence[str] = ()) -> list[LevelFit]:
    """Fit the levels of all architectures under all engines, or under `engines` alone, on the train split.

    Args:
        cases, truth: paths, as of `fit_engines`.
        engines: names of engines.
    """
    database = load_hwdb()
    found = []
    for engine, slopes in engine_slopes(cases, truth, engines):
        chips = {d: chip_family(database.device(d)) for d in slopes.places}
        found += levels_of(engine.name, slopes, chips)
    return found


def levels_of(engine: str, slopes: Slopes, chips: Mapping[str, str]) -> list[LevelFit]:
    """Fit the levels under one engine. chips: device -> its family of chips."""
    from scipy import sparse

    known = slopes.known()
    rows = slopes.rows[known]
    names = {m: plain_architecture(model(m).architecture) for m in rows.model.unique()}
    rows = rows.assign(chips=rows.device.map(chips), architecture=rows.model.map(names))
    which = rows.groupby(["chips", "architecture"])
    number = np.asarray(which.ngroup(), np.intp)
    if not len(rows):
        return []
    values = _level_slopes(slopes)[known]
    design = sparse.csr_array((values, (np.arange(len(rows)), number)), shape=(len(rows), number.max() + 1))
    pull = np.full(number.max() + 1, PULL)
    logs = solved(design, _ratios(slopes)[known], slopes.weight[known], pull)
    return [
        LevelFit(
            engine=engine,
            chips=str(part.chips.iloc[0]),
            architecture=str(part.architecture.iloc[0]),
            level=float(f"{np.exp(log):.3g}"),
            values=len(part),
            groups=part.group.nunique(),
        )
        for log, (_, part) in zip(logs, which, strict=True)
        if part.group.nunique() >= MIN_GROUPS
    ]


def _ratios(slopes: Slopes) -> Array:
    """Return the log ratios of all values of an engine under the factors that slopes were taken around, (V,)."""
    start = np.log(np.array([slopes.places[d].start for d in slopes.rows.device]))
    found: Array = slopes.ratios + (slopes.slopes[:, -len(FACTORS) :] * start).sum(axis=1)
    return found


def _level_slopes(slopes: Slopes) -> Array:
    """Return how log ratios change with the logarithm of a factor on all kernels but links, (V,)."""
    found: Array = slopes.slopes[:, -len(FACTORS) :][:, LEVEL].sum(axis=1)
    return found


def write_levels(fits: Sequence[LevelFit], path: Path = MODEL_LEVELS) -> None:
    """Write levels into the table at `path`, in place of all that it holds."""
    outfile.write_text(path, "\n".join([HEAD, *(_entry(fit) for fit in fits)]))


def _entry(fit: LevelFit) -> str:
    """Return a level as an entry of the table."""
    return (
        f'[[level]]\nengine = "{fit.engine}"\nchips = "{fit.chips}"\narchitecture = "{fit.architecture}"\n'
        f"level = {fit.level:g}\nvalues = {fit.values}\ngroups = {fit.groups}\n"
    )
