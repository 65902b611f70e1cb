"""Fit levels of models: one factor on all kernels of an architecture under an engine on a family of chips.

Engines keep their constants and kernel factors: levels are fitted to what these leave, each drawn to 1, so an
architecture that few runs show keeps a level near 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import load as load_hwdb
from hwdb import outfile
from perfmodel.arrays import Array, Mask
from perfmodel.costs import FACTORS, MODEL_LEVELS, chip_family, plain_architecture
from perfmodel.fitting.pooling import LEVEL, Slopes, solved
from perfmodel.models import model

if TYPE_CHECKING:
    import pandas as pd

#: Weight of the residual that draws the logarithm of a level to 0. Chosen on the train split by
#: `levels --cross-validate 5`: factors and levels are fitted without the part that is left out. Error of the median
#: group in percent, closed loops and batches:
#:
#:     left out          | weight   | TPOT | TPOT p50 | tok/s | TTFT
#:     groups            | no level | 11.2 | 10.3     | 10.9  | 19.9
#:                       | 2        | 10.3 |  9.1     | 10.5  | 20.0
#:                       | 3        | 10.4 |  9.3     | 10.5  | 20.0
#:     models on devices | no level | 12.6 | 11.3     | 11.4  | 19.2
#:                       | 2        | 12.4 | 10.5     | 11.1  | 19.2
#:                       | 3        | 12.5 | 10.5     | 11.2  | 19.2
#:     sources           | no level | 12.1 | 11.4     | 11.5  | 21.4
#:                       | 2        | 11.5 | 11.5     | 11.5  | 21.7
#:                       | 3        | 11.5 | 11.4     | 11.5  | 22.2
#:
#: Architectures that are left out have no level: 13.6, 13.2, 12.7 and 21.4. TTFT p50 loses, 16.9 to 20.0 on 44 groups.
#: Dropped, as none gained in TPOT, tokens/s and TTFT at once: a level of the architecture on all chips, under all
#: engines or under all eras of an engine, of one device, of a model, of formats, degrees of parallelism, modes of
#: arrival; one on memory and launches alone; equal weights of groups; offsets of sources beside levels; levels within
#: 10 % of 1; open loops in the fit; factors and levels fitted by turns.
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


def fit_levels(measured: Mapping[str, Slopes]) -> list[LevelFit]:
    """Fit the levels of all architectures under some engines. measured: of `measured_slopes`."""
    return [fit for engine, slopes in measured.items() for fit in levels_of(engine, slopes)]


def levels_of(engine: str, slopes: Slopes) -> list[LevelFit]:
    """Fit the levels under one engine."""
    rows, known = described(slopes), slopes.known() & ~slopes.rows.opened.to_numpy(bool)
    logs = level_logs(slopes, rows, present_ratios(slopes), known)
    parts = rows.assign(log=logs)[known].groupby(["chips", "architecture"])
    return [
        LevelFit(
            engine=engine,
            chips=str(chips),
            architecture=str(architecture),
            level=float(f"{np.exp(part.log.iloc[0]):.3g}"),
            values=len(part),
            groups=part.group.nunique(),
        )
        for (chips, architecture), part in parts
        if part.group.nunique() >= MIN_GROUPS
    ]


def described(slopes: Slopes) -> pd.DataFrame:
    """Return the values of an engine with `chips`, the family of chips, and `architecture`, the name in the table."""
    database, rows = load_hwdb(), slopes.rows
    chips = {d: chip_family(database.device(d)) for d in rows.device.unique()}
    names = {m: plain_architecture(model(m).architecture) for m in rows.model.unique()}
    return rows.assign(chips=rows.device.map(chips), architecture=rows.model.map(names))


def level_logs(slopes: Slopes, rows: pd.DataFrame, ratios: Array, keep: Mask, pull: float = PULL) -> Array:
    """Return the logarithm of the level that each value of an engine has, (V,); 0 where too few groups show one.

    Args:
        slopes: the values.
        rows: of `described`.
        ratios: log ratios that factors leave, (V,).
        keep: known values that levels are fitted on, (V,).
        pull: as `PULL`; inf: no levels.
    """
    from scipy import sparse

    if not keep.any() or not np.isfinite(pull):
        return np.zeros(len(rows))
    number = np.asarray(rows.groupby(["chips", "architecture"]).ngroup(), np.intp)
    count = int(number.max()) + 1
    values = level_slopes(slopes)[keep]
    design = sparse.csr_array((values, (np.arange(len(values)), number[keep])), shape=(len(values), count))
    points = solved(design, ratios[keep], slopes.weight[keep], np.full(count, pull))
    groups = rows.group[keep].groupby(number[keep]).nunique().reindex(range(count), fill_value=0).to_numpy()
    found: Array = np.where(groups >= MIN_GROUPS, points, 0.0)[number]
    return found


def present_ratios(slopes: Slopes) -> Array:
    """Return the log ratios of all values of an engine under the factors that slopes were taken around, (V,)."""
    start = np.log(np.array([slopes.places[d].start for d in slopes.rows.device]))
    found: Array = slopes.ratios + (slopes.slopes[:, -len(FACTORS) :] * start).sum(axis=1)
    return found


def level_slopes(slopes: Slopes) -> Array:
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
        f"level = {fit.level:g}\nvalues = {fit.values}\ngroups = {fit.groups}\n"  # noqa: PD011 - a count
    )
