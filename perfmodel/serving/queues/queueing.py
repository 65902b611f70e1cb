"""Queueing laws of a replica: equilibrium of prefill and decode, waits for a step, opening bursts.

All functions broadcast; (C, N) is by request class and candidate, (N,) by candidate. Times are seconds, rates are
requests per second. Waits for KV capacity are in `perfmodel.serving.queues.admission`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Index, Mask, common_shape
from perfmodel.serving.limits import MAX_UTILISATION, TINY
from perfmodel.serving.queues.run_waits import mean_in_run, run_noise, with_backlog
from perfmodel.workload import Load

#: Halvings of a bracket before the root in it is searched. Chosen: of a factor 1e10 they leave some per cent.
_HALVINGS = 8
#: Most steps to a root. Chosen: halving alone would shrink a bracket of a factor 1e10 to a relative width below 1e-10.
_STEPS_TO_ROOT = 40
#: Relative error at which a root counts as found. Chosen: far below what any figure is rounded to.
_ROOT_TOLERANCE = 1e-11
#: Slope on logarithms from which a law is taken to jump, and relative width of the bracket at which a jump counts as
#: found. Chosen: a queue rises by 1 / (1 - load), to `MAX_UTILISATION` of it; the width is far below a search's steps.
_STEEPEST, _JUMP_TOLERANCE = 10.0 / (1.0 - MAX_UTILISATION), 1e-7
#: Newton steps for the parameter of a Poisson law, known by the mean of its numbers above zero. Chosen: the error
#: squares with each step.
_NEWTON = 5
#: Three-point Gauss-Hermite rule: the outer nodes lie sqrt(3) standard deviations from the mean and weigh 1/6 each, the
#: mean weighs 4/6 (Abramowitz & Stegun, Handbook of Mathematical Functions, table 25.10).
_NODE_SQUARED, _MIDDLE_WEIGHT, _ALL_WEIGHTS = 3.0, 4.0, 6.0


def equilibrium_rate(running: Array, prefill: Array, decode: Array, interference: Array) -> Array:
    """Solve running = X (prefill + decode / (1 - X stall)) for X, the requests/s that `running` sequences complete.

    This is Little's law (Little, Oper. Res. 9(3), 1961) over the time in the batch: prompts enter at rate X and each
    stretches decoding by `interference` (stall). Multiplied out with S = stall it is quadratic in X:
    X^2 prefill S - X (prefill + decode + running S) + running = 0. The smaller root is the stable one.

    Args:
        running: sequences in the batch, (N,) or (K, N).
        prefill: seconds of a request's own prefill, same shape.
        decode: seconds of a request's decode steps without interference, same shape.
        interference: seconds that one prefill adds to the decode of the others, same shape.
    """
    a = prefill * interference
    b = prefill + decode + running * interference
    root = np.sqrt(np.maximum(b * b - 4.0 * a * running, 0.0))
    return np.asarray(2.0 * running / (b + root))


def slowed_tpot(token_time: Array, prefill_share: Array) -> Array:
    """Return the TPOT where prefill takes `prefill_share` (0 to 1) of the time: token_time / (1 - share).

    token_time: seconds per output token without prefill, (N,). The share is kept at most `MAX_UTILISATION`. Derived: a
    token takes its decode step plus the prefills that arrive meanwhile, TPOT = token_time + share TPOT.
    """
    return token_time / (1.0 - np.minimum(prefill_share, MAX_UTILISATION))


def prompts_per_step(running: Array, answer: Array, least: Array, most: Array) -> Array:
    """Return the mean prompts of the steps of a full batch that have any, within `least` and `most`, (N,).

    Derived: a sequence ends after as many steps as make its answer, and another prompt takes its place. So a Poisson
    number m = `running` / `answer` enters a step, and steps with prompts carry m / (1 - exp(-m)).

    answer: decode steps of a request, (N,): its output tokens, or fewer with drafts.
    """
    entering = running / np.maximum(answer, 1.0)
    return np.clip(entering / np.maximum(-np.expm1(-entering), TINY), least, most)


def drifting(answer: Array, step: Array) -> Array:
    """Return the share of the requests of a group that drift apart while they decode, (N,).

    Derived: requests that end during the same step with prompts enter the next such step together. So a group stays
    together if its answers end within one such step. The ends of answers spread over about the time of an answer, so
    that a request leaves its group with the probability 1 - exp(-answer / step).

    answer: seconds of a request's decode steps, (N,). step: seconds of a step with a full group of prompts, (N,).
    """
    return np.asarray(-np.expm1(-answer / np.maximum(step, TINY)))


def at_least(mean: Array, wanted: Array) -> tuple[Array, Array]:
    """Return (mean, variance) of max(g, wanted), (N,) each, where g is a Poisson number that is not zero.

    mean: of g, at least 1, (N,). The Poisson parameter m solves mean = m / (1 - exp(-m)), by Newton's method from the
    mean on, which lies above it; then g has the variance mean (1 + m - mean).
    """
    parameter = np.maximum(mean, 1.0 + TINY)
    for _ in range(_NEWTON):
        none = np.exp(-parameter)
        over = parameter - mean * (1.0 - none)
        parameter = np.maximum(parameter - over / np.maximum(1.0 - mean * none, TINY), TINY)
    chance = np.exp(-parameter) / np.maximum(-np.expm1(-parameter), TINY)
    first, second = np.asarray(mean, float), mean * (1.0 + parameter)
    for number in range(1, int(np.ceil(np.max(wanted, initial=1.0)))):
        chance = chance * parameter / number
        below = number < wanted
        first = first + np.where(below, chance * (wanted - number), 0.0)
        second = second + np.where(below, chance * (np.square(wanted) - number**2), 0.0)
    return first, np.maximum(second - np.square(first), 0.0)


class MeanAtLeast:
    """Gives the mean of `at_least` from tables, which is quick, for the same `wanted` again and again.

    Exact in `wanted`, in which the mean is linear between whole numbers; in the mean to 0.1 %.
    """

    def __init__(self, wanted: Array) -> None:
        """Sort the candidates by the tables that they need. wanted: as in `at_least`, (N,)."""
        self._shape, below = np.shape(wanted), np.floor(wanted)
        more = wanted > 1.0
        self._groups: list[tuple[int, Index, Array | None]] = []
        for whole in np.unique(below[more]):
            same = more & (below == whole)
            between = same & (wanted > whole)
            rows = np.flatnonzero(between)
            if len(rows):
                self._groups.append((int(whole), rows, wanted[rows] - whole))
            rows = np.flatnonzero(same & ~between)
            if len(rows):
                self._groups.append((int(whole), rows, None))

    @property
    def any(self) -> bool:
        """Return whether more than one is wanted of any candidate."""
        return bool(self._groups)

    def __call__(self, mean: Array) -> Array:
        """Return the mean of the larger of a Poisson number that is not zero and `wanted`, (N,) or (K, N).

        mean: of that number, same shape.
        """
        if not self._groups:
            return mean
        out = np.array(np.broadcast_to(mean, common_shape(np.shape(mean), self._shape)))
        for whole, rows, part in self._groups:
            some = out[..., rows]
            at = np.interp(some, *_means_at_least(whole))
            if part is not None:
                at = at + part * (np.interp(some, *_means_at_least(whole + 1)) - at)
            out[..., rows] = np.maximum(at, some)  # beyond the table, hardly any number is less
        return out


@lru_cache(maxsize=64)
def _means_at_least(wanted: int) -> tuple[Array, Array]:
    """Return (means of a Poisson number that is not zero, means of the larger of it and `wanted`), (K,) each."""
    parameter = np.geomspace(1e-3, 4.0 * wanted + 20.0, 400)
    mean = parameter / -np.expm1(-parameter)
    return mean, at_least(mean, np.full_like(mean, float(wanted)))[0]


def share_of_others(running: Array, group: Array | float = 1.0) -> Array:
    """Return the share of the `running` sequences that are outside a request's own prefill group of `group` prompts.

    (N,)

    A request waits for the prefills of these others.
    """
    return np.maximum(running - group, 0.0) / np.maximum(running, 1.0)


def closed_prefill_wait(
    prefill_share: Array, prefill: Array, prefill_cv: Array, *, running: Array, entering: Array
) -> Array:
    """Return the mean seconds that a prompt of a closed loop queues for other prompts. (N,)

    The wait of an M/G/1 queue (`equations.queue_wait`), but never longer than the prefills of all other sequences: a
    closed loop holds no more.

    Args:
        prefill_share: utilisation of the prefill queue, (N,).
        prefill: mean seconds of a prefill, (N,).
        prefill_cv: coefficient of variation of prefill times, (N,).
        running: sequences in the loop, (N,).
        entering: prompts computed per step, (N,).
    """
    ahead = np.maximum(running - 1.0, 0.0) * prefill / entering
    return np.minimum(eq.queue_wait(prefill_share, prefill, 1.0, prefill_cv), ahead)


def wait_cv(load: Array, prefill_cv: Array) -> Array:
    """Return the coefficient of variation of the waits of prompts that meet others, (N,).

    Derived: in an M/G/1 queue at the load r, E[W^2] = 2 E[W]^2 + r E[S^3] / (3 E[S] (1 - r)), so that waits, where
    there is one, have the squared coefficient 4/3 (1 - r) E[S^3] E[S] / E[S^2]^2 + 2 r - 1; the ratio of moments is
    that of log-normal prefill times, 1 + c^2.

    load: 0 to 1, (N,). prefill_cv: c, coefficient of variation of prefill times, (N,).
    """
    return np.asarray(np.sqrt(4.0 / 3.0 * (1.0 - load) * (1.0 + np.square(prefill_cv)) + 2.0 * load - 1.0))


def step_residual(running: Array, step: Array) -> Array:
    """Return the mean seconds until the running step ends, as seen by a Poisson arrival. (N,)

    running: mean number of running sequences, (N,). step: seconds of a step, (N,).

    Half a step, times the probability 1 - exp(-running) that any sequence runs where their number is Poisson with mean
    `running` (M/G/infinity; Takacs, Introduction to the Theory of Queues, 1962, ch. 3).
    """
    return -np.expm1(-running) * step / 2.0


def planned_wait(busy: Array, step: Array, *, ahead: Mask) -> Array:
    """Return the mean seconds that a request waits for a step that was planned before it came, (N,).

    Derived: a scheduler that runs ahead of the device plans a step when the one before it begins (vLLM
    vllm/v1/engine/core.py, step_with_batch_queue: a batch is scheduled before the output of the last one is awaited;
    SGLang v0.4 blog, 2024-12-04, overlap scheduler; TensorRT-LLM's overlap scheduler). A request that comes while a
    step runs is so in the step after the next: it waits for the rest of the former, which is counted elsewhere, and for
    all of the latter.

    Args:
        busy: probability that a step runs when a request comes, (N,).
        step: mean seconds of a step, (N,).
        ahead: whether the scheduler runs ahead, (N,).
    """
    return np.where(ahead, busy * step, 0.0)


def opening_burst(running: Array, group: Array, prefill_per_prompt: Array, prefill: Array) -> Array:
    """Return the mean TTFT (without front end) of the requests that a closed loop sends at once at its start. (N,)

    Derived: running / group groups are computed one after the other, and a prompt is done with its group; on average
    (running + group) / 2 prompts are done by then.

    Args:
        running: sequences that start together, (N,).
        group: prompts computed together, (N,).
        prefill_per_prompt: seconds per prompt in such a group, (N,).
        prefill: seconds of a prefill in the running batch, which a lone request takes, (N,).
    """
    return np.where(running > 1, (running + group) / 2.0 * prefill_per_prompt, prefill)


def opening_share(requests_per_client: Array) -> Array:
    """Return the share of a closed loop's requests that belong to its opening burst: the first one of each client."""
    return np.clip(1.0 / np.maximum(requests_per_client, 1.0), 0.0, 1.0)


def eased(opening: Array, load: Load) -> Array:
    """Return the mean seconds that a request of the opening burst waits where clients start over a while, (N,).

    Derived: client i of C starts at ramp i / C, and is served when those before it are, so that half a ramp is saved on
    average. Where gaps vary, work comes as a random walk around that, whose mean is that of a run of C requests; with a
    long ramp it is the wait s^2 / 2 (g - s) of Poisson arrivals with gaps of g (M/D/1), within an eighth.

    opening: the seconds where all start together, (N,). load: of the whole loop.
    """
    clients = np.maximum(load.concurrency, 1.0)
    noise = run_noise(clients, 2.0 * opening / clients, np.square(load.ramp_cv))
    chance = np.where(load.ramp > 0.0, mean_in_run(noise, np.full_like(noise, np.inf)), 0.0)
    return np.minimum(with_backlog(opening - load.ramp / 2.0, chance), opening)


def spilled_group_wait(running: Array, group: Array, mixed_step: Array) -> Array:
    """Return the seconds, (N,), that a full group of prompts waits because decodes use part of the token budget.

    This is for a closed loop whose clients move in groups and whose prompts are computed in the same steps as decodes.

    Derived: decodes use part of the token budget, so the last prompt of a full group waits for the next group's step,
    and so on; the wait grows to one `mixed_step` as the loop goes from one group of `group` prompts to two.
    """
    return np.clip(running / group - 1.0, 0.0, 1.0) * mixed_step


def mean_over_poisson(middle: Array, low: Array, high: Array) -> Array:
    """Return the mean of a function of a Poisson number by a three-point rule: (4 middle + low + high) / 6.

    middle: the function's value at the mean; low, high: its values at the two `poisson_nodes`.
    """
    return (_MIDDLE_WEIGHT * middle + low + high) / _ALL_WEIGHTS


def poisson_nodes(mean: Array, centre: Array, most: Array) -> tuple[Array, Array]:
    """Return the two outer nodes of the three-point rule: `centre` -+ sqrt(3 mean), kept within 1 and `most`.

    (N,) each

    A Poisson number has variance `mean`; its normal approximation allows the Gauss-Hermite rule.
    """
    aside = np.minimum(np.sqrt(_NODE_SQUARED * mean), np.minimum(centre - 1.0, most - centre))
    return centre - aside, centre + aside


def wait_of_bursts(most: Array, loaded: Array, per_prompt: Array, arrival_cv: Array) -> Array:
    """Return the mean seconds that bursts add to the wait for the first token, beside that under Poisson arrivals.

    Derived: a prompt waits for those ahead of it (`equations.burst_wait`). Then it is computed together with others
    that wait, and its token comes with those of the last of them: half of them come after it. As many wait as the
    exponential wait says, up to the prompts that a step has room for.

    Args:
        most: prompts that a step has room for, (N,).
        loaded, per_prompt: load of the queue of prompts and seconds per prompt of full steps, (N,).
        arrival_cv: coefficient of variation of the gaps between arrivals, (N,).
    """
    bursts = eq.burst_wait(loaded, per_prompt, arrival_cv)
    waiting = np.maximum(bursts / per_prompt, TINY)
    return np.asarray(bursts + per_prompt / 2.0 * waiting * -np.expm1(-(most - 1.0) / waiting))


def queue_variability(arrival_cv: Array, output: Array, length_cv: Array, mean: Callable[[Array], Array]) -> Array:
    """Return c_a^2 + c_s^2, (N,): the squared coefficients of variation of gaps between arrivals and of output lengths.

    c_s^2 = E[L^2] / E[L]^2 - 1 over all classes, where a class of mean m has E[L^2] = m^2 (1 + length_cv^2).

    Args:
        arrival_cv: coefficient of variation of gaps between arrivals, (N,).
        output: mean output tokens of each class, (C, N).
        length_cv: coefficient of variation of output lengths within a class, (N,).
        mean: share-weighted mean over classes, (C, N) -> (N,).
    """
    second_moment = mean(np.square(output) * (1.0 + np.square(length_cv))) / np.square(mean(output))
    return np.square(arrival_cv) + second_moment - 1.0


def cv_over_classes(values: Array, mean: Callable[[Array], Array]) -> Array:
    """Return the coefficient of variation of `values` (C, N) over the request classes. (N,)

    mean: share-weighted mean over classes, (C, N) -> (N,).
    """
    return np.sqrt(mean(np.square(values / np.maximum(mean(values), TINY) - 1.0)))


def bracketed_root(low: Array, high: Array, ratio: Callable[[Array], Array]) -> Array:
    """Solve ratio(x) = 1 per candidate, (N,), where `ratio` may fall on the way, as `rising_root` does.

    An overloaded replica may have several equilibria. Halving the logarithm of the bracket first settles which one is
    taken, whatever the shape of the law; within what is left the law rises, nearly along a straight line.
    """
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        under = ratio(middle) < 1.0
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return rising_root(low, high, ratio)


def rising_root(low: Array, high: Array, ratio: Callable[[Array], Array]) -> Array:
    """Solve ratio(x) = 1 per candidate, (N,), for a finite `ratio` that rises with x from `low` to `high`, all above 0.

    It is `high` where the ratio stays below 1, and `low` where it is above 1 already or unknown; where the ratio jumps
    over 1, it is the place before the jump. The Illinois method (Dowell & Jarratt, BIT 11, 1971) on logarithms, in
    which a law of queues is nearly a straight line: a few steps where bisection takes forty. A jump is halved.
    """
    left, right = np.log(low), np.log(high)
    with np.errstate(divide="ignore"):
        below, above = np.log(ratio(low)), np.log(ratio(high))
    start, end, open_ = left, right, (below < 0.0) & (above > 0.0)
    lowest, highest = below, above
    out, side = np.where(below < 0.0, end, start), np.zeros(len(start))
    for _ in range(_STEPS_TO_ROOT):
        if not open_.any():
            break
        tried = np.where(open_, left - below * (right - left) / np.where(open_, above - below, 1.0), out)
        jumps = open_ & (highest - lowest > _STEEPEST * (right - left))
        tried = np.where(jumps, (left + right) / 2.0, tried)
        found = np.log(ratio(np.exp(tried)))
        out, under = np.where(open_, tried, out), found < 0.0
        # an end that stays twice in a row counts half
        below, above = (
            np.where(under, found, np.where(side > 0.0, below / 2.0, below)),
            np.where(under, np.where(side < 0.0, above / 2.0, above), found),
        )
        lowest, highest = np.where(under, found, lowest), np.where(under, highest, found)
        left, right, side = np.where(under, tried, left), np.where(under, right, tried), np.where(under, -1.0, 1.0)
        jumps &= right - left < _JUMP_TOLERANCE
        out = np.where(jumps, left, out)
        open_ = open_ & (np.abs(found) > _ROOT_TOLERANCE) & (right - left > _ROOT_TOLERANCE) & ~jumps
    return np.asarray(np.exp(out))
