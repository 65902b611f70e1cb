"""Which makers' devices a serving engine has kernels for."""

from __future__ import annotations

#: Engines that run on the devices of some makers only (NVIDIA/TensorRT-LLM and FasterTransformer; MindIE of Huawei).
ENGINE_VENDORS = {"trtllm": ("NVIDIA",), "fastertransformer": ("NVIDIA",), "mindie": ("Huawei",)}
#: Makers whose devices an engine has no kernels for: the platforms in the documentation of vLLM, SGLang and TGI
#: (recalled, 2026) have no GPU of Apple and no single-board computer.
_WITHOUT = dict.fromkeys(("vllm", "sglang", "tgi"), ("Apple", "Raspberry Pi"))
#: An engine that runs on nearly every device, and reads the formats of GGUF files.
LOCAL_ENGINE = "llamacpp"

#: Formats that an engine can keep its KV cache in; a family that is left out may have others. vLLM:
#: `--kv-cache-dtype`, int8 and int4 by token and head (vllm-project/vllm pull 53299, 2026-08: values of `CacheDType`).
#: SGLang: docs, "Quantized KV Cache" (2026). TensorRT-LLM: docs, "Quantization" (1.3; int8 in its first backend).
#: llama.cpp: `--cache-type-k`. TGI: `--kv-cache-dtype` (recalled, 2026).
CACHE_FORMATS = {
    "vllm": ("bf16", "fp16", "fp8", "int8", "int4", "fp4"),
    "sglang": ("bf16", "fp16", "fp8", "fp4", "mxfp4"),
    "trtllm": ("bf16", "fp16", "fp8", "int8", "fp4"),
    "tgi": ("bf16", "fp16", "fp8"),
    **dict.fromkeys(("llamacpp", "ik_llama"), ("fp32", "bf16", "fp16", "q8_0", "q5_0", "q4_0", "iq4_nl")),
}


def keeps_cache_in(family: str, name: str) -> bool:
    """Return whether an engine of a family can keep its KV cache in a format; True where nothing is known.

    >>> keeps_cache_in("vllm", "fp8"), keeps_cache_in("vllm", "q4_0"), keeps_cache_in("generic", "int4")
    (True, False, True)
    """
    return name in CACHE_FORMATS.get(family, (name,))


def instead_of(family: str, vendor: str) -> str:
    """Return the family of an engine that runs on a maker's devices where another one does not; "" where it does.

    >>> instead_of("vllm", "Apple"), instead_of("trtllm", "AMD"), instead_of("vllm", "NVIDIA")
    ('llamacpp', 'vllm', '')
    """
    if runs_on(family, vendor):
        return ""
    return "vllm" if runs_on("vllm", vendor) else LOCAL_ENGINE


def runs_on(family: str, vendor: str) -> bool:
    """Return whether an engine of a family is known to run on devices of a maker; True where nothing is known.

    >>> runs_on("vllm", "Apple"), runs_on("llamacpp", "Apple"), runs_on("trtllm", "AMD")
    (False, True, False)
    """
    return vendor in ENGINE_VENDORS.get(family, (vendor,)) and vendor not in _WITHOUT.get(family, ())
