"""Say which formats narrower than the model's an engine runs on a device, and which published checkpoints have them.

A scenario that lists `auto` among its formats tries all of these. Formats are rated by what the engine multiplies
natively or unpacks in kernels of its own; emulation is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from hwdb import Device
from perfmodel import Engine, ModelSpec, model
from perfmodel.dtypes import FORMAT_CODE, FORMAT_NAMES, storage
from perfmodel.models import aliases, is_format_word

#: Engines with kernels for quantised checkpoints (Hugging Face), and those that read GGUF files.
CHECKPOINT_ENGINES = ("vllm", "sglang", "trtllm")
GGUF_ENGINES = ("llamacpp", "ik_llama")
#: Engines that quantise 16-bit checkpoints to `ONLINE_FORMAT` as they load them (vLLM docs, "Online Quantization";
#: SGLang docs, "Quantization", online). Others need a checkpoint of that format.
ONLINE_ENGINES, ONLINE_FORMAT = ("vllm", "sglang"), "fp8"
#: Formats of the KV cache besides the model's own, and the engines that have it (vLLM and SGLang docs, "Quantized KV
#: Cache"; TensorRT-LLM docs, "Quantization", FP8 KV cache).
NARROW_KV, NARROW_KV_ENGINES = "fp8", CHECKPOINT_ENGINES
#: Bits from which a format counts as not quantised.
PLAIN_BITS = 16.0
#: Word behind the name of a model that says nothing of its format: files for Hugging Face.
PLAIN_WORD = "hf"
#: First NVIDIA architecture whose tensor cores AWQ and GPTQ kernels use (vLLM docs 0.14, "Quantization", table of
#: supported hardware: Turing to Hopper; Marlin kernels also on Blackwell).
LEAST_SM = 75


def _sm(device: Device) -> int:
    """Return the compute capability of an NVIDIA GPU, such as 90; 0 for other devices."""
    found = re.search(r"sm_(\d+)", device.arch)
    return int(found[1]) if found and device.vendor == "NVIDIA" else 0


def _multiplies(device: Device, compute: str) -> bool:
    """Return True for a GPU with a rate of its own in `compute`."""
    return device.kind == "gpu" and bool(np.isfinite(device.peak(compute)))


@dataclass(frozen=True)
class Kernel:
    """A format of weights that some engines run on some devices. on: True for the devices that have kernels for it."""

    format: str
    engines: tuple[str, ...]
    on: Callable[[Device], bool]
    source: str


KERNELS = (
    Kernel(
        "fp8",
        CHECKPOINT_ENGINES,
        lambda d: _multiplies(d, "fp8") and d.vendor in ("NVIDIA", "AMD"),
        "vLLM docs 0.14, Quantization: FP8 W8A8 on Ada, Hopper, AMD; TensorRT-LLM docs 1.3, Quantization",
    ),
    Kernel(
        "int8",
        CHECKPOINT_ENGINES,
        lambda d: _sm(d) >= LEAST_SM and _multiplies(d, "int8") and not _multiplies(d, "fp8"),
        "vLLM docs 0.14, Quantization: INT8 W8A8 from Turing on; FP8 takes its place where the device has it",
    ),
    Kernel(
        "fp4",
        CHECKPOINT_ENGINES,
        lambda d: _sm(d) > 0 and _multiplies(d, "fp4"),
        "NVFP4: NVIDIA Model Optimizer, support matrix: FP4 on Blackwell and later, for TensorRT-LLM; vLLM docs",
    ),
    Kernel(
        "mxfp4",
        CHECKPOINT_ENGINES[:2],
        lambda d: d.vendor == "AMD" and _multiplies(d, "fp4"),
        "vLLM docs, AMD Quark: MXFP4 on gfx950 (MI350 series)",
    ),
    Kernel(
        "int4",
        CHECKPOINT_ENGINES,
        lambda d: d.kind == "gpu" and _sm(d) >= LEAST_SM,
        "AWQ and GPTQ, W4A16: vLLM docs 0.14, Quantization; TensorRT-LLM docs 1.3, Quantization",
    ),
    Kernel("q8_0", GGUF_ENGINES, lambda _: True, "llama.cpp, tools/quantize README"),
    Kernel("q4_k_m", GGUF_ENGINES, lambda _: True, "llama.cpp, tools/quantize README"),
)


def weights_on(spec: ModelSpec, engine: Engine, device: Device) -> frozenset[int]:
    """Return the codes of the formats of weights that `engine` runs on `device`, narrower than those of the model.

    -1, the model's own, is among them. The scales beside the numbers make no format wider: fp8 per tensor is not
    narrower than fp8 per block.
    """
    own = np.floor(storage(spec.weight_format).bits)
    found = [k.format for k in KERNELS if engine.family in k.engines and k.on(device)]
    return frozenset({-1, *(FORMAT_CODE[name] for name in found if np.floor(storage(name).bits) < own)})


def caches_on(spec: ModelSpec, engine: Engine, device: Device) -> frozenset[int]:
    """Return the codes of the formats of the KV cache that `engine` runs on `device`; -1, the model's own, among them.

    fp8 is among them where the device multiplies it and the model's own cache is wider.
    """
    narrow = engine.family in NARROW_KV_ENGINES and _multiplies(device, NARROW_KV)
    wider = storage(spec.kv_format).bits > storage(NARROW_KV).bits
    return frozenset({-1, FORMAT_CODE[NARROW_KV]} if narrow and wider else {-1})


def in_order(codes: Iterable[frozenset[int]]) -> tuple[int, ...]:
    """Return the codes of all sets, each once: the model's own first, then wide formats before narrow ones."""
    every = {code for some in codes for code in some}
    return tuple(sorted(every, key=lambda c: (c >= 0, -storage(FORMAT_NAMES[c]).bits if c >= 0 else 0.0, c)))


