#!/usr/bin/env bash
# Written by perfmodel export for: 2 x 4 h100-sxm, TP4, fp8
# Flags of vllm 0.33.0. Check the versions of images before use.
# Serves requests of up to 16,384 tokens in and out; raise it for longer ones.
# Autoscaling: 2 to 3 replicas.
# It needs vllm on the path, as in the image vllm/vllm-openai:v0.33.0.

# perfmodel: model=meta-llama/Llama-3.1-70B-Instruct engine=vllm version=0.33.0 pool=serve device=h100-sxm replicas=2
# Start 2 of these, each on 4 x h100-sxm, behind a load balancer.
# vllm quantises meta-llama/Llama-3.1-70B-Instruct to fp8 as it loads it: check how well it answers.
vllm serve meta-llama/Llama-3.1-70B-Instruct \
  --served-model-name meta-llama/Llama-3.1-70B-Instruct \
  --tensor-parallel-size 4 \
  --quantization fp8 \
  --max-model-len 16384 \
  --max-num-batched-tokens 8192 \
  --max-num-seqs 256 \
  --gpu-memory-utilization 0.9 \
  --enable-chunked-prefill \
  --enable-prefix-caching \
  --no-enforce-eager \
  --host 0.0.0.0 \
  --port 8000

# Check the SLO (against one address for all replicas):
#   vllm bench serve \
#     --base-url http://localhost:8000 \
#     --model meta-llama/Llama-3.1-70B-Instruct \
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
