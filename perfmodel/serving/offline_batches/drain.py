"""Fluid model of an offline batch: how a replica fills from a queue and drains.

The clock counts decode steps and is cut into cells. A sequence that entered `a` steps ago still runs with the
probability that its output is longer than `a` steps. Sequence slots that completions free are filled from the queue as
fast as prompts are prefilled. The batch ends with a tail in which fewer and fewer sequences run, until the longest
output is done.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, clipped, interpolate
from perfmodel.serving.limits import TINY
from perfmodel.serving.offline_batches.drain_cell import (
    SAME,
    FirstCell,
    Work,
    any_running,
    prefill_steps,
    prompts_between,
)
from perfmodel.serving.offline_batches.offline_batch import OfflineBatch
from perfmodel.serving.offline_batches.output_ages import lockstep, running_shares, total
from perfmodel.serving.offline_batches.paces import mean_seconds, pace, seconds_by_age
from perfmodel.serving.served import PACE_LENGTHS, PACE_STARTS
from perfmodel.workload import RANKS, longest, uncut

#: Cells of the clock; more of them change the makespan by less than 1 %.
CELLS = 40
#: The clock runs until the longest of this many times the concurrent outputs would be done: hardly any ends later.
_TAIL_SAMPLES = 20.0
#: A batch has a slowest time per token: its deviations are those of a law whose 99th percentile is that of a uniform
#: one, 1.70 instead of 2.33 standard deviations above the mean.
_EVEN = 1.70 / 2.33
#: Seconds that no step is shorter than.
_TINY_SECONDS = 1e-12
#: Most that a pass over the requests that arrive during a cell, and its seconds, moves by the one before. Chosen:
#: beyond it more arrive than are served, and as many as there are.
_MOST_RISE = 0.98
#: Passes from where those before it would settle. Chosen: more of them move no wait by some per cent.
_LAST_PASSES = 2
#: Parts of the time that requests take to arrive, in which the batch is as full as in their middles.
_ARRIVAL_PARTS = 4
#: Standard deviations below full at which every second request finds a queue. Chosen: of the requests of a run at its
#: capacity, seven of ten do.
_NEARLY_FULL = 0.5
#: Margin on the tail's length, so that the last cell holds its end.
_TAIL_MARGIN = 1.02
#: A batch of more than this many times `max_running` requests is extrapolated from its middle beyond that.
_SIMULATED_FILLS = 3.0


@dataclass(frozen=True)
class Drained:
    """Report how an offline batch went on N candidates, for C request classes.

    first: mean seconds until a prompt is prefilled, (N,). makespan: seconds until the last output ends, (N,). tpot:
    mean seconds of the decode steps of all requests, (C, N). running: mean sequences in a decode step, weighted by the
    tokens that it makes, (N,). step: mean seconds of a decode step, weighted alike, (N,). entry: seconds until each of
    the Q shares `workload.RANKS` of all prompts is prefilled, (Q, N). settling: mean seconds that a request loses,
    once, to prompts that were admitted together with its own, part of tpot, (N,). together: share of such requests,
    (N,). drift: standard deviation over mean of tpot by when a request was admitted, (N,). pace: mean seconds per
    decode step, but for settling, of requests with `PACE_AT` times the mean number of them, over that of all steps,
    (K, N). pace_by_start: as in `TokenShape`, where prompts that arrive one after another go first; 1 where `pace` is
    not. full: share of the requests that find a replica as full as it gets, or a queue, by chance where there
    is none on average, (N,).
    """

    first: Array
    makespan: Array
    tpot: Array
    running: Array
    step: Array
    entry: Array
    settling: Array
    together: Array
    drift: Array
    pace: Array
    full: Array
    pace_by_start: Array


def drain(batch: OfflineBatch) -> Drained:
    """Simulate how a replica works `batch` off, with requests treated as a fluid rather than one by one."""
    played = np.minimum(batch.count, _SIMULATED_FILLS * batch.max_running)
    run = _Run(batch, played)
    for cell in range(CELLS):
        run.advance(cell)
    return _extrapolated(run)


def decode_steps(batch: OfflineBatch, played: Array) -> Array:
    """Return an upper bound on the decode steps of `played` requests, from the first prompt to the last token. (N,)

    Derived: steps to prefill all prompts where they share steps with decodes, one mean output for each refill of the
    batch, and the longest output of the last fill; before that, steps while requests arrive, of a batch that fills.
    """
    outputs, prefill = batch.outputs, batch.prefill
    mean = np.sum(outputs.mean * outputs.share, axis=0)
    concurrent = np.minimum(played, batch.max_running)
    before, spread = uncut(outputs.mean, outputs.cv, outputs.longest)
    tail = np.max(longest(before, spread, np.maximum(concurrent, 1.0) * _TAIL_SAMPLES), axis=0)
    tail = np.minimum(tail * _TAIL_MARGIN, np.maximum(outputs.longest, mean)) + 1.0
    filling = 0.0 if prefill.separate else played / prefill.per_step(concurrent)
    refills = np.ceil(played / batch.max_running - SAME) - 1.0
    parts = (np.arange(_ARRIVAL_PARTS)[:, None] + 0.5) / _ARRIVAL_PARTS
    step = batch.curve.at(np.maximum(parts * concurrent, 1.0))
    arriving = played * batch.gap * np.mean(1.0 / (step + prompts_between(batch, step)), axis=0)
    return np.asarray(arriving + filling + refills * mean + tail)


class _Run:
    """Simulate an offline batch cell by cell. Columns are (N,), or (CELLS, N) where there is a value per cell.

    played: requests that are simulated. width: decode steps per cell. instant, gradual: requests admitted in each cell,
    at its start and evenly over it. delays: seconds per cell that admitted requests meet at each age, summed over them.
    clock: seconds elapsed. entered: requests admitted. first: sum of their times to prefill. made, squares, spent: sums
    over cells of running sequences, of their squares, and of sequences x step time. settled: seconds that requests lose
    to prompts admitted with theirs, summed over them; together: their number. clocks: seconds elapsed when the first
    and the last group of prompts of each cell is done; counts: requests admitted before and in the cell, in the same
    order. lasted: seconds of each cell to a request that runs all of it. crowded: requests of each cell, and the chance
    that they find the replica full. used: what earlier requests hold of the KV cache, in sequences of mean length.
    """

    def __init__(self, batch: OfflineBatch, played: Array) -> None:
        self.batch, self.played = batch, played
        self.width = decode_steps(batch, played) / CELLS
        self.whole, self.half = running_shares(batch.outputs, self.width, CELLS)
        self.lockstep, self.spread = lockstep(batch.outputs), batch.spread
        self.instant, self.gradual, self.delays = (np.zeros((CELLS, len(played))) for _ in range(3))
        self.clock, self.entered, self.first = (np.zeros_like(self.width) for _ in range(3))
        self.made, self.squares, self.spent = (np.zeros_like(self.width) for _ in range(3))
        self.settled, self.together = (np.zeros_like(self.width) for _ in range(2))
        self.clocks: list[Array] = []
        self.counts: list[Array] = []
        self.lasted: list[Array] = []
        self.crowded: list[tuple[Array, Array]] = []
        self.used = np.zeros_like(self.width)

    def advance(self, cell: int) -> None:
        """Simulate one cell: admit requests, prefill them, and decode the running sequences."""
        ages = slice(cell, 0, -1)
        older = total(self.instant[:cell], self.whole[ages]) + total(self.gradual[:cell], self.half[ages])
        self.used = self._used(cell)
        work = self._cell(cell, older)
        if np.any(np.asarray(self.batch.gap) > 0.0):
            self.crowded.append((work.came, self._chance_of_full(work)))
        self.instant[cell], self.gradual[cell] = work.came * (1.0 - work.over), work.came * work.over
        self.first = self.first + work.came * (self.clock + work.filling)
        self._delay(cell, work)
        self.lasted.append(work.met + work.prompts)
        self.clocks += [self.clock + work.group, self.clock + work.prompts + work.beside]
        self.counts += [self.entered, self.entered + work.came]
        self.entered = self.entered + work.came
        self.clock = self.clock + work.decoding + work.prompts
        at_once = work.running / work.stretch
        self.made, self.squares = self.made + work.running, self.squares + work.running * at_once
        self.spent = self.spent + at_once * work.met / self.width

    def _cell(self, cell: int, older: Array) -> Work:
        """Return what a cell does beside `older` sequences, (N,)."""
        if self.batch.first is not None:
            rate, left = 1.0 / np.asarray(self.batch.gap), self.played - self.entered
            waiting = clipped(np.minimum(self.clock * rate + 1.0, self.played) - self.entered, 0.0, left)
            cell_of = FirstCell(self.batch, self.batch.first, self.width, (self.whole[0], self.half[0]), self.lockstep)
            return cell_of.work((older, self.used), self.entered, (waiting, left))
        lasting = self.width * self.batch.curve.at(np.maximum(older, 1.0))
        work = self._work(older, self._admitted(cell, older, lasting))
        if np.any(np.asarray(self.batch.gap) > 0.0):  # how many arrive depends on how long the cell lasts
            once = work.decoding + work.prompts
            work = self._work(older, self._admitted(cell, older, once))
            lasting = settled(lasting, once, work.decoding + work.prompts)
            # prompts lengthen it by less once each of its steps has some, where the passes went on too far
            for _ in range(_LAST_PASSES):
                work = self._work(older, self._admitted(cell, older, lasting))
                lasting = work.decoding + work.prompts
        return work

    def _work(self, older: Array, admitted: tuple[Array, ...]) -> Work:
        """Return what a cell does in which `admitted` requests come (see `_admitted`) beside `older` ones, (N,)."""
        batch, prefill, (came, over, packed, early, per_step, beyond) = self.batch, self.batch.prefill, admitted
        running = older + came * ((1.0 - over) * self.whole[0] + over * self.half[0])
        held, stretch = batch.places.crowding(batch.max_running, running - older, self.used)
        met = self.width * batch.curve.at(running / stretch) * stretch  # by a request that runs: then the replica does
        decoding = met * any_running(running, np.maximum(self.entered + came, 1.0))
        at_once = (over < 1.0 - SAME) | self.lockstep
        steps = prefill_steps(came, per_step, self.width, at_once=at_once)
        # those that come as they arrive do not gather, also where all answers are equally long
        apart = prefill_steps(came, per_step, self.width, at_once=np.zeros_like(at_once))
        scattered = np.maximum(over - packed, packed * self.spread)
        steps = steps + scattered * np.maximum(apart - steps, 0.0)
        prompts = prefill.seconds(came, steps, running, batch.curve, at_once=at_once * (1.0 - scattered))
        prompts = np.maximum(prompts, came * prefill.alone - decoding)
        # whole steps carry prompts, also where these fill a part of one
        beside, within = (
            0.0 if prefill.separate else clipped(steps, share * self.width, self.width) / self.width * decoding
            for share in (over, packed)
        )
        # a prompt is done with its group; those that come as they arrive wait for no group but that of their own steps
        group = (prompts + within) / np.maximum(came / np.maximum(per_step, 1.0), 1.0)
        filling = (prompts + beside + group) / 2.0
        return Work(
            *(came, over, running, met, decoding, prompts, beside + np.zeros_like(prompts), group, filling, beyond),
            *(held, stretch, early, np.maximum(per_step, 1.0)),
        )

    def _used(self, cell: int) -> Array:
        """Return what the sequences of earlier cells hold of the KV cache, in sequences of mean length, (N,)."""
        places, ages = self.batch.places, slice(cell, 0, -1)
        held = places.young + places.growth * np.arange(CELLS)[:, None] * self.width
        whole, half = ((share * held)[ages] for share in (self.whole, self.half))
        return total(self.instant[:cell], whole) + total(self.gradual[:cell], half)

    def _delay(self, cell: int, work: Work) -> None:
        """Add the seconds of a cell, its decode steps and its prompts, to the delays of those admitted so far.

        Derived: steps of age j cells are in cell j after their own where requests were admitted at the start of a cell,
        and half of them in the next one where they were admitted evenly over it. No request is delayed by its own
        prompt. Those whose prompts are computed at the start of this cell meet on average half of the other groups of
        prompts, all before they decode far: however short their answer is.
        """
        met, prompts, came = work.met, work.prompts, np.maximum(work.came, 1.0)
        whole, halves = self.instant[: cell + 1][::-1], self.gradual[: cell + 1][::-1] / 2.0
        self.delays[: cell + 1] += (whole + halves) * (met + prompts)
        self.delays[0] -= (whole[0] + halves[0] * (work.early + (1.0 - work.early) / came)) * prompts
        early = whole[0] + self.gradual[cell] * work.early
        self.settled = self.settled + early * prompts * np.maximum(1.0 - work.abreast / came, 0.0) / 2.0
        self.together = self.together + early
        self.delays[:cell] += halves[1:] * (met + prompts)

    def _admitted(self, cell: int, older: Array, lasting: Array) -> tuple[Array, ...]:
        """Return (requests admitted in a cell, share of the cell over which they come, the same if all were there,
        `Work.early`, prompts per step, requests that would be admitted if slots were free), (N,) each.

        They come at once where slots are free, else as other sequences end. `older` is the number of running sequences
        that were admitted in earlier cells, (N,). lasting: seconds of the cell, (N,).
        """
        batch, prefill = self.batch, self.batch.prefill
        per_step = prefill.per_step(older)
        free = np.maximum(batch.places.free(batch.max_running, older, self.used), 0.0)
        waiting, fresh = self._arrived(lasting)
        left = waiting + fresh
        able = left if prefill.separate else np.minimum(left, per_step * self.width)
        came = np.minimum(able, free)
        over = np.zeros_like(came) if prefill.separate else np.minimum(came / (per_step * self.width), 1.0)
        # those that arrive during the cell come for as long as they arrive
        spread = np.minimum(fresh * batch.gap / np.maximum(lasting, _TINY_SECONDS), 1.0)
        late = spread * clipped(came - waiting, 0.0, fresh) / np.maximum(came, SAME)
        full = (left > free + SAME * batch.max_running) & (cell > 0)
        early = np.where(full, 0.0, 1.0 - late)
        parts = (np.where(full, 1.0, share) for share in (np.maximum(over, late), over))
        return came, *parts, early, per_step, able - came

    def _chance_of_full(self, work: Work) -> Array:
        """Return the chance that the requests of a cell find the replica full, (N,).

        Derived: the number in the replica, with those that wait for a slot, is normal around that of the clock, and its
        variance is that where all fit (`equations.peakedness`). A replica that is full on average has a queue most of
        the time.
        """
        batch, number = self.batch, work.held + work.beyond * self.batch.places.young
        deviation = np.sqrt(np.maximum(work.running, 1.0) * batch.variation.peakedness(work.running))
        return eq.normal_chance((number + 0.5 - batch.max_running) / deviation + _NEARLY_FULL)

    def _arrived(self, lasting: Array) -> tuple[Array, Array]:
        """Return the requests that wait at the start of a cell of `lasting` seconds, and those that arrive during it.

        (N,) each
        """
        left, gap = self.played - self.entered, np.asarray(self.batch.gap)
        with np.errstate(divide="ignore", invalid="ignore"):
            there = np.where(gap > 0.0, np.minimum(self.clock / gap + 1.0, self.played), self.played)
            coming = np.where(gap > 0.0, lasting / gap, 0.0)
        waiting = clipped(there - self.entered, 0.0, left)
        return waiting, np.minimum(coming, left - waiting)


def settled(first: Array, second: Array, third: Array) -> Array:
    """Return the seconds that a sequence of passes ends at, (N,), each of which moves the same part of the one before.

    Never below nought, which passes that fall by nearly the same each time would reach. Aitken's delta-squared process
    (Proc. R. Soc. Edinburgh 46, 1927).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = np.nan_to_num((third - second) / (second - first), posinf=_MOST_RISE)
    return np.maximum(second + (third - second) / (1.0 - clipped(rise, 0.0, _MOST_RISE)), 0.0)


