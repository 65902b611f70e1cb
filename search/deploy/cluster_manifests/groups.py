"""Write the workload of a replica that spans nodes: a LeaderWorkerSet, one pod per node, the first of which serves."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hwdb import InputError
from search.deploy.cluster_manifests.containers import PROBES, name_of, noted, pod
from search.deploy.engine_settings.templates import nodes_for
from search.deploy.launch import Launch, Pool
from search.deploy.launch_commands.arguments import Command, command, follower_words, ray_starts

#: Engines whose nodes are joined by flags, or by Ray; the others need a launcher (MPI) that a pod template has not.
JOINED = ("vllm", "sglang")
#: API of LeaderWorkerSet (kubernetes-sigs/lws v0.9, 2026-08).
LWS = "leaderworkerset.x-k8s.io/v1"
#: What an export has a user fill in -> the variables that a LeaderWorkerSet sets in each pod.
VARIABLES = {"NODE_RANK": "$(LWS_WORKER_INDEX)", "MASTER_ADDRESS": "$(LWS_LEADER_ADDRESS)"}
#: Parts of a container that only a server of requests has.
SERVING = ("ports", *PROBES)


def group(launch: Launch, pool: Pool, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return the LeaderWorkerSet of a pool. labels: of the pods that serve, the first one of each replica.

    Raises `InputError` for an engine whose nodes are joined by a launcher.
    """
    if launch.engine not in JOINED:
        raise InputError(
            f"export: {launch.engine} joins the {nodes_for(pool.devices)} nodes of a replica by a launcher of its own; "
            f"export to dynamo or to {launch.engine} itself, or plan with at most one node per replica"
        )
    found = command(launch, pool)
    ray = ray_starts(launch, pool)
    leader = _pod(launch, pool, found.words, found, ray[:1])
    worker = _pod(launch, pool, (*found.words, *follower_words(launch, pool)), found, ray[1:], serves=False)
    name = name_of(launch, pool.role)
    about = {"labels": labels, "annotations": noted(launch, pool)}
    parts = {
        "size": nodes_for(pool.devices),
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": {"metadata": about, "spec": leader},
        "workerTemplate": {"spec": worker},
    }
    spec = {"replicas": pool.replicas, "leaderWorkerTemplate": parts}
    return [{"apiVersion": LWS, "kind": "LeaderWorkerSet", "metadata": {"name": name, "labels": labels}, "spec": spec}]


def _pod(
    launch: Launch, pool: Pool, words: Sequence[str], found: Command, first: Sequence[str], *, serves: bool = True
) -> dict[str, Any]:
    """Return the pod of one node. first: what a shell runs before the engine; a worker of Ray runs nothing else."""
    named = replace(found, words=tuple(_named(word) for word in words))
    whole = pod(launch, pool, named)
    main = whole["containers"][0]
    if first:
        script = _named(first[0]) if not serves else f"{first[0]} && exec {shlex.join(named.words)}"
        main |= {"command": ["sh", "-c"], "args": [script]}
    if not serves:
        for key in SERVING:
            main.pop(key, None)
    return whole


def _named(word: str) -> str:
    """Return a word with the variables of a LeaderWorkerSet in place of what has to be filled in."""
    for name, variable in VARIABLES.items():
        word = word.replace(name, variable)
    return word
