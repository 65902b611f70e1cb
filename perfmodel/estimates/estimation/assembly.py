"""Assemble the columns of an estimate from its parts: steps, memory, load and one replica in service."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

import numpy as np

from perfmodel.arrays import Array, Codes, common_shape, widened
from perfmodel.deployment import Deployments
from perfmodel.estimates.columns.groups import (
    Latency,
    MemoryUse,
    PowerUse,
    Rates,
    RequestClasses,
    TokenShape,
    WaitShape,
)
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.ranges.causes import causes_of
from perfmodel.estimates.ranges.intervals import DEVIATE_80
from perfmodel.lazy_fields import LazyValue, lazy_value
from perfmodel.memory import Memory
from perfmodel.power import Activity, energy_per_token, use_of
from perfmodel.serving import PACE_AT, PACE_LENGTHS, PACE_STARTS, SHORT_WAITS, TINY, Served, StepModel, longest_gap
from perfmodel.workload import RANKS, Load


def assemble(steps: StepModel, memory: Memory, load: Load, served: Served, deployments: Deployments) -> Estimates:
    """Assemble the estimates of N deployments from what one replica of each of them does.

    Args:
        steps: computes cost and time of steps of the N deployments.
        memory: their memory.
        load: load of one replica.
        served: one replica under that load.
        deployments: how many replicas and devices there are.
    """
    replicas = deployments.replicas
    devices = deployments.devices_per_replica * replicas
    rates = rates_of(
        load,
        served.rate * replicas,
        prefill=prefill_rate(load, served) * replicas,
        decode=decode_rate(load, served) * replicas,
        prompts=lazy_value(lambda: prompts_rate(load, served) * replicas),
    )
    use = LazyValue(lambda: _power_use(steps, load, served, devices, rates.output))
    latency, classes = _by_class(steps, load, served)
    return Estimates(
        latency=latency,
        waits=lazy_value(lambda: _waits(served, len(devices))),
        tokens=lazy_value(lambda: _tokens(served, len(devices))),
        classes=classes,
        rates=rates,
        memory_use=lazy_value(lambda: memory_use(memory, served.running)),
        power_use=lazy_value(use),
        causes=lazy_value(lambda: causes_of(steps, load, served, use().per_device, drafts_doubt(deployments))),
        devices=devices,
        running=served.running,
        saturated=served.saturated,
        basis=lazy_value(lambda: _basis(served)),
    )


def _basis(served: Served) -> Codes:
    """Return the kind of data that the estimates rest on: the worse of decode steps and prompts, (N,)."""
    return np.asarray(np.maximum(served.costs.decode.basis, served.costs.prefill.basis.max(axis=0)), np.int8)


def _waits(served: Served, count: int) -> WaitShape:
    """Collect how waits are distributed as columns of `count` deployments."""
    shape = served.waits
    single = ("uniform_share", "crowded", "end", "queued", "long_share", "long_cv", "beside")
    columns = {n: np.broadcast_to(getattr(shape, n), count) for n in single}
    columns["planned"] = np.broadcast_to(served.times.planned, count)
    by_rank = ("by_rank", "most_by_rank", "queued_by_rank")
    ranks = {n: np.broadcast_to(getattr(shape, n), (len(RANKS), count)) for n in by_rank}
    short = {}
    for name in ("short_shares", "short_longest"):
        given = getattr(shape, name)
        rows = [np.broadcast_to(v, count) for v in (*given, *([0.0] * (SHORT_WAITS - len(given))))]
        short[name] = np.stack(rows)
    return WaitShape(**columns, **ranks, **short)


def _tokens(served: Served, count: int) -> TokenShape:
    """Collect how times per output token differ between requests as columns of `count` deployments."""
    shapes = {"pace": (len(PACE_AT), count), "pace_by_start": (len(PACE_STARTS), len(PACE_LENGTHS), count)}
    names = [f.name for f in fields(TokenShape)]
    return TokenShape(**{n: np.broadcast_to(getattr(served.tokens, n), shapes.get(n, count)) for n in names})


def drafts_doubt(deployments: Deployments) -> Array:
    """Return the log standard deviation of the tokens per step of drafting, (N,): the published range holds 80 %."""
    if not deployments.speculation.assumed:
        return np.zeros(len(deployments))
    low, high = deployments.speculation.range(deployments.drafts)
    return np.asarray(np.log(high / low) / (2.0 * DEVIATE_80))


def _power_use(steps: StepModel, load: Load, served: Served, devices: Array, output: Array) -> PowerUse:
    """Return watts and joules of N deployments. devices: in use, (N,). output: tokens/s of all replicas, (N,)."""
    activity = activity_of(steps, load, served)
    power = steps.device_watts(activity)
    energy = energy_per_token(power * devices, output)
    return PowerUse.of(power, energy, activity)


def _by_class(steps: StepModel, load: Load, served: Served) -> tuple[Latency, RequestClasses]:
    """Collect the latencies and the request classes as columns of one shape, (C, N)."""
    times, decode, mixed, interference = served.times, *attrgetter("decode", "mixed", "interference")(served.steps)
    latency = {
        "ttft": times.ttft,
        "tpot": times.tpot,
        "e2e": times.ttft + np.maximum(load.output - 1.0, 0.0) * times.tpot,
        "prefill": times.prefill,
        "wait": times.wait + times.burst,
        "front_end": steps.request_time(load.input) + times.handed_on,
        "step": decode / load.accepted,
        "itl_tail": mixed,
        "itl_most": longest_gap(steps, load, served.running, (decode, mixed, load.mean(interference))),
        "interference": interference,
        "growth": served.steps.growth,
        "tokens_per_step": load.accepted,
    }
    classes = {"input": load.input, "output": load.output, "share": load.share}
    shape = common_shape(*(np.shape(v) for v in (*latency.values(), *classes.values())))
    spread = {"output_cv": load.length_cv, "output_max": load.longest, "prompt_spread": load.prompt_spread}
    return (
        Latency(**{name: widened(v, shape) for name, v in latency.items()}),
        RequestClasses(**{name: widened(v, shape) for name, v in classes.items()}, **spread),
    )


def rates_of(load: Load, requests: Array, *, prefill: Array, decode: Array, prompts: Array) -> Rates:
    """Compute the throughput of a deployment that completes `requests` requests/s, (N,).

    prefill, decode: tokens/s of a prefill or of decode steps that run alone, (N,). prompts: tokens/s of the prefills
    under the load, (N,).
    """
    outputs, inputs = load.mean(load.output), load.mean(load.input)
    return Rates(
        requests=requests,
        output=requests * outputs,
        total=requests * (inputs + outputs),
        prefill=prefill,
        decode=decode,
        prompts=prompts,
    )


def memory_use(memory: Memory, running: Array) -> MemoryUse:
    """Report the memory in use on the fullest device with `running` sequences on a replica, (N,).

    A run may hold more sequences than fit at their mean length while they are young; the KV cache is full then.
    """
    return MemoryUse(
        used=memory.used(np.where(memory.fits, np.minimum(running, memory.seqs), running)),
        capacity=memory.capacity,
        kv_tokens=memory.kv_tokens,
        max_running=memory.seqs,
        sampler=memory.sampler,
        fits=memory.fits,
        reasons=memory.reasons(),
    )


def prefill_rate(load: Load, served: Served) -> Array:
    """Return the prompt tokens/s of prefills that run alone on a replica, (N,).

    In static batching the whole batch is prefilled together.
    """
    together = served.running if load.arrival in ("static", "single") else 1.0
    return load.mean(load.new) * together / np.maximum(load.mean(served.times.prefill), TINY)


def prompts_rate(load: Load, served: Served) -> Array:
    """Return the prompt tokens/s of a replica whose steps compute nothing but prompts, as many as under the load. (N,)

    With attention data parallelism a prompt by itself keeps one rank busy; under load each rank has one.
    """
    return load.mean(load.new) / np.maximum(load.mean(served.costs.prompt), TINY)


def decode_rate(load: Load, served: Served) -> Array:
    """Return the output tokens/s of decode steps that run alone on a replica, (N,)."""
    return served.running * load.accepted / served.steps.decode


def activity_of(steps: StepModel, load: Load, served: Served) -> Activity:
    """Return what the devices of a replica do, as shares of wall time, (N,).

    Derived: a request takes (output - 1) / accepted decode steps, shared by the running sequences, and its prefill
    steps, shared by the pipeline's stages. In open loops requests in flight are Poisson, with mean L = rate x
    residence: something runs for 1 - exp(-L) of the time, with L / (1 - exp(-L)) sequences.
    """
    costs, running = served.costs, np.maximum(served.running, 1.0)
    least_busy = np.zeros_like(running)
    if load.arrival == "open":
        flight = served.rate * load.mean(served.times.prefill + np.maximum(load.output - 1.0, 0.0) * served.times.tpot)
        least_busy = -np.expm1(-flight)
        running = np.maximum(running, flight / np.maximum(least_busy, TINY))
    n_steps = load.mean(np.maximum(load.output - 1.0, 0.0)) / load.accepted / running

    def per_request(decode: Array, prefill: Array) -> Array:
        """Return what a request adds to one device in its decode and prefill steps, (K, N)."""
        prompt = np.sum(prefill * load.share * costs.prefill_steps, axis=1) / steps.sharding.pp
        return np.asarray(decode * n_steps * stages + prompt)

    filled = np.minimum(running, steps.decode_batches)  # fewer micro-batches than stages leave stages without work
    stages = np.minimum(filled / steps.sharding.pp, 1.0)
    device_time = per_request(costs.decode.bound, costs.prefill.bound).sum(axis=0)
    in_steps = device_time + costs.decode.time * n_steps * (1.0 - stages)
    wall = np.maximum(1.0 / np.maximum(served.rate, TINY), in_steps)
    host_time = np.maximum(served.steps.decode - costs.decode.time, 0.0) * n_steps
    busy = np.minimum(np.maximum((in_steps + host_time) / wall, least_busy), 1.0)
    work = per_request(costs.decode.work, costs.prefill.work)
    shared = 0.0 if steps.engine.prefill_first else load.mean(costs.prefill_steps) / np.maximum(n_steps, TINY)
    mixed = np.minimum(shared, 1.0)  # of the decode steps, those that share a step with a prompt
    prompts = per_request(mixed * costs.decode.bound, costs.prefill.bound).sum(axis=0) / wall
    with_host = prompts + mixed * (host_time + costs.decode.time * n_steps * (1.0 - stages)) / wall
    own = per_request(mixed * costs.decode.work, costs.prefill.work) / wall
    return Activity(
        busy=busy,
        kernels=device_time / wall,
        use=use_of(steps.hardware, work / wall),
        prompts=Activity(np.minimum(with_host, busy), prompts, use_of(steps.hardware, own)),
    )