def _extrapolated(run: _Run) -> Drained:
    """Extend the results of a partly simulated batch to all its requests.

    The requests that were not simulated are assumed to go on as in the middle of those that were, no faster than they
    arrive. Where the replica is full then, their tokens take no less than those of the simulated ones, some of which
    meet it filling or draining.
    """
    batch, tokens = run.batch, run.width * run.made
    counts, clocks = np.stack(run.counts), np.stack(run.clocks)
    gap, (found_full, ends_full) = np.maximum(batch.steady.request_gap, batch.gap), _full(run)
    rest = np.maximum(batch.count - counts[-1], 0.0)
    end = counts[-1] * (1.0 - SAME)  # where the count stays, the moment that it is reached
    last = interpolate(counts, clocks, end)
    part = rest / batch.count  # of the requests
    more = rest * np.sum(batch.outputs.mean * batch.outputs.share, axis=0)
    made = np.maximum(run.made, TINY)  # none by a lone request whose answer is in its first cell
    full = np.where(tokens + more > 0.0, more / np.maximum(tokens + more, TINY), 1.0)  # of them, by a full replica
    ranked = np.array(list(RANKS.values()))[:, None] * batch.count
    late = np.maximum(ranked - counts[-1], 0.0) * gap
    entry = np.stack([interpolate(counts, clocks, np.minimum(r, end)) for r in ranked]) + late
    settling = run.settled / run.entered
    by_age = seconds_by_age(run.delays, run.instant, run.gradual, run.width)
    decode = mean_seconds(batch.outputs, run.width, by_age)
    tpot = decode + settling / batch.outputs.mean
    paces = pace(batch.outputs, run.width, by_age, decode)
    usual = np.average(decode, axis=0, weights=np.broadcast_to(batch.outputs.mean * batch.outputs.share, decode.shape))
    return Drained(
        first=(1.0 - part) * (run.first / run.played) + part * (last + rest * gap / 2.0),
        makespan=run.clock + rest * gap,
        tpot=tpot + part * ends_full * np.maximum(batch.steady.tpot - tpot, 0.0),
        running=(1.0 - full) * (run.squares / made) + full * batch.steady.running,
        step=(1.0 - full) * (run.spent / made) + full * batch.steady.step,
        entry=entry,
        settling=(1.0 - part) * settling,
        together=(1.0 - part) * run.together / run.entered,
        drift=(1.0 - part) * _EVEN * _drift(run),
        pace=np.ones_like(paces) if batch.first is not None else (1.0 - part) * paces + part,
        full=(1.0 - part) * found_full + part * ends_full,
        pace_by_start=1.0 + (1.0 - part) * (_pace_by_start(run, usual) - 1.0),
    )


