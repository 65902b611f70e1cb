"""Compute what a device that is owned costs per hour, electricity not included: capital, upkeep and hosting.

Capital is the annuity that repays the price less the present worth of the residual value over the life of the device
(the capital recovery of engineering economics, as in EPRI's technical assessment guides); without interest it is the
straight line. Cooling and losses are part of the PUE, by which electricity is multiplied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from perfmodel.arrays import NAN
from perfmodel.unit_factors import MONTHS_PER_YEAR, WATTS_PER_KW

HOURS_PER_YEAR = 8760.0
HOURS_PER_MONTH = HOURS_PER_YEAR / MONTHS_PER_YEAR
#: Life where nothing is said. Chosen: between the three years of graphics cards that rent is often compared over and
#: the six over which cloud providers write servers off.
DEFAULT_LIFE_YEARS = 4.0


def capital_per_year(usd: float, life_years: float, residual: float = 0.0, interest: float = 0.0) -> float:
    """Return USD per year that repay `usd` over `life_years`.

    residual: share of the price that the sale at the end brings. interest: per year, 0 for none.

    >>> capital_per_year(30000.0, 4.0, residual=0.2)
    6000.0
    >>> round(capital_per_year(1000.0, 1.0, residual=0.1, interest=0.05), 6)
    950.0
    """
    if interest == 0.0:
        return usd * (1.0 - residual) / life_years
    worth = math.exp(-life_years * math.log1p(interest))
    return usd * (1.0 - residual * worth) * interest / (1.0 - worth)


@dataclass(frozen=True)
class Ownership:
    """Say what owned devices cost besides electricity.

    life_years: until they are sold. residual: share of the price that the sale brings. interest, upkeep: shares of the
    price per year, for capital and for maintenance. hosting_usd_per_kw_month: of the rated power of devices and hosts.
    hosting_usd_per_rack_unit_month, rack_units_per_device: of the space. staff_usd_per_month: of the whole deployment.
    """

    life_years: float = DEFAULT_LIFE_YEARS
    residual: float = 0.0
    interest: float = 0.0
    upkeep: float = 0.0
    hosting_usd_per_kw_month: float = 0.0
    hosting_usd_per_rack_unit_month: float = 0.0
    rack_units_per_device: float = 0.0
    staff_usd_per_month: float = 0.0

    def running_usd_per_hour(self, usd: float, rated_watts: float) -> float:
        """Return USD per hour of a device besides its capital, electricity and staff: upkeep and hosting.

        usd: price of the device with its part of server and network. rated_watts: of the device and its part of the
        host; NaN, which hosting by the kW needs, for unknown.
        """
        space = self.hosting_usd_per_rack_unit_month * self.rack_units_per_device
        watts = rated_watts if self.hosting_usd_per_kw_month else 0.0
        hosting = (self.hosting_usd_per_kw_month * watts / WATTS_PER_KW + space) / HOURS_PER_MONTH
        return self.upkeep * usd / HOURS_PER_YEAR + hosting

    def usd_per_hour(self, usd: float, rated_watts: float = NAN) -> float:
        """Return USD per hour of an owned device, electricity and staff not included.

        usd, rated_watts: as for `running_usd_per_hour`.

        >>> round(Ownership(life_years=4.0, residual=0.2, upkeep=0.05).usd_per_hour(30000.0) * 8760.0, 6)
        7500.0
        """
        capital = capital_per_year(usd, self.life_years, self.residual, self.interest) / HOURS_PER_YEAR
        return capital + self.running_usd_per_hour(usd, rated_watts)

    @property
    def staff_usd_per_hour(self) -> float:
        """Return USD per hour of the staff of the whole deployment."""
        return self.staff_usd_per_month / HOURS_PER_MONTH
