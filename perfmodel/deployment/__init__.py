"""Place a model on devices: parallelism degrees, number formats, shards, offload to the host, adapters."""

from __future__ import annotations

from perfmodel.deployment.adapters import INTERMEDIATE_BYTES, VALUE_BYTES, adapter_bytes, sites
from perfmodel.deployment.columns import CP_METHOD_CODE, CP_METHODS, Deployments, deployments
from perfmodel.deployment.hand_over import PLACES, HandOver, Place
from perfmodel.deployment.offload import check_experts, hosted
from perfmodel.deployment.routing import (
    ALL_TO_ALLS,
    BALANCERS,
    EXPERT_SKEW,
    WIDE_EP_RANKS,
    ExpertRouting,
    check_routing,
)
from perfmodel.deployment.sharding import Sharding, shard
from perfmodel.deployment.shards import uneven_shards

__all__ = [
    "ALL_TO_ALLS",
    "BALANCERS",
    "CP_METHODS",
    "CP_METHOD_CODE",
    "EXPERT_SKEW",
    "INTERMEDIATE_BYTES",
    "PLACES",
    "VALUE_BYTES",
    "WIDE_EP_RANKS",
    "Deployments",
    "ExpertRouting",
    "HandOver",
    "Place",
    "Sharding",
    "adapter_bytes",
    "check_experts",
    "check_routing",
    "deployments",
    "hosted",
    "shard",
    "sites",
    "uneven_shards",
]
