"""Define the result of the analytic estimate of serving: one replica in equilibrium."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.costs import StepCost
from perfmodel.lazy_fields import LazyFields
from perfmodel.serving.step_times.planned_step import PlannedPrompts


@dataclass(frozen=True)
class RequestTimes:
    """Hold the mean times of a request, in seconds, by request class (C, N).

    ttft: from arrival to the first token. tpot: per output token after the first. wait: part of ttft spent in queues
    before the prefill. burst: what the opening burst of a benchmark adds to ttft, averaged over all its requests.
    prefill: time to compute the prompt. planned: part of the wait that is for a step planned before the request came,
    alike for all requests (`queueing.planned_wait`), (N,). handed_on: part of ttft after the prefill, until a client
    gets the token (`own_process.handed_on`), (N,).
    """

    ttft: Array
    tpot: Array
    wait: Array
    burst: Array
    prefill: Array
    planned: Array | float = 0.0
    handed_on: Array | float = 0.0


#: Shares of the requests of a run that began before those that `TokenShape.pace_by_start` describes, and how long their
#: answers are, in mean answers. Chosen: in the middle of equal parts of the run, and as short as some in a hundred are.
PACE_STARTS = (np.arange(8) + 0.5) / 8
PACE_LENGTHS = np.array([0.03, 0.1, 0.3, 0.6, 1.0, 1.5, 3.0])


#: Most entries of `WaitShape.short_shares`: waits for the running step, in an opening burst, in groups of clients that
#: stay in step.
SHORT_WAITS = 3


@dataclass(frozen=True)
class WaitShape:
    """Describe how waits are distributed over the requests of a run.

    A wait has three parts: for a backlog, for admission, and for a step that computes the prompt.

    uniform_share: share of the wait that is uniform over the requests, from 0 for the first to twice the mean for the
    last, as in a queue that only fills or only drains, (N,). by_rank: lower bound of the wait at the Q ranks
    `workload.RANKS`, from the backlog of a run of known length, seconds, (Q, N), else NaN; it includes the uniform
    part. most_by_rank: upper bound at those ranks, seconds, (Q, N), NaN for a run without end. queued: mean wait for
    admission, seconds, (N,). queued_by_rank: the wait for admission at those ranks, (Q, N). crowded: share of the
    requests that queue for admission, and so wait for no planned step, (N,). end: seconds from the start of a run to
    its last token, where all requests queue at the start, (N,), else NaN.

    The wait for a step: shares `short_shares` of the requests wait uniformly between 0 and `short_longest` seconds,
    (N,) each. A share `long_share` waits by a Weibull law with coefficient of variation `long_cv`, (N,) each, whose
    mean follows from the mean wait of all requests. The other requests do not wait for a step. beside: mean seconds of
    the prefill that prompts of others in the same steps add, as far as their number varies, (N,): they are spread as a
    part of this wait.
    """

    uniform_share: Array | float = 0.0
    by_rank: Array | float = np.nan
    most_by_rank: Array | float = np.nan
    queued: Array | float = 0.0
    queued_by_rank: Array | float = 0.0
    crowded: Array | float = 0.0
    end: Array | float = np.nan
    short_shares: tuple[Array, ...] = ()
    short_longest: tuple[Array, ...] = ()
    long_share: Array | float = 1.0
    long_cv: Array | float = 1.0
    beside: Array | float = 0.0


#: Lengths of answers, over the mean one, that `TokenShape.pace` is given at. Chosen: answers of recorded traffic reach
#: 6 times their mean.
PACE_AT = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class TokenShape:
    """Describe how times per output token differ between the requests of a run, (N,).

    settling: mean seconds by which prompts queued behind a request delay it, once, after its first token; the delay
    does not depend on the output length. settling_share: share of the requests with such a delay, which is uniform from
    0 to twice its mean. settling_most: upper bound of this delay in seconds per output token. drift: coefficient of
    variation of the time per token, because the number of running sequences varies around its mean. gain: factor by
    which further prompts, which arrive during a delay, lengthen it; 1 if the number of requests in flight is fixed.
    pace: time per output token, without settling, of answers of `PACE_AT` times the mean length, over that of all
    tokens, (K, N); 1 where the load is steady. pace_by_start: mean time per token of requests by when they began in a
    run (`PACE_STARTS`) and how long their answers are (`PACE_LENGTHS`), over that of all requests, (S, L, N); 1 where
    that makes no difference.
    """

    settling: Array | float = 0.0
    settling_share: Array | float = 1.0
    settling_most: Array | float = np.inf
    drift: Array | float = 0.0
    gain: Array | float = 1.0
    pace: Array | float = 1.0
    pace_by_start: Array | float = 1.0


@dataclass(frozen=True)
class StepTimes:
    """Hold the wall times of steps, in seconds.

    decode: a decode step, (N,). mixed: one that carries a prompt, (N,). interference: what one prefill adds to the
    decode of the others, (C, N); where a sequence runs alone, what its prompt takes longer than a decode step. growth:
    what a prompt twice as long takes longer, over that, (N,): less than 1 where weights of experts are read for any
    prompt, more where a short one takes as long as they are read.
    """

    decode: Array
    mixed: Array
    interference: Array
    growth: Array | float = 1.0


@dataclass(frozen=True)
class StepCosts(LazyFields):
    """Hold the device costs behind the step times.

    decode, prefill: cost of one decode step and of one prefill step. prefill_steps: prefill steps per prompt, (C, N);
    below 1 where one step computes several prompts. decode_seqs: sequences in the decode step that `decode` is the cost
    of, (N,); NaN where it is the mean number running. prompts: the steps that `RequestTimes.prefill` is the time of;
    None where the prompts are computed elsewhere. prompt: seconds of steps that compute nothing but prompts, per
    request, each of as many prompts as are computed together under the load, (C, N).
    """

    decode: StepCost
    prefill: StepCost
    prefill_steps: Array
    prompt: Array
    decode_seqs: Array | float = np.nan
    prompts: PlannedPrompts | None = None


#: Most that a latency may grow by the logarithm of all times. Chosen: beyond it a queue has no end within a run.
MOST_GAIN = 12.0


@dataclass(frozen=True)
class Gains:
    """State how much queues magnify an error of all times, and how loaded the replica is.

    token, wait: d ln(seconds per output token) and d ln(wait) by d ln(all times), (N,): 1 where the load waits for its
    answers, more in an open loop near capacity. load: requests/s over the most that the replica completes, (N,); NaN
    where a fixed number of requests is in flight.
    """

    token: Array | float = 1.0
    wait: Array | float = 1.0
    load: Array | float = np.nan


@dataclass(frozen=True)
class Served(LazyFields):
    """Describe one replica in equilibrium: its request times, steps and throughput.

    running: sequences that decode concurrently, (N,). rate: requests/s, (N,). saturated: whether demand exceeds what
    the replica can serve, (N,). What percentiles and ranges need beside these is computed when it is first read.
    """

    times: RequestTimes
    steps: StepTimes
    costs: StepCosts
    running: Array
    rate: Array
    saturated: Mask
    waits: WaitShape = field(default_factory=WaitShape)
    gains: Gains = field(default_factory=Gains)
    tokens: TokenShape = field(default_factory=TokenShape)