def _full(run: _Run) -> tuple[Array, Array]:
    """Return the share of the simulated requests that find the replica full, and that chance at its highest, (N,) each.

    All requests that are queued at the start meet a full replica.
    """
    if not run.crowded:
        return np.ones_like(run.width), np.ones_like(run.width)
    came, chance = (np.stack(column) for column in zip(*run.crowded, strict=True))
    share = total(came, chance) / np.maximum(came.sum(axis=0), SAME)
    most = np.where(came > 0.0, chance, 0.0).max(axis=0)
    late = np.asarray(run.batch.gap) > 0.0
    return np.where(late, share, 1.0), np.where(late, most, 1.0)


def _drift(run: _Run) -> Array:
    """Return the standard deviation over mean of the seconds per decode step of requests by when they began, (N,).

    Requests of mean length that began after equal shares of all that were admitted stand for all; each has the mean
    step of the cells that it runs in. The first cell is left out of that of those that began at its start, who lose
    different parts of it (`settling`).
    """
    each = _by_start(run, np.ones(1))[:, 0]
    return np.asarray(each.std(axis=0) / np.maximum(each.mean(axis=0), _TINY_SECONDS))


def _pace_by_start(run: _Run, usual: Array) -> Array:
    """Return the seconds per decode step of requests by when they began and how long they are, over `usual`, (S, L, N).

    1 where all requests are there at the start, and where steps carry prompts: there no answer meets more than one step
    in a row makes of them. usual: mean seconds per decode step of all requests, (N,).
    """
    if run.batch.first is None:
        return np.ones((len(PACE_STARTS), len(PACE_LENGTHS), len(run.width)))
    return _by_start(run, PACE_LENGTHS) / np.maximum(usual, _TINY_SECONDS)


def _by_start(run: _Run, lengths: Array) -> Array:
    """Return the mean seconds per decode step of requests that begin at `PACE_STARTS`, (S, L, N).

    lengths: decode steps that they run, in means, (L,).
    """
    outputs, width = run.batch.outputs, run.width
    steps = np.arange(CELLS + 1)[:, None] * width
    passed = np.concatenate([np.zeros((1, len(width))), np.cumsum(np.stack(run.lasted), axis=0)])
    admitted = np.concatenate([np.zeros((1, len(width))), np.stack(run.counts)[1::2]])
    long = np.sum(outputs.mean * outputs.share, axis=0)
    found = np.empty((len(PACE_STARTS), len(lengths), len(width)))
    for s, part in enumerate(PACE_STARTS):
        begin = interpolate(admitted, steps, part * admitted[-1])
        for k, length in enumerate(lengths):
            end = np.minimum(begin + length * long, steps[-1])
            taken = interpolate(steps, passed, end) - interpolate(steps, passed, begin)
            found[s, k] = taken / np.maximum(end - begin, SAME)
    return found
