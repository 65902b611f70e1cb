"""Compare requests with the context that a model was trained for: engines reject longer ones.

vLLM bounds `max_model_len` by the context of config.json, rope scaling counted, and refuses to start above it unless
VLLM_ALLOW_LONG_MAX_MODEL_LEN is set (vllm/config/model.py, _get_and_verify_max_len). SGLang has the same bound
(SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN). A request whose prompt and output are longer is answered with an error.
"""

from __future__ import annotations

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array, Mask
from perfmodel.models import ModelSpec
from perfmodel.workload import Workload

#: What a user of Python can do about requests that are too long.
_IN_PYTHON = "leave out allow_long_context=False"


def beyond_context(model: ModelSpec, tokens: Array) -> Mask:
    """Return True where a request of so many tokens, prompt and output, exceeds the context of `model`.

    Shape of `tokens`.

    A model whose context is not bounded (0), such as one without positions, takes requests of any length.
    """
    return np.asarray((model.max_context > 0) & (np.asarray(tokens, float) > model.max_context))


def context_remark(model: ModelSpec, tokens: float) -> str:
    """Say that a request of `tokens` prompt and output tokens exceeds the context of `model`; "" where it does not."""
    if not beyond_context(model, np.array(tokens)):
        return ""
    return f"requests of {tokens:,.0f} tokens exceed the context of {model.max_context:,} tokens that {model.name} has"


def check_context(model: ModelSpec, workload: Workload, *, allowed: bool = False, way_out: str = _IN_PYTHON) -> None:
    """Raise `InputError` where a length class of `workload` exceeds the context of `model`.

    allowed: True refuses nothing. way_out: how the caller's user allows it, in words.
    """
    total = workload.input_tokens + workload.output_tokens
    beyond = beyond_context(model, total) & (workload.share > 0)
    if allowed or not beyond.any():
        return
    at = int(np.argmax(np.where(beyond, total, 0.0)))
    lengths = f"{workload.input_tokens[at]:,.0f} prompt + {workload.output_tokens[at]:,.0f} output tokens"
    which = ""
    if len(total) > 1:
        percent = 100.0 * float(workload.share[beyond].sum())
        which = f"{int(beyond.sum())} of {len(total)} length classes ({percent:.2f} %), up to "
    raise InputError(f"{which}{lengths}{_exceed(model)}; {_ways_out(way_out)}")


def check_lengths(
    model: ModelSpec, tokens: Array, *, what: str, allowed: bool = False, way_out: str = _IN_PYTHON
) -> None:
    """Raise `InputError` where single requests of prompt and output `tokens`, (R,), exceed the context of `model`.

    what: the requests in words. allowed, way_out: as of `check_context`.
    """
    beyond = beyond_context(model, tokens)
    if allowed or not beyond.any():
        return
    count = f"{int(beyond.sum()):,} of {len(beyond):,} requests ({100.0 * float(beyond.mean()):.2f} %) of {what}"
    longest = f"the longest of {float(np.max(tokens)):,.0f} tokens"
    raise InputError(f"{count}, {longest},{_exceed(model)}; {_ways_out(way_out)}")


def _exceed(model: ModelSpec) -> str:
    """Say what lengths exceed, and what engines do then."""
    return (
        f" exceed the context of {model.max_context:,} tokens that {model.name} was trained for, and engines reject "
        "such requests"
    )


def _ways_out(allow: str) -> str:
    """List what helps; `allow` says how to allow such lengths nevertheless."""
    return f"give shorter requests, the path of a config.json whose rope_scaling covers them, or {allow}"
