"""Estimate how often the power of many servers together exceeds a budget, and how many fit one.

The watts of a server vary for two reasons. What all servers share, such as the load over the day, moves the whole row.
What each server does by itself, such as a prompt that comes now, averages out over a row: of N servers, the sum is
normal with mean N m(t) and standard deviation sqrt(N) s(t).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array

#: Seconds over which what servers share is averaged. Chosen: load changes in minutes, a step in milliseconds.
SHARED_S = 60.0
#: Standard deviations of the sum that its highest value is taken at. Chosen: one second of a month.
_MOST_SIGMA = 5.0
#: Watts that a row varies by at least: avoids dividing by zero.
_LEAST_SPREAD = 1e-9
#: More servers than any row has.
_MOST_SERVERS = 1_000_000


@dataclass(frozen=True)
class ServerPower:
    """Hold the watts of one server over time, at the wall: mean and spread at each moment, (T,) each.

    mean: what all servers share. spread: standard deviation of one server around it.
    """

    mean: Array
    spread: Array

    def quantile(self, servers: float, share: float) -> float:
        """Return the watts that a row of `servers` stays below for a `share` of the time."""
        low, high = 0.0, float(np.max(servers * self.mean + _MOST_SIGMA * np.sqrt(servers) * self.spread))
        for _ in range(50):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.risk(servers, middle) > 1.0 - share else (low, middle)
        return high

    def risk(self, servers: float, budget: float) -> float:
        """Return the share of time in which a row of `servers` draws more than `budget` watts."""
        if servers <= 0:
            return 0.0
        apart = np.maximum(np.sqrt(servers) * self.spread, _LEAST_SPREAD)
        return float(np.mean(eq.normal_chance((servers * self.mean - budget) / apart)))

    def most_servers(self, budget: float, risk: float) -> int:
        """Return the greatest number of servers that exceed `budget` watts for at most a share `risk` of the time."""
        low, high = 0, 1
        while high < _MOST_SERVERS and self.risk(high, budget) <= risk:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.risk(middle, budget) <= risk else (low, middle)
        return low


def server_power(watts: Array, interval: float, *, stationary: bool) -> ServerPower:
    """Return the power of one server from the course of several, (servers, T), in intervals of `interval` seconds.

    stationary: the load of all does not change, so that all variation is each server's own.
    """
    watts = np.atleast_2d(watts)
    if stationary:
        return ServerPower(np.array([float(watts.mean())]), np.array([float(watts.std())]))
    width = max(round(SHARED_S / interval), 1)
    mean = _smooth(watts.mean(axis=0), width)
    return ServerPower(mean, np.sqrt(_smooth(np.mean(np.square(watts - mean), axis=0), width)))


def _smooth(values: Array, width: int) -> Array:
    """Return the moving average of `values` over `width` places around each; fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    first, last = np.maximum(place - width // 2, 0), np.minimum(place + (width + 1) // 2, len(values))
    return np.asarray((total[last] - total[first]) / (last - first))
