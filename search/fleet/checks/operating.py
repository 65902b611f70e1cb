"""Estimate what a fleet draws and how surely it keeps its SLOs at its load, as a plan does of the same deployments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Deployments, Estimates, Slo, Workload
from perfmodel.arrays import Array, Index
from perfmodel.equations import split_cv
from perfmodel.estimates import joint_chance
from perfmodel.power import site_power
from perfmodel.workload import Load, load_of
from search.fleet.options.regions import shorter
from search.fleet.problem_data.limits import INTEGRALITY_TOLERANCE
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.replicas.batches import Batch, joined, stacked
from search.fleet.replicas.modelled import Modelled
from search.fleet.replicas.pairs import PairBatch, PlacedPair
from search.planning import Tariff
from search.scenario import Option, device_type

if TYPE_CHECKING:
    from search.fleet.accounting.fleet import FleetPlan

#: Request rate that stands for none, requests/s.
IDLE_RATE = 1e-6


@dataclass(frozen=True)
class Served:
    """What the options of a fleet run and under which load: M mixes of classes, all of one model.

    model: its name. option, period: (M,) whose mix it is. batch: M rows, the replicas of the option under the rates of
    the period. kind: (L, M) position of the class that each of L length classes is of, -1 where it is of none.
    """

    model: str
    option: Index
    period: Index
    batch: Batch
    kind: Index

    def of_class(self, estimates: Estimates, kind: int) -> tuple[Estimates, Index]:
        """Return the estimates of the requests of one class alone, and the rows that serve it, (K,).

        The replicas serve the whole mix all the same.
        """
        mine = np.where(self.kind == kind, estimates.share, 0.0)
        rows = np.nonzero(mine.sum(axis=0) > 0)[0]
        some = estimates.take(rows)
        share = mine[:, rows] / mine[:, rows].sum(axis=0)
        return replace(some, classes=replace(some.classes, share=share)), rows

    def judged(
        self, problem: FleetProblem, estimates: Estimates, slos: Sequence[Slo]
    ) -> Iterator[tuple[Slo, Index, Estimates]]:
        """Yield (SLO without the network, the K rows that it holds for, their estimates) of each class with an SLO.

        slos: (C,) as users ask for them. Rows in different regions come apart.
        """
        for kind, slo in enumerate(slos):
            if not slo.objectives or not (self.kind == kind).any():
                continue
            some, rows = self.of_class(estimates, kind)
            far = np.array([problem.round_trip(problem.options[o], problem.classes[kind]) for o in self.option[rows]])
            for seconds in np.unique(far):
                here = np.nonzero(far == seconds)[0]
                yield shorter(slo, float(seconds)) or slo, rows[here], some.take(here)


def mixes(found: FleetPlan, modelled: Modelled) -> list[Served]:
    """Return what the modelled options in use serve in each period, by model.

    A replica without requests counts as one with next to none.
    """
    out, options = [], found.problem.options
    runs = [(o, model) for o, option in enumerate(options) for model in option.runs]
    # pairs of pools, and a model of a replica with several, have a batch of their own
    alone = {(o, m): o if options[o].together or (options[o].name, m) in modelled.pairs else -1 for o, m in runs}
    for model, own in dict.fromkeys((m, alone[o, m]) for o, m in runs):
        at = [
            (o, t, layout)
            for o, name in runs
            if name == model and alone[o, name] == own
            if (layout := modelled.decodes(options[o].name, model)) is not None
            for t in np.nonzero(found.replicas[o])[0].tolist()
        ]
        if at:
            out.append(_served(found, modelled, at, model))
    return out


def _served(found: FleetPlan, modelled: Modelled, at: Sequence[tuple[int, int, Deployments]], model: str) -> Served:
    """Put the mixes of one model beside each other. at: (M,) option, period, and deployment of one replica."""
    option, period = (np.array([entry[i] for entry in at], dtype=np.intp) for i in (0, 1))
    replicas = found.replicas[option, period].astype(float)
    layouts = replace(joined([entry[2] for entry in at]), replicas=replicas)
    known = np.array([w is not None for w in modelled.workloads])
    first = found.problem.options[option[0]]
    if first.together:
        known &= np.array([name == model for name in found.problem.class_models])
    rates = found.shares[option, :, period] * found.problem.rate[period] * known  # (M, C)
    loads, kinds = [], []
    for o, t, mix in zip(option.tolist(), period.tolist(), rates, strict=True):
        could = np.nonzero(known & found.problem.serves()[o])[0]
        classes = np.nonzero(mix)[0] if mix.any() else could[:1]
        works = [w for w in (modelled.workloads[c] for c in classes) if w is not None]
        parts = [w.at(cv=float(split_cv(w.cv, found.shares[o, c, t]))) for w, c in zip(works, classes, strict=True)]
        loads.append(mixed_load(parts, np.maximum(mix[classes], IDLE_RATE / len(classes))[:, None]))
        kinds.append(np.repeat(classes, [w.classes for w in works]))
    load = stacked(loads)
    kind = np.stack([np.pad(k, (0, len(load.input) - len(k)), constant_values=-1) for k in kinds], axis=1)
    target = modelled.shared.get((first.name, model), modelled.targets[model])
    pair = modelled.pairs.get((first.name, model))
    if pair is None:
        return Served(model, option, period, Batch(target, layouts, load, (), option * 0), kind)
    return Served(model, option, period, _of_pairs(Batch(target, layouts, load, (), option * 0), pair), kind)


def _of_pairs(batch: Batch, pair: PlacedPair) -> PairBatch:
    """Return a batch of one of the equal replicas of a pair of pools: requests are split evenly over them."""
    count = batch.layouts.replicas
    load = batch.load.dealt(1.0 / count)
    decode, rows = replace(batch.layouts, replicas=count * 0 + 1), len(count)
    prefill, workers = joined([pair.prefill] * rows), np.tile(pair.workers[:, None], (1, rows))
    return PairBatch(batch.target, decode, load, (), batch.slo, prefill=prefill, workers=workers)


@dataclass(frozen=True)
class AtLoad:
    """What the O options of a fleet do in P periods, (O, P) each.

    power: watts at the site's meter. power_spread: log half-widths of their 80 % intervals; NaN where power is stated,
    and without replicas. chance: that every SLO of the classes that an option serves holds in the mix that it serves;
    NaN without replicas, for stated throughputs, and without an SLO.
    """

    power: Array
    power_spread: Array
    chance: Array


def at_load(found: FleetPlan, modelled: Modelled) -> AtLoad:
    """Estimate the options of a fleet at the load that they have in each period."""
    problem = found.problem
    stated = np.array([o.power for o in problem.options])[:, None] * found.replicas
    power = np.where(found.replicas > 0, stated, 0.0)
    spread, chance, drawn = np.full((3, *found.replicas.shape), np.nan)  # drawn: watts of a device
    for served in mixes(found, modelled):
        o, t, rows = served.option, served.period, np.arange(len(served.option))
        estimated = served.batch.estimates(rows, served.batch.load.rate)
        chance[o, t] = np.fmin(chance[o, t], _chances(found, served, estimated, modelled.slos))
        own = np.array([(problem.options[i].name, served.model) in modelled.powered for i in o])
        spread[o, t] = np.fmax(spread[o, t], np.where(own, estimated.half_width("power"), np.nan))
        drawn[o[own], t[own]] = np.nan_to_num(drawn[o[own], t[own]]) + estimated.power[own]
    for i in np.nonzero((~np.isnan(drawn)).any(axis=1))[0]:
        option, when = problem.options[i], np.nonzero(~np.isnan(drawn[i]))[0]
        watts = drawn[i, when] - _idle(modelled.tariff, option) * (len(option.runs) - 1)
        wall = _at_the_wall(found, modelled.tariff, int(i), when, watts * option.devices * found.replicas[i, when])
        power[i, when] = site_power(wall, 1.0, 0.0, modelled.pue)
    return AtLoad(power, spread, chance)


def _idle(tariff: Tariff, option: Option) -> float:
    """Return the watts of one device that does nothing, 0 where they are not known: each model's watts have them."""
    names = [d.name for d in tariff.devices]
    name = device_type(option.device)
    return float(np.nan_to_num(tariff.device_idle[names.index(name)])) if name in names else 0.0


