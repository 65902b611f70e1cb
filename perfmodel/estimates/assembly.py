"""From the parts of an estimate to its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Deployments
from perfmodel.estimates.intervals import METRICS as SPREADS
from perfmodel.estimates.intervals import spread
from perfmodel.memory import Memory
from perfmodel.power import device as watts
from perfmodel.serving import Served, StepModel
from perfmodel.workload import RANKS, Load

if TYPE_CHECKING:
    pass
from perfmodel.estimates.estimates import Estimates


def assemble(passes: StepModel, memory: Memory, load: Load, served: Served, deployments: Deployments) -> Estimates:
    """Put the parts of an estimate together; `load` is that of one replica."""
    replicas = deployments.replicas
    devices = deployments.devices_per_replica * replicas
    e2e = served.ttft + np.maximum(load.output - 1.0, 0.0) * served.tpot
    outputs, inputs = load.mean(load.output), load.mean(load.input)
    rate = served.rate * replicas
    decode, prefill = served.decode_cost, served.prefill_cost
    power = _power(passes, load, served)
    basis = np.maximum(decode.basis, prefill.basis.max(axis=0)).astype(np.int8)
    by_class = {
        "ttft": served.ttft,
        "tpot": served.tpot,
        "e2e": e2e,
        "wait": served.wait + served.burst,
        "prefill": served.prefill,
        "interference": served.interference,
        "itl_tail": served.mixed_step,
        "step": served.step / load.accepted,
        "input": load.input,
        "output": load.output,
        "share": load.share,
    }
    shape = np.broadcast_shapes(*(np.shape(v) for v in by_class.values()))
    return Estimates(
        **{name: np.broadcast_to(values, shape) for name, values in by_class.items()},
        overhead=np.full(len(devices), passes.engine.request_time),
        request_rate=rate,
        output_rate=rate * outputs,
        total_rate=rate * (inputs + outputs),
        prefill_rate=_prefill_rate(load, served) * replicas,
        decode_rate=served.running * load.accepted / served.step * replicas,
        devices=devices,
        running=served.running,
        even=np.broadcast_to(served.even, devices.shape),
        waits=np.broadcast_to(served.waits, (len(RANKS), len(devices))),
        memory=memory.used(served.running),
        memory_capacity=memory.capacity,
        max_running=memory.seqs,
        fits=memory.fits,
        saturated=served.saturated,
        power=power,
        energy=power * devices / np.maximum(rate * outputs, 1e-12),
        basis=basis,
        **{f"{metric}_spread": spread(metric, load.arrival, basis, served.saturated) for metric in SPREADS},
        reasons=memory.reasons(),
    )


def _prefill_rate(load: Load, served: Served) -> Array:
    """Prompt tokens a second of a prefill running alone: the whole batch where it starts together."""
    together = served.running if load.arrival in ("static", "single") else 1.0
    return load.mean(load.new) * together / np.maximum(load.mean(served.prefill), 1e-12)


def _power(passes: StepModel, load: Load, served: Served) -> Array:
    """Watts a device, its time split between decode passes, prefill passes, host and idling. (N,)"""
    decode, prefill = served.decode_cost, served.prefill_cost
    steps = load.mean(np.maximum(load.output - 1.0, 0.0)) / load.accepted / np.maximum(served.running, 1.0)
    prompt = np.sum(prefill.bound * load.share * served.prefill_steps, axis=1) / passes.sharding.pp
    bound = decode.bound * steps + prompt
    busy_time = bound.sum(axis=0)
    wall = np.maximum(1.0 / np.maximum(served.rate, 1e-12), busy_time)
    walls = np.maximum(served.step - decode.time, 0.0) * steps
    waiting = np.minimum(walls, wall - busy_time)
    active = watts.busy_power(passes.hardware, bound, waiting)
    share = (busy_time + waiting) / wall
    idle = watts.idle_power(passes.hardware)
    return share * active + (1.0 - share) * idle
