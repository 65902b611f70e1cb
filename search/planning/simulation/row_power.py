"""Say how many servers of a plan fit a power budget: by nameplate, by what they draw, and at a given risk of capping.

The load of the scenario is replayed on a candidate, which gives the watts of its servers over time. A row holds many
such servers, each with the same share of the load. `perfmodel.power.row` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hwdb import InputError
from perfmodel import Deployments, simulator
from perfmodel.arrays import NAN, Array
from perfmodel.power import Host, ServerPower, host_watts, refused_limit, server_power, through_supplies
from perfmodel.simulator import ReplicaPower, Simulation
from perfmodel.unit_factors import WATTS_PER_KW
from search.planning.money.prices import Tariff
from search.planning.plan_making.ranked_plan import Plan
from search.planning.simulation import verify
from search.searchers import Progress

#: Caps that are tried, as shares of the power limit of the devices. Chosen: the measured sweeps reach half of it.
CAPS = (0.9, 0.8, 0.7, 0.6)
#: Batches that are tried, as shares of the sequences that run at the load. Chosen.
BATCHES = (0.5, 0.25)
#: Which pools a cap holds for.
Capped = Literal["all", "decode"]
#: Columns of a row that are not known where nothing was simulated.
_SIMULATED = (
    "server_w",
    "server_w_peak",
    "row_power_kw",
    "row_power_kw_p99",
    "row_request_rate_rps",
    "row_output_tok_s",
    "ttft_ms",
    "tpot_ms",
    "ttft_ratio",
    "tpot_ratio",
)


@dataclass(frozen=True)
class Budget:
    """Say what a row may draw. watts: at its meter, cooling apart. risk: share of time in which it may be capped."""

    watts: float
    risk: float

    def __post_init__(self) -> None:
        """Raise `InputError` for a budget or a risk that means nothing."""
        if not (np.isfinite(self.watts) and self.watts > 0):
            raise InputError(
                f"the row budget is {self.watts / WATTS_PER_KW:g} kW; give a power above 0 (--row-budget-kw)"
            )
        if not 0 <= self.risk < 1:
            raise InputError(f"the capping risk is {self.risk:g}; give a share of time from 0 to below 1")


@dataclass(frozen=True)
class _Server:
    """Describe a server of one pool: the node that holds `replicas` of it (below 1 where a replica takes several).

    devices: of the node. limit: of a device, W, without a cap. idle: watts of its devices that no replica uses.
    """

    replicas: float
    devices: float
    limit: float
    idle: float
    host: Host
    supply: str

    @property
    def nameplate(self) -> float:
        """Return the watts that the node is rated for."""
        return self.devices * self.limit + float(np.nan_to_num(self.host.most))

    def wall(self, device_watts: Array | float) -> Array:
        """Return the watts at the wall where the devices of the node draw `device_watts` together."""
        loaded, idle = np.nan_to_num(self.host.loaded), np.nan_to_num(self.host.idle)
        beside = host_watts(np.asarray(device_watts), np.asarray(self.devices * self.limit), loaded, idle)
        drawn = np.asarray(device_watts + beside)
        return through_supplies(drawn, self.nameplate, self.supply)

    def cap_for(self, watts: float) -> float:
        """Return the limit of a device at which the node draws at most `watts`, W; NaN below any limit."""
        low, high = 0.0, self.limit
        for _ in range(40):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.wall(self.devices * middle) <= watts else (low, middle)
        return low if low > 1.0 else NAN


@dataclass(frozen=True)
class _Asked:
    """Hold the question: a candidate of a plan, how it is replayed, and what a row may draw.

    servers: the server of each pool, prefill first, with how many of them the plan has. told: called before a replay.
    """

    plan: Plan
    number: int
    settings: verify.Settings
    budget: Budget
    servers: Sequence[tuple[_Server, float]]
    told: Callable[[], None]

    @property
    def by_nameplate(self) -> int:
        """Return the servers that the budget holds by nameplate; raise `InputError` where it holds none."""
        mean = sum(s.nameplate * n for s, n in self.servers) / sum(n for _, n in self.servers)
        if self.budget.watts < mean:
            raise InputError(
                f"a row budget of {self.budget.watts / WATTS_PER_KW:g} kW is below one server of "
                f"{mean / WATTS_PER_KW:.3g} kW; give more"
            )
        return int(self.budget.watts / mean)


@dataclass(frozen=True)
class _Replay:
    """Hold what a replay says of a server. Latencies are means in ms, rates those of one server.

    power: of a mean server over time. peak: its highest second, W. ttft, tpot: over the measured window. paired: TTFT
    and TPOT over all requests, which replays of the same requests are compared by.
    """

    power: ServerPower
    peak: float
    ttft: float
    tpot: float
    paired: tuple[float, float]
    requests: float
    tokens: float


def row_power(
    plan: Plan,
    rank: int,
    budget: Budget,
    settings: verify.Settings | None = None,
    caps: Sequence[float] = CAPS,
    *,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Return flat rows: how many servers of the candidate of `rank` fit the budget, and what caps cost and gain.

    The first rows provision by nameplate, by device limits, by the highest second of a server and at the risk; then
    that row while it is capped; then each of `caps`, shares of the power limit, for all devices and for decode pools
    alone; then smaller batches. progress: called with (done, total) before each replay.

    Raises:
        InputError: for an unknown power limit, a cap of 0 or above 1, a budget below one server.
    """
    settings = settings or verify.Settings()
    number = verify.chosen(plan, rank, settings)
    servers = _servers(plan, number)
    if not all(np.isfinite(s.limit) for s, _ in servers):
        raise InputError(f"{plan.name(number)}: the power limit of a device is unknown; give its tdp in a device file")
    if any(not 0 < cap <= 1 for cap in caps):
        raise InputError(f"caps are {', '.join(f'{c:g}' for c in caps)}; give shares of the power limit, 0 to 1")
    for at in plan.device_types(number):
        device = plan.scorer.tariff.devices[at]
        refused = [text for cap in caps if (text := refused_limit(device, cap * device.tdp))]
        if refused:
            raise InputError(f"caps {', '.join(f'{c:g}' for c in caps)}: {refused[0]}")
    replays = 2 + len(caps) * (2 if len(servers) > 1 else 1) + len(BATCHES)
    asked = _Asked(plan, number, settings, budget, servers, _counted(replays, progress))
    named = asked.by_nameplate
    base = _replayed(asked, {})
    rows = _provisioned(asked, base, named)
    rows += _while_capped(asked, base, named)
    rows += _capped(asked, base, named, caps)
    return [*rows, *_batches(asked, base, named)]


