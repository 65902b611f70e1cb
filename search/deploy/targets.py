"""Write a launch for one target: a script for an engine, or the files of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hwdb import InputError, UnknownName
from search.deploy.cluster_manifests.compose import compose
from search.deploy.cluster_manifests.containers import name_of
from search.deploy.cluster_manifests.custom_resources import WORKERS, dynamo, kserve, ray_serve
from search.deploy.cluster_manifests.kubernetes import LLM_D, kubernetes, llm_d
from search.deploy.engine_settings.templates import engines
from search.deploy.launch import Launch
from search.deploy.launch_commands.arguments import as_yaml
from search.deploy.launch_commands.benchmark import benchmark
from search.deploy.launch_commands.script import checked, heading, script

#: Targets that are files of YAML -> what writes their documents.
DOCUMENTS: Mapping[str, Callable[[Launch], list[dict[str, Any]]]] = {
    "ray-serve": ray_serve,
    "dynamo": dynamo,
    "llm-d": llm_d,
    "kserve": kserve,
    "kubernetes": kubernetes,
    "compose": compose,
}
#: How each target is started, in front of the name of its file.
STARTED = {
    "ray-serve": "serve run",
    "compose": "docker compose -f",
    **dict.fromkeys(("dynamo", "llm-d", "kserve", "kubernetes"), "kubectl apply -f"),
}
#: How one address for all replicas is reached from outside the cluster, for the benchmark.
REACHED = {
    "kubernetes": "kubectl port-forward service/{name} 8000:8000",
    "dynamo": "kubectl port-forward service/{app}-frontend 8000:8000",
    "llm-d": "the address of the Gateway whose HTTPRoute has this InferencePool as backend",
    "kserve": "the URL that `kubectl get llminferenceservice` prints",
}
#: What bounds an autoscaler of targets that bring their own.
SCALED = {
    "kserve": "With KServe's autoscaler, in place of replicas: "
    "scaling: {{minReplicas: {least}, maxReplicas: {most}, wva: {{hpa: {{}}}}}}",
    "dynamo": "With Dynamo's planner: min_endpoint {least}, max_gpu_budget {devices}.",
}
#: Names of the targets that are files.
CLUSTERS = tuple(DOCUMENTS)
#: All targets: engines, whose commands are written, and clusters.
TARGETS = (*engines(), *DOCUMENTS)


#: Engines that a target runs, where those are not all.
_RUNS = {"ray-serve": ("vllm",), "kserve": ("vllm",), "llm-d": tuple(LLM_D), "dynamo": tuple(WORKERS)}
#: Other names of targets.
OTHER_NAMES = {
    **dict.fromkeys(("k8s", "kube"), "kubernetes"),
    **dict.fromkeys(("docker", "docker-compose"), "compose"),
    **dict.fromkeys(("llama.cpp", "llama-cpp"), "llamacpp"),
    **dict.fromkeys(("tensorrt-llm", "trt-llm"), "trtllm"),
    **dict.fromkeys(("llmd", "llm_d"), "llm-d"),
    **dict.fromkeys(("ray", "rayserve", "ray_serve"), "ray-serve"),
}


def engines_of(target: str) -> tuple[str, ...]:
    """Return the engines that a target runs, the usual one first."""
    return _RUNS.get(target, (target,) if target in engines() else engines())


@dataclass(frozen=True)
class Export:
    """What was written. target: for what. text: script or file. suffix: of its name. launch: what it launches."""

    target: str
    text: str
    suffix: str
    launch: Launch

    @property
    def benchmark(self) -> str:
        """Return the command that checks the SLO, on one line."""
        import shlex

        return shlex.join(benchmark(self.launch).words)


def target_called(name: str) -> str:
    """Return the target that a name means, in any case or by another name; raise `UnknownName` for none.

    >>> target_called("K8s"), target_called("docker-compose"), target_called("kserve")
    ('kubernetes', 'compose', 'kserve')
    """
    key = name.strip().lower()
    target = OTHER_NAMES.get(key, key)
    if target not in TARGETS:
        raise UnknownName("target", name, TARGETS, f"({', '.join(TARGETS)})", others=OTHER_NAMES)
    return target


def export(launch: Launch, target: str) -> Export:
    """Write a launch for a target of `TARGETS`.

    Raises `UnknownName` for another target, `InputError` where the target cannot hold the launch.
    """
    target = target_called(target)
    if target in DOCUMENTS:
        return Export(target, _yaml(launch, target, DOCUMENTS[target](launch)), "yaml", launch)
    if target != launch.engine:
        raise InputError(
            f"--to {target}: the plan is for {launch.engine}; give the scenario in place of the plan's JSON, name "
            f"{target} in [engine] and plan again, or export to {launch.engine}"
        )
    return Export(target, script(launch), "sh", launch)


def _yaml(launch: Launch, target: str, documents: list[dict[str, Any]]) -> str:
    """Return documents as YAML behind comments: what it is, how it is started, how the SLO is checked."""
    texts = [as_yaml(d) for d in documents]
    start = [f"# Start it with: {STARTED[target]} FILE" + (" up -d" if target == "compose" else "")]
    if target in SCALED and launch.least and launch.most and launch.most > launch.least:
        devices = launch.most * launch.main.devices + sum(
            pool.replicas * pool.devices for pool in launch.pools if pool is not launch.main
        )
        start.append("# " + SCALED[target].format(least=launch.least, most=launch.most, devices=devices))
    if target in REACHED:
        start.append("# Reach it with: " + REACHED[target].format(name=front(launch), app=name_of(launch)))
    return "\n".join([*heading(launch), *start, *checked(launch), "---\n".join(texts)])


def front(launch: Launch) -> str:
    """Return the name of the Service in front of a deployment: the router's where it has two pools."""
    return name_of(launch, "router" if len(launch.pools) > 1 else "")
