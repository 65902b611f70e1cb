"""Assemble the columns of an estimate from its parts: steps, memory, load and one replica in service."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Deployments
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.groups import Intervals, Latency, MemoryUse, PowerUse, Rates, RequestClasses, WaitShape
from perfmodel.estimates.intervals import METRICS as INTERVAL_METRICS
from perfmodel.estimates.intervals import spread
from perfmodel.memory import Memory
from perfmodel.power import energy_per_token, mean_power
from perfmodel.serving import TINY, Served, StepModel
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
    )
    power = device_power(steps, load, served)
    basis = np.maximum(served.costs.decode.basis, served.costs.prefill.basis.max(axis=0)).astype(np.int8)
    widths = {metric: spread(metric, load.arrival, basis, served.saturated) for metric in INTERVAL_METRICS}
    latency, classes = _by_class(steps, load, served)
    return Estimates(
        latency=latency,
        waits=WaitShape(
            uniform_share=np.broadcast_to(served.waits.uniform_share, devices.shape),
            by_rank=np.broadcast_to(served.waits.by_rank, (len(RANKS), len(devices))),
        ),
        classes=classes,
        rates=rates,
        memory_use=memory_use(memory, served.running),
        power_use=PowerUse(per_device=power, per_output_token=energy_per_token(power * devices, rates.output)),
        intervals=Intervals(**widths),
        devices=devices,
        running=served.running,
        saturated=served.saturated,
        basis=basis,
    )


def _by_class(steps: StepModel, load: Load, served: Served) -> tuple[Latency, RequestClasses]:
    """Collect the latencies and the request classes as columns of one shape, (C, N)."""
    times = served.times
    latency = {
        "ttft": times.ttft,
        "tpot": times.tpot,
        "e2e": times.ttft + np.maximum(load.output - 1.0, 0.0) * times.tpot,
        "prefill": times.prefill,
        "wait": times.wait + times.burst,
        "step": served.steps.decode / load.accepted,
        "itl_tail": served.steps.mixed,
        "interference": served.steps.interference,
    }
    classes = {"input": load.input, "output": load.output, "share": load.share}
    shape = np.broadcast_shapes(*(np.shape(v) for v in (*latency.values(), *classes.values())))
    front_end = np.full(len(served.running), steps.engine.request_time)
    return (
        Latency(front_end=front_end, **{name: np.broadcast_to(v, shape) for name, v in latency.items()}),
        RequestClasses(**{name: np.broadcast_to(v, shape) for name, v in classes.items()}),
    )


def rates_of(load: Load, requests: Array, *, prefill: Array, decode: Array) -> Rates:
    """Compute the throughput of a deployment that completes `requests` requests/s, (N,).

    prefill, decode: tokens/s of prefill or of decode steps that run alone, (N,).
    """
    outputs, inputs = load.mean(load.output), load.mean(load.input)
    return Rates(
        requests=requests,
        output=requests * outputs,
        total=requests * (inputs + outputs),
        prefill=prefill,
        decode=decode,
    )


def memory_use(memory: Memory, running: Array) -> MemoryUse:
    """Report the memory in use on the fullest device with `running` sequences on a replica, (N,)."""
    return MemoryUse(
        used=memory.used(running),
        capacity=memory.capacity,
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


def decode_rate(load: Load, served: Served) -> Array:
    """Return the output tokens/s of decode steps that run alone on a replica, (N,)."""
    return served.running * load.accepted / served.steps.decode


def device_power(steps: StepModel, load: Load, served: Served) -> Array:
    """Return the mean watts per device, (N,): its time per request is split between decode, prefill, host and idling.

    Derived: a request takes (output - 1) / accepted decode steps, shared by the running sequences, and its prefill
    steps, shared by the pipeline's stages. Time that neither takes between two requests is idle.
    """
    decode, prefill = served.costs.decode, served.costs.prefill
    n_steps = load.mean(np.maximum(load.output - 1.0, 0.0)) / load.accepted / np.maximum(served.running, 1.0)
    prompt = np.sum(prefill.bound * load.share * served.costs.prefill_steps, axis=1) / steps.sharding.pp
    bound_time = decode.bound * n_steps + prompt
    device_time = bound_time.sum(axis=0)
    wall = np.maximum(1.0 / np.maximum(served.rate, TINY), device_time)
    beside = np.maximum(served.steps.decode - decode.time, 0.0) * n_steps
    host_time = np.minimum(beside, wall - device_time)
    return mean_power(steps.hardware, bound_time, host_time, (device_time + host_time) / wall)
