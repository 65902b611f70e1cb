"""Read the storage format in the name of a checkpoint: FP8-dynamic, NVFP4, AWQ-INT4, w4a16, Q4_K_M, bnb-4bit.

The suffixes are those of llm-compressor ("FP8-dynamic", "FP8-block", "quantized.w4a16"), AutoAWQ, GPTQModel
("GPTQ-Int4"), bitsandbytes ("bnb-4bit"), MLX ("4bit"), TorchAO ("int4wo", "float8dq"), NVIDIA Model Optimizer
("NVFP4"), Ascend's msModelSlim ("w8a8", "w8a8c8"), AMD Quark ("FP8-KV") and llama.cpp ("Q4_K_M", with Unsloth's
"UD-Q4_K_XL").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from perfmodel.dtypes import gguf_format

#: A quantisation type of llama.cpp or ik_llama.cpp.
_GGUF = re.compile(r"(?<![a-z0-9])(i?q\d(?:_[a-z0-9]{1,3})+)(?![a-z0-9])")
#: Bits of weights, activations and, in Ascend's names, of the KV cache: w8a8, w4a16, w8a8c8, w8a8sc (sparse).
_BITS = re.compile(r"w(\d+)a(\d+)(sc|c8)?")
#: (bits of integer weights, bits of activations) -> storage format.
_PAIRS = {("8", "8"): "int8", ("8", "16"): "w8a16", ("4", "16"): "int4", ("4", "8"): "w4a8", ("4", "4"): "w4a4"}
#: Words that name a float format.
_FLOATS = {
    "fp8": "fp8",
    "wfp8": "fp8",
    "float8": "fp8",
    "float8dq": "fp8",
    "fp8dq": "fp8",
    "nvfp4": "fp4",
    "fp4": "fp4",
    "mxfp4": "mxfp4",
    "wmxfp4": "mxfp4",
    "mxfp8": "mxfp8",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "f16": "fp16",
    "fp32": "fp32",
    "f32": "fp32",
}
#: Those of 4 bits: where a name also gives bits ("NVFP4-W4A16"), they say which kind of 4 bits.
_FOUR_BIT_FLOATS = ("nvfp4", "fp4", "mxfp4")
#: Methods that store weights only; 4 bit unless the name says 8.
_METHODS = ("awq", "gptq", "bnb", "autoround")
_FOUR, _EIGHT = ("4bit", "4bits", "int4", "i4", "int4wo"), ("8bit", "8bits", "int8", "i8", "int8wo")
#: Bits of MLX, in groups of 64 with a scale and a bias of 16 bits each, so half a bit more -> the nearest format.
_MLX = {"2bit": "iq2_kl", "3bit": "q3_k_s", "5bit": "q5_k_s", "6bit": "q6_k"}
#: Words of a name that say how weights are stored in a way that no storage format stands for.
_UNKNOWN = re.compile(
    r"exl[23]|aqlm|hqq|vptq|quip|[1235679](?:\.\d+)?bit|[\d.]+bpw|w\d+afp\d+|nvfp4a\d+|int[1-35-7]|fp6|i?q1|tq[12]"
)
#: Words that look like a number format. One that no list here knows is a format that is not known: it must not be taken
#: for the name of a fine-tune, whose weights would be counted as 16 bits.
_LOOKS = re.compile(r"[a-z]*(?:fp|int)\d+(?:[a-z]+\d*)*|[a-z]*\d+(?:\.\d+)?bits?")
#: FP8 scales that names tell: words -> (storage format, the scale in words).
_SCALES = {"dynamic": ("fp8", "per token"), "dyn": ("fp8", "per token"), "block": ("fp8_block", "per block")}
#: Words that say how scales are laid out or computed, once the format is known.
_DETAILS = (*_SCALES, "kv", "gguf", "quantized", "quantised", "static", "pertensor", "uint4", "uint8", "ud", "mlx")
_DETAILS += ("amxfp4", "amxfp8", "afp8", "abf16", "afp16", "i1", "imatrix")


@dataclass(frozen=True)
class Suffix:
    """The storage format in a name. weights: "" where the name has none. kv: "" where it implies none.

    words: the format in words. unknown: the part of the name that says a format which is not known. bare_gguf: the
    name says GGUF without the type of quantisation.
    """

    weights: str = ""
    kv: str = ""
    words: str = ""
    unknown: str = ""
    bare_gguf: bool = False


def gguf_type(name: str) -> tuple[str, str]:
    """Return (name without its llama.cpp quantisation type, that type); the type is "" where there is none.

    name: in lower case.

    >>> gguf_type("qwen3-8b-ud-q4_k_xl.gguf")
    ('qwen3-8b-ud-gguf', 'q4_k_xl')
    """
    found = _GGUF.search(name)
    if not found:
        return name, ""
    return (name[: found.start()] + name[found.end() :]).replace(".gguf", "gguf"), found.group(1)


def suffix(words: list[str], quant: str = "") -> Suffix:
    """Return the storage format that the words of a name say. quant: quantisation type of llama.cpp in it, or "".

    >>> suffix(["qwen", "3", "fp8", "dynamic"]).words
    'fp8 per token'
    >>> suffix(["awq", "4bit"]).weights
    'int4'
    >>> suffix(["gemma", "qat", "unquantized"], "q4_0").weights
    'bf16'
    """
    kv = "fp8" if "kv" in words or "kvfp8" in words else ""
    if "unquantized" in words:  # trained for a format ("qat-q4_0-unquantized") and stored before it
        return Suffix("bf16", words="bf16")
    if quant:
        return _of_gguf(quant)
    of_mlx = next((w for w in words if w in _MLX and "mlx" in words), "")
    if of_mlx:
        return Suffix(_MLX[of_mlx], words=f"{of_mlx} of MLX counted as {_MLX[of_mlx]}")
    strange = next((w for w in words if _strange(w)), "")
    if strange:
        return Suffix(unknown=strange)
    found = _of_bits(words) or _of_method(words) or _of_floats(words)
    if found:
        return Suffix(found.weights, found.kv or kv, found.words, found.unknown)
    return Suffix(bare_gguf="gguf" in words)


def is_format_word(word: str) -> bool:
    """Return whether a word of a name belongs to its storage format."""
    return bool(
        word in _FLOATS
        or word in _METHODS
        or word in _FOUR
        or word in _EIGHT
        or word in _DETAILS
        or word == "kvfp8"
        or _BITS.fullmatch(word)
        or _UNKNOWN.fullmatch(word)
        or _LOOKS.fullmatch(word)
    )


def _strange(word: str) -> bool:
    """Return whether a word of a name says how weights are stored in a way that no storage format stands for."""
    known = word in (*_FLOATS, *_METHODS, *_FOUR, *_EIGHT, *_DETAILS, "kvfp8") or _BITS.fullmatch(word)
    return bool(_UNKNOWN.fullmatch(word) or (_LOOKS.fullmatch(word) and not known))


def _of_gguf(quant: str) -> Suffix:
    """Return the format of a quantisation type of llama.cpp."""
    known = gguf_format(quant)
    if not known:
        return Suffix(unknown=quant)
    return Suffix(known, words=known if known == quant else f"{quant} counted as {known}")


def _of_bits(words: list[str]) -> Suffix | None:
    """Return the format of a word such as w4a16 or w8a8c8."""
    for word in words:
        found = _BITS.fullmatch(word)
        if found:
            bits, cache = (found.group(1), found.group(2)), found.group(3)
            four = next((w for w in words if w in _FOUR_BIT_FLOATS), "")
            if (bits == ("8", "8") and "fp8" in words) or (four and bits == ("4", "4")):
                return _of_floats(words)
            if four:
                return Suffix("mxfp4", words="mxfp4") if four == "mxfp4" else Suffix(unknown=f"{four}-{word}")
            kind = _PAIRS.get(bits, "")
            return Suffix(kind, "int8" if cache == "c8" else "", word, "" if kind else word)
    return None


def _of_method(words: list[str]) -> Suffix | None:
    """Return the format of AWQ, GPTQ, bitsandbytes, MLX, or of a plain number of bits."""
    method = next((m for m in _METHODS if m in words), "")
    eight, four = any(w in _EIGHT for w in words), any(w in _FOUR for w in words)
    if not (method or eight or four):
        return None
    plain = "int8" in words and not method
    kind = "int4" if not eight else "int8" if plain else "w8a16"
    return Suffix(kind, words=f"{kind} ({method.upper()})" if method else kind)


def _of_floats(words: list[str]) -> Suffix | None:
    """Return the format of FP8, NVFP4, MXFP4, BF16 ..., with the layout of FP8's scales where the name tells it."""
    kind = next((_FLOATS[w] for w in words if w in _FLOATS), "")
    if not kind:
        return None
    scale = next((_SCALES[w] for w in words if w in _SCALES), None) if kind == "fp8" else None
    return Suffix(*(scale[0], "", f"fp8 {scale[1]}") if scale else (kind, "", kind))
