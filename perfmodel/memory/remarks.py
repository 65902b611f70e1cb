"""Say in words what an engine keeps from the KV cache."""

from __future__ import annotations

from perfmodel.engines import Engine
from perfmodel.models import ModelSpec
from perfmodel.unit_factors import GB

#: Share of the device from which what the sampler holds back is worth a remark; chosen.
_WORTH_A_REMARK = 0.02


def held_back(engine: Engine, model: ModelSpec, sampler: float, capacity: float) -> str:
    """Return a sentence on the memory that warming up the sampler keeps from the KV cache; "" where it is little.

    sampler: bytes that it keeps on one device beyond the activations (`Memory.sampler`). capacity: bytes of the device.
    """
    if not sampler > _WORTH_A_REMARK * capacity:
        return ""
    name = engine.title.partition(" (")[0]
    return (
        f"{name} keeps {sampler / GB:.1f} GB per device from the KV cache: at start it samples max_num_seqs "
        f"rows over the vocabulary of {model.vocab:,}; a smaller max_num_seqs leaves more"
    )
