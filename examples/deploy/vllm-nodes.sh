#!/usr/bin/env bash
# Written by perfmodel export for: 2 x 16 h100-sxm, TP8, PP2, fp8_block
# Flags of vllm 0.33.0. Check the versions of images before use.
# Serves requests of up to 16,384 tokens in and out; raise it for longer ones.
# Autoscaling: 2 to 3 replicas.
# It needs vllm on the path, as in the image vllm/vllm-openai:v0.33.0.

# perfmodel: model=deepseek-ai/DeepSeek-V3 engine=vllm version=0.33.0 pool=serve device=h100-sxm replicas=2
# Start 2 of these, each on 16 x h100-sxm, behind a load balancer.
# A replica spans 2 nodes with 8 devices each: run it on each. NODE_RANK is 0 on the first, then 1 and so on; MASTER_ADDRESS is the first.
# Add --headless on all but the first.
vllm serve deepseek-ai/DeepSeek-V3 \
  --served-model-name deepseek-ai/DeepSeek-V3 \
  --tensor-parallel-size 8 \
  --pipeline-parallel-size 2 \
  --max-model-len 16384 \
  --max-num-batched-tokens 8192 \
  --max-num-seqs 256 \
  --gpu-memory-utilization 0.9 \
  --enable-chunked-prefill \
  --enable-prefix-caching \
  --no-enforce-eager \
  --nnodes 2 \
  --node-rank NODE_RANK \
  --master-addr MASTER_ADDRESS \
  --host 0.0.0.0 \
  --port 8000

# Check the SLO (against one address for all replicas):
#   vllm bench serve \
#     --base-url http://localhost:8000 \
#     --model deepseek-ai/DeepSeek-V3 \
#     --dataset-name random \
#     --random-input-len 1155 \
#     --random-output-len 211 \
#     --random-range-ratio 0.0 \
#     --ignore-eos \
#     --request-rate 12 \
#     --num-prompts 1440 \
#     --percentile-metrics tpot,ttft \
#     --metric-percentiles 50,90,99 \
#     --goodput ttft:500 tpot:50
