"""Say which layouts of a model make sense on a device. Each rule is a mask over candidates with a reason.

Memory capacity is not a rule. Whether a deployment fits depends on the workload, so the estimate decides that and
reports the shortage in GB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from hwdb import Device, InputError
from perfmodel import ModelSpec
from perfmodel.arrays import Array, Index, Mask
from perfmodel.deployment import Deployments, uneven_shards
from perfmodel.dtypes import FORMAT_NAMES
from perfmodel.hardware import hardware_of
from perfmodel.power import below_idle, idle_power

#: Values of N candidates, one column (N,) per axis. `ep` is resolved; `ep_requested` may hold `WHOLE_GROUP`.
Columns = Mapping[str, Array]
#: Values of one candidate, by axis.
Row = Mapping[str, float]
#: A column of candidates, or the value of one.
Values = TypeVar("Values", float, Array)

#: Largest pipeline stage that is worth trying, relative to an even share of the layers. Chosen: 61 layers on 8 stages
#: (DeepSeek-V3) put 8 layers on the fullest stage, 5 % more than the even 7.6.
MAX_STAGE_IMBALANCE = 1.15
#: Largest degree that a message lists as possible. Chosen: keeps the list short.
MAX_LISTED_DIVISOR = 64


@dataclass(frozen=True)
class RuleContext:
    """What the rules read besides the candidates: the model, and one value for each of D device types on offer, (D,).

    names: in the hardware database. domain: devices that share a node's fast links. network: bytes/s of a device to
    other nodes, NaN unknown. stock: devices on hand, inf without a limit. pads_shards: whether the engine pads shards
    of quantised weights. runs: axis (weight, kv) -> codes of the formats that each device runs, where they are bounded.
    engine_runs: whether the engine runs on the device at all, empty for all. vendors: of the devices that it runs on.
    idle: watts that a device draws without work, empty where no limit is set. encoder_data_parallel: whether every
    device runs the whole vision encoder. redundant: copies of experts in all.
    """

    model: ModelSpec
    names: tuple[str, ...]
    domain: Array
    network: Array
    stock: Array
    pads_shards: bool = False
    runs: Mapping[str, tuple[frozenset[int], ...]] = field(default_factory=dict)
    engine_runs: Mask = field(default_factory=lambda: np.ones(0, dtype=bool))
    vendors: tuple[str, ...] = ()
    idle: Array = field(default_factory=lambda: np.ones(0))
    encoder_data_parallel: bool = False
    redundant: int = 0

    @property
    def slots(self) -> int:
        """Return the experts of a layer, copies included."""
        return self.model.experts + self.redundant


@dataclass(frozen=True)
class Rule:
    """A rule that removes candidates from the search space.

    allows: returns (N,) booleans, True where a candidate may stay. says: returns in words why one candidate may not.
    """

    name: str
    allows: Callable[[RuleContext, Columns], Mask]
    says: Callable[[RuleContext, Row], str]


def replica_size(values: Mapping[str, Values]) -> Values:
    """Return the devices per replica, tp x pp x dp x cp, of a column of candidates or of one."""
    return values["tp"] * values["pp"] * values["dp"] * values["cp"]


def layer_group(values: Mapping[str, Values]) -> Values:
    """Return the number of devices that hold one layer: tensor parallel times attention data parallel."""
    return values["tp"] * values["dp"]


def divisors(number: int, largest: int = MAX_LISTED_DIVISOR) -> str:
    """List the divisors of `number` up to `largest`, as a text.

    >>> divisors(12)
    '1, 2, 3, 4, 6, 12'
    """
    return ", ".join(str(d) for d in range(1, min(largest, number) + 1) if number % d == 0)


def refuse_impossible(model: ModelSpec, deployments: Deployments, of: str = "") -> None:
    """Raise `InputError` for deployments that cannot run: heads that tp cannot split, stages without a layer, a power
    limit below what the device draws idle.

    The other rules only say what is worth trying. of: put before the degree in the message, for example `prefill-`.
    """
    none = np.empty(0)
    names = tuple(device.name for device in deployments.devices)
    context = RuleContext(
        model=model, names=names, domain=none, network=none, stock=none, idle=idle_watts(deployments.devices)
    )
    columns = {axis: getattr(deployments, axis) for axis in ("tp", "pp", "kvp", "device", "power_cap")}
    for rule in (r for r in RULES if r.name in ("heads", "kv heads", "power limit")):
        forbidden = ~rule.allows(context, columns)
        if forbidden.any():
            raise InputError(f"{of}{rule.says(context, first_row(columns, forbidden))}")
    deepest = float(np.max(deployments.pp))
    if deepest > model.layers:
        raise InputError(f"{of}pp {deepest:g} exceeds the {model.layers} layers of {model.name}; give a lower pp")


def first_row(columns: Columns, chosen: Mask) -> Row:
    """Return the values of the first candidate for which `chosen` is True, by axis."""
    at = int(np.argmax(chosen))
    return {axis: float(column[at]) for axis, column in columns.items()}


def _equals(column: Array, value: float) -> Mask:
    """Return (N,) booleans: True where the column has this value."""
    return np.asarray(column == value, dtype=bool)


def _is_multiple(number: float | Array, divisor: float | Array) -> Mask:
    """Return booleans: True where `number` is a whole multiple of `divisor`; either may be a column."""
    return np.asarray(np.mod(number, divisor) == 0, dtype=bool)


def _devices(columns: Columns) -> Index:
    """Return the positions of the candidates' devices among those on offer, (N,)."""
    return np.asarray(columns["device"], dtype=np.intp)


