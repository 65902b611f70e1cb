"""Place a model on devices: parallelism degrees, number formats, shards, offload to the host, adapters."""

from __future__ import annotations

from perfmodel.deployment.adapters import INTERMEDIATE_BYTES, VALUE_BYTES, adapter_bytes, sites
from perfmodel.deployment.columns import CP_METHOD_CODE, CP_METHODS, Deployments, deployments
from perfmodel.deployment.hand_over import PLACES, HandOver, Place
from perfmodel.deployment.offload import check_experts, hosted
from perfmodel.deployment.sharding import Sharding, shard
from perfmodel.deployment.shards import uneven_shards

__all__ = [
    "CP_METHODS",
    "CP_METHOD_CODE",
    "INTERMEDIATE_BYTES",
    "PLACES",
    "VALUE_BYTES",
    "Deployments",
    "HandOver",
    "Place",
    "Sharding",
    "adapter_bytes",
    "check_experts",
    "deployments",
    "hosted",
    "shard",
    "sites",
    "uneven_shards",
]
