"""Place a model on devices: parallelism degrees, number formats, shards, offload to the host, adapters."""

from __future__ import annotations

from perfmodel.deployment.adapters import INTERMEDIATE_BYTES, VALUE_BYTES, adapter_bytes, sites
from perfmodel.deployment.columns import CP_METHOD_CODE, CP_METHODS, Deployments, deployments
from perfmodel.deployment.hand_over import PLACES, HandOver, Place
from perfmodel.deployment.offload import HostHabits, check_experts, hosted
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
from perfmodel.deployment.speculation import METHODS, SUSPECTED, Method, Speculation, check_drafts, speculation

__all__ = [
    "ALL_TO_ALLS",
    "BALANCERS",
    "CP_METHODS",
    "CP_METHOD_CODE",
    "EXPERT_SKEW",
    "INTERMEDIATE_BYTES",
    "METHODS",
    "PLACES",
    "SUSPECTED",
    "VALUE_BYTES",
    "WIDE_EP_RANKS",
    "Deployments",
    "ExpertRouting",
    "HandOver",
    "HostHabits",
    "Method",
    "Place",
    "Sharding",
    "Speculation",
    "adapter_bytes",
    "check_drafts",
    "check_experts",
    "check_routing",
    "deployments",
    "hosted",
    "shard",
    "sites",
    "speculation",
    "uneven_shards",
]
