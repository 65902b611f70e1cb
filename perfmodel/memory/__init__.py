"""Compute the contents of device memory, and how many sequences fit in what the weights leave."""

from __future__ import annotations

from perfmodel.memory.budget import Memory, memory_budget
from perfmodel.memory.kv_cache import sequence_bytes
from perfmodel.memory.pages import paged_bytes
from perfmodel.memory.remarks import held_back
from perfmodel.memory.weights import weights_per_device

__all__ = ["GB", "Memory", "held_back", "memory_budget", "paged_bytes", "sequence_bytes", "weights_per_device"]
