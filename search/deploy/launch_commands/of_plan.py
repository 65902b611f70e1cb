"""Make a launch of a plan: of one of its rows, or of the JSON that `plan --json` has printed."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError, PerfmodelError, infile
from perfmodel.engines import engine as engine_of
from perfmodel.workload import SLO_KEYS
from search.deploy.engine_settings.drafting import draft_notes
from search.deploy.engine_settings.parsers import release, releases
from search.deploy.launch import DECODE, PREFILL, SERVE, SWITCHES, Check, Launch, Pool

if TYPE_CHECKING:
    from search.planning import Plan

#: Context to serve: so many times the longest mean length of a class, because single requests are longer, ...
LENGTH_MARGIN = 2.0
#: ... in whole multiples of so many tokens. Both chosen; never beyond the model's own context.
LENGTH_STEP = 1024
#: Below what a count of devices, tokens or sequences stays.
MOST = 10**9
COUNTS = ("tp", "pp", "ep", "dp", "cp", "kvp")
#: What no engine flag of a launch carries; a plan that uses it is not exported.
OFFLOADED = ("host_weights", "host_experts", "host_kv")


def launch_columns(plan: Plan) -> dict[str, Any]:
    """Return the columns that a plan's rows need beside their own, so that a row alone can be launched.

    They are the model, its context to serve, mean lengths, the switches of the engine, and the bounds of the SLO.
    """
    scenario, lora = plan.scenario, plan.scenario.adapters
    steps = scenario.engine.rank_balance_steps
    load, spec = scenario.workload, scenario.model_called(scenario.model)
    longest = float(np.max(load.input_tokens + load.output_tokens))
    served = math.ceil(LENGTH_MARGIN * longest / LENGTH_STEP) * LENGTH_STEP
    limit = max(spec.max_context, math.ceil(longest)) if spec.max_context else served
    return {
        "model": _checkpoint_of(scenario.model) or spec.name,
        "max_model_len": min(served, limit),
        "input_tokens": load.mean_input,
        "output_tokens": load.mean_output,
        **{name: getattr(scenario.engine, name) for name in SWITCHES},
        **({"rank_balance_steps": steps} if scenario.engine.rank_balance and np.isfinite(steps) else {}),
        **{f"{o.key}_limit": o.limit * 1e3 for o in scenario.slo.objectives},
        **({"draft_model": drafter} if (drafter := scenario.drafting.speculation.name) else {}),
        **({"lora_rank": lora.rank, "lora_resident": lora.resident or lora.count} if lora else {}),
    }


def _checkpoint_of(model: str) -> str:
    """Return the folder of the checkpoint whose `config.json` a scenario names as its model; "" where it names none."""
    path = Path(model)
    return str(path.parent) if path.name == "config.json" and path.is_file() else ""


def launch_of(plan: Plan, rank: int = 1, version: str = "") -> Launch:
    """Return the launch of the candidate with that rank. version: of the engine; "" for the newest of its era."""
    assert plan.best >= 0  # raises `Infeasible`, with what comes nearest, where nothing qualifies
    rows = {row["rank"]: row for row in plan.rows(max(rank, 1))}
    if rank not in rows:
        raise InputError(f"--rank {rank}: the plan has ranks 1 to {max((r for r in rows if r), default=0)}")
    return launch_of_row({**rows[rank], **launch_columns(plan)}, version)


def with_launches(plan: Plan, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of a plan with what a launch needs, and how each is launched and checked.

    `launch`: a command per pool, a line each. `benchmark`: the command that checks the SLO. `replicas_least`,
    `replicas_most`: bounds for an autoscaler, None where the load has no rate. The texts are "" where the engine has no
    template, or no flag for what the row has.
    """
    shared = launch_columns(plan)
    return [{**row, **shared, **_started({**row, **shared})} for row in rows]


