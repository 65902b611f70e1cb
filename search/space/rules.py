"""Which layouts of a model make sense on a device, as masks over columns. Each rule says why, with numbers.

Memory is no rule here: what fits depends on the workload and is reported by the estimate, with its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel import ModelSpec
from perfmodel.deployment import Deployments

Columns = dict[str, Any]
Mask = NDArray[np.bool_]

#: A pipeline whose stages hold up to this much more than their even share of layers is worth trying: 61 layers on 8
#: stages (DeepSeek-V3) put 8 on the fullest, 5 % more than 7.6.
UNEVEN = 1.15


@dataclass(frozen=True)
class Ground:
    """What rules read: the model, and per device on offer its name, memory (bytes), fast domain, network, stock."""

    model: ModelSpec
    names: tuple[str, ...]
    memory: NDArray[np.float64]
    domain: NDArray[np.float64]
    network: NDArray[np.float64]
    stock: NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """name; allows: mask of what may stay, (N,); says: why a row (one value a column) may not."""

    name: str
    allows: Callable[[Ground, Columns], Mask]
    says: Callable[[Ground, Columns], str]


def replica(columns: Columns) -> Any:
    """Devices a replica takes."""
    return columns["tp"] * columns["pp"] * columns["dp"] * columns["cp"]


def group(columns: Columns) -> Any:
    """Devices that share a layer."""
    return columns["tp"] * columns["dp"]


def divisors(number: int, most: float = 64) -> str:
    """Divisors of a number up to `most`, in words."""
    return ", ".join(str(d) for d in range(1, min(int(most), number) + 1) if number % d == 0)


def _heads(g: Ground, c: Columns) -> Mask:
    return g.model.heads % c["tp"] == 0


def _kv_heads(g: Ground, c: Columns) -> Mask:
    kv = g.model.kv_heads
    return (kv % c["tp"] == 0) | (c["tp"] % kv == 0)


def _layers(g: Ground, c: Columns) -> Mask:
    fullest = np.ceil(g.model.layers / c["pp"])
    return (c["pp"] <= g.model.layers) & (fullest * c["pp"] <= UNEVEN * g.model.layers)


def refuse_impossible(model: ModelSpec, deployments: Deployments, of: str = "") -> None:
    """Raise `InputError` for deployments whose tp cannot split the heads or whose pp has stages without a layer.

    Other rules are about what is worth a try; an engine would start with it. of: whose degrees, as flags begin.
    """
    none = np.empty(0)
    ground = Ground(model, (), none, none, none, none)
    columns = {"tp": deployments.tp, "pp": deployments.pp}
    for rule in (r for r in RULES if r.name in ("heads", "kv heads")):
        bad = ~rule.allows(ground, columns)
        if bad.any():
            raise InputError(f"{of}{rule.says(ground, {k: v[bad][0] for k, v in columns.items()})}")
    deepest = float(np.max(deployments.pp))
    if deepest > model.layers:
        raise InputError(f"{of}pp {deepest:g} exceeds the {model.layers} layers of {model.name}; give fewer")


def _dense(g: Ground, c: Columns) -> Mask:
    alone = (c["dp"] == 1) & ((c["ep"] == 1) | np.isinf(c["ep_asked"]))
    return np.ones(len(c["tp"]), dtype=bool) if g.model.experts else alone


def _same(g: Ground, c: Columns) -> Mask:
    """`WHOLE_GROUP` repeats ep = 1 where a layer has one device, and everywhere in a dense model."""
    repeats = np.isinf(c["ep_asked"]) & ((group(c) == 1) | (g.model.experts == 0))
    return ~repeats


def _experts(g: Ground, c: Columns) -> Mask:
    return (c["ep"] == 1) | (g.model.experts % c["ep"] == 0) if g.model.experts else c["ep"] == 1


def _expert_group(_: Ground, c: Columns) -> Mask:
    return (c["ep"] <= group(c)) & (group(c) % c["ep"] == 0)


def _spread(_: Ground, c: Columns) -> Mask:
    """Attention DP leaves each device all of a layer's tokens to gather; without EP that is TP with more traffic."""
    return (c["dp"] == 1) | (c["ep"] > 1)


def _domain(g: Ground, c: Columns) -> Mask:
    return c["tp"] * c["cp"] <= g.domain[c["device"]]


def _nodes(g: Ground, c: Columns) -> Mask:
    domain, size = g.domain[c["device"]], replica(c)
    whole = (size <= domain) | (size % domain == 0) | ((group(c) <= domain) & (domain % group(c) == 0))
    return whole & ((size <= domain) | (g.network[c["device"]] > 0))


def _stock(g: Ground, c: Columns) -> Mask:
    return replica(c) <= g.stock[c["device"]]


def _say_domain(g: Ground, c: Columns) -> str:
    name, domain = g.names[int(c["device"])], g.domain[int(c["device"])]
    return f"tp {c['tp'] * c['cp']:g} exceeds the {domain:g} {name} that share a node's fast links"


def _say_nodes(g: Ground, c: Columns) -> str:
    name, domain = g.names[int(c["device"])], g.domain[int(c["device"])]
    if not g.network[int(c["device"])] > 0:
        return f"{replica(c):g} x {name} are more than the {domain:g} of a node, and its network is not known"
    return f"{replica(c):g} x {name} neither fit the {domain:g} of a node nor fill whole nodes"


RULES = (
    Rule("same", _same, lambda _, c: f"ep over the whole group of {group(c):g} repeats ep 1"),
    Rule(
        "heads",
        _heads,
        lambda g, c: (
            f"tp {c['tp']:g} does not divide the {g.model.heads} attention heads (tp may be {divisors(g.model.heads)})"
        ),
    ),
    Rule(
        "kv heads",
        _kv_heads,
        lambda g, c: f"{g.model.kv_heads} key/value heads can neither be split over nor copied to tp {c['tp']:g}",
    ),
    Rule(
        "layers",
        _layers,
        lambda g, c: (
            f"pp {c['pp']:g} leaves the {g.model.layers} layers uneven: "
            f"{np.ceil(g.model.layers / c['pp']):g} on the fullest stage"
        ),
    ),
    Rule(
        "dense",
        _dense,
        lambda _, c: f"the model has no experts: dp {c['dp']:g}, ep {c['ep']:g} would be replicas under another name",
    ),
    Rule(
        "experts",
        _experts,
        lambda g, c: (
            f"ep {c['ep']:g} does not divide the {g.model.experts} experts (ep may be "
            f"{divisors(max(g.model.experts, 1))})"
        ),
    ),
    Rule(
        "expert group",
        _expert_group,
        lambda _, c: f"ep {c['ep']:g} does not divide the tp x dp = {group(c):g} devices of a layer",
    ),
    Rule("spread", _spread, lambda _, c: f"dp {c['dp']:g} without expert parallelism (ep {c['ep']:g})"),
    Rule("domain", _domain, _say_domain),
    Rule("nodes", _nodes, _say_nodes),
    Rule(
        "stock",
        _stock,
        lambda g, c: (
            f"a replica takes {replica(c):g} {g.names[int(c['device'])]}, "
            f"of which {g.stock[int(c['device'])]:g} are on hand"
        ),
    ),
)
