"""Name runs that the others do not explain, with a likely reason where one has a signature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array
from perfmodel.user_calibration.calibrate import Calibration
from perfmodel.user_calibration.rows import KINDS
from perfmodel.user_calibration.run import MeasuredRun

#: Deviations beyond which a value counts as far off: what 1 in 100 exceeds. Chosen.
FAR = 2.6
#: A queue holds requests back where so large a share of the clients is not running. Chosen.
QUEUED = 0.3


@dataclass(frozen=True)
class Outlier:
    """Names one value far off. place: its run. ratio: measured over predicted by the other runs. reason: "" unknown."""

    place: str
    metric: str
    ratio: float
    reason: str


def outliers(found: Calibration) -> list[Outlier]:
    """Return the values of a calibration that lie far from what its other runs say, the furthest of each run first."""
    measured, standard = found.measured, found.posterior.standard
    out = []
    for run in np.unique(measured.run):
        mine = np.flatnonzero((measured.run == run) & (np.abs(standard) > FAR))
        if len(mine):
            at = mine[np.argmax(np.abs(standard[mine]))]
            one = found.runs[run]
            ratio = float(np.exp(found.posterior.left_out[at]))
            out.append(Outlier(one.place, str(measured.metric[at]), ratio, _reason(found, int(run), one)))
    return out


def _reason(found: Calibration, run: int, one: MeasuredRun) -> str:
    """Return what most likely set a run apart from the others; "" where no signature fits."""
    ratio = _ratios(found, run)
    first = run == 0 and len(found.runs) > 1
    if ratio.get("tpot", 1.0) < 1.0 / 1.3 and ratio.get("ttft", 1.0) > 0.8:
        return "speculative decoding, or narrower weights than stated: tokens come faster, first tokens do not"
    if ratio.get("ttft", 1.0) < 1.0 / 1.5:
        return "prompts in the prefix cache: first tokens come earlier than their prefill takes"
    if _queued(one) > QUEUED:
        return "a cap on running sequences, or a burst at the start: part of the clients waits (column max_num_seqs)"
    if ratio.get("ttft", 1.0) > 1.5 and ratio.get("tpot", 1.0) < 1.2:
        return "a burst at the start of a short run: first tokens wait, decode steps do not (column n_requests)"
    slower = [r for kind, r in ratio.items() if kind in ("ttft", "tpot", "e2e")]
    if first and slower and min(slower) > 1.2:
        return "warm-up: the first run is slower in everything; measure it again"
    return ""


def _ratios(found: Calibration, run: int) -> dict[str, float]:
    """Return kind of figure -> measured over predicted by the other runs, median over its metrics."""
    mine = np.flatnonzero(found.measured.run == run)
    kinds: Array = np.array([KINDS[m] for m in found.measured.metric[mine]], object)
    off = found.posterior.left_out[mine]
    return {kind: float(np.exp(np.median(off[kinds == kind]))) for kind in dict.fromkeys(kinds)}


def _queued(one: MeasuredRun) -> float:
    """Return the share of a closed loop's clients that does not decode, by Little's law; 0 where unknown."""
    try:
        clients, tokens = float(one.given["concurrency"]), one.measured["output_tok_s"]
        tpot = one.measured.get("tpot_ms", one.measured.get("tpot_ms_p50"))
        ttft = one.measured.get("ttft_ms", one.measured.get("ttft_ms_p50"))
        osl = float(one.given["osl"])
    except (KeyError, ValueError):
        return 0.0
    if tpot is None or ttft is None or ttft < osl * tpot * QUEUED:
        return 0.0
    return max(1.0 - tokens * tpot / 1e3 / clients, 0.0)
