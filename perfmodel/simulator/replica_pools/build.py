"""Build a pool of replicas from a model on a deployment under an engine: table of step times, KV capacity, policy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN, Array
from perfmodel.costs import CostModel, default
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine
from perfmodel.estimates import Prepared, check, per_replica, prepare
from perfmodel.hardware import host_link_bandwidth
from perfmodel.memory import sequence_bytes
from perfmodel.models import ModelSpec
from perfmodel.operators import Step
from perfmodel.power import Activity, power_doubt, ready_power, use_of
from perfmodel.serving import slots_limit, streaming_time
from perfmodel.simulator.replica_pools.policy import MAX_SEQS, Link, Policy, Pool, Role, of_engine
from perfmodel.simulator.replica_pools.step_power import DevicePower, Steps
from perfmodel.simulator.replica_pools.table import Floor, Micro, StepTable, StepTime, Usual
from perfmodel.simulator.request_traffic.emission import emission_of
from perfmodel.simulator.request_traffic.requests import Traffic
from perfmodel.workload import Arrival, Workload, load_of, longest_over_mean

#: B/s between a device and its host where neither the deployment nor the hardware database gives the link. Assumed:
#: PCIe 4.0 x16, that is 16 GT/s on 16 lanes with 128b/130b coding = 31.5 GB/s, of which large copies reach 25 GB/s
#: (planning number of FlexGen and DeepSpeed; see `LINK_SHARE` in perfmodel/hardware/host.py).
UNKNOWN_HOST_LINK = 25e9
#: Seconds, and tokens, that a step counts as at least where shares of it are taken: avoids dividing by zero.
LEAST_TIME = 1e-12
#: Prompt tokens per step that a table reaches where the policy sets no budget; beyond the longest contexts in use.
_MAX_TABLE_TOKENS = 1e6


def pool(
    model: ModelSpec,
    deployments: Deployments,
    engine: Engine,
    traffic: Traffic,
    *,
    costs: CostModel | None = None,
    policy: Policy | None = None,
    role: Role = "both",
    table: StepTable | None = None,
) -> Pool:
    """Build the pool of replicas that the simulator runs for `deployments` (one row): step times, KV capacity, policy.

    KV capacity is that of the closed form, at the mean length of `traffic`. KV crosses the device's network between
    pools, and the link to the host where it is swapped.

    Args:
        costs, policy: Used in place of the engine's own cost model and scheduling rules.
        table: Step times made earlier for this deployment, for requests at least as long and as many.

    Raises `InputError` where the model does not fit.
    """
    if len(deployments) != 1:
        raise InputError(f"{len(deployments)} deployments given; simulate one at a time")
    setup = _prepared(model, deployments, engine, traffic, costs)
    chosen = policy or _engine_policy(setup, engine, deployments, traffic)
    device = deployments.devices[int(deployments.device[0])].name
    return Pool(
        table=table or _table(setup, chosen, traffic),
        policy=chosen,
        role=role,
        replicas=int(deployments.replicas[0]),
        kv_tokens=_kv_tokens(setup, traffic),
        kv_bytes=_bytes_per_token(setup, _mean_context(traffic)),
        swap_bandwidth=host_link(deployments),
        name=device if role == "both" else f"{role} on {device}",
        link=_network(setup, device) if role == "prefill" else None,
        power=device_power(setup, deployments),
        emission=emission_of(deployments),
    )


def _prepared(
    model: ModelSpec, deployments: Deployments, engine: Engine, traffic: Traffic, costs: CostModel | None
) -> Prepared:
    """Return sharding, memory and step costs of the deployment; raise `InputError` where the model does not fit."""
    check(deployments)
    costs = costs or default(engine)
    setup = prepare(model, deployments, engine, costs, load_of(representative_workload(traffic), 1))
    reason = setup.memory.reason(0)
    if reason:
        raise InputError(f"{model.name} on {deployments.devices[int(deployments.device[0])].name}: {reason}")
    return setup


def _engine_policy(setup: Prepared, engine: Engine, deployments: Deployments, traffic: Traffic) -> Policy:
    """Return the engine's scheduling policy, with the limits that the analytic estimate uses.

    All micro-batches of a pipeline advance together in one simulated step. Prefix hits that a workload states are hits
    under any engine, as in the closed form: who states them has switched the cache on.
    """
    device = deployments.devices[int(deployments.device[0])]
    seqs = np.minimum(setup.steps.max_num_seqs, MAX_SEQS)
    load = per_replica(load_of(representative_workload(traffic), 1), deployments.replicas)
    stated = traffic.source is not None and traffic.prefixes is not None
    return of_engine(engine, engine.limits(device), max_model_len=_longest(engine, traffic)).changed(
        max_num_batched_tokens=float(setup.steps.token_budget[0] * deployments.pp[0]),
        max_num_seqs=max(float(slots_limit(setup.sharding.adapters, load, seqs)[0]), 1.0),
        request_time=float(np.nan_to_num(setup.steps.request_time(0.0)[0])),
        tokenize_time=float(setup.steps.tokenize_time[0]),
        schedules_ahead=bool(setup.steps.runs_ahead[0]),
        streaming_token=float(streaming_time(setup.steps)[0]),
        prompts_together=int(setup.steps.min_prompts_per_step(np.array([np.inf]))[0]),
        prefix_cache=engine.prefix_cache or stated,
    )


def _network(setup: Prepared, device: str) -> Link | None:
    """Return the device's network as the link over which KV cache reaches the decode pool; None where it is unknown."""
    bandwidth, latency = float(setup.hardware.net_bandwidth[0]), float(np.nan_to_num(setup.hardware.net_latency[0]))
    return Link(bandwidth=bandwidth, latency=latency, name=f"network of {device}") if bandwidth > 0 else None


