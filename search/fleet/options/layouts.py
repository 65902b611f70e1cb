"""Model the options of a fleet: what a replica of each layout serves within the SLOs, and what it draws.

An option that gives its throughputs ("stated") keeps its table. For a modelled option, every layout that is legal for a
model becomes an option of its own. Its throughput of a class is the share `utilisation` (of the scenario's limits) of
the greatest rate that keeps the SLO (bisection on columns), and its power is that of the replica at this rate. A layout
that another layout of the same option beats in price, in devices and in every class is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError
from perfmodel import Deployments, Slo
from perfmodel.arrays import Array, Index
from perfmodel.costs import CostModel, StepCache
from perfmodel.power import energy_kwh, energy_usd, site_power
from search.fleet.options.regions import RegionTerms
from search.fleet.replicas.batches import Batch, joined
from search.fleet.replicas.layout_set import (
    Layouts,
    Speeds,
    alike,
    format_codes,
    layout_names,
    legal_layouts,
    pairs_of,
    stated_rates,
    tenants_of,
    together,
    undominated,
)
from search.fleet.replicas.modelled import Modelled
from search.fleet.replicas.pairs import PairTerms, best_pairs, paired
from search.fleet.replicas.rates import Rivals
from search.fleet.replicas.shared_replicas import candidates
from search.planning import Target, Tariff, refuse_long_class, space_of
from search.scenario import FleetClass, FleetOption, FleetSpec, Option
from search.searchers import pareto
from search.space import SearchSpace

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Rankings by which a fleet is chosen by its power.
POWER_RANKINGS = ("power_w", "gco2_per_million_tokens")


@dataclass(frozen=True)
class Modeller:
    """Makes the options of the fleet program from those of a scenario.

    spec: request classes and options of the scenario. tariff: prices and nodes of the devices. costs: cost model of the
    operators, None for the default. known: costs of steps that were priced before, by model.
    """

    scenario: Scenario
    spec: FleetSpec
    tariff: Tariff
    costs: CostModel | None
    known: dict[str, StepCache] = field(default_factory=dict)

    def layouts(self) -> list[Layouts]:
        """Return the options of the fleet program that each option of the scenario becomes, in their order.

        The layouts of all options that run one model are modelled together, under all of its classes at once.
        """
        apart = [o.throughput is not None or bool(o.prefill_device or o.together) for o in self.spec.options]
        spaces = [{} if on else self.spaces(o) for o, on in zip(self.spec.options, apart, strict=True)]
        models = dict.fromkeys(name for space in spaces for name in space)
        speeds = {name: self._speeds(name, [space.get(name) for space in spaces]) for name in models}
        return [
            self._stated(option)
            if option.throughput is not None
            else self._paired(option)
            if option.prefill_device
            else self._shared(option)
            if option.together
            else together([self._for_model(option, n, space[n], speeds[n][at]) for n in space])
            for at, (option, space) in enumerate(zip(self.spec.options, spaces, strict=True))
        ]

    def modelled(self, parts: Sequence[Layouts]) -> Modelled:
        """Return what the options run, to estimate them at their own load. parts: layouts of each of the options."""
        placed: dict[tuple[str, str], Deployments] = {}
        powered: set[tuple[str, str]] = set()
        for option, part in zip(self.spec.options, parts, strict=True):
            new = {(o.name, o.model): d for o, d in zip(part.options, part.placed, strict=False)}
            placed |= new
            powered |= set(new) if np.isnan(option.power) else set()
        shared, pairs = tenants_of(parts), pairs_of(parts)
        placed |= {key: tenant.layout for key, tenant in shared.items()}
        powered |= {*shared, *pairs}
        made = [(o, part.options) for o, part in zip(self.spec.options, parts, strict=True) if o.throughput is None]
        used = {model: o for o, options in made for one in options for model in one.runs}
        classes = {c.model: c for c in reversed(self.spec.classes)}
        first = {name: self._target(option, classes[name]) for name, option in used.items()}
        workloads, slos = tuple(c.workload for c in self.spec.classes), tuple(c.slo for c in self.spec.classes)
        tasks = {key: tenant.targets[0] for key, tenant in shared.items()}
        pue, named = self.scenario.site.pue, frozenset(powered)
        return Modelled(placed, workloads, slos, first, self.tariff, pue, named, tasks, pairs)

    def _stated(self, option: FleetOption) -> Layouts:
        """Convert an option whose throughput is given. Its price is its own, else that of its devices."""
        devices = float(max(option.devices, 1))
        at = self._position(option.device)
        price = option.usd_per_hour
        if np.isnan(price) and at >= 0:
            price = self._device_usd(option, option.device) * devices
            if self.tariff.owned[at]:  # its electricity: at the power that is stated, else at the power limit
                watts = devices * self.tariff.device_limit[at] * self.scenario.site.pue
                watts = watts if np.isnan(option.power) else option.power
                price += float(energy_usd(energy_kwh(watts, 1.0), self.scenario.site.usd_per_kwh))
        elif not np.isnan(price):
            price *= self.abroad.called(option.terms.region).price_factor
        fails_together, nodes = self._on_node(at, devices)
        made = Option(
            name=option.name,
            device=option.device,
            devices=devices,
            usd_per_hour=price,
            power=option.power,
            replicas_per_node=fails_together,
            nodes=nodes,
            together=option.together,
            model=" + ".join(option.together),
        )
        rates = np.array(stated_rates(option, self.spec), dtype=float)
        return Layouts(options=(made,), throughput=(rates * self.abroad.reached(option, self.spec.classes))[None])

    @property
    def abroad(self) -> RegionTerms:
        """Return the regions of the fleet."""
        return RegionTerms(self.spec.terms.regions)

    def _device_usd(self, option: FleetOption, device: str) -> float:
        """Return USD per hour of one device where an option stands; of an owned one without its electricity."""
        return self.abroad.device_usd(option, device, float(self.tariff.usd_per_hour[self._position(device)]))

    def _paired(self, option: FleetOption) -> Layouts:
        """Model an option that is a pair of pools, for each of the models that it may serve."""
        prefill = replace(option, device=option.prefill_device)
        prefill = replace(prefill, layouts={"tp": option.prefill_tp} if option.prefill_tp else option.layouts)
        first, parts = self.spaces(prefill), []
        reached = self.abroad.reached(option, self.spec.classes)
        at = self._position(prefill.device), self._position(option.device)
        usd = self._device_usd(option, prefill.device), self._device_usd(option, option.device)
        terms = PairTerms(self.tariff, self.scenario.site, at, usd)
        for model, decode in self.spaces(option).items():
            classes = [i for i, c in enumerate(self.spec.classes) if c.model == model and reached[i]]
            if not classes:
                continue
            targets = [self._target(option, self.spec.classes[i]) for i in classes]
            how = replace(decode, hand_over=self.scenario.hand_over)
            found = paired(first[model], how)
            made, speeds, pools = best_pairs(option, found, targets, terms, self.scenario.limits.utilisation)
            throughput = np.zeros((len(made), len(self.spec.classes)))
            throughput[:, classes] = speeds
            parts.append(Layouts(options=tuple(made), throughput=throughput, pairs=pools))
        return together(parts) if parts else Layouts((), np.zeros((0, len(self.spec.classes))))

    def _shared(self, option: FleetOption) -> Layouts:
        """Model an option whose replicas serve several models at once, on layouts that are legal for all of them."""
        names, at, count = option.together, self._position(option.device), len(self.spec.classes)
        classes = [self._served(option, name) for name in names]
        spaces = [legal_layouts(self._space(option, name)) for name in names]
        targets = [[self._target(option, self.spec.classes[i]) for i in mine] for mine in classes]
        found = candidates(alike(spaces), names, targets, self.scenario.limits.utilisation)
        options, idle = [], float(np.nan_to_num(self.tariff.device_idle[at]))
        for one in found:
            layout = one.tenants[0].layout
            size = float(layout.devices_per_replica[0])
            power = self._power(option, layout, np.array([one.watts.sum() - idle * (len(names) - 1)]))
            failing, nodes = self._on_node(at, size)
            made = Option(
                name=f"{option.name}: {one.name()}",
                device=option.device,
                devices=size,
                usd_per_hour=float(self._price(option, layout, power)[0]),
                power=float(power[0]),
                replicas_per_node=failing,
                nodes=nodes,
                model=" + ".join(names),
                most_used=self.scenario.limits.utilisation,
                together=names,
            )
            options.append(made)
        rates = np.reshape([one.row(classes, count) for one in found], (-1, count))
        return undominated(Layouts(tuple(options), rates, shared=tuple(found)))

    def _served(self, option: FleetOption, model: str) -> list[int]:
        """Return the classes of a model that the network leaves time to serve."""
        reached = self.abroad.reached(option, self.spec.classes)
        return [i for i, c in enumerate(self.spec.classes) if c.model == model and reached[i]]

    def spaces(self, option: FleetOption) -> dict[str, Deployments]:
        """Return the legal layouts of a modelled option, for each of the models that it may serve."""
        models = dict.fromkeys(c.model for c in self.spec.classes if not option.models or c.model in option.models)
        if not models:
            where = f"{self.scenario.path}: fleet option {option.name!r}"
            raise InputError(f"{where} may serve none of the classes; name in its models one that a class asks for")
        for c in self.spec.classes:
            if c.model in models:
                self._target(option, c)
        return {name: legal_layouts(self._space(option, name)) for name in models}

    def _speeds(self, model: str, spaces: Sequence[Deployments | None]) -> dict[int, Speeds]:
        """Model the speed and the power of the layouts of all options that run `model`, on each of its classes.

        spaces: (O,) layouts of each option, None where it does not run the model. Returns the speeds by option.
        """
        served = [i for i, c in enumerate(self.spec.classes) if c.model == model]
        known = {o: space for o, space in enumerate(spaces) if space is not None and len(space)}
        out = {o: Speeds.none(0, len(self.spec.classes)) for o, space in enumerate(spaces) if space is not None}
        if not known:
            return out
        layouts = joined(list(known.values()))
        numbers = np.repeat(list(known), [len(space) for space in known.values()])
        batch = self.batch(numbers, served, layouts)
        rivals = Rivals(numbers, self._weights(known), self._copies)
        rate, watts = batch.capacities(self.scenario.limits.utilisation, None if self._power_decides else rivals)
        rate, watts = rate.reshape(len(served), -1), watts.reshape(len(served), -1)  # one row per class
        ends = np.cumsum([len(space) for space in known.values()])
        for (o, space), end in zip(known.items(), ends.tolist(), strict=True):
            here, found = slice(end - len(space), end), Speeds.none(len(space), len(self.spec.classes))
            reached = self.abroad.reached(self.spec.options[o], [self.spec.classes[i] for i in served])
            found.throughput[:, served] = rate[:, here].T * reached
            out[o] = Speeds(found.throughput, np.fmax.reduce(watts[:, here], axis=0, initial=np.nan))
        return out

    @property
    def _power_decides(self) -> bool:
        """Return whether a fleet may be chosen by what its replicas draw, and not by price and devices alone."""
        limited = np.isfinite([self.scenario.inventory().power, self.spec.terms.carbon]).any()
        return bool(limited) or self.scenario.minimise in POWER_RANKINGS

    @property
    def _copies(self) -> bool:
        """Return whether several small replicas may stand for a large one: not where each replica has a price of its
        own, beside that of its devices."""
        terms = [o.terms for o in self.spec.options]
        return not any(t.migration_usd or t.penalty_usd_per_hour or t.current for t in terms)

    def _weights(self, spaces: Mapping[int, Deployments]) -> Array:
        """Return what decides between layouts of an option beside their speed, (L, 2): price and devices.

        spaces: layouts by option. Without a price the devices alone decide. Owned devices cost the electricity of their
        speed: the price of such layouts is not known yet, NaN.
        """
        rows = []
        for o, layouts in spaces.items():
            option, size = self.spec.options[o], layouts.devices_per_replica
            price = np.nan_to_num(self._price(option, layouts, np.zeros(len(size))))
            owned = np.isnan(option.usd_per_hour) and self.tariff.owned[self._position(option.device)]
            rows.append(np.stack([price * (np.nan if owned else 1.0), size]))
        return np.concatenate(rows, axis=1).T

    def batch(self, options: Index, classes: Sequence[int], layouts: Deployments) -> Batch:
        """Put `layouts` (L,) under each of the classes of one model: rows class by class.

        options: (L,) position of the option of each. Its region decides what the network leaves of a bound.
        """
        first, asked = self.spec.options[int(options[0])], [self.spec.classes[i] for i in classes]
        batch = Batch.of(layouts, [self._target(first, c) for c in asked])
        if not self.abroad.regions:
            return batch
        left = {(o, c.name): self._slo(self.spec.options[o], c) for o in set(options.tolist()) for c in asked}
        bounds = [left[o, c.name] for c in asked for o in options.tolist()]
        slos = tuple(dict.fromkeys(bounds))
        return replace(batch, slos=slos, slo=np.array([slos.index(b) for b in bounds], dtype=np.intp))

    def _slo(self, option: FleetOption, c: FleetClass) -> Slo:
        """Return the SLO of a class without the network to an option; its own where that leaves nothing of it."""
        return self.abroad.slo(option, c) or c.slo

    def _for_model(self, option: FleetOption, model_name: str, layouts: Deployments, speeds: Speeds) -> Layouts:
        """Make options of the layouts (L,) of an option for one model, and leave out dominated ones."""
        throughput, classes = speeds.throughput, [i for i, c in enumerate(self.spec.classes) if c.model == model_name]
        size, power = layouts.devices_per_replica, self._power(option, layouts, speeds.watts)
        price = self._price(option, layouts, power)
        able = np.nonzero(throughput.any(axis=1))[0]
        rates = [throughput[able, i] for i in classes]
        known_price = np.nan_to_num(price[able])  # without a price the devices alone decide
        weights = [known_price, size[able], *([np.nan_to_num(power[able])] if self._power_decides else [])]
        front = pareto([*rates, *weights], largest=[True] * len(rates))
        rivals = Rivals(np.zeros(len(able), dtype=np.intp), np.stack(weights, axis=1), self._copies)
        kept = able[front & ~rivals.beaten(np.stack(rates), np.stack(rates), least=2.0)]
        at = self._position(option.device)
        options, placed = [], tuple(layouts.take(np.array([row])) for row in kept.tolist())
        for row, name in zip(kept.tolist(), layout_names(option, placed), strict=True):
            fails_together, nodes = self._on_node(at, float(size[row]))
            options.append(
                Option(
                    name=name,
                    device=option.device,
                    devices=float(size[row]),
                    usd_per_hour=float(price[row]),
                    power=float(power[row]),
                    replicas_per_node=fails_together,
                    nodes=nodes,
                    model=model_name,
                    most_used=self.scenario.limits.utilisation,
                )
            )
        return Layouts(options=tuple(options), throughput=throughput[kept], placed=placed)

    def _target(self, option: FleetOption, c: FleetClass) -> Target:
        """Build the task of `option` for class `c` at its busiest; raise `InputError` where it has no lengths."""
        if c.workload is None:
            where = f"{self.scenario.path}: class {c.name!r}"
            raise InputError(
                f"{where} has no lengths, which option {option.name!r} needs; add dataset or input_tokens to the class"
            )
        spec = self.scenario.model_called(c.model)
        refuse_long_class(self.scenario, c.name, c.workload, spec)
        return Target(
            model=spec,
            workload=c.workload.at(arrival="open", rate=max(c.rate) or 1.0),
            slo=self._slo(option, c),
            engine=self.scenario.engine,
            confidence=self.scenario.limits.confidence,
            costs=self.costs,
            known=self.known.setdefault(c.model, StepCache()),
        )

    def _price(self, option: FleetOption, layouts: Deployments, power: Array) -> Array:
        """Return USD per hour of a replica of each layout, (L,): the option's own price, else that of its devices.

        Owned devices cost their electricity too. power: (L,) watts of a replica at the site's meter.
        """
        size = layouts.devices_per_replica
        if not np.isnan(option.usd_per_hour):
            return np.full(len(size), option.usd_per_hour * self.abroad.called(option.terms.region).price_factor)
        at, site = self._position(option.device), self.scenario.site
        electricity = energy_usd(energy_kwh(power, 1.0), site.usd_per_kwh) if self.tariff.owned[at] else 0.0
        return np.asarray(size * self._device_usd(option, option.device) + electricity)

    def _power(self, option: FleetOption, layouts: Deployments, watts: Array) -> Array:
        """Return the watts of a replica at the site's meter, (L,).

        They are the option's own, else those of its devices and its share of a host, times the PUE. watts: (L,) per
        device.
        """
        size = layouts.devices_per_replica
        if not np.isnan(option.power):
            return np.full(len(size), option.power)
        at = self._position(option.device)
        device = np.full(len(size), at)
        hosts = self.tariff.host_columns(device, self.tariff.nodes_per_replica(device, size))
        return site_power(self.tariff.wall(watts * size, hosts), 1.0, 0.0, self.scenario.site.pue)

    def _space(self, option: FleetOption, name: str) -> SearchSpace:
        """Build the search space of the layouts that an option lists for model `name`.

        It has the option's one device, with its stock and its devices per node.
        """
        at, spec, offload = self._position(option.device), self.scenario.model_called(name), self.scenario.offload
        device = self.tariff.devices[at]
        if self.scenario.fleet is None:  # what a plan of the same scenario searches
            whole = space_of(self.scenario, spec, self.tariff)
            return replace(whole, devices=(device,), runs={axis: (on[at],) for axis, on in whole.runs.items()})
        axes: dict[str, Any] = {"pp": (1.0,), **offload.axes}
        axes |= {} if spec.experts else {"ep": (1.0,), "dp": (1.0,)}
        axes |= {k: tuple(float(x) for x in v) for k, v in option.layouts.items()}
        return SearchSpace(
            model=spec,
            devices=(device,),
            stock=self.scenario.offer.stock,
            domain={device.name: float(self.tariff.per_node[at])},
            pinned=frozenset(option.layouts),
            pads_shards=self.scenario.engine.pads_shards,
            encoder_data_parallel=self.scenario.engine.encoder_data_parallel,
            weight=format_codes(option.weight),
            kv=format_codes(option.kv),
            host=offload.host,
            adapters=self.scenario.adapters,
            routing=self.scenario.routing,
            **axes,
        )

    def _position(self, device: str) -> int:
        """Return the position of a device in the tariff, or -1 where the hardware database does not know it."""
        names = [d.name for d in self.tariff.devices]
        return names.index(device) if device in names else -1

    def _on_node(self, at: int, devices: float) -> tuple[float, float]:
        """Return (replicas that fail with a node, nodes per replica) for a replica of `devices` devices.

        at: position of the device in the tariff. Where it is -1 (not in the database), each replica has a node to
        itself.
        """
        if at < 0:
            return 1.0, 1.0
        failing = self.tariff.failing(np.array([at]), np.array([devices]))
        return float(failing[0]), float(self.tariff.nodes_per_replica(np.array([at]), np.array([devices]))[0])
