"""Refuse measured values that cannot be: wrong units, another model, more in flight than clients, beyond the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.unit_factors import MS_PER_S
from perfmodel.user_calibration.rows import KINDS, Measured
from perfmodel.user_calibration.run import MeasuredRun

#: Ratio by which figures of one run may disagree. Chosen: published runs that are sound stay within 25 % (means of
#: ratios are no ratios of means, ramp-up and drain count in some figures and not in others).
TOLERANCE = 1.4
#: Ratio to the least possible time below which a value is refused. Chosen: rated peaks are exceeded by a few per cent
#: (boost clocks), lengths are means.
POSSIBLE = 0.85
#: What makes times shorter than a device allows, by kind of figure.
SHORTER = {
    "ttft": "prompts found in the prefix cache (column prefix_hit)",
    "tpot": "speculative decoding (column spec_decode), narrower weights (column weight_dtype)",
    "e2e": "a prefix cache, speculative decoding, narrower weights",
    "throughput": "more devices (column n_devices), narrower weights, a prefix cache, speculative decoding",
}


def check_stated(runs: Iterable[MeasuredRun]) -> None:
    """Raise `InputError` for the first run that lacks its model or its device."""
    for run in runs:
        for name in ("model", "device"):
            if not run.given.get(name):
                raise InputError(f"{run.place}: the {name} is not stated; give --{name}")


def check_consistent(runs: Iterable[MeasuredRun]) -> None:
    """Raise `InputError` for the first run whose figures contradict one another."""
    for run in runs:
        _check_tokens(run)
        _check_latencies(run)
        _check_in_flight(run)


def _number(run: MeasuredRun, name: str) -> float:
    """Return a figure of a run, measured or given; NaN where it has none."""
    try:
        return float(run.measured.get(name, run.given.get(name) or math.nan))
    except ValueError:
        return math.nan


def _check_tokens(run: MeasuredRun) -> None:
    """Compare output tokens/s with requests/s times output tokens."""
    rate, osl, tokens = (_number(run, name) for name in ("req_s", "osl", "output_tok_s"))
    ratio = tokens / (rate * osl) if rate * osl > 0 else math.nan
    if not (math.isnan(ratio) or 1 / TOLERANCE <= ratio <= TOLERANCE):
        raise InputError(
            f"{run.place}: output_tok_s {tokens:g} is {ratio:.3g} times req_s {rate:g} x osl {osl:g}; correct the one "
            "that is in another unit, or per device"
        )


def _check_latencies(run: MeasuredRun) -> None:
    """Compare the end-to-end latency with TTFT + (output tokens - 1) x TPOT."""
    ttft, tpot, e2e, osl = (_number(run, name) for name in ("ttft_ms", "tpot_ms", "e2e_ms", "osl"))
    whole = ttft + max(osl - 1.0, 0.0) * tpot
    ratio = e2e / whole if whole > 0 else math.nan
    if not (math.isnan(ratio) or 1 / TOLERANCE <= ratio <= TOLERANCE):
        raise InputError(
            f"{run.place}: e2e_ms {e2e:g} is {ratio:.3g} times ttft_ms {ttft:g} + (osl {osl:g} - 1) x tpot_ms "
            f"{tpot:g}; give all of them in ms, as means over the same requests"
        )


def _check_in_flight(run: MeasuredRun) -> None:
    """Compare requests in flight by Little's law, requests/s x seconds in the system, with the clients there are."""
    clients, rate, e2e = (_number(run, name) for name in ("concurrency", "req_s", "e2e_ms"))
    if math.isnan(rate):
        rate = _number(run, "output_tok_s") / _number(run, "osl")
    if math.isnan(e2e):
        ttft, tpot, osl = (_number(run, name) for name in ("ttft_ms", "tpot_ms", "osl"))
        e2e = ttft + max(osl - 1.0, 0.0) * tpot
    flight = rate * e2e / MS_PER_S
    if flight > TOLERANCE * clients:
        raise InputError(
            f"{run.place}: {rate:g} requests/s x {e2e / MS_PER_S:.3g} s are {flight:.4g} requests in flight, more than "
            f"the {clients:g} clients (concurrency); correct the unit or the concurrency (Little's law)"
        )


def check_possible(measured: Measured, limit: Array, runs: Sequence[MeasuredRun]) -> None:
    """Raise `InputError` for the first value that is better than the device allows.

    limit: (V,) values at full rated arithmetic, bandwidth and links without any host; NaN where not known.
    """
    kinds = np.array([KINDS[m] for m in measured.metric])
    faster = np.where(kinds == "throughput", measured.value / limit, limit / measured.value)
    bad = np.flatnonzero((faster > 1.0 / POSSIBLE) & np.isin(kinds, list(SHORTER)))
    if len(bad):
        at = bad[0]
        kind = kinds[at]
        word = "most" if kind == "throughput" else "least"
        raise InputError(
            f"{runs[measured.run[at]].place}: {measured.metric[at]} {measured.value[at]:g} is beyond the device: "
            f"{limit[at]:.4g} is the {word} that its rated figures allow; state what makes it so ({SHORTER[kind]}), or "
            "correct model, device and unit"
        )