def host_link(deployments: Deployments) -> float:
    """Return the bandwidth in B/s of copies between a device of the one deployment and its host.

    Taken from the first of these that is known: the host given in the deployment, the device's entry in the hardware
    database, `UNKNOWN_HOST_LINK`.
    """
    device = deployments.devices[int(deployments.device[0])]
    known = [rate for rate in (deployments.host.link, host_link_bandwidth(device)) if not math.isnan(rate)]
    return known[0] if known else UNKNOWN_HOST_LINK


def _bytes_per_token(setup: Prepared, context: float) -> float:
    """Return the bytes of KV cache per token on one device, for sequences of `context` tokens."""
    return float(sequence_bytes(setup.sharding, np.array([context]))[0]) / context


def _kv_tokens(setup: Prepared, traffic: Traffic) -> float:
    """Return the KV capacity of a replica in tokens, that of the closed form (`Memory.kv_tokens`).

    Where nothing limits it, as with a model without KV cache, it holds `MAX_SEQS` of the longest sequences.
    """
    tokens = float(setup.memory.kv_tokens[0])
    return tokens if math.isfinite(tokens) else MAX_SEQS * max(_reach(traffic)[1], float(setup.memory.held[0]))


def _mean_context(traffic: Traffic) -> float:
    """Return the mean tokens that a sequence holds, over all decode steps, as the closed form has it."""
    return float(load_of(representative_workload(traffic), 1).decode_context[0])


def _longest(engine: Engine, traffic: Traffic) -> float:
    """Return the tokens of the longest sequence in `traffic`, which an engine with contiguous KV reserves; else NaN."""
    if engine.admission != "contiguous" and engine.batching != "static":
        return NAN
    return _reach(traffic)[1]


def _reach(traffic: Traffic) -> tuple[float, float]:
    """Return (longest prompt, longest sequence) in tokens, of all that could be drawn where requests are drawn."""
    work = traffic.source
    if work is None:
        return float(np.max(traffic.input_tokens)), float(np.max(traffic.total_tokens))
    prompt, answer = (np.ceil(longest_over_mean(work.isl_dist) * v) for v in (work.input_tokens, work.output_tokens))
    return float(prompt.max()), float((prompt + answer).max())


def representative_workload(traffic: Traffic) -> Workload:
    """Return the workload from which the analytic estimate finds an engine's limits and memory.

    It is the one that the requests were drawn from, so that both have the same settings. Other requests are summarised
    in two classes. The first has the mean lengths and all the requests. The second has the lengths of the longest
    request and no requests: it counts only where the longest one does.
    """
    if traffic.source is not None:
        return traffic.source
    longest = int(np.argmax(traffic.total_tokens))
    arrival: Arrival = "closed" if traffic.concurrency else "offline" if math.isinf(traffic.rate) else "open"
    return Workload(
        input_tokens=np.array([traffic.input_tokens.mean(), traffic.input_tokens[longest]]),
        output_tokens=np.array([traffic.output_tokens.mean(), traffic.output_tokens[longest]]),
        share=np.array([1.0, 0.0]),
        arrival=arrival,
        rate=1.0,
        concurrency=traffic.concurrency or NAN,
        n_requests=float(len(traffic)),
    )


