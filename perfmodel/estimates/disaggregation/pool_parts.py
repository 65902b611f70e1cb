"""Tell apart what a pair of pools owes to its prefill workers, to its decode workers, and to the link between them.

Pools see each other only through the rate of requests and the hand-over (`perfmodel.estimates.disaggregation.tandem`).
So the figures of every pair of N layouts, with any numbers of workers, follow from what is computed here once per
layout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel.arrays import Array, Codes, Index, Mask
from perfmodel.costs import CostModel, StepCache
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine
from perfmodel.estimates.disaggregation.disaggregated import ServedPair, decode_activity, prefill_activity, serve_pools
from perfmodel.estimates.disaggregation.kv_transfer import reached
from perfmodel.estimates.disaggregation.tandem import decode_room, later_tokens
from perfmodel.estimates.estimation.assembly import drafts_doubt
from perfmodel.estimates.ranges.intervals import OWN_RUNS, own_half_width
from perfmodel.hardware import Hardware
from perfmodel.memory import sequence_bytes
from perfmodel.models import ModelSpec
from perfmodel.serving import TINY, StepModel
from perfmodel.workload import METRICS, Load

#: Partners that are no bottleneck.
_EXCESS = 4096.0


@dataclass(frozen=True)
class PrefillParts:
    """Describe N layouts as prefill workers, C request classes and G groups of prompts that are computed together.

    groups, times, alone, time_cv: as of `perfmodel.serving.PromptPool`, (G, N), (G, N), (C, N), (N,). kv_bytes: of a
    prompt on one device, (C, N). bound: seconds per request by what limits them, (4, N). n_steps: mean steps per
    prompt, (N,). request_time: seconds in the front end, (C, N). basis: codes of `BASES`, (N,). fits: (N,).
    """

    groups: Array
    times: Array
    alone: Array
    time_cv: Array
    kv_bytes: Array
    bound: Array
    n_steps: Array
    request_time: Array
    basis: Codes
    fits: Mask
    pair: ServedPair

    @property
    def greatest(self) -> Array:
        """Return the most prompts/s of one worker, (N,)."""
        return np.asarray(np.max(self.groups / self.times, axis=0))

    def watts(self, shares: Array) -> Array:
        """Return the mean watts of a device at `shares` (K,) of the greatest rate of its worker, (N, K)."""
        each = [self.pair.front.steps.device_watts(prefill_activity(self.pair, s * self.greatest)) for s in shares]
        return np.stack(each, axis=-1)


@dataclass(frozen=True)
class DecodeParts:
    """Describe N layouts as decode workers, under K rates of requests per worker.

    max_running: sequences that a worker has room for, (N,). full: seconds per output token with so many, (N,).
    greatest: requests/s of a worker that has room for so many at any time, (N,). kv_bytes, fits: as of
    `PrefillParts`. tpot: seconds, (N, K). bound: seconds of a step by what limits them, (4, N, K). host: seconds
    of a step that the host adds, (N, K). basis: codes of `BASES`, (N, K). watts: mean of a device, (2, N, K), where
    a request is prefilled and handed over at once, and where that takes `prefill` seconds. accepted: tokens per
    step and sequence, (N,). doubts: see `Doubts`.
    """

    max_running: Array
    full: Array
    greatest: Array
    kv_bytes: Array
    fits: Mask
    tpot: Array
    bound: Array
    host: Array
    basis: Codes
    watts: Array
    prefill: float
    accepted: Array
    doubts: Doubts


@dataclass(frozen=True)
class Doubts:
    """Say what own runs and drafting leave of the doubts about N decode workers.

    own_spreads: as of `perfmodel.estimates.Causes`, (P, N), None where nobody measured. narrowed: log half-widths of
    latencies in an open loop that own runs leave, by metric, (N,) each, inf without own runs. drafts: log standard
    deviation of the tokens per step, (N,).
    """

    own_spreads: Array | None
    narrowed: dict[str, Array]
    drafts: Array


def pool_parts(
    model: ModelSpec,
    load: Load,
    layouts: Deployments,
    shares: Array,
    *,
    engine: Engine,
    costs: CostModel | None = None,
    known: StepCache | None = None,
) -> tuple[PrefillParts, DecodeParts]:
    """Return N layouts as prefill workers and as decode workers.

    Args:
        load: an open loop; its rate is of no account. One column per layout.
        shares: (K,) of the greatest rate of a decode worker, at which its figures are tabulated.
        engine, costs, known: as of `serve_pools`.
    """

    def served(rows: Load, pool: Deployments, workers: tuple[Array, Array]) -> ServedPair:
        """Put the layouts in service, each beside itself."""
        return serve_pools(model, rows, (pool, pool), workers, engine=engine, costs=costs, known=known)

    one, many = np.ones(len(layouts)), np.full(len(layouts), _EXCESS)
    alone = served(replace(load, rate=one), layouts, (one, one))
    front = _prefill_parts(alone)
    most, curve = decode_room(alone.back, alone.demand, one)
    greatest = most / np.maximum(later_tokens(alone.demand) * curve.time[-1], TINY)
    again = np.repeat(np.arange(len(layouts)), len(shares))
    rates = (greatest[:, None] * shares).ravel()
    tabulated = served(_columns(load, again, rates), layouts.take(again), (many[again], one[again]))
    room = most, curve.time[-1], greatest
    return front, _decode_parts(alone, tabulated, room, 2.0 * float(np.median(load.mean(front.alone))))


def _decode_parts(
    alone: ServedPair, tabulated: ServedPair, room: tuple[Array, Array, Array], prefill: float
) -> DecodeParts:
    """Return the decode workers of pairs in service.

    Args:
        alone: one row per layout. tabulated: K rows per layout, each at its rate.
        room: `max_running`, `full` and `greatest`, (N,) each. prefill: seconds.
    """
    most, full, greatest = room
    shape = (len(most), -1)
    worker, cost = tabulated.decode_worker, tabulated.served.costs.decode
    at_once = np.zeros_like(worker.times.prefill)
    watts = [
        tabulated.back.steps.device_watts(decode_activity(tabulated, at_once + t)).reshape(shape) for t in (0, prefill)
    ]
    return DecodeParts(
        max_running=most,
        full=full,
        greatest=greatest,
        kv_bytes=sequence_bytes(alone.back.sharding, alone.demand.input),
        fits=alone.back.memory.fits,
        tpot=worker.times.tpot[0].reshape(shape),
        bound=cost.bound.reshape(len(cost.bound), *shape),
        host=np.maximum(worker.steps.decode - cost.time, 0.0).reshape(shape),
        basis=cost.basis.reshape(shape),
        watts=np.stack(watts),
        prefill=prefill,
        accepted=np.broadcast_to(alone.demand.accepted, len(most)),
        doubts=_doubts(alone.back.steps, alone.pools[1]),
    )


def _doubts(steps: StepModel, layouts: Deployments) -> Doubts:
    """Return what own runs and drafting leave of the doubts about decode workers."""
    adjusted = bool(steps.engine.adjustments)
    runs = steps.own_runs() if adjusted else np.zeros(len(layouts))
    known = np.searchsorted(OWN_RUNS, runs, side="right")
    widths = {m: np.array([np.inf, *(own_half_width(m, "open", n) for n in OWN_RUNS)])[known] for m in METRICS}
    return Doubts(steps.own_spreads() if adjusted else None, widths, drafts_doubt(layouts))


def _columns(load: Load, rows: Index, rates: Array) -> Load:
    """Return the load of `rows` (M,), each at its rate (M,)."""
    picked = {k: v[..., rows] if np.ndim(v) and v.shape[-1] > 1 else v for k, v in vars(load).items() if k != "arrival"}
    return replace(load, **(picked | {"rate": rates}))


def _prefill_parts(pair: ServedPair) -> PrefillParts:
    """Return the prefill workers of pairs in service."""
    prompts, demand = pair.prompts, pair.demand
    by_limit = np.sum(prompts.cost.bound * demand.share * prompts.n_steps, axis=1)
    return PrefillParts(
        groups=prompts.groups,
        times=prompts.times,
        alone=prompts.alone,
        time_cv=prompts.time_cv,
        kv_bytes=sequence_bytes(pair.front.sharding, demand.input),
        bound=by_limit,
        n_steps=demand.mean(prompts.n_steps),
        request_time=pair.front.steps.request_time(demand.input),
        basis=prompts.cost.basis.max(axis=0),
        fits=pair.front.memory.fits,
        pair=pair,
    )


def link_ends(hardware: Hardware) -> dict[str, Array]:
    """Return what each of N devices can hand over, (N,) each: B/s and seconds of latency on its fabric and its network.

    peers: devices on its fabric. Names: `fabric_bps`, `fabric_s`, `network_bps`, `network_s`, `peers`.
    """
    rows = len(hardware.peers)
    fabric, network = (reached(hardware, np.full(rows, local)) for local in (True, False))
    return {
        "fabric_bps": np.where(np.isfinite(hardware.link_bandwidth), fabric[0], np.nan),
        "fabric_s": np.nan_to_num(fabric[1]),
        "network_bps": network[0],
        "network_s": np.nan_to_num(network[1]),
        "peers": np.asarray(hardware.peers, dtype=float),
    }
