"""Summarise the power of a simulation: mean, p99 and peak watts, watts by phase, joules; and its course over time."""

from __future__ import annotations

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN, Array
from perfmodel.estimates import watts_half_width
from perfmodel.power import energy_per_token
from perfmodel.simulator.measurement.device_power import PHASES, ReplicaPower, replica_power
from perfmodel.simulator.measurement.distributions import distribution
from perfmodel.simulator.measurement.window import Window, window
from perfmodel.simulator.simulation import Simulation

#: Seconds over which the power of all devices together is averaged before its percentiles are taken. Chosen: power
#: meters of racks and DCGM report once a second.
METER_S = 1.0
#: Rows of a power series at most, and intervals that it has by default. Chosen: a file of some 100 MB; a chart.
_MOST_ROWS, _INTERVALS = 2_000_000, 240


def power_summary(simulation: Simulation, seen: Window | None = None) -> dict[str, float]:
    """Return watts and joules of the devices over the window `seen`, hosts and site apart; {} for pools without power.

    Of one device: mean with its 80 % range, p99 and peak over its steps and waits, mean by phase with the share of time
    in it. Of all devices: mean, p99 and peak of means over `METER_S`. Joules per output token and per request that ends
    in the window. Watts that are not known are NaN.
    """
    seen, replicas = seen or window(simulation), replica_power(simulation)
    if not replicas:
        return {}
    devices = np.array([r.devices for r in replicas])
    row = _of_a_device(replicas, devices, seen) | _by_phase(replicas, devices, seen)
    row |= _by_pool(simulation, replicas, seen)
    total = float(devices.sum()) * row["power_w_per_device"]
    mean = row["power_w_per_device"]
    powers = [p.power for p in simulation.pools if p.power is not None]
    width = max(watts_half_width(max(1.0 - p.ready / mean, 0.0) if mean > 0 else 0.0, p.doubt) for p in powers)
    tokens = float(simulation.traffic.output_tokens[seen.counted].sum()) / seen.span
    requests = float(seen.counted.sum()) / seen.span
    return {
        **row,
        "power_w_per_device_lo": mean * float(np.exp(-width)),
        "power_w_per_device_hi": mean * float(np.exp(width)),
        **_of_all(replicas, seen, total),
        "energy_j_per_output_token": float(energy_per_token(total, tokens)),
        "energy_j_per_request": float(energy_per_token(total, requests)),
    }


def _of_a_device(replicas: list[ReplicaPower], devices: Array, seen: Window) -> dict[str, float]:
    """Return mean, p99 and peak watts of one device within the window; devices: (replicas,) of each."""
    spent = [r.spent(seen.begin, seen.end) for r in replicas]
    watts = np.concatenate([w for w, _ in spent])
    seconds = np.concatenate([s * n for (_, s), n in zip(spent, devices, strict=True)])
    known = bool(np.isfinite(watts[seconds > 0]).all())
    found = distribution(watts[seconds > 0], seconds[seconds > 0])
    return {
        "power_w_per_device": found.mean if known else NAN,
        "power_w_per_device_p99": found.p99 if known else NAN,
        "power_w_per_device_peak": float(watts[seconds > 0].max()) if known else NAN,
    }


def _by_phase(replicas: list[ReplicaPower], devices: Array, seen: Window) -> dict[str, float]:
    """Return the mean watts of a device in each phase, NaN where it never is in it, and the share of its time."""
    edges, row = np.array([seen.begin, seen.end]), {}
    for code, phase in enumerate(PHASES):
        seconds = float(np.array([r.seconds(edges, code)[0] for r in replicas]) @ devices)
        joules = float(np.array([r.joules_in(seen.begin, seen.end, code) for r in replicas]) @ devices)
        share = max(seconds / seen.span / float(devices.sum()), 0.0)
        present = share > 1e-9  # rounding of sums of seconds
        row[f"{phase}_power_w_per_device"] = joules / seconds if present else NAN
        row[f"{phase}_time_share"] = share if present else 0.0
    return row


