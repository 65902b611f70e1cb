"""Sparse attention of DeepSeek-V3.2 and GLM-5 against measured layers: long prompts, and decoding behind a context.

Measured: aiconfigurator-core 0.12.0 (Apache-2.0), `dsa_context_module` and `dsa_generation_module` under SGLang 0.5.14,
fp8 weights: projections, indexer, choice and attention of one layer, no collectives.
"""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
import perfmodel
from perfmodel.costs import default
from perfmodel.deployment import deployments, shard
from perfmodel.hardware import hardware_of
from perfmodel.operators import PICKING, Step, operators

#: Device, model, TP, format of the cache, new tokens of a prompt, tokens before them, microseconds of a layer.
PROMPTS = [
    ("b200-sxm", "zai-org/GLM-5", 8, "bf16", 8192, 0, 4692.0),
    ("b200-sxm", "deepseek-ai/DeepSeek-V3.2", 8, "bf16", 8192, 8192, 6079.0),
    ("b300-sxm", "deepseek-ai/DeepSeek-V3.2", 8, "bf16", 8192, 0, 4724.0),
    ("b300-sxm", "zai-org/GLM-5", 8, "bf16", 16384, 32768, 12800.0),
    ("gb300", "zai-org/GLM-5", 8, "bf16", 16384, 0, 8383.0),
    ("h100-sxm", "deepseek-ai/DeepSeek-V3.2", 8, "fp8", 8192, 8192, 9413.0),
    ("h200-sxm", "deepseek-ai/DeepSeek-V3.2", 8, "bf16", 8192, 0, 5908.0),
]
#: Device, TP, sequences, context, microseconds of a layer of GLM-5 with its cache in fp8.
DECODES = [
    ("b200-sxm", 8, 1, 1024, 50.0),
    ("b200-sxm", 8, 1, 8192, 56.0),
    ("b200-sxm", 8, 8, 8192, 62.0),
    ("b200-sxm", 8, 64, 4096, 87.0),
    ("b200-sxm", 8, 256, 1024, 107.0),
]
#: Operators of the measured layers.
MEASURED = ("mla_", "q_up", "kv_up", "absorb", "index", "rope_mla", "o")


def layer(device: str, spec: str, step: Step, **columns: object) -> dict[str, float]:
    """Seconds by operator of the attention of one layer."""
    model, hardware = perfmodel.model(spec), hardware_of([hwdb.device(device)], np.zeros(1, dtype=np.intp))
    placed = deployments([hwdb.device(device)], weight="fp8", **columns)
    costs, found = default("sglang"), {}
    for demand in operators(shard(model, placed), step):
        if np.any(demand.count) and demand.name.startswith(MEASURED):
            time = demand.count * costs.cost(demand, hardware).time
            found[demand.name] = float(np.ravel(time)[0]) / model.layers
    return found


@pytest.mark.parametrize(("device", "spec", "tp", "kv", "new", "before", "measured"), PROMPTS)
def test_long_prompts_take_what_measured_layers_take(
    device: str, spec: str, tp: int, kv: str, new: int, before: int, measured: float
) -> None:
    found = layer(device, spec, Step(prefill_tokens=new, prefill_context=before), tp=tp, kv=kv)
    assert 0.6 < 1e6 * sum(found.values()) / measured < 1.25
    # the padded heads of the absorbed form are most of it: without them, a layer would take a third
    assert found["mla_picked_prefill"] > 0.35 * sum(found.values())


@pytest.mark.parametrize(("device", "tp", "sequences", "context", "measured"), DECODES)
def test_decoding_takes_what_measured_layers_take(
    device: str, tp: int, sequences: int, context: int, measured: float
) -> None:
    step = Step(decode_seqs=float(sequences), decode_context=float(context))
    found = layer(device, "zai-org/GLM-5", step, tp=tp, kv="fp8")
    assert 0.75 < 1e6 * sum(found.values()) / measured < 1.6
    assert sum(t for n, t in found.items() if n.startswith(PICKING)) > 0.1 * sum(found.values())


def test_a_prompt_takes_longer_where_the_indexer_leaves_tokens_out() -> None:
    short, long = (
        sum(layer("b200-sxm", "zai-org/GLM-5", Step(prefill_tokens=n), tp=8).values()) for n in (2048.0, 2304.0)
    )
    assert short < long < 3.0 * short
