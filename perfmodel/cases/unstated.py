"""Choose what a case does not say: parallelism, weight formats, the longest prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array, Index, Mask
from perfmodel.cases.read import Cases, Texts
from perfmodel.dtypes import FORMAT_CODE, FORMAT_NAMES
from perfmodel.models import ModelSpec
from perfmodel.power import refused_limit
from perfmodel.workload import longest_over_mean

#: Share of a device's memory that weights may take before more devices are assumed. Assumed: the rest is needed for
#: KV cache and activations.
WEIGHT_SHARE = 0.75
#: Numbers of devices that weights may be spread over: powers of two, as published runs use.
DEVICE_COUNTS: Array = np.exp2(np.arange(7))
#: Largest tensor parallelism that is assumed: no published run is wider.
WIDEST_TP = 64
#: Devices over which published runs spread the experts of a model with latent attention, where they hold it: those of
#: one server.
EXPERT_GROUP = 8
#: Modes in which a run is tuned for latency, so that all devices share each layer.
LATENCY_MODES = ("closed", "single", "static")


@dataclass(frozen=True)
class Placement:
    """Holds degrees of parallelism and the number of replicas, (N,) each."""

    tp: Array
    pp: Array
    ep: Array
    dp: Array
    replicas: Array


def placement(
    model: ModelSpec, n_devices: Array, given: Mapping[str, Array], *, memory: Array, weight: Index, mode: str
) -> Placement:
    """Fill the degrees of parallelism that are not given.

    Experts spread wider than tp * dp mean attention data parallelism. Without a tp, latency-tuned runs split over all
    devices; offline and open-loop runs split over the fewest devices that hold the weights, and replicate. Every rank
    of tensor parallelism holds the whole latent KV cache (MLA), so that such runs of a mixture of experts take
    attention data parallelism in its place, with the experts spread over the same devices (NVIDIA/TensorRT-LLM
    docs/source/blogs/tech_blog/blog3_Optimizing_DeepSeek_R1_Throughput_on_NVIDIA_Blackwell_GPUs.md).

    Args:
        model: the model, for its weights and attention heads.
        n_devices: (N,) devices in use, all replicas together; NaN where not given.
        given: tp, pp, ep and dp, (N,) each; NaN where not given.
        memory: (N,) bytes per device.
        weight: (N,) code of the weight format, -1 for the checkpoint's own.
        mode: how requests arrive.
    """
    pp = np.where(np.isfinite(given["pp"]), given["pp"], 1.0)
    devices = np.where(np.isfinite(n_devices), n_devices, np.nan_to_num(given["tp"], nan=1.0) * pp)
    per_stage = np.maximum(np.floor(devices / pp), 1.0)
    fewest = _fewest_devices(model, weight, memory, pp)
    if mode not in LATENCY_MODES and _latent_experts(model):
        given = _by_experts(given, np.maximum(fewest, EXPERT_GROUP), per_stage)
    known = np.isfinite(given["tp"])
    ep = np.where(np.isfinite(given["ep"]), given["ep"], 1.0)
    guess = per_stage if mode in LATENCY_MODES else np.minimum(fewest, per_stage)
    tp = np.where(known, given["tp"], _widest_dividing(guess, per_stage, float(model.heads)))
    most_dp = np.maximum(np.floor(per_stage / tp), 1.0)
    implied_dp = np.where(ep > tp, np.minimum(np.maximum(ep / tp, 1.0), most_dp), 1.0)
    dp = np.where(np.isfinite(given["dp"]), given["dp"], implied_dp)
    return Placement(
        tp=tp, pp=pp, ep=np.minimum(ep, tp * dp), dp=dp, replicas=np.maximum(np.floor(devices / (tp * dp * pp)), 1.0)
    )


def check_degrees(cases: Cases, pooled: Mask) -> None:
    """Refuse rows whose parallelism takes more devices than `n_devices`. pooled: (R,) True for disaggregated rows."""
    number = {c: np.nan_to_num(v, nan=1.0) for c, v in cases.number.items()}
    together = number["tp"] * number["pp"] * number["dp_attention"] * number["cp"]
    pools = [
        number[f"{p}_workers"] * number[f"{p}_tp"] * number[f"{p}_pp"] * number[f"{p}_dp"] * number["cp"]
        for p in ("prefill", "decode")
    ]
    devices = cases.number["n_devices"]
    for rows, taken, what in (
        (~pooled, together, "tp x pp x dp_attention x cp"),
        (pooled, pools[0] + pools[1], "workers x tp x pp x dp x cp of both pools"),
    ):
        texts = [f"{what} takes {t:g} devices, more than n_devices {d:g}" for t, d in zip(taken, devices, strict=True)]
        cases.refuse(rows & (taken > devices), [f"{t}; lower the degrees or raise n_devices" for t in texts])


def check_power_limits(cases: Cases, devices: Sequence[Device], device: Index) -> None:
    """Refuse rows whose power limit is not above what an idle device draws.

    devices: distinct devices. device: (R,) index into `devices`, -1 where it is unknown.
    """
    limits = cases.number["power_cap_w"]
    rows = np.flatnonzero(np.isfinite(limits) & (device >= 0))
    texts = np.full(len(cases), "", dtype=object)
    texts[rows] = [refused_limit(devices[device[row]], float(limits[row])) for row in rows]
    cases.refuse(texts != "", texts.tolist())


def check_experts_spread(cases: Cases, pooled: Mask) -> None:
    """Refuse rows that spread experts over more devices than share a layer (tp x dp).

    Where an aggregated row leaves tp or dp_attention open, that is at most the devices of a pipeline stage. pooled:
    (R,) True for disaggregated rows.
    """
    number = {c: np.nan_to_num(v, nan=1.0) for c, v in cases.number.items()}
    closed = np.isfinite(cases.number["tp"]) & np.isfinite(cases.number["dp_attention"])
    devices = np.where(np.isfinite(cases.number["n_devices"]), number["n_devices"] / number["cp"], number["tp"])
    stage = np.maximum(np.floor(devices / number["pp"]), 1.0)
    _refuse_spread(cases, ~pooled, "ep", np.where(closed, number["tp"] * number["dp_attention"], stage))
    for role in ("prefill", "decode"):
        stated = np.isfinite(cases.number[f"{role}_tp"])  # else tp follows from ep
        _refuse_spread(cases, pooled & stated, f"{role}_ep", number[f"{role}_tp"] * number[f"{role}_dp"])


def _refuse_spread(cases: Cases, rows: Mask, column: str, most: Array) -> None:
    """Refuse `rows` whose `column`, a degree of expert parallelism, is above `most` (R,)."""
    texts = [
        f"{column} {ep:g} spreads experts over more devices than the {m:g} that share a layer (tp x dp); lower it to "
        f"a divisor of {m:g}"
        for ep, m in zip(cases.number[column], most, strict=True)
    ]
    cases.refuse(rows & (cases.number[column] > most), texts)


def unstated_weights(weight: Index, devices: Sequence[Device], device: Index, *, tuned: Mask) -> Index:
    """Return weight formats: for `tuned` runs that give none, the narrowest floats that the device multiplies in.

    Runs that push TensorRT-LLM to its highest rate use them, as results sent to MLPerf Inference do
    (developer.nvidia.com blog on v4.1, 2024-08: fp8 on Hopper, fp4 on Blackwell, Llama 2 70B and Mixtral). Elsewhere
    blank weights are the checkpoint's own.

    Args:
        weight: (N,) code of the format, -1 where not given.
        devices: distinct devices.
        device: (N,) index into `devices`.
        tuned: (N,) True for runs tuned for their highest rate.
    """
    narrowest = [next((f for f in ("fp4", "fp8") if np.isfinite(d.peak(f))), "") for d in devices]
    codes = np.array([FORMAT_CODE[f] if f else -1 for f in narrowest] + [-1], dtype=np.intp)
    return np.where((weight < 0) & tuned, codes[device], weight)


def longest_prompt(mean: Array, spread: Texts) -> Array:
    """Return the tokens of the longest prompt of each row. (N,)

    mean: (N,) mean prompt length. spread: (N,) how lengths spread; `uniform:LOW-HIGH` gives shares of the nominal
    length, any other spread counts as none.

    >>> longest_prompt(np.array([900.0, 900.0]), np.array(["uniform:0.8-1.0", "fixed"])).tolist()
    [1000.0, 900.0]
    """
    kinds, where = np.unique(spread.astype(str), return_inverse=True)
    longest: Array = mean * np.array([longest_over_mean(kind) for kind in kinds.tolist()])[where]
    return longest


def _latent_experts(model: ModelSpec) -> bool:
    """Return whether the model is a mixture of experts with latent attention (MLA)."""
    latent = any(b.mixer is not None and b.mixer.kind == "mla" for b in model.blocks)
    return latent and any(b.mlp is not None and b.mlp.experts for b in model.blocks)


def _by_experts(given: Mapping[str, Array], width: Array, devices: Array) -> dict[str, Array]:
    """Return degrees with attention data and expert parallelism where no tp, ep or dp is given, (N,) each.

    width: (N,) most ranks of a replica. devices: (N,) of a pipeline stage, which the ranks divide.
    """
    blank = np.isnan(given["tp"]) & np.isnan(given["ep"]) & np.isnan(given["dp"])
    ranks = _widest_dividing(np.minimum(width, devices), devices, 0.0)
    chosen = {"tp": np.ones_like(ranks), "ep": ranks, "dp": ranks}
    return {**given, **{name: np.where(blank, degree, given[name]) for name, degree in chosen.items()}}


def _fewest_devices(model: ModelSpec, weight: Index, memory: Array, pp: Array) -> Array:
    """Return the smallest of `DEVICE_COUNTS` that holds the weights of one of `pp` pipeline stages. (N,)

    weight: (N,) code of the format, -1 for the checkpoint's own. memory: (N,) bytes per device.
    """
    codes, where = np.unique(weight, return_inverse=True)
    sizes = [model if c < 0 else model.with_weights(FORMAT_NAMES[c]) for c in codes]
    total = np.array([sum(s.weight_bytes().values()) for s in sizes])[where] / pp
    enough = total[:, None] / DEVICE_COUNTS <= WEIGHT_SHARE * np.nan_to_num(memory, nan=np.inf)[:, None]
    fewest: Array = np.where(enough.any(axis=1), DEVICE_COUNTS[np.argmax(enough, axis=1)], DEVICE_COUNTS[-1])
    return fewest


def _widest_dividing(width: Array, devices: Array, heads: float) -> Array:
    """Return the largest tp not above `width` (N,) that divides both the devices (N,) and the attention heads. (N,)"""
    candidates = np.arange(1.0, WIDEST_TP + 1.0)
    fine = (devices[:, None] % candidates == 0) & (heads % candidates == 0) & (candidates <= width[:, None])
    widest: Array = candidates[len(candidates) - 1 - np.argmax(fine[:, ::-1], axis=1)]
    return widest
