"""Step times of one deployment as a compact table that the compiled loop can read.

A step is told by four numbers: prompt tokens P, the mean keys k each of them attends to, decoding sequences n and their
mean context c. Dense layers see P + n tokens, attention sees (P, k) and (n, c) apart, so

    time(P, k, n, c) = max(base[P, n] + prompt[P, k] + decode[n, c], floor[P > 0, n])

with `base` taken at reference values of k and c, `prompt` and `decode` being differences to it. This is exact wherever
operators of prompt and decode attention are priced apart, and tables stay two-dimensional. The floor is what kernel
launches, or a host that works beside the device, take at least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.simulator.kernel.state import TABLE

#: (prompt tokens, mean keys of each, decoding sequences, their mean context) -> seconds; arrays broadcast.
StepTime = Callable[[Array, Array, Array, Array], Array]
#: (decoding sequences) -> least seconds of a step that only decodes, and of one that carries prompts.
Floor = Callable[[Array], tuple[Array, Array]]

#: Grid points an octave: multilinear interpolation of a roofline between them stays within a percent (tested).
PER_OCTAVE = 8


def grid(most: float, *, dense: int = 8, per_octave: int = PER_OCTAVE) -> Array:
    """Whole numbers from 0 to `most` and a little beyond: every one up to `dense`, then a geometric grid.

    >>> grid(20, dense=4, per_octave=2).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 23.0]
    """
    octaves = np.log2(max(most, dense) / dense)
    steps = np.arange(1, np.ceil(octaves * per_octave) + 1) if octaves > 0 else np.array([1.0])
    return np.unique(np.concatenate([np.arange(dense + 1.0), np.round(dense * 2.0 ** (steps / per_octave))]))


def _with_edges(axis: Array) -> Array:
    """The axis with both sides of the steps that kernels' tiles make: multiples of 64, then of 128 and more."""
    tiles = np.concatenate([np.arange(64, 257, 64), np.arange(384, 2049, 128), np.arange(2560, 8193, 512)])
    inside = tiles[tiles < axis[-1]]
    return np.unique(np.concatenate([axis, inside, inside + 1.0]))


@dataclass(frozen=True)
class StepTable:
    """Axes (tokens) and values (s); see the module's docstring. tokens (p,), keys (k,), seqs (n,), context (c,);
    base (p, n), prompt (p, k), decode (n, c), floor (2, n)."""

    tokens: Array
    keys: Array
    seqs: Array
    context: Array
    base: Array
    prompt: Array
    decode: Array
    floor: Array

    @classmethod
    def build(
        cls,
        time: StepTime,
        *,
        most_tokens: float,
        most_seqs: float,
        most_context: float,
        usual_context: float = 1024.0,
        floor: Floor | None = None,
    ) -> StepTable:
        """Evaluate `time` on grids that reach `most_tokens` prompt tokens a step, `most_seqs` sequences and
        `most_context` tokens of context. usual_context: the reference for steps that mix prompts and decodes.
        `InputError` where `time` has no answer."""
        tokens = _with_edges(grid(most_tokens, per_octave=2 * PER_OCTAVE))
        seqs = _with_edges(grid(most_seqs, dense=64))
        keys, context = grid(most_context), grid(most_context)
        zero = np.zeros((1, 1))
        usual = np.minimum(0.5 * (tokens + 1), most_context)[:, None]
        base = _evaluate(time, tokens[:, None], usual, seqs[None, :], np.full((1, 1), usual_context))
        base[0, 0] = 0.0
        prompt = _evaluate(time, tokens[1:, None], np.maximum(keys, 1.0)[None, :], zero, zero)
        decode = _evaluate(time, zero, zero, seqs[1:, None], np.maximum(context, 1.0)[None, :])
        return cls(
            tokens=tokens,
            keys=keys,
            seqs=seqs,
            context=context,
            base=base,
            prompt=np.vstack([np.zeros(len(keys)), prompt - base[1:, :1]]),
            decode=np.vstack([np.zeros(len(context)), decode - base[:1, 1:].T]),
            floor=np.zeros((2, len(seqs))) if floor is None else np.stack(floor(seqs)),
        )

    @classmethod
    def affine(
        cls,
        fixed: float,
        *,
        per_token: float = 0.0,
        per_seq: float = 0.0,
        per_key: float = 0.0,
        per_context: float = 0.0,
        most_tokens: int = 1 << 20,
        most_seqs: int = 4096,
    ) -> StepTable:
        """fixed + per_token * P + per_key * P * k + per_seq * n + per_context * n * c seconds: a caricature of an
        engine for tests and for reasoning; interpolation is exact."""

        def time(prompt: Array, keys: Array, seqs: Array, context: Array) -> Array:
            return fixed + per_token * prompt + per_key * prompt * keys + per_seq * seqs + per_context * seqs * context

        return cls.build(time, most_tokens=most_tokens, most_seqs=most_seqs, most_context=1 << 22)

    def time(self, prompt: Array | float, keys: Array | float, seqs: Array | float, context: Array | float) -> Array:
        """Seconds of steps by this table, as the compiled loop interpolates them; arguments as in `StepTime`."""
        prompt, keys, seqs, context = np.broadcast_arrays(
            *(np.asarray(a, float) for a in (prompt, keys, seqs, context))
        )
        found = _bilinear(self.tokens, self.seqs, self.base, prompt, seqs)
        found = found + np.where(prompt > 0, _bilinear(self.tokens, self.keys, self.prompt, prompt, keys), 0.0)
        found = found + np.where(seqs > 0, _bilinear(self.seqs, self.context, self.decode, seqs, context), 0.0)
        return np.maximum(found, np.where(prompt > 0, *(np.interp(seqs, self.seqs, f) for f in self.floor[::-1])))


def _evaluate(time: StepTime, *where: Array) -> Array:
    found = np.array(np.broadcast_to(time(*where), np.broadcast_shapes(*(a.shape for a in where))), float)
    if not np.all(np.isfinite(found[1:, 1:])):
        raise InputError("step times are unknown for this deployment; choose a device and formats with known rates")
    return found


def _bilinear(rows: Array, columns: Array, values: Array, x: Array, y: Array) -> Array:
    i = np.clip(np.searchsorted(rows, x, side="right") - 1, 0, len(rows) - 2)
    j = np.clip(np.searchsorted(columns, y, side="right") - 1, 0, len(columns) - 2)
    f, g = (x - rows[i]) / (rows[i + 1] - rows[i]), (y - columns[j]) / (columns[j + 1] - columns[j])
    low = (1 - f) * values[i, j] + f * values[i + 1, j]
    high = (1 - f) * values[i, j + 1] + f * values[i + 1, j + 1]
    return (1 - g) * low + g * high


def stacked(tables: Sequence[StepTable]) -> tuple[NDArray[np.void], Array]:
    """The tables for the compiled loop: records of where each axis and value array begins, and all numbers in a row."""
    records, numbers, at = np.zeros(len(tables), TABLE), [], 0
    for record, table in zip(records, tables, strict=True):
        for axis in ("tokens", "keys", "seqs", "context"):
            record[axis] = len(getattr(table, axis))
        for field in ("tokens", "keys", "seqs", "context", "base", "prompt", "decode", "floor"):
            values = getattr(table, field).ravel()
            record[field if values.size > len(getattr(table, field)) else f"at_{field}"] = at
            numbers.append(values)
            at += len(values)
    return records, np.concatenate(numbers)
