"""Write the custom resources of Dynamo and KServe, a Ray Serve application, and a compose file."""

from __future__ import annotations

from typing import Any

from hwdb import InputError
from search.deploy.cluster_manifests.containers import (
    CONFIG_FOLDER,
    PORT,
    config_map,
    container,
    name_of,
    noted,
    pod,
    probes,
)
from search.deploy.cluster_manifests.kubernetes import checked_command
from search.deploy.engine_settings.checkpoints import checkpoint
from search.deploy.engine_settings.images import device_record
from search.deploy.engine_settings.parsers import release
from search.deploy.engine_settings.templates import NODE_DEVICES, nodes_for, resource, template
from search.deploy.launch import SERVE, Launch, Pool
from search.deploy.launch_commands.arguments import as_yaml, command, put
from search.deploy.launch_commands.script import marked

#: Release of Dynamo whose graph format is written (package ai-dynamo 1.6.1, profiler/templates/dgd; its operator's
#: api/v1beta1 types @006b6e1, 2026).
DYNAMO = "1.6.1"
#: Modules of its workers, and flags of the engines that its workers set by themselves.
WORKERS = {"vllm": "dynamo.vllm", "sglang": "dynamo.sglang", "trtllm": "dynamo.trtllm"}
_SERVER_FLAGS = {"--host", "--port", "--enable-metrics"}
#: Images of its workers, where they are not called like the engine.
RUNTIMES = {"trtllm": "tensorrtllm"}
#: Flags of trtllm-serve -> the keys of its configuration, in which Dynamo's worker takes them.
TRTLLM_KEYS = {
    "--tp_size": "tensor_parallel_size",
    "--pp_size": "pipeline_parallel_size",
    "--cp_size": "context_parallel_size",
    "--ep_size": "moe_expert_parallel_size",
    "--max_seq_len": "max_seq_len",
    "--max_num_tokens": "max_num_tokens",
    "--max_batch_size": "max_batch_size",
    "--free_gpu_memory_fraction": "kv_cache_config.free_gpu_memory_fraction",
    "--kv_cache_dtype": "kv_cache_config.dtype",
    "--enable_chunked_prefill": "enable_chunked_prefill",
    "--enable_attention_dp": "enable_attention_dp",
}


def dynamo(launch: Launch) -> list[dict[str, Any]]:
    """Return the DynamoGraphDeployment: a front end and one worker component per pool."""
    if launch.engine not in WORKERS:
        raise InputError(
            f"export: dynamo runs {', '.join(WORKERS)}, the plan is for {launch.engine}; name one in [engine]"
        )
    runtime = f"nvcr.io/nvidia/ai-dynamo/{RUNTIMES.get(launch.engine, launch.engine)}-runtime:{DYNAMO}"
    front = {"name": "main", "image": runtime, "command": ["python3"], "args": ["-m", "dynamo.frontend"]}
    parts: list[dict[str, Any]] = [_component("Frontend", "frontend", 1, {"spec": {"containers": [front]}})]
    for pool in launch.pools:
        kind = "worker" if pool.role == SERVE else pool.role
        template_of = {"metadata": {"annotations": noted(launch, pool)}, "spec": _dynamo_pod(launch, pool, runtime)}
        part = _component(kind, kind, pool.replicas, template_of)
        nodes = nodes_for(pool.devices)
        parts.append({**part, "multinode": {"nodeCount": nodes}} if nodes > 1 else part)
    spec = {"backendFramework": launch.engine, "components": parts}
    return [
        *(_config_map(launch, pool) for pool in launch.pools if launch.engine == "trtllm"),
        {
            "apiVersion": "nvidia.com/v1beta1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": name_of(launch)},
            "spec": spec,
        },
    ]


def _component(name: str, kind: str, replicas: int, template_of: dict[str, Any]) -> dict[str, Any]:
    """Return one component of a graph."""
    return {"name": name, "type": kind, "replicas": replicas, "podTemplate": template_of}


