"""Divide a load among replicas in whole requests, and combine what fuller and emptier replicas do.

A request is on one replica. Of 5 clients on 4 replicas, one replica has 2 and three have 1 each; of 3 clients, one
replica is idle. So a deployment has at most two kinds of busy replicas, whose numbers of requests differ by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Deployments
from perfmodel.estimates.columns.groups import ColumnGroup, PowerUse, WaitShape
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.assembly import assemble
from perfmodel.hardware import Hardware
from perfmodel.lazy_fields import lazy_value
from perfmodel.memory import Memory
from perfmodel.power import energy_per_token, ready_power
from perfmodel.serving import StepModel, serve
from perfmodel.workload import Load

Group = TypeVar("Group", bound=ColumnGroup)

#: The field that counts requests, by kind of arrival; a stream of one request is on one replica.
_COUNTS = {
    "closed": "concurrency",
    "static": "concurrency",
    "single": "concurrency",
    "offline": "n_requests",
    "open": "n_requests",
}
#: Share of a request that is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Division:
    """Tell how the requests of a load are divided among replicas. (N,)

    most: requests of the fuller replicas. full: number of those. partial: number of replicas with one request less;
    the others are idle. total: requests of the whole load, NaN where it is a rate without end.
    """

    most: Array
    full: Array
    partial: Array
    total: Array


def divide(load: Load, replicas: Array) -> Division:
    """Divide the requests of `load` among `replicas` (N,), as evenly as whole requests allow.

    A number of requests that is not whole is a mean over time: as much of the time there is one request more.
    """
    total = np.where(np.isfinite(count := getattr(load, _COUNTS[load.arrival])), count, np.nan)
    least = np.floor(total / replicas + _ROUNDING)
    extra = total - least * replicas
    even = ~(extra > _ROUNDING * replicas) | (replicas == 1)
    return Division(
        most=np.where(even, total / replicas, least + 1.0),
        full=np.where(even, replicas, extra),
        partial=np.where(even | (least < 1.0), 0.0, replicas - extra),
        total=total,
    )


def part_of(load: Load, parts: Division, requests: Array, replicas: Array) -> Load:
    """Return the load of a replica that has `requests` (N,) of the whole; of a rate without end, an equal part.

    Bursts are divided too (`Load.dealt`).
    """
    share = np.where(np.isfinite(parts.total), requests / parts.total, 1.0 / replicas)
    return load.dealt(share)


def estimate_replicas(steps: StepModel, memory: Memory, load: Load, deployments: Deployments) -> Estimates:
    """Estimate N deployments, all replicas together, from their steps and memory.

    load: of each whole deployment.
    """
    replicas = np.asarray(deployments.replicas, float)
    parts = divide(load, replicas)
    kinds = [(parts.most, parts.full)]
    if np.any(parts.partial > 0):
        kinds.append((np.where(parts.partial > 0, parts.most - 1.0, parts.most), parts.partial))
    found = []
    for requests, number in kinds:
        part = part_of(load, parts, requests, replicas)
        served = serve(steps, part, memory.max_sequences())
        found.append(assemble(steps, memory, part, served, replace(deployments, replicas=number)))
    whole = found[0] if len(found) == 1 else _together(found[0], found[1])
    return _with_idle(whole, deployments, steps.hardware)


def _together(fuller: Estimates, emptier: Estimates) -> Estimates:
    """Combine the estimates of the fuller and the emptier replicas of N deployments; some may have no emptier ones.

    Rates add up. Latencies are means over requests, so each kind counts by the requests that it completes.
    """
    some = emptier.devices > 0
    rates = type(fuller.rates)(
        **{n: a + np.where(some, getattr(emptier.rates, n), 0.0) for n, a in fuller.rates.arrays().items()}
    )
    by_requests = np.where(some, emptier.rates.requests / rates.requests, 0.0)
    by_devices = emptier.devices / (fuller.devices + emptier.devices)
    return replace(
        fuller,
        latency=_mean(fuller.latency, emptier.latency, by_requests),
        waits=_mean_waits(fuller.waits, emptier.waits, by_requests),
        rates=rates,
        power_use=_mean(fuller.power_use, emptier.power_use, by_devices),
        devices=fuller.devices + emptier.devices,
        running=fuller.running + by_devices * (emptier.running - fuller.running),
        saturated=fuller.saturated | (emptier.saturated & some),
        basis=np.where(some, np.maximum(fuller.basis, emptier.basis), fuller.basis).astype(np.int8),
    )


def _mean(one: Group, other: Group, share: Array) -> Group:
    """Return the mean of the columns of two groups, with `share` (N,) of `other`; those of `one` where that is 0."""
    columns = {n: np.where(share > 0, a + share * (getattr(other, n) - a), a) for n, a in vars(one).items()}
    return type(one)(**columns)


def _mean_waits(one: WaitShape, other: WaitShape, share: Array) -> WaitShape:
    """Return the mean of two shapes as `_mean` does, with short waits whose seconds over all requests add up."""
    mean = _mean(one, other, share)
    seconds = [shape.short_shares * shape.short_longest for shape in (one, other)]
    total = np.where(share > 0, seconds[0] + share * (seconds[1] - seconds[0]), seconds[0])
    some = mean.short_shares > 0.0
    longest = np.where(some, total / np.where(some, mean.short_shares, 1.0), mean.short_longest)
    return replace(mean, short_longest=longest, end=np.fmax(one.end, other.end))


def _with_idle(busy: Estimates, deployments: Deployments, hardware: Hardware) -> Estimates:
    """Add idle replicas to the estimates of those that have requests: they draw power and serve nothing."""
    devices = deployments.devices_per_replica * np.asarray(deployments.replicas, float)
    return busy.changed(devices=devices, power_use=lazy_value(lambda: _power_with_idle(busy, devices, hardware)))


def _power_with_idle(busy: Estimates, devices: Array, hardware: Hardware) -> PowerUse:
    """Return the power of `devices` (N,), some of which may wait for requests, from that of the busy ones."""
    idle = 1.0 - busy.devices / devices
    power = busy.power + np.where(idle > _ROUNDING, idle * (ready_power(hardware) - busy.power), 0.0)
    energy = energy_per_token(power * devices, busy.rates.output)
    return replace(busy.power_use, per_device=power, per_output_token=energy)
