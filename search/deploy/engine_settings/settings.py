"""Translate between the settings of a pool and the values that an engine's flags and configuration keys take.

`to_engine` and `from_engine` are each other's inverse. Where an engine counts otherwise than a plan (SGLang's
--tp-size includes the ranks of attention data parallelism), the difference is here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hwdb import InputError
from search.deploy.launch import SERVE, Launch, Pool

#: Our names of formats that GGUF files have.
GGUF_FORMATS = re.compile(r"i?q\d\w*|tq\d\w*|bf16|fp16|fp32|mxfp4")
#: Settings of a pool that only some engines express: a plan that uses one cannot be exported to the others.
DEGREES = ("tp", "pp", "ep", "dp", "cp", "kvp")
#: Settings of a pool that are those of a template as they are.
STATED = ("gpu_memory_utilization", "prefix_cache", "graph_capture", "rank_balance", "rank_balance_steps")


def to_engine(launch: Launch, pool: Pool, *, own_weight: str, own_kv: str) -> dict[str, Any]:
    """Return setting of a template -> value for one pool; settings that the engine lacks are in it too.

    own_weight, own_kv: formats that the served checkpoint has by itself. Raises `InputError` for a layout that the
    engine cannot express.
    """
    spread = pool.tp * pool.dp * pool.cp
    _check(launch.engine, pool, spread)
    budget = pool.max_num_batched_tokens
    values: dict[str, Any] = {
        "served_name": launch.model,
        "tp": pool.tp,
        "total_tp": pool.tp * pool.dp,
        "pp": pool.pp,
        "dp": pool.dp,
        "cp": pool.cp,
        "kvp": pool.kvp,
        "ep": pool.ep,
        "experts": pool.ep > 1,
        "attention_dp": pool.dp > 1,
        "world": pool.devices,
        "max_model_len": launch.max_model_len,
        "max_num_batched_tokens": budget,
        "total_batched_tokens": budget * pool.dp if budget and pool.chunked_prefill else -1,
        "max_num_seqs": pool.max_num_seqs,
        "gpu_memory_utilization": pool.gpu_memory_utilization,
        "chunked_prefill": pool.chunked_prefill,
        "prefix_cache": pool.prefix_cache,
        "graph_capture": pool.graph_capture,
        "online": None if pool.weight == own_weight else pool.weight,
        "kv": None if pool.kv == own_kv else pool.kv,
        "kv_values": None if pool.kv == own_kv else pool.kv,
    }
    values |= _balance(launch, pool)
    if launch.engine == "llamacpp":
        values |= _llamacpp(launch, pool)
    return values


def _check(engine: str, pool: Pool, spread: int) -> None:
    """Raise `InputError` where the layout of a pool has no words in the engine's command line."""
    text = ""
    if engine == "vllm" and pool.ep not in (1, spread):
        text = f"EP {pool.ep}: vLLM spreads experts over all {spread} devices of a layer or none"
    if engine == "trtllm" and pool.dp > 1 and pool.tp > 1:
        text = f"TP {pool.tp} with attention DP {pool.dp}: TensorRT-LLM's attention DP has TP 1"
    if engine == "llamacpp" and pool.tp > 1 and pool.pp > 1:
        text = f"TP {pool.tp} with PP {pool.pp}: llama.cpp splits by rows or by layers, not both"
    if text:
        raise InputError(f"export: {text}; leave the layout out of [search]")
    if engine == "llamacpp" and not GGUF_FORMATS.fullmatch(pool.weight):
        raise InputError(
            f"export: llama.cpp reads GGUF files, which have no weights in {pool.weight}; name a format such as q8_0 "
            "or q4_k_m under weight in [search]"
        )


def _balance(launch: Launch, pool: Pool) -> dict[str, Any]:
    """Return the settings that hold prompts back for those of other ranks, where the plan does; off by default.

    Nothing more is waited for once each rank has a prompt (`rank_balance_more`).
    """
    if launch.engine not in ("sglang", "trtllm"):
        return {}
    on = pool.rank_balance and pool.dp > 1 and pool.role == SERVE
    longest = pool.rank_balance_steps if on else None
    return {"rank_balance": on, "rank_balance_steps": longest, "rank_balance_more": 0 if on else None}


def _llamacpp(launch: Launch, pool: Pool) -> dict[str, Any]:
    """Return the settings that llama.cpp counts in its own way: the context of all slots, the split over devices."""
    shards = pool.tp * pool.pp
    context = launch.max_model_len and launch.max_model_len * (pool.max_num_seqs or 1)
    split = {"shards": ",".join(["1"] * shards), "split": "row" if pool.tp > 1 else "layer"} if shards > 1 else {}
    return {"total_context": context, **split}


def from_engine(engine: str, values: Mapping[str, Any], pool: Pool) -> tuple[Pool, int | None]:
    """Return `pool` with what an engine's flags set, and the context length that they set (None: the model's).

    values: setting of a template -> value, of the settings that are given. pool: the engine's defaults, with the own
    formats of the checkpoint.
    """
    v = dict(values)
    dp = int(v.get("dp", 1))
    if engine == "trtllm":
        dp = int(v.get("total_tp", 1)) if v.get("attention_dp") else 1
    if engine == "sglang" and not v.get("attention_dp"):
        pool = replace(pool, replicas=pool.replicas * dp)  # without attention DP, --dp-size is whole copies
        dp = 1
    tp, pp = _degrees(engine, v, dp)
    cp = int(v.get("cp", 1))
    ep = tp * dp * cp if v.get("experts") else int(v.get("ep", 1) or 1)
    budget = v.get("max_num_batched_tokens", pool.max_num_batched_tokens)
    chunked = v.get("chunked_prefill", pool.chunked_prefill)
    if "total_batched_tokens" in v:
        chunked = int(v["total_batched_tokens"]) > 0
        budget = int(v["total_batched_tokens"]) // dp if chunked else pool.max_num_batched_tokens
    seqs = v.get("max_num_seqs", pool.max_num_seqs)
    length = v.get("max_model_len")
    if engine == "vllm" and length == -1:  # vLLM then takes the longest that its KV pool holds
        length = None
    if engine == "llamacpp" and v.get("total_context"):
        length = int(v["total_context"]) // int(seqs or 1)
    changes: dict[str, Any] = {"tp": tp, "pp": pp, "dp": dp, "cp": cp, "kvp": int(v.get("kvp", 1)), "ep": ep}
    changes |= {k: v[k] for k in STATED if k in v}
    changes |= {"weight": v.get("online") or pool.weight, "kv": v.get("kv") or pool.kv}
    changes |= {"max_num_batched_tokens": budget and int(budget), "max_num_seqs": seqs and int(seqs)}
    return replace(pool, chunked_prefill=bool(chunked), **changes), int(length) if length else None


def _degrees(engine: str, v: Mapping[str, Any], dp: int) -> tuple[int, int]:
    """Return TP and PP. dp: ranks of attention data parallelism, which some engines count in TP."""
    if engine == "llamacpp" and "shards" in v:
        shards = len(str(v["shards"]).split(","))
        return (shards, 1) if v.get("split") in ("row", "tensor") else (1, shards)
    tp = int(v["tp"]) if "tp" in v else max(int(v.get("total_tp", 1)) // dp, 1)
    return tp, int(v.get("pp", 1))
