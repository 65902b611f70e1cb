"""Write the examples of exports, one per target, to examples/deploy.

    python -m benchmarks.deploy_examples

The launches are stated here, so that no change of the model moves them; what is written of them is the product's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from search.deploy import Check, Launch, Pool, export

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "deploy"

_CHECK = Check(1155.0, 211.0, rate=12.0, bounds={"ttft_ms_p90": 500.0, "tpot_ms_p90": 50.0})
_POOL = Pool(
    device="h100-sxm",
    replicas=2,
    tp=4,
    weight="fp8",
    max_num_batched_tokens=8192,
    max_num_seqs=256,
    gpu_memory_utilization=0.9,
)
_CHAT = Launch(
    "meta-llama/Llama-3.1-70B-Instruct",
    "vllm",
    "0.33.0",
    (_POOL,),
    16384,
    least=2,
    most=3,
    per_replica=30.3,
    check=_CHECK,
    words="2 x 4 h100-sxm, TP4, fp8",
)
#: The same service with prefill and decode apart.
_POOLS = replace(
    _CHAT,
    pools=(replace(_POOL, role="prefill", tp=2), replace(_POOL, role="decode", replicas=1, tp=4)),
    words="prefill 2 x 2 h100-sxm, TP2, fp8 + decode 1 x 4 h100-sxm, TP4, fp8",
)
_SMALL = Launch(
    "meta-llama/Llama-3.1-8B-Instruct",
    "llamacpp",
    "0c1e57098",
    (
        replace(
            _POOL,
            device="rtx-4090",
            replicas=1,
            tp=1,
            weight="q4_k_m",
            max_num_batched_tokens=2048,
            max_num_seqs=8,
            gpu_memory_utilization=1.0,
        ),
    ),
    8192,
    check=Check(500.0, 200.0, concurrency=8.0, bounds={"tpot_ms": 40.0}),
    words="1 x 1 rtx-4090, q4_k_m",
)
_EXPERTS = Launch(
    "Qwen/Qwen3-235B-A22B",
    "sglang",
    "0.5.23",
    (replace(_POOL, device="h200-sxm", tp=2, dp=4, ep=8, weight="fp8_block", replicas=4, max_num_seqs=1024),),
    16384,
    check=_CHECK,
    words="4 x 8 h200-sxm, TP2, EP8, DP4, fp8_block",
)
_ASCEND = Launch(
    "Qwen/Qwen3-32B",
    "mindie",
    "unknown",
    (
        replace(
            _POOL,
            device="ascend-910b2",
            weight="bf16",
            chunked_prefill=False,
            prefix_cache=False,
            graph_capture=False,
            gpu_memory_utilization=0.8,
        ),
    ),
    16384,
    check=_CHECK,
    words="2 x 4 ascend-910b2, TP4, bf16",
)
#: Replicas that span two nodes.
_NODES = replace(
    _CHAT,
    model="deepseek-ai/DeepSeek-V3",
    pools=(replace(_POOL, tp=8, pp=2, weight="fp8_block"),),
    words="2 x 16 h100-sxm, TP8, PP2, fp8_block",
)
#: Target -> what its example launches.
EXAMPLES = {
    "vllm": _CHAT,
    "sglang": _EXPERTS,
    "trtllm": replace(_CHAT, engine="trtllm", version="1.4.0rc", pools=(replace(_POOL, kv="fp8"),)),
    "llamacpp": _SMALL,
    "mindie": _ASCEND,
    "ray-serve": _CHAT,
    "dynamo": _POOLS,
    "llm-d": _POOLS,
    "kserve": _POOLS,
    "kubernetes": _CHAT,
    "compose": _CHAT,
}


#: What TensorRT-LLM keeps of a checkpoint in FP8: its KV cache.
_TRTLLM_POOLS = tuple(replace(pool, kv="fp8") for pool in _POOLS.pools)
#: Name of a further example -> its target, and what it launches.
FURTHER = {
    "kubernetes-nodes": ("kubernetes", _NODES),
    "vllm-nodes": ("vllm", _NODES),
    "dynamo-trtllm": ("dynamo", replace(_POOLS, engine="trtllm", version="1.4.0rc", pools=_TRTLLM_POOLS)),
    "kserve-nodes": (
        "kserve",
        replace(_NODES, pools=(replace(_POOL, tp=1, dp=16, ep=16, weight="fp8_block"),), words="2 x 16 h100-sxm, DP16"),
    ),
}
#: Names of all examples -> target and launch.
NAMED = {**{target: (target, launch) for target, launch in EXAMPLES.items()}, **FURTHER}


def written(name: str) -> tuple[str, str]:
    """Return the name of the file of an example, and its text."""
    target, launch = NAMED[name]
    found = export(launch, target)
    return f"{name}.{found.suffix}", found.text


def main() -> None:
    """Write all examples."""
    FOLDER.mkdir(exist_ok=True)
    for name in NAMED:
        file, text = written(name)
        (FOLDER / file).write_text(text)
        print(FOLDER / file)


if __name__ == "__main__":
    main()
