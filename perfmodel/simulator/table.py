"""Step times of one deployment as a compact table that the compiled loop can read.

Four numbers describe a step: its prompt tokens P, the mean number k of keys that each of them attends to, its decoding
sequences n, and their mean context c. Dense layers see P + n tokens; attention sees (P, k) and (n, c) apart. So

    time(P, k, n, c) = max(base[P, n] + prompt[P, k] + decode[n, c], floor[P > 0, n])

where `base` is taken at reference values of k and c, and `prompt` and `decode` are differences to it. This is exact
wherever the attention of prompts and that of decodes are priced apart, and all tables stay two-dimensional. The floor
is the least time that kernel launches, or the work of the host in parallel with the device, take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.simulator.kernel.records import TABLE

#: (prompt tokens, mean keys of each, decoding sequences, their mean context) -> seconds per step; arrays broadcast.
StepTime = Callable[[Array, Array, Array, Array], Array]
#: (decoding sequences) -> least seconds of a step that only decodes, and of a step with prompt tokens.
Floor = Callable[[Array], tuple[Array, Array]]

#: Grid points per factor of two. Between them, interpolation of a roofline stays within a percent (tested).
PER_OCTAVE = 8
#: Up to here the grid of sequences has every whole number: small batches are the most common.
_DENSE_SEQS = 64
#: Sizes of the tiles that GEMM kernels round tokens up to, where step times jump: multiples of 64, then of 128 and 512.
_TILES = (range(64, 257, 64), range(384, 2049, 128), range(2560, 8193, 512))
#: Context, and sequences and prompt tokens, that `StepTable.affine` reaches; interpolation is exact beyond them as
#: well.
_AFFINE_CONTEXT, _AFFINE_TOKENS, _AFFINE_SEQS = 1 << 22, 1 << 20, 4096


def grid(most: float, *, dense: int = 8, per_octave: int = PER_OCTAVE) -> Array:
    """Return whole numbers from 0 to `most` or just above: every one up to `dense`, then a geometric grid.

    per_octave: grid points per doubling.

    >>> grid(20, dense=4, per_octave=2).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 23.0]
    """
    octaves = np.log2(max(most, dense) / dense)
    steps = np.arange(1, np.ceil(octaves * per_octave) + 1) if octaves > 0 else np.array([1.0])
    return np.unique(np.concatenate([np.arange(dense + 1.0), np.round(dense * 2.0 ** (steps / per_octave))]))


def _with_edges(axis: Array) -> Array:
    """Return the axis with both sides of each jump of step times added; jumps lie at multiples of kernels' tiles."""
    tiles = np.concatenate([np.array(sizes) for sizes in _TILES])
    inside = tiles[tiles < axis[-1]]
    return np.unique(np.concatenate([axis, inside, inside + 1.0]))


@dataclass(frozen=True)
class StepTable:
    """Step times on a grid; the module's docstring says how they add up.

    Attributes:
        tokens: (p,) prompt tokens per step.
        keys: (k,) mean keys per prompt token.
        seqs: (n,) decoding sequences.
        context: (c,) mean tokens of context per decoding sequence.
        base: (p, n) s.
        prompt: (p, k) s.
        decode: (n, c) s.
        floor: (2, n) s, of steps without and with prompt tokens.
    """

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
        """Evaluate `time` (seconds per step) on grids, and return the table.

        Args:
            most_tokens, most_seqs, most_context: Prompt tokens per step, sequences and tokens of context that grids
                reach.
            usual_context: Reference context for steps that mix prompts and decodes.
            floor: Least seconds per step; None: 0.

        Raises:
            InputError: where `time` returns NaN or infinity.
        """
        tokens = _with_edges(grid(most_tokens, per_octave=2 * PER_OCTAVE))
        seqs = _with_edges(grid(most_seqs, dense=_DENSE_SEQS))
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
        most_tokens: int = _AFFINE_TOKENS,
        most_seqs: int = _AFFINE_SEQS,
    ) -> StepTable:
        """Return the table of a simple engine for tests and for reasoning, on which interpolation is exact.

        Seconds per step = fixed + per_token * P + per_key * P * k + per_seq * n + per_context * n * c (P, k, n, c: see
        the module).
        """

        def time(prompt: Array, keys: Array, seqs: Array, context: Array) -> Array:
            return fixed + per_token * prompt + per_key * prompt * keys + per_seq * seqs + per_context * seqs * context

        return cls.build(time, most_tokens=most_tokens, most_seqs=most_seqs, most_context=_AFFINE_CONTEXT)

    def time(self, prompt: Array | float, keys: Array | float, seqs: Array | float, context: Array | float) -> Array:
        """Interpolate seconds per step from this table, as the compiled loop does; arguments as in `StepTime`."""
        prompt, keys, seqs, context = np.broadcast_arrays(
            *(np.asarray(a, float) for a in (prompt, keys, seqs, context))
        )
        found = _bilinear(self.tokens, self.seqs, self.base, prompt, seqs)
        found = found + np.where(prompt > 0, _bilinear(self.tokens, self.keys, self.prompt, prompt, keys), 0.0)
        found = found + np.where(seqs > 0, _bilinear(self.seqs, self.context, self.decode, seqs, context), 0.0)
        decode_floor, prompt_floor = (np.interp(seqs, self.seqs, f) for f in self.floor)
        seconds: Array = np.maximum(found, np.where(prompt > 0, prompt_floor, decode_floor))
        return seconds


def _evaluate(time: StepTime, *where: Array) -> Array:
    """Return `time` at the points `where`, broadcast against each other.

    The first row and column hold no tokens and may be NaN; elsewhere NaN or infinity raises `InputError`.
    """
    found: Array = np.array(np.broadcast_to(time(*where), np.broadcast_shapes(*(a.shape for a in where))), float)
    if not np.all(np.isfinite(found[1:, 1:])):
        raise InputError("step times are unknown for this deployment; choose a device and formats with known rates")
    return found


def _bilinear(rows: Array, columns: Array, values: Array, x: Array, y: Array) -> Array:
    """Interpolate `values` (rows, columns) bilinearly at the points (x, y); extrapolate linearly beyond the axes."""
    i = np.clip(np.searchsorted(rows, x, side="right") - 1, 0, len(rows) - 2)
    j = np.clip(np.searchsorted(columns, y, side="right") - 1, 0, len(columns) - 2)
    f, g = (x - rows[i]) / (rows[i + 1] - rows[i]), (y - columns[j]) / (columns[j + 1] - columns[j])
    low = (1 - f) * values[i, j] + f * values[i + 1, j]
    high = (1 - f) * values[i, j + 1] + f * values[i + 1, j + 1]
    value: Array = (1 - g) * low + g * high
    return value


def stacked(tables: Sequence[StepTable]) -> tuple[NDArray[np.void], Array]:
    """Return the tables in the form that the compiled loop reads: (records, numbers).

    Each record says where the axes and values of one table begin in the one array of all numbers.
    """
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
