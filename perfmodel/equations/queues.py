"""Compute the waits of queues."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array


def all_busy(utilisation: Array | float, servers: Array | float = 1.0) -> Array:
    """Return the probability that an arrival finds all of m servers busy, about rho^(sqrt(2(m+1)) - 1).

    Parameters
    ----------
    utilisation : array or float
        Share of time that each server is busy (rho), 0 to 1.
    servers : array or float
        Equal servers behind one queue (m), count.

    Returns
    -------
    Array
        Probability; within 0.06 of Erlang's C formula, exact for one server.

    References
    ----------
    Sakasegawa, Ann. Inst. Stat. Math. 29, 1977.

    Examples
    --------
    >>> float(all_busy(0.5))
    0.5
    """
    return np.asarray(np.power(np.asarray(utilisation, float), np.sqrt(2.0 * (np.asarray(servers) + 1.0)) - 1.0))


def queue_wait(
    utilisation: Array | float,
    service: Array | float,
    arrival_cv: Array | float = 1.0,
    service_cv: Array | float = 0.0,
    servers: Array | float = 1.0,
) -> Array:
    """Return the mean wait before one of m equal servers is free (G/G/m): (c_a^2 + c_s^2) / 2 times that of M/M/m.

    One server: Kingman's formula, exact for M/G/1 (Pollaczek-Khinchine) at arrival_cv 1.

    Parameters
    ----------
    utilisation, service : array or float
        Share of time that each server is busy (rho), 0 to 1; mean service time, seconds.
    arrival_cv, service_cv : array or float
        Coefficients of variation of the gaps between arrivals (1 for Poisson) and of service times, ratios.
    servers : array or float
        Equal servers behind one queue (m), count.

    Returns
    -------
    Array
        Seconds; infinite at or above full load.

    References
    ----------
    Allen & Cunneen; Sakasegawa, Ann. Inst. Stat. Math. 29, 1977; Kingman, Proc. Camb. Phil. Soc. 57, 1961.

    Examples
    --------
    >>> float(queue_wait(0.5, 2.0, 1.0, 1.0))
    2.0
    """
    rho = np.asarray(utilisation, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        lasting = service * (np.square(arrival_cv) + np.square(service_cv)) / 2.0
        wait = all_busy(rho, servers) / (servers * (1.0 - rho)) * lasting
    return np.where(rho < 1.0, wait, np.inf)
