#!/usr/bin/env bash
# Written by perfmodel export for: 4 x 8 h200-sxm, TP2, EP8, DP4, fp8_block
# Flags of sglang 0.5.23. Check the versions of images before use.
# Serves requests of up to 16,384 tokens in and out; raise it for longer ones.
# It needs sglang on the path, as in the image lmsysorg/sglang:v0.5.23.

# perfmodel: model=Qwen/Qwen3-235B-A22B engine=sglang version=0.5.23 pool=serve device=h200-sxm replicas=4
# Start 4 of these, each on 8 x h200-sxm, behind a load balancer.
# Qwen/Qwen3-235B-A22B-FP8 has fp8_block weights: check how well it answers.
python3 -m sglang.launch_server \
  --model-path Qwen/Qwen3-235B-A22B-FP8 \
  --served-model-name Qwen/Qwen3-235B-A22B \
  --tp-size 8 \
  --dp-size 4 \
  --enable-dp-attention \
  --ep-size 8 \
  --context-length 16384 \
  --chunked-prefill-size 32768 \
  --max-running-requests 1024 \
  --mem-fraction-static 0.9 \
  --host 0.0.0.0 \
  --port 8000 \
  --enable-metrics

# Check the SLO (against one address for all replicas):
#   python3 -m sglang.bench_serving \
#     --backend sglang \
#     --base-url http://localhost:8000 \
#     --model Qwen/Qwen3-235B-A22B \
#     --dataset-name random \
#     --random-input-len 1155 \
#     --random-output-len 211 \
#     --random-range-ratio 1.0 \
#     --request-rate 12 \
#     --num-prompts 1440