def _counted(replays: int, progress: Progress | None) -> Callable[[], None]:
    """Return what is called before each of `replays` and tells `progress` how many are done."""
    done = iter(range(replays))

    def told() -> None:
        begun = next(done, replays)
        if progress:
            progress(begun, replays)

    return told


def _servers(plan: Plan, number: int) -> list[tuple[_Server, float]]:
    """Return the server of each pool of a candidate, prefill first, with how many of them the plan has."""
    decode, prefill = verify.pools_of(plan, number)
    tariff, supply = plan.scorer.tariff, plan.scorer.tariff.supply
    return [_server(tariff, pool, supply) for pool in (prefill, decode) if pool is not None]


def _server(tariff: Tariff, pool: Deployments, supply: str) -> tuple[_Server, float]:
    """Return the server of a pool of one deployment, and how many of them it has."""
    names = [d.name for d in tariff.devices]
    at = np.array([names.index(pool.devices[int(pool.device[0])].name)])
    size, replicas = pool.devices_per_replica, pool.replicas
    nodes = float(tariff.nodes(at, size, replicas)[0]) if tariff.whole[at[0]] else float(replicas[0])
    per_replica = float(tariff.nodes_per_replica(at, size)[0]) if tariff.whole[at[0]] else 1.0
    devices = float(tariff.per_node[at[0]]) if tariff.whole[at[0]] else float(size[0])
    unused = max(devices - float(size[0]) / per_replica, 0.0)
    host = Host(*(float(a[at[0]]) for a in (tariff.host_power, tariff.host_loaded, tariff.host_idle)))
    limit = float(tariff.device_limit[at[0]])
    idle = unused * float(np.nan_to_num(tariff.device_idle[at[0]]))
    return _Server(1.0 / per_replica, devices, limit, idle, host if tariff.whole[at[0]] else Host(), supply), nodes


