"""Make the plan again with one thing changed at a time, and estimate the chance that today's answer would still do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import PerfmodelError
from perfmodel import Slo, Workload
from search.planning import Plan, plan_concurrently
from search.scenario import MONEY
from search.searchers import Progress
from search.whatif.outcome import outcome_row, refused_row
from search.whatif.replanning import planned_again

if TYPE_CHECKING:
    from search.planning import Asks
    from search.scenario import Scenario

# chosen: steps that are large enough to change an answer, and small enough to happen.
PRICE_UP, PRICE_DOWN = 1.2, 0.8
LOAD_UP, LOAD_DOWN = 2.0, 0.5
LOAD_UP_NAME, LOAD_DOWN_NAME = "load × 2", "load ÷ 2"
LENGTHS_UP = 2.0
#: The looser bound is the inverse of the tighter one.
SLO_TIGHTER, SLO_LOOSER, SLO_HALF = 0.8, 1.25, 0.5
CACHED_SHARE = 0.5
HIGH_CONFIDENCE = 0.9
#: Name of the change that asks for it. All bounds together are kept with less where there are several.
SURER = f"each SLO kept with {100 * HIGH_CONFIDENCE:.0f} % chance"
WEIGHT_FORMATS = ("bf16", "fp8", "int4")
KV_FORMATS = ("fp8",)
#: Most devices other than the winner's that are tried alone, and whose price is changed. Chosen: keeps the table short.
MOST_DEVICES, MOST_PRICES = 3, 2
#: Limits of a plan whose worth is shown, in words.
LIMIT_WORDS = {
    "usd_per_hour": "cost",
    "power": "power",
    "rack": "power of a rack",
    "devices": "devices",
    "nodes": "nodes",
}
#: Least memory of a device that is not on offer, as a share of the winner's, and from where it counts as another kind
#: of the same generation. Chosen: what a user would compare.
LEAST_MEMORY, MORE_MEMORY = 0.5, 1.3


@dataclass(frozen=True)
class Change:
    """One thing that may turn out differently. name: in words. make: turns the scenario into what it would be then."""

    name: str
    make: Callable[[Scenario], Scenario]


def changes(plan: Plan) -> list[Change]:
    """List the changes that make sense for this plan.

    They concern the prices, load, lengths, SLO, weight formats, a failed node, and the winner's hardware.
    """
    s, work, types = plan.scenario, plan.scorer.target.workload, plan.device_types(plan.best)
    found, used = [], [plan.scorer.tariff.devices[i].name for i in types]
    if any(np.isfinite(plan.scorer.tariff.usd_per_hour[i]) for i in types):
        found += [
            Change("its price + 20 %", _with_prices(plan, dict.fromkeys(used, PRICE_UP))),
            Change("its price - 20 %", _with_prices(plan, dict.fromkeys(used, PRICE_DOWN))),
        ]
    if plan.scorer.sized and work.arrival in ("open", "closed"):
        found += load_changes((LOAD_UP, LOAD_DOWN))
    found += _length_changes()
    if s.slo.objectives:
        found += _slo_changes()
    found += [_weight_format(name) for name in WEIGHT_FORMATS]
    found += [_kv_format(name) for name in KV_FORMATS]
    found += _device_changes(plan)
    if s.limits.spare_nodes == 0:
        found.append(Change("one node may fail", lambda s: replace(s, limits=replace(s.limits, spare_nodes=1))))
    used = [plan.scorer.tariff.devices[i].name for i in types]
    others = tuple(d for d in s.offer.devices if d not in used)
    if others:
        without = f"without {' and '.join(used)}"
        found.append(Change(without, lambda s: replace(s, offer=replace(s.offer, devices=others))))
    return found


def load_changes(times: Sequence[float]) -> list[Change]:
    """List the changes to so many times the load, named by `load_name`."""

    def loaded(factor: float) -> Change:
        """Return the change to `factor` times the load."""
        return Change(load_name(factor), lambda s: _with_workload(s, lambda w: _loaded(w, factor)))

    return [loaded(factor) for factor in times]


def load_name(factor: float) -> str:
    """Return the name of the change to `factor` times the load."""
    return {LOAD_UP: LOAD_UP_NAME, LOAD_DOWN: LOAD_DOWN_NAME}.get(factor, f"load × {factor:g}")


def _device_changes(plan: Plan) -> list[Change]:
    """List the changes of hardware: each of the best other devices alone, and cheaper ones of those on offer.

    Where the scenario offers no other, they are the devices of the database whose prices are next to the winner's.
    """

    def alone(name: str) -> Change:
        """Return the change to a device alone, in nodes where the winner is in nodes."""
        more, without = _nodes_for(plan, name)
        verb = f"only {name}" if offered else f"on {name} instead"

        def made(s: Scenario) -> Scenario:
            """Return the scenario with that device alone."""
            return replace(s, offer=replace(s.offer, devices=(name,), nodes=(*s.offer.nodes, *more)))

        return Change(verb + without, made)

    prices = {
        d.name: float(p) for d, p in zip(plan.scorer.tariff.devices, plan.scorer.tariff.usd_per_hour, strict=True)
    }
    offered = _other_devices(plan)
    found = [alone(name) for name in offered[:MOST_DEVICES]]
    if not offered:
        return [alone(name) for name in _devices_next_in_price(plan)]
    dear = [n for n in offered[:MOST_PRICES] if np.isfinite(prices[n]) and plan.scenario.minimise in MONEY]
    return found + [Change(f"price of {n} - 20 %", _with_prices(plan, {n: PRICE_DOWN})) for n in dear]


def _nodes_for(plan: Plan, name: str) -> tuple[tuple[str, ...], str]:
    """Return (nodes to offer with the device `name`, what to say of its hosts), so that all what-ifs count power alike.

    Where the winner is rented in nodes, so is the other device: in the node on offer, else in one of the database, of
    as many devices if there is one. Where none is known, no host of it counts, which is said.
    """
    tariff, database = plan.scorer.tariff, plan.scenario.hardware()
    at = plan.device_types(plan.best)[0]
    if not tariff.whole[at]:
        return (), ""
    if any(database.node(node).device == name for node in plan.scenario.offer.nodes):
        return (), ""
    known = [n for n in database.nodes(name) if np.isfinite(n.host_power)]
    if not known:
        return (), " (no host counted)"
    return (min(known, key=lambda n: abs(n.count - tariff.per_node[at])).name,), ""


def _other_devices(plan: Plan) -> list[str]:
    """Return the names of the devices on offer that the winner does not use, those with the best candidates first."""
    own = set(plan.device_types(plan.best))
    ranked = plan.layouts.device[plan.order[plan.order < len(plan.layouts)]]
    offered = dict.fromkeys([*ranked.tolist(), *range(len(plan.scorer.tariff.devices))])
    return [plan.scorer.tariff.devices[i].name for i in offered if i not in own]


def _devices_next_in_price(plan: Plan) -> list[str]:
    """Return the devices of the database that cost next less and next more than the winner's, of another kind.

    [] where the winner's price is not known.
    """
    database, tariff, at = plan.scenario.hardware(), plan.scorer.tariff, plan.device_types(plan.best)[0]
    own, price = tariff.devices[at], float(tariff.usd_per_hour[at])
    known: list[tuple[float, str]] = []
    for device in (database.device(n) for n in database.names()):
        other = device.arch.split()[:1] != own.arch.split()[:1] or device.memory >= MORE_MEMORY * own.memory
        offers = database.prices(device.name)
        if device.kind == own.kind and other and offers and device.memory >= LEAST_MEMORY * own.memory:
            known.append((min(p.usd_per_hour for p in offers), device.name))
    less, more = [k for k in known if k[0] < price], [k for k in known if k[0] >= price]
    return [name for _, name in ([max(less)] if less else []) + ([min(more)] if more else [])]


def constraints(plan: Plan) -> list[Change]:
    """List the plan without each of its constraints: a bound of the SLO, a limit, the stock, the room that stays free.

    What the answer costs less without one is what the constraint costs.
    """
    s, found = plan.scenario, []
    if len(s.slo.objectives) > 1:
        found += [Change(f"without {o.title} ≤ {o.limit * 1e3:g} ms", _without_bound(o.key)) for o in s.slo.objectives]
    for name, words in LIMIT_WORDS.items():
        if np.isfinite(getattr(s.limits, name)):
            found.append(Change(f"without the limit on {words}", _with_limit(name, np.inf)))
    if s.limits.spare_nodes:
        found.append(Change("without spare nodes", _with_limit("spare_nodes", 0)))
    if plan.scorer.sized_by_rate and s.limits.utilisation < 1.0 and not s.limits.beyond_usual:
        found.append(Change("replicas used in full", _used_in_full))
    if s.offer.stock:
        found.append(Change("without a limit on stock", lambda s: replace(s, offer=replace(s.offer, stock={}))))
    return found


def _without_bound(key: str) -> Callable[[Scenario], Scenario]:
    """Return a function that drops one bound of the SLO."""
    return lambda s: replace(s, slo=Slo(tuple(o for o in s.slo.objectives if o.key != key)))


def _with_limit(name: str, value: float) -> Callable[[Scenario], Scenario]:
    """Return a function that sets a limit of the plan."""
    changed: dict[str, Any] = {name: value}
    return lambda s: replace(s, limits=replace(s.limits, **changed))


def _used_in_full(s: Scenario) -> Scenario:
    """Return the scenario whose replicas may be used in full."""
    return replace(s, limits=replace(s.limits, utilisation=1.0, utilisation_stated=True))


def what_if(
    plan: Plan, progress: Progress | None = None, tried: Sequence[Change] | None = None
) -> list[dict[str, Any]]:
    """Plan again for each change and return one flat row per change. tried: the changes; None for `changes(plan)`.

    A row holds the new answer, its cost against today's, and the chance that today's answer would hold. Raises
    `Infeasible` when the plan itself has no answer.
    """
    return plan_concurrently(
        [partial(_row, plan, change) for change in (changes(plan) if tried is None else tried)], progress
    )


def _length_changes() -> list[Change]:
    """List the changes of prompt and output lengths, and of the cached share of a prompt."""

    def longer_outputs(w: Workload) -> Workload:
        return replace(w, output_tokens=w.output_tokens * LENGTHS_UP)

    def longer_inputs(w: Workload) -> Workload:
        return replace(w, input_tokens=w.input_tokens * LENGTHS_UP)

    def cached(w: Workload) -> Workload:
        return replace(w, prefix_hit=np.full(1, CACHED_SHARE))

    return [
        Change("outputs × 2", lambda s: _with_workload(s, longer_outputs)),
        Change("inputs × 2", lambda s: _with_workload(s, longer_inputs)),
        Change("half of each prompt cached", lambda s: _with_workload(s, cached)),
    ]


def _slo_changes() -> list[Change]:
    """List the changes of the SLO: tighter, looser, and kept with a higher probability."""

    def surer(s: Scenario) -> Scenario:
        return replace(s, limits=replace(s.limits, confidence=HIGH_CONFIDENCE))

    return [
        Change("SLO 20 % tighter", lambda s: _with_slo_times(s, SLO_TIGHTER)),
        Change("SLO 20 % looser", lambda s: _with_slo_times(s, SLO_LOOSER)),
        Change("SLO ÷ 2", lambda s: _with_slo_times(s, SLO_HALF)),
        Change(SURER, surer),
    ]


def _weight_format(name: str) -> Change:
    """Return the change that stores the weights in the format `name`."""
    return Change(f"{name} weights", lambda s: replace(s, choices=replace(s.choices, weight=(name,))))


def _kv_format(name: str) -> Change:
    """Return the change that stores the KV cache in the format `name`."""
    return Change(f"{name} KV cache", lambda s: replace(s, choices=replace(s.choices, kv=(name,))))


def _with_workload(scenario: Scenario, change: Callable[[Workload], Workload]) -> Scenario:
    """Return the scenario with its workload changed by `change`; the same scenario where it has no workload."""
    request = scenario.request
    if request is None:
        return scenario
    return replace(scenario, request=replace(request, workload=change(request.workload)))


def _loaded(work: Workload, factor: float) -> Workload:
    """Return the workload with its rate and concurrency multiplied by `factor`; at least 1 request stays in flight."""
    return replace(work, rate=work.rate * factor, concurrency=np.maximum(np.round(work.concurrency * factor), 1.0))


def _with_slo_times(scenario: Scenario, factor: float) -> Scenario:
    """Return the scenario with every bound of its SLO multiplied by `factor`."""
    slo = Slo(tuple(replace(o, limit=o.limit * factor) for o in scenario.slo.objectives))
    return replace(scenario, slo=slo)


def _with_prices(plan: Plan, factors: Mapping[str, float]) -> Callable[[Scenario], Scenario]:
    """Return a function that multiplies prices in a scenario: of owned devices what they cost to buy, else the rent.

    factors: by device.
    """
    tariff = plan.scorer.tariff
    own = {d.name for d, owned in zip(tariff.devices, tariff.owned, strict=True) if owned}
    rent = {d.name: float(usd) for d, usd in zip(tariff.devices, tariff.usd_per_hour, strict=True)}

    def changed(s: Scenario) -> Scenario:
        """Return the scenario with the prices of these devices changed."""
        bought = {n: s.money.bought[n] * f for n, f in factors.items() if n in own}
        rented = {n: rent[n] * f for n, f in factors.items() if n not in own}
        parts: dict[str, Any] = {}
        if bought:
            parts["money"] = replace(s.money, bought={**s.money.bought, **bought})
        if rented:
            parts["offer"] = replace(s.offer, usd_per_hour={**s.offer.usd_per_hour, **rented})
        return replace(s, **parts)

    return changed


def _row(plan: Plan, change: Change, asks: Asks) -> dict[str, Any]:
    """Plan again for a change and return its row; of an impossible change its answer is the reason."""
    try:
        changed = planned_again(plan, change.make(plan.scenario), asks)
    except PerfmodelError as error:
        return refused_row(change.name, str(error))
    return outcome_row(change.name, plan, changed)
