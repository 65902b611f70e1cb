"""Define the columns of an estimate, grouped by what they describe.

Shapes: (C, N) by request class and deployment, (N,) by deployment; the deployments lie along the last axis. Units:
seconds, tokens, bytes, watts, joules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.lazy_fields import LazyFields
from perfmodel.power import Activity


@dataclass(frozen=True)
class ColumnGroup:
    """Hold columns with the deployments along the last axis; a group may contain groups."""

    def arrays(self) -> dict[str, Array]:
        """Return every column by its dotted name, such as `latency.ttft`."""
        out: dict[str, Array] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None:
                continue
            if isinstance(value, ColumnGroup):
                out.update({f"{f.name}.{name}": array for name, array in value.arrays().items()})
            else:
                out[f.name] = value
        return out

    def take(self, rows: Any) -> Self:
        """Select the given deployments: indices, a mask or a slice."""
        return self.mapped(lambda value: _rows(value, rows))

    def mapped(self, change: Callable[[Any], Any]) -> Self:
        """Return the same with each column or group as `change` returns it."""
        return type(self)(**{f.name: change(getattr(self, f.name)) for f in fields(self)})

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Join groups along the deployments."""
        return cls(**{f.name: _joined([getattr(p, f.name) for p in parts]) for f in fields(cls)})


def _rows(value: Any, rows: Any) -> Any:
    if value is None:
        return None
    return value.take(rows) if isinstance(value, ColumnGroup) else value[..., rows]


def _joined(values: list[Any]) -> Any:
    if any(value is None for value in values):
        return None
    first = values[0]
    return type(first).concatenate(values) if isinstance(first, ColumnGroup) else np.concatenate(values, axis=-1)


@dataclass(frozen=True)
class Latency(ColumnGroup):
    """Hold the mean times of a request by class, seconds, (C, N).

    ttft: time to first token, = prefill + wait + front_end. tpot: time per output token after the first, interference
    included. e2e: ttft + (output - 1) tpot. prefill: computing the prompt (and handing it over between pools). wait:
    queues before that, the opening burst of a benchmark included. front_end: HTTP and tokenisation, and until a
    token that is made is handed on. step: decode step per output token, without interference. itl_tail: a gap between
    tokens in which prompts are prefilled, as many as there usually are then; itl_most: the longest gap. interference:
    what one prefill adds to the decode of the others; growth: what one twice as long takes longer, over that.
    tokens_per_step: tokens that arrive together, more than 1 with speculative decoding.
    """

    ttft: Array
    tpot: Array
    e2e: Array
    prefill: Array
    wait: Array
    front_end: Array
    step: Array
    itl_tail: Array
    itl_most: Array
    interference: Array
    growth: Array
    tokens_per_step: Array


@dataclass(frozen=True)
class WaitShape(ColumnGroup):
    """Describe how waits are distributed over the requests of a run, as `perfmodel.serving.WaitShape` does.

    uniform_share, planned, crowded, end, queued, long_share, long_cv, beside: (N,); planned: mean wait for a planned
    step, seconds (`perfmodel.serving.RequestTimes`). by_rank, most_by_rank, queued_by_rank: (Q, N), at the ranks
    `workload.RANKS`.
    short_shares, short_longest: (U, N), with `SHORT_WAITS` rows.
    """

    uniform_share: Array
    planned: Array
    crowded: Array
    end: Array
    by_rank: Array
    most_by_rank: Array
    queued: Array
    queued_by_rank: Array
    short_shares: Array
    short_longest: Array
    long_share: Array
    long_cv: Array
    beside: Array


@dataclass(frozen=True)
class TokenShape(ColumnGroup):
    """Describe how times per output token differ between the requests of a run, as `perfmodel.serving.TokenShape` does.

    pace: (K, N), at the lengths of `perfmodel.serving.PACE_AT`; pace_by_start: (S, L, N), at its `PACE_STARTS` and
    `PACE_LENGTHS`; others: (N,).
    """

    settling: Array
    settling_share: Array
    settling_most: Array
    drift: Array
    gain: Array
    pace: Array
    pace_by_start: Array


@dataclass(frozen=True)
class RequestClasses(ColumnGroup):
    """Describe the request classes.

    input, output: mean tokens, (C, N). share: share of requests, (C, N). output_cv: coefficient of variation of outputs
    within a class, (N,). output_max: tokens of the longest output allowed, infinite where nothing cuts them, (N,).
    prompt_spread: standard deviation of the logarithm of prompt lengths within a class, (N,).
    """

    input: Array
    output: Array
    share: Array
    output_cv: Array
    output_max: Array
    prompt_spread: Array


@dataclass(frozen=True)
class Rates(LazyFields, ColumnGroup):
    """Hold the throughput of the whole deployment, (N,).

    requests: requests/s. output: output tokens/s. total: input and output tokens/s. prefill, decode: tokens/s of a
    prefill and of decode steps that run alone. prompts: tokens/s of prefills of as many prompts as are computed
    together under the load.
    """

    requests: Array
    output: Array
    total: Array
    prefill: Array
    decode: Array
    prompts: Array


@dataclass(frozen=True)
class MemoryUse(ColumnGroup):
    """Describe the memory of the fullest device, (N,).

    used: bytes at the operating point. capacity: rated bytes. kv_tokens: tokens that the KV caches of a replica
    hold. max_running: sequences whose KV cache fits on a replica. sampler: bytes that warming up the sampler keeps from
    the KV cache. fits: whether weights and at least one sequence fit. reasons: why not, text, empty where they do.
    """

    used: Array
    capacity: Array
    kv_tokens: Array
    max_running: Array
    sampler: Array
    fits: Mask
    reasons: np.ndarray[Any, Any]


@dataclass(frozen=True)
class PowerUse(ColumnGroup):
    """Hold power and energy, (N,), and what devices do, which they follow from (`perfmodel.power.Activity`).

    per_device: mean watts. per_output_token: joules of all devices. busy, kernels, use: of replicas with requests; of
    both pools together where there are two. prompts_busy, prompts_kernels, prompts_use: what of these falls on steps
    that compute prompts; all of it where steps are alike.
    """

    per_device: Array
    per_output_token: Array
    busy: Array
    kernels: Array
    use: Array
    prompts_busy: Array
    prompts_kernels: Array
    prompts_use: Array

    @classmethod
    def of(cls, watts: Array, joules: Array, activity: Activity) -> PowerUse:
        """Return the columns of devices that draw `watts` and take `joules` per output token in an activity."""
        one = activity.prompts or activity
        return cls(watts, joules, activity.busy, activity.kernels, activity.use, one.busy, one.kernels, one.use)
