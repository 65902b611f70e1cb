"""Count the work of one step on one device: FLOP, bytes and messages of each operator."""

from __future__ import annotations

from perfmodel.operators import exchange
from perfmodel.operators.demand import Demand
from perfmodel.operators.forward import operators
from perfmodel.operators.lora import adapter_bytes_fetched
from perfmodel.operators.single_operators import all_reduce_alone, attention_alone, gemm_alone
from perfmodel.operators.sparse_selection import PICKING
from perfmodel.operators.step import Step, step_shape

__all__ = [
    "PICKING",
    "Demand",
    "Step",
    "adapter_bytes_fetched",
    "all_reduce_alone",
    "attention_alone",
    "exchange",
    "gemm_alone",
    "operators",
    "step_shape",
]
