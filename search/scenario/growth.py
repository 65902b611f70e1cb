"""Read the `[growth]` table of a scenario: how demand is expected to grow, month by month, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from hwdb.tomlfile import Table
from perfmodel.arrays import Array

#: Months of the forecast where the scenario does not say.
MONTHS = 12
#: Most months of a forecast. Chosen: ten years.
MOST_MONTHS = 120
#: Most growth of one month. Chosen: more is a slip.
MOST_GROWTH = 100.0
#: Quantiles of the demand that are planned for where the scenario does not say.
QUANTILES = (0.5, 0.9)


@dataclass(frozen=True)
class Growth:
    """How demand grows.

    monthly: (M,) factor of each month on the month before. spread: log standard deviation of the factor of one month,
    independent from month to month. quantiles: (Q,) of the demand to plan for, 0 to 1. lead_months: from the order of
    hardware until it serves.
    """

    monthly: tuple[float, ...]
    spread: float = 0.0
    quantiles: tuple[float, ...] = QUANTILES
    lead_months: float = 0.0

    def factors(self, quantile: float) -> Array:
        """Return the demand of months 0 to M over today's at a quantile, (M + 1,).

        Derived: the logarithm of the demand is a random walk with drift, so that its spread grows with the square root
        of the months.

        >>> Growth((1.1, 1.1), spread=0.1).factors(0.5).round(3).tolist()
        [1.0, 1.1, 1.21]
        """
        months = np.arange(len(self.monthly) + 1)
        middle = np.concatenate([[1.0], np.cumprod(self.monthly)])
        deviate = NormalDist().inv_cdf(quantile)
        return np.asarray(middle * np.exp(deviate * self.spread * np.sqrt(months)))


def read_growth(top: Table) -> Growth | None:
    """Read the `[growth]` table of the scenario `top`; None without one."""
    if "growth" not in top:
        return None
    table = top.table("growth")
    monthly = table.numbers("monthly", least=0)
    months = table.whole("months", len(monthly) if len(monthly) > 1 else MONTHS, least=1, most=MOST_MONTHS)
    wrong = next((m for m in monthly if not 0 < m <= MOST_GROWTH), None)
    if wrong is not None:
        text = f"{wrong:g} is not a month's demand over that of the month before; give 1.08 for 8 % more"
        raise table.error("monthly", text)
    if len(monthly) not in (1, months):
        raise table.error("monthly", f"{len(monthly)} factors for {months} months; give one for all or one each")
    quantiles = table.numbers("quantiles", QUANTILES)
    outside = next((q for q in quantiles if not 0 < q < 1), None)
    if outside is not None:
        raise table.error("quantiles", f"{outside:g} is no quantile; give numbers between 0 and 1, such as [0.5, 0.9]")
    found = Growth(
        monthly=tuple(monthly) * (months if len(monthly) == 1 else 1),
        spread=table.number("spread", 0.0, least=0, most=1),
        quantiles=tuple(quantiles),
        lead_months=table.number("lead_months", 0.0, least=0),
    )
    table.done()
    return found
