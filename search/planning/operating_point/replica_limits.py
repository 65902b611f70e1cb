"""Count the replicas that stock, devices, nodes, budget and power allow, for many candidates at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Deployments
from perfmodel.arrays import Array, Index, Mask
from perfmodel.power import site_power
from search.planning.money.account import dearest
from search.planning.money.prices import Tariff
from search.planning.operating_point.bracket_search import least_whole

if TYPE_CHECKING:
    from search.scenario import Limits, Site

#: Relative excess over a limit that counts as rounding.
LIMIT_TOLERANCE = 1e-9
#: Replicas among which any load is so thin that each is as good as idle.
IDLE_REPLICAS = 1e6
#: Called with rows (M,) and replicas (M,): watts per device there, (M,).
Watts = Callable[[Index, Array], Array]


@dataclass(frozen=True)
class Bounds:
    """What limits the number of replicas of a candidate.

    limits: of the whole plan. stock: (D,) devices on hand by device type. tariff: prices and nodes. site: for its PUE.
    """

    limits: Limits
    stock: Array
    tariff: Tariff
    site: Site

    def most(self, d: Deployments, watts: Watts) -> Array:
        """Return the greatest number of replicas of each deployment within every limit, (N,).

        It is 0 where not even one replica is within them, and inf where nothing limits their number. Each limit is a
        bound on something that grows with the replicas, so the number is found by bisection below `_ceiling`.

        watts: power of a device, needed where power is limited.
        """
        watts = self._limited(d, watts)
        ceiling = self._ceiling(d, watts)
        rows = np.nonzero(np.isfinite(ceiling))[0]

        def exceeds(at: Index, replicas: Array) -> Mask:
            """Return True where so many replicas of the deployments `rows[at]` exceed a limit."""
            return ~self.kept(d.take(rows[at]), replicas, lambda m, n: watts(rows[at][m], n))

        first_beyond = least_whole(exceeds, ceiling[rows] + 1.0)
        out = np.full(len(d), np.inf)
        out[rows] = np.where(np.isfinite(first_beyond), first_beyond - 1.0, ceiling[rows])
        return out

    def _limited(self, d: Deployments, watts: Watts) -> Watts:
        """Return the power of a device that the limit bounds: `watts`, or the power limit of the device."""
        if self.limits.power_basis == "mean":
            return watts
        limit = self.tariff.limits(d.device, d.power_cap)
        return lambda rows, _replicas: limit[rows]

    def kept(self, d: Deployments, replicas: Array, watts: Watts) -> Mask:
        """Return (N,) booleans: True where so many replicas exceed no limit; what is unknown exceeds none."""
        size, bill = d.devices_per_replica, (d.device, d.devices_per_replica, replicas)
        used, slack = size * replicas, 1.0 + LIMIT_TOLERANCE
        inside = (used <= self.stock[d.device]) & (used <= self.limits.devices)
        if np.isfinite(self.limits.nodes):
            inside &= self.tariff.nodes(*bill) <= self.limits.nodes
        if np.isfinite(self.limits.usd_per_hour):
            inside &= ~(dearest(self.tariff, self.site, bill) > self.limits.usd_per_hour * slack)
        if np.isfinite(self.limits.power) and inside.any():
            left = np.nonzero(inside)[0]
            hosts = {
                name: column[left]
                for name, column in self.tariff.host_columns(d.device, self.tariff.nodes(*bill)).items()
            }
            each = watts(left, replicas[left])
            if self.limits.power_basis == "mean":
                drawn = self.tariff.wall(each * used[left] + self.tariff.idle_watts(*bill)[left], hosts)
            else:
                drawn = each * self.tariff.billed(*bill)[left] + hosts["host_w"]
            drawn = site_power(drawn, 1.0, 0.0, self.site.pue)
            inside[left] = ~(drawn > self.limits.power * slack)
        return np.asarray(inside, dtype=bool)

    def _ceiling(self, d: Deployments, watts: Watts) -> Array:
        """Return replicas that are no fewer than each limit allows, (N,); inf where nothing limits them.

        The ceiling of power counts the devices alone, with as little load as they get.
        """
        size, per_node, limits = d.devices_per_replica, self.tariff.per_node[d.device], self.limits
        price = self.tariff.usd_per_hour[d.device]
        idle = np.full(len(d), np.nan)
        if np.isfinite(limits.power) and len(d):
            idle = watts(np.arange(len(d)), np.full(len(d), IDLE_REPLICAS))
        with np.errstate(divide="ignore", invalid="ignore"):
            each = [
                self.stock[d.device] / size,
                limits.devices / size,
                limits.nodes * per_node / size,
                np.where(price > 0, limits.usd_per_hour / (price * size), np.inf),
                np.where(idle > 0, limits.power / (idle * size * self.site.pue), np.inf),
            ]
        return np.asarray(np.floor(np.min(each, axis=0) * (1.0 + LIMIT_TOLERANCE)), dtype=float)