def _started(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that say how a row is launched, checked and scaled."""
    from search.deploy.launch_commands.arguments import command, launcher_words
    from search.deploy.launch_commands.benchmark import benchmark

    try:
        launch = launch_of_row(row)
        lines = [shlex.join((*launcher_words(launch, p), *command(launch, p).words)) for p in launch.pools]
        checked = shlex.join(benchmark(launch).words)
    except PerfmodelError:
        return {"launch": "", "benchmark": "", "replicas_least": None, "replicas_most": None}
    bounds = {"replicas_least": launch.least, "replicas_most": launch.most}
    return {"launch": "\n".join(lines), "benchmark": checked, **bounds}


def launch_of_row(row: Mapping[str, Any], version: str = "") -> Launch:
    """Return the launch of one row of `plan --json`. Raises `InputError` for a row that lacks a column."""
    try:
        return _launch(row, version)
    except KeyError as missing:
        raise InputError(
            f"plan: the row has no column {missing}; give the JSON of `perfmodel plan SCENARIO --json`"
        ) from None


def read_plan(path: str | Path, rank: int = 1, version: str = "") -> Launch:
    """Return the launch of the row with that rank in a file that `plan --json` has printed."""
    remedy = "give the output of `perfmodel plan SCENARIO --json`"
    text = infile.read_text(path, "plan", remedy)
    if not text.strip():
        raise InputError(f"{path}: the file is empty, as where nothing qualifies; {remedy}")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}; {remedy}") from None
    held = [r for r in (rows if isinstance(rows, list) else [rows]) if isinstance(r, dict)]
    found = next((r for r in held if r.get("rank") == rank), None)
    if found is None:
        ranks = [str(r["rank"]) for r in held if r.get("rank")]
        raise InputError(f"{path}: no row of rank {rank}; it has {', '.join(ranks) or 'none'}")
    return launch_of_row(found, version)


def _launch(row: Mapping[str, Any], version: str) -> Launch:
    """Return the launch of a row that has all its columns."""
    for name in (f"{prefix}{name}" for name in OFFLOADED for prefix in ("", "prefill_")):
        if row.get(name):
            raise InputError(
                f"export: {name} {row[name]} has no flag that keeps exactly this share in host memory; set it by hand"
            )
    pools = _pools(row)
    replicas, rate = pools[-1].replicas, row.get("request_rate_rps")
    used, clients = _known(row.get("utilisation")), _known(row.get("concurrency"))  # clients: of a closed loop
    least, most = _bounds(row, replicas, used if clients is None else None)
    bounds = {k: float(row[f"{k}_limit"]) for k in SLO_KEYS if _known(row.get(f"{k}_limit")) is not None}
    check = Check(
        input_tokens=_number(row, "input_tokens"),
        output_tokens=_number(row, "output_tokens"),
        rate=_known(rate) if used is not None and clients is None else None,
        concurrency=_known(row.get("concurrency_per_replica")),
        bounds=bounds,
        expected={key: value for key in bounds if (value := _known(row.get(key))) is not None},
    )
    engine = _text(row, "engine")
    return Launch(
        model=_text(row, "model"),
        engine=engine,
        version=_version(engine, str(row.get("engine_version", "")), version),
        pools=pools,
        max_model_len=_whole(row, "max_model_len", least=0) or None,
        least=least,
        most=most,
        per_replica=_known(row.get("concurrency_per_replica")),
        check=check,
        words=str(row.get("candidate", "")),
        chance=_known(row.get("slo_chance")),
        adapters=(_whole(row, "lora_rank"), _whole(row, "lora_resident")) if row.get("lora_rank") else None,
        notes=(*_notes(row), *draft_notes(pools[-1])),
    )


def _notes(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the plan counts on and no flag says: adapters that requests name, power limits."""
    found = ["Requests name their LoRA adapter; load or list the adapters as the engine's guide says."]
    found = found if row.get("lora_rank") else []
    for prefix in ("", "prefill_"):
        watts = _known(row.get(f"{prefix}power_cap_w"))
        text = f"Limit each {row.get(f'{prefix}device')} to {watts:g} W" if watts else ""
        found += [f"{text}, as with nvidia-smi --power-limit {watts:g}."] if text else []
    return tuple(dict.fromkeys(found))


def _pools(row: Mapping[str, Any]) -> tuple[Pool, ...]:
    """Return the pools of a row: one, or prefill and decode."""
    if row.get("mode") != "disaggregated":
        return (_pool(row, SERVE, "", _whole(row, "replicas")),)
    workers = _whole(row, "prefill_workers"), _whole(row, "decode_workers")
    return _pool(row, PREFILL, "prefill_", workers[0]), _pool(row, DECODE, "", workers[1])


def _pool(row: Mapping[str, Any], role: str, prefix: str, replicas: int) -> Pool:
    """Return the pool whose columns have that prefix."""
    columns: dict[str, Any] = {k: _whole(row, f"{prefix}{k}") for k in COUNTS}
    columns |= {k: _text(row, f"{prefix}{k}") for k in ("device", "weight", "kv")}
    for name in ("max_num_batched_tokens", "max_num_seqs"):
        given = row.get(f"{prefix}{name}")
        columns[name] = None if given is None else _whole(row, f"{prefix}{name}")
    columns |= {name: _switch(row, name) for name in SWITCHES}
    columns["rank_balance_steps"] = _whole(row, "rank_balance_steps") if row.get("rank_balance_steps") else None
    columns |= _drafting(row, prefix)
    share = row.get(f"{prefix}gpu_memory_utilization")
    columns["gpu_memory_utilization"] = None if share is None else _number(row, f"{prefix}gpu_memory_utilization")
    return Pool(role=role, replicas=replicas, **columns)


def _drafting(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return method, draft tokens and checkpoint of the drafter of a pool; {} where it drafts nothing."""
    drafts = row.get(f"{prefix}draft_tokens")
    if not drafts:
        return {}
    return {
        "speculation": _text(row, f"{prefix}speculation"),
        "drafts": _whole(row, f"{prefix}draft_tokens"),
        "draft_model": str(row.get("draft_model") or ""),
    }


def _faulty(row: Mapping[str, Any], key: str, wanted: str) -> InputError:
    """Return the error of a column whose value is none of its kind."""
    return InputError(f"plan: column {key} is {row[key]!r}; it has to be {wanted}, as `plan --json` prints it")


def _number(row: Mapping[str, Any], key: str) -> float:
    """Return a number above 0; KeyError without the column, `InputError` for another value."""
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _faulty(row, key, "a number above 0")
    return float(value)


def _whole(row: Mapping[str, Any], key: str, least: int = 1) -> int:
    """Return a whole number; KeyError without the column, `InputError` for another value."""
    value = row[key]
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not least <= value < MOST
        or value != int(value)
    ):
        raise _faulty(row, key, f"a whole number of {least} or more")
    return int(value)


def _text(row: Mapping[str, Any], key: str) -> str:
    """Return a text; KeyError without the column, `InputError` for another value."""
    if not isinstance(row[key], str) or not row[key]:
        raise _faulty(row, key, "a text")
    return str(row[key])


def _switch(row: Mapping[str, Any], key: str) -> bool:
    """Return true or false; KeyError without the column, `InputError` for another value."""
    if not isinstance(row[key], bool | np.bool_):
        raise _faulty(row, key, "true or false")
    return bool(row[key])


def _bounds(row: Mapping[str, Any], replicas: int, used: float | None) -> tuple[int | None, int | None]:
    """Return the least and the most replicas for an autoscaler; None for both where the load has no rate.

    The most carry, with the headroom of the plan, a load as high as the plan's replicas could carry without any. The
    least carry the mean of a load that changes over the day, else the planned load.
    """
    if used is None or used <= 0:
        return None, None
    mean, peak = _known(row.get("mean_request_rate_rps")), _known(row.get("request_rate_rps"))
    share = mean / peak if mean and peak else 1.0
    return max(1, math.ceil(replicas * min(share, 1.0) - 1e-9)), math.ceil(replicas / min(used, 1.0) - 1e-9)


def _version(engine: str, era: str, asked: str) -> str:
    """Return the release whose flags are written: the one asked for, else the newest of the era that was planned."""
    if asked:
        found = release(engine, asked)
        return found.version if found and engine != "llamacpp" else asked
    known = [r.version for r in releases(engine)]
    if engine == "llamacpp" or len(known) < 2:
        return known[0] if known else "unknown"
    return next((v for v in known if engine_of(engine, v).era == era), known[0])


def _known(value: Any) -> float | None:
    """Return a number; None for a missing, unknown or infinite one."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