def _not_a_repetition(context: RuleContext, c: Columns) -> Mask:
    """Refuse `WHOLE_GROUP` where it repeats ep = 1: where a layer has one device, and in every dense model.

    Nor are ways of exchanging keys tried without context parallelism, where nothing is exchanged.
    """
    repeats_one = _equals(layer_group(c), 1) if context.model.experts else np.ones(len(c["tp"]), dtype=bool)
    idle = _equals(c["cp"], 1) & (c["cp_method"] != 0)
    return np.asarray(~(np.isinf(c["ep_requested"]) & repeats_one) & ~idle, dtype=bool)


def _heads_split(context: RuleContext, c: Columns) -> Mask:
    """Allow tp that divides the attention heads."""
    return _is_multiple(context.model.heads, c["tp"])


def _kv_heads_split_or_copied(context: RuleContext, c: Columns) -> Mask:
    """Allow tp that divides the key/value heads, or is a multiple of them (each is then copied to several devices).

    The kvp that splits the positions of their cache has to divide tp, whose devices it shares, and needs a cache.
    """
    kv_heads = context.model.kv_heads
    split = _is_multiple(kv_heads, c["tp"]) | _is_multiple(c["tp"], kv_heads)
    cached = _equals(c["kvp"], 1) | bool(context.model.kv_bytes_per_token())
    return split & cached & _is_multiple(c["tp"], c["kvp"])


def _stages_even(context: RuleContext, c: Columns) -> Mask:
    """Allow pp with a layer on every stage and at most `MAX_STAGE_IMBALANCE` of an even share on the fullest."""
    layers = context.model.layers
    fullest: Array = np.ceil(layers / c["pp"])
    return (c["pp"] <= layers) & (fullest * c["pp"] <= MAX_STAGE_IMBALANCE * layers)


def _dense_has_no_experts(context: RuleContext, c: Columns) -> Mask:
    """Refuse dp or ep above 1 for a dense model, where they are the same as more replicas."""
    if context.model.experts:
        return np.ones(len(c["tp"]), dtype=bool)
    return _equals(c["dp"], 1) & (_equals(c["ep"], 1) | np.isinf(c["ep_requested"]))


def _experts_split(context: RuleContext, c: Columns) -> Mask:
    """Allow ep that divides the experts, copies included; ep = 1 alone for a model without experts."""
    alone = _equals(c["ep"], 1)
    return alone | _is_multiple(context.slots, c["ep"]) if context.model.experts else alone


def _expert_group_fits(_: RuleContext, c: Columns) -> Mask:
    """Allow ep that divides the devices of a layer (tp x dp)."""
    return (c["ep"] <= layer_group(c)) & _is_multiple(layer_group(c), c["ep"])


