"""Estimate what a fleet draws and how surely it keeps its SLOs at its load, as a plan does of the same deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Deployments, Estimates, Slo, Workload
from perfmodel.arrays import Array, Index
from perfmodel.estimates import joint_chance
from perfmodel.power import site_power
from perfmodel.workload import Load, load_of
from search.fleet.limits import INTEGRALITY_TOLERANCE
from search.planning import Target, Tariff
from search.scenario import Option

if TYPE_CHECKING:
    from search.fleet.fleet import FleetPlan

#: Request rate that stands for none, requests/s.
IDLE_RATE = 1e-6


@dataclass(frozen=True)
class Modelled:
    """What the options of a fleet run, to estimate them again at their own load.

    placed: (name, model) of an option -> its deployment, one replica; options whose power is stated are not in it.
    workloads, slos: (C,) lengths (None where a class has none) and bounds of each class. targets: the task by model.
    tariff: prices and nodes. pue: of the site.
    """

    placed: Mapping[tuple[str, str], Deployments]
    workloads: tuple[Workload | None, ...]
    slos: tuple[Slo, ...]
    targets: Mapping[str, Target]
    tariff: Tariff
    pue: float


def power_at_load(found: FleetPlan, modelled: Modelled) -> tuple[Array, Array]:
    """Return the watts at the site's meter of each option in each period, (O, P), at the load that it has there, and
    the log half-widths of their 80 % intervals, (O, P).

    Options that state their power draw that at any load; their half-width is NaN, as it is without replicas.
    """
    problem = found.problem
    stated = np.array([o.power for o in problem.options])[:, None] * found.replicas
    out, spread = np.where(found.replicas > 0, stated, 0.0), np.full(found.replicas.shape, np.nan)
    for o, option in enumerate(problem.options):
        placed, periods = modelled.placed.get((option.name, option.model)), np.nonzero(found.replicas[o])[0]
        if placed is not None and len(periods):
            rates = found.shares[o][:, periods] * problem.rate[periods].T
            estimated = _under(modelled, option, rates, found.replicas[o, periods])
            devices = estimated.power * option.devices * found.replicas[o, periods]
            wall = _at_the_wall(found, modelled.tariff, o, periods, devices)
            out[o, periods] = site_power(wall, 1.0, 0.0, modelled.pue)
            spread[o, periods] = estimated.half_width("power")
    return out, spread


def output_at_load(found: FleetPlan, modelled: Modelled) -> Array:
    """Return the output tokens/s of what each option serves in each period, (O, P); NaN where lengths are unknown."""
    outputs = np.array([np.nan if w is None else w.mean_output for w in modelled.workloads])
    rates = found.shares * found.problem.rate.T[None]
    return np.asarray(np.sum(np.where(rates > 0, rates * outputs[None, :, None], 0.0), axis=1))


def chances_at_load(found: FleetPlan, modelled: Modelled) -> Array:
    """Return the chance that each option keeps every SLO of the classes that it serves in each period, (O, P).

    Load is linear, as in the program: a class is judged at the rate at which it alone would use the replicas as much as
    all classes do together. NaN without replicas, for stated throughputs, and without an SLO.
    """
    problem, busy = found.problem, found.utilisation()
    out = np.full(found.replicas.shape, np.nan)
    for o, option in enumerate(problem.options):
        placed, periods = modelled.placed.get((option.name, option.model)), np.nonzero(found.replicas[o])[0]
        for c, (work, slo) in enumerate(zip(modelled.workloads, modelled.slos, strict=True)):
            served = periods[found.shares[o, c, periods] * problem.rate[periods, c] > 0]
            if placed is None or work is None or not slo.objectives or not len(served):
                continue
            replicas = found.replicas[o, served].astype(float)
            load = load_of(work.at(arrival="open", rate=1.0), len(served))
            load = replace(load, rate=np.maximum(busy[o, served] * replicas * problem.throughput[o, c], IDLE_RATE))
            those = replace(placed.take(np.zeros(len(served), dtype=np.intp)), replicas=replicas)
            estimated = modelled.targets[option.model].estimates_of(load, those)
            out[o, served] = np.fmin(out[o, served], joint_chance(estimated, slo))
    return out


def _under(modelled: Modelled, option: Option, rates: Array, replicas: Index) -> Estimates:
    """Return the estimates of T loads of `option`. rates: (C, T) requests/s of each class. replicas: (T,)."""
    served = [c for c in np.nonzero(rates.any(axis=1))[0] if modelled.workloads[c] is not None]
    works = [modelled.workloads[c] for c in served] or [w for w in modelled.workloads if w is not None][:1]
    asked = rates[served] if served else np.zeros((1, rates.shape[1]))
    count = np.zeros(len(replicas), dtype=np.intp)
    placed = replace(modelled.placed[option.name, option.model].take(count), replicas=replicas.astype(float))
    load = mixed_load([w for w in works if w is not None], np.maximum(asked, IDLE_RATE / len(asked)))
    return modelled.targets[option.model].estimates_of(load, placed)


def mixed_load(works: Sequence[Workload], rates: Array) -> Load:
    """Return the load of several classes together, one column per period.

    works: (C,) lengths of each class. rates: (C, T) requests/s. Variations that a load has one of are means over the
    requests.
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
        cv=mean("cv"),
        synchronised=mean("synchronised"),
        length_cv=mean("length_cv"),
        longest=np.max([p.longest for p in parts], axis=0),
    )


def _at_the_wall(found: FleetPlan, tariff: Tariff, number: int, periods: Index, device_watts: Array) -> Array:
    """Return the watts of option `number` in some periods with its part of hosts and idle devices, (T,).

    They are its part of the nodes of its device, which are paid whole. Devices that are rented singly have no host;
    hosts of unknown power count nothing. device_watts: of its devices, (T,).
    """
    options = found.problem.options
    names = [d.name for d in tariff.devices]
    device = options[number].device
    if device not in names or not tariff.whole[names.index(device)]:
        return device_watts
    at, here = names.index(device), np.array([o.device == device for o in options], dtype=float)
    held = (here * [o.nodes for o in options]) @ found.replicas[:, periods]
    nodes = np.ceil(held - INTEGRALITY_TOLERANCE)
    used = (here * [o.devices for o in options]) @ found.replicas[:, periods]
    idle = np.maximum(nodes * tariff.per_node[at] - used, 0.0)
    part = options[number].nodes * found.replicas[number, periods] / np.maximum(held, INTEGRALITY_TOLERANCE)
    unused = np.where(idle > 0, idle * tariff.device_idle[at], 0.0)
    hosts = tariff.host_columns(np.full(len(part), at), nodes * part)
    return tariff.wall(device_watts + unused * part, hosts)
