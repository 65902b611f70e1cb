#!/usr/bin/env bash
# Written by perfmodel export for: 1 x 1 rtx-4090, q4_k_m
# Flags of llamacpp 0c1e57098. Check the versions of images before use.
# Serves requests of up to 8,192 tokens in and out; raise it for longer ones.
# It needs llamacpp on the path, as in the image ghcr.io/ggml-org/llama.cpp:server-cuda.

# perfmodel: model=meta-llama/Llama-3.1-8B-Instruct engine=llamacpp version=0c1e57098 pool=serve device=rtx-4090 replicas=1
# Start 1 of these, each on 1 x rtx-4090.
# Llama-3.1-8B-Instruct-Q4_K_M.gguf: make it with llama.cpp's convert_hf_to_gguf.py and llama-quantize.
llama-server \
  --model Llama-3.1-8B-Instruct-Q4_K_M.gguf \
  --alias meta-llama/Llama-3.1-8B-Instruct \
  --ctx-size 65536 \
  --batch-size 2048 \
  --parallel 8 \
  --cache-prompt \
  --host 0.0.0.0 \
  --port 8000 \
  --n-gpu-layers all \
  --metrics

# Check the SLO (against one address for all replicas):
#   vllm bench serve \
#     --backend openai \
#     --base-url http://localhost:8000 \
#     --model meta-llama/Llama-3.1-8B-Instruct \
#     --dataset-name random \
#     --random-input-len 500 \
#     --random-output-len 200 \
#     --random-range-ratio 0.0 \
#     --ignore-eos \
#     --max-concurrency 8 \
#     --num-prompts 200 \
#     --percentile-metrics tpot,ttft \
#     --metric-percentiles 50,99 \
#     --goodput tpot:40
