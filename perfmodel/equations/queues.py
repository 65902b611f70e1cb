"""Compute the waits of queues."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array

#: Loads between which the tail of a wait is solved for: beyond them it is that of the ends, to rounding.
_LEAST_LOAD, _MOST_LOAD = 1e-12, 1.0 - 1e-6
#: Newton's steps to the root, of which the fourth no longer changes it beyond rounding.
_NEWTON_STEPS = 5
#: Least squared coefficient of variation of gaps, and fewest and most requests in service: beyond them nothing changes.
_LEAST_SQUARE, _LEAST_OFFERED, _MOST_OFFERED = 1e-9, 1e-6, 1e9


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


def split_cv(arrival_cv: Array | float, share: Array | float) -> Array:
    """Return the coefficient of variation of the gaps between those requests of a stream that one of its parts gets.

    Each request is dealt to the part with a chance of `share`, whatever came before: a renewal process thinned so has
    c_r^2 = 1 + (c^2 - 1) share (exact). Bursts are shared, so that a small part of any stream is Poisson. A router that
    knows the queues deals bursts no less evenly, so this errs on the long side; one that takes turns over n parts has
    c^2 / n. Gaps more even than Poisson stay as even as they are, for no such router makes them uneven.

    Parameters
    ----------
    arrival_cv : array or float
        Coefficient of variation of the gaps of the whole stream (1 for Poisson), ratio.
    share : array or float
        Share of the requests that the part gets, 0 to 1.

    Returns
    -------
    Array
        Ratio.

    References
    ----------
    Whitt, Bell Syst. Tech. J. 62(9), 1983 (QNA), section 4.4; Kuehn, IEEE Trans. Commun. 27(1), 1979.

    Examples
    --------
    >>> split_cv(6.0, [1.0, 0.2, 0.0]).round(2).tolist()
    [6.0, 2.83, 1.0]
    """
    square = np.square(np.asarray(arrival_cv, float))
    return np.asarray(np.sqrt(square - np.maximum(square - 1.0, 0.0) * (1.0 - np.clip(share, 0.0, 1.0))))


def burst_wait(utilisation: Array | float, service: Array | float, arrival_cv: Array | float) -> Array:
    """Return the mean wait that bursts add to that under Poisson arrivals, where gaps follow a gamma distribution.

    s (c^2 - 1) / y with y = ln(1 + y / rho), the rate at which the tail of the wait falls in units of s c^2. Derived:
    for large c, arrivals are a gamma process and the wait is the greatest value of a process with downward jumps only,
    which is exponential; at c = 1 nothing is added. In between it is longer than in simulated queues, by a quarter of a
    service time. In heavy traffic it is Kingman's formula, which misses that at low load a burst queues behind itself.

    Parameters
    ----------
    utilisation, service : array or float
        Share of time that the server is busy (rho), 0 to 1; mean service time, seconds (of m equal servers: over m).
    arrival_cv : array or float
        Coefficient of variation of the gaps between arrivals, ratio; at most 1 adds nothing.

    Returns
    -------
    Array
        Seconds; infinite at or above full load.

    References
    ----------
    Kyprianou, Fluctuations of Levy Processes with Applications, 2014, chapter 8 (greatest values of such processes).

    Examples
    --------
    >>> burst_wait([0.15, 0.5], 1.0, 6.0).round(1).tolist()
    [11.4, 27.9]
    """
    rho, bursts = np.asarray(utilisation, float), np.maximum(np.square(np.asarray(arrival_cv, float)) - 1.0, 0.0)
    if not bursts.any():  # a Poisson stream, as most are: nothing to solve
        return np.zeros(np.broadcast_shapes(rho.shape, np.shape(service), bursts.shape))
    load = np.clip(rho, _LEAST_LOAD, _MOST_LOAD)
    # a bound from above (Chatzigeorgiou, IEEE Commun. Lett. 17(8), 2013), from which Newton's steps only fall
    fall = np.sqrt(2.0 * (load - np.log(load) - 1.0)) - np.log(load)
    for _ in range(_NEWTON_STEPS):
        fall = fall - (fall - np.log1p(fall / load)) / (1.0 - 1.0 / (load + fall))
    return np.where(bursts > 0.0, np.where(rho < 1.0, service * bursts / fall, np.inf), 0.0)


def peakedness(offered: Array | float, arrival_cv: Array | float, shorter: Array | float = 0.5) -> Array:
    """Return the variance over the mean of the number of requests in service where none waits (G/G/infinity).

    1 + 2 e (z(a / (2 e)) - 1) with z(a) = 1 / (1 - f) - a and f = (1 + c^2 / a)^(-1 / c^2), the transform of gaps that
    follow a gamma distribution. Exact for exponential service times (e = 1/2) and for Poisson arrivals (1). Derived for
    others: z - 1 is twice the integral of the excess density of arrivals at a lag, times the chance that two requests
    so far apart meet; that chance is e at first and has the integral of half a service time whatever their law, as an
    exponential with both has. The part of a burst that comes later than a service time does not count, so that z rises
    with the load from 1 to 1 + (c^2 - 1) e. A request finds z - 1 more than the mean number in service, and
    z(a) - 1 more than usual arrive within as long a time as it stays.

    Parameters
    ----------
    offered : array or float
        Mean number of requests in service (a, in erlangs): arrivals per second times seconds of service.
    arrival_cv : array or float
        Coefficient of variation of the gaps between arrivals (c; 1 for Poisson), ratio.
    shorter : array or float
        Mean of the shorter of two service times over the mean service time (e), 0 to 1: 1 where all are equal.

    Returns
    -------
    Array
        Ratio, from near 0 for regular arrivals.

    References
    ----------
    Eckberg, IEEE Trans. Commun. 31(12), 1983 (peakedness and service-time distributions); Cooper, Introduction to
    Queueing Theory, 1981 (GI/M/infinity).

    Examples
    --------
    >>> peakedness([1.0, 40.0, 1e6], 4.0).round(2).tolist()
    [5.16, 8.05, 8.5]
    """
    square = np.maximum(np.square(np.asarray(arrival_cv, float)), _LEAST_SQUARE)
    twice = 2.0 * np.asarray(shorter, float)
    load = np.clip(np.asarray(offered, float) / twice, _LEAST_OFFERED, _MOST_OFFERED)
    gone = -np.expm1(-np.log1p(square / load) / square)
    return np.where(square == 1.0, 1.0, 1.0 + twice * (1.0 / gone - load - 1.0))
