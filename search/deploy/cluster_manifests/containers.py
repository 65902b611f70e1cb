"""Write the container of a pool: image, command, resources, probes, memory shared between processes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from perfmodel import model as model_of
from search.deploy.engine_settings.images import device_record, needed_image
from search.deploy.engine_settings.templates import nodes_for, product, resource, template
from search.deploy.launch import Launch, Pool
from search.deploy.launch_commands.arguments import Command
from search.deploy.launch_commands.script import marked

PORT = 8000
#: Variable with the token for gated models, and the Secret that it is taken from where there is one.
HF_TOKEN, HF_SECRET = "HF_TOKEN", "hf-token"
#: Engines that load a file of their own, which has to be there.
LOCAL = ("llamacpp", "mindie")
CONFIG_FOLDER = "/config"
#: Bytes per second at which weights arrive from a store, and seconds that an engine starts in beside that (graphs,
#: compilation). Chosen: slow enough that a startup probe does not end a server that is still loading.
LOAD_RATE, START_SECONDS = 200e6, 600.0
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
#: Seconds between two probes, and failures until a server counts as dead.
PERIOD, FAILURES = 10, 3
#: Memory shared between the processes of one replica, per device. Chosen: what NCCL and the engines' guides ask for.
SHARED_GI = 8
#: CPU cores and GiB of memory per device. Chosen: schedulers, tokenizers and pinned buffers of one device.
CORES, MEMORY_GI = 8, 64


def name_of(launch: Launch, suffix: str = "") -> str:
    """Return a name that Kubernetes accepts: of the model, at most 50 characters."""
    text = re.sub(r"[^a-z0-9]+", "-", launch.model.rsplit("/", 1)[-1].lower()).strip("-")[:40].strip("-")
    return f"{text}-{suffix}" if suffix and suffix != "serve" else text


def noted(launch: Launch, pool: Pool) -> dict[str, str]:
    """Return what the engine's flags cannot carry, as annotations."""
    return {f"perfmodel/{key}": value for key, value in marked(launch, pool).items() if key != "replicas"}


def container(launch: Launch, pool: Pool, found: Command) -> dict[str, Any]:
    """Return the container of one replica, or of its part on one node."""
    held = resource(device_record(pool))
    here = pool.devices // nodes_for(pool.devices)
    limits: dict[str, Any] = {held: str(here)} if held else {}
    requests = {"cpu": str(CORES * here), "memory": f"{MEMORY_GI * here}Gi"}
    volumes = [{"name": "shm", "mountPath": "/dev/shm"}]
    volumes += [{"name": "config", "mountPath": CONFIG_FOLDER}] if found.files else []
    env: list[dict[str, Any]] = [{"name": k, "value": v} for k, v in found.env.items()]
    secret = {"name": HF_SECRET, "key": HF_TOKEN, "optional": True}
    env += [{"name": HF_TOKEN, "valueFrom": {"secretKeyRef": secret}}] if launch.engine not in LOCAL else []
    if launch.engine == "vllm" and pool.role != "serve":
        env.append({"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    return {
        "name": "main",
        "image": needed_image(launch, pool),
        "command": [*found.words[: len(template(launch.engine).command)]],
        "args": [*found.words[len(template(launch.engine).command) :]],
        **({"env": env} if env else {}),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"limits": limits, "requests": {**requests, **limits}},
        **probes(launch),
        "volumeMounts": volumes,
    }


def probes(launch: Launch) -> dict[str, Any]:
    """Return the probes: a startup probe that waits until the weights are loaded, then readiness and liveness."""
    size = sum(model_of(launch.model).weight_bytes().values())
    tries = math.ceil((START_SECONDS + size / LOAD_RATE) / PERIOD)
    http: dict[str, Any] = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": PERIOD}
    return {
        "startupProbe": {**http, "failureThreshold": tries},
        "readinessProbe": {**http, "failureThreshold": 1, "timeoutSeconds": 5},
        "livenessProbe": {**http, "failureThreshold": FAILURES, "timeoutSeconds": 10},
    }


def config_map(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Return the ConfigMap that holds the files of an engine. files: name -> text."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(files)}


def pod(launch: Launch, pool: Pool, found: Command, config: str = "") -> dict[str, Any]:
    """Return the specification of a pod. config: name of the ConfigMap with the engine's file."""
    label = product(pool.device)
    volumes: list[Mapping[str, Any]] = [
        {
            "name": "shm",
            "emptyDir": {"medium": "Memory", "sizeLimit": f"{SHARED_GI * pool.devices // nodes_for(pool.devices)}Gi"},
        }
    ]
    volumes += [{"name": "config", "configMap": {"name": config}}] if found.files else []
    return {
        **({"nodeSelector": {"nvidia.com/gpu.product": label}} if label else {}),
        "containers": [container(launch, pool, found)],
        "volumes": volumes,
    }
