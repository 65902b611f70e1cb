"""Say what engines would refuse, or do otherwise than the settings suggest, with each of N deployments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel.arrays import Array, Index, codes_in
from perfmodel.deployment import Deployments, uneven_shards
from perfmodel.dtypes import FORMAT_NAMES, FORMATS
from perfmodel.engines import CACHE_FORMATS, LOCAL_ENGINE, Engine, instead_of, keeps_cache_in
from perfmodel.estimates.engine_refusals.context import context_remark
from perfmodel.hardware import hardware_of
from perfmodel.models import UNQUANTISED, ModelSpec
from perfmodel.power import is_beyond_evidence, is_known, memory_kind, unneeded_limit

#: Families of engines that split positions only among devices that would hold copies of the same KV heads.
COPIES_ONLY = ("vllm", "sglang")
#: Families of engines that are made for checkpoints of safetensors; of GGUF files they read some, with slow kernels.
NO_GGUF = ("vllm", "sglang", "trtllm", "tgi", "mindie")


def configuration_remarks(
    model: ModelSpec, deployments: Deployments, engine: Engine, tokens: Array | float
) -> NDArray[Any]:
    """Return what to know of each deployment before it is started, (N,) texts; "" where there is nothing.

    tokens: prompt and output tokens of the longest request of each deployment, (N,) or one number.
    """
    uneven = uneven_shards(
        model,
        tp=deployments.tp,
        experts_tp=np.maximum(deployments.tp * deployments.dp / deployments.ep, 1.0),
        weight=deployments.weight,
        pads=engine.pads_shards,
        whole_encoder=engine.encoder_data_parallel,
    )
    longest = np.broadcast_to(np.asarray(tokens, float), (len(deployments),))
    distinct, where = np.unique(longest, return_inverse=True)
    contexts = np.array([context_remark(model, float(t)) for t in distinct] + [""], dtype=object)[where.ravel()]
    eager = np.array([_eager(engine, d.name) if engine.eager_launch(d) else "" for d in deployments.devices] + [""])
    formats = _of_formats(deployments.weight, lambda name: _stated_format(model, name), "")
    positions = _split_positions(model, deployments, engine)
    name = np.full(len(deployments), model.reading if model.base else "", dtype=object)
    capped = _power_limits(deployments)
    watts = np.array([_watts_rest_on(d) for d in deployments.devices] + [""], dtype=object)[deployments.device]
    texts = (uneven, positions, contexts, eager[deployments.device], name, formats, capped, watts)
    caches = _of_formats(deployments.kv, lambda name: _foreign_cache(engine, name), "")
    each = zip(
        _elsewhere(model, deployments, engine),
        caches,
        _experts_of_none(model, deployments),
        *texts,
        _unlikely_drafter(model, deployments),
        _assumed_acceptance(deployments),
        strict=True,
    )
    return np.array([*("; ".join(filter(None, (*row, model.assumed))) for row in each), ""], dtype=object)[:-1]


def _elsewhere(model: ModelSpec, deployments: Deployments, engine: Engine) -> NDArray[Any]:
    """Say that an engine is not known to run on a device, or not made for the format, and which is, (N,) texts."""
    others = [(device.name, instead_of(engine.family, device.vendor)) for device in deployments.devices]
    texts = [f"{engine.family} is not known to run on {name}; engine {one} is" if one else "" for name, one in others]
    own = _foreign_format(engine, model.named_format or "bf16")
    foreign = _of_formats(deployments.weight, lambda name: _foreign_format(engine, name), own)
    absent = np.array([*texts, ""], dtype=object)[deployments.device]
    return np.where(absent != "", absent, foreign)


def _of_formats(weight: Index, say: Callable[[str], str], own: str) -> NDArray[Any]:
    """Return what `say` says of the format of each deployment, (N,) texts; own: of the model's own format.

    weight: codes of formats, -1 for the model's own, (N,).
    """
    texts = {code: say(FORMAT_NAMES[code]) if code >= 0 else own for code in codes_in(weight)}
    return np.array([*(texts[code] for code in weight.tolist()), ""], dtype=object)[:-1]


def _foreign_format(engine: Engine, name: str) -> str:
    """Say that a format of weights is that of another engine's files, and which one; "" where it is not."""
    if engine.family not in NO_GGUF or not FORMATS[name].whole:
        return ""
    return f"{name} is a format of GGUF files, which engine {LOCAL_ENGINE} serves (Ollama, LM Studio)"


def _foreign_cache(engine: Engine, name: str) -> str:
    """Say that an engine cannot keep its KV cache in a format, and in which it can; "" where it can."""
    if keeps_cache_in(engine.family, name):
        return ""
    return f"{engine.title} keeps no KV cache in {name}, but in {', '.join(CACHE_FORMATS[engine.family])}"


