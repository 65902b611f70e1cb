"""Measure how much a few runs improve estimates: calibrate published groups on some runs, score them on the others.

A random half of a group's runs, but at least four, is offered for calibration; the others are scored. The runs to
calibrate on are the first ones of the draw, or those that inform most about the scored runs (`most_informative_first`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.user_calibration.fit import Priors, pulled
from perfmodel.user_calibration.published import FEWEST_GROUPS, Values
from perfmodel.user_calibration.run_selection import most_informative_first

if TYPE_CHECKING:
    import pandas as pd

#: Runs that a group is calibrated on, fewest runs of a group that is judged, and repeats of the draw.
CALIBRATED_ON, FEWEST_RUNS, REPEATS = (1, 2, 4), 6, 3
#: A group is worse where its median error rises by more than this.
WORSE = 0.02
#: Ways to choose the runs.
RANDOM, TELLING = "random", "next"


def errors_after_calibration(
    values: Values, known: Priors, *, runs: Sequence[int] = CALIBRATED_ON, seed: int = 0
) -> pd.DataFrame:
    """Calibrate each group on a few of its runs, and judge it on others.

    Returns a line per judged value: group, kind, metric, mode, by (how runs were chosen), runs (calibrated on), before
    and after (log of measured over estimated), spread (expected standard deviation of `after`).
    """
    import pandas as pd

    random = np.random.default_rng(seed)
    out = []
    for name, group in values.groups():
        every = np.unique(group.run)
        if len(every) < FEWEST_RUNS:
            continue
        for _ in range(REPEATS):
            order = random.permutation(every)
            offered = order[: max(max(runs), len(order) // 2)]
            judged = group.take(~np.isin(group.run, offered))
            for by, chosen in _choices(group, offered, judged, known, max(runs)):
                for count in runs:
                    used = group.take(np.isin(group.run, chosen[:count]))
                    after, spread = _judged(used, judged, known)
                    shown = judged.frame[["metric", "mode"]].assign(kind=judged.kind, before=judged.log_ratio)
                    out.append(shown.assign(group=name, by=by, runs=count, after=after, spread=spread))
    return pd.concat(out, ignore_index=True)


def _choices(
    group: Values, offered: NDArray[np.intp], judged: Values, known: Priors, count: int
) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield (way, numbers of runs in order) for each way to choose runs of a group."""
    yield RANDOM, offered.tolist()
    among = group.take(np.isin(group.run, offered))
    numbers = group.run[np.isin(group.run, offered)]
    target = judged.slope / np.array([known.noise[kind] for kind in judged.kind])[:, None]
    yield TELLING, most_informative_first(among.slope, among.noise(known.noise), numbers, target, known.factors, count)


def factors_from(used: Values, known: Priors) -> tuple[Array, Array]:
    """Return (log factors, (P,), their covariance) that values say."""
    return pulled(used.slope, used.log_ratio, used.noise(known.noise), known.factors, used.run)


def _judged(used: Values, judged: Values, known: Priors) -> tuple[Array, Array]:
    """Return (log ratios of the judged values under the factors of the used ones, their expected deviations)."""
    point, left = factors_from(used, known)
    own = np.array([known.noise[kind] for kind in judged.kind])
    expected = np.sqrt(np.square(own) + np.einsum("vp,pq,vq->v", judged.slope, left, judged.slope))
    return judged.log_ratio - judged.slope @ point, expected


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Return a line per kind, way and number of runs: errors in %, groups that got worse, ranges that held."""
    import pandas as pd

    from perfmodel.estimates import DEVIATE_80

    lines = []
    for (kind, runs, by), rows in judged.groupby(["kind", "runs", "by"]):
        before, after = (np.abs(np.expm1(-rows[name])) for name in ("before", "after"))
        by_group = pd.DataFrame({"group": rows.group, "before": before, "after": after}).groupby("group").median()
        lines.append(
            {
                "kind": kind,
                "runs": runs,
                "by": by,
                "groups": len(by_group),
                "median_before": 100 * before.median(),
                "median_after": 100 * after.median(),
                "groups_worse": 100 * (by_group.after - by_group.before > WORSE).mean(),
                "in_range": 100 * (np.abs(rows.after) < DEVIATE_80 * rows.spread).mean(),
            }
        )
    return pd.DataFrame(lines)


def widths(judged: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return metric -> {"closed-2": log half-width of the 80 % interval after two runs ...}, any arrival included."""
    means = judged[~judged.metric.str.contains("p9") & (judged.by == RANDOM)]
    out: dict[str, dict[str, float]] = {}
    for kind, rows in means.groupby("kind"):
        found: dict[str, float] = {}
        for runs, part in rows.groupby("runs"):
            arrivals = [("any", part), *((str(mode_), own) for mode_, own in part.groupby("mode"))]
            found |= {
                f"{name}-{runs}": round(float(np.quantile(np.abs(own.after), 0.8)), 3)
                for name, own in arrivals
                if own.group.nunique() >= FEWEST_GROUPS
            }
        out[str(kind)] = found
    return out
