"""The answer of an estimate: columns of latency, throughput, memory, power, and what they rest on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.estimates.percentiles import overall
from perfmodel.memory import GB
from perfmodel.vocabulary import BASES
from perfmodel.workload import METRICS, RANKS, STATISTICS

if TYPE_CHECKING:
    import pandas as pd

#: Standard normal deviates of the ranks above.
_DEVIATE = {0.50: 0.0, 0.90: 1.2816, 0.95: 1.6449, 0.99: 2.3263}


@dataclass(frozen=True)
class Estimates:
    """N deployments, C request classes. Seconds, tokens/s, bytes, watts, joules.

    ttft, tpot, e2e: mean, (C, N). input, output, share: the classes, (C, N). wait: mean queueing in ttft.
    request_rate, output_rate, total_rate, prefill_rate, decode_rate: of the whole deployment, (N,); prefill_rate and
    decode_rate are of a prefill and of a decode pass running alone. devices: in all. running: sequences a replica.
    even: part of the wait that is shared out evenly, from none to twice its mean, as in a queue that fills or empties.
    waits: (Q, N) waits at `workload.RANKS` where a run of known length gives them, else NaN.
    memory: bytes a device in use. fits: whether it does. saturated: whether the demand exceeds what it serves.
    overhead: seconds of front end in ttft. power: W a device; energy: J an output token, all devices.
    basis: codes of `perfmodel.vocabulary.BASES`. *_spread: log half-widths of the 80 % interval. reasons: why a row does
    not fit, empty where it does. itl_tail: a gap that a prompt rides on; step: one without.
    """

    ttft: Array
    tpot: Array
    e2e: Array
    itl_tail: Array
    wait: Array
    prefill: Array
    interference: Array
    step: Array
    input: Array
    output: Array
    share: Array
    overhead: Array
    request_rate: Array
    output_rate: Array
    total_rate: Array
    prefill_rate: Array
    decode_rate: Array
    devices: Array
    running: Array
    even: Array
    waits: Array
    memory: Array
    memory_capacity: Array
    max_running: Array
    fits: np.ndarray
    saturated: np.ndarray
    power: Array
    energy: Array
    basis: np.ndarray
    ttft_spread: Array
    tpot_spread: Array
    throughput_spread: Array
    power_spread: Array
    reasons: np.ndarray

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def spread(self) -> dict[str, Array]:
        """Log half-widths of the 80 % interval by metric, (N,)."""
        return {
            "ttft": self.ttft_spread,
            "tpot": self.tpot_spread,
            "itl": self.tpot_spread,
            "e2e": self.tpot_spread,
            "throughput": self.throughput_spread,
            "power": self.power_spread,
        }

    def reason(self, row: int) -> str:
        """Why candidate `row` does not fit; empty when it does."""
        return str(self.reasons[row])

    def mean(self, values: Array) -> Array:
        """Mean over request classes, by share of requests. (N,)"""
        return np.sum(np.broadcast_to(values, self.ttft.shape) * self.share, axis=0)

    def quantile(self, metric: str, statistic: str) -> Array:
        """`metric` (ttft, tpot, itl, e2e) at `statistic` (mean, p50, p90, p95, p99), by class. (C, N)

        TTFT: computing the prompt is certain, the wait before it is exponential where a queue is steady and even over
        the run where it only fills or empties. TPOT: prompts of others
        that fall into a request's decoding are Poisson. ITL: gaps are decode steps, stretched where a prompt rides
        along. Raises `InputError` for a metric or statistic that is none of these.
        """
        if metric not in METRICS or statistic not in STATISTICS:
            known = f"{', '.join(METRICS)} at {', '.join(STATISTICS)}"
            raise InputError(f"no quantile {statistic!r} of {metric!r}; known are {known}")
        if statistic == "mean":
            return {"ttft": self.ttft, "tpot": self.tpot, "itl": self.tpot, "e2e": self.e2e}[metric]
        rank = RANKS[statistic]
        if metric == "ttft":
            certain = self.prefill + self.overhead
            usual = self.wait * (self.even * 2.0 * rank - (1.0 - self.even) * np.log1p(-rank))
            told = self.waits[list(RANKS).index(statistic)]
            return certain + np.where(np.isfinite(told), told, usual)
        if metric == "itl":
            return np.where(self._interrupted > 1.0 - rank, self.itl_tail, self.step + 0.0 * self.tpot)
        if metric == "tpot":
            return self.tpot + _DEVIATE[rank] * self._tpot_deviation
        return self.quantile("ttft", statistic) + np.maximum(self.output - 1.0, 0.0) * self.quantile("tpot", statistic)

    @property
    def _interrupted(self) -> Array:
        """Share of a request's decode steps that a prompt of another request rides on."""
        extra = np.maximum(self.itl_tail - self.step, 1e-12)
        return np.clip((self.tpot - self.step) / extra, 0.0, 1.0)

    @property
    def _tpot_deviation(self) -> Array:
        steps = np.maximum(self.output - 1.0, 1.0)
        hits = self._interrupted * steps
        # a Poisson number of prompts of different lengths: variance hits x their mean square
        uneven = np.sqrt(self.mean(np.square(self.interference))) / np.maximum(self.mean(self.interference), 1e-12)
        return np.sqrt(hits) * np.maximum(self.itl_tail - self.step, 0.0) * np.maximum(uneven, 1.0) / steps

    @classmethod
    def concatenate(cls, parts: list[Estimates]) -> Estimates:
        """Join along the candidates."""
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts], axis=-1) for f in fields(cls)})

    def take(self, rows: Any) -> Estimates:
        """The given candidates."""
        return type(self)(**{f.name: getattr(self, f.name)[..., rows] for f in fields(self)})

    def columns(self) -> dict[str, Array]:
        """Unit-suffixed columns over all requests, (N,) each; the names are those of tables, CSV and JSON."""
        ms = 1e3
        out: dict[str, Any] = {"ttft_ms": self.mean(self.ttft) * ms}
        for statistic in ("p50", "p90", "p99"):
            out[f"ttft_ms_{statistic}"] = overall(self, "ttft", statistic) * ms
        out["tpot_ms"] = self.mean(self.tpot) * ms
        for statistic in ("p50", "p90", "p99"):
            out[f"tpot_ms_{statistic}"] = overall(self, "tpot", statistic) * ms
        out["itl_ms_p50"] = overall(self, "itl", "p50") * ms
        out["itl_ms_p99"] = overall(self, "itl", "p99") * ms
        out["e2e_ms"] = self.mean(self.e2e) * ms
        out["e2e_ms_p99"] = overall(self, "e2e", "p99") * ms
        out["req_s"] = self.request_rate
        for name in ("output", "total", "prefill", "decode"):
            out[f"{name}_tok_s"] = getattr(self, f"{name}_rate")
        out["memory_gb_per_device"] = self.memory / GB
        out["power_w_per_device"] = self.power
        out["energy_j_per_output_token"] = self.energy
        for metric, width in self.spread.items():
            column = {"ttft": "ttft_ms", "tpot": "tpot_ms", "throughput": "output_tok_s", "power": "power_w_per_device"}
            if metric in column:
                out[f"{column[metric]}_lo"] = out[column[metric]] * np.exp(-width)
                out[f"{column[metric]}_hi"] = out[column[metric]] * np.exp(width)
        out["fits"] = self.fits
        out["saturated"] = self.saturated
        out["basis"] = basis_names()[self.basis]
        return out

    def frame(self) -> pd.DataFrame:
        """`columns()` as a pandas frame, a row a deployment."""
        import pandas as pd

        return pd.DataFrame(self.columns())


@cache
def basis_names() -> np.ndarray:
    """Names of `BASES` as an array, to be indexed with codes."""
    return np.array(BASES)