def _experts_of_none(model: ModelSpec, deployments: Deployments) -> NDArray[Any]:
    """Say that expert parallelism changes nothing of a model without routed experts, (N,) texts; "" elsewhere."""
    text = "" if model.experts else f"EP changes nothing: {model.name} has no routed experts to spread"
    return np.where(deployments.ep > 1, text, "").astype(object)


def _unlikely_drafter(model: ModelSpec, deployments: Deployments) -> NDArray[Any]:
    """Say where an engine is likely to refuse the drafter, (N,) texts; "" elsewhere."""
    stated, text = deployments.speculation, ""
    if stated.method == "mtp" and not model.mtp_layers:
        text = f"MTP: {model.name} is not known to have an MTP layer; one like its last layer is assumed"
    elif stated.draft is not None and stated.draft.vocab != model.vocab:
        # vllm-project/vllm vllm/config/speculative.py, verify_equal_vocab_size_if_draft_model (2026)
        text = (
            f"draft model: {stated.draft.name} has a vocabulary of {stated.draft.vocab:,}, the model one of "
            f"{model.vocab:,}; engines want the same, so choose a draft model of the same family"
        )
    return np.where(deployments.drafts > 0, text, "").astype(object)


def _assumed_acceptance(deployments: Deployments) -> NDArray[Any]:
    """Say which acceptance of drafts is assumed where none is stated, (N,) texts; "" elsewhere."""
    if not deployments.speculation.assumed:
        return np.full(len(deployments), "", dtype=object)
    known = deployments.speculation.known
    text = (
        f"{known.title}: {known.acceptance:.2f} of first drafts are assumed to be accepted (published: {known.low:.2f} "
        f"to {known.high:.2f}); it depends on your text, so measure it and state acceptance or tokens_per_step"
    )
    return np.where(deployments.drafts > 0, text, "").astype(object)


def _watts_rest_on(device: Device) -> str:
    """Say what the watts of a device rest on where no run of its architecture was measured; "" elsewhere."""
    if not np.isfinite(device.tdp):
        return f"watts of {device.name} are unknown, as its power limit is; give its tdp in a device file"
    if is_known(device):
        return ""
    kind = memory_kind(device)
    like = f"of other devices with {kind}" if kind else "of other devices"
    return (
        f"watts of {device.name} are taken from measured runs {like}, as none of its architecture is known; their "
        "range is wider"
    )


def _power_limits(deployments: Deployments) -> NDArray[Any]:
    """Say where a power limit is lower than any that the slow-down was fitted on, or above the device's own.

    (N,) texts; "" elsewhere.
    """
    hardware = hardware_of(deployments.devices, deployments.device).capped(deployments.power_cap)
    texts = np.full(len(deployments), "", dtype=object)
    for row in np.flatnonzero(is_beyond_evidence(hardware)):
        percent = 100.0 * hardware.tdp[row] / hardware.rated_tdp[row]
        texts[row] = f"a limit of {percent:.0f} % of the rated power is lower than any measured: rates are extrapolated"
    for row in np.flatnonzero(np.isfinite(deployments.power_cap)):
        above = unneeded_limit(deployments.devices[deployments.device[row]], float(deployments.power_cap[row]))
        texts[row] = above or texts[row]
    return texts


def _split_positions(model: ModelSpec, deployments: Deployments, engine: Engine) -> NDArray[Any]:
    """Say where an engine refuses KV parallelism, (N,) texts; "" where it does not.

    vLLM and SGLang split only copies of KV heads by position: tp has to be at least kvp times the KV heads, of latent
    attention at least kvp (dphnAI/sonar pull 1521, 2025-09-20, a port of vLLM's; SGLang docs, Decode Context
    Parallelism, 2026: latent attention only).
    """
    latent = any(block.mixer is not None and block.mixer.kind == "mla" for block in model.blocks)
    heads = 1.0 if latent else float(max(model.kv_heads, 1))
    refused = (deployments.kvp > 1) & (deployments.tp < deployments.kvp * heads)
    if engine.family not in COPIES_ONLY or not refused.any():
        return np.full(len(deployments), "", dtype=object)
    text = f"{engine.title} splits only copies of KV heads by position: kvp needs tp of at least kvp x {heads:g}"
    return np.where(refused, text, "").astype(object)


def _stated_format(model: ModelSpec, stated: str) -> str:
    """Say that the stated format of the weights is used and not the one in the name of the model; "" where they agree.

    stated: name of a storage format.
    """
    by_name = model.named_format or (model.weight_format if model.reading else "")
    if not by_name or by_name in UNQUANTISED or model.with_weights(stated) is model:
        return ""
    return f"weights in {stated} as stated, not in {by_name} as the name says"


def _eager(engine: Engine, device: str) -> str:
    """Say that no graphs are captured, and why."""
    why = f"on {device} " if engine.graph_capture else ""
    per = 1e6 * engine.eager_launch_time
    return f"{engine.title} captures no graphs {why}(eager mode): a step takes at least {per:.0f} us per operator"
