"""`estimate`: what N deployments of a model cost under a workload, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.costs import CostModel, default
from perfmodel.deployment import Deployments, Sharding, shard
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.estimates.assembly import assemble
from perfmodel.estimates.estimates import Estimates
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.memory import Memory, memory_budget
from perfmodel.models import ModelSpec
from perfmodel.serving import Served, StepModel, serve
from perfmodel.workload import Load, Workload, load_of

#: Candidates evaluated at once: columns of this length stay in cache.
CHUNK = 8192


@dataclass(frozen=True)
class Prepared:
    """Everything about N candidates that does not depend on the load: layout, hardware, memory, passes."""

    sharding: Sharding
    hardware: Hardware
    memory: Memory
    passes: StepModel


def prepare(model: ModelSpec, deployments: Deployments, engine: Engine, costs: CostModel, load: Load) -> Prepared:
    """Lay the model out on each deployment; the mean length of `load` decides what fits."""
    sharding = shard(model, deployments)
    columns = hardware_of(deployments.devices, deployments.device)
    longest = np.max(load.input + load.output, axis=0)
    budget, cap, fraction, graph = _limits(
        engine, deployments, longest, load.arrival in ("static", "offline", "single")
    )
    context = longest if engine.admission == "contiguous" else load.held(0.5 if engine.admission == "grow" else 1.0)
    space = memory_budget(
        sharding, columns, engine, fraction=fraction, tokens=np.minimum(budget, 16384.0), context=context
    )
    return Prepared(sharding, columns, space, StepModel(sharding, columns, engine, costs, budget, cap, graph))


def _limits(engine: Engine, deployments: Deployments, longest: Array, offline: bool) -> tuple[Array, ...]:
    """Token budget, sequence cap (a replica), memory fraction, largest captured batch: the deployment's own, else the
    engine's. (N,)"""
    limits = [engine.limits(d, offline=offline) for d in deployments.devices]
    table = np.array(
        [(x.max_num_batched_tokens, x.max_num_seqs, x.gpu_memory_utilization, x.graph_seqs) for x in limits]
    )[deployments.device]
    budget = np.where(np.isfinite(deployments.max_num_batched_tokens), deployments.max_num_batched_tokens, table[:, 0])
    if engine.budget_is_model_length:
        budget = np.where(
            np.isfinite(deployments.max_num_batched_tokens),
            budget,
            np.maximum(longest, engine.max_num_batched_tokens_floor),
        )
    budget = np.where(np.isfinite(engine.micro_batch), np.minimum(budget, engine.micro_batch), budget)
    own_cap = np.isfinite(deployments.max_num_seqs)
    cap = np.where(own_cap, deployments.max_num_seqs, table[:, 1] * deployments.dp)
    return budget * deployments.dp, np.where(np.isnan(cap), np.inf, cap), table[:, 2], table[:, 3]


def estimate(
    model: ModelSpec,
    workload: Workload,
    deployments: Deployments,
    *,
    engine: Engine | str = "vllm",
    costs: CostModel | None = None,
) -> Estimates:
    """Latency, throughput, memory and power of each of N deployments under `workload`.

    Columns come back in the deployments' order, (N,) or (C, N) by request class; what does not fit keeps its numbers
    with `fits` False. Raises `InputError` for parallelism that is no positive number.
    """
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    return estimate_load(model, load_of(workload, len(deployments)), deployments, engine=chosen, costs=costs)


def estimate_load(
    model: ModelSpec, load: Load, deployments: Deployments, *, engine: Engine, costs: CostModel | None = None
) -> Estimates:
    """`estimate` for a load that differs from candidate to candidate."""
    check(deployments)
    costs = costs or default(engine)
    parts = []
    for start in range(0, len(deployments), CHUNK):
        rows = slice(start, start + CHUNK)
        parts.append(_estimate(model, _rows(load, rows), deployments.take(rows), engine, costs))
    return parts[0] if len(parts) == 1 else Estimates.concatenate(parts)


def _rows(load: Load, rows: slice) -> Load:
    picked = {k: v[..., rows] for k, v in vars(load).items() if k != "arrival"}
    return Load(arrival=load.arrival, **picked)


def check(deployments: Deployments) -> None:
    """Raise `InputError` for degrees of parallelism that are no whole number of at least 1."""
    for name in ("tp", "pp", "ep", "dp", "cp", "replicas"):
        values = getattr(deployments, name)
        bad = ~(np.isfinite(values) & (values >= 1) & (values == np.floor(values)))
        if bad.any():
            value = values[bad][0]
            raise InputError(f"{name}={value:g} is no degree of parallelism; give a whole number of at least 1")


def _estimate(model: ModelSpec, load: Load, deployments: Deployments, engine: Engine, costs: CostModel) -> Estimates:
    setup = prepare(model, deployments, engine, costs, load)
    replica = per_replica(load, deployments.replicas)
    served: Served = serve(setup.passes, replica, setup.memory.room_for())
    return assemble(setup.passes, setup.memory, replica, served, deployments)


def per_replica(load: Load, replicas: Array) -> Load:
    """The load that one of `replicas` equal replicas carries."""
    split = {k: getattr(load, k) / replicas for k in ("concurrency", "rate", "n_requests")}
    rest = {k: v for k, v in vars(load).items() if k not in split}
    return Load(**rest, **split)