def _chances(found: FleetPlan, served: Served, estimated: Estimates, slos: Sequence[Slo]) -> Array:
    """Return the chance that each mix keeps every SLO of its classes, (M,); NaN where none has an SLO."""
    out = np.full(len(served.option), np.nan)
    for slo, rows, some in served.judged(found.problem, estimated, slos):
        out[rows] = np.fmin(out[rows], joint_chance(some, slo))
    return out


def output_at_load(found: FleetPlan, modelled: Modelled) -> Array:
    """Return the output tokens/s of what each option serves in each period, (O, P); NaN where lengths are unknown."""
    outputs = np.array([np.nan if w is None else w.mean_output for w in modelled.workloads])
    rates = found.shares * found.problem.rate.T[None]
    return np.asarray(np.sum(np.where(rates > 0, rates * outputs[None, :, None], 0.0), axis=1))


def mixed_load(works: Sequence[Workload], rates: Array) -> Load:
    """Return the load of several classes together, one column per period.

    works: (C,) lengths of each class. rates: (C, T) requests/s. Variations that a load has one of are means over the
    requests, that of the gaps of its square: over long times, the counts of independent streams vary so (Whitt, Oper.
    Res. 30(1), 1982, asymptotic method).
    """
    parts = [load_of(w.at(arrival="open", rate=1.0), rates.shape[1]) for w in works]
    total = rates.sum(axis=0)
    weight = rates / total

    def mean(name: str) -> Array:
        """Return the mean over classes of the field `name`, (T,)."""
        return np.asarray(np.sum([w * getattr(p, name) for w, p in zip(weight, parts, strict=True)], axis=0))

    return replace(
        parts[0],
        input=np.concatenate([p.input for p in parts]),
        output=np.concatenate([p.output for p in parts]),
        hit=np.concatenate([p.hit for p in parts]),
        share=np.concatenate([p.share * w for w, p in zip(weight, parts, strict=True)]),
        rate=total,
        cv=np.sqrt(np.sum([w * np.square(p.cv) for w, p in zip(weight, parts, strict=True)], axis=0)),
        synchronised=mean("synchronised"),
        length_cv=mean("length_cv"),
        longest=np.max([p.longest for p in parts], axis=0),
    )


