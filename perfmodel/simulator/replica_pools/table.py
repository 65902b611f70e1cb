"""Step times of one deployment as a compact table that the compiled loop can read.

Four numbers describe a step: its prompt tokens P, the mean number k of keys that each of them attends to, its decoding
sequences n, and their mean context c. Dense layers see x(P, k, n) tokens, those of one micro-batch
(`Micro`); attention sees (P, k) and (n, c) apart. So

    time(P, k, n, c) = max(dense[x] + prompt[P, k] + decode[n, c] + shared[P, n], floor[P > 0, n] + crowd[P, k])

`dense` is the time of a step of x prompt tokens with usual k. `prompt` and `decode` are what steps of prompts alone and
of decodes alone differ from it, and `shared` is what a step of both differs from that sum at usual k and c. All tables
stay two-dimensional, and a step that only prefills or only decodes has, at the points of the grid, exactly the time of
the cost model. The axes are refined until the middle between two points is within `TOLERANCE` of it. The floor is the
least time that kernel launches, or the work of the host in parallel with the device, take; each prompt beyond the first
raises it by its part of the crowd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.simulator.kernel.records import TABLE

#: (prompt tokens, mean keys of each, decoding sequences, their mean context) -> seconds per step; arrays broadcast.
StepTime = Callable[[Array, Array, Array, Array], Array]
#: Points of an axis -> (what the table interpolates, seconds per step), (points, probes) each.
_Parts = Callable[[Array], tuple[Array, Array]]

#: Grid points per factor of two, before axes are refined.
PER_OCTAVE = 8
#: Most relative error in the middle between two points of a refined axis. Chosen: far below the error of step times.
TOLERANCE = 0.001
#: Rounds of halving of an interval, and most points of a refined axis, so that noisy step times end too. Chosen.
_ROUNDS, _MOST_POINTS = 9, 320
#: Values of the other quantity at which an axis is refined, per factor of four. Chosen.
_PROBES_PER_OCTAVE = 0.5
#: Up to here the axis of all tokens has every whole number. Chosen: one micro-batch of most decode steps.
_DENSE_TOKENS = 512
#: Up to here the grid of sequences has every whole number: small batches are the most common.
_DENSE_SEQS = 64
#: Sizes of the tiles that GEMM kernels round tokens up to, where step times jump: multiples of 64, then of 128 and 512.
_TILES = (range(64, 257, 64), range(384, 2049, 128), range(2560, 8193, 512))
#: Context, and sequences and prompt tokens, that `StepTable.affine` reaches; interpolation is exact beyond.
_AFFINE_CONTEXT, _AFFINE_TOKENS, _AFFINE_SEQS = 1 << 22, 1 << 20, 4096

#: Axes of a table, whose lengths the compiled loop reads.
_AXES = ("total", "tokens", "keys", "seqs", "context", "some_tokens", "some_seqs")
#: A token budget beyond any step, for tables of engines without one.
_UNBOUNDED = 2.0**52


def grid(most: float, *, dense: int = 8, per_octave: float = PER_OCTAVE) -> Array:
    """Return whole numbers from 0 to `most` or just above: every one up to `dense`, then a geometric grid.

    per_octave: grid points per doubling.

    >>> grid(20, dense=4, per_octave=2).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 23.0]
    """
    octaves = np.log2(max(most, dense) / dense)
    steps = np.arange(1, np.ceil(octaves * per_octave) + 1) if octaves > 0 else np.array([1.0])
    return np.unique(np.concatenate([np.arange(dense + 1.0), np.round(dense * 2.0 ** (steps / per_octave))]))


def _with_edges(axis: Array, more: Sequence[float]) -> Array:
    """Return the axis with both sides of each jump of step times added.

    Jumps lie at multiples of kernels' tiles and at the whole numbers `more`.
    """
    tiles = np.concatenate([*(np.array(sizes) for sizes in _TILES), np.floor(np.asarray(more, float))])
    inside = tiles[tiles < axis[-1]]
    return np.unique(np.concatenate([axis, inside, inside + 1.0]))


class Floor(NamedTuple):
    """Give the least seconds of a step, as functions.

    seqs: decoding sequences (n,) -> least of a step that only decodes, and of one with a prompt as well, (n,) each.
    crowd: (prompt tokens, mean keys of each) -> by how much the other prompts of the step raise it; arrays broadcast.
    """

    seqs: Callable[[Array], tuple[Array, Array]]
    crowd: Callable[[Array, Array], Array]


class Usual(NamedTuple):
    """Hold the usual keys per prompt token and the usual context of decodes, at which mixed steps are exact."""

    keys: float = 512.0
    context: float = 1024.0


class Micro(NamedTuple):
    """Say how a step is cut.

    A pipeline cuts its prompts into `pp` micro-batches, of which each takes up to `budget` tokens, and its decodes into
    `decode_batches`. The sequences of a micro-batch are spread over `ranks` of attention data parallelism, and each
    prompt stays on one rank. A decode step computes `each` tokens per sequence: one, and the drafts that it verifies.
    """

    pp: float = 1.0
    budget: float = math.inf
    ranks: float = 1.0
    each: float = 1.0
    decode_batches: float = 1.0

    def tokens(self, prompt: Array, keys: Array, seqs: Array) -> Array:
        """Return the tokens of the fullest rank in a micro-batch, times the ranks; arguments as in `StepTime`.

        `prompt` tokens that attend to `keys` each belong to prompt / (2 keys) prompts, but at least one.
        """
        alone = np.minimum(self.budget, np.maximum(2.0 * keys, 1.0))
        prompts = np.maximum(prompt / self.pp, np.minimum(prompt, alone))
        used = np.clip(prompts / np.maximum(2.0 * keys, 1.0), 1.0, self.ranks)
        decodes = np.maximum(seqs / self.decode_batches, np.minimum(seqs, 1.0))
        return np.asarray(prompts * self.ranks / used + self.each * decodes)

    def step(self, tokens: Array, keys: float) -> tuple[Array, Array]:
        """Return (prompt tokens, mean keys of each, at most `keys`) of a step whose ranks have `tokens` in all."""
        prompt = np.where(tokens <= min(self.budget, max(2.0 * keys, 1.0)), tokens, tokens * self.pp)
        return prompt, np.clip(tokens / (2.0 * self.ranks), 0.5, keys) if self.ranks > 1 else np.full(1, keys)


@dataclass(frozen=True)
class StepTable:
    """Step times on a grid; the module's docstring says how they add up.

    Attributes:
        total: (x,) tokens of a micro-batch.
        tokens: (p,) prompt tokens per step.
        keys: (k,) mean keys per prompt token.
        seqs: (n,) decoding sequences.
        context: (c,) mean tokens of context per decoding sequence.
        some_tokens, some_seqs: (P,), (N,) coarser axes of prompt tokens and sequences, of mixed steps.
        dense: (x,) s.
        prompt: (p, k) s.
        decode: (n, c) s.
        shared: (P, N) s.
        floor: (2, n) s, of steps without and with prompt tokens.
        crowd: (p, k) s.
        take_in: (2,) s per prompt that ends in a step, added to its time and to its least time; 0 as built.
        cut: (5,) the fields of `Micro`.
    """

    total: Array
    tokens: Array
    keys: Array
    seqs: Array
    context: Array
    some_tokens: Array
    some_seqs: Array
    dense: Array
    prompt: Array
    decode: Array
    shared: Array
    floor: Array
    crowd: Array
    take_in: Array
    cut: Array

    @classmethod
    def build(
        cls,
        time: StepTime,
        *,
        most_tokens: float,
        most_seqs: float,
        most_context: float,
        usual: Usual = Usual(),
        floor: Floor | None = None,
        micro: Micro = Micro(),
        edges: Sequence[float] = (),
    ) -> StepTable:
        """Evaluate `time` (seconds per step) on grids, and return the table.

        Args:
            most_tokens, most_seqs, most_context: Prompt tokens per step, sequences and tokens of context that grids
                reach.
            usual: Keys and context of usual steps.
            floor: Least seconds per step; None: 0.
            micro: How a pipeline cuts steps.
            edges: Numbers of sequences above which times jump.

        Raises:
            InputError: where `time` returns NaN or infinity.
        """
        grids = _Grids(time, usual, micro).with_dense(most_tokens, most_seqs, most_context)
        tokens, keys = grids.refined_pair(grids.prompt, _with_edges(grid(most_tokens), ()), grid(most_context))
        numbers = _with_edges(grid(most_seqs, dense=_DENSE_SEQS), edges)
        seqs, context = grids.refined_pair(grids.decode, numbers, grid(most_context))
        made = cls(
            **grids.tables(tokens, keys, seqs, context),
            shared=np.zeros((len(grid(most_tokens, per_octave=4)), len(grid(most_seqs, per_octave=4)))),
            some_tokens=grid(most_tokens, per_octave=4),
            some_seqs=grid(most_seqs, per_octave=4),
            floor=np.zeros((2, len(seqs))) if floor is None else np.stack(floor.seqs(seqs)),
            crowd=_crowd(floor, tokens, keys),
            take_in=np.zeros(2),
            cut=np.array([micro.pp, min(micro.budget, _UNBOUNDED), *micro[2:]]),
        )
        return replace(made, shared=grids.shared(made))

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
        """Interpolate seconds per step, as the compiled loop does where no prompt ends; arguments as in `StepTime`."""
        prompt, keys, seqs, context = np.broadcast_arrays(
            *(np.asarray(a, float) for a in (prompt, keys, seqs, context))
        )
        prefills = prompt > 0
        found = self._device_time(prompt, keys, seqs, context)
        least = np.where(prefills, *(np.interp(seqs, self.seqs, f) for f in self.floor[::-1]))
        least = least + np.where(prefills, _bilinear(self.tokens, self.keys, self.crowd, prompt, keys), 0.0)
        return np.asarray(np.maximum(found, least))

    def _device_time(self, prompt: Array, keys: Array, seqs: Array, context: Array) -> Array:
        """Interpolate seconds per step without the floor; arguments of equal shape, as in `StepTime`."""
        tokens = Micro(*self.cut.tolist()).tokens(prompt, keys, seqs)
        found = np.interp(tokens, self.total, self.dense)
        found = found + np.where(prompt > 0, _bilinear(self.tokens, self.keys, self.prompt, prompt, keys), 0.0)
        found = found + np.where(seqs > 0, _bilinear(self.seqs, self.context, self.decode, seqs, context), 0.0)
        both = (prompt > 0) & (seqs > 0)
        return found + np.where(both, _bilinear(self.some_tokens, self.some_seqs, self.shared, prompt, seqs), 0.0)


@dataclass(frozen=True)
class _Grids:
    """Evaluates step times on the grids of a table.

    Attributes:
        time, usual, micro: As in `StepTable.build`.
        total, table: (x,) The axis of all tokens and the time of dense layers on it, once they are known.
    """

    time: StepTime
    usual: Usual
    micro: Micro
    total: Array = field(default_factory=lambda: np.zeros(0))
    table: Array = field(default_factory=lambda: np.zeros(0))

    def dense(self, total: Array) -> Array:
        """Return the seconds of steps of `total` (x,) prompt tokens per micro-batch that attend to usual keys."""
        return _evaluate(self.time, *self.micro.step(total, self.usual.keys), np.zeros(1), np.ones(1))

    def with_dense(self, most_tokens: float, most_seqs: float, most_context: float) -> _Grids:
        """Return these grids with the axis of all tokens, and the time of dense layers on it."""
        ends = (grid(most)[-1:] for most in (most_tokens, most_context, most_seqs))
        total = self.total_axis(float(self.micro.tokens(*ends)[0]))
        return replace(self, total=total, table=self.dense(total))

    def tables(self, tokens: Array, keys: Array, seqs: Array, context: Array) -> dict[str, Array]:
        """Return the axes and tables of steps of prompts alone and of decodes alone, as fields of `StepTable`."""
        axes = {"total": self.total, "tokens": tokens, "keys": keys, "seqs": seqs, "context": context}
        prompt, decode = self.prompt(tokens, keys)[0], self.decode(seqs, context)[0]
        return axes | {"dense": self.table, "prompt": prompt, "decode": decode}

    def total_axis(self, most: float) -> Array:
        """Return the axis of all tokens, refined, up to `most`."""
        start = _with_edges(grid(most, dense=_DENSE_TOKENS, per_octave=2 * PER_OCTAVE), ())[1:]

        def parts(points: Array) -> tuple[Array, Array]:
            found = self.dense(points)[:, None]
            return found, found

        return _refined(start, parts, gap=1.0 / self.micro.pp, most=8 * _MOST_POINTS)

    def prompt(self, tokens: Array, keys: Array) -> tuple[Array, Array]:
        """Return (seconds that prompts add to dense layers, seconds of steps of prompts alone), (p, k) each."""
        rows, zero = tokens[:, None], np.zeros((1, 1))
        return self._beside_dense(rows, np.maximum(keys, 1.0)[None, :], zero, np.ones((1, 1)))

    def decode(self, seqs: Array, context: Array) -> tuple[Array, Array]:
        """Return (seconds that decodes add to dense layers, seconds of steps of decodes alone), (n, c) each."""
        rows, zero = seqs[:, None], np.zeros((1, 1))
        return self._beside_dense(zero, np.ones((1, 1)), rows, np.maximum(context, 1.0)[None, :])

    def _beside_dense(self, prompt: Array, keys: Array, seqs: Array, context: Array) -> tuple[Array, Array]:
        """Return (seconds beside those of dense layers, seconds per step); 0 where a step has no tokens."""
        tokens = self.micro.tokens(prompt, keys, seqs)
        whole = _evaluate(self.time, *(np.where(tokens > 0, a, 1.0) for a in (prompt, keys, seqs, context)))
        beside = whole - np.interp(tokens, self.total, self.table)
        return np.where(tokens > 0, beside, 0.0), whole

    def refined_pair(
        self, of: Callable[[Array, Array], tuple[Array, Array]], rows: Array, columns: Array
    ) -> tuple[Array, Array]:
        """Return both axes of the table `of`, each refined at some values of the other."""
        some_rows, some_columns = (grid(a[-1], dense=2, per_octave=_PROBES_PER_OCTAVE)[1:] for a in (rows, columns))
        some_rows, some_columns = np.minimum(some_rows, rows[-1]), np.minimum(some_columns, columns[-1])
        fine_columns = _refined(columns[1:], lambda c: _turned(of(some_rows, c)), gap=1.0)
        fine_rows = _refined(rows[1:], lambda r: of(r, some_columns), gap=1.0)
        return np.concatenate([[0.0], fine_rows]), np.concatenate([[0.0], fine_columns])

    def shared(self, table: StepTable) -> Array:
        """Return the seconds that steps with prompts and decodes differ from the sum of both in `table`, (P, N)."""
        prompt, seqs = table.some_tokens[1:, None], table.some_seqs[None, 1:]
        where = np.broadcast_arrays(prompt, np.full((1, 1), self.usual.keys), seqs, np.full((1, 1), self.usual.context))
        found = np.zeros(table.shared.shape)
        found[1:, 1:] = _evaluate(self.time, *where) - table._device_time(*where)
        return found


def _refined(axis: Array, parts: _Parts, *, gap: float, most: int = _MOST_POINTS) -> Array:
    """Return the rising `axis` with points added until what lies between two of them is known to `TOLERANCE`.

    An interval is halved where its middle is not, down to multiples of `gap`; at most to `most` points.
    """
    values, begin = parts(axis)[0], np.arange(len(axis) - 1)
    for _ in range(_ROUNDS):
        left, right = axis[begin], axis[begin + 1]
        middle = np.round(0.5 * (left + right) / gap) * gap
        inside = (middle > left) & (middle < right)
        begin, middle = begin[inside], middle[inside]
        if not len(begin) or len(axis) >= most:
            break
        found, whole = parts(middle)
        share = ((middle - left[inside]) / (right - left)[inside])[:, None]
        missed = np.abs((1 - share) * values[begin] + share * values[begin + 1] - found) > TOLERANCE * whole
        bad = missed.any(axis=1)
        axis = np.insert(axis, begin[bad] + 1, middle[bad])
        values = np.insert(values, begin[bad] + 1, found[bad], axis=0)
        first = begin[bad] + np.arange(bad.sum())
        begin = np.sort(np.concatenate([first, first + 1]))
    return axis


def _turned(parts: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return both tables with rows and columns exchanged."""
    return parts[0].T, parts[1].T


def _crowd(floor: Floor | None, tokens: Array, keys: Array) -> Array:
    """Return by how much many prompts in a step raise its least time, s, (p, k)."""
    if floor is None:
        return np.zeros((len(tokens), len(keys)))
    return floor.crowd(tokens[:, None], np.maximum(keys, 1.0)[None, :])


def _evaluate(time: StepTime, *where: Array) -> Array:
    """Return `time` at the points `where`, broadcast against each other; NaN or infinity raises `InputError`."""
    found: Array = np.array(np.broadcast_to(time(*where), np.broadcast_shapes(*(a.shape for a in where))), float)
    if not np.all(np.isfinite(found)):
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
        for axis in _AXES:
            record[axis] = len(getattr(table, axis))
        for name in (*_AXES, "dense", "prompt", "decode", "shared", "floor", "crowd", "take_in", "cut"):
            values = getattr(table, name).ravel()
            record[f"at_{name}" if name in _AXES else name] = at
            numbers.append(values)
            at += len(values)
    return records, np.concatenate(numbers)
