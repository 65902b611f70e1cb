"""Turn a deployment that `estimate --from` reads into the options that describe it, and compare it with a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hwdb import InputError
from search.options import DeploymentOptions, EngineOptions, PoolOptions, SpeculationOptions

if TYPE_CHECKING:
    from search.deploy import Pool, Reading
    from search.options import Colocated, SloOptions

#: Options of the deployment that may stand beside --from.
BESIDE = ("from_", "device", "allow_long_context")
#: Options of an engine, with whatever a command adds to them.
AnyEngineOptions = TypeVar("AnyEngineOptions", bound=EngineOptions)


def reading_of(deployment: DeploymentOptions, version: str) -> Reading | None:
    """Return the deployment that --from names; None without it. version: of the engine, "" for what it says.

    Raises `InputError` for a layout given twice, and where nothing says which device it runs on.
    """
    if not deployment.from_:
        return None
    from search.deploy import read_back

    plain = DeploymentOptions()
    for field in fields(deployment):
        given = getattr(deployment, field.name) != getattr(plain, field.name)
        if given and field.name not in BESIDE:
            name = "MODEL" if field.name == "model" else f"--{field.name.replace('_', '-')}"
            raise InputError(f"{name} and --from exclude each other: what is read says it; leave one out")
    found = read_back(deployment.from_, device=deployment.device, version=version)
    if not all(pool.device for pool in found.launch.pools):
        raise InputError("--from does not say on which device it runs; add --device NAME, as `hw list` names it")
    return found


def deployment_of(reading: Reading) -> DeploymentOptions:
    """Return the options that describe the decoding pool of a deployment that was read."""
    pool = reading.launch.main
    options: dict[str, Any] = {name: getattr(pool, name) for name in ("device", "tp", "pp", "ep", "cp", "kvp")}
    options |= {"dp_attention": pool.dp, **_formats(reading, pool)}
    options |= {"replicas": 1 if len(reading.launch.pools) > 1 else pool.replicas}
    return DeploymentOptions(model=reading.checkpoint, allow_long_context=True, **options)


def _formats(reading: Reading, pool: Pool) -> dict[str, str]:
    """Return the formats that differ from the checkpoint's own."""
    from perfmodel import model

    spec = model(reading.checkpoint)
    return {
        "weights": "" if pool.weight == spec.weight_format else pool.weight,
        "kv": "" if pool.kv == spec.kv_format else pool.kv,
    }


def engine_of(reading: Reading, options: AnyEngineOptions) -> AnyEngineOptions:
    """Return the options of the engine that was read; what the user gave beside --from takes precedence."""
    from search.deploy import SWITCHES

    launch, pool = reading.launch, reading.launch.main
    settings = [f"{name}={str(getattr(pool, name)).lower()}" for name in SWITCHES]
    settings += [f"rank_balance_steps={pool.rank_balance_steps}"] if pool.rank_balance_steps else []
    given = options.engine_setting or []
    names = {text.partition("=")[0].strip() for text in given}
    version = "" if launch.engine in ("llamacpp", "mindie") else launch.version
    drafts: dict[str, Any] = (
        options.read(pool.speculation, pool.drafts, pool.draft_model) if isinstance(options, SpeculationOptions) else {}
    )
    return replace(
        options,
        **drafts,
        engine=launch.engine,
        engine_version=options.engine_version or version,
        max_num_batched_tokens=_first(options.max_num_batched_tokens, pool.max_num_batched_tokens),
        max_num_seqs=_first(options.max_num_seqs, pool.max_num_seqs),
        gpu_memory_utilization=_first(options.gpu_memory_utilization, pool.gpu_memory_utilization),
        engine_setting=[*given, *(s for s in settings if s.partition("=")[0] not in names)],
    )


def _first(*values: float | None) -> float | None:
    """Return the first value that is given."""
    return next((float(v) for v in values if v is not None), None)


def pools_of(reading: Reading, options: PoolOptions) -> PoolOptions:
    """Return the options of the two pools that were read; `options` itself where there is one pool."""
    if len(reading.launch.pools) < 2:
        return options
    prefill, decode = reading.launch.pools
    return replace(
        options,
        prefill_workers=prefill.replicas,
        decode_workers=decode.replicas,
        prefill_device=prefill.device,
        prefill_tp=prefill.tp,
        prefill_pp=prefill.pp,
        prefill_ep=prefill.ep,
        prefill_dp_attention=prefill.dp,
        prefill_cp=prefill.cp,
        prefill_weights=_formats(reading, prefill)["weights"],
        prefill_max_num_batched_tokens=_first(prefill.max_num_batched_tokens),
        prefill_max_num_seqs=_first(prefill.max_num_seqs),
    )


def read_columns(reading: Reading, pool: float) -> dict[str, Any]:
    """Return the columns that say what was read: layout, flags that are not known, contradict, or change nothing.

    pool: tokens of the KV pool of one replica.
    """
    return {
        "read_layout": _words(reading),
        "max_model_len": reading.launch.max_model_len,
        "unknown_flags": "; ".join(reading.unknown),
        "conflicting_flags": "; ".join([*reading.conflicts, *_too_long(reading, pool)]),
        "uncounted_flags": "; ".join(reading.uncounted),
        "unused_flags": " ".join(reading.unused),
    }


def _too_long(reading: Reading, pool: float) -> list[str]:
    """Return why vLLM would not start: one request of the longest length exceeds its KV pool; [] where it fits."""
    from perfmodel import model

    context = reading.launch.max_model_len or model(reading.checkpoint).max_context
    if reading.launch.engine != "vllm" or not 0 < pool < context:
        return []
    return [f"a context of {context} tokens exceeds the KV pool of about {pool:.0f}: vLLM refuses to start"]


def _words(reading: Reading) -> str:
    """Return what was read in words."""
    from search.deploy import words_of

    return f"{reading.launch.engine} {reading.launch.version}: {words_of(reading.launch)}"


def plan_columns(
    reading: Reading, asked: Colocated, slo: SloOptions, chance: float, folders: Sequence[Path]
) -> dict[str, Any]:
    """Return the columns that compare what was read with the plan of fewest devices for the same load.

    They are empty for a load without a plan. chance: that what runs keeps every bound of `slo`.
    """
    from search.deploy import compared

    found = compared(
        reading.launch,
        asked.workload,
        slo.bounds(),
        asked.engine,
        chance=chance,
        confidence=slo.confidence,
        folders=folders,
    )
    if found is None:
        return {"plan_comparison": "", "plan_changes": "", "plan_chance": None}
    odds = found.odds if found.odds == found.odds else None
    return {"plan_comparison": found.sentence, "plan_changes": found.changes, "plan_chance": odds}
