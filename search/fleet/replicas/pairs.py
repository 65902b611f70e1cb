"""Model pairs of pools as options of a fleet: workers that prefill beside ones that decode, on like or unlike devices.

One replica of such an option is a small group of workers whose numbers match their rates, such as two that prefill and
three that decode. The KV cache crosses the link between them, as it does in a plan of mode `disaggregated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from hwdb import plain
from perfmodel import Deployments, Estimates
from perfmodel.arrays import Array, Index
from perfmodel.power import energy_kwh, energy_usd, site_power
from search.fleet.replicas.batches import Batch, joined
from search.fleet.replicas.rates import Rivals
from search.planning import Target, deployment_words, rows_of
from search.scenario import FleetOption, Option
from search.searchers import pareto

if TYPE_CHECKING:
    from search.planning import Tariff
    from search.scenario import Site

#: Numbers of workers that are tried in one replica: of prefill, of decode. Chosen: other ratios follow from replicas of
#: several kinds, and larger groups fail as a whole.
RATIOS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2), (1, 4), (4, 1))


@dataclass(frozen=True)
class PairBatch(Batch):
    """R pairs of pools of one model, each under its own load and SLO; `layouts` are the decode workers.

    prefill: R prefill workers. workers: (2, R) number of prefill and of decode workers.
    """

    prefill: Deployments
    workers: Array

    def take(self, rows: Index) -> Self:
        """Return some rows of a batch."""
        return replace(super().take(rows), prefill=self.prefill.take(rows), workers=self.workers[:, rows])

    def estimates(self, rows: Index, rates: Array) -> Estimates:
        """Estimate the pairs at `rows` (M,), each at its rate (M,) in requests/s."""
        load = rows_of(self.load, rows).part_at(rates)
        pools = self.prefill.take(rows), self.layouts.take(rows)
        return self.target.estimates_of_pools(load, pools, (self.workers[0, rows], self.workers[1, rows]))


@dataclass(frozen=True)
class PlacedPair:
    """One replica that is a pair of pools: a worker of each, and the numbers of prefill and decode workers, (2,)."""

    prefill: Deployments
    decode: Deployments
    workers: Array


@dataclass(frozen=True)
class Pairs:
    """L pairs of pools that one option of the scenario allows, for one model.

    prefill, decode: L workers each. workers: (2, L) of prefill and of decode in one replica.
    """

    prefill: Deployments
    decode: Deployments
    workers: Array

    def __len__(self) -> int:
        return len(self.decode)

    @property
    def sizes(self) -> Array:
        """Return the devices of both pools in one replica, (2, L)."""
        each = np.stack([self.prefill.devices_per_replica, self.decode.devices_per_replica])
        return np.asarray(each * self.workers)

    def placed(self, row: int) -> PlacedPair:
        """Return the pair at a row."""
        at = np.array([row])
        return PlacedPair(self.prefill.take(at), self.decode.take(at), self.workers[:, row])

    def names(self, rows: Index) -> list[str]:
        """Name the pairs at `rows`: `2 x [1 h100-sxm] + 3 x [1 l40s]`, prefill first."""
        out = []
        for row in rows.tolist():
            pools = (pool.take(np.array([row])) for pool in (self.prefill, self.decode))
            texts = [
                f"{plain(n)} x [{deployment_words(p)}]"
                for n, p in zip(self.workers[:, row].tolist(), pools, strict=True)
            ]
            out.append(" + ".join(texts))
        return out


def paired(prefill: Deployments, decode: Deployments) -> Pairs:
    """Return every pair of a prefill and a decode worker, with every ratio of their numbers."""
    ratios = np.array(RATIOS, dtype=float).T
    count, other, numbers = len(prefill), len(decode), len(RATIOS)
    first = np.repeat(np.arange(count), other * numbers)
    second = np.tile(np.repeat(np.arange(other), numbers), count)
    return Pairs(prefill.take(first), decode.take(second), np.tile(ratios, (1, count * other)))


def pair_speeds(pairs: Pairs, targets: Sequence[Target], rivals: Rivals, share: float) -> tuple[Array, Array]:
    """Model what the pairs serve of each of C classes, and what they draw.

    targets: (C,) tasks of one model. share: of the greatest rate that keeps the SLO. Returns ((C, L) requests/s of one
    replica, (L,) the most watts per device at these rates).
    """
    batch = PairBatch.of(
        pairs.decode,
        targets,
        prefill=joined([pairs.prefill] * len(targets)),
        workers=np.tile(pairs.workers, (1, len(targets))),
    )
    rate, watts = (values.reshape(len(targets), -1) for values in batch.capacities(share, rivals))
    return rate, np.fmax.reduce(watts, axis=0, initial=np.nan)


@dataclass(frozen=True)
class PairTerms:
    """What pairs cost and where they stand.

    at: positions of the prefill and the decode device in the tariff. usd: USD per hour of one of either.
    """

    tariff: Tariff
    site: Site
    at: tuple[int, int]
    usd: tuple[float, float]

    def price(self, sizes: Array, watts: Array) -> Array:
        """Return USD per hour of replicas of `sizes` (2, L) devices; owned ones cost electricity too.

        watts: (L,) of a replica at the site's meter.
        """
        usd = np.array(self.usd) @ sizes
        owned = np.array([float(self.tariff.owned[i]) for i in self.at])
        part = owned @ sizes / sizes.sum(axis=0)
        return np.asarray(usd + np.where(part > 0, part * energy_usd(energy_kwh(watts, 1.0), self.site.usd_per_kwh), 0))

    def nodes(self, pairs: Pairs) -> Array:
        """Return the nodes of the prefill and the decode pool of one replica, (2, L)."""
        each = [
            self.tariff.nodes_per_replica(np.full(len(pairs), i), size / count) * count
            for i, size, count in zip(self.at, pairs.sizes, pairs.workers, strict=True)
        ]
        return np.stack(each)

    def power(self, pairs: Pairs, watts: Array) -> Array:
        """Return the watts of a replica at the site's meter, (L,), with its part of the hosts of both pools.

        watts: (L,) per device.
        """
        where = [np.full(len(pairs), i) for i in self.at]
        first, second = (self.tariff.host_columns(i, n) for i, n in zip(where, self.nodes(pairs), strict=True))
        hosts = {name: first[name] + second[name] for name in first}
        drawn = self.tariff.wall(watts * pairs.sizes.sum(axis=0), hosts)
        return site_power(drawn, 1.0, 0.0, self.site.pue)

    def made(self, option: FleetOption, pairs: Pairs, row: int) -> Option:
        """Return the option of the program that a pair is, without its figures."""
        sizes = pairs.sizes[:, row]
        names = [self.tariff.devices[i].name for i in self.at]
        nodes = self.nodes(pairs)[:, row].tolist()
        own = f"{option.name}: " if option.name != option.device else ""
        unlike = names[0] != names[1]
        return Option(
            name=own + pairs.names(np.array([row]))[0],
            device=" + ".join(dict.fromkeys(names)),
            devices=float(sizes.sum()),
            usd_per_hour=float("nan"),
            nodes=float(sum(nodes)),
            parts=dict(zip(names, sizes.tolist(), strict=True)) if unlike else {},
            part_nodes=dict(zip(names, nodes, strict=True)) if unlike else {},
        )


def best_pairs(
    option: FleetOption, pairs: Pairs, targets: Sequence[Target], terms: PairTerms, share: float
) -> tuple[list[Option], Array, tuple[PlacedPair, ...]]:
    """Return the pairs that no other one beats: options of the program, (K, C) requests/s that they serve, deployments.

    targets: (C,) tasks of one model. share: of the greatest rate that is planned for.
    """
    sizes = pairs.sizes
    zero = np.zeros(len(pairs))
    weights = np.stack([np.nan_to_num(terms.price(sizes, zero)), *sizes], axis=1)
    owned = any(bool(terms.tariff.owned[i]) for i in terms.at)
    rivals = Rivals(zero.astype(np.intp), weights if not owned else weights * np.nan)
    speeds, watts = pair_speeds(pairs, targets, rivals, share)
    power = terms.power(pairs, watts)
    price = terms.price(sizes, power)
    able = np.nonzero(speeds.any(axis=0))[0]
    final = np.column_stack([np.nan_to_num(price), sizes.T])[able]
    front = pareto([*speeds[:, able], *final.T], largest=[True] * len(speeds))
    beaten = Rivals(np.zeros(len(able), dtype=np.intp), final).beaten(speeds[:, able], speeds[:, able], least=2.0)
    kept = able[front & ~beaten]
    made = [
        replace(
            terms.made(option, pairs, row),
            usd_per_hour=float(price[row]),
            power=float(power[row]),
            model=targets[0].model.name,
            most_used=share,
        )
        for row in kept.tolist()
    ]
    return made, speeds[:, kept].T, tuple(pairs.placed(row) for row in kept.tolist())
