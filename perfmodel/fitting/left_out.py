"""Fit kernel factors and levels without parts of the runs, and say how far predictions of these parts lie off.

What a fit says of its own runs is no measure: factors and levels take up part of what is particular to them. Here runs
are dealt into parts, factors and levels are fitted to all parts but one, and the values of that one are compared with
what follows. Parts keep together what a fit must not have seen: the runs of a group, of a model on a device, of an
architecture, of a source. Open loops are compared, but nothing is fitted on them. All of it follows from the slopes of
log ratios (`perfmodel.fitting.pooling`), so nothing is predicted again. Constants of engines stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hwdb import load as load_hwdb
from perfmodel.arrays import Array, Mask
from perfmodel.costs import FACTORS, model_level
from perfmodel.fitting.measured import fold_of
from perfmodel.fitting.model_levels import PULL, described, level_logs, level_slopes, present_ratios
from perfmodel.fitting.pooling import MIN_VALUES, OF_DEVICES, Pooled, Pulls, Slopes, pool, ratios_at

if TYPE_CHECKING:
    import pandas as pd

#: What a part keeps together -> columns of the values that name it.
TOGETHER = {
    "group": ("group",),
    "model on a device": ("model", "device"),
    "architecture": ("architecture",),
    "source": ("dataset",),
}
#: Pulls of levels that `errors` compares; inf: no levels.
LEVEL_PULLS = (np.inf, 2.0, 3.0, 4.0)
#: Name of a figure -> the metrics that count for it.
FIGURES = {
    "TPOT": ("tpot_ms",),
    "TPOT p50": ("tpot_ms_p50",),
    "tokens/s": ("output_tok_s", "total_tok_s", "prefill_tok_s", "decode_tok_s"),
    "TTFT": ("ttft_ms",),
    "TTFT p50": ("ttft_ms_p50",),
}


def refitted(measured: Mapping[str, Slopes], keep: Mapping[str, Mask]) -> dict[str, Array]:
    """Return the log ratios of all values of some engines under factors fitted to part of them, without levels.

    Factors are found as `fit_engines` finds them, and then, on devices other than accelerators with HBM, as
    `fit_devices` does. An engine with too few values keeps its present factors.

    Args:
        measured: engine -> its values.
        keep: engine -> values to fit on, (V,).
    """
    enough = {e: s for e, s in measured.items() if (s.known() & keep[e]).sum() >= MIN_VALUES}
    fitted = pool(enough, Pulls(), {e: keep[e] for e in enough}) if enough else {}
    out = {}
    for engine, slopes in measured.items():
        if engine in fitted:
            out[engine] = _on_devices(slopes, fitted[engine], keep[engine])
        else:
            out[engine] = present_ratios(slopes)
    return out


def _on_devices(slopes: Slopes, fitted: Pooled, keep: Mask) -> Array:
    """Return the log ratios of an engine's values under a fit, with devices without HBM fitted after it, (V,)."""
    ratios, apart = ratios_at(slopes, fitted), slopes.kinds() != "gpu"
    if not (apart & keep & slopes.known()).any():
        return ratios
    shared = slopes.slopes[:, -len(FACTORS) :] @ fitted.places[""]
    alone = Slopes(
        rows=slopes.rows[apart].reset_index(drop=True),
        ratios=(slopes.ratios + shared)[apart],
        slopes=slopes.slopes[apart][:, -len(FACTORS) :],
        weight=slopes.weight[apart],
        places={d: replace(p, family="") for d, p in slopes.places.items() if p.kind != "gpu"},
    )
    ratios[apart] = ratios_at(alone, pool({"": alone}, OF_DEVICES, {"": keep[apart]})[""])
    return ratios


