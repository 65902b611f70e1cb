"""Demands of collectives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.dtypes import COMPUTE_BYTES
from perfmodel.models import Mlp
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import on


def collective(name: str, family: str, message: Array, group: Array, count: Array) -> Demand:
    """Demand of a collective over `group` devices; `message` as in `perfmodel.costs.collectives`."""
    zero = np.zeros_like(message)
    return Demand(name, family, zero, zero, count, message=message, shape={"group": group})


def communication(
    sharding: Sharding, mixers: int, mlps: dict[Mlp, int], local: Array, everywhere: Array
) -> Iterator[Demand]:
    """All-reduces, gathers and all-to-alls of one forward step."""
    rows, all_rows = local * sharding.model.hidden * 2.0, everywhere * sharding.model.hidden * 2.0
    split = (sharding.tp > 1) & (local > 0)
    yield collective("mixer_all_reduce", "all_reduce", rows, sharding.tp, on(split, mixers))
    dense = sum(count for mlp, count in mlps.items() if not mlp.experts)
    routed = {mlp: count for mlp, count in mlps.items() if mlp.experts}
    if dense:
        yield collective("mlp_all_reduce", "all_reduce", rows, sharding.tp, on(split, dense))
    spread_out = (sharding.dp > 1) & (local > 0)
    for mlp, count in routed.items():
        yield collective("mlp_all_reduce", "all_reduce", rows, sharding.tp, on(split & (sharding.dp == 1), count))
        # attention data parallelism: tokens travel to the experts and back, by all-to-all where experts are spread
        # over devices (each token to at most min(top_k, ep) of them), else by gathering all ranks' tokens
        reach = np.minimum(float(mlp.top_k), sharding.ep * (1.0 - np.power(1.0 - 1.0 / sharding.ep, mlp.top_k)))
        scattered = spread_out & (sharding.ep > 1)
        send = rows / np.maximum(sharding.tp, 1.0) * reach
        narrow = COMPUTE_BYTES[sharding.compute("experts")] / 2.0
        yield collective("expert_dispatch", "all_to_all", send * narrow, sharding.ep, on(scattered, count))
        yield collective("expert_combine", "all_to_all", send, sharding.ep, on(scattered, count))
        gathered = spread_out & (sharding.ep <= 1)
        yield collective("token_gather", "all_gather", all_rows, sharding.group, on(gathered, count))
        yield collective("token_scatter", "reduce_scatter", all_rows, sharding.group, on(gathered, count))
    # neighbouring stages lie a stage's devices apart, so the whole replica decides whether they share a node
    stages = on((sharding.pp > 1) & (local > 0), sharding.pp - 1.0)
    yield collective("stage_send", "p2p", rows / sharding.tp, sharding.group * sharding.pp, stages)
    ring = (sharding.cp > 1) & (local > 0)
    yield collective("sequence_gather", "all_gather", rows * sharding.cp, sharding.cp, on(ring, mixers))
