"""Define `Deployments`: N candidate deployments of a model, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from hwdb import Device, InputError
from perfmodel.arrays import NAN, Array, Index, widened
from perfmodel.deployment.hand_over import HandOver
from perfmodel.deployment.routing import ExpertRouting
from perfmodel.deployment.speculation import Speculation
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.hardware import Host
from perfmodel.models import Adapters

#: Ways in which context parallelism exchanges keys and queries; a code is the place in this list. auto: the fastest of
#: the others for the step. ring: keys and values go round the devices while each works on those that it has (Ring
#: Attention, arXiv:2310.01889; "pass-KV" in arXiv:2411.01783). all_gather: every device gets all keys and values first
#: (Llama 3, arXiv:2407.21783, sec. 3.3.2). pass_q: queries go round, and outputs return (arXiv:2411.01783, sec. 3.5).
CP_METHODS = ("auto", "ring", "all_gather", "pass_q")
CP_METHOD_CODE = {name: code for code, name in enumerate(CP_METHODS)}
#: Column -> value where it is not given.
DEFAULTS = {
    "device": 0,
    "tp": 1,
    "pp": 1,
    "ep": 1,
    "dp": 1,
    "cp": 1,
    "kvp": 1,
    "replicas": 1,
    "max_num_batched_tokens": NAN,
    "max_num_seqs": NAN,
    "power_cap": NAN,
    "weight": -1,
    "act": -1,
    "kv": -1,
    "cp_method": 0,
    "host_weights": 0,
    "host_experts": 0,
    "host_kv": 0,
    "drafts": 0,
}
COLUMNS = tuple(DEFAULTS)
#: Columns of indices and codes.
WHOLE = ("device", "weight", "act", "kv", "cp_method")


@dataclass(frozen=True)
class Deployments:
    """Describe N candidate deployments of one model; every column is (N,).

    devices: available devices. device: index into them. replicas: copies of the model that share the load. tp, pp, dp:
    degrees of tensor, pipeline and attention data parallelism. cp: context parallelism: copies of the tensor-parallel
    group that split the tokens of a long prompt and the KV cache. kvp: KV parallelism: devices of a tensor-parallel
    group that split the positions of the KV cache in decode; it takes no further devices. ep: devices that experts are
    spread over (1: TP splits experts like any MLP). A replica takes tp * pp * dp * cp devices. cp_method: code of how
    context parallelism exchanges keys (`CP_METHODS`).
    max_num_batched_tokens: token budget per step. max_num_seqs: most sequences that run at once. Both count as the
    engine's own flags: per rank of attention data parallelism, but SGLang divides max_num_seqs among the ranks. NaN for
    either: the engine's default. power_cap: power limit set on each device, W; NaN for that of the device. weight, kv:
    storage-format codes, -1 for the model's own. act: compute-type code, -1 for what the weights call for.
    host_weights, host_experts, host_kv: shares (0 to 1) of the layers' weights, of the routed experts and of the KV
    cache that lie in host memory, behind `host`. adapters: low-rank adapters that requests use, None without.
    hand_over: how KV cache moves between pools, where prefill and decode have workers of their own; that of the decode
    worker counts.
    routing: how tokens reach their experts and how evenly these are loaded, the same for every candidate.
    drafts: draft tokens that a decode step verifies per sequence, 0 without speculative decoding. speculation: who
    drafts, and how many drafts are accepted, the same for every candidate.
    """

    devices: tuple[Device, ...]
    device: Index
    tp: Array
    pp: Array
    ep: Array
    dp: Array
    cp: Array
    kvp: Array
    replicas: Array
    max_num_batched_tokens: Array
    max_num_seqs: Array
    power_cap: Array
    weight: Index
    act: Index
    kv: Index
    cp_method: Index
    host_weights: Array
    host_experts: Array
    host_kv: Array
    drafts: Array
    host: Host = field(default_factory=Host)
    adapters: Adapters | None = None
    hand_over: HandOver = field(default_factory=HandOver)
    routing: ExpertRouting = field(default_factory=ExpertRouting)
    speculation: Speculation = field(default_factory=Speculation)

    def __len__(self) -> int:
        return len(self.device)

    @property
    def devices_per_replica(self) -> Array:
        """Return the number of devices of one replica. (N,)"""
        return self.tp * self.pp * self.dp * self.cp

    @property
    def tokens_per_step(self) -> Array:
        """Return the mean tokens that a decode step yields per sequence; 1 without speculative decoding. (N,)"""
        return self.speculation.tokens_per_step(self.drafts)

    def as_bytes(self) -> bytes:
        """Return all columns as bytes, which are equal where the columns are; not what is no column, as the devices."""
        return b"".join(getattr(self, name).tobytes() for name in COLUMNS)

    def take(self, rows: Index | slice) -> Deployments:
        """Select the candidates of the given rows."""
        return replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join deployments of one model; what is no column (host, adapters, routing and so on) is that of the first."""
        devices = tuple(dict.fromkeys(d for p in parts for d in p.devices))
        columns: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS}
        at = [np.array([devices.index(d) for d in p.devices], dtype=np.intp)[p.device] for p in parts]
        return replace(parts[0], devices=devices, **{**columns, "device": np.concatenate(at)})


