"""How a model is laid out on devices: N candidates as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel.demand import Array

COLUMNS = ("device", "tp", "pp", "ep", "dp", "sp", "replicas", "max_tokens", "max_seqs", "weight", "act", "kv")


@dataclass(frozen=True)
class Deployments:
    """N candidate deployments of one model; every column is (N,).

    devices: what `device` (an index) points to. tp, pp: tensor and pipeline parallelism; dp: attention data
    parallelism; ep: devices that experts are spread over (1: experts are split by TP like any MLP); sp: sequence
    (context) parallelism of long prefills. One replica takes tp * pp * dp * sp devices. max_tokens: token budget a
    step; max_seqs: sequences running at once a replica (NaN: as many as fit, engine's cap). weight, kv: storage-format
    codes, -1 the model's own; act: compute-type code, -1 chosen from the weights.
    """

    devices: tuple[Device, ...]
    device: NDArray[np.intp]
    tp: Array
    pp: Array
    ep: Array
    dp: Array
    sp: Array
    replicas: Array
    max_tokens: Array
    max_seqs: Array
    weight: NDArray[np.intp]
    act: NDArray[np.intp]
    kv: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.device)

    @property
    def devices_per_replica(self) -> Array:
        """Devices of one replica. (N,)"""
        return self.tp * self.pp * self.dp * self.sp

    def take(self, rows: NDArray[np.intp] | slice) -> Deployments:
        """The given rows, as Deployments of their own."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "devices"})


def deployments(devices: tuple[Device, ...] | list[Device], **columns: object) -> Deployments:
    """Deployments from scalars and arrays that broadcast together; what is not given takes its default.

    Defaults: the first device, no parallelism, one replica, engine's token budget and cap (NaN), the model's formats.
    """
    defaults = {
        "device": 0, "tp": 1, "pp": 1, "ep": 1, "dp": 1, "sp": 1, "replicas": 1, "max_tokens": np.nan,
        "max_seqs": np.nan, "weight": -1, "act": -1, "kv": -1,
    }  # fmt: skip
    unknown = set(columns) - set(defaults)
    if unknown:
        raise TypeError(f"unknown deployment column(s): {', '.join(sorted(unknown))}")
    given = np.broadcast_arrays(*[np.atleast_1d(np.asarray(columns.get(c, d))) for c, d in defaults.items()])
    arrays = dict(zip(defaults, given, strict=True))
    whole = {"device", "weight", "act", "kv"}
    typed = {c: np.array(a, dtype=np.intp if c in whole else float) for c, a in arrays.items()}
    # keep only devices that serve a candidate: tables are loaded for each device that is named
    used, typed["device"] = np.unique(typed["device"], return_inverse=True)
    return Deployments(devices=tuple(devices[i] for i in used), **typed)
