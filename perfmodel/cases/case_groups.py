"""Group the rows of cases that are evaluated together, and give each group its load and its deployments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.cases.settings import Settings
from perfmodel.cases.unstated import Placement, placement
from perfmodel.deployment import Deployments, Speculation, deployments
from perfmodel.engines import Engine
from perfmodel.models import Adapters, ModelSpec
from perfmodel.workload import (
    DEFAULT_REQUESTS_PER_CLIENT,
    POOLED_REQUESTS_PER_CLIENT,
    Arrival,
    Histogram,
    Load,
    length_cv,
    measured_per_client,
    prompt_spread,
    synchronised,
)

#: Requests of an offline run whose size is not given. Chosen: so many that its ramp-up and drain do not show.
UNBOUNDED_REQUESTS = 1e6
#: Channels of the narrowest slice of an expert that a rank computes: GEMM tiles and block scales are 128 wide.
SLICE_CHANNELS = 128.0


@dataclass(frozen=True)
class Group:
    """Rows of cases that share model, engine, arrival mode, and whether prefill and decode have pools of their own.

    classes: length classes of the data set that all rows name in place of lengths; None: each row has its own means.
    adapters: LoRA adapters that the requests use, None without. speculation: how tokens are drafted.
    """

    spec: ModelSpec
    engine: Engine
    mode: Arrival
    pooled: bool
    rows: Index
    classes: Histogram | None = None
    adapters: Adapters | None = None
    speculation: Speculation = field(default_factory=Speculation)
    _kept: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def once(self, name: str, made: Callable[[], Any]) -> Any:
        """Return what `made` makes of the group, made once for each `name`."""
        if name not in self._kept:
            self._kept[name] = made()
        return self._kept[name]


@dataclass(frozen=True)
class Pool:
    """One pool of a disaggregated deployment: a worker for each row, and (N,) how many equal workers there are."""

    worker: Deployments
    workers: Array


def groups_of(settings: Settings) -> list[Group]:
    """Group all rows that can be answered by model, engine, arrival mode and pools."""
    names = settings.names
    engines = names.engines.values
    # versions of one era are one engine; files of the user's own may bear the name of one that ships
    number: dict[Engine, int] = {}
    first = [number.setdefault(e, place) for place, e in enumerate(engines)]
    members: dict[tuple[int, int, Arrival, bool, int, int, int], list[int]] = {}
    for row in np.flatnonzero(settings.cases.error == "").tolist():
        engine = first[names.engines.index[row]]
        shape = int(settings.classes.index[row]), int(settings.adapters.index[row]), int(names.drafting.index[row])
        key = (int(names.models.index[row]), engine, settings.mode[row], bool(settings.pooled[row]), *shape)
        members.setdefault(key, []).append(row)
    return [
        Group(
            spec=names.models.values[m],
            engine=engines[e],
            mode=mode,
            pooled=pooled,
            rows=np.array(rows),
            classes=settings.classes.values[c] if c >= 0 else None,
            adapters=settings.adapters.values[a],
            speculation=names.drafting.values[d],
        )
        for (m, e, mode, pooled, c, a, d), rows in members.items()
    ]


def group_load(settings: Settings, group: Group) -> Load:
    """Return the load on each row of the group: one request class per row."""
    load: Load = group.once("load", lambda: _load(settings, group))
    return load


def _load(settings: Settings, group: Group) -> Load:
    """Compute `group_load`."""
    rows, number = group.rows, _numbers(settings, group)
    one = np.ones(len(rows))
    concurrency = {"static": number["batch"], "single": one}.get(group.mode, number["concurrency"])
    requests = number["n_requests"]
    if group.mode == "offline":
        requests = np.where(np.isfinite(requests), requests, UNBOUNDED_REQUESTS)
    per_client = np.where(settings.pooled[rows], POOLED_REQUESTS_PER_CLIENT, DEFAULT_REQUESTS_PER_CLIENT)
    per_client = np.where(np.isfinite(requests / concurrency), requests / concurrency, per_client)
    per_client = measured_per_client(per_client, concurrency, np.nan_to_num(number["warmup_requests"]))
    spread, longest = settings.spread[rows].tolist(), settings.longest_output[rows]
    cv = np.where(np.isfinite(number["cv"]), number["cv"], one)
    ramp, ramp_cv = _ramp(number, cv)
    return Load(
        arrival=group.mode,
        **_classes(group, number),
        concurrency=concurrency,
        rate=number["request_rate_rps"],
        n_requests=requests,
        cv=cv,
        requests_per_client=per_client,
        synchronised=synchronised(spread),
        length_cv=length_cv(spread, number["osl"] / longest, settings.output_cv[rows]),
        longest=np.where(np.isfinite(longest), longest, np.inf),
        drafts=np.zeros(len(rows)),
        accepted=one,
        ramp=ramp,
        ramp_cv=ramp_cv,
        prompt_spread=prompt_spread(spread, settings.prompt_tail[rows]),
    )


def _ramp(number: dict[str, Array], cv: Array) -> tuple[Array, Array]:
    """Return (seconds over which the clients of a closed loop start, coefficient of variation of the gaps), (N,) each.

    Benchmarks that bound a random stream start a client at each arrival until all have one (vLLM `vllm bench serve`
    with `--request-rate` and `--max-concurrency`). number: columns of the rows. cv: that of the gaps of a stream, (N,).
    """
    stated = np.isfinite(number["ramp_s"])
    with np.errstate(divide="ignore", invalid="ignore"):
        started = number["concurrency"] / number["request_rate_rps"]
    ramp = np.where(stated, number["ramp_s"], np.nan_to_num(started, nan=0.0, posinf=0.0))
    return ramp, np.where(stated, 0.0, cv)


def _classes(group: Group, number: dict[str, Array]) -> dict[str, Array]:
    """Return input, output, share and hit of a load, (C, N) each: the classes of the group's data set, else one class.

    number: columns of the group's rows. A prefix hit that a row gives holds for every class.
    """
    given = number["prefix_hit"]
    if group.classes is None:
        lengths = {"input": np.maximum(number["isl"], 1.0)[None], "output": np.maximum(number["osl"], 1.0)[None]}
        return {**lengths, "share": np.ones((1, len(given))), "hit": np.nan_to_num(given)[None]}
    found = group.classes
    columns = {"input": found.input_tokens, "output": found.output_tokens, "share": found.share}
    by_row = {name: np.repeat(values[:, None], len(given), axis=1) for name, values in columns.items()}
    return {**by_row, "hit": np.where(np.isfinite(given), given, found.prefix_hit[:, None])}


def group_deployments(settings: Settings, group: Group) -> Deployments:
    """Return the deployment of each row of an aggregated group; KV cache formats that a row leaves blank stay open
    (-1).
    """
    placed: Deployments = group.once("deployments", lambda: _placed(settings, group))
    return placed


def _placed(settings: Settings, group: Group) -> Deployments:
    """Compute `group_deployments`."""
    number, names = _numbers(settings, group), settings.names
    given = {"tp": number["tp"], "pp": number["pp"], "ep": number["ep"], "dp": number["dp_attention"]}
    if group.engine.layer_split:
        given["tp"] = np.where(np.isnan(given["tp"]), 1.0, given["tp"])
        given["pp"] = np.where(np.isnan(given["pp"]), number["n_devices"] / given["tp"], given["pp"])
    placed = placement(
        group.spec,
        number["n_devices"] / np.nan_to_num(number["cp"], nan=1.0),
        given,
        memory=np.array([d.memory for d in names.devices.values])[names.devices.index[group.rows]],
        weight=names.weight[group.rows],
        mode=group.mode,
    )
    return _deployments(settings, group, placed)


def group_pools(settings: Settings, group: Group) -> tuple[Pool, Pool]:
    """Return (prefill pool, decode pool) of each row of a disaggregated group.

    With attention data parallelism, experts are held whole where tp * dp ranks exceed the slices of `SLICE_CHANNELS`
    that an expert divides into; otherwise each rank holds a slice of every expert.
    """
    mlps = [b.mlp for b in group.spec.blocks if b.mlp and b.mlp.experts]
    slices = min((m.intermediate / SLICE_CHANNELS for m in mlps), default=np.inf)
    return _pool(settings, group, "prefill", slices), _pool(settings, group, "decode", slices)


def _pool(settings: Settings, group: Group, role: str, slices: float) -> Pool:
    """Return the pool of a role (prefill or decode). slices: most ranks that an expert may be cut into."""
    number, one = _numbers(settings, group), np.ones(len(group.rows))
    tp, dp, ep = (number[f"{role}_{degree}"] for degree in ("tp", "dp", "ep"))
    dp = np.where(np.isfinite(dp), dp, 1.0)
    tp = np.where(np.isfinite(tp), tp, np.maximum(np.nan_to_num(ep, nan=1.0) / dp, 1.0))
    # published tables write 1 where they say nothing of experts
    stated = np.isfinite(ep) & (settings.cases.text["recipe"][group.rows] == "default")
    ep = np.minimum(np.where(np.isfinite(ep), ep, 1.0), tp * dp)
    ep = np.where(~stated & (ep <= 1.0) & (dp > 1.0) & (tp * dp > slices), tp * dp, ep)
    workers, stages = number[f"{role}_workers"], number[f"{role}_pp"]
    pp = np.where(np.isfinite(stages), stages, np.nan_to_num(number["pp"], nan=1.0))
    degrees = Placement(tp=tp, pp=pp, ep=ep, dp=dp, replicas=one)
    return Pool(worker=_deployments(settings, group, degrees), workers=np.where(np.isfinite(workers), workers, 1.0))


def _numbers(settings: Settings, group: Group) -> dict[str, Array]:
    """Return the number columns of the group's rows by name, (N,) each."""
    columns: dict[str, Array] = group.once(
        "numbers", lambda: {c: v[group.rows] for c, v in settings.cases.number.items()}
    )
    return columns


def _deployments(settings: Settings, group: Group, degrees: Placement) -> Deployments:
    """Return the deployments of the group's rows with the given degrees of parallelism."""
    rows, names, number = group.rows, settings.names, settings.cases.number
    hosted: dict[str, Any] = {c: np.nan_to_num(number[c][rows]) for c in ("host_weights", "host_experts", "host_kv")}
    return deployments(
        names.devices.values,
        adapters=group.adapters,
        device=names.devices.index[rows],
        **hosted,
        cp=np.nan_to_num(number["cp"][rows], nan=1.0),
        weight=names.weight[rows],
        act=names.act[rows],
        kv=names.kv[rows],
        max_num_batched_tokens=number["max_num_batched_tokens"][rows],
        power_cap=number["power_cap_w"][rows],
        max_num_seqs=number["max_num_seqs"][rows],
        tp=degrees.tp,
        pp=degrees.pp,
        ep=degrees.ep,
        dp=degrees.dp,
        replicas=degrees.replicas,
        speculation=group.speculation,
        drafts=group.speculation.known.drafts if group.speculation.method else 0,
    )
