"""Model a replica that serves several models at once: their weights share the memory, their steps take turns.

Each model m has an engine of its own on the same devices. Constraint memory[o]: sum_m (fixed[m] + kv[m]) <= usable,
with fixed[m] the weights, activations and reserve of an engine; what is left is split into kv[m] by stated parts.

The engines take turns by the step, so that a step of m waits for at most one step of each other model:
wait[m] = sum_{n != m} step[n]. step[n] is the mean time from token to token of n, without its own wait, at the
greatest rate that is planned for it. throughput[o,c] is what m serves within the SLO of class c when every one of its
steps waits so long. It holds whatever the other models do up to their own throughput, so each model has a load of its
own: load[o,m,t,f]. That is conservative: where another model has nothing to do, m would be faster. The longest gaps
between tokens are not bounded so: one step of a long prompt may take longer than the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfmodel import Deployments, Engine
from perfmodel.arrays import Array
from perfmodel.costs import default
from perfmodel.estimates import overall, prepare
from perfmodel.workload import load_of
from search.fleet.replicas.batches import Batch
from search.planning import Target, deployment_words

#: Parts of the KV memory that are tried for two models; more models have equal parts. Chosen.
PARTS_OF_TWO = ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))
#: Most iterations in which waits grow until no step is longer than what the others wait for. Chosen: one is usual.
MOST_ROUNDS = 4
#: Fraction by which a step may be longer than what the others wait for. Chosen: below the steps of the grid of rates.
STEP_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Tenant:
    """One of the models of a shared replica.

    name: of the model. layout: its deployment, one row. targets: (C,) tasks, one per class.
    """

    name: str
    layout: Deployments
    targets: tuple[Target, ...]

    def beside(self, reserve: float, wait: float) -> Tenant:
        """Return the tenant whose engine keeps bytes per device free and waits some seconds at every step."""
        targets = tuple(replace(t, engine=beside(t.engine, reserve, wait)) for t in self.targets)
        return replace(self, targets=targets)


@dataclass(frozen=True)
class SharedRates:
    """What a shared replica of K models serves.

    tenants: (K,) with the engines that they have beside each other. rates: (K,) arrays of requests/s by class. watts:
    (K,) per device at these rates. parts: (K,) of the KV memory.
    """

    tenants: tuple[Tenant, ...]
    rates: tuple[Array, ...]
    watts: Array
    parts: tuple[float, ...]

    def name(self) -> str:
        """Return the replica in words: its layouts, and how they split the KV memory."""
        kinds = dict.fromkeys(deployment_words(t.layout) for t in self.tenants)
        parts = ", ".join(f"{100 * part:.0f} % {t.name.rsplit('/', 1)[-1]}" for part, t in self._split())
        return f"{' + '.join(kinds)}, KV {parts}"

    def row(self, classes: Sequence[Sequence[int]], count: int) -> Array:
        """Return requests/s of each of `count` classes, (C,). classes: positions of those of each tenant."""
        out = np.zeros(count)
        for mine, rates in zip(classes, self.rates, strict=True):
            out[list(mine)] = rates
        return out

    def _split(self) -> list[tuple[float, Tenant]]:
        """Return each tenant with its part of the KV memory."""
        return list(zip(self.parts, self.tenants, strict=True))


def beside(engine: Engine, reserve: float, wait: float) -> Engine:
    """Return an engine that shares its devices.

    reserve: bytes per device that others hold. wait: seconds that every step waits for them; no time of the host can
    hide behind the device meanwhile, which errs on the slow side.
    """
    free = float(np.nan_to_num(engine.reserve_bytes)) + reserve
    if not wait:
        return replace(engine, reserve_bytes=free)
    return replace(engine, reserve_bytes=free, overlap_scheduling=False, step_host_time=engine.step_host_time + wait)


def kv_parts(models: int) -> tuple[tuple[float, ...], ...]:
    """Return the splits of the KV memory that are tried for so many models.

    >>> kv_parts(4)
    ((0.25, 0.25, 0.25, 0.25),)
    """
    return PARTS_OF_TWO if models == len(PARTS_OF_TWO[0]) else ((1.0 / models,) * models,)


def held(tenant: Tenant) -> tuple[float, float]:
    """Return (bytes per device that an engine takes beside KV caches, bytes that all engines together may use)."""
    first = tenant.targets[0]
    costs = first.costs or default(first.engine)
    memory = prepare(first.model, tenant.layout, first.engine, costs, load_of(first.workload, 1)).memory
    fixed = memory.weights + memory.adapters + memory.activations + memory.sampler + memory.reserve
    return float(fixed[0]), float(memory.usable[0])


def reserves(tenants: Sequence[Tenant], parts: Sequence[float]) -> list[float] | None:
    """Return the bytes per device that each engine leaves to the others, (K,); None where the weights do not fit.

    Together the engines hold sum_m (fixed[m] + kv[m]) = usable, the least that any of them allows itself.
    """
    fixed, usable = np.array([held(t) for t in tenants]).T
    left = usable.min() - fixed.sum()
    if not left > 0:
        return None
    each = fixed + left * np.asarray(parts)
    return [float(each.sum() - own + most - usable.min()) for own, most in zip(each, usable, strict=True)]


def shared_rates(tenants: Sequence[Tenant], parts: tuple[float, ...], share: float) -> SharedRates | None:
    """Find what each of the models serves beside the others; None where one of them cannot serve.

    parts: of the KV memory, (K,). share: of the greatest rate that keeps the SLO, which is planned for.
    """
    others = reserves(tenants, parts)
    if others is None:
        return None
    found = [_served(t.beside(r, 0.0), share, 0.0) for t, r in zip(tenants, others, strict=True)]
    step = np.array([s for *_, s in found])
    for _ in range(MOST_ROUNDS):
        if np.isnan(step).any():
            return None
        waits = step.sum() - step
        placed = tuple(t.beside(r, float(w)) for t, r, w in zip(tenants, others, waits, strict=True))
        found = [_served(t, share, float(w)) for t, w in zip(placed, waits, strict=True)]
        longer = np.array([s for *_, s in found])
        if (longer <= step * (1.0 + STEP_TOLERANCE)).all():
            return SharedRates(placed, tuple(r for r, *_ in found), np.array([w for _, w, _ in found]), parts)
        step = np.maximum(step, longer)
    return None


def candidates(
    layouts: Sequence[Sequence[Deployments]], names: Sequence[str], targets: Sequence[Sequence[Target]], share: float
) -> list[SharedRates]:
    """Return what replicas of K models serve on each of the layouts, with each split of the KV memory.

    layouts: of the models on equal devices, K rows each. names, targets: (K,) of the models. share: of the greatest
    rate that is planned for. Empty where a model has no class to serve.
    """
    if not all(targets):
        return []
    found = []
    for rows in layouts:
        tenants = [Tenant(n, row, tuple(tasks)) for n, row, tasks in zip(names, rows, targets, strict=True)]
        found += [one for parts in kv_parts(len(tenants)) if (one := shared_rates(tenants, parts, share))]
    return found


def _served(tenant: Tenant, share: float, wait: float) -> tuple[Array, float, float]:
    """Return (requests/s of each class, watts per device, seconds of a step without its wait) of one model.

    The step is the longest of its classes at their rates; NaN where it serves none, or where no token follows another.
    """
    batch = Batch.of(tenant.layout, tenant.targets)
    rates, watts = batch.capacities(share)
    rows = np.nonzero(rates > 0)[0]
    if not len(rows):
        return rates, float("nan"), float("nan")
    gaps = overall(batch.estimates(rows, rates[rows]), "tpot", "mean")
    return rates, float(np.nanmax(watts[rows])), float(np.max(gaps) - wait)
