"""Parallelism that a case does not state: what its number of devices, the model and memory leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.dtypes import FORMAT_CODE, FORMAT_NAMES
from perfmodel.models import ModelSpec

#: Share of a device that weights may take before a wider split is assumed.
_WEIGHT_SHARE = 0.75
_WIDTHS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])


@dataclass(frozen=True)
class Placement:
    """Degrees of parallelism and replicas, (N,) each."""

    tp: Array
    pp: Array
    ep: Array
    dp: Array
    replicas: Array


def placement(
    model: ModelSpec, n_devices: Array, given: dict[str, Array], *, memory: Array, weight: np.ndarray, mode: str
) -> Placement:
    """Fill what is missing (NaN) of tp, pp, ep, dp.

    Experts spread wider than tp * dp mean attention data parallelism. Without a tp, latency-minded runs split over all
    devices, offline and open-loop ones over the fewest that hold the weights, and replicate.
    """
    pp = np.where(np.isfinite(given["pp"]), given["pp"], 1.0)
    ep = np.where(np.isfinite(given["ep"]), given["ep"], 1.0)
    known = np.isfinite(given["tp"])
    devices = np.where(np.isfinite(n_devices), n_devices, np.where(known, given["tp"], 1.0) * pp)
    per_stage = np.maximum(np.floor(devices / pp), 1.0)
    fewest = _fewest(model, weight, memory, pp)
    guess = per_stage if mode in ("closed", "single", "static") else np.minimum(fewest, per_stage)
    guess = _dividing(guess, per_stage, float(model.heads))
    tp = np.where(known, given["tp"], guess)
    wide = np.maximum(ep / tp, 1.0)
    room = np.maximum(np.floor(per_stage / tp), 1.0)
    dp = np.where(np.isfinite(given["dp"]), given["dp"], np.where(ep > tp, np.minimum(wide, room), 1.0))
    ep = np.minimum(ep, tp * dp)
    replicas = np.maximum(np.floor(devices / (tp * dp * pp)), 1.0)
    return Placement(tp, pp, ep, dp, replicas)


def unstated_weights(
    weight: np.ndarray, devices: Sequence[Device], device: np.ndarray, tuned: np.ndarray
) -> np.ndarray:
    """Weight formats (N,) with the narrowest floats a device multiplies in where none is stated (code -1) in `tuned`
    runs: those that push TensorRT-LLM to its highest rate, as results sent to MLPerf Inference do (developer.nvidia.com
    blog on v4.1, 2024-08: fp8 on Hopper, fp4 on Blackwell, Llama 2 70B and Mixtral). Elsewhere blank weights are the
    model's own.
    """
    widths = [next((f for f in ("fp4", "fp8") if np.isfinite(d.peak(f))), "") for d in devices]
    codes = np.array([FORMAT_CODE[f] if f else -1 for f in widths] + [-1], dtype=np.intp)
    return np.where((weight < 0) & tuned, codes[device], weight)


def _fewest(model: ModelSpec, weight: np.ndarray, memory: Array, pp: Array) -> Array:
    """Smallest power of two of devices that holds the weights of a stage."""
    codes, where = np.unique(weight, return_inverse=True)
    sizes = [model if c < 0 else model.with_weights(FORMAT_NAMES[c]) for c in codes]
    total = np.array([sum(s.weight_bytes().values()) for s in sizes])[where] / pp
    enough = total[:, None] / _WIDTHS <= _WEIGHT_SHARE * np.nan_to_num(memory, nan=np.inf)[:, None]
    return np.where(enough.any(axis=1), _WIDTHS[np.argmax(enough, axis=1)], _WIDTHS[-1])


def _dividing(width: Array, devices: Array, heads: float) -> Array:
    """The largest width not above `width` that divides the devices and the heads."""
    candidates = np.arange(1.0, 65.0)
    fine = (devices[:, None] % candidates == 0) & (heads % candidates == 0) & (candidates <= width[:, None])
    return candidates[fine.shape[1] - 1 - np.argmax(fine[:, ::-1], axis=1)]
