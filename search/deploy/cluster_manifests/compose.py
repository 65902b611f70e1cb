"""Write a compose file: one service per replica with devices of its own, and what stands in front of them."""

from __future__ import annotations

from typing import Any

from hwdb import InputError
from search.deploy.cluster_manifests.containers import HF_TOKEN, LOCAL, PORT, name_of, noted, probes
from search.deploy.cluster_manifests.kubernetes import checked_command, router
from search.deploy.engine_settings.images import device_record, needed_image
from search.deploy.engine_settings.templates import NODE_DEVICES, template
from search.deploy.launch import SERVE, Launch, Pool

#: Where the weights of earlier starts are kept on the machine, and where files of weights are looked for.
CACHE, MODELS = "${HF_HOME:-~/.cache/huggingface}:/root/.cache/huggingface", ["./models:/models"]
#: Image of the load balancer in front of several replicas, and where it reads its configuration.
BALANCER, BALANCER_FILE = "nginx:stable", "/etc/nginx/nginx.conf"


def compose(launch: Launch) -> list[dict[str, Any]]:
    """Return the compose file. Raises `InputError` where the replicas need more devices than one machine has."""
    held = sum(pool.devices * pool.replicas for pool in launch.pools)
    if held > NODE_DEVICES and any(getattr(device_record(pool), "kind", "") != "cpu" for pool in launch.pools):
        raise InputError(
            f"export: {held} devices are more than the {NODE_DEVICES} of one machine, which compose runs on; export to "
            "kubernetes, or to the engine itself"
        )
    services: dict[str, Any] = {}
    configs: dict[str, Any] = {}
    first = 0
    for pool in launch.pools:
        found = checked_command(launch, pool)
        for i in range(pool.replicas):
            name = f"{name_of(launch, pool.role)}-{i + 1}"
            services[name] = _service(launch, pool, found.words, first)
            token = {} if launch.engine in LOCAL else {HF_TOKEN: "${HF_TOKEN:-}"}
            services[name] |= {"environment": {**token, **found.env}} if token or found.env else {}
            for path, text in found.files.items():
                configs[name_of(launch, pool.role)] = {"content": text.replace("$", "$$")}
                services[name]["configs"] = [{"source": name_of(launch, pool.role), "target": path}]
            first += pool.devices
    services |= _front(launch, list(services), configs)
    return [{"services": services, **({"configs": configs} if configs else {})}]


def _front(launch: Launch, names: list[str], configs: dict[str, Any]) -> dict[str, Any]:
    """Return the service in front: the router of two pools, a load balancer, or none before a single replica."""
    ports = [f"{PORT}:{PORT}"]
    if len(launch.pools) > 1:
        main = router(launch)[0]["spec"]["template"]["spec"]["containers"][0]
        return {
            "router": {"image": main["image"], "entrypoint": main["command"], "command": main["args"], "ports": ports}
        }
    if len(names) == 1:
        return {}
    servers = " ".join(f"server {name}:{PORT};" for name in names)
    configs["balancer"] = {
        "content": f"events {{}}\nhttp {{\n  upstream replicas {{ least_conn; {servers} }}\n"
        f"  server {{ listen {PORT}; location / {{ proxy_pass http://replicas; proxy_buffering off; "
        "proxy_read_timeout 1h; } }\n}\n"
    }
    return {
        "balancer": {"image": BALANCER, "ports": ports, "configs": [{"source": "balancer", "target": BALANCER_FILE}]}
    }


def _service(launch: Launch, pool: Pool, words: tuple[str, ...], first: int) -> dict[str, Any]:
    """Return one replica: image, command, devices, health check. first: number of its first device."""
    head = len(template(launch.engine).command)
    record = device_record(pool)
    start = probes(launch)["startupProbe"]
    alone = pool.replicas == 1 and pool.role == SERVE
    found: dict[str, Any] = {
        "image": needed_image(launch, pool),
        "entrypoint": list(words[:head]),
        "command": [word.replace("$", "$$") for word in words[head:]],
        "labels": noted(launch, pool),
        **({"ports": [f"{PORT}:{PORT}"]} if alone else {"expose": [str(PORT)]}),
        "ipc": "host",
        **({"volumes": [CACHE]} if launch.engine not in LOCAL else {"volumes": MODELS, "working_dir": "/models"}),
        "healthcheck": {
            "test": ["CMD", "curl", "-f", f"http://localhost:{PORT}/health"],
            "interval": f"{start['periodSeconds']}s",
            "retries": 3,
            "start_period": f"{start['periodSeconds'] * start['failureThreshold']}s",
        },
    }
    if record is None or record.vendor == "NVIDIA":
        held = {
            "driver": "nvidia",
            "device_ids": [str(first + k) for k in range(pool.devices)],
            "capabilities": ["gpu"],
        }
        found["deploy"] = {"resources": {"reservations": {"devices": [held]}}}
    elif record.vendor == "AMD" and record.kind == "gpu":
        found["devices"] = ["/dev/kfd", "/dev/dri"]
    return found
