"""List the collectives of one step and the bytes that they move."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.dtypes import COMPUTE_BYTES
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.models import Mlp
from perfmodel.operators.demand import Demand
from perfmodel.operators.experts import by_own_kernels
from perfmodel.operators.step import on


def collective(name: str, family: str, message: Array, group: Array, count: Array) -> Demand:
    """Describe a collective over `group` devices, called `count` times per step.

    message: bytes, counted as in `perfmodel.costs.rooflines.collectives`.
    """
    zero = np.zeros_like(message)
    return Demand(name=name, family=family, flop=zero, moved=zero, count=count, message=message, shape={"group": group})


def communication(
    sharding: Sharding, mixers: int, mlps: dict[Mlp, int], local: Array, everywhere: Array
) -> Iterator[Demand]:
    """List the all-reduces, gathers, all-to-alls and sends of one step, but for those of split positions.

    Args:
        sharding: degrees of parallelism of the candidates, (N,).
        mixers: layers with a token mixer.
        mlps: how many layers have each MLP.
        local: tokens of the busiest device, (C, N) or (N,).
        everywhere: tokens of all ranks of attention data parallelism together, (C, N) or (N,).
    """
    row = sharding.model.hidden
    rows, all_rows = eq.elementwise_bytes(local, row), eq.elementwise_bytes(everywhere, row)
    split = (sharding.tp > 1) & (local > 0)
    yield collective("mixer_all_reduce", "all_reduce", rows, sharding.tp, on(split, mixers))
    dense = sum(count for mlp, count in mlps.items() if not mlp.experts)
    if dense:
        yield collective("mlp_all_reduce", "all_reduce", rows, sharding.tp, on(split, dense))
    for mlp, count in mlps.items():
        if mlp.experts:
            yield collective("mlp_all_reduce", "all_reduce", rows, sharding.tp, on(split & (sharding.dp == 1), count))
            yield from _to_experts(sharding, mlp, count, rows, all_rows)
    # neighbouring stages are a stage's devices apart, so the whole replica decides whether they share a node
    stages = on((sharding.pp > 1) & (local > 0), sharding.pp - 1.0)
    yield collective("stage_send", "p2p", rows / sharding.tp, sharding.group * sharding.pp, stages)


def _to_experts(sharding: Sharding, mlp: Mlp, count: int, rows: Array, all_rows: Array) -> Iterator[Demand]:
    """List the collectives that take tokens to their experts and back under attention data parallelism.

    Where experts are spread over devices (EP), these are all-to-alls: each token goes to the ranks that hold any of its
    experts, at most min(top_k, ep); `expert_traffic` lists those of kernels made for it. Else all ranks' tokens are
    gathered. rows, all_rows: bytes of the hidden rows of the busiest device and of all ranks.
    """
    spread_out = (sharding.dp > 1) & (rows > 0)
    ranks = np.minimum(float(mlp.top_k), sharding.ep * eq.rank_chance(sharding.ep, mlp.top_k))
    scattered = spread_out & (sharding.ep > 1) & ~by_own_kernels(sharding)
    send = rows / np.maximum(sharding.tp, 1.0) * ranks
    narrow = COMPUTE_BYTES[sharding.compute("experts")] / SIXTEEN_BIT
    yield collective("expert_dispatch", "all_to_all", send * narrow, sharding.ep, on(scattered, count))
    yield collective("expert_combine", "all_to_all", send, sharding.ep, on(scattered, count))
    gathered = spread_out & (sharding.ep <= 1)
    yield collective("token_gather", "all_gather", all_rows, sharding.group, on(gathered, count))
    yield collective("token_scatter", "reduce_scatter", all_rows, sharding.group, on(gathered, count))
