"""Estimate disaggregated serving: a pool of prefill workers and a pool of decode workers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.arrays import Array
from perfmodel.costs import CostModel, StepCache, default
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.estimates.columns.deployment_columns import placed_pools
from perfmodel.estimates.columns.groups import MemoryUse, PowerUse
from perfmodel.estimates.disaggregation.kv_transfer import transfer
from perfmodel.estimates.disaggregation.tandem import serve_tandem
from perfmodel.estimates.engine_refusals.context import check_context
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.assembly import activity_of, assemble, decode_rate, prompts_rate, rates_of
from perfmodel.estimates.estimation.estimator import Prepared, check, prepare, speculated
from perfmodel.lazy_fields import lazy_value
from perfmodel.models import ModelSpec
from perfmodel.power import Activity, energy_per_token, use_of
from perfmodel.serving import PromptPool, Served, prompt_pool
from perfmodel.workload import POOLED_REQUESTS_PER_CLIENT, Load, Workload, load_of

#: Fields of an engine that follow from the settings that a user gives (`Engine.configured`).
DERIVED_SETTINGS = ("tiers", "budget_is_model_length")


# size: arguments name what they are, and two pools have two of each
def estimate_disaggregated(
    model: ModelSpec,
    workload: Workload,
    prefill: Deployments,
    decode: Deployments,
    *,
    prefill_workers: Array | float,
    decode_workers: Array | float,
    engine: Engine | str = "vllm",
    costs: CostModel | None = None,
    allow_long_context: bool = True,
) -> Estimates:
    """Estimate latency, throughput, memory and power of N pairs of a prefill pool and a decode pool.

    Workers that only prefill hand their KV cache over to workers that only decode, over the link that
    `decode.hand_over` names: by default the fabric of a node or rack that joins both pools, else the network. Columns
    are as of `estimate`, except: ttft ends when a decode worker can start, hand-over included; running and max_running
    are of one decode worker; rates are of the whole; devices are of both pools, power is their mean, memory is of the
    fuller device; `fits` asks both pools.

    Args:
        workload: arrivals at the whole deployment (no static batches).
        prefill, decode: N rows each. A row places one worker of its pool, on any device; its `replicas` are ignored.
        prefill_workers, decode_workers: workers of each pool, (N,) or one number for all rows.
        allow_long_context: as of `estimate`.

    Raises:
        InputError: pools of different length, fewer than one worker, impossible parallelism, static batching.
        UnknownName: an unknown engine.
    """
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    check_context(model, workload, allowed=allow_long_context)
    rows = len(decode)
    if len(prefill) != rows:
        raise InputError(
            f"{len(prefill)} layouts of prefill workers and {rows} of decode workers; pair them row by row"
        )
    workers = (_workers("prefill_workers", prefill_workers, rows), _workers("decode_workers", decode_workers, rows))
    demand = load_of(workload, rows, POOLED_REQUESTS_PER_CLIENT)
    found = estimate_pools(model, demand, (prefill, decode), workers, engine=chosen, costs=costs)
    return found.changed(placed=lazy_value(lambda: placed_pools(model, (prefill, decode), workers)))


def _workers(name: str, given: Array | float, rows: int) -> Array:
    """Return the number of workers of a pool, `given` as one number or per row, as a column (rows,).

    Raises `InputError` where a row has fewer than one, or where there is not one number per row.
    """
    values = np.asarray(given, float)
    if values.shape not in ((), (1,), (rows,)):
        raise InputError(f"{name} has shape {values.shape} for {rows} pairs of pools; give one number, or one per pair")
    bad = ~(np.isfinite(values) & (values >= 1.0))
    if bad.any():
        raise InputError(f"{name}={values[bad][0]:g} makes no pool; give a number of at least 1")
    return np.broadcast_to(values, (rows,))


def estimate_pools(
    model: ModelSpec,
    demand: Load,
    pools: tuple[Deployments, Deployments],
    workers: tuple[Array, Array],
    *,
    engine: Engine,
    costs: CostModel | None = None,
    batch: Array | float = np.nan,
    known: StepCache | None = None,
) -> Estimates:
    """Do as `estimate_disaggregated`, for a load that differs from row to row; numbers of workers are not checked.

    The arguments are those of `serve_pools`.
    """
    served = serve_pools(model, demand, pools, workers, engine=engine, costs=costs, batch=batch, known=known)
    return _combined(served)


def serve_pools(
    model: ModelSpec,
    demand: Load,
    pools: tuple[Deployments, Deployments],
    workers: tuple[Array, Array],
    *,
    engine: Engine,
    costs: CostModel | None = None,
    batch: Array | float = np.nan,
    known: StepCache | None = None,
) -> ServedPair:
    """Put N pairs of pools in service: their workers, the prompts that they compute, and their state under the load.

    Args:
        demand: load of each whole deployment.
        pools: one prefill worker and one decode worker per row.
        workers: numbers of prefill and of decode workers, (N,) each.
        batch: most prompts that a rank of a prefill worker computes together, (N,); NaN: what fits its token budget.
        known: as of `estimate_load`, for pools alone.
    """
    for pool in pools:
        check(pool)
    if engine.batching == "static":
        raise InputError(f"{engine.title} batches statically, and pools hand requests over one by one; choose another")
    engine = in_pools(engine)
    demand = speculated(demand, pools[1])
    costs = costs or default(engine)
    # a prefill worker holds prompts only while it computes them; a decode worker holds whole sequences
    prompts_only = replace(demand, output=np.ones_like(demand.output))
    front = prepare(model, pools[0], engine, costs, prompts_only, known)
    back = prepare(model, pools[1], engine, costs, demand, known)
    prompts = prompt_pool(front.steps, demand, workers[0], _most_prompts(front, batch))
    served = serve_tandem(front, back, demand, prompts, transfer((front, back), pools, workers, demand))
    return ServedPair(
        front=front, back=back, pools=pools, workers=workers, demand=demand, prompts=prompts, served=served
    )


def _most_prompts(front: Prepared, batch: Array | float) -> Array:
    """Return the most prompts that a rank of a prefill worker computes together, (N,).

    That is what a row states (`batch`, NaN where it does not), what the engine lets run at once, and what memory holds.
    """
    ranks = front.sharding.dp
    held = np.fmin(front.memory.max_sequences(), front.steps.max_num_seqs) / ranks
    return np.asarray(np.maximum(np.fmin(np.asarray(batch, float), held), 1.0))


def in_pools(engine: Engine) -> Engine:
    """Return the engine that workers of pools run: the one that its file names for them, else the engine itself.

    Settings in which `engine` differs from its file are kept.
    """
    if not engine.pooled_as:
        return engine
    try:
        shipped = engine_of(engine.name)
    except UnknownName:
        return engine_of(engine.pooled_as)
    names = [f.name for f in fields(Engine) if f.name not in DERIVED_SETTINGS]
    own = {n: getattr(engine, n) for n in names if repr(getattr(engine, n)) != repr(getattr(shipped, n))}
    return engine_of(engine.pooled_as).configured(**own)


@dataclass(frozen=True)
class ServedPair:
    """Hold N pairs of pools in service.

    front, back: a prefill worker and a decode worker. pools, workers: deployment of a worker and numbers of workers,
    prefill first. demand: load of the whole. served: both pools as one.
    """

    front: Prepared
    back: Prepared
    pools: tuple[Deployments, Deployments]
    workers: tuple[Array, Array]
    demand: Load
    prompts: PromptPool
    served: Served

    @property
    def decode_worker(self) -> Served:
        """Return the state of one decode worker in service."""
        return replace(self.served, rate=self.served.rate / self.workers[1])


def _combined(pair: ServedPair) -> Estimates:
    """Combine both pools: the estimates of a decode worker, with devices, rates, power and memory of both pools."""
    demand, served, workers = pair.demand, pair.served, pair.workers
    worker = assemble(pair.back.steps, pair.back.memory, demand, pair.decode_worker, pair.pools[1])
    used = [p.devices_per_replica * n for p, n in zip(pair.pools, workers, strict=True)]
    devices = used[0] + used[1]
    rates = rates_of(
        demand,
        served.rate,
        prefill=workers[0] * demand.mean(demand.new) / demand.mean(pair.prompts.alone),
        decode=decode_rate(demand, served) * workers[1],
        prompts=lazy_value(lambda: workers[0] * prompts_rate(demand, served)),
    )
    time = worker.latency
    received = np.broadcast_to(pair.front.steps.request_time(demand.input), time.front_end.shape)
    return worker.changed(
        latency=replace(time, front_end=received),  # requests reach the prefill worker's front end
        devices=devices,
        rates=rates,
        memory_use=lazy_value(lambda: _memory_use(pair, worker.memory_use)),
        power_use=lazy_value(lambda: _power_use(pair, devices, rates.output)),
    )


def _memory_use(pair: ServedPair, decoding: MemoryUse) -> MemoryUse:
    """Report the memory of the fuller of both pools' workers, from that of the decode worker."""
    front, back = pair.front.memory, pair.back.memory
    return replace(
        decoding,
        used=np.maximum(decoding.used, front.used(np.ones_like(decoding.used))),
        fits=front.fits & back.fits,
        reasons=np.where(front.fits, back.reasons(), front.reasons()),
    )


