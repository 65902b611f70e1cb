"""Step times from tables, inside the compiled loop."""

from __future__ import annotations

import math
from typing import Any

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.state import Arrays


@inner
def locate(v: Any, begin: int, size: int, x: float) -> int:
    """Interval j of the ascending v[begin:begin + size] with v[begin + j] <= x, the outermost where x lies outside."""
    low, high = 0, size - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if v[begin + middle] <= x:
            low = middle
        else:
            high = middle
    return low


@inner
def part(v: Any, at: int, x: float) -> float:
    """How far x lies from v[at] towards v[at + 1]."""
    return (x - v[at]) / (v[at + 1] - v[at])


@inner
def mixed(v: Any, at: int, width: int, f: float, g: float) -> float:
    """Bilinear value from the corner v[at] of a table whose rows are `width` long."""
    low = (1.0 - g) * v[at] + g * v[at + 1]
    high = (1.0 - g) * v[at + width] + g * v[at + width + 1]
    return (1.0 - f) * low + f * high


@inner
def decode_line(x: Arrays, k: int, seqs: int, context: int) -> tuple[float, float, int]:
    """Decode-only steps of `seqs` sequences that hold `context` tokens, this step's included: time of the first step,
    growth a step, and how many steps the line holds for."""
    v, t = x.values, x.tables[k]
    a = locate(v, t.at_seqs, t.seqs, seqs)
    f = part(v, t.at_seqs + a, seqs)
    mean = context / seqs
    j = locate(v, t.at_context, t.context, mean)
    at = t.decode + a * t.context + j
    low = (1.0 - f) * v[at] + f * v[at + t.context]
    high = (1.0 - f) * v[at + 1] + f * v[at + t.context + 1]
    left, right = v[t.at_context + j], v[t.at_context + j + 1]
    slope = (high - low) / (right - left)
    base = (1.0 - f) * v[t.base + a] + f * v[t.base + a + 1]
    steps = 2_000_000_000
    if j < t.context - 2:
        steps = max(math.floor(right - mean), 0) + 1
    step = base + low + slope * (mean - left)
    least = (1.0 - f) * v[t.floor + a] + f * v[t.floor + a + 1]
    if step >= least:
        return step, slope, steps
    if slope > 0:
        steps = min(steps, math.ceil((least - step) / slope))
    return least, 0.0, steps


@inner
def step_time(x: Arrays, k: int, prompt: int, keys: float, seqs: int, context: int) -> float:
    """A step of `prompt` tokens with `keys` mean keys each and `seqs` decoding sequences of `context` tokens in all."""
    v, t = x.values, x.tables[k]
    a = locate(v, t.at_seqs, t.seqs, seqs)
    f = part(v, t.at_seqs + a, seqs)
    p = locate(v, t.at_tokens, t.tokens, prompt)
    g = part(v, t.at_tokens + p, prompt)
    time = mixed(v, t.base + p * t.seqs + a, t.seqs, g, f)
    if prompt > 0:
        j = locate(v, t.at_keys, t.keys, keys)
        time += mixed(v, t.prompt + p * t.keys + j, t.keys, g, part(v, t.at_keys + j, keys))
    if seqs > 0:
        mean = context / seqs
        j = locate(v, t.at_context, t.context, mean)
        time += mixed(v, t.decode + a * t.context + j, t.context, f, part(v, t.at_context + j, mean))
    at = t.floor + a + (t.seqs if prompt > 0 else 0)
    return max(time, (1.0 - f) * v[at] + f * v[at + 1])


@inner
def run_end(start: float, step: float, slope: float, steps: int) -> float:
    """When `steps` steps that begin at `start` end, the j-th of them taking step + j * slope."""
    return start + step * steps + slope * (0.5 * steps * (steps - 1))


@inner
def steps_until(start: float, step: float, slope: float, most: int, time: float) -> int:
    """Fewest steps, 1 to `most`, after which a run ends at or after `time`."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) >> 1
        if run_end(start, step, slope, middle) >= time:
            high = middle
        else:
            low = middle
    return high