def _replayed(asked: _Asked, limits: Mapping[Capped, float]) -> _Replay:
    """Replay the load of the scenario with power limits. limits: W of a device, of all pools or the decode pool."""
    asked.told()
    decode, prefill = verify.pools_of(asked.plan, asked.number)
    everywhere = limits.get("all", NAN)
    found = verify.replay_on(
        asked.plan,
        asked.number,
        asked.settings,
        _limited(decode, limits.get("decode", everywhere)),
        None if prefill is None else _limited(prefill, everywhere),
    )
    return _read(asked, found)


def _read(asked: _Asked, found: Simulation) -> _Replay:
    """Return what the simulation `found` says of a server."""
    seen, everything = simulator.window(found, whole=asked.settings.whole), simulator.window(found, whole=True)
    row = simulator.summary(found, asked.plan.scorer.target.slo, seen)
    nodes = sum(n for _, n in asked.servers)
    power, peak = _mean_server(found, (seen.begin, seen.end), asked.servers)
    ttft, tpot = (simulator.latency(found, metric, everything).mean for metric in ("ttft", "tpot"))
    return _Replay(
        power=power,
        peak=peak,
        ttft=row["ttft_ms"],
        tpot=row["tpot_ms"],
        paired=(ttft if np.isfinite(row["ttft_ms"]) else NAN, tpot),
        requests=row["request_rate_rps"] / nodes,
        tokens=row["output_tok_s"] / nodes,
    )


def _limited(pool: Deployments, watts: float) -> Deployments:
    """Return a pool with a power limit on each device, W; NaN leaves it as it is, and no limit is raised."""
    return pool if np.isnan(watts) else replace(pool, power_cap=np.fmin(pool.power_cap, watts))


def _mean_server(
    found: Simulation, span: tuple[float, float], servers: Sequence[tuple[_Server, float]]
) -> tuple[ServerPower, float]:
    """Return (power over time of a server, mean over pools by their servers; highest second of any server, W)."""
    replicas, at, parts, peak = simulator.replica_power(found), 0, [], 0.0
    count = max(int((span[1] - span[0]) / simulator.METER_S), 1)
    edges = np.linspace(span[0], span[1], count + 1)
    stationary = found.traffic.stationary
    for pool, (server, nodes) in zip(found.pools, servers, strict=True):
        mine, at = replicas[at : at + pool.replicas], at + pool.replicas
        power, highest = _of_pool(mine, edges, server, stationary=stationary)
        parts.append((power, nodes))
        peak = max(peak, highest)
    whole = sum(nodes for _, nodes in parts)
    mean = sum(p.mean * nodes for p, nodes in parts) / whole
    spread = np.sqrt(sum(np.square(p.spread) * nodes for p, nodes in parts) / whole)
    return ServerPower(np.asarray(mean), np.asarray(spread)), peak


def _of_pool(
    replicas: list[ReplicaPower], edges: Array, server: _Server, *, stationary: bool
) -> tuple[ServerPower, float]:
    """Return (power over time of a server of one pool, its highest second, W), at the wall."""
    watts = np.stack([r.joules(edges) / np.diff(edges) * r.devices for r in replicas])
    one = server_power(watts, float(np.diff(edges)[0]), stationary=stationary)
    devices = one.mean * server.replicas + server.idle
    apart = one.spread * np.sqrt(server.replicas)
    mean = server.wall(devices)
    slope = (server.wall(devices + 1.0) - mean) if apart.any() else np.ones_like(mean)
    return ServerPower(mean, apart * slope), float(server.wall(watts.max() * server.replicas + server.idle))


def _row(measure: str, budget: Budget, servers: int, base: int, **values: float) -> dict[str, Any]:
    """Return a row of the answer. base: servers by nameplate. values: what else is known of it."""
    row: dict[str, Any] = {"measure": measure, "row_budget_kw": budget.watts / WATTS_PER_KW, "servers": servers}
    row["more_servers_percent"] = 100.0 * (servers / base - 1.0) if base else NAN
    row |= {"capping_risk": NAN, "power_cap_w": NAN, **dict.fromkeys(_SIMULATED, NAN)}
    return row | values


