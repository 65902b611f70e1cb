"""Resolve the settings that an engine runs a candidate with: formats, limits and engine, none of them left open."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel import Deployments
from perfmodel.deployment import shard
from perfmodel.dtypes import COMPUTE, FORMAT_NAMES, storage
from perfmodel.estimates import engine_limits
from perfmodel.workload import load_of
from search.planning.operating_point.sizing import Target


def resolved_settings(target: Target, deployment: Deployments) -> dict[str, Any]:
    """Return the settings of one replica of `deployment` (a batch of one) as the engine runs it, as a flat record.

    `weight`, `act`, `kv`: formats of the largest part of the weights, of its arithmetic and of the KV cache.
    `max_num_batched_tokens`: tokens per step, of one rank of attention data parallelism. `max_num_seqs`: running
    sequences as the engine's flag counts them, per rank too (SGLang: per replica). `gpu_memory_utilization`: share of
    device memory that the engine uses. NaN for a limit that the engine does not have. `engine`, `engine_version`: its
    name and versions.
    """
    sharding, part = shard(target.model, deployment), target.model.largest_part
    kv = int(deployment.kv[0])
    limits = engine_limits(target.engine, deployment, load_of(target.workload, 1))
    return {
        "weight": FORMAT_NAMES[int(sharding.weight(part)[0])],
        "act": COMPUTE[int(sharding.compute(part)[0])],
        "kv": FORMAT_NAMES[kv] if kv >= 0 else storage(target.model.kv_format).name,
        **{name: float(value[0]) if np.isfinite(value[0]) else np.nan for name, value in limits.items()},
        "engine": target.engine.family or target.engine.name,
        "engine_version": target.engine.era,
    }