def _column(name: str, given: object) -> Any:
    """Return a column of deployments, given as one value or a list, as numbers or codes; `InputError` for other things.

    Number formats and methods may be given by name.
    """
    kinds = {"weight": FORMAT_CODE, "kv": FORMAT_CODE, "act": COMPUTE_CODE, "cp_method": CP_METHOD_CODE}
    kind: Mapping[str, int] = kinds.get(name, {})
    values = np.atleast_1d(np.asarray(given, dtype=object if kind else None))
    if kind:
        unknown = [v for v in values.tolist() if isinstance(v, str) and v not in kind]
        if unknown:
            what = "method" if name == "cp_method" else "format"
            raise InputError(f"deployments: {name} {unknown[0]!r} is no {what}; known are {', '.join(kind)}")
        values = np.array([kind.get(v, v) if isinstance(v, str) else v for v in values.tolist()])
    try:
        column = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"deployments: {name} {given!r} is no number; give a number, or one per deployment") from None
    if column.ndim != 1:
        raise InputError(f"deployments: {name} has {column.ndim} dimensions; give a number, or a list of numbers")
    return column.astype(np.intp) if name in WHOLE else column


def _serving(devices: Sequence[Device], used: Iterable[int]) -> tuple[Device, ...]:
    """Return the devices that serve a candidate; `InputError` where none is given, or something else than devices."""
    if not isinstance(devices, list | tuple):
        name = getattr(devices, "name", devices)
        raise InputError(f"deployments: {repr(name)[:40]} is no list of devices; give a list of hwdb.device(NAME)")
    strange = next((one for one in devices if not isinstance(one, Device)), None)
    if strange is not None or not devices:
        wrong = f"{repr(strange)[:40]} is no device" if devices else "no device is given"
        raise InputError(f"deployments: {wrong}; give a list of hwdb.device(NAME)")
    return tuple(devices[i] for i in used)


def deployments(
    devices: tuple[Device, ...] | list[Device],
    *,
    host: Host | None = None,
    adapters: Adapters | None = None,
    hand_over: HandOver | None = None,
    routing: ExpertRouting | None = None,
    speculation: Speculation | None = None,
    **columns: object,
) -> Deployments:
    """Build deployments from scalars and arrays that broadcast together.

    Args:
        devices: devices on offer.
        host: host behind each device; None for what hwdb says. adapters: low-rank adapters, None without.
        hand_over: how KV cache moves between pools; None for what follows from the devices.
        routing: settings of expert parallelism; None for the defaults.
        speculation: who drafts tokens where `drafts` is above 0, and how many are accepted; None for nobody.
        columns: columns of `Deployments` by name; formats by name or code. Defaults: first device, no parallelism, one
            replica, the engine's token budget and sequence limit (NaN), the model's formats, nothing in host memory.

    Raises:
        TypeError: for a column that does not exist.
        InputError: for values that are no numbers, and for columns of different lengths.
    """
    unknown = set(columns) - set(DEFAULTS)
    if unknown:
        raise TypeError(f"unknown deployment columns: {', '.join(sorted(unknown))}")
    values = {c: _column(c, columns.get(c, d)) for c, d in DEFAULTS.items()}
    rows = max(len(v) for v in values.values())
    wrong = {c: len(v) for c, v in values.items() if len(v) not in (1, rows)}
    if wrong:
        text = ", ".join(f"{c} has {n}" for c, n in wrong.items())
        raise InputError(f"deployments: {text} values and other columns {rows}; give one value, or one per deployment")
    typed: dict[str, Any] = {c: widened(v, (rows,)).copy() for c, v in values.items()}
    # keep only devices that serve a candidate: tables are loaded for each device that is named
    used, typed["device"] = np.unique(typed["device"], return_inverse=True)
    shared = {"host": host, "hand_over": hand_over, "routing": routing, "speculation": speculation}
    typed |= {name: value for name, value in shared.items() if value is not None}
    return Deployments(devices=_serving(devices, used), adapters=adapters, **typed)