def _dp_spreads_experts(_: RuleContext, c: Columns) -> Mask:
    """Refuse attention DP without EP, which gathers all of a layer's tokens on each device: TP with more traffic."""
    return _equals(c["dp"], 1) | (c["ep"] > 1)


def _uneven(context: RuleContext, c: Columns) -> Array:
    """Say for each candidate why engines refuse its shards, (N,) texts; "" where they do not."""
    return uneven_shards(
        context.model,
        tp=c["tp"],
        experts_tp=np.maximum(layer_group(c) / c["ep"], 1.0),
        weight=np.asarray(c["weight"], dtype=np.intp),
        pads=context.pads_shards,
        whole_encoder=context.encoder_data_parallel,
    )


def _whole_blocks(context: RuleContext, c: Columns) -> Mask:
    """Allow shards that cut no block of a quantised checkpoint and are a whole number wide."""
    return np.asarray(_uneven(context, c) == "", dtype=bool)


def _say_blocks(context: RuleContext, c: Row) -> str:
    """Say which matrix the candidate cuts within a block, and what can be done."""
    return str(_uneven(context, {axis: np.array([value]) for axis, value in c.items()})[0])


def _engine_runs(context: RuleContext, c: Columns) -> Mask:
    """Allow devices that the engine runs on."""
    everywhere = np.ones(len(context.names), dtype=bool)
    return (context.engine_runs if len(context.engine_runs) else everywhere)[_devices(c)]


def _say_engine(context: RuleContext, c: Row) -> str:
    """Name a device that the engine does not run on."""
    return f"the engine runs on {' and '.join(context.vendors)} devices only, not on {context.names[int(c['device'])]}"


def _format_is_run(context: RuleContext, c: Columns) -> Mask:
    """Allow formats that the device and the engine run, where the search chooses the formats."""
    out = np.ones(len(c["tp"]), dtype=bool)
    for axis, by_device in context.runs.items():
        for device, codes in enumerate(by_device):
            out &= (c["device"] != device) | np.isin(c[axis], list(codes))
    return out


def _say_format(context: RuleContext, c: Row) -> str:
    """Name a format that the device or the engine does not run."""
    at = int(c["device"])
    axis = next(a for a, by_device in context.runs.items() if int(c[a]) not in by_device[at])
    what = {"weight": "weights", "kv": "KV cache"}[axis]
    return f"{FORMAT_NAMES[int(c[axis])]} {what} on {context.names[at]}: the engine has no kernels for it there"


def _in_domain(context: RuleContext, c: Columns) -> Mask:
    """Allow tp up to the devices that share a node's fast links; context parallelism may reach other nodes."""
    return c["tp"] <= context.domain[_devices(c)]


def _fills_nodes(context: RuleContext, c: Columns) -> Mask:
    """Allow replicas inside one node, on whole nodes, or with layer groups that fill a node.

    More than one node needs a network of known bandwidth.
    """
    domain, size, layer = context.domain[_devices(c)], replica_size(c), layer_group(c)
    whole_nodes = _is_multiple(size, domain) | ((layer <= domain) & _is_multiple(domain, layer))
    inside = size <= domain
    return (inside | whole_nodes) & (inside | (context.network[_devices(c)] > 0))


def _in_stock(context: RuleContext, c: Columns) -> Mask:
    """Allow replicas that take no more devices than are on hand."""
    return replica_size(c) <= context.stock[_devices(c)]


def _say_repetition(_: RuleContext, c: Row) -> str:
    """Say what a candidate repeats."""
    if c["cp"] == 1 and c["cp_method"]:
        return "a way of exchanging keys without context parallelism (cp 1) repeats cp_method auto"
    return f"ep over the whole group of {layer_group(c):g} devices repeats ep 1"


def _say_heads(context: RuleContext, c: Row) -> str:
    """Say that tp does not divide the attention heads, and which tp would."""
    heads = context.model.heads
    return f"tp {c['tp']:g} does not divide the {heads} attention heads (tp may be {divisors(heads)})"


