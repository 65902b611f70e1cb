"""Estimate latency, throughput, memory and power of N deployments of a model under a workload, as columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array, Index, codes_in, different
from perfmodel.costs import CostModel, StepCache, default
from perfmodel.deployment import Deployments, Sharding
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.estimates.columns.deployment_columns import placed
from perfmodel.estimates.engine_refusals.context import check_context
from perfmodel.estimates.engine_shards import sharded
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.replicas import divide, estimate_replicas, part_of
from perfmodel.estimates.estimation.shared_step_cache import Laid, SharedStepCache, kept_steps
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.lazy_fields import lazy_value
from perfmodel.memory import Memory, memory_budget
from perfmodel.models import ModelSpec
from perfmodel.serving import StepModel
from perfmodel.workload import Load, Workload, load_of

#: Deployments evaluated at once: columns of this length stay in cache.
CHUNK = 16384
#: Cells (deployments times request classes) evaluated at once, which bounds memory. Chosen: `CHUNK` of 8 classes.
CELLS = 8 * CHUNK
#: Tokens per step that activation memory is reserved for at most, where the engine has no or a huge token budget.
#: Assumed: engines profile their activations with steps of no more.
_MAX_ACTIVATION_TOKENS = 16384.0
#: Arrivals of batch use, without a server: engines have defaults of their own for it.
OFFLINE = ("static", "offline", "single")
#: Part of its output that a sequence holds in KV cache on average: half of it where blocks are allocated as it grows,
#: all of it where they are reserved at admission.
_HELD_OUTPUT = {"grow": 0.5, "reserve": 1.0}


@dataclass(frozen=True)
class Prepared:
    """Hold what does not depend on the load of N deployments: sharding, hardware, memory, step times."""

    sharding: Sharding
    hardware: Hardware
    memory: Memory
    steps: StepModel


@dataclass(frozen=True)
class _EngineLimits:
    """Hold the limits that an engine sets, (N,).

    token_budget: tokens per step of a replica: those of each rank of attention data and of context parallelism, since
    the devices of the latter share the tokens of a prompt. max_num_seqs: sequences per replica, infinite without a
    limit. memory_share: share of a device's memory that the engine uses. graph_seqs: most sequences of a decode step
    that a captured graph replays.
    """

    token_budget: Array
    max_num_seqs: Array
    memory_share: Array
    graph_seqs: Array


def prepare(
    model: ModelSpec,
    deployments: Deployments,
    engine: Engine,
    costs: CostModel,
    load: Load,
    known: StepCache | None = None,
) -> Prepared:
    """Shard the model over each deployment and compute what does not depend on the load.

    Of `load`, only the mean length of requests is used: it decides how many sequences fit in memory. known: costs
    of steps that were priced before, with the same model, engine and costs.
    """
    lay_out = partial(_laid_out, model, engine)
    laid = known.laid_out(deployments, lay_out) if isinstance(known, SharedStepCache) else lay_out(deployments)
    sharding, hardware = laid
    longest = np.max(load.input + load.output, axis=0)
    limits = _limits(engine, deployments, longest, offline=load.arrival in OFFLINE)
    contiguous = engine.admission == "contiguous"  # room for the longest sequence is reserved at admission
    memory = memory_budget(
        sharding,
        hardware,
        engine,
        fraction=limits.memory_share,
        tokens=np.minimum(limits.token_budget / deployments.cp, _MAX_ACTIVATION_TOKENS),
        max_num_seqs=limits.max_num_seqs,
        context=longest if contiguous else load.held(_HELD_OUTPUT[engine.admission]),
    )
    steps = StepModel(
        sharding=sharding,
        hardware=hardware,
        engine=engine,
        costs=costs,
        token_budget=_most_per_step(engine, deployments, limits.token_budget, np.max(load.new, axis=0)),
        max_num_seqs=limits.max_num_seqs,
        graph_seqs=limits.graph_seqs,
        known=known,
        streams=load.arrival not in OFFLINE,
    )
    return Prepared(sharding=sharding, hardware=hardware, memory=memory, steps=steps)


def _most_per_step(engine: Engine, deployments: Deployments, budget: Array, prompt: Array) -> Array:
    """Return the tokens per step, (N,): the budget, but a whole prompt where the engine does not cut prompts.

    Engines without chunked prefill compute a prompt in one step, however long it is, unless they have a physical batch.
    prompt: tokens to compute of the longest prompt, (N,).
    """
    if engine.chunked_prefill or np.isfinite(engine.micro_batch):
        return budget
    return np.maximum(budget, prompt * deployments.dp * deployments.cp)


def _laid_out(model: ModelSpec, engine: Engine, deployments: Deployments) -> Laid:
    """Shard the model over each deployment, and look up its devices."""
    hardware = hardware_of(deployments.devices, deployments.device).capped(deployments.power_cap)
    return Laid(sharded(model, deployments, engine), hardware)


def engine_limits(engine: Engine, deployments: Deployments, load: Load) -> dict[str, Array]:
    """Return the limits that the engine runs each deployment with, stated or its defaults on the device, (N,) each.

    `max_num_batched_tokens`: tokens per step of one rank of attention data parallelism. `max_num_seqs`: sequences as
    the engine counts them (`Engine.budget_split_over_ranks`), inf without a limit. `gpu_memory_utilization`: share of
    device memory, NaN unknown.
    """
    longest = np.max(load.input + load.output, axis=0)
    found = _limits(engine, deployments, longest, offline=load.arrival in OFFLINE)
    return {
        "max_num_batched_tokens": found.token_budget / deployments.dp / deployments.cp,
        "max_num_seqs": found.max_num_seqs / _ranks_of_a_limit(engine, deployments),
        "gpu_memory_utilization": found.memory_share,
    }


def _ranks_of_a_limit(engine: Engine, deployments: Deployments) -> Array:
    """Return by how many ranks a stated number of sequences is multiplied to get that of a replica, (N,).

    vLLM and TensorRT-LLM count it per rank of attention data parallelism; SGLang divides it among the ranks.
    """
    # vLLM docs, "Data Parallel Deployment" (2026): each rank is a core engine of its own;
    # SGLang docs, server arguments: the ranks share --max-running-requests
    return np.ones(len(deployments)) if engine.budget_split_over_ranks else deployments.dp


def _default_limits(engine: Engine, deployments: Deployments, *, offline: bool) -> Array:
    """Return token budget, sequences, share of memory and largest graph that the engine sets by default, (N, 4)."""
    count = len(deployments.devices)
    together = (deployments.tp * deployments.dp * deployments.cp).astype(np.intp)
    kinds = together * count + deployments.device
    first, row = different(kinds)
    sizes_and_devices = [divmod(kind, count) for kind in kinds[first].tolist()]
    found = [engine.limits(deployments.devices[d], offline=offline, devices=n) for n, d in sizes_and_devices]
    rows = [(x.max_num_batched_tokens, x.max_num_seqs, x.gpu_memory_utilization, x.graph_seqs) for x in found]
    return np.array(rows)[row]


def _limits(engine: Engine, deployments: Deployments, longest: Array, *, offline: bool) -> _EngineLimits:
    """Return the limits that a deployment sets itself, else the defaults of its engine on its device.

    longest: tokens of the longest sequence, (N,). offline: the engine's defaults without a server.
    """
    table = _default_limits(engine, deployments, offline=offline)
    stated = np.isfinite(deployments.max_num_batched_tokens)
    usual = np.maximum(longest, engine.max_num_batched_tokens_floor) if engine.budget_is_model_length else table[:, 0]
    budget = np.where(stated, deployments.max_num_batched_tokens, usual)
    budget = np.where(np.isfinite(engine.micro_batch), np.minimum(budget, engine.micro_batch), budget)
    ranks = _ranks_of_a_limit(engine, deployments)
    default = table[:, 1] * (ranks if engine.seqs_stated else deployments.dp)  # defaults hold for each rank
    seqs = np.where(np.isfinite(deployments.max_num_seqs), deployments.max_num_seqs * ranks, default)
    return _EngineLimits(
        token_budget=budget * deployments.dp * deployments.cp,
        max_num_seqs=np.where(np.isnan(seqs), np.inf, seqs),
        memory_share=table[:, 2],
        graph_seqs=table[:, 3] / (1.0 + deployments.drafts if engine.graph_counts_tokens else 1.0),
    )


def estimate(
    model: ModelSpec,
    workload: Workload,
    deployments: Deployments,
    *,
    engine: Engine | str = "vllm",
    costs: CostModel | None = None,
    allow_long_context: bool = True,
) -> Estimates:
    """Estimate latency, throughput, memory and power of each of N deployments under `workload`.

    Columns come in the deployments' order, (N,) or (C, N) by request class. A deployment that does not fit in memory
    keeps its numbers, with `fits` False.

    Args:
        model: the model that is served.
        workload: requests and arrivals, of each whole deployment.
        deployments: what it is served on.
        engine: the engine or its name.
        costs: the cost model of operators; None: the engine's.
        allow_long_context: False refuses requests beyond the context of the model, as engines do.

    Raises:
        InputError: degrees of parallelism that are no positive whole number; requests beyond the model's context, where
            `allow_long_context` is False.
        UnknownName: an unknown engine.
    """
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    check_context(model, workload, allowed=allow_long_context)
    load = load_of(workload, len(deployments))
    known = kept_steps(model, chosen, costs, deployments, len(load.share))
    found = estimate_load(model, load, deployments, engine=chosen, costs=costs, known=known)
    return found.changed(placed=lazy_value(lambda: placed(model, deployments)))


def estimate_load(
    model: ModelSpec,
    load: Load,
    deployments: Deployments,
    *,
    engine: Engine,
    costs: CostModel | None = None,
    known: StepCache | None = None,
) -> Estimates:
    """Do as `estimate`, for a load that differs from deployment to deployment (columns (N,)).

    known: costs of steps that earlier calls priced, with the same model, engine and costs; None: nothing is kept.
    """
    check(deployments)
    load = speculated(load, deployments)
    costs = costs or default(engine)
    at_once = min(CHUNK, max(CELLS // len(load.share), 1))
    if len(deployments) <= at_once:
        return _estimate(model, load, _of_used_devices(deployments), engine, costs, known)
    parts = []
    for start in range(0, len(deployments), at_once):
        rows = slice(start, start + at_once)
        part = _of_used_devices(deployments.take(rows))
        parts.append(_estimate(model, _rows(load, rows), part, engine, costs, known))
    return Estimates.concatenate(parts)


def _of_used_devices(deployments: Deployments) -> Deployments:
    """Return the same deployments without device types that none of them uses, which take time all the same."""
    if len(deployments.devices) == 1:
        return deployments
    used = codes_in(deployments.device)
    if len(used) == len(deployments.devices):
        return deployments
    devices = tuple(deployments.devices[i] for i in used)
    return replace(deployments, devices=devices, device=np.searchsorted(used, deployments.device))


def speculated(load: Load, deployments: Deployments) -> Load:
    """Return the load with the drafts and the tokens per step of each of the deployments that decode it, (N,).

    Requests that start together do not stay together where each has drafts of its own accepted.
    """
    together = np.where(deployments.drafts > 0, 0.0, load.synchronised)
    return replace(load, drafts=deployments.drafts, accepted=deployments.tokens_per_step, synchronised=together)


def _rows(load: Load, rows: slice | Index) -> Load:
    return replace(load, **{k: v[..., rows] for k, v in vars(load).items() if k != "arrival"})


def check(deployments: Deployments, of: str = "") -> None:
    """Raise `InputError` for degrees of parallelism that no deployment can have.

    They are whole numbers of at least 1, and experts are spread over at most the devices that share a layer. of: put
    before the degree in the message, for example `prefill-`.
    """
    for name in ("tp", "pp", "ep", "dp", "cp", "kvp", "replicas"):
        values = getattr(deployments, name)
        bad = ~(np.isfinite(values) & (values >= 1) & (values == np.floor(values)))
        if bad.any():
            value = values[bad][0]
            raise InputError(f"{of}{name}={value:g} is no degree of parallelism; give a whole number of at least 1")
    wide = deployments.ep > (group := deployments.tp * deployments.dp)
    if wide.any():
        raise InputError(
            f"{of}ep={deployments.ep[wide][0]:g} spreads experts over more devices than the {group[wide][0]:g} that "
            f"share a layer (tp x dp); lower {of}ep to a divisor of {group[wide][0]:g}"
        )
    uneven = np.mod(deployments.tp, deployments.kvp) != 0
    if uneven.any():
        tp, kvp = (float(v[uneven][0]) for v in (deployments.tp, deployments.kvp))
        raise InputError(
            f"{of}kvp={kvp:g} does not divide {of}tp={tp:g}; give a divisor, since it shares the devices of tp"
        )


def per_replica(load: Load, replicas: Array) -> Load:
    """Return the load of one of `replicas` (N,) equal replicas: of one with most requests, where some have one less."""
    parts = divide(load, replicas)
    return part_of(load, parts, parts.most, replicas)


def _estimate(
    model: ModelSpec, load: Load, deployments: Deployments, engine: Engine, costs: CostModel, known: StepCache | None
) -> Estimates:
    """Estimate all deployments, those whose replicas are all alike apart from the others, which take twice the time."""
    uneven = divide(load, deployments.replicas).partial > 0
    if uneven.any() and not uneven.all():
        kinds = [np.flatnonzero(~uneven), np.flatnonzero(uneven)]
        parts = [_estimate(model, _rows(load, k), deployments.take(k), engine, costs, known) for k in kinds]
        return Estimates.concatenate(parts).take(np.argsort(np.concatenate(kinds)))
    setup = prepare(model, deployments, engine, costs, load, known)
    return estimate_replicas(setup.steps, setup.memory, load, deployments)
