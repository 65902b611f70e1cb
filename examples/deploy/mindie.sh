#!/usr/bin/env bash
# Written by perfmodel export for: 2 x 4 ascend-910b2, TP4, bf16
# Flags of mindie unknown. Check the versions of images before use.
# Serves requests of up to 16,384 tokens in and out; raise it for longer ones.
# It needs mindie on the path, as in the image swr.cn-south-1.myhuaweicloud.com/ascendhub/mindie:2.1.

# perfmodel: model=Qwen/Qwen3-32B engine=mindie version=unknown pool=serve device=ascend-910b2 replicas=2
# Start 2 of these, each on 4 x ascend-910b2, behind a load balancer.
cat > config.json <<'END'
{
 "BackendConfig": {
  "ModelDeployConfig": {
   "ModelConfig": [
    {
     "modelName": "Qwen/Qwen3-32B",
     "modelWeightPath": "Qwen/Qwen3-32B",
     "worldSize": 4,
     "tp": 4,
     "dp": 1,
     "pp": 1,
     "moe_ep": 1,
     "npuMemSize": -1
    }
   ],
   "maxSeqLen": 16384
  },
  "ScheduleConfig": {
   "maxPrefillTokens": 8192,
   "maxBatchSize": 256
  },
  "npuDeviceIds": [
   [
    0,
    1,
    2,
    3
   ]
  ]
 }
}
END
mindieservice_daemon

# Check the SLO (against one address for all replicas):
#   vllm bench serve \
#     --backend openai \
#     --base-url http://localhost:8000 \
#     --model Qwen/Qwen3-32B \
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