def needs_checkpoint(spec: ModelSpec, engine: Engine) -> frozenset[int]:
    """Return the codes of the formats of which `engine` needs a quantised checkpoint of the model.

    They are all that are no formats of 16 bit or more, and not the model's own, but for fp8 where the engine quantises
    a 16-bit model as it loads it. GGUF files can be made of any model, so llama.cpp needs none.
    """
    if engine.family not in CHECKPOINT_ENGINES:
        return frozenset()
    own = spec.weight_format
    made = {ONLINE_FORMAT} if engine.family in ONLINE_ENGINES and storage(own).bits >= PLAIN_BITS else set()
    return frozenset(
        FORMAT_CODE[name] for name in FORMAT_NAMES if storage(name).bits < PLAIN_BITS and name not in {own, *made}
    )


@cache
def published(name: str) -> Mapping[str, str]:
    """Return format of weights -> name of a checkpoint of the model `name` in it, of those in the catalogue.

    Its name has to be that of the model with nothing but formats behind it: fine-tunes of equal shape are other models.
    """
    found: dict[str, str] = {}
    for alias in aliases():
        rest = _stem(alias).removeprefix(_stem(name))
        words = re.findall("[a-z0-9]+", rest)
        if words and rest != _stem(alias) and all(word == PLAIN_WORD or is_format_word(word) for word in words):
            found.setdefault(model(alias).weight_format, alias)
    return {stored: alias for stored, alias in found.items() if storage(stored).bits < PLAIN_BITS}


def _stem(name: str) -> str:
    """Return the name of a model without its owner, in lower case."""
    return name.lower().rsplit("/", 1)[-1].removeprefix("meta-")


def checkpoint_remark(spec: ModelSpec, code: int) -> str:
    """Say that the weights of format `code` have to exist as a checkpoint, and name a published one."""
    name = FORMAT_NAMES[code]
    known = published(spec.name).get(name)
    where = f"such as {known}" if known else "none is in the catalogue"
    return f"{name} weights need a checkpoint of the model that is quantised so ({where}): check how well it answers"
