#!/usr/bin/env bash
# Written by perfmodel export for: 2 x 4 h100-sxm, TP4, fp8
# Flags of trtllm 1.4.0rc. Check the versions of images before use.
# Serves requests of up to 16,384 tokens in and out; raise it for longer ones.
# Autoscaling: 2 to 3 replicas.
# It needs trtllm on the path, as in the image nvcr.io/nvidia/tensorrt-llm/release:latest.

# perfmodel: model=meta-llama/Llama-3.1-70B-Instruct engine=trtllm version=1.4.0rc pool=serve device=h100-sxm replicas=2
# Start 2 of these, each on 4 x h100-sxm, behind a load balancer.
# nvidia/Llama-3.1-70B-Instruct-FP8 has fp8 weights: check how well it answers.
cat > config.yaml <<'END'
kv_cache_config:
  enable_block_reuse: true
END
trtllm-serve nvidia/Llama-3.1-70B-Instruct-FP8 \
  --served_model_name meta-llama/Llama-3.1-70B-Instruct \
  --tp_size 4 \
  --max_seq_len 16384 \
  --max_num_tokens 8192 \
  --max_batch_size 256 \
  --free_gpu_memory_fraction 0.9 \
  --enable_chunked_prefill \
  --config config.yaml \
  --host 0.0.0.0 \
  --port 8000

# Check the SLO (against one address for all replicas):
#   vllm bench serve \
#     --backend openai \
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
