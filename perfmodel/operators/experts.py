"""List the work of routed experts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.dtypes import COMPUTE_BYTES
from perfmodel.models import Mlp
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step, all_tokens, on

#: Relative excess load of the busiest expert-parallel rank beyond chance; DeepSeek-V3 (arXiv:2412.19437, sec. 3.4.2)
#: keeps 32 redundant experts to even it out, and measured loads still differ by about a fifth.
EXPERT_SKEW = 0.2
#: Expert-parallel ranks beyond which the skewed loads of the tables describe no deployment: engines then balance them.
WIDE_EP_RANKS = 8.0


def experts(sharding: Sharding, mlp: Mlp, count: int, step: Step) -> Iterator[Demand]:
    """List the routed experts of the busiest device in `count` layers.

    They compute its token-expert pairs and read the weights of the experts that these touch.
    """
    tokens = all_tokens(sharding, step)
    pairs = tokens * mlp.top_k
    imbalance = eq.busiest_share(pairs, sharding.ep, EXPERT_SKEW)
    mine = pairs / sharding.ep * imbalance
    held = mlp.experts / sharding.ep
    touched = np.minimum(eq.experts_touched(mlp.experts, mlp.top_k, tokens) / sharding.ep * np.sqrt(imbalance), held)
    inner = np.ceil(mlp.intermediate / sharding.experts_tp)
    hidden, up = float(mlp.latent or sharding.model.hidden), 2.0 if mlp.gated else 1.0
    act = COMPUTE_BYTES[sharding.compute("experts")]
    widths = {"act_bytes": act, "weight_bytes": sharding.weight_bytes("experts")}
    yield Demand(
        name="experts",
        family="grouped_gemm",
        flop=eq.grouped_gemm_flop(mine, hidden, inner, up),
        moved=eq.grouped_gemm_bytes(mine, touched, hidden, inner, up, **widths),
        count=on(tokens > 0, count),
        compute=sharding.compute("experts"),
        shape={
            "hidden": hidden,
            "inter": float(mlp.intermediate),
            "tp": sharding.experts_tp,
            "weight": sharding.weight("experts"),
            **_rank(sharding, mlp, tokens, imbalance),
            "act": sharding.compute("experts"),
        },
        hosted=sharding.hosted("experts"),
        host_bytes=eq.grouped_gemm_bytes(0.0, touched, hidden, inner, up, **widths),
    )


def _rank(sharding: Sharding, mlp: Mlp, tokens: Array, imbalance: Array) -> dict[str, Array]:
    """Return the tokens, experts, top-k and EP degree by which tables of routed experts are looked up.

    Tables of wide EP time the rank with most of a skewed load, which redundant experts even out in service
    (DeepSeek-V3, arXiv:2412.19437, sec. 3.4; SGLang's EPLB). Beyond `WIDE_EP_RANKS` ranks the layer is looked up as
    what the busiest rank does by itself: its own experts, the tokens that pick any of them, and how many each picks.
    """
    wide = sharding.ep > WIDE_EP_RANKS
    met = eq.rank_chance(sharding.ep, mlp.top_k)
    return {
        "tokens": np.where(wide, tokens * met * imbalance, tokens),
        "experts": np.where(wide, mlp.experts / sharding.ep, float(mlp.experts)),
        "top_k": np.where(wide, mlp.top_k / sharding.ep / met, float(mlp.top_k)),
        "ep": np.where(wide, 1.0, sharding.ep),
    }
