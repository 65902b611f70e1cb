"""Say what an estimate depends on: how much each metric changes with each part of the system that may be misjudged.

The time of a decode step and of a prompt is the sum of what arithmetic, memory, links, launches and the host take; a
metric changes with a part as the part's share of the time behind it. Queues magnify that (`perfmodel.serving.Gains`).
All of it follows from the closed form's own times: nothing is estimated again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from perfmodel.arrays import Array, Codes
from perfmodel.engines import PARTS
from perfmodel.estimates.columns.groups import ColumnGroup, Latency, RequestClasses, WaitShape
from perfmodel.estimates.latency_percentiles import percentiles
from perfmodel.estimates.ranges.weight_read_bound import least_step
from perfmodel.power import power_doubt, ready_power
from perfmodel.serving import TINY, Served, StepModel
from perfmodel.workload import ARRIVALS, RANKS, Load

#: What estimates depend on: the parts of a system, and how requests arrive, which waits depend on.
CAUSES = (*PARTS, "arrivals")
#: Parts that the time of a step is made of, in the order of its bounds; the others have a place of their own.
_OF_STEPS = ("compute", "memory", "link", "launch", "host")
_FRONT_END, _POWER, _ARRIVALS = (CAUSES.index(name) for name in ("front_end", "power", "arrivals"))
#: Kinds of load that scatter differently: arrivals, and open loops beyond capacity.
LOADS = (*ARRIVALS, "overload")
#: Share of the watts above those of a waiting device that follow the work done per second. Chosen on `train`: with all
#: times 1 % shorter, estimated watts of closed loops rise by half of a per cent of their dynamic part.
_WORK_SHARE = 0.5
#: Share of capacity from which on a slower system may no longer keep up with an open loop. Chosen: systems are rarely
#: more than 40 % slower than estimated.
_KEEPS_UP_TO = 0.6


@dataclass(frozen=True)
class Causes(ColumnGroup):
    """Hold what the uncertainty of N estimates follows from.

    decode, prompts: shares of the time of a decode step and of a prompt that compute, memory, links, launches and the
    host take, (5, N). token_gain, wait_gain, load: as `perfmodel.serving.Gains`, (N,). dynamic: share of the watts that
    is above those of a waiting device, (N,). power_doubt: factor on the spread of watts, above 1 on architectures that
    nobody measured, (N,). arrival: code of `LOADS`, (N,). own_runs: own runs of the model on the
    device, (N,). drafts_doubt: log standard deviation of the tokens that a step yields with speculative decoding, 0
    where it is stated or none is used, (N,). least_token: least seconds per output token
    (`weight_read_bound.least_step`), (N,). own_spreads: log standard deviations that own runs leave to `PARTS`,
    (P, N), NaN where there are none; None where nobody measured.
    """

    decode: Array
    prompts: Array
    token_gain: Array
    wait_gain: Array
    load: Array
    dynamic: Array
    power_doubt: Array
    arrival: Codes
    own_runs: Array
    drafts_doubt: Array
    least_token: Array
    own_spreads: Array | None = None


class Answered(Protocol):
    """Declare what sensitivities need of an estimate; `perfmodel.Estimates` provides it."""

    @property
    def causes(self) -> Causes:
        """Return what the uncertainty follows from."""

    @property
    def latency(self) -> Latency:
        """Return the mean times of a request."""

    @property
    def waits(self) -> WaitShape:
        """Return how waits are distributed."""

    @property
    def classes(self) -> RequestClasses:
        """Return the request classes."""

    @property
    def basis(self) -> Codes:
        """Return the codes of `BASES`, (N,)."""

    def mean(self, values: Array) -> Array:
        """Return the mean over classes of `values` (C, N), (N,)."""

    def quantile(self, metric: str, statistic: str) -> Array:
        """Return a latency in seconds within each class, (C, N)."""


def causes_of(steps: StepModel, load: Load, served: Served, power: Array, drafts_doubt: Array) -> Causes:
    """Return what the estimates of N deployments depend on. power: mean watts of a device, (N,).

    drafts_doubt: as in `Causes`.
    """
    costs, count = served.costs, len(power)
    host = np.maximum(served.steps.decode - costs.decode.time, 0.0)
    prompt = np.sum(costs.prefill.bound * load.share * costs.prefill_steps, axis=1)
    prompt_host = host * load.mean(costs.prefill_steps)
    with np.errstate(invalid="ignore", divide="ignore"):
        dynamic = np.clip(1.0 - ready_power(steps.hardware) / power, 0.0, 1.0)
    code = np.where(served.saturated, LOADS.index("overload"), LOADS.index(load.arrival)).astype(np.int8)
    measured = bool(steps.engine.adjustments)
    gains = served.gains
    return Causes(
        decode=_shares(np.concatenate([costs.decode.bound, host[None]])),
        prompts=_shares(np.concatenate([prompt, prompt_host[None]])),
        token_gain=np.broadcast_to(gains.token, count),
        wait_gain=np.broadcast_to(gains.wait, count),
        load=np.broadcast_to(gains.load, count),
        dynamic=np.nan_to_num(dynamic),
        power_doubt=power_doubt(steps.hardware),
        arrival=code,
        own_runs=np.where(served.saturated, 0, steps.own_runs()) if measured else np.zeros(count),
        drafts_doubt=drafts_doubt,
        least_token=np.broadcast_to(least_step(steps.sharding, steps.hardware) / load.accepted, count),
        own_spreads=steps.own_spreads() if measured else None,
    )


def _shares(seconds: Array) -> Array:
    """Return seconds by part, (5, N), as shares of their sum; equal shares where the sum is 0 or not known."""
    total = seconds.sum(axis=0)
    known = np.isfinite(total) & (total > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, seconds / total, 1.0 / len(_OF_STEPS))


def sensitivity(found: Answered, metric: str, statistic: str = "mean") -> Array:
    """Return d ln(metric) / d ln(cause) by cause of `CAUSES`, (K, N).

    metric: ttft, tpot, itl, e2e, throughput, prefill or decode (tokens/s of such steps alone), power or energy.
    statistic: that of a latency.
    """
    if metric in ("tpot", "itl"):
        return _all_causes(_per_token(found, metric, statistic))
    if metric == "ttft":
        return _first_token(found, statistic)
    if metric == "e2e":
        return _whole_request(found, statistic)
    return _RATES[metric](found)


def _all_causes(of_steps: Array) -> Array:
    """Return sensitivities to the parts of steps, (5, N), as those to all causes, (K, N)."""
    out = np.zeros((len(CAUSES), of_steps.shape[1]))
    out[: len(_OF_STEPS)] = of_steps
    return out


def _per_token(found: Answered, metric: str, statistic: str) -> Array:
    """Return the sensitivities of a time per token to the parts of steps, (5, N): decode steps, the rest is prompts."""
    causes, time = found.causes, found.latency
    value = found.mean(found.quantile(metric, statistic))
    with np.errstate(invalid="ignore", divide="ignore"):
        step = time.step * (time.tokens_per_step if metric == "itl" else 1.0)
        share = np.clip(found.mean(step) / value, 0.0, 1.0)
    share = np.nan_to_num(share, nan=1.0)
    return np.asarray(causes.token_gain * (share * causes.decode + (1.0 - share) * causes.prompts))


def _residence(found: Answered) -> Array:
    """Return the shares of the parts of steps in the time that a request is computed, prompt and answer, (5, N)."""
    causes, time = found.causes, found.latency
    prompt = found.mean(time.prefill)
    answer = found.mean(np.maximum(found.classes.output - 1.0, 0.0) * time.tpot)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num(prompt / (prompt + answer), nan=0.5)
    tokens = _per_token(found, "tpot", "mean") / causes.token_gain
    return np.asarray(share * causes.prompts + (1.0 - share) * tokens)


def drafts_spread(found: Answered, metric: str) -> Array:
    """Return the log standard deviation of a metric by that of the tokens per step of speculative decoding, (N,).

    A time per token changes with their inverse; a whole request, and what follows from it, by the part of it that is
    decode. Neither TTFT nor the watts depend on them to first order.
    """
    doubt = found.causes.drafts_doubt
    if not np.any(doubt) or metric in ("ttft", "prefill", "power"):
        return np.zeros(len(doubt))
    if metric in ("tpot", "itl", "decode"):
        return doubt
    answer = found.mean(np.maximum(found.classes.output - 1.0, 0.0) * found.latency.tpot)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            doubt * np.nan_to_num(answer / (answer + found.mean(found.quantile("ttft", "mean"))), nan=0.0)
        )


def _first_token(found: Answered, statistic: str) -> Array:
    """Return the sensitivities of TTFT to all causes, (K, N): of its prompt, its wait and the front end."""
    causes, time = found.causes, found.latency
    prompt, front = found.mean(time.prefill), found.mean(time.front_end)
    if statistic in RANKS:
        wait = np.maximum(found.mean(percentiles.wait_percentile(time.wait, found.waits, statistic)), 0.0)
    else:
        wait = found.mean(time.wait)
    whole = np.maximum(prompt + wait + front, TINY)
    with np.errstate(invalid="ignore"):
        waiting = np.where(np.isfinite(whole), wait / whole, 1.0)
    # the longer step in which a prompt is computed, or waits for, holds the decode of the others
    held = np.nan_to_num(found.mean(time.step * time.tokens_per_step / np.maximum(time.itl_tail, TINY)), nan=0.0)
    later = (causes.token_gain - 1.0) * np.clip(held, 0.0, 1.0)
    queued = np.isin(causes.arrival, [LOADS.index(name) for name in ("open", "offline", "overload")])
    behind = np.where(queued, _residence(found), causes.prompts)
    computed = np.where(np.isfinite(whole), prompt / whole, 0.0)
    out = _all_causes(computed * causes.prompts + computed * later * causes.decode)
    out[: len(_OF_STEPS)] += waiting * (causes.wait_gain * behind + (causes.token_gain - 1.0) * causes.decode)
    out[_FRONT_END] = front / whole
    out[_ARRIVALS] = waiting
    return np.nan_to_num(out)


def _whole_request(found: Answered, statistic: str) -> Array:
    """Return the sensitivities of end-to-end latency to all causes, (K, N)."""
    first = found.mean(found.quantile("ttft", statistic))
    answer = found.mean(np.maximum(found.classes.output - 1.0, 0.0) * found.quantile("tpot", statistic))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(np.isfinite(first), first / (first + answer), 1.0)
    share = np.nan_to_num(share)
    per_token = _all_causes(_per_token(found, "tpot", statistic))
    return np.asarray(share * _first_token(found, statistic) + (1.0 - share) * per_token)


def _throughput(found: Answered) -> Array:
    """Return the sensitivities of a deployment's throughput, (K, N).

    An open loop sets its throughput itself, as long as the system keeps up with it.
    """
    causes = found.causes
    waits_for_answers = np.isin(causes.arrival, [LOADS.index(name) for name in ("closed", "static", "single")])
    whole = _whole_request(found, "mean")
    whole[_ARRIVALS] = 0.0
    limited = np.clip((causes.load - _KEEPS_UP_TO) / (1.0 - _KEEPS_UP_TO), 0.0, 1.0)
    limited = np.where(causes.arrival == LOADS.index("open"), np.nan_to_num(limited), 1.0)
    return np.asarray(-np.where(waits_for_answers, whole, limited * _all_causes(_residence(found))))


def _prefill(found: Answered) -> Array:
    """Return the sensitivities of the tokens/s of prompts alone, (K, N)."""
    return -_all_causes(found.causes.prompts)


def _decode(found: Answered) -> Array:
    """Return the sensitivities of the tokens/s of decode steps alone, (K, N)."""
    return -_all_causes(found.causes.decode)


def _watts(found: Answered) -> Array:
    """Return the sensitivities of mean watts, (K, N).

    Work that takes longer draws less while it lasts; under an open loop the work per second is given.
    """
    causes = found.causes
    given = causes.arrival == LOADS.index("open")
    out = _all_causes(np.where(given, 0.0, -_WORK_SHARE * causes.dynamic) * _residence(found))
    out[_POWER] = causes.dynamic
    return out


def _joules(found: Answered) -> Array:
    """Return the sensitivities of joules per output token, (K, N): watts over throughput."""
    return _watts(found) - _throughput(found)


_RATES = {"throughput": _throughput, "prefill": _prefill, "decode": _decode, "power": _watts, "energy": _joules}