def _at_the_wall(found: FleetPlan, tariff: Tariff, number: int, periods: Index, device_watts: Array) -> Array:
    """Return the watts of option `number` in some periods with its part of hosts and idle devices, (T,).

    They are its part of the nodes of its device, which are paid whole. Devices that are rented singly have no host;
    hosts of unknown power count nothing. device_watts: of its devices, (T,).
    """
    problem, replicas = found.problem, found.replicas[:, periods]
    names, hosts, unused = [d.name for d in tariff.devices], dict[str, Array](), np.zeros(len(periods))
    for place, nodes in problem.options[number].nodes_of.items():
        at = names.index(device_type(place)) if device_type(place) in names else -1
        if at < 0 or not tariff.whole[at]:
            continue
        held = problem.nodes_on(place) @ replicas
        whole = np.ceil(held - INTEGRALITY_TOLERANCE)
        idle = np.maximum(whole * tariff.per_node[at] - problem.devices_on(place) @ replicas, 0.0)
        part = nodes * replicas[number] / np.maximum(held, INTEGRALITY_TOLERANCE)
        unused += np.where(idle > 0, idle * tariff.device_idle[at], 0.0) * part
        columns = tariff.host_columns(np.full(len(part), at), whole * part)
        hosts = {name: hosts.get(name, 0.0) + watts for name, watts in columns.items()}
    return tariff.wall(device_watts + unused, hosts) if hosts else device_watts
