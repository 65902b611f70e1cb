"""Measure what one run is worth for decisions: which configuration, or which device, is picked before and after it.

A decision: one model and one pair of lengths of a data set, closed loops without drafts; the alternatives are what was
measured. For a limit on TPOT at each of `LIMITS`, the pick has the most estimated tokens/s per device (or per USD)
among those whose estimated TPOT keeps the limit, and is judged by its measurements. Then one run per device is taken
out of the alternatives, the device's factors are calibrated on it, and the pick is made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.engines import PARTS
from perfmodel.unit_factors import MS_PER_S
from perfmodel.user_calibration.calibration_gain import RANDOM, REPEATS, TELLING, factors_from
from perfmodel.user_calibration.fit import Priors
from perfmodel.user_calibration.published import STEEPEST, STEP, Values, rows_by
from perfmodel.user_calibration.run_selection import most_informative_first

if TYPE_CHECKING:
    import pandas as pd

#: Limits on TPOT: quantiles of what the alternatives measured.
LIMITS = (0.2, 0.4, 0.6, 0.8)
#: Fewest alternatives of a decision. A pick keeps its limit up to this ratio. Chosen as in published comparisons.
FEWEST, KEPT = 6, 1.1
#: The data set that measured latencies at a number of clients, whose throughput follows by Little's law.
LATENCIES_ALONE = "aiconfigurator_silicon"
#: Trust in a run's setup with which it counts.
TRUSTED = ("A", "B")
Line = dict[str, Any]
RunsOf = Mapping[str, Values]


@dataclass(frozen=True)
class Alternatives:
    """Holds N measured configurations.

    case: (N,) their ids. device, engine: (N,). price: (N,) what a device costs, 1 where devices are not compared.
    measured, said: (N, 2) TPOT in ms and tokens/s per device. slope: (N, 2, P) derivatives of log `said`.
    """

    case: NDArray[Any]
    device: NDArray[Any]
    engine: NDArray[Any]
    price: Array
    measured: Array
    said: Array
    slope: Array

    def take(self, keep: NDArray[Any]) -> Alternatives:
        """Return some of them."""
        return Alternatives(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def decisions(
    truth: pd.DataFrame,
    answered: Mapping[str, pd.DataFrame],
    values: Values,
    known: Priors,
    prices: Mapping[str, float],
) -> pd.DataFrame:
    """Return a line per decision, limit and draw: set ("config", "hardware"), split, by, kept and regret.

    by: "" before any run, else how the run was chosen. prices: device -> USD per hour; {} compares no devices.
    """
    import pandas as pd

    every, frame = _alternatives(truth, answered)
    runs_of = {case: values.take(at) for case, at in rows_by(values.frame.case_id.to_numpy(object)).items()}
    random = np.random.default_rng(0)
    lines: list[Line] = []
    for kind, keys in (("config", ["dataset", "model", "device", "isl", "osl"]), ("hardware", ["model", "isl", "osl"])):
        for (split, *_), rows in frame.groupby(["split", *keys, *(["dataset"] if kind == "hardware" else [])]):
            here = every.take(rows.index.to_numpy())
            if kind == "hardware":
                price = np.array([prices.get(d, np.nan) for d in here.device])
                here = replace(here, price=price).take(np.isfinite(price))
            if len(here.case) >= FEWEST and (kind == "config" or len(set(here.device)) > 1):
                lines += [{"set": kind, "split": split, **line} for line in _decided(here, known, runs_of, random)]
    return pd.DataFrame(lines)


def _alternatives(truth: pd.DataFrame, answered: Mapping[str, pd.DataFrame]) -> tuple[Alternatives, pd.DataFrame]:
    """Return all alternatives, and the table of their cases, numbered alike."""
    first = answered[""].drop_duplicates("case_id")
    spec = first.spec_decode.fillna("") if "spec_decode" in first else ""
    keep = first.trust.isin(TRUSTED) & (first["mode"] == "closed") & first.concurrency.notna() & (spec == "")
    frame = first.loc[keep].reset_index(drop=True)
    table = truth.pivot_table(index="case_id", columns="metric", values="value")
    measured = _figures(table.reindex(frame.case_id), frame)
    known = np.flatnonzero(np.isfinite(measured).all(axis=1))
    frame, measured = frame.iloc[known].reset_index(drop=True), measured[known]
    said = _figures(frame, frame)
    slower = (answered[part].drop_duplicates("case_id").set_index("case_id").reindex(frame.case_id) for part in PARTS)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.stack([np.log(_figures(one, frame) / said) / STEP for one in slower], axis=-1)
    slope = np.clip(np.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0), -STEEPEST, STEEPEST)
    case, device, engine = (frame[name].fillna("").to_numpy(object) for name in ("case_id", "device", "engine"))
    return Alternatives(case, device, engine, np.ones(len(frame)), measured, said, slope), frame


def _figures(table: pd.DataFrame, cases: pd.DataFrame) -> Array:
    """Return (N, 2) TPOT in ms and tokens/s per device of a table with a line per case; NaN where not known."""
    import pandas as pd

    def column(name: str) -> Array:
        return (
            pd.to_numeric(table[name], errors="coerce").to_numpy(float)
            if name in table
            else np.full(len(table), np.nan)
        )

    tpot = np.where(np.isfinite(column("tpot_ms")), column("tpot_ms"), column("tpot_ms_p50"))
    clients, isl, osl, count = (cases[name].to_numpy(float) for name in ("concurrency", "isl", "osl", "n_devices"))
    by_little = clients * (isl + osl) / ((column("ttft_ms") + (osl - 1.0) * tpot) / MS_PER_S)
    total = np.where(cases.dataset.to_numpy() == LATENCIES_ALONE, by_little, column("total_tok_s"))
    return np.stack([tpot, total / count], axis=1)


def _decided(here: Alternatives, known: Priors, runs_of: RunsOf, random: np.random.Generator) -> Iterator[Line]:
    """Yield the lines of the decisions among alternatives, before and after one run per device, for each draw.

    runs_of: values of each run by the id of its case.
    """
    usable = np.array([case in runs_of for case in here.case])
    for _ in range(REPEATS):
        drawn = {d: random.permutation(np.flatnonzero(usable & (here.device == d))) for d in dict.fromkeys(here.device)}
        drawn = {d: order for d, order in drawn.items() if len(order)}
        ways = {RANDOM: [int(order[0]) for order in drawn.values()]}
        ways[TELLING] = [_most_telling(here, known, runs_of, order) for order in drawn.values()]
        for by, runs in ways.items():
            said = here.said.copy()
            for one in runs:
                point, _ = factors_from(runs_of[here.case[one]], known)
                mine = (here.device == here.device[one]) & (here.engine == here.engine[one])
                said[mine] *= np.exp(here.slope[mine] @ point)
            rest = np.setdiff1d(np.arange(len(here.case)), runs)
            for way, told in (("", here.said), (by, said)):
                yield from ({"by": way, "beside": by, **line} for line in _picks(here.take(rest), told[rest]))


def _most_telling(here: Alternatives, known: Priors, runs_of: RunsOf, order: NDArray[np.intp]) -> int:
    """Return which of some runs tells most of the other alternatives on its device."""
    among = [runs_of[here.case[one]] for one in order]
    slope, noise = (
        np.concatenate(parts) for parts in ([v.slope for v in among], [v.noise(known.noise) for v in among])
    )
    run = np.repeat(order, [len(one.kind) for one in among])
    target = here.slope[here.device == here.device[order[0]]].reshape(-1, len(PARTS))
    return most_informative_first(slope, noise, run, target, known.factors, 1)[0]


def _picks(here: Alternatives, said: Array) -> Iterator[Line]:
    """Yield whether the pick kept each limit, and its regret: what it falls short of the best, as a share."""
    rate, told = here.measured[:, 1] / here.price, said[:, 1] / here.price
    for share in LIMITS:
        limit = np.quantile(here.measured[:, 0], share)
        best = rate[here.measured[:, 0] <= limit].max()
        offered = np.flatnonzero((said[:, 0] <= limit) & np.isfinite(told))
        if not len(offered):
            yield {"kept": False, "regret": 1.0}
            continue
        pick = offered[np.argmax(told[offered])]
        yield {"kept": bool(here.measured[pick, 0] <= KEPT * limit), "regret": float(1.0 - rate[pick] / best)}


def decided(found: pd.DataFrame) -> pd.DataFrame:
    """Return a line per set and way: limits kept, regret of the picks that kept them, picks kept and near the best."""
    import pandas as pd

    lines = []
    for (kind, beside, by), rows in found.groupby(["set", "beside", "by"]):
        kept = rows[rows.kept]
        regret = kept.regret.clip(lower=0.0)
        near = {f"within_{n}": 100 * (rows.kept & (rows.regret <= n / 100)).mean() for n in (5, 10)}
        lines.append(
            {
                "set": kind,
                "run": beside,
                "when": "after" if by else "before",
                "decisions": len(rows),
                "kept": 100 * rows.kept.mean(),
                "regret_median": 100 * regret.median(),
                "regret_mean": 100 * regret.mean(),
                **near,
            }
        )
    return pd.DataFrame(lines)