def _dynamo_pod(launch: Launch, pool: Pool, runtime: str) -> dict[str, Any]:
    """Return the pod of a worker: the engine's flags behind Dynamo's module; its operator brings probes and ports."""
    found = command(launch, pool)
    how = template(launch.engine)
    joined = {word for part in ("flags", "before") for word in how.nodes.get(part, [])[::2]}
    words = _without(list(found.words[len(how.command) :]), {*_SERVER_FLAGS, *joined})
    if launch.engine == "trtllm":
        file = f"{CONFIG_FOLDER}/{name_of(launch, pool.role)}.yaml"
        words = [words[0], "--served-model-name", launch.model, "--extra-engine-args", file]
    if launch.engine in ("vllm", "trtllm"):
        words = ["--model", *words]
        words += [] if pool.role == SERVE else ["--disaggregation-mode", pool.role]
    nodes = nodes_for(pool.devices)
    limits = {resource(device_record(pool)): str(pool.devices // nodes)}
    main = {
        **container(launch, pool, found),
        "image": runtime,
        "command": ["python3", "-m", WORKERS[launch.engine]],
        "args": words,
    }
    main = {k: v for k, v in main.items() if k not in ("ports", *probes(launch), "volumeMounts")}
    main["resources"] = {"limits": limits, "requests": limits}
    whole = {k: v for k, v in {**pod(launch, pool, found), "containers": [main]}.items() if k != "volumes"}
    if launch.engine != "trtllm":
        return whole
    main["volumeMounts"] = [{"name": "config", "mountPath": CONFIG_FOLDER}]
    held = {"name": "config", "configMap": {"name": f"{name_of(launch, pool.role)}-config"}}
    return {**whole, "volumes": [held]}


def _config_map(launch: Launch, pool: Pool) -> dict[str, Any]:
    """Return the ConfigMap with the configuration of TensorRT-LLM for one pool: all that trtllm-serve has flags for."""
    import yaml

    found = command(launch, pool)
    held: dict[str, Any] = yaml.safe_load(next(iter(found.files.values()), "")) or {}
    words = list(found.words)
    for flag, key in TRTLLM_KEYS.items():
        if flag in words:
            value = words[words.index(flag) + 1]
            put(held, key, True if flag.startswith("--enable") else yaml.safe_load(value))
    name = name_of(launch, pool.role)
    return config_map(f"{name}-config", {f"{name}.yaml": as_yaml(held)})


def _without(words: list[str], flags: set[str]) -> list[str]:
    """Return words without some flags and their values."""
    kept: list[str] = []
    dropping = False
    for word in words:
        dropping = word in flags or (dropping and not word.startswith("-"))
        kept += [] if dropping else [word]
    return kept


def kserve(launch: Launch) -> list[dict[str, Any]]:
    """Return the LLMInferenceService (serving.kserve.io/v1alpha2): KServe starts vLLM with the model and TP, the other
    flags are handed over in VLLM_ADDITIONAL_ARGS."""
    if launch.engine != "vllm":
        raise InputError(f"export: kserve runs vLLM, the plan is for {launch.engine}; set [engine] name = 'vllm'")
    main = launch.pools[-1]
    stored = {checkpoint(launch.model, pool.weight, launch.engine).name for pool in launch.pools}
    if len(stored) > 1:
        raise InputError(
            f"export: kserve loads one checkpoint for all pools, the plan has {' and '.join(sorted(stored))}"
        )
    spec = _kserve_part(launch, main)
    if len(launch.pools) > 1:
        spec["prefill"] = _kserve_part(launch, launch.pools[0])
    words = command(launch, main).words
    model = {"uri": f"hf://{words[2]}", "name": launch.model}
    spec = {"model": model, "router": {"route": {}, "gateway": {}, "scheduler": {}}, **spec}
    meta = {"name": name_of(launch)}
    return [{"apiVersion": "serving.kserve.io/v1alpha2", "kind": "LLMInferenceService", "metadata": meta, "spec": spec}]


def _kserve_part(launch: Launch, pool: Pool) -> dict[str, Any]:
    """Return replicas, parallelism and pod of one workload."""
    import shlex

    local = _local_ranks(pool)
    found = command(launch, pool) if local else checked_command(launch, pool)
    words = list(found.words[3:])
    own = {"--host", "--port", "--served-model-name", "--tensor-parallel-size"}
    joined = {"--data-parallel-size", "--enable-expert-parallel", *template(launch.engine).nodes["flags"][::2]}
    handed = _without(words, own | joined | {"--distributed-executor-backend"} if local else own)
    one = container(launch, pool, found)
    env = [e for e in one.get("env", []) if e["name"] != "VLLM_ADDITIONAL_ARGS"]
    env.append({"name": "VLLM_ADDITIONAL_ARGS", "value": shlex.join(handed)})
    main = {
        k: v
        for k, v in one.items()
        if k not in ("command", "args", "image", "ports", "volumeMounts", "readinessProbe", "livenessProbe")
    }
    main["env"] = env
    main["startupProbe"] = {k: v for k, v in one["startupProbe"].items() if k != "httpGet"}  # KServe's own says where
    whole = {k: v for k, v in pod(launch, pool, found).items() if k == "nodeSelector"}
    ways: dict[str, Any] = {"parallelism": {"tensor": pool.tp}} if pool.tp > 1 else {}
    if local:
        spread = {"tensor": pool.tp, "data": pool.dp, "dataLocal": local, **({"expert": True} if pool.ep > 1 else {})}
        worker = {k: v for k, v in main.items() if k != "startupProbe"}
        ways = {"parallelism": spread, "worker": {**whole, "containers": [worker]}}
    return {
        "annotations": noted(launch, pool),
        "replicas": pool.replicas,
        **ways,
        "template": {**whole, "containers": [main]},
    }


def _local_ranks(pool: Pool) -> int:
    """Return the ranks of data parallelism on each node of a replica; 0 for one that KServe does not spread over nodes.

    KServe's own templates join nodes by data parallelism only (kserve/kserve config/llmisvcconfig @aaac4e2, 2026-08).
    """
    nodes, by_data = nodes_for(pool.devices), pool.pp * pool.cp == 1 and pool.tp <= NODE_DEVICES
    return pool.dp // nodes if nodes > 1 and by_data and pool.dp % nodes == 0 else 0


def ray_serve(launch: Launch) -> list[dict[str, Any]]:
    """Return the configuration for `serve run`: an application of ray.serve.llm (Ray 2.51) with one model."""
    if launch.engine != "vllm":
        raise InputError(
            f"export: Ray Serve LLM runs vLLM, the plan is for {launch.engine}; set [engine] name = 'vllm'"
        )
    configs = [_ray_config(launch, pool) for pool in launch.pools]
    app: dict[str, Any] = {
        "name": name_of(launch),
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
    }
    app["args"] = {"llm_configs": configs}
    if len(configs) > 1:
        app["import_path"] = "ray.serve.llm:build_pd_openai_app"
        app["args"] = {"prefill_config": configs[0], "decode_config": configs[1]}
    return [{"applications": [app], "http_options": {"host": "0.0.0.0", "port": PORT}}]


def _ray_config(launch: Launch, pool: Pool) -> dict[str, Any]:
    """Return the configuration of one model: the engine's flags as keyword arguments."""
    import json

    known = release(launch.engine, launch.version)
    joined = template(launch.engine).nodes.get("flags", [])[::2]  # Ray joins nodes by itself
    found = command(launch, pool)
    words = _without(list(found.words[3:]), {"--host", "--port", "--served-model-name", *joined})
    arguments: dict[str, Any] = {}
    while words:
        name = words.pop(0)
        flag = known.find(name) if known else None
        key = (flag.name if flag else name).lstrip("-").replace("-", "_")
        if flag is None or flag.kind == "switch":
            arguments[key] = not name.startswith("--no-")
            continue
        text = words.pop(0)
        kinds: dict[str, Any] = {"int": int, "float": float, "json": json.loads}
        arguments[key] = kinds.get(flag.kind, str)(text)
    bounds = {"min_replicas": launch.least, "max_replicas": launch.most, "initial_replicas": pool.replicas}
    scaled = launch.most is not None and launch.least is not None and launch.most > launch.least and pool.role == SERVE
    env = {f"PERFMODEL_{k.upper()}": v for k, v in marked(launch, pool).items() if k != "replicas"}
    return {
        "model_loading_config": {"model_id": launch.model, "model_source": found.words[2]},
        "engine_kwargs": arguments,
        "deployment_config": {"autoscaling_config": bounds} if scaled else {"num_replicas": pool.replicas},
        "runtime_env": {"env_vars": {**found.env, **env}},
    }
