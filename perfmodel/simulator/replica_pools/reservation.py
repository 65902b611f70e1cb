"""Compute the KV cache that requests reserve at admission, and find requests that can never be admitted."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.simulator.replica_pools.policy import Policy, Pool
from perfmodel.simulator.request_traffic.requests import Traffic, Whole


def reserved_tokens(traffic: Traffic, policy: Policy) -> Whole:
    """Return the tokens of KV cache that each request reserves at admission, (R,).

    0 where the policy reserves nothing and blocks are added as a sequence grows.
    """
    whole = traffic.total_tokens
    static = policy.batching == "static"
    if policy.admission == "contiguous" or (static and not math.isnan(policy.max_model_len)):
        if not policy.max_model_len >= 1:
            raise InputError("contiguous KV needs the longest sequence served; give max_model_len")
        return np.maximum(whole, int(policy.max_model_len))
    if policy.admission == "power_of_two":
        powers: Whole = np.left_shift(1, np.ceil(np.log2(whole)).astype(np.int64))
        return powers
    return whole if policy.admission == "reserve" or static else np.zeros_like(whole)


def rejection_reasons(traffic: Traffic, pools: tuple[Pool, ...], reserved: Whole) -> NDArray[np.object_]:
    """Return why each request can never be served: (R,) texts, "" where it can.

    reserved: (R,) result of `reserved_tokens`.
    """
    reasons = np.full(len(traffic), "", object)
    whole = traffic.total_tokens
    for pool in pools:
        # the last token of a sequence needs no KV
        held = traffic.input_tokens if pool.role == "prefill" else whole - 1
        need = np.maximum(held, reserved)
        holds = pool.kv_blocks * pool.policy.kv_block
        for row in np.flatnonzero((need > holds) & (reasons == "")):
            reasons[row] = f"it needs {need[row]:,} tokens of KV and a replica of {pool.name} holds {holds:,}"
        for row in np.flatnonzero((whole > pool.policy.max_model_len) & (reasons == "")):
            reasons[row] = f"its {whole[row]:,} tokens exceed the longest sequence, {pool.policy.max_model_len:,.0f}"
    return reasons
