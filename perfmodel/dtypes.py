"""Number formats: how many bytes a stored value takes and in which precision it is multiplied.

A *compute type* names a rate of the hardware (`peak.bf16` in hwdb). A *storage format* says how weights or KV entries
are stored, scales included, and which compute type they call for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hwdb import UnknownName
from hwdb.errors import check_name

#: Compute types, in the order of their codes. A device's rates come from hwdb.
COMPUTE = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")
COMPUTE_CODE = {name: code for code, name in enumerate(COMPUTE)}
COMPUTE_BYTES = np.array([4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5])

#: Compute types that a device uses when it has no rate for one, best first. Weights are up-converted on load, so the
#: next wider type works (vLLM's Marlin kernels run fp8 and int4 weights in 16 bit on devices without those rates, and
#: NVFP4 weights too where there is an fp8 rate: vllm marlin_utils_fp4.py, "weight-only FP4 compression will be used").
FALLBACK = {
    "fp4": ("bf16", "fp16", "fp32"),
    "int4": ("int8", "bf16", "fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"),
    "int8": ("bf16", "fp16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "tf32": ("fp32",),
    "fp32": ("bf16", "fp16"),
}


@dataclass(frozen=True)
class Format:
    """A storage format.

    bits: mean bits per value, block scales and zero points included. source: where the bit count comes from.
    compute: compute type of its GEMMs; None for weight-only formats, whose GEMMs run in the activations' type.
    whole: whether embedding and LM head are stored in it too.
    """

    name: str
    bits: float
    compute: str | None
    source: str
    whole: bool = False

    @property
    def bytes(self) -> float:
        """Bytes per value, scales included."""
        return self.bits / 8.0


def with_scales(bits: float, scale_bits: float, group: int) -> float:
    """Return the mean bits per value where each `group` of values has scale and zero point in common.

    bits: of a value. scale_bits: of scale and zero point together.

    >>> with_scales(4.0, 8.0, 16)
    4.5
    """
    return bits + scale_bits / group


_GGUF = "llama.cpp quantize README, bits per weight on Llama-3.1-8B"
_IK = "ik_llama.cpp ggml/src/ggml-common.h, per 256 weights:"
_FORMATS = (
    Format("fp32", 32.0, "fp32", "IEEE 754"),
    Format("bf16", 16.0, "bf16", "bfloat16"),
    Format("fp16", 16.0, "fp16", "IEEE 754"),
    Format("fp8", 8.0, "fp8", "OCP FP8 (arXiv:2209.05433); one scale per tensor or channel"),
    Format(
        "fp8_block", with_scales(8.0, 32.0, 128 * 128), "fp8", "DeepSeek-V3 (arXiv:2412.19437): fp32 scale per 128x128"
    ),
    Format("int8", 8.0, "int8", "W8A8, one scale per channel (SmoothQuant, arXiv:2211.10438)"),
    Format("w8a16", 8.0, None, "weight-only 8 bit, one scale per channel"),
    Format(
        "int4",
        with_scales(4.0, 20.0, 128),
        None,
        "GPTQ/AWQ group 128: fp16 scale and 4-bit zero per group (arXiv:2306.00978)",
    ),
    Format("w4a8", with_scales(4.0, 16.0, 128), "int8", "4-bit weights, int8 activations; fp16 scale per group of 128"),
    Format(
        "w4a4", with_scales(4.0, 16.0, 128), "int4", "Atom/QServe style (arXiv:2310.19102); fp16 scale per group of 128"
    ),
    Format("fp4", with_scales(4.0, 8.0, 16), "fp4", "NVFP4: fp8 scale per 16 values (NVIDIA Blackwell documentation)"),
    Format(
        "mxfp4", with_scales(4.0, 8.0, 32), None, "OCP Microscaling MXFP4: 8-bit scale per 32 values (arXiv:2310.10537)"
    ),
    Format("q8_0", with_scales(8.0, 16.0, 32), None, "llama.cpp Q8_0: fp16 scale per 32 values", whole=True),
    Format("q6_k", 6.56, None, _GGUF, whole=True),
    Format("q5_0", 5.54, None, _GGUF, whole=True),
    Format("q5_k_m", 5.70, None, _GGUF, whole=True),
    Format("q5_k_s", 5.57, None, _GGUF, whole=True),
    Format("q4_0", 4.66, None, _GGUF, whole=True),
    Format("q4_k_m", 4.89, None, _GGUF, whole=True),
    Format("q4_k_s", 4.67, None, _GGUF, whole=True),
    Format("iq4_nl", 4.68, None, _GGUF, whole=True),
    Format("iq4_xs", 4.46, None, _GGUF, whole=True),
    Format("q3_k_s", 3.64, None, _GGUF, whole=True),
    Format("iq3_xxs", 3.25, None, _GGUF, whole=True),
    Format("q2_k", 3.16, None, _GGUF, whole=True),
    Format("iq2_m", 2.93, None, _GGUF, whole=True),
    Format("iq2_kl", 2.69, None, "ik_llama.cpp IQ2_KL: 2.6875 bits per weight", whole=True),
    Format("iq2_xs", 2.59, None, _GGUF, whole=True),
    Format("iq2_xxs", 2.38, None, _GGUF, whole=True),
    Format(
        "int4_g32",
        with_scales(4.0, 16.0, 32),
        None,
        "compressed-tensors group 32, 16-bit scale per group (Kimi-K2-Thinking)",
    ),
    Format("q3_k_l", 4.30, None, _GGUF, whole=True),
    Format("q3_k_m", 4.00, None, f"{_GGUF} (recalled; the table of 2026 leaves it out)", whole=True),
    Format("q2_k_s", 2.97, None, _GGUF, whole=True),
    Format("iq3_m", 3.76, None, _GGUF, whole=True),
    Format("iq3_s", 3.66, None, _GGUF, whole=True),
    Format("iq3_xs", 3.50, None, _GGUF, whole=True),
    Format("iq2_s", 2.74, None, _GGUF, whole=True),
    Format("iq1_m", 2.15, None, _GGUF, whole=True),
    Format("iq1_s", 2.00, None, _GGUF, whole=True),
    Format("iq6_k", 6.625, None, f"{_IK} block_iq6_k: 212 bytes", whole=True),
    Format("iq5_k", 5.5, None, f"{_IK} block_iq5_k: 176 bytes", whole=True),
    Format("iq4_k", 4.5, None, f"{_IK} block_iq4_k: 144 bytes", whole=True),
    Format(
        "mxfp8",
        with_scales(8.0, 8.0, 32),
        "fp8",
        "OCP Microscaling MXFP8: 8-bit scale per 32 values (arXiv:2310.10537)",
    ),
)
FORMATS = {f.name: f for f in _FORMATS}
#: Other spellings in configuration files and benchmark tables.
ALIASES = {
    "f32": "fp32",
    "float32": "fp32",
    "float16": "fp16",
    "f16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "e4m3": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "w8a8_fp8": "fp8",
    "w8a8": "int8",
    "w4a16": "int4",
    "nvfp4": "fp4",
    "q4_k": "q4_k_m",
    "awq": "int4",
    "gptq": "int4",
    "e5m2": "fp8",
    "fp8_dynamic": "fp8",
    "fp8_static": "fp8",
    **dict.fromkeys(("awq_int4", "gptq_int4", "awq_4bit", "gptq_4bit", "awq_marlin", "gptq_marlin"), "int4"),
    **dict.fromkeys(("bnb", "bitsandbytes", "bnb_4bit", "nf4", "4bit", "4_bit"), "int4"),
    **dict.fromkeys(("8bit", "8_bit", "gptq_int8", "gptq_8bit"), "w8a16"),
    "16bit": "bf16",
    "16_bit": "bf16",
    "q8": "q8_0",
    "q6": "q6_k",
    "q5": "q5_k_m",
    "q4": "q4_k_m",
}

#: Formats by their names without separators ("q4km").
_SQUASHED = {name.replace("_", ""): name for name in FORMATS}

FORMAT_NAMES = tuple(FORMATS)
FORMAT_CODE = {name: code for code, name in enumerate(FORMAT_NAMES)}
FORMAT_BYTES = np.array([f.bytes for f in _FORMATS])
#: Compute-type code that a format calls for, -1 where the activations decide.
FORMAT_COMPUTE = np.array([-1 if f.compute is None else COMPUTE_CODE[f.compute] for f in _FORMATS])


#: Said of a format that is not known: those that most checkpoints have.
COMMON = "(common: bf16, fp8, int8, int4, nvfp4, mxfp4; of GGUF: q8_0, q6_k, q5_k_m, q4_k_m; not modelled: EXL2, HQQ)"


#: Wider variants of K-quants keep a few matrices in more bits (bartowski's _L, Unsloth's _XL); the plain type stands
#: for them.
_WIDER = re.compile(r"_(?:l|xl|xxl)$")


def gguf_format(quant: str) -> str:
    """Return the storage format that stands for a quantisation type of llama.cpp in lower case; "" where none does.

    >>> gguf_format("q4_k_xl"), gguf_format("q8_k_xl"), gguf_format("iq9_z")
    ('q4_k_m', 'q8_0', '')
    """
    plain = _WIDER.sub("", quant)
    block = "q8_0" if plain == "q8_k" else ""  # what a dynamic 8-bit type keeps most of its weights in
    return next((q for q in (quant, f"{plain}_m", plain, block) if q in FORMATS), "")


@lru_cache(maxsize=1024)
def storage(name: str) -> Format:
    """Return the storage format called `name`, in any spelling; raises `UnknownName`.

    >>> storage("w4a16").name, round(storage("nvfp4").bytes, 4), storage("FP8-dynamic").name
    ('int4', 0.5625, 'fp8')
    >>> storage("UD-Q4_K_XL").name, storage("Q4KM").name
    ('q4_k_m', 'q4_k_m')
    """
    check_name("number format", name)
    key = name.strip().lower().replace("-", "_").replace(" ", "_").removesuffix(".gguf")
    key = ALIASES.get(key, key)
    if key not in FORMATS:  # "UD": dynamic types of Unsloth
        key = gguf_format(key.removeprefix("ud_")) or _SQUASHED.get(key, key)
    if key not in FORMATS:
        raise UnknownName("number format", name, FORMATS, COMMON, others=ALIASES)
    return FORMATS[key]
