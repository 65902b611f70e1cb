"""List the all-to-alls of kernels that are made for routed experts, such as DeepEP's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.dtypes import COMPUTE_BYTES
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.models import Mlp
from perfmodel.operators.demand import Demand
from perfmodel.operators.experts import by_own_kernels, imbalance, low_latency
from perfmodel.operators.step import Step, all_tokens, local_tokens, on
from perfmodel.vocabulary import EXPERT_ALL_TO_ALL

#: Bytes of scales per byte of narrow rows: a 32-bit scale for 128 values of 8 bits (DeepEP), one of 8 bits for 16
#: values of 4 bits (NVFP4).
SCALES = {1.0: 4.0 / 128.0, 0.5: 2.0 / 16.0}


def expert_traffic(sharding: Sharding, mlp: Mlp, count: int, step: Step) -> Iterator[Demand]:
    """List the dispatch of tokens to their experts and the combination of what comes back, in `count` layers.

    The devices of a tensor-parallel group send a part of its tokens each. Rows go out in the type that experts multiply
    in, and come back in 16 bit.
    """
    own = by_own_kernels(sharding)
    if not own.any():
        return
    tokens = local_tokens(sharding, step) / np.maximum(sharding.tp, 1.0)
    width = COMPUTE_BYTES[sharding.compute("experts")]
    scales = np.select([width == w for w in SCALES], list(SCALES.values()), 0.0)
    here = on(own & (tokens > 0), count)
    yield _exchange(sharding, mlp, step, "expert_dispatch", tokens * width * (1.0 + scales), here)
    yield _exchange(sharding, mlp, step, "expert_combine", tokens * SIXTEEN_BIT, here)


def _exchange(sharding: Sharding, mlp: Mlp, step: Step, name: str, width: Array, count: Array) -> Demand:
    """Describe one all-to-all; width: bytes of one column of the rows of all tokens of a device, (C, N).

    Its shape has, besides the devices (`group`), what decides where rows go: the experts of a token (`picks`), the
    groups that node-limited routing picks (`groups`, `top_groups`), whether the kernels are those of low latency, and
    the load of the busiest rank over the mean (`imbalance`). Its message is the rows once for each expert where kernels
    are of low latency, else once.
    """
    quick = low_latency(sharding, step)
    message = np.asarray(width * float(mlp.latent or sharding.model.hidden) * np.where(quick, float(mlp.top_k), 1.0))
    zero = np.zeros_like(message)
    shape = {
        "group": sharding.ep,
        "picks": float(mlp.top_k),
        "groups": float(mlp.groups),
        "top_groups": float(mlp.top_groups),
        "low_latency": np.asarray(quick, float),
        "imbalance": imbalance(sharding, mlp, all_tokens(sharding, step)),
    }
    return Demand(name=name, family=EXPERT_ALL_TO_ALL, flop=zero, moved=zero, count=count, message=message, shape=shape)
