"""Watts of every replica over time: the power of a device by what each logged step does, ready watts between steps.

Steps are priced by the same cost model as their times, and their watts come from `perfmodel.power.mean_power`, as those
of the closed form do. Steps that are alike are priced once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.simulator.replica_pools.step_power import DevicePower, Steps
from perfmodel.simulator.simulation import Simulation, run_durations, run_ends

#: What a device does at a moment, by the kind of step under way.
PHASES = ("prefill", "decode", "mixed", "idle")
PREFILL, DECODE, MIXED, IDLE = range(len(PHASES))
#: Kinds of step priced per pool at most. Chosen: some tenths of a second.
_MOST_KINDS = 4096
#: Classes of a quantity per doubling, at first, within which steps count as alike. Chosen: 4 % apart.
_PER_OCTAVE = 16.0


def watts_of_runs(simulation: Simulation) -> Array:
    """Return the mean watts of a device during each logged run, (D,); NaN in pools without power."""
    runs, found = simulation.runs, np.full(len(simulation.runs), np.nan)
    for pool, mine in zip(simulation.pools, _rows_by_pool(simulation), strict=True):
        if pool.power is not None and len(mine):
            found[mine] = _watts(pool.power, runs[mine])
    return found


def phases_of_runs(runs: NDArray[np.void]) -> NDArray[np.int64]:
    """Return the phase of each logged run, codes of `PHASES`, (D,)."""
    found: NDArray[np.int64] = np.where(
        runs["prompt"] > 0, np.where(runs["active"] > 0, MIXED, PREFILL), DECODE
    ).astype(np.int64)
    return found


def _rows_by_pool(simulation: Simulation) -> list[NDArray[np.int64]]:
    """Return the rows of the log of each pool's replicas, which are numbered through all pools."""
    bounds = np.cumsum([0, *(p.replicas for p in simulation.pools)])
    pool = np.searchsorted(bounds, simulation.runs["replica"], side="right") - 1
    return [np.flatnonzero(pool == n) for n in range(len(simulation.pools))]


def _watts(power: DevicePower, runs: NDArray[np.void]) -> Array:
    """Return the watts of a device during each run of one pool, (D,); steps that are alike are priced once."""
    steps, batch = runs["steps"].astype(float), runs["batch"].astype(float)
    middle = runs["context"] + 0.5 * (steps - 1.0) * batch
    columns = Steps(
        runs["prompt"].astype(float),
        runs["keys"].astype(float),
        batch,
        middle / np.maximum(batch, 1.0),
        run_durations(runs) / np.maximum(steps, 1.0),
    )
    kind, count = _alike(np.stack(columns[:-1]))
    each = np.bincount(kind, minlength=count)
    means = Steps(*(np.bincount(kind, values, count) / each for values in columns))
    return np.asarray(power.busy(means))[kind]


def _alike(columns: Array) -> tuple[NDArray[np.int64], int]:
    """Return (kind of each step, number of kinds) of steps described by the rows of `columns`, (4, D)."""
    fine = _PER_OCTAVE
    while True:
        classes = np.round(np.log2(columns + 1.0) * fine).astype(np.int64)
        key = np.zeros(columns.shape[1], np.int64)
        for values in classes:
            key = key * (int(values.max(initial=0)) + 1) + values
        kinds, kind = np.unique(key, return_inverse=True)
        if len(kinds) <= _MOST_KINDS or fine < 1.0:
            return kind.astype(np.int64), len(kinds)
        fine /= 2.0


@dataclass(frozen=True)
class ReplicaPower:
    """Hold what one device of a replica draws over time; all devices of a replica draw the same.

    start, end, watts, phase: (D,) of each run, in order of time. ready: watts between runs. devices: of the replica.
    pool: its name.
    """

    start: Array
    end: Array
    watts: Array
    phase: NDArray[np.int64]
    ready: float
    devices: float
    pool: str

    def joules(self, edges: Array) -> Array:
        """Return the joules of a device between successive `edges` (s, rising), (T - 1,)."""
        return self.ready * np.diff(edges) + self._between(edges, self.watts - self.ready)

    def seconds(self, edges: Array, phase: int) -> Array:
        """Return the seconds in a phase, a code of `PHASES`, between successive `edges`, (T - 1,)."""
        if phase == IDLE:
            return np.diff(edges) - self._between(edges, np.ones_like(self.watts))
        return self._between(edges, (self.phase == phase).astype(float))

    def joules_in(self, begin: float, end: float, phase: int) -> float:
        """Return the joules of a device that a phase takes from `begin` to `end`, s."""
        edges = np.array([begin, end])
        if phase == IDLE:
            return self.ready * float(self.seconds(edges, IDLE)[0])
        return float(self._between(edges, np.where(self.phase == phase, self.watts, 0.0))[0])

    def _between(self, edges: Array, rate: Array) -> Array:
        """Integrate what accrues at `rate` during each run, (D,), between successive edges."""
        if not len(self.start):
            return np.zeros(len(edges) - 1)
        times = np.stack([self.start, self.end], axis=1).ravel()
        whole = np.cumsum(rate * (self.end - self.start))
        total = np.stack([np.concatenate([[0.0], whole[:-1]]), whole], axis=1).ravel()
        return np.diff(np.interp(edges, times, total))

    def spent(self, begin: float, end: float) -> tuple[Array, Array]:
        """Return (watts of a device, seconds that it draws them) from `begin` to `end`, (D + 1,) each."""
        inside = np.clip(np.minimum(self.end, end) - np.maximum(self.start, begin), 0.0, None)
        idle = max(end - begin - float(inside.sum()), 0.0)
        return np.append(self.watts, self.ready), np.append(inside, idle)


def replica_power(simulation: Simulation) -> list[ReplicaPower]:
    """Return the power over time of each replica, in their order; [] where the power of a pool is not known."""
    if any(p.power is None for p in simulation.pools):
        return []
    watts, runs = watts_of_runs(simulation), simulation.runs
    end, phase = run_ends(runs), phases_of_runs(runs)
    owners = [p for p in simulation.pools for _ in range(p.replicas)]
    order = np.argsort(runs["replica"], kind="stable")
    bounds = np.searchsorted(runs["replica"][order], np.arange(len(owners) + 1))
    found = []
    for replica, pool in enumerate(owners):
        mine, power = order[bounds[replica] : bounds[replica + 1]], pool.power
        if power is not None:
            found.append(
                ReplicaPower(
                    runs["start"][mine], end[mine], watts[mine], phase[mine], power.ready, power.devices, pool.name
                )
            )
    return found
