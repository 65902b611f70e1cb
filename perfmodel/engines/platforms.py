"""Which makers' devices a serving engine has kernels for."""

from __future__ import annotations

#: Engines that run on the devices of some makers only (NVIDIA/TensorRT-LLM and FasterTransformer; MindIE of Huawei).
ENGINE_VENDORS = {"trtllm": ("NVIDIA",), "fastertransformer": ("NVIDIA",), "mindie": ("Huawei",)}
#: Makers whose devices an engine has no kernels for: the platforms in the documentation of vLLM, SGLang and TGI
#: (recalled, 2026) have no GPU of Apple and no single-board computer.
_WITHOUT = dict.fromkeys(("vllm", "sglang", "tgi"), ("Apple", "Raspberry Pi"))
#: An engine that runs on nearly every device, and reads the formats of GGUF files.
LOCAL_ENGINE = "llamacpp"


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
