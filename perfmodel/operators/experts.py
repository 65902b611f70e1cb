"""List the work of routed experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Mask
from perfmodel.deployment import WIDE_EP_RANKS, Sharding
from perfmodel.dtypes import COMPUTE_BYTES
from perfmodel.models import Mlp
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step, all_tokens, on
from perfmodel.vocabulary import LAYOUTS, RANK_ALONE

#: Places in `LAYOUTS`.
_SKEWED, _EVEN, _MASKED = range(len(LAYOUTS))


def experts(sharding: Sharding, mlp: Mlp, count: int, step: Step) -> Iterator[Demand]:
    """List the routed experts of the busiest device in `count` layers.

    They compute its token-expert pairs and read the weights of the experts that these touch. All-to-alls made for
    experts leave the tokens sorted by expert; those of low latency fill the masked layout.
    """
    tokens = all_tokens(sharding, step)
    sorted_out, quick = evened_out(sharding) & by_own_kernels(sharding), low_latency(sharding, step)
    present = tokens > 0
    for layout, here in ((_SKEWED, ~sorted_out), (_EVEN, sorted_out & ~quick), (_MASKED, sorted_out & quick)):
        if np.any(here):
            yield _experts(sharding, mlp, tokens, on(present & here, count), layout)


def evened_out(sharding: Sharding) -> Mask:
    """Return whether the load of experts is that of a balancer, or stated, and not that of the skewed tables. (N,)"""
    return np.asarray((sharding.ep > WIDE_EP_RANKS) | ((sharding.ep > 1) & sharding.routing.stated))


def low_latency(sharding: Sharding, step: Step) -> Mask:
    """Return whether a step uses low-latency all-to-alls, (N,) or (C, N): those asked for, else without prompts."""
    asked = sharding.routing.all_to_all
    decodes = np.asarray(step.prefill_tokens, float) <= 0
    return np.asarray(decodes if asked == "auto" else np.full_like(decodes, asked == "low_latency"))


def by_own_kernels(sharding: Sharding) -> Mask:
    """Return whether kernels made for experts carry the tokens of expert parallelism, and no library's. (N,)"""
    asked = sharding.routing.all_to_all
    wide = sharding.ep > WIDE_EP_RANKS if asked == "auto" else np.full(sharding.ep.shape, asked != "collective")
    wide = wide & ~sharding.library if asked == "auto" else wide
    return np.asarray(wide & (sharding.dp > 1) & (sharding.ep > 1))


def imbalance(sharding: Sharding, mlp: Mlp, tokens: Array) -> Array:
    """Return the load of the busiest expert-parallel rank over the mean load, for `tokens` of all ranks, (C, N).

    A stated load is that of a measurement, which has what chance adds.
    """
    if np.isfinite(sharding.routing.imbalance):
        return np.broadcast_to(np.minimum(sharding.routing.imbalance, sharding.ep), np.shape(tokens * sharding.ep))
    skew = sharding.routing.skew(mlp.experts, sharding.ep)
    return eq.busiest_share(tokens * mlp.top_k, sharding.ep, skew)


def _experts(sharding: Sharding, mlp: Mlp, tokens: Array, count: Array, layout: int) -> Demand:
    """Describe the routed experts of the busiest device, with `tokens` of all ranks, in `count` layers."""
    uneven = imbalance(sharding, mlp, tokens)
    mine = tokens * mlp.top_k / sharding.ep * uneven
    copies = sharding.routing.slots(mlp.experts) / mlp.experts
    held = copies * mlp.experts / sharding.ep
    # With experts that are all alike, the steps of mixtures grow too much from 4 to 16 sequences on the cards of every
    # vendor: 1.03 to 1.17 times in the median of each of eight models of the train split; those of dense models do not.
    # Factors fitted for each law and models left out, mean absolute log ratio under vLLM and SGLang: all alike 0.185,
    # 0.265; popular ones 0.183, 0.254. The tables of skewed loads that are read by default hold a part of it: from as
    # many picks as experts on, their calls take 0.57 to 0.9 of the time of even loads. Without popular experts beside
    # these tables, it is 0.185, 0.257.
    touched = eq.popular_experts_touched(mlp.experts, mlp.top_k, tokens) * copies / sharding.ep * np.sqrt(uneven)
    inner = np.ceil(mlp.intermediate / sharding.experts_tp)
    hidden, up = float(mlp.latent or sharding.model.hidden), 2.0 if mlp.gated else 1.0
    act = COMPUTE_BYTES[sharding.compute("experts")]
    widths = {"act_bytes": act, "weight_bytes": sharding.weight_bytes("experts")}
    read = np.minimum(touched, held)
    return Demand(
        name="experts",
        family="grouped_gemm",
        flop=eq.grouped_gemm_flop(mine, hidden, inner, up),
        moved=eq.grouped_gemm_bytes(mine, read, hidden, inner, up, **widths),
        count=count,
        compute=sharding.compute("experts"),
        shape={
            "hidden": hidden,
            "inter": float(mlp.intermediate),
            "tp": sharding.experts_tp,
            "weight": sharding.weight("experts"),
            **_looked_up(sharding, mlp, tokens, uneven, layout),
            "uneven": 1.0,
            "act": sharding.compute("experts"),
        },
        hosted=sharding.hosted("experts"),
        host_bytes=eq.grouped_gemm_bytes(0.0, read, hidden, inner, up, **widths),
    )


def _looked_up(sharding: Sharding, mlp: Mlp, tokens: Array, uneven: Array, layout: int) -> dict[str, Any]:
    """Return the tokens, experts, top-k, EP degree and layout by which tables of routed experts are looked up.

    Tables of skewed loads time the busiest rank themselves. Those of even loads time a rank with its share of the
    tokens, so that the busiest is looked up with more of them. Where there are none, a layer whose load is evened out
    is looked up as what the busiest rank does by itself: its own experts, the tokens that pick any of them, and how
    many each picks.
    """
    even = evened_out(sharding)
    whole: dict[str, Any] = {
        "tokens": tokens,
        "experts": float(mlp.experts),
        "top_k": float(mlp.top_k),
        "ep": sharding.ep,
    }
    if not even.any():
        return {"layout": layout, **whole}
    met = eq.rank_chance(sharding.ep, mlp.top_k)
    alone = {
        "tokens": tokens * met * uneven,
        "experts": mlp.experts / sharding.ep,
        "top_k": mlp.top_k / sharding.ep / met,
        "ep": np.ones_like(sharding.ep),
    }
    if layout == _SKEWED:
        return {"layout": layout, **{name: np.where(even, alone[name], whole[name]) for name in whole}}
    own = {RANK_ALONE + name: value for name, value in alone.items()}
    return {"layout": layout, **whole, "tokens": tokens * uneven, **own}
