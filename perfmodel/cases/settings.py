"""Fill in what a row of cases leaves blank: lengths, arrival mode, weight and KV cache formats, engine limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwdb import Hwdb, InputError
from perfmodel.arrays import Array, Index, Mask
from perfmodel.cases.protocols import with_kept_limits
from perfmodel.cases.publications import with_published_columns, with_published_engines
from perfmodel.cases.read import Cases, Texts
from perfmodel.cases.resolve import Named, Resolved, resolve, resolve_names
from perfmodel.cases.table import POOL_COLUMNS
from perfmodel.cases.unstated import (
    check_degrees,
    check_experts_spread,
    check_power_limits,
    longest_prompt,
    unstated_weights,
)
from perfmodel.engines import Engine, assumed
from perfmodel.engines import engine as engine_of
from perfmodel.models import Adapters
from perfmodel.workload import Histogram, histogram, spread_kind

#: Number column -> the mode that it implies where `mode` is blank; the first one given decides.
IMPLIED_MODE = {"request_rate_rps": "open", "concurrency": "closed", "batch": "static", "n_requests": "offline"}
#: Mode -> number column that it cannot do without.
NEEDED = {"open": "request_rate_rps", "closed": "concurrency", "static": "batch"}
#: Bytes per weight from which a checkpoint counts as unquantised (bf16 and fp16 have 2).
UNQUANTISED_BYTES = 2.0
#: Numbers that describe adapters; the columns have `lora_` before these names.
ADAPTER_NUMBERS = ("rank", "count", "resident", "zipf")


@dataclass(frozen=True)
class Settings:
    """Holds R rows of cases with all blanks filled in; rows that cannot be answered have their reason in `cases.error`.

    mode: (R,) arrival mode. pooled: (R,) True for disaggregated rows (prefill and decode pools). longest_output: (R,)
    tokens at which outputs are cut, infinite where nothing cuts them. prompt_tail: (R,) 90th percentile of prompts
    over their mean, output_cv: (R,) coefficient of variation of outputs; NaN where the data set does not tell. spread:
    (R,) kind of length spread. classes: length classes of the data set that a row names in place of lengths; rows
    without have index -1. adapters: LoRA adapters of each row, None for rows without.
    """

    cases: Cases
    names: Resolved
    mode: Texts
    pooled: Mask
    longest_output: Array
    prompt_tail: Array
    output_cv: Array
    spread: Texts
    classes: Named[Histogram]
    adapters: Named[Adapters | None]


def settle(cases: Cases, database: Hwdb) -> Settings:
    """Resolve the names of the table and fill its blanks. Marks rows that cannot be answered in `cases.error`.

    database: where devices are looked up.
    """
    mode = _modes(cases)
    cases = with_kept_limits(with_published_columns(cases, mode))
    names = resolve(cases, database)
    classes = _classes(cases, names)
    cases = _with_lengths(cases, names)
    spread = _spread(cases, names, classes)
    cases = _with_requests(cases, mode)
    pooled = np.any([np.isfinite(cases.number[c]) for c in POOL_COLUMNS], axis=0)
    check_degrees(cases, pooled)
    check_experts_spread(cases, pooled)
    check_power_limits(cases, names.devices.values, names.devices.index)
    names = with_published_engines(cases, mode, replace(names, engines=_engines_in_pools(names.engines, pooled)))
    tuned = ~pooled & (cases.text["recipe"] != "default")
    names = replace(names, weight=_weights(names, mode, tuned))
    longest = _statistic(names, "output_max")
    settings = Settings(
        cases=cases,
        names=names,
        mode=mode,
        pooled=pooled,
        longest_output=np.where(np.isfinite(longest), longest, np.inf),
        spread=spread,
        prompt_tail=_statistic(names, "prompt_tail"),
        output_cv=_statistic(names, "output_cv"),
        classes=classes,
        adapters=_adapters(cases),
    )
    settings = _with_recipes(settings, np.flatnonzero((cases.error == "") & _published(cases, mode)))
    engines = _with_memory_share(settings.names.engines, cases.number["gpu_memory_utilization"])
    return replace(settings, names=replace(settings.names, engines=engines))


def _classes(cases: Cases, names: Resolved) -> Named[Histogram]:
    """Return the length classes of the rows that name a data set with a shipped histogram and state no lengths.

    Such a data set is served with its classes, as a scenario serves it.
    """
    bare = np.isnan(cases.number["isl"]) & np.isnan(cases.number["osl"])
    shapes = [histogram(d.name) if d else None for d in names.datasets.values]
    shipped = [number for number, shape in enumerate(shapes) if shape is not None and len(shape) > 1]
    place = np.full(len(shapes) + 1, -1)  # the last one is that of rows whose name is unknown
    place[shipped] = np.arange(len(shipped))
    values = tuple(shape for shape in shapes if shape is not None and len(shape) > 1)
    return Named(values=values, index=np.where(bare, place[names.datasets.index], -1))


def _spread(cases: Cases, names: Resolved, classes: Named[Histogram]) -> Texts:
    """Return the kind of length spread of each row, (R,); refuses rows whose `isl_dist` names none.

    A blank is the spread of the data set in `trace`, if the row names one: its classes, or that of recorded traffic.
    """
    kinds = resolve_names(cases, cases.text["isl_dist"], spread_kind).per_row(str, "")
    named = names.datasets.per_row(lambda d: d is not None, False)
    spread = np.where((kinds == "") & named, "trace", kinds)
    return np.where(classes.index >= 0, "", spread).astype(object)


def _with_lengths(cases: Cases, names: Resolved) -> Cases:
    """Fill blank lengths from the data set in `trace`. Refuses rows that still lack one."""
    number = dict(cases.number)
    for column, statistic in (("isl", "input_mean"), ("osl", "output_mean")):
        mean = _statistic(names, statistic)
        number[column] = np.where(np.isfinite(number[column]), number[column], mean)
        cases.refuse(~np.isfinite(number[column]), f"{column} is missing, and no data set is named in trace")
    return replace(cases, number=number)


def _statistic(names: Resolved, name: str) -> Array:
    """Return a statistic of each row's data set, (R,); NaN for rows without one. name: a field of `LengthStats`."""
    return names.datasets.per_row(lambda d: getattr(d, name) if d else np.nan, np.nan)