def _by_pool(simulation: Simulation, replicas: list[ReplicaPower], seen: Window) -> dict[str, float]:
    """Return the mean watts of a device of the prefill and of the decode pool; {} where there is one pool."""
    edges, row, at = np.array([seen.begin, seen.end]), {}, 0
    for pool in simulation.pools:
        mine, at = replicas[at : at + pool.replicas], at + pool.replicas
        if pool.role != "both":
            watts = [float(r.joules(edges)[0]) / seen.span for r in mine]
            row[f"{pool.role}_pool_power_w_per_device"] = float(np.mean(watts))
    return row


def _of_all(replicas: list[ReplicaPower], seen: Window, mean: float) -> dict[str, float]:
    """Return mean, p99 and peak watts of all devices together, as a meter of `METER_S` reads them."""
    watts = devices_power(replicas, _edges(seen.begin, seen.end, METER_S))
    return {
        "devices_power_w": mean,
        "devices_power_w_p99": distribution(watts).p99 if np.isfinite(mean) else NAN,
        "devices_power_w_peak": float(watts.max()) if np.isfinite(mean) else NAN,
    }


def devices_power(replicas: list[ReplicaPower], edges: Array) -> Array:
    """Return the mean watts of all devices of some replicas between successive `edges` (s, rising), (T - 1,)."""
    total = np.zeros(len(edges) - 1)
    for r in replicas:
        total += r.joules(edges) * r.devices
    return np.asarray(total / np.diff(edges))


def _edges(begin: float, end: float, interval: float) -> Array:
    """Return the edges of intervals of `interval` seconds from `begin`, as many as end before `end`; at least one."""
    count = max(int((end - begin) / interval + 1e-9), 1)
    return begin + (np.arange(count + 1.0) * interval if count > 1 else np.array([0.0, end - begin]))


def power_series(simulation: Simulation, interval: float = 0.0) -> dict[str, Array]:
    """Return columns over time, a row per interval and replica: what a device of it draws, and its time by phase.

    They are `time_s` (begin of the interval, from the first arrival), `replica` (from 1, through all pools), `pool`,
    `devices` of the replica, `power_w_per_device`, and the share of time in each phase of `PHASES`. {} for pools
    without power.

    Args:
        simulation: what was simulated; its whole run is returned.
        interval: s; 0 for a few hundred intervals.

    Raises:
        InputError: for an interval below 0, or one that makes too many rows.
    """
    replicas = replica_power(simulation)
    if not replicas:
        return {}
    begin, end = float(np.nanmin(simulation.issued)), float(np.nanmax(simulation.finish))
    if not (interval >= 0 and np.isfinite(interval)):
        raise InputError(f"the interval is {interval:g} s; give seconds above 0")
    interval = interval or (end - begin) / _INTERVALS
    if (end - begin) / interval * len(replicas) > _MOST_ROWS:
        raise InputError(
            f"an interval of {interval:g} s makes more than {_MOST_ROWS:,} rows; give "
            f"{(end - begin) * len(replicas) / _MOST_ROWS:.2g} s or more"
        )
    edges = _edges(begin, end, interval)
    rows = [_series_of(number + 1, r, edges) for number, r in enumerate(replicas)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _series_of(number: int, replica: ReplicaPower, edges: Array) -> dict[str, Array]:
    """Return the columns of `power_series` of one replica, a row per interval between successive `edges`, s."""
    length = np.diff(edges)
    shares = {f"{phase}_time_share": replica.seconds(edges, code) / length for code, phase in enumerate(PHASES)}
    return {
        "time_s": edges[:-1] - edges[0],
        "replica": np.full(len(length), number),
        "pool": np.full(len(length), replica.pool, object),
        "devices": np.full(len(length), replica.devices),
        "power_w_per_device": replica.joules(edges) / length,
        **{name: np.clip(share, 0.0, 1.0) for name, share in shares.items()},
    }