def step_time(setup: Prepared) -> StepTime:
    """Return a function that gives seconds per step of the one deployment in `setup`, priced as in the analytic
    estimate.

    Its arguments are those of `StepTime`; least times (`step_floor`) and the time that an engine takes to take in a
    prompt (`StepModel.take_in`) are not in it. Prompt tokens that attend to k
    keys on average are taken as one sequence where k is large enough, else as several sequences without a cached
    prefix. A pipeline of PP stages advances PP micro-batches per step: prompts are spread over them, whole ones or
    chunks at least, and so are decodes unless the engine takes them through the stages together.
    """
    steps = setup.steps

    def time(prompt: Array, keys: Array, seqs: Array, context: Array) -> Array:
        prompt, keys, seqs, context = np.broadcast_arrays(prompt, keys, seqs, context)
        step, prompts = _step(setup, prompt, keys, seqs, context)
        cost = steps.price(step)
        if steps.engine.overlap_scheduling:
            return cost.time.reshape(prompt.shape)
        running = seqs.reshape(-1, 1) + prompts
        captured = np.ones_like(running, bool)
        return steps.wall(cost, running, captured=captured).reshape(prompt.shape)

    return time


def _step(setup: Prepared, prompt: Array, keys: Array, seqs: Array, context: Array) -> tuple[Step, Array]:
    """Return (one micro-batch of each of K steps, its prompts); arguments of equal shape, as in `StepTime`.

    Columns are (K, 1): request classes lead, candidates come last, and every step is a class of the one candidate.
    """
    cut = float(setup.steps.decode_batches[0])
    chunk = _Prompts.of(setup, prompt, keys)
    decoding = np.maximum(seqs / cut, np.minimum(seqs, 1.0))
    verified = np.full_like(decoding, _step_tokens(setup))
    columns = (chunk.tokens, chunk.before, np.maximum(chunk.prompts, 1.0), decoding, context, verified)
    return Step(*(c.reshape(-1, 1) for c in columns)), chunk.prompts.reshape(-1, 1)


def _step_tokens(setup: Prepared) -> float:
    """Return the tokens that a decode step computes per sequence: one, and the drafts that it verifies."""
    return 1.0 + float(np.ravel(setup.steps.drafts)[0])


def device_power(setup: Prepared, deployments: Deployments) -> DevicePower:
    """Return the power of the devices of the one deployment in `setup`, by what its steps do.

    Stages of a pipeline that a step leaves without a micro-batch wait.
    """
    hardware, steps, pp = setup.hardware, setup.steps, float(setup.sharding.pp[0])

    def busy(run: Steps) -> Array:
        step, _ = _step(setup, run.prompt, run.keys, run.seqs, run.context)
        cost, seconds = steps.price(step), np.maximum(run.seconds, LEAST_TIME)[:, None]
        batches = [
            total[:, None] / np.maximum(each, LEAST_TIME)
            for total, each in ((run.prompt, step.prefill_tokens), (run.seqs, step.decode_seqs))
        ]
        share = np.clip(np.maximum(*batches) / pp, 0.0, 1.0)  # of the stages, those with a micro-batch
        kernels = np.minimum(share * cost.time / seconds, 1.0)
        rates = cost.work * share / np.maximum(seconds, cost.time)
        activity = Activity(np.ones_like(kernels), kernels, use_of(hardware, rates))
        return steps.device_watts(activity)[:, 0]

    return DevicePower(
        busy=busy,
        ready=float(ready_power(hardware)[0]),
        devices=float(deployments.devices_per_replica[0]),
        limit=float(hardware.tdp[0]),
        doubt=float(power_doubt(hardware)[0]),
        device=deployments.devices[int(deployments.device[0])].name,
    )