def _filled(servers: int, budget: Budget, one: _Replay, base: _Replay) -> dict[str, float]:
    """Return what a row of `servers` that behave as `one` does draws and serves. base: without a cap.

    The same requests are offered to both, so that a cap under which the queue is stable serves as many.
    """
    served = base if np.isfinite(one.ttft) else one
    return {
        "capping_risk": one.power.risk(servers, budget.watts),
        "server_w": float(one.power.mean.mean()),
        "server_w_peak": one.peak,
        "row_power_kw": servers * float(one.power.mean.mean()) / WATTS_PER_KW,
        "row_power_kw_p99": one.power.quantile(servers, 0.99) / WATTS_PER_KW if servers else 0.0,
        "row_request_rate_rps": servers * served.requests,
        "row_output_tok_s": servers * served.tokens,
        "ttft_ms": one.ttft,
        "tpot_ms": one.tpot,
        "ttft_ratio": one.paired[0] / base.paired[0],
        "tpot_ratio": one.paired[1] / base.paired[1],
    }


def _provisioned(asked: _Asked, base: _Replay, named: int) -> list[dict[str, Any]]:
    """Return the rows of the ways to provision: nameplate, device limits, highest second, risk of capping.

    named: servers by nameplate.
    """
    budget, whole = asked.budget, sum(n for _, n in asked.servers)
    limits = sum(float(s.wall(s.devices * s.limit)) * n for s, n in asked.servers) / whole
    found = {
        "nameplate": named,
        "device limits": int(budget.watts / limits),
        "highest second": int(budget.watts / base.peak),
        "capping risk": base.power.most_servers(budget.watts, budget.risk),
    }
    return [_row(name, budget, n, named, **_filled(n, budget, base, base)) for name, n in found.items()]


def _while_capped(asked: _Asked, base: _Replay, named: int) -> list[dict[str, Any]]:
    """Return the row of the servers at the risk while a cap keeps them within the budget whatever they do."""
    budget = asked.budget
    most = base.power.most_servers(budget.watts, budget.risk)
    if not most:
        return []
    cap = min(s.cap_for(budget.watts / most) for s, _ in asked.servers)
    if np.isnan(cap):
        return []
    filled = _filled(most, budget, _replayed(asked, {"all": cap}), base)
    return [_row("capping risk, while capped", budget, most, named, **{**filled, "power_cap_w": cap})]


def _capped(asked: _Asked, base: _Replay, named: int, caps: Sequence[float]) -> list[dict[str, Any]]:
    """Return a row per cap that always holds: servers at the same risk, latencies, rates."""
    rows, budget = [], asked.budget
    pools: tuple[Capped, ...] = ("decode", "all") if len(asked.servers) > 1 else ("all",)
    for which in pools:
        for share in caps:
            cap = share * asked.servers[-1][0].limit
            one = _replayed(asked, {which: cap})
            most = one.power.most_servers(budget.watts, budget.risk)
            name = f"{'decode pool' if which == 'decode' else 'all devices'} capped at {100 * share:.0f} %"
            rows.append(_row(name, budget, most, named, **{**_filled(most, budget, one, base), "power_cap_w": cap}))
    return rows


def _batches(asked: _Asked, base: _Replay, named: int) -> list[dict[str, Any]]:
    """Return a row per smaller batch: what a row of the servers at the risk draws where they run fewer sequences.

    [] for two pools, and where too few sequences run.
    """
    running, target = float(asked.plan.columns["running"][asked.number]), asked.plan.scorer.target
    if len(asked.servers) > 1 or running < 1.0 / min(BATCHES):
        return []
    layout, _ = verify.pools_of(asked.plan, asked.number)
    budget, rows = asked.budget, []
    most = base.power.most_servers(budget.watts, budget.risk)
    for share in BATCHES:
        asked.told()
        clients = float(np.round(running * share) * layout.replicas[0])
        found = simulator.simulate(
            target.model,
            layout,
            target.workload.at(arrival="closed", concurrency=clients),
            engine=target.engine,
            costs=target.costs,
            router=asked.settings.router,
            seed=asked.settings.seed,
        )
        one = _read(asked, found)
        values = _filled(most, budget, replace(one, paired=(NAN, NAN)), one)
        rows.append(_row(f"batch of {100 * share:.0f} %", budget, most, named, **values))
    return rows
