"""Step times read from tables, and the ends of runs of steps; compiled.

`v` are the numbers of all tables in one array and `t` the record of one table, which says where its parts begin. Tables
and axes are explained in `perfmodel.simulator.replica_pools.table`. Interpolation is bilinear, and extrapolates beyond
the outermost points.
"""

from __future__ import annotations

import math
from typing import Any

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.state import Arrays

#: More decode steps than any run has; it fits the 32-bit field of the log.
UNBOUNDED_STEPS = 2_000_000_000


@inner
def locate(v: Any, begin: int, size: int, value: float) -> int:
    """Interval j of the rising axis v[begin:begin + size] with v[begin + j] <= value; beyond the axis, an end one."""
    low, high = 0, size - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if v[begin + middle] <= value:
            low = middle
        else:
            high = middle
    return low


@inner
def fraction(v: Any, at: int, value: float) -> float:
    """How far `value` lies on the way from v[at] to v[at + 1]; 0 to 1 inside the interval."""
    share: float = (value - v[at]) / (v[at + 1] - v[at])
    return share


@inner
def bilinear(v: Any, at: int, width: int, f: float, g: float) -> float:
    """Value of a table with rows of `width` numbers, `f` rows and `g` columns (0 to 1) from its corner v[at]."""
    low = (1.0 - g) * v[at] + g * v[at + 1]
    high = (1.0 - g) * v[at + width] + g * v[at + width + 1]
    value: float = (1.0 - f) * low + f * high
    return value


@inner
def decode_line(arrays: Arrays, k: int, seqs: int, context: float, growth: float) -> tuple[float, float, int]:
    """Durations of consecutive decode steps, linear in the step because context grows by `growth` tokens per sequence.

    k: step-time table; seqs: sequences; context: their KV tokens, with those of the first step. Returns the duration of
    the first step, the growth per step, and for how many steps the line holds.
    """
    v, t = arrays.values, arrays.tables[k]
    a = locate(v, t.at_seqs, t.seqs, seqs)
    f = fraction(v, t.at_seqs + a, seqs)
    mean = context / seqs
    j = locate(v, t.at_context, t.context, mean)
    at = t.decode + a * t.context + j
    low = (1.0 - f) * v[at] + f * v[at + t.context]
    high = (1.0 - f) * v[at + 1] + f * v[at + t.context + 1]
    left, right = v[t.at_context + j], v[t.at_context + j + 1]
    per_token = (high - low) / (right - left)
    slope = per_token * growth
    base = dense_time(arrays, k, 0, 1.0, seqs)
    steps = UNBOUNDED_STEPS
    if j < t.context - 2:
        steps = max(math.floor((right - mean) / growth), 0) + 1
    step = base + low + per_token * (mean - left)
    least = (1.0 - f) * v[t.floor + a] + f * v[t.floor + a + 1]
    if step >= least:
        return step, slope, steps
    if slope > 0:  # the floor holds until the line crosses it
        steps = min(steps, math.ceil((least - step) / slope))
    return least, 0.0, steps


@inner
def step_time(arrays: Arrays, k: int, prompt: int, keys: float, seqs: int, context: float, ending: int) -> float:
    """Seconds of one step by step-time table k.

    prompt: prompt tokens; keys: keys that each of them attends to, on average; seqs: decoding sequences; context: their
    KV tokens, summed; ending: prompts that end in the step.
    """
    v, t = arrays.values, arrays.tables[k]
    a = locate(v, t.at_seqs, t.seqs, seqs)
    f = fraction(v, t.at_seqs + a, seqs)
    at = t.floor + a + (t.seqs if prompt > 0 else 0)
    least: float = (1.0 - f) * v[at] + f * v[at + 1]
    time = dense_time(arrays, k, prompt, keys, seqs)
    if prompt > 0:
        p = locate(v, t.at_tokens, t.tokens, prompt)
        g = fraction(v, t.at_tokens + p, prompt)
        j = locate(v, t.at_keys, t.keys, keys)
        h = fraction(v, t.at_keys + j, keys)
        time += bilinear(v, t.prompt + p * t.keys + j, t.keys, g, h)
        least += bilinear(v, t.crowd + p * t.keys + j, t.keys, g, h)
        if seqs > 0:
            time += shared_time(arrays, k, prompt, seqs)
    if seqs > 0:
        mean = context / seqs
        j = locate(v, t.at_context, t.context, mean)
        time += bilinear(v, t.decode + a * t.context + j, t.context, f, fraction(v, t.at_context + j, mean))
    seconds: float = max(time + v[t.take_in] * ending, least + v[t.take_in + 1] * ending)
    return seconds


@inner
def dense_time(arrays: Arrays, k: int, prompt: int, keys: float, seqs: int) -> float:
    """Seconds of the dense layers of a step, by the tokens of its fullest micro-batch and rank (`Micro.tokens`)."""
    v, t = arrays.values, arrays.tables[k]
    pp, budget, ranks, each = v[t.cut], v[t.cut + 1], v[t.cut + 2], v[t.cut + 3]
    decodes = max(seqs / v[t.cut + 4], min(float(seqs), 1.0))
    prompts = max(prompt / pp, min(float(prompt), budget, max(2.0 * keys, 1.0)))
    used = min(max(prompts / max(2.0 * keys, 1.0), 1.0), ranks)
    tokens = prompts * ranks / used + each * decodes
    a = locate(v, t.at_total, t.total, tokens)
    f = fraction(v, t.at_total + a, tokens)
    time: float = (1.0 - f) * v[t.dense + a] + f * v[t.dense + a + 1]
    return time


@inner
def shared_time(arrays: Arrays, k: int, prompt: int, seqs: int) -> float:
    """Seconds by which a step of prompts and decodes differs from the sum of both."""
    v, t = arrays.values, arrays.tables[k]
    p = locate(v, t.at_some_tokens, t.some_tokens, prompt)
    a = locate(v, t.at_some_seqs, t.some_seqs, seqs)
    at = t.shared + p * t.some_seqs + a
    time: float = bilinear(
        v, at, t.some_seqs, fraction(v, t.at_some_tokens + p, prompt), fraction(v, t.at_some_seqs + a, seqs)
    )
    return time


@inner
def run_end(start: float, step: float, slope: float, steps: int) -> float:
    """When a run ends that begins at `start`: step j of `steps`, from 0, takes step + j * slope seconds."""
    return start + step * steps + slope * (0.5 * steps * (steps - 1))


@inner
def steps_until(start: float, step: float, slope: float, most: int, time: float) -> int:
    """Fewest steps, 1 to `most`, after which a run ends at or after `time`; `most` where it ends before."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) >> 1
        if run_end(start, step, slope, middle) >= time:
            high = middle
        else:
            low = middle
    return high


@inner
def steps_until_seen(ahead: bool, start: float, step: float, slope: float, most: int, time: float) -> int:
    """Fewest steps, 1 to `most`, after which a request that is ready at `time` can be admitted.

    ahead: the scheduler plans a step when the one before it begins, so that a whole step follows the one in which the
    request became ready.
    """
    if not ahead:
        return steps_until(start, step, slope, most, time)
    return 1 if time <= start else min(steps_until(start, step, slope, most, time) + 1, most)
