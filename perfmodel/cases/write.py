"""Write the output of `predict`: the table of cases with columns of estimates, their intervals and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Index
from perfmodel.cases.hosts import Hosts
from perfmodel.cases.settings import Settings
from perfmodel.costs import REMARK, remark_column
from perfmodel.estimates import Estimates, overall
from perfmodel.unit_factors import MS_PER_S

if TYPE_CHECKING:
    import pandas as pd

#: Columns of estimates that `predict` writes, in this order.
OUTPUT = (
    "ttft_ms",
    "ttft_ms_p50",
    "ttft_ms_p90",
    "ttft_ms_p99",
    "tpot_ms",
    "tpot_ms_p50",
    "tpot_ms_p90",
    "tpot_ms_p99",
    "itl_ms",
    "itl_ms_p50",
    "itl_ms_p99",
    "e2e_ms",
    "e2e_ms_p50",
    "e2e_ms_p99",
    "req_s",
    "output_tok_s",
    "total_tok_s",
    "prefill_tok_s",
    "decode_tok_s",
    "memory_gb_per_device",
    "power_w_per_device",
    "wall_power_w",
    "energy_j_per_output_token",
)
#: Output columns with an 80 % interval -> (metric, statistic) that `Estimates.half_width` takes for its width.
INTERVALS = {
    **{f"{m}_ms": (m, "mean") for m in ("ttft", "tpot", "itl", "e2e")},
    **{f"{m}_ms_{q}": (m, q) for m in ("ttft", "tpot") for q in ("p50", "p90", "p99")},
    **{f"{m}_ms_{q}": (m, q) for m in ("itl", "e2e") for q in ("p50", "p99")},
    **dict.fromkeys(("req_s", "output_tok_s", "total_tok_s"), ("throughput", "mean")),
    "prefill_tok_s": ("prefill", "mean"),
    "decode_tok_s": ("decode", "mean"),
    **dict.fromkeys(("power_w_per_device", "wall_power_w"), ("power", "mean")),
    "energy_j_per_output_token": ("energy", "mean"),
}
#: Second name of an output column -> the column. `req_s` stays because published case tables and the tools that score
#: predictions use it. The long name starts with `served_`, because `request_rate_rps` is an input column: the rate at
#: which requests are sent. Written over it, a closed loop read back from predictions would turn into an open one.
SECOND_NAMES = {"served_request_rate_rps": "req_s"}
#: Column of `predict` for what engines would refuse or do otherwise; only where a row has such a remark.
CONFIGURATION_REMARK = "configuration_remark"
#: Column of `predict` for what the answers of open loops near and beyond capacity rest on; only where a row has one.
LOAD_REMARK = "load_remark"
#: Flags written as "true" or "false".
FLAGS = ("fits", "saturated")
BOUNDS = tuple(f"{c}_{end}" for c in INTERVALS for end in ("lo", "hi"))
#: Every column that `predict` writes; columns of these names in the table are replaced.
PREDICTED = (
    *(*OUTPUT, *BOUNDS),
    *(f"{second}{end}" for second in SECOND_NAMES for end in ("", "_lo", "_hi")),
    *(*FLAGS, "basis", "error"),
)


@dataclass(frozen=True)
class Answer:
    """Holds the output columns of N rows of cases, (N,) each. rows: their row numbers in the table."""

    rows: Index
    columns: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Evaluated:
    """Holds the estimates of N rows of cases. rows: their row numbers in the table. remarks: on the configurations,
    (N,). loads: on what the answer rests near and beyond capacity, (N,).
    """

    rows: Index
    found: Estimates
    remarks: NDArray[Any]
    loads: NDArray[Any]


def answers_of(parts: Sequence[Evaluated], hosts: Hosts) -> list[Answer]:
    """Turn estimates into output columns. Groups with as many request classes are answered in one call.

    hosts: the nodes that the devices of all rows of the table are in.
    """
    alike: dict[tuple[int, bool], list[Evaluated]] = {}
    for part in parts:
        key = len(part.found.share), part.found.causes.own_spreads is None
        alike.setdefault(key, []).append(part)
    return [_answer_of(_together(some), hosts) for some in alike.values()]


def _together(parts: list[Evaluated]) -> Evaluated:
    """Join the estimates of several groups of rows."""
    return Evaluated(
        rows=np.concatenate([p.rows for p in parts]),
        found=Estimates.concatenate([p.found for p in parts]),
        remarks=np.concatenate([p.remarks for p in parts]),
        loads=np.concatenate([p.loads for p in parts]),
    )


def _answer_of(part: Evaluated, of_rows: Hosts) -> Answer:
    """Turn estimates into output columns, with intervals and flags; of_rows: the nodes of all rows of the table."""
    found, hosts = part.found, of_rows.take(part.rows)
    estimated = {**found.columns(), "req_s": found.request_rate}
    estimated["itl_ms"] = estimated["tpot_ms"]  # the mean gap of a request is its time per output token
    estimated["e2e_ms_p50"] = overall(found, "e2e", "p50") * MS_PER_S
    estimated["wall_power_w"] = hosts.wall_power(found.power, found.devices)
    columns: dict[str, NDArray[Any]] = {c: estimated[c] for c in OUTPUT}
    ends = {figure: found.ends(*figure) for figure in dict.fromkeys(INTERVALS.values())}
    for column, figure in INTERVALS.items():
        for end, factor in zip(("lo", "hi"), ends[figure], strict=True):
            columns[f"{column}_{end}"] = estimated[column] * factor
    columns |= {flag: np.where(estimated[flag], "true", "false") for flag in FLAGS}
    columns |= {"basis": np.asarray(estimated["basis"]), CONFIGURATION_REMARK: part.remarks, LOAD_REMARK: part.loads}
    return Answer(rows=part.rows, columns=columns)


def output_frame(settings: Settings, answers: Sequence[Answer]) -> pd.DataFrame:
    """Join the table of cases and the columns of all answers; rows without an answer have their reason in `error`."""
    import pandas as pd

    cases, devices = settings.cases, settings.names.devices
    numbers = {c: np.full(len(cases), np.nan) for c in (*OUTPUT, *BOUNDS)}
    texts = {c: np.full(len(cases), "", dtype=object) for c in (*FLAGS, "basis", CONFIGURATION_REMARK, LOAD_REMARK)}
    for answer in answers:
        for column, values in answer.columns.items():
            (numbers if column in numbers else texts)[column][answer.rows] = values
    for second, column in SECOND_NAMES.items():
        numbers |= {f"{second}{end}": numbers[f"{column}{end}"] for end in ("", "_lo", "_hi")}
    for remark in (CONFIGURATION_REMARK, LOAD_REMARK):
        if not texts[remark].any():
            del texts[remark]
    replaced = [c for c in (*PREDICTED, REMARK, CONFIGURATION_REMARK, LOAD_REMARK) if c in cases.frame.columns]
    kept = cases.frame.drop(columns=replaced)
    remarks = remark_column(devices.values, devices.index)
    written = pd.DataFrame({**numbers, **texts, **remarks, "error": cases.error}, index=kept.index)
    return pd.concat([kept, written], axis=1)