class _Prompts(NamedTuple):
    """Hold the prompts of one micro-batch: tokens computed, prompts that they belong to, tokens before them; alike."""

    tokens: Array
    prompts: Array
    before: Array

    @classmethod
    def of(cls, setup: Prepared, prompt: Array, keys: Array) -> _Prompts:
        """Split `prompt` tokens per step, each of which attends to `keys` keys on average; arrays broadcast."""
        pp, budget = float(setup.sharding.pp[0]), float(setup.steps.token_budget[0])
        tokens = np.maximum(prompt / pp, np.minimum(prompt, np.minimum(budget, np.maximum(2.0 * keys, 1.0))))
        prompts = np.maximum(tokens / np.maximum(2.0 * keys, 1.0), np.minimum(tokens, 1.0))
        return cls(tokens, prompts, np.maximum(keys - 0.5 * tokens / np.maximum(prompts, 1.0), 0.0))


def step_floor(setup: Prepared) -> Floor:
    """Return functions that give the least seconds per step.

    A step cannot be shorter than its kernel launches that no captured graph replays, nor than the host's work that runs
    in parallel with the device, which grows with the sequences and prompts of the step.
    """
    steps, cut = setup.steps, float(setup.steps.decode_batches[0])

    def least(prompt: float, seqs: Array, prompts: Array) -> Array:
        decoding = np.maximum(seqs / cut, np.minimum(seqs, 1.0)).reshape(-1, 1)
        each = np.full_like(decoding, _step_tokens(setup))
        cost = steps.price(Step(np.full_like(decoding, prompt), 0.0, 1.0, decoding, np.ones_like(decoding), each))
        captured = steps.captured(seqs).reshape(-1, 1) if prompt == 0 else np.zeros((len(seqs), 1), bool)
        idle = replace(cost, time=np.zeros_like(cost.time))
        return steps.wall(idle, (seqs + prompts).reshape(-1, 1), captured=captured)[:, 0]

    def crowd(tokens: Array, keys: Array) -> Array:
        prompts = _Prompts.of(setup, tokens, keys).prompts
        every = np.concatenate([[1.0], prompts.ravel()])
        alone, found = np.split(least(1.0, np.zeros(1), every), [1])
        return np.asarray(found - alone).reshape(prompts.shape)

    return Floor(lambda seqs: (least(0.0, seqs, np.zeros(1)), least(1.0, seqs, np.ones(1))), crowd)


def _table(setup: Prepared, policy: Policy, traffic: Traffic) -> StepTable:
    """Tabulate step times up to the longest sequences of `traffic` and the most tokens and sequences that `policy`
    allows.
    """
    prompt, longest = _reach(traffic)
    most = max(prompt, min(policy.max_num_batched_tokens, _MAX_TABLE_TOKENS))
    if policy.batching == "static":  # a whole batch is prefilled at once
        most = prompt * min(policy.max_num_seqs, len(traffic))
    table = StepTable.build(
        step_time(setup),
        most_tokens=most,
        most_seqs=min(policy.max_num_seqs, MAX_SEQS if traffic.stationary else len(traffic), MAX_SEQS),
        most_context=longest,
        usual=Usual(keys=max(0.5 * float(traffic.input_tokens.mean()), 1.0), context=_mean_context(traffic)),
        floor=step_floor(setup),
        micro=_micro(setup),
        edges=_captured_seqs(setup),
    )
    return replace(table, take_in=np.array(_take_in(setup)))


def _take_in(setup: Prepared) -> tuple[float, float]:
    """Return the host seconds per prompt of a step: (what adds to its time, what adds to its least time)."""
    seconds = float(setup.steps.take_in[0])
    return (0.0 if setup.steps.engine.overlap_scheduling else seconds), seconds


def _micro(setup: Prepared) -> Micro:
    """Return how a step of the one deployment is cut."""
    sharding, budget = setup.sharding, float(setup.steps.token_budget[0])
    return Micro(
        pp=float(sharding.pp[0]),
        budget=budget,
        ranks=float(sharding.dp[0]),
        each=_step_tokens(setup),
        decode_batches=float(setup.steps.decode_batches[0]),
    )


def _captured_seqs(setup: Prepared) -> list[float]:
    """Return the most decoding sequences of a step that a captured graph replays, as a list; [] without graphs."""
    steps = setup.steps
    if steps.graph_seqs is None or not np.isfinite(steps.graph_seqs[0]):
        return []
    return [float(steps.graph_seqs[0] * setup.sharding.dp[0])]