def _power_use(pair: ServedPair, devices: Array, output: Array) -> PowerUse:
    """Return watts and joules of both pools. devices: of both, (N,). output: tokens/s of all workers, (N,)."""
    power, activity = _power(pair, devices)
    return PowerUse.of(power, energy_per_token(power * devices, output), activity)


def _power(pair: ServedPair, devices: Array) -> tuple[Array, Activity]:
    """Return the mean watts per device over both pools, (N,), and what devices do on average.

    Prefill workers prefill or wait; decode workers decode or wait. devices: devices of both pools, (N,).
    """
    front = prefill_activity(pair, pair.served.rate / pair.workers[0])
    back = decode_activity(pair, pair.served.times.prefill)
    share = pair.pools[0].devices_per_replica * pair.workers[0] / devices

    def mean(first: Array, second: Array) -> Array:
        """Return the mean over the devices of both pools."""
        return np.asarray(share * first + (1.0 - share) * second)

    watts = mean(pair.front.steps.device_watts(front), pair.back.steps.device_watts(back))
    both = {name: mean(getattr(front, name), getattr(back, name)) for name in ("busy", "kernels", "use")}
    return watts, Activity(busy=both["busy"], kernels=both["kernels"], use=both["use"])


def prefill_activity(pair: ServedPair, rate: Array) -> Activity:
    """Return what the devices of a prefill worker do, (N,), at `rate` requests/s per worker, (N,)."""
    costs = pair.served.costs
    busy = np.clip(pair.demand.mean(np.sum(costs.prefill.bound, axis=0) * costs.prefill_steps) * rate, 0.0, 1.0)
    work = np.sum(costs.prefill.work * pair.demand.share * costs.prefill_steps, axis=1) * rate
    return Activity(busy=busy, kernels=busy, use=use_of(pair.front.hardware, work))


def decode_activity(pair: ServedPair, before: Array) -> Activity:
    """Return what the devices of a decode worker do, (N,). before: seconds of prefill and hand-over, (C, N)."""
    worker, costs = pair.decode_worker, pair.served.costs
    nothing = replace(costs.prefill, bound=costs.prefill.bound * 0.0, work=costs.prefill.work * 0.0)
    times = replace(worker.times, prefill=before)
    return activity_of(
        pair.back.steps, pair.demand, replace(worker, times=times, costs=replace(costs, prefill=nothing))
    )
