"""Bounds of decisions: what perfect levels would decide, and what the scatter of measurements leaves to decide.

A predictor errs in level (all configurations of a model on a device are off alike) and in shape (one configuration
against the next). With perfect levels (`levelled`), only shape is left. A second run of every configuration
(`repeated`) is the best that any predictor can know: what it decides wrongly, no model can decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perfmodel.fitting import decisions, summary

#: What is compared: latencies, each by its mean or else its median, and throughput.
LATENCIES, RATE = ("tpot", "ttft"), "total_tok_s"
#: Title of perfect levels -> columns of the runs that share a level.
LEVELS = {
    "level of device, engine and model perfect": ("device", "engine", "model"),
    "level of these, device count and weight format perfect": ("group",),
    "level of these and lengths perfect": ("group", "isl", "osl"),
}
#: Scatter (standard deviation of log TPOT) of repeated runs. Chosen: below and above that of runs that were repeated.
SCATTERS = (0.01, 0.03, 0.1)
#: Share of a limit from which on a configuration counts as near it. Chosen: an error of 2 % decides about it.
NEAR = 0.98
#: Draws that the shares of repeated runs are taken over. Chosen: a draw takes as long as the decisions themselves.
DRAWS = 4


def levelled(cases: pd.DataFrame, predictions: pd.DataFrame, truth: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return predictions times one factor per level and metric, after which their median log ratio is 0.

    Args:
        cases: a line per run with `case_id` and the columns `by`.
        predictions: a line per run with `case_id, tpot_ms, ttft_ms, total_tok_s`.
        truth: a line per measured value with `case_id, metric, value`.
        by: columns of `cases`; runs that agree in them share a level.
    """
    told, measured = _compared(_indexed(cases, predictions)), _compared(_indexed(cases, _wide(truth)))
    level = [cases[column].to_numpy() for column in by]
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.log(measured / told)
    middle = off.where(np.isfinite(off)).groupby(level).transform("median")
    return (told * np.exp(middle.fillna(0.0))).rename_axis("case_id").reset_index()


def repeated(cases: pd.DataFrame, truth: pd.DataFrame, scatter: float, seed: int) -> pd.DataFrame:
    """Return predictions that are the measurements with scatter: a second run of every configuration.

    TPOT and TTFT scatter apart; throughput moves against TPOT, as in a closed loop (Little's law).

    scatter: standard deviation of the logarithm. seed: of the draw.
    """
    measured = _compared(_indexed(cases, _wide(truth)))
    drawn = np.random.default_rng(seed).normal(0.0, scatter, (len(measured), len(LATENCIES)))
    off = np.column_stack([drawn, -drawn[:, 0]])
    return (measured * np.exp(off)).rename_axis("case_id").reset_index()


def bounds(
    cases: pd.DataFrame, predictions: pd.DataFrame, truth: pd.DataFrame, prices: dict[str, float] | None
) -> dict[str, pd.DataFrame]:
    """Make decisions with limits on TPOT by each bound; return the decisions by its title.

    Args:
        cases: the runs that count, as of `perfmodel.fitting.decisions`, with `engine` and `group`.
        predictions: of the tool.
        truth: a line per measured value.
        prices: device -> price per hour.
    """
    made = {"perfmodel": decisions(cases, predictions, truth, prices)}
    for title, by in LEVELS.items():
        made[title] = decisions(cases, levelled(cases, predictions, truth, by), truth, prices)
    for scatter in SCATTERS:
        draws = (repeated(cases, truth, scatter, seed) for seed in range(DRAWS))
        made[f"a second run, {100 * scatter:.0f} % apart"] = pd.concat(
            [decisions(cases, draw, truth, prices) for draw in draws]
        )
    return made


def bound_lines(made: dict[str, pd.DataFrame], kind: str) -> dict[str, dict[str, object]]:
    """Return a line per data set and bound. made: decisions by title. kind: of decisions."""
    first = next(iter(made.values()))
    lines: dict[str, dict[str, object]] = {}
    for dataset in sorted(first[first.kind == kind].dataset.unique()):
        for title, table in made.items():
            figures = summary(table[(table.kind == kind) & (table.dataset == dataset)])
            lines[f"{dataset}; {title}"] = {
                "limit kept": figures["limit_kept"],
                "kept, within 5 % of the best": figures["within_5"],
                "right device": figures["right_device"] if kind == "hardware" else float("nan"),
            }
    return lines


def near_limit(made: pd.DataFrame, truth: pd.DataFrame) -> float:
    """Return the share of decisions whose best configuration measured at least `NEAR` of the limit on TPOT.

    made: decisions with limits on TPOT. truth: a line per measured value.
    """
    tpot = _compared(_wide(truth).set_index("case_id")).tpot_ms
    return float((made.best.map(tpot) >= NEAR * made.limit_ms).mean())


def _wide(truth: pd.DataFrame) -> pd.DataFrame:
    """Return the measured values, a line per run and a column per metric."""
    return truth.pivot_table(index="case_id", columns="metric", values="value").reset_index()


def _indexed(cases: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of a table in the order of the cases, NaN where it has none."""
    return table.drop_duplicates("case_id").set_index("case_id").reindex(cases.case_id)


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return TPOT and TTFT in ms, mean or else median, and throughput of each run; NaN where unknown."""
    columns = {
        f"{name}_ms": _numbers(table, f"{name}_ms").fillna(_numbers(table, f"{name}_ms_p50")) for name in LATENCIES
    }
    return pd.DataFrame({**columns, RATE: _numbers(table, RATE)})


def _numbers(table: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return a column as numbers; NaN where the table does not have it."""
    if name not in table:
        return pd.Series(np.nan, index=table.index)
    return pd.to_numeric(table[name], errors="coerce")