def _modes(cases: Cases) -> Texts:
    """Return the arrival mode of each row, (R,). Refuses rows that lack the number that their mode needs."""
    number = cases.number
    mode = cases.text["mode"].copy()
    for column, implied in IMPLIED_MODE.items():
        mode[(mode == "") & np.isfinite(number[column])] = implied
    mode[mode == ""] = "single"
    for name, column in NEEDED.items():
        absent = (mode == name) & ~(number[column] > 0)
        cases.refuse(absent, f"mode {name} needs {column}, a number above 0")
    for name in ("offline", "closed", "open"):
        cases.refuse((mode == name) & (number["n_requests"] <= 0), f"mode {name} needs n_requests above 0")
    return mode


def _with_requests(cases: Cases, mode: Texts) -> Cases:
    """Fill the requests of open loops that state how long they arrive, `duration_s`; at least one."""
    number = cases.number
    arriving = np.maximum(np.round(number["request_rate_rps"] * number["duration_s"]), 1.0)
    fill = (mode == "open") & np.isnan(number["n_requests"])
    return replace(cases, number={**number, "n_requests": np.where(fill, arriving, number["n_requests"])})


def _engines_in_pools(engines: Named[Engine], pooled: Mask) -> Named[Engine]:
    """Return the engine of each row; disaggregated rows get the one that its file names for pools (`Engine.pooled_as`).

    pooled: (R,) True for disaggregated rows.
    """
    values, index = list(engines.values), engines.index
    for number, one in enumerate(engines.values):
        rows = (index == number) & pooled
        if one.pooled_as and rows.any():
            values.append(engine_of(one.pooled_as))
            index = np.where(rows, len(values) - 1, index)
    return Named(values=tuple(values), index=index)


def _with_memory_share(engines: Named[Engine], share: Array) -> Named[Engine]:
    """Return the engines with the share of device memory that each row gives, (R,); NaN leaves the engine's own."""
    values, index = list(engines.values), engines.index.copy()
    pairs = {(int(engines.index[row]), float(share[row])) for row in np.flatnonzero(np.isfinite(share)).tolist()}
    for number, part in sorted(pair for pair in pairs if pair[0] >= 0):
        values.append(values[number].configured(gpu_memory_utilization=part))
        index[(engines.index == number) & (share == part)] = len(values) - 1
    return Named(values=tuple(values), index=index)


