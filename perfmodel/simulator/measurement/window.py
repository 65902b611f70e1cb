"""The part of a run that is measured: all figures of a simulation are taken over one and the same window of time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.simulator.request_traffic.requests import Traffic, Whole
from perfmodel.simulator.simulation import Simulation, run_ends
from perfmodel.simulator.stationarity.steady import SLICES

#: Requests that must end within the steady part; with fewer, the whole run is measured. Chosen: one per slice.
_LEAST_MEASURED = SLICES
#: What is measured of a stationary load.
STEADY = "steady state: warm-up (found by MSER-5) and drain are left out"


@dataclass(frozen=True)
class Window:
    """Holds the time in which a run is measured: requests count whose last token falls into it.

    Attributes:
        begin, end: s.
        steady: True where warm-up and drain are left out, False where the whole run counts.
        basis: What is measured and why, in words.
        counted: (R,) which requests count.
        asked: (R,) which requests an SLO is judged by: those that count, and those that were rejected.
        finish: (R,) s, last token of each request.
    """

    begin: float
    end: float
    steady: bool
    basis: str
    counted: Mask
    asked: Mask
    finish: Array

    @property
    def span(self) -> float:
        """Return its length, s."""
        return self.end - self.begin

    def slices_of(self, times: Array) -> Whole:
        """Return the time slice that each of `times` (s) falls into, 0 to SLICES - 1; -1 outside the window."""
        place = np.ceil((times - self.begin) / self.span * SLICES) - 1
        inside = (times > self.begin) & (times <= self.end)
        found: Whole = np.where(inside, np.clip(np.nan_to_num(place), 0, SLICES - 1), -1).astype(np.int64)
        return found

    @cached_property
    def slices(self) -> Whole:
        """Return the time slice in which each request ended, -1 where it does not count. (R,)"""
        return self.slices_of(self.finish)


def window(simulation: Simulation, *, whole: bool = False) -> Window:
    """Return the measurement window of a run.

    Requests drawn from an open workload or for a fixed number of clients are a stationary load, unless the workload
    states their number: the warm-up (found by MSER-5) and the drain after the last arrival are left out. A trace, an
    offline batch and a stated number of requests, with the opening burst of a closed loop, are finite and measured as a
    whole; so is a load of too few requests. whole: measure all of it in any case.
    """
    cut, finish = simulation.warm_up, simulation.finish
    if cut is not None and not whole:
        counted = (finish > cut.end) & (finish <= cut.last_arrival)
        if counted.sum() >= _LEAST_MEASURED:
            refused = simulation.rejected & ~(simulation.traffic.arrival <= cut.end)
            return Window(cut.end, cut.last_arrival, True, STEADY, counted, counted | refused, finish)
    begin, end = float(np.nanmin(simulation.issued)), float(np.nanmax(finish))
    everything = np.ones(len(simulation.traffic), bool)
    basis = f"whole run: {'as asked' if whole else _why_whole(simulation.traffic)}"
    return Window(begin, end, False, basis, simulation.served, everything, finish)


def _why_whole(traffic: Traffic) -> str:
    """Say why a run of `traffic` is measured as a whole."""
    if traffic.stationary:
        return "too few requests for a steady part"
    if traffic.concurrency:
        return "a closed loop of a given number of requests, its opening burst included as in the closed form"
    return "these requests have a beginning and an end" if np.isfinite(traffic.rate) else "all requests arrive at once"


def usage(simulation: Simulation, seen: Window) -> dict[str, float]:
    """Return means over the time of the window, summed over replicas: `kv_share`, `waiting`, `running`.

    kv_share: share of all KV blocks in use. waiting, running: requests. Each run of steps counts with the numbers of
    the moment when it was planned, for the time that it lasts within the window.
    """
    runs = simulation.runs
    lasted = np.clip(np.minimum(run_ends(runs), seen.end) - np.maximum(runs["start"], seen.begin), 0.0, None)
    mean = {name: float(lasted @ runs[name]) / seen.span for name in ("used", "waiting", "running")}
    blocks = sum(p.kv_blocks * p.replicas for p in simulation.pools)
    return {"kv_share": mean["used"] / blocks, "waiting": mean["waiting"], "running": mean["running"]}
