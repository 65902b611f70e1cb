"""How a model is laid out on devices: N candidates as columns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.hardware import Host
from perfmodel.models import Adapters

COLUMNS = (
    "device",
    "tp",
    "pp",
    "ep",
    "dp",
    "cp",
    "replicas",
    "max_num_batched_tokens",
    "max_num_seqs",
    "weight",
    "act",
    "kv",
    "host_weights",
    "host_experts",
    "host_kv",
)


@dataclass(frozen=True)
class Deployments:
    """N candidate deployments of one model; every column is (N,).

    devices: what `device` (an index) points to. tp, pp: tensor and pipeline parallelism; dp: attention data
    parallelism; ep: devices that experts are spread over (1: experts are split by TP like any MLP); cp: sequence
    (context) parallelism of long prefills. One replica takes tp * pp * dp * cp devices. max_num_batched_tokens: token budget a
    step; max_num_seqs: sequences running at once a replica (NaN: as many as fit, engine's cap). weight, kv: storage-format
    codes, -1 the model's own; act: compute-type code, -1 chosen from the weights. host_weights, host_experts, host_kv:
    shares (0 to 1) of the layers' weights, of the routed experts and of the KV cache that lie in host memory, behind
    `host`. adapters: low-rank adapters that requests use, None without.
    """

    devices: tuple[Device, ...]
    device: NDArray[np.intp]
    tp: Array
    pp: Array
    ep: Array
    dp: Array
    cp: Array
    replicas: Array
    max_num_batched_tokens: Array
    max_num_seqs: Array
    weight: NDArray[np.intp]
    act: NDArray[np.intp]
    kv: NDArray[np.intp]
    host_weights: Array
    host_experts: Array
    host_kv: Array
    host: Host = field(default_factory=Host)
    adapters: Adapters | None = None

    def __len__(self) -> int:
        return len(self.device)

    @property
    def devices_per_replica(self) -> Array:
        """Devices of one replica. (N,)"""
        return self.tp * self.pp * self.dp * self.cp

    def take(self, rows: NDArray[np.intp] | slice) -> Deployments:
        """The given rows, as Deployments of their own."""
        return replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS})


def deployments(
    devices: tuple[Device, ...] | list[Device],
    *,
    host: Host | None = None,
    adapters: Adapters | None = None,
    **columns: object,
) -> Deployments:
    """Deployments from scalars and arrays that broadcast together; what is not given takes its default.

    Defaults: the first device, no parallelism, one replica, engine's token budget and cap (NaN), the model's formats,
    nothing in host memory, no adapters.
    """
    defaults = {
        "device": 0,
        "tp": 1,
        "pp": 1,
        "ep": 1,
        "dp": 1,
        "cp": 1,
        "replicas": 1,
        "max_num_batched_tokens": np.nan,
        "max_num_seqs": np.nan,
        "weight": -1,
        "act": -1,
        "kv": -1,
        "host_weights": 0,
        "host_experts": 0,
        "host_kv": 0,
    }
    unknown = set(columns) - set(defaults)
    if unknown:
        raise TypeError(f"unknown deployment column(s): {', '.join(sorted(unknown))}")
    given = np.broadcast_arrays(*[np.atleast_1d(np.asarray(columns.get(c, d))) for c, d in defaults.items()])
    arrays = dict(zip(defaults, given, strict=True))
    whole = {"device", "weight", "act", "kv"}
    typed = {c: np.array(a, dtype=np.intp if c in whole else float) for c, a in arrays.items()}
    # keep only devices that serve a candidate: tables are loaded for each device that is named
    used, typed["device"] = np.unique(typed["device"], return_inverse=True)
    return Deployments(devices=tuple(devices[i] for i in used), host=host or Host(), adapters=adapters, **typed)
