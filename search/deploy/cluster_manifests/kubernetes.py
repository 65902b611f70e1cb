"""Write manifests of Kubernetes: a Deployment and a Service per pool, an autoscaler, and llm-d's pool of endpoints."""

from __future__ import annotations

from typing import Any

from hwdb import InputError
from search.deploy.cluster_manifests.containers import CONFIG_FOLDER, PORT, PROBES, config_map, name_of, noted, pod
from search.deploy.cluster_manifests.groups import LWS, group
from search.deploy.engine_settings.templates import NODE_DEVICES, nodes_for, template
from search.deploy.launch import DECODE, SERVE, Launch, Pool
from search.deploy.launch_commands.arguments import Command, command

#: Seconds for which an autoscaler waits before it takes replicas away. Chosen: longer than a replica takes to start.
CALM_SECONDS = 1800
#: Port of llm-d's endpoint picker (gateway-api-inference-extension: the default of an InferencePool's extension).
PICKER_PORT = 9002
#: Model servers of llm-d -> the connector of its sidecar (llm-d/llm-d-router docs/disaggregation.md @08520b8, 2026).
LLM_D = {"vllm": "nixlv2", "sglang": "sglang"}
#: The sidecar of decode pods, and the port at which it expects the engine (its default in all releases).
SIDECAR, BEHIND = "ghcr.io/llm-d/llm-d-router-disagg-sidecar:v0.10.0", 8200


def kubernetes(launch: Launch) -> list[dict[str, Any]]:
    """Return the manifests: a Deployment per pool, or a LeaderWorkerSet where a replica spans nodes."""
    found: list[dict[str, Any]] = []
    for pool in launch.pools:
        labels = {"app": name_of(launch), "perfmodel/pool": pool.role}
        found += workload(launch, pool, labels)
        found.append(service(name_of(launch, pool.role), labels))
    if len(launch.pools) == 1:
        found += autoscaler(launch, name_of(launch))
    else:
        found += router(launch)
    return found


