"""Estimate each group of cases in one call: rows are columns of arrays, never looped over."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Mask
from perfmodel.cases.case_groups import Group, group_deployments, group_load, group_pools
from perfmodel.cases.settings import Settings
from perfmodel.costs import CostModel, default
from perfmodel.deployment import Deployments
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines import Engine
from perfmodel.estimates import Estimates, configuration_remarks, estimate_load, estimate_pools, prepare
from perfmodel.models import ModelSpec
from perfmodel.workload import Load

#: Weight formats of checkpoints that state an fp8 KV cache, on engines that follow them (`Engine.narrow_cache`).
STATES_FP8_CACHE = (FORMAT_CODE["fp8"], FORMAT_CODE["fp4"])
#: Bits per weight up to which a model counts as quantised to 8 bits: block scales add up to half a bit.
EIGHT_BITS_WITH_SCALES = 8.5
BITS_PER_BYTE = 8.0


def evaluate(
    settings: Settings,
    group: Group,
    costs: CostModel | None = None,
    share: Array | float = 1.0,
    load: Load | None = None,
) -> Estimates:
    """Estimate latency, throughput and memory of the group's rows, in their order.

    costs: prices the operators; by default the cost model of the group's engine. share: of the rate of open loops that
    is taken, (N,). load: in place of `group_load`.
    """
    load = group_load(settings, group) if load is None else load
    load = replace(load, rate=load.rate * share)
    costs = costs or costs_of(group.engine)
    if group.pooled:
        return _evaluate_pools(settings, group, load, costs)
    placed = aggregated(settings, group, load)
    return estimate_load(group.spec, load, placed, engine=group.engine, costs=costs)


def aggregated(settings: Settings, group: Group, load: Load) -> Deployments:
    """Return the deployments of a group without separate prefill and decode pools, KV cache formats filled in.

    load: the load on each deployment, which decides where an fp8 cache was most likely used.
    """
    return _with_fp8_cache(settings, group, load, group_deployments(settings, group))


def remarks_on(settings: Settings, group: Group) -> NDArray[Any]:
    """Return what engines would refuse or do otherwise in each of the group's rows, (N,) texts; "" where nothing."""
    load = group_load(settings, group)
    tokens = np.max(load.input + load.output, axis=0)
    if not group.pooled:
        return configuration_remarks(group.spec, group_deployments(settings, group), group.engine, tokens)
    pools = (pool.worker for pool in group_pools(settings, group))
    first, second = (configuration_remarks(group.spec, pool, group.engine, tokens) for pool in pools)
    return np.where(first == second, first, first + np.where((first != "") & (second != ""), "; ", "") + second)


def _evaluate_pools(settings: Settings, group: Group, load: Load, costs: CostModel) -> Estimates:
    """Estimate a disaggregated group.

    The prefill pool hands its KV over, so it stores the decode pool's format.
    """
    prefill, decode = group_pools(settings, group)
    decoding = _with_fp8_cache(settings, group, load, decode.worker, decode.workers)
    prefilling = replace(prefill.worker, kv=decoding.kv)
    return estimate_pools(
        group.spec,
        load,
        (prefilling, decoding),
        (prefill.workers, decode.workers),
        engine=group.engine,
        costs=costs,
        batch=settings.cases.number["prefill_batch"][group.rows],
    )


def _with_fp8_cache(
    settings: Settings, group: Group, load: Load, placed: Deployments, workers: Array | float = 1.0
) -> Deployments:
    """Return the deployments with an fp8 KV cache where the row gives no format and fp8 was most likely used.

    That is so where the engine follows checkpoints that declare an fp8 cache, and in closed and static benchmarks of
    weights of 8 bits or less whose concurrency a 16-bit cache does not hold: whoever publishes such a run has turned it
    on. Rows whose `recipe` is `default` keep the checkpoint's format. workers: decode workers that divide the load
    among them.
    """
    blank = (placed.kv < 0) & (settings.cases.text["recipe"][group.rows] != "default")
    stated = np.isin(placed.weight, STATES_FP8_CACHE) & group.engine.narrow_cache & _by_model_optimizer(group.spec)
    narrow = blank & stated
    if load.arrival in ("closed", "static") and np.any(blank & ~narrow):
        setup = prepare(group.spec, placed, group.engine, costs_of(group.engine), load)
        held = setup.memory.seqs * placed.replicas * workers
        bits = setup.sharding.weight_bytes("mlp") * BITS_PER_BYTE
        narrow |= blank & (held < load.concurrency) & (bits <= EIGHT_BITS_WITH_SCALES)
    return replace(placed, kv=np.where(narrow, FORMAT_CODE["fp8"], placed.kv)) if narrow.any() else placed


def _by_model_optimizer(spec: ModelSpec) -> bool:
    """True where a copy of `spec` with weights of 8 bits or less was made by NVIDIA's Model Optimizer.

    Its checkpoints declare an fp8 KV cache. Other makers' checkpoints are scaled by blocks, and a latent KV cache (MLA)
    keeps its format.
    """
    latent = any(b.mixer is not None and b.mixer.kind == "mla" for b in spec.blocks)
    return not latent and "fp8_block" not in spec.formats.values()


@cache
def costs_of(engine: Engine) -> CostModel:
    """Return the cost model of an engine, made once."""
    return default(engine)


def replaced(found: Estimates, others: Estimates, rows: Mask) -> Estimates:
    """Return the estimates `found` (N,) with `others` in place of those of `rows` (N,), in their order."""
    order = np.arange(len(rows))
    order[rows] = len(rows) + np.arange(int(rows.sum()))
    return Estimates.concatenate([found, others]).take(order)