def _adapters(cases: Cases) -> Named[Adapters | None]:
    """Return the LoRA adapters of each row; refuses rows that describe adapters without a rank, or impossible ones."""
    columns = np.stack([cases.number[f"lora_{name}"] for name in ADAPTER_NUMBERS], axis=1)
    given, where = np.unique(np.nan_to_num(columns, nan=-1.0), axis=0, return_inverse=True)
    values: list[Adapters | None] = []
    for number, row in enumerate(given.tolist()):
        known: dict[str, Any] = {name: value for name, value in zip(ADAPTER_NUMBERS, row, strict=True) if value >= 0}
        found, problem = None, ""
        try:
            numbers: dict[str, Any] = {k: v if k == "zipf" else int(v) for k, v in known.items()}
            found = Adapters(**numbers) if "rank" in known else None
        except InputError as error:
            problem = str(error)
        if known and "rank" not in known:
            problem = f"lora_{next(iter(known))} needs lora_rank, the rank of the adapters"
        if problem:
            cases.refuse(where.ravel() == number, problem)
        values.append(found)
    return Named(values=tuple(values), index=where.ravel())


def _weights(names: Resolved, mode: Texts, tuned: Mask) -> Index:
    """Return the code of each row's weight format, (R,); -1 for the checkpoint's own.

    Throughput runs on unquantised checkpoints get the narrowest floats of the device, for engines whose published peak
    results are quantised (`Engine.quantised_peak_runs`). tuned: (R,) True for rows that may be such runs.
    """
    peak_runs = names.engines.per_row(lambda e: e.quantised_peak_runs, False)
    for_throughput = peak_runs & np.isin(mode, ("offline", "open")) & tuned
    unquantised = names.models.per_row(lambda m: m.format_of("mlp").bytes >= UNQUANTISED_BYTES, False)
    return unstated_weights(names.weight, names.devices.values, names.devices.index, tuned=for_throughput & unquantised)


# -- published recipes --------------------------------------------------------------------------------------------


def _published(cases: Cases, mode: Texts) -> Mask:
    """True for rows whose blank settings are those of a published recipe. (R,)

    The column `recipe` decides where it is given. Otherwise they are benchmarks with a fixed number of clients or a
    batch, and with made-up prompt lengths: whoever names a data set or an engine file measured a setup of their own.
    """
    text = cases.text
    own_setup = np.char.endswith(text["engine"].astype(str), ".toml") | (text["trace"] != "")
    benchmark = np.isin(mode, ("closed", "static")) & ~own_setup
    chosen: Mask = (text["recipe"] == "published") | (text["recipe"] == "") & benchmark
    return chosen


def _with_recipes(settings: Settings, rows: Index) -> Settings:
    """Fill blank settings of the row numbers `rows` from published recipes.

    Filled are the KV cache format, the token budget, the cap on sequences, and the engine's era where no version is
    given. Rows of one model, engine and kind of version are looked up together.
    """
    names, text = settings.names, settings.cases.text
    kv, which = names.kv.copy(), names.engines.index.copy()
    engines = list(names.engines.values)
    limits = {c: settings.cases.number[c].copy() for c in ("max_num_batched_tokens", "max_num_seqs")}
    shipped = ~np.char.endswith(text["engine"][rows].astype(str), ".toml")
    unversioned = (text["engine_version"][rows] == "") & shipped
    kinds = np.stack([names.models.index[rows], which[rows], unversioned])
    distinct, where = np.unique(kinds, axis=1, return_inverse=True)
    for turn, (_, e, no_version) in enumerate(distinct.T.tolist()):
        mine = rows[where.ravel() == turn]
        era = _fill(settings, engine_of(engines[e].name, "latest") if no_version else engines[e], mine, kv, limits)
        for name in sorted(set(era[era != ""])) if no_version else ():
            engines.append(engine_of(name))
            which[mine[era == name]] = len(engines) - 1
    return replace(
        settings,
        cases=replace(settings.cases, number={**settings.cases.number, **limits}),
        names=replace(names, kv=kv, engines=Named(values=tuple(engines), index=which)),
    )


def _fill(settings: Settings, engine: Engine, rows: Index, kv: Index, limits: Mapping[str, Array]) -> Texts:
    """Fill blanks of `kv` and `limits` in `rows`, all of one model; return the recipes' eras, (rows,), "" for none.

    engine: the engine that recipes are looked up for. kv: (R,) codes of KV cache formats, changed in place. limits:
    (R,) columns of engine limits by name, changed in place.
    """
    names, number = settings.names, settings.cases.number
    found = assumed(
        names.models.values[names.models.index[rows[0]]],
        engine,
        names.devices.values,
        names.devices.index[rows],
        names.weight[rows],
        prompt=longest_prompt(number["isl"][rows], settings.cases.text["isl_dist"][rows]),
        ranks=np.nan_to_num(number["dp_attention"][rows], nan=1.0),
    )
    kv[rows] = np.where(kv[rows] < 0, found.kv, kv[rows])
    for column, values in limits.items():
        values[rows] = np.where(np.isnan(values[rows]), getattr(found, column), values[rows])
    return found.era
