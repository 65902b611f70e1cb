"""How much the gaps between arrivals and the lengths of answers vary, and what follows for the number in service."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.serving.queueing import queue_variability
from perfmodel.workload import POISSON_CV, Load, shorter_of_two

#: Least variance over mean of the number running. Chosen: a replica with a tenth of its room free is then never full.
_LEAST_PEAK = 0.02


class Variation(NamedTuple):
    """State how much arrivals and answers vary: coefficients of variation of gaps between arrivals and of answers.

    (N,) each, or one number
    """

    arrivals: Array | float = 1.0
    answers: Array | float = 1.0

    @property
    def squares(self) -> Array:
        """Return the sum of the squared coefficients of variation."""
        return np.asarray(np.square(self.arrivals) + np.square(self.answers))

    def peakedness(self, running: Array) -> Array:
        """Return the variance over the mean of the number running, `running` on average, where all fit, (N,)."""
        if np.all(np.equal(self.arrivals, POISSON_CV)):
            return np.ones_like(running)
        shorter = shorter_of_two(np.asarray(self.answers, float))
        return np.maximum(eq.peakedness(running, self.arrivals, shorter), _LEAST_PEAK)

    def queued(self, rate: Array, drain: Array) -> Array:
        """Return the mean seconds that those wait who do, (N,): (c_a^2 + c_s^2) / 2 / (drain - rate), as in G/G/1.

        What bursts add does not grow so near full load alone (`equations.burst_wait`). rate, drain: as in
        `admission_wait`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            even = (np.square(np.minimum(self.arrivals, POISSON_CV)) + np.square(self.answers)) / 2.0 / (drain - rate)
        return np.where(rate < drain, even + eq.burst_wait(rate / drain, 1.0 / drain, self.arrivals), np.inf)


#: Poisson arrivals of answers that follow an exponential law.
MARKOV = Variation()


def variation_of(load: Load) -> Variation:
    """Return the variation of the gaps and of the answers of a load."""
    both = queue_variability(load.cv, load.output, load.length_cv, load.mean)
    return Variation(load.cv, np.sqrt(np.maximum(both - np.square(load.cv), 0.0)))
