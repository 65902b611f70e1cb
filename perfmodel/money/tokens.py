"""Split the cost of a request over its input, cached and output tokens.

The rule: a phase pays for the share of the time of the devices that it takes (of the money, where prefill and decode
have pools of their own). Output tokens pay for decode. Of the cost of prefill, cached tokens pay for what they add to
it: the attention that new tokens pay to them; the input tokens that are computed pay for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import NAN, Array
from perfmodel.unit_factors import SECONDS_PER_HOUR, TOKENS_PER_MILLION

Amount = Array | float


@dataclass(frozen=True)
class TokenCosts:
    """Hold the cost of one request, USD, and of a million of its tokens by kind, (N,) each.

    input: tokens that are computed. cached: tokens that the prefix cache serves, NaN where there are none.
    """

    request: Array
    input: Array
    cached: Array
    output: Array


def per_request(amount_per_hour: Amount, requests_per_s: Amount, utilisation: Amount = 1.0) -> Array:
    """Return an amount per request (USD, gCO2) of what takes `amount_per_hour` whether it is used or not.

    utilisation: mean load over `requests_per_s`, the load that is planned for.

    >>> float(per_request(36.0, 2.0, 0.5))
    0.01
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(amount_per_hour) / (SECONDS_PER_HOUR * np.asarray(requests_per_s) * utilisation)


def time_share(prefill_s: Amount, decode_s: Amount) -> Array:
    """Return the share of prefill in the time that a request takes on the devices, 0 to 1.

    >>> float(time_share(1.0, 3.0))
    0.25
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(prefill_s) / (np.asarray(prefill_s) + decode_s)


def split(
    usd_per_request: Array, prefill: Array, cached_part: Array, tokens: tuple[Amount, Amount, Amount]
) -> TokenCosts:
    """Split the cost of a request.

    Args:
        usd_per_request: (N,).
        prefill: share of it that prefill pays, (N,).
        cached_part: share of prefill that cached tokens pay, (N,).
        tokens: (input tokens that are computed, cached tokens, output tokens) of a mean request.

    >>> one = split(np.array([0.01]), np.array([0.4]), np.array([0.25]), (300.0, 700.0, 200.0))
    >>> [round(float(v[0]), 6) for v in (one.input, one.cached, one.output)]
    [10.0, 1.428571, 30.0]
    """
    new, cached, output = (np.asarray(t, dtype=float) for t in tokens)

    def million(usd: Array, count: Array) -> Array:
        """Return USD per million of tokens that cost `usd` for `count` of them; NaN for none."""
        return np.where(count > 0, usd / np.where(count > 0, count, 1.0) * TOKENS_PER_MILLION, NAN)

    return TokenCosts(
        request=usd_per_request,
        input=million(usd_per_request * prefill * (1.0 - cached_part), new),
        cached=million(usd_per_request * prefill * cached_part, cached),
        output=million(usd_per_request * (1.0 - prefill), output),
    )


def mixed_power(at_load: Array, idle: Array, utilisation: float) -> Array:
    """Return the mean watts of a deployment that has its load for a share of the time and none for the rest.

    >>> float(mixed_power(np.array([1000.0]), np.array([200.0]), 0.75)[0])
    800.0
    """
    return at_load if utilisation == 1.0 else np.asarray(utilisation * at_load + (1.0 - utilisation) * idle)
