"""Whether a simulation keeps its objectives, and whether that is certain."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.simulator.measurement.metrics import holds, latency, margins, unstable
from perfmodel.simulator.measurement.window import window
from perfmodel.simulator.simulation import OVERLOAD, Simulation
from perfmodel.workload import Slo


class Verdict(NamedTuple):
    """Whether all objectives are kept, and whether the 95 % intervals of the run leave no doubt about it."""

    kept: bool
    certain: bool


def judged(simulation: Simulation, slo: Slo) -> Verdict:
    """Judge a run by `slo`: all objectives over the measurement window, and a queue that does not grow without end.

    A finite load (a trace) is judged as it is, and always for certain. A stationary load misses for certain where the
    queue grows or the interval of a figure lies above its limit; it keeps them for certain where the run is settled and
    all intervals lie below.
    """
    kept = holds(simulation, slo) and not any(n.startswith(OVERLOAD) for n in simulation.notes)
    if not simulation.traffic.stationary or simulation.rejected.any() or unstable(simulation):
        return Verdict(kept, True)
    if simulation.warm_up is None or not simulation.warm_up.settled:
        return Verdict(kept, False)
    seen, sure = window(simulation), True
    for o in slo.objectives:
        value, known = (f(simulation, o.metric, seen).at(o.statistic) for f in (latency, margins))
        if value - known > o.limit:
            return Verdict(False, True)
        sure &= value + known <= o.limit
    return Verdict(kept, bool(sure))
