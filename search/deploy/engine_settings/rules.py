"""Name the settings of a deployment that contradict each other, or that an engine refuses, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perfmodel import ModelSpec
from perfmodel.dtypes import storage
from perfmodel.models import UNQUANTISED
from search.deploy.launch import Launch, Pool


def conflicts(
    launch: Launch,
    pool: Pool,
    spec: ModelSpec,
    given: Mapping[str, Any],
    *,
    held: int = 0,
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """Return what contradicts in one pool.

    spec: the checkpoint that is loaded. given: flags as written. held: devices that the container or host has for one
    replica, 0 where that is not known. env: variables of the environment.
    """
    found = [*_layout(launch.engine, pool, spec), *_limits(launch, pool, spec), *_formats(given, spec)]
    found += [*_together(launch.engine, pool, given), *_pools(given)]
    visible = (env or {}).get("CUDA_VISIBLE_DEVICES", "")
    held = held or (len(visible.split(",")) if visible and "$" not in visible else 0)
    if held and held != pool.devices:
        found.append(f"the flags take {pool.devices} devices (TP x PP x DP x CP), the replica has {held}")
    return found


def between(pools: tuple[Pool, ...]) -> list[str]:
    """Return what contradicts between the pools of one deployment."""
    formats = {pool.kv for pool in pools if pool.role != "serve"}
    roles = [pool.role for pool in pools]
    found = [
        f"the pools have KV caches in {' and '.join(sorted(formats))}; a cache can be handed over in one format only"
    ] * (len(formats) > 1)
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        if role in roles and other not in roles:
            found.append(f"a pool for {role} without one for {other}")
    return found


def _layout(engine: str, pool: Pool, spec: ModelSpec) -> Iterator[str]:
    """Yield what is wrong with the degrees of parallelism."""
    for name in ("tp", "pp", "dp", "cp"):
        if getattr(pool, name) < 1:
            yield f"{name.upper()} {getattr(pool, name)} is impossible; 1 or more"
    if pool.tp > 1 and engine != "llamacpp" and spec.heads % pool.tp:
        yield f"TP {pool.tp} does not divide the {spec.heads} attention heads of {spec.name}"
    if pool.pp > spec.layers:
        yield f"PP {pool.pp} exceeds the {spec.layers} layers of {spec.name}"
    if pool.ep > 1 and not spec.experts:
        yield f"expert parallelism, but {spec.name} has no experts"
    if pool.ep > 1 and spec.experts and spec.experts % pool.ep:
        yield f"EP {pool.ep} does not divide the {spec.experts} experts of {spec.name}"
    if pool.ep > 1 and pool.devices % pool.ep:
        yield f"EP {pool.ep} does not divide the {pool.devices} devices of a replica"


def _limits(launch: Launch, pool: Pool, spec: ModelSpec) -> Iterator[str]:
    """Yield limits that contradict each other or the model."""
    share = pool.gpu_memory_utilization
    if share is not None and not 0 < share <= 1:
        yield f"a share of {share:g} of the memory is impossible; above 0, at most 1"
    length, budget, seqs = launch.max_model_len, pool.max_num_batched_tokens, pool.max_num_seqs
    if length and spec.max_context and length > spec.max_context:
        yield f"a context of {length} tokens exceeds the {spec.max_context} of {spec.name}"
    for name, value in (("max_num_batched_tokens", budget), ("max_num_seqs", seqs), ("a context", length)):
        if value is not None and value < 1:
            yield f"{name} of {value} is impossible; 1 or more"
    if launch.engine != "vllm" or not budget:
        return
    if seqs and budget < seqs:
        yield f"max_num_batched_tokens {budget} is below max_num_seqs {seqs}: vLLM refuses to start"
    if not pool.chunked_prefill and budget < (length or spec.max_context):
        held = length or spec.max_context
        yield f"max_num_batched_tokens {budget} is below the context of {held} tokens without chunked prefill"


#: Methods of --quantization -> bits of the weights that they load.
BITS = {"fp8": 8, "awq": 4, "awq_marlin": 4, "gptq": 4, "gptq_marlin": 4, "modelopt_fp4": 4, "mxfp4": 4, "w8a8_int8": 8}


def _formats(given: Mapping[str, Any], spec: ModelSpec) -> Iterator[str]:
    """Yield a method of quantisation that does not suit the checkpoint."""
    asked, own = str(given.get("--quantization", "")), spec.weight_format
    if asked not in BITS:
        return
    bits = storage(own).bits
    if own in UNQUANTISED and asked != "fp8":
        yield f"--quantization {asked} needs a checkpoint in that format; {spec.name} is in {own}"
    elif own not in UNQUANTISED and not BITS[asked] <= bits < BITS[asked] + 2:
        yield f"--quantization {asked} contradicts the checkpoint {spec.name}, whose weights are in {own}"


#: Pairs of flags that exclude each other, by engine: (flag, flag, why).
EXCLUDED = {
    "vllm": (
        ("--enforce-eager", "--max-cudagraph-capture-size", "eager mode captures no graphs"),
        ("--enforce-eager", "--cudagraph-capture-sizes", "eager mode captures no graphs"),
        ("--enforce-eager", "--enable-dbo", "dual batch overlap needs captured graphs"),
        ("--headless", "--api-server-count", "a headless node has no API server"),
    ),
    "sglang": (
        ("--disable-radix-cache", "--enable-hierarchical-cache", "the second keeps the first's cache in host memory"),
        ("--disable-cuda-graph", "--cuda-graph-max-bs", "no graph is captured"),
        ("--disable-cuda-graph", "--cuda-graph-bs", "no graph is captured"),
        ("--disable-overlap-schedule", "--enable-two-batch-overlap", "the second needs the overlap scheduler"),
    ),
    "llamacpp": (("--hf-repo", "--model", "both name the weights"),),
}


def _together(engine: str, pool: Pool, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield flags that exclude each other."""
    for one, other, why in EXCLUDED.get(engine, ()):
        if given.get(one) and given.get(other) not in (None, False):
            yield f"{one} and {other} exclude each other: {why}"
    compiled = given.get("--compilation-config")
    if given.get("--enforce-eager") and isinstance(compiled, Mapping):
        mode = compiled.get("cudagraph_mode", "NONE")
        if mode not in ("NONE", 0) or compiled.get("cudagraph_capture_sizes"):
            yield "--enforce-eager and the graphs of --compilation-config exclude each other: eager mode captures none"
    if engine == "sglang" and given.get("--enable-dp-attention"):
        ranks, total = (
            int(given.get("--dp-size", 1)),
            int(given.get("--tp-size", given.get("--tensor-parallel-size", 1))),
        )
        ranks = int(given.get("--data-parallel-size", ranks))
        if ranks < 2:
            yield "--enable-dp-attention without --dp-size above 1 changes nothing"
        elif total % ranks:
            yield f"--dp-size {ranks} does not divide --tp-size {total}, which attention data parallelism needs"
    local = given.get("--data-parallel-size-local")
    if engine == "vllm" and local and int(local) > pool.dp:
        yield f"--data-parallel-size-local {local} exceeds --data-parallel-size {pool.dp}"


def _pools(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a KV connector."""
    transfer = given.get("--kv-transfer-config")
    if isinstance(transfer, Mapping):
        role = transfer.get("kv_role")
        if role not in ("kv_producer", "kv_consumer", "kv_both"):
            yield f"--kv-transfer-config: kv_role {role!r} is none of kv_producer, kv_consumer, kv_both"
        if not transfer.get("kv_connector"):
            yield "--kv-transfer-config has no kv_connector"
