"""Waits of a closed loop for a place in the batch, where more clients are in flight than sequences run at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.serving.queues.queueing import queue_variability
from perfmodel.workload import RANKS, Load


@dataclass(frozen=True)
class PlaceQueue:
    """Describe the queue for a place, (N,).

    steady: seconds that a client queues in the middle of a run. residence: seconds of a request in its place. none,
    rising: share of the requests of the run that find a place at its start, and of those of the opening burst that do
    not. late: part of a residence by which completions of the first requests, which begin together, are late against
    completions that are spread evenly. varied: coefficient of variation of the steady wait.
    """

    steady: Array
    residence: Array
    none: Array
    rising: Array
    late: Array
    varied: Array

    @property
    def mean(self) -> Array:
        """Return the mean seconds over the requests of a run, (N,).

        Derived: those of the opening burst queue for 1 to all of the others' completions, half of the steady wait on
        average, and as much longer as these are late.
        """
        rising = self.rising * (self.steady / 2.0 + self.late * self.residence)
        return np.asarray(rising + (1.0 - self.none - self.rising) * self.steady)

    @property
    def by_rank(self) -> Array:
        """Return the waits at the Q ranks `workload.RANKS`, seconds, (Q, N).

        Derived: those of the opening burst are uniform. Later ones are that of a fixed number of completions, whose
        gaps vary as output lengths do.
        """
        ranks = np.array(list(RANKS.values()))[:, None]
        later = np.maximum(1.0 - self.none - self.rising, 0.0)
        # a run of one round has no later ones
        part = np.where(later > 0.0, (ranks - self.none - self.rising) / np.where(later > 0.0, later, 1.0), -1.0)
        deviate = eq.normal_deviate(np.clip(part, *_INSIDE))
        usual = self.steady * np.maximum(1.0 + deviate * self.varied, 0.0)
        place = (ranks - self.none) / np.where(self.rising > 0.0, self.rising, 1.0)
        opening = place * self.steady + self.late * self.residence
        waits = np.where(part > 0.0, usual, np.where(place > 0.0, opening, 0.0))
        return np.asarray(np.maximum.accumulate(waits, axis=0))


#: Ranks that a normal law is read at. Chosen: it has none at 0 and 1.
_INSIDE = (1e-9, 1.0 - 1e-9)


def place_queue(load: Load, counts: tuple[Array, Array], residence: Array, front: Array) -> PlaceQueue:
    """Return the queue for a place of a closed loop.

    Derived: by Little's law the batch completes a request every residence / running seconds, and clients - running are
    ahead; the front end's time passes meanwhile. In a run, the first `running` requests of the opening burst find a
    place. They begin together: the time of the n-th completion of renewal processes that begin together is later than
    n / rate by (1 - c^2) / 2 of a residence, where c is the coefficient of variation of residences (Cox, Renewal
    Theory, 1962, section 4.2), less what places are too few to show: one of them ends at a time.

    Args:
        load: load of one replica.
        counts: clients, and sequences that run at once, (N,) each.
        residence: seconds that an admitted request spends in the batch, (N,).
        front: the front end's time per request, seconds, (N,).
    """
    clients, running = counts
    beyond = np.maximum(clients - running, 0.0)
    squared = queue_variability(np.zeros_like(beyond), load.output, load.length_cv, load.mean)
    share = np.where(beyond > 0.0, 1.0 / np.maximum(load.requests_per_client, 1.0), 0.0)
    return PlaceQueue(
        steady=np.maximum(beyond * (residence / running) - front, 0.0),
        residence=residence,
        none=share * running / clients,
        rising=share * beyond / clients,
        late=np.maximum(1.0 - squared, 0.0) / 2.0 * np.maximum(1.0 - 1.0 / running, 0.0),
        varied=np.sqrt(squared / np.maximum(beyond, 1.0)),
    )
