"""Write a launch as a shell script: one command per pool, the router, and the benchmark that checks the SLO."""

from __future__ import annotations

from dataclasses import replace

from perfmodel import model as model_of
from search.deploy.engine_settings.checkpoints import checkpoint
from search.deploy.engine_settings.images import image
from search.deploy.engine_settings.templates import nodes_for, template
from search.deploy.launch import SERVE, Launch, Pool
from search.deploy.launch_commands.arguments import Command, command, follower_words, launcher_words, ray_starts
from search.deploy.launch_commands.benchmark import benchmark

#: Begins a line that the reader takes for what commands cannot carry: the device and the number of replicas.
MARK = "# perfmodel:"
CONFIG = "config.yaml"


#: Chance beyond which no more is said, as in tables.
SURE = 0.99


def script(launch: Launch) -> str:
    """Return the script."""
    kinds = dict.fromkeys(filter(None, (image(launch, pool) for pool in launch.pools)))
    needs = f"# It needs {launch.engine} on the path{', as in the image ' * bool(kinds)}{' or '.join(kinds)}."
    parts = ["#!/usr/bin/env bash", *heading(launch), needs]
    for pool in launch.pools:
        parts += ["", *_pool(launch, pool)]
    if len(launch.pools) > 1:
        parts += ["", "# The router, in front of all workers:", *_comment(router_text(launch))]
    return "\n".join([*parts, "", *checked(launch)]) + "\n"


def _sure(chance: float) -> str:
    """Write a chance as a percentage; no estimate is certain, so that it is at most "over 99 %" short of 1.

    >>> _sure(0.934), _sure(0.9996), _sure(0.002)
    ('93 %', 'over 99 %', 'under 1 %')
    """
    if SURE < chance < 1.0:
        return f"over {100.0 * SURE:.0f} %"
    return f"under {100.0 - 100.0 * SURE:.0f} %" if 0.0 < chance < 1.0 - SURE else f"{100.0 * chance:.0f} %"


def heading(launch: Launch) -> list[str]:
    """Return the comment lines that say what is launched and how sure it is."""
    chance = None if launch.chance is None else _sure(launch.chance)
    sure = "" if chance is None else f"; the SLO holds with a chance of {chance} before any measurement"
    lines = [f"# Written by perfmodel export for: {launch.words or launch.model}{sure}"]
    lines += [f"# Flags of {launch.engine} {launch.version}. Check the versions of images before use."]
    if launch.max_model_len:
        lines += [f"# Serves requests of up to {launch.max_model_len:,} tokens in and out; raise it for longer ones."]
    lines += [f"# {note}" for note in launch.notes]
    if launch.least and launch.most:
        of = f" of the pool for {launch.main.role}" if len(launch.pools) > 1 else ""
        lines += [f"# Autoscaling: {launch.least} to {launch.most} replicas{of}."]
    return lines


def checked(launch: Launch) -> list[str]:
    """Return the benchmark as comment lines."""
    found = benchmark(launch)
    if not found.words:
        return []
    expected = [f"{key} {value:.4g}" for key, value in (launch.check.expected if launch.check else {}).items()]
    told = [f"# The plan expects, in ms: {', '.join(expected)}."] if expected else []
    return ["# Check the SLO (against one address for all replicas):", *_comment(found.shell()), *told]


def _comment(text: str) -> list[str]:
    """Return a text as comment lines."""
    return [f"#   {line}" for line in text.splitlines()]


def marked(launch: Launch, pool: Pool) -> dict[str, str]:
    """Return what a command cannot carry, by the name under which labels and comments have it."""
    return {
        "model": launch.model,
        "engine": launch.engine,
        "version": launch.version,
        "pool": pool.role,
        "device": pool.device,
        "replicas": str(pool.replicas),
        **({"weight": pool.weight} if not _named(launch, pool) else {}),
    }


def _named(launch: Launch, pool: Pool) -> bool:
    """Return whether the checkpoint's name and the flags say the format of the weights."""
    stored = checkpoint(launch.model, pool.weight, launch.engine)
    return stored.format != pool.weight or model_of(stored.name).weight_format == pool.weight


def _pool(launch: Launch, pool: Pool) -> list[str]:
    """Return the lines of one pool."""
    file = f"{'' if pool.role == SERVE else pool.role + '-'}config.{'json' if launch.engine == 'mindie' else 'yaml'}"
    found = command(launch, pool, config=file)
    lines = [f"{MARK} " + " ".join(f"{k}={v}" for k, v in marked(launch, pool).items())]
    what = "" if pool.role == SERVE else f" for {pool.role}"
    each = f"each on {pool.devices} x {pool.device}"
    lines += [f"# Start {pool.replicas} of these{what}, {each}{_behind(launch)}."]
    lines += [f"# {note}" for note in (*found.notes, *_on_nodes(launch, pool))]
    for text in found.files.values():
        lines += [f"cat > {file} <<'END'", text.rstrip(), "END"]
    whole = replace(found, words=(*launcher_words(launch, pool), *found.words))
    return [*lines, *_exports(found), *ray_starts(launch, pool)[:1], whole.shell()]


def _on_nodes(launch: Launch, pool: Pool) -> list[str]:
    """Return how the command of a replica that spans nodes is run, in sentences; [] for one on a single node."""
    nodes = nodes_for(pool.devices)
    if nodes < 2:
        return []
    each = f"A replica spans {nodes} nodes with {pool.devices // nodes} devices each"
    if launcher_words(launch, pool):
        return [f"{each}: srun starts one rank per device on them, in one allocation of Slurm."]
    if launch.engine == "mindie":
        return [f"{each}: run it on each, with RANK_TABLE_FILE naming the ranks of all of them."]
    ray = ray_starts(launch, pool)
    if ray:
        return [f"{each}: run `{ray[1]}` on all but the first, MASTER_ADDRESS being the first."]
    text = f"{each}: run it on each. NODE_RANK is 0 on the first, then 1 and so on; MASTER_ADDRESS is the first."
    more = follower_words(launch, pool)
    return [text, *([f"Add {' '.join(more)} on all but the first."] if more else [])]


def _behind(launch: Launch) -> str:
    """Return what stands in front of several replicas."""
    several = sum(pool.replicas for pool in launch.pools) > 1
    return ", behind a load balancer" if several and len(launch.pools) == 1 else ""


def _exports(found: Command) -> list[str]:
    """Return the lines that set the variables of a command."""
    return [f"export {name}={value}" for name, value in found.env.items()]


def router_text(launch: Launch) -> str:
    """Return the command of the router of two pools, behind the file that it reads; the hosts are to be filled in."""
    hosts = {p.role: [f"{p.role.upper()}-{i}:8000" for i in range(1, p.replicas + 1)] for p in launch.pools}
    urls = {role: " ".join(f"--{role} http://{host}" for host in names) for role, names in hosts.items()}
    text = str(template(launch.engine).pools["router"]).format(**urls)
    if launch.engine != "trtllm":
        return text
    servers = [
        f"{kind}_servers:\n  num_instances: {len(hosts[role])}\n  urls: [{', '.join(hosts[role])}]"
        for kind, role in (("context", "prefill"), ("generation", "decode"))
    ]
    return "\n".join(["disaggregated.yaml:", "hostname: 0.0.0.0", "port: 8000", "backend: pytorch", *servers, "", text])
