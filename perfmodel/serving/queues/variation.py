"""How much the gaps between arrivals and the lengths of answers vary, and what follows for the number in service."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.serving.queues.queueing import queue_variability
from perfmodel.workload import POISSON_CV, Load, shorter_of_two

#: Least variance over mean of the number running. Chosen: a replica with a tenth of its room free is then never full.
_LEAST_PEAK = 0.02
#: Squared coefficient of variation of gaps, less that of Poisson's, from which they come in bursts: above rounding.
_LEAST_EXCESS = 1e-9


class Variation(NamedTuple):
    """State how much arrivals and answers vary: coefficients of variation of gaps between arrivals and of answers.

    requests: of the run, infinite without end. (N,) each, or one number
    """

    arrivals: Array | float = 1.0
    answers: Array | float = 1.0
    requests: Array | float = np.inf

    @property
    def bursts(self) -> Array:
        """Return the coefficient of variation of gaps without end that gives bursts as large as those of the run.

        Derived: in bursts of a geometric size with mean z = (1 + c^2) / 2, a request has z - 1 requests of its burst
        before it on average. The j-th request of a run has at most j - 1 before it, which leaves a mean of
        (z - 1) (1 - q^(j - 1)) with q = 1 - 1/z. The mean over a run of n is (z - 1) (1 - z (1 - q^n) / n). Gaps that
        are at least as even as Poisson's are not corrected.
        """
        excess = np.square(np.asarray(self.arrivals, float)) - 1.0
        size = 1.0 + np.maximum(excess, _LEAST_EXCESS) / 2.0
        left = 1.0 + size * np.expm1(self.requests * np.log1p(-1.0 / size)) / np.maximum(self.requests, 1.0)
        return np.where(excess > _LEAST_EXCESS, np.sqrt(1.0 + np.maximum(excess * left, 0.0)), self.arrivals)

    @property
    def squares(self) -> Array:
        """Return the sum of the squared coefficients of variation."""
        return np.asarray(np.square(self.arrivals) + np.square(self.answers))

    def peakedness(self, running: Array) -> Array:
        """Return the variance over the mean of the number running, `running` on average, where all fit, (N,)."""
        if np.all(np.equal(self.arrivals, POISSON_CV)):
            return np.ones_like(running)
        shorter = shorter_of_two(np.asarray(self.answers, float))
        return np.maximum(eq.peakedness(running, self.bursts, shorter), _LEAST_PEAK)

    def queued(self, rate: Array, drain: Array) -> Array:
        """Return the mean wait of the requests that wait at all, seconds, (N,): (c_a^2 + c_s^2) / 2 / (drain - rate).

        This is the G/G/1 queue. Bursts add a term that does not only grow near full load (`equations.burst_wait`).
        rate, drain: as in `admission_wait`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            even = (np.square(np.minimum(self.arrivals, POISSON_CV)) + np.square(self.answers)) / 2.0 / (drain - rate)
        return np.where(rate < drain, even + eq.burst_wait(rate / drain, 1.0 / drain, self.bursts), np.inf)


#: Poisson arrivals of answers that follow an exponential law.
MARKOV = Variation()


def variation_of(load: Load) -> Variation:
    """Return the variation of the gaps and of the answers of a load, and the requests of its run."""
    both = queue_variability(load.cv, load.output, load.length_cv, load.mean)
    requests = np.where(np.isfinite(load.n_requests), load.n_requests, np.inf)
    return Variation(load.cv, np.sqrt(np.maximum(both - np.square(load.cv), 0.0)), requests)