def _say_kv_heads(context: RuleContext, c: Row) -> str:
    """Say that the key/value heads can neither be split over tp devices nor copied to them, or that kvp does not."""
    if c["kvp"] > 1 and not context.model.kv_bytes_per_token():
        return f"kvp {c['kvp']:g} splits a KV cache, and {context.model.name} keeps none; leave it out"
    if c["tp"] % c["kvp"]:
        return f"kvp {c['kvp']:g} does not divide tp {c['tp']:g}, whose devices it shares"
    return f"{context.model.kv_heads} key/value heads can neither be split over nor copied to tp {c['tp']:g}"


def _say_layers(context: RuleContext, c: Row) -> str:
    """Say how many layers pp leaves on the fullest stage."""
    layers = context.model.layers
    return f"pp {c['pp']:g} leaves the {layers} layers uneven: {np.ceil(layers / c['pp']):g} on the fullest stage"


def _say_dense(_: RuleContext, c: Row) -> str:
    """Say that dp and ep are replicas under another name in a model without experts."""
    return f"the model has no experts: dp {c['dp']:g}, ep {c['ep']:g} would be replicas under another name"


def _say_experts(context: RuleContext, c: Row) -> str:
    """Say that ep does not divide the experts, and which ep would."""
    possible = divisors(max(context.slots, 1))
    return f"ep {c['ep']:g} does not divide the {context.slots} experts (ep may be {possible})"


def _say_domain(context: RuleContext, c: Row) -> str:
    """Say that tp exceeds the devices that share a node's fast links."""
    at = int(c["device"])
    domain = f"{context.domain[at]:g} {context.names[at]}"
    return f"tp {c['tp']:g} exceeds the {domain} that share a node's fast links"


def _say_nodes(context: RuleContext, c: Row) -> str:
    """Say why a replica on more than one node is refused: unknown network, or partly filled nodes."""
    at = int(c["device"])
    what = f"{replica_size(c):g} x {context.names[at]}"
    if not context.network[at] > 0:
        return f"{what} are more than the {context.domain[at]:g} of a node, and its network is not known"
    return f"{what} neither fit the {context.domain[at]:g} of a node nor fill whole nodes"


def _say_stock(context: RuleContext, c: Row) -> str:
    """Say how large a replica is, in devices, and how many are on hand."""
    at = int(c["device"])
    return f"a replica takes {replica_size(c):g} {context.names[at]}, of which {context.stock[at]:g} are on hand"


def idle_watts(devices: Sequence[Device]) -> Array:
    """Return what devices draw without work, W, (D,); NaN where their power is unknown."""
    return idle_power(hardware_of(devices, np.arange(len(devices))))


def _above_idle(context: RuleContext, c: Columns) -> Mask:
    """Refuse a power limit that an idle device draws already."""
    if not len(context.idle):
        return np.ones(len(c["tp"]), dtype=bool)
    return ~(c["power_cap"] <= context.idle[_devices(c)])


def _say_idle(context: RuleContext, c: Row) -> str:
    """Say that a power limit is not above what the device draws idle."""
    at = int(c["device"])
    return below_idle(context.names[at], c["power_cap"], context.idle[at])


#: Rules in the order in which they are applied: each removes from what the earlier ones left.
RULES = (
    Rule("same", _not_a_repetition, _say_repetition),
    Rule("engine", _engine_runs, _say_engine),
    Rule("formats", _format_is_run, _say_format),
    Rule("heads", _heads_split, _say_heads),
    Rule("kv heads", _kv_heads_split_or_copied, _say_kv_heads),
    Rule("layers", _stages_even, _say_layers),
    Rule("dense", _dense_has_no_experts, _say_dense),
    Rule("experts", _experts_split, _say_experts),
    Rule(
        "expert group",
        _expert_group_fits,
        lambda _, c: f"ep {c['ep']:g} does not divide the tp x dp = {layer_group(c):g} devices of a layer",
    ),
    Rule("spread", _dp_spreads_experts, lambda _, c: f"dp {c['dp']:g} without expert parallelism (ep {c['ep']:g})"),
    Rule("blocks", _whole_blocks, _say_blocks),
    Rule("domain", _in_domain, _say_domain),
    Rule("power limit", _above_idle, _say_idle),
    Rule("nodes", _fills_nodes, _say_nodes),
    Rule("stock", _in_stock, _say_stock),
)
