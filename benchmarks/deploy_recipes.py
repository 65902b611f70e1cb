"""Read ten published launch recipes back: what they set, what a plan would change, and how sure the gain is.

    python -m benchmarks.deploy_recipes

The commands have the flags of scripts of SemiAnalysisAI/InferenceX (benchmarks/single_node/fixed_seq_len @843c625,
2026-08) that `perfmodel/engines/recipes.toml` summarises, at the scripts' eight devices, 64 requests in flight, and
prompts and outputs of 1,024 tokens. The plan has the fewest devices that keep a mean TPOT of `TPOT_MS` at that load,
with the model's own weights, or fp8 where the engine makes it of a 16-bit model.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import cli

#: Bound on the mean TPOT, ms; chosen: 25 tokens per second for a reader.
TPOT_MS = 40
LOAD = ("--concurrency", "64", "--isl", "1024", "--osl", "1024", "--tpot-ms", str(TPOT_MS))
_SGLANG = "python3 -m sglang.launch_server --host 0.0.0.0 --port 8888 --trust-remote-code"
_VLLM = "--host 0.0.0.0 --port 8888 --no-enable-prefix-caching --trust-remote-code"


@dataclass(frozen=True)
class Published:
    """A published recipe: its script, the device, the release that it was written for, its command."""

    name: str
    device: str
    version: str
    command: str


RECIPES = (
    Published(
        "gptoss_fp4_h200",
        "h200-sxm",
        "0.11.2",
        f"vllm serve openai/gpt-oss-120b {_VLLM} --gpu-memory-utilization 0.9 --tensor-parallel-size 8 "
        "--max-num-seqs 64 --max-num-batched-tokens 8192 --async-scheduling --max-cudagraph-capture-size 2048",
    ),
    Published(
        "gptoss_fp4_h100",
        "h100-sxm",
        "0.11.2",
        f"vllm serve openai/gpt-oss-120b {_VLLM} --gpu-memory-utilization=0.9 --tensor-parallel-size=8 "
        "--max-num-seqs=64 --max-num-batched-tokens 8192 --async-scheduling",
    ),
    Published(
        "gptoss_fp4_b200",
        "b200-sxm",
        "0.11.2",
        f"vllm serve openai/gpt-oss-120b {_VLLM} --gpu-memory-utilization 0.9 --tensor-parallel-size 8 "
        "--max-num-seqs 512 --kv-cache-dtype fp8 --max-num-batched-tokens 8192 --async-scheduling",
    ),
    Published(
        "gptoss_fp4_mi300x",
        "mi300x",
        "0.19.1",
        "VLLM_ROCM_USE_AITER=1 vllm serve openai/gpt-oss-120b --port 8888 --attention-backend ROCM_AITER_UNIFIED_ATTN "
        "-cc.pass_config.fuse_rope_kvcache=True -cc.use_inductor_graph_partition=True --tensor-parallel-size=8 "
        "--gpu-memory-utilization 0.95 --block-size=64 --no-enable-prefix-caching",
    ),
    Published(
        "minimaxm2.5_fp8_h200",
        "h200-sxm",
        "0.19.1",
        f"vllm serve MiniMaxAI/MiniMax-M2.5 {_VLLM} --tensor-parallel-size=8 --gpu-memory-utilization 0.95 "
        "--max-num-seqs 512 --max-num-batched-tokens 32768 --kv-cache-dtype fp8 --moe-backend triton "
        "--attention-backend FLASHINFER",
    ),
    Published(
        "minimaxm2.5_fp8_b200",
        "b200-sxm",
        "0.19.1",
        f"vllm serve MiniMaxAI/MiniMax-M2.5 {_VLLM} --tensor-parallel-size=8 --gpu-memory-utilization 0.90 "
        "--block-size=32 --kv-cache-dtype fp8 --max-cudagraph-capture-size 2048 --max-num-batched-tokens 2048 "
        "--stream-interval 20",
    ),
    Published(
        "kimik2.5_int4_h200",
        "h200-sxm",
        "0.19.1",
        f"vllm serve moonshotai/Kimi-K2.5 {_VLLM} --gpu-memory-utilization 0.95 --tensor-parallel-size 8 "
        "--max-num-seqs 64 --reasoning-parser kimi_k2 --compilation_config.pass_config.fuse_allreduce_rms true",
    ),
    Published(
        "dsr1_fp8_b200",
        "b200-sxm",
        "0.5.9",
        f"{_SGLANG} --model-path=deepseek-ai/DeepSeek-R1-0528 --tensor-parallel-size=8 --data-parallel-size=1 "
        "--cuda-graph-max-bs 128 --max-running-requests 128 --mem-fraction-static 0.82 --kv-cache-dtype fp8_e4m3 "
        "--chunked-prefill-size 32768 --max-prefill-tokens 32768 --disable-radix-cache --attention-backend trtllm_mla",
    ),
    Published(
        "dsr1_fp8_mi300x",
        "mi300x",
        "0.5.9",
        f"{_SGLANG} --model-path=deepseek-ai/DeepSeek-R1-0528 --tensor-parallel-size=8 --mem-fraction-static=0.8 "
        "--cuda-graph-max-bs=128 --chunked-prefill-size=131072 --num-continuous-decode-steps=4 "
        "--max-prefill-tokens=131072 --kv-cache-dtype fp8_e4m3 --attention-backend aiter --disable-radix-cache",
    ),
    Published(
        "qwen3.5_fp8_h200",
        "h200-sxm",
        "0.5.9",
        f"{_SGLANG} --model Qwen/Qwen3.5-397B-A17B --tp 8 --expert-parallel-size 1 --max-running-requests 128 "
        "--chunked-prefill-size 16384 --mem-fraction-static 0.8 --cuda-graph-max-bs 64 --kv-cache-dtype fp8_e4m3 "
        "--quantization fp8 --attention-backend flashinfer --mamba-ssm-dtype bfloat16 --disable-radix-cache",
    ),
)


def row_of(one: Published) -> dict[str, Any]:
    """Return the row of `estimate --from` for a published recipe."""
    words = [
        "estimate",
        "--from",
        one.command,
        "--device",
        one.device,
        "--engine-version",
        one.version,
        *LOAD,
        "--json",
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        cli.main(words)
    row: dict[str, Any] = json.loads(printed.getvalue())[0]
    return row


def main() -> int:
    """Print what each recipe sets, its TPOT, what is unknown or contradicts, and the comparison with the plan."""
    for one in RECIPES:
        row = row_of(one)
        print(f"\n{one.name} on {one.device}: {row['read_layout']}, KV {row['kv']}")
        print(
            f"  TPOT {row['tpot_ms']:.1f} ms, {row['output_tok_s']:,.0f} output tokens/s, "
            f"KV pool {row['kv_pool_tokens']:,.0f} tokens"
        )
        for key in ("unknown_flags", "conflicting_flags"):
            if row[key]:
                print(f"  {key.replace('_', ' ')}: {row[key]}")
        print(f"  {row['plan_comparison']}")
        print(f"  changes: {row['plan_changes'] or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
