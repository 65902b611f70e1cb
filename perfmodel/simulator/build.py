"""From a model on a deployment under an engine to pools of replicas: step times as a table, KV room, policy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.costs import CostModel, default
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine
from perfmodel.estimates import Prepared, check, prepare
from perfmodel.memory import sequence_bytes
from perfmodel.models import ModelSpec
from perfmodel.operators import Step
from perfmodel.simulator.policy import Link, Policy, Pool, of_engine
from perfmodel.simulator.requests import Traffic
from perfmodel.simulator.table import Floor, StepTable, StepTime
from perfmodel.workload import Arrival, Workload, load_of

#: B/s between a device and its host: PCIe 4.0 x16, 32 GB/s less 16b/18b framing and headers, as copies reach it.
HOST_BANDWIDTH = 25e9
_MOST_SEQS = 4096


def pool(
    model: ModelSpec,
    deployments: Deployments,
    engine: Engine,
    traffic: Traffic,
    *,
    costs: CostModel | None = None,
    policy: Policy | None = None,
    role: Literal["both", "prefill", "decode"] = "both",
    swap_bandwidth: float = HOST_BANDWIDTH,
    table: StepTable | None = None,
) -> Pool:
    """The replicas of `deployments` (one row), as the simulator needs them.

    KV room is what memory leaves beside the weights, at the mean length of `traffic`. policy: instead of the engine's
    own. table: step times of this deployment made before, for traffic no longer or wider. KV moves over the device's
    network between pools. `InputError` where the model does not fit.
    """
    if len(deployments) != 1:
        raise InputError(f"{len(deployments)} deployments given; simulate one at a time")
    check(deployments)
    setup = prepare(
        model, deployments, engine, costs or default(engine.family, engine.name), load_of(_lengths(traffic), 1)
    )
    device = deployments.devices[int(deployments.device[0])]
    reason = setup.memory.reason(0)
    if reason:
        raise InputError(f"{model.name} on {device.name}: {reason}")
    chosen = policy or of_engine(engine, engine.limits(device), max_model_len=_longest(engine, traffic))
    if policy is None:
        seqs = float(setup.steps.max_num_seqs[0])
        budget = float(setup.steps.budget[0] * deployments.pp[0])
        chosen = chosen.changed(max_num_batched_tokens=budget, max_num_seqs=min(seqs, _MOST_SEQS))
    context = _mean_context(traffic)
    token = float(sequence_bytes(setup.sharding, np.array([context]))[0]) / context
    bandwidth, latency = float(setup.hardware.net_bandwidth[0]), float(np.nan_to_num(setup.hardware.net_latency[0]))
    if role == "prefill" and not bandwidth > 0:
        raise InputError(f"{device.name}: its network is unknown, and KV has to cross it; give the pools' link")
    return Pool(
        table=table or _table(setup, chosen, traffic),
        policy=chosen,
        role=role,
        replicas=int(deployments.replicas[0]),
        kv_tokens=_kv_tokens(setup, context),
        kv_bytes=token,
        swap_bandwidth=swap_bandwidth,
        name=device.name if role == "both" else f"{role} on {device.name}",
        link=Link(bandwidth, latency, f"network of {device.name}") if role == "prefill" else None,
    )


def _kv_tokens(setup: Prepared, context: float) -> float:
    """Tokens of KV cache that a replica has room for, where sequences are `context` tokens long on average."""
    token = float(sequence_bytes(setup.sharding, np.array([context]), 1.0 - setup.sharding.hosted("kv"))[0]) / context
    if token > 0:
        return float(setup.memory.room[0] * setup.sharding.dp[0] / token)
    return min(float(setup.memory.seqs[0]), _MOST_SEQS) * context  # all of it in host memory


def _mean_context(traffic: Traffic) -> float:
    return float(np.mean(traffic.input_tokens + 0.5 * traffic.output_tokens))


def _longest(engine: Engine, traffic: Traffic) -> float:
    """Longest sequence that an engine with contiguous KV sets aside: that of the traffic."""
    if engine.admission != "contiguous" and engine.batching != "static":
        return float("nan")
    return float(np.max(traffic.input_tokens + traffic.output_tokens))


def _lengths(traffic: Traffic) -> Workload:
    """Mean lengths as all requests, the longest request as none of them: what limits and memory follow."""
    whole = traffic.input_tokens + traffic.output_tokens
    longest = int(np.argmax(whole))
    arrival: Arrival = "closed" if traffic.concurrency else "offline" if math.isinf(traffic.rate) else "open"
    return Workload(
        input_tokens=np.array([traffic.input_tokens.mean(), traffic.input_tokens[longest]]),
        output_tokens=np.array([traffic.output_tokens.mean(), traffic.output_tokens[longest]]),
        share=np.array([1.0, 0.0]),
        arrival=arrival,
        rate=1.0,
        concurrency=max(traffic.concurrency, 1) if traffic.concurrency else np.nan,
        n_requests=float(len(traffic)),
    )


def step_time(setup: Prepared) -> StepTime:
    """Time of a step of the one deployment in `setup` by the closed form's own passes, without what `step_floor` adds.

    Prompt tokens that attend to k keys on average are one sequence where k allows, else several without a cached
    prefix. A pipeline advances PP micro-batches a step: decodes are spread over them, prompts fill them one by one.
    """
    passes = setup.steps
    pp, budget = float(setup.sharding.pp[0]), float(passes.budget[0])

    def time(prompt: Array, keys: Array, seqs: Array, context: Array) -> Array:
        prompt, keys, seqs, context = np.broadcast_arrays(prompt, keys, seqs, context)
        tokens = np.maximum(prompt / pp, np.minimum(prompt, budget))
        width = np.maximum(tokens / np.maximum(2.0 * keys, 1.0), np.minimum(tokens, 1.0))
        before = np.maximum(keys - 0.5 * tokens / np.maximum(width, 1.0), 0.0)
        decoding = np.maximum(seqs / pp, np.minimum(seqs, 1.0))
        # request classes lead, candidates come last: every step is a class of the one candidate
        columns = (tokens, before, np.maximum(width, 1.0), decoding, context)
        cost = passes.price(Step(*(c.reshape(-1, 1) for c in columns)))
        if passes.engine.overlap_scheduling:
            return cost.time.reshape(prompt.shape)
        running = (seqs + width).reshape(-1, 1)
        return passes.wall(cost, running, captured=np.ones_like(running, bool)).reshape(prompt.shape)

    return time


def step_floor(setup: Prepared) -> Floor:
    """Least time of a step: launches of kernels that no captured graph replays, and a host beside the device."""
    passes, pp = setup.steps, float(setup.sharding.pp[0])

    def floor(seqs: Array) -> tuple[Array, Array]:
        found = []
        for prompt in (0.0, 1.0):
            decoding = np.maximum(seqs / pp, np.minimum(seqs, 1.0)).reshape(-1, 1)
            cost = passes.price(Step(np.full_like(decoding, prompt), 0.0, 1.0, decoding, np.ones_like(decoding)))
            captured = passes.captured(seqs).reshape(-1, 1) if prompt == 0 else np.zeros((len(seqs), 1), bool)
            idle = replace(cost, time=np.zeros_like(cost.time))
            found.append(passes.wall(idle, (seqs + prompt).reshape(-1, 1), captured=captured)[:, 0])
        return found[0], found[1]

    return floor


def _table(setup: Prepared, policy: Policy, traffic: Traffic) -> StepTable:
    longest = float(np.max(traffic.input_tokens + traffic.output_tokens))
    most = max(float(np.max(traffic.input_tokens)), min(policy.max_num_batched_tokens, 1e6))
    if policy.batching == "static":
        most = float(np.max(traffic.input_tokens)) * min(policy.max_num_seqs, len(traffic))
    return StepTable.build(
        step_time(setup),
        most_tokens=most,
        most_seqs=min(policy.max_num_seqs, len(traffic), _MOST_SEQS),
        most_context=longest,
        usual_context=_mean_context(traffic),
        floor=step_floor(setup),
    )
