"""List everything that one forward pass executes on one device, from the model, its sharding and the step.

A demand covers all equal layers of the model: `count` carries their number, so that they are timed once. Pipeline
stages run one after the other, so the sum over all layers is the latency of a step whatever PP is. The FLOP and bytes
of each kernel come from `perfmodel.equations`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from perfmodel.deployment import Sharding
from perfmodel.models import Mixer, Mlp
from perfmodel.operators.attention import mixing
from perfmodel.operators.communication import communication
from perfmodel.operators.context_parallel import exchanges
from perfmodel.operators.demand import Demand
from perfmodel.operators.elementwise import elementwise, lm_head
from perfmodel.operators.expert_traffic import expert_traffic
from perfmodel.operators.experts import experts
from perfmodel.operators.gemm import projections
from perfmodel.operators.lora import adapting
from perfmodel.operators.step import Step, all_tokens, local_tokens


def operators(sharding: Sharding, step: Step) -> Iterator[Demand]:
    """List all operators of one forward pass of `step`, including those with no calls."""
    mixers: dict[Mixer, int] = defaultdict(int)
    mlps: dict[Mlp, int] = defaultdict(int)
    norms = 0
    for block in sharding.model.blocks:
        norms += block.count * block.norms
        if block.mixer:
            mixers[block.mixer] += block.count
        if block.mlp:
            mlps[block.mlp] += block.count
    local = local_tokens(sharding, step)
    yield from projections(sharding, mixers, mlps, local, step)
    for mixer, count in mixers.items():
        yield from mixing(sharding, mixer, count, step)
        if not mixer.recurrent:
            yield from exchanges(sharding, mixer, count, step)
    for mlp, count in mlps.items():
        if mlp.experts:
            yield from experts(sharding, mlp, count, step)
            yield from expert_traffic(sharding, mlp, count, step)
    yield from adapting(sharding, step)
    yield from elementwise(sharding, mixers, mlps, norms, local)
    yield from communication(sharding, sum(mixers.values()), mlps, local, all_tokens(sharding, step))
    yield from lm_head(sharding, step, local)