def llm_d(launch: Launch) -> list[dict[str, Any]]:
    """Return the manifests for llm-d: model servers with its labels, and the InferencePool that its scheduler picks
    from; the endpoint picker and the gateway come from llm-d's own charts. Pods for decode have llm-d's sidecar:
    without it no prompt would reach a pod for prefill."""
    if launch.engine not in LLM_D:
        raise InputError(
            f"export: llm-d runs {' and '.join(LLM_D)}, the plan is for {launch.engine}; name one in [engine]"
        )
    found: list[dict[str, Any]] = []
    shared = {"llm-d.ai/inference-serving": "true", "llm-d.ai/model": name_of(launch)}
    for pool in launch.pools:
        labels = {**shared, "llm-d.ai/role": "prefill-decode" if pool.role == SERVE else pool.role}
        made = workload(launch, pool, labels)
        if pool.role == DECODE:
            put_behind_sidecar(serving_pod(made[-1]), LLM_D[launch.engine])
        found += made
    if len(launch.pools) == 1:
        found += autoscaler(launch, name_of(launch))
    picker = {"name": f"{name_of(launch)}-epp", "port": {"number": PICKER_PORT}, "failureMode": "FailOpen"}
    spec = {"selector": {"matchLabels": shared}, "targetPorts": [{"number": PORT}], "endpointPickerRef": picker}
    meta = {"name": name_of(launch)}
    return [
        *found,
        {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": meta, "spec": spec},
    ]


def serving_pod(made: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of the pods that serve, of a Deployment or a LeaderWorkerSet; to be changed in place."""
    spec = made["spec"]
    found: dict[str, Any] = (spec.get("template") or spec["leaderWorkerTemplate"]["leaderTemplate"])["spec"]
    return found


def put_behind_sidecar(spec: dict[str, Any], connector: str) -> None:
    """Let llm-d's sidecar take the requests of a pod for decode, and the engine listen behind it.

    The sidecar has each prompt computed by the pod for prefill that the endpoint picker chose. It is a container that
    starts first and keeps running (Kubernetes 1.29 and later).
    """
    main = spec["containers"][0]
    at = [n for n, word in enumerate(main["args"]) if n and main["args"][n - 1] == "--port"]
    main["args"] = [
        str(BEHIND) if n in at else word.replace(f"--port {PORT}", f"--port {BEHIND}")
        for n, word in enumerate(main["args"])
    ]
    main["ports"] = [{"name": "engine", "containerPort": BEHIND}]
    for probe in (main[name] for name in PROBES):
        probe["httpGet"] = {**probe["httpGet"], "port": BEHIND}
    sidecar = {
        "name": "routing-proxy",
        "image": SIDECAR,
        "args": [f"--port={PORT}", f"--kv-connector={connector}", "--secure-proxy=false"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "restartPolicy": "Always",
    }
    spec["initContainers"] = [sidecar]


def checked_command(launch: Launch, pool: Pool) -> Command:
    """Return the command of a pool whose replicas fit on one node; `InputError` where they do not."""
    if pool.devices > NODE_DEVICES:
        raise InputError(
            f"export: a replica on {pool.devices} devices spans nodes, which this target does not join; export it to "
            "kubernetes, llm-d or dynamo, or to the engine itself"
        )
    file = f"{name_of(launch, pool.role)}.{'json' if launch.engine == 'mindie' else 'yaml'}"
    return command(launch, pool, config=f"{CONFIG_FOLDER}/{file}")


def workload(launch: Launch, pool: Pool, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return the Deployment of a pool, behind the ConfigMap that it needs, if any; a LeaderWorkerSet across nodes."""
    if nodes_for(pool.devices) > 1:
        return group(launch, pool, labels)
    found = checked_command(launch, pool)
    name = name_of(launch, pool.role)
    template_meta = {"labels": labels, "annotations": noted(launch, pool)}
    spec = {
        "replicas": pool.replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": template_meta, "spec": pod(launch, pool, found, f"{name}-config")},
    }
    held = {path.rsplit("/", 1)[-1]: text for path, text in found.files.items()}
    return [
        *([config_map(f"{name}-config", held)] if held else []),
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec},
    ]


def service(name: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return the Service in front of the replicas of a pool."""
    ports = [{"name": "http", "port": PORT, "targetPort": PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": labels, "ports": ports},
    }


def autoscaler(launch: Launch, name: str) -> list[dict[str, Any]]:
    """Return the autoscaler between the bounds that follow from the plan's headroom; [] where it has no rate."""
    metric = template(launch.engine).metric
    if not launch.least or not launch.most or launch.most <= launch.least or not launch.per_replica or not metric:
        return []
    grouped = nodes_for(launch.main.devices) > 1
    scaled = {"apiVersion": LWS if grouped else "apps/v1", "kind": "LeaderWorkerSet" if grouped else "Deployment"}
    target = {"type": "AverageValue", "averageValue": str(max(1, round(launch.per_replica)))}
    spec = {
        "scaleTargetRef": {**scaled, "name": name},
        "minReplicas": launch.least,
        "maxReplicas": launch.most,
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": metric.replace(":", "_")}, "target": target}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": CALM_SECONDS}},
    }
    return [
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": spec}
    ]


def router(launch: Launch) -> list[dict[str, Any]]:
    """Return the router in front of the pools for prefill and decode, with its Service."""
    how = template(launch.engine).pools
    if "router_image" not in how:
        raise InputError(
            f"export: no image holds the router of {launch.engine}; export to dynamo, or to {launch.engine} itself"
        )
    name, labels = f"{name_of(launch)}-router", {"app": f"{name_of(launch)}-router"}
    urls = {p.role: f"--{p.role} http://{name_of(launch, p.role)}:{PORT}" for p in launch.pools}
    text = f"{how['router']} --host 0.0.0.0 --port {PORT}".format(**urls)
    main: dict[str, Any] = {"name": "main", "image": how["router_image"], "command": ["sh", "-c"]}
    main |= {"args": [f"{how['router_install']} && exec {text}"], "ports": [{"name": "http", "containerPort": PORT}]}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [main]}},
    }
    meta = {"name": name, "labels": labels}
    return [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}, service(name, labels)]
