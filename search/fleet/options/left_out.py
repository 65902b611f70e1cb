"""Say why an option of a scenario serves no class: it does not fit, or an SLO is missed even without load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.estimates import slo_ratio
from perfmodel.unit_factors import MS_PER_S
from search.fleet.replicas.layout_set import Layouts
from search.planning import LEAST_LOAD, SATURATING_RATE, deployment_words

if TYPE_CHECKING:
    from search.fleet.options.layouts import Modeller

#: Significant digits of a bound in a message.
DIGITS = 4


def left_out(modeller: Modeller, parts: Sequence[Layouts]) -> tuple[str, ...]:
    """Say of each option that serves no class within its SLO, or is not in stock, why. parts: their layouts."""
    stock = modeller.scenario.offer.stock
    reasons = [_why_short(part, stock) if part.throughput.any() else _why(modeller, o) for o, part in enumerate(parts)]
    return tuple(
        f"option {option.name!r} is left out: {why}"
        for option, why in zip(modeller.spec.options, reasons, strict=True)
        if why
    )


def _why_short(part: Layouts, stock: Mapping[str, float]) -> str:
    """Name the device of which each layout of an option takes more than are on hand; "" where there is none.

    stock: devices on hand by name.
    """
    least = {d: min(o.devices_of.get(d, 0.0) for o in part.options) for d in stock}
    short = (f"a replica takes {n:g} {d}, of which {stock[d]:g} are on hand" for d, n in least.items() if n > stock[d])
    return next(short, "")


def _why(modeller: Modeller, position: int) -> str:
    """Say why the option at `position` serves nothing, by the layout and class that miss least."""
    option = modeller.spec.options[position]
    if option.throughput is not None:
        return "its throughput_rps is 0 for every class that it reaches in time"
    text = "none of its layouts serves a class within its SLO"
    if option.together:
        models = " and ".join(name.rsplit("/", 1)[-1] for name in option.together)
        return f"{text}: {models} do not fit into its devices together, or one lets the others wait too long"
    if option.prefill_device:
        return text
    missed = [m for name in modeller.spaces(option) if (m := _nearest(modeller, position, name))]
    if not missed:
        return f"{text}: the model fits none of them, or the network takes up the bounds"
    return f"{text}: the nearest, {min(missed)[1]}"


def _nearest(modeller: Modeller, position: int, model: str) -> tuple[float, str] | None:
    """Return (by which factor, in words) the nearest layout of an option misses a bound without load; None for none."""
    spec, option = modeller.spec, modeller.spec.options[position]
    layouts = modeller.spaces(option)[model]
    reached = modeller.abroad.reached(option, spec.classes)
    asked = [i for i, c in enumerate(spec.classes) if c.model == model and reached[i]]
    if not len(layouts) or not asked:
        return None
    batch = modeller.batch(np.full(len(layouts), position), asked, layouts)
    every = np.arange(len(batch.layouts))
    saturated = batch.estimates(every, np.full(len(every), SATURATING_RATE))
    idle = batch.estimates(every, np.nan_to_num(saturated.request_rate) * LEAST_LOAD)
    ratio = np.where(saturated.fits, batch.ratio(idle, every), np.inf)
    row = int(np.argmin(ratio))
    if not np.isfinite(ratio[row]):
        return None
    c, slo = spec.classes[asked[row // len(layouts)]], batch.slos[int(batch.slo[row])]
    worst = int(slo_ratio(idle.take(np.array([row])), slo, batch.target.confidence)[1][0])
    given, left = c.slo.objectives[worst].limit, slo.objectives[worst].limit  # without the network
    least = left * float(ratio[row]) + given - left
    words = deployment_words(layouts.take(np.array([row % len(layouts)])))
    bound = f"{c.slo.objectives[worst].key} of {_ms(least)} ms for {c.name}"
    text = f"{words}, needs a {bound} even without load, and {_ms(given)} ms are allowed"
    return float(ratio[row]), text


def _ms(seconds: float) -> str:
    """Write seconds in milliseconds.

    >>> _ms(1.23456), _ms(0.25)
    ('1,235', '250')
    """
    return f"{seconds * MS_PER_S:,.{DIGITS}g}"