def left_out_ratios(
    measured: Mapping[str, Slopes], together: str, parts: int, pulls: tuple[float, ...] = (PULL,)
) -> dict[float, dict[str, Array]]:
    """Return the log ratio of prediction over measurement of each value under fits that left out its part.

    Returns pull of levels -> engine -> (V,); NaN where a value has no prediction.

    Args:
        measured: engine -> its values, with `dataset` among the columns where sources stay together.
        together: what a part keeps together, of `TOGETHER`.
        parts: number of parts.
        pulls: of levels.
    """
    rows = {e: described(s) for e, s in measured.items()}
    used = {e: s.known() & ~r.opened.to_numpy(bool) for (e, s), r in zip(measured.items(), rows.values(), strict=True)}
    names = {e: r[list(TOGETHER[together])].astype(str).agg("/".join, axis=1) for e, r in rows.items()}
    part = {e: np.array([fold_of(n, parts) for n in each], np.intp) for e, each in names.items()}
    out = {pull: {e: np.full(len(r), np.nan) for e, r in rows.items()} for pull in pulls}
    for number in range(parts):
        keep = {e: (p != number) & used[e] for e, p in part.items()}
        left = refitted(measured, keep)
        for engine, slopes in measured.items():
            mine = (part[engine] == number) & slopes.known()
            for pull in pulls:
                logs = level_logs(slopes, rows[engine], left[engine], keep[engine], pull)
                out[pull][engine][mine] = (left[engine] + level_slopes(slopes) * logs)[mine]
    return out


def changes_left_out(measured: Mapping[str, Slopes], together: str, parts: int) -> pd.DataFrame:
    """Return `case_id, metric, change`: what leaving its part out adds to the log of measured over predicted.

    It is that of factors and levels fitted without the part over those that the model has at present. Arguments as of
    `left_out_ratios`.
    """
    import pandas as pd

    left = left_out_ratios(measured, together, parts)[PULL]
    rows = [s.rows.assign(change=_now(e, s) - left[e])[["case_id", "metric", "change"]] for e, s in measured.items()]
    every = pd.concat(rows)
    found: pd.DataFrame = every[np.isfinite(every.change)].drop_duplicates(["case_id", "metric"])
    return found


def _now(engine: str, slopes: Slopes) -> Array:
    """Return the log ratios of an engine's values with the factors and levels of the model at present, (V,)."""
    rows, database = described(slopes), load_hwdb()
    pairs = zip(rows.device, rows.architecture, strict=True)
    level = {(d, a): model_level(engine, database.device(d), a) for d, a in set(pairs)}
    logs = np.log([level[pair] for pair in zip(rows.device, rows.architecture, strict=True)])
    return present_ratios(slopes) + level_slopes(slopes) * logs


def errors(measured: Mapping[str, Slopes], ratios: Mapping[str, Array]) -> dict[str, float]:
    """Return the error of the median group of each figure of `FIGURES`: median over groups of their median |p / m - 1|.

    Open loops do not count: queues rule them.

    Args:
        measured: engine -> its values.
        ratios: engine -> log ratio of prediction over measurement of its values, (V,); NaN does not count.
    """
    import pandas as pd

    every = pd.concat([s.rows.assign(error=np.abs(np.expm1(ratios[e]))) for e, s in measured.items()])
    every = every[np.isfinite(every.error) & ~every.opened]
    return {
        name: float(every[every.metric.isin(metrics)].groupby("group").error.median().median())
        for name, metrics in FIGURES.items()
    }


def error_lines(measured: Mapping[str, Slopes], parts: int) -> list[str]:
    """Return a table of errors of the median group: by what was left out together, and by the pull of levels."""
    lines = [f"{'left out':20}{'pull of levels':>16}" + "".join(f"{name:>10}" for name in FIGURES)]
    for together in TOGETHER:
        for pull, ratios in left_out_ratios(measured, together, parts, LEVEL_PULLS).items():
            each = "".join(f"{100.0 * error:>8.1f} %" for error in errors(measured, ratios).values())
            lines.append(f"{together:20}{'no levels' if np.isinf(pull) else f'{pull:g}':>16}{each}")
    return lines
