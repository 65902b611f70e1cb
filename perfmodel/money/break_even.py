"""Find where two ways of serving the same requests cost the same: own, rent, or pay an API by the token."""

from __future__ import annotations

import math

from perfmodel.arrays import NAN
from perfmodel.unit_factors import SECONDS_PER_HOUR, TOKENS_PER_MILLION


def request_at_api(tokens: tuple[float, float, float], usd_per_million: tuple[float, float, float]) -> float:
    """Return USD of a request at the prices of an API. tokens, usd_per_million: of input, cached and output tokens.

    >>> request_at_api((300.0, 700.0, 200.0), (2.0, 0.5, 10.0))
    0.00295
    """
    priced = [t * usd for t, usd in zip(tokens, usd_per_million, strict=True) if t > 0]
    return math.fsum(priced) / TOKENS_PER_MILLION


def least_utilisation(fixed: float, used: float, requests_per_s: float, usd_per_request: float) -> float:
    """Return the utilisation from which hardware costs less than paying per request; inf where it never does.

    It solves fixed + u used = u 3600 requests_per_s usd_per_request. A result above 1 is beyond what the hardware
    serves.

    Args:
        fixed: USD per hour of the hardware without load.
        used: USD per hour that its load adds, such as electricity.
        requests_per_s: at full use. usd_per_request: of the other way.

    >>> least_utilisation(18.0, 0.0, 1.0, 0.01)
    0.5
    """
    if math.isnan(fixed + used + requests_per_s + usd_per_request):
        return NAN
    saved = SECONDS_PER_HOUR * requests_per_s * usd_per_request - used
    return fixed / saved if saved > 0 else math.inf


def months_to_pay_back(capital: float, saved_per_month: float) -> float:
    """Return the months after which what is saved equals the capital; inf where nothing is saved.

    >>> months_to_pay_back(24000.0, 2000.0)
    12.0
    """
    if math.isnan(capital + saved_per_month):
        return NAN
    return capital / saved_per_month if saved_per_month > 0 else math.inf
