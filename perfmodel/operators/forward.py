"""(model, layout, step) -> demands: the only place where a model's work is written down.

A demand is what one device does in one pass of one micro-batch through the whole model; `count` carries the number of
layers, so that equal layers are priced once. Pipeline stages run the same pass one after the other, so the sum over
all layers is the latency of a pass whatever PP is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from perfmodel.deployment.sharding import Layout
from perfmodel.models import Mixer, Mlp
from perfmodel.operators.attention import mixing
from perfmodel.operators.communication import _communication
from perfmodel.operators.demand import Demand
from perfmodel.operators.elementwise import _elementwise, _head
from perfmodel.operators.experts import _experts
from perfmodel.operators.gemm import _projections
from perfmodel.operators.lora import adapting
from perfmodel.operators.step import Step, all_tokens, local_tokens


def operators(lay: Layout, step: Step) -> Iterator[Demand]:
    """All demands of one pass of `step`; see the module's docstring."""
    mixers: dict[Mixer, int] = defaultdict(int)
    mlps: dict[Mlp, int] = defaultdict(int)
    norms = 0
    for block in lay.model.blocks:
        norms += block.count * block.norms
        if block.mixer:
            mixers[block.mixer] += block.count
        if block.mlp:
            mlps[block.mlp] += block.count
    local = local_tokens(lay, step)
    yield from _projections(lay, mixers, mlps, local, step)
    for mixer, count in mixers.items():
        yield from mixing(lay, mixer, count, step)
    for mlp, count in mlps.items():
        if mlp.experts:
            yield from _experts(lay, mlp, count, step)
    yield from adapting(lay, step)
    yield from _elementwise(lay, mixers, mlps, norms, local)
    yield from _communication(lay, sum(mixers.values()), mlps, local, all_tokens(lay, step))
    yield from _head(lay, step, local)


# ------------------------------------------------------------------------------------------------ dense projections


# ------------------------------------------------------------------------------------------------------------ experts


# ------------------------------------------------------------------------------------------- elementwise and the head


# ------------------------------------------------------------------------------------------------------ communication
